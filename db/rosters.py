"""Segments as people look at them: how many are in each, who, and why somebody is or is not."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.language.segment import Segment
from afterglow.language.shop import Shop
from afterglow.segments import judge, parts
from db import people, segments
from db.tables import segment_members


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """A segment with how many are in it."""

    segment: Segment
    people: int
    is_filled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Explained:
    """Why one customer is in a segment, or is not."""

    #: Since when, as it is kept; None: is not in it.
    since: datetime | None
    #: What the condition says now. What is kept follows within moments, unless the segment is being filled.
    holds: bool
    #: What each part of the condition comes to.
    parts: Mapping[str, str]
    #: When that may change though nothing happens; None: never.
    look_at: datetime | None


def counted(connection: Connection, in_force: Mapping[str, Segment]) -> list[Counted]:
    """The segments in force, in the order of their file."""
    s = segment_members.c
    rows = connection.execute(sa.select(s.segment, sa.func.count().label("people")).group_by(s.segment))
    found = {row.segment: row.people for row in rows}
    unfilled = {one.segment for one in segments.fillings(connection) if one.upto < one.last}
    return [
        Counted(segment=one, people=found.get(name, 0), is_filled=name not in unfilled)
        for name, one in in_force.items()
    ]


def roster(connection: Connection, segment: str, *, after: int = 0, limit: int) -> list[Any]:
    """Who is in a segment and since when, by number, from the one after another on."""
    s = segment_members.c
    query = sa.select(s.customer_id, s.since).where(s.segment == segment, s.customer_id > after)
    return list(connection.execute(query.order_by(s.customer_id).limit(limit)))


def explain(connection: Connection, segment: Segment, shop: Shop, customer_id: int, now: datetime) -> Explained:
    """Why a customer is in a segment, or is not, by what is known now."""
    persons = people.load(connection, [customer_id])
    [known] = segments.known(connection, persons, [segment], shop, now).values()
    names = known.names(shop)
    judged = judge(segment, known, names, now)
    return Explained(
        since=segments.members(connection, [customer_id])[customer_id].get(segment.name),
        holds=judged.is_in,
        parts=parts(segment, known, names, now),
        look_at=judged.look_at,
    )
