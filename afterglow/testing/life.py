"""One customer, living through flows on a clock that jumps, by the functions of production.

Each event is taken in as `ingest` does; then, as long as something is due, runs take their steps as in `advance`, and
what they queued goes or does not as in `deliver`, whose outbox this is. The clock then jumps to the next moment at
which something is due. `Life` serves tests, `simulate` and `backtest`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from afterglow import acting, past, rails
from afterglow.acting import Action
from afterglow.decide import Event, LastRun, account_key, converts, next_n
from afterglow.language.catalog import Catalog
from afterglow.language.flow.graph import Flow
from afterglow.language.segment import ENTERED, LEFT
from afterglow.learn import learn
from afterglow.mapping import CustomerFacts, Mapped, Unmappable, conforming
from afterglow.person import Person
from afterglow.segments import Known, judge_all
from afterglow.starting import is_woken, started_by, started_for_account, starter
from afterglow.testing.calendar import Calendar
from afterglow.testing.colleagues import Colleagues
from afterglow.testing.delivering import deliver
from afterglow.testing.lines import tell_event, tell_refusals
from afterglow.testing.memory import SOURCE, CannotLiveError, Memory, OpenRun, ShopUnderTest
from afterglow.testing.stepping import advance
from afterglow.testing.unwinding import unwind
from afterglow.whereabouts import country_code

#: More steps than any flow takes; a test that takes them stands still at one moment, which would be a mistake of ours.
_STEPS_MAX: Final = 100_000
_FACTS: Final = ("email", "phone", "first_name", "last_name", "locale", "timezone", "country", "region")


class Life(Memory):
    """One customer, living: what happens to them is taken in, and what falls due is done at its moment.

    Args:
      catalog: the flows that run, whatever the shop has besides.
      is_told: whether `lived` gets the lines of `why` too.
    """

    def __init__(
        self, shop: ShopUnderTest, catalog: Catalog, person: Person, now: datetime, *, is_told: bool = True
    ) -> None:
        super().__init__(shop, catalog, person, now, is_told=is_told)
        self.calendar = Calendar(catalog=catalog, person=self.person)
        #: Dates and schedules come until then: the last moment that is named.
        self.horizon = self.now
        #: The other people of their company, where those live too.
        self.colleagues: Colleagues | None = None
        #: The segments they are in, and when time alone may change that.
        self.segments: set[str] = set()
        self.look_at: datetime | None = None

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
        self.open = [run for run in self.open if run.is_open]
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
            advance(self)
            self._hear_own()
            deliver(self)
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
            tell_event(self, event, stage, said)
        if is_history:
            unwind(self, event)
            return remark
        names = self.names(event.payload)
        woken = [run for run in self.open if run.is_open and self._wakes(run, event, stage)]
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
            tell_refusals(self, event, stage, names, begun)
        self._convert(event)
        for run in woken:
            if run.state == "waiting":
                run.due_at = min(run.due_at or self.now, self.now)
            for letter in self.queue:
                if letter.run is run:
                    letter.due_at = self.now
        unwind(self, event)
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
            if run.flow.name == flow and run.is_open and run.entered_at <= event.occurred_at:
                self.end(run)
                detail = {"event": event.id, "name": event.name}
                self.note(run, "stopped", run.step, detail, reason=f"flow {by}")

    def _redeemed(self, action: Action, by: Mapping[str, Any]) -> Mapping[str, Any]:
        """What tells of a reward: in a test there are points enough, and the code is CODE."""
        programme = self.catalog.loyalty.get(action.payload["programme"])
        reward = programme.rewards.get(action.payload["reward"]) if programme else None
        told = {"about": reward.about, "points": reward.costs} if reward else {}
        return {**action.payload, **told, **({"code": "CODE"} if reward and reward.coupon else {}), "by": by}

    def _for_account(self, event: Event, mapped: Mapped, names: Mapping[str, Any]) -> list[tuple[Flow, str]]:
        """The flows that the customer starts for the account and that run for them, too, as in `workers.companies`."""
        if self.account is None:
            return []
        keys = [(one, account_key(one, names)) for one in self.started_for_account(mapped, names)]
        begun = [(flow, key) for flow, key in keys if key is not None]
        if self.colleagues is not None:
            begun = [(flow, key) for flow, key in begun if self.colleagues.claim(flow.name, key)]
            self.colleagues.tell(self, event, mapped, [flow for flow, _ in begun])
        return [(flow, key) for flow, key in begun if self.is_meant(flow)]

    def started_for_account(self, mapped: Mapped, names: Mapping[str, Any]) -> list[Flow]:
        """The flows for whole accounts that an event starts, whomever of the account they are for."""
        return [*started_for_account(self.catalog, mapped.event, mapped.stage, names)]

    def _wakes(self, run: OpenRun, event: Event, stage: str | None) -> bool:
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
            self.note(run, "converted", None, detail)

    def _start(self, flow: Flow, key: str, event: Event, stage: str | None, n: int) -> OpenRun:
        run = OpenRun(
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
        self.tell("start", f"Started by {by} (event {event.id}{once}).", flow=flow.name)
        return run
