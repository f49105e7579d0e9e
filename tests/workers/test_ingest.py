"""From the inbox to events: once, in any order, from any number of workers; what is of no use is set aside and said."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from db import claims
from db.app import App
from db.tables import consents, customers, enrollments, events, identities, inbox, profiles, runs, stage_entries
from tests.driver import SAM, START, Driver, shop_files
from tests.small_shop import flow, small
from workers import ingest as ingest_module
from workers.ingest import Ingest

THANKS = flow("thanks", [{"send": "email/receipt"}], once_per="order.id")
ORDER = {"order": {"id": "o1", "total": 40}}


def fates(driver: Driver) -> list[tuple[str, str | None]]:
    """State and reason of every inbox row, oldest first."""
    return [tuple(row) for row in driver.rows(sa.select(inbox.c.state, inbox.c.reason).order_by(inbox.c.id))]


def states(driver: Driver) -> list[str]:
    return [state for state, _ in fates(driver)]


def count(driver: Driver, table: sa.Table) -> int:
    return int(driver.rows(sa.select(sa.func.count()).select_from(table))[0][0])


def native(event: str = "order.paid", *, key: str = "k1", **fields: Any) -> bytes:
    return json.dumps({"event": event, "key": key, "customer": SAM, "payload": {}, **fields}).encode()


def shopify(name: str, topic: str, **changes: Any) -> tuple[bytes, dict[str, str]]:
    body = json.loads((ROOT / f"tests/payloads/shopify/{name}.json").read_text()) | changes
    return json.dumps(body).encode(), {"x-shopify-topic": topic, "x-shopify-event-id": name}


# Repeats, conflicts, order of arrival


def test_the_same_key_again_is_one_event_also_where_the_bytes_differ(database_url):
    with small(database_url, THANKS) as driver:
        said = native(payload=ORDER)
        driver.receive("api", "k1", said, drained=False)
        driver.receive("api", "k1", b" " + said, drained=False)  # in the same batch
        driver.drain()
        driver.receive("api", "k1", said)  # the same bytes: the inbox itself knows them
        driver.receive("api", "k1", said + b"\n")  # in a later batch

        assert fates(driver) == [
            ("mapped", None),
            ("mapped", "a repeat of an event that is recorded already"),
            ("mapped", "a repeat of an event that is recorded already"),
        ]
        assert (count(driver, events), count(driver, enrollments)) == (1, 1)
        assert driver.rows(sa.select(customers.c.orders, customers.c.spent)) == [(1, 4000)]


def test_the_same_key_with_another_event_is_parked_and_changes_nothing(database_url):
    with small(database_url, THANKS) as driver:
        driver.receive("api", "k1", native(payload=ORDER), drained=False)
        driver.receive("api", "k1", native(payload={"order": {"id": "o2", "total": 7}}), drained=False)
        driver.drain()
        driver.receive("api", "k1", native(payload={"order": {"id": "o3", "total": 9}}))

        assert states(driver) == ["mapped", "parked", "parked"]
        assert all("conflict" in str(reason) for _, reason in fates(driver)[1:])
        assert driver.rows(sa.select(customers.c.orders, customers.c.spent)) == [(1, 4000)]
        assert count(driver, enrollments) == 1


def test_the_same_key_at_two_sources_is_two_events(database_url):
    with small(database_url) as driver:
        driver.receive("api", "k1", native(), drained=False)
        driver.receive("page", "k1", native())

        assert count(driver, events) == 2


@pytest.mark.parametrize("together", [True, False])
def test_a_refund_before_its_order_waits_and_is_freed_by_it(database_url, together):
    waits = flow("care", [{"id": "w", "wait": "9 days"}], stops={"event": "order.refunded"})
    with small(database_url, waits, sources=("shopify",)) as driver:
        driver.clock.jump(datetime(2026, 3, 8, 8, tzinfo=UTC))
        refund, order = shopify("refunds-create", "refunds/create"), shopify("orders-paid", "orders/paid")

        driver.receive("shopify", "refund", refund[0], headers=refund[1], drained=not together)
        if not together:
            assert fates(driver) == [("awaiting", "it names an order that has not come yet")]
        driver.receive("shopify", "order", order[0], headers=order[1])

        assert states(driver) == ["mapped", "mapped"]
        assert count(driver, customers) == 1
        assert driver.rows(sa.select(enrollments.c.state)) == [("stopped",)]


def test_a_refund_that_missed_its_order_by_a_moment_is_freed_by_tending(database_url):
    with small(database_url, sources=("shopify",)) as driver:
        driver.clock.jump(datetime(2026, 3, 8, 8, tzinfo=UTC))
        refund, order = shopify("refunds-create", "refunds/create"), shopify("orders-paid", "orders/paid")
        driver.receive("shopify", "order", order[0], headers=order[1])
        driver.receive("shopify", "refund", refund[0], headers=refund[1], drained=False)
        missed = inbox.update().where(inbox.c.key == "refund")
        with driver.app.writing() as connection:
            connection.execute(missed.values(state="awaiting", awaits="shopify:order/5000000000001"))

        driver.actors.tend()
        driver.drain()

        assert states(driver) == ["mapped", "mapped"]


def test_an_event_that_came_late_still_stops_the_run_that_its_trigger_starts(database_url):
    waits = flow("care", [{"id": "w", "wait": "9 days"}], stops={"event": "order.refunded", "same": "order.id"})
    with small(database_url, waits) as driver:
        driver.post("order.refunded", ORDER)  # known by its customer's id, so recorded at once
        driver.post("order.paid", ORDER, occurred_at=START - timedelta(hours=1))

        assert driver.rows(sa.select(enrollments.c.state)) == [("stopped",)]


# Who is meant


def test_a_customer_is_one_by_id_by_address_and_by_our_own_number(database_url):
    with small(database_url) as driver:
        driver.post("ping.one", customer={"id": "c1", "email": "Sam@Example.com"})
        driver.post("ping.one", customer={"email": "sam@example.com"})
        driver.post("ping.one", customer={"id": "c1"})
        driver.post("ping.one", customer={"customer": driver.customer()})
        driver.post("ping.one", customer={"id": "c2", "email": "other@example.com"})

        owners = [row[0] for row in driver.rows(sa.select(events.c.customer_id).order_by(events.c.id))]
        assert len(set(owners[:4])) == 1
        assert owners[4] != owners[0]
        assert count(driver, customers) == 2
        assert count(driver, profiles) == 2


def test_no_address_stands_outside_the_profile(database_url):
    with small(database_url, THANKS) as driver:
        driver.post("order.paid", ORDER, stage="purchase", consent="granted")

        kept = [
            repr(driver.rows(sa.select(table)))
            for table in (identities, events, stage_entries, consents, enrollments, runs, customers)
        ]
        assert "sam@example.com" not in "".join(kept).lower()


def blocked_between(app: App, first: list[int], other: App, second: list[int]) -> None:
    """Ingest two batches so that the second finds the first one's work done but not committed."""
    failed: list[BaseException] = []

    def run_second() -> None:
        try:
            with other.writing() as connection:
                Ingest(other).do(connection, second, other.clock.now())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run_second)
    with app.writing() as connection:
        Ingest(app).do(connection, first, app.clock.now())
        thread.start()
        waits = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        for _ in range(1000):
            with app.reading() as looking:
                if looking.execute(waits).scalar_one() or not thread.is_alive():
                    break
            thread.join(0.01)
        assert thread.is_alive(), "the second batch has to wait for the first"
    thread.join()
    if failed:
        raise failed[0]


