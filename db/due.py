"""Claiming what is due: the fast lane first, then the slow one; customers locked, those locked elsewhere left out.

Each statement is a constant text that walks the partial index of due rows (`ix_<table>_due`) and stops at its limit.
`now` is bound, because `clock_timestamp()` in the predicate could not use the index.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk
from db.people import MergedMeanwhileError
from db.tables import Moment, customers

#: Of each batch, this share goes to the fast lane first, so that the slow lane is never starved either.
FAST_SHARE = 0.9

_now = sa.bindparam("now", type_=Moment)
_limit = sa.bindparam("limit", type_=sa.Integer)
_fast_limit = sa.bindparam("fast_limit", type_=sa.Integer)


class Due:
    """The claims of one table whose rows have a state, a lane, a due moment and a customer.

    Args:
      state: the state of rows that can be due.
      further: conditions besides, with parameters of their own where they need them.
    """

    def __init__(self, table: sa.Table, state: str, *further: sa.ColumnElement[bool]) -> None:
        self.table = table
        common = (table.c.state == state, table.c.due_at <= _now, *further)
        never_died = table.c.tries == sa.literal_column("0")
        fast = self._claim(*common, never_died, table.c.lane == sa.literal_column("0"), by=table.c.due_at)
        fast_lane = fast.limit(_fast_limit).cte("fast_lane")
        slow = self._claim(*common, never_died, table.c.lane == sa.literal_column("1"), by=table.c.due_at)
        room = _limit - sa.select(sa.func.count()).select_from(fast_lane).scalar_subquery()
        slow_lane = slow.limit(room).cte("slow_lane")
        self.both = sa.union_all(sa.select(fast_lane.c.id), sa.select(slow_lane.c.id))
        # First those that fewest processes died of: whoever stands first is beside every death, whatever its reason.
        died = self._claim(*common, table.c.tries > sa.literal_column("0"), by=table.c.tries)
        self.alone = died.order_by(table.c.id).limit(_limit)

    def _claim(self, *where: sa.ColumnElement[bool], by: sa.Column[Any]) -> sa.Select[Any]:
        return (
            sa.select(self.table.c.id)
            .join(customers, customers.c.id == self.table.c.customer_id)
            # Asked again once the lock is held: who was merged meanwhile is left out, and found again under the other.
            .where(*where, customers.c.merged_into.is_(None))
            .order_by(by)
            .with_for_update(of=customers, key_share=True, skip_locked=True)
        )

    def claim(self, connection: Connection, now: datetime, limit: int, *, alone: bool, **given: object) -> list[int]:
        """Lock the customers of up to `limit` due rows (only those that must run alone, or only others); their ids."""
        query = self.alone if alone else self.both
        limits = {"limit": limit} if alone else {"limit": limit, "fast_limit": full(limit)}
        return [row.id for row in connection.execute(query, {"now": now, **limits, **given})]

    def lock(self, connection: Connection, ids: Sequence[int]) -> None:
        """Lock the customers of these rows, waiting for others.

        Raises:
          MergedMeanwhileError: somebody merged one of them while we waited, so that the rows are another's now.
        """
        theirs = sa.select(self.table.c.customer_id).where(bulk.among(self.table.c.id, ids))
        rows = connection.execute(
            sa.select(customers.c.id, customers.c.merged_into)
            .where(customers.c.id.in_(theirs))
            .order_by(customers.c.id)
            .with_for_update(key_share=True)
        )
        if any(row.merged_into is not None for row in rows.all()):
            raise MergedMeanwhileError


def full(limit: int) -> int:
    """How many rows of the fast lane a claim takes at most; as many or more claimed mean that there may be more."""
    return max(1, int(limit * FAST_SHARE))
