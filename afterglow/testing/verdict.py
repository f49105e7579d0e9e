"""Whether what happened in a test is what was expected."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from afterglow import acting
from afterglow.language.testing import Expected, FlowTest
from afterglow.local_time import from_wall
from afterglow.testing.memory import Lived

#: Kinds that are compared whole wherever a test has an `expect`; the others as soon as one of the kind is listed.
_ALWAYS: Final = frozenset({"send", "notify"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Happened:
    """Something that happened to the minute, of a kind that can be expected."""

    at: datetime
    kind: str
    what: str
    #: The locale of the form in which a mail went; None: the shop's own.
    language: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What a test may call it: a mail by its template, or by the form in which it went."""
        return (self.what, f"{self.what}.{self.language}") if self.language else (self.what,)

    def __str__(self) -> str:
        return f"{self.kind} {self.names[-1]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One row of a comparison: what was expected and what came of it, or nothing on one side.

    `path` is the place in the flow's file of what was expected, `is_wrong` whether the two are not the same.
    """

    at: datetime
    expected: str | None
    got: str | None
    path: tuple[str | int, ...] | None
    is_wrong: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a test proved. `rows` is the whole comparison by time, `failed` the sentences of letters that failed."""

    rows: tuple[Difference, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def is_kept(self) -> bool:
        """Whether everything is as expected."""
        return not self.failed and not any(row.is_wrong for row in self.rows)


def judge(test: FlowTest, lived: Lived) -> Verdict:
    """Compare what happened with `expect` and `never`. A letter that cannot be made fails every test."""
    got = sorted(happened(lived), key=lambda one: (one.at, one.kind, one.what))
    rows = [*_compared(test, lived, got), *_forbidden(test, got)]
    failed = [
        f"{note.message or note.step}: {note.detail.get('because')}" for note in lived.notes if note.verb == "failed"
    ]
    return Verdict(rows=tuple(sorted(rows, key=lambda row: row.at)), failed=tuple(failed))


def happened(lived: Lived) -> Iterator[Happened]:
    """What can be expected of what runs did."""
    for note in lived.notes:
        language = None
        match note.verb:
            case "sent" if note.message is not None and note.message.kind == "team":
                kind, what = "notify", _team(lived, note.run, note.step)
            case "sent":
                kind, what = "send", str(note.detail["template"])
                language = note.detail.get("locale")
            case "skipped" if note.message is not None:
                kind, what = "skipped", note.message.template
            case "stopped":
                kind, what = "stopped", str(note.detail["name"])
            case "unwound":
                kind, what = "stopped", "unwound"
            case "acted":
                for kind, what in _acted(note.detail):
                    yield Happened(at=_minute(note.at), kind=kind, what=what)
                continue
            case "finished" | "ended":
                kind, what = "finished", note.flow
            case _:
                continue
        yield Happened(at=_minute(note.at), kind=kind, what=what, language=language)


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _acted(detail: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What an action can be expected as."""
    match detail["did"]:
        case acting.AWARDED:
            yield "award", str(detail["points"])
        case acting.REDEEM:
            yield "redeem", detail["reward"]
        case acting.SET:
            for name in (*detail.get("set", ()), *(["tags"] if "tags" in detail else [])):
                yield "set", name
        case acting.MOVED:
            yield "move", detail["stage"]
        case acting.ASKED:
            yield "start", detail["flow"]
        case acting.STOP:
            yield "stop_flow", detail["flow"]
        case _:
            yield "webhook", detail["webhook"]


def _team(lived: Lived, run: int, step: str | None) -> str:
    """The team that a note went to, as its run queued it."""
    return next(
        str(note.detail["team"])
        for note in lived.notes
        if note.run == run and note.step == step and note.verb == "queued"
    )


def _compared(test: FlowTest, lived: Lived, got: list[Happened]) -> Iterator[Difference]:
    if test.expect is None:
        return
    kinds = _ALWAYS | {one.kind for one in test.expect}
    ahead = [one for one in got if one.kind in kinds]
    lacking: list[tuple[datetime, Expected]] = []
    for one in test.expect:
        assert one.at is not None
        at = from_wall(one.at, lived.zone)
        match = next((g for g in ahead if (g.at, g.kind) == (at, one.kind) and one.what in g.names), None)
        if match is None:
            lacking.append((at, one))
        else:
            ahead.remove(match)
            yield Difference(at=at, expected=str(match), got=str(match), path=one.path, is_wrong=False)
    for at, one in lacking:
        yield Difference(at=at, expected=f"{one.kind} {one.what}", got=None, path=one.path, is_wrong=True)
    for extra in ahead:
        yield Difference(at=extra.at, expected=None, got=str(extra), path=None, is_wrong=True)


def _forbidden(test: FlowTest, got: list[Happened]) -> Iterator[Difference]:
    never: Mapping[tuple[str, str], Expected] = {(one.kind, one.what): one for one in test.never}
    for one in got:
        rule = next((never[one.kind, name] for name in one.names if (one.kind, name) in never), None)
        if rule is not None:
            yield Difference(at=one.at, expected=f"never {one}", got=str(one), path=rule.path, is_wrong=True)
