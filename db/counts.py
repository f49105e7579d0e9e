"""How many: the people inside flows, and the fates of their mails."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.tables import documents, enrollments, touchpoints


def people_by_flow(connection: Connection) -> dict[str, dict[str, int]]:
    """Runs by flow and state, every version of a flow together."""
    query = (
        sa.select(documents.c.name.label("flow"), enrollments.c.state, sa.func.count().label("runs"))
        .join(documents, documents.c.id == enrollments.c.flow_id)
        .group_by(documents.c.name, enrollments.c.state)
    )
    return _nested(connection, query)


def touchpoints_by_flow(connection: Connection) -> dict[str, dict[str, int]]:
    """Touchpoints by flow and state."""
    t = touchpoints.c
    return _nested(connection, sa.select(t.flow, t.state, sa.func.count().label("messages")).group_by(t.flow, t.state))


def _nested(connection: Connection, query: sa.Select[Any]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for flow, state, number in connection.execute(query):
        found.setdefault(flow, {})[state] = number
    return found
