"""Customers as flows know them: the row that is locked and the personal data beside it, read and written together."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.person import Person, new
from db import bulk
from db.tables import customers, profiles, segment_members

__all__ = [
    "PROFILE",
    "MergedMeanwhileError",
    "Person",
    "kept",
    "load",
    "lock",
    "lock_kept",
    "locked",
    "new",
    "numbers",
    "save",
    "with_fact",
]

_CUSTOMER = (
    "id",
    "account_id",
    "stage",
    "stage_at",
    "orders",
    "spent",
    "last_order_at",
    "since",
    "forgotten_at",
)
#: What a profile says of a person, in the order of the table.
PROFILE = (
    "email",
    "phone",
    "first_name",
    "last_name",
    "locale",
    "locale_from",
    "timezone",
    "timezone_from",
    "country",
    "region",
    "attributes",
)
_PROFILE = (*PROFILE, "updated_at")


class MergedMeanwhileError(AfterglowError):
    """A customer was merged into another before it could be locked; try again, and the other is found."""


_READ = (*_CUSTOMER, *_PROFILE, "merged_into")
_query = sa.select(
    *(customers.c[name] for name in _CUSTOMER), *(profiles.c[name] for name in _PROFILE), customers.c.merged_into
).select_from(customers.outerjoin(profiles))


def load(connection: Connection, ids: Iterable[int], *, segments: bool = False) -> dict[int, Person]:
    """Customers by id, with the segments they are in where something reads them."""
    ids = set(ids)
    rows = connection.execute(_query.where(bulk.among(customers.c.id, list(ids))))
    people = {}
    for row in rows:
        values: dict[str, Any] = dict(zip(_READ, row, strict=True))
        values["attributes"] = dict(values["attributes"] or {})
        people[row.id] = Person(**values)
    if segments:
        s = segment_members.c
        theirs = sa.select(s.customer_id, s.segment).where(bulk.among(s.customer_id, list(ids))).order_by(s.segment)
        for member in connection.execute(theirs):
            people[member.customer_id].segments.append(member.segment)
    return people


def numbers(connection: Connection, *where: sa.ColumnElement[bool], beyond: int, limit: int) -> list[int]:
    """The next customers of whom conditions over `customers` and `profiles` hold, by number; nobody who is gone."""
    query = (
        sa.select(customers.c.id)
        .select_from(customers.outerjoin(profiles))
        .where(customers.c.id > beyond, customers.c.merged_into.is_(None), customers.c.forgotten_at.is_(None), *where)
    )
    return list(connection.execute(query.order_by(customers.c.id).limit(limit)).scalars())


def with_fact(connection: Connection, fact: str, beyond: int, limit: int) -> list[int]:
    """The next customers of whom a fact is known: `since`, `last_order_at`, or an attribute of the shop's."""
    stored: sa.ColumnElement[Any] = customers.c[fact] if fact in _CUSTOMER else profiles.c.attributes[fact].as_string()
    return numbers(connection, stored.is_not(None), beyond=beyond, limit=limit)


def kept(connection: Connection, ids: Iterable[int]) -> dict[int, int]:
    """Who these numbers are now: themselves, or the customers they were merged into. Unknown numbers are left out."""
    found: dict[int, int] = {}
    ask = {id_: [id_] for id_ in ids}  # the numbers that lead to each customer still to be looked at
    while ask:
        rows = connection.execute(
            sa.select(customers.c.id, customers.c.merged_into).where(bulk.among(customers.c.id, sorted(ask)))
        ).all()
        further: dict[int, list[int]] = {}
        for row in rows:
            if row.merged_into is None:
                found.update(dict.fromkeys(ask[row.id], row.id))
            else:
                further.setdefault(row.merged_into, []).extend(ask[row.id])
        ask = further
    return found


def lock(connection: Connection, ids: Iterable[int]) -> None:
    """Lock customers in the order of their ids, waiting for others."""
    connection.execute(
        sa.select(customers.c.id)
        .where(bulk.among(customers.c.id, sorted(set(ids))))
        .order_by(customers.c.id)
        .with_for_update(key_share=True)
    )


def lock_kept(connection: Connection, customer_id: int) -> int:
    """Lock one customer, or whom they were merged into, also while we waited; the number of that one."""
    while True:
        found = kept(connection, [customer_id]).get(customer_id, customer_id)
        lock(connection, [found])
        if kept(connection, [customer_id]).get(customer_id, customer_id) == found:
            return found


def locked(connection: Connection, ids: Iterable[int], *, segments: bool = False) -> dict[int, Person]:
    """Lock customers in the order of their ids, waiting for others, and read them as they are then.

    Raises:
      MergedMeanwhileError: somebody merged one of them while we waited. Whom they were merged into is not locked, and
        locking an older one now could wait for somebody who waits for us: the transaction is to be begun again.
    """
    wanted = set(ids)
    lock(connection, wanted)
    found = load(connection, wanted, segments=segments)
    if any(person.merged_into is not None for person in found.values()):
        raise MergedMeanwhileError
    return found


def save(connection: Connection, people: Mapping[int, Person], fresh: Collection[int]) -> None:
    """Write customers back; those who are `fresh` have no profile yet."""
    for table, key, names in ((customers, "id", _CUSTOMER[1:]), (profiles, "customer_id", _PROFILE)):
        rows = [(person.id, *(getattr(person, name) for name in names)) for person in people.values()]
        if table is profiles:
            bulk.insert(connection, table, (key, *names), [row for row in rows if row[0] in fresh])
            rows = [row for row in rows if row[0] not in fresh]
        bulk.update(connection, table, (key, *names), rows)
