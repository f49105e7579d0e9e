"""What the shop's rails make of real touchpoints: who loses, blackouts, the rate, an outage, a stage that is left."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from db import control, why
from db.tables import enrollments, send_turns, touchpoints
from tests.driver import START, Driver
from tests.small_shop import flow, put_into_force, small
from tests.workers.test_deliver import Relay, order, sending
from workers.advance import Advance
from workers.batches import run_batch

NOTES = [flow(name, [{"send": "email/note"}]) for name in ("alpha", "beta")]


def went(driver: Driver) -> list[tuple[str, datetime]]:
    """Flow and moment of all mails that went, in order."""
    t = touchpoints.c
    query = sa.select(t.flow, t.prepared_at).where(t.state == "sent").order_by(t.prepared_at, t.id)
    return [(row[0], row[1]) for row in driver.rows(query)]


def story(driver: Driver, of: str) -> str:
    with driver.app.reading() as connection:
        lines = why.story(connection, driver.app.catalog, driver.secret, driver.customer(), of)
    return "\n".join(map(str, lines))


@pytest.mark.parametrize(("shop", "alpha"), [({}, {}), ({"loser": "skip"}, {}), ({}, {"loser": "skip"})])
def test_the_loser_of_two_flows_waits_or_is_skipped_as_declared_and_why_names_the_winner(sqlite_url, shop, alpha):
    flows = [flow("alpha", [{"send": "email/note"}], **alpha), flow("beta", [{"send": "email/note"}])]
    rails = {"caps": [{"at_most": 1, "within": "20 hours"}], "priority": ["beta", "alpha"], **shop}
    with small(sqlite_url, *flows, shop=rails) as driver:
        order(driver)
        driver.at(hours=21)

        reason = "cap of 1 within 20 hours, beta went first"
        skips = bool({**shop, **alpha})
        assert (f"was not sent: {reason}" if skips else f"has to wait: {reason}") in story(driver, "alpha")
        assert went(driver) == [("beta", START), *([] if skips else [("alpha", START + timedelta(hours=20))])]


def test_flows_that_want_a_customer_at_one_moment_are_ranked_whatever_the_batches(database_url):
    flows = [flow(f"f{n}", [{"id": "day", "wait": "1 day"}, {"send": "email/note"}]) for n in range(6)]
    rails = {"caps": [{"at_most": 1, "within": "9 days"}], "priority": ["f5"]}
    with small(database_url, *flows, shop=rails) as driver:
        for n in range(4):
            order(driver, who=f"c{n}")
        driver.clock.jump(START + timedelta(days=1))
        for _ in range(60):
            run_batch(driver.app, Advance(driver.app, batch=2))
            driver.actors.deliver()
        assert [name for name, _ in went(driver)] == ["f5"] * 4


def test_a_blackout_defers_marketing_to_its_end_and_its_days_are_no_waiting(sqlite_url):
    rails = {"blackout": [{"days": "03-01..03-06", "because": "a strike"}], "keep_for": "1 day"}
    with small(sqlite_url, flow("one", [{"send": "email/note"}, {"send": "email/receipt"}]), shop=rails) as driver:
        order(driver)
        assert "has to wait: no marketing on these days (a strike)" in story(driver, "one")
        driver.at(days=9)
        assert went(driver) == [("one", datetime(2026, 3, 6, 23, 0, tzinfo=UTC))] * 2, "service mail follows it"


def test_a_rate_is_kept_by_two_workers_at_once_and_service_mail_goes_past_it(postgres_url):
    flows = [flow(name, [{"send": "email/note"}]) for name in ("a", "b")]
    flows.append(flow("receipt", [{"send": "email/receipt"}]))
    rails = {"rate": "60 per hour"}
    relays = Relay(batch=5), Relay(batch=5)
    with (
        sending(postgres_url, relays[0], *flows, shop=rails) as driver,
        sending(postgres_url, relays[1], *flows, shop=rails) as other,
    ):
        for n in range(20):
            order(driver, who=f"c{n}", drained=False)
        driver.actors.ingest()
        driver.actors.advance()

        def work(one: Driver) -> None:
            for _ in range(20):
                one.actors.deliver()

        for minute in range(0, 90, 5):
            for one in (driver, other):
                one.clock.jump(START + timedelta(minutes=minute))
            threads = [threading.Thread(target=work, args=(one,)) for one in (driver, other)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if not minute:
                sent = [message for relay in relays for message in relay.taken]
                assert sum("List-Unsubscribe" not in message.headers for message in sent) == 20
                assert sum("List-Unsubscribe" in message.headers for message in sent) == 1

        t = touchpoints.c
        query = sa.select(t.prepared_at).where(t.kind == "marketing", t.state == "sent")
        moments = [at for (at,) in driver.rows(query)]
        assert len(moments) > 30
        assert max(sum(start <= at < start + timedelta(hours=1) for at in moments) for start in moments) <= 60


def test_marketing_that_waited_for_the_morning_goes_out_evenly(sqlite_url):
    rails = {"quiet_hours": {"from": "21:00", "to": "08:00"}, "rate": "30 per hour"}
    with small(sqlite_url, flow("one", [{"send": "email/note"}]), shop=rails) as driver:
        driver.at(hours=14)
        for n in range(5):
            order(driver, who=f"c{n}")
        driver.at(days=2)
        morning = START + timedelta(hours=23)
        apart = timedelta(minutes=2, seconds=2)
        assert [at - morning for _, at in went(driver)] == [
            max(n * apart - timedelta(minutes=1), timedelta()) for n in range(5)
        ]


def test_where_no_rate_is_declared_nobody_asks_for_turns(sqlite_url):
    with small(sqlite_url, *NOTES) as driver:
        order(driver)
        assert len(went(driver)) == 2
        assert driver.rows(sa.select(send_turns.c.name)) == []


WEEKLY = [{"id": "tuesday", "until": {"weekday": "tuesday", "at": "10:00"}}, {"send": "email/note"}]


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        ("send", [("one", START + timedelta(days=1, hours=6))]),
        ("next window", [("one", START + timedelta(days=8, hours=1))]),
        ("skip", []),
    ],
)
def test_what_an_outage_delayed_goes_waits_for_the_next_time_of_its_flow_or_is_skipped(database_url, late, expected):
    with small(database_url, flow("one", WEEKLY, late=late)) as driver:
        order(driver)
        driver.clock.outage(START + timedelta(days=1, hours=6))
        driver.at(days=20)

        assert went(driver) == expected
        assert driver.rows(sa.select(enrollments.c.state)) == [("finished",)]
        if late != "send":
            assert "it is late by 300 minutes" in story(driver, "one")


def test_what_was_halted_or_paused_is_not_late(sqlite_url):
    live = flow("one", WEEKLY, late="skip")
    with small(sqlite_url, live) as driver:
        order(driver)
        put_into_force(driver, flow("one", WEEKLY, late="skip", status="paused"))
        driver.at(days=3)
        with driver.app.writing() as connection:
            control.halt(connection, "*", by="the tests", now=driver.clock.now())
        put_into_force(driver, live)
        driver.at(days=5)
        with driver.app.writing() as connection:
            control.resume(connection, "*", now=driver.clock.now())
        driver.at(days=5, hours=1)

        assert went(driver) == [("one", START + timedelta(days=5))]


def test_a_run_ends_when_its_customer_is_no_longer_in_the_stage_that_started_it(database_url):
    steps: list[Any] = [{"id": "day", "wait": "5 days"}, {"send": "email/receipt"}]
    one = flow("one", steps, starts={"stage": "purchase"}, stops=[{"event": "order.refunded"}, {"stage": "left"}])
    with small(database_url, one) as driver:
        driver.post("order.paid", {"order": {"id": "o1"}}, stage="purchase")
        driver.at(days=1)
        driver.post("ping.one", {"n": 1}, stage="purchase")
        assert driver.rows(sa.select(enrollments.c.state)) == [("waiting",), ("waiting",)]
        driver.at(days=2)
        driver.post("ping.two", {"n": 1}, stage="loyalty")

        assert (
            driver.rows(sa.select(enrollments.c.state, enrollments.c.ended_at))
            == [("stopped", START + timedelta(days=2))] * 2
        )
        assert "Stopped because the customer is no longer in stage purchase, which started it." in story(driver, "one")
