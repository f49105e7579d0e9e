"""What an event earns under a programme.

    points = rounded(points of the rule x multiplier x amount / per)

It is rounded once, at the end, so that neither the number of items nor a multiplier can gain or lose a point. What
went into it is kept with the entry (`Terms`), and a refund is judged by that: never by the rule of today.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any
from zoneinfo import ZoneInfo

from afterglow.language.programme import POINTS_MAX, EarnRule, Multiplier, Programme, Refunds, Rounding
from afterglow.local_time import local_day
from afterglow.loyalty.periods import period


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What an event was worth under a rule, in numbers alone: enough to judge a refund for ever.

    `amount` and `whole` are in major units: the part that earned, and all that can be returned. `per` is None where
    the points do not depend on an amount.
    """

    points: int
    per: Decimal | None
    rounding: Rounding
    by: Decimal
    amount: Decimal | None
    whole: Decimal | None

    def worth(self, share: Fraction = Fraction(1)) -> int:
        """The points for a share of it, from 0 to 1; what does not depend on an amount is kept whole while any is."""
        if self.per is None or self.amount is None:
            return rounded(Fraction(self.points) * Fraction(self.by), self.rounding) if share > 0 else 0
        return rounded(
            Fraction(self.points) * Fraction(self.by) * Fraction(self.amount) * share / Fraction(self.per),
            self.rounding,
        )

    def inputs(self) -> dict[str, Any]:
        """As the ledger keeps it: JSON, decimals as text."""
        return {
            "points": self.points,
            "per": _text(self.per),
            "round": self.rounding,
            "by": _text(self.by),
            "amount": _text(self.amount),
            "whole": _text(self.whole),
        }


def read_terms(inputs: Mapping[str, Any]) -> Terms:
    """The terms that `Terms.inputs` wrote."""
    return Terms(
        points=inputs["points"],
        per=_decimal(inputs["per"]),
        rounding=inputs["round"],
        by=Decimal(inputs["by"]),
        amount=_decimal(inputs["amount"]),
        whole=_decimal(inputs["whole"]),
    )


def rounded(value: Fraction, rounding: Rounding) -> int:
    """A number of points that is not negative, whole: a half is rounded up by `nearest`. At most POINTS_MAX."""
    match rounding:
        case "down":
            whole = floor(value)
        case "nearest":
            whole = floor(value + Fraction(1, 2))
        case "up":
            whole = ceil(value)
    return min(whole, POINTS_MAX)


@dataclass(frozen=True, kw_only=True, slots=True)
class Happening:
    """One event of one customer, as rules read it."""

    event: str
    occurred_at: datetime
    #: What expressions know: the event's payload, `customer` and `shop`.
    names: Mapping[str, Any] = field(repr=False)
    tier: str | None = None


@dataclass(kw_only=True, slots=True)
class SoFar:
    """What one customer has earned in a programme by rules that are limited: (rule, when, points), refunds taken off.

    `earn` adds what it grants, so that a batch with several events of one customer counts right.
    """

    entries: list[tuple[str, datetime, int]] = field(default_factory=list)

    def within(self, rule: str, start: datetime, end: datetime) -> int:
        """Points earned by a rule in [start, end)."""
        return sum(points for name, at, points in self.entries if name == rule and start <= at < end)

    def has_earned(self, rule: str) -> bool:
        """Whether a rule ever gave something that was not taken back."""
        return sum(points for name, _, points in self.entries if name == rule) > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Earning:
    """What one rule gives for one event: `granted` is less than `desired` where a limit cut it."""

    rule: str
    terms: Terms
    desired: int
    granted: int


def earn(
    programme: Programme,
    happening: Happening,
    so_far: SoFar,
    zone: ZoneInfo,
    currency: str,
    budget: int | None = None,
) -> list[Earning]:
    """What an event earns, by each rule that applies, in the order of the file.

    Args:
      zone: the shop's, in which days and months are counted.
      currency: the shop's. An order in another one earns nothing by its amount: no rate is ours to choose.
      budget: what the programme may still give to all customers together; None where it has none.
    """
    found = []
    left = POINTS_MAX if budget is None else budget
    for rule in programme.earn:
        terms = _terms(rule, happening, programme.refunds, zone, currency)
        if terms is None or (rule.first_time and so_far.has_earned(rule.id)):
            continue
        desired = terms.worth()
        granted = min(desired, room(rule, happening.occurred_at, so_far, zone), left)
        if desired <= 0:
            continue
        left -= granted if budget is not None else 0
        found.append(Earning(rule=rule.id, terms=terms, desired=desired, granted=granted))
        so_far.entries.append((rule.id, happening.occurred_at, granted))
    return found


def room(rule: EarnRule, moment: datetime, so_far: SoFar, zone: ZoneInfo) -> int:
    """How many points the rule's own limit still leaves a customer at a moment."""
    if rule.at_most is None:
        return POINTS_MAX
    return max(0, rule.at_most.points - so_far.within(rule.id, *period(rule.at_most.per, moment, zone)))


def is_limited(rule: EarnRule) -> bool:
    """Whether it matters what the rule gave before."""
    return rule.first_time or rule.at_most is not None


def _terms(
    rule: EarnRule, happening: Happening, refunds: Refunds | None, zone: ZoneInfo, currency: str
) -> Terms | None:
    """What the event is worth under the rule; None where the rule does not apply."""
    names = happening.names
    if rule.event != happening.event or (rule.when is not None and not rule.when.is_true(names)):
        return None
    amount = None
    if rule.per is not None:
        amount = _amount(rule, names) if _is_in(currency, names) else None
        if amount is None or amount <= 0:
            return None
    whole = number(refunds.of.value(names)) if refunds else None
    return Terms(
        points=rule.points,
        per=rule.per,
        rounding=rule.rounding,
        by=max((one.by for one in rule.multipliers if _applies(one, happening, zone)), default=Decimal(1)),
        amount=amount,
        whole=amount if whole is None else whole,
    )


def _applies(multiplier: Multiplier, happening: Happening, zone: ZoneInfo) -> bool:
    day = local_day(happening.occurred_at, zone)
    return (
        (multiplier.tier is None or multiplier.tier == happening.tier)
        and (multiplier.first_day is None or multiplier.first_day <= day)
        and (multiplier.end_day is None or day < multiplier.end_day)
        and (multiplier.when is None or multiplier.when.is_true(happening.names))
    )


def _amount(rule: EarnRule, names: Mapping[str, Any]) -> Decimal | None:
    if rule.items is None:
        return number(rule.amount.value(names)) if rule.amount else None
    amounts = [
        number(rule.amount.value({**names, "item": item})) if rule.amount else _price(item)
        for item in _items(names)
        if rule.items.is_true({**names, "item": item})
    ]
    return sum((amount for amount in amounts if amount is not None), Decimal(0))


def _items(names: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    order = names.get("order")
    items = order.get("items") if isinstance(order, Mapping) else None
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def _price(item: Mapping[str, Any]) -> Decimal | None:
    price, quantity = number(item.get("price")), number(item.get("quantity", 1))
    return None if price is None or quantity is None else price * quantity


def _is_in(currency: str, names: Mapping[str, Any]) -> bool:
    order = names.get("order")
    said = order.get("currency") if isinstance(order, Mapping) else None
    return said is None or str(said).upper() == currency


def number(value: object) -> Decimal | None:
    """A number as it was written, exactly; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    # The shortest text of a float is what was written; events of our own that the shop does not declare hold floats.
    found = Decimal(str(value))
    return found if found.is_finite() else None


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)
