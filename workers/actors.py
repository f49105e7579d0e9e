"""The actors: plain functions that do one batch of one kind of work, registered on a broker.

An actor takes no argument, because its message is only a hint, and never raises, because a dead letter would mean
nothing: what failed is still due in the database, and the scheduler hints again.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import dramatiq
import sqlalchemy as sa
import structlog

from afterglow.errors import AfterglowError
from db.app import App
from db.broker import KINDS
from db.due import full
from workers import deliver, digest, leaderboards, notices, requests, segments, tend, watch
from workers.advance import Advance
from workers.asker import Asker
from workers.batches import Work, run_batch, run_suspect
from workers.channels import Channel, make_channel
from workers.coupons import BATCH as COUPONS
from workers.coupons import Coupons
from workers.fetch import BATCH, Fetching
from workers.ingest import Ingest

log = structlog.get_logger()

#: Items that one actor tries alone before it lets others have its thread, and how often a busy process looks for
#: them, in seconds: they are few, and a look costs as much as half a small batch.
SUSPECTS_MAX = 100
SUSPECTS_S = 1.0
#: Batches that one thread does before it lets others have its seat, so that a busy process can still be stopped.
ROUNDS_MAX = 50
#: Where work comes in fast but does not fill batches (from so many items on), a thread waits for the next one to
#: grow, in seconds: the fixed cost of a batch is that of a hundred items.
LINGER_FROM = 10
LINGER_S = 0.1


class Seats:
    """How many threads of a process may work on one kind at once.

    Who finds no seat need not wait: one who sits looks again before leaving. So hints that come while a batch runs
    become one larger batch, whose fixed cost is shared, and nothing that came meanwhile is missed.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._count = self._free = count
        self._lent = 0
        self._again = False

    def take(self) -> bool:
        """Sit down; False where all seats are taken, and then somebody looks again."""
        with self._lock:
            if self._free <= 0:
                self._again = True
                return False
            self._free -= 1
            return True

    def leave(self) -> bool:
        """Stand up; False where somebody asked meanwhile: stay, and look again."""
        with self._lock:
            if self._again and self._free >= 0:
                self._again = False
                return False
            self._free += 1
            return True

    def lend(self) -> bool:
        """Give a seat away to another kind, even one that is taken: who sits there stands up after this batch.

        False where the only seat is taken, or all others are lent already: one stays.
        """
        with self._lock:
            if (not self._free and self._count == 1) or (self._lent and self._lent == self._count - 1):
                return False
            self._free -= 1
            self._lent += 1
            return True

    def take_back(self) -> None:
        """Have the lent seat again."""
        with self._lock:
            self._free += 1
            self._lent -= 1

    def give_up(self) -> None:
        """Stand up whatever was asked."""
        with self._lock:
            self._free += 1
            self._again = False


@dataclass(frozen=True, slots=True)
class Done:
    """How a batch went."""

    #: Whether the next one is worth waiting for.
    may_grow: bool = False
    #: The kind of work that it made due.
    onward: str | None = None