def generic(name: str) -> Callable[[], bytes]:
    return lambda: (ROOT / f"tests/payloads/generic/{name}.json").read_bytes()


def rows_of(driver: Driver) -> list[int]:
    return [row[0] for row in driver.rows(sa.select(inbox.c.id).order_by(inbox.c.id))]


def test_a_new_person_met_by_two_workers_at_once_is_one_customer(postgres_url):
    with small(postgres_url, THANKS) as driver, small(postgres_url, THANKS) as other:
        for n in range(10):
            payload = {"order": {"id": f"o{n}", "total": 10}}
            who = {"id": f"c{n % 5}", "email": f"c{n % 5}@example.com"}
            driver.post("order.paid", payload, customer=who, drained=False)
        ids = rows_of(driver)

        blocked_between(driver.app, ids[:5], other.app, ids[5:])
        driver.drain()

        assert states(driver) == ["mapped"] * 10
        assert (count(driver, customers), count(driver, profiles)) == (5, 5)
        assert driver.rows(sa.select(customers.c.orders, customers.c.spent)) == [(2, 2000)] * 5
        assert count(driver, enrollments) == 10


def test_one_event_taken_in_by_two_workers_at_once_is_one_event(postgres_url):
    with small(postgres_url, THANKS) as driver, small(postgres_url, THANKS) as other:
        driver.receive("api", "k1", native(payload=ORDER), drained=False)
        driver.receive("api", "k1", native(payload=ORDER) + b" ", drained=False)
        driver.receive("api", "k1", native(payload={"order": {"id": "o2"}}), drained=False)
        ids = rows_of(driver)

        blocked_between(driver.app, ids[:1], other.app, ids[1:])

        assert states(driver) == ["mapped", "mapped", "parked"]
        assert driver.rows(sa.select(customers.c.orders)) == [(1,)]
        assert count(driver, enrollments) == 1


