"""Doing the merges that are wanted, each in a transaction of its own. May run anywhere, any number of times at once."""

import structlog

from db import merging
from db.app import App
from db.people import MergedMeanwhileError
from workers.batches import is_passing

log = structlog.get_logger()

#: Merges done in one round.
BATCH = 500


def merge_wanted(app: App) -> int:
    """Do what is wanted. How many customers were merged into others."""
    with app.reading() as connection:
        ids = merging.wanted(connection, BATCH)
    done = 0
    for merge_id in ids:
        try:
            with app.writing() as connection:
                rules = merging.rules(app.catalog.current(connection))
                merged = merging.merge(connection, merge_id, rules, app.clock.now(connection))
        except MergedMeanwhileError:
            continue  # another round finds whom they were merged into
        except Exception as error:
            if is_passing(error):
                raise
            log.error("a merge failed and is set aside", merge=merge_id, error=type(error).__name__)
            with app.writing() as connection:
                merging.park(connection, merge_id)
            continue
        done += merged is not None
    if done:
        log.info("customers were merged", merges=done)
    return done