@dataclass(kw_only=True)
class Actors:
    """The kinds of work of one process."""

    app: App
    email: Channel
    _seats: dict[str, Seats] = field(init=False)
    #: When it last looked for suspects of each kind (time.monotonic).
    _looked: dict[str, float] = field(default_factory=dict, init=False)
    #: Touchpoints in one batch. What all threads of a process have in their hands is what its death leaves in doubt,
    #: so they share the provider's number.
    _handed: int = field(init=False)

    def __post_init__(self) -> None:
        # One thread a kind: two would only halve each other's batches. Sending waits for providers, and may take half
        # of the threads, never all.
        sending = max(1, self.app.settings.threads // 2) if self.email.leaves_the_machine else 1
        self._seats = {kind: Seats(sending if kind == "deliver" else 1) for kind in KINDS}
        self._handed = self.email.batch // sending or 1
        self._asker = Asker(allow_local=self.app.settings.fetch_local == "yes")
        self._works: dict[str, Callable[[], Done]] = {
            "ingest": self.ingest,
            "advance": self.advance,
            "deliver": self.deliver,
            "fetch": self.fetch,
            "coupons": self.coupons,
            "segments": self.segments,
            "tend": self.tend,
        }

    def register(self) -> None:
        """Declare the actors on the app's broker."""
        for kind in KINDS:
            declare = dramatiq.actor(broker=self.app.broker, actor_name=kind, queue_name=kind)
            declare(self._actor(kind))

    def ingest(self) -> Done:
        """Inbox rows become events."""
        work = Ingest(self.app)
        done = run_batch(self.app, work)
        # A refund that waited for its order, and whoever entered a segment, is heard before the order's runs begin.
        while work.freed | self._judge(work):
            work.freed = False
            done = max(done, run_batch(self.app, work))
        may_grow = self._more("ingest", done, work.batch)
        self._suspects("ingest", work, done)
        if work.lacks:
            self.app.hint("fetch")
        if work.asked:
            requests.obey(self.app)
        return Done(may_grow, onward="advance" if work.woke else None)

    def advance(self) -> Done:
        """Due runs take their next steps."""
        work = Advance(self.app)
        done = run_batch(self.app, work)
        may_grow = self._more("advance", done, work.batch)
        self._suspects("advance", work, done)
        return Done(may_grow, onward="deliver" if work.queued else None)

    def deliver(self) -> Done:
        """Due touchpoints go out, or do not."""
        work = deliver.Deliver(self.app, self.email, batch=self._handed)
        try:
            done = run_batch(self.app, work)
            may_grow = self._more("deliver", done, work.batch)
        finally:
            work.send()
        self._suspects("deliver", work, done, work.send)
        return Done(may_grow, onward="advance" if work.moved else None)

    def fetch(self) -> Done:
        """Documents of sources are fetched that elements lack, and the shop is told of rewards that it gives itself.

        It waits for a network as sending does, and takes one of its seats: together they have half of the threads.
        """
        if not self._seats["deliver"].lend():
            return Done()  # the scheduler hints again
        work = Fetching(self.app, self._asker)
        try:
            is_more = work.run() >= BATCH
            if notices.tell(self.app) >= notices.BATCH or is_more:
                self.app.hint("fetch")
        finally:
            self._seats["deliver"].take_back()
        return Done(onward="ingest" if work.freed else None)

    def coupons(self) -> Done:
        """Codes are created at the shop, or taken out of use there. It waits for a network as `fetch` does."""
        if not self._seats["deliver"].lend():
            return Done()  # the scheduler hints again
        work = Coupons(self.app, self._asker)
        try:
            if work.run() >= COUPONS:
                self.app.hint("coupons")
        finally:
            self._seats["deliver"].take_back()
        return Done(onward="ingest" if work.told else None)

    def segments(self) -> Done:
        """Customers enter and leave segments by what happened, by time alone, and because a segment is new."""
        told = segments.judge_due(self.app) | segments.fill_new(self.app)
        # What is told is heard before runs that are due at the same moment go on.
        return self.ingest() if told else Done()

    def _judge(self, work: Ingest) -> bool:
        """Judge whoever the last batch touched; whether that is news for the inbox."""
        touched, work.touched = work.touched, False
        return touched and segments.judge_due(self.app)

    def tend(self) -> Done:
        """What died, stands still or has become too old is looked after."""
        tend.tend(self.app)
        watch.watch(self.app, self.email)
        leaderboards.keep(self.app)
        digest.digest(self.app, self.email)
        return Done()

    def close(self) -> None:
        """Let go of what the actors hold open."""
        self._asker.close()

    def _more(self, kind: str, done: int, batch: int) -> bool:
        """Whether the next batch is worth waiting for. A full one means more: ask for two, so that others join in.

        The fast lane alone fills its own share of a batch only.
        """
        if done >= full(batch):
            self.app.hint(kind, kind)
        return LINGER_FROM <= done < full(batch)

    def _suspects(self, kind: str, work: Work, done: int, then: Callable[[], None] = lambda: None) -> None:
        """Try alone, one after the other, the items whose process died before; now and then, or with time to spare."""
        if done and time.monotonic() - self._looked.get(kind, 0.0) < SUSPECTS_S:
            return
        self._looked[kind] = time.monotonic()
        for _ in range(SUSPECTS_MAX):
            try:
                if not run_suspect(self.app, work):
                    return
            finally:
                then()
        self.app.hint(kind)

    def _actor(self, kind: str) -> Callable[[], None]:
        def run() -> None:
            """Do one kind of work, then go along with what it made due: a fresh event's mail waits for no message."""
            due: str | None = kind
            for _ in range(ROUNDS_MAX):
                if due is None or not self._seats[due].take():
                    return
                due = self._sit(due)
            if due is not None:
                self.app.hint(due)

        run.__name__ = kind
        return run

    def _sit(self, kind: str) -> str | None:
        """Work on one kind for as long as somebody asks for it; the kind that this made due."""
        seats, work = self._seats[kind], self._works[kind]
        try:
            for _ in range(ROUNDS_MAX):
                done = work()
                if seats.leave():
                    return done.onward
                if done.onward is not None:
                    self.app.hint(done.onward)
                if done.may_grow:
                    time.sleep(LINGER_S)
            self.app.hint(kind)
        except (sa.exc.OperationalError, sa.exc.InterfaceError, AfterglowError) as error:
            log.error("work failed; it stays due", kind=kind, error=type(error).__name__, told=_told(error))
        except Exception:
            log.exception("work failed; it stays due", kind=kind)
        seats.give_up()
        return None


def _told(error: Exception) -> str:
    text = str(error.orig) if isinstance(error, sa.exc.DBAPIError) else str(error)
    return " ".join(text.split())[:300]


def make_actors(app: App) -> Actors:
    """The actors of a process, with the provider that the settings name."""
    url = app.settings.smtp_url.get_secret_value()
    return Actors(app=app, email=make_channel("smtp", url) if url else make_channel("outbox"))
