"""The one expression language: conditions, mappings and templates read alike.

    >>> facts = {"order": {"total": 45}, "customer": {"orders": 1}}
    >>> parse("order.total >= 40 and customer.orders == 1").is_true(facts)
    True

Jinja's grammar is used to read, nothing of Jinja runs. What is allowed becomes a small tree (tree.py) and
then closures (evaluate.py) over plain data (values.py); dotted names reach into dictionaries and lists only.
A name that is not there is MISSING, every comparison with it is false, and evaluation never raises.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from afterglow.expressions import text as _text
from afterglow.expressions.evaluate import NO_FUNCTIONS, Evaluate, Facts, Functions, Work, compiled
from afterglow.expressions.parse import Reader
from afterglow.expressions.text import Text
from afterglow.expressions.tree import ExpressionError, RenderError
from afterglow.expressions.values import MISSING, Missing

__all__ = [
    "FUNCTIONS",
    "MISSING",
    "Expression",
    "ExpressionError",
    "Missing",
    "RenderError",
    "Text",
    "parse",
    "parse_text",
]

#: The functions of the application that an expression may call.
FUNCTIONS: Final = frozenset(
    {"referral_link", "referral_variant", "rate", "best_review", "average_rating", "review_count"}
)
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Expression:
    """An expression, ready to be evaluated. Two are equal when their text is.

    `names` are the dotted names it reads (`order.total`; `body['a'].b` is `body.a.b`; `order.items[0].title`
    is `order.items`), `calls` the functions it calls with their arguments (`("referral_link",
    ("friends",))`).
    """

    text: str
    names: frozenset[str] = field(compare=False)
    calls: frozenset[tuple[str, tuple[object, ...]]] = field(compare=False)
    _evaluate: Evaluate = field(compare=False, repr=False)

    def value(self, facts: Facts = _NOTHING, functions: Functions = NO_FUNCTIONS) -> object:
        """What it comes to: text, int, Decimal, bool, datetime (UTC), date, list, dict, None or MISSING.

        Raises nothing of its own; what one of `functions` raises passes through.
        """
        return self._evaluate(facts, Work(functions))

    def is_true(self, facts: Facts = _NOTHING, functions: Functions = NO_FUNCTIONS) -> bool:
        """Whether the condition holds; what is missing does not."""
        return bool(self._evaluate(facts, Work(functions)))


def parse(text: object, *, functions: Collection[str] = FUNCTIONS) -> Expression:
    """Read an expression. `functions` are the names it may call.

    A plain YAML value (`true`, `1`, `2.5`) is the expression of that spelling. Raises ExpressionError with a
    sentence, a line and a column (from 1) inside the text.
    """
    match text:
        case str():
            written = text
        case bool():
            written = "true" if text else "false"
        case int() | Decimal():
            written = str(text)
        case _:
            raise ExpressionError("An expression is expected here, as text.", 1, 1)
    return _parsed(written, frozenset(functions))


@lru_cache(maxsize=4096)  # flows say the same things again and again
def _parsed(text: str, functions: frozenset[str]) -> Expression:
    reader = Reader(text, functions)
    tree = reader.expression()
    return Expression(
        text=text,
        names=frozenset(reader.names),
        calls=frozenset(reader.calls),
        _evaluate=compiled(tree),
    )


def parse_text(text: str, *, functions: Collection[str] = FUNCTIONS) -> Text:
    """Read a template text: `{{ }}`, `{% if %}` with elif and else, `{% for item in list %}`, `{# comments
    #}`.

    Raises ExpressionError with a sentence, a line and a column (from 1) inside the text.
    """
    return _parsed_text(text, frozenset(functions))


@lru_cache(maxsize=256)  # every mail of a shop is read with the same layouts and footers, and again once it is compiled
def _parsed_text(text: str, functions: frozenset[str]) -> Text:
    return _text.parse_text(text, functions=functions)
