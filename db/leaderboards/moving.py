"""Scores of customers who are merged, parted or forgotten."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk
from db.leaderboards.scoring import Key, add, note_late
from db.tables import late_scores, scores, seasons

_s = scores.c


def move(connection: Connection, origin: int, to: int, now: datetime) -> dict[str, list[dict[str, Any]]]:
    """Add a customer's scores to another's, whom they turned out to be. The scores of both as they were."""
    both = _rows_of(connection, [origin, to])
    mine, theirs = ([row for row in both if row["customer_id"] == one] for one in (to, origin))
    _shift(connection, theirs, origin, to, "a merge", now)
    connection.execute(scores.delete().where(_s.customer_id == origin))
    return {"kept": [_frozen(row) for row in mine], "merged": [_frozen(row) for row in theirs]}


def move_back(
    connection: Connection, before: Mapping[str, Sequence[Mapping[str, Any]]], kept: int, merged: int, now: datetime
) -> None:
    """Give back what `move` added, and nothing that came since."""
    theirs = [_thawed(row) for row in before["merged"]]
    _rows_of(connection, [kept, merged])
    _shift(connection, theirs, kept, merged, "a merge undone", now)
    mine = {(row["programme"], row["metric"], row["season"]): row for row in map(_thawed, before["kept"])}
    for row in theirs:
        board = (row["programme"], row["metric"], row["season"])
        where = (_s.customer_id == kept, _s.programme == board[0], _s.metric == board[1], _s.season == board[2])
        was = mine.get(board)
        if was is None:
            connection.execute(scores.delete().where(*where, _s.value == 0))
        else:
            unchanged = scores.update().where(*where, _s.value == was["value"])
            connection.execute(unchanged.values(reached_at=was["reached_at"]))


def _shift(
    connection: Connection, rows: Sequence[Mapping[str, Any]], origin: int, to: int, subject: str, now: datetime
) -> None:
    """Take scores from one customer and add them to another."""
    sums: dict[Key, tuple[int, datetime]] = {}
    late: list[bulk.Row] = []
    for row in rows:
        board = (row["programme"], row["metric"], row["season"])
        for customer_id, delta in ((origin, -row["value"]), (to, row["value"])):
            sums[customer_id, *board] = (delta, row["reached_at"])
            if row["ends_at"] is not None and row["ends_at"] <= now:
                late.append((*board, customer_id, delta, subject, now))
    add(connection, sums)
    note_late(connection, late)


def _rows_of(connection: Connection, customer_ids: Collection[int]) -> list[dict[str, Any]]:
    """Customers' scores with the ends of their seasons, locked in the order in which `record` locks them."""
    same = (seasons.c.programme == _s.programme) & (seasons.c.metric == _s.metric) & (seasons.c.season == _s.season)
    query = (
        sa.select(scores, seasons.c.ends_at)
        .join(seasons, same)
        .where(bulk.among(_s.customer_id, list(customer_ids)))
        .order_by(_s.customer_id, _s.programme, _s.metric, _s.season)
        .with_for_update(of=scores)
    )
    return [dict(row._mapping) for row in connection.execute(query)]


def _frozen(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def _thawed(row: Mapping[str, Any]) -> dict[str, Any]:
    moments = {name: datetime.fromisoformat(row[name]) for name in ("reached_at", "ends_at") if row[name] is not None}
    return {**row, **moments}


def forget(connection: Connection, family: Sequence[int]) -> int:
    """Empty what late changes name of forgotten customers. Scores stay, by number, as those of a former customer."""
    late = late_scores.c
    theirs = bulk.among(late.customer_id, list(family)) & late.subject.is_not(None)
    return connection.execute(late_scores.update().where(theirs).values(subject=None)).rowcount
