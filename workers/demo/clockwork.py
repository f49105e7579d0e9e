"""How weeks pass in seconds: the clock moves on in slices, and everything is decided at its own moment.

The rules of time:

1. The next slice begins at the next moment at which anything happens: a webhook or a reaction, or something that is
   due. It lasts an hour at most.
2. A slice of webhooks ends before anything is due, and before a second thing of the same customer unless it follows
   within a minute: nobody's webhook is known earlier than it would have been in life.
3. Before each webhook the clock jumps to the webhook's own instant, so that it is received then, and its signature is
   made then. What is due inside a slice is decided at its own due moment (`JumpingClock.moment`).
4. The clock moves only when every request was answered and nothing is due.

Nobody hints in the meantime but this clockwork (a hint may be lost, so nothing is missed): one kind of work at a
time, so that the same seed gives the same mails, customer by customer.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from random import Random
from typing import Final, assert_never
from urllib.parse import parse_qs, urlsplit

import sqlalchemy as sa

from db import occasions
from db.app import App
from db.broker import Hints
from db.clock import JumpingClock
from db.tables import enrollments, referrals, segment_looks, touchpoints
from workers.demo.letterbox import Letterbox
from workers.demo.lives import end_of, life, lives, start_of
from workers.demo.people import Person, a_friend, everybody
from workers.demo.posting import SOURCES, DemoError, Poster
from workers.demo.reactions import Answers, Rates, Reaction, Reviews, Shares, Unsubscribes, reactions
from workers.demo.story import Delivery, Story
from workers.demo.witness import Witness, look
from workers.scheduler import due_kinds

#: The longest slice; nobody reacts to a mail sooner (see `reactions.SOONEST`).
SLICE: Final = timedelta(minutes=60)
#: Things of one customer within so short a time are one thing.
AT_ONCE: Final = timedelta(minutes=1)
#: Work that is still there after so many rounds never ends.
ROUNDS_MAX: Final = 1_000


class HeldHints(Hints):
    """Hints that are dropped while the clockwork holds them, and given by `give` alone."""

    held = True

    def hint(self, *kinds: str) -> None:
        if not self.held:
            super().hint(*kinds)

    def give(self, kind: str) -> None:
        """Hint, held or not."""
        super().hint(kind)


@dataclass(order=True, slots=True)
class _Moment:
    at: datetime
    #: Breaks ties in the order in which things were planned.
    n: int
    what: Delivery | Reaction = field(compare=False)

    @property
    def who(self) -> str:
        """The address of the customer whose moment it is."""
        return self.what.who if isinstance(self.what, Delivery) else self.what.person.email


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far it is."""

    now: datetime
    webhooks: int
    mails: int


