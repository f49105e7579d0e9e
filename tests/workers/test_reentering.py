"""A key runs again when its flow says so and its last run is over: once at a time, whoever hears the events."""

import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from db import events
from db.app import App
from db.events import NewRun
from db.tables import enrollments, runs
from db.why import story
from tests.driver import START, Driver
from tests.small_shop import flow, small
from workers.batches import run_batch
from workers.ingest import Ingest


def monthly(reenter: str, days: int = 3) -> str:
    steps = [{"id": "w", "wait": f"{days} days"}, {"send": "email/receipt"}]
    return flow("monthly", steps, once_per="customer.id", reenter=reenter)


def begun(driver: Driver) -> list[tuple[int, float]]:
    """Number and day of every run."""
    query = sa.select(runs.c.n, enrollments.c.entered_at).join(enrollments, enrollments.c.id == runs.c.enrollment_id)
    return [(n, (at - START).total_seconds() / 86_400) for n, at in driver.rows(query.order_by(runs.c.n))]


@pytest.mark.parametrize(
    ("reenter", "days"),
    [("never", [0]), ("always", [0, 4, 12, 30, 36]), ("after 30 days", [0, 30]), ("after 12 days", [0, 12, 30])],
)
def test_a_key_runs_again_once_its_run_is_over_and_the_time_has_passed(database_url, reenter, days):
    with small(database_url, monthly(reenter)) as driver:
        for day in (0, 2, 4, 12, 30, 32, 36):
            driver.at(days=day)
            driver.post("order.paid", {"order": {"id": f"o{day}"}})

        assert begun(driver) == [(n + 1, day) for n, day in enumerate(days)]


def test_two_triggers_in_one_batch_are_one_run_and_why_says_when_there_may_be_another(database_url):
    with small(database_url, monthly("after 30 days")) as driver:
        driver.post("order.paid", {"order": {"id": "o1"}}, drained=False)
        driver.post("order.paid", {"order": {"id": "o2"}})
        driver.at(days=31)
        driver.post("order.paid", {"order": {"id": "o3"}}, drained=False)
        driver.post("order.paid", {"order": {"id": "o4"}})

        assert begun(driver) == [(1, 0), (2, 31)]
        with driver.app.reading() as connection:
            told = [str(line) for line in story(connection, driver.app.catalog, driver.secret, driver.customer())]
        [first, second] = [line for line in told if "Did not start" in line]
        assert "It may run again 30 days after that began, once that run is over." in first
        assert "ran for" in second


def test_whoever_hears_the_events_a_key_runs_once_at_a_time(postgres_url):
    with small(postgres_url, monthly("always", days=0)) as driver, small(postgres_url, monthly("always")) as other:
        for n in range(60):
            who = {"id": f"c{n % 3}", "email": f"c{n % 3}@example.com"}
            driver.post("order.paid", {"order": {"id": f"o{n}"}}, customer=who, key=f"k{n}", drained=False)

        def work(app: App) -> None:
            for _ in range(100):
                if not run_batch(app, Ingest(app, batch=4)):
                    return

        threads = [threading.Thread(target=work, args=(each.app,)) for each in (driver, other) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        found = driver.rows(sa.select(runs.c.customer_id, runs.c.n))
        assert len(found) == 3, "no run was over meanwhile"


def test_two_processes_that_would_begin_the_same_number_begin_it_once(database_url):
    with small(database_url, monthly("always")) as driver:
        driver.post("order.paid", {"order": {"id": "o1"}})
        driver.at(days=4)
        second = NewRun(
            id=91, flow="monthly", flow_id=1, customer_id=1, key="1", event_id=1, entered_at=START, due_at=START, n=2
        )
        for run, wins in ((second, [second]), (replace(second, id=92), [])):
            with driver.app.writing() as connection:
                assert events.claim_keys(connection, [run]) == wins
