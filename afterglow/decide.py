"""What a run does next. Pure: the same flow, run, facts and instant always give the same outcome.

`decide` walks the flow's graph from where the run stands until something holds it: a wait, a touchpoint that must be
settled first, or the end. It never looks at a clock or a database, so that production, simulation and tests are the
same code.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any, Literal
from zoneinfo import ZoneInfo

from afterglow import dividing
from afterglow.acting import Action, acted
from afterglow.durations import LONGEST_YEARS, Duration
from afterglow.expressions import MISSING, Expression
from afterglow.expressions.filters import iso
from afterglow.language.actions import Webhook
from afterglow.language.company import COLLEAGUE, is_leading, is_meant, is_of_colleague, plain
from afterglow.language.flow.graph import (
    Act,
    Awaited,
    Flow,
    Goal,
    If,
    Notify,
    Send,
    Split,
    Step,
    Stop,
    StopRule,
    Until,
    UntilDate,
    Wait,
    WaitFor,
)
from afterglow.language.shop import Holdout, Kind
from afterglow.local_time import at_local, from_wall, next_opening


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """An enrollment, as far as deciding needs it.

    `step` is the step to run next (None: past the last), `until` the end of the wait on it (None: not begun),
    `entered_at` the trigger's own instant.
    """

    customer_id: int
    event_id: int
    entered_at: datetime
    step: str | None
    until: datetime | None
    #: Whether it was never looked at before, so that it is now drawn whether it is held out.
    begins: bool = False
    #: Whether it was held out when it began.
    held_out: bool = False
    #: The enrollment, by which it knows the answers to what it asked itself.
    id: int = 0
    #: The steps whose message it has queued, where another version of its flow may lead there once more.
    done: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened to the customer. Payloads are what the source's mapping made of it."""

    id: int
    name: str
    occurred_at: datetime
    payload: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a run can know: the trigger's payload, the answers to its waits, the customer, the shop.

    `events` are the customer's events since the trigger with names the flow listens to, oldest first.
    """

    customer: Mapping[str, Any]
    shop: Mapping[str, Any]
    zone: ZoneInfo
    trigger: Mapping[str, Any]
    answers: Mapping[str, Mapping[str, Any]]
    answered_by: frozenset[int]
    events: Sequence[Event]
    #: The holdout of the whole shop.
    holdout: Holdout | None = None
    #: The company that the customer buys for, where there is one.
    account: Mapping[str, Any] | None = None
    #: The attributes of customers that the shop declares.
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    def names(self) -> dict[str, Any]:
        """The names that expressions and templates see."""
        company = {} if self.account is None else {"account": self.account}
        return {**self.trigger, **self.answers, **company, "customer": self.customer, "shop": self.shop}


@dataclass(frozen=True, kw_only=True, slots=True)
class Queued:
    """A touchpoint to be queued: of a template to the customer, or to a team of the shop.

    `task` is what somebody of the team is to do, `due_on` the day of the shop's calendar by which.
    """

    step: str
    template: str
    team: str | None = None
    task: str | None = None
    due_on: date | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One thing that a run did, for `why`. Details hold ids, names and instants, never personal data."""

    verb: str
    step: str | None
    detail: Mapping[str, Any] = field(default_factory=dict)


#: What a run that is held out has as its reason, from its beginning on: its marketing is not sent.
HELD_OUT = "held out"

#: What a run is stopped by whose customer is no longer in the stage that started it.
STAGE_LEFT = "stage left"

