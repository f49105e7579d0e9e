"""Doing the merges that are wanted, each in a transaction of its own. May run anywhere, any number of times at once."""

from datetime import datetime

import structlog
from sqlalchemy.engine import Connection

from db import events, merging
from db.app import App
from db.catalog import CatalogCache
from db.merging import Merged
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
                merged = merge(connection, app.catalog, merge_id, app.clock.now(connection))
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
        app.hint("advance")
    return done


def merge(connection: Connection, catalog: CatalogCache, merge_id: int, now: datetime) -> Merged | None:
    """Do one merge that is wanted, in a transaction of its own; None where there is nothing to do (any more)."""
    merged = merging.merge(connection, merge_id, merging.rules(catalog.current(connection)), now)
    if merged is not None:
        _wake(connection, catalog, merged.kept, now)
    return merged


def _wake(connection: Connection, catalog: CatalogCache, customer_id: int, now: datetime) -> None:
    """Let runs look again that wait for what came under the other's name. Only `decide` says what it means to them."""
    open_runs = events.open_runs(connection, [customer_id])
    if not open_runs:
        return
    flows = catalog.flows(connection, [run.flow_id for run in open_runs])
    since = {customer_id: min(run.entered_at for run in open_runs)}
    names = {name for run in open_runs for name in flows[run.flow_id].listens_to}
    heard = events.since(connection, since, names).get(customer_id, [])
    waiting: dict[int, datetime] = {}
    sending: dict[int, datetime] = {}
    for run in open_runs:
        if any(
            event.name in flows[run.flow_id].listens_to
            and event.id != run.event_id
            and event.occurred_at >= run.entered_at
            for event in heard
        ):
            (sending if run.state == "sending" else waiting)[run.id] = now
    events.wake(connection, waiting, sending)
