"""A compiled flow: a graph in which every step names those that may follow it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import time
from functools import cached_property
from typing import Any

from afterglow import strict_yaml
from afterglow.durations import Duration
from afterglow.expressions import Expression, Text
from afterglow.language.actions import Doing
from afterglow.language.compiling import Path
from afterglow.language.pieces import Pieces, located, written
from afterglow.language.rails import Blackout, Late, Loser, Rate
from afterglow.language.shop import Cap, Holdout
from afterglow.language.starts import Occasion
from afterglow.language.testing import FlowTest
from afterglow.local_time import Opening, Quiet
from afterglow.problems import Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class _Step:
    id: str
    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Send(_Step):
    """Queue a touchpoint and hold the run until it is settled."""

    template: str
    next: str | None
    #: The roles that it is for; none: everybody's.
    to: frozenset[str] = frozenset()
    #: Whether the mail asks for an answer (`survey`).
    asks: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Act(_Step):
    """Do something besides sending; the run goes on."""

    does: Doing
    next: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait(_Step):
    """Stand still for a duration, to a local time of day where `at` is given."""

    duration: Duration
    at: time | None
    next: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Until(_Step):
    """Stand still until a time of the week."""

    opening: Opening
    next: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class UntilDate(_Step):
    """Stand still until a date that a fact tells, moved by `offset`, to a local time of day where `at` is given.

    Where the date is missing or past the run goes on with `past`, or ends where `stops` is set.
    """

    date: Expression
    offset: Duration
    at: time | None
    stops: bool
    next: str | None
    past: str | None

    @property
    def named(self) -> str:
        """The date as it is written in the file."""
        return self.date.text.strip('"')

    @property
    def skips(self) -> bool:
        """Whether somebody who comes too late passes over what follows."""
        return not self.stops and self.past != self.next


@dataclass(frozen=True, kw_only=True, slots=True)
class Awaited:
    """An event that ends a wait, and where it goes on then; `path` is where `event` and `same` stand."""

    event: str
    same: Expression | None
    first: str | None
    path: Path
    #: Whether it counts whoever of the account it comes from.
    by_account: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitFor(_Step):
    """Stand still until one of some events, at most `for_up_to`."""

    awaited: tuple[Awaited, ...]
    for_up_to: Duration
    timed_out: str | None

    @property
    def events(self) -> tuple[str, ...]:
        """The names of the events."""
        return tuple(awaited.event for awaited in self.awaited)

    @property
    def named(self) -> str:
        """The events in words: `order.delivered or order.cancelled`."""
        return " or ".join(self.events)


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """Where it goes on where a condition is true; `path` is the condition's own place."""

    test: Expression
    first: str | None
    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class If(_Step):
    """Go the way of the first condition that is true, or the other way."""

    ways: tuple[Way, ...]
    otherwise: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """One way of a split."""

    weight: int
    name: str
    first: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Split(_Step):
    """Go one of several ways by a hash of the customer."""

    branches: tuple[Branch, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What somebody of a team is to do, and how long they have; `within` counts whole days of the shop's calendar."""

    name: str
    within: Duration | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Notify(_Step):
    """Queue a touchpoint to a team of the shop, with a task for one of them or without."""

    team: str
    about: Text | None
    task: Task | None
    next: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop(_Step):
    """End the run."""

    reason: str


Step = Send | Act | Wait | Until | UntilDate | WaitFor | If | Split | Notify | Stop


@dataclass(frozen=True, kw_only=True, slots=True)
class Reenter:
    """How long after what started a key's last run it may run again, once that run is over; `text` says it in words."""

    after: Duration
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRule:
    """An event that ends a run, of a segment only where it is this one; `path` is where the rule stands.

    With `by_account` it ends it whoever of the account it comes from.
    """

    event: str
    same: Expression | None
    segment: str | None = None
    path: Path = ()
    by_account: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """An event that counts as a conversion, so long after the trigger."""

    event: str
    within: Duration
    same: Expression | None


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A compiled flow. `first` is the id of its first step; every step names the ids that may follow it."""

    name: str
    about: str
    status: str
    owner: str | None
    stage: str | None
    event: str | None
    #: The segment that is entered or left, where such an event starts it.
    segment: str | None = None
    when: Expression | None
    once_per: Expression | None
    #: Whether it runs once for a whole account, with a run for each of its people with one of the roles `to`.
    per_account: bool
    to: frozenset[str]
    #: When a key may run again; None: never.
    reenter: Reenter | None
    stops: tuple[StopRule, ...]
    goal: Goal | None
    holdout: Holdout | None
    only_if: Expression | None
    topic: str | None
    quiet_hours: Quiet | None
    caps: tuple[Cap, ...]
    blackouts: tuple[Blackout, ...] = ()
    rate: Rate | None = None
    keep_for: Duration | None = None
    late: Late | None = None
    loser: Loser | None = None
    #: Whether a run ends when its customer is no longer in the stage that started it.
    ends_with_stage: bool = False
    first: str | None
    #: By id; whatever may follow a step stands before it.
    steps: Mapping[str, Step]
    document: strict_yaml.Document = field(repr=False, compare=False)
    #: The files of the pieces that it uses.
    pieces: Pieces = field(default_factory=dict, repr=False, compare=False)
    #: Events that can end a wait or the run; others need not be looked at.
    listens_to: frozenset[str] = frozenset()
    #: Those of them that count whoever of the account they come from.
    heard_by_account: frozenset[str] = frozenset()
    #: Events that answer what its own steps ask, so that those of another run are nothing to it.
    asks_for: frozenset[str] = frozenset()
    #: Whether people inside an older version go on in this one.
    moves: bool = False
    #: What steps are called now, by the ids that older versions had for them.
    renames: Mapping[str, str] = field(default_factory=dict)
    tests: tuple[FlowTest, ...] = field(default=(), repr=False)
    #: What the event is told of where it is one of our own, about this flow alone.
    occasion: Occasion | None = None

    @cached_property
    def unread(self) -> frozenset[str]:
        """The ids of steps that are written in the file and do not compile; none where the whole flow does."""
        return frozenset(_ids(self.document.data)) - self.steps.keys()

    def problem(self, path: Path, message: str) -> Problem:
        """A problem at a place of this flow's file, or of a piece that it uses."""
        where, inside = located(self.document, self.pieces, path)
        return where.problem(inside, self.told(where, message))

    def problem_inside(self, path: Path, line: int, col: int, message: str) -> Problem:
        """A problem at a line and column of the text that stands at a path."""
        where, inside = located(self.document, self.pieces, path)
        return Problem(where.file, *where.place_inside(inside, line, col), self.told(where, message))

    def told(self, where: strict_yaml.Document, message: str) -> str:
        """A message about a file, which names this flow where that is a piece's."""
        return message if where is self.document else f"{message} Flow '{self.name}' uses this piece."

    def written(self, path: Path) -> Any:
        """What stands at a path of this flow's file, or of a piece that it uses, as it was read."""
        return written(self.document, self.pieces, path)

    def in_order(self) -> tuple[str, ...]:
        """The ids of its steps in the order of the file, whether or not anybody reaches them."""
        return tuple(step.id for step in sorted(self.steps.values(), key=_order))


def _ids(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(step := part.get("id"), str):
            yield step
        for inner in part.values():
            yield from _ids(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _ids(inner)


def next_steps(step: Step) -> tuple[str | None, ...]:
    """The ids that may follow a step; None is the end of the flow."""
    match step:
        case Send() | Act() | Wait() | Until() | Notify():
            return (step.next,)
        case UntilDate():
            return (step.next, step.past) if step.skips else (step.next,)
        case WaitFor():
            return (*(awaited.first for awaited in step.awaited), step.timed_out)
        case If():
            return (*(way.first for way in step.ways), step.otherwise)
        case Split():
            return tuple(branch.first for branch in step.branches)
        case Stop():
            return ()


def reachable(flow: Flow, start: str | None) -> frozenset[str]:
    """The ids of a step and of everything that can come after it."""
    reached: set[str] = set()
    ahead = [start]
    while ahead:
        step = ahead.pop()
        if step is not None and step not in reached:
            reached.add(step)
            ahead.extend(next_steps(flow.steps[step]))
    return frozenset(reached)


def walk(flow: Flow) -> Iterator[Step]:
    """Every step that a customer can reach, in the order of the file."""
    reached = reachable(flow, flow.first)
    yield from (step for step in sorted(flow.steps.values(), key=_order) if step.id in reached)


def _order(step: Step) -> list[tuple[int, str]]:
    return [(part, "") if isinstance(part, int) else (-1, part) for part in step.path]
