"""What waits for a person: elements of webhooks that could not be understood, and runs that could not go on."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.tables import documents, enrollments, inbox

_INBOX = (inbox.c.id, inbox.c.source, inbox.c.key, inbox.c.state, inbox.c.received_at, inbox.c.awaits, inbox.c.reason)


def elements(
    connection: Connection, states: Sequence[str], source: str | None, limit: int | None = None
) -> Sequence[Any]:
    """Inbox rows in these states, newest first: id, source, key, state, received_at, awaits, reason."""
    query = sa.select(*_INBOX).where(inbox.c.state.in_(states)).order_by(inbox.c.id.desc()).limit(limit)
    return connection.execute(query if source is None else query.where(inbox.c.source == source)).all()


def count_elements(connection: Connection, source: str | None) -> dict[str, int]:
    """How many inbox rows are in each state that waits for something or somebody."""
    query = (
        sa.select(inbox.c.state, sa.func.count().label("rows"))
        .where(inbox.c.state.in_(["parked", "awaiting", "fetching"]))
        .group_by(inbox.c.state)
    )
    rows = connection.execute(query if source is None else query.where(inbox.c.source == source))
    return {row.state: row.rows for row in rows}


def element(connection: Connection, id_: int) -> Any | None:
    """One inbox row, whole."""
    return connection.execute(sa.select(inbox).where(inbox.c.id == id_)).one_or_none()


def parked_runs(connection: Connection, flow: str | None, limit: int | None = None) -> Sequence[Any]:
    """Runs that could not go on, newest first: id, flow, customer_id, step, reason."""
    e, d = enrollments.c, documents.c
    query = (
        sa.select(e.id, d.name.label("flow"), e.customer_id, e.step, e.reason)
        .join(documents, d.id == e.flow_id)
        .where(e.state == sa.literal_column("'parked'"))
        .order_by(e.id.desc())
        .limit(limit)
    )
    return connection.execute(query if flow is None else query.where(d.name == flow)).all()
