"""What would become of one run under another version of its flow: both are lived ahead, and held together.

Only what is known now is lived: no event comes, and whatever is queued is settled at once. Consent, caps and quiet
hours are asked at the send, so the mails told here are those that would be queued, and never too few.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple

from afterglow.decide import Event, Facts, Run, answer_of, decide
from afterglow.language.flow.graph import Flow
from afterglow.moving import Passage

Fate = Literal["stays", "same step", "renamed", "goes on", "ends"]


class Mail(NamedTuple):
    """A mail to the customer that would be queued."""

    at: datetime
    step: str
    template: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Inside:
    """A run that is not over, with its facts as its own version and as the other one has them."""

    run: Run
    facts: Facts
    facts_then: Facts
    #: When to look again; None while a message of it is not settled, or where it was set aside.
    due_at: datetime | None
    #: When it reached the step at which it waits.
    since: datetime | None = None
    #: The steps whose messages it queued, in order.
    queued: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Prospect:
    """What would become of a run: where it stands then, and when it goes on, now and then; None: nobody knows yet."""

    fate: Fate
    step: str | None
    before: datetime | None
    after: datetime | None
    #: The mails that would be queued in the time looked at, and would not be otherwise.
    mails: tuple[Mail, ...] = ()

    @property
    def moves(self) -> Literal["earlier", "later", "same"]:
        """When it goes on, against now."""
        if self.before is None or self.after is None or self.before == self.after:
            return "same"
        return "earlier" if self.after < self.before else "later"


def prospect(
    passage: Passage, inside: Inside, now: datetime, until: datetime, *, paused: tuple[bool, bool] = (False, False)
) -> Prospect:
    """What would become of a run if the new version of its flow came into force now.

    Args:
      until: how far both versions are lived ahead.
      paused: whether the flow stands still now, and whether it would then.
    """
    old, new, run = passage.old, passage.new, _with_done(inside.run, passage.old, inside.queued)
    fate: Fate = "stays"
    flow, moved, facts, starts_at = old, run, inside.facts, inside.due_at
    if new.moves and new.status != "draft":
        last = inside.queued[-1] if inside.queued else None
        flow, facts, starts_at = new, inside.facts_then, now
        moved = passage.over(_with_done(run, new, inside.queued), inside.since, last, facts.zone, now)
        fate = _fate(passage, run, moved)
    if inside.due_at is None or starts_at is None:
        return Prospect(fate=fate, step=moved.step, before=None, after=None)
    before, after = _Way(), _Way()
    if not paused[0]:
        before = _ahead(old, run, inside.facts, max(now, inside.due_at), until)
    if not paused[1]:
        after = _ahead(flow, moved, facts, max(now, starts_at), until)
    due = {mail.step if flow is old else passage.here(mail.step) for mail in before.mails}
    return Prospect(
        fate=fate,
        step=moved.step,
        before=None if paused[0] else run.until or inside.due_at,
        after=after.leaves_at,
        mails=tuple(mail for mail in after.mails if mail.step not in due),
    )


def mails_at(flow: Flow, run: Run, facts: Facts, at: datetime) -> tuple[Mail, ...]:
    """The mails that a run would queue at one instant, before it waits for anything."""
    return _ahead(flow, run, facts, at, at).mails


def _with_done(run: Run, flow: Flow, queued: Sequence[str]) -> Run:
    return replace(run, done=frozenset(flow.renames.get(step, step) for step in queued))


def _fate(passage: Passage, run: Run, moved: Run) -> Fate:
    if run.begins or moved.step == run.step:
        return "same step"
    if moved.step is None:
        return "ends"
    return "renamed" if passage.here(run.step) == moved.step and run.step is not None else "goes on"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Way:
    """What a run does in a time: the mails it queues, and when it leaves the step at which it stands."""

    mails: tuple[Mail, ...] = ()
    leaves_at: datetime | None = None


def _ahead(flow: Flow, run: Run, facts: Facts, at: datetime, until: datetime) -> _Way:
    """Live a run ahead from an instant to another."""
    if at > until:
        return _Way(leaves_at=run.until or at)
    mails: list[Mail] = []
    stood, leaves_at = run.step, None
    by_id = {event.id: event for event in facts.events}
    while True:
        outcome = decide(flow, run, facts, at)
        if leaves_at is None:
            leaves_at = outcome.due_at if outcome.state == "waiting" and outcome.step == stood else at
        if outcome.state == "sending" and outcome.queued is not None and outcome.queued.team is None:
            mails.append(Mail(at, outcome.queued.step, outcome.queued.template))
        if outcome.state == "waiting":
            if outcome.due_at is None or outcome.due_at > until:
                break
            at = outcome.due_at
        elif outcome.state != "sending":
            break
        facts = _answered(facts, {step: by_id[event] for step, event in outcome.answers})
        run = replace(run, step=outcome.step, until=outcome.until, begins=False)
    return _Way(mails=tuple(mails), leaves_at=leaves_at)


def _answered(facts: Facts, answers: dict[str, Event]) -> Facts:
    """The facts of a run that has taken these answers to its waits."""
    if not answers:
        return facts
    told = {step: answer_of(event.name, event.payload) for step, event in answers.items()}
    return replace(
        facts,
        answers={**facts.answers, **told},
        answered_by=facts.answered_by | {event.id for event in answers.values()},
    )
