"""Everything in one process: Dramatiq's in-process broker, worker threads, the scheduler and both web faces.

Used by `afterglow run`, by the demo with a clock that jumps, and by tests. The parts are those of the distributed
product; only their composition is here.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import dramatiq
import sqlalchemy as sa
import structlog
from dramatiq.errors import QueueJoinTimeout

from afterglow.errors import AfterglowError
from db import claims
from db.app import App
from db.broker import KINDS, EmbeddedBroker
from db.tables import touchpoints
from web.serve import WebServer
from workers.actors import Actors, make_actors
from workers.scheduler import Scheduler, due_kinds
from workers.settle import resolve

log = structlog.get_logger()

#: An idle worker thread looks for a message at least this often, in milliseconds.
IDLE_MS = 100
#: How long each part may take to end, in seconds.
STOP_S_MAX = 8.0


class NotEmbeddedError(AfterglowError):
    """One process holds everything only with the in-process broker; unset AFTERGLOW_BROKER_URL."""


class AlreadyRunningError(AfterglowError):
    """Another process runs on this database."""


class NotIdleError(AfterglowError):
    """There is still work after the time allowed for it."""


@contextmanager
def only_process(database: Path) -> Iterator[None]:
    """Hold the lock file beside a SQLite database, so that a second `run` is refused.

    The operating system lets go of it when the process ends, however it ends. Readers and short writers (`why`,
    `event`) do not ask for it.

    Raises:
      AlreadyRunningError: naming the process that holds it.
    """
    file = database.with_name(database.name + ".lock")
    with file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise AlreadyRunningError(
                f"Afterglow runs on {database} already (process {holder}); stop that one first, or give this one "
                "another AFTERGLOW_DATABASE_URL."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def clear_away(app: App) -> int:
    """At the start of the only process: what was in work died with the last one. How many batches and sends.

    Every claim counts a try against its members, and every touchpoint handed to a provider is settled as in doubt,
    without waiting for its lease: nobody else can hold it.
    """
    with app.writing() as connection:
        now = app.clock.now(connection)
        died = claims.bury(connection, now, all_of_them=True)
        connection.execute(
            touchpoints.update()
            .where(touchpoints.c.state == "sending")
            .values(leased_until=now - timedelta(microseconds=1))
        )
    while batch := resolve(app):
        died += batch
    return died


@dataclass(kw_only=True)
class Embedded:
    """One process that does everything. `start()` it, `stop()` it; in between, `join_idle()` waits for its work."""

    app: App
    #: Whether the web faces are served, at the addresses of the settings (port 0 is any free one).
    serves: bool = True
    #: Whether the scheduler ticks; without it, work is found by `join_idle()` and by the hints of those who make it.
    ticks: bool = True
    public_url: str = field(default="", init=False)
    private_url: str = field(default="", init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.app.broker, EmbeddedBroker):
            raise NotEmbeddedError
        self.actors: Actors = make_actors(self.app)
        self.actors.register()
        #: Set when a part ended that nobody asked to; `failure` says why.
        self.ended = threading.Event()
        self.failure: Exception | None = None
        self._scheduler = Scheduler(self.app)
        self._web: WebServer | None = None
        self._worker: dramatiq.Worker | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start every part; returns when the web faces answer.

        Raises:
          AfterglowError: when the web cannot be served, for example because its port is taken.
        """
        if self.serves:
            self._web = WebServer(self.app)
            self.public_url, self.private_url = self._web.public_url, self._web.private_url
        if self.app.database.is_sqlite and (died := clear_away(self.app)):
            log.warning("the last run was cut short", batches_and_sends=died)
        self._worker = dramatiq.Worker(
            self.app.broker, worker_threads=self.app.settings.threads, worker_timeout=IDLE_MS
        )
        self._worker.start()
        if self.ticks:
            self._thread("scheduler", self._scheduler.run)
        if self._web is not None:
            ready, web = threading.Event(), self._web
            self._thread("web", lambda: web.run(ready))
            while not ready.wait(0.05) and not self.ended.is_set():
                pass

    def stop(self) -> None:
        """Stop every part: first what brings work in, then what does it. What is not finished stays due."""
        if self._web is not None:
            self._web.stop()
        self._scheduler.stop()
        for thread in self._threads:
            thread.join(timeout=STOP_S_MAX)
        if self._worker is not None:
            self._worker.stop(timeout=int(STOP_S_MAX * 1000))
            self._worker = None
        self.actors.close()

    def join_idle(self, timeout_s: float = 60.0) -> None:
        """Return when no hint is queued or in work, and nothing is due or in the hands of a provider.

        Whoever posts over HTTP must have had its answers before: a request that is open is not looked for.

        Raises:
          NotIdleError: when work is left after `timeout_s` seconds of real time; says which.
        """
        deadline = time.monotonic() + timeout_s
        before: list[str] = []
        while True:
            left = self._join_hints(deadline) or self._left()
            if not left:
                return
            if time.monotonic() > deadline:
                raise NotIdleError(f"After {timeout_s:g} seconds there is still work: {', '.join(left)}.")
            if left == before:  # asked for and still there: it fails, or its database is away
                time.sleep(0.005)
            before = left
            self.app.hint(*left)

    def _left(self) -> list[str]:
        with self.app.reading() as connection:
            due = due_kinds(connection, self.app)
            if not due and connection.execute(_SENDING).first() is not None:
                return ["tend"]
            return due

    def _join_hints(self, deadline: float) -> list[str]:
        """Wait until no hint is queued or in work; the kind that was not done by the deadline."""
        broker = self.app.broker
        assert isinstance(broker, EmbeddedBroker)
        for kind in KINDS:
            left_ms = max(1, int((deadline - time.monotonic()) * 1000))
            try:
                broker.join(kind, timeout=left_ms, fail_fast=False)
            except QueueJoinTimeout:
                return [kind]
        return []

    def _thread(self, name: str, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:
                self.failure = error
                log.error("a part of the process ended", part=name, exc_info=error)
            finally:
                self.ended.set()

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)


_SENDING = sa.select(touchpoints.c.id).where(touchpoints.c.state == sa.literal_column("'sending'")).limit(1)
