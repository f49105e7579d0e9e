"""What the steps of a flow that act come to for one run. Pure, and the same words in production and in tests.

Every action is an event of our own: it is told, under a key made of the run and the step, and done by whoever hears it
(`workers.acting`). So it happens once, in the order of events, and flows, `why` and a replay of history see it.
What is set and the stage that is entered are true for the run at once, and written in the same transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from math import floor
from typing import Any, Final

from afterglow.expressions import MISSING, Expression
from afterglow.language.actions import TAGS, Award, Doing, Move, Redeem, SetFacts, Start, StopFlow, Webhook
from afterglow.language.programme import POINTS_MAX
from afterglow.language.shop import Kind
from afterglow.learn import is_kind
from afterglow.person import Person

#: Points for a customer, of a programme.
AWARDED: Final = "points.awarded"
#: A reward is to be bought with the customer's points, and what came of it.
REDEEM: Final = "reward.asked"
REDEEMED: Final = "reward.redeemed"
REFUSED: Final = "reward.refused"
#: Facts were set.
SET: Final = "customer.set"
#: A stage was entered.
MOVED: Final = "stage.moved"
#: A flow is to start.
ASKED: Final = "flow.asked"
#: The runs of a flow are to end.
STOP: Final = "flow.stopped"
#: Another system is to be told.
POSTED: Final = "webhook.asked"

#: The events of actions that are still to be done when they are heard, and of those that only tell.
ACTIONS: Final = frozenset({AWARDED, REDEEM, SET, MOVED, ASKED, STOP, POSTED})


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """Something that a run does besides sending: the event of ours that tells of it.

    Attributes:
      step: the step that does it; a run does it once.
      stage: the stage that the customer enters by it.
      facts: what it changes of `customer` for expressions, at once.
      detail: what `why` is told: names and numbers, never personal data.
    """

    step: str
    event: str
    payload: Mapping[str, Any]
    detail: Mapping[str, Any]
    stage: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Undone:
    """An action that comes to nothing for this run, and why."""

    because: str


def acted(step: str, doing: Doing, names: Mapping[str, Any], kinds: Mapping[str, Kind]) -> Action | Undone:
    """What a step comes to.

    Args:
      names: what expressions know.
      kinds: the attributes that the shop declares; a value of another kind is not set.
    """
    match doing:
        case Award():
            return _award(step, doing, names)
        case Redeem():
            what = {"programme": doing.programme, "reward": doing.reward}
            return Action(step=step, event=REDEEM, payload=what, detail=what)
        case SetFacts():
            return _set(step, doing, names, kinds)
        case Move():
            what = {"stage": doing.stage}
            return Action(
                step=step, event=MOVED, payload=what, detail=what, stage=doing.stage, facts={"stage": doing.stage}
            )
        case Start():
            given = _given(doing.given, names)
            payload = {"flow": doing.flow, **({"given": given} if given else {})}
            return Action(step=step, event=ASKED, payload=payload, detail={"flow": doing.flow})
        case StopFlow():
            what = {"flow": doing.flow}
            return Action(step=step, event=STOP, payload=what, detail=what)
        case Webhook():
            payload = {"webhook": doing.to, "given": _given(doing.given, names)}
            return Action(step=step, event=POSTED, payload=payload, detail={"webhook": doing.to})


def _award(step: str, doing: Award, names: Mapping[str, Any]) -> Action | Undone:
    value = doing.points.value(names)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return Undone(because=f"{doing.points.text} is no number")
    points = min(floor(value), POINTS_MAX)
    if points < 1:
        return Undone(because=f"{doing.points.text} comes to {points} points")
    what = {"programme": doing.programme, "points": points}
    because = {"because": doing.because} if doing.because else {}
    return Action(step=step, event=AWARDED, payload={**what, **because}, detail={**what, **because})


def _set(step: str, doing: SetFacts, names: Mapping[str, Any], kinds: Mapping[str, Kind]) -> Action | Undone:
    values, left_out = {}, []
    for name, expression in doing.values.items():
        value = plain(expression.value(names))
        if value is not None and name in kinds and is_kind(value, kinds[name]):
            values[name] = value
        else:
            left_out.append(name)
    if not values and not doing.add and not doing.remove:
        return Undone(because=f"there is nothing to set of {', '.join(left_out)}")
    before = names.get("customer", {}).get(TAGS) or []
    facts = dict(values)
    payload: dict[str, Any] = {"attributes": values}
    detail: dict[str, Any] = {"set": [*values]} if values else {}
    if left_out:
        detail["left_out"] = left_out
    if doing.add or doing.remove:
        facts[TAGS] = tagged(before, doing.add, doing.remove)
        payload[TAGS] = {"add": [*doing.add], "remove": [*doing.remove]}
        detail[TAGS] = [f"+{tag}" for tag in doing.add] + [f"-{tag}" for tag in doing.remove]
    return Action(step=step, event=SET, payload=payload, detail=detail, facts=facts)


def tagged(before: list[str], add: tuple[str, ...], remove: tuple[str, ...]) -> list[str]:
    """Tags after some were put on and some taken off, in order."""
    return sorted({*before, *add} - {*remove})


def _given(given: Mapping[str, Expression], names: Mapping[str, Any]) -> dict[str, Any]:
    """What is told, by name; what is missing is left out."""
    values = {name: plain(expression.value(names)) for name, expression in given.items()}
    return {name: value for name, value in values.items() if value is not None}


def plain(value: object) -> Any:
    """A value as JSON holds it; None for what is missing."""
    match value:
        case datetime() | date():
            return value.isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case list():
            return [plain(one) for one in value]
        case Mapping():
            return {str(name): plain(one) for name, one in value.items()}
        case _:
            return None if value is MISSING else value


def take_to_heart(person: Person, action: Action, at: datetime) -> None:
    """Change a customer by what an action sets, and by the stage that it moves them to."""
    if action.stage is not None:
        person.stage, person.stage_at = action.stage, max(at, person.stage_at or at)
    elif action.facts:
        person.attributes.update(action.facts)
        person.updated_at = max(at, person.updated_at or at)
