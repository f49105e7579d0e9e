"""Who is in which segment: when somebody must look, what must be known to judge, and what comes of it.

A look is a row per customer: whoever changes what is known of somebody makes it due (`touch`), and whoever judges them
moves it to the moment at which time alone may change something; what changes of a company is in `db.account_looks`. A
filling is a row per segment: how far a new or edited one was judged for everybody.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.decide import Event
from afterglow.language.segment import Segment
from afterglow.language.shop import Shop, exact
from afterglow.person import Person
from afterglow.segments import MEASURES, Cuts, Known, microseconds
from db import accounts, bulk, people
from db.narrowing import narrowed
from db.tables import (
    account_looks,
    customers,
    events,
    quintiles,
    segment_fillings,
    segment_looks,
    segment_members,
)

#: Of a segment that is no more: its members go, and then its row.
_GONE = b""
_now = sa.bindparam("now", type_=segment_looks.c.due_at.type)
#: Whether somebody must be judged, or a segment filled, for the scheduler.
DUE = sa.or_(
    sa.exists().where(segment_looks.c.due_at <= _now),
    sa.exists().where(account_looks.c.due_at <= _now),
    sa.exists().where(segment_fillings.c.upto < segment_fillings.c.last),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Filling:
    """How far a segment was filled."""

    segment: str
    digest: bytes
    upto: int
    last: int
    tells: bool

    @property
    def is_gone(self) -> bool:
        """Whether the segment stands in no file any more."""
        return self.digest == _GONE

    def is_quiet_about(self, customer_id: int) -> bool:
        """Whether this customer is still to be judged by it for the first time, of which nobody is told."""
        return not self.tells and self.upto < customer_id <= self.last


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Somebody who must be judged; `tells`: whether what comes of it is told as events."""

    customer_id: int
    due_at: datetime
    tells: bool


# When to look


def touch(connection: Connection, ids: Iterable[int], at: datetime, *, tells: bool = True) -> None:
    """Have customers judged again, who are locked: something about them is known that was not."""
    put_looks(connection, [(id_, at, tells) for id_ in sorted(set(ids))])


def put_looks(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """Have customers judged at these moments, given as (customer_id, due_at, tells), or before where that is due."""
    bulk.insert(
        connection,
        segment_looks,
        ("customer_id", "due_at", "tells"),
        rows,
        on_conflict="(customer_id) DO UPDATE SET "
        "due_at = CASE WHEN excluded.due_at < segment_looks.due_at THEN excluded.due_at ELSE segment_looks.due_at END, "
        "tells = CASE WHEN excluded.due_at = segment_looks.due_at THEN excluded.tells OR segment_looks.tells "
        "WHEN excluded.due_at < segment_looks.due_at THEN excluded.tells ELSE segment_looks.tells END",
    )


def are_in_force(connection: Connection) -> bool:
    """Whether there are segments at all, so that somebody must look."""
    return connection.execute(sa.select(sa.exists().where(segment_fillings.c.segment.is_not(None)))).scalar_one()


def claim(connection: Connection, now: datetime, limit: int) -> list[Look]:
    """Lock up to `limit` customers who must be judged; those locked elsewhere are left out."""
    s = segment_looks.c
    ids = [
        row.customer_id
        for row in connection.execute(
            sa.select(s.customer_id)
            .join(customers, customers.c.id == s.customer_id)
            .where(s.due_at <= now)
            .order_by(s.due_at)
            .limit(limit)
            .with_for_update(of=customers, key_share=True, skip_locked=True)
        )
    ]
    if not ids:
        return []
    rows = connection.execute(
        sa.select(s.customer_id, s.due_at, s.tells)
        .where(bulk.among(s.customer_id, ids), s.due_at <= now)
        .order_by(s.due_at, s.customer_id)
    )
    return [Look(customer_id=row.customer_id, due_at=row.due_at, tells=row.tells) for row in rows]


def looked(connection: Connection, ids: Sequence[int], again: Mapping[int, datetime]) -> None:
    """Customers were judged; those of `again` are to be looked at by then."""
    connection.execute(segment_looks.delete().where(bulk.among(segment_looks.c.customer_id, ids)))
    bulk.insert(
        connection,
        segment_looks,
        ("customer_id", "due_at", "tells"),
        [(id_, due_at, True) for id_, due_at in sorted(again.items())],
    )


# Customers who turn out to be one, or are forgotten


def take_over(connection: Connection, kept: int, merged: int, now: datetime) -> None:
    """One customer is another now, both locked: who was in a segment stays in it until it is judged, and told of."""
    s = segment_members.c
    theirs = [
        (row.segment, kept, row.since)
        for row in connection.execute(sa.select(s.segment, s.since).where(s.customer_id == merged))
    ]
    enter(connection, theirs)
    forget(connection, [merged])
    look_again(connection, [kept], now)


def look_again(connection: Connection, ids: Iterable[int], now: datetime, *, tells: bool = True) -> None:
    """Have customers judged, where there are segments at all."""
    if are_in_force(connection):
        touch(connection, ids, now, tells=tells)


def forget(connection: Connection, ids: Iterable[int]) -> None:
    """Customers are in no segment any more, and nobody looks."""
    for table in (segment_members, segment_looks):
        connection.execute(table.delete().where(bulk.among(table.c.customer_id, list(ids))))


# What must be known


def known(
    connection: Connection, persons: Mapping[int, Person], segments: Iterable[Segment], shop: Shop, now: datetime
) -> dict[int, Known]:
    """What segments read of customers, in as few queries as they need: none where they read the customer alone."""
    segments = list(segments)
    happened: dict[int, list[Event]] = {}
    for row in _events(connection, list(persons), segments, now):
        happened.setdefault(row.customer_id, []).append(
            Event(id=row.id, name=row.name, occurred_at=row.occurred_at, payload=row.payload)
        )
    buying = [person.account_id for person in persons.values()] if any(one.reads_account for one in segments) else []
    companies = accounts.facts(connection, shop, buying)
    found = cuts(connection) if any(one.reads_fifths for one in segments) else {}
    return {
        id_: Known(person=person, events=happened.get(id_, ()), account=companies.get(person.account_id), cuts=found)
        for id_, person in persons.items()
    }


def _events(connection: Connection, ids: Sequence[int], segments: Sequence[Segment], now: datetime) -> Sequence[Any]:
    asked = [past for segment in segments for past in segment.past]
    if not asked or not ids:
        return []
    reads = any(past.where is not None or past.amount is not None for past in asked)
    payload = events.c.payload if reads else sa.null().label("payload")
    query = (
        sa.select(events.c.id, events.c.customer_id, events.c.name, events.c.occurred_at, payload)
        .where(bulk.among(events.c.customer_id, ids), bulk.among(events.c.name, sorted({past.event for past in asked})))
        .order_by(events.c.occurred_at, events.c.id)
    )
    windows = [exact(past.within) for past in asked if past.within is not None]
    if len(windows) == len(asked):
        query = query.where(events.c.occurred_at > now - max(windows))
    return connection.execute(query).all()


def members(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, datetime]]:
    """The segments that customers are in, each with since when."""
    s = segment_members.c
    found: dict[int, dict[str, datetime]] = {id_: {} for id_ in ids}
    for row in connection.execute(
        sa.select(s.customer_id, s.segment, s.since).where(bulk.among(s.customer_id, list(ids))).order_by(s.segment)
    ):
        found[row.customer_id][row.segment] = row.since
    return found


