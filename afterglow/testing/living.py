"""One customer, living through flows on a clock that jumps: the memory between the functions of production.

Each event is taken in as `ingest` does; then, as long as something is due, runs take their steps as in `advance`, and
what they queued goes or does not as in `deliver`, whose outbox this is. The clock then jumps to the next moment at
which something is due. `Life` serves tests, `simulate` and `backtest`; `_Lifetime` is that of a test.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from afterglow import acting, dividing, letters, pacing, past, rails, returning, telling, touchpoint
from afterglow.acting import Action
from afterglow.decide import (
    HELD_OUT,
    Event,
    Facts,
    LastRun,
    Outcome,
    Run,
    account_key,
    answer_of,
    converts,
    decide,
    next_n,
    stopping,
)
from afterglow.errors import AfterglowError
from afterglow.expressions import RenderError
from afterglow.language.actions import TAGS
from afterglow.language.catalog import Catalog
from afterglow.language.company import of_colleague, told
from afterglow.language.flow import Flow, Split
from afterglow.language.segment import ENTERED, LEFT
from afterglow.language.testing import FlowTest, Happens, Says
from afterglow.learn import learn, learn_about
from afterglow.letters import Addressed, Letterhead
from afterglow.local_time import from_wall
from afterglow.mail_templates import Rendered
from afterglow.mapping import CustomerFacts, Mapped, Unmappable, conforming
from afterglow.person import Person, new
from afterglow.refusals import refusal
from afterglow.returning import Undoing, total_of, undone_at
from afterglow.segments import Known, judge_all
from afterglow.starting import could_start, is_woken, started_by, started_for_account, starter
from afterglow.telling import Line, Message
from afterglow.testing.calendar import Calendar
from afterglow.whereabouts import country_code

if TYPE_CHECKING:
    from afterglow.testing.colleagues import Colleagues

#: Who tells of what happens in a test.
SOURCE: Final = "test"
#: More steps than any flow takes; a test that takes them stands still at one moment, which would be a mistake of ours.
_STEPS_MAX: Final = 100_000
#: So many customers are tried until one falls into the branches that a test names.
_CUSTOMERS_MAX: Final = 100_000
_FACTS: Final = ("email", "phone", "first_name", "last_name", "locale", "timezone", "country", "region")


class CannotLiveError(AfterglowError):
    """A test cannot be lived as it is written; the sentence says why."""


@dataclass(frozen=True, kw_only=True)
class ShopUnderTest:
    """A shop whose flows are tested: what is worked out once for all of its tests."""

    catalog: Catalog
    secret: bytes = b"links in tests lead nowhere"

    @cached_property
    def head(self) -> Letterhead:
        """What all letters share."""
        shop = self.catalog.shop
        return Letterhead(shop=shop, public_url=shop.model.url, private_url=shop.model.url, secret=self.secret)

    @cached_property
    def stages(self) -> Mapping[str, str]:
        """The stage that each event brings, as sources say; where several do, the one whose word counts."""
        found: dict[str, set[str]] = {}
        for source in self.catalog.sources.values():
            for rule in source.events:
                named = isinstance(rule.event, str) and isinstance(rule.stage, str)
                if named and self.catalog.shop.owner(str(rule.event)) in (None, source.name):
                    found.setdefault(str(rule.event), set()).add(str(rule.stage))
        return {event: next(iter(stages)) for event, stages in found.items() if len(stages) == 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One thing that a run did, and when: a decision as it is stored, with what the message was."""

    at: datetime
    flow: str
    run: int
    verb: str
    step: str | None
    detail: Mapping[str, Any]
    message: Message | None = None


@dataclass(kw_only=True)
class Lived:
    """What came of a test: what runs did, the lines of `why`, and the letters that went."""

    zone: ZoneInfo
    notes: list[Note] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    letters: list[Rendered] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class _OpenRun:
    """A run between two steps; what `enrollments` and `answers` keep."""

    id: int
    flow: Flow
    trigger: Event
    entered_at: datetime
    state: str = "waiting"
    step: str | None
    due_at: datetime | None
    until: datetime | None = None
    answers: dict[str, int] = field(default_factory=dict)
    #: Which run of its key it is.
    n: int = 1
    begins: bool = True
    held_out: bool = False
    converted: bool = False


