"""Leaderboards of a million referrers with three million referrals: first places, "my rank", the cost of an update.

Beside each figure the same with ten thousand referrers, and what most would write for "my rank": SQL's RANK() over the
scores. Scores are made by the database itself, with the counts that `record` would have left.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from time import perf_counter
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from afterglow.leaderboards import Calendar
from benchmarks import rig
from db import leaderboards
from db.app import App
from db.leaderboards import BITS, LEVELS, TOP, Board, Change

FEW, MANY = 10_000, 1_000_000
ROUNDS = 60
#: Changes in one batch of an update.
BATCH = 100
CALENDAR = Calendar(zone=ZoneInfo("Europe/Paris"))
#: What a customer's score is: about three referrals each, and points of a wide range.
SCORES = {
    "referrals": "1 + floor(ln(1 - random()) / ln(2.0 / 3))::bigint",
    "points": "1 + floor(1000000 * power(random(), 4))::bigint",
}


def fill(app: App, referrers: int, now: datetime) -> int:
    """Customers on the boards of all time and of the seasons that run now; how many referrals they have."""
    with app.writing() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(
            "TRUNCATE scores, score_counts, score_moves, seasons, late_scores, customers CASCADE"
        )
        connection.exec_driver_sql("SELECT setseed(0.5)")
        connection.execute(
            sa.text(
                "INSERT INTO customers (id, orders, spent, since) "
                "SELECT n, 1, 4000, now() FROM generate_series(1, :referrers) n"
            ),
            {"referrers": referrers},
        )
        for metric, score in SCORES.items():
            for season in CALENDAR.seasons_at(now):
                connection.execute(
                    sa.text(
                        "INSERT INTO scores (customer_id, programme, metric, season, value, reached_at) "
                        f"SELECT n, 'friends', :metric, :season, {score}, now() - random() * interval '90 days' "
                        "FROM generate_series(1, :referrers) n"
                    ),
                    {"metric": metric, "season": season.name, "referrers": referrers},
                )
        for level in range(LEVELS):
            connection.exec_driver_sql(
                "INSERT INTO score_counts (programme, metric, season, level, bucket, n, total) "
                f"SELECT programme, metric, season, {level}, value >> {BITS * level}, count(*), "
                f"{'sum(value)' if level == TOP else '0'} FROM scores GROUP BY 1, 2, 3, 4, 5"
            )
        total = leaderboards.size_of(connection, Board(programme="friends", metric="referrals"))[1]
    rig.analyze(app)
    return total


def ms(work: Callable[[], object]) -> float:
    """The median of several rounds, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        began = perf_counter()
        work()
        times.append((perf_counter() - began) * 1000)
    return round(median(times), 2)


def reading(app: App, referrers: int, metric: str) -> dict[str, float]:
    """What reading a board costs."""
    dice, board = random.Random(7), Board(programme="friends", metric=metric)
    with app.reading() as connection:
        return {
            "top_100_ms": ms(lambda: leaderboards.top(connection, board, 100)),
            "my_rank_ms": ms(lambda: leaderboards.rank_of(connection, board, dice.randint(1, referrers))),
            "around_me_ms": ms(lambda: leaderboards.around(connection, board, dice.randint(1, referrers))),
        }


def updating(app: App, referrers: int, now: datetime) -> float:
    """The milliseconds of a transaction that changes 100 customers' referrals on three boards each."""
    dice = random.Random(11)

    def update() -> None:
        changes = [
            Change(programme="friends", metric="referrals", customer_id=who, delta=1, at=now)
            for who in dice.sample(range(1, referrers + 1), BATCH)
        ]
        with app.writing() as connection:
            leaderboards.record(connection, changes, CALENDAR, now)

    taken = ms(update)
    with app.writing() as connection:
        leaderboards.roll_up(connection)
    return taken


def naive_rank_ms(app: App, referrers: int) -> float:
    """SQL's RANK() over the whole board for one customer."""
    dice = random.Random(7)
    query = sa.text(
        "SELECT rank FROM (SELECT customer_id, RANK() OVER (ORDER BY value DESC) AS rank FROM scores WHERE programme = "
        "'friends' AND metric = 'referrals' AND season = 'all' AND value > 0) AS ranked WHERE customer_id = :who"
    )
    times = []
    with app.reading() as connection:
        for _ in range(3):
            began = perf_counter()
            connection.execute(query, {"who": dice.randint(1, referrers)}).scalar_one()
            times.append((perf_counter() - began) * 1000)
    return round(median(times), 2)


def run(many: int = MANY, few: int = FEW) -> dict[str, Any]:
    """The figures; fails where a rank is not the one of SQL's RANK()."""
    figures: dict[str, Any] = {}
    now = datetime.now(UTC)
    with rig.postgresql() as url:
        app = rig.open_(url)
        for name, referrers in (("few", few), ("many", many)):
            found: dict[str, Any] = {"referrers": referrers, "referrals": fill(app, referrers, now)}
            found |= {f"by_{metric}": reading(app, referrers, metric) for metric in SCORES}
            found["naive_rank_ms"] = naive_rank_ms(app, referrers)
            found[f"update_of_{BATCH}_ms"] = updating(app, referrers, now)
            prove(app, referrers)
            figures[name] = found
        app.close()
    update, large = f"update_of_{BATCH}_ms", figures["many"]
    return figures | {
        "ratio_update_many_to_few": round(large[update] / figures["few"][update], 2),
        "ratio_naive_rank_to_ours": round(large["naive_rank_ms"] / large["by_referrals"]["my_rank_ms"], 1),
    }


def prove(app: App, referrers: int) -> None:
    """Hold the ranks of some customers against a count of those who have more."""
    dice = random.Random(13)
    with app.reading() as connection:
        for metric in SCORES:
            board = Board(programme="friends", metric=metric)
            for who in dice.sample(range(1, referrers + 1), 5):
                place = leaderboards.rank_of(connection, board, who)
                assert place is not None
                more = connection.execute(
                    sa.text(
                        "SELECT count(*) FROM scores WHERE programme = 'friends' AND metric = :metric "
                        "AND season = 'all' AND value > :value"
                    ),
                    {"metric": metric, "value": place.value},
                ).scalar_one()
                assert place.rank == more + 1, (metric, who, place.rank, more)


if __name__ == "__main__":
    rig.show(run())
