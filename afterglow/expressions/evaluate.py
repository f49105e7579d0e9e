"""From tree to closures: each node becomes one small Python function, made once when a flow is loaded.

A closure takes the facts and the work under way and gives a plain value. It never raises: whatever cannot be
worked out is MISSING. (A function of the application may raise, for instance when a database is gone; that
is let through, since hiding it would make a condition quietly false.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, assert_never

from afterglow.expressions.filters import FILTERS
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
)  # fmt: skip
from afterglow.expressions.values import MAX_DEPTH, MAX_TEXT, MISSING, arithmetic, as_text, compare, is_absent, plain

Facts = Mapping[str, object]
Functions = Mapping[str, Callable[..., object]]
NO_FUNCTIONS: Final[Functions] = MappingProxyType({})

#: Values that one evaluation, or one rendering, looks at in lists, groups and long texts. What would be more is
#: MISSING, so that neither a file nor a payload can make it slow: all of them take a tenth of a second.
MAX_LOOKS: Final = 100_000
#: So many characters of a text count as one value.
_CHARACTERS: Final = 8
#: These need not look at every entry.
_AT_ONCE: Final = frozenset({"first", "last", "length"})


class Work:
    """One evaluation under way: what may be called, and how many values it may still look at."""

    __slots__ = ("functions", "looks_left")

    def __init__(self, functions: Functions = NO_FUNCTIONS) -> None:
        self.functions = functions
        self.looks_left = MAX_LOOKS

    def may_look(self, values: int) -> bool:
        """Whether it may look at so many more; where not, nothing more may be looked at."""
        self.looks_left = max(-1, self.looks_left - values)
        return self.looks_left >= 0


Evaluate = Callable[[Facts, Work], object]


def compiled(node: Node) -> Evaluate:
    """The closure of a tree."""
    match node:
        case Constant(value):
            return lambda facts, work: value
        case Name(name):
            return lambda facts, work: plain(facts.get(name, MISSING))
        case Get():
            return _get(node)
        case Compare():
            return _compare(node)
        case And(parts):
            return _and([compiled(part) for part in parts])
        case Or(parts):
            return _or([compiled(part) for part in parts])
        case Not(part):
            inner = compiled(part)
            return lambda facts, work: not inner(facts, work)
        case Arithmetic(operator, left, right):
            one, other = compiled(left), compiled(right)
            return lambda facts, work: arithmetic(operator, one(facts, work), other(facts, work))
        case Join(parts):
            return _join([compiled(part) for part in parts])
        case Choice():
            return _choice(node)
        case ListOf(items):
            return _list([compiled(item) for item in items])
        case DictOf(entries):
            return _dict([(key, compiled(item)) for key, item in entries])
        case Filtered():
            return _filtered(node)
        case Is(base, name):
            return _is(compiled(base), name)
        case Call(name, arguments):
            return _call(name, arguments)
        case Past():
            return _past(node)
        case _:
            assert_never(node)


def _get(node: Get) -> Evaluate:
    """`a.b` and `a.b.c` are most of what a mail asks for, so names with keys are read in one closure."""
    keys: list[str | int] = []
    inner: Node = node
    while isinstance(inner, Get):
        keys.append(inner.key)
        inner = inner.base
    keys.reverse()
    if isinstance(inner, Name) and len(keys) == 1 and isinstance(keys[0], str):
        return _one_key(inner.name, keys[0])
    base = compiled(inner)
    path = tuple(keys)

    def get(facts: Facts, work: Work) -> object:
        value = base(facts, work)
        for key in path:
            value = _inside(value, key)
        return value

    return get


def _one_key(name: str, key: str) -> Evaluate:
    def get(facts: Facts, work: Work) -> object:
        base = facts.get(name)
        if type(base) is dict:
            return plain(base.get(key, MISSING))
        return _inside(plain(base), key)

    return get


def _inside(value: object, key: str | int) -> object:
    """Dictionaries by text and lists by number; never an attribute of anything."""
    if isinstance(key, str):
        return plain(value.get(key, MISSING)) if isinstance(value, dict) else MISSING
    if isinstance(value, list) and -len(value) <= key < len(value):
        return plain(value[key])
    return MISSING


def _compare(node: Compare) -> Evaluate:
    first = compiled(node.first)
    rest = [(operator, compiled(part)) for operator, part in node.rest]
    if len(rest) == 1:
        [(operator, second)] = rest
        return lambda facts, work: _compared(operator, first(facts, work), second(facts, work), work)

    def chain(facts: Facts, work: Work) -> object:
        left = first(facts, work)
        for operator, part in rest:
            right = part(facts, work)
            if not _compared(operator, left, right, work):
                return False
            left = right
        return True

    return chain


def _compared(operator: str, left: object, right: object, work: Work) -> bool:
    whole = right if operator in ("in", "not in") else left
    if (type(whole) is list or type(whole) is dict) and not (work.looks_left > 0 and work.may_look(_weight(whole))):
        return False
    return compare(operator, left, right)


def _weight(value: object, depth: int = MAX_DEPTH) -> int:
    """How many values a value is, with all that is in it."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(_weight(inner, depth - 1) for inner in inside) if depth else 1


