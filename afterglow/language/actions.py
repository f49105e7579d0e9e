"""What a step of a flow can do besides sending and waiting: what stands in the YAML, and what it is compiled to.

`afterglow.acting` says what each comes to for one run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from afterglow.expressions import Expression
from afterglow.language.compiling import Compiler, Path
from afterglow.language.step import StepBase

#: A fact of a step: an expression, or a plain value.
Given = str | int | bool


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AwardModel(StepBase):
    """Give points of a loyalty programme, once."""

    award: Given = Field(description="How many points: a number, or an expression such as `order.total * 2`.")
    programme: str = Field(description="The loyalty programme, such as beans.")
    because: str | None = Field(default=None, description="What for, in a word or two: birthday.")
    id: str | None = Field(default=None, description="Name of this step; `award-<programme>` unless given.")


class RedeemModel(StepBase):
    """Buy a reward for the customer with their points, once."""

    redeem: str = Field(description="The reward, as the programme names it.")
    programme: str = Field(description="The loyalty programme, such as beans.")
    id: str | None = Field(default=None, description="Name of this step; `redeem-<reward>` unless given.")


class TagsModel(_Model):
    """Words that are put on a customer, or taken off."""

    add: list[str] = Field(default_factory=list, description="Tags that the customer has from now on.")
    remove: list[str] = Field(default_factory=list, description="Tags that the customer has no longer.")


class SetModel(StepBase):
    """Write down facts about the customer: attributes that shop.yaml declares, and tags."""

    set_: dict[str, Given | TagsModel] = Field(
        alias="set",
        description="Attributes, each with an expression or a plain value, and `tags: {add: [vip], remove: [new]}`.",
        min_length=1,
    )
    id: str | None = Field(default=None, description="Name of this step; `set-<first attribute>` unless given.")


class MoveModel(StepBase):
    """Let the customer enter a stage."""

    move: str = Field(description="The stage, as named in stages.yaml.")
    id: str | None = Field(default=None, description="Name of this step; `move-<stage>` unless given.")


class StartModel(StepBase):
    """Start another flow, which says `starts: {asked: true}`; this one goes on."""

    start: str = Field(description="The flow to start.")
    given: dict[str, Given] = Field(
        default_factory=dict, description="What that flow is to know, each under a name, such as `{order: order.id}`."
    )
    id: str | None = Field(default=None, description="Name of this step; `start-<flow>` unless given.")


class StopFlowModel(StepBase):
    """End the customer's runs of another flow; this one goes on."""

    stop_flow: str = Field(description="The flow whose runs end.")
    id: str | None = Field(default=None, description="Name of this step; `stop-<flow>` unless given.")


class WebhookModel(StepBase):
    """Tell another system, by a signed request that is tried for three days."""

    webhook: str = Field(description="Where to, as named in shop.yaml under webhooks.")
    given: dict[str, Given] = Field(
        default_factory=dict, description="What it is told, each under a name, such as `{order: order.id}`."
    )
    id: str | None = Field(default=None, description="Name of this step; `webhook-<name>` unless given.")


class SurveyModel(StepBase):
    """Ask the customer: a mail that holds a scale. The answer is the event `survey.answered`."""

    survey: str = Field(description="The template, which asks with `rate(...)`, such as `email/how-was-it`.")
    id: str | None = Field(default=None, description="Name of this step; the template's own name unless given.")


#: The verbs of steps that act at once, so that the run goes on.
VERBS: Final[Mapping[str, type[BaseModel]]] = {
    "award": AwardModel,
    "redeem": RedeemModel,
    "set": SetModel,
    "move": MoveModel,
    "start": StartModel,
    "stop_flow": StopFlowModel,
    "webhook": WebhookModel,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Award:
    """Points to be given."""

    programme: str
    points: Expression
    because: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Redeem:
    """A reward to be bought with the customer's points."""

    programme: str
    reward: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SetFacts:
    """Attributes to be set, tags to be put on and taken off."""

    values: Mapping[str, Expression]
    add: tuple[str, ...]
    remove: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """A stage to be entered."""

    stage: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Another flow to be started, and what it is to know."""

    flow: str
    given: Mapping[str, Expression]


@dataclass(frozen=True, kw_only=True, slots=True)
class StopFlow:
    """Another flow whose runs are to end."""

    flow: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """Another system to be told, and what."""

    to: str
    given: Mapping[str, Expression]


Doing = Award | Redeem | SetFacts | Move | Start | StopFlow | Webhook

_NAME_MAX: Final = 80
#: The attribute that holds a customer's tags.
TAGS: Final = "tags"


def compile_action(compiler: Compiler, model: Any, path: Path) -> tuple[str, Doing] | None:
    """The name of a step that acts and what it does; None where it cannot be read, which the compiler notes."""
    before = len(compiler.problems)
    name, doing = _compiled(compiler, model, path)
    name = model.id or name
    if len(name) > _NAME_MAX:  # which stands in the key of what it does
        compiler.say(path, f"Give this step a shorter `id`: '{name[:20]}...' has {len(name)} letters, of {_NAME_MAX}.")
    return (name, doing) if len(compiler.problems) == before else None


def _compiled(compiler: Compiler, model: Any, path: Path) -> tuple[str, Doing]:
    match model:
        case AwardModel():
            points = _value(compiler, model.award, (*path, "award"))
            award = Award(programme=model.programme, points=points, because=model.because)
            return f"award-{model.programme}", award
        case RedeemModel():
            return f"redeem-{model.redeem}", Redeem(programme=model.programme, reward=model.redeem)
        case SetModel():
            return f"set-{next(iter(model.set_))}", _facts(compiler, model, path)
        case MoveModel():
            return f"move-{model.move}", Move(stage=model.move)
        case StartModel():
            return f"start-{model.start}", Start(flow=model.start, given=_given(compiler, model.given, path))
        case StopFlowModel():
            return f"stop-{model.stop_flow}", StopFlow(flow=model.stop_flow)
        case WebhookModel():
            return f"webhook-{model.webhook}", Webhook(to=model.webhook, given=_given(compiler, model.given, path))
    raise AssertionError(model)


def _facts(compiler: Compiler, model: SetModel, path: Path) -> SetFacts:
    values: dict[str, Expression] = {}
    tags = TagsModel()
    for name, given in model.set_.items():
        where = (*path, "set", name)
        if isinstance(given, TagsModel):
            tags = given
            if name != TAGS:
                compiler.say(where, "Only `tags` has words to add and remove; an attribute has one value.")
        elif name == TAGS:
            compiler.say(where, "Say which tags to add and which to remove: `tags: {add: [vip], remove: [new]}`.")
        else:
            values[name] = _value(compiler, given, where)
    for tag in sorted({*tags.add} & {*tags.remove}):
        compiler.say((*path, "set", TAGS), f"The tag '{tag}' is to be put on and taken off; say one of the two.")
    return SetFacts(values=values, add=tuple(tags.add), remove=tuple(tags.remove))


def _given(compiler: Compiler, given: Mapping[str, Given], path: Path) -> Mapping[str, Expression]:
    return {name: _value(compiler, value, (*path, "given", name)) for name, value in given.items()}


def _value(compiler: Compiler, given: Given, path: Path) -> Expression:
    """An expression; of one that cannot be read, which the compiler notes, nothing more is asked."""
    written = given if isinstance(given, str) else str(given).lower()
    return compiler.expression(written, path)  # type: ignore[return-value]
