"""Lots: each credit is one, with its own times. What stands of them is derived from the instant, never stored.

A lot is pending before `activates_at`, may be spent from then on, and is past from `expires_at` on, whether or not
anybody has booked that. Who spends draws on the lot that is past first (`expires_at`, those that never are last; then
`earned_at`, then `id`), so that a customer loses as little as possible.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(slots=True)
class Lot:
    """What is left of one credit. Mutable: `Book` draws on it in memory."""

    id: int
    #: The transaction by which it was earned; it stays the same when the lot moves to another customer.
    origin_id: int
    #: What that hung on, such as an order.
    subject: str | None
    amount: int
    remaining: int
    earned_at: datetime
    activates_at: datetime
    expires_at: datetime | None

    def is_past(self, at: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= at

    def is_pending(self, at: datetime) -> bool:
        """Whether its time has not begun."""
        return at < self.activates_at and not self.is_past(at)

    def is_spendable(self, at: datetime) -> bool:
        """Whether something is left that may be spent."""
        return self.remaining > 0 and self.activates_at <= at and not self.is_past(at)


def order(lot: Lot) -> tuple[Any, ...]:
    """The place of a lot in the order in which lots are drawn on."""
    return (lot.expires_at is None, lot.expires_at or lot.earned_at, lot.earned_at, lot.id)


def draw(lots: Iterable[Lot], amount: int) -> dict[int, int]:
    """Take an amount, or as much of it as there is, from lots in the order given: what each gives, by lot."""
    drawn: dict[int, int] = {}
    for lot in lots:
        if amount == 0:
            break
        part = min(lot.remaining, amount)
        if part:
            lot.remaining -= part
            amount -= part
            drawn[lot.id] = part
    return drawn


def give_back(lots: Mapping[int, Lot], drawn: Mapping[int, int], amount: int) -> dict[int, int]:
    """Return a part of what was drawn to the same lots, those drawn last first: negative amounts by lot."""
    back: dict[int, int] = {}
    for lot in sorted((lots[id_] for id_ in drawn), key=order, reverse=True):
        part = min(drawn[lot.id], amount)
        if part > 0:
            lot.remaining += part
            amount -= part
            back[lot.id] = -part
    if amount:
        raise ValueError(f"{amount} more is to be returned than was drawn.")
    return back
