"""The clockwork: looks where work is due and hints. Any number may run; all are equal, and none is needed for long."""

import random
import threading

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from db import coupons, notices, occasions, referring, segments
from db.app import App
from db.tables import enrollments, inbox, merges, touchpoints

log = structlog.get_logger()

#: Seconds between two looks, and between two rounds of tending.
TICK_S = 0.5
TEND_S = 3.0

_now = sa.bindparam("now", type_=enrollments.c.due_at.type)

_DUE = sa.select(
    sa.exists().where(inbox.c.state == sa.literal_column("'received'")).label("ingest"),
    sa.or_(
        *(
            sa.exists().where(
                enrollments.c.state == sa.literal_column("'waiting'"),
                enrollments.c.lane == sa.literal_column(lane),
                enrollments.c.due_at <= _now,
            )
            for lane in ("0", "1")
        )
    ).label("advance"),
    sa.or_(
        *(
            sa.exists().where(
                touchpoints.c.state == sa.literal_column("'queued'"),
                touchpoints.c.channel == sa.literal_column("'email'"),
                touchpoints.c.lane == sa.literal_column(lane),
                touchpoints.c.due_at <= _now,
            )
            for lane in ("0", "1")
        )
    ).label("deliver"),
    sa.or_(
        sa.exists().where(inbox.c.state == sa.literal_column("'fetching'"), inbox.c.fetch_at <= _now), notices.DUE
    ).label("fetch"),
    coupons.DUE.label("coupons"),
    segments.DUE.label("segments"),
    sa.or_(sa.exists().where(merges.c.state == sa.literal_column("'wanted'")), referring.DUE, occasions.DUE).label(
        "tend"
    ),
)


def due_kinds(connection: Connection, app: App) -> list[str]:
    """The kinds of which something is due."""
    row = connection.execute(_DUE, {"now": app.clock.now(connection)}).one()
    kinds = ("ingest", "segments", "tend", "advance", "deliver", "fetch", "coupons")
    return [kind for kind in kinds if getattr(row, kind)]


class Scheduler:
    """Ticks until it is told to stop."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.stopping = threading.Event()

    def run(self) -> None:
        """Tick, with jitter so that many schedulers do not look at the same instant."""
        since_tending = TEND_S
        while not self.stopping.is_set():
            try:
                with self.app.reading() as connection:
                    kinds = due_kinds(connection, self.app)
            except sa.exc.SQLAlchemyError as error:  # also a pool without a free connection
                log.error("the database does not answer; looking again", error=type(error).__name__)
                kinds = []
            if since_tending >= TEND_S:
                kinds = [*dict.fromkeys([*kinds, "tend"])]
                since_tending = 0
            if kinds:
                self.app.hint(*kinds)
            pause = TICK_S * random.uniform(0.7, 1.3)
            since_tending += pause
            self.stopping.wait(pause)

    def stop(self) -> None:
        """Let `run` return."""
        self.stopping.set()
