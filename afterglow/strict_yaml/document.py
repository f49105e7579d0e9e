"""From the text of a file to plain data with positions.

Only a part of YAML is accepted. Events of the parser are looked at before anything is built, so an anchor
never expands and nothing nests deeply. Kinds follow the core schema of YAML 1.2, narrowed: `true`, `false`,
`null`, `~`, nothing at all, and numbers whose plain spelling is exactly what was written. All else is text:
`10:30`, `on`, `NO`, `+1555`, `0123`, `1e3`, `2026-03-02`. A number can therefore always be turned back into
the text it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import yaml
from yaml.error import MarkedYAMLError, YAMLError
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from afterglow.problems import Problem, Problems

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 20
MAX_NODES: Final = 20_000
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}", re.ASCII)
_TAB_BEFORE_TEXT = re.compile(r"^ *\t[ \t]*(?=\S)", re.MULTILINE)
#: What YAML allows nowhere, and what libyaml takes for the end of a line as YAML 1.1 did and 1.2 does not.
_INVISIBLE = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
#: Blank lines and comments, then a directive, which can only stand before the document.
_DIRECTIVE = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*%")
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None, "~": None, "": None}
_SPELLED: Final = {True: "true", False: "false"}
#: What libyaml says most often, in words for somebody who does not know YAML's terms.
_SENTENCES: Final = (
    ("mapping values are not allowed", "A ': ' does not belong here; put the text in quotes."),
    ("could not find expected ':'", "A ':' is missing after this key."),
    ("cannot start any token", "This character cannot begin a value; put the text in quotes."),
    ("found unexpected end of stream", "A quote is opened and never closed."),
    ("found unknown escape character", "In double quotes '\\' begins an escape; use single quotes here."),
    ("did not find expected key", "This line is not indented like the lines it belongs to."),
    ("did not find expected '-' indicator", "This line is not indented like the lines it belongs to."),
    ("did not find expected ',' or", "A ',' or a closing bracket is missing here."),
    ("while parsing a flow node", "A value is missing here, or belongs in quotes."),
)  # fmt: skip

#: Of them, those that are noticed further down than where they are.
_LATE: Final = ("could not find expected ':'", "found unexpected end of stream")

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a value stands (from 1), and how: `style` is YAML's quote or block sign, empty for plain."""

    line: int
    col: int
    style: str = ""


@dataclass(frozen=True)
class Document:
    """A file as plain data: dict, list, str, int, bool, Decimal and None. Keys are always text."""

    data: object
    file: str
    text: str = field(repr=False)
    _values: dict[Path, _Place] = field(repr=False)
    _keys: dict[Path, _Place] = field(repr=False)

    def place(self, path: Path) -> tuple[int, int]:
        """Line and column (from 1) of the value at a path, or of the nearest value around it."""
        found = self._nearest(path)
        return found.line, found.col

    def key_place(self, path: Path) -> tuple[int, int]:
        """Line and column of the key at a path; of the value where there is no key (entries of a list)."""
        found = self._keys.get(tuple(path)) or self._nearest(path)
        return found.line, found.col

    def place_inside(self, path: Path, line: int, col: int) -> tuple[int, int]:
        """The place in the file of a line and column inside the text at a path.

        Exact for text on one line and for `|` blocks; folded text does not keep its lines, so there it is the
        place where the text begins.
        """
        found = self._nearest(path)
        if found.style == "|":
            lines = self.text.splitlines()[found.line :]
            first = next((text for text in lines if text.strip()), "")
            return found.line + line, len(first) - len(first.lstrip(" ")) + col
        if line != 1 or found.style == ">":
            return found.line, found.col
        return found.line, found.col + col - 1 + (1 if found.style in ("'", '"') else 0)

    def problem(self, path: Path, message: str) -> Problem:
        """A sentence about the value at a path."""
        return Problem(self.file, *self.place(path), message)

    def key_problem(self, path: Path, message: str) -> Problem:
        """A sentence about the key at a path."""
        return Problem(self.file, *self.key_place(path), message)

    def _nearest(self, path: Path) -> _Place:
        path = tuple(path)
        while path and path not in self._values:
            path = path[:-1]
        return self._values.get(path, _Place(1, 1))


def load(text: str, file: str) -> Document:
    """Read strict YAML. Raises Problems with all that is wrong, as far as the text could be read.

    Refused: keys given twice, anchors, aliases, tags, merge keys, directives, several documents, keys that
    are no plain text, tabs before text, more than 256 KB, more than 20 levels or 20,000 values, and what
    YAML itself refuses.
    """
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise Problems([Problem(file, 1, 1, f"The file is larger than {MAX_BYTES // 1024} KB.")])
    reading = _Reading(text.removeprefix("\ufeff"), file)
    data = reading.document()
    if reading.problems:
        raise Problems(reading.problems)
    return Document(data, file, reading.text, reading.values, reading.keys)


class _Stop(Exception):
    """Reading cannot go on; the problem is noted."""


