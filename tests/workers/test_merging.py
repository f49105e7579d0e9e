"""Merging while everything else is at work: several workers, real threads, real locks."""

import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import doctor, merging, people
from db.app import App
from db.tables import customers, enrollments, events, identities, inbox, merges, runs
from tests.driver import Driver
from tests.small_shop import flow, small
from tests.workers.test_ingest import blocked_between, count, rows_of, states
from workers.actors import make_actors
from workers.advance import Advance
from workers.batches import run_batch
from workers.ingest import Ingest
from workers.merging import merge_wanted

THANKS = flow("thanks", [{"send": "email/receipt"}], once_per="order.id")
CARE = flow("care", [{"id": "w", "wait": "1 minutes"}, {"send": "email/note"}], once_per="order.id")
ID, ADDRESS = {"id": "c1"}, {"email": "sam@example.com"}


def alive(driver: Driver) -> list[int]:
    """Customers who were not merged into others."""
    query = sa.select(customers.c.id).where(customers.c.merged_into.is_(None)).order_by(customers.c.id)
    return [row[0] for row in driver.rows(query)]


def healthy(driver: Driver) -> bool:
    with driver.app.reading() as connection:
        return doctor.examine(connection, driver.clock.now(), driver.app.settings) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [([ID], [ADDRESS, {**ID, **ADDRESS}]), ([ADDRESS], [ID, {**ID, **ADDRESS}]), ([ID, ADDRESS], [{**ID, **ADDRESS}])],
)
def test_a_new_person_met_by_two_workers_under_different_identities_ends_as_one(postgres_url, first, second):
    with small(postgres_url, THANKS) as driver, small(postgres_url, THANKS) as other:
        for n, who in enumerate([*first, *second]):
            driver.post("order.paid", {"order": {"id": f"o{n}", "total": 10}}, customer=who, drained=False)
        ids = rows_of(driver)

        blocked_between(driver.app, ids[: len(first)], other.app, ids[len(first) :])
        driver.drain()

        assert states(driver) == ["mapped"] * 3
        (one,) = alive(driver)
        assert driver.rows(sa.select(customers.c.orders).where(customers.c.id == one)) == [(3,)]
        assert {row[0] for row in driver.rows(sa.select(events.c.customer_id))} == {one}
        assert count(driver, runs) == 3
        assert healthy(driver)


def test_two_accounts_of_one_address_met_by_two_workers_at_once_are_two(postgres_url):
    with small(postgres_url) as driver, small(postgres_url) as other:
        for who in ("c1", "c2"):
            driver.post("ping.one", customer={"id": who, "email": "info@example.com"}, drained=False)
        ids = rows_of(driver)

        blocked_between(driver.app, ids[:1], other.app, ids[1:])
        driver.drain()

        first, second = alive(driver)
        owners = sa.select(identities.c.external_id, identities.c.customer_id).where(identities.c.source == "api")
        assert sorted(driver.rows(owners)) == [("c1", first), ("c2", second)]
        assert count(driver, merges) == 0
        assert healthy(driver)


def merged_before_the_lock(driver: Driver, monkeypatch: pytest.MonkeyPatch, kept: int, merged: int) -> None:
    """Let somebody merge two customers just before the next lock of one of them is taken."""
    lock = people.lock

    def lock_too_late(connection: Connection, ids: Iterable[int]) -> None:
        monkeypatch.setattr(people, "lock", lock)
        with driver.app.writing() as other:
            now = driver.clock.now()
            wanted = merging.want_by_hand(other, kept, merged, "a test", now)
            assert merging.merge(other, wanted, merging.rules(driver.app.catalog.current(other)), now)
        lock(connection, ids)

    monkeypatch.setattr(people, "lock", lock_too_late)


