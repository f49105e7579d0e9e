"""A flow as lines for people to read: its steps in the order of the file, branches indented."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from afterglow.language.actions import VERBS as ACTIONS
from afterglow.language.actions import Award, Doing, Move, Redeem, SetFacts, Start, StopFlow, Webhook
from afterglow.language.flow.graph import (
    Act,
    Flow,
    If,
    Notify,
    Send,
    Split,
    Step,
    Stop,
    Until,
    UntilDate,
    Wait,
    WaitFor,
)
from afterglow.language.flow.models import WEEKDAYS
from afterglow.language.pieces import stands_in
from afterglow.local_time import Opening

#: The keys under which branches stand in a file, in the order in which they are read, as people say them.
_BRANCHES: Mapping[str, str] = {
    "arrived": "it came",
    "timed_out": "it did not come",
    "then": "true",
    "else": "not true",
}
_ORDER = ("steps", "use", "split", "wait_for", "arrived", "timed_out", "then", "elif", "else")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLine:
    """One step: how deep it stands, under which branch (told at its first step), what it does."""

    id: str
    depth: int
    branch: str | None
    verb: str
    sentence: str


def outline(flow: Flow) -> tuple[StepLine, ...]:
    """The steps of a flow in the order of its file."""
    return tuple(_lines(flow))


def _lines(flow: Flow) -> Iterator[StepLine]:
    told: set[tuple[str | int, ...]] = set()
    for step in sorted(flow.steps.values(), key=lambda step: _place(step.path)):
        where, _ = stands_in(step.path)
        branch = None if where in told else _branch(flow, where)
        told.add(where)
        verb, sentence = _sentence(flow, step)
        depth = sum(1 for part in where if part in _BRANCHES or part == "split")
        yield StepLine(id=step.id, depth=depth, branch=branch, verb=verb, sentence=sentence)


def _place(path: tuple[str | int, ...]) -> tuple[int, ...]:
    return tuple(part if isinstance(part, int) else _ORDER.index(part) for part in path)


def _branch(flow: Flow, where: tuple[str | int, ...]) -> str | None:
    """What leads to the list of steps at a path, in words; None for the flow's own list."""
    match where:
        case (*before, "split", int(n), "steps"):
            written = flow.written((*before, "split", n))
            return f"branch {written['name']}, weight {written['weight']}"
        case (*before, "wait_for", int(n), "arrived"):
            return f"{flow.written((*before, 'wait_for', n))['event']} came"
        case (*before, "timed_out") if isinstance(flow.written((*before, "wait_for")), list):
            return "none of them came"
        case (*before, "elif", int(n), "then"):
            return f"else, if {flow.written((*before, 'elif', n))['if']}"
        case (*before, "else") if flow.written(tuple(before)).get("elif"):
            return "none of them true"
        case (*_, str(last)) if last in _BRANCHES:
            return _BRANCHES[last]
        case _:
            return None


def _sentence(flow: Flow, step: Step) -> tuple[str, str]:
    written = flow.written(step.path)
    match step:
        case Send(asks=True):
            return "survey", f"Ask by {step.template}"
        case Send():
            return "send", f"Send {step.template}"
        case Act():
            return next(iter(written.keys() & ACTIONS.keys())).replace("_", " "), _action(step.does)
        case Wait():
            until = f", until {step.at:%H:%M} where the customer lives" if step.at else ""
            return "wait", f"Wait {written['wait']}{until}"
        case Until():
            return "until", f"Wait until {_opening(step.opening)} where the customer lives"
        case UntilDate():
            offset = f", {_offset(written['offset'])}" if written.get("offset") else ""
            at = f", at {step.at:%H:%M} where the customer lives" if step.at else ""
            past = "end here" if step.stops else "skip to the next date" if step.skips else "go on"
            return "until", f"Wait until {step.named}{offset}{at}; {past} where that is missing or past"
        case WaitFor():
            events = [each.event + (f" of the same {each.same.text}" if each.same else "") for each in step.awaited]
            return "wait for", f"Wait for {' or '.join(events)}, for up to {written['for_up_to']}"
        case If():
            return "if", f"Look whether {step.ways[0].test.text}"
        case Split():
            return "split", "Divide customers between branches"
        case Notify():
            due = f", due in {written['due']}" if written.get("due") else ""
            return "notify", f"Notify {step.team}{f': {step.task.name}' if step.task else ''}{due}"
        case Stop():
            return "stop", f"End here: {step.reason}"


def _action(does: Doing) -> str:
    match does:
        case Award():
            return f"Award {does.points.text} {does.programme}{f' ({does.because})' if does.because else ''}"
        case Redeem():
            return f"Redeem {does.reward} for {does.programme}"
        case SetFacts():
            values = [f"{name} to {value.text}" for name, value in does.values.items()]
            tags = [f"tag +{tag}" for tag in does.add] + [f"tag -{tag}" for tag in does.remove]
            return f"Set {', '.join([*values, *tags])}"
        case Move():
            return f"Move to stage {does.stage}"
        case Start():
            return f"Start flow {does.flow}"
        case StopFlow():
            return f"End the runs of flow {does.flow}"
        case Webhook():
            return f"Tell {does.to}"


def _opening(opening: Opening) -> str:
    """The times of the week in words: `Tuesday or Friday, 10:00`."""
    days = "" if len(opening.weekdays) == 7 else " or ".join(WEEKDAYS[n].capitalize() for n in sorted(opening.weekdays))
    if opening.end is None:
        hours = f"{opening.start:%H:%M}"
    elif opening.start == opening.end:
        hours = ""
    else:
        hours = f"between {opening.start:%H:%M} and {opening.end:%H:%M}"
    return ", ".join(part for part in (days, hours) if part)


def _offset(offset: str) -> str:
    return f"{offset.removeprefix('-')} {'before' if offset.startswith('-') else 'after'}"
