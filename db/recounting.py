"""What boards are made of, and whether they are that: scores counted anew from referrals, rewards and the ledger.

A score is a sum that is kept (`db.leaderboards`). Here it is made again from what it was made of:

- `referrals`: those that count, for whoever brought the friend, at the reward's instant;
- `revenue`: what is left of the orders by which they qualified, at that instant;
- `rewards`: what the rewards cost that were given for a friend, to both sides, when they were given;
- `points`: what rules granted in the ledger less what was taken back of it, when it was earned.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.leaderboards import Calendar, Season
from db import bulk, leaderboards, people
from db.leaderboards import Board
from db.referring import COUNTS
from db.tables import EPOCH, ledger_transactions, referral_rewards, referrals, scores, seasons

#: Rows that are read at a time.
PAGE: Final = 5_000


class Part(NamedTuple):
    """A part of a score: what it is worth, for whom and when. (A tuple because there are millions.)"""

    programme: str
    metric: str
    customer_id: int
    value: int
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A score that is not what it is made of."""

    programme: str
    metric: str
    season: Season
    customer_id: int
    stored: int
    counted: int
    #: When the latest of what it is made of happened; None where it is made of nothing.
    reached_at: datetime | None

    def __str__(self) -> str:
        board = f"{self.programme}, {self.metric}, {self.season.name}"
        return f"{board}: customer {self.customer_id} has {self.stored}, and what was recorded makes {self.counted}."


def differences(connection: Connection, calendar: Calendar, programme: str) -> list[Difference]:
    """The scores of a programme that are not what they are made of, on the boards that the calendar keeps.

    Give it a transaction that reads everything at one instant (`at_one_instant`).
    """
    counted: defaultdict[tuple[str, str, int], int] = defaultdict(int)
    reached: dict[tuple[str, str, int], datetime] = {}
    found: dict[str, Season] = {}
    for part in _parts(connection, programme):
        for season in calendar.seasons_at(part.at):
            found[season.name] = season
            key = (part.metric, season.name, part.customer_id)
            counted[key] += part.value
            reached[key] = max(reached.get(key, part.at), part.at)
    stored = _stored(connection, calendar, programme, found)
    return [
        Difference(
            programme=programme,
            metric=key[0],
            season=found[key[1]],
            customer_id=key[2],
            stored=stored.get(key, 0),
            counted=counted.get(key, 0),
            reached_at=reached.get(key),
        )
        for key in sorted(counted.keys() | stored.keys())
        if stored.get(key, 0) != counted.get(key, 0)
    ]


def miscounted(connection: Connection, programme: str) -> list[str]:
    """Boards of a programme whose size or sum, by which ranks are told, is not that of their scores, as sentences."""
    s = scores.c
    rows = connection.execute(
        sa.select(s.metric, s.season, sa.func.count().label("placed"), sa.func.sum(s.value).label("total"))
        .where(s.programme == programme, s.value > 0)
        .group_by(s.metric, s.season)
        .order_by(s.metric, s.season)
    ).all()
    found = []
    for row in rows:
        board = Board(programme=programme, metric=row.metric, season=row.season)
        size = leaderboards.size_of(connection, board)
        if size != (row.placed, int(row.total)):
            found.append(
                f"{programme}, {row.metric}, {row.season}: ranks are told of {size[0]} customers with {size[1]}, "
                f"and {row.placed} with {int(row.total)} are on the board."
            )
    return found


