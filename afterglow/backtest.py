"""What the stored history would have come to under other files, beside what happened.

Each customer's events are lived again, in the order in which they came, by the same `Life` that tests live: as though
the files had always been in force. The people of one company are lived side by side, since what one does may start or
stop flows of the others. What the database does not remember of the past is taken as `relive` says.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final

from afterglow import acting, rails
from afterglow.decide import Event
from afterglow.language.actions import TAGS
from afterglow.language.company import is_of_colleague
from afterglow.language.segment import ENTERED, LEFT
from afterglow.language.starts import OnDate, OverSegment
from afterglow.learn import learn
from afterglow.mapping import CustomerFacts, Mapped
from afterglow.person import Person, new
from afterglow.testing.colleagues import Colleagues
from afterglow.testing.life import Life
from afterglow.testing.memory import Note, ShopUnderTest

#: A mail that would have gone within this time of the one that went is the same mail.
SAME: Final = timedelta(minutes=10)
#: So many customers are named for each difference.
EXAMPLES_MAX: Final = 3
#: Our own events that a life tells itself, by the files it is lived under; those of actions where a run told them.
_LIVED: Final = frozenset({ENTERED, LEFT, OnDate.event, OverSegment.event})
_ACTED: Final = acting.ACTIONS | {acting.REDEEMED, acting.REFUSED}
#: Our own events by which a customer's word on consent is told.
_WORDS: Final = {"consent.granted": True, "consent.withdrawn": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """An event as it is stored: who told it, when it came, the stage that it brought."""

    event: Event
    came_at: datetime
    source: str
    stage: str | None
    #: Whether a file or a provider's list brought it, and so long after it happened.
    is_past: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """The last word that is stored on a topic, when it was given, and the event that brought it (0: none is known)."""

    said: rails.Consent
    at: datetime
    by: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Mail:
    """A message that went, or would have gone: of a flow's run, which an event began.

    `trigger` is the event's number; its name where a life tells it itself, and so under another number.
    """

    at: datetime
    flow: str
    template: str
    trigger: int | str


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """All that is stored about one customer. `person` is as of today, `told` in the order in which it came."""

    person: Person
    told: Sequence[Told]
    #: What is known today of the company that they buy for, where there is one.
    account: Mapping[str, Any] | None = None
    words: Sequence[Word] = ()
    #: Since when their address is suppressed, and for what: "marketing" or "everything".
    suppressed: tuple[datetime, str] | None = None
    #: What went.
    went: Sequence[Mail] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """What is compared: from `since` to before `until`."""

    since: datetime
    until: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.since <= moment < self.until


def relive(shop: ShopUnderTest, histories: Sequence[History], period: Period) -> list[Life]:
    """Live the histories of one customer, or of all people of one company, under the shop's live flows.

    Args:
      period: they are lived to its end.

    Returns:
      their lives, in the order of the histories.

    What is not stored is taken so:

    - Name, address, zone and attributes are today's, but for what flows set; orders, spending, stage and segments are
      as of each moment.
    - What was said about consent before the first word that is stored: whoever withdrew had agreed, and nobody else.
    - What a file or a provider's list brought came when it happened, and starts flows only within the period.
    - What programmes told is told again as it was; segments, dates, schedules and what colleagues hear come anew.
    - What is known of a company is today's, and who buys for it did so from the first event of theirs on.
    """
    if len(histories) > 1:
        return _side_by_side(shop, histories, period)
    [history] = histories
    moments = sorted(_moments(history, period), key=lambda one: one[0])
    life = _begun(shop, history, moments[0][0][0] if moments else period.until)
    for (moment, *_), happens in moments:
        if moment >= period.until:
            break
        life.until(moment)
        happens(life)
    life.until(period.until)
    return [life]


def _side_by_side(shop: ShopUnderTest, histories: Sequence[History], period: Period) -> list[Life]:
    """Live the people of one company, each from what happened to them first on."""
    happening = sorted(
        ((place, n, happens) for n, history in enumerate(histories) for place, happens in _moments(history, period)),
        key=lambda one: one[:2],
    )
    together, lives = Colleagues(), dict[int, Life]()
    for (moment, *_), n, happens in happening:
        if moment >= period.until:
            break
        together.until(moment)
        if n not in lives:
            lives[n] = _begun(shop, histories[n], moment)
            together.join(lives[n])
        happens(lives[n])
        together.pass_on()
    together.until(period.until)
    return [lives[n] if n in lives else _begun(shop, history, period.until) for n, history in enumerate(histories)]


def _begun(shop: ShopUnderTest, history: History, first: datetime) -> Life:
    """A life at its beginning: the moment of what happens first."""
    life = Life(shop, shop.catalog, _at_the_beginning(history, shop), first, is_told=False)
    life.account = history.account
    life.first_id = max((told.event.id for told in history.told), default=0) + 1
    life.hear(_before(history))
    life.begin()
    return life


#: When something happens, the event by which it does, and whether it is that event: a word is heard just before it.
_Place = tuple[datetime, int, bool]


def _moments(history: History, period: Period) -> Iterator[tuple[_Place, Callable[[Life], object]]]:
    """What happens to a customer, each with its place in time."""
    for word in _words(history):
        yield (word.at, word.by, False), partial(Life.hear, said=(word.said,))
    if history.suppressed is not None:
        at, covers = history.suppressed
        yield (at, 0, False), partial(_suppress, covers=covers)
    for told in history.told:
        if _is_lived(told.event):
            continue
        moment = told.event.occurred_at if told.is_past else told.came_at
        starts_nothing = told.is_past and told.event.occurred_at < period.since
        yield (
            (moment, told.event.id, True),
            partial(
                Life.take_in,
                event=_unnumbered(told.event),
                mapped=_mapped(told),
                source=told.source,
                is_history=starts_nothing,
            ),
        )


def _unnumbered(event: Event) -> Event:
    """An event without the number of the stored run that asked for it: a life numbers its runs itself."""
    by = event.payload.get("by")
    if not isinstance(by, Mapping) or "run" not in by:
        return event
    return replace(event, payload={**event.payload, "by": {name: by[name] for name in by if name != "run"}})


def _suppress(life: Life, covers: str) -> None:
    life.suppressed = covers


def _words(history: History) -> list[Word]:
    """Every word on consent that is known: the last of each topic, and those of our own pages."""
    spoken = [
        Word(
            said=rails.Consent(topic=str(one.event.payload.get("topic", "*")), granted=granted),
            at=one.came_at,
            by=one.event.id,
        )
        for one in history.told
        if (granted := _WORDS.get(one.event.name)) is not None
    ]
    return sorted([*history.words, *spoken], key=lambda word: word.at)


def _before(history: History) -> list[rails.Consent]:
    """What counts as said before the first word on each topic."""
    first: dict[str, Word] = {}
    for word in _words(history):
        first.setdefault(word.said.topic, word)
    return [rails.Consent(topic=topic, granted=True) for topic, word in first.items() if not word.said.granted]


def _at_the_beginning(history: History, shop: ShopUnderTest) -> Person:
    """The customer before the first event: what today's figures leave when that is taken away which events brought."""
    today, brought = history.person, new(history.person.id, history.person.since)
    for told in history.told:
        learn(brought, _mapped(told), shop.catalog.shop)
    is_staged, has_ordered = brought.stage is not None, brought.orders > 0
    return replace(
        today,
        orders=max(today.orders - brought.orders, 0),
        spent=today.spent - brought.spent,
        last_order_at=None if has_ordered else today.last_order_at,
        stage=None if is_staged else today.stage,
        stage_at=None if is_staged else today.stage_at,
        attributes=_before_flows_set_any(history),
    )


