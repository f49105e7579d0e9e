"""Texts with expressions in them: subjects, mails, notices.

A text is compiled once into its static parts and the closures between them. Rendering appends to one list;
the size of what is written and the rounds of its loops are bounded, so that no payload can make it run away.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from html import escape as escape_html
from typing import Any, Final, assert_never

from afterglow.expressions.evaluate import MAX_LOOKS, NO_FUNCTIONS, Evaluate, Facts, Functions, Work, compiled
from afterglow.expressions.parse import Reader
from afterglow.expressions.tree import Block, Constant, Filtered, Loop, Output, RenderError, Static, When
from afterglow.expressions.values import MISSING, as_text, is_absent, plain

#: Rounds of all loops of one rendering together.
MAX_ROUNDS: Final = 1_000
#: Characters written by one rendering.
MAX_OUTPUT: Final = 1_000_000


class _Writing(Work):
    """One rendering under way: what is written so far and how much more may be."""

    __slots__ = ("escape", "parts", "room", "rounds_left")

    def __init__(self, functions: Functions, escape: bool) -> None:
        super().__init__(functions)
        self.parts: list[str] = []
        self.escape = escape
        self.rounds_left = MAX_ROUNDS
        self.room = MAX_OUTPUT

    def looked(self, line: int, col: int) -> None:
        """Once more something was worked out, at a place of the text.

        Raises:
          RenderError: that was too much by now.
        """
        if not self.may_look(1):
            raise RenderError(f"there are more than {MAX_LOOKS:,} values to look at", line, col)


_Write = Callable[[_Writing, Facts], None]


@dataclass(frozen=True, kw_only=True)
class Text:
    """A template. `names` are the dotted names it reads (loop variables aside), `calls` its calls."""

    text: str
    names: frozenset[str] = field(compare=False)
    calls: frozenset[tuple[str, tuple[object, ...]]] = field(compare=False)
    _blocks: tuple[Block, ...] = field(compare=False, repr=False)
    _write: tuple[_Write, ...] = field(compare=False, repr=False)

    def with_constants(self, facts: Facts, *, escape: bool) -> Text:
        """The same text with everything written already that depends on these facts alone.

        What all customers share, such as the shop's name and colours, is most of a mail: written once, it costs
        nothing for each of them. An expression that has nothing to write stays, and says so when it is rendered.
        """
        blocks = _settled(self._blocks, facts, escape)
        return replace(self, _blocks=blocks, _write=_compiled_blocks(blocks))

    def spoken_in(self, locale: str) -> Text:
        """The same text with dates and prices written in the language of a locale, unless they name one themselves."""
        blocks = _spoken(self._blocks, locale)
        return replace(self, _blocks=blocks, _write=_compiled_blocks(blocks))

    def render(self, facts: Facts, functions: Functions = NO_FUNCTIONS, *, escape: bool) -> str:
        """The text for one customer. With `escape`, what expressions write is safe in HTML text and
        attributes.

        Raises RenderError when an expression has nothing to write, when loops go round more than 1,000 times
        altogether, or when the text grows beyond 1,000,000 characters. What a function raises passes through.
        """
        writing = _Writing(functions, escape)
        for write in self._write:
            write(writing, facts)
        return "".join(writing.parts)


def parse_text(text: str, *, functions: Collection[str]) -> Text:
    """Read a template: `{{ expression }}`, `{% if %}`, `{% for item in list %}` and `{# comments #}`.

    Raises ExpressionError with line and column inside the text.
    """
    reader = Reader(text, functions)
    blocks = reader.template()
    return Text(
        text=text,
        names=frozenset(reader.names),
        calls=frozenset(reader.calls),
        _blocks=blocks,
        _write=_compiled_blocks(blocks),
    )


#: Filters whose last argument is a locale: what stands in for the arguments that are left out, from the first on.
_SPOKEN: Final[Mapping[str, tuple[object, ...]]] = {"date": (None, "UTC"), "price": (None,)}


def _spoken(part: Any, locale: str) -> Any:
    """A part of a tree, and all that is in it, with the locale as the last argument of filters that take one."""
    if isinstance(part, tuple):
        return tuple(_spoken(one, locale) for one in part)
    if not is_dataclass(part) or isinstance(part, type):
        return part
    changed: Any = replace(part, **{one.name: _spoken(getattr(part, one.name), locale) for one in fields(part)})
    if isinstance(changed, Filtered) and len(given := changed.arguments) <= len(_SPOKEN.get(changed.name, ())):
        stand_in = tuple(map(Constant, _SPOKEN[changed.name][len(given) :]))
        changed = replace(changed, arguments=(*given, *stand_in, Constant(locale)))
    return changed


def _settled(blocks: tuple[Block, ...], facts: Facts, escape: bool) -> tuple[Block, ...]:
    """The blocks with expressions over constants written, and static neighbours joined."""
    settled: list[Block] = []
    for block in blocks:
        now = _settled_block(block, facts, escape)
        before = settled[-1] if settled else None
        if isinstance(now, Static) and isinstance(before, Static):
            settled[-1] = Static(before.text + now.text)
        else:
            settled.append(now)
    return tuple(settled)


def _settled_block(block: Block, facts: Facts, escape: bool) -> Block:
    match block:
        case Output() if block.names and "(" not in block.source:  # a call or a filter's argument may be anything
            if {name.partition(".")[0] for name in block.names} <= facts.keys():
                text = as_text(compiled(block.node)(facts, Work()))
                if isinstance(text, str):
                    return Static(escape_html(text) if escape else text)
        case When(branches, otherwise):
            return When(
                tuple((test, _settled(body, facts, escape)) for test, body in branches),
                _settled(otherwise, facts, escape),
            )
        case Loop() if block.variable not in facts:
            return replace(block, body=_settled(block.body, facts, escape))
    return block


def _compiled_blocks(blocks: tuple[Block, ...]) -> tuple[_Write, ...]:
    return tuple(_compiled_block(block) for block in blocks)


def _compiled_block(block: Block) -> _Write:
    match block:
        case Static(text):
            return _static(text)
        case Output():
            return _output(block)
        case When(branches, otherwise):
            conditions = [(compiled(test), _compiled_blocks(body)) for test, body in branches]
            return _when(conditions, _compiled_blocks(otherwise))
        case Loop():
            return _loop(block)
        case _:
            assert_never(block)


def _too_long(line: int, col: int) -> RenderError:
    return RenderError(f"the text is longer than {MAX_OUTPUT:,} characters", line, col)


def _static(text: str) -> _Write:
    length = len(text)

    def write(writing: _Writing, facts: Facts) -> None:
        writing.room -= length
        if writing.room < 0:
            raise _too_long(1, 1)
        writing.parts.append(text)

    return write


def _output(output: Output) -> _Write:
    evaluate, line, col = compiled(output.node), output.line, output.col

    def write(writing: _Writing, facts: Facts) -> None:
        value = evaluate(facts, writing)
        writing.looked(line, col)
        text = value if type(value) is str else as_text(value)
        if text is MISSING:
            raise RenderError(_nothing_to_write(output, value, facts), line, col)
        text = escape_html(text) if writing.escape else text
        writing.room -= len(text)
        if writing.room < 0:
            raise _too_long(line, col)
        writing.parts.append(text)

    return write


def _nothing_to_write(output: Output, value: object, facts: Facts) -> str:
    """Why an expression gave nothing: the first name that is missing, or the expression itself."""
    if isinstance(value, list | dict):
        return f"'{output.source}' is a list or a group of values; write one value of it, or loop over it"
    for name in sorted(output.names):
        if is_absent(_found(name, facts)):
            return f"'{name}' is missing"
    return f"'{output.source}' is missing: it has no value here"


def _found(name: str, facts: Mapping[str, object]) -> object:
    value: object = facts
    for key in name.split("."):
        value = value.get(key, MISSING) if isinstance(value, Mapping) else MISSING
    return plain(value)


def _when(conditions: list[tuple[Evaluate, tuple[_Write, ...]]], otherwise: tuple[_Write, ...]) -> _Write:
    def write(writing: _Writing, facts: Facts) -> None:
        chosen = otherwise
        for test, body in conditions:
            is_true = test(facts, writing)
            writing.looked(1, 1)
            if is_true:
                chosen = body
                break
        for part in chosen:
            part(writing, facts)

    return write


def _loop(loop: Loop) -> _Write:
    """A missing list has no items; anything else that is not a list is a mistake worth stopping for."""
    items, variable, body = compiled(loop.items), loop.variable, _compiled_blocks(loop.body)

    def write(writing: _Writing, facts: Facts) -> None:
        value = items(facts, writing)
        if is_absent(value):
            return
        if not isinstance(value, list):
            raise RenderError("this loop does not go over a list", loop.line, loop.col)
        writing.rounds_left -= len(value)
        if writing.rounds_left < 0:
            raise RenderError(f"loops go round more than {MAX_ROUNDS:,} times", loop.line, loop.col)
        inside = dict(facts)
        for item in value:
            inside[variable] = item
            for part in body:
                part(writing, inside)

    return write
