"""What stands on a leaderboard: boards, places and seasons as they are read, and the rows beneath."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.leaderboards import ALL, Metric, Score, Season, movement, ranks
from db.tables import scores

#: Each level's buckets are so many bits wider than those of the level below; the highest holds whatever is higher.
BITS: Final = 8
LEVELS: Final = 6
TOP: Final = LEVELS - 1
#: Scores that sealing reads at a time.
WALKED_AT_ONCE: Final = 5_000
_s = scores.c


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


class UnknownBoardError(AfterglowError):
    """Nobody was ever on a leaderboard of this programme, or of this metric in it."""


FORWARD = (_s.value.desc(), _s.reached_at, _s.customer_id)


def of_board(c: Any, board: Board) -> tuple[sa.ColumnElement[bool], ...]:
    return c.programme == board.programme, c.metric == board.metric, c.season == board.season


def placed_on(board: Board) -> sa.Select[Any]:
    # A constant and no parameter, so that the index of those who are on a board serves.
    return sa.select(_s.customer_id, _s.value, _s.reached_at).where(
        *of_board(_s, board), _s.value > sa.literal_column("0")
    )


def read(connection: Connection, query: sa.Select[Any]) -> list[Score]:
    return [Score(**row._mapping) for row in connection.execute(query)]


def ranked(found: Sequence[Score], first: int = 1, of_first: int | None = None) -> list[Place]:
    return [
        Place(rank=rank, customer_id=score.customer_id, value=score.value, reached_at=score.reached_at)
        for rank, score in zip(ranks(found, first=first, of_first=of_first), found, strict=True)
    ]


def names_of_board(board: Board) -> dict[str, str]:
    return {"programme": board.programme, "metric": board.metric, "season": board.season}


def season_of(row: Any) -> Season:
    """A row of `seasons` as a season."""
    return Season(name=row.season, kind=row.kind, start=row.starts_at, until=row.ends_at)
