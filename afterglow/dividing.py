"""Dividing customers by weight: each always goes the same way, and nobody remembers which."""

import hashlib
from collections.abc import Sequence


def share(whole: str, part: str, customer_id: int) -> float:
    """Where a customer falls in [0, 1) at a part (a split, variants) of a whole (a flow, a programme).

    For ever the same, and independent between parts.
    """
    digest = hashlib.blake2b(f"{whole}\0{part}\0{customer_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def way(share: float, weights: Sequence[int]) -> int:
    """The place of the way that a share falls on, where ways are as wide as their weights."""
    at = share * sum(weights)
    for n, weight in enumerate(weights):
        if at < weight:
            return n
        at -= weight
    return len(weights) - 1
