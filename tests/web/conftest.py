"""An application on a real database with the sample shop in force, and its faces over HTTP without a socket."""

import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from afterglow import ROOT
from afterglow.language.catalog import Document, compile_files
from db import catalog
from db.app import App, open_app
from db.catalog import Release
from db.settings import Settings
from tests.driver import driving
from tests.web.shop_of_me import FILES, lived
from web.app import Faces

SECRET = "a-secret-for-tests-only"
SHOPIFY_SECRET = "shopify-secret"
KEY = "the-key-of-this-installation"


@functools.cache
def sample_shop() -> tuple[Document, ...]:
    files = [*ROOT.glob("flows/**/*.yaml"), *ROOT.glob("templates/email/*")]
    return compile_files({str(file.relative_to(ROOT)): file.read_text() for file in files})


#: For what differs between databases; everything else runs on SQLite, which is there in a moment.
BOTH = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
#: The sample shop as loaded by the first test; equal in all, so reading it once is enough.
LOADED: list[Release] = []


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    kind = getattr(request, "param", "sqlite")
    found: str = request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[kind])
    return found


def put_into_force(app: App, *more: Document) -> None:
    """Apply the sample shop, with further documents."""
    with app.writing() as connection:
        catalog.apply(connection, (*sample_shop(), *more), now=app.clock.now(connection), by="test")
        if not more:
            if not LOADED:
                LOADED.append(app.catalog.current(connection))
            app.catalog._release = LOADED[0]


@pytest.fixture
def opened(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., App]]:
    """Opens applications on this test's database; given settings override the usual ones."""
    monkeypatch.setenv("SHOPIFY_WEBHOOK_SECRET", SHOPIFY_SECRET)
    apps = []

    def open_one(**settings: Any) -> App:
        app = open_app(Settings(**{"database_url": url, "secret": SECRET, **settings}))
        apps.append(app)
        put_into_force(app)
        return app

    yield open_one
    for app in apps:
        app.close()


@pytest.fixture(scope="session")
def story_of_me(tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> Path:
    """A database in which `shop_of_me.lived`, to be copied; whoever needs it is of the group "me"."""
    file = tmp_path_factory.mktemp("me") / "afterglow.db"
    shutil.copyfile(_sqlite_template, file)
    with driving(f"sqlite:///{file}", files=FILES) as driver:
        lived(driver)
    return file


@pytest.fixture
def app(opened: Callable[..., App]) -> App:
    return opened()


@pytest.fixture
def faces(app: App) -> Iterator[Faces]:
    made = Faces(app)
    yield made
    made.close()


@contextmanager
def faces_of(app: App) -> Iterator[Faces]:
    made = Faces(app)
    try:
        yield made
    finally:
        made.close()


def client(face: Any, *, host: str = "127.0.0.1", **options: Any) -> httpx.AsyncClient:
    """A client of one face, connected from `host`."""
    transport = httpx.ASGITransport(face, client=(host, 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8001", **options)


def rows(app: App, table: sa.Table) -> list[Any]:
    """All rows of a table, oldest first."""
    with app.reading() as connection:
        return list(connection.execute(sa.select(table).order_by(*table.primary_key.columns)))
