"""Runs of flows: claiming those that are due, reading what they know, writing where they stand."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk
from db.due import Due
from db.tables import answers, decisions, documents, enrollments, events, touchpoints

#: Claims of runs that are due.
DUE = Due(enrollments, "waiting")
#: Why a run ended of whose order nothing is left.
UNWOUND = "unwound"


def due(connection: Connection, ids: Sequence[int], now: datetime, *, with_others: bool = False) -> Sequence[Any]:
    """The runs that are still due, read after their customers were locked, earliest first.

    Args:
      with_others: with all others of these customers that are due.
    """
    e = enrollments.c
    wanted: sa.ColumnElement[bool] = bulk.among(e.id, ids)
    if with_others:
        whose = connection.execute(sa.select(e.customer_id).where(wanted)).scalars()
        wanted = bulk.among(e.customer_id, sorted(set(whose))) & (e.tries == 0)
    # Found first and looked at then: of many that wait the database believes that few do, and would rather read all of
    # those than look at each customer's.
    found = sa.select(enrollments).where(wanted).cte("found").prefix_with("MATERIALIZED", dialect="postgresql")
    r = found.c
    return connection.execute(
        sa.select(r.id, r.customer_id, r.flow_id, r.event_id, r.entered_at, r.due_at, r.until, r.step, r.lane, r.reason)
        .where(r.state == "waiting", r.due_at <= now)
        .order_by(r.due_at, r.id)
    ).all()


def open_of(connection: Connection, customer_ids: Iterable[int]) -> Sequence[Any]:
    """The runs of these customers that have not ended, each with source, name and payload of the event it began by."""
    e, v = enrollments.c, events.c
    return connection.execute(
        sa.select(e.id, e.customer_id, e.flow_id, e.state, e.step, e.lane, e.entered_at, v.source, v.name, v.payload)
        .join(events, v.id == e.event_id)
        .where(bulk.among(e.customer_id, sorted(set(customer_ids))), e.state.not_in(["finished", "stopped"]))
        .order_by(e.id)
    ).all()


def answered(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """For each run, the event that answered each of its waits."""
    found: dict[int, dict[str, int]] = {}
    rows = connection.execute(
        sa.select(answers.c.enrollment_id, answers.c.step, answers.c.event_id).where(
            bulk.among(answers.c.enrollment_id, ids)
        )
    )
    for row in rows:
        found.setdefault(row.enrollment_id, {})[row.step] = row.event_id
    return found


def answer(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """Record answers given as (enrollment_id, step, event_id)."""
    bulk.insert(connection, answers, ("enrollment_id", "step", "event_id"), rows)


def move(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """Write where runs stand, given as (id, state, step, due_at, until, lane, reason, ended_at)."""
    bulk.update(
        connection,
        enrollments,
        ("id", "state", "step", "due_at", "until", "lane", "reason", "ended_at", "tries"),
        [(*row, 0) for row in rows],
    )


def note(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """Record decisions given as (customer_id, enrollment_id, at, verb, step, detail)."""
    bulk.insert(connection, decisions, ("customer_id", "enrollment_id", "at", "verb", "step", "detail"), rows)


def noted(connection: Connection, verb: str, rows: Iterable[Any]) -> set[int]:
    """The runs among these (with id and customer_id) that have a decision of this verb."""
    of = {row.id: row.customer_id for row in rows}
    if not of:
        return set()
    d = decisions.c
    found = connection.execute(
        sa.select(d.enrollment_id).where(bulk.among(d.customer_id, sorted(set(of.values()))), d.verb == verb)
    )
    return of.keys() & {row.enrollment_id for row in found}


def inside(connection: Connection, versions: Collection[int], after: int, limit: int) -> Sequence[Any]:
    """The runs of these versions of flows that are not over, in the order of their numbers, from behind one on."""
    e = enrollments.c
    return connection.execute(
        sa.select(
            e.id, e.customer_id, e.flow_id, e.event_id, e.entered_at, e.due_at, e.until, e.step, e.state, e.reason
        )
        .where(e.id > after, e.state.not_in(["finished", "stopped"]), bulk.among(e.flow_id, sorted(versions)))
        .order_by(e.id)
        .limit(limit)
    ).all()


def reached(connection: Connection, rows: Iterable[Any]) -> dict[int, datetime]:
    """When the runs among these (with id and customer_id) that wait at a step reached it."""
    of = {row.id: row.customer_id for row in rows}
    d = decisions.c
    found = connection.execute(
        sa.select(d.enrollment_id, d.at, d.detail)
        .where(bulk.among(d.customer_id, sorted(set(of.values()))), d.verb.in_(["waits", "waits for", "went over"]))
        .order_by(d.id)
    )
    since: dict[int, datetime] = {}
    for run, at, detail in found:
        if run in of:  # the newest stands; one that moved tells when it had come there
            moved = (detail or {}).get("since")
            since[run] = datetime.fromisoformat(moved) if moved else at
    return since


def queued(connection: Connection, runs: Collection[int]) -> dict[int, list[str]]:
    """The steps at which these runs queued messages, in order."""
    t = touchpoints.c
    found: dict[int, list[str]] = {}
    query = sa.select(t.enrollment_id, t.step).where(bulk.among(t.enrollment_id, sorted(runs))).order_by(t.id)
    for run, step in connection.execute(query) if runs else ():
        found.setdefault(run, []).append(step)
    return found


def change_version(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """Let runs go on in another version of their flow, given as (id, flow_id)."""
    bulk.update(connection, enrollments, ("id", "flow_id"), rows)


class Begun(NamedTuple):
    """A run, over or not, with what it began by."""

    id: int
    customer_id: int
    flow: str
    event_id: int
    entered_at: datetime
    payload: Mapping[str, Any]


def begun(connection: Connection, customer_ids: Iterable[int], flows: Iterable[str]) -> list[Begun]:
    """The runs of these customers in these flows, over or not, oldest first."""
    e, v, d = enrollments.c, events.c, documents.c
    rows = connection.execute(
        sa.select(e.id, e.customer_id, d.name.label("flow"), e.event_id, e.entered_at, v.payload)
        .join(documents, d.id == e.flow_id)
        .join(events, v.id == e.event_id)
        .where(bulk.among(e.customer_id, sorted(set(customer_ids))), bulk.among(d.name, sorted(set(flows))))
        .order_by(e.id)
    )
    return [Begun(*row) for row in rows]


def go_on(connection: Connection, rows: Iterable[tuple[int, datetime]]) -> None:
    """Let runs go on that were held by a touchpoint, at the given instants."""
    bulk.update(
        connection,
        enrollments,
        ("id", "state", "due_at"),
        [(run, "waiting", at) for run, at in rows],
        where="t.state = 'sending'",
    )


def stop(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """End runs that were held by a touchpoint, given as (id, state, reason, ended_at)."""
    bulk.update(connection, enrollments, ("id", "state", "reason", "ended_at"), rows, where="t.state = 'sending'")
