"""What is on its way from the inbox to becoming an event, and whose it is.

A customer is found by what the element says, strongest first: an id at its source, an address, an order. One who is not
known is made; an element that names only an order we do not know waits for that order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from afterglow import past
from afterglow.mapping import Mapped
from db import bulk, events, identity, people
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
    #: Fetched so late that it starts nothing and wakes nobody.
    is_history: bool = False


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
    wanted = [_identities(secret, arrival) for arrival in arrivals]
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


def _identities(secret: bytes, arrival: Arrival) -> list[Identity]:
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
    return ones


def _can_be_made(arrival: Arrival) -> bool:
    """Whether this arrival says enough about a person to make a customer of them."""
    who = arrival.mapped.customer
    return who.external_id is not None or who.email is not None or who.customer_id is not None


def _order_id(arrival: Arrival) -> str | None:
    return past.order_of(arrival.mapped.payload)


def new_orders(arrivals: Sequence[Arrival]) -> list[str]:
    """The orders that became known, as `awaits` writes them."""
    return [
        "/".join(identity.order_identity(arrival.source, order_id))
        for arrival in arrivals
        if (order_id := _order_id(arrival)) is not None
    ]


def that_the_past_does_not_know(
    connection: Connection, arrivals: Sequence[Arrival], order_event: str, fates: dict[int, Fate]
) -> list[Arrival]:
    """The arrivals that no import and no fetched list brought before, and no webhook what they fetched.

    Looked at with the customers locked, as the import does, so that the two never miss each other.
    """
    named = [
        (arrival, subject)
        for arrival in arrivals
        if (subject := past.subject(*_of_once(arrival), order_event=order_event)) is not None
    ]
    if not named:
        return list(arrivals)
    keys = {id(arrival): past.past_key(arrival.mapped.event, subject) for arrival, subject in named}
    webhooks = [arrival for arrival, _ in named if not past.is_past(arrival.key)]
    there = events.digests(connection, [(arrival.source, keys[id(arrival)]) for arrival in webhooks])
    repeats = {id(arrival) for arrival in webhooks if (arrival.source, keys[id(arrival)]) in there}
    fetched = [(arrival, subject) for arrival, subject in named if past.is_past(arrival.key)]
    for source in {arrival.source for arrival, _ in fetched}:
        mine = [(arrival, subject) for arrival, subject in fetched if arrival.source == source]
        told = {
            (customer, name, past.order_of(payload))
            for customer, name, payload in events.happened(
                connection,
                [arrival.customer_id for arrival, _ in mine],
                {arrival.mapped.event for arrival, _ in mine},
                source,
            )
        }
        for arrival, subject in mine:
            of = None if arrival.mapped.event == past.CREATED else subject
            if (arrival.customer_id, arrival.mapped.event, of) in told:
                repeats.add(id(arrival))
    by_webhook = {(arrival.source, keys[id(arrival)]) for arrival in webhooks}
    repeats |= {id(arrival) for arrival, _ in fetched if (arrival.source, arrival.key) in by_webhook}
    for arrival, _ in named:
        if id(arrival) in repeats:
            fates[arrival.inbox_id].reason = "a repeat of an event that is recorded already"
    return [arrival for arrival in arrivals if id(arrival) not in repeats]


def _of_once(arrival: Arrival) -> tuple[str, Mapping[str, Any], str | None]:
    mapped = arrival.mapped
    return mapped.event, mapped.payload, mapped.customer.external_id


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
    connection.execute(inbox.update().where(emptied).values(body=b"", headers={}))
    connection.execute(identities_table.delete().where(bulk.among(identities_table.c.customer_id, gone)))
    for id_ in gone:
        del persons[id_]
    return [arrival for arrival in arrivals if arrival.customer_id in persons]
