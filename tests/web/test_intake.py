"""The way into the inbox when things go wrong."""

import asyncio
import gc
import threading

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


def from_source(source: str, key: str, size: int = 2) -> Received:
    return Received(source, key, b"d", {}, b"x" * size)


def test_one_source_that_floods_leaves_room_for_the_others_and_its_rows_are_not_written_first(app):
    taking = Intake(app, pending_max=100, batch_max=10)
    started = threading.Event()
    write, written = taking._write, []
    taking._write = lambda rows: started.wait(100) and (written.append([r.source for r in rows]), write(rows))

    async def flood():
        accepted = [asyncio.create_task(taking.accept([from_source("a", f"a{n}")])) for n in range(60)]
        await asyncio.sleep(0.05)
        refused = [task for task in accepted if task.done() and task.exception()]
        others = [asyncio.create_task(taking.accept([from_source("b", f"b{n}")])) for n in range(5)]
        await asyncio.sleep(0.05)
        started.set()
        await asyncio.gather(*others)
        await asyncio.gather(*accepted, return_exceptions=True)
        return len(refused)

    assert 0 < asyncio.run(flood()) <= 10
    taking.close()
    assert written[0].count("a") == len(written[0])
    assert written[1].count("b") == 5


def test_what_waits_is_bounded_in_bytes_too(app):
    taking = Intake(app)
    taking._run = lambda: None  # nobody commits

    async def crowd():
        large = intake.PENDING_BYTES_MAX // 4
        waiting = [asyncio.create_task(taking.accept([from_source("a", str(n), large)])) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(IntakeUnavailable):
            await taking.accept([from_source("a", "more", large)])
        waiting.append(asyncio.create_task(taking.accept([from_source("b", "other", large)])))
        await asyncio.sleep(0)
        assert not waiting[-1].done()
        for one in waiting:
            one.cancel()

    asyncio.run(crowd())