def _before_flows_set_any(history: History) -> dict[str, Any]:
    """Today's attributes and tags without those that a flow set: what stood there before is not stored."""
    attributes = dict(history.person.attributes)
    for told in history.told:
        if told.event.name == acting.SET:
            for name in told.event.payload.get("attributes", ()):
                attributes.pop(name, None)
            added = told.event.payload.get(TAGS, {}).get("add", ())
            if TAGS in attributes:
                attributes[TAGS] = [tag for tag in attributes[TAGS] if tag not in added]
    return attributes


def _mapped(told: Told) -> Mapped:
    """The event as `ingest` had it, save what it said about the person."""
    return Mapped(
        event=told.event.name,
        occurred_at=told.event.occurred_at,
        stated_at=None,
        stage=told.stage,
        customer=CustomerFacts(),
        payload=told.event.payload,
        consent=None,
        account=None,
    )


# Comparing


@dataclass(kw_only=True, slots=True)
class Example:
    """A customer for whom it differs: when the mail went, and when it would have gone."""

    customer: int
    went: datetime | None
    would: datetime | None


@dataclass(kw_only=True, slots=True)
class Figures:
    """How many mails of one flow and template went, would have gone, and how the two compare."""

    went: int = 0
    would: int = 0
    same: int = 0
    earlier: int = 0
    later: int = 0
    only_went: int = 0
    only_would: int = 0
    #: Mails that had to wait and mails that would not have gone, by reason.
    deferred: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    #: By the name of the difference.
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def differ(self, how: str, example: Example) -> None:
        """Count one difference."""
        setattr(self, how, getattr(self, how) + 1)
        if len(kept := self.examples.setdefault(how, [])) < EXAMPLES_MAX:
            kept.append(example)

    def add(self, other: "Figures") -> None:
        """Add what was counted elsewhere."""
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.deferred.update(other.deferred)
        self.dropped.update(other.dropped)
        for how, examples in other.examples.items():
            mine = self.examples.setdefault(how, [])
            mine += examples[: EXAMPLES_MAX - len(mine)]


