"""Which of several rewards brings more friends, and whether there is enough to tell.

Referrers are what is divided by chance, so referrers are what is counted: how many of each variant brought at least
one friend who qualified. Friends of one referrer are not independent of each other; counting those would find
differences that are not there.

Two variants are compared by the interval of Newcombe (Statistics in Medicine 17, 1998, pages 873-890, method 10): 95 %
intervals of Wilson for both shares, put together. It is said that one brings more only where the interval leaves zero
out, and nothing at all before each has at least five referrers who brought a friend and five who did not (the common
rule for the normal approximation: n p and n (1 - p) at least 5). Who looks every day until something is found will find
it by chance: say beforehand until when you try.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Final

#: Of the normal distribution, for 95 %.
_Z: Final = 1.959964
#: Referrers of each kind that a variant needs before anything is said.
ENOUGH: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """How many referrers a variant had, and how many of them brought a friend who qualified."""

    referrers: int
    successful: int

    @property
    def is_enough(self) -> bool:
        """Whether anything can be said."""
        return min(self.successful, self.referrers - self.successful) >= ENOUGH


def compare(first: Sample, other: Sample) -> str:
    """What can be said of another variant beside the first, in a few words."""
    if not (first.is_enough and other.is_enough):
        return "too few to tell"
    low, high = difference(first, other)
    if low > 0:
        return f"brings more: {low:.1%} to {high:.1%}"
    if high < 0:
        return f"brings less: {-high:.1%} to {-low:.1%}"
    return f"no difference seen: {low:.1%} to {high:.1%}"


def difference(first: Sample, other: Sample) -> tuple[float, float]:
    """The 95 % interval of how much larger the other's share of successful referrers is. Both have referrers."""
    p, q = first.successful / first.referrers, other.successful / other.referrers
    (p_low, p_high), (q_low, q_high) = _wilson(first), _wilson(other)
    low = q - p - sqrt((q - q_low) ** 2 + (p_high - p) ** 2)
    return low, q - p + sqrt((q_high - q) ** 2 + (p - p_low) ** 2)


def _wilson(sample: Sample) -> tuple[float, float]:
    n, p = sample.referrers, sample.successful / sample.referrers
    middle, width = p + _Z**2 / (2 * n), _Z * sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return (middle - width) / (1 + _Z**2 / n), (middle + width) / (1 + _Z**2 / n)
