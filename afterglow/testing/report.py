"""A test that failed, for people: expected and got side by side by time, and why, as `afterglow why` says it."""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from afterglow.telling import Line
from afterglow.testing.verdict import Difference, Verdict

_NOTHING = "nothing"


def comparison(verdict: Verdict, zone: ZoneInfo) -> list[str]:
    """Expected and got, a line for each moment; what is wrong begins with a mark."""
    lines = [f"! {sentence}" for sentence in verdict.failed]
    if not verdict.rows:
        return lines
    cells = [_cells(row, zone) for row in verdict.rows]
    head = ("", f"at, {zone.key}", "expected", "got")
    widths = [max(len(row[n]) for row in (head, *cells)) for n in range(4)]
    return lines + [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *cells)
    ]


def reasons(lines: Sequence[Line]) -> list[str]:
    """What happened, in the words of `afterglow why`."""
    return [str(line) for line in lines]


def sentence(row: Difference, zone: ZoneInfo) -> str:
    """One difference in one sentence, for annotations."""
    at = wall(row.at, zone)
    if row.expected is None:
        return f"At {at} this was not expected: {row.got}."
    if row.expected.startswith("never "):
        return f"This must never happen, and did at {at}: {row.got}."
    return f"Expected at {at}, and did not happen: {row.expected}."


def wall(moment: datetime, zone: ZoneInfo) -> str:
    """A moment on the customer's clock: `Mon 2 Mar 2026 09:00`."""
    local = moment.astimezone(zone)
    return f"{local:%a} {local.day} {local:%b %Y %H:%M}"


def _cells(row: Difference, zone: ZoneInfo) -> tuple[str, str, str, str]:
    mark = " " if not row.is_wrong else "+" if row.expected is None else "-" if row.got is None else "!"
    return mark, wall(row.at, zone), row.expected or _NOTHING, row.got or _NOTHING