def test_what_is_read_while_its_customer_is_merged_lands_at_the_kept_one(postgres_url, monkeypatch):
    with small(postgres_url, THANKS) as driver:
        driver.post("ping.one", customer=ID)
        driver.post("ping.one", customer=ADDRESS)
        kept, merged = alive(driver)
        changed = {**ADDRESS, "last_name": "Vimes"}
        driver.post("order.paid", {"order": {"id": "o1", "total": 10}}, customer=changed, drained=False)

        merged_before_the_lock(driver, monkeypatch, kept, merged)
        assert run_batch(driver.app, Ingest(driver.app)) == 1
        assert states(driver)[-1] == "received"
        driver.drain()

        assert states(driver) == ["mapped"] * 3
        assert {row[0] for row in driver.rows(sa.select(events.c.customer_id))} == {kept}
        assert {row[0] for row in driver.rows(sa.select(inbox.c.customer_id))} == {kept}
        assert driver.touchpoints() == [("thanks", "receipt", "sent")]
        assert healthy(driver)


def test_who_waits_for_the_lock_of_a_customer_who_is_merged_meanwhile_begins_again(postgres_url):
    with small(postgres_url, CARE) as driver, small(postgres_url, CARE) as other:
        driver.post("ping.one", customer=ID)
        driver.post("order.paid", {"order": {"id": "o1"}}, customer=ADDRESS, drained=False)
        driver.actors.ingest()
        kept, merged = alive(driver)
        run = driver.rows(sa.select(enrollments.c.id))[0][0]
        raised: list[BaseException] = []

        def wait_for_the_lock() -> None:
            try:
                with other.app.writing() as connection:
                    Advance(other.app).lock(connection, [run])
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=wait_for_the_lock)
        with driver.app.writing() as connection:
            now = driver.clock.now()
            wanted = merging.want_by_hand(connection, kept, merged, "a test", now)
            merging.merge(connection, wanted, merging.rules(driver.app.catalog.current(connection)), now)
            thread.start()
            thread.join(0.5)
            assert thread.is_alive()
        thread.join()

        assert [type(error) for error in raised] == [people.MergedMeanwhileError]
        driver.drain()
        assert driver.rows(sa.select(enrollments.c.customer_id)) == [(kept,)]
        assert healthy(driver)


def test_a_claim_that_gets_the_lock_of_a_merged_customer_leaves_their_rows_out(database_url):
    """As it looks to a claim that saw the rows before the merge was committed, and got the lock after."""
    with small(database_url, CARE) as driver:
        driver.post("ping.one", customer=ID)
        driver.post("order.paid", {"order": {"id": "o1"}}, customer=ADDRESS, drained=False)
        driver.actors.ingest()
        kept, merged = alive(driver)
        with driver.app.writing() as connection:
            assert Advance(driver.app).find(connection, driver.clock.now(), 10, alone=False) != []
            stone = customers.update().where(customers.c.id == merged).values(merged_into=kept)
            connection.execute(stone)
            assert Advance(driver.app).find(connection, driver.clock.now(), 10, alone=False) == []


@pytest.mark.parametrize("stops", [True, False])
def test_a_run_hears_by_a_merge_what_came_under_the_other_name(database_url, stops):
    steps = [{"id": "w", "wait_for": "ping.two", "for_up_to": "9 days"}, {"send": "email/receipt"}]
    listening = flow("listening", steps, **({"stops": {"event": "ping.two"}} if stops else {}))
    with small(database_url, listening) as driver:
        driver.post("order.paid", {"order": {"id": "o1"}}, customer=ID)
        driver.post("ping.two", customer=ADDRESS)
        assert driver.rows(sa.select(enrollments.c.state)) == [("waiting",)]

        driver.post("ping.one", customer={**ID, **ADDRESS})

        assert driver.rows(sa.select(enrollments.c.state)) == [("stopped" if stops else "finished",)]
        assert healthy(driver)


