"""Who is meant: from what a source says (an id, an address, an order) to a customer of ours.

An identity is a pair of a source and an id there, and belongs to one customer for ever. An address is an identity too,
under the source "email" and as a keyed hash, so that the promise "one customer per address" is a UNIQUE constraint
and no address stands outside `profiles`.
"""

import hmac
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk
from db.tables import customers, identities

#: (source, external id)
Identity = tuple[str, str]


def address_digest(secret: bytes, address: str) -> bytes:
    """The keyed hash of a normalised address: enough to recognise it, useless to whoever takes the table."""
    return hmac.digest(secret, b"address\0" + address.strip().lower().encode(), "sha256")


def email_identity(secret: bytes, address: str) -> Identity:
    """The identity of an address."""
    return ("email", address_digest(secret, address).hex())


def order_identity(source: str, order_id: str) -> Identity:
    """The identity of an order: whoever placed it."""
    return (f"{source}:order", order_id)


def known(connection: Connection, wanted: Iterable[Identity]) -> dict[Identity, int]:
    """The customers of those identities that are known."""
    wanted = set(wanted)
    rows = connection.execute(
        sa.select(identities.c.source, identities.c.external_id, identities.c.customer_id).where(
            bulk.among(identities.c.external_id, sorted({external_id for _, external_id in wanted}))
        )
    )
    return {(row.source, row.external_id): row.customer_id for row in rows if (row.source, row.external_id) in wanted}


def settle(
    connection: Connection, claimed: Mapping[Identity, int], created: Mapping[int, datetime]
) -> dict[Identity, int]:
    """Write new customers (their profiles follow) and identities; the customer that each identity really belongs to.

    Two transactions may meet the same new person at once: the second waits at the UNIQUE constraint, and then takes
    the customer that the first made instead of its own.

    Args:
      claimed: the customer that each new identity should belong to.
      created: ids reserved for new customers, with the instant since which they are known.
    """
    bulk.insert(
        connection,
        customers,
        ("id", "orders", "spent", "since"),
        [(customer, 0, 0, since) for customer, since in created.items()],
    )
    return claim(connection, claimed, created)


def claim(connection: Connection, claimed: Mapping[Identity, int], created: Container[int]) -> dict[Identity, int]:
    """Write identities, as `settle` does, of new customers that are written already."""
    rows = [(source, external_id, claimed[source, external_id]) for source, external_id in sorted(claimed)]
    taken = bulk.insert_new(connection, identities, ("source", "external_id", "customer_id"), rows)
    settled = dict(claimed) if taken == len(rows) else known(connection, claimed)
    # Of a person whom another was first to make, we may have been first with a weaker identity, such as an order.
    others = {claimed[one]: settled[one] for one in reversed(list(claimed)) if settled[one] != claimed[one]}
    for mine, theirs in others.items():
        if mine in created:
            connection.execute(identities.update().where(identities.c.customer_id == mine).values(customer_id=theirs))
    settled = {one: others.get(owner, owner) if owner in created else owner for one, owner in settled.items()}
    kept = set(settled.values())
    orphans = sorted({customer for customer in claimed.values() if customer in created} - kept)
    if orphans:
        connection.execute(customers.delete().where(bulk.among(customers.c.id, orphans)))
    return settled


def existing(connection: Connection, ids: Iterable[int]) -> set[int]:
    """Which of these numbers are customers of ours."""
    wanted = sorted(set(ids))
    if not wanted:
        return set()
    return {row[0] for row in connection.execute(sa.select(customers.c.id).where(bulk.among(customers.c.id, wanted)))}


def find_customer(connection: Connection, secret: bytes, given: str) -> int | None:
    """The customer that a person means who writes an address, our number, or an id at a source."""
    if "@" in given:
        source, external_id = email_identity(secret, given)
        query = sa.select(identities.c.customer_id).where(
            identities.c.source == source, identities.c.external_id == external_id
        )
        return connection.execute(query).scalar()
    if given.isdigit():
        found: int | None = connection.execute(sa.select(customers.c.id).where(customers.c.id == int(given))).scalar()
        if found is not None:
            return found
    external_id = given.rpartition("/")[2]
    query = sa.select(identities.c.customer_id).where(identities.c.external_id == external_id).limit(1)
    return connection.execute(query).scalar()


def lock_customers(connection: Connection, ids: Sequence[int]) -> dict[int, sa.Row[tuple[object, ...]]]:
    """Lock customers in the order of their ids, waiting for others; their rows as they are now."""
    rows = connection.execute(
        sa.select(customers)
        .where(bulk.among(customers.c.id, sorted(set(ids))))
        .order_by(customers.c.id)
        .with_for_update(key_share=True)
    )
    return {row.id: row for row in rows}
