"""Events, and what hangs on them: stage entries, consent, and the runs they start or wake."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.decide import Event, LastRun
from db import bulk
from db.tables import (
    EnrollmentState,
    TouchpointState,
    consents,
    enrollments,
    events,
    inbox,
    runs,
    stage_entries,
    touchpoints,
)

#: Flow, customer, and the value of `once_per`.
Key = tuple[str, int, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRun:
    """A run to be started, if its key has not run before."""

    id: int
    flow: str
    flow_id: int
    customer_id: int
    key: str
    event_id: int
    entered_at: datetime
    due_at: datetime
    #: The how manieth run of its key it is.
    n: int = 1
    #: 0: in the fast lane. Runs that begin by the thousand go in the slow one.
    lane: int = 0


def digests(connection: Connection, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, bytes]]:
    """Id and digest of the events recorded under these (source, key)."""
    wanted = set(keys)
    rows = connection.execute(
        sa.select(events.c.id, events.c.source, events.c.key, events.c.digest).where(
            bulk.among(events.c.key, sorted({key for _, key in wanted}))
        )
    )
    return {(row.source, row.key): (row.id, row.digest) for row in rows if (row.source, row.key) in wanted}


def happened(
    connection: Connection, customer_ids: Iterable[int], names: Iterable[str], source: str
) -> list[tuple[int, str, dict[str, Any]]]:
    """Customer, name and payload of what a source said happened to these customers, under any of these names."""
    rows = connection.execute(
        sa.select(events.c.customer_id, events.c.name, events.c.payload).where(
            bulk.among(events.c.customer_id, sorted(set(customer_ids))),
            bulk.among(events.c.name, sorted(set(names))),
            events.c.source == source,
        )
    )
    return [(row.customer_id, row.name, row.payload) for row in rows]


def record(connection: Connection, rows: Sequence[bulk.Row]) -> set[int]:
    """Insert events given as (id, customer_id, source, key, name, digest, occurred_at, recorded_at, payload).

    The ids of those that are new; the others were recorded by somebody else meanwhile.
    """
    columns = (
        "id",
        "customer_id",
        "source",
        "key",
        "name",
        "digest",
        "occurred_at",
        "recorded_at",
        "payload",
    )
    return {row[0] for row in bulk.insert(connection, events, columns, rows, on_conflict="DO NOTHING", returning="id")}


def enter_stages(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """Insert stage entries given as (event_id, stage, customer_id, entered_at)."""
    bulk.insert(
        connection,
        stage_entries,
        ("event_id", "stage", "customer_id", "entered_at"),
        rows,
        on_conflict="DO NOTHING",
    )


def hear_consents(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """Record words on consent given as (customer_id, channel, topic, state, basis, evidence, occurred_at).

    The word with the latest `occurred_at` stands, in whatever order they come; but what the customer said themselves,
    and any withdrawal, stands before a permission on another basis, however new.
    """
    latest: dict[tuple[Any, ...], bulk.Row] = {}
    for row in sorted(rows, key=lambda row: (row[4] == "consent" or row[3] == "withdrawn", row[6])):
        latest[row[:3]] = row
    bulk.insert(
        connection,
        consents,
        ("customer_id", "channel", "topic", "state", "basis", "evidence", "occurred_at"),
        list(latest.values()),
        on_conflict="(customer_id, channel, topic) DO UPDATE SET state = excluded.state, basis = excluded.basis, "
        "evidence = excluded.evidence, occurred_at = excluded.occurred_at "
        f"WHERE {_own('excluded')} AND NOT {_own('consents')} "
        f"OR {_own('excluded')} = {_own('consents')} AND excluded.occurred_at >= consents.occurred_at",
    )


def _own(row: str) -> str:
    """SQL: whether a row of consents is the customer's own word, or a withdrawal."""
    return f"({row}.basis = 'consent' OR {row}.state = 'withdrawn')"


def claim_keys(connection: Connection, wanted: Sequence[NewRun]) -> list[NewRun]:
    """The runs whose key has not run before, under their number; from now on it has."""
    fresh = {
        row[0]
        for row in bulk.insert(
            connection,
            runs,
            ("flow", "customer_id", "key", "n", "enrollment_id"),
            [(run.flow, run.customer_id, run.key, run.n, run.id) for run in wanted],
            on_conflict="DO NOTHING",
            returning="enrollment_id",
        )
    }
    return [run for run in wanted if run.id in fresh]


def last_runs(connection: Connection, flows: Iterable[str], customer_ids: Iterable[int]) -> dict[Key, LastRun]:
    """What the runs of each key of these flows and customers come to, by (flow, customer, key).

    After a merge the highest number need not be that of the newest run, so all are asked.
    """
    r, e = runs.c, enrollments.c
    rows = connection.execute(
        sa.select(r.flow, r.customer_id, r.key, r.n, e.entered_at, e.state)
        .join(enrollments, e.id == r.enrollment_id)
        .where(bulk.among(r.flow, sorted(set(flows))), bulk.among(r.customer_id, sorted(set(customer_ids))))
    )
    found: dict[Key, LastRun] = {}
    for row in rows:
        key, is_over = (row.flow, row.customer_id, row.key), row.state in ("finished", "stopped")
        other = found.get(key)
        found[key] = LastRun(
            n=max(row.n, other.n if other else 0),
            entered_at=max(row.entered_at, other.entered_at) if other else row.entered_at,
            is_over=is_over and (other is None or other.is_over),
        )
    return found


