"""The shape of an expression: a small frozen tree, after the parser and before evaluation.

These are all the node kinds there are. `Get` is the only way to reach into anything, and evaluation lets it
reach into dictionaries and lists only, so a tree cannot name an attribute or a method of a Python object.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from afterglow.errors import AfterglowError


class ExpressionError(AfterglowError, ValueError):
    """This is not an expression.

    `line` and `col` count from 1 inside the text that was parsed. It is a ValueError too, so that a pydantic
    validator may raise it and strict YAML can add the position inside the value to that of the value.
    """

    def __init__(self, message: str, line: int, col: int) -> None:
        super().__init__(message)
        self.message, self.line, self.col = message, line, col


class RenderError(AfterglowError):
    """A text could not be written for this customer; `line` and `col` point into the text."""

    def __init__(self, message: str, line: int, col: int) -> None:
        super().__init__(message)
        self.message, self.line, self.col = message, line, col


@dataclass(frozen=True, slots=True)
class Constant:
    value: object


@dataclass(frozen=True, slots=True)
class Name:
    name: str


@dataclass(frozen=True, slots=True)
class Get:
    """`base.key` and `base[key]`: a dictionary by text, a list by number."""

    base: Node
    key: str | int


@dataclass(frozen=True, slots=True)
class Compare:
    """A chain such as `1 < x <= 3`: true when every neighbouring pair is."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """One of `+ - * /` between two values."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Join:
    """`a ~ b ~ c`: everything as text, end to end."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """`then if test else otherwise`; without else the other value is missing."""

    test: Node
    then: Node
    otherwise: Node | None


@dataclass(frozen=True, slots=True)
class ListOf:
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class DictOf:
    items: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Filtered:
    """`base | name(arguments)`."""

    base: Node
    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Is:
    """`base is defined`, `is missing` or `is none`."""

    base: Node
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the application, called with written-out arguments."""

    name: str
    arguments: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """What a customer's events come to: `count("order.paid", where=order.total > 50, within="90 days")`.

    `amount` (what `sum` adds up) and `where` read what one event carries, and nothing else.
    """

    function: str
    event: str
    amount: Node | None
    where: Node | None
    within: str | None
    #: How it is written.
    text: str = field(default="", compare=False)


Node = (
    Constant | Name | Get | Compare | And | Or | Not | Arithmetic | Join | Choice | ListOf | DictOf
    | Filtered | Is | Call | Past
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Static:
    """Text that stands in a template as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Output:
    """`{{ expression }}`; `source` is what the author wrote, for messages."""

    node: Node
    names: frozenset[str]
    source: str
    line: int
    col: int


@dataclass(frozen=True, slots=True)
class When:
    """`{% if %}` with its `{% elif %}`s as (condition, block) pairs, and what stands under `{% else %}`."""

    branches: tuple[tuple[Node, tuple[Block, ...]], ...]
    otherwise: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """`{% for variable in items %}`."""

    variable: str
    items: Node
    body: tuple[Block, ...]
    line: int
    col: int


Block = Static | Output | When | Loop
