"""A flow lived through by made-up customers, before real ones get a mail: how much goes when, and who is left inside.

Each customer lives alone, by the same `Life` that tests live. Chance is a parameter: the same seed gives every customer
the same fate, whoever else there is, so that work can be divided by their numbers.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from afterglow import dividing, previews, rails
from afterglow.backtest import History, Word
from afterglow.language.catalog import Catalog
from afterglow.language.check.supply import Shape, World, world
from afterglow.language.flow.graph import Flow, WaitFor
from afterglow.mapping import CustomerFacts, Mapped
from afterglow.person import new
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


def simulate(plan: Plan, people: Iterable[History]) -> Simulated:
    """Let these customers live through a flow, one after the other."""
    found = Simulated(days=plan.days)
    for who in people:
        _count(found, plan, lived(plan, who))
    return found


def lived(plan: Plan, who: History) -> Life:
    """One customer's life, to the end of the days and of every run of the flow."""
    return _Simulated(plan, who).play()


def made_up(plan: Plan, numbers: Iterable[int]) -> Iterator[History]:
    """Customers who agreed to marketing, and of whom only an address is known: zone and language are the shop's."""
    for number in numbers:
        person = new(number, plan.starts)
        person.email = f"customer-{number}@shop.example"
        agreed = Word(said=rails.Consent(topic="*", granted=True), at=plan.starts)
        yield History(person=person, told=(), words=(agreed,))


class _Simulated:
    """One customer: what happens to them is drawn as they go."""

    def __init__(self, plan: Plan, who: History) -> None:
        self.plan, self.number = plan, who.person.id
        self.life = Life(plan.shop, plan.catalog, who.person, plan.starts, is_told=False)
        self.life.hear(word.said for word in who.words)
        self.life.suppressed = who.suppressed[1] if who.suppressed else None
        self.life.first_id = max((told.event.id for told in who.told), default=0) + 1
        self.life.horizon = plan.ends
        self.life.begin([told.event for told in who.told])
        #: What will happen: when, in which order, and as which event with which payload and stage.
        self.ahead: list[tuple[datetime, int, str, Mapping[str, Any], str | None]] = []
        self.drawn = 0

    def play(self) -> Life:
        """Live to the end of the days, and of every run of the flow, whatever else was set going."""
        flow, life = self.plan.played, self.life
        moment = self.plan.starts + self.plan.chance("comes", self.number) * (self.plan.ends - self.plan.starts)
        event = flow.event or self._bringing(flow.stage)
        trigger = self._payload(event, _of_segment(flow.segment))
        if flow.occasion is not None:
            trigger = {**trigger, "flow": flow.name}
        self._expect(moment, event, trigger, flow.stage)
        for n, rule in enumerate(flow.stops):
            if self.plan.chance(f"stops {n}", self.number) < self.plan.stops:
                after = self.plan.chance(f"stops {n} when", self.number) * (self.plan.ends - moment)
                self._expect(
                    moment + after, rule.event, self._payload(rule.event, {**trigger, **_of_segment(rule.segment)})
                )
        seen = 0
        while not self._is_over(due := life.next_due()):
            if self.ahead and (due is None or self.ahead[0][0] <= due):
                at, _, event, payload, stage = heapq.heappop(self.ahead)
                life.until(at)
                self._happen(event, payload, stage)
            else:
                life.until(due)
            for note in life.lived.notes[seen:]:
                self._answer(note)
            seen = len(life.lived.notes)
        return life

    def _is_over(self, due: datetime | None) -> bool:
        """Whether nothing is left that counts: the days are over, and nobody is inside the flow."""
        moments = [moment for moment in (due, self.ahead[0][0] if self.ahead else None) if moment is not None]
        inside = any(run.flow.name == self.plan.flow for run in self.life.open)
        return not moments or (min(moments) >= self.plan.ends and not inside)

    def _bringing(self, stage: str | None) -> str:
        """The event by which a stage is entered: an order, where that is one."""
        bringing = [event for event, brought in self.plan.shop.stages.items() if brought == stage]
        order = self.plan.shop.catalog.shop.model.order_event
        return order if order in bringing else next(iter(bringing), STAGE_ENTERED)

    def _expect(self, at: datetime, event: str, payload: Mapping[str, Any], stage: str | None = None) -> None:
        self.drawn += 1
        heapq.heappush(self.ahead, (at, self.drawn, event, payload, stage or self.plan.shop.stages.get(event)))

    def _happen(self, event: str, payload: Mapping[str, Any], stage: str | None) -> None:
        now = self.life.now
        mapped = Mapped(
            event=event,
            occurred_at=now,
            stated_at=now,
            stage=stage,
            customer=CustomerFacts(),
            payload=payload,
            consent=None,
            account=None,
        )
        self.life.take_in(self.life.happening(mapped), mapped)

    def _answer(self, note: Note) -> None:
        """Where a wait of the flow for an event began, draw whether one comes, which, and when."""
        if note.flow != self.plan.flow or note.verb != "waits for" or note.step is None:
            return
        run = self.life.runs[note.run - 1]
        step = run.flow.steps[note.step]
        assert isinstance(step, WaitFor)
        place = f"{run.flow.name} {run.id} {step.id}"
        if self.plan.chance(place, self.number) >= self.plan.answers:
            return
        events = step.events
        event = events[int(self.plan.chance(f"{place} which", self.number) * len(events))]
        length = datetime.fromisoformat(note.detail["until"]) - note.at
        after = self.plan.chance(f"{place} when", self.number) * length
        self._expect(note.at + after, event, self._payload(event, run.trigger.payload))

    def _payload(self, event: str, trigger: Mapping[str, Any]) -> Mapping[str, Any]:
        """What an event carries: as the trigger has it, so that it speaks of the same thing; else an example."""
        shapes: Mapping[str, Shape] = self.plan.supplied.events.get(event) or {}
        made = {name: previews.example(name, shape, self.plan.starts) for name, shape in shapes.items()}
        self.drawn += 1
        mark = 1 + int(5 * self.plan.chance(f"mark {self.drawn}", self.number))
        return _marked({**made, **{name: trigger[name] for name in made.keys() & trigger.keys()}}, mark)


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