State = Literal["waiting", "sending", "finished", "stopped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Where the run stands now, what it queued, which events answered its waits, and what it did on the way.

    `actions` are to be done in their order.
    """

    state: State
    step: str | None
    due_at: datetime | None = None
    until: datetime | None = None
    reason: str | None = None
    queued: Queued | None = None
    actions: tuple[Action, ...] = ()
    answers: tuple[tuple[str, int], ...] = ()
    decisions: tuple[Decision, ...] = ()


def decide(flow: Flow, run: Run, facts: Facts, now: datetime) -> Outcome:
    """Walk on from where the run stands.

    1. An event that stops the run, or its stage being left, ends it, wherever it stands.
    2. Otherwise take steps until one holds the run. A flow has no loops, so this ends.
    """
    if stopped := stopping(flow, run, facts):
        return stopped
    walk = _Walk(flow, run, facts, now)
    while (outcome := walk.take()) is None:
        pass
    return outcome


def stopping(flow: Flow, run: Run, facts: Facts) -> Outcome | None:
    """The outcome of what stops this run, if anything does. Checked again before every send."""
    if flow.ends_with_stage and facts.customer.get("stage") != flow.stage:
        left = Decision(verb="stopped", step=run.step, detail={"name": STAGE_LEFT, "stage": flow.stage})
        return Outcome(state="stopped", step=run.step, reason=f"leaving stage {flow.stage}", decisions=(left,))
    if not flow.stops:
        return None
    names = facts.names()
    for event in facts.events:
        for rule in flow.stops:
            if event.id == run.event_id or not _is_meant(rule, event) or not is_of_segment(rule.segment, event.payload):
                continue
            if _is_same(rule, names, event):
                reason = rule.event + (f" with the same {rule.same.text}" if rule.same else "")
                reason += f" of {rule.segment}" if rule.segment else ""
                decision = Decision(verb="stopped", step=run.step, detail=_heard(event))
                return Outcome(state="stopped", step=run.step, reason=reason, decisions=(decision,))
    return None


def is_of_segment(segment: str | None, payload: Mapping[str, Any]) -> bool:
    """Whether an event tells of this segment, where it must be one (None: any event will do)."""
    if segment is None:
        return True
    told = payload.get("segment")
    return isinstance(told, Mapping) and told.get("name") == segment


class _Walk:
    """One call of `decide`: the position and what has been gathered on the way."""

    def __init__(self, flow: Flow, run: Run, facts: Facts, now: datetime) -> None:
        self.flow, self.run, self.facts, self.now = flow, run, facts, now
        self.step_id, self.until = run.step, run.until
        self.new_answers: dict[str, Event] = {}
        self.decisions: list[Decision] = []
        self.actions: list[Action] = []
        self.held_out = self.draw() if run.begins else run.held_out
        self._names: dict[str, Any] | None = None

    def draw(self) -> bool:
        """Whether a run that begins is held out, of all marketing or of its flow's. Noted before all else."""
        drawn = [("shop", "shop", self.facts.holdout), ("flow", f"flow {self.flow.name}", self.flow.holdout)]
        held_by = None
        for by, part, holdout in drawn:
            if holdout and held_by is None and dividing.share("holdout", part, self.run.customer_id) < holdout.share:
                held_by = by, holdout.text
        if held_by is not None:
            self.note(HELD_OUT, None, {"by": held_by[0], "share": held_by[1]})
        elif any(holdout for _, _, holdout in drawn):
            self.note("taken in", None, {by: holdout.text for by, _, holdout in drawn if holdout})
        return held_by is not None

    def names(self) -> dict[str, Any]:
        if self._names is None:
            self._names = self.facts.names() | {
                step: answer_of(event.name, event.payload) for step, event in self.new_answers.items()
            }
            for action in self.actions:
                self._names["customer"] = {**self._names["customer"], **action.facts}
        return self._names

    def take(self) -> Outcome | None:
        """Take one step: None to go on, an outcome where the run is held or ends."""
        if self.step_id is None:
            self.note("finished", None)
            return self.outcome("finished")
        step = self.flow.steps[self.step_id]
        match step:
            case Wait():
                return self.wait(step)
            case Until():
                return self.hold(step, self.until or next_opening(self.now, step.opening, self.facts.zone))
            case UntilDate():
                return self.until_date(step)
            case WaitFor():
                return self.wait_for(step)
            case If():
                self.choose(step)
            case Split():
                self.split(step)
            case Send() if step.to and self.facts.customer.get("role") not in step.to:
                self.note("not for", step, {"to": sorted(step.to), "role": self.facts.customer.get("role")})
                self.go(step.next)
            case Notify() if self.is_left_to_another():
                self.note("left to another", step, {"team": step.team})
                self.go(step.next)
            case Act(does=Webhook(to=system)) if self.is_left_to_another():
                self.note("left to another", step, {"webhook": system})
                self.go(step.next)
            case Act():
                self.act(step)
            case Send():
                return self.queue(step, Queued(step=step.id, template=step.template))
            case Notify():
                return self.queue(step, self.note_to_team(step))
            case Stop():
                self.note("ended", step, {"because": step.reason})
                return self.outcome("finished", reason=step.reason)
        return None

    def is_left_to_another(self) -> bool:
        """Whether the run of somebody else of the account does what is done once for all of it."""
        return self.flow.per_account and not is_leading(self.flow.name, self.facts.trigger)

    def act(self, step: Act) -> None:
        action = acted(step.id, step.does, self.names(), self.facts.kinds)
        if isinstance(action, Action):
            self.actions.append(action)
            self._names = None
            self.note("acted", step, {"did": action.event, **action.detail})
        else:
            self.note("did nothing", step, {"because": action.because})
        self.go(step.next)

    def choose(self, step: If) -> None:
        first = step.ways[0]
        way = next((way for way in step.ways if way.test.is_true(self.names())), None)
        detail: dict[str, Any] = {"if": (way or first).test.text, "was": way is not None}
        if way is not None and way is not first:
            detail["elif"] = step.ways.index(way)
        elif way is None and len(step.ways) > 1:
            detail["nor"] = [further.test.text for further in step.ways[1:]]
        self.note("chose", step, detail)
        self.go(way.first if way else step.otherwise)

    def wait(self, step: Wait) -> Outcome | None:
        until = self.until
        if until is None and step.at is not None:
            until = at_local(self.now, step.duration, step.at, self.facts.zone)
        return self.hold(step, until or step.duration.after(self.now, self.facts.zone))

    def hold(self, step: Wait | Until | UntilDate, until: datetime) -> Outcome | None:
        """Stand still until an instant; go on where it has come."""
        if self.now >= until:
            self.go(step.next)
            return None
        if self.until != until:
            self.note("waits", step, {"until": until.isoformat()})
        self.until = until
        return self.outcome("waiting", due_at=until)

    def until_date(self, step: UntilDate) -> Outcome | None:
        """A wait that has begun ends as it was told, unless the date has meanwhile moved to a later day."""
        if self.until is not None and self.now < self.until:
            return self.hold(step, self.until)
        date = instant_of(step.date.value(self.names()), step.offset, step.at, self.facts.zone)
        ahead = date is not None and self.now <= date <= FARTHEST.after(self.now, self.facts.zone)
        if date is not None and ahead:
            return self.hold(step, date)
        if self.until is not None:
            return self.hold(step, self.until)
        why = "missing" if date is None else "past" if date < self.now else "too far away"
        detail = {"date": step.named, "was": why, "stops": step.stops} | ({"skips": True} if step.skips else {})
        self.note("passed over", step, detail)
        if step.stops:
            return self.outcome("finished", reason=f"{step.named} is {why}")
        self.go(step.past)
        return None

    def wait_for(self, step: WaitFor) -> Outcome | None:
        if (answer := self.facts.answers.get(step.id)) is not None:  # in another version, whose steps had another order
            self.note("done before", step)
            self.go(next((one.first for one in step.awaited if one.event == answer["event"]), step.timed_out))
            return None
        begins = self.until is None
        until = self.until or step.for_up_to.after(self.now, self.facts.zone)
        if found := self.answer(step, until):
            event, awaited = found
            self.new_answers[step.id] = event
            self._names = None
            self.note("arrived", step, _heard(event))
            self.go(awaited.first)
            return None
        if self.now >= until:
            self.note("timed out", step, {"waited_for": step.named})
            self.go(step.timed_out)
            return None
        self.until = until
        if begins:
            self.note("waits for", step, {"event": step.named, "until": until.isoformat()})
        return self.outcome("waiting", due_at=until)

    def answer(self, step: WaitFor, until: datetime) -> tuple[Event, Awaited] | None:
        """The oldest event that answers this wait and has answered no other of this run, and what it was awaited as."""
        used = self.facts.answered_by | {event.id for event in self.new_answers.values()} | {self.run.event_id}
        for event in self.facts.events:
            if event.id in used or event.occurred_at > until or self.is_of_another(event):
                continue
            for awaited in step.awaited:
                if _is_meant(awaited, event) and _is_same(awaited, self.names(), event):
                    return event, awaited
        return None

    def is_of_another(self, event: Event) -> bool:
        """Whether an event answers what another run asked, where this flow asks the same itself."""
        by = event.payload.get("by")
        asked_by = by.get("run") if isinstance(by, Mapping) else None
        return event.name in self.flow.asks_for and asked_by not in (None, self.run.id)

    def split(self, step: Split) -> None:
        share = dividing.share(self.flow.name, step.id, self.run.customer_id)
        chosen = step.branches[dividing.way(share, [branch.weight for branch in step.branches])]
        self.note("split", step, {"branch": chosen.name})
        self.go(chosen.first)

    def queue(self, step: Send | Notify, queued: Queued) -> Outcome | None:
        if step.id in self.run.done:
            self.note("done before", step)
            self.go(step.next)
            return None
        self.note("queued", step, _queued(queued))
        self.step_id = step.next
        return self.outcome("sending", queued=queued)

    def note_to_team(self, step: Notify) -> Queued:
        task, due_on = step.task, None
        if task is not None and task.within is not None:
            zone = ZoneInfo(str(self.facts.shop["timezone"]))
            due_on = task.within.on_calendar(self.now.astimezone(zone).date())
        return Queued(
            step=step.id,
            template="email/_notify",
            team=step.team,
            task=task.name if task else None,
            due_on=due_on,
        )

    def go(self, to: str | None) -> None:
        self.step_id, self.until = to, None

    def note(self, verb: str, step: Step | None, detail: Mapping[str, Any] | None = None) -> None:
        self.decisions.append(Decision(verb=verb, step=step.id if step else None, detail=detail or {}))

    def outcome(self, state: State, *, reason: str | None = None, **fields: Any) -> Outcome:
        return Outcome(
            reason=reason or (HELD_OUT if self.held_out else None),
            state=state,
            step=self.step_id,
            until=self.until if state == "waiting" else None,
            answers=tuple((step, event.id) for step, event in self.new_answers.items()),
            actions=tuple(self.actions),
            decisions=tuple(self.decisions),
            **fields,
        )


#: A date farther away is one that a system writes for "never"; no wait is endless.
FARTHEST = Duration(months=12 * LONGEST_YEARS)


def instant_of(value: object, offset: Duration, at: time | None, zone: ZoneInfo) -> datetime | None:
    """The instant (UTC) that a date means where the customer lives, moved by an offset; None where it is no date.

    A day alone begins at its local midnight; a moment keeps its instant. With `at` it is that time of the local day.
    """
    is_day = isinstance(value, date) and not isinstance(value, datetime)
    if isinstance(value, str) and _DAY_ALONE.fullmatch(value.strip()):
        is_day, value = True, value.strip()
    moment = iso(value)
    if not isinstance(moment, datetime):
        return None
    try:
        if is_day:
            moment = from_wall(datetime.combine(moment.date(), time()), zone)
        if at is not None:
            return at_local(moment, offset, at, zone)
        return offset.after(moment, zone)
    except (ValueError, OverflowError):  # before the first year of the calendar, or after its last
        return None


_DAY_ALONE = re.compile(r"\d{4}-\d{2}-\d{2}")


def _is_meant(rule: StopRule | Awaited, event: Event) -> bool:
    """Whether it is the event of a rule, and of somebody whose event counts."""
    return is_meant(event.name, rule.event, by_account=rule.by_account)


def _queued(queued: Queued) -> dict[str, Any]:
    """What is noted of a touchpoint that is queued."""
    if queued.team is None:
        return {"template": queued.template}
    task = {} if queued.task is None else {"task": queued.task}
    due = {} if queued.due_on is None else {"due": queued.due_on.isoformat()}
    return {"team": queued.team, **task, **due}


def _heard(event: Event) -> dict[str, Any]:
    """What is noted of an event that a run heard: who it came from where that was somebody else of the account."""
    said = {"event": event.id, "name": plain(event.name)}
    return said | ({"colleague": event.payload.get(COLLEAGUE, {}).get("id")} if is_of_colleague(event.name) else {})


def _is_same(rule: StopRule | Awaited | Goal, names: Mapping[str, Any], event: Event) -> bool:
    """Whether the event speaks of the same thing as the trigger; a value missing on either side is not the same."""
    if rule.same is None:
        return True
    ours = rule.same.value(names)
    return ours is not MISSING and ours is not None and ours == rule.same.value(event.payload)


def answer_of(name: str, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an awaited event is known as under its step's id: what it carries, and its name as `event`."""
    return {"event": plain(name), **payload}


def run_key(once_per: Expression | None, names: Mapping[str, Any], event_id: int) -> str | None:
    """The key under which a run may exist once. None where the flow names one and the trigger does not supply it."""
    if once_per is None:
        return f"event {event_id}"
    value = once_per.value(names)
    return None if value is MISSING or value is None else str(value)


def converts(
    flow: Flow, trigger: Mapping[str, Any], entered_at: datetime, event_id: int, event: Event, zone: ZoneInfo
) -> bool:
    """Whether an event is the goal of a run that an event of this id and payload began at `entered_at`.

    It counts where it happened at or after the trigger and not later than `within` after it, whenever we hear of it,
    and whether the run is over or not.
    """
    goal = flow.goal
    return (
        goal is not None
        and event.name == goal.event
        and event.id != event_id
        and entered_at <= event.occurred_at <= goal.within.after(entered_at, zone)
        and _is_same(goal, trigger, event)
    )


def key_of(flow: Flow, names: Mapping[str, Any], event_id: int) -> str | None:
    """The key of a run: of the account where the flow runs once for it. None where something of it is missing."""
    return account_key(flow, names) if flow.per_account else run_key(flow.once_per, names, event_id)


def account_key(flow: Flow, names: Mapping[str, Any]) -> str | None:
    """What there is one run of for an account: itself, or itself and the value of `once_per`."""
    account = names.get("account")
    if not isinstance(account, Mapping):
        return None
    if flow.once_per is None:
        return f"account {account['id']}"
    value = run_key(flow.once_per, names, 0)
    return None if value is None else f"account {account['id']}: {value}"


@dataclass(frozen=True, kw_only=True, slots=True)
class LastRun:
    """The runs of a key: the highest number, when the newest was triggered, and whether all are over."""

    n: int
    entered_at: datetime
    is_over: bool


def next_n(flow: Flow, last: LastRun | None, entered_at: datetime, zone: ZoneInfo) -> int | None:
    """The number that one more run of a key would have; None where it may not run again, now or ever.

    `entered_at` is the new trigger's own instant, so that what comes late is judged by when it happened. The number
    is the promise: the database lets each be taken once.
    """
    if last is None:
        return 1
    if flow.reenter is None or not last.is_over:
        return None
    return last.n + 1 if flow.reenter.after.after(last.entered_at, zone) <= entered_at else None
