"""Who is meant: from what a source says (an id, an address, an order) to a customer of ours.

An identity is a pair of a source and an id there, and belongs to one customer; only a merge moves it. An address is an
identity too, under the source "email" and as a keyed hash, so that the promise "one customer per address" is a UNIQUE
constraint and no address stands outside `profiles`; so is a phone number, where the shop matches by it. The rules of
who is meant are those of `afterglow.matching`.
"""

import hashlib
import hmac
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.matching import EMAIL, ORDER, PHONE, Identity, are_two, is_account
from afterglow.past import OURS
from db import bulk
from db.people import kept
from db.tables import customers, identities

#: Identities that name an account of a person: no hashes and no orders.
ACCOUNTS: sa.ColumnElement[bool] = identities.c.source.not_in([EMAIL, PHONE]) & identities.c.source.not_like("%:%")


def address_digest(secret: bytes, address: str) -> bytes:
    """The keyed hash of a normalised address: enough to recognise it, useless to whoever takes the table."""
    return hmac.digest(secret, b"address\0" + address.strip().lower().encode(), "sha256")


def email_identity(secret: bytes, address: str) -> Identity:
    """The identity of an address."""
    return (EMAIL, address_digest(secret, address).hex())


def phone_identity(secret: bytes, number: str) -> Identity:
    """The identity of a phone number in E.164."""
    return (PHONE, hmac.new(secret, b"phone\0" + number.encode(), hashlib.sha256).hexdigest())


def order_identity(source: str, order_id: str) -> Identity:
    """The identity of an order: whoever placed it."""
    return (f"{source}{ORDER}", order_id)


def known(connection: Connection, wanted: Iterable[Identity]) -> dict[Identity, int]:
    """The customers of those identities that are known."""
    wanted = set(wanted)
    rows = connection.execute(
        sa.select(identities.c.source, identities.c.external_id, identities.c.customer_id).where(
            bulk.among(identities.c.external_id, sorted({external_id for _, external_id in wanted}))
        )
    )
    return {(row.source, row.external_id): row.customer_id for row in rows if (row.source, row.external_id) in wanted}


def accounts(connection: Connection, customer_ids: Iterable[int]) -> dict[int, set[Identity]]:
    """The accounts of these customers; an empty set for those without one."""
    wanted = sorted(set(customer_ids))
    i = identities.c
    rows = connection.execute(
        sa.select(i.customer_id, i.source, i.external_id).where(bulk.among(i.customer_id, wanted), ACCOUNTS)
    )
    found: dict[int, set[Identity]] = {customer: set() for customer in wanted}
    for row in rows:
        found[row.customer_id].add((row.source, row.external_id))
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """Who really holds new identities, and which new customers are somebody whom another was first to make."""

    owners: Mapping[Identity, int]
    turned_out: Mapping[int, int]


def settle(
    connection: Connection,
    claimed: Mapping[Identity, int],
    created: Mapping[int, datetime],
    many_ids: Collection[str] = frozenset(),
) -> Settled:
    """Write new customers (their profiles follow) and identities.

    Two transactions may meet the same new person at once: the second waits at the UNIQUE constraint, and then takes
    the customer that the first made instead of its own, unless the rules say that they are two.

    Args:
      claimed: the customer that each new identity should belong to.
      created: ids reserved for new customers, with the instant since which they are known.
      many_ids: sources that give one person several ids.
    """
    bulk.insert(
        connection,
        customers,
        ("id", "orders", "spent", "since"),
        [(customer, 0, 0, since) for customer, since in created.items()],
    )
    return settle_claims(connection, claimed, created, many_ids)


def settle_claims(
    connection: Connection,
    claimed: Mapping[Identity, int],
    created: Container[int],
    many_ids: Collection[str] = frozenset(),
) -> Settled:
    """Write identities, as `settle` does, of new customers that are written already."""
    rows = [(source, external_id, claimed[source, external_id]) for source, external_id in sorted(claimed)]
    taken = bulk.insert_new(connection, identities, ("source", "external_id", "customer_id"), rows)
    if taken == len(rows):
        return Settled(owners=claimed, turned_out={})
    owners = known(connection, claimed)
    lost = [one for one in claimed if owners[one] != claimed[one] and claimed[one] in created]
    theirs = accounts(connection, {owners[one] for one in lost})
    turned_out: dict[int, int] = {}
    for one in lost:
        mine, other = claimed[one], owners[one]
        if mine not in turned_out and not are_two(
            (each for each in claimed if claimed[each] == mine), theirs[other], many_ids
        ):
            turned_out[mine] = other
            theirs[other].update(each for each in claimed if claimed[each] == mine and is_account(each))
    for mine, other in turned_out.items():
        connection.execute(identities.update().where(identities.c.customer_id == mine).values(customer_id=other))
    if turned_out:
        connection.execute(customers.delete().where(bulk.among(customers.c.id, sorted(turned_out))))
    return Settled(owners={one: turned_out.get(owner, owner) for one, owner in owners.items()}, turned_out=turned_out)


def orders_called(connection: Connection, given: str) -> list[tuple[str, str, int]]:
    """The orders that a person means, by the order's id or source/id: source, id, and whose each is."""
    before, _, id_ = given.rpartition("/")
    i = identities.c
    wanted = bulk.among(i.external_id, sorted({given, id_})) & i.source.endswith(ORDER)
    rows = connection.execute(sa.select(i.source, i.external_id, i.customer_id).where(wanted).order_by(i.source))
    found = [(row.source.removesuffix(ORDER), row.external_id, row.customer_id) for row in rows]
    return [
        (source, order, customer)
        for source, order, customer in found
        if source != OURS and (order == given or (source, order) == (before, id_))
    ]


def event_identity(source: str, event: str, order_id: str) -> Identity:
    """The identity of an order's event at the source that owns it: what others tell of it waits for this."""
    return (f"{source}:{event}", order_id)


def claim(connection: Connection, wanted: Mapping[Identity, int]) -> None:
    """Give identities to known customers; those that belong to somebody already stay with them."""
    bulk.insert(
        connection,
        identities,
        ("source", "external_id", "customer_id"),
        [(*one, wanted[one]) for one in sorted(wanted)],
        on_conflict="DO NOTHING",
    )


def find_customer(connection: Connection, secret: bytes, given: str) -> int | None:
    """The customer that a person means who writes an address, our number, or an id at a source.

    The number of a customer who was merged into another leads to that one.
    """
    if "@" in given:
        source, external_id = email_identity(secret, given)
        query = sa.select(identities.c.customer_id).where(
            identities.c.source == source, identities.c.external_id == external_id
        )
        return connection.execute(query).scalar()
    if given.isdigit():
        found = kept(connection, [int(given)]).get(int(given))
        if found is not None:
            return found
    external_id = given.rpartition("/")[2]
    query = sa.select(identities.c.customer_id).where(identities.c.external_id == external_id).limit(1)
    return connection.execute(query).scalar()
