"""What is on its way from the inbox to becoming an event, and whose it is.

A customer is found by what the element says, by the rules of `afterglow.matching`. One who is not known is made; an
element that names only an order we do not know waits for that order. Where an element shows that two customers are one,
that is noted here, and done by `workers.merging` soon after.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from afterglow import past
from afterglow.language.company import is_of_colleague
from afterglow.mapping import Mapped
from afterglow.mapping.addresses import normalised_phone
from afterglow.matching import ORDER, Identity, Named, One, Register, found_one, is_account
from db import bulk, events, identity, people
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
    number: int | None = None  # of the customer, where the element gives ours
    #: Fetched so late that it starts nothing and wakes nobody.
    is_history: bool = False


@dataclass(kw_only=True, slots=True)
class Fate:
    """What became of an inbox row."""

    state: InboxState
    reason: str | None = None
    customer_id: int | None = None
    awaits: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Matching:
    """What the files in force say about who is who."""

    secret: bytes
    by_phone: bool
    many_ids: Collection[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Identified:
    """The arrivals that have a customer, the customers made now, and those who turned out to be one."""

    arrivals: Sequence[Arrival]
    fresh: dict[int, Person]
    ones: Sequence[One]


def identified(
    connection: Connection, matching: Matching, arrivals: Sequence[Arrival], fates: dict[int, Fate]
) -> Identified:
    """Give every arrival its customer: a known one, one made now, or (for an unknown order) none yet."""
    arrivals = _of_known_numbers(connection, arrivals, fates)
    wanted = [named(matching, arrival) for arrival in arrivals]
    known = identity.known(connection, (one for names in wanted for one in names.identities))
    accounts = Accounts(connection, known.values())
    register = Register(owners=known, accounts=accounts, many_ids=matching.many_ids)
    numbers = iter(bulk.next_ids(connection, customers_table, _strangers(wanted, known)))
    created: dict[int, datetime] = {}
    found: list[Arrival] = []
    for arrival, names in zip(arrivals, wanted, strict=True):

        def make(arrival: Arrival = arrival) -> int:
            created[id_ := next(numbers)] = arrival.mapped.occurred_at
            return id_

        customer = register.meet(names, make)
        if customer is None:
            awaits = next(("/".join(one) for one in names.identities if one[0].endswith(ORDER)), None)
            fates[arrival.inbox_id] = Fate(
                state=InboxState.AWAITING, reason="it names an order that has not come yet", awaits=awaits
            )
            continue
        arrival.customer_id = customer
        found.append(arrival)
    settled = identity.settle(connection, register.claimed, created, matching.many_ids)
    register.owners.update(settled.owners)
    for arrival in found:
        arrival.customer_id = settled.turned_out.get(arrival.customer_id, arrival.customer_id)
        fates[arrival.inbox_id] = Fate(state=InboxState.MAPPED, customer_id=arrival.customer_id)
    fresh = {id_: people.new(id_, since) for id_, since in created.items() if id_ not in settled.turned_out}
    ones = [one for names in wanted for one in found_one(names, register)]
    return Identified(arrivals=found, fresh=fresh, ones=ones)


class Accounts(dict[int, set[Identity]]):
    """The accounts of customers, read for all of them at once when the first is asked for: few batches ask."""

    def __init__(self, connection: Connection, customer_ids: Iterable[int]) -> None:
        super().__init__()
        self._connection, self._unread = connection, set(customer_ids)

    def __missing__(self, customer_id: int) -> set[Identity]:
        self._unread.add(customer_id)
        self.update(identity.accounts(self._connection, self._unread))
        self._unread.clear()
        return self[customer_id]


def _strangers(wanted: Sequence[Named], known: Collection[Identity]) -> int:
    """At most how many new customers there will be: an unknown account may be one although its address is known."""
    return sum(
        names.number is None
        and names.can_be_new
        and not any(one in known for one in names.identities if is_account(one) == is_account(names.identities[0]))
        for names in wanted
    )


def _of_known_numbers(connection: Connection, arrivals: Sequence[Arrival], fates: dict[int, Fate]) -> list[Arrival]:
    """The arrivals that give no number of ours, or one that we know, perhaps of somebody who was merged."""
    numbers = {number for arrival in arrivals if (number := arrival.mapped.customer.customer_id) is not None}
    kept = people.kept(connection, numbers)
    known = []
    for arrival in arrivals:
        number = arrival.mapped.customer.customer_id
        if number is not None and number not in kept:
            reason = f"there is no customer {number} here"
            fates[arrival.inbox_id] = Fate(state=InboxState.PARKED, reason=reason)
            continue
        arrival.number = kept[number] if number is not None else None
        known.append(arrival)
    return known


def named(matching: Matching, arrival: Arrival) -> Named:
    """What names the customer, strongest first."""
    who = arrival.mapped.customer
    ones: list[Identity] = []
    if who.external_id is not None:
        ones.append((arrival.source, who.external_id))
    if who.email is not None:
        ones.append(identity.email_identity(matching.secret, who.email))
    order_id = who.order_id or _order_id(arrival)
    if order_id is not None:
        ones.append(identity.order_identity(arrival.source, order_id))
        if arrival.is_joined:
            ones.append(identity.event_identity(arrival.source, arrival.mapped.event, order_id))
    can_be_new = who.external_id is not None or who.email is not None
    if matching.by_phone and can_be_new and (number := normalised_phone(who.phone)) is not None:
        ones.append(identity.phone_identity(matching.secret, number))
    return Named(identities=tuple(ones), number=arrival.number, can_be_new=can_be_new)


def _order_id(arrival: Arrival) -> str | None:
    if is_of_colleague(arrival.mapped.event):
        return None  # theirs, not this customer's
    return past.order_of(arrival.mapped.payload)


def new_orders(arrivals: Sequence[Arrival]) -> list[str]:
    """The orders, and the events of orders, that became known, as `awaits` writes them."""
    found = []
    for arrival in arrivals:
        if (order_id := _order_id(arrival)) is not None:
            found.append("/".join(identity.order_identity(arrival.source, order_id)))
            if arrival.is_joined:
                found.append("/".join(identity.event_identity(arrival.source, arrival.mapped.event, order_id)))
    return found


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
    connection.execute(inbox.update().where(emptied).values(body=b"", headers={}, fetched=None))
    connection.execute(identities_table.delete().where(bulk.among(identities_table.c.customer_id, gone)))
    for id_ in gone:
        del persons[id_]
    return [arrival for arrival in arrivals if arrival.customer_id in persons]
