"""Flow files: what stands in the YAML, and the graph of steps it is compiled to.

A marketer writes an ordered list with nested branches; `decide` walks a graph in which every step knows the next.
Positions of customers hang on step ids, so ids are unique in a flow and do not depend on order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, time
from functools import cached_property, lru_cache
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from afterglow import strict_yaml
from afterglow.durations import Duration, parse_offset
from afterglow.expressions import Expression, Text
from afterglow.language import actions
from afterglow.language.actions import (
    AwardModel,
    Doing,
    MoveModel,
    Redeem,
    RedeemModel,
    SetModel,
    StartModel,
    StopFlowModel,
    SurveyModel,
    WebhookModel,
    compile_action,
)
from afterglow.language.company import By, ToModel
from afterglow.language.company import names_of as names_of_event
from afterglow.language.compiling import Compiler, Path
from afterglow.language.pieces import Pieces, divided, file_of, located, names_of, written
from afterglow.language.rails import Blackout, BlackoutModel, Late, Loser, Rate, parse_rate
from afterglow.language.segment import crossing
from afterglow.language.shop import Cap, CapModel, Holdout, QuietModel, parse_holdout
from afterglow.language.starts import Occasion, StartsModel, start_of
from afterglow.language.step import StepBase
from afterglow.language.testing import FlowTest, FlowTestModel, compile_tests
from afterglow.local_time import Opening, Quiet
from afterglow.problems import Problem, Problems, did_you_mean


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _described(text: str, **options: Any) -> Any:
    return Field(description=text, **options)


class StopsModel(_Model):
    """What ends the run: an event, a segment entered or left, or that the customer left the stage that started it."""

    event: str | None = _described("The event that ends the run.", default=None)
    segment: str | None = _described("Entering this segment ends the run.", default=None)
    leaves: str | None = _described("Leaving this segment ends the run.", default=None)
    stage: Literal["left"] | None = _described(
        "`left`: the run ends when the customer is no longer in the stage that started it.", default=None
    )
    same: str | None = _described("Only where this is the same as in the trigger, such as `order.id`.", default=None)
    by: By | None = _described("`account`: also where somebody else of the account did it.", default=None)


class GoalModel(_Model):
    """What the flow is for: an event that counts as a conversion. The run goes on."""

    event: str = _described("The event that counts.")
    within: str = _described("How long after the trigger it counts, such as `60 days`.")
    same: str | None = _described("Only where this is the same as in the trigger, such as `order.id`.", default=None)


class SendModel(StepBase):
    """Send a mail, and go on when it is settled."""

    send: str = _described("The template, such as `email/thank-you`.")
    to: ToModel | None = _described(
        "Only to those of the account with this role, such as `{role: billing}`; in a flow that runs per account.",
        default=None,
    )
    id: str | None = _described("Name of this step; the template's own name unless given.", default=None)


class WaitModel(StepBase):
    """Wait for a time."""

    id: str = _described("Name of this step; customers' positions hang on it.")
    wait: str = _described("How long: `36 hours` exactly, or `3 days` on the customer's calendar.")
    at: str | None = _described('Local time of day at which the wait ends, such as "10:00".', default=None)


WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
#: What is none is told when the file is compiled, with what was meant.
Weekday = Annotated[str, WithJsonSchema({"enum": list(WEEKDAYS)})]


class OpeningModel(_Model):
    """A time of the week where the customer lives."""

    weekday: Weekday | list[Weekday] | None = _described(
        "The day, such as tuesday, or a list of days; any day unless given.", default=None
    )
    at: str | None = _described('The moment of the day, such as "10:00".', default=None)
    between: str | None = _described(
        'A part of the day, such as "10:00-18:00", or over midnight, "22:00-06:00".', default=None
    )


class UntilModel(StepBase):
    """Wait until a time of the week, or until a date that is known or given."""

    id: str = _described("Name of this step; customers' positions hang on it.")
    until: OpeningModel | str = _described(
        'A time of the week, such as `{weekday: tuesday, at: "10:00"}`, or a date, such as `customer.renewal_date` or '
        "2026-11-27."
    )
    offset: str | None = _described("So long after the date, or before it: `-30 days`.", default=None)
    at: str | None = _described(
        'Local time on that day, such as "10:00"; the day begins it unless given.', default=None
    )
    if_past: Literal["go on", "skip", "stop"] | None = _described(
        "What happens where the date is missing, unreadable or past. skip: what follows is passed over, up to the next "
        "date of the same list of steps.",
        default=None,
    )


class ArrivedModel(_Model):
    """One of the events that a step waits for."""

    event: str = _described("The event; those since the trigger count.")
    same: str | None = _described("Only where this is the same as in the trigger, such as `order.id`.", default=None)
    by: By | None = _described("`account`: also where somebody else of the account did it.", default=None)
    arrived: list["StepModel"] = _described("Steps to take when it is this one that came.", default_factory=list)


class WaitForModel(StepBase):
    """Wait for an event, or the first of several, but not for ever."""

    id: str = _described("Name of this step; the event is known under it in later steps.")
    wait_for: str | Annotated[list[ArrivedModel], Field(min_length=2)] = _described(
        "The event to wait for, or a list of several; events since the trigger count."
    )
    same: str | None = _described("Only where this is the same as in the trigger, such as `order.id`.", default=None)
    by: By | None = _described("`account`: also where somebody else of the account did it.", default=None)
    for_up_to: str | None = _described("How long to wait at most, counted from reaching this step.", default=None)
    arrived: list["StepModel"] = _described("Steps to take when the event came.", default_factory=list)
    timed_out: list["StepModel"] = _described("Steps to take when none came.", default_factory=list)


class ElifModel(_Model):
    """A further condition, for whom none before it was true."""

    if_: str = Field(alias="if", description="The condition, such as `customer.orders >= 4`.")
    then: list["StepModel"] = _described("Steps where it is the first that is true.", default_factory=list)


class IfModel(StepBase):
    """Choose by conditions: the first that is true says the way."""

    id: str = _described("Name of this step.")
    if_: str = Field(alias="if", description="The condition, such as `answer.score <= 2`.")
    then: list["StepModel"] = _described("Steps where it is true.", default_factory=list)
    elif_: list[ElifModel] = Field(
        alias="elif", description="Further conditions, asked in order where none before is true.", default_factory=list
    )
    else_: list["StepModel"] = Field(alias="else", description="Steps where none is true.", default_factory=list)


class BranchModel(_Model):
    """One way of a split."""

    weight: int = _described("Share of customers, relative to the other branches.", ge=1, le=1000)
    name: str = _described("Name of the branch, for reports.")
    steps: list["StepModel"] = _described("Steps on this branch.", default_factory=list)


class SplitModel(StepBase):
    """Divide customers by weight; the same customer always goes the same way."""

    id: str = _described("Name of this step.")
    split: list[BranchModel] = _described("The branches.", min_length=2)


class NotifyModel(StepBase):
    """Ask a team of the shop to act."""

    notify: str = _described("The team, as named in shop.yaml.")
    id: str | None = _described("Name of this step; `notify-<team>` unless given.", default=None)
    about: str | None = _described("What the team should know; may hold {{ }}.", default=None)
    task: str | None = _described(
        "What somebody of the team is to do, in a word or two: `call`, `handwritten note`. It is open until they say "
        "that it is done, which is the event `task.done`.",
        default=None,
        min_length=1,
        max_length=60,
    )
    due: str | None = _described(
        "By when the task is to be done, in days of the shop's calendar: `2 days`, `1 week`.", default=None
    )


class StopModel(StepBase):
    """End the run here."""

    stop: str | bool = _described("`true`, or the reason in words.")
    id: str | None = _described("Name of this step; `stop` unless given.", default=None)


class UseModel(_Model):
    """Take the steps of a piece, `flows/pieces/NAME.yaml`, as if they stood here."""

    use: str = _described("The piece, such as `ask-for-review`.", pattern=r"^[a-z0-9][a-z0-9-]*$")


VERBS: Mapping[str, type[BaseModel]] = {
    "send": SendModel,
    "wait": WaitModel,
    "until": UntilModel,
    "wait_for": WaitForModel,
    "if": IfModel,
    "split": SplitModel,
    "notify": NotifyModel,
    "survey": SurveyModel,
    **actions.VERBS,
    "stop": StopModel,
    "use": UseModel,
}


def _verb(value: Any) -> str:
    """The verb of a step: which of the known keys it has, or nearly has; else it is read as a `send`, and told so."""
    if isinstance(value, Mapping):
        nearly = (verb for verb in VERBS for key in value if did_you_mean(str(key), [verb]))
        return next((verb for verb in VERBS if verb in value), None) or next(nearly, "send")
    return next((verb for verb, model in VERBS.items() if isinstance(value, model)), "send")


StepModel = Annotated[
    Annotated[SendModel, Tag("send")]
    | Annotated[WaitModel, Tag("wait")]
    | Annotated[UntilModel, Tag("until")]
    | Annotated[WaitForModel, Tag("wait_for")]
    | Annotated[IfModel, Tag("if")]
    | Annotated[SplitModel, Tag("split")]
    | Annotated[NotifyModel, Tag("notify")]
    | Annotated[SurveyModel, Tag("survey")]
    | Annotated[AwardModel, Tag("award")]
    | Annotated[RedeemModel, Tag("redeem")]
    | Annotated[SetModel, Tag("set")]
    | Annotated[MoveModel, Tag("move")]
    | Annotated[StartModel, Tag("start")]
    | Annotated[StopFlowModel, Tag("stop_flow")]
    | Annotated[WebhookModel, Tag("webhook")]
    | Annotated[StopModel, Tag("stop")]
    | Annotated[UseModel, Tag("use")],
    Discriminator(_verb),
]


class PieceModel(_Model):
    """Steps that several flows use."""

    piece: str = _described("Name of the piece; the same as the file's.", pattern=r"^[a-z0-9][a-z0-9-]*$")
    about: str = _described("What it is for, in one line.")
    steps: list[StepModel] = _described("What happens, in order; the ids are those of every flow.", min_length=1)


class FlowModel(_Model):
    """A flow: what happens to a customer after a stage or an event."""

    flow: str = _described("Name of the flow; the same as the file's.", pattern=r"^[a-z0-9][a-z0-9-]*$")
    about: str = _described("What it is for, in one line.")
    status: Literal["draft", "live", "paused"] = _described("draft: checked only. live: runs. paused: stands still.")
    owner: str | None = _described("Who answers for it.", default=None)
    starts: StartsModel = _described("What brings a customer in.")
    once_per: str | None = _described(
        "One run for each value of this, such as `order.id` or `customer.id`; unless given, each trigger is a run.",
        default=None,
    )
    run_per: Literal["customer", "account"] = _described(
        "`account`: once for a whole company, with a run for each of its people.", default="customer"
    )
    to: ToModel | None = _described(
        "Which people of the account have a run, such as `{role: decision-maker}`; all of them unless given.",
        default=None,
    )
    reenter: str | None = _described(
        "When the same value of `once_per` may run again, once its run is over: `never` (unless given), `always`, or "
        "`after 30 days`, counted from what started it last.",
        default=None,
    )
    stops: StopsModel | list[StopsModel] = _described("Events that end the run.", default_factory=list)
    goal: GoalModel | None = _described("An event that is counted as the flow's success.", default=None)
    holdout: str | None = _described(
        "Share of customers who get no marketing of this flow, to measure it, such as `5%`.", default=None
    )
    on_edit: Literal["finish-old", "move"] = _described(
        "What becomes of people inside when the file changes: `finish-old` (unless given), they finish the version "
        "they began in; `move`, they go on at the same step of the new one.",
        default="finish-old",
    )
    only_if: str | None = _described(
        "Checked again before every mail; where it is not true, the mail is skipped.", default=None
    )
    topic: str | None = _described("Topic of the flow's marketing mails whose template names none.", default=None)
    quiet_hours: QuietModel | None = _described("Further hours in which this flow sends no marketing.", default=None)
    caps: list[CapModel] = _described(
        "Further limits on marketing to one customer, for this flow.", default_factory=list
    )
    blackout: list[BlackoutModel] = _described(
        "Further days on which this flow sends no marketing.", default_factory=list
    )
    rate: str | None = _described("How much of its marketing goes at most, such as `200 per hour`.", default=None)
    keep_for: str | None = _described(
        "How long its marketing may wait for its turn; at most as long as in shop.yaml.", default=None
    )
    late: Late | None = _described(
        "What becomes of its marketing that an outage delayed by more than an hour: `next window` waits for the next "
        "time that the flow names, `skip` leaves it out.",
        default=None,
    )
    loser: Loser | None = _described(
        "What becomes of its marketing that finds a cap full: `skip` leaves it out.", default=None
    )
    steps: list[StepModel] = _described("What happens, in order.", min_length=1)
    tests: list[FlowTestModel] = _described("What must come of what; `afterglow test` runs them.", default_factory=list)


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


@lru_cache(maxsize=2048)
def read_flow(text: str, file: str) -> Flow:
    """Compile a flow file, with the pieces that it uses behind it: see `afterglow.language.pieces.joined`.

    Raises:
      Problems: everything that is wrong with the file by itself, and with its pieces, each with its place.
    """
    own, texts = divided(text)
    document = strict_yaml.load(own, file)
    pieces = {name: read_piece(piece, file_of(name)) for name, piece in texts.items()}
    compiler = _Compiler(document, pieces)
    flow = compiler.flow(strict_yaml.validated(document, FlowModel))
    if compiler.problems:
        raise Problems(tuple(compiler.problems))
    return flow


Piece = tuple[strict_yaml.Document, PieceModel]


@lru_cache(maxsize=512)
def read_piece(text: str, file: str) -> Piece:
    """Read the file of a piece. What its steps come to shows in the flows that use it.

    Raises:
      Problems: everything that is wrong with the shape of it.
    """
    document = strict_yaml.load(text, file)
    model = strict_yaml.validated(document, PieceModel)
    if file != file_of(model.piece):
        message = f"The file is called {file.rpartition('/')[2]} and the piece in it '{model.piece}'; make them equal."
        raise Problems([document.problem(("piece",), message)])
    return document, model


def sketch_flow(
    document: strict_yaml.Document, model: FlowModel, pieces: Mapping[str, Piece | None]
) -> tuple[Flow, tuple[Problem, ...]]:
    """A flow as far as it compiles, and why the rest does not. Only for finding further problems: steps may lack."""
    compiler = _Compiler(document, pieces)
    return compiler.flow(model), tuple(compiler.problems)


class _Compiler(Compiler):
    """Compiles one flow, keeping its steps by id. A piece that is None cannot be read, and is left out."""

    def __init__(self, document: strict_yaml.Document, pieces: Mapping[str, Piece | None]) -> None:
        super().__init__(document)
        self.steps: dict[str, Step] = {}
        self.pieces = pieces
        self.renames: dict[str, str] = {}
        self.documents = {name: piece[0] for name, piece in pieces.items() if piece is not None}

    def located(self, path: Path) -> tuple[strict_yaml.Document, Path]:
        return located(self.document, self.documents, path)

    def flow(self, model: FlowModel) -> Flow:
        stops = model.stops if isinstance(model.stops, list) else [model.stops]
        start = start_of(self, model.starts)
        first = self.sequence(model.steps, ("steps",), after=None)
        for old, step_id in self.renames.items():
            if old in self.steps:
                self.say((*self.steps[step_id].path, "was"), f"'{old}' is the id of another step; it was not renamed.")
        rules = tuple(rule for n, stop in enumerate(stops) if (rule := self.stop(stop, n, model)))
        waits = [step for step in self.steps.values() if isinstance(step, WaitFor)]
        heard: list[StopRule | Awaited] = [*rules, *(awaited for step in waits for awaited in step.awaited)]
        return Flow(
            name=model.flow,
            about=model.about,
            status=model.status,
            owner=model.owner,
            stage=model.starts.stage,
            event=start.event,
            segment=start.segment,
            when=self.expression(model.starts.when, ("starts", "when")),
            once_per=self.expression(model.once_per, ("once_per",)),
            per_account=self.per_account(model),
            to=model.to.roles if model.to else frozenset(),
            reenter=self.reenter(model),
            stops=rules,
            goal=self.goal(model.goal) if model.goal else None,
            holdout=self.collected(("holdout",), lambda: parse_holdout(model.holdout)),
            only_if=self.expression(model.only_if, ("only_if",)),
            topic=model.topic,
            quiet_hours=self.collected(("quiet_hours",), model.quiet_hours.compiled) if model.quiet_hours else None,
            caps=tuple(
                cap for n, given in enumerate(model.caps) if (cap := self.collected(("caps", n), given.compiled))
            ),
            blackouts=tuple(
                days
                for n, given in enumerate(model.blackout)
                if (days := self.collected(("blackout", n, "days"), given.compiled))
            ),
            rate=self.rate(model.rate),
            keep_for=self.duration(model.keep_for, ("keep_for",)) if model.keep_for else None,
            late=model.late,
            loser=model.loser,
            ends_with_stage=any(stop.stage is not None for stop in stops),
            first=first,
            steps=self.steps,
            document=self.document,
            pieces=self.documents,
            listens_to=frozenset(
                name for one in heard for name in names_of_event(one.event, by_account=one.by_account)
            ),
            heard_by_account=frozenset(one.event for one in heard if one.by_account),
            asks_for=frozenset(answer for step in self.steps.values() for answer in _answers(step)),
            moves=model.on_edit == "move",
            renames=self.renames,
            tests=compile_tests(self, model.tests),
            occasion=start.occasion,
        )

    def per_account(self, model: FlowModel) -> bool:
        """Whether the flow runs once for an account, which says what may stand beside that."""
        if model.run_per == "account":
            if model.reenter is not None:
                self.say(("reenter",), "A flow that runs per account runs once for each; leave out `reenter`.")
            return True
        if model.to is not None:
            self.say(("to",), "Only a flow that runs per account has others to run for: say `run_per: account`.")
        for step in self.steps.values():
            if isinstance(step, Send) and step.to:
                self.say((*step.path, "to"), "Only a flow that runs per account chooses roles: say `run_per: account`.")
        return False

    def stop(self, model: StopsModel, n: int, flow: FlowModel) -> StopRule | None:
        """The event that ends a run; None where it is the end of the stage."""
        path = ("stops", n) if isinstance(flow.stops, list) else ("stops",)
        if sum(one is not None for one in (model.event, model.stage, model.segment, model.leaves)) != 1:
            ways = "by an event, by `stage: left`, or by a segment that is entered (`segment`) or left (`leaves`)"
            self.say(path, f"A run is stopped {ways}: give one of them.")
        event, segment = crossing(model.segment, model.leaves) or (model.event, None)
        if model.stage is not None and flow.starts.stage is None:
            self.say((*path, "stage"), "Only a flow that starts by a stage can end when it is left.")
        same = self.expression(model.same, (*path, "same"))
        if segment is not None and model.same is not None:
            self.say((*path, "same"), "Entering or leaving a segment carries nothing to compare; leave 'same' out.")
        if event is None:
            return None
        return StopRule(event=event, same=same, segment=segment, path=path, by_account=model.by == "account")

    def rate(self, text: str | None) -> Rate | None:
        return self.collected(("rate",), lambda: parse_rate(text)) if text is not None else None

    def goal(self, model: GoalModel) -> Goal | None:
        within = self.duration(model.within, ("goal", "within"))
        same = self.expression(model.same, ("goal", "same"))
        return Goal(event=model.event, within=within, same=same) if within else None

    def reenter(self, model: FlowModel) -> Reenter | None:
        given = model.reenter or "never"
        if model.reenter is not None and model.once_per is None:
            self.say(
                ("reenter",), "'reenter' says when the same `once_per` may run again; give both, such as customer.id."
            )
        if given == "never":
            return None
        if given == "always":
            return Reenter(after=Duration(), text="at any time")
        if not given.startswith("after "):
            self.say(("reenter",), f"'{given}' is not a time to run again: write never, always, or `after 30 days`.")
            return None
        after = self.duration(given.removeprefix("after "), ("reenter",))
        return Reenter(after=after, text=f"{given.removeprefix('after ')} after that began") if after else None

    def sequence(self, models: Sequence[Any], path: Path, *, after: str | None) -> str | None:
        """Compile a list of steps, last first, so that each knows its successor. The id of its first step."""
        following = next_date = after
        for n in range(len(models) - 1, -1, -1):
            if isinstance(models[n], UseModel):
                following = self.use(models[n].use, (*path, n, "use"), following)
                continue
            step = self.step(models[n], (*path, n), following)
            if step is None:
                continue
            if isinstance(step, UntilDate):
                step = replace(step, past=next_date) if models[n].if_past == "skip" else step
                next_date = step.id
            if step.id in self.steps:  # the other one stands further down
                self.say(self.steps[step.id].path, self.twice(step.id, path))
            self.steps[step.id] = step
            self.rename(models[n], step)
            following = step.id
        return following

    def use(self, name: str, path: Path, after: str | None) -> str | None:
        """The steps of a piece, as if they stood here; the id of the first."""
        if name not in self.pieces:
            self.say(path, f"There is no piece {file_of(name)}.")
            return after
        if name in names_of(path, self.document, self.documents):
            self.say(path, f"The piece '{name}' would use itself, without an end.")
            return after
        piece = self.pieces[name]
        return self.sequence(piece[1].steps, (*path, "steps"), after=after) if piece is not None else after

    def twice(self, step: str, path: Path) -> str:
        """That two steps have one id, the first of which stands at a path."""
        file, by = self.located(path)[0].file, self.located(self.steps[step].path)[0].file
        if by == self.document.file == file:
            return f"Two steps are called '{step}'; give this one another id."
        flow = f"flow '{self.document.file.rpartition('/')[2].removesuffix('.yaml')}'"
        if file == by:
            return f"Two steps of {flow} are called '{step}': it uses this piece twice, and a piece is used once."
        return f"Two steps of {flow} are called '{step}', here and in {file}; give one of them another id."

    def rename(self, model: StepBase, step: Step) -> None:
        """Keep what older versions called a step."""
        for old in [model.was] if isinstance(model.was, str) else model.was or ():
            if old in self.renames:
                self.say((*step.path, "was"), f"Two steps say that they were '{old}'; only one can be.")
            self.renames[old] = step.id

    def step(self, model: Any, path: Path, after: str | None) -> Step | None:
        match model:
            case SendModel():
                name = model.id or model.send.rpartition("/")[2]
                to = model.to.roles if model.to else frozenset()
                return Send(id=name, path=path, template=model.send, next=after, to=to)
            case SurveyModel():
                name = model.id or model.survey.rpartition("/")[2]
                return Send(id=name, path=path, template=model.survey, next=after, asks=True)
            case WaitModel():
                duration = self.duration(model.wait, (*path, "wait"))
                at = self.time_of_day(model.at, (*path, "at"))
                if duration is None:
                    return None
                if at is not None and duration.seconds:
                    self.say((*path, "at"), "'at' goes with a wait in days; hours are counted exactly.")
                return Wait(id=model.id, path=path, duration=duration, at=at, next=after)
            case UntilModel(until=OpeningModel()):
                return self.until(model, path, after)
            case UntilModel():
                return self.until_date(model, path, after)
            case WaitForModel():
                return self.wait_for(model, path, after)
            case IfModel():
                return self.if_(model, path, after)
            case SplitModel():
                branches = tuple(
                    Branch(
                        weight=branch.weight,
                        name=branch.name,
                        first=self.sequence(branch.steps, (*path, "split", n, "steps"), after=after),
                    )
                    for n, branch in enumerate(model.split)
                )
                if len({branch.name for branch in branches}) < len(branches):
                    self.say((*path, "split"), "Two branches of this split have the same name.")
                return Split(id=model.id, path=path, branches=branches)
            case NotifyModel():
                about = self.text(model.about, (*path, "about"))
                return Notify(
                    id=model.id or f"notify-{model.notify}",
                    path=path,
                    team=model.notify,
                    about=about,
                    task=self.task(model, path),
                    next=after,
                )
            case StopModel():
                reason = model.stop if isinstance(model.stop, str) else "the flow says so"
                return Stop(id=model.id or "stop", path=path, reason=reason)
        action = compile_action(self, model, path)
        return Act(id=action[0], path=path, does=action[1], next=after) if action else None

    def task(self, model: NotifyModel, path: Path) -> Task | None:
        within = self.duration(model.due, (*path, "due")) if model.due is not None else None
        if within is not None and not (within.is_calendar and (within.days or within.months)):
            self.say((*path, "due"), "A task is due on a day: write `due: 2 days`; hours are not counted.")
        if model.task is None:
            if model.due is not None:
                self.say((*path, "due"), "Only a task can be due: say what there is to do, such as `task: call`.")
            return None
        return Task(name=model.task, within=within)

    def if_(self, model: IfModel, path: Path, after: str | None) -> Step | None:
        ways = []
        parts: list[tuple[IfModel | ElifModel, Path]] = [(model, path)]
        parts += [(each, (*path, "elif", n)) for n, each in enumerate(model.elif_)]
        for part, where in parts:
            test = self.expression(part.if_, (*where, "if"))
            first = self.sequence(part.then, (*where, "then"), after=after)
            if test is not None:
                ways.append(Way(test=test, first=first, path=(*where, "if")))
        otherwise = self.sequence(model.else_, (*path, "else"), after=after)
        if len(ways) < 1 + len(model.elif_):
            return None
        return If(id=model.id, path=path, ways=tuple(ways), otherwise=otherwise)

    def until(self, model: UntilModel, path: Path, after: str | None) -> Step | None:
        for key in ("offset", "at", "if_past"):
            if getattr(model, key) is not None:
                self.say((*path, key), f"'{key}' goes with a date; a time of the week stands inside `until`.")
        assert isinstance(model.until, OpeningModel)
        opening = self.opening(model.until, (*path, "until"))
        return Until(id=model.id, path=path, opening=opening, next=after) if opening else None

    def opening(self, model: OpeningModel, path: Path) -> Opening | None:
        """The times of the week at which a wait may end; None where they cannot be read."""
        before = len(self.problems)
        given = [model.weekday] if isinstance(model.weekday, str) else model.weekday or []
        for name in given:
            if name not in WEEKDAYS:
                meant = did_you_mean(name, WEEKDAYS)
                self.say((*path, "weekday"), f"'{name}' is no day of the week; write it as monday.{meant}")
        days = frozenset(WEEKDAYS.index(name) for name in given or WEEKDAYS if name in WEEKDAYS)
        start, end = time(0), time(0)
        if model.at is not None and model.between is not None:
            self.say(path, "'at' is one moment of the day and 'between' a part of it; give one of the two.")
        elif model.at is None and model.between is None and not given:
            self.say(path, "Say until when: a weekday, 'at' a time of day, or 'between' two.")
        elif model.at is not None:
            at = self.time_of_day(model.at, (*path, "at"))
            return (
                Opening(weekdays=days, start=at, end=None) if at is not None and len(self.problems) == before else None
            )
        elif model.between is not None:
            parts = model.between.split("-")
            if len(parts) != 2:
                self.say(
                    (*path, "between"), f"'{model.between}' is not a part of the day; write it as \"22:00-06:00\"."
                )
                return None
            first, last = (self.time_of_day(part.strip(), (*path, "between")) for part in parts)
            if first is None or last is None:
                return None
            if first == last:
                self.say((*path, "between"), "Two equal times could mean always or never; leave 'between' out.")
            start, end = first, last
        return Opening(weekdays=days, start=start, end=end) if len(self.problems) == before else None

    def until_date(self, model: UntilModel, path: Path, after: str | None) -> Step | None:
        assert isinstance(model.until, str)
        fixed = _DAY.fullmatch(model.until)
        date = self.expression(f'"{model.until}"' if fixed else model.until, (*path, "until"))
        if fixed:
            self.collected((*path, "until"), lambda: _day(model.until))
        given = model.offset
        offset = self.collected((*path, "offset"), lambda: parse_offset(given)) if given is not None else Duration()
        at = self.time_of_day(model.at, (*path, "at"))
        if model.if_past is None:
            self.say(
                path,
                f"Say with `if_past` what '{model.id}' does where the date is missing or past: go on, skip, or stop.",
            )
        if at is not None and offset is not None and offset.seconds:
            self.say((*path, "at"), "'at' goes with an offset in days; hours are counted exactly.")
        if date is None or offset is None:
            return None
        stops = model.if_past == "stop"
        return UntilDate(id=model.id, path=path, date=date, offset=offset, at=at, stops=stops, next=after, past=after)

    def wait_for(self, model: WaitForModel, path: Path, after: str | None) -> Step | None:
        if isinstance(model.wait_for, str):
            only = ArrivedModel(event=model.wait_for, same=model.same, by=model.by, arrived=model.arrived)
            awaited = [self.awaited(only, path, after)]
        else:
            for key in ("same", "by", "arrived"):
                if getattr(model, key):
                    self.say((*path, key), f"Each of several events has its own '{key}'; write it beside the event.")
            awaited = [self.awaited(each, (*path, "wait_for", n), after) for n, each in enumerate(model.wait_for)]
            names = [each.event for each in awaited]
            for n, each in enumerate(awaited):
                if each.event in names[:n]:
                    self.say(
                        (*each.path, "event"), f"'{model.id}' waits for {each.event} twice; the first would be taken."
                    )
        timed_out = self.sequence(model.timed_out, (*path, "timed_out"), after=after)
        if model.for_up_to is None:
            self.say(path, f"'{model.id}' would wait for ever; say how long with `for_up_to`, such as `10 days`.")
            return None
        duration = self.duration(model.for_up_to, (*path, "for_up_to"))
        if duration is None:
            return None
        return WaitFor(id=model.id, path=path, awaited=tuple(awaited), for_up_to=duration, timed_out=timed_out)

    def awaited(self, model: ArrivedModel, path: Path, after: str | None) -> Awaited:
        first = self.sequence(model.arrived, (*path, "arrived"), after=after)
        same = self.expression(model.same, (*path, "same"))
        return Awaited(event=model.event, same=same, first=first, path=path, by_account=model.by == "account")

    def time_of_day(self, text: str | None, path: Path) -> time | None:
        if text is None:
            return None
        try:
            return time.fromisoformat(text)
        except ValueError:
            self.say(path, f"'{text}' is not a time of day; write it as \"10:00\".")
            return None


_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def _day(text: object) -> date:
    """The day that is written. Raises ValueError with a sentence for the author of the flow."""
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        raise ValueError(f"There is no day '{text}'; write it as 2026-11-27.") from None


def _answers(step: Step) -> tuple[str, ...]:
    """The events of ours that answer what a step asks."""
    match step:
        case Send(asks=True):
            return ("survey.answered",)
        case Act(does=Redeem()):
            return ("reward.redeemed", "reward.refused")
        case Notify(task=Task()):
            return ("task.done",)
        case _:
            return ()


def walk(flow: Flow) -> Iterator[Step]:
    """Every step that a customer can reach, in the order of the file."""
    reached: set[str] = set()
    ahead = [flow.first]
    while ahead:
        step_id = ahead.pop()
        if step_id is None or step_id in reached:
            continue
        reached.add(step_id)
        ahead.extend(next_steps(flow.steps[step_id]))
    yield from (step for step in sorted(flow.steps.values(), key=_order) if step.id in reached)


def _order(step: Step) -> list[tuple[int, str]]:
    return [(part, "") if isinstance(part, int) else (-1, part) for part in step.path]
