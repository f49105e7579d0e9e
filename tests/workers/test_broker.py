"""Hints: cheap, harmless, and lost without loss; and the actors behind them on a real Redis."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
import pytest
import redis
import sqlalchemy as sa

from db.broker import KINDS, BrokerUnavailableError, Hints, check_broker, make_broker
from db.tables import events, touchpoints
from tests.driver import Driver
from tests.small_shop import flow, small
from workers.channels import Fate, Outgoing, Sent
from workers.scheduler import Scheduler

RECEIPT = flow("receipt", [{"send": "email/receipt"}])
#: Nobody listens on the port of the discard protocol.
NOWHERE = "redis://127.0.0.1:9/0"


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is true; how long that takes is no part of any promise."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if true():
            return
        pause.wait(0.02)
    raise AssertionError("it never came true")


def queued(url: str, kind: str) -> int:
    client = redis.Redis.from_url(url)
    try:
        return int(client.llen(f"afterglow:{kind}"))
    finally:
        client.close()


@contextmanager
def hinting(url: str, threads: int = 3) -> Iterator[Hints]:
    broker = make_broker(url)
    hints = Hints(broker, threads=threads, url=url)
    try:
        yield hints
    finally:
        hints.close()
        broker.close()


# Hints


@pytest.mark.parametrize("where", ["in process", "redis"])
def test_a_hint_is_dropped_where_enough_of_its_kind_wait(where, request):
    url = "" if where == "in process" else request.getfixturevalue("redis_url")
    with hinting(url) as hints:

        def waiting(kind: str) -> int:
            return queued(url, kind) if url else hints.broker.queues[kind].qsize()

        for _ in range(50):
            hints.hint("ingest")
            if url:
                until(lambda: not hints._wanted)
        hints.hint("advance")

        until(lambda: waiting("advance") == 1)
        assert waiting("ingest") == 6, "twice the number of threads"


def test_hints_of_one_kind_that_wait_to_be_sent_are_one(redis_url, monkeypatch):
    with hinting(redis_url, threads=500) as hints:
        sent, may_go, sending = [], threading.Event(), threading.Event()

        def send(kind: str) -> None:
            sending.set()
            may_go.wait(60)
            sent.append(kind)

        monkeypatch.setattr(hints, "_send", send)
        hints.hint("ingest")
        sending.wait(60)
        for _ in range(1000):  # returns although the sender stands still
            hints.hint("ingest", "deliver")
        may_go.set()

        until(lambda: len(sent) >= 3)
        assert sorted(sent) == ["deliver", "ingest", "ingest"]


def test_a_hint_never_raises_and_the_next_one_is_sent_when_redis_is_back(redis_url, monkeypatch):
    with hinting(redis_url) as hints:
        honest, failures = hints._waiting, [redis.exceptions.ConnectionError("gone"), OSError("gone")]

        def waiting(kind: str) -> int:
            if failures:
                raise failures.pop()
            return honest(kind)

        monkeypatch.setattr(hints, "_waiting", waiting)
        for _ in KINDS:
            hints.hint("tend")
            until(lambda: not hints._wanted)

        until(lambda: queued(redis_url, "tend") > 0)


def test_a_hint_costs_its_caller_nothing_where_there_is_no_redis():
    with hinting(NOWHERE) as hints:
        for _ in range(1000):
            hints.hint(*KINDS)

        until(lambda: not hints._wanted)
        assert hints._thread is not None
        assert hints._thread.is_alive(), "it goes on trying"


def test_a_missing_redis_is_said_in_one_sentence():
    with pytest.raises(BrokerUnavailableError, match="AFTERGLOW_BROKER_URL") as raised:
        check_broker(make_broker(NOWHERE))

    assert "\n" not in str(raised.value)


def test_no_middleware_gives_messages_a_meaning(redis_url):
    for broker in (make_broker(""), make_broker(redis_url)):
        assert list(broker.middleware) == []
        assert broker.get_declared_queues() >= set(KINDS)


def test_dead_letters_are_bounded():
    broker: Any = make_broker("")
    for n in range(500):
        broker.dead_letters_by_queue["ingest"].append(n)

    assert len(broker.dead_letters_by_queue["ingest"]) == 50


# Actors


@contextmanager
def working(broker: dramatiq.Broker, threads: int = 4) -> Iterator[None]:
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=threads)
    worker.start()
    try:
        yield
    finally:
        worker.stop()


def orders(driver: Driver, *numbers: int) -> None:
    for n in numbers:
        customer = {"id": f"c{n}", "email": f"c{n}@example.com"}
        driver.post("order.paid", {"order": {"id": f"o{n}"}}, customer=customer, drained=False)


def sent(driver: Driver) -> int:
    query = sa.select(sa.func.count()).select_from(touchpoints).where(touchpoints.c.state == "sent")
    return int(driver.rows(query)[0][0])


def recorded(driver: Driver) -> int:
    return int(driver.rows(sa.select(sa.func.count()).select_from(events))[0][0])


def test_one_hint_carries_an_event_through_all_hops(postgres_url, redis_url):
    with small(postgres_url, RECEIPT, broker_url=redis_url) as driver, working(driver.app.broker):
        orders(driver, *range(30))
        driver.app.hint("ingest")

        until(lambda: sent(driver) == 30)
        assert recorded(driver) == 30


def test_hints_doubled_late_and_for_nothing_do_no_harm(postgres_url, redis_url):
    with small(postgres_url, RECEIPT, broker_url=redis_url) as driver:
        orders(driver, 1, 2, 3)
        driver.drain()
        broker = driver.app.broker
        for kind in KINDS:
            for _ in range(25):
                broker.enqueue(broker.get_actor(kind).message())
        with working(broker):
            until(lambda: all(queued(redis_url, kind) == 0 for kind in KINDS))

        assert (recorded(driver), sent(driver)) == (3, 3)
        assert driver.rows(sa.select(touchpoints.c.attempts).distinct()) in ([(0,)], [(1,)])


def test_an_emptied_redis_loses_nothing_because_the_scheduler_hints_again(postgres_url, redis_url):
    with small(postgres_url, RECEIPT, broker_url=redis_url) as driver:
        client = redis.Redis.from_url(redis_url)
        orders(driver, *range(20))
        driver.app.hint("ingest")
        until(lambda: queued(redis_url, "ingest") == 1)
        client.flushall()
        assert queued(redis_url, "ingest") == 0

        scheduler = Scheduler(driver.app)
        ticking = threading.Thread(target=scheduler.run)
        with working(driver.app.broker):
            ticking.start()
            while sent(driver) < 20:
                client.flushall()
                threading.Event().wait(0.3)
            scheduler.stop()
            ticking.join()
        client.close()

        assert (recorded(driver), sent(driver)) == (20, 20)


def test_the_scheduler_hints_where_work_is_due_and_only_there(database_url):
    with small(database_url, RECEIPT) as driver:
        hinted: list[tuple[str, ...]] = []
        scheduler = Scheduler(driver.app)

        def hint(*kinds: str) -> None:
            hinted.append(kinds)
            scheduler.stop()

        object.__setattr__(driver.app, "hint", hint)
        scheduler.run()
        orders(driver, 1)
        scheduler = Scheduler(driver.app)
        scheduler.run()

        assert hinted == [("tend",), ("ingest", "tend")]


class Stuck:
    """A provider that does not answer until it is told to."""

    name, leaves_the_machine, batch = "stuck", True, 8

    def __init__(self) -> None:
        self.answers, self.held = threading.Event(), 0

    def send(self, messages: list[Outgoing], deadline_s: float) -> list[Fate]:
        self.held += 1
        self.answers.wait(60)
        return [Sent()] * len(messages)

    def close(self) -> None:
        pass


def test_a_provider_that_stands_still_does_not_hold_up_intake(postgres_url):
    provider = Stuck()
    with (
        small(postgres_url, RECEIPT, email=provider, live="yes", threads=4) as driver,
        working(driver.app.broker, threads=4),
    ):
        orders(driver, *range(40))
        driver.app.hint("ingest")
        until(lambda: provider.held == 2)
        for _ in range(20):
            driver.app.hint("deliver")  # more of it must not take the other threads

        orders(driver, *range(40, 50))
        driver.app.hint("ingest")
        until(lambda: recorded(driver) == 50)
        assert provider.held == 2, "half of the threads"

        provider.answers.set()
        until(lambda: driver.app.hint("deliver") or sent(driver) == 50)


def test_work_that_fails_leaves_no_dead_letter_and_stays_due(sqlite_url, monkeypatch):
    from workers.ingest import Ingest

    with small(sqlite_url, RECEIPT) as driver:
        orders(driver, 1)
        broken = [True]
        honest = Ingest.find

        def find(*arguments: Any, **options: Any) -> Any:
            if broken.pop() if broken else False:
                raise sa.exc.OperationalError("SELECT", {}, Exception("the database went away"))
            return honest(*arguments, **options)

        monkeypatch.setattr(Ingest, "find", find)
        broker: Any = driver.app.broker
        with working(broker):
            driver.app.hint("ingest")
            until(lambda: not broken)
            broker.join("ingest")
            assert all(not letters for letters in broker.dead_letters_by_queue.values())
            driver.app.hint("ingest")
            until(lambda: sent(driver) == 1)


@pytest.mark.parametrize(("due", "asks"), [(2, False), (10, True)])
def test_a_batch_of_fresh_events_alone_asks_for_more_where_there_is_more(sqlite_url, due, asks):
    provider = Stuck()
    provider.answers.set()
    with small(sqlite_url, RECEIPT, email=provider, live="yes", threads=4) as driver:  # batches of four
        orders(driver, *range(due))
        driver.actors.ingest()
        driver.actors.advance()
        hinted: list[str] = []
        object.__setattr__(driver.app, "hint", lambda *kinds: hinted.extend(kinds))

        driver.actors.deliver()

        assert ("deliver" in hinted) is asks
