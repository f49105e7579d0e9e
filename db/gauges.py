"""How much work waits, and for how long: what `/metrics` shows. Every query walks a partial index of open rows."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import alarms
from db.tables import enrollments, inbox, touchpoints


@dataclass(frozen=True, kw_only=True, slots=True)
class Gauges:
    """Counts of open rows by table and state, the age in seconds of the oldest due row by table, and alarms by (source,
    kind) that are on.
    """

    counts: dict[tuple[str, str], int]
    lag_s: dict[str, float]
    alarms: dict[tuple[str, str], int]


def gauges(connection: Connection, now: datetime) -> Gauges:
    """Read them all, in one snapshot where the caller has one."""
    counts: dict[tuple[str, str], int] = {}
    for table, states in (
        (inbox, ("received", "awaiting", "fetching", "parked")),
        (enrollments, ("waiting", "paused", "parked")),
        (touchpoints, ("queued", "held", "sending", "in_doubt")),
    ):
        for state in states:
            # One constant state each: a list of states would not match the partial indexes.
            query = sa.select(sa.func.count()).select_from(table).where(_is(table, state))
            counts[table.name, state] = connection.execute(query).scalar_one()
    first = connection.execute(
        sa.select(inbox.c.received_at).where(_is(inbox, "received")).order_by(inbox.c.id).limit(1)
    ).scalar()
    lag = {
        "inbox": _age(first, now),
        "enrollments": max(_age(_due(connection, enrollments, "waiting", lane), now) for lane in (0, 1)),
        "touchpoints": max(_age(_due(connection, touchpoints, "queued", lane), now) for lane in (0, 1)),
    }
    on = Counter((alarm.source, str(alarm.kind)) for alarm in alarms.raised(connection))
    return Gauges(counts=counts, lag_s=lag, alarms=dict(on))


def _is(table: sa.Table, state: str) -> sa.ColumnElement[bool]:
    return table.c.state == sa.literal_column(f"'{state}'")


def _due(connection: Connection, table: sa.Table, state: str, lane: int) -> datetime | None:
    due = sa.select(table.c.due_at).where(_is(table, state), table.c.lane == sa.literal_column(str(lane)))
    if "channel" in table.c:
        due = due.where(table.c.channel == "email")
    found: Any = connection.execute(due.order_by(table.c.due_at).limit(1)).scalar()
    return found  # type: ignore[no-any-return]


def _age(moment: datetime | None, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds()) if moment is not None else 0.0
