"""Scores that are right at the moment of the commit that changes them, and the counts from which ranks are read.

Counts that everybody updates would make everybody wait, so a batch only notes which scores moved (`score_moves`), and
`roll_up` takes that into the counts afterwards. A rank is read from both in one statement, so it is exact at once.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.leaderboards import Calendar, Season, metric_of
from db import bulk
from db.engine import dump_json, load_json
from db.leaderboards.places import BITS, LEVELS, TOP, WALKED_AT_ONCE, season_of
from db.tables import late_scores, score_counts, score_moves, scores, seasons

#: Batches of moves that one rolling up takes.
ROLLED_MAX: Final = 200
Key = tuple[int, str, str, str]
_Bucket = tuple[str, str, str, int, int]
_KEY = ("customer_id", "programme", "metric", "season")
_ADD = (
    "(customer_id, programme, metric, season) DO UPDATE SET value = scores.value + excluded.value, "
    "reached_at = CASE WHEN excluded.reached_at > scores.reached_at THEN excluded.reached_at "
    "ELSE scores.reached_at END"
)
_COUNT = ("programme", "metric", "season", "level", "bucket", "n", "total")
_ADD_COUNT = (
    "(programme, metric, season, level, bucket) DO UPDATE SET n = score_counts.n + excluded.n, "
    "total = score_counts.total + excluded.total"
)
_TAKE_MOVES = sa.text(
    "DELETE FROM score_moves WHERE id IN (SELECT id FROM score_moves ORDER BY id LIMIT :most) "
    "RETURNING programme, metric, season, moves"
)
_s = scores.c


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A score that changes: a referral qualified, points were earned, either was taken back."""

    programme: str
    metric: str
    customer_id: int
    #: In the metric's own unit; negative takes back.
    delta: int
    #: When it counts, which decides the season. What takes back has the instant of what it takes back, so that the
    #: season changes in which that was counted.
    at: datetime
    #: What it hangs on, such as "order/shopify/1001" or "referral/17"; no personal data.
    subject: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """A score of one season that is put right: what is to be added."""

    programme: str
    metric: str
    season: Season
    customer_id: int
    delta: int
    reached_at: datetime


def record(connection: Connection, changes: Iterable[Change], calendar: Calendar, now: datetime) -> None:
    """Add changes to the boards of all time and of the seasons that each falls into: four statements for any number.

    Rows are locked in the order of their keys, so two batches never wait for each other; whoever records in several
    steps does so in one order everywhere. Call it late in the transaction. The customers must be the kept ones of
    merged customers.

    Raises:
      UnknownMetricError: a change counts what is not counted here.
    """
    sums: dict[Key, tuple[int, datetime]] = {}
    found: dict[tuple[str, str, str], Season] = {}
    late: list[bulk.Row] = []
    for change in changes:
        if not change.delta:
            continue
        metric_of(change.metric)
        for season in calendar.seasons_at(change.at):
            board = (change.programme, change.metric, season.name)
            found[board] = season
            key = (change.customer_id, *board)
            delta, reached_at = sums.get(key, (0, change.at))
            sums[key] = (delta + change.delta, max(reached_at, change.at))
            if season.until is not None and season.until <= now:
                late.append((*board, change.customer_id, change.delta, change.subject, now))
    _open(connection, found)
    add(connection, sums)
    note_late(connection, late)


def _open(connection: Connection, found: Mapping[tuple[str, str, str], Season]) -> None:
    """Make boards known that are new."""
    rows = [(*board, one.kind, one.start, one.until, 0) for board, one in sorted(found.items(), key=lambda row: row[0])]
    columns = ("programme", "metric", "season", "kind", "starts_at", "ends_at", "revision")
    bulk.insert(connection, seasons, columns, rows, on_conflict="DO NOTHING")


