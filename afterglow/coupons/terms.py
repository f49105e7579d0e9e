"""What a code is and what it is worth, decided once and written down before anybody is asked to create it."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from afterglow.language.coupon import Coupon
from afterglow.language.shop import Shop, minor_digits

#: Letters of codes that we make: none that is taken for another. Each is five bits.
LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
#: 70 bits: a code is money to whoever guesses it.
_CODE_LENGTH: Final = 14
_MARK_LENGTH: Final = 16


def code_of(secret: bytes, key: str) -> str:
    """The code of what has this key: always the same one, and nobody without the secret guesses it.

    Capitals and digits only, since Stripe allows nothing else.

    Args:
      key: what gets the code, such as "redemption/7".
    """
    return _letters(secret, "coupon", key, _CODE_LENGTH)


def mark_of(secret: bytes, key: str) -> str:
    """By which we know at the provider that a code is ours. It is no code, and says nothing of one."""
    return "afterglow-" + _letters(secret, "coupon mark", key, _MARK_LENGTH)


def _letters(secret: bytes, purpose: str, key: str, length: int) -> str:
    digest = hmac.new(secret, f"{purpose}\0{key}".encode(), hashlib.sha256).digest()
    return "".join(LETTERS[byte % len(LETTERS)] for byte in digest[:length])


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What one code is worth, as it is asked for at every try. Amounts are in minor units of the currency."""

    name: str
    currency: str
    starts_at: datetime
    #: By which we know it at the provider; empty until the code is decided.
    mark: str = ""
    percent: Decimal | None = None
    amount: int | None = None
    minimum: int | None = None
    once_per_customer: bool = True
    ends_at: datetime | None = None
    #: Whether many may use it, each as `once_per_customer` says: the code of a referral link.
    shared: bool = False

    @property
    def named(self) -> str:
        """Its name with our mark, where a provider has one line for both."""
        return f"{self.name} {self.mark}"

    def plain(self) -> dict[str, Any]:
        """As JSON keeps it."""
        ends = self.ends_at.isoformat() if self.ends_at else None
        percent = str(self.percent) if self.percent is not None else None
        return {**asdict(self), "percent": percent, "starts_at": self.starts_at.isoformat(), "ends_at": ends}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> "Terms":
        """What `plain` made."""
        percent, ends = plain["percent"], plain["ends_at"]
        return cls(
            **{
                **plain,
                "percent": Decimal(percent) if percent is not None else None,
                "starts_at": datetime.fromisoformat(plain["starts_at"]),
                "ends_at": datetime.fromisoformat(ends) if ends else None,
            }
        )

    @property
    def uses(self) -> int | None:
        """How many orders the code is good for altogether; None: any number."""
        return 1 if self.once_per_customer and not self.shared else None

    def major(self, minor: int) -> str:
        """Minor units as providers write money: `10.00`."""
        return str(Decimal(minor).scaleb(-minor_digits(self.currency)))


def terms_of(coupon: Coupon, shop: Shop, *, now: datetime, shared: bool = False) -> Terms:
    """What a code of this coupon is worth that is wanted now."""
    return Terms(
        name=coupon.name,
        currency=shop.model.currency,
        starts_at=now,
        percent=coupon.percent,
        amount=shop.to_minor(coupon.amount) if coupon.amount is not None else None,
        minimum=shop.to_minor(coupon.minimum) if coupon.minimum is not None else None,
        once_per_customer=coupon.once_per_customer,
        ends_at=coupon.valid_for.after(now, shop.zone) if coupon.valid_for else None,
        shared=shared,
    )
