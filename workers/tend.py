"""Looking after what died, stands still or has become too old. May run anywhere, any number of times."""

from datetime import timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from db import bulk, claims, control, fetching
from db.app import App
from db.tables import identities, inbox
from workers import loyalty, occasions, segments
from workers.merging import merge_wanted
from workers.requests import obey
from workers.rewarding import settle_referrals
from workers.settle import resolve

log = structlog.get_logger()

#: Rows changed by one statement of tending.
BATCH = 1000
#: How many stretches of runs are gone along in one round.
STRETCHES = 100


def tend(app: App) -> None:
    """One round."""
    with app.writing() as connection:
        now = app.clock.now(connection)
        died = claims.bury(connection, now)
        freed = free_awaiting(connection)
        moved = control.sweep(connection, app.catalog.current(connection), now, BATCH)
        fetching.clear_old(connection, now, BATCH)
        emptied = empty_bodies(connection, now - timedelta(days=app.settings.keep_webhooks_days))
    moved += send_over(app)
    merge_wanted(app)
    settle_referrals(app)
    in_doubt = resolve(app)
    loyalty.tend(app)
    segments.divide(app)
    occasions.reach(app)
    obey(app)  # what was asked by a webhook whose worker died before it was done
    if died or in_doubt:
        log.warning("a worker did not come back", batches=died, in_doubt=in_doubt)
    if emptied:
        log.info("old webhook bodies emptied", rows=emptied)
    hints = [kind for kind, found in (("ingest", freed), ("advance", moved or in_doubt), ("deliver", moved)) if found]
    if hints:
        app.hint(*hints)


def send_over(app: App) -> int:
    """Let people go over to newer versions of their flows, where those say so. How many."""
    told = 0
    for _ in range(STRETCHES):
        with app.writing() as connection:
            release = app.catalog.current(connection)
            found = control.send_over(connection, release, app.clock.now(connection), BATCH)
        if found is None:
            break
        told += found
    return told


def free_awaiting(connection: Connection) -> int:
    """Let elements be mapped again whose order has come meanwhile. How many."""
    newest = sa.select(inbox.c.awaits).where(inbox.c.state == "awaiting").order_by(inbox.c.id.desc()).limit(BATCH)
    orders = [row[0] for row in connection.execute(newest)]
    if not orders:
        return 0
    pairs = [tuple(order.split("/", 1)) for order in orders if "/" in order]
    found = connection.execute(
        sa.select(identities.c.source, identities.c.external_id).where(
            bulk.among(identities.c.external_id, [external_id for _, external_id in pairs])
        )
    )
    arrived = [f"{row.source}/{row.external_id}" for row in found]
    freed = (inbox.c.state == "awaiting") & bulk.among(inbox.c.awaits, arrived)
    return connection.execute(inbox.update().where(freed).values(state="received", awaits=None)).rowcount


def empty_bodies(connection: Connection, before: object) -> int:
    """Forget the raw bodies and headers of old webhooks; keys and digests stay, for repeats. How many rows."""
    old = (
        sa.select(inbox.c.id)
        .where(
            inbox.c.received_at < before,
            sa.func.length(inbox.c.body) > sa.literal_column("0"),
            inbox.c.state.not_in(["received", "fetching"]),
        )
        .limit(BATCH)
    )
    return connection.execute(
        inbox.update().where(inbox.c.id.in_(old)).values(body=b"", headers={}, fetched=None)
    ).rowcount