def insert_enrollments(connection: Connection, wanted: Sequence[NewRun]) -> None:
    """Insert enrollments that stand before their first step."""
    columns = ("id", "customer_id", "flow_id", "event_id", "entered_at", "due_at", "state", "lane", "tries", "step")
    rows = [
        (run.id, run.customer_id, run.flow_id, run.event_id, run.entered_at, run.due_at, "waiting", run.lane, 0, FIRST)
        for run in wanted
    ]
    bulk.insert(connection, enrollments, columns, rows)


#: Where an enrollment stands before its flow was ever looked at; no step can have this name.
FIRST = "(first)"


#: Runs that stand at a wait. Those of a paused flow are woken too: they stand still, but when the flow runs again they
#: have heard what happened meanwhile.
_WAKEABLE = (EnrollmentState.WAITING, EnrollmentState.PAUSED)


def open_runs(connection: Connection, customer_ids: Iterable[int]) -> Sequence[Any]:
    """Id, customer, flow version, trigger, entry and state of the open runs of these customers."""
    e = enrollments.c
    return connection.execute(
        sa.select(e.id, e.customer_id, e.flow_id, e.event_id, e.entered_at, e.state).where(
            bulk.among(e.customer_id, list(set(customer_ids))),
            e.state.in_([state.value for state in (*_WAKEABLE, EnrollmentState.SENDING)]),
        )
    ).all()


def wake(connection: Connection, waiting: Mapping[int, datetime], sending: Mapping[int, datetime]) -> None:
    """Look at these runs at these instants: waiting ones themselves, held ones by their queued touchpoint."""
    bulk.update(
        connection,
        enrollments,
        ("id", "due_at", "lane"),
        [(run, at, 0) for run, at in waiting.items()],
        where="t.state IN ('waiting', 'paused') AND t.due_at > v.due_at"
        if connection.dialect.name == "postgresql"
        else "t.state IN ('waiting', 'paused')",
    )
    bulk.update(
        connection,
        touchpoints,
        ("enrollment_id", "due_at"),
        [(run, at) for run, at in sending.items()],
        where=f"t.state = '{TouchpointState.QUEUED.value}'",
    )


def free_awaiting(connection: Connection, now_known: Sequence[str]) -> int:
    """Let inbox rows be mapped again that waited for these identities. How many."""
    any_waits = sa.select(sa.exists().where(inbox.c.state == "awaiting"))
    if not now_known or not connection.execute(any_waits).scalar():
        return 0
    waiting = (inbox.c.state == "awaiting") & bulk.among(inbox.c.awaits, now_known)
    return connection.execute(inbox.update().where(waiting).values(state="received", awaits=None)).rowcount


def since(connection: Connection, starts: Mapping[int, datetime], names: Iterable[str]) -> dict[int, list[Event]]:
    """Each customer's events with these names at or after the given instant, oldest first."""
    names = sorted(set(names))
    if not starts or not names:
        return {}
    rows = connection.execute(
        sa.select(events.c.id, events.c.customer_id, events.c.name, events.c.occurred_at, events.c.payload)
        .where(
            bulk.among(events.c.customer_id, list(starts)),
            events.c.occurred_at >= min(starts.values()),
            bulk.among(events.c.name, names),
        )
        .order_by(events.c.occurred_at, events.c.id)
    )
    found: dict[int, list[Event]] = {customer: [] for customer in starts}
    for row in rows:
        if row.occurred_at >= starts[row.customer_id]:
            found[row.customer_id].append(
                Event(id=row.id, name=row.name, occurred_at=row.occurred_at, payload=row.payload)
            )
    return found


def of_orders(
    connection: Connection, customer_ids: Iterable[int], names: Iterable[str]
) -> dict[tuple[str, str, str], Event]:
    """These customers' events with these names that carry an order, by (source, name, the order's id)."""
    theirs = bulk.among(events.c.customer_id, sorted(set(customer_ids)))
    rows = connection.execute(
        sa.select(events.c.id, events.c.source, events.c.name, events.c.occurred_at, events.c.payload)
        .where(theirs, bulk.among(events.c.name, sorted(set(names))))
        .order_by(events.c.id.desc())  # the first of several stays
    )
    return {
        (row.source, row.name, str(order["id"])): Event(
            id=row.id, name=row.name, occurred_at=row.occurred_at, payload=row.payload
        )
        for row in rows
        if isinstance(order := row.payload.get("order"), dict) and "id" in order
    }


def payloads(connection: Connection, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Payloads of events by id."""
    rows = connection.execute(sa.select(events.c.id, events.c.payload).where(bulk.among(events.c.id, list(set(ids)))))
    return {row.id: row.payload for row in rows}


def named(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[str, dict[str, Any]]]:
    """Names and payloads of events by id."""
    e = events.c
    rows = connection.execute(sa.select(e.id, e.name, e.payload).where(bulk.among(e.id, list(set(ids)))))
    return {row.id: (row.name, row.payload) for row in rows}