def at_one_instant(connection: Connection) -> None:
    """Let a transaction in which nothing was read yet see the database as it is at one instant.

    Whoever writes in it fails where somebody else changed the same scores meanwhile, and is to begin again.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def rebuild(connection: Connection, calendar: Calendar, programme: str, now: datetime) -> list[Difference]:
    """Make the scores of a programme what they are made of, and say which were not.

    Seasons that are sealed get a further revision where this changes them. Call `at_one_instant` first.
    """
    found = differences(connection, calendar, programme)
    corrections = [
        leaderboards.Correction(
            programme=programme,
            metric=one.metric,
            season=one.season,
            customer_id=one.customer_id,
            delta=one.counted - one.stored,
            reached_at=one.reached_at or EPOCH,
        )
        for one in found
    ]
    leaderboards.correct(connection, corrections, "a rebuild", now)
    leaderboards.recount(connection, programme)
    return found


def _stored(
    connection: Connection, calendar: Calendar, programme: str, found: dict[str, Season]
) -> dict[tuple[str, str, int], int]:
    """The scores of the boards that the calendar keeps; what it kept once and no more stands as it was.

    Their seasons are added to those that were found.
    """
    s, n = scores.c, seasons.c
    same = (n.programme == s.programme) & (n.metric == s.metric) & (n.season == s.season)
    declared = [one.name for one in calendar.declared]
    kept = n.kind.in_(["all", *calendar.kinds]) | ((n.kind == "declared") & n.season.in_(declared))
    for row in connection.execute(sa.select(seasons).where(n.programme == programme, kept)):
        found.setdefault(row.season, leaderboards.season_of(row))
    query = sa.select(s.metric, s.season, s.customer_id, s.value).join(seasons, same)
    rows = connection.execute(
        query.where(s.programme == programme, s.value != 0, kept), execution_options={"yield_per": PAGE}
    )
    return {(row.metric, row.season, row.customer_id): row.value for row in rows}


# What scores are made of


def _parts(connection: Connection, programme: str) -> Iterator[Part]:
    yield from _referred(connection, referrals.c.programme == programme)
    yield from _earned(connection, programme)


def _referred(connection: Connection, which: sa.ColumnElement[bool]) -> Iterator[Part]:
    """What referrals are worth to whoever brought the friend."""
    r, w = referrals.c, referral_rewards.c
    query = sa.select(r.programme, r.referrer_id, r.rewarded_at, r.amount, r.refunded).where(which, COUNTS)
    for row in connection.execute(query, execution_options={"yield_per": PAGE}):
        yield Part(row.programme, "referrals", row.referrer_id, 1, row.rewarded_at)
        yield Part(row.programme, "revenue", row.referrer_id, max(row.amount - row.refunded, 0), row.rewarded_at)
    given = sa.select(r.programme, r.referrer_id, w.worth, w.given_at).join(referrals, r.id == w.referral_id)
    given = given.where(which, w.state == "given", w.worth > 0)
    for reward in connection.execute(given, execution_options={"yield_per": PAGE}):
        yield Part(reward.programme, "rewards", reward.referrer_id, reward.worth, reward.given_at)


def _earned(connection: Connection, programme: str) -> Iterator[Part]:
    """What rules granted and refunds took; what undoes an entry counts when that was earned."""
    t, undone = ledger_transactions, ledger_transactions.alias("undone")
    points = sa.case((t.c.kind == "clawback", -t.c.desired), else_=t.c.granted)
    query = (
        sa.select(
            t.c.customer_id, points.label("points"), sa.func.coalesce(undone.c.event_at, t.c.event_at).label("at")
        )
        .outerjoin(undone, undone.c.id == t.c.undoes)
        .where(t.c.programme == programme, t.c.rule.is_not(None), t.c.kind.in_(["earn", "clawback"]))
        .order_by(t.c.id)
    )
    rows = [tuple(row) for row in connection.execute(query, execution_options={"yield_per": PAGE})]
    kept = people.kept(connection, {row[0] for row in rows})
    for customer, value, at in rows:
        yield Part(programme, "points", kept[customer], value, at)


# Two customers who are parted again


def moved(referrals_: Mapping[str, Any], customer_id: int) -> list[int]:
    """The referrals among those that a merge moved (`db.referring.merge`) that this customer had brought."""
    return [row[0] for row in referrals_.get("referrals", []) if row[1] == customer_id]


def brought(connection: Connection, referral_ids: Sequence[int]) -> list[list[Any]]:
    """What referrals are worth on the boards now, as JSON knows it, for `since_then`."""
    mine = bulk.among(referrals.c.id, list(referral_ids))
    return [[*part[:2], part.value, part.at.isoformat()] for part in _referred(connection, mine)]


def since_then(
    connection: Connection, referral_ids: Sequence[int], before: Iterable[Sequence[Any]]
) -> list[leaderboards.Correction]:
    """What changed since `brought` about referrals that were another's meanwhile: it goes with them.

    The corrections are for customer 0; whose they are says who calls.
    """
    sums: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for sign, parts in ((1, brought(connection, referral_ids)), (-1, before)):
        for programme, metric, value, at in parts:
            sums[programme, metric, at] += sign * value
    return [
        leaderboards.Correction(
            programme=programme,
            metric=metric,
            season=season,
            customer_id=0,
            delta=delta,
            reached_at=datetime.fromisoformat(at),
        )
        for (programme, metric, at), delta in sorted(sums.items())
        if delta
        for season in leaderboards.kept_at(connection, programme, metric, datetime.fromisoformat(at))
    ]