def enter(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """Customers enter segments, given as (segment, customer_id, since)."""
    columns = ("segment", "customer_id", "since")
    bulk.insert(connection, segment_members, columns, sorted(rows), on_conflict="DO NOTHING")


def leave(connection: Connection, pairs: Collection[tuple[str, int]]) -> None:
    """Customers leave segments, given as (segment, customer_id)."""
    if not pairs:
        return
    s = segment_members.c
    named = s.segment + "/" + sa.cast(s.customer_id, sa.Text)
    connection.execute(
        segment_members.delete().where(
            bulk.among(s.customer_id, sorted({id_ for _, id_ in pairs})),
            bulk.among(named, [f"{segment}/{id_}" for segment, id_ in pairs]),
        )
    )


# Filling


def arrange(connection: Connection, segments: Mapping[str, Segment], now: datetime) -> None:
    """Segments come into force: new and edited ones are to be filled, and those that are no more emptied."""
    stored = {one.segment: one for one in fillings(connection)}
    if not stored and not segments:
        return
    newest = connection.execute(sa.select(sa.func.max(customers.c.id))).scalar() or 0
    rows = [
        (name, one.digest, 0, newest, False, now)
        for name, one in segments.items()
        if name not in stored or stored[name].digest != one.digest
    ]
    rows += [(name, _GONE, 0, 1, False, now) for name in stored if name not in segments]
    _put_fillings(connection, rows)
    f, s = segment_fillings.c, segment_members.c
    deserted = (f.digest == _GONE) & ~sa.exists().where(s.segment == f.segment)
    connection.execute(segment_fillings.delete().where(deserted))


def fillings(connection: Connection) -> list[Filling]:
    """How far each segment was filled."""
    f = segment_fillings.c
    rows = connection.execute(sa.select(f.segment, f.digest, f.upto, f.last, f.tells))
    return [Filling(**row._mapping) for row in rows]


def claim_filling(connection: Connection) -> Filling | None:
    """Lock a segment that is not filled, oldest first; None where there is none, or others are at it."""
    f = segment_fillings.c
    row = connection.execute(
        sa.select(f.segment, f.digest, f.upto, f.last, f.tells)
        .where(f.upto < f.last)
        .order_by(f.began_at, f.segment)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    return None if row is None else Filling(**row._mapping)


def candidates(
    connection: Connection, segment: Segment, filling: Filling, shop: Shop, now: datetime, limit: int
) -> list[int]:
    """The next customers who may be in a segment, now or by time alone, or are in it; by number."""
    member = sa.exists().where(
        segment_members.c.segment == segment.name, segment_members.c.customer_id == customers.c.id
    )
    may_be = narrowed(segment, shop, now, connection.dialect.name) | member
    return people.numbers(connection, may_be, customers.c.id <= filling.last, beyond=filling.upto, limit=limit)


def possible(connection: Connection, segment: Segment, shop: Shop, beyond: int, now: datetime, limit: int) -> list[int]:
    """The next customers who may be in a segment, now or by time alone, whether or not it is in force; by number."""
    may_be = narrowed(segment, shop, now, connection.dialect.name)
    return people.numbers(connection, may_be, beyond=beyond, limit=limit)


def filled(connection: Connection, segment: str, upto: int) -> None:
    """A segment is filled up to this customer."""
    f = segment_fillings.c
    connection.execute(segment_fillings.update().where(f.segment == segment).values(upto=upto))


def empty(connection: Connection, segment: str, limit: int) -> bool:
    """Let members of a segment that is no more go; whether all are gone, and so is its row."""
    s = segment_members.c
    some = sa.select(s.customer_id).where(s.segment == segment).limit(limit)
    gone = connection.execute(segment_members.delete().where(s.segment == segment, s.customer_id.in_(some))).rowcount
    if gone < limit:
        connection.execute(segment_fillings.delete().where(segment_fillings.c.segment == segment))
    return gone < limit


def _put_fillings(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    bulk.insert(
        connection,
        segment_fillings,
        ("segment", "digest", "upto", "last", "tells", "began_at"),
        rows,
        on_conflict="(segment) DO UPDATE SET digest = excluded.digest, upto = excluded.upto, last = excluded.last, "
        "tells = excluded.tells, began_at = excluded.began_at",
    )


# Fifths

_COLUMNS: Mapping[str, sa.Column[Any]] = {
    "recency": customers.c.last_order_at,
    "frequency": customers.c.orders,
    "monetary": customers.c.spent,
}
assert _COLUMNS.keys() == MEASURES.keys()
#: How often the fifths are divided anew.
EVERY = timedelta(days=1)


def cuts(connection: Connection) -> Cuts:
    """Where the fifths begin."""
    rows = connection.execute(sa.select(quintiles.c.measure, quintiles.c.cuts))
    return {row.measure: row.cuts for row in rows}


def divide(connection: Connection) -> Cuts:
    """Where the fifths begin by what customers have now: the greatest value of each of the first four."""
    return {measure: found for measure, column in _COLUMNS.items() if (found := _divided(connection, column))}


def _divided(connection: Connection, column: sa.Column[Any]) -> list[int]:
    ranked = (
        sa.select(
            column.label("value"),
            sa.func.row_number().over(order_by=column).label("place"),
            sa.func.count().over().label("total"),
        )
        .where(customers.c.orders > 0, column.is_not(None))
        .where(customers.c.merged_into.is_(None), customers.c.forgotten_at.is_(None))
        .subquery()
    )
    # Whole numbers: the place at which the nth fifth ends is total * n / 5, rounded up.
    fives, total = ranked.c.place * 5, ranked.c.total
    ends = sa.or_(*((fives >= total * n) & (fives < total * n + 5) for n in range(1, 5)))
    rows = connection.execute(sa.select(ranked.c.value, ranked.c.place, total).where(ends))
    found = {row.place: row for row in rows}
    of = max((row.total for row in found.values()), default=0)
    values = [found[-(-of * n // 5)].value for n in range(1, 5)] if of else []
    return [microseconds(value) if isinstance(value, datetime) else value for value in values]


def keep_cuts(connection: Connection, found: Cuts, segments: Mapping[str, Segment], now: datetime) -> None:
    """Keep new cuts; who thereby comes into another fifth enters and leaves segments as ever.

    The first cuts only fill a segment that could not be filled without them, which is told to nobody.
    """
    before = cuts(connection)
    if found == before:
        return
    bulk.insert(
        connection,
        quintiles,
        ("measure", "cuts", "made_at"),
        [(measure, list(values), now) for measure, values in found.items()],
        on_conflict="(measure) DO UPDATE SET cuts = excluded.cuts, made_at = excluded.made_at",
    )
    newest = connection.execute(sa.select(sa.func.max(customers.c.id))).scalar() or 0
    _put_fillings(
        connection,
        [
            (one.segment, one.digest, 0, newest, bool(before) and one.upto >= one.last, now)
            for one in fillings(connection)
            if one.segment in segments and segments[one.segment].reads_fifths
        ],
    )