def test_a_merge_that_fails_is_set_aside_and_the_others_are_done(database_url, monkeypatch):
    with small(database_url) as driver:
        for n in range(3):
            driver.post("ping.one", customer={"id": f"c{n}"})
            driver.post("ping.one", customer={"email": f"c{n}@example.com"})
        honest = merging.merge

        def failing(connection: Connection, merge_id: int, *rest: Any) -> Any:
            done = honest(connection, merge_id, *rest)
            if done and done.kept == broken:
                raise ZeroDivisionError
            return done

        monkeypatch.setattr(merging, "merge", failing)
        broken = alive(driver)[2]
        for n in range(3):
            driver.post("ping.one", customer={"id": f"c{n}", "email": f"c{n}@example.com"})

        assert sorted(row[0] for row in driver.rows(sa.select(merges.c.state))) == ["done", "done", "parked"]
        with driver.app.reading() as connection:
            found = doctor.examine(connection, driver.clock.now(), driver.app.settings)
        assert [finding.check for finding in found] == ["parked merges"]


def test_merging_ingesting_and_advancing_at_once_neither_deadlock_nor_lose_anything(postgres_url):
    """Each person has three faces, shown one after the other and tied together by later webhooks, in any order."""
    people_count, chance = 12, random.Random(7)
    faces: list[Callable[[int], dict[str, str]]] = [
        lambda n: {"id": f"c{n}"},
        lambda n: {"email": f"c{n}@example.com"},
        lambda n: {"id": f"c{n}", "email": f"c{n}@example.com"},
        lambda n: {"email": f"c{n}@example.com"},
        lambda n: {"id": f"c{n}", "email": f"new{n}@example.com"},
        lambda n: {"email": f"new{n}@example.com"},
    ]
    with small(postgres_url, THANKS, CARE) as driver, small(postgres_url, THANKS, CARE) as other:
        posts = [(n, face) for n in range(people_count) for face in range(len(faces)) for _ in range(3)]
        chance.shuffle(posts)
        for place, (n, face) in enumerate(posts):
            order = {"order": {"id": f"o{n}-{place}", "total": 1}}
            driver.post("order.paid", order, customer=faces[face](n), key=f"k{place}", drained=False)
        failed: list[BaseException] = []
        ingesting = threading.Event()

        def again_and_again(work: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                try:
                    while not ingesting.is_set():
                        work()
                except BaseException as error:
                    failed.append(error)

            return run

        def ingest(app: App) -> Callable[[], None]:
            def run() -> None:
                try:
                    while run_batch(app, Ingest(app, batch=7)):
                        pass
                except BaseException as error:
                    failed.append(error)

            return run

        aside = [
            threading.Thread(target=again_and_again(work))
            for work in (
                lambda: merge_wanted(driver.app),
                lambda: merge_wanted(other.app),
                lambda: run_batch(other.app, Advance(other.app, batch=5)),
                make_actors(driver.app).deliver,
            )
        ]
        inner = [threading.Thread(target=ingest(each.app)) for each in (driver, other)]
        for thread in (*aside, *inner):
            thread.start()
        for thread in inner:
            thread.join(60)
        ingesting.set()
        for thread in aside:
            thread.join(60)
        assert failed == []
        driver.drain()

        assert set(states(driver)) == {"mapped"}
        assert len(alive(driver)) == people_count
        orders = driver.rows(sa.select(customers.c.orders).where(customers.c.merged_into.is_(None)))
        assert [row[0] for row in orders] == [3 * len(faces)] * people_count
        assert (count(driver, events), count(driver, runs)) == (len(posts) + count_merges(driver), 2 * len(posts))
        assert count_merges(driver) > 0
        # One of each order; who had no address yet, when it was to go, got none.
        ends = [state for name, _, state in driver.touchpoints() if name == "thanks"]
        assert (len(ends), set(ends) - {"sent", "skipped"}) == (len(posts), set())
        assert healthy(driver)


def count_merges(driver: Driver) -> int:
    return int(driver.rows(sa.select(sa.func.count()).where(merges.c.state == "done"))[0][0])
