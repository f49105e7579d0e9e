"""One customer's book of one asset in one programme: what they have, and what each change does to it.

A change moves the book in memory and says what must be written down (`Moved`). The order of things: debt is paid by
whatever comes in; the wallet is never below zero; and there is debt only where nothing is left in the wallet whose
time is not over.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from afterglow.errors import AfterglowError
from afterglow.ledger.entries import House, Posting, Role, Transaction
from afterglow.ledger.lots import Lot, draw, give_back, order


class ShortError(AfterglowError):
    """There is less to be spent than is wanted."""

    def __init__(self, spendable: int, wanted: int) -> None:
        super().__init__(f"{wanted} is wanted and {spendable} can be spent.")
        self.spendable = spendable


class Policy(enum.StrEnum):
    """How far a clawback goes, once what it is about has been spent."""

    ONLY_PENDING = "only_pending"  # only what hangs on the same subject and is still pending
    WITHIN_BALANCE = "within_balance"  # other lots too, as far as they go
    UNLIMITED = "unlimited"  # and the rest becomes debt


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """What a change must write down."""

    #: None where nothing moved.
    transaction: Transaction | None
    #: What was really given or taken; at most what was wanted.
    granted: int
    #: By lot: what was drawn from it, negative where it was returned.
    allocations: Mapping[int, int] = field(default_factory=dict)
    opened: tuple[Lot, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What a customer has at an instant."""

    balance: int  # everything that is theirs and not past: pending and to be spent
    spendable: int
    pending: int
    held: int
    debt: int  # zero or below
    expires_at: datetime | None  # when something of it is past next
    expiring: int  # how much that is


@dataclass(slots=True)
class Book:
    """What a customer has. The lots are those that a change may need, not always all."""

    customer_id: int
    wallet: int = 0
    held: int = 0
    debt: int = 0
    lots: dict[int, Lot] = field(default_factory=dict)

    def credit(self, lot: Lot, house: House = House.ISSUED) -> Moved:
        """Take a new lot in. Debt is paid first, and the lot is what is left."""
        paid = min(lot.amount, -self.debt)
        rest = lot.amount - paid
        opened: tuple[Lot, ...] = ()
        if rest:
            mine = replace(lot, amount=rest, remaining=rest)
            self.lots[lot.id] = mine
            opened = (mine,)
        transaction = self._move({house: -lot.amount, Role.DEBT: paid, Role.WALLET: rest})
        return Moved(transaction=transaction, granted=lot.amount, opened=opened)

    def spend(self, amount: int, at: datetime, house: House | Role = House.SPENT) -> Moved:
        """Spend an amount, or hold it where the place is `Role.HELD`.

        Raises:
          ShortError: there is less. Nothing has moved then.
        """
        lots = self.spendable(at)
        there = sum(lot.remaining for lot in lots)
        if there < amount:
            raise ShortError(there, amount)
        drawn = draw(lots, amount)
        return Moved(transaction=self._move({Role.WALLET: -amount, house: amount}), granted=amount, allocations=drawn)

    def settle(self, drawn: Mapping[int, int], held: int, amount: int) -> Moved:
        """Spend a part of what was held, and return the rest; with no amount all is returned.

        Args:
          drawn: what was drawn from which lot when it was reserved.
        """
        rest = held - amount
        paid = min(rest, -self.debt)
        back = give_back(self.lots, drawn, rest - paid)
        transaction = self._move({Role.HELD: -held, House.SPENT: amount, Role.DEBT: paid, Role.WALLET: rest - paid})
        return Moved(transaction=transaction, granted=amount or held, allocations=back)

    def give_back(self, drawn: Mapping[int, int], amount: int) -> Moved:
        """Return what was spent to the lots that it came from, with the times that they have. Debt is paid first."""
        paid = min(amount, -self.debt)
        back = give_back(self.lots, drawn, amount - paid)
        transaction = self._move({House.SPENT: -amount, Role.DEBT: paid, Role.WALLET: amount - paid})
        return Moved(transaction=transaction, granted=amount, allocations=back)

    def expire(self, lots: Iterable[Lot]) -> Moved:
        """Book that these lots are past."""
        drawn = {lot.id: lot.remaining for lot in lots if lot.remaining}
        for id_ in drawn:
            self.lots[id_].remaining = 0
        amount = sum(drawn.values())
        return Moved(
            transaction=self._move({Role.WALLET: -amount, House.EXPIRED: amount}), granted=amount, allocations=drawn
        )

    def claw_back(self, amount: int, subject: str | None, policy: Policy, at: datetime) -> Moved:
        """Take back what was earned: of the same subject first, pending before active; then as the policy says.

        Lots that are past are left alone, whether or not that was booked: those points are lost already.
        """
        open_ = sorted((lot for lot in self.lots.values() if lot.remaining and not lot.is_past(at)), key=order)
        pending = [lot for lot in open_ if lot.is_pending(at)]
        active = [lot for lot in open_ if not lot.is_pending(at)]
        own = [lot for lot in pending if subject is not None and lot.subject == subject]
        if policy != Policy.ONLY_PENDING:
            own += [lot for lot in active if subject is not None and lot.subject == subject]
            own += [lot for lot in (*active, *pending) if lot not in own]
        drawn = draw(own, amount)
        taken = sum(drawn.values())
        owed = amount - taken if policy == Policy.UNLIMITED else 0
        transaction = self._move({Role.WALLET: -taken, Role.DEBT: -owed, House.ISSUED: taken + owed})
        return Moved(transaction=transaction, granted=taken + owed, allocations=drawn)

    def spendable(self, at: datetime) -> list[Lot]:
        """Lots that may be spent, in the order in which they are drawn on."""
        return sorted((lot for lot in self.lots.values() if lot.is_spendable(at)), key=order)

    def standing(self, at: datetime) -> Standing:
        """What there is at an instant; right only where all lots with something left are known."""
        spendable = self.spendable(at)
        pending = [lot for lot in self.lots.values() if lot.remaining and lot.is_pending(at)]
        both = [*spendable, *pending]
        next_ = min((lot.expires_at for lot in both if lot.expires_at is not None), default=None)
        return Standing(
            balance=sum(lot.remaining for lot in both),
            spendable=sum(lot.remaining for lot in spendable),
            pending=sum(lot.remaining for lot in pending),
            held=self.held,
            debt=self.debt,
            expires_at=next_,
            expiring=sum(lot.remaining for lot in both if next_ is not None and lot.expires_at == next_),
        )

    def _move(self, amounts: Mapping[Role | House, int]) -> Transaction | None:
        self.wallet += amounts.get(Role.WALLET, 0)
        self.held += amounts.get(Role.HELD, 0)
        self.debt += amounts.get(Role.DEBT, 0)
        return Transaction.of(
            Posting(self.customer_id if isinstance(place, Role) else None, place, amount)
            for place, amount in amounts.items()
        )