class Clockwork:
    """One run of the demo on an installation that is started already."""

    def __init__(
        self, app: App, clock: JumpingClock, hints: HeldHints, poster: Poster, *, seed: int, customers: int, days: int
    ) -> None:
        """Plan everybody's lives.

        Args:
          app: its clock and hints are the two given beside it.
        """
        self._app, self._clock, self._hints, self._poster = app, clock, hints, poster
        self._seed, self._days = seed, days
        self.end = end_of(days)
        self.people: dict[str, Person] = {person.email: person for person in everybody(seed, customers)}
        self._numbers = count(customers + 1)
        self._order = count()
        self._moments: list[_Moment] = []
        self._letters = Letterbox(app)
        self._webhooks = 0
        self._friends_of: dict[str, int] = {}
        #: Who has passed their link on: a link in a later mail is no news.
        self._shared: set[str] = set()
        #: What the refund of the story took along; None while it has not happened.
        self.witness: Witness | None = None
        with app.reading() as connection:
            catalog = app.catalog.current(connection).catalog
        self._review_url = catalog.shop.model.review_url
        self._hears_reviews = "review.posted" in catalog.events
        self._sources = frozenset(catalog.sources) & SOURCES.keys()
        for delivery in lives(seed, customers, days):
            self._plan(delivery.at, delivery)

    def run(self, say: Callable[[Progress], None]) -> None:
        """Let the days pass; `say` is told after each slice.

        Raises:
          DemoError: when a webhook is refused, or work does not end.
        """
        day = start_of()
        while True:
            before = self._clock.now()
            due = self._next_due()
            next_at = self._moments[0].at if self._moments else None
            if due is not None and due < self.end and (next_at is None or due <= next_at):
                self._clock.jump(min(due + SLICE, next_at or self.end, self.end))
            elif next_at is not None and next_at < self.end:
                self._post_slice(due)
            else:
                break
            self.settle()
            self._react(before)
            if self._clock.now() - day >= timedelta(days=1):
                day = self._clock.now()
                self._work("tend")
            say(self._progress())
        self._clock.jump(self.end)
        self.settle()
        say(self._progress())

    def settle(self) -> None:
        """Let the actors work, one kind after the other, until nothing is due.

        Raises:
          DemoError: when that never happens.
        """
        for _ in range(ROUNDS_MAX):
            with self._app.reading() as connection:
                kinds = due_kinds(connection, self._app)
            if not kinds:
                return
            self._work(kinds[0])
        raise DemoError(f"After {ROUNDS_MAX:,} rounds there is still work: {', '.join(kinds)}. The log says why.")

    def _work(self, kind: str) -> None:
        self._hints.give(kind)
        self._app.broker.join(kind)  # without a timeout: with one, Dramatiq starts a thread for each join

    def _next_due(self) -> datetime | None:
        """The earliest moment at which a run, a mail, a referral, a date or a schedule is due."""
        with self._app.reading() as connection:
            found = [row.at for row in connection.execute(_NEXT_DUE)] + [occasions.next_due(connection)]
        return min((moment for moment in found if moment is not None), default=None)

    def _post_slice(self, due: datetime | None) -> None:
        """Do what happens from the next moment on, until the slice ends."""
        first = self._moments[0].at
        end = min(first + SLICE, self.end, due or self.end)
        begun: dict[str, datetime] = {}
        while self._moments and (moment := self._moments[0]).at < end:
            if moment.at - begun.setdefault(moment.who, moment.at) > AT_ONCE:
                return
            heapq.heappop(self._moments)
            self._clock.jump(moment.at)
            self._do(moment.what)

    def _do(self, what: Delivery | Reaction) -> None:
        match what:
            case Delivery():
                if what.source in self._sources:
                    self._deliver(what)
            case Rates():
                self._poster.rate(what.url, what.score)
            case Unsubscribes():
                self._poster.unsubscribe(what.url)
            case Shares():
                self._bring_a_friend(what)
            case Reviews():
                if self._hears_reviews:
                    story = self._story(what.person)
                    story.reviews(what.at, what.stars)
                    self._plan_all(story.told)
            case Answers():
                story = self._story(what.person)
                story.ticket(what.at, is_open=True)
                story.ticket(what.closed_at, is_open=False)
                self._plan_all(story.told)
            case _:
                assert_never(what)

    def _deliver(self, what: Delivery) -> None:
        """Post a webhook; at the refund of the story, look before and after."""
        is_told = what.topic == "refunds/create" and self.people[what.who].kind == "friend who returns it"
        if is_told:
            self.settle()
        before = look(self._app, what.who) if is_told and self.witness is None else None
        self._poster.deliver(what, self._clock.now())
        self._webhooks += 1
        if before is not None:
            self.settle()
            after = look(self._app, what.who)
            self.witness = Witness(before=before, after=after) if after is not None else None

    def _bring_a_friend(self, what: Shares) -> None:
        """A friend follows the link, creates an account, and orders with the code that the link gave."""
        code = parse_qs(urlsplit(self._poster.follow(what.url)).query).get("ref", [""])[0]
        if not code or what.person.code is not None:  # one generation is a story; more would never end
            return
        n = self._friends_of[what.person.email] = self._friends_of.get(what.person.email, 0) + 1
        rng = Random(f"{self._seed}/friend/{what.person.email}/{n}")
        friend = a_friend(rng, next(self._numbers), what.person, code, n)
        self.people[friend.email] = friend
        self._plan_all(life(friend, rng, self._days, joins=what.at + timedelta(minutes=4)))

    def _story(self, person: Person) -> Story:
        return Story(person=person, rng=Random(f"{self._seed}/own/{person.email}"))

    def _react(self, since: datetime) -> None:
        """Let people read the mails that came since an instant."""
        for mail, email in self._letters.new(since):
            person = self.people.get(email or "")
            if person is None:
                continue
            found = list(reactions(self._seed, person, mail, self._review_url))
            for reaction in found:
                if not isinstance(reaction, Shares) or person.email not in self._shared:
                    self._plan(reaction.at, reaction)
            self._shared |= {person.email for reaction in found if isinstance(reaction, Shares)}

    def _plan(self, at: datetime, what: Delivery | Reaction) -> None:
        heapq.heappush(self._moments, _Moment(max(at, self._clock.now()), next(self._order), what))

    def _plan_all(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._plan(delivery.at, delivery)

    def _progress(self) -> Progress:
        return Progress(now=self._clock.now(), webhooks=self._webhooks, mails=len(self._letters))


def _earliest(table: sa.Table, state: str, *further: sa.ColumnElement[bool]) -> sa.Select[tuple[datetime]]:
    query = sa.select(sa.func.min(table.c.due_at).label("at"))
    return query.where(table.c.state == sa.literal_column(f"'{state}'"), *further)


_NEXT_DUE = sa.union_all(
    *(_earliest(enrollments, "waiting", enrollments.c.lane == sa.literal_column(lane)) for lane in ("0", "1")),
    *(
        _earliest(
            touchpoints,
            "queued",
            touchpoints.c.channel == sa.literal_column("'email'"),
            touchpoints.c.lane == sa.literal_column(lane),
        )
        for lane in ("0", "1")
    ),
    sa.select(sa.func.min(referrals.c.due_at).label("at")),
    sa.select(sa.func.min(segment_looks.c.due_at).label("at")),
)