def add(connection: Connection, sums: Mapping[Key, tuple[int, datetime]]) -> None:
    """Add to scores, and note which moved."""
    rows = [(*key, delta, reached_at) for key, (delta, reached_at) in sorted(sums.items())]
    changed = bulk.insert(
        connection,
        scores,
        (*_KEY, "value", "reached_at"),
        rows,
        on_conflict=_ADD,
        returning="customer_id, programme, metric, season, value",
    )
    moves: defaultdict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
    for customer_id, programme, metric, season, value in changed:
        before = value - sums[customer_id, programme, metric, season][0]
        moved = (max(before, 0), max(value, 0))  # 0 and less stand nowhere
        if moved[0] != moved[1]:
            moves[programme, metric, season].append(moved)
    noted = [(*board, dump_json(those)) for board, those in sorted(moves.items())]
    bulk.insert(connection, score_moves, ("programme", "metric", "season", "moves"), noted)


def correct(connection: Connection, corrections: Iterable[Correction], subject: str, now: datetime) -> None:
    """Add to scores of single seasons; of those that are over, it is noted as late, with the subject."""
    sums: dict[Key, tuple[int, datetime]] = {}
    found: dict[tuple[str, str, str], Season] = {}
    late: list[bulk.Row] = []
    for one in corrections:
        board = (one.programme, one.metric, one.season.name)
        found[board] = one.season
        delta, reached_at = sums.get((one.customer_id, *board), (0, one.reached_at))
        sums[one.customer_id, *board] = (delta + one.delta, max(reached_at, one.reached_at))
        if one.season.until is not None and one.season.until <= now:
            late.append((*board, one.customer_id, one.delta, subject, now))
    _open(connection, found)
    add(connection, sums)
    note_late(connection, late)


def recount(connection: Connection, programme: str) -> None:
    """Count the scores of a programme's boards anew, with what waits to be counted."""
    counts: defaultdict[_Bucket, int] = defaultdict(int)
    totals: defaultdict[_Bucket, int] = defaultdict(int)
    query = sa.select(_s.metric, _s.season, _s.value).where(_s.programme == programme, _s.value > 0)
    for row in connection.execute(query, execution_options={"yield_per": WALKED_AT_ONCE}):
        _recount(counts, totals, (programme, row.metric, row.season), row.value, 1)
    for table in (score_moves, score_counts):
        connection.execute(table.delete().where(table.c.programme == programme))
    rows = [(*bucket, n, totals.get(bucket, 0)) for bucket, n in sorted(counts.items())]
    bulk.insert(connection, score_counts, _COUNT, rows)


def kept_at(connection: Connection, programme: str, metric: str, at: datetime) -> list[Season]:
    """The seasons of a board that there are and that an instant falls into."""
    n = seasons.c
    begun = n.starts_at.is_(None) | (n.starts_at <= at)
    open_ = n.ends_at.is_(None) | (n.ends_at > at)
    query = sa.select(seasons).where(n.programme == programme, n.metric == metric, begun, open_)
    return [season_of(row) for row in connection.execute(query.order_by(n.season))]


def roll_up(connection: Connection) -> int:
    """Take what moved into the counts. How many batches; more may wait where it is ROLLED_MAX.

    One at a time does it (`db.rounds`); two would wait for each other, and be as right.
    """
    counts: defaultdict[_Bucket, int] = defaultdict(int)
    totals: defaultdict[_Bucket, int] = defaultdict(int)
    taken = connection.execute(_TAKE_MOVES, {"most": ROLLED_MAX}).all()
    for *board, moves in taken:
        for before, after in load_json(moves):
            _recount(counts, totals, board, before, -1)
            _recount(counts, totals, board, after, 1)
    rows = [(*bucket, n, totals.get(bucket, 0)) for bucket, n in sorted(counts.items()) if n or totals.get(bucket)]
    bulk.insert(connection, score_counts, _COUNT, rows, on_conflict=_ADD_COUNT)
    return len(taken)


def _recount(
    counts: dict[_Bucket, int], totals: dict[_Bucket, int], board: Sequence[str], score: int, one: int
) -> None:
    """Count a score in (1) or out (-1), at each level."""
    programme, metric, season = board
    if score:
        for level in range(LEVELS):
            counts[programme, metric, season, level, score >> BITS * level] += one
        totals[programme, metric, season, TOP, score >> BITS * TOP] += one * score


def note_late(connection: Connection, late: Sequence[bulk.Row]) -> None:
    columns = ("programme", "metric", "season", "customer_id", "delta", "subject", "recorded_at")
    bulk.insert(connection, late_scores, columns, late)