@dataclass(kw_only=True, slots=True)
class _Touchpoint:
    """A touchpoint that is queued."""

    number: int
    run: _OpenRun
    step: str
    template: str
    kind: str
    topic: str | None
    queued_at: datetime
    due_at: datetime

    @property
    def message(self) -> Message:
        return Message(template=self.template, kind=self.kind)


def live(shop: ShopUnderTest, flow: Flow, test: FlowTest, number: int | None = None) -> Lived:
    """Live through a test, to the end of everything that it set going.

    The flow runs whatever its status, and so do those beside it; no other does.

    Args:
      number: the customer's, on which splits hang; unless given, that of one who falls as the test says.

    Raises:
      CannotLiveError: the test names a split, branch or flow that is not there, or an event carries another kind.
    """
    cast = {flow.name: flow} | {name: _beside(shop.catalog, name) for name in test.beside}
    catalog = replace(shop.catalog, flows={name: replace(one, status="live") for name, one in cast.items()})
    number = number or _falling(flow, test.splits, _holdouts(catalog))
    return _Lifetime(shop, catalog, test, number).play()


def _beside(catalog: Catalog, name: str) -> Flow:
    if name not in catalog.flows:
        raise CannotLiveError(f"There is no flow '{name}' to run beside this one.")
    return catalog.flows[name]


def _holdouts(catalog: Catalog) -> dict[str, float]:
    """The parts of customers that are held out, by what they are drawn for."""
    drawn = {f"flow {flow.name}": flow.holdout for flow in catalog.flows.values()} | {"shop": catalog.shop.holdout}
    return {part: holdout.share for part, holdout in drawn.items() if holdout is not None}


def _falling(flow: Flow, splits: Mapping[str, str], holdouts: Mapping[str, float]) -> int:
    """The smallest number of a customer who falls into these branches and is held out of nothing."""
    wanted = []
    for id_, branch in splits.items():
        split = flow.steps.get(id_)
        names = [one.name for one in split.branches] if isinstance(split, Split) else []
        if branch not in names or not isinstance(split, Split):
            raise CannotLiveError(f"The flow has no split '{id_}' with a branch '{branch}'.")
        wanted.append((id_, [one.weight for one in split.branches], names.index(branch)))
    for number in range(1, _CUSTOMERS_MAX):
        if any(dividing.share("holdout", part, number) < share for part, share in holdouts.items()):
            continue
        if all(dividing.way(dividing.share(flow.name, id_, number), weights) == way for id_, weights, way in wanted):
            return number
    raise CannotLiveError("No customer falls into all of these branches; name fewer splits.")


def _refuse(remark: str | None) -> None:
    """Say what `ingest` would leave out with a remark: in a test it is a slip."""
    if remark is not None:
        raise CannotLiveError(f"{remark[0].upper()}{remark[1:]}.")


