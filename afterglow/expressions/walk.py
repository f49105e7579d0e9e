"""Walking a tree: what stands inside an expression."""

from collections.abc import Iterator
from typing import assert_never

from afterglow.expressions.tree import (
    And,
    Arithmetic,
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
    Name,
    Node,
    Not,
    Or,
    Past,
)


def nodes_of(node: Node) -> Iterator[Node]:
    """A node and every one inside it. What reads single events (inside `Past`) is left out."""
    yield node
    for part in parts_of(node):
        yield from nodes_of(part)


def parts_of(node: Node) -> tuple[Node, ...]:
    """The expressions directly inside an expression."""
    match node:
        case Constant() | Name() | Call() | Past():
            return ()
        case Get(base=base) | Is(base=base):
            return (base,)
        case Compare(first=first, rest=rest):
            return (first, *(part for _, part in rest))
        case And(parts=parts) | Or(parts=parts) | Join(parts=parts):
            return parts
        case Not(part=part):
            return (part,)
        case Arithmetic(left=left, right=right):
            return (left, right)
        case Choice(test=test, then=then, otherwise=otherwise):
            return (test, then) if otherwise is None else (test, then, otherwise)
        case ListOf(items=items):
            return items
        case DictOf(items=entries):
            return tuple(item for _, item in entries)
        case Filtered(base=base, arguments=arguments):
            return (base, *arguments)
        case _:
            assert_never(node)
