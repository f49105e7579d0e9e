"""What stands in the YAML of a flow or of a piece, with the descriptions that editors show."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from afterglow.language import actions
from afterglow.language.actions import (
    AwardModel,
    MoveModel,
    RedeemModel,
    SetModel,
    StartModel,
    StopFlowModel,
    SurveyModel,
    WebhookModel,
)
from afterglow.language.company import By, ToModel
from afterglow.language.rails import BlackoutModel, Late, Loser
from afterglow.language.shop import CapModel, QuietModel
from afterglow.language.starts import StartsModel
from afterglow.language.step import StepBase
from afterglow.language.testing import FlowTestModel
from afterglow.problems import did_you_mean


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