class Life:
    """One customer: what is known about them, their runs, what is queued.

    Args:
      catalog: the flows that run, whatever the shop has besides.
      is_told: whether `lived` gets the lines of `why` too.
    """

    def __init__(
        self, shop: ShopUnderTest, catalog: Catalog, person: Person, now: datetime, *, is_told: bool = True
    ) -> None:
        self.under_test, self.catalog, self.person, self.now = shop, catalog, person, now
        self.shop = catalog.shop
        self.is_told = is_told
        self.lived = Lived(zone=person.zone(self.shop))
        self.words: dict[str, rails.Consent] = {}
        #: What the suppression list says of their address: "marketing", "everything" or nothing.
        self.suppressed: str | None = None
        #: The company that they buy for, where there is one, and its other people, where those live too.
        self.account: Mapping[str, Any] | None = None
        self.colleagues: Colleagues | None = None
        self.events: list[Event] = []
        #: From this number on, what is told in this life is numbered.
        self.first_id = 1
        #: Who told of each event, and the stage that it brought, by its id.
        self.told_by: dict[int, str] = {}
        self.stages: dict[int, str | None] = {}
        self.runs: list[_OpenRun] = []
        self.open: list[_OpenRun] = []
        #: The newest run of each flow and key.
        self.ran: dict[tuple[str, str], _OpenRun] = {}
        self.queue: list[_Touchpoint] = []
        self.queued = 0
        self.sent: list[rails.Went] = []
        self.pace = pacing.Pace()
        self.calendar = Calendar(catalog=catalog, person=self.person)
        #: Dates and schedules come until then: the last moment that is named.
        self.horizon = self.now
        #: The segments they are in, and when time alone may change that.
        self.segments: set[str] = set()
        self.look_at: datetime | None = None
        #: What runs told, and is not heard yet: the run and what it did.
        self.told: list[tuple[_OpenRun, Action]] = []

    def begin(self, before: Sequence[Event] = ()) -> None:
        """Begin after what happened before, by which nothing is told or started: it says which segments they are in."""
        self.events += before
        self._judge(tells=False)
        self.calendar.begin(self.now)

    # The clock

    def until(self, moment: datetime | None) -> None:
        """Do everything at the moment at which it falls due, up to this one; None: to the end."""
        self.horizon = max(self.horizon, moment) if moment else self.horizon
        while (due := self.next_due()) is not None and (moment is None or due <= moment):
            self.now = max(self.now, due)
            self._drain()
        self.now = moment or self.now

    def next_due(self) -> datetime | None:
        """The next moment at which a run, a message or the segments are to be looked at; None: all is done."""
        self.open = [run for run in self.open if run.state in ("waiting", "sending")]
        waiting = [run.due_at for run in self.open if run.state == "waiting" and run.due_at is not None]
        looks = [] if self.look_at is None else [self.look_at]
        comes = self.calendar.due_at
        coming = [comes] if comes is not None and comes <= self.horizon else []
        return min([*waiting, *(letter.due_at for letter in self.queue), *looks, *coming], default=None)

    def _drain(self) -> None:
        """Let runs take steps, and messages go, until nothing is due now."""
        for _ in range(_STEPS_MAX):
            due = self.next_due()
            if due is None or due > self.now:
                return
            if self.look_at is not None and self.look_at <= self.now:
                self._judge()
            for come in self.calendar.take(min(self.now, self.horizon)):
                self._ingest_own(self._mapped(come.event, None, {}, come.payload))
                self._judge()
            self._advance()
            self._hear_own()
            self._deliver()
        raise CannotLiveError("The test stands still: something is due again and again at one moment.")

    # Taking in

    def take_in(
        self,
        event: Event,
        mapped: Mapped,
        said: Iterable[rails.Consent] = (),
        source: str = SOURCE,
        *,
        is_history: bool = False,
    ) -> str | None:
        """What `ingest` does with an event of this customer, that comes now, and with what segments say of it.

        Args:
          is_history: it is recorded, but starts nothing and wakes nobody.

        Returns:
          A remark where something was left out.
        """
        remark = self._ingest(event, mapped, tuple(said), source, is_history=is_history)
        self._judge()
        self.calendar.look_again(self.now)
        return remark

    def _mapped(self, event: str, stage: str | None, who: Mapping[str, Any], payload: Mapping[str, Any]) -> Mapped:
        country = country_code(who.get("country"))
        facts = {name: who.get(name) for name in _FACTS} | {"country": country}
        facts["region"] = facts["region"] if country else None
        try:
            carried = conforming(payload, self._kinds.get(event, {}))
        except Unmappable as error:
            raise CannotLiveError(f"{event}: {error}") from None
        return Mapped(
            event=event,
            occurred_at=self.now,
            stated_at=self.now,
            stage=stage,
            customer=CustomerFacts(**facts, attributes={k: v for k, v in who.items() if k not in _FACTS}),
            payload=carried,
            consent=None,
            account=None,
        )

    @property
    def _kinds(self) -> Mapping[str, Mapping[str, str]]:
        return self.under_test.catalog.events

    def _judge(self, *, tells: bool = True) -> None:
        """What `workers.segments` does: the customer enters and leaves segments, which is told as events."""
        if not self.catalog.segments:
            return
        known = Known(person=self.person, events=self.events, account=self.account)
        names = known.names(self.shop)
        found = judge_all(self.catalog.segments.values(), known, names, self.now)
        self.look_at = min((one.look_at for one in found.values() if one.look_at is not None), default=None)
        before, self.segments = self.segments, {name for name, one in found.items() if one.is_in}
        self.person.segments = sorted(self.segments)
        for event, moved in ((ENTERED, self.segments - before), (LEFT, before - self.segments)):
            for name in sorted(moved) if tells else ():
                self._ingest_own(self._mapped(event, None, {}, {"segment": {"name": name}}))

    def happening(self, mapped: Mapped) -> Event:
        """What is mapped as the next event of this customer, happening now."""
        id_ = self.first_id + len(self.events)
        return Event(id=id_, name=mapped.event, occurred_at=self.now, payload=mapped.payload)

    def _ingest_own(self, mapped: Mapped) -> Event:
        """Take in what we tell ourselves of this customer."""
        event = self.happening(mapped)
        self._ingest(event, mapped, (), past.OURS)
        return event

    def _ingest(
        self,
        event: Event,
        mapped: Mapped,
        said: tuple[rails.Consent, ...],
        source: str,
        *,
        is_history: bool = False,
    ) -> str | None:
        stage = mapped.stage
        self.events.append(event)
        self.told_by[event.id], self.stages[event.id] = source, stage
        remark = learn(self.person, mapped, self.shop)
        self.hear(said)
        if self.is_told:
            self._tell_event(event, stage, said)
        if is_history:
            self._unwind(event)
            return remark
        names = self._names(event.payload)
        woken = [run for run in self.open if run.state in ("waiting", "sending") and self._wakes(run, event, stage)]
        begun = set()
        for flow, key in (
            *started_by(self.catalog, event.name, stage, event.id, names),
            *self._for_account(event, mapped, names),
        ):
            n = next_n(flow, self._last(flow, key), event.occurred_at, self.lived.zone)
            if n is not None:
                begun.add(flow.name)
                self.ran[flow.name, key] = self._start(flow, key, event, stage, n)
        if self.is_told:
            self._tell_refusals(event, stage, names, begun)
        self._convert(event)
        for run in woken:
            if run.state == "waiting":
                run.due_at = min(run.due_at or self.now, self.now)
            for letter in self.queue:
                if letter.run is run:
                    letter.due_at = self.now
        self._unwind(event)
        return remark

    def _hear_own(self) -> None:
        """What `ingest` does with what runs told; what it brings is heard at once too."""
        while self.told:
            run, action = self.told.pop(0)
            by = {"flow": run.flow.name, "step": action.step, "run": run.id}
            mapped = self._mapped(action.event, action.stage, {}, {**action.payload, "by": by})
            event = self._ingest_own(mapped)
            if action.event == acting.STOP:
                self._stop_runs(action.payload["flow"], run.flow.name, event)
            elif action.event == acting.REDEEM:
                told = self._mapped(acting.REDEEMED, None, {}, self._redeemed(action, by))
                self._ingest_own(told)
            self._judge()

    def _stop_runs(self, flow: str, by: str, event: Event) -> None:
        """End the runs of a flow, as `workers.acting` does."""
        for run in self.open:
            if run.flow.name == flow and run.state in ("waiting", "sending") and run.entered_at <= event.occurred_at:
                run.state, run.due_at = "stopped", None
                self.queue = [one for one in self.queue if one.run is not run or one.kind == "service"]
                detail = {"event": event.id, "name": event.name}
                self._note(run, self.now, "stopped", run.step, detail, None, f"flow {by}")

    def _redeemed(self, action: Action, by: Mapping[str, Any]) -> Mapping[str, Any]:
        """What tells of a reward: in a test there are points enough, and the code is CODE."""
        programme = self.catalog.loyalty.get(action.payload["programme"])
        reward = programme.rewards.get(action.payload["reward"]) if programme else None
        told = {"about": reward.about, "points": reward.costs} if reward else {}
        return {**action.payload, **told, **({"code": "CODE"} if reward and reward.coupon else {}), "by": by}

    def _names(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        company = {} if self.account is None else {"account": self.account}
        return {**payload, **company, "customer": self.person.facts(self.shop), "shop": self.shop.facts}

    def _for_account(self, event: Event, mapped: Mapped, names: Mapping[str, Any]) -> list[tuple[Flow, str]]:
        """The flows that the customer starts for the account and that run for them, too, as in `workers.companies`."""
        if self.account is None:
            return []
        keys = [(one, account_key(one, names)) for one in self._started_for_account(mapped, names)]
        begun = [(flow, key) for flow, key in keys if key is not None]
        if self.colleagues is not None:
            begun = [(flow, key) for flow, key in begun if self.colleagues.claim(flow.name, key)]
            self.colleagues.tell(self, event, mapped, [flow for flow, _ in begun])
        return [(flow, key) for flow, key in begun if self.is_meant(flow)]

    def _started_for_account(self, mapped: Mapped, names: Mapping[str, Any]) -> list[Flow]:
        return [*started_for_account(self.catalog, mapped.event, mapped.stage, names)]

    def is_meant(self, flow: Flow) -> bool:
        """Whether a flow for whole accounts runs for somebody with the customer's role."""
        return not flow.to or self.person.attributes.get("role") in flow.to

    @property
    def is_inside(self) -> bool:
        """Whether a run of theirs is open."""
        return any(run.state in ("waiting", "sending") for run in self.open)

    def _of_colleague(self, said: Mapped, role: str) -> Mapped:
        """What the customer hears of an event of somebody else of the account, as `workers.companies` tells it."""
        if self.account is None:
            raise CannotLiveError("Only in a test with an `account` are there colleagues; say which company it is.")
        started = self._started_for_account(said, self._names(said.payload))
        mine = [flow for flow in started if self.is_meant(flow)]
        starts = [flow.name for flow in mine]
        leads = [flow.name for flow in mine if flow.to and role not in flow.to]
        payload = told(said.payload, self.person.id + 1, starts, leads)
        return replace(said, event=of_colleague(said.event), stage=None, payload=payload)

    def _wakes(self, run: _OpenRun, event: Event, stage: str | None) -> bool:
        at, mine = event.occurred_at, run.trigger.id
        return is_woken(run.flow, event.name, stage, event.id, at, trigger=mine, entered_at=run.entered_at)

    def _last(self, flow: Flow, key: str) -> LastRun | None:
        run = self.ran.get((flow.name, key))
        if run is None:
            return None
        return LastRun(n=run.n, entered_at=run.entered_at, is_over=run.state in ("finished", "stopped"))

    def _convert(self, event: Event) -> None:
        """Note the runs whose goal this event is, as `workers.goals` does."""
        for run in self.runs:
            if run.converted or not converts(
                run.flow, run.trigger.payload, run.entered_at, run.trigger.id, event, self.lived.zone
            ):
                continue
            run.converted = True
            detail = {"event": event.id, "name": event.name} | ({"held_out": True} if run.held_out else {})
            self._note(run, self.now, "converted", None, detail)

    def _start(self, flow: Flow, key: str, event: Event, stage: str | None, n: int) -> _OpenRun:
        run = _OpenRun(
            id=len(self.runs) + 1,
            flow=flow,
            trigger=event,
            entered_at=event.occurred_at,
            step=flow.first,
            due_at=self.now,
            n=n,
        )
        self.runs.append(run)
        self.open.append(run)
        if not self.is_told:
            return run
        by = starter(flow, event.name, () if stage is None else (stage,))
        once = f", once per {flow.once_per.text}: {key}" if flow.once_per else ""
        self._tell("start", f"Started by {by} (event {event.id}{once}).", flow=flow.name)
        return run

    def hear(self, said: Iterable[rails.Consent]) -> None:
        """Keep words on consent, newer over older, as `db.events.hear_consents` does.

        What the customer said themselves, and any withdrawal, stands before a permission on another basis.
        """
        for one in said:
            before = self.words.get(one.topic)
            if before is None or _is_own(one) or not _is_own(before):
                self.words[one.topic] = one

    def _about(self, event: Event) -> str | None:
        """The order that an event speaks of."""
        return past.order_subject(self.told_by.get(event.id, SOURCE), event.payload)

    def _unwind(self, event: Event) -> None:
        """End the runs about orders of which nothing is left, as `workers.unwinding` does."""
        if past.order_of(event.payload) is None:
            return
        undoing = [one for one in self.events if one.name in self.catalog.undoing]
        if not undoing:
            return
        orders: dict[str, list[Event]] = {}
        for one in undoing:
            subject = self._about(one)
            if subject is not None:
                orders.setdefault(subject, []).append(one)
        mine = self._about(event)
        if mine is None or mine not in orders:
            return
        told = [one for one in self.events if one.name == self.shop.model.order_event]
        totals = {self._about(one): total_of(one.payload) for one in told}
        given = [Undoing(name=one.name, at=one.occurred_at, payload=one.payload) for one in orders[mine]]
        since = undone_at(totals.get(mine), given)
        names = {one.name for one in orders[mine]}
        if since is None:
            return
        for run in self.runs:
            about = self._about(run.trigger) == mine
            is_open = run.state in ("waiting", "sending")
            if not (about and is_open and run.entered_at <= since):
                continue
            if returning.has_its_say(run.flow, run.trigger.name, names):
                continue
            run.state, run.due_at = "stopped", None
            self.queue = [one for one in self.queue if one.run is not run or one.kind == "service"]
            self._note(run, self.now, "unwound", None, {"event": max(one.id for one in orders[mine])})

    # Steps

    def _advance(self) -> None:
        """What `advance` does with the runs that are due."""
        due = [run for run in self.open if run.state == "waiting" and run.due_at is not None and run.due_at <= self.now]
        for run in sorted(due, key=lambda run: (run.due_at, run.id)):
            outcome = decide(run.flow, self._run(run, run.step, run.until), self._facts(run), self.now)
            self._move(run, outcome)

    def _move(self, run: _OpenRun, outcome: Outcome) -> None:
        run.state, run.step, run.due_at, run.until = outcome.state, outcome.step, outcome.due_at, outcome.until
        run.answers.update(outcome.answers)
        for action in outcome.actions:
            acting.take_to_heart(self.person, action, self.now)
            self.told.append((run, action))
        run.begins = False
        run.held_out |= any(one.verb == HELD_OUT for one in outcome.decisions)
        queued = outcome.queued
        message = None
        if queued is not None:
            kind, topic = touchpoint.kind_and_topic(queued, run.flow, self.catalog.mails)
            self.queued += 1
            letter = _Touchpoint(
                number=self.queued,
                run=run,
                step=queued.step,
                template=queued.template,
                kind=kind,
                topic=topic,
                queued_at=self.now,
                due_at=self.now,
            )
            self.queue.append(letter)
            message = letter.message
        for one in outcome.decisions:
            self._note(run, self.now, one.verb, one.step, one.detail, message, outcome.reason)

    def _run(self, run: _OpenRun, step: str | None, until: datetime | None) -> Run:
        return Run(
            customer_id=self.person.id,
            event_id=run.trigger.id,
            entered_at=run.entered_at,
            step=step,
            until=until,
            begins=run.begins,
            held_out=run.held_out,
            id=run.id,
        )

    def _facts(self, run: _OpenRun) -> Facts:
        """What `workers.facts` reads."""
        known = {event.id: event for event in self.events} if run.answers else {}
        return Facts(
            customer=self.person.facts(self.shop),
            shop=self.shop.facts,
            zone=self.person.zone(self.shop),
            trigger=run.trigger.payload,
            answers={step: answer_of(known[id_].name, known[id_].payload) for step, id_ in run.answers.items()},
            answered_by=frozenset(run.answers.values()),
            holdout=self.shop.holdout,
            account=self.account,
            kinds=self.shop.model.attributes,
            events=[
                event
                for event in self.events
                if event.occurred_at >= run.entered_at and event.name in run.flow.listens_to
            ],
        )

    # Messages

    def _deliver(self) -> None:
        """What `deliver` does with what is queued and due, where mails stay in the outbox."""
        due = [letter for letter in self.queue if letter.due_at <= self.now]
        for letter in sorted(due, key=self._precedence):
            self._prepare(letter)

    def _precedence(self, letter: _Touchpoint) -> tuple[Any, ...]:
        return touchpoint.precedence(
            self.shop,
            due_at=letter.due_at,
            kind=letter.kind,
            flow=letter.run.flow.name,
            queued_at=letter.queued_at,
            number=letter.number,
        )

    def _prepare(self, letter: _Touchpoint) -> None:
        run, facts = letter.run, self._facts(letter.run)
        if (stop := stopping(run.flow, self._run(run, letter.step, None), facts)) is not None:
            self.queue.remove(letter)
            run.state, run.due_at = "stopped", None
            self._note(run, self.now, "stopped", letter.step, stop.decisions[0].detail, None, stop.reason)
            return
        match self._verdict(letter, facts):
            case rails.Skip(reason=reason):
                self._end(letter, "skipped", {"because": reason})
            case rails.Hold(reason=reason):
                self.queue.remove(letter)
                self._note_of(letter, "held", {"because": reason})
            case rails.Defer(until=until, reason=reason, anew=anew):
                letter.due_at = until
                letter.queued_at = until if anew else letter.queued_at
                self._note_of(letter, "deferred", {"because": reason, "until": until.isoformat()})
            case rails.Go(basis=basis):
                self._send(letter, facts, basis)

    def _verdict(self, letter: _Touchpoint, facts: Facts) -> rails.Verdict:
        question, rates = self._question(letter, facts), pacing.rates(self.shop, letter.run.flow)
        return pacing.paced(rails.judge(question, self.now), question, rates, self.now, lambda: self.pace)

    def _question(self, letter: _Touchpoint, facts: Facts) -> rails.Question:
        flow = letter.run.flow
        return touchpoint.question(
            kind=letter.kind,
            topic=letter.topic,
            step=letter.step,
            queued_at=letter.queued_at,
            due_at=letter.due_at,
            flow=flow,
            current=flow,
            facts=facts,
            person=self.person,
            shop=self.shop,
            suppressed=self.suppressed,
            consents=list(self.words.values()),
            is_halted=False,
            is_held_out=letter.run.held_out,
            sent=self.sent,
        )

    def _send(self, letter: _Touchpoint, facts: Facts, basis: str | None) -> None:
        locale = self.person.locale if letter.kind != "team" else None
        name = self.catalog.in_language(letter.template, locale)
        mail = self.catalog.mails.get(name)
        if mail is None:
            self._end(letter, "failed", {"because": f"there is no template {letter.template} in force"})
            return
        address, extra = touchpoint.addressee(letter.kind, letter.step, letter.run.flow, facts, self.person, self.shop)
        if address is None:
            self._end(letter, "failed", {"because": "shop.yaml names no address for this team"})
            return
        secret, customer = self.under_test.secret, self.person.id
        codes = {name: letters.referral_code(secret, name, customer) for name in letters.programmes(mail)}
        variants = touchpoint.variants(mail, self.catalog, customer)
        stored = letters.context(mail, facts.names(), codes, extra, variants)
        to = Addressed(touchpoint_id=letter.number, customer_id=customer, kind=letter.kind, topic=letter.topic)
        try:
            rendered = letters.render(mail, stored, self.under_test.head, to)
        except RenderError as error:
            self._end(letter, "failed", {"because": f"{name}: {error}"})
            return
        if self.is_told:
            self.lived.letters.append(rendered)
        if letter.kind == "marketing":
            self.sent.append(rails.Went(self.now, letter.run.flow.name))
        detail = {"template": letter.template} | touchpoint.went(basis, mail.locale)
        self._end(letter, "sent", detail)

    def _end(self, letter: _Touchpoint, verb: str, detail: Mapping[str, Any]) -> None:
        """Settle a touchpoint; its run goes on."""
        self.queue.remove(letter)
        self._note_of(letter, verb, detail)
        if letter.run.state == "sending":
            letter.run.state, letter.run.due_at = "waiting", self.now

    # What is told

    def _note_of(self, letter: _Touchpoint, verb: str, detail: Mapping[str, Any]) -> None:
        self._note(letter.run, self.now, verb, letter.step, detail, letter.message)

    def _note(
        self,
        run: _OpenRun,
        at: datetime,
        verb: str,
        step: str | None,
        detail: Mapping[str, Any],
        message: Message | None = None,
        reason: str | None = None,
    ) -> None:
        name = run.flow.name
        self.lived.notes.append(
            Note(at=at, flow=name, run=run.id, verb=verb, step=step, detail=dict(detail), message=message)
        )
        if not self.is_told:
            return
        sentence = telling.decision(verb, step, detail, self.lived.zone, message=message, reason=reason)
        self._tell("decision", sentence, flow=name, step=step)

    def _tell(self, kind: telling.Kind, sentence: str, **where: Any) -> None:
        when = telling.when(self.now, self.lived.zone)
        self.lived.lines.append(Line(at=self.now, when=when, kind=kind, sentence=sentence, **where))

    def _tell_event(self, event: Event, stage: str | None, said: Iterable[rails.Consent]) -> None:
        zone, source = self.lived.zone, self.told_by[event.id]
        self._tell("event", telling.event(event.name, source, event.payload, self.now, self.now, zone))
        if stage is not None:
            self._tell("stage", telling.stage(stage, self.now, False, zone))
        for one in said:
            self._tell("consent", telling.consent(one.topic, one.granted, "email", one.basis, {}))

    def _tell_refusals(self, event: Event, stage: str | None, names: Mapping[str, Any], begun: set[str]) -> None:
        for flow in self.catalog.flows.values():
            stages = () if stage is None else (stage,)
            if flow.name not in begun and could_start(flow, event.name, stages, event.payload):
                found = refusal(flow, names, event.id, self._ran_by(flow, event), forgotten=False)
                self._tell("refusal", found.sentence, flow=flow.name)

    def _ran_by(self, flow: Flow, event: Event) -> Callable[[str], str | None]:
        def earlier(key: str) -> str | None:
            run = self.ran.get((flow.name, key))
            if run is None or run.trigger.id >= event.id:
                return None
            trigger = run.trigger
            return f"{trigger.name} on {telling.when(trigger.occurred_at, self.lived.zone)} (event {trigger.id})"

        return earlier


def _is_own(word: rails.Consent) -> bool:
    return word.basis == "consent" or not word.granted


class _Lifetime(Life):
    """One test: its customer, and what happens to them."""

    def __init__(self, shop: ShopUnderTest, catalog: Catalog, test: FlowTest, number: int) -> None:
        self.test = test
        first = test.timeline[0].at
        assert first is not None
        zone = ZoneInfo(test.customer.get("timezone") or catalog.shop.model.timezone)
        super().__init__(shop, catalog, new(number, from_wall(first, zone)), from_wall(first, zone))
        self._introduce()
        self.lived.zone = self.person.zone(self.shop)
        self.now = self.person.since = from_wall(first, self.lived.zone)
        self.account = None if test.account is None else {**test.account, "id": "1"}
        self.hear(_words(test.consents))
        self.begin()

    def play(self) -> Lived:
        before = self.now
        for line in self.test.timeline:
            moment = from_wall(line.at, self.lived.zone) if line.at else before
            if line.after is not None:
                moment = line.after.after(before, self.lived.zone)
            if moment < before:
                raise CannotLiveError("A line of the timeline happens before the one above it; put them in order.")
            self.until(moment)
            self._take_in(line)
            self._drain()
            before = moment
        self.horizon = max([before, *(from_wall(one.at, self.lived.zone) for one in self.test.expect or () if one.at)])
        self.until(None)
        return self.lived

    def _introduce(self) -> None:
        """Who the customer is when the test begins."""
        person = self.person
        told = self._mapped("customer.created", None, self.test.customer, {})
        _refuse(learn_about(person, told, self.shop))
        person.orders, person.spent = self.test.orders, self.shop.to_minor(Decimal(self.test.spent))
        if self.test.orders:
            person.last_order_at = self.now
        if self.test.tags:
            person.attributes[TAGS] = sorted(self.test.tags)
        if self.test.stage is not None:
            person.stage, person.stage_at = self.test.stage, self.now

    def _take_in(self, line: Happens) -> None:
        stage = line.stage or self.under_test.stages.get(line.event)
        mapped = self._mapped(line.event, stage, line.customer, line.payload)
        if line.by is not None:
            mapped = self._of_colleague(mapped, line.by)
        _refuse(self.take_in(self.happening(mapped), mapped, _words(line.consents)))


def _words(said: Iterable[Says]) -> list[rails.Consent]:
    return [rails.Consent(topic=one.topic, granted=one.state == "granted") for one in said]
