"""Fixtures for everybody: real servers once per process; a migrated database and an empty Redis for each test."""

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import structlog
from alembic import command
from alembic.config import Config
from hypothesis import settings

from afterglow import ROOT
from db.settings import Settings
from tests import dialects
from tests.databases import Databases
from tests.examples import LONG, examples
from tests.servers import Postgres, Redis, postgres, redis_server

# No test depends on how fast this machine is today; a failing example prints what repeats it.
# The short form tries the same examples every time, so that a build that fails was broken by a change; the long form
# searches on.
settings.register_profile("afterglow", deadline=None, print_blob=True, derandomize=not LONG, max_examples=examples(100))
settings.load_profile("afterglow")

dialects.register()

# Unless told otherwise, structlog shows every local variable of every frame of a traceback, which takes seconds.
structlog.configure(processors=[structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)])

#: Names of the databases of this process's tests; another process may use the same outside server.
TEMPLATE = f"afterglow_test_template_{os.getpid()}"
NUMBERS = count(1)


def migrate(url: str) -> None:
    """Bring a database to the newest schema by the migrations, as an operator does: never by `create_all`."""
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = url
    command.upgrade(config, "head")


@pytest.hookimpl(tryfirst=True)  # before they are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every property belongs to the long form, which tries it on all the examples that it asks for."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("long")


@pytest.fixture(autouse=True)
def _only_the_settings_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's environment and `.env` must not decide whether a test passes."""
    for name in list(os.environ):
        if name.startswith("AFTERGLOW_") and not name.startswith("AFTERGLOW_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setitem(Settings.model_config, "env_file", None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """This process's PostgreSQL, without fsync, as it lives no longer. Durability tests start their own."""
    # What a test finds must not depend on whether somebody tidied up after the one before.
    with postgres(fsync=False, options={"autovacuum": "off"}) as server:
        yield server


@pytest.fixture(scope="session")
def _postgres_template(postgres_server: Postgres) -> Iterator[str]:
    """A migrated, empty database from which each test's own is copied."""
    postgres_server.execute(f"CREATE DATABASE {TEMPLATE}")
    migrate(postgres_server.database_url(TEMPLATE))
    yield TEMPLATE
    postgres_server.execute(f"DROP DATABASE {TEMPLATE} WITH (FORCE)")


@pytest.fixture(scope="session")
def _postgres_databases(postgres_server: Postgres, _postgres_template: str) -> Iterator[Databases]:
    databases = Databases(postgres_server, template=_postgres_template)
    yield databases
    databases.close()


@pytest.fixture
def postgres_url(_postgres_databases: Databases) -> Iterator[str]:
    """The URL of this test's own PostgreSQL database: migrated, empty."""
    name = f"afterglow_test_{os.getpid()}_{next(NUMBERS)}"
    yield _postgres_databases.take(name)
    _postgres_databases.give_back(name)


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of this test's own SQLite database: migrated, empty."""
    file = tmp_path / "afterglow.db"
    shutil.copyfile(_sqlite_template, file)
    return f"sqlite:///{file}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Each database that we promise to run on, in turn: migrated, empty."""
    url: str = request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param])
    return url


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[Redis]:
    with redis_server() as server:
        yield server


@pytest.fixture
def redis_url(_redis_server: Redis) -> str:
    """The URL of this process's Redis, emptied for this test; Dramatiq's RedisBroker takes it as it is."""
    _redis_server.flushall()
    return _redis_server.url
