"""The actors: plain functions that do one batch of one kind of work, registered on a broker.

An actor takes no argument, because its message is only a hint, and never raises, because a dead letter would mean
nothing: what failed is still due in the database, and the scheduler hints again.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import dramatiq
import sqlalchemy as sa
import structlog

from afterglow.errors import AfterglowError
from db.app import App
from db.due import full
from workers import deliver, tend
from workers.advance import Advance
from workers.batches import Work, run_batch, run_suspect
from workers.channels import Channel, make_channel
from workers.ingest import Ingest

log = structlog.get_logger()

#: Items that one actor tries alone before it lets others have its thread.
SUSPECTS_MAX = 100
#: Batches of one kind at once in one process. Two, so that one computes while the other waits for the database;
#: sending waits for providers and may take half of the threads, never all.
AT_ONCE = 2


@dataclass(kw_only=True)
class Actors:
    """The kinds of work of one process."""

    app: App
    email: Channel
    _seats: dict[str, threading.Semaphore] = field(init=False)
    #: Touchpoints in one batch. What all threads of a process have in their hands is what its death leaves in doubt,
    #: so they share the provider's number.
    _handed: int = field(init=False)

    def __post_init__(self) -> None:
        sending = max(1, self.app.settings.threads // 2) if self.email.leaves_the_machine else AT_ONCE
        seats = {"ingest": AT_ONCE, "advance": AT_ONCE, "deliver": sending, "tend": 1}
        self._seats = {kind: threading.Semaphore(count) for kind, count in seats.items()}
        self._handed = self.email.batch // (sending if self.email.leaves_the_machine else 1) or 1

    def register(self) -> None:
        """Declare the actors on the app's broker."""
        for kind, work in (
            ("ingest", self.ingest),
            ("advance", self.advance),
            ("deliver", self.deliver),
            ("tend", self.tend),
        ):
            declare = dramatiq.actor(broker=self.app.broker, actor_name=kind, queue_name=kind)
            declare(self._guarded(kind, work))

    def ingest(self) -> None:
        """Inbox rows become events."""
        work = Ingest(self.app)
        done = run_batch(self.app, work)
        self._more("ingest", done, work.batch)
        self._suspects("ingest", work)
        if work.woke:
            self.app.hint("advance")

    def advance(self) -> None:
        """Due runs take their next steps."""
        work = Advance(self.app)
        done = run_batch(self.app, work)
        self._more("advance", done, work.batch)
        self._suspects("advance", work)
        if work.queued:
            self.app.hint("deliver")

    def deliver(self) -> None:
        """Due touchpoints go out, or do not."""
        work = deliver.Deliver(self.app, self.email, batch=self._handed)
        try:
            self._more("deliver", run_batch(self.app, work), work.batch)
        finally:
            work.send()
        self._suspects("deliver", work, work.send)
        if work.moved:
            self.app.hint("advance")

    def tend(self) -> None:
        """What died, stands still or has become too old is looked after."""
        tend.tend(self.app)

    def _more(self, kind: str, done: int, batch: int) -> None:
        """A full batch means that there is more: ask for two, so that idle workers join in.

        The fast lane alone fills its own share of a batch only.
        """
        if done >= full(batch):
            self.app.hint(kind, kind)

    def _suspects(self, kind: str, work: Work, then: Callable[[], None] = lambda: None) -> None:
        """Try alone, one after the other, the items whose process died before."""
        for _ in range(SUSPECTS_MAX):
            try:
                if not run_suspect(self.app, work):
                    return
            finally:
                then()
        self.app.hint(kind)

    def _guarded(self, kind: str, work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            seat = self._seats[kind]
            if not seat.acquire(blocking=False):
                return  # those who work on it already will ask for more
            try:
                work()
            except (sa.exc.OperationalError, sa.exc.InterfaceError, AfterglowError) as error:
                log.error("work failed; it stays due", kind=kind, error=type(error).__name__, told=_told(error))
            except Exception:
                log.exception("work failed; it stays due", kind=kind)
            finally:
                seat.release()

        run.__name__ = kind
        return run


def _told(error: Exception) -> str:
    text = str(error.orig) if isinstance(error, sa.exc.DBAPIError) else str(error)
    return " ".join(text.split())[:300]


def make_actors(app: App) -> Actors:
    """The actors of a process, with the provider that the settings name."""
    url = app.settings.smtp_url.get_secret_value()
    return Actors(app=app, email=make_channel("smtp", url) if url else make_channel("outbox"))
