"""Read an expression or a template against the names that there are, and say what can never work in it.

Kinds are followed as evaluation follows values: a name that nobody supplies, a comparison that is false whatever
happens, and (in mails) a value that some customers do not have are found here rather than by the customer.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from afterglow.expressions import FUNCTIONS, Expression
from afterglow.expressions.parse import Reader
from afterglow.expressions.tree import (
    And,
    Arithmetic,
    Block,
    Call,
    Choice,
    Compare,
    Constant,
    DictOf,
    Filtered,
    Get,
    Is,
    Join,
    ListOf,
    Loop,
    Name,
    Node,
    Not,
    Or,
    Output,
    Past,
    Static,
    When,
)
from afterglow.expressions.walk import parts_of
from afterglow.language.check.supply import ListShape, Names, Shape, found, kind_of_shape, merged
from afterglow.language.value import kind_of
from afterglow.problems import did_you_mean

_ORDERED = frozenset({"<", "<=", ">", ">="})
_IN_WORDS = {
    "text": "text",
    "number": "a number",
    "date": "a moment",
    "yes-no": "yes or no",
    "list": "a list",
    "group": "a group of values",
}


@dataclass(frozen=True, order=True, slots=True)
class Complaint:
    """A sentence about a place in a text; `line` and `col` count from 1."""

    line: int
    col: int
    message: str


def read_expression(expression: Expression, names: Names) -> tuple[Shape, list[Complaint]]:
    """What an expression comes to, and what is wrong with it."""
    shape, complaints = read_tree(expression.text, Reader(expression.text, FUNCTIONS).expression(), names)
    reading = _Reading(expression.text, names)
    for function, _ in sorted(expression.calls, key=str):
        reading.complain(function, f"'{function}' makes a link, and links stand in mails only.")
    return shape, sorted({*complaints, *reading.complaints()})


def read_tree(text: str, tree: Node, names: Names) -> tuple[Shape, list[Complaint]]:
    """What a part of an expression comes to, and what is wrong with it; `text` is the whole that it stands in."""
    reading = _Reading(text, names)
    shape = reading.shape(tree)
    return shape, reading.complaints()


def read_blocks(text: str, blocks: tuple[Block, ...], names: Names) -> list[Complaint]:
    """What is wrong with a template, of which `blocks` is the tree."""
    reading = _Reading(text, names)
    reading.blocks(blocks)
    return reading.complaints()


def dotted_names(node: Node) -> Iterator[str]:
    """The dotted names that an expression reads, loop variables included."""
    match node:
        case Name() | Get():
            root, keys = _path(node)
            if isinstance(root, Name):
                yield ".".join([root.name, *(key for key in keys if isinstance(key, str))])
            else:
                yield from dotted_names(root)
        case _:
            for part in parts_of(node):
                yield from dotted_names(part)


def place_of_word(text: str, word: str, after: int = 0) -> int:
    """The offset at which a dotted name stands in a text, looked for from an offset on first."""
    root = re.escape(word.partition(".")[0])
    whole = r"\s*\.\s*".join(re.escape(part) for part in word.split("."))
    for pattern in (rf"(?<![\w.]){whole}(?!\w)", rf"(?<![\w.]){root}(?!\w)"):
        compiled = re.compile(pattern)
        hit = compiled.search(text, after) or compiled.search(text)
        if hit:
            return hit.start()
    return after


def _path(node: Node) -> tuple[Node, tuple[str | int, ...]]:
    keys: list[str | int] = []
    while isinstance(node, Get):
        keys.append(node.key)
        node = node.base
    return node, tuple(reversed(keys))


class _Reading:
    """One text being read. `needed` in its methods: the mail fails where this value is missing."""

    def __init__(self, text: str, names: Names) -> None:
        self.text = text.replace("\r\n", "\n").replace("\r", "\n")
        self.names = names
        self.offset = 0
        self.found: dict[tuple[int, str], None] = {}
        self.bound: dict[str, Shape | None] = {}
        self.certain: frozenset[str] = frozenset()

    def complaints(self) -> list[Complaint]:
        return sorted(Complaint(*self._place(offset), message) for offset, message in self.found)

    def complain(self, word: str, message: str) -> None:
        self.found[place_of_word(self.text, word, self.offset), message] = None

    def _place(self, offset: int) -> tuple[int, int]:
        return self.text.count("\n", 0, offset) + 1, offset - self.text.rfind("\n", 0, offset)

    def _move(self, line: int, col: int) -> None:
        lines = self.text.split("\n")
        self.offset = sum(len(text) + 1 for text in lines[: line - 1]) + col - 1

    # Templates

    def blocks(self, blocks: tuple[Block, ...]) -> None:
        for block in blocks:
            match block:
                case Static():
                    pass
                case Output():
                    self._output(block)
                case When():
                    self._when(block)
                case Loop():
                    self._loop(block)
                case _:
                    assert_never(block)

    def _output(self, block: Output) -> None:
        self._move(block.line, block.col)
        kind = kind_of_shape(self.shape(block.node, needed=True))
        if kind in ("list", "group"):
            word = next(dotted_names(block.node), block.source)
            self.complain(
                word, f"'{block.source}' is {_IN_WORDS[kind]} and has no text; write one value of it, or loop over it."
            )

    def _when(self, block: When) -> None:
        for test, body in block.branches:
            self.shape(test)
            outside, self.certain = self.certain, self.certain | set(dotted_names(test))
            self.blocks(body)
            self.certain = outside
        self.blocks(block.otherwise)

    def _loop(self, block: Loop) -> None:
        self._move(block.line, block.col)
        items = self.shape(block.items)
        if (kind := kind_of_shape(items)) not in ("list", "unknown"):
            word = next(dotted_names(block.items), "for")
            self.complain(word, f"A loop goes over a list, and '{word}' is {_IN_WORDS[kind]}.")
        outside = self.bound
        self.bound = {**outside, block.variable: items.entry if isinstance(items, ListShape) else None}
        self.blocks(block.body)
        self.bound = outside

    # Expressions

    def shape(self, node: Node, *, needed: bool = False) -> Shape:
        """What an expression comes to."""
        match node:
            case Name() | Get():
                return self._read(node, needed)
            case Compare():
                self._compare(node)
                return "yes-no"
            case And(parts=parts) | Or(parts=parts):
                return self._row(parts)
            case Arithmetic():
                return self._arithmetic(node, needed)
            case Join(parts=parts):
                for part in parts:
                    self.shape(part, needed=needed)
                return "text"
            case Choice():
                return self._choice(node, needed)
            case ListOf(items=items):
                shapes = [self.shape(item) for item in items]
                return ListShape(shapes[0]) if shapes and all(one == shapes[0] for one in shapes) else "list"
            case DictOf(items=entries):
                return {key: self.shape(item) for key, item in entries}
            case Filtered():
                return self._filtered(node, needed)
            case Past(function="first" | "last") | Call(name="ago" | "ahead"):
                return "date"
            case Past():
                return "number"
            case Constant() | Not() | Is() | Call():
                for part in parts_of(node):
                    self.shape(part)
                return kind_of(node)
            case _:
                assert_never(node)

    def _read(self, node: Name | Get, needed: bool) -> Shape:
        root, keys = _path(node)
        if not isinstance(root, Name):
            return found(self.shape(root, needed=needed), keys) or "unknown"
        dotted = ".".join([root.name, *(key for key in keys if isinstance(key, str))])
        if root.name in self.bound:
            return self._of_variable(root.name, keys, dotted)
        if root.name not in self.names.given:
            if self.names.closed or root.name in self.names.absent:
                self.complain(dotted, self.names.reason_missing(dotted))
            return "unknown"
        given = self.names.given[root.name]
        shape = "unknown" if given is None else found(given, keys)
        if shape is None:
            self.complain(dotted, self.names.reason_missing(dotted))
        elif needed:
            self._may_be_missing(dotted)
        return "unknown" if shape is None else shape

    def _of_variable(self, variable: str, keys: tuple[str | int, ...], dotted: str) -> Shape:
        entry = self.bound[variable]
        shape = "unknown" if entry is None else found(entry, keys)
        if shape is not None:
            return shape
        known = [f"{variable}.{name}" for name in entry] if isinstance(entry, dict) else []
        self.complain(dotted, f"The entries of this list have no '{dotted}'.{did_you_mean(dotted, known)}")
        return "unknown"

    def _may_be_missing(self, dotted: str) -> None:
        for prefix, where in self.names.sometimes.items():
            inside = dotted == prefix or dotted.startswith(prefix + ".")
            sure = any(
                name == prefix or name.startswith(prefix + ".") or prefix.startswith(name + ".")
                for name in self.certain
            )
            if inside and not sure:
                self.complain(
                    dotted,
                    f"'{dotted}' is missing {where}, and a mail without it fails: "
                    f"add `| default(...)`, or put it behind {{% if {dotted} %}}.",
                )

    def _row(self, parts: tuple[Node, ...]) -> Shape:
        shapes = [self.shape(part) for part in parts]
        return shapes[0] if all(shape == shapes[0] for shape in shapes) else "unknown"

    def _choice(self, node: Choice, needed: bool) -> Shape:
        self.shape(node.test)
        outside, self.certain = self.certain, self.certain | set(dotted_names(node.test))
        then = self.shape(node.then, needed=needed)
        self.certain = outside
        return then if node.otherwise is None else merged(then, self.shape(node.otherwise, needed=needed))

    def _filtered(self, node: Filtered, needed: bool) -> Shape:
        is_default = node.name == "default"
        base = self.shape(node.base, needed=needed and not is_default)
        arguments = [self.shape(argument, needed=needed) for argument in node.arguments]
        if is_default:
            return base if base == arguments[0] else merged(base, arguments[0])
        if isinstance(base, ListShape):
            self._attribute(node, base.entry)
            if node.name in ("first", "last"):
                return base.entry
            if node.name == "where":
                return base
        return kind_of(node)

    def _attribute(self, node: Filtered, entry: Shape) -> None:
        match node:
            case Filtered(name="map" | "where" | "sum", arguments=(Constant(value=str() as attribute), *_)):
                if found(entry, attribute.split(".")) is None:
                    known = list(entry) if isinstance(entry, dict) else []
                    message = f"The entries of this list have no '{attribute}'.{did_you_mean(attribute, known)}"
                    self.complain(attribute, message)
            case _:
                pass

    def _arithmetic(self, node: Arithmetic, needed: bool) -> Shape:
        sides = [(part, self.shape(part, needed=needed)) for part in (node.left, node.right)]
        kinds = {kind_of_shape(shape) for _, shape in sides} - {"unknown"}
        if kinds <= {"number"} or (node.operator == "+" and kinds <= {"text"}):
            return kinds.pop() if len(kinds) == 1 else kind_of(node)  # type: ignore[return-value]
        part, shape = next(side for side in sides if kind_of_shape(side[1]) not in ("number", "unknown"))
        word = self._word(part)
        kind = _IN_WORDS[kind_of_shape(shape)]
        hint = "; texts are joined with '~'" if node.operator == "+" and "text" in kinds else ""
        self.complain(word, f"'{node.operator}' works on numbers, and {self._said(part)} is {kind}{hint}.")
        return "unknown"

    def _compare(self, node: Compare) -> None:
        left, left_shape = node.first, self.shape(node.first)
        for operator, right in node.rest:
            right_shape = self.shape(right)
            if trouble := _incomparable(operator, left_shape, right_shape):
                anchor = left if next(dotted_names(left), None) else right
                sentence = f"{self._said(left)} is {trouble[0]} and {self._said(right)} is {trouble[1]}"
                iso = "; make it a moment with `| iso`" if set(trouble) == {"text", "a moment"} else ""
                always = "always" if operator in ("!=", "not in") else "never"
                message = f"This is {always} true: {sentence}{iso}."
                self.complain(self._word(anchor), message)
            left, left_shape = right, right_shape

    def _word(self, node: Node) -> str:
        return next(dotted_names(node), next((str(part.value) for part in [node] if isinstance(part, Constant)), ""))

    def _said(self, node: Node) -> str:
        match node:
            case Constant(value=str() as text):
                return f'"{text}"'
            case Constant(value=bool() as truth):
                return str(truth).lower()
            case Constant(value=value):
                return str(value)
            case _:
                return f"'{self._word(node)}'" if self._word(node) else "this"


def _incomparable(operator: str, left: Shape, right: Shape) -> tuple[str, str] | None:
    """The kinds of two sides in words, where comparing them is false whatever the values are."""
    one, other = kind_of_shape(left), kind_of_shape(right)
    in_words = (_IN_WORDS.get(one, one), _IN_WORDS.get(other, other))
    if operator in ("in", "not in"):
        if other in ("unknown", "list"):
            inner = kind_of_shape(right.entry) if isinstance(right, ListShape) else "unknown"
            wrong = "unknown" not in (one, inner) and one != inner
            return (in_words[0], f"a list of {inner}s") if wrong else None
        return None if other == "text" and one in ("text", "unknown") else in_words
    if "unknown" in (one, other):
        return None
    if operator in _ORDERED:
        return None if one == other and one in ("number", "text", "date") else in_words
    return None if one == other else in_words
