"""Leaderboards: scores that are right at the moment of the commit that changes them, and what is read from them.

`scoring.record` adds changes inside the transaction of whatever caused them. `reading` never walks the referrals.
`sealing` closes seasons that are over, `moving` follows customers who are merged, parted or forgotten.
"""

from db.leaderboards.moving import forget, move, move_back
from db.leaderboards.places import (
    BITS,
    LEVELS,
    TOP,
    Board,
    Evidence,
    Named,
    Place,
    Seal,
    UnknownBoardError,
    View,
    season_of,
)
from db.leaderboards.reading import (
    FORMER,
    SEARCHED_MAX,
    around,
    beside,
    boards,
    metrics_of,
    named,
    names_of,
    rank_of,
    ranks_of_customers,
    search,
    size_of,
    top,
    values_of,
    view,
)
from db.leaderboards.scoring import ROLLED_MAX, Change, Correction, correct, kept_at, record, recount, roll_up
from db.leaderboards.sealing import seal_due, seals
from db.leaderboards.telling import as_json, as_rows, cursor, from_cursor

__all__ = [
    "BITS",
    "FORMER",
    "LEVELS",
    "ROLLED_MAX",
    "SEARCHED_MAX",
    "TOP",
    "Board",
    "Change",
    "Correction",
    "Evidence",
    "Named",
    "Place",
    "Seal",
    "UnknownBoardError",
    "View",
    "around",
    "as_json",
    "as_rows",
    "beside",
    "boards",
    "correct",
    "cursor",
    "forget",
    "from_cursor",
    "kept_at",
    "metrics_of",
    "move",
    "move_back",
    "named",
    "names_of",
    "rank_of",
    "ranks_of_customers",
    "record",
    "recount",
    "roll_up",
    "seal_due",
    "seals",
    "search",
    "season_of",
    "size_of",
    "top",
    "values_of",
    "view",
]
