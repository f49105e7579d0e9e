"""Two versions of a flow beside each other: what an edit changed, in the words of the file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from afterglow.language.flow.graph import Flow, Step
from afterglow.moving import Passage

#: Lists of steps, which are told step by step.
_LISTS: Final = frozenset({"steps", "then", "else", "arrived", "timed_out"})
#: What is no change of what happens, or is told otherwise.
_UNSAID: Final = frozenset({"flow", "steps", "tests", "id", "was"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A key that says something else now; empty where it did not stand, or stands no more."""

    key: str
    before: str
    after: str

    def __str__(self) -> str:
        match self.before, self.after:
            case "", after:
                return f"{self.key}: {after} (new)"
            case before, "":
                return f"{self.key}: {before} (gone)"
            case before, after:
                return f"{self.key}: {before} -> {after}"


@dataclass(frozen=True, kw_only=True, slots=True)
class StepChange:
    """A step that is new, gone, called otherwise, or says something else. `was` is its old id where it was renamed."""

    step: str
    kind: Literal["added", "removed", "renamed", "changed"]
    was: str | None = None
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowChange:
    """A flow that is new, gone or another one."""

    flow: str
    kind: Literal["added", "removed", "changed"]
    fields: tuple[Field, ...] = ()
    steps: tuple[StepChange, ...] = ()
    #: Whether people inside go over to it.
    moves: bool = False


def flow_change(name: str, old: Flow | None, new: Flow | None) -> FlowChange:
    """What changes from one version of a flow to the other; None where it was not, or is no more."""
    if old is None or new is None:
        return FlowChange(flow=name, kind="added" if old is None else "removed")
    fields = [*_fields(_mapping(old.document.data), _mapping(new.document.data))]
    passage = Passage(old=old, new=new)
    kept = [one for one in old.in_order() if passage.here(one) is not None]
    before, after = [str(passage.here(one)) for one in kept], list(new.in_order())
    after = [one for one in after if one in before]
    if before != after:
        fields.append(Field(key="order", before=", ".join(before), after=", ".join(after)))
    return FlowChange(
        flow=name, kind="changed", fields=tuple(fields), steps=tuple(_steps(passage, kept)), moves=new.moves
    )


def _steps(passage: Passage, kept: Sequence[str]) -> Iterator[StepChange]:
    old, new = passage.old, passage.new
    was = {passage.here(one): one for one in kept}
    for step in new.in_order():
        if step not in was:
            yield StepChange(step=step, kind="added")
            continue
        before, after = old.steps[was[step]], new.steps[step]
        fields = tuple(_fields(_written(old, before), _written(new, after)))
        branch = _branch(before), _branch(after)
        if branch[0] != branch[1]:
            fields += (Field(key="branch", before=branch[0] or "none", after=branch[1] or "none"),)
        if was[step] != step:
            yield StepChange(step=step, kind="renamed", was=was[step], fields=fields)
        elif fields:
            yield StepChange(step=step, kind="changed", fields=fields)
    for step in old.in_order():
        if step not in kept:
            yield StepChange(step=step, kind="removed")


def _fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Field]:
    for key in dict.fromkeys([*before, *after]):
        if key not in _UNSAID and key not in _LISTS:
            said = _said(before.get(key)), _said(after.get(key))
            if said[0] != said[1]:
                yield Field(key=key, before=said[0], after=said[1])


def _said(value: object) -> str:
    """A value as it may stand in a file, in one line, without the steps in it."""
    match value:
        case None:
            return ""
        case True | False:
            return str(value).lower()
        case Mapping():
            inner = ", ".join(f"{key}: {_said(one)}" for key, one in value.items() if key not in _LISTS)
            return f"{{{inner}}}"
        case list():
            return f"[{', '.join(_said(one) for one in value)}]"
        case _:
            return str(value)


def _written(flow: Flow, step: Step) -> Mapping[str, Any]:
    """What stands in the file, or in a piece, for a step; nothing where it does not stand there."""
    try:
        return _mapping(flow.written(step.path))
    except (KeyError, IndexError, TypeError):
        return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _branch(step: Step) -> str:
    """The branches in which a step stands, from the outermost; empty where it stands in none."""
    return " ".join(str(part) for part in step.path[1:-1] if part in _LISTS)
