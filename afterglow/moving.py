"""People inside a flow whose file has changed go on in its new version, where the file says `on_edit: move`.

Pure. Positions hang on the ids of steps: who stands on a step stands on the step of that id, or on the one that says
it `was` that. A step that an older version did is not done again, because what a run has queued is known by its step
(`Run.done`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from afterglow.decide import Decision, Run
from afterglow.language.flow.graph import Flow, Step, Stop, Until, UntilDate, Wait, WaitFor, next_steps, reachable
from afterglow.local_time import at_local, next_opening


@dataclass(frozen=True, kw_only=True)
class Passage:
    """The way from one version of a flow to another."""

    old: Flow
    new: Flow

    def here(self, step: str | None) -> str | None:
        """What a step of the old version is called in the new one; None where it is there no more."""
        if step is None or step in self.new.steps:
            return step
        return self.new.renames.get(step)

    def over(self, run: Run, since: datetime | None, last: str | None, zone: ZoneInfo, now: datetime) -> Run:
        """The run as it stands in the new version.

        1. Who waits at a step goes on waiting there; where the wait is another one now, it ends when the new one
           would, counted from when the step was reached.
        2. Whose step was deleted goes on at the next step that is left of those that surely lay ahead.
        3. Who is between two steps, because a message was settled, goes on behind the step of that message, or at the
           step that was next, where that does not lie behind it any more.

        Args:
          since: when it reached the step at which it waits.
          last: the step whose message it queued last.
        """
        if run.begins:
            return replace(run, step=self.new.first)
        if run.until is None and last is not None:
            return replace(run, step=self._behind(last, run.step))
        if run.step is None:
            return run
        step = self.here(run.step)
        if step is None:
            return replace(run, step=self._left_of(run.step), until=None)
        ends = _ends(self.old.steps[run.step], self.new.steps[step], run.until, since, zone, now)
        return replace(run, step=step, until=ends)

    def _left_of(self, step: str | None) -> str | None:
        """The first step that is left, of one of the old version and those surely ahead of it."""
        ahead = self._ahead[step] if step is not None else ()
        return next((found for one in ahead if (found := self.here(one)) is not None), None)

    def _behind(self, last: str, following: str | None) -> str | None:
        done = self.here(last)
        ways = next_steps(self.new.steps[done]) if done is not None else ()
        if len(ways) != 1:
            return self._left_of(following)
        left = self.here(following)
        return ways[0] if left is None or left in reachable(self.new, ways[0]) else left

    @cached_property
    def _ahead(self) -> Mapping[str, tuple[str, ...]]:
        """Of each step of the old version: itself, and the steps that lie on every way from there, nearest first.

        A way that ends by a `stop` does not count beside one that goes on.
        """
        found: dict[str, tuple[str, ...]] = {}
        for step in self.old.steps.values():  # whatever may follow a step stands before it
            ways = [found[after] if after is not None else () for after in next_steps(step)]
            going_on = [way for way in ways if not (way and isinstance(self.old.steps[way[-1]], Stop))] or ways
            shared = [one for one in going_on[0] if all(one in way for way in going_on[1:])] if going_on else ()
            found[step.id] = (step.id, *shared)
        return found


def went_over(before: Run, after: Run, old_version: int, new_version: int, since: datetime | None) -> Decision:
    """What is noted of a run that went over to another version of its flow, by the numbers of their documents."""
    detail: dict[str, Any] = {"from": old_version, "to": new_version}
    if after.step != before.step:
        detail["was"] = before.step
    if after.until is not None:
        detail["until"] = after.until.isoformat()
        if since is not None:
            detail["since"] = since.isoformat()
    return Decision(verb="went over", step=after.step, detail=detail)


def _ends(
    old: Step, new: Step, until: datetime | None, since: datetime | None, zone: ZoneInfo, now: datetime
) -> datetime | None:
    """When a wait that has begun ends in another version of its step; None: as though it was only now reached."""
    if until is None or _timing(old) == _timing(new):
        return until
    match new:
        case Wait() if since is not None:
            return at_local(since, new.duration, new.at, zone) if new.at else new.duration.after(since, zone)
        case WaitFor() if since is not None:
            return new.for_up_to.after(since, zone)
        case Wait() | WaitFor():
            return until
        case Until():  # it says at what time of the week to go on, and that is still to be kept
            return next_opening(now, new.opening, zone)
        case _:
            return None


def _timing(step: Step) -> object:
    """What says when a wait ends; equal where it ends at the same instant."""
    match step:
        case Wait():
            return Wait, step.duration, step.at
        case Until():
            return Until, step.opening
        case UntilDate():
            return UntilDate, step.date.text, step.offset, step.at
        case WaitFor():
            return WaitFor, step.for_up_to
        case _:
            return type(step), step.id
