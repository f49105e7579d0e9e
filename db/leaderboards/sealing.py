"""Seasons that are over: sealed with a digest of every score, and again where late changes come."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.leaderboards import Calendar, Score, digest_of
from db.leaderboards.places import (
    FORWARD,
    WALKED_AT_ONCE,
    Board,
    Seal,
    names_of_board,
    of_board,
    placed_on,
    ranked,
    season_of,
)
from db.tables import late_scores, season_seals, seasons

#: Places that are kept of a sealed season.
PLACES_MAX: Final = 1000
#: Seasons that one round seals.
SEALED_MAX: Final = 20


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
    unsealed = late_scores.update().where(*of_board(late_scores.c, board), late_scores.c.revision.is_(None))
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
            for place in ranked(standing.first)
        ],
    )
    before = seals(connection, board)
    if before and before[-1].digest == seal.digest:
        counted = late_scores.update().where(*of_board(late_scores.c, board), late_scores.c.revision == seal.revision)
        connection.execute(counted.values(revision=row.revision))
        return None
    values = {name: getattr(seal, name) for name in ("revision", "sealed_at", "digest", "placed", "total", "places")}
    connection.execute(season_seals.insert().values(**names_of_board(board), **values))
    connection.execute(seasons.update().where(*of_board(seasons.c, board)).values(revision=seal.revision))
    return seal


class _Standing:
    """A board that is walked once, however many are on it: its first places are kept, the others only counted."""

    def __init__(self, connection: Connection, board: Board) -> None:
        self._connection, self._board = connection, board
        self.placed = self.total = 0
        self.first: list[Score] = []

    def walk(self) -> Iterator[Score]:
        rows = self._connection.execute(
            placed_on(self._board).order_by(*FORWARD), execution_options={"yield_per": WALKED_AT_ONCE}
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
    query = sa.select(c.revision, c.sealed_at, c.digest, c.placed, c.total, c.places).where(*of_board(c, board))
    return [
        Seal(**{**row._mapping, "places": [tuple(place) for place in row.places]})
        for row in connection.execute(query.order_by(c.revision))
    ]
