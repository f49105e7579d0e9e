"""What can be asked of the ledger, and what comes of it: values, without personal data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from afterglow.errors import AfterglowError
from afterglow.ledger.book import Policy
from afterglow.ledger.entries import Kind


class ConflictError(AfterglowError):
    """Something else was posted under this key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What every change says. No personal data: ids, names of rules, numbers."""

    #: What makes it happen once, within customer, programme, asset and kind.
    key: str
    #: When it happened.
    event_at: datetime
    #: What caused it, and the programme's file (`documents.id`) and rule by which.
    event_id: int | None = None
    document_id: int | None = None
    rule: str | None = None
    #: What the rule read.
    inputs: Mapping[str, Any] = field(default_factory=dict)
    #: What it adds to the progress towards a tier; negative where it takes away.
    progress: int = 0
    #: What it hangs on, such as "order/shopify/1001".
    subject: str | None = None
    author: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Named(Change):
    programme: str
    asset: str
    customer_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Credit(Named):
    """New points, as a lot of their own."""

    #: opening, earn, bonus, reward, or adjust (by a person: with author and reason).
    kind: str
    #: Zero is recorded too: that a cap or a budget left nothing.
    amount: int
    activates_at: datetime
    expires_at: datetime | None = None
    #: Before a cap or a budget cut it; as much as `amount` unless given.
    desired: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend(Named):
    """Points that are spent at once; refused where there are too few."""

    #: redeem, or adjust (taken away by a person: with author and reason).
    kind: str = Kind.REDEEM
    amount: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Reserve(Named):
    """Points that are held for a redemption; refused where there are too few."""

    amount: int
    #: When they go back unless they were settled.
    expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Settle(Change):
    """What is held is spent, in part or whole; the rest goes back."""

    #: The transaction that reserved it.
    hold_id: int
    #: All unless given; at least 1.
    amount: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Void(Change):
    """What is held goes back."""

    hold_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Return(Change):
    """What was spent goes back to the lots it came from, with the times that those have."""

    #: The redemption: a `Spend`, or the transaction that reserved what was settled.
    transaction_id: int
    #: All that was not returned yet, unless given.
    amount: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Clawback(Named):
    """Points that are taken back, of what hangs on the same subject first. What is short is desired and not granted."""

    amount: int
    policy: Policy = Policy.WITHIN_BALANCE
    #: The transaction that this one undoes.
    undoes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Posted:
    """A change that is in the ledger."""

    id: int
    #: What moved: less than desired where a cap or a policy cut it.
    granted: int
    #: Whether it was there already.
    was_there: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A change that did not happen, and left no trace."""

    reason: str
    #: What could be spent, where that was too little.
    spendable: int | None = None


Outcome = Posted | Refused
