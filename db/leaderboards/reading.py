"""Reading leaderboards never walks the referrals: the first places are an index in order, a rank is a sum of counts.

These counts have levels: at level 0 one for each score, at level n one for each range of 256**n scores, so that a rank
reads at most 255 counts a level whether the board has ten customers or millions, and scores of euros cost what scores
of referrals do.
"""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.leaderboards import ALL, METRICS, Calendar, Metric, Score, Season, in_order, metric_of
from afterglow.problems import did_you_mean
from db import bulk
from db.engine import load_json
from db.leaderboards.places import (
    BITS,
    FORWARD,
    LEVELS,
    TOP,
    Board,
    Named,
    Place,
    UnknownBoardError,
    View,
    names_of_board,
    placed_on,
    ranked,
    read,
)
from db.leaderboards.sealing import seals
from db.tables import customers, profiles, scores, seasons

#: Places among which a part of a name is looked for.
SEARCHED_MAX: Final = 1000
#: What a forgotten customer is called.
FORMER: Final = "a former customer"
_s = scores.c
_SIZE = sa.text(
    "SELECT sum(n) AS n, sum(total) AS total, CAST(NULL AS text) AS moves FROM score_counts WHERE programme = "
    f":programme AND metric = :metric AND season = :season AND level = {TOP} "
    "UNION ALL SELECT NULL, NULL, moves FROM score_moves WHERE programme = :programme AND metric = :metric "
    "AND season = :season"
)


def top(connection: Connection, board: Board, limit: int = 100, after: Place | None = None) -> list[Place]:
    """The places of a board in order, from the first on, or from behind a place of an earlier page."""
    if after is None:
        found = read(connection, placed_on(board).order_by(*FORWARD).limit(limit))
        return ranked(found)
    tied = placed_on(board).where(_s.value == after.value, _s.reached_at >= after.reached_at)
    tied = tied.where((_s.reached_at > after.reached_at) | (_s.customer_id > after.customer_id))
    lower = placed_on(board).where(_s.value < after.value)
    rows = read(connection, tied.order_by(*FORWARD).limit(limit))
    if len(rows) < limit:
        rows += read(connection, lower.order_by(*FORWARD).limit(limit - len(rows)))
    return _ranked_from(connection, board, rows)


def rank_of(connection: Connection, board: Board, customer_id: int) -> Place | None:
    """Where a customer stands; None for who is not on the board."""
    rows = read(connection, placed_on(board).where(_s.customer_id == customer_id))
    return _ranked_from(connection, board, rows)[0] if rows else None


def around(connection: Connection, board: Board, customer_id: int, each_side: int = 2) -> list[Place]:
    """A customer's place and their neighbours; empty for who is not on the board."""
    mine = rank_of(connection, board, customer_id)
    if mine is None:
        return []
    tied = placed_on(board).where(_s.value == mine.value, _s.reached_at <= mine.reached_at)
    tied = tied.where((_s.reached_at < mine.reached_at) | (_s.customer_id < mine.customer_id))
    higher = placed_on(board).where(_s.value > mine.value)
    above = read(connection, tied.order_by(_s.reached_at.desc(), _s.customer_id.desc()).limit(each_side))
    if len(above) < each_side:
        backward = (_s.value, _s.reached_at.desc(), _s.customer_id.desc())
        above += read(connection, higher.order_by(*backward).limit(each_side - len(above)))
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
    rows = connection.execute(_rank_query(connection.dialect.name), {**names_of_board(board), "scores": listed}).all()
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
    rows = read(connection, placed_on(board).where(bulk.among(_s.customer_id, list(customer_ids))))
    by_value = ranks_of(connection, board, {row.value for row in rows})
    return {row.customer_id: by_value[row.value] for row in rows}


def size_of(connection: Connection, board: Board) -> tuple[int, int]:
    """How many customers are on a board, and what they have together."""
    placed = total = 0
    for row in connection.execute(_SIZE, names_of_board(board)):
        if row.moves is None:
            placed, total = placed + int(row.n or 0), total + int(row.total or 0)
        else:
            for before, after in load_json(row.moves):
                placed += (after > 0) - (before > 0)
                total += after - before
    return placed, total


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


def _ranked_from(connection: Connection, board: Board, found: Sequence[Score]) -> list[Place]:
    """Rank a stretch of a board: what is before it is counted."""
    if not found:
        return []
    value = found[0].value
    more, equal = _counted(connection, board, [value])[value]
    return ranked(found, 1 + more, equal)


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
