"""How every kind of work is done: claim a batch, do it in one transaction, and lose nothing when that fails.

1. Find due items and lock their customers; skip those that others hold.
2. Announce the batch (see `db.claims`), then do all of it and commit.
3. A batch that raises is rolled back and split in halves, until the one item that cannot be done is alone; that one
   is parked with its reason (19 transactions for one among 500). One that was alone from the start is tried twice.
4. Items whose process died before run alone, those first that fewest died of.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from db import claims
from db.app import App
from db.engine import FairLock
from db.people import MergedMeanwhileError

log = structlog.get_logger()

#: A process does one batch after the other, whatever their kinds: two at once share one interpreter, so both take
#: longer and neither grows (half the latency of a mail at 50 events a second). Sending is not part of a batch. More
#: cores are for more processes.
_turns: dict[str, FairLock] = defaultdict(FairLock)


class Work(Protocol):
    """One kind of work on rows of one table."""

    @property
    def table(self) -> str:
        """Name of the table, as in `claims.kind`."""

    @property
    def batch(self) -> int:
        """How many items are claimed at once."""

    def find(self, connection: Connection, now: datetime, limit: int, *, alone: bool) -> list[int]:
        """Lock up to `limit` due items (only items that must run alone, or only others) and give their ids."""

    def lock(self, connection: Connection, ids: Sequence[int]) -> None:
        """Lock these items, waiting for others."""

    def do(self, connection: Connection, ids: Sequence[int], now: datetime) -> None:
        """Do what is still due among the locked items."""

    def committed(self) -> None:
        """What `do` did last is committed. (A batch that failed is rolled back, and its parts are done anew.)"""

    def park(self, connection: Connection, item: int, reason: str, now: datetime) -> None:
        """Set one item aside for a person to look at."""


class _Floor:
    """Room for many batches, or for one suspect and nothing else.

    A process that dies while a suspect is tried then died of that suspect: nobody who was at work beside it is blamed,
    and it is blamed for nobody else.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._batches = 0
        self._suspects = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Work beside other batches; waits for a suspect."""
        with self._changed:
            self._changed.wait_for(lambda: not self._suspects)
            self._batches += 1
        try:
            yield
        finally:
            with self._changed:
                self._batches -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Work beside nobody; waits for batches. False where another suspect is being tried: then do nothing."""
        with self._changed:
            free = not self._suspects
            self._suspects += free
            self._changed.wait_for(lambda: not free or not self._batches)
        try:
            yield free
        finally:
            with self._changed:
                self._suspects -= free
                self._changed.notify_all()


_floor = _Floor()


def run_batch(app: App, work: Work) -> int:
    """Do one batch. How many items were claimed."""
    with _floor.shared(), _turns[str(app.database.url)]:
        return _run(app, work, work.batch, alone=False)


def run_suspect(app: App, work: Work) -> int:
    """Do one item whose process died before, alone. 1, or 0 where there is none or another one is being tried."""
    with app.reading() as connection:
        if not work.find(connection, app.clock.now(connection), 1, alone=True):
            return 0
    with _floor.alone() as mine:
        if not mine:
            return 0
        with _turns[str(app.database.url)]:
            return _run(app, work, 1, alone=True)


def _run(app: App, work: Work, limit: int, *, alone: bool) -> int:
    ids: list[int] = []
    claim = None
    try:
        if app.database.is_sqlite:
            with app.reading() as connection:
                now = app.clock.now(connection)
                ids = work.find(connection, now, limit, alone=alone)
            if ids:
                claim = claims.announce(app.database, work.table, ids, now)
                with app.writing() as connection:
                    claims.take(connection, claim)
                    work.do(connection, ids, now)
        else:
            with app.writing() as connection:
                now = app.clock.now(connection)
                ids = work.find(connection, now, limit, alone=alone)
                if ids and (died := claims.bury_last(connection, work.table, ids, now)):
                    log.warning("a worker did not come back", batches=died, table=work.table)
                    return len(ids)  # they are suspects now
                if ids:
                    claim = claims.announce(app.database, work.table, ids, now)
                    claims.take(connection, claim)
                    work.do(connection, ids, now)
    except claims.ClaimLostError:
        return len(ids)
    except MergedMeanwhileError:  # begun again, it finds whom they were merged into
        if claim is not None:
            claims.withdraw(app.database, claim)
        return len(ids)
    except Exception as error:
        if claim is not None:
            claims.withdraw(app.database, claim)
        if not ids or is_passing(error):
            raise
        log.warning("batch failed, trying its halves", table=work.table, items=len(ids), error=type(error).__name__)
        _in_halves(app, work, ids)
        return len(ids)
    if ids:
        work.committed()
    return len(ids)


def _in_halves(app: App, work: Work, ids: Sequence[int]) -> None:
    """Do the items of a batch that failed again, in halves; the one that fails alone is parked with its reason."""
    middle = len(ids) // 2
    for half in filter(None, (ids[:middle], ids[middle:])):
        # Announced like any batch: an item may raise and its neighbour kill.
        with app.reading() as connection:
            now = app.clock.now(connection)
        claim = claims.announce(app.database, work.table, half, now)
        try:
            with app.writing() as connection:
                work.lock(connection, half)
                claims.take(connection, claim)
                work.do(connection, half, app.clock.now(connection))
        except claims.ClaimLostError:
            continue
        except MergedMeanwhileError:  # still to be done, by whoever looks next
            claims.withdraw(app.database, claim)
        except Exception as problem:
            claims.withdraw(app.database, claim)
            if is_passing(problem):
                raise
            if len(half) == 1:
                _park(app, work, half[0], problem)
            else:
                _in_halves(app, work, half)
        else:
            work.committed()


def _park(app: App, work: Work, item: int, problem: Exception) -> None:
    with app.writing() as connection:
        work.lock(connection, [item])
        work.park(connection, item, told(problem), app.clock.now(connection))
    log.error("item parked", table=work.table, item=item, exc_info=problem)


def is_passing(error: Exception) -> bool:
    """Whether the trouble is the connection's or another transaction's, and not the items'."""
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.TimeoutError) or (
        isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
    )


def told(error: Exception) -> str:
    """The error in one line, without the statement's parameters, which may hold personal data."""
    text = str(error.orig) if isinstance(error, sa.exc.DBAPIError) else str(error)
    first = text.strip().splitlines()[0] if text.strip() else ""
    return f"{type(error).__name__}: {first}"[:300]