COUNTED: Final = ("went", "would", "same", "earlier", "later", "only_went", "only_would")
#: The ways in which it can differ, as `Figures` counts them.
DIFFERENCES: Final = ("only_would", "only_went", "earlier", "later")


@dataclass(kw_only=True, slots=True)
class Comparison:
    """What was counted over customers; parts are added to the whole."""

    customers: int = 0
    events: int = 0
    #: Events of the past that started no flow.
    imported: int = 0
    #: The first instant of which anything is stored.
    reaches_back_to: datetime | None = None
    figures: dict[tuple[str, str], Figures] = field(default_factory=dict)
    #: Mails that went, and that would have gone, by day in the shop's zone.
    days: dict[date, list[int]] = field(default_factory=dict)

    def of(self, flow: str, template: str) -> Figures:
        """The figures of a flow's template."""
        return self.figures.setdefault((flow, template), Figures())

    def add(self, other: "Comparison") -> None:
        """Add what was counted elsewhere."""
        self.customers += other.customers
        self.events += other.events
        self.imported += other.imported
        self._reach(other.reaches_back_to)
        for (flow, template), figures in other.figures.items():
            self.of(flow, template).add(figures)
        for day, counts in other.days.items():
            mine = self.days.setdefault(day, [0, 0])
            mine[0] += counts[0]
            mine[1] += counts[1]

    def take(self, shop: ShopUnderTest, histories: Sequence[History], period: Period) -> None:
        """Relive one customer, or all people of one company, and compare with what happened to them."""
        for history, life in zip(histories, relive(shop, histories, period), strict=True):
            self._take(shop, history, life, period)

    def _take(self, shop: ShopUnderTest, history: History, life: Life, period: Period) -> None:
        self.customers += 1
        self.events += len(history.told)
        self.imported += sum(one.is_past for one in history.told)
        self._reach(min((one.event.occurred_at for one in history.told), default=None))
        went, would = [one for one in history.went if one.at in period], sent(life, period)
        for place, mails in enumerate((went, would)):
            for mail in mails:
                day = mail.at.astimezone(shop.catalog.shop.zone).date()
                self.days.setdefault(day, [0, 0])[place] += 1
        self._compare(history.person.id, went, would)
        self._count_rails(life.lived.notes, period)

    def _reach(self, moment: datetime | None) -> None:
        if moment is not None:
            self.reaches_back_to = min(moment, self.reaches_back_to or moment)

    def _compare(self, customer: int, went: Iterable[Mail], would: Iterable[Mail]) -> None:
        """Hold mails of the same run and template against each other, in the order of time."""
        pairs: dict[tuple[str, str, int | str], tuple[list[datetime], list[datetime]]] = {}
        for place, mails in enumerate((went, would)):
            for mail in sorted(mails, key=lambda mail: mail.at):
                pairs.setdefault((mail.flow, mail.template, mail.trigger), ([], []))[place].append(mail.at)
        for (flow, template, _), (before, after) in pairs.items():
            figures = self.of(flow, template)
            figures.went += len(before)
            figures.would += len(after)
            for n in range(max(len(before), len(after))):
                one, other = (moments[n] if n < len(moments) else None for moments in (before, after))
                if one is not None and other is not None and abs(other - one) <= SAME:
                    figures.same += 1
                else:
                    figures.differ(_difference(one, other), Example(customer=customer, went=one, would=other))

    def _count_rails(self, notes: Iterable[Note], period: Period) -> None:
        """Count what the rails would have kept back: each message once for each reason."""
        waited: dict[tuple[int, str | None], list[str]] = {}
        for note in notes:
            if note.message is None or note.verb not in ("deferred", "skipped", "failed", "held"):
                continue
            reasons = waited.setdefault((note.run, note.step), [])
            because = str(note.detail.get("because"))
            if note.verb == "deferred":
                if because not in reasons and note.at in period:
                    self.of(note.flow, note.message.template).deferred[because] += 1
                reasons.append(because)
            elif note.at in period:
                why = f"{because}, after {reasons[-1]}" if because == rails.TOO_LATE and reasons else because
                self.of(note.flow, note.message.template).dropped[why] += 1


