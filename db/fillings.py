"""How often the paths of events are filled, kept from one round to the next; and the events to look at."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.drift import CUSTOMER, Filling
from db import bulk
from db.tables import events, fillings, profiles

#: A path of an event of a source.
Key = tuple[str, str, str]


def newest(connection: Connection, after: int, limit: int) -> Sequence[Any]:
    """The newest events with an id above `after`, oldest first: id, source, name, payload, and for each fact about the
    customer whether it is known (never the fact).
    """
    known = [profiles.c[name].is_not(None).label(name) for name in CUSTOMER]
    query = (
        sa.select(events.c.id, events.c.source, events.c.name, events.c.payload, *known)
        .outerjoin(profiles, profiles.c.customer_id == events.c.customer_id)
        .where(events.c.id > after)
        .order_by(events.c.id.desc())
        .limit(limit)
    )
    return connection.execute(query).all()[::-1]


def load(connection: Connection, digests: Mapping[str, str]) -> dict[Key, Filling]:
    """What is known of these sources under these files.

    Args:
      digests: of each source's file, by its name.
    """
    f = fillings.c
    query = sa.select(f.source, f.event, f.path, f.seen, f.present, f.latest, f.latest_seen, f.digest)
    return {
        (row.source, row.event, row.path): Filling(
            seen=row.seen, present=row.present, latest=row.latest, latest_seen=row.latest_seen
        )
        for row in connection.execute(query)
        if digests.get(row.source) == row.digest
    }


def save(connection: Connection, known: Mapping[Key, Filling], digests: Mapping[str, str], now: datetime) -> None:
    """Keep these, over what was there."""
    columns = ("source", "event", "path", "seen", "present", "latest", "latest_seen", "digest", "at")
    changed = ", ".join(f"{name} = excluded.{name}" for name in columns[3:])
    bulk.insert(
        connection,
        fillings,
        columns,
        [
            (*key, filling.seen, filling.present, filling.latest, filling.latest_seen, digests[key[0]], now)
            for key, filling in sorted(known.items())
        ],
        on_conflict=f"(source, event, path) DO UPDATE SET {changed}",
    )


def forget(connection: Connection, digests: Iterable[str]) -> None:
    """Delete what was learned under other files than those with these digests."""
    connection.execute(fillings.delete().where(~bulk.among(fillings.c.digest, sorted(digests))))
