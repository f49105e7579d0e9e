"""Counts per hour of what came in from each source, rolled up from the inbox.

Rolled up afterwards and not counted on the way in, so that the way in pays nothing. A whole hour is counted again each
time, so that doing it twice changes nothing; rows whose body was emptied are not seen any more, and a count never
shrinks by that.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.silence import HOUR, LEARNED, hour_of
from db import bulk
from db.tables import Moment, inbox, pulses

#: How long counts are kept.
KEPT = timedelta(weeks=13)
#: The last hour is counted again for so long, until `ingest` has said what became of its webhooks.
SETTLING = timedelta(minutes=10)
#: The most time that one round counts, where much was not counted yet.
SLICE = 6 * HOUR


def roll_up(connection: Connection, now: datetime) -> bool:
    """Count what was not counted yet, or may have changed. False where a later stretch is left for another round."""
    newest = connection.execute(sa.select(sa.func.max(pulses.c.hour))).scalar()
    uncounted = sa.select(inbox.c.received_at).where(_HAS_BODY).order_by(inbox.c.received_at).limit(1)
    if newest is not None:
        uncounted = uncounted.where(inbox.c.received_at >= newest + HOUR)
    first = connection.execute(uncounted).scalar()
    start = newest if newest is not None else first
    if start is None:
        return True
    start = hour_of(min(start, now - SETTLING))
    end = min(now, hour_of(first) + SLICE) if first is not None else now
    text = _ROLL_UP[connection.dialect.name]
    connection.execute(text, {"start": start, "end": end + timedelta(microseconds=1)})
    connection.execute(pulses.delete().where(pulses.c.hour < now - KEPT))
    return end >= now


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """What a source brought in the last weeks."""

    last_at: datetime
    #: Webhooks by full hour; hours without any are missing.
    counts: dict[datetime, int]


def last_heard(connection: Connection, now: datetime) -> dict[str, datetime]:
    """When each source was heard last, within the weeks that are learned from."""
    p = pulses.c
    query = sa.select(p.source, sa.func.max(p.last_at)).where(p.hour >= now - LEARNED).group_by(p.source)
    return {row[0]: row[1] for row in connection.execute(query)}


def past(connection: Connection, sources: Collection[str], now: datetime) -> dict[str, Past]:
    """The last weeks of these sources; of one that brought nothing in them, nothing."""
    p = pulses.c
    query = sa.select(p.source, p.hour, p.received, p.last_at).where(
        p.hour >= now - LEARNED - HOUR, bulk.among(p.source, sorted(sources))
    )
    found: dict[str, Past] = {}
    for row in connection.execute(query.order_by(p.hour)):
        counts = found[row.source].counts if row.source in found else {}
        counts[row.hour] = row.received
        found[row.source] = Past(last_at=row.last_at, counts=counts)
    return found


_HAS_BODY: Any = sa.func.length(inbox.c.body) > sa.literal_column("0")


def _roll_up(hour: str) -> sa.TextClause:
    counted = ", ".join(f"count(CASE WHEN state = '{state}' THEN 1 END)" for state in ("mapped", "ignored", "parked"))
    # The hours and states stand in the text, so that the index of rows with a body serves; nothing of it came in.
    return sa.text(
        "INSERT INTO pulses (hour, source, received, mapped, ignored, parked, last_at) "
        f"SELECT {hour}, source, count(*), {counted}, max(received_at) FROM inbox "
        "WHERE length(body) > 0 AND received_at >= :start AND received_at < :end "
        "GROUP BY 1, 2 "
        "ON CONFLICT (hour, source) DO UPDATE SET received = excluded.received, mapped = excluded.mapped, "
        "ignored = excluded.ignored, parked = excluded.parked, last_at = excluded.last_at "
        "WHERE excluded.received >= pulses.received"
    ).bindparams(sa.bindparam("start", type_=Moment()), sa.bindparam("end", type_=Moment()))


_ROLL_UP = {
    "postgresql": _roll_up("date_trunc('hour', received_at)"),
    "sqlite": _roll_up("received_at - received_at % 3600000000"),
}
