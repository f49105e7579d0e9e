"""A flow lived through by made-up customers, before real ones get a mail: how much goes when, and who is left inside.

Each customer lives alone, by the same `Life` that tests live; where the flow is for companies, the people of one live
side by side. Chance is a parameter: the same seed gives every customer the same fate, whoever else there is, so that
work can be divided by their numbers.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import groupby
from typing import Any, Final

from afterglow import dividing, previews, rails
from afterglow.backtest import History, Word
from afterglow.language.catalog import Catalog
from afterglow.language.check.supply import Shape, World, world
from afterglow.language.flow.graph import Flow, WaitFor
from afterglow.mapping import CustomerFacts, Mapped
from afterglow.person import new
from afterglow.testing.colleagues import Colleagues
from afterglow.testing.life import Life
from afterglow.testing.memory import Note, ShopUnderTest

#: What an event is called by which a stage is entered that no source says an event brings.
STAGE_ENTERED: Final = "stage.entered"
#: Answers of which a flow wants to know how good they are: one to five.
_MARKS: Final = frozenset({"score", "stars"})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is simulated.

    Args:
      starts: when it begins: a midnight of the shop.
      days: for how long; customers come evenly over all of it.
      seed: another one is another fate for everybody.
      answers: the share of the flow's waits for an event that one ends, somewhere between their beginning and end.
      stops: the share of customers to whom each event happens that stops the flow, somewhere in the time after.
    """

    shop: ShopUnderTest
    flow: str
    starts: datetime
    days: int
    seed: int = 1
    answers: float = 0.5
    stops: float = 0.0

    @cached_property
    def catalog(self) -> Catalog:
        """The live flows, and the one that is simulated, whatever its status."""
        catalog = self.shop.catalog
        return replace(catalog, flows={**catalog.flows, self.flow: replace(self.played, status="live")})

    @property
    def played(self) -> Flow:
        """The flow that is simulated."""
        return self.shop.catalog.flows[self.flow]

    @property
    def is_for_companies(self) -> bool:
        """Whether what one does means anything to others of their account."""
        return self.played.per_account or bool(self.played.heard_by_account)

    @cached_property
    def roles(self) -> Sequence[str | None]:
        """Whom a made-up company consists of, by their roles; a lone customer where the flow is not for companies."""
        accounts = self.shop.catalog.shop.model.accounts
        return accounts.roles or [None] if accounts is not None and self.is_for_companies else [None]

    @cached_property
    def supplied(self) -> World:
        """What events carry."""
        return world(self.shop.catalog.shop, self.shop.catalog.sources.values(), whole=True)

    def chance(self, part: str, number: int) -> float:
        """A draw in [0, 1) for a customer, for ever the same."""
        return dividing.share(f"simulate {self.seed}", part, number)

    @property
    def ends(self) -> datetime:
        """When the days are over."""
        return self.starts + timedelta(days=self.days)


