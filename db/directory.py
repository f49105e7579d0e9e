"""Customers as a list: newest first, or those that somebody looks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk, identity
from db.overview import ends
from db.tables import consents, customers, documents, enrollments, identities, profiles, touchpoints

PAGE: Final = 50
#: Customers that one look walks past for a name or a stage, which no index serves.
LOOK_BACK: Final = 50_000
#: Numbers above this are no ids of ours.
ID_MAX: Final = 2**63 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A page of customers. `older` goes on from here; `stopped` tells that the look ended before all were seen."""

    rows: Sequence[Any]
    older: int | None = None
    stopped: bool = False


_COLUMNS = (
    customers.c.id,
    customers.c.stage,
    customers.c.orders,
    customers.c.spent,
    customers.c.since,
    customers.c.last_order_at,
    customers.c.forgotten_at,
    profiles.c.first_name,
    profiles.c.last_name,
    profiles.c.email,
)


def exactly(connection: Connection, secret: bytes, given: str) -> int | None:
    """The customer whom an address, our number or an id at a source names."""
    given = given.strip()
    if not given or ("@" not in given and given.isdigit() and not (given.isascii() and int(given) <= ID_MAX)):
        return None
    return identity.find_customer(connection, secret, given)


def newest(
    connection: Connection, *, name: str | None = None, stage: str | None = None, before: int | None = None
) -> Found:
    """A page of customers, newest first.

    Args:
      name: part of a first or last name, in any case where the database knows the letters.
      before: the id where an earlier page ended.
    """
    c, p = customers.c, profiles.c
    query = sa.select(*_COLUMNS).outerjoin(profiles, p.customer_id == c.id).order_by(c.id.desc()).limit(PAGE + 1)
    query = query.where(c.merged_into.is_(None))
    if before is not None:
        query = query.where(c.id < before)
    bottom = lowest = 0
    if name or stage:
        lowest, highest = ends(connection, customers)
        if highest is None:
            return Found(rows=())
        bottom = max(lowest, min(before or highest + 1, highest + 1) - LOOK_BACK)
        query = query.where(c.id >= bottom)
    if stage:
        query = query.where(c.stage == stage)
    for word in (name or "").split():
        each = (p.first_name, p.last_name)
        query = query.where(
            sa.or_(
                *(column.icontains(word, autoescape=True) for column in each),
                *(column.contains(form, autoescape=True) for column in each for form in {word, word.title()}),
            )
        )
    rows = connection.execute(query).all()
    if len(rows) > PAGE:
        return Found(rows=rows[:PAGE], older=rows[PAGE - 1].id)
    return Found(rows=rows, older=bottom if bottom > lowest else None, stopped=bottom > lowest)


def one(connection: Connection, customer_id: int) -> Sequence[Any]:
    """One customer, in the same shape."""
    return several(connection, [customer_id])


def several(connection: Connection, ids: Sequence[int]) -> Sequence[Any]:
    """These customers, in the same shape."""
    query = sa.select(*_COLUMNS).outerjoin(profiles, profiles.c.customer_id == customers.c.id)
    return connection.execute(query.where(bulk.among(customers.c.id, ids))).all()


def consents_of(connection: Connection, customer_id: int) -> Sequence[Any]:
    """The last word of a customer on each channel and topic: channel, topic, state, basis, evidence, occurred_at."""
    c = consents.c
    query = sa.select(c.channel, c.topic, c.state, c.basis, c.evidence, c.occurred_at)
    return connection.execute(query.where(c.customer_id == customer_id).order_by(c.channel, c.topic)).all()


def identities_of(connection: Connection, customer_id: int) -> Sequence[Any]:
    """The ids by which sources know a customer, without hashes and orders."""
    i = identities.c
    query = sa.select(i.source, i.external_id).where(i.customer_id == customer_id, identity.ACCOUNTS)
    return connection.execute(query.order_by(i.source, i.external_id).limit(20)).all()


def touchpoints_of(connection: Connection, customer_id: int) -> dict[tuple[int, str], int]:
    """A customer's touchpoints by run and step, for links from the story to the mails."""
    t = touchpoints.c
    query = sa.select(t.enrollment_id, t.step, t.id).where(t.customer_id == customer_id)
    return {(row.enrollment_id, row.step): row.id for row in connection.execute(query)}


def flows_of(connection: Connection, customer_id: int) -> list[str]:
    """The flows that a customer ever was in, by name."""
    e, d = enrollments.c, documents.c
    query = sa.select(d.name).distinct().join(enrollments, e.flow_id == d.id).where(e.customer_id == customer_id)
    return list(connection.execute(query.order_by(d.name)).scalars())