class _Reading:
    """One file being read: its events, what has been noted so far, and what was wrong."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.problems: list[Problem] = []
        self.values: dict[Path, _Place] = {}
        self.keys: dict[Path, _Place] = {}
        self._events: Iterator[Event] = iter(())
        self._nodes = 0

    def document(self) -> object:
        for tab in _TAB_BEFORE_TEXT.finditer(self.text):
            line = self.text.count("\n", 0, tab.start()) + 1
            col = tab.group().index("\t") + 1
            self.problems.append(Problem(self.file, line, col, "A tab stands here; indent with spaces."))
        directive = _DIRECTIVE.match(self.text)
        if directive:
            line = self.text.count("\n", 0, directive.end()) + 1
            self.problems.append(Problem(self.file, line, 1, "Lines that begin with '%' are not used here."))
            return None
        invisible = _INVISIBLE.search(self.text)
        if invisible:
            line = self.text.count("\n", 0, invisible.start()) + 1
            col = invisible.start() - self.text.rfind("\n", 0, invisible.start())
            self.problems.append(Problem(self.file, line, col, "An invisible control character stands here."))
            return None
        self._events = yaml.parse(self.text, Loader=yaml.CSafeLoader)
        data: object = None
        try:
            data = self._only_document()
        except _Stop:
            pass
        except MarkedYAMLError as error:
            self._syntax(error)
        except YAMLError as error:
            self.problems.append(Problem(self.file, 1, 1, f"This is not YAML: {' '.join(str(error).split())}."))
        return data

    def _only_document(self) -> object:
        data: object = None
        documents = 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._note(event, "A second document begins here; a file holds one.")
                    raise _Stop
            elif isinstance(event, StreamStartEvent | StreamEndEvent):
                continue
            elif isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent | AliasEvent):
                data = self._value(event, (), 1)
        return data

    def _syntax(self, error: MarkedYAMLError) -> None:
        said = f"{error.context or ''} {error.problem or ''}"
        mark = error.problem_mark or error.context_mark
        # What is opened and not closed, and a key without ':', is noticed only on a later line.
        if mark is None or mark.line > self.text.count("\n") or any(part in said for part in _LATE):
            mark = error.context_mark or mark
        line, col = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if any(problem.line == line for problem in self.problems):
            return  # the tab or the alias on this line says it better
        sentence = next((ours for theirs, ours in _SENTENCES if theirs in said), None)
        self.problems.append(Problem(self.file, line, col, sentence or f"This is not YAML: {' '.join(said.split())}."))

    def _note(self, event: Event, message: str) -> None:
        self.problems.append(Problem(self.file, *_at(event), message))

    def _value(self, event: Event, path: Path, depth: int) -> object:
        """The value that begins with an event; reads on to its end."""
        self._count(event)
        if isinstance(event, AliasEvent):
            self._note(event, "'*' refers to another place; write the text out, or put it in quotes.")
            return None
        assert isinstance(event, ScalarEvent | CollectionStartEvent), event  # the parser's grammar
        self._decorations(event)
        line, col = _at(event)
        self.values[path] = _Place(line, col, (event.style or "") if isinstance(event, ScalarEvent) else "")
        if isinstance(event, ScalarEvent):
            if not event.style and event.value == "" and path in self.keys:
                self.values[path] = self.keys[path]  # nothing has no place; the parser gives that of the next token
            return _typed(event.value) if not event.style else event.value
        if depth > MAX_DEPTH:
            self._note(event, f"This is nested more than {MAX_DEPTH} levels deep.")
            raise _Stop
        if isinstance(event, SequenceStartEvent):
            return self._list(path, depth)
        return self._dict(path, depth)

    def _count(self, event: Event) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._note(event, f"The file has more than {MAX_NODES:,} values.")
            raise _Stop

    def _decorations(self, event: ScalarEvent | CollectionStartEvent) -> None:
        if event.anchor is not None:
            name = str(event.anchor)[:40]
            self._note(event, f"'&{name}' names a place to copy from; write the text out where it is needed.")
        if event.tag is not None:
            name = str(event.tag)[:40]
            self._note(event, f"'{name}' is a tag; leave it out, or put the text in quotes.")

    def _list(self, path: Path, depth: int) -> list[object]:
        items: list[object] = []
        for event in self._events:
            if isinstance(event, SequenceEndEvent):
                break
            items.append(self._value(event, (*path, len(items)), depth + 1))
        return items

    def _dict(self, path: Path, depth: int) -> dict[str, object]:
        entries: dict[str, object] = {}
        for event in self._events:
            if isinstance(event, MappingEndEvent):
                break
            key = self._key(event, depth)
            key_path = (*path, key)
            if key in entries:
                line = self.keys[key_path].line
                self._note(event, f"'{key}' is already given on line {line}; keep one of the two.")
            else:
                self.keys[key_path] = _Place(*_at(event))
            entries[key] = self._value(next(self._events), key_path, depth + 1)
        return entries

    def _key(self, event: Event, depth: int) -> str:
        self._count(event)
        if not isinstance(event, ScalarEvent):
            message = "'*' refers to another place" if isinstance(event, AliasEvent) else "A key is plain text"
            self._note(event, f"{message}; write the text out, or put it in quotes.")
            raise _Stop
        self._decorations(event)
        if self.text[max(0, event.start_mark.index - 1) : event.start_mark.index] == "?":
            # libyaml takes it for the sign of a key, as YAML 1.1 did inside brackets (YAML 1.2.2, 7.3.3).
            self._note(event, "A '?' stands before this; put the text in quotes.")
        if event.value == "<<" and not event.style:
            self._note(event, "'<<' merges another group of keys; write the keys out.")
        return str(event.value)


def _at(event: Event) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _typed(plain: str) -> object:
    """What a plain scalar is: a word of `_WORDS`, a number that is spelled like this, otherwise its text."""
    if plain in _WORDS:
        return _WORDS[plain]
    if _WHOLE.fullmatch(plain):
        return int(plain)
    if _DECIMAL.fullmatch(plain) and str(Decimal(plain)) == plain:
        return Decimal(plain)
    return plain


def written(value: object) -> str:
    """A plain value the way it stood in the file."""
    if isinstance(value, bool):
        return _SPELLED[value]
    return "" if value is None else str(value)
