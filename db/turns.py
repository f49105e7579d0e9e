"""The turns of marketing, where a rate is declared: shared by all workers, one row for the shop and one for each flow.

Who asks for a turn has the rows locked until the end of its transaction, so the rate is kept exactly whoever sends.
Only batches of which a marketing mail could go ask, and for all of their mails with one statement.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.language.flow.graph import Flow
from afterglow.language.shop import Shop
from afterglow.pacing import LONG_AGO, SHOP, Pace
from db import bulk
from db.tables import send_turns


def lock(connection: Connection, shop: Shop, flows: Sequence[Flow]) -> Pace:
    """The pace of a shop and of these flows, locked until the transaction ends."""
    names = sorted({flow.name for flow in flows} | ({SHOP} if shop.rate else set()))
    rows = _locked(connection, names)
    if missing := set(names) - {row.name for row in rows}:
        new = [(name, LONG_AGO, LONG_AGO) for name in sorted(missing)]
        bulk.insert(connection, send_turns, ("name", "free_at", "line_at"), new, on_conflict="(name) DO NOTHING")
        rows = _locked(connection, names)
    return Pace(
        free_at={row.name: row.free_at for row in rows},
        line_at={row.name: row.line_at for row in rows},
    )


def _locked(connection: Connection, names: Sequence[str]) -> Sequence[Any]:
    c = send_turns.c
    query = sa.select(c.name, c.free_at, c.line_at).where(bulk.among(c.name, names)).order_by(c.name)
    return connection.execute(query.with_for_update()).all()


def keep(connection: Connection, pace: Pace) -> None:
    """Write a pace back that `lock` read and mails took turns of."""
    rows = [(name, pace.free_at[name], pace.line_at[name]) for name in pace.free_at]
    bulk.update(connection, send_turns, ("name", "free_at", "line_at"), rows)
