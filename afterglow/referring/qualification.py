"""Whether an event of the referee makes a referral count, and whether it still does after money went back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from afterglow.language.referral import ReferralProgramme


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a referral stands by its qualifying event: whether it counts, and what is left of the order.

    Amounts are in major units of the shop's currency; `net` is never below zero.
    """

    qualifies: bool
    total: Decimal
    refunded: Decimal

    @property
    def net(self) -> Decimal:
        """What is left of the order."""
        return max(self.total - self.refunded, Decimal(0))


def order_of(payload: Mapping[str, Any]) -> str | None:
    """The id of the order that an event is about."""
    order = payload.get("order")
    return str(order["id"]) if isinstance(order, Mapping) and order.get("id") is not None else None


def standing(
    programme: ReferralProgramme, names: Mapping[str, Any], undoing: Iterable[Mapping[str, Any]] = ()
) -> Standing:
    """Whether an event qualifies, with everything that undid it counted in: the order of refunds does not matter.

    The condition is asked again with `order.total` as it is after the refunds, so that an order that falls under the
    minimum no longer counts, and one that stays above it does. What says no amount undoes the whole.

    Args:
      names: what the condition knows: the qualifying event's payload, `customer`, `shop`.
      undoing: the payloads of the events that undo it, of the same order.
    """
    order = names.get("order")
    total = _amount(order, "total")
    refunded = Decimal(0)
    for payload in undoing:
        refund = payload.get("refund")
        given = isinstance(refund, Mapping) and refund.get("amount") is not None
        refunded += _amount(refund, "amount") if given else max(total, Decimal(0))
        if not given:
            return Standing(qualifies=False, total=total, refunded=total)
    if refunded > 0:
        left = max(total - refunded, Decimal(0))
        if left == 0:
            return Standing(qualifies=False, total=total, refunded=refunded)
        names = {**names, "order": {**order, "total": left}} if isinstance(order, Mapping) else names
    return Standing(qualifies=programme.when is None or programme.when.is_true(names), total=total, refunded=refunded)


def rewarded_from(programme: ReferralProgramme, qualified_at: datetime, zone: ZoneInfo) -> datetime:
    """When the hold of a referral ends, and with it the time for returns."""
    return programme.hold.after(qualified_at, zone)


def _amount(holder: object, name: str) -> Decimal:
    value = holder.get(name) if isinstance(holder, Mapping) else None
    return (
        Decimal(str(value)) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else Decimal()
    )
