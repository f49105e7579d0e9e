"""Many requests, one commit: rows that arrive while a commit is under way share the next one.

A commit waits for the disk; what arrives meanwhile costs nothing more. One thread of this process takes whatever
waits, writes it in one transaction and then lets the requests answer, so a 2xx means that the row is on the disk.

What waits is bounded in rows and in bytes, and shared by the sources fairly: one that floods is asked to come again
while the others are accepted, and their rows do not stand in line behind its own.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import sqlalchemy as sa
import structlog

from afterglow.errors import AfterglowError
from db.app import App
from db.intake import Received, receive_at_once
from web.room import Room

log = structlog.get_logger()

#: More rows than this never wait, nor more bytes: whoever comes then is asked to come again.
PENDING_MAX: Final = 5_000
PENDING_BYTES_MAX: Final = 48 * 1024 * 1024
#: The most rows of one transaction, and the bytes at which no more are added.
BATCH_MAX: Final = 1_000
BATCH_BYTES: Final = 4 * 1024 * 1024
#: When a refused sender may try again, in seconds.
RETRY_AFTER_S: Final = 5
_TOO_MUCH: Final = "Too much is waiting to be written; post it again in a moment."


class IntakeUnavailable(AfterglowError):
    """The inbox cannot be written just now; post it again."""


class NotStorable(AfterglowError):
    """The request holds something that the database cannot keep."""


class _Waiting(NamedTuple):
    rows: Sequence[Received]
    size: int  # bytes
    answer: asyncio.Future[AfterglowError | None]


class Intake:
    """The way into the inbox of one process. The committing thread begins with the first request."""

    def __init__(self, app: App, *, pending_max: int = PENDING_MAX, batch_max: int = BATCH_MAX) -> None:
        self._app = app
        self._rows = Room(pending_max)
        self._bytes = Room(PENDING_BYTES_MAX)
        self._batch_max = batch_max
        self._lock = threading.Lock()
        #: A line for each source of which something waits.
        self._lines: dict[str, deque[_Waiting]] = {}
        self._awake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    async def accept(self, rows: Sequence[Received]) -> None:
        """Return when the rows, all of one source, are committed.

        Raises:
          IntakeUnavailable: when the database cannot be reached or too much waits; nothing was promised.
          NotStorable: when the database will never take one of the rows.
        """
        if not rows:
            return
        source = rows[0].source
        size = len(rows[0].body) if len(rows) == 1 else sum([len(row.body) for row in rows])
        waiting = _Waiting(rows, size, asyncio.get_running_loop().create_future())
        with self._lock:
            if self._closed:
                raise IntakeUnavailable("This process is stopping; post it again.")
            self._take_room(source, len(rows), size)
            self._lines.setdefault(source, deque()).append(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
                self._thread.start()
        if not self._awake.is_set():
            self._awake.set()
        if (refusal := await waiting.answer) is not None:
            raise refusal

    def check_room(self, source: str) -> None:
        """Refuse a source that has all it may have waiting, before its request is divided.

        Raises:
          IntakeUnavailable: as `accept` would.
        """
        if self._rows.is_full_for(source) or self._bytes.is_full_for(source):
            raise IntakeUnavailable(_TOO_MUCH)

    def close(self) -> None:
        """Write what still waits and stop."""
        with self._lock:
            self._closed = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _run(self) -> None:
        while True:
            self._awake.wait()
            self._awake.clear()
            while batch := self._take():
                self._commit(batch)
            if self._closed:
                return

    def _take_room(self, source: str, rows: int, size: int) -> None:
        if not self._rows.take(source, rows):
            raise IntakeUnavailable(_TOO_MUCH)
        if not self._bytes.take(source, size):
            self._rows.leave(source, rows)
            raise IntakeUnavailable(_TOO_MUCH)

    def _take(self) -> list[_Waiting]:
        """The next batch: one request of each source in turn, until it is full."""
        with self._lock:
            batch: list[_Waiting] = []
            rows = size = 0
            while self._lines:
                for source, line in list(self._lines.items()):
                    waiting = line[0]
                    if batch and (rows + len(waiting.rows) > self._batch_max or size > BATCH_BYTES):
                        # Whose turn it is stands first next time.
                        self._lines = {source: self._lines.pop(source), **self._lines}
                        return batch
                    line.popleft()
                    if not line:
                        del self._lines[source]
                    rows += len(waiting.rows)
                    size += waiting.size
                    batch.append(waiting)
                    self._rows.leave(source, len(waiting.rows))
                    self._bytes.leave(source, waiting.size)
            return batch

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        """Write a batch and answer those who wait. A row that no database takes spoils it for nobody else."""
        refusal: AfterglowError | None = None
        try:
            self._write([row for waiting in batch for row in waiting.rows])
        except (sa.exc.DataError, UnicodeError) as error:
            if len(batch) > 1:
                half = len(batch) // 2
                self._commit(batch[:half])
                self._commit(batch[half:])
                return
            log.warning("a request cannot be stored", source=batch[0].rows[0].source, error=type(error).__name__)
            refusal = NotStorable()
        except sa.exc.SQLAlchemyError as error:
            log.error("the inbox cannot be written", requests=len(batch), error=type(error).__name__)
            refusal = IntakeUnavailable()
        except Exception:  # this thread answers everybody: it must outlive whatever goes wrong
            log.exception("the inbox cannot be written", requests=len(batch))
            refusal = IntakeUnavailable()
        _answer(batch, refusal)
        if refusal is None:
            self._app.hint("ingest")

    def _write(self, rows: Sequence[Received]) -> None:
        try:
            self._insert(rows)
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self._insert(rows)  # a pooled connection had died; writing twice writes once

    def _insert(self, rows: Sequence[Received]) -> None:
        receive_at_once(self._app.database, rows, self._app.clock.now())


def _answer(batch: Sequence[_Waiting], refusal: AfterglowError | None) -> None:
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[AfterglowError | None]]] = {}
    for waiting in batch:
        loops.setdefault(waiting.answer.get_loop(), []).append(waiting.answer)
    for loop, answers in loops.items():
        try:
            loop.call_soon_threadsafe(_settle, answers, refusal)
        except RuntimeError:  # the loop is closed: nobody waits any more, and the rows are safe or come again
            log.info("requests ended before their answer", requests=len(answers))


def _settle(answers: Sequence[asyncio.Future[AfterglowError | None]], refusal: AfterglowError | None) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_result(refusal)
