"""What a flow is for is counted once for each run, and who is held out gets service mail and no marketing."""

import json
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from afterglow.dividing import share
from db import control, occupancy
from db.tables import decisions, enrollments
from db.why import story
from tests.driver import SECRET, START, Driver
from tests.small_shop import flow, put_into_force, small
from workers import advance
from workers.cli import main

STEPS = [{"send": "email/receipt"}, {"id": "w", "wait": "1 day"}, {"send": "email/note"}]
GOAL = {"event": "ping.one", "within": "10 days"}


def noted(driver: Driver, *wanted: str) -> list[tuple[int, str]]:
    """(run, verb) of the decisions of these verbs, in order."""
    d = decisions.c
    return driver.rows(sa.select(d.enrollment_id, d.verb).where(d.verb.in_(wanted)).order_by(d.id))


def customers(driver: Driver, count: int) -> None:
    for n in range(count):
        who = {"id": f"c{n}", "email": f"c{n}@example.com", "timezone": "Europe/Paris"}
        driver.post("order.paid", {"order": {"id": f"o{n}"}}, customer=who, consent="granted", drained=False)


@pytest.mark.parametrize(
    ("days", "converted"),
    [([9], 1), ([1, 2, 9], 1), ([11], 0), ([], 0)],
    ids=["after the run is over", "only once", "too late", "never"],
)
def test_a_goal_is_noted_once_within_its_time_and_the_run_goes_on(database_url, days, converted):
    with small(database_url, flow("care", STEPS, goal=GOAL)) as driver:
        driver.post("order.paid", {"order": {"id": "o1"}}, consent="granted")
        for day in days:
            driver.at(days=day, hours=1)
            driver.post("ping.one")
        driver.at(days=12)

        assert len(noted(driver, "converted")) == converted
        assert driver.touchpoints() == [("care", "receipt", "sent"), ("care", "note", "sent")]


def test_a_goal_counts_in_the_batch_of_its_trigger_and_only_where_it_is_the_same(database_url):
    again = flow("again", STEPS, goal={"event": "order.refunded", "within": "9 days", "same": "order.id"})
    with small(database_url, again) as driver:
        for n in (1, 2, 3):
            driver.post("order.paid", {"order": {"id": f"o{n}"}}, drained=False)
        driver.post("order.refunded", {"order": {"id": "o2"}}, occurred_at=START + timedelta(seconds=1), drained=False)
        driver.clock.jump(START + timedelta(seconds=2))
        driver.drain()

        assert [run for run, _ in noted(driver, "converted")] == [
            row[0] for row in driver.rows(sa.select(enrollments.c.id).order_by(enrollments.c.id).offset(1).limit(1))
        ]


def test_what_happened_before_the_trigger_is_no_conversion(database_url):
    with small(database_url, flow("care", STEPS, goal=GOAL)) as driver:
        driver.post("order.paid", {"order": {"id": "o1"}})
        driver.post("ping.one", occurred_at=START - timedelta(hours=1))

        assert noted(driver, "converted") == []


def test_who_is_held_out_gets_service_mail_and_no_marketing_and_that_is_noted_first(database_url):
    with small(database_url, flow("care", STEPS, goal=GOAL, holdout="50%")) as driver:
        customers(driver, 12)
        driver.at(days=2)
        for n in range(12):
            driver.post("ping.one", customer={"id": f"c{n}"}, drained=False)
        driver.at(days=3)

        e = enrollments.c
        expected = {
            run: share("holdout", "flow care", customer) < 0.5
            for run, customer in driver.rows(sa.select(e.id, e.customer_id))
        }
        assert {run: verb == "held out" for run, verb in noted(driver, "held out", "taken in")} == expected
        assert 0 < sum(expected.values()) < 12
        assert Counter((step, state) for _, step, state in driver.touchpoints()) == {
            ("receipt", "sent"): 12,
            ("note", "skipped"): sum(expected.values()),
            ("note", "sent"): 12 - sum(expected.values()),
        }
        firsts: dict[int, str] = {}
        for run, verb in driver.rows(sa.select(decisions.c.enrollment_id, decisions.c.verb).order_by(decisions.c.id)):
            firsts.setdefault(run, verb)
        assert set(firsts.values()) == {"held out", "taken in"}
        with driver.app.reading() as connection:
            measures = occupancy.measures(connection)
            held = next(n for n in range(12) if expected[run_of(driver, n)])
            told = story(connection, driver.app.catalog, driver.secret, driver.customer(f"c{held}"))
        assert measures.counts == {
            ("care", "held out"): sum(expected.values()),
            ("care", "taken in"): 12 - sum(expected.values()),
            ("care", "converted"): 12 - sum(expected.values()),
            ("care", "converted though held out"): sum(expected.values()),
        }
        sentences = [line.sentence for line in told]
        assert any(one.startswith("Is held out, as always for this customer: 50% of customers") for one in sentences)
        assert "Mail email/note was not sent: the customer is held out." in sentences
        assert any(one.startswith("Reached its goal, though it was held out: ping.one came") for one in sentences)


