"""What is on its way from the inbox to becoming an event, and whose it is.

A customer is found by what the element says, strongest first: an id at its source, an address, an order. One who is not
known is made; an element that names only an order we do not know waits for that order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from afterglow.mapping import Mapped
from db import bulk, identity, people
from db.identity import Identity
from db.people import Person
from db.tables import InboxState, inbox
from db.tables import customers as customers_table
from db.tables import identities as identities_table


@dataclass(kw_only=True, slots=True)
class Arrival:
    """One element on its way to becoming an event."""

    inbox_id: int
    source: str
    key: str
    at: datetime  # when it counts as received
    mapped: Mapped
    digest: bytes
    event_id: int = 0
    customer_id: int = 0
    #: The source that owns this event, where it is another one; then this only adds to what the owner says.
    owner: str | None = None
    #: Whether others may add to it.
    is_joined: bool = False


@dataclass(kw_only=True, slots=True)
class Fate:
    """What became of an inbox row."""

    state: InboxState
    reason: str | None = None
    customer_id: int | None = None
    awaits: str | None = None


def identified(
    connection: Connection, secret: bytes, arrivals: Sequence[Arrival], fates: dict[int, Fate]
) -> tuple[list[Arrival], dict[int, Person]]:
    """Give every arrival its customer: a known one, one made now, or (for an unknown order) none yet.

    The arrivals that have one, and the customers made now.
    """
    arrivals = _of_known_numbers(connection, arrivals, fates)
    wanted = [identities_of(secret, arrival) for arrival in arrivals]
    customers = identity.known(connection, (one for ones in wanted for one in ones))
    unknown = sum(
        1
        for arrival, ones in zip(arrivals, wanted, strict=True)
        if not any(one in customers for one in ones) and _can_be_made(arrival)
    )
    numbers = iter(bulk.next_ids(connection, customers_table, unknown))
    created: dict[int, datetime] = {}
    claimed: dict[Identity, int] = {}
    identified = []
    for arrival, ones in zip(arrivals, wanted, strict=True):
        customer = arrival.mapped.customer.customer_id
        if customer is None:
            customer = next((customers[one] for one in ones if one in customers), None)
        if customer is None and not _can_be_made(arrival):
            awaits = "/".join(ones[-1]) if ones else None
            fates[arrival.inbox_id] = Fate(
                state=InboxState.AWAITING, reason="it names an order that has not come yet", awaits=awaits
            )
            continue
        if customer is None:
            customer = next(numbers)
            created[customer] = arrival.mapped.occurred_at
        for one in ones:
            if one not in customers:
                customers[one] = claimed[one] = customer
        arrival.customer_id = customer
        identified.append(arrival)
    settled = identity.settle(connection, claimed, created)
    for arrival, ones in zip(arrivals, wanted, strict=True):
        mine = next((settled[one] for one in ones if one in settled), None)
        if arrival.customer_id in created and mine is not None:
            arrival.customer_id = mine
        fates.setdefault(arrival.inbox_id, Fate(state=InboxState.MAPPED, customer_id=arrival.customer_id or None))
    fresh = {id_: people.new(id_, created[id_]) for arrival in identified if (id_ := arrival.customer_id) in created}
    return identified, fresh


def _of_known_numbers(connection: Connection, arrivals: Sequence[Arrival], fates: dict[int, Fate]) -> list[Arrival]:
    """The arrivals that give no number of ours, or one that we know."""
    numbers = {arrival.mapped.customer.customer_id for arrival in arrivals} - {None}
    known = identity.existing(connection, (number for number in numbers if number is not None)) | {None}
    for arrival in arrivals:
        if (number := arrival.mapped.customer.customer_id) not in known:
            reason = f"there is no customer {number} here"
            fates[arrival.inbox_id] = Fate(state=InboxState.PARKED, reason=reason)
    return [arrival for arrival in arrivals if arrival.mapped.customer.customer_id in known]


def identities_of(secret: bytes, arrival: Arrival) -> list[Identity]:
    """What names the customer, strongest first."""
    who = arrival.mapped.customer
    ones: list[Identity] = []
    if who.external_id is not None:
        ones.append((arrival.source, who.external_id))
    if who.email is not None:
        ones.append(identity.email_identity(secret, who.email))
    order_id = who.order_id or _order_id(arrival)
    if order_id is not None:
        ones.append(identity.order_identity(arrival.source, order_id))
        if arrival.is_joined:
            ones.append(identity.event_identity(arrival.source, arrival.mapped.event, order_id))
    return ones


def _can_be_made(arrival: Arrival) -> bool:
    """Whether this arrival says enough about a person to make a customer of them."""
    who = arrival.mapped.customer
    return who.external_id is not None or who.email is not None or who.customer_id is not None


def named_by(secret: bytes, arrival: Arrival) -> tuple[list[Identity], bool]:
    """What names the customer of an arrival, strongest first, and whether a customer could be made of it."""
    return identities_of(secret, arrival), _can_be_made(arrival)


def _order_id(arrival: Arrival) -> str | None:
    order = arrival.mapped.payload.get("order")
    found = order.get("id") if isinstance(order, dict) else None
    return str(found) if found is not None else None


def new_orders(arrivals: Sequence[Arrival]) -> list[str]:
    """The orders, and the events of orders, that became known, as `awaits` writes them."""
    found = []
    for arrival in arrivals:
        if (order_id := _order_id(arrival)) is not None:
            found.append("/".join(identity.order_identity(arrival.source, order_id)))
            if arrival.is_joined:
                found.append("/".join(identity.event_identity(arrival.source, arrival.mapped.event, order_id)))
    return found


def of_those_not_forgotten(
    connection: Connection, arrivals: Sequence[Arrival], persons: dict[int, Person], fates: dict[int, Fate]
) -> list[Arrival]:
    """The arrivals whose customers were not forgotten, perhaps while this batch waited for their locks.

    What concerns a forgotten customer is let go with all that it says, or it would bring their data back.
    """
    gone = [id_ for id_, person in persons.items() if person.forgotten_at is not None]
    if not gone:
        return list(arrivals)
    refused = [arrival for arrival in arrivals if persons[arrival.customer_id].forgotten_at is not None]
    for arrival in refused:
        fates[arrival.inbox_id] = Fate(state=InboxState.IGNORED, reason="the customer was forgotten")
    emptied = bulk.among(inbox.c.id, [arrival.inbox_id for arrival in refused])
    connection.execute(inbox.update().where(emptied).values(body=b"", headers={}, fetched=None))
    connection.execute(identities_table.delete().where(bulk.among(identities_table.c.customer_id, gone)))
    for id_ in gone:
        del persons[id_]
    return [arrival for arrival in arrivals if arrival.customer_id in persons]
