"""What a template would read of a customer in the database, for looking at it before anybody gets it."""

from collections.abc import Collection, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.language.shop import Shop
from db import people
from db.tables import events

#: So many of a customer's newest events are looked through.
LOOK_BACK: Final = 200


def facts_of(
    connection: Connection,
    shop: Shop,
    customer_id: int,
    wanted: Collection[str],
    awaited: Mapping[str, Collection[str]],
    starting: Collection[str],
) -> dict[str, Any]:
    """Facts by first name, as far as there are any: the customer, and what their newest events carry.

    Args:
      wanted: first names, such as `order`.
      awaited: events whose whole payload stands under another name: events by that name.
      starting: events that come first, since they start the flow that sends the mail.
    """
    e = events.c
    rows = connection.execute(
        sa.select(e.name, e.payload)
        .where(e.customer_id == customer_id)
        .order_by(e.occurred_at.desc(), e.id.desc())
        .limit(LOOK_BACK)
    ).all()
    found: dict[str, Any] = {}
    for name, answers in awaited.items():
        payload = next((row.payload for row in rows if row.name in answers), None)
        if name in wanted and payload is not None:
            found[name] = payload
    # One event that carries all tells of one order; two may tell of two.
    for row in sorted(rows, key=lambda row: (row.name not in starting, -sum(name in row.payload for name in wanted))):
        for name in wanted:
            if name in row.payload:
                found.setdefault(name, row.payload[name])
    found["customer"] = people.load(connection, [customer_id], segments=True)[customer_id].facts(shop)
    return found
