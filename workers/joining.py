"""One sale, one event: the owner's word is the event, and what other sources tell of it is added to that.

A shop, its payment provider and its CRM all tell of one sale, each with an id of its own. `owners` in shop.yaml says
whose word counts; a rule of another source says with `joins` which of the owner's orders it speaks of. Such an arrival
makes no event, enters no stage and starts no flow: it waits for the owner's event, teaches us about the customer,
brings its own ids for them, and adds to the event what it lacked. So the order of arrival does not matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy.engine import Connection

from afterglow.language.catalog import Catalog
from afterglow.language.shop import Shop
from afterglow.learn import learn_about
from afterglow.mapping.joining import joined
from afterglow.matching import Identity, Named, One, Register, found_one
from db import bulk, events, identity
from db.people import Person
from db.tables import InboxState
from db.tables import events as events_table
from workers.arrivals import Accounts, Arrival, Fate, Matching, named


def parted(
    catalog: Catalog, arrivals: Sequence[Arrival], fates: dict[int, Fate]
) -> tuple[list[Arrival], list[Arrival]]:
    """The arrivals that are events, and those that add to another source's event. The rest is let go."""
    own, joining = [], []
    for arrival in arrivals:
        owner = catalog.owner(arrival.source, arrival.mapped.event)
        if owner is None:
            event = arrival.mapped.event
            arrival.is_joined = event in catalog.joined_events and catalog.shop.owner(event) == arrival.source
            own.append(arrival)
        elif arrival.mapped.joins is not None:
            arrival.owner = owner
            joining.append(arrival)
        else:
            reason = f"{owner} owns {arrival.mapped.event} (owners in shop.yaml), and this names no order there"
            fates[arrival.inbox_id] = Fate(state=InboxState.IGNORED, reason=reason)
    return own, joining


def whose(
    connection: Connection, matching: Matching, arrivals: Sequence[Arrival], fates: dict[int, Fate]
) -> tuple[list[Arrival], list[One]]:
    """Give each its customer: whose the owner's order is. One whose order has not come yet waits for it.

    The arrivals that have one, and the customers who turned out to be one: the order's, and whoever held an id or an
    address that came with it. What nobody held becomes the order's customer's.
    """
    if not arrivals:
        return [], []
    wanted = [named(matching, arrival) for arrival in arrivals]
    known = identity.known(connection, [*map(_order, arrivals), *(one for names in wanted for one in names.identities)])
    register = Register(owners=known, accounts=Accounts(connection, known.values()), many_ids=matching.many_ids)
    found, ones = [], list[One]()
    for arrival, names in zip(arrivals, wanted, strict=True):
        order = _order(arrival)
        customer = known.get(order)
        if customer is None:
            fates[arrival.inbox_id] = _awaiting(arrival)
            continue
        arrival.customer_id = customer
        found.append(arrival)
        register.meet(replace(names, number=customer), lambda known=customer: known)  # type: ignore[misc]
        ones += found_one(Named(identities=(order, *names.identities)), register)
    identity.claim(connection, register.claimed)
    return found, ones


def add(
    connection: Connection,
    arrivals: Sequence[Arrival],
    persons: Mapping[int, Person],
    shop: Shop,
    fates: dict[int, Fate],
) -> list[Arrival]:
    """Add what they say to the owners' events; those that found theirs. Their `event_id` is the owner's event's."""
    if not arrivals:
        return []
    told = events.of_orders(
        connection, {arrival.customer_id for arrival in arrivals}, {arrival.mapped.event for arrival in arrivals}
    )
    added, changed = [], dict[int, dict[str, object]]()
    for arrival in arrivals:
        event = told.get(_owned(arrival))
        if event is None:  # the order is known by another event of its owner's
            fates[arrival.inbox_id] = _awaiting(arrival)
            continue
        remarks = learn_about(persons[arrival.customer_id], arrival.mapped, shop, only_gaps=True)
        if more := joined(changed.get(event.id, event.payload), arrival.mapped.payload):
            changed[event.id] = more
        arrival.event_id = event.id
        said = f"added to the {arrival.mapped.event} that {arrival.owner} told of"
        fates[arrival.inbox_id] = Fate(
            state=InboxState.MAPPED,
            customer_id=arrival.customer_id,
            reason=f"{said}; {remarks}" if remarks else said,
        )
        added.append(arrival)
    bulk.update(connection, events_table, ("id", "payload"), list(changed.items()))
    return added


def _owned(arrival: Arrival) -> tuple[str, str, str]:
    """The event that this adds to: its source, its name and its order's id."""
    assert arrival.owner is not None
    assert arrival.mapped.joins is not None
    return arrival.owner, arrival.mapped.event, arrival.mapped.joins


def _order(arrival: Arrival) -> Identity:
    source, _, order_id = _owned(arrival)
    return identity.order_identity(source, order_id)


def _awaiting(arrival: Arrival) -> Fate:
    return Fate(
        state=InboxState.AWAITING,
        reason=f"it adds to a {arrival.mapped.event} that {arrival.owner} has not told of yet",
        awaits="/".join(identity.event_identity(*_owned(arrival))),
    )
