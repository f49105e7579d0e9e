"""Transactions: postings that sum to zero, in whole points or minor units. No other can be built."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

#: The largest amount of one posting. Sums of many stay within the 64 bits of a column.
AMOUNT_MAX = 10**15


class Role(enum.StrEnum):
    """What an account of a customer holds."""

    WALLET = "wallet"  # theirs, in lots: pending, to be spent, or past its time and not booked yet; never below zero
    HELD = "held"  # reserved by redemptions that are not settled; never below zero
    DEBT = "debt"  # taken back after it was spent; never above zero


class House(enum.StrEnum):
    """Where points come from and go to. Words on postings, no accounts: nothing of ours is locked by everybody."""

    ISSUED = "issued"
    SPENT = "spent"
    EXPIRED = "expired"
    ADJUSTED = "adjusted"


class Kind(enum.StrEnum):
    """What a transaction does."""

    OPENING = "opening"  # what a customer had elsewhere before
    EARN = "earn"
    BONUS = "bonus"
    REWARD = "reward"
    ADJUST = "adjust"  # by a person, either way
    REDEEM = "redeem"
    RESERVE = "reserve"  # wallet to held
    SETTLE = "settle"  # what was reserved is spent, in part or whole
    VOID = "void"  # what was reserved goes back
    RETURN = "return"  # what was spent goes back
    EXPIRE = "expire"
    CLAWBACK = "clawback"
    TRANSFER = "transfer"  # from a customer who turned out to be another


#: Kinds that bring new points.
CREDITS = frozenset({Kind.OPENING, Kind.EARN, Kind.BONUS, Kind.REWARD, Kind.ADJUST})


@dataclass(frozen=True, slots=True)
class Posting:
    """An amount that an account gains, or loses where it is negative.

    A role is an account of the customer; with a house there is no customer.
    """

    customer_id: int | None
    place: Role | House
    amount: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """Postings that belong together.

    Raises:
      ValueError: they do not sum to zero, are fewer than two, or one of them moves nothing or too much.
    """

    postings: tuple[Posting, ...]

    def __post_init__(self) -> None:
        if len(self.postings) < 2:
            raise ValueError("A transaction has at least two postings.")
        for posting in self.postings:
            if not 0 < abs(posting.amount) <= AMOUNT_MAX:
                raise ValueError(f"A posting of {posting.amount} to {posting.place} moves nothing, or too much.")
            if (posting.customer_id is None) != isinstance(posting.place, House):
                raise ValueError(f"{posting.place} is not a place of customer {posting.customer_id}.")
        total = sum(posting.amount for posting in self.postings)
        if total:
            raise ValueError(f"The postings of a transaction sum to zero, and these to {total}.")

    @classmethod
    def of(cls, postings: Iterable[Posting]) -> "Transaction | None":
        """The transaction of those postings that move something; None where none does."""
        moving = tuple(posting for posting in postings if posting.amount)
        return cls(moving) if moving else None
