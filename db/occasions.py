"""What comes next of dates, schedules and moments that start flows, and how far the telling of it is.

The customer row is the lock of their coming dates, the row of a flow that of its rounds.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow import past
from afterglow.occasions import DATE
from db import bulk, intake
from db.intake import Received
from db.tables import InboxState, Moment, coming_dates, customers, inbox, occasions, profiles, releases, segment_members

#: A flow, and a customer in it.
Key = tuple[str, int]

_now = sa.bindparam("now", type_=Moment)
_o, _c = occasions.c, coming_dates.c
#: When the first date of a flow comes: one look at the index, however many come.
_first = sa.select(sa.func.min(_c.due_at)).where(_c.flow == _o.flow).correlate(occasions).scalar_subquery()
#: Whether anything is to be told, filled or looked at again.
DUE = sa.or_(
    sa.exists().where(_o.is_live, _o.due_at <= _now),
    sa.exists().where(_o.is_live, _first <= _now),
)


def kept(connection: Connection) -> Mapping[str, Any]:
    """What is kept of each flow."""
    return {row.flow: row for row in connection.execute(sa.select(occasions))}


def applied_at(connection: Connection, release_id: int) -> datetime:
    """When a release came into force."""
    query = sa.select(releases.c.applied_at).where(releases.c.id == release_id)
    found: datetime = connection.execute(query).scalar_one()
    return found


def begin(connection: Connection, flow: str, meaning: str, is_live: bool, due_at: datetime | None) -> None:
    """Let a flow begin with what its file says now."""
    bulk.insert(
        connection,
        occasions,
        ("flow", "meaning", "is_live", "due_at", "upto"),
        [(flow, meaning, is_live, due_at, 0)],
        on_conflict="(flow) DO UPDATE SET meaning = excluded.meaning, is_live = excluded.is_live, "
        "due_at = excluded.due_at, upto = 0",
    )


def set_live(connection: Connection, flow: str, is_live: bool) -> None:
    """Let a flow stand still, or go on from where it stood."""
    connection.execute(occasions.update().where(_o.flow == flow).values(is_live=is_live))


def end(connection: Connection, flow: str, limit: int) -> None:
    """Forget what is kept of a flow: so many coming dates at once, and when none is left the flow."""
    some = sa.select(_c.customer_id).where(_c.flow == flow).limit(limit)
    gone = connection.execute(coming_dates.delete().where(_c.flow == flow, _c.customer_id.in_(some))).rowcount
    rest = occasions.delete() if gone < limit else occasions.update().values(is_live=False)
    connection.execute(rest.where(_o.flow == flow))


def due(connection: Connection, now: datetime) -> Any | None:
    """The flow whose round or filling is due longest, with its row locked; those locked elsewhere are left out."""
    query = sa.select(occasions).where(_o.is_live, _o.due_at <= _now).order_by(_o.due_at).limit(1)
    return connection.execute(query.with_for_update(skip_locked=True), {"now": now}).one_or_none()


def move(connection: Connection, flow: str, due_at: datetime | None, upto: int) -> None:
    """Note how far a round or a filling is, or what comes next."""
    connection.execute(occasions.update().where(_o.flow == flow).values(due_at=due_at, upto=upto))


def members(connection: Connection, segment: str, beyond: int, limit: int) -> Sequence[Any]:
    """The next members of a segment in the order of their numbers: customer, since when, and the zone they live in."""
    m = segment_members.c
    return connection.execute(
        sa.select(m.customer_id, m.since, profiles.c.timezone)
        .outerjoin_from(segment_members, profiles, profiles.c.customer_id == m.customer_id)
        .where(m.segment == segment, m.customer_id > beyond)
        .order_by(m.customer_id)
        .limit(limit)
    ).all()


def lives_anybody(connection: Connection, zones: Collection[str]) -> bool:
    """Whether any customer lives in one of these zones."""
    there = sa.select(profiles.c.customer_id).where(bulk.among(profiles.c.timezone, sorted(zones)))
    return connection.execute(there.limit(1)).first() is not None


def everybody(connection: Connection, beyond: int, limit: int) -> list[int]:
    """The next customers of whom something is known, in the order of their numbers."""
    p = profiles.c.customer_id
    return list(connection.execute(sa.select(p).where(p > beyond).order_by(p).limit(limit)).scalars())


def pending(connection: Connection, flow: str, customer_ids: Collection[int], now: datetime) -> frozenset[int]:
    """Those of some customers whose date is due and still to be told."""
    theirs = bulk.among(_c.customer_id, sorted(customer_ids))
    return frozenset(
        connection.execute(sa.select(_c.customer_id).where(_c.flow == flow, theirs, _c.due_at <= now)).scalars()
    )


def due_dates(connection: Connection, now: datetime, limit: int) -> Sequence[Any]:
    """Dates of one flow that have come, or are to be looked at again: flow, customer, day, when; customers locked."""
    first = sa.select(_o.flow).where(_o.is_live, _first <= _now).order_by(_first).limit(1)
    flow = connection.execute(first, {"now": now}).scalar()
    if flow is None:
        return []
    return connection.execute(
        sa.select(_c.flow, _c.customer_id, _c.day, _c.due_at)
        .join_from(coming_dates, customers, customers.c.id == _c.customer_id)
        .where(_c.flow == flow, _c.due_at <= _now, customers.c.merged_into.is_(None))
        .order_by(_c.due_at)
        .limit(limit)
        .with_for_update(of=customers, key_share=True, skip_locked=True),
        {"now": now},
    ).all()


def plan(connection: Connection, days: Mapping[Key, tuple[str, datetime] | None]) -> None:
    """Note the day that comes for each flow and customer, and when; None: none does. Customers must be locked."""
    bulk.insert(
        connection,
        coming_dates,
        ("flow", "customer_id", "day", "due_at"),
        [(*key, *coming) for key, coming in sorted(days.items()) if coming is not None],
        on_conflict="(flow, customer_id) DO UPDATE SET day = excluded.day, due_at = excluded.due_at",
    )
    for flow in {flow for (flow, _), coming in days.items() if coming is None}:
        theirs = [customer for (name, customer), coming in days.items() if name == flow and coming is None]
        connection.execute(coming_dates.delete().where(_c.flow == flow, bulk.among(_c.customer_id, theirs)))


def next_due(connection: Connection) -> datetime | None:
    """When anything is to be told next, as far as it is known."""
    rows = connection.execute(sa.select(_o.due_at, _first.label("first")).where(_o.is_live)).all()
    return min((moment for row in rows for moment in row if moment is not None), default=None)


def look(connection: Connection, wanted: Iterable[tuple[str, int, datetime]]) -> None:
    """Let these flows and customers be looked at again at these instants: something about their date has changed."""
    bulk.insert(
        connection,
        coming_dates,
        ("flow", "customer_id", "due_at"),
        sorted(wanted),
        on_conflict="(flow, customer_id) DO UPDATE SET due_at = excluded.due_at "
        "WHERE coming_dates.due_at > excluded.due_at",
    )


def look_again(connection: Connection, customer_ids: Iterable[int], now: datetime) -> None:
    """Let the dates of customers be looked at again in every flow that a date starts."""
    flows = list(connection.execute(sa.select(_o.flow).where(_o.meaning.startswith(DATE))).scalars())
    look(connection, [(flow, customer, now) for flow in flows for customer in set(customer_ids)] if flows else ())


def take_over(connection: Connection, kept: int, merged: int, now: datetime) -> None:
    """Let a customer keep what comes, with the dates that are theirs after a merge."""
    forget(connection, [merged])
    look_again(connection, [kept], now)


def forget(connection: Connection, customer_ids: Collection[int]) -> None:
    """Let nothing come for these customers."""
    connection.execute(coming_dates.delete().where(bulk.among(_c.customer_id, sorted(customer_ids))))


def has_room(connection: Connection, limit: int) -> bool:
    """Whether fewer than so many events of ours wait in the inbox: webhooks wait behind them."""
    i = inbox.c
    waiting = sa.select(i.id).where(i.state == InboxState.RECEIVED.value, i.source == past.OURS).limit(limit)
    return bool(connection.execute(sa.select(sa.func.count()).select_from(waiting.subquery())).scalar_one() < limit)


def tell(connection: Connection, rows: Sequence[Received], now: datetime) -> int:
    """Write events of ours into the inbox, save those whose key was told before. How many."""
    told = sa.select(inbox.c.key).where(bulk.among(inbox.c.key, [row.key for row in rows]), inbox.c.source == past.OURS)
    known = set(connection.execute(told).scalars()) if rows else set()
    fresh = [row for row in rows if row.key not in known]
    intake.receive(connection, fresh, now)
    return len(fresh)
