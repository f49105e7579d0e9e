"""Dividing a file into records: CSV with commas, semicolons or tabs, and JSON Lines."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from afterglow.importing.columns import ColumnsError

#: Format by the end of a file's name, before `.gz`.
FORMATS: Final[Mapping[str, str]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_DELIMITERS: Final = (",", ";", "\t")
#: A record that reads as longer has a quote too many.
LONGEST_RECORD: Final = 1_000_000


class BadRow(NamedTuple):
    """A record that cannot be taken in, and why."""

    line: int
    reason: str


class Record(NamedTuple):
    """One record: the line on which it begins, and its values by our names of the columns."""

    line: int
    values: Mapping[str, Any]


#: Our names of the columns, by those of the file.
Columns = Callable[[Sequence[str]], list[str | None]]


def format_of(name: str) -> str | None:
    """The format that a file's name tells; None where it tells none."""
    lower = name.lower().removesuffix(".gz")
    return next((found for end, found in FORMATS.items() if lower.endswith(end)), None)


def records(form: str, lines: Iterable[str], columns: Columns) -> Iterator[Record | BadRow]:
    """The records of a file in the order of their lines.

    Args:
      form: csv or jsonl.
      lines: with their ends; what was not UTF-8 reads as U+FFFD.
      columns: names the columns, once for CSV, for each new set of names for JSON Lines.

    Raises:
      ColumnsError: what `columns` raises for the header of a CSV file, or there is no header.
    """
    return _csv(lines, columns) if form == "csv" else _json(lines, columns)


class _Watched:
    """Lines on their way to the CSV reader; remembers whether one of a record could not be read."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.is_broken = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if "\ufffd" in line or "\0" in line:
            self.is_broken = True
        return line


def _csv(lines: Iterable[str], columns: Columns) -> Iterator[Record | BadRow]:
    watched = _Watched(lines)
    head = next(watched, "").removeprefix("\ufeff")
    if not head.strip():
        raise ColumnsError("The file is empty; its first line should name the columns.")
    delimiter = max(_DELIMITERS, key=head.count)
    header = next(csv.reader([head], delimiter=delimiter))
    names = columns(header)
    reader = csv.reader(watched, delimiter=delimiter)
    before = csv.field_size_limit(LONGEST_RECORD)
    width = len(names)
    watched.is_broken = False
    wanted = [(at, name) for at, name in enumerate(names) if name is not None]
    is_whole = len(wanted) == width
    try:
        while True:
            line = reader.line_num + 2
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                watched.is_broken = False
                yield BadRow(line, f"it cannot be divided into columns: {error}")
                continue
            if not fields or (len(fields) == 1 and not fields[0].strip() and width > 1):
                continue
            if watched.is_broken:
                watched.is_broken = False
                yield BadRow(line, "it holds bytes that are not UTF-8; save the file as UTF-8")
            elif len(fields) != width:
                yield BadRow(line, f"it has {len(fields)} columns where the first line names {width}")
            elif is_whole:
                yield Record(line, dict(zip(names, fields, strict=True)))  # type: ignore[arg-type]
            else:
                yield Record(line, {name: fields[at] for at, name in wanted})
    finally:
        csv.field_size_limit(before)


def _json(lines: Iterable[str], columns: Columns) -> Iterator[Record | BadRow]:
    known: dict[tuple[str, ...], dict[str, str | None]] = {}
    for line, text in enumerate(lines, start=1):
        text = text.removeprefix("\ufeff") if line == 1 else text
        if not text.strip():
            continue
        if "\ufffd" in text or "\\u0000" in text:
            yield BadRow(line, "it holds bytes that are not UTF-8; save the file as UTF-8")
            continue
        try:
            values = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            yield BadRow(line, f"it is not JSON: {error.msg} at character {error.pos}")
            continue
        if not isinstance(values, dict):
            yield BadRow(line, "it is JSON, but not an object")
            continue
        header = tuple(values)
        if header not in known:
            try:
                known[header] = dict(zip(header, columns(header), strict=True))
            except ColumnsError as error:
                yield BadRow(line, str(error))
                continue
        ours = known[header]
        yield Record(line, {name: value for old, value in values.items() if (name := ours[old]) is not None})