def run_of(driver: Driver, n: int) -> int:
    e = enrollments.c
    return int(driver.rows(sa.select(e.id).where(e.customer_id == driver.customer(f"c{n}")))[0][0])


def test_the_shops_holdout_is_the_same_in_every_flow_and_holds_for_runs_that_begin_in_it(database_url):
    flows = [flow(name, [*STEPS[1:]]) for name in ("care", "more")]
    with small(database_url, *flows, shop={"holdout": "50%"}) as driver:
        customers(driver, 12)
        driver.drain()
        put_into_force(driver, *flows)  # without a holdout: what was drawn holds
        driver.at(days=2)

        by_customer: dict[int, set[str]] = {}
        e, d = enrollments.c, decisions.c
        query = sa.select(e.customer_id, d.verb).join(decisions, d.enrollment_id == e.id)
        for customer, verb in driver.rows(query.where(d.verb.in_(["held out", "taken in"]))):
            by_customer.setdefault(customer, set()).add(verb)
        assert all(len(verbs) == 1 for verbs in by_customer.values())
        held = sum(verbs == {"held out"} for verbs in by_customer.values())
        assert Counter(state for _, _, state in driver.touchpoints()) == {"skipped": 2 * held, "sent": 2 * (12 - held)}


def test_a_run_that_was_set_aside_is_still_held_out(database_url, monkeypatch: pytest.MonkeyPatch):
    honest = advance.decide
    with small(database_url, flow("care", STEPS, holdout="50%")) as driver:
        customers(driver, 4)
        driver.drain()

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(advance, "decide", broken)
        driver.at(days=2)
        monkeypatch.setattr(advance, "decide", honest)
        with driver.app.writing() as connection:
            ids = [row[0] for row in connection.execute(sa.select(enrollments.c.id))]
            assert control.retry_runs(connection, ids, driver.clock.now()) == 4
        driver.at(days=3)

        held = sum(verb == "held out" for _, verb in noted(driver, "held out", "taken in"))
        assert Counter(state for _, step, state in driver.touchpoints() if step == "note") == Counter(
            {"skipped": held, "sent": 4 - held}
        )
        assert 0 < held < 4


def test_the_command_and_the_page_count_conversions(sqlite_url, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    with small(sqlite_url, flow("care", STEPS, goal=GOAL)) as driver:
        customers(driver, 3)
        driver.drain()
        driver.post("ping.one", customer={"id": "c1"})

        [row] = json.loads(CliRunner().invoke(main, ["flows", "--json"]).output)
        assert (row["converted"], row["held_out"], row["held_out_converted"]) == (1, 0, 0)


def test_a_paused_run_is_still_held_out_when_its_flow_runs_again(database_url):
    care = flow("care", STEPS, holdout="50%")
    with small(database_url, care) as driver:
        customers(driver, 4)
        driver.drain()
        put_into_force(driver, flow("care", STEPS, holdout="50%", status="paused"))
        driver.at(days=2)
        put_into_force(driver, care)
        driver.at(days=3)

        held = sum(verb == "held out" for _, verb in noted(driver, "held out", "taken in"))
        assert Counter(state for _, step, state in driver.touchpoints() if step == "note") == Counter(
            {"skipped": held, "sent": 4 - held}
        )
