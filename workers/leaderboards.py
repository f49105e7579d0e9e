"""Keeping leaderboards: counts are rolled up, seasons that are over are sealed.

One of all processes does each round.
"""

from datetime import timedelta

import structlog

from db import leaderboards, rounds
from db.app import App
from db.catalog import NothingAppliedError

log = structlog.get_logger()

#: How often counts are rolled up: what is fresh is read one by one until then.
ROLL_UP_EVERY = timedelta(seconds=30)
#: How often seasons are looked for that are to be sealed.
SEAL_EVERY = timedelta(minutes=10)
#: Batches of fresh counts that one round takes; the next round goes on.
BATCHES_MAX = 40


def keep(app: App) -> None:
    """The rounds that are due."""
    with app.reading() as connection:
        now = app.clock.now(connection)
        try:
            calendar = app.catalog.current(connection).catalog.shop.calendar
        except NothingAppliedError:
            return
    if rounds.take(app.database, "score counts", now, ROLL_UP_EVERY):
        for _ in range(BATCHES_MAX):
            with app.writing() as connection:
                if leaderboards.roll_up(connection) < leaderboards.ROLLED_MAX:
                    break
    if rounds.take(app.database, "seasons", now, SEAL_EVERY):
        with app.writing() as connection:
            sealed = leaderboards.seal_due(connection, calendar, now)
        for board, seal in sealed:
            log.info(
                "a season is sealed",
                programme=board.programme,
                metric=board.metric,
                season=board.season,
                revision=seal.revision,
                digest=seal.digest,
            )
