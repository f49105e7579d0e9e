"""What an expression can hold, when two values are equal or in order, and how a value reads as text.

Payloads come from strangers. Everything an expression touches therefore passes through `plain`, which turns
it into one of a few plain kinds (text, number, yes-no, moment, day, list, dictionary, none) or into MISSING.
The rest of the language can then be total: it never raises, whatever the payload.

Numbers are int or Decimal, exact to 34 digits (the size of IEEE 754 decimal128) with at most 34 before the
point; what does not fit is MISSING, so that no payload can make arithmetic slow.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from enum import Enum
from typing import Any, Final, TypeGuard

#: Longest text that joining, adding or replacing may make, in characters.
MAX_TEXT: Final = 10_000
#: How deep equality looks into lists and dictionaries; the intake refuses deeper payloads long before.
MAX_DEPTH: Final = 40
DIGITS: Final = 34
LARGEST_INT: Final = 10**DIGITS
#: No traps: a result out of range becomes infinite, which `plain` and `number` turn into MISSING.
EXACT: Final = Context(prec=DIGITS, Emax=DIGITS - 1, Emin=1 - DIGITS, traps=[], clamp=0)


class Missing(Enum):
    """The type of MISSING: what a name gives when nothing is there. It is falsy and there is only one."""

    MISSING = "missing"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING

Number = int | Decimal
#: Kinds with an order; `plain` has made every moment an exact datetime in UTC.
_ORDERED = frozenset({str, datetime, date})
_AS_IT_IS = frozenset({str, bool, type(None), dict, list, Missing})


def plain(value: object) -> object:
    """The value as one of the plain kinds, or MISSING when it is not data (or not a possible number)."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is int or kind is Decimal or kind is float:
        return _plain_number(value)  # type: ignore[arg-type]
    match value:
        case datetime():
            return _plain_moment(value)
        case date():
            return date(value.year, value.month, value.day)
        case str():
            return str.__str__(value)
        case int() | float() | Decimal():
            return _plain_number(value)
        case dict() | list():
            return value
        case tuple():
            return list(value)
        case Mapping():
            return dict(value)
        case _:
            return MISSING


def _plain_number(value: int | float | Decimal) -> Number | Missing:
    if isinstance(value, int):
        return int(value) if -LARGEST_INT < value < LARGEST_INT else MISSING
    exact = EXACT.plus(Decimal(repr(float(value))) if isinstance(value, float) else Decimal(value))
    return exact if exact.is_finite() else MISSING


def _plain_moment(value: datetime) -> datetime | Missing:
    """In UTC, because Python compares two moments of one zone without regard to the repeated hour of
    autumn.
    """
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    if value.utcoffset() is None:
        return MISSING
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        return MISSING
    return datetime.combine(moment.date(), moment.time(), UTC)


def is_number(value: object) -> TypeGuard[Number]:
    """Whether a plain value is a number; yes and no are not."""
    return type(value) is int or type(value) is Decimal


def is_absent(value: object) -> bool:
    """Missing, or none: nothing to compare with or to print."""
    return value is MISSING or value is None


def same(left: object, right: object, depth: int = MAX_DEPTH) -> bool:
    """Whether two present values are equal; values of different kinds never are (`1` is not `"1"` nor
    `true`).
    """
    left, right = plain(left), plain(right)
    if is_number(left):
        return is_number(right) and left == right
    if type(left) is not type(right) or depth == 0:
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            same(one, other, depth - 1) for one, other in zip(left, right, strict=True)
        )
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key], depth - 1) for key in left)
    return bool(left == right)


def compare(operator: str, left: object, right: object) -> bool:
    """One comparison of plain values. False whenever a side is missing or none, also for `!=` and `not
    in`.
    """
    if left is MISSING or right is MISSING or left is None or right is None:
        return False
    match operator:
        case "==":
            return same(left, right)
        case "!=":
            return not same(left, right)
        case "in":
            return contains(right, left) is True
        case "not in":
            return contains(right, left) is False
        case _:
            return _in_order(operator, left, right)


def _in_order(operator: str, left: object, right: object) -> bool:
    """Numbers, texts (by code point, so case counts), moments and days have an order; nothing else has."""
    if not ((is_number(left) and is_number(right)) or (type(left) is type(right) and type(left) in _ORDERED)):
        return False
    one: Any = left
    other: Any = right
    match operator:
        case "<":
            return bool(one < other)
        case "<=":
            return bool(one <= other)
        case ">":
            return bool(one > other)
        case _:
            return bool(one >= other)


def contains(container: object, thing: object) -> bool | None:
    """Whether a list holds the thing or a text holds the text; None when the question makes no sense."""
    if isinstance(container, list):
        return any(not is_absent(item) and same(item, thing) for item in container)
    if isinstance(container, str) and isinstance(thing, str):
        return thing in container
    return None


def as_text(value: object) -> str | Missing:
    """How a plain value reads in a mail: numbers without exponent, moments as ISO 8601, yes-no as true or
    false.

    Missing, none, lists and dictionaries have no text.
    """
    if isinstance(value, str):
        return value
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, date):  # a datetime is a date
        return value.isoformat()
    return MISSING


def arithmetic(operator: str, left: object, right: object) -> object:
    """`+ - * /` on two plain values; MISSING when they are not both numbers (or, for `+`, both text).

    Whole numbers stay whole under `+ - *`; everything else is an exact Decimal. Division by zero is MISSING.
    """
    if operator == "+" and isinstance(left, str) and isinstance(right, str):
        return left + right if len(left) + len(right) <= MAX_TEXT else MISSING
    if not (is_number(left) and is_number(right)):
        return MISSING
    if operator == "/":
        return plain(EXACT.divide(Decimal(left), Decimal(right)))
    if isinstance(left, int) and isinstance(right, int):
        whole = left + right if operator == "+" else left - right if operator == "-" else left * right
        return plain(whole)
    one, other = Decimal(left), Decimal(right)
    match operator:
        case "+":
            return plain(EXACT.add(one, other))
        case "-":
            return plain(EXACT.subtract(one, other))
        case _:
            return plain(EXACT.multiply(one, other))
