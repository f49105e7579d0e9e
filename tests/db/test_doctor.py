"""The doctor finds nothing where all is well, and each broken invariant by name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk, control, doctor, privacy
from db.broker import make_broker
from db.doctor import Finding
from db.tables import (
    claims,
    documents,
    enrollments,
    identities,
    inbox,
    privacy_requests,
    profiles,
    releases,
    runs,
    touchpoints,
)
from tests.driver import START, Driver, driving

Breakage = Callable[[Connection, Driver], Any]
HOUR = timedelta(hours=1)


@pytest.fixture
def driver(database_url: str) -> Iterator[Driver]:
    """An installation with runs that wait for a time, wait for an event, and are held by a queued message."""
    with driving(database_url) as driver:
        driver.post("order.paid", {"order": {"id": "o1", "total": 9}}, stage="purchase", consent="granted")
        driver.at(days=1, hours=13)  # 22:00 in Paris
        driver.post("order.paid", {"order": {"id": "o2", "total": 9}}, stage="purchase", drained=False)
        driver.actors.ingest()
        driver.actors.advance()
        yield driver


def _examined(driver: Driver, later: timedelta = timedelta()) -> list[Finding]:
    with driver.app.reading() as connection:
        return doctor.examine(connection, driver.clock.now() + later, driver.app.settings, catalog=driver.app.catalog)


@contextmanager
def _unguarded(driver: Driver, *, kept: bool = True) -> Iterator[Connection]:
    """A transaction past CHECKs and foreign keys, as a repair by hand or a damaged dump might have been."""
    with driver.app.database.engine.connect() as connection:
        if driver.app.database.is_sqlite:
            connection.exec_driver_sql("ROLLBACK")  # these pragmas do nothing inside a transaction
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")  # no foreign keys
            for table, name in connection.exec_driver_sql(CHECKS).all():
                connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        yield connection
        if kept:
            connection.commit()
        else:
            connection.rollback()
        connection.invalidate()


CHECKS = (
    "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c' "
    "AND conrelid::regclass::text IN ('enrollments', 'touchpoints')"
)


def _waiting(connection: Connection) -> int:
    query = sa.select(enrollments.c.id).where(enrollments.c.state == "waiting").order_by(enrollments.c.id).limit(1)
    return int(connection.execute(query).scalar_one())


def _set(table: sa.Table, where: Callable[[Connection], Any], **values: Any) -> Breakage:
    return lambda connection, driver: connection.execute(table.update().where(where(connection)).values(**values))


def _one_waiting(connection: Connection) -> Any:
    return enrollments.c.id == _waiting(connection)


def _held(connection: Connection) -> Any:
    return enrollments.c.state == "sending"


def _queued(connection: Connection) -> Any:
    return touchpoints.c.state == "queued"


def _sent(connection: Connection) -> Any:
    return touchpoints.c.state == "sent"


def _lose_the_trigger_of_a_begun_wait(connection: Connection, driver: Driver) -> None:
    later = driver.clock.now() + HOUR
    connection.execute(enrollments.update().where(_one_waiting(connection)).values(until=None, due_at=later))


def _look_after_the_deadline(connection: Connection, driver: Driver) -> None:
    now = driver.clock.now()
    moved = enrollments.update().where(_one_waiting(connection))
    connection.execute(moved.values(until=now + HOUR, due_at=now + 2 * HOUR))


BREAKAGES: dict[str, Breakage] = {
    "waiting without a time": _set(enrollments, _one_waiting, due_at=None),
    "time without waiting": _set(enrollments, _held, due_at=START + timedelta(days=30)),
    "awaited past its deadline": _look_after_the_deadline,
    "waiting for nothing": _lose_the_trigger_of_a_begun_wait,
    "held by nothing": _set(touchpoints, _queued, state="skipped"),
    "message of an ended run": _set(enrollments, _held, state="stopped", ended_at=START),
    "message of a run that moves": _set(enrollments, _held, state="waiting", due_at=START + timedelta(days=30)),
    "end without a time": _set(enrollments, _one_waiting, state="finished", due_at=None),
    "queued without a time": _set(touchpoints, _queued, due_at=None),
    "sending without a lease": _set(touchpoints, _queued, state="sending"),
    "promise without a run": lambda connection, driver: connection.execute(
        enrollments.delete().where(_one_waiting(connection))
    ),
    "run without a promise": lambda connection, driver: connection.execute(
        runs.delete().where(runs.c.enrollment_id == _waiting(connection))
    ),
    "step that is not there": _set(enrollments, _one_waiting, step="renamed-since"),
    "waiting nowhere": _set(enrollments, _one_waiting, step="thank-you"),
    "customer without a profile": lambda connection, driver: connection.execute(profiles.delete()),
    "claims left over": lambda connection, driver: bulk.insert(
        connection, claims, ("id", "kind", "members", "claimed_at"), [("c", "inbox", [1], START)]
    ),
    "leases run out": _set(touchpoints, _sent, state="sending", leased_until=START),
    "held by nobody": _set(touchpoints, _queued, state="held", due_at=START, reason="marketing is halted"),
}


def test_an_installation_in_the_middle_of_its_work_has_a_clean_bill_of_health(driver: Driver) -> None:
    assert [row[0] for row in driver.rows(sa.select(enrollments.c.state).distinct().order_by("state"))] == [
        "sending",
        "stopped",
        "waiting",
    ]
    assert _examined(driver) == []
    driver.at(days=80)
    assert _examined(driver) == []


def test_each_broken_invariant_is_found_by_name(driver: Driver) -> None:
    found: dict[str, Finding | None] = {}
    for name, break_it in BREAKAGES.items():
        with _unguarded(driver, kept=False) as connection:
            break_it(connection, driver)
            findings = doctor.examine(connection, driver.clock.now(), driver.app.settings, catalog=driver.app.catalog)
        found[name] = next((one for one in findings if one.check == name and one.severity == "error"), None)
        assert doctor.exit_status(findings) == 1, name

    assert [name for name, finding in found.items() if finding is None] == []
    assert all(finding and finding.count >= 1 and finding.examples for finding in found.values())
    assert _examined(driver) == []


def test_work_that_nobody_does_is_overdue_after_ten_minutes(driver: Driver) -> None:
    with driver.app.writing() as connection:
        connection.execute(enrollments.update().where(_one_waiting(connection)).values(due_at=driver.clock.now()))
    driver.post("order.delivered", {"order": {"id": "o1"}}, drained=False)

    assert _examined(driver, timedelta(minutes=9)) == []
    late = [finding.check for finding in _examined(driver, timedelta(minutes=11))]
    assert late == ["inbox overdue", "runs overdue", "messages overdue"]


def test_what_was_set_aside_is_a_warning_and_no_failure(driver: Driver) -> None:
    driver.receive("api", "broken", b"{}")
    driver.receive("api", "early", b"{}")
    with driver.app.writing() as connection:
        awaiting = {"state": "awaiting", "awaits": "api:order/o9", "reason": None}
        connection.execute(inbox.update().where(inbox.c.key == "early").values(**awaiting))
        parked = enrollments.update().where(_one_waiting(connection))
        connection.execute(parked.values(state="parked", due_at=None, reason="it failed"))
    driver.at(days=9)

    found = _examined(driver)

    assert {finding.check for finding in found} == {"parked webhooks", "parked runs", "orders that did not come"}
    assert {finding.severity for finding in found} == {"warning"}
    assert doctor.exit_status(found) == 0


def test_a_parked_run_that_is_let_go_after_its_deadline_is_no_offender(driver: Driver) -> None:
    with driver.app.writing() as connection:
        run = _waiting(connection)
        parked = enrollments.update().where(enrollments.c.id == run)
        connection.execute(parked.values(state="parked", due_at=None, until=START))
        control.retry_runs(connection, [run], driver.clock.now())

    assert _examined(driver) == []


def test_many_offenders_are_counted_and_a_few_are_named(driver: Driver) -> None:
    for number in range(12):
        driver.receive("api", f"broken-{number}", b"{}")

    (finding,) = _examined(driver)

    assert finding.count == 12
    assert len(finding.examples) == 5
    assert str(finding).startswith("warning: 12 webhooks could not be read (")
    assert ", ...)" in str(finding)


def test_personal_data_that_came_after_forgetting_is_shown(driver: Driver) -> None:
    customer = driver.customer()
    with driver.app.writing() as connection:
        privacy.forget(connection, customer, driver.clock.now(), driver.secret)
    assert _examined(driver) == []

    with driver.app.writing() as connection:
        bulk.insert(connection, identities, ("source", "external_id", "customer_id"), [("api", "again", customer)])

    (finding,) = _examined(driver)
    assert finding.check == "not quite forgotten"
    assert finding.examples == (customer,)


@pytest.mark.parametrize(
    ("hours", "check", "severity"), [(1, "requests to hand over", "warning"), (-1, "requests that are late", "error")]
)
def test_what_customers_asked_for_is_told_until_it_is_late(
    driver: Driver, hours: int, check: str, severity: str
) -> None:
    now = driver.clock.now()
    columns = ("source", "kind", "inbox_id", "asked_at", "due_at", "customer_ids", "state")
    row = ("shopify", "export", 1, now, now + hours * HOUR, [driver.customer()], "found")
    with driver.app.writing() as connection:
        bulk.insert(connection, privacy_requests, columns, [row])

    (finding,) = _examined(driver)

    assert (finding.check, finding.severity) == (check, severity)


def test_a_promise_whose_constraint_is_gone_is_found_with_its_doubles(driver: Driver) -> None:
    with _unguarded(driver) as connection:
        connection.exec_driver_sql("CREATE TABLE copied AS SELECT * FROM answers")
        connection.exec_driver_sql("DROP TABLE answers")
        connection.exec_driver_sql("ALTER TABLE copied RENAME TO answers")
        connection.exec_driver_sql("INSERT INTO answers VALUES (1, 'arrival', 2), (1, 'arrival', 2)")

    found = [finding for finding in _examined(driver) if finding.check == "promise not kept"]

    assert [(finding.count, finding.examples) for finding in found] == [(1, ("1 2",)), (1, ("1 arrival",))]
    assert "answers by (enrollment_id, step)" in found[1].what


def test_every_promise_of_the_schema_is_watched() -> None:
    promised = {name: [set(columns) for columns in keys] for name, keys in doctor.PROMISED.items()}

    assert {"source", "key"} in promised["events"]
    assert {"enrollment_id", "step"} in promised["touchpoints"]
    assert {"flow", "customer_id", "key", "n"} in promised["runs"]
    assert {"source", "key", "digest"} in promised["inbox"]


def test_before_anything_was_applied_there_is_nothing_to_find(driver: Driver) -> None:
    with _unguarded(driver) as connection:
        for table in (touchpoints, runs, enrollments, releases, documents):
            connection.execute(table.delete())

    assert _examined(driver) == []


def test_a_broker_that_listens_has_nothing_to_tell_and_one_that_is_gone_does(redis_url: str) -> None:
    listening, gone = make_broker(redis_url), make_broker("redis://127.0.0.1:1/0")

    assert doctor.examine_broker(make_broker("")) == []
    assert doctor.examine_broker(listening) == []
    (finding,) = doctor.examine_broker(gone)
    assert finding.severity == "error"
    assert "Redis cannot be reached" in str(finding)


def test_hints_that_nobody_takes_are_told(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "HINTS_MAX", 1)
    broker = make_broker(redis_url)
    broker.client.rpush("afterglow:deliver", "1", "2")

    (finding,) = doctor.examine_broker(broker)

    assert str(finding).startswith("error: 2 hints to deliver lie in Redis")
