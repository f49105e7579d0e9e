"""A flow as lines for people to read: its steps in the order of the file, branches indented."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from afterglow.language.flow import Flow, If, Notify, Send, Split, Step, Stop, Wait, WaitFor

#: The keys under which branches stand in a file, in the order in which they are read, as people say them.
_BRANCHES: Mapping[str, str] = {
    "arrived": "it came",
    "timed_out": "it did not come",
    "then": "true",
    "else": "not true",
}
_ORDER = ("steps", "split", *_BRANCHES)


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
        where = step.path[:-1]
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
            raw = _raw(flow, (*before, "split", n))
            return f"branch {raw['name']}, weight {raw['weight']}"
        case (*_, str(last)) if last in _BRANCHES:
            return _BRANCHES[last]
        case _:
            return None


def _sentence(flow: Flow, step: Step) -> tuple[str, str]:
    raw = _raw(flow, step.path)
    match step:
        case Send():
            return "send", f"Send {step.template}"
        case Wait():
            until = f", until {step.at:%H:%M} where the customer lives" if step.at else ""
            return "wait", f"Wait {raw['wait']}{until}"
        case WaitFor():
            same = f" of the same {step.same.text}" if step.same else ""
            limit = f", for up to {raw['for_up_to']}" if raw.get("for_up_to") else ""
            return "wait for", f"Wait for {step.event}{same}{limit}"
        case If():
            return "if", f"Look whether {step.test.text}"
        case Split():
            return "split", "Divide customers between branches"
        case Notify():
            return "notify", f"Notify {step.team}"
        case Stop():
            return "stop", f"End here: {step.reason}"


def _raw(flow: Flow, path: tuple[str | int, ...]) -> Any:
    value: Any = flow.document.data
    for part in path:
        value = value[part]
    return value
