"""CSV that a spreadsheet may open: a cell that would be read as a formula is text (OWASP, CSV Injection)."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

#: What makes a spreadsheet take a cell for a formula, or skip ahead to one.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The rows as CSV (RFC 4180) under a line of column names. Numbers stay numbers; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return value
