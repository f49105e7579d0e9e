"""The one-process composition, driven by a clock that jumps, as the demo drives it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from afterglow.language.catalog import compile_files
from afterglow.signatures import sign
from db import catalog
from db.app import App, open_app
from db.clock import JumpingClock
from db.settings import load_settings
from db.tables import touchpoints
from tests.driver import START, shop_files
from workers.embedded import AlreadyRunningError, Embedded, NotEmbeddedError, NotIdleError, only_process

SECRET = "shpss_0123456789abcdef"


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    settings = load_settings(
        database_url=database_url,
        secret="a-secret-for-tests-only",
        public_bind="127.0.0.1:0",
        private_bind="127.0.0.1:0",
        threads=4,
    )
    opened = open_app(settings, clock=JumpingClock(START))
    try:
        with opened.writing() as connection:
            catalog.apply(connection, compile_files(shop_files()), now=START, by="the tests")
        yield opened
    finally:
        opened.close()


def sent(app: App) -> list[str]:
    with app.reading() as connection:
        query = sa.select(touchpoints.c.step).where(touchpoints.c.state == "sent", touchpoints.c.flow == "first-order")
        return list(connection.execute(query.order_by(touchpoints.c.id)).scalars())


def post(url: str, topic: str, id_: str, file: str) -> None:
    content = json.loads((Path(__file__).parents[1] / "payloads/shopify" / file).read_text())
    body = json.dumps(content).encode()
    headers = sign("shopify", SECRET, body, START, id_) | {"X-Shopify-Topic": topic, "X-Shopify-Event-Id": id_}
    assert httpx.post(f"{url}/hooks/shopify", content=body, headers=headers).status_code == 202


def test_months_pass_over_http_and_worker_threads_while_the_clock_jumps(app: App, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHOPIFY_WEBHOOK_SECRET", SECRET)
    assert isinstance(app.clock, JumpingClock)
    embedded = Embedded(app=app, ticks=False)
    embedded.start()
    try:
        assert httpx.get(f"{embedded.private_url}/health").status_code == 200
        post(embedded.public_url, "orders/paid", "w1", "orders-paid.json")
        embedded.join_idle()

        assert sent(app) == ["thank-you"]

        for _ in range(60):
            app.clock.jump(app.clock.now() + timedelta(days=1))
            embedded.join_idle()
        with app.reading() as connection:
            left = connection.execute(sa.select(touchpoints.c.state).where(touchpoints.c.state == "queued")).all()
        assert left == []
    finally:
        embedded.stop()
    assert embedded.failure is None


def test_work_that_fails_again_and_again_is_told_after_the_time_allowed(app: App, monkeypatch: pytest.MonkeyPatch):
    embedded = Embedded(app=app, ticks=False, serves=False)
    monkeypatch.setattr(embedded, "_left", lambda: ["advance"])
    embedded.start()
    try:
        with pytest.raises(NotIdleError, match=r"After 0\.2 seconds there is still work: advance"):
            embedded.join_idle(0.2)
    finally:
        embedded.stop()


def test_only_one_process_may_hold_a_database(tmp_path: Path):
    database = tmp_path / "afterglow.db"
    with ExitStack() as stack:
        stack.enter_context(only_process(database))
        with pytest.raises(AlreadyRunningError, match="stop that one first"):
            stack.enter_context(only_process(database))
        stack.enter_context(only_process(tmp_path / "another.db"))
    with only_process(database):
        pass


def test_a_broker_of_many_processes_is_refused(sqlite_url: str, redis_url: str):
    app = open_app(load_settings(database_url=sqlite_url, broker_url=redis_url, secret="a-secret-for-tests-only"))
    try:
        with pytest.raises(NotEmbeddedError):
            Embedded(app=app)
    finally:
        app.close()