def merge(kept: Book, merged: Book, at: datetime, ids: Iterable[int]) -> tuple[Moved, dict[int, int]]:
    """Move all that a customer has to the one whom they turned out to be: the lots with their times, and debt.

    What comes pays the debt of both, and so does what was there.

    Args:
      ids: fresh ids for the lots, one for each lot of `merged` with something left.

    Returns:
      What to write down, and which new lot took the place of which.
    """
    moving = sorted((lot for lot in merged.lots.values() if lot.remaining), key=order)
    arrived = [replace(lot, id=id_, amount=lot.remaining) for lot, id_ in zip(moving, ids, strict=True)]
    pairs = {lot.id: new.id for lot, new in zip(moving, arrived, strict=True)}
    wallet, debt = merged.wallet, merged.debt
    drawn = draw(moving, wallet)
    owed = -(kept.debt + debt)
    mine = sorted((lot for lot in kept.lots.values() if lot.remaining and not lot.is_past(at)), key=order)
    paid = draw([lot for lot in arrived if not lot.is_past(at)], owed)
    more = draw(mine, owed - sum(paid.values()))
    amounts = {
        (merged.customer_id, Role.WALLET): -wallet,
        (merged.customer_id, Role.DEBT): -debt,
        (kept.customer_id, Role.WALLET): wallet - sum(paid.values()) - sum(more.values()),
        (kept.customer_id, Role.DEBT): debt + sum(paid.values()) + sum(more.values()),
    }
    merged.wallet = merged.debt = 0
    kept.wallet += amounts[kept.customer_id, Role.WALLET]
    kept.debt += amounts[kept.customer_id, Role.DEBT]
    kept.lots |= {lot.id: lot for lot in arrived}
    transaction = Transaction.of(Posting(who, role, amount) for (who, role), amount in amounts.items())
    moved = Moved(transaction=transaction, granted=wallet, allocations={**drawn, **paid, **more}, opened=tuple(arrived))
    return moved, pairs


def part(kept: Book, merged: Book, pairs: Mapping[int, int]) -> Moved:
    """Give a customer back what of `merge` is still there, to the lots that it came from.

    Args:
      pairs: which new lot took the place of which.
    """
    allocations: dict[int, int] = {}
    amount = 0
    for old, new in pairs.items():
        lot = kept.lots[new]
        if lot.remaining:
            merged.lots[old].remaining += lot.remaining
            allocations |= {new: lot.remaining, old: -lot.remaining}
            amount += lot.remaining
            lot.remaining = 0
    kept.wallet -= amount
    merged.wallet += amount
    transaction = Transaction.of(
        [Posting(kept.customer_id, Role.WALLET, -amount), Posting(merged.customer_id, Role.WALLET, amount)]
    )
    return Moved(transaction=transaction, granted=amount, allocations=allocations)