def sent(life: Life, period: Period) -> list[Mail]:
    """What would have gone in a period, in the order in which it goes."""
    return [
        Mail(
            at=note.at,
            flow=note.flow,
            template=note.message.template,
            trigger=trigger_of(life.runs[note.run - 1].trigger),
        )
        for note in life.lived.notes
        if note.verb == "sent" and note.message is not None and note.at in period
    ]


def trigger_of(event: Event) -> int | str:
    """By what a run is known that an event began: see `Mail`."""
    return event.name if _is_lived(event) else event.id


def _difference(went: datetime | None, would: datetime | None) -> str:
    if went is None:
        return "only_would"
    if would is None:
        return "only_went"
    return "earlier" if would < went else "later"


def plain(found: Comparison, period: Period) -> dict[str, Any]:
    """A comparison as JSON."""
    return {
        "since": period.since,
        "until": period.until,
        "reaches_back_to": found.reaches_back_to,
        "customers": found.customers,
        "events": found.events,
        "imported": found.imported,
        "mails": [
            {
                "flow": flow,
                "template": template,
                **{name: getattr(figures, name) for name in COUNTED},
                "deferred": dict(figures.deferred),
                "dropped": dict(figures.dropped),
                "examples": {
                    how: [{"customer": one.customer, "went": one.went, "would": one.would} for one in examples]
                    for how, examples in figures.examples.items()
                },
            }
            for (flow, template), figures in sorted(found.figures.items())
        ],
        "days": [{"day": day, "went": went, "would": would} for day, (went, would) in sorted(found.days.items())],
    }


def _is_lived(event: Event) -> bool:
    if event.name in _LIVED or is_of_colleague(event.name):
        return True
    return event.name in _ACTED and isinstance(event.payload.get("by"), Mapping)
