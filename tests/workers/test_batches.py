"""What a batch leaves behind when its process, or the database, goes away at a bad moment."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import sqlalchemy as sa

from db import claims
from db.app import App
from db.tables import claims as claims_table
from db.tables import enrollments, inbox, touchpoints
from tests.driver import Driver
from tests.small_shop import flow, small
from workers import deliver
from workers.actors import Actors
from workers.advance import Advance
from workers.batches import run_batch, run_suspect
from workers.channels import Fate, Outgoing, Sent
from workers.ingest import Ingest

RECEIPT = flow("receipt", [{"send": "email/receipt"}])
AWAY = sa.exc.OperationalError("COMMIT", None, Exception("the connection is closed"))


@dataclass
class Relay:
    """A provider that takes everything and keeps it."""

    name: str = "kept"
    leaves_the_machine: bool = True
    batch: int = 50
    taken: list[int] = field(default_factory=list)

    def send(self, messages: Sequence[Outgoing], deadline_s: float) -> list[Fate]:
        self.taken += [message.touchpoint_id for message in messages]
        return [Sent() for _ in messages]

    def close(self) -> None:
        pass


def ordered(driver: Driver, count: int) -> None:
    for n in range(count):
        customer = {"id": f"c{n}", "email": f"c{n}@example.com"}
        driver.post("order.paid", {"order": {"id": f"o{n}"}}, customer=customer, drained=False)


def queued(driver: Driver, count: int) -> None:
    """Mails that wait to be sent."""
    ordered(driver, count)
    driver.actors.ingest()
    driver.actors.advance()


def states(driver: Driver) -> list[str]:
    return [row[0] for row in driver.rows(sa.select(touchpoints.c.state).order_by(touchpoints.c.id))]


def test_the_innocent_of_a_dead_batch_are_done_one_after_the_other_without_another_hint(database_url):
    with small(database_url, RECEIPT) as driver:
        ordered(driver, 30)
        with driver.app.writing() as connection:
            connection.execute(inbox.update().values(tries=1))

        driver.actors.ingest()

        assert driver.rows(sa.select(inbox.c.state, inbox.c.tries).distinct()) == [("mapped", 0)]


def test_two_suspects_are_never_tried_at_once_in_one_process(database_url, monkeypatch):
    with small(database_url, RECEIPT) as driver:
        ordered(driver, 2)
        with driver.app.writing() as connection:
            connection.execute(inbox.update().values(tries=1))
        others: list[int] = []
        honest = Ingest.do

        def doing(self: Ingest, *given: Any) -> None:
            monkeypatch.setattr(Ingest, "do", honest)
            others.append(run_suspect(driver.app, Ingest(driver.app)))
            honest(self, *given)

        monkeypatch.setattr(Ingest, "do", doing)
        assert run_suspect(driver.app, Ingest(driver.app)) == 1

        assert others == [0]


def test_a_process_does_one_batch_at_a_time_whatever_its_kind(postgres_url, monkeypatch):
    inside, most = [0], [0]

    def counted(work: type[Ingest] | type[Advance]) -> None:
        honest = work.do

        def doing(self: Any, *given: Any) -> None:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            honest(self, *given)
            inside[0] -= 1

        monkeypatch.setattr(work, "do", doing)

    counted(Ingest)
    counted(Advance)
    with small(postgres_url, RECEIPT) as driver:
        ordered(driver, 8)
        works = [work(driver.app, batch=1) for _ in range(8) for work in (Ingest, Advance)]
        threads = [threading.Thread(target=run_batch, args=(driver.app, work)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert most == [1]
        assert driver.rows(sa.select(inbox.c.state).distinct()) == [("mapped",)]


def test_a_death_is_counted_before_its_rows_are_tried_again(postgres_url):
    with small(postgres_url, RECEIPT) as driver:
        ordered(driver, 3)
        ids = [row[0] for row in driver.rows(sa.select(inbox.c.id))]
        for _ in range(2):  # what two processes leave that died of the same batch, just now
            claims.announce(driver.app.database, "inbox", ids[:2], driver.clock.now())
        claims.announce(driver.app.database, "enrollments", ids, driver.clock.now())

        run_batch(driver.app, Ingest(driver.app))

        assert driver.rows(sa.select(inbox.c.state, inbox.c.tries).order_by(inbox.c.id)) == [
            ("received", 1),
            ("received", 1),
            ("received", 0),
        ]
        assert driver.rows(sa.select(claims_table.c.kind)) == [("enrollments",)]
        driver.drain()
        assert driver.rows(sa.select(inbox.c.state).distinct()) == [("mapped",)]


def test_mails_of_a_batch_go_out_although_a_suspect_is_tried_in_the_same_breath(database_url):
    relay = Relay()
    with small(database_url, RECEIPT, email=relay, live="yes") as driver:
        queued(driver, 10)
        with driver.app.writing() as connection:
            first = sa.select(sa.func.min(touchpoints.c.id)).scalar_subquery()
            connection.execute(touchpoints.update().where(touchpoints.c.id == first).values(tries=1))

        driver.actors.deliver()

        assert states(driver) == ["sent"] * 10
        assert len(set(relay.taken)) == len(relay.taken) == 10


def test_fates_are_written_down_when_the_database_comes_back(database_url, monkeypatch):
    relay, failures, honest = Relay(), [AWAY, AWAY], deliver.settle

    def settling(*given: Any) -> None:
        if failures:
            raise failures.pop()
        honest(*given)

    monkeypatch.setattr(deliver, "settle", settling)
    monkeypatch.setattr(deliver, "SETTLE_AGAIN_S", 0)
    with small(database_url, RECEIPT, email=relay, live="yes") as driver:
        queued(driver, 3)
        driver.actors.deliver()

        assert states(driver) == ["sent"] * 3
        assert len(relay.taken) == 3


def test_mails_are_taken_back_whose_handing_over_was_committed_without_an_answer(postgres_url):
    relay = Relay()
    with small(postgres_url, RECEIPT, email=relay, live="yes") as driver:
        queued(driver, 3)
        work = deliver.Deliver(forgetful(driver.app), relay)
        try:
            run_batch(work.app, work)
        except sa.exc.OperationalError:
            assert states(driver) == ["sending"] * 3
            work.app = driver.app
            work.send()

        assert states(driver) == ["queued"] * 3
        assert relay.taken == []
        driver.at(hours=1)
        assert states(driver) == ["sent"] * 3


def forgetful(app: App) -> App:
    """An application whose commits happen, and whose answers to them get lost."""

    class Forgetful:
        def __getattr__(self, name: str) -> Any:
            return getattr(app.database, name)

        @contextmanager
        def writing(self) -> Iterator[sa.Connection]:
            with app.database.writing() as connection:
                yield connection
                handed = connection.execute(sa.select(touchpoints.c.id).where(touchpoints.c.state == "sending")).first()
            if handed:
                raise AWAY

    return replace(app, database=Forgetful())  # type: ignore[arg-type]


def test_a_process_holds_no_more_mails_than_one_batch_of_its_provider(sqlite_url):
    relay = Relay()
    with small(sqlite_url, RECEIPT, email=relay, live="yes", threads=8) as driver:
        queued(driver, 60)
        sizes = []
        relay_send = relay.send
        relay.send = lambda messages, deadline_s: sizes.append(len(messages)) or relay_send(messages, deadline_s)  # type: ignore[method-assign, func-returns-value]
        actors = Actors(app=driver.app, email=relay)
        actors.deliver()

        assert max(sizes) * (driver.app.settings.threads // 2) <= relay.batch


def test_nothing_else_is_in_work_in_a_process_that_tries_a_suspect(database_url, monkeypatch):
    with small(database_url, RECEIPT) as driver:
        ordered(driver, 6)
        with driver.app.writing() as connection:
            half = sa.select(inbox.c.id).order_by(inbox.c.id).limit(3)
            connection.execute(inbox.update().where(inbox.c.id.in_(half)).values(tries=1))
        at_work: list[bool] = []
        seen: list[tuple[bool, int]] = []
        honest = Ingest.do

        def doing(self: Ingest, connection: sa.Connection, ids: Sequence[int], now: Any) -> None:
            at_work.append(len(ids) == 1)
            seen.append((len(ids) == 1, len(at_work)))
            time.sleep(0.01)
            honest(self, connection, ids, now)
            at_work.pop()

        monkeypatch.setattr(Ingest, "do", doing)
        # Three suspects, and three others that make one batch; each thread does both kinds.
        threads = [threading.Thread(target=driver.actors.ingest) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [count for suspect, count in seen if suspect] == [1, 1, 1]
        assert driver.rows(sa.select(inbox.c.state).distinct()) == [("mapped",)]


def test_a_restart_of_the_server_is_nobodys_death(postgres_url):
    with small(postgres_url, RECEIPT) as driver:
        ordered(driver, 2)
        ids = [row[0] for row in driver.rows(sa.select(inbox.c.id))]
        claims.announce(driver.app.database, "inbox", ids, driver.clock.now())
        with driver.app.writing() as connection:
            since = claims_table.c.server_since
            connection.execute(claims_table.update().values(server_since=since - sa.text("interval '1 second'")))

        run_batch(driver.app, Ingest(driver.app))

        assert driver.rows(sa.select(inbox.c.tries).distinct()) == [(0,)]
        assert driver.rows(sa.select(claims_table.c.id)) == []


@pytest.mark.parametrize("work", [Ingest, Advance])
def test_suspects_that_fewest_died_of_are_tried_first(database_url, monkeypatch, work):
    with small(database_url, RECEIPT) as driver:
        ordered(driver, 3)
        if work is Advance:
            driver.actors.ingest()
        table = inbox if work is Ingest else enrollments
        ids = [row[0] for row in driver.rows(sa.select(table.c.id).order_by(table.c.id))]
        with driver.app.writing() as connection:
            for id_, tries in zip(ids, (2, 1, 1), strict=True):
                connection.execute(table.update().where(table.c.id == id_).values(tries=tries))
        tried: list[int] = []
        monkeypatch.setattr(work, "do", lambda self, connection, ids, now: tried.extend(ids))

        run_suspect(driver.app, work(driver.app))

        assert tried == [ids[1]]


def test_an_item_alone_in_its_batch_is_tried_twice_before_it_is_parked(database_url, monkeypatch):
    with small(database_url, RECEIPT) as driver:
        honest = Ingest.do
        failures = iter([True, False, True, True])

        def doing(self: Ingest, connection: sa.Connection, ids: Sequence[int], now: Any) -> None:
            if next(failures):
                raise RuntimeError("two did the same at once")
            honest(self, connection, ids, now)

        monkeypatch.setattr(Ingest, "do", doing)
        for n in range(2):
            customer = {"id": f"c{n}", "email": f"c{n}@example.com"}
            driver.post("order.paid", {"order": {"id": f"o{n}"}}, customer=customer, drained=False)
            run_batch(driver.app, Ingest(driver.app))

        assert driver.rows(sa.select(inbox.c.state, inbox.c.reason).order_by(inbox.c.id)) == [
            ("mapped", None),
            ("parked", "RuntimeError: two did the same at once"),
        ]
