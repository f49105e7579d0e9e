"""What a refund takes back: by the cumulative target.

What a customer keeps depends on all that was returned so far, by the terms at the time of earning, and each refund
books the difference. So it does not matter in how many parts, or in which order, money went back, or how it was
rounded on the way.
"""

from decimal import Decimal
from fractions import Fraction

from afterglow.loyalty.earning import Terms


def kept_share(terms: Terms, refunded: Decimal) -> Fraction:
    """The share of the whole that was not returned, from 0 to 1.

    Args:
      refunded: everything returned so far, in major units.
    """
    if refunded <= 0:
        return Fraction(1)
    if terms.whole is None or refunded >= terms.whole:
        return Fraction(0)
    return 1 - Fraction(refunded) / Fraction(terms.whole)


def kept_points(terms: Terms, granted: int, refunded: Decimal) -> int:
    """How many of the granted points stay after all refunds so far."""
    return min(granted, terms.worth(kept_share(terms, refunded)))


def kept_progress(terms: Terms, progress: int, refunded: Decimal) -> int:
    """How much of the progress towards a tier stays, rounded down."""
    return progress * (share := kept_share(terms, refunded)).numerator // share.denominator


def to_take_back(kept: int, granted: int, taken: int) -> int:
    """How many points a refund takes now: what is granted, less what stays, less what was taken before."""
    return max(0, granted - kept - taken)
