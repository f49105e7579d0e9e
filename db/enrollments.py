"""Runs of flows: claiming those that are due, reading what they know, writing where they stand."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk
from db.tables import answers, customers, decisions, enrollments

#: Of each batch, this share goes to the fast lane first, so that the slow lane is never starved either.
FAST_SHARE = 0.9

_due = sa.bindparam("now", type_=enrollments.c.due_at.type)
_limit = sa.bindparam("limit", type_=sa.Integer)


def _claim(lane: int) -> sa.Select[tuple[int]]:
    """Due runs of one lane, their customers locked. Runs whose customer is locked elsewhere are left out."""
    return (
        sa.select(enrollments.c.id)
        .join(customers, customers.c.id == enrollments.c.customer_id)
        .where(
            enrollments.c.state == sa.literal_column("'waiting'"),
            enrollments.c.tries == sa.literal_column("0"),
            enrollments.c.lane == sa.literal_column(str(lane)),
            enrollments.c.due_at <= _due,
        )
        .order_by(enrollments.c.due_at)
        .limit(_limit)
        .with_for_update(of=customers, key_share=True, skip_locked=True)
    )


CLAIM_FAST = _claim(0)
CLAIM_SLOW = _claim(1)
_CLAIM_ALONE = (
    sa.select(enrollments.c.id)
    .join(customers, customers.c.id == enrollments.c.customer_id)
    .where(
        enrollments.c.state == sa.literal_column("'waiting'"),
        enrollments.c.tries > sa.literal_column("0"),
        enrollments.c.due_at <= _due,
    )
    .order_by(enrollments.c.id)
    .limit(_limit)
    .with_for_update(of=customers, key_share=True, skip_locked=True)
)


def claim(connection: Connection, now: datetime, limit: int, *, alone: bool) -> list[int]:
    """Lock the customers of up to `limit` due runs; the runs' ids."""
    if alone:
        return [row.id for row in connection.execute(_CLAIM_ALONE, {"now": now, "limit": limit})]
    fast: Sequence[Any] = connection.execute(CLAIM_FAST, {"now": now, "limit": max(1, int(limit * FAST_SHARE))}).all()
    slow: Sequence[Any] = connection.execute(CLAIM_SLOW, {"now": now, "limit": limit - len(fast)}).all()
    return [row.id for row in [*fast, *slow]]


def lock(connection: Connection, ids: Sequence[int]) -> None:
    """Lock the customers of these runs, waiting for others."""
    connection.execute(
        sa.select(customers.c.id)
        .where(customers.c.id.in_(sa.select(enrollments.c.customer_id).where(bulk.among(enrollments.c.id, ids))))
        .order_by(customers.c.id)
        .with_for_update(key_share=True)
    )


def due(connection: Connection, ids: Sequence[int], now: datetime) -> Sequence[Any]:
    """The runs that are still due, read after their customers were locked, earliest first."""
    e = enrollments.c
    return connection.execute(
        sa.select(e.id, e.customer_id, e.flow_id, e.event_id, e.entered_at, e.due_at, e.until, e.step, e.lane)
        .where(bulk.among(e.id, ids), e.state == "waiting", e.due_at <= now)
        .order_by(e.due_at, e.id)
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
