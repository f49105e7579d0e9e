"""Leaderboards: scores that are right at the moment of the commit that changes them, and what is read from them.

`record` adds changes inside the transaction of whatever caused them. Reading never walks the referrals: the first
places are an index in order, and a rank is a sum over counts of scores. These counts have levels: at level 0 one for
each score, at level n one for each range of 256**n scores, so that a rank reads at most 255 counts a level whether the
board has ten customers or millions, and scores of euros cost what scores of referrals do.

Counts that everybody updates would make everybody wait, so a batch only notes which scores moved (`score_moves`), and
`roll_up` takes that into the counts afterwards. A rank is read from both in one statement, so it is exact at once.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.language.shop import Shop
from afterglow.leaderboards import (
    ALL,
    METRICS,
    Calendar,
    Metric,
    Score,
    Season,
    digest_of,
    in_order,
    metric_of,
    movement,
    ranks,
)
from afterglow.problems import did_you_mean
from db import bulk
from db.engine import dump_json, load_json
from db.tables import (
    EPOCH,
    MICROSECOND,
    customers,
    late_scores,
    profiles,
    score_counts,
    score_moves,
    scores,
    season_seals,
    seasons,
)

#: Each level's buckets are so many bits wider than those of the level below; the highest holds whatever is higher.
BITS: Final = 8
LEVELS: Final = 6
TOP: Final = LEVELS - 1
#: Places that are kept of a sealed season.
PLACES_MAX: Final = 1000
#: Scores that sealing reads at a time.
WALKED_AT_ONCE: Final = 5_000
#: Batches of moves that one rolling up takes.
ROLLED_MAX: Final = 200
#: Seasons that one round seals.
SEALED_MAX: Final = 20
#: Places among which a part of a name is looked for.
SEARCHED_MAX: Final = 1000
#: What a forgotten customer is called.
FORMER: Final = "a former customer"


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
class Board:
    """Which leaderboard."""

    programme: str
    metric: str
    season: str = ALL


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A place on a board."""

    rank: int
    customer_id: int
    value: int
    reached_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """A place as people read it."""

    place: Place
    name: str
    #: The rank in the season before; None for who was not placed there, or where there is no season before.
    before: int | None

    @property
    def movement(self) -> int | None:
        """Places gained (positive) or lost; None for who is new."""
        return movement(self.before, self.place.rank)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """One thing that a score is made of, such as a referral."""

    #: What it is, in a few words.
    what: str
    #: Its state as a word, such as qualified, and whether a person must look.
    state: str
    needs_you: bool
    at: datetime
    #: The other customer, such as the friend; None where there is none.
    customer_id: int | None = None
    #: Why it stands so: rules and figures, a sentence each. No personal data.
    because: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Seal:
    """A season as it was sealed."""

    revision: int
    sealed_at: datetime
    digest: str
    placed: int
    total: int
    places: Sequence[tuple[int, int, int, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A stretch of a board, with what stands around it."""

    board: Board
    metric: Metric
    season: Season
    #: The season that movement is told against; None where there is none.
    before: Season | None
    #: How many are on the board, and what they have together.
    placed: int
    total: int
    places: Sequence[Named]
    #: What the next page comes after; None on the last.
    further: Place | None
    seals: Sequence[Seal]
    #: What those in these places have on the programme's boards of money in this season, by metric and customer: what
    #: their friends brought beside what rewarding them cost.
    beside: Mapping[str, Mapping[int, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """A score of one season that is put right: what is to be added."""

    programme: str
    metric: str
    season: Season
    customer_id: int
    delta: int
    reached_at: datetime


class UnknownBoardError(AfterglowError):
    """Nobody was ever on a leaderboard of this programme, or of this metric in it."""


_Key = tuple[int, str, str, str]
_Bucket = tuple[str, str, str, int, int]
_KEY = ("customer_id", "programme", "metric", "season")
_ADD = (
    "(customer_id, programme, metric, season) DO UPDATE SET value = scores.value + excluded.value, "
    "reached_at = CASE WHEN excluded.reached_at > scores.reached_at THEN excluded.reached_at "
    "ELSE scores.reached_at END"
)


def record(connection: Connection, changes: Iterable[Change], calendar: Calendar, now: datetime) -> None:
    """Add changes to the boards of all time and of the seasons that each falls into: four statements for any number.

    Rows are locked in the order of their keys, so two batches never wait for each other; whoever records in several
    steps does so in one order everywhere. Call it late in the transaction. The customers must be the kept ones of
    merged customers.

    Raises:
      UnknownMetricError: a change counts what is not counted here.
    """
    sums: dict[_Key, tuple[int, datetime]] = {}
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
    _add(connection, sums)
    _note_late(connection, late)


def _open(connection: Connection, found: Mapping[tuple[str, str, str], Season]) -> None:
    """Make boards known that are new."""
    rows = [(*board, one.kind, one.start, one.until, 0) for board, one in sorted(found.items(), key=lambda row: row[0])]
    columns = ("programme", "metric", "season", "kind", "starts_at", "ends_at", "revision")
    bulk.insert(connection, seasons, columns, rows, on_conflict="DO NOTHING")


def _add(connection: Connection, sums: Mapping[_Key, tuple[int, datetime]]) -> None:
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
    sums: dict[_Key, tuple[int, datetime]] = {}
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
    _add(connection, sums)
    _note_late(connection, late)


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


def season_of(row: Any) -> Season:
    """A row of `seasons` as a season."""
    return Season(name=row.season, kind=row.kind, start=row.starts_at, until=row.ends_at)


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


_COUNT = ("programme", "metric", "season", "level", "bucket", "n", "total")
_ADD_COUNT = (
    "(programme, metric, season, level, bucket) DO UPDATE SET n = score_counts.n + excluded.n, "
    "total = score_counts.total + excluded.total"
)
_TAKE_MOVES = sa.text(
    "DELETE FROM score_moves WHERE id IN (SELECT id FROM score_moves ORDER BY id LIMIT :most) "
    "RETURNING programme, metric, season, moves"
)


def _note_late(connection: Connection, late: Sequence[bulk.Row]) -> None:
    columns = ("programme", "metric", "season", "customer_id", "delta", "subject", "recorded_at")
    bulk.insert(connection, late_scores, columns, late)


# Reading


def top(connection: Connection, board: Board, limit: int = 100, after: Place | None = None) -> list[Place]:
    """The places of a board in order, from the first on, or from behind a place of an earlier page."""
    if after is None:
        found = _read(connection, _on(board).order_by(*_FORWARD).limit(limit))
        return _ranked(found)
    tied = _on(board).where(_s.value == after.value, _s.reached_at >= after.reached_at)
    tied = tied.where((_s.reached_at > after.reached_at) | (_s.customer_id > after.customer_id))
    lower = _on(board).where(_s.value < after.value)
    rows = _read(connection, tied.order_by(*_FORWARD).limit(limit))
    if len(rows) < limit:
        rows += _read(connection, lower.order_by(*_FORWARD).limit(limit - len(rows)))
    return _ranked_from(connection, board, rows)


def rank_of(connection: Connection, board: Board, customer_id: int) -> Place | None:
    """Where a customer stands; None for who is not on the board."""
    rows = _read(connection, _on(board).where(_s.customer_id == customer_id))
    return _ranked_from(connection, board, rows)[0] if rows else None


def around(connection: Connection, board: Board, customer_id: int, each_side: int = 2) -> list[Place]:
    """A customer's place and their neighbours; empty for who is not on the board."""
    mine = rank_of(connection, board, customer_id)
    if mine is None:
        return []
    tied = _on(board).where(_s.value == mine.value, _s.reached_at <= mine.reached_at)
    tied = tied.where((_s.reached_at < mine.reached_at) | (_s.customer_id < mine.customer_id))
    higher = _on(board).where(_s.value > mine.value)
    above = _read(connection, tied.order_by(_s.reached_at.desc(), _s.customer_id.desc()).limit(each_side))
    if len(above) < each_side:
        backward = (_s.value, _s.reached_at.desc(), _s.customer_id.desc())
        above += _read(connection, higher.order_by(*backward).limit(each_side - len(above)))
    below = top(connection, board, each_side, after=mine)
    return [*_ranked_from(connection, board, in_order(above)), mine, *below]


def ranks_of(connection: Connection, board: Board, values: Collection[int]) -> dict[int, int]:
    """The rank that each score has on a board, whether somebody has it or not."""
    return {value: 1 + more for value, (more, _) in _counted(connection, board, values).items()}


def _counted(connection: Connection, board: Board, values: Collection[int]) -> dict[int, tuple[int, int]]:
    """How many have more than each of these scores, and how many have just as much."""
    if not values:
        return {}
    listed = bulk.array_literal(sorted(set(values)))
    if connection.dialect.name != "postgresql":
        listed = f"[{listed[1:-1]}]"
    rows = connection.execute(_rank_query(connection.dialect.name), {**_named(board), "scores": listed}).all()
    moves = [move for row in rows if row.moves is not None for move in load_json(row.moves)]
    before, after = (sorted(move[n] for move in moves) for n in (0, 1))
    found = {}
    for row in rows:
        if row.moves is None:
            value = int(row.value)
            more = _above(after, value) - _above(before, value)
            equal = _above(after, value - 1) - _above(before, value - 1) - more
            found[value] = (int(row.more) + more, int(row.equal) + equal)
    return found


def _above(scores: Sequence[int], value: int) -> int:
    return len(scores) - bisect_right(scores, value)


def ranks_of_customers(connection: Connection, board: Board, customer_ids: Collection[int]) -> dict[int, int]:
    """The ranks of customers on a board; who is not on it is left out."""
    rows = _read(connection, _on(board).where(bulk.among(_s.customer_id, list(customer_ids))))
    by_value = ranks_of(connection, board, {row.value for row in rows})
    return {row.customer_id: by_value[row.value] for row in rows}


def size_of(connection: Connection, board: Board) -> tuple[int, int]:
    """How many customers are on a board, and what they have together."""
    placed = total = 0
    for row in connection.execute(_SIZE, _named(board)):
        if row.moves is None:
            placed, total = placed + int(row.n or 0), total + int(row.total or 0)
        else:
            for before, after in load_json(row.moves):
                placed += (after > 0) - (before > 0)
                total += after - before
    return placed, total


_SIZE = sa.text(
    "SELECT sum(n) AS n, sum(total) AS total, CAST(NULL AS text) AS moves FROM score_counts WHERE programme = "
    f":programme AND metric = :metric AND season = :season AND level = {TOP} "
    "UNION ALL SELECT NULL, NULL, moves FROM score_moves WHERE programme = :programme AND metric = :metric "
    "AND season = :season"
)


def boards(connection: Connection) -> list[tuple[str, str]]:
    """(programme, metric) of every leaderboard that somebody was ever on."""
    query = sa.select(seasons.c.programme, seasons.c.metric).where(seasons.c.season == ALL)
    return [(row.programme, row.metric) for row in connection.execute(query.order_by(*query.selected_columns))]


def metrics_of(connection: Connection, programme: str) -> list[Metric]:
    """What a programme counts, in the order in which it is shown; nothing where nobody ever scored in it."""
    query = sa.select(seasons.c.metric).where(seasons.c.programme == programme, seasons.c.season == ALL)
    found = set(connection.execute(query).scalars())
    return [metric for metric in METRICS.values() if metric.name in found]


def view(
    connection: Connection,
    calendar: Calendar,
    now: datetime,
    *,
    programme: str,
    metric: str | None = None,
    period: str = ALL,
    limit: int = 100,
    after: Place | None = None,
    words: str | None = None,
) -> View:
    """What people read of a board: the first places, those behind an earlier page, or those whose names have words.

    Args:
      metric: what is counted; the first that the programme has, where none is given.
      period: as `Calendar.season` takes it.

    Raises:
      UnknownBoardError, UnknownMetricError, UnknownPeriodError: there is no such board.
    """
    known = metrics_of(connection, programme)
    chosen = metric_of(metric) if metric else next(iter(known), None)
    if chosen is None or chosen not in known:
        raise UnknownBoardError(_no_board(connection, programme, known))
    season = calendar.season(period, now)
    board = Board(programme=programme, metric=chosen.name, season=season.name)
    placed, total = size_of(connection, board)
    found = search(connection, board, words) if words else top(connection, board, limit + 1, after)
    before = calendar.before(season)
    money = [one.name for one in known if one.unit == "money" and one is not chosen]
    return View(
        board=board,
        metric=chosen,
        season=season,
        before=before,
        placed=placed,
        total=total,
        places=named(connection, board, found[:limit], before),
        further=found[limit - 1] if len(found) > limit and not words else None,
        seals=seals(connection, board),
        beside=beside(connection, board, money, [place.customer_id for place in found[:limit]]),
    )


def beside(
    connection: Connection, board: Board, metrics: Sequence[str], customer_ids: Collection[int]
) -> dict[str, dict[int, int]]:
    """What customers have on other boards of the same programme and season, by metric and customer; 0 for nothing."""
    found = {metric: dict.fromkeys(customer_ids, 0) for metric in metrics}
    if not metrics or not customer_ids:
        return found
    query = sa.select(_s.metric, _s.customer_id, _s.value).where(
        bulk.among(_s.customer_id, list(customer_ids)),
        _s.programme == board.programme,
        bulk.among(_s.metric, list(metrics)),
        _s.season == board.season,
    )
    for row in connection.execute(query):
        found[row.metric][row.customer_id] = row.value
    return found


def _no_board(connection: Connection, programme: str, known: Sequence[Metric]) -> str:
    if known:
        return f"Nobody was counted that way in '{programme}' yet; it has {', '.join(one.name for one in known)}."
    programmes = sorted({of for of, _ in boards(connection)})
    return f"Nobody is on a leaderboard of '{programme}' yet.{did_you_mean(programme, programmes)}"


def as_rows(view: View, shop: Shop) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of a board for a spreadsheet; money in major units."""
    is_money = view.metric.unit == "money"
    currency = shop.model.currency.lower()
    value = f"{view.metric.name}_{currency}" if is_money else view.metric.name
    rows: list[list[object]] = [
        [
            one.place.rank,
            one.place.customer_id,
            one.name,
            shop.to_major(one.place.value) if is_money else one.place.value,
            one.place.reached_at.isoformat(),
            one.before,
            one.movement,
            *(shop.to_major(values[one.place.customer_id]) for values in view.beside.values()),
        ]
        for one in view.places
    ]
    columns = ["rank", "customer", "name", value, "reached_at", "rank_before", "movement"]
    return [*columns, *(f"{metric}_{currency}" for metric in view.beside)], rows


def as_json(view: View, shop: Shop) -> dict[str, Any]:
    """A board as programs read it; money in minor units."""
    newest = view.seals[-1] if view.seals else None
    return {
        "programme": view.board.programme,
        "metric": view.metric.name,
        "unit": shop.model.currency if view.metric.unit == "money" else view.metric.unit,
        "season": view.season.name,
        "from": view.season.start,
        "until": view.season.until,
        "customers": view.placed,
        "total": view.total,
        "sealed": {"revision": newest.revision, "at": newest.sealed_at, "digest": newest.digest} if newest else None,
        "places": [
            {
                "rank": one.place.rank,
                "customer": one.place.customer_id,
                "name": one.name,
                "value": one.place.value,
                "reached_at": one.place.reached_at,
                "rank_before": one.before,
                "movement": one.movement,
                "beside": {metric: values[one.place.customer_id] for metric, values in view.beside.items()},
            }
            for one in view.places
        ],
        "further": cursor(view.further) if view.further else None,
    }


def cursor(place: Place) -> str:
    """A place as a page's address names it."""
    return f"{place.rank}.{place.value}.{(place.reached_at - EPOCH) // MICROSECOND}.{place.customer_id}"


def from_cursor(text: str) -> Place | None:
    """The place that `cursor` wrote; None where it is none."""
    parts = text.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() and len(part) < 18 for part in parts):
        return None
    rank, value, reached, customer_id = map(int, parts)
    try:
        reached_at = EPOCH + reached * MICROSECOND
    except OverflowError:
        return None
    return Place(rank=rank, customer_id=customer_id, value=value, reached_at=reached_at)


def values_of(
    connection: Connection, programme: str, metric: str, customer_ids: Collection[int], names: Collection[str]
) -> dict[tuple[int, str], int]:
    """What customers have in seasons, by customer and season."""
    query = sa.select(_s.customer_id, _s.season, _s.value).where(
        bulk.among(_s.customer_id, list(customer_ids)),
        _s.programme == programme,
        _s.metric == metric,
        bulk.among(_s.season, list(names)),
    )
    return {(row.customer_id, row.season): row.value for row in connection.execute(query)}


def named(connection: Connection, board: Board, places: Sequence[Place], before: Season | None) -> list[Named]:
    """Places with the names of those who have them, and where each stood in the season before."""
    ids = [place.customer_id for place in places]
    names = names_of(connection, ids)
    earlier = Board(programme=board.programme, metric=board.metric, season=before.name) if before else None
    stood = ranks_of_customers(connection, earlier, ids) if earlier else {}
    return [Named(place=place, name=names[place.customer_id], before=stood.get(place.customer_id)) for place in places]


def names_of(connection: Connection, customer_ids: Collection[int]) -> dict[int, str]:
    """What to call customers: the name, else the number, never the address; who is forgotten is a former customer."""
    query = (
        sa.select(customers.c.id, customers.c.forgotten_at, profiles.c.first_name, profiles.c.last_name)
        .outerjoin(profiles, profiles.c.customer_id == customers.c.id)
        .where(bulk.among(customers.c.id, list(customer_ids)))
    )
    found = {}
    for row in connection.execute(query):
        name = " ".join(part for part in (row.first_name, row.last_name) if part)
        found[row.id] = FORMER if row.forgotten_at else name or f"Customer {row.id}"
    return found


def search(connection: Connection, board: Board, words: str) -> list[Place]:
    """Those of the first 1,000 places in whose names all these words stand, in any case."""
    places = top(connection, board, SEARCHED_MAX)
    names = names_of(connection, [place.customer_id for place in places])
    wanted = words.casefold().split()
    return [place for place in places if all(word in names[place.customer_id].casefold() for word in wanted)]


_s = scores.c
_FORWARD = (_s.value.desc(), _s.reached_at, _s.customer_id)


def _of(c: Any, board: Board) -> tuple[sa.ColumnElement[bool], ...]:
    return c.programme == board.programme, c.metric == board.metric, c.season == board.season


def _on(board: Board) -> sa.Select[Any]:
    # A constant and no parameter, so that the index of those who are on a board serves.
    return sa.select(_s.customer_id, _s.value, _s.reached_at).where(*_of(_s, board), _s.value > sa.literal_column("0"))


def _read(connection: Connection, query: sa.Select[Any]) -> list[Score]:
    return [Score(**row._mapping) for row in connection.execute(query)]


def _ranked(found: Sequence[Score], first: int = 1, of_first: int | None = None) -> list[Place]:
    return [
        Place(rank=rank, customer_id=score.customer_id, value=score.value, reached_at=score.reached_at)
        for rank, score in zip(ranks(found, first=first, of_first=of_first), found, strict=True)
    ]


def _ranked_from(connection: Connection, board: Board, found: Sequence[Score]) -> list[Place]:
    """Rank a stretch of a board: what is before it is counted."""
    if not found:
        return []
    value = found[0].value
    more, equal = _counted(connection, board, [value])[value]
    return _ranked(found, 1 + more, equal)


def _named(board: Board) -> dict[str, str]:
    return {"programme": board.programme, "metric": board.metric, "season": board.season}


@lru_cache(maxsize=2)
def _rank_query(dialect: str) -> sa.TextClause:
    """How many have more than each of these scores: at each level the counts above it in the same bucket one higher."""
    listed = {
        "postgresql": "unnest(CAST(:scores AS bigint[])) AS v(value)",
        "sqlite": "json_each(:scores) AS v",
    }[dialect]
    sums = []
    for level in range(LEVELS):
        end = "" if level == TOP else f" AND bucket < ((v.value >> {BITS * (level + 1)}) + 1) << {BITS}"
        sums.append(
            "coalesce((SELECT sum(n) FROM score_counts WHERE programme = :programme AND metric = :metric "
            f"AND season = :season AND level = {level} AND bucket > (v.value >> {BITS * level}){end}), 0)"
        )
    of_board = "programme = :programme AND metric = :metric AND season = :season"
    return sa.text(
        f"SELECT v.value AS value, {' + '.join(sums)} AS more, coalesce((SELECT n FROM score_counts WHERE {of_board} "
        f"AND level = 0 AND bucket = v.value), 0) AS equal, CAST(NULL AS text) AS moves FROM {listed} "
        f"UNION ALL SELECT NULL, NULL, NULL, moves FROM score_moves WHERE {of_board}"
    )


# Seasons that are over


def seal_due(connection: Connection, calendar: Calendar, now: datetime) -> list[tuple[Board, Seal]]:
    """Seal the seasons that are over and settled, and those again that changed since; what was sealed.

    A seal is the digest of every score and the first places. It is never changed: late changes make a further revision.
    """
    s, late = seasons.c, late_scores.c
    changed = sa.exists().where(
        late.programme == s.programme, late.metric == s.metric, late.season == s.season, late.revision.is_(None)
    )
    due = connection.execute(
        sa.select(seasons)
        .where(s.ends_at <= now - calendar.settle, (s.revision == 0) | changed)
        .order_by(s.ends_at, s.programme, s.metric, s.season)
        .limit(SEALED_MAX)
        .with_for_update(skip_locked=True)
    ).all()
    sealed = ((row, _seal(connection, row, now)) for row in due)
    return [
        (Board(programme=row.programme, metric=row.metric, season=row.season), seal) for row, seal in sealed if seal
    ]


def _seal(connection: Connection, row: Any, now: datetime) -> Seal | None:
    """Seal one season; None where it stands as it was sealed before."""
    board = Board(programme=row.programme, metric=row.metric, season=row.season)
    unsealed = late_scores.update().where(*_of(late_scores.c, board), late_scores.c.revision.is_(None))
    # First these, then the scores: what is committed between the two is in the scores, and seen again next time.
    connection.execute(unsealed.values(revision=row.revision + 1))
    season = season_of(row)
    standing = _Standing(connection, board)
    digest = digest_of(row.programme, row.metric, season, standing.walk())
    seal = Seal(
        revision=row.revision + 1,
        sealed_at=now,
        digest=digest,
        placed=standing.placed,
        total=standing.total,
        places=[
            (place.rank, place.customer_id, place.value, place.reached_at.isoformat())
            for place in _ranked(standing.first)
        ],
    )
    before = seals(connection, board)
    if before and before[-1].digest == seal.digest:
        counted = late_scores.update().where(*_of(late_scores.c, board), late_scores.c.revision == seal.revision)
        connection.execute(counted.values(revision=row.revision))
        return None
    values = {name: getattr(seal, name) for name in ("revision", "sealed_at", "digest", "placed", "total", "places")}
    connection.execute(season_seals.insert().values(**_named(board), **values))
    connection.execute(seasons.update().where(*_of(seasons.c, board)).values(revision=seal.revision))
    return seal


class _Standing:
    """A board that is walked once, however many are on it: its first places are kept, the others only counted."""

    def __init__(self, connection: Connection, board: Board) -> None:
        self._connection, self._board = connection, board
        self.placed = self.total = 0
        self.first: list[Score] = []

    def walk(self) -> Iterator[Score]:
        rows = self._connection.execute(
            _on(self._board).order_by(*_FORWARD), execution_options={"yield_per": WALKED_AT_ONCE}
        )
        for row in rows:
            score = Score(**row._mapping)
            self.placed += 1
            self.total += score.value
            if len(self.first) < PLACES_MAX:
                self.first.append(score)
            yield score


def seals(connection: Connection, board: Board) -> list[Seal]:
    """How a season was sealed, its revisions in order."""
    c = season_seals.c
    query = sa.select(c.revision, c.sealed_at, c.digest, c.placed, c.total, c.places).where(*_of(c, board))
    return [
        Seal(**{**row._mapping, "places": [tuple(place) for place in row.places]})
        for row in connection.execute(query.order_by(c.revision))
    ]


# Customers who are merged, parted or forgotten


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
    sums: dict[_Key, tuple[int, datetime]] = {}
    late: list[bulk.Row] = []
    for row in rows:
        board = (row["programme"], row["metric"], row["season"])
        for customer_id, delta in ((origin, -row["value"]), (to, row["value"])):
            sums[customer_id, *board] = (delta, row["reached_at"])
            if row["ends_at"] is not None and row["ends_at"] <= now:
                late.append((*board, customer_id, delta, subject, now))
    _add(connection, sums)
    _note_late(connection, late)


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
