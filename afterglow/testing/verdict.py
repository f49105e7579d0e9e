"""Whether what happened in a test is what was expected."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from afterglow import acting
from afterglow.language.testing import Expected, FlowTest
from afterglow.local_time import from_wall
from afterglow.testing.memory import Lived, Note

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
    #: Of a note to a team: the task, and the day by which it is due.
    task: str | None = None
    due: date | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What a test may call it: a mail by its template, or by the form in which it went."""
        return (self.what, f"{self.what}.{self.language}") if self.language else (self.what,)

    def is_what(self, one: Expected) -> bool:
        """Whether it is what an expectation names, whenever."""
        names_it = self.kind == one.kind and one.what in self.names
        return names_it and one.task in (None, self.task) and one.due in (None, self.due)

    def __str__(self) -> str:
        return _told(self.kind, self.names[-1], self.task, self.due)


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


def _told(kind: str, what: str, task: str | None, due: date | None) -> str:
    """Something that happens, or must, in one line: `notify customer-care: call, due 2026-03-04`."""
    return f"{kind} {what}{f': {task}' if task else ''}{f', due {due}' if due else ''}"


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
                yield _notified(note, lived)
                continue
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


def _notified(sent: Note, lived: Lived) -> Happened:
    """A note to a team that went, with what its run queued it for."""
    queued = next(one for one in lived.notes if (one.run, one.step, one.verb) == (sent.run, sent.step, "queued"))
    due = queued.detail.get("due")
    return Happened(
        at=_minute(sent.at),
        kind="notify",
        what=str(queued.detail["team"]),
        task=queued.detail.get("task"),
        due=date.fromisoformat(due) if due else None,
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
        match = next((g for g in ahead if g.at == at and g.is_what(one)), None)
        if match is None:
            lacking.append((at, one))
        else:
            ahead.remove(match)
            yield Difference(at=at, expected=str(match), got=str(match), path=one.path, is_wrong=False)
    for at, one in lacking:
        expected = _told(one.kind, one.what, one.task, one.due)
        yield Difference(at=at, expected=expected, got=None, path=one.path, is_wrong=True)
    for extra in ahead:
        yield Difference(at=extra.at, expected=None, got=str(extra), path=None, is_wrong=True)


def _forbidden(test: FlowTest, got: list[Happened]) -> Iterator[Difference]:
    for one in got:
        rule = next((rule for rule in test.never if one.is_what(rule)), None)
        if rule is not None:
            yield Difference(at=one.at, expected=f"never {one}", got=str(one), path=rule.path, is_wrong=True)
