"""The way into the inbox when things go wrong."""

import asyncio
import gc

import pytest
import sqlalchemy as sa

from db import intake as statements
from db.engine import Database
from db.intake import Received
from db.tables import inbox
from tests.conftest import migrate
from tests.servers import postgres
from tests.web.conftest import BOTH, client, faces_of, rows
from tests.web.test_hooks import signed
from web import intake
from web.intake import Intake, IntakeUnavailable


def row(key: str) -> Received:
    return Received("api", key, b"d", {}, b"{}")


def test_beyond_the_bound_callers_are_asked_to_come_again_at_once(app):
    taking = Intake(app, pending_max=3)
    taking._run = lambda: None  # nobody commits

    async def crowd():
        first = asyncio.create_task(taking.accept([row("a"), row("b")]))
        await asyncio.sleep(0)
        with pytest.raises(IntakeUnavailable):
            await taking.accept([row("c"), row("d")])
        first.cancel()

    asyncio.run(crowd())


def test_a_connection_that_died_is_replaced_within_the_same_answer(app, monkeypatch):
    failures = iter([True])
    write = statements.receive_at_once

    def fail_once(*arguments):
        if next(failures, False):
            raise sa.exc.OperationalError("INSERT", {}, Exception("gone"), connection_invalidated=True)
        write(*arguments)

    monkeypatch.setattr(intake, "receive_at_once", fail_once)
    taking = Intake(app)
    asyncio.run(taking.accept([row("a")]))
    taking.close()

    assert [r.key for r in rows(app, inbox)] == ["a"]


def test_a_dead_database_is_503_and_the_next_webhook_after_it_is_accepted(app, faces, monkeypatch):
    write = intake.receive_at_once

    def dead(*arguments):
        raise sa.exc.OperationalError("INSERT", {}, Exception("no"))

    async def three():
        async with client(faces.public) as http:
            monkeypatch.setattr(intake, "receive_at_once", write)
            yield await http.post("/hooks/shopify", content=b"1", headers=signed(b"1"))
            monkeypatch.setattr(intake, "receive_at_once", dead)
            yield await http.post("/hooks/shopify", content=b"2", headers=signed(b"2"))
            monkeypatch.setattr(intake, "receive_at_once", write)
            yield await http.post("/hooks/shopify", content=b"2", headers=signed(b"2"))

    async def collected():
        return [answer async for answer in three()]

    first, second, third = asyncio.run(collected())
    assert [first.status_code, second.status_code, third.status_code] == [202, 503, 202]
    assert second.headers["retry-after"] == "5"
    assert [r.body for r in rows(app, inbox)] == [b"1", b"2"]


def test_an_error_nobody_thought_of_does_not_end_the_committing_thread(app, monkeypatch):
    taking = Intake(app)
    monkeypatch.setattr(intake, "receive_at_once", lambda *_: 1 / 0)
    with pytest.raises(IntakeUnavailable):
        asyncio.run(taking.accept([row("a")]))
    monkeypatch.undo()

    asyncio.run(taking.accept([row("b")]))
    taking.close()

    assert [r.key for r in rows(app, inbox)] == ["b"]


@BOTH
def test_what_waits_is_written_before_the_process_ends(app):
    taking = Intake(app)

    async def last():
        waiting = asyncio.create_task(taking.accept([row("a")]))
        await asyncio.sleep(0)
        await asyncio.to_thread(taking.close)
        await waiting
        with pytest.raises(IntakeUnavailable):
            await taking.accept([row("b")])

    asyncio.run(last())

    assert [r.key for r in rows(app, inbox)] == ["a"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pooled connections that died
def test_postgresql_may_stop_and_start_again_under_a_running_process(opened, monkeypatch):
    with postgres(own=True, fsync=True) as server:
        migrate(server.url)
        app = opened(database_url=server.url)

        async def post(number: int):
            async with client(faces.public) as http:
                body = str(number).encode()
                return (await http.post("/hooks/shopify", content=body, headers=signed(body))).status_code

        with faces_of(app) as faces:
            before = asyncio.run(post(1))
            server.stop_immediate()
            during = asyncio.run(post(2))
            server.start()
            after = asyncio.run(post(2))

        assert (before, during, after) == (202, 503, 202)
        database = Database(server.url)
        with database.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(inbox)).scalar() == 2
        database.close()
        app.close()
        gc.collect()  # while their warnings are expected