def test_one_order_told_twice_to_two_workers_at_once_is_one_run(postgres_url):
    with small(postgres_url, THANKS) as driver, small(postgres_url, THANKS) as other:
        driver.post("order.paid", ORDER, key="told", drained=False)
        driver.post("order.paid", ORDER, key="told again", drained=False)
        ids = rows_of(driver)

        blocked_between(driver.app, ids[:1], other.app, ids[1:])

        assert count(driver, events) == 2
        assert (count(driver, enrollments), count(driver, runs)) == (1, 1)


def test_many_workers_racing_over_few_people_lose_and_double_nothing(postgres_url):
    with small(postgres_url, THANKS) as driver, small(postgres_url, THANKS) as other:
        for n in range(120):
            who = {"id": f"c{n % 7}", "email": f"c{n % 7}@example.com"}
            driver.post(
                "order.paid",
                {"order": {"id": f"o{n % 7}-{n // 14}", "total": 1}},
                customer=who,
                key=f"k{n}",
                drained=False,
            )

        def work(app: App) -> None:
            from workers.batches import run_batch

            for _ in range(100):
                if not run_batch(app, Ingest(app, batch=9)):
                    return

        threads = [threading.Thread(target=work, args=(each.app,)) for each in (driver, other) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        driver.drain()

        assert set(states(driver)) == {"mapped"}
        assert (count(driver, events), count(driver, customers)) == (120, 7)
        assert driver.rows(sa.select(sa.func.sum(customers.c.orders))) == [(120,)]
        assert count(driver, enrollments) == len({(n % 7, n // 14) for n in range(120)})


# What an event says


def test_older_news_only_fills_gaps(database_url):
    with small(database_url) as driver:
        driver.clock.jump(START + timedelta(days=9))
        now = {"id": "c1", "first_name": "Sam", "attributes": {"points": 3}}
        before = {
            "id": "c1",
            "first_name": "Samuel",
            "last_name": "Vimes",
            "attributes": {"points": 1, "vip": True},
        }
        driver.post("ping.one", customer=now, occurred_at=START + timedelta(days=5))
        driver.post("ping.one", customer=before, occurred_at=START)

        known = sa.select(profiles.c.first_name, profiles.c.last_name, profiles.c.attributes)
        assert driver.rows(known) == [("Sam", "Vimes", {"points": 3, "vip": True})]

        driver.post("ping.one", customer=before, occurred_at=START + timedelta(days=6))
        assert driver.rows(known) == [("Samuel", "Vimes", {"points": 1, "vip": True})]


def test_an_attribute_of_another_kind_is_left_out_with_a_remark_and_the_event_counts(database_url):
    with small(database_url) as driver:
        driver.post("ping.one", customer={"id": "c1", "attributes": {"points": "many", "vip": True, "shoe": 9}})

        assert fates(driver) == [("mapped", "attribute points is not a number and was left out")]
        assert driver.rows(sa.select(profiles.c.attributes)) == [({"vip": True},)]


@pytest.mark.parametrize("together", [True, False])
def test_stages_are_a_loop_and_older_means_earlier(database_url, together):
    with small(database_url) as driver:
        driver.clock.jump(START + timedelta(days=30))
        for day, stage in ((3, "advocacy"), (9, "awareness"), (5, "purchase"), (6, "purchase")):
            driver.post("ping.one", stage=stage, occurred_at=START + timedelta(days=day), drained=not together)
        driver.drain()

        assert driver.rows(sa.select(customers.c.stage, customers.c.stage_at)) == [
            ("awareness", START + timedelta(days=9))
        ]
        entered = sa.select(stage_entries.c.stage).order_by(stage_entries.c.entered_at)
        assert driver.rows(entered) == [("advocacy",), ("purchase",), ("purchase",), ("awareness",)]


@pytest.mark.parametrize("together", [True, False])
def test_the_latest_word_on_consent_stands_in_whatever_order_words_come(database_url, together):
    words = [("granted", 1), ("withdrawn", 2), ("granted", 3)]
    with small(database_url) as driver:
        driver.clock.jump(START + timedelta(days=30))
        for n, order in enumerate(permutations(words)):
            for said, day in order:
                driver.post(
                    "ping.one",
                    customer={"id": f"c{n}"},
                    consent=said,
                    topic="news",
                    occurred_at=START + timedelta(days=day),
                    drained=not together,
                )
        driver.drain()

        stands = driver.rows(sa.select(consents.c.state, consents.c.topic, consents.c.occurred_at))
        assert stands == [("granted", "news", START + timedelta(days=3))] * 6


@pytest.mark.parametrize("together", [True, False])
def test_when_sees_the_counters_with_this_order_included(database_url, together):
    nth = [flow(f"order-{n}", [{"send": "email/receipt"}], starts={"event": "order.paid", "when": f"customer.orders == {n}"}) for n in (1, 2, 3)]  # fmt: skip  # noqa: E501
    rich = flow("rich", [{"stop": True}], starts={"event": "order.paid", "when": "customer.spent >= 25.5"})
    with small(database_url, *nth, rich) as driver:
        for n in range(2):
            driver.post("order.paid", {"order": {"id": f"o{n}", "total": 12.75}}, drained=not together)
        driver.drain()

        assert sorted(row[0] for row in driver.rows(sa.select(runs.c.flow))) == ["order-1", "order-2", "rich"]


def test_a_refund_lowers_what_was_spent(database_url):
    with small(database_url) as driver:
        driver.post("order.paid", {"order": {"id": "o1", "total": 40.5}})
        driver.post("order.refunded", {"order": {"id": "o1"}, "refund": {"amount": 10.25}})

        assert driver.rows(sa.select(customers.c.orders, customers.c.spent)) == [(1, 3025)]


def test_amounts_of_an_event_that_no_file_declares_count_too(database_url):
    with small(database_url, shop={"events": {}}) as driver:
        driver.post("order.paid", {"order": {"id": "o1", "total": 40.35}})

        assert driver.rows(sa.select(customers.c.spent)) == [(4035,)]


def test_a_stage_and_an_event_start_what_they_start_and_drafts_start_nothing(database_url):
    by_stage = flow("by-stage", [{"send": "email/receipt"}], starts={"stage": "purchase"})
    draft = flow("draft", [{"send": "email/receipt"}], status="draft")
    paused = flow("paused", [{"send": "email/receipt"}], status="paused")
    without_key = flow("keyless", [{"send": "email/receipt"}], once_per="checkout.id")
    with small(database_url, THANKS, by_stage, draft, paused, without_key) as driver:
        driver.post("order.paid", ORDER, stage="purchase")
        driver.post("ping.one", stage="purchase")

        started = [row[0] for row in driver.rows(sa.select(runs.c.flow).order_by(runs.c.flow))]
        assert started == ["by-stage", "by-stage", "thanks"]


def test_two_tellings_of_one_order_in_one_batch_are_one_run(database_url):
    with small(database_url, THANKS) as driver:
        driver.post("order.paid", ORDER, drained=False)
        driver.post("order.paid", ORDER)

        assert (count(driver, events), count(driver, enrollments)) == (2, 1)


# What is of no use


BAD: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "not JSON": ("api", lambda: b"{", "not an event in our words"),
    "not UTF-8": ("api", lambda: b'{"event": "\xff\xfe"}', "not an event in our words"),
    "empty": ("api", lambda: b"", "not an event in our words"),
    "a list": ("api", lambda: b"[]", "not an event in our words"),
    "a nesting bomb": ("api", lambda: b"[" * 100_000 + b"]" * 100_000, "not an event in our words"),
    "no customer": ("api", lambda: native(customer={}), "give at least one of id, email, customer"),
    "no address": ("api", lambda: native(customer={"email": "sam at home"}), "is not an e-mail address"),
    "no event": ("api", lambda: native(event="just words"), "event"),
    "a time without offset": ("api", lambda: native(occurred_at="2026-03-02T09:00:00"), "needs an offset"),
    "an unknown stage": ("api", lambda: native(stage="purchse"), "'purchse' is not a stage of this shop"),
    "an unknown number": ("api", lambda: native(customer={"customer": 4711}), "4711"),
    "an unknown source": ("shoply", lambda: native(), "no source 'shoply' is in force"),
    "a source, not JSON": ("generic", lambda: b"{", "not JSON"),
    "a source, not UTF-8": ("generic", lambda: b'{"type": "\xff"}', "not JSON"),
    "a source, a nesting bomb": ("generic", lambda: b"[" * 200 + b"]" * 200, "nested more than 32 deep"),
    "a source, no customer": (
        "generic",
        generic("no-customer"),
        "customer",
    ),
    "a source, wrong types": (
        "generic",
        generic("wrong-types"),
        "first_name",
    ),
    "a source, unknown stage": (
        "generic",
        generic("unknown-stage"),
        "stage",
    ),
    "a source, unknown event": (
        "generic",
        generic("unknown-event"),
        "event",
    ),
}


def test_every_kind_of_bad_body_is_parked_with_its_reason_and_the_rest_goes_on(database_url):
    with small(database_url, THANKS, sources=("generic",)) as driver:
        for name, (source, body, _) in BAD.items():
            driver.receive(source, name, body(), drained=False)
        driver.post("order.paid", ORDER)

        rows = driver.rows(sa.select(inbox.c.key, inbox.c.state, inbox.c.reason).order_by(inbox.c.id))
        *parked, good = rows
        assert good[1] == "mapped"
        for key, state, reason in parked:
            assert state == "parked", key
            assert BAD[key][2] in reason, (key, reason)
            assert "sam@example.com" not in reason, "a reason names no person"
        assert count(driver, events) == 1
        assert driver.touchpoints() == [("thanks", "receipt", "sent")]


def test_what_no_rule_speaks_of_is_ignored_with_a_reason(database_url):
    with small(database_url, sources=("shopify",)) as driver:
        body, headers = shopify("products-update", "products/update")
        driver.receive("shopify", "p", body, headers=headers)

        assert fates(driver) == [("ignored", "No rule of the source 'shopify' speaks of this.")]


def test_what_was_parked_can_be_taken_in_again_when_its_reason_is_gone(database_url):
    from db.control import retry_inbox

    with small(database_url) as driver:
        driver.receive("api", "k1", native(customer={"id": "new"}, stage="tasting"))
        assert states(driver) == ["parked"]

        stages = shop_files()["flows/stages.yaml"] + "  - stage: tasting\n"
        driver.apply({"flows/stages.yaml": stages})
        with driver.app.writing() as connection:
            assert retry_inbox(connection, rows_of(driver)) == 1
        driver.drain()

        assert fates(driver) == [("mapped", None)]


# What fails, and what kills


def poisoned(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let mapping raise for bodies that hold the word poison."""
    honest = ingest_module.map_native

    def mapping(body: bytes, **options: Any) -> Any:
        if b"poison" in body:
            raise error
        return honest(body, **options)

    monkeypatch.setattr(ingest_module, "map_native", mapping)


def test_one_element_that_cannot_be_done_is_parked_alone_and_the_others_are_done(database_url, monkeypatch):
    poisoned(monkeypatch, ZeroDivisionError("the bug\nwith sam@example.com in its second line"))
    with small(database_url, THANKS) as driver:
        for n in range(20):
            payload = {"order": {"id": "poison" if n == 13 else f"o{n}", "total": 1}}
            driver.post("order.paid", payload, drained=False)
        driver.drain()

        assert [n for n, state in enumerate(states(driver)) if state == "parked"] == [13]
        assert fates(driver)[13] == ("parked", "ZeroDivisionError: the bug")
        assert (count(driver, events), count(driver, enrollments)) == (19, 19)
        assert driver.rows(sa.select(customers.c.orders)) == [(19,)]
        assert count(driver, claims.claims) == 0


class Death(BaseException):
    """Stands for a kill: nothing catches it, so nothing is tidied up."""


def test_one_element_that_kills_its_process_is_parked_at_the_third_death_and_the_others_are_done(
    database_url, monkeypatch
):
    poisoned(monkeypatch, Death())
    with small(database_url, THANKS) as driver:
        for n in range(20):
            driver.post("order.paid", {"order": {"id": "poison" if n == 13 else f"o{n}"}}, drained=False)

        deaths = 0
        for _ in range(30):
            try:
                driver.actors.tend()
                driver.drain()
                break
            except Death:
                deaths += 1
                driver.clock.jump(driver.clock.now() + timedelta(seconds=5))

        assert deaths == claims.TRIES_MAX
        assert [n for n, state in enumerate(states(driver)) if state == "parked"] == [13]
        assert "died 3 times" in str(fates(driver)[13][1])
        assert (count(driver, events), count(driver, enrollments)) == (19, 19)
        assert count(driver, claims.claims) == 0


def test_the_claim_of_a_batch_that_is_in_work_is_not_taken_for_a_dead_one(postgres_url):
    with small(postgres_url, THANKS) as driver:
        driver.post("order.paid", ORDER, drained=False)
        app, ids = driver.app, rows_of(driver)
        claim = claims.announce(app.database, "inbox", ids, driver.clock.now())
        with app.writing() as working:
            claims.take(working, claim)
            with app.writing() as burying:
                assert claims.bury(burying, driver.clock.now() + timedelta(hours=1)) == 0

        assert driver.rows(sa.select(inbox.c.tries)) == [(0,)]


def test_a_batch_whose_claim_was_taken_for_a_dead_one_is_left_to_others(database_url):
    with small(database_url, THANKS) as driver:
        driver.post("order.paid", ORDER, drained=False)
        app = driver.app
        claim = claims.announce(app.database, "inbox", rows_of(driver), driver.clock.now())
        with app.writing() as connection:
            assert claims.bury(connection, driver.clock.now() + timedelta(seconds=5)) == 1
        with app.writing() as connection, pytest.raises(claims.ClaimLostError):
            claims.take(connection, claim)

        assert driver.rows(sa.select(inbox.c.tries)) == [(1,)]
        driver.drain()
        assert driver.rows(sa.select(inbox.c.state, inbox.c.tries)) == [("mapped", 0)]


def test_a_young_claim_is_left_alone_and_at_the_start_of_the_only_process_none_is(database_url):
    with small(database_url) as driver:
        now = driver.clock.now()
        claims.announce(driver.app.database, "inbox", [], now)
        with driver.app.writing() as connection:
            assert claims.bury(connection, now) == 0
            assert claims.bury(connection, now, all_of_them=True) == 1
