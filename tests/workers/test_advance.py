"""Runs take their steps in batches: one that cannot be decided holds up no other, and a version once begun is kept."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from db import claims, control
from db.tables import answers, customers, decisions, enrollments
from tests.driver import Driver
from tests.small_shop import flow, put_into_force, small
from workers import advance

WAITS = flow("waits", [{"id": "w", "wait": "1 hour"}, {"send": "email/receipt"}])


def started(driver: Driver, *numbers: int) -> None:
    for n in numbers:
        who = {"id": f"c{n}", "email": f"c{n}@example.com", "attributes": {"points": n}}
        driver.post("order.paid", {"order": {"id": f"o{n}"}}, customer=who, drained=False)


def states(driver: Driver) -> Counter[str]:
    return Counter(row[0] for row in driver.rows(sa.select(enrollments.c.state)))


def poison(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[bool]:
    """Let deciding raise for the customer with thirteen points, until the list that is given back is emptied."""
    honest, broken = advance.decide, [True]

    def decide(flow: Any, run: Any, facts: Any, now: Any) -> Any:
        if broken and facts.customer["points"] == 13:
            raise error
        return honest(flow, run, facts, now)

    monkeypatch.setattr(advance, "decide", decide)
    return broken


def test_one_run_that_cannot_be_decided_is_parked_alone_and_goes_on_when_it_is_mended(database_url, monkeypatch):
    broken = poison(monkeypatch, ZeroDivisionError("the bug"))
    with small(database_url, WAITS) as driver:
        started(driver, *range(20))
        driver.drain()
        driver.at(hours=2)

        assert states(driver) == {"finished": 19, "parked": 1}
        parked = sa.select(enrollments.c.id, enrollments.c.reason).where(enrollments.c.state == "parked")
        [(run, reason)] = driver.rows(parked)
        assert reason == "ZeroDivisionError: the bug"
        assert len(driver.touchpoints()) == 19

        broken.clear()
        with driver.app.writing() as connection:
            assert control.retry_runs(connection, [run], driver.clock.now()) == 1
        driver.at(hours=4)
        assert states(driver) == {"finished": 20}
        assert len(driver.touchpoints()) == 20


class Death(BaseException):
    """Stands for a kill: nothing catches it, so nothing is tidied up."""


def test_one_run_that_kills_its_process_is_parked_at_the_third_death_and_no_step_is_lost(database_url, monkeypatch):
    poison(monkeypatch, Death())
    with small(database_url, WAITS) as driver:
        started(driver, *range(20))
        deaths = 0
        for _ in range(30):
            try:
                driver.actors.tend()
                driver.drain()
                break
            except Death:
                deaths += 1
                driver.clock.jump(driver.clock.now() + timedelta(seconds=5))
        driver.at(hours=2)

        assert deaths == claims.TRIES_MAX
        assert states(driver) == {"finished": 19, "parked": 1}
        assert Counter(driver.touchpoints()) == {("waits", "receipt", "sent"): 19}
        assert driver.rows(sa.select(sa.func.max(enrollments.c.tries)).where(enrollments.c.state == "finished")) == [
            (0,)
        ]


def test_a_run_finishes_in_the_version_in_which_it_began(database_url):
    with small(database_url, WAITS) as driver:
        started(driver, 1)
        driver.drain()
        put_into_force(driver, flow("waits", [{"id": "w2", "wait": "1 hour"}, {"send": "email/note"}]))
        started(driver, 2)
        driver.drain()
        driver.at(hours=2)

        assert [step for _, step, _ in driver.touchpoints()] == ["receipt", "note"]


def test_a_run_whose_flow_was_taken_away_still_finishes(database_url):
    with small(database_url, WAITS) as driver:
        started(driver, 1)
        driver.drain()
        put_into_force(driver)
        driver.at(hours=2)

        assert driver.touchpoints() == [("waits", "receipt", "sent")]


def test_an_event_that_wakes_a_run_early_leaves_its_deadline_and_answers_one_wait(database_url):
    steps = [
        {"id": "one", "wait_for": "ping.one", "same": "order.id", "for_up_to": "2 days"},
        {"id": "two", "wait_for": "ping.one", "for_up_to": "2 days", "timed_out": [{"send": "email/receipt"}]},
    ]
    with small(database_url, flow("asks", steps)) as driver:
        driver.post("order.paid", {"order": {"id": "o1"}})
        until = driver.rows(sa.select(enrollments.c.until))
        driver.at(days=1)
        driver.post("ping.one", {"order": {"id": "another"}})
        assert driver.rows(sa.select(enrollments.c.until)) == until
        assert driver.rows(sa.select(enrollments.c.step, enrollments.c.due_at)) == [("one", until[0][0])]

        driver.post("ping.one", {"order": {"id": "o1"}})
        assert driver.rows(sa.select(answers.c.step).order_by(answers.c.event_id)) == [("two",), ("one",)]


def test_what_a_run_did_is_written_in_order_and_without_personal_data(database_url):
    with small(database_url, WAITS) as driver:
        started(driver, 1)
        driver.drain()
        driver.at(hours=2)

        noted = driver.rows(sa.select(decisions.c.verb, decisions.c.step).order_by(decisions.c.id))
        assert noted == [("waits", "w"), ("queued", "receipt"), ("sent", "receipt"), ("finished", None)]
        assert driver.rows(sa.select(customers.c.id)) == driver.rows(sa.select(decisions.c.customer_id).distinct())