def _and(parts: list[Evaluate]) -> Evaluate:
    *leading, final = parts

    def every(facts: Facts, work: Work) -> object:
        for part in leading:
            value = part(facts, work)
            if not value:
                return value
        return final(facts, work)

    return every


def _or(parts: list[Evaluate]) -> Evaluate:
    *leading, final = parts

    def either(facts: Facts, work: Work) -> object:
        for part in leading:
            value = part(facts, work)
            if value:
                return value
        return final(facts, work)

    return either


def _join(parts: list[Evaluate]) -> Evaluate:
    def join(facts: Facts, work: Work) -> object:
        texts = []
        for part in parts:
            text = as_text(part(facts, work))
            if text is MISSING:
                return MISSING
            texts.append(text)
        return "".join(texts) if sum(map(len, texts)) <= MAX_TEXT else MISSING

    return join


def _choice(node: Choice) -> Evaluate:
    test, then = compiled(node.test), compiled(node.then)
    otherwise = compiled(node.otherwise) if node.otherwise is not None else compiled(Constant(MISSING))
    return lambda facts, work: (then if test(facts, work) else otherwise)(facts, work)


def _list(items: list[Evaluate]) -> Evaluate:
    """An entry that is missing is left out, so that MISSING never ends up inside a payload."""

    def build(facts: Facts, work: Work) -> object:
        return [value for item in items if (value := _held(item(facts, work), work)) is not MISSING]

    return build


def _dict(entries: list[tuple[str, Evaluate]]) -> Evaluate:
    def build(facts: Facts, work: Work) -> object:
        return {key: value for key, item in entries if (value := _held(item(facts, work), work)) is not MISSING}

    return build


def _held(value: object, work: Work) -> object:
    """The value as an entry of something larger: the same group again and again would soon be a large one."""
    if type(value) is list or type(value) is dict:
        return value if work.looks_left > 0 and work.may_look(_weight(value)) else MISSING
    if type(value) is str:
        return value if work.may_look(len(value) // _CHARACTERS) else MISSING
    return value


def _filtered(node: Filtered) -> Evaluate:
    base = compiled(node.base)
    arguments = [compiled(argument) for argument in node.arguments]
    if node.name == "default":
        [instead] = arguments
        return lambda facts, work: instead(facts, work) if is_blank(value := base(facts, work)) else value
    apply, at_once = FILTERS[node.name].apply, node.name in _AT_ONCE

    def filtered(facts: Facts, work: Work) -> object:
        value = base(facts, work)
        if is_absent(value) or not (at_once or _may_filter(node.name, value, work)):
            return MISSING
        return apply(value, *(argument(facts, work) for argument in arguments))

    return filtered


def _may_filter(name: str, value: object, work: Work) -> bool:
    match value:
        case str():
            return work.may_look(len(value) // _CHARACTERS)
        case list() if work.looks_left > 0:
            return work.may_look(_weight(value) if name == "where" else len(value))
        case _:
            return work.looks_left >= 0


def is_blank(value: object) -> bool:
    """What `default` replaces: missing, none, and text without a character (a shop sends "" for no first
    name).
    """
    return is_absent(value) or (isinstance(value, str) and not value.strip())


def _is(base: Evaluate, name: str) -> Evaluate:
    """None is not there for `defined` and `missing`, as everywhere; only `is none` tells the two apart."""
    match name:
        case "defined":
            return lambda facts, work: not is_absent(base(facts, work))
        case "missing":
            return lambda facts, work: is_absent(base(facts, work))
        case _:
            return lambda facts, work: base(facts, work) is None


def _call(name: str, arguments: tuple[object, ...]) -> Evaluate:
    def call(facts: Facts, work: Work) -> object:
        function = work.functions.get(name)
        return MISSING if function is None else plain(function(*arguments))

    return call


def _past(node: Past) -> Evaluate:
    """The function gets what is worked out for each event as closures over what the event carries.

    Each event is a work of its own: how much one carries takes nothing from the others.
    """
    amount = None if node.amount is None else compiled(node.amount)
    where = None if node.where is None else compiled(node.where)

    def past(facts: Facts, work: Work) -> object:
        function = work.functions.get(node.function)
        return MISSING if function is None else plain(function(node.event, amount, where, node.within))

    return past
