"""One expression of a source file: parsed, its names checked, and what kind of thing it comes to.

A mapping reads four names and nothing else, so a slip such as `bdoy.id` is found when the file is read. The
kind is what the outermost part of the expression tells; it is how flows and templates know what an event
carries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from afterglow.expressions import Expression, ExpressionError, parse
from afterglow.expressions.parse import Reader
from afterglow.expressions.tree import (
    Arithmetic,
    Choice,
    Compare,
    Constant,
    Filtered,
    Get,
    Is,
    Join,
    ListOf,
    Name,
    Node,
    Not,
)
from afterglow.problems import did_you_mean

Kind = Literal["text", "number", "date", "list", "yes-no", "unknown"]

ROOTS: Final = ("body", "headers", "item", "fetched")

_KIND_OF_FILTER: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("money", "minor", "number", "int", "round", "length", "sum"), "number"),
    **dict.fromkeys(("iso", "epoch", "epoch_ms"), "date"),
    **dict.fromkeys(
        ("lower", "upper", "trim", "title", "text", "join", "replace", "email", "phone", "date", "price"),
        "text",
    ),
    **dict.fromkeys(("map", "where"), "list"),
}
#: Filters that read what a provider wrote. Where they cannot, the payload is not what the file takes it for.
_READERS: Final = frozenset({"money", "minor", "number", "int", "iso", "epoch", "epoch_ms"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """One expression of a mapping."""

    expression: Expression
    kind: Kind
    #: The path that a reading filter reads, such as ("body", "total_price"); None where nothing is read.
    reads: tuple[str | int, ...] | None


def read_value(written: object) -> Value:
    """Parse an expression of a source file.

    Raises:
      ExpressionError: with a sentence and the place inside the text.
    """
    expression = parse(written, functions=())
    for name in sorted(expression.names):
        _refuse_unknown_name(expression.text, name)
    tree = Reader(expression.text, ()).expression()
    return Value(expression=expression, kind=kind_of(tree), reads=_read_path(tree))


def _refuse_unknown_name(text: str, name: str) -> None:
    root, _, rest = name.partition(".")
    if root not in ROOTS:
        message = f"'{name}' is not known here: a name begins with body, headers or item, or with fetched."
        meant = did_you_mean(root, ROOTS)
        raise _error_at(text, root, message + (meant.replace("'?", f".{rest}'?") if rest else meant))
    if root == "headers" and rest != rest.lower():
        raise _error_at(text, rest, f"Headers have lower-case names here: write headers['{rest.lower()}'].")


def _error_at(text: str, found: str, message: str) -> ExpressionError:
    offset = max(text.find(found), 0)
    line_start = text.rfind("\n", 0, offset) + 1
    return ExpressionError(message, text.count("\n", 0, offset) + 1, offset - line_start + 1)


def kind_of(node: Node) -> Kind:
    """What an expression comes to, as far as its outermost part tells."""
    match node:
        case Constant(value=bool()) | Compare() | Not() | Is():
            return "yes-no"
        case Constant(value=str()) | Join():
            return "text"
        case Constant(value=value) if value is not None:
            return "number"
        case Filtered(base=base, name="default"):
            return kind_of(base)
        case Filtered(name=name):
            return _KIND_OF_FILTER.get(name, "unknown")
        case Arithmetic(operator="+", left=left, right=right):
            kinds = {kind_of(left), kind_of(right)} - {"unknown"}
            return kinds.pop() if len(kinds) == 1 else "unknown"
        case Arithmetic():
            return "number"
        case Choice(then=then, otherwise=otherwise):
            kinds = {kind_of(then)} | ({kind_of(otherwise)} if otherwise else set())
            return kinds.pop() if len(kinds) == 1 else "unknown"
        case ListOf():
            return "list"
        case _:
            return "unknown"


def _read_path(node: Node) -> tuple[str | int, ...] | None:
    reading = False
    while isinstance(node, Filtered):
        reading = reading or node.name in _READERS
        node = node.base
    path: list[str | int] = []
    while isinstance(node, Get):
        path.append(node.key)
        node = node.base
    return (node.name, *reversed(path)) if reading and isinstance(node, Name) else None
