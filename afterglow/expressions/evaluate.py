"""From tree to closures: each node becomes one small Python function, made once when a flow is loaded.

A closure takes the facts and the functions and gives a plain value. It never raises: whatever cannot be
worked out is MISSING. (A function of the application may raise, for instance when a database is gone; that
is let through, since hiding it would make a condition quietly false.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import assert_never

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
from afterglow.expressions.values import MAX_TEXT, MISSING, arithmetic, as_text, compare, is_absent, plain

Facts = Mapping[str, object]
Functions = Mapping[str, Callable[..., object]]
Evaluate = Callable[[Facts, Functions], object]


def compiled(node: Node) -> Evaluate:
    """The closure of a tree."""
    match node:
        case Constant(value):
            return lambda facts, functions: value
        case Name(name):
            return lambda facts, functions: plain(facts.get(name, MISSING))
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
            return lambda facts, functions: not inner(facts, functions)
        case Arithmetic(operator, left, right):
            one, other = compiled(left), compiled(right)
            return lambda facts, functions: arithmetic(operator, one(facts, functions), other(facts, functions))
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

    def get(facts: Facts, functions: Functions) -> object:
        value = base(facts, functions)
        for key in path:
            value = _inside(value, key)
        return value

    return get


def _one_key(name: str, key: str) -> Evaluate:
    def get(facts: Facts, functions: Functions) -> object:
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
        return lambda facts, functions: compare(operator, first(facts, functions), second(facts, functions))

    def chain(facts: Facts, functions: Functions) -> object:
        left = first(facts, functions)
        for operator, part in rest:
            right = part(facts, functions)
            if not compare(operator, left, right):
                return False
            left = right
        return True

    return chain


def _and(parts: list[Evaluate]) -> Evaluate:
    *leading, final = parts

    def every(facts: Facts, functions: Functions) -> object:
        for part in leading:
            value = part(facts, functions)
            if not value:
                return value
        return final(facts, functions)

    return every


def _or(parts: list[Evaluate]) -> Evaluate:
    *leading, final = parts

    def either(facts: Facts, functions: Functions) -> object:
        for part in leading:
            value = part(facts, functions)
            if value:
                return value
        return final(facts, functions)

    return either


def _join(parts: list[Evaluate]) -> Evaluate:
    def join(facts: Facts, functions: Functions) -> object:
        texts = []
        for part in parts:
            text = as_text(part(facts, functions))
            if text is MISSING:
                return MISSING
            texts.append(text)
        return "".join(texts) if sum(map(len, texts)) <= MAX_TEXT else MISSING

    return join


def _choice(node: Choice) -> Evaluate:
    test, then = compiled(node.test), compiled(node.then)
    otherwise = compiled(node.otherwise) if node.otherwise is not None else compiled(Constant(MISSING))
    return lambda facts, functions: (then if test(facts, functions) else otherwise)(facts, functions)


def _list(items: list[Evaluate]) -> Evaluate:
    """An entry that is missing is left out, so that MISSING never ends up inside a payload."""

    def build(facts: Facts, functions: Functions) -> object:
        return [value for item in items if (value := item(facts, functions)) is not MISSING]

    return build


def _dict(entries: list[tuple[str, Evaluate]]) -> Evaluate:
    def build(facts: Facts, functions: Functions) -> object:
        return {key: value for key, item in entries if (value := item(facts, functions)) is not MISSING}

    return build


def _filtered(node: Filtered) -> Evaluate:
    base = compiled(node.base)
    arguments = [compiled(argument) for argument in node.arguments]
    if node.name == "default":
        [instead] = arguments
        return lambda facts, functions: (
            instead(facts, functions) if is_blank(value := base(facts, functions)) else value
        )
    apply = FILTERS[node.name].apply

    def filtered(facts: Facts, functions: Functions) -> object:
        value = base(facts, functions)
        if is_absent(value):
            return MISSING
        return apply(value, *(argument(facts, functions) for argument in arguments))

    return filtered


def is_blank(value: object) -> bool:
    """What `default` replaces: missing, none, and text without a character (a shop sends "" for no first
    name).
    """
    return is_absent(value) or (isinstance(value, str) and not value.strip())


def _is(base: Evaluate, name: str) -> Evaluate:
    """None is not there for `defined` and `missing`, as everywhere; only `is none` tells the two apart."""
    match name:
        case "defined":
            return lambda facts, functions: not is_absent(base(facts, functions))
        case "missing":
            return lambda facts, functions: is_absent(base(facts, functions))
        case _:
            return lambda facts, functions: base(facts, functions) is None


def _call(name: str, arguments: tuple[object, ...]) -> Evaluate:
    def call(facts: Facts, functions: Functions) -> object:
        function = functions.get(name)
        return MISSING if function is None else plain(function(*arguments))

    return call


def _past(node: Past) -> Evaluate:
    """The function gets what is worked out for each event as closures over what the event carries."""
    amount = None if node.amount is None else compiled(node.amount)
    where = None if node.where is None else compiled(node.where)

    def past(facts: Facts, functions: Functions) -> object:
        function = functions.get(node.function)
        return MISSING if function is None else plain(function(node.event, amount, where, node.within))

    return past