@dataclass(kw_only=True, slots=True)
class Simulated:
    """What came of it; parts are added to the whole."""

    days: int
    customers: int = 0
    #: Runs of the flow that began, and how many of them an event stopped.
    runs: int = 0
    stopped: int = 0
    #: Mails and notes on each day: of the flow, and of the other live flows to the same customers.
    mails: list[int] = field(default_factory=list)
    others: int = 0
    #: Messages of the flow that had to wait and that did not go within the days, by reason.
    deferred: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    #: How long runs took that came to an end, in whole minutes: how many of each, also after the days.
    took: Counter[int] = field(default_factory=Counter)
    #: Runs that were still inside when the days were over, and those that nothing will ever move again.
    inside: int = 0
    stuck: int = 0
    #: Which way runs went at each step where ways part.
    ways: dict[str, Counter[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mails = self.mails or [0] * self.days

    def add(self, other: "Simulated") -> None:
        """Add what was counted of other customers."""
        for name in ("customers", "runs", "stopped", "others", "inside", "stuck"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.mails = [mine + theirs for mine, theirs in zip(self.mails, other.mails, strict=True)]
        for name in ("deferred", "dropped", "took"):
            getattr(self, name).update(getattr(other, name))
        for step, ways in other.ways.items():
            self.ways.setdefault(step, Counter()).update(ways)

    def took_at_most(self, share: float) -> timedelta | None:
        """How long this share of the runs that came to an end took at most; None where none did."""
        wanted, seen = share * self.took.total(), 0
        for minutes, runs in sorted(self.took.items()):
            seen += runs
            if seen >= wanted:
                return timedelta(minutes=minutes)
        return None


def simulate(plan: Plan, people: Iterable[Sequence[History]]) -> Simulated:
    """Let these customers live through a flow, one company or lone customer after the other."""
    found = Simulated(days=plan.days)
    for together in people:
        for life in lived(plan, together):
            _count(found, plan, life)
    return found


def lived(plan: Plan, together: Sequence[History]) -> list[Life]:
    """The lives of the people of one company, or of one customer, to the end of the days and of every run."""
    return _Simulated(plan, together).play()


def made_up(plan: Plan, numbers: Iterable[int]) -> Iterator[list[History]]:
    """Customers who agreed to marketing, and of whom only an address is known: zone and language are the shop's.

    Where the flow is for companies they come as such, with one person for each role that shop.yaml declares.
    """
    size = len(plan.roles)
    for company, ones in groupby(numbers, lambda number: (number - 1) // size):
        yield [_made_up(plan, number, plan.roles[(number - 1) % size], company + 1) for number in ones]


def _made_up(plan: Plan, number: int, role: str | None, company: int) -> History:
    person = new(number, plan.starts)
    person.email = f"customer-{number}@shop.example"
    if role is not None:
        person.attributes["role"] = role
    account = None
    if plan.is_for_companies and plan.supplied.account is not None:
        made = {name: _stored(previews.example(name, one, plan.starts)) for name, one in plan.supplied.account.items()}
        account = {**made, "id": str(company), "name": f"Company {company}"}
    agreed = Word(said=rails.Consent(topic="*", granted=True), at=plan.starts)
    return History(person=person, told=(), words=(agreed,), account=account)


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class _Ahead:
    """What will happen, in the order in which it was drawn where it happens at one moment."""

    at: datetime
    drawn: int
    life: Life = field(compare=False)
    event: str = field(compare=False)
    payload: Mapping[str, Any] = field(compare=False)
    stage: str | None = field(compare=False)


class _Simulated:
    """The people of one company, or one customer: what happens to them is drawn as they go."""

    def __init__(self, plan: Plan, together: Sequence[History]) -> None:
        self.plan, self.number = plan, together[0].person.id
        self.together = Colleagues()
        for who in together:
            self.together.join(self._begun(who))
        self.lives = self.together.lives
        self.ahead: list[_Ahead] = []
        self.drawn = 0
        #: The waits that end for all of them by one event, whose fate is drawn.
        self.shared: set[str] = set()

    def _begun(self, who: History) -> Life:
        life = Life(self.plan.shop, self.plan.catalog, who.person, self.plan.starts, is_told=False)
        life.account = who.account
        life.hear(word.said for word in who.words)
        life.suppressed = who.suppressed[1] if who.suppressed else None
        life.first_id = max((told.event.id for told in who.told), default=0) + 1
        life.horizon = self.plan.ends
        life.begin([told.event for told in who.told])
        return life

    def play(self) -> list[Life]:
        """Live to the end of the days, and of every run of the flow, whatever else was set going."""
        for life in [self._one_of("who comes")] if self.plan.played.per_account else self.lives:
            self._come(life)
        seen = dict.fromkeys(range(len(self.lives)), 0)
        while not self._is_over(due := self.together.next_due()):
            if self.ahead and (due is None or self.ahead[0].at <= due):
                self._happen(heapq.heappop(self.ahead))
            elif due is not None:
                self.together.until(due)
            for n, life in enumerate(self.lives):
                for note in life.lived.notes[seen[n] :]:
                    self._answer(life, note)
                seen[n] = len(life.lived.notes)
        return self.lives

    def _come(self, life: Life) -> None:
        """Draw when somebody comes, and what stops them."""
        flow, plan, number = self.plan.played, self.plan, life.person.id
        moment = plan.starts + plan.chance("comes", number) * (plan.ends - plan.starts)
        event = flow.event or self._bringing(flow.stage)
        trigger = self._payload(life, event, _of_segment(flow.segment))
        if flow.occasion is not None:
            trigger = {**trigger, "flow": flow.name}
        self._expect(life, moment, event, trigger, flow.stage)
        for n, rule in enumerate(flow.stops):
            # A run for a company is stopped by its own people only where the rule does not say that anybody counts.
            for other in self.lives if flow.per_account and not rule.by_account else [life]:
                if plan.chance(f"stops {n}", other.person.id) < plan.stops:
                    who = self._one_of(f"who stops {n}") if rule.by_account else other
                    after = plan.chance(f"stops {n} when", other.person.id) * (plan.ends - moment)
                    carried = self._payload(who, rule.event, {**trigger, **_of_segment(rule.segment)})
                    self._expect(who, moment + after, rule.event, carried)

    def _one_of(self, part: str) -> Life:
        """Somebody of them, drawn by chance."""
        return self.lives[int(self.plan.chance(part, self.number) * len(self.lives))]

    def _is_over(self, due: datetime | None) -> bool:
        """Whether nothing is left that counts: the days are over, and nobody is inside the flow."""
        moments = [moment for moment in (due, self.ahead[0].at if self.ahead else None) if moment is not None]
        inside = any(run.flow.name == self.plan.flow for life in self.lives for run in life.open)
        return not moments or (min(moments) >= self.plan.ends and not inside)

    def _bringing(self, stage: str | None) -> str:
        """The event by which a stage is entered: an order, where that is one."""
        bringing = [event for event, brought in self.plan.shop.stages.items() if brought == stage]
        order = self.plan.shop.catalog.shop.model.order_event
        return order if order in bringing else next(iter(bringing), STAGE_ENTERED)

    def _expect(
        self, life: Life, at: datetime, event: str, payload: Mapping[str, Any], stage: str | None = None
    ) -> None:
        self.drawn += 1
        stage = stage or self.plan.shop.stages.get(event)
        ahead = _Ahead(at=at, drawn=self.drawn, life=life, event=event, payload=payload, stage=stage)
        heapq.heappush(self.ahead, ahead)

    def _happen(self, ahead: _Ahead) -> None:
        self.together.until(ahead.at)
        mapped = Mapped(
            event=ahead.event,
            occurred_at=ahead.at,
            stated_at=ahead.at,
            stage=ahead.stage,
            customer=CustomerFacts(),
            payload=ahead.payload,
            consent=None,
            account=None,
        )
        ahead.life.take_in(ahead.life.happening(mapped), mapped)
        self.together.pass_on()

    def _answer(self, life: Life, note: Note) -> None:
        """Where a wait of the flow for an event began, draw whether one comes, which, when and from whom.

        A wait that ends for the whole company by one event is drawn for all of them once.
        """
        if note.flow != self.plan.flow or note.verb != "waits for" or note.step is None:
            return
        run = life.runs[note.run - 1]
        step = run.flow.steps[note.step]
        assert isinstance(step, WaitFor)
        place, number = f"{run.flow.name} {run.id} {step.id}", life.person.id
        by_account = len(self.lives) > 1 and any(awaited.by_account for awaited in step.awaited)
        if by_account:
            place, number = f"{run.flow.name} {step.id}", self.number
            if place in self.shared:
                return
            self.shared.add(place)
        if self.plan.chance(place, number) >= self.plan.answers:
            return
        events = step.events
        event = events[int(self.plan.chance(f"{place} which", number) * len(events))]
        length = datetime.fromisoformat(note.detail["until"]) - note.at
        after = self.plan.chance(f"{place} when", number) * length
        who = self._one_of(f"{place} who") if by_account else life
        self._expect(who, note.at + after, event, self._payload(who, event, run.trigger.payload))

    def _payload(self, life: Life, event: str, trigger: Mapping[str, Any]) -> Mapping[str, Any]:
        """What an event carries: as the trigger has it, so that it speaks of the same thing; else an example."""
        shapes: Mapping[str, Shape] = self.plan.supplied.events.get(event) or {}
        made = {name: previews.example(name, shape, self.plan.starts) for name, shape in shapes.items()}
        self.drawn += 1
        mark = 1 + int(5 * self.plan.chance(f"mark {self.drawn}", life.person.id))
        return _marked({**made, **{name: trigger[name] for name in made.keys() & trigger.keys()}}, mark)


def _stored(value: Any) -> Any:
    """An example as attributes hold it: a date is text."""
    return value.date().isoformat() if isinstance(value, datetime) else value


def _of_segment(segment: str | None) -> Mapping[str, Any]:
    """What an event carries that tells of a segment."""
    return {"segment": {"name": segment}} if segment else {}


def _marked(payload: Mapping[str, Any], mark: int) -> dict[str, Any]:
    """The payload with every mark that a customer gives in it."""
    return {
        name: mark if name in _MARKS else _marked(value, mark) if isinstance(value, Mapping) else value
        for name, value in payload.items()
    }


def _count(found: Simulated, plan: Plan, life: Life) -> None:
    """Count what one life came to."""
    found.customers += 1
    zone = life.shop.zone
    first = plan.starts.astimezone(zone).date()
    last: dict[int, datetime] = {}
    waited: dict[tuple[int, str | None], set[str]] = {}
    for note in life.lived.notes:
        last[note.run] = note.at
        if note.verb == "sent" and note.at < plan.ends:
            if note.flow == plan.flow:
                found.mails[min((note.at.astimezone(zone).date() - first).days, plan.days - 1)] += 1
            else:
                found.others += 1
        if note.flow != plan.flow:
            continue
        if (way := _way(note)) is not None and note.step is not None:
            found.ways.setdefault(note.step, Counter())[way] += 1
        if note.message is not None and note.at < plan.ends:
            because = str(note.detail.get("because"))
            if note.verb == "deferred":
                reasons = waited.setdefault((note.run, note.step), set())
                found.deferred[because] += because not in reasons
                reasons.add(because)
            elif note.verb in ("skipped", "failed", "held"):
                found.dropped[because] += 1
    for run in life.runs:
        if run.flow.name != plan.flow:
            continue
        is_over, ended = run.state in ("finished", "stopped"), last.get(run.id, run.entered_at)
        found.runs += 1
        found.stopped += run.state == "stopped"
        found.inside += not is_over or ended >= plan.ends
        found.stuck += not is_over
        if is_over:
            found.took[round((ended - run.entered_at).total_seconds() / 60)] += 1


def _way(note: Note) -> str | None:
    """Which way a run went by this decision; None where there was none to choose."""
    match note.verb:
        case "chose":
            return str(note.detail["if"]) if note.detail["was"] else "otherwise"
        case "split":
            return str(note.detail["branch"])
        case "arrived":
            return str(note.detail["name"])
        case "timed out":
            return "nothing came"
    return None
