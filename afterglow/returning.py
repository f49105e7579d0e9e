"""When an order is undone as a whole: by its cancellation, by a person, or by refunds that together reach its total."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from afterglow.loyalty.earning import number

if TYPE_CHECKING:
    from afterglow.language.flow.graph import Flow

#: What undoes an order in every shop, whatever its programmes listen to.
REFUNDED: Final = "order.refunded"
CANCELLED: Final = "order.cancelled"
#: Our own: a person says that nothing of an order is to stay (`afterglow unwind`).
UNWOUND: Final = "order.unwound"
ALWAYS: Final = frozenset({REFUNDED, CANCELLED, UNWOUND})


@dataclass(frozen=True, kw_only=True, slots=True)
class Undoing:
    """An event that undoes an order, in full or in part."""

    name: str
    at: datetime
    payload: Mapping[str, Any]


def undone_at(total: Decimal | None, undoing: Iterable[Undoing]) -> datetime | None:
    """The instant from which nothing of an order is left; None while something is.

    Decided by when things happened and not by when they were told, so that the order of webhooks does not matter.

    Args:
      total: what the order was for, in major units; None where nobody said.
      undoing: everything that was ever told to undo it. An event that says no amount undoes the whole.
    """
    returned = Decimal(0)
    for one in sorted(undoing, key=lambda one: one.at):
        amount = _amount(one)
        if amount is None:
            return one.at
        returned += amount
        if total is not None and 0 < total <= returned:
            return one.at
    return None


def _amount(one: Undoing) -> Decimal | None:
    """How much it gives back, in major units; None where that is all of it."""
    refund = one.payload.get("refund")
    if one.name in (CANCELLED, UNWOUND) or not isinstance(refund, Mapping) or refund.get("full") is True:
        return None
    given = number(refund.get("amount"))
    return None if given is None else max(given, Decimal(0))


def total_of(payload: Mapping[str, Any]) -> Decimal | None:
    """What an order was for, as its event says it."""
    order = payload.get("order")
    return number(order.get("total")) if isinstance(order, Mapping) else None


def has_its_say(flow: "Flow", trigger: str, undoing: Iterable[str]) -> bool:
    """Whether a run goes on although nothing is left of its order: it is not about the order, or it is about this.

    Args:
      trigger: the event that the run began by.
      undoing: the events that undid the order.
    """
    about_order = flow.once_per is None or flow.once_per.text == "order.id"
    return not about_order or trigger in undoing or not flow.listens_to.isdisjoint(undoing)
