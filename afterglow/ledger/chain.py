"""The chain: each entry of an account holds a digest of all before it and of the whole transaction it belongs to.

Whoever changes a row afterwards (an amount, a time of a lot, the inputs of a rule) breaks the chain of every account
that the transaction touched, from that entry on.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

#: What stands before the first entry.
START = b""


def canonical(value: object) -> bytes:
    """The value as text that is the same wherever it was stored: keys sorted, instants in UTC, 2.0 as 2."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":")).encode()


def _plain(value: object) -> Any:
    match value:
        case None | bool() | int():
            return value
        case str():
            return str(value)
        case float():
            return int(value) if value.is_integer() else value
        case bytes():
            return value.hex()
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Mapping():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
    raise TypeError(f"{type(value).__name__} has no canonical form")


def digest(value: object) -> bytes:
    """SHA-256 of a value's canonical form."""
    return sha256(canonical(value)).digest()


def seal(
    columns: Mapping[str, Any],
    postings: Sequence[tuple[int | str, int]],
    lots: Sequence[tuple[Any, ...]],
    allocations: Mapping[int, int],
) -> bytes:
    """The digest of a transaction with all that hangs on it.

    Args:
      columns: the transaction itself.
      postings: account or house, and amount, in their order.
      lots: those that it opened, by id, each with account, origin, amount, and its times.
      allocations: what was drawn from which lot.
    """
    return digest([columns, postings, sorted(lots), sorted(allocations.items())])


def link(previous: bytes, sealed: bytes, account_id: int, entry: int, amount: int, balance: int) -> bytes:
    """The chain of an account after an entry."""
    return sha256(previous + sealed + f"{account_id}/{entry}/{amount}/{balance}".encode()).digest()
