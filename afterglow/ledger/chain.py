"""The chain: each entry of an account holds a digest of all before it and of the whole transaction it belongs to.

Whoever changes a row afterwards (an amount, a time of a lot, the inputs of a rule) breaks the chain of every account
that the transaction touched, from that entry on.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson

#: What stands before the first entry.
START = b""

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME


def canonical(value: object) -> bytes:
    """The value as text that is the same wherever it was stored: keys sorted, instants in UTC."""
    return orjson.dumps(value, default=_text, option=_OPTIONS)


def _text(value: object) -> str:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case bytes():
            return value.hex()
    raise TypeError(f"{type(value).__name__} has no canonical form")


def plain(value: Any) -> Any:
    """What was read from JSON, with numbers as one database keeps them and another does not: 2.0 as 2."""
    match value:
        case float():
            return int(value) if value.is_integer() and abs(value) < 2**53 else value
        case dict():
            return {key: plain(one) for key, one in value.items()}
        case list():
            return [plain(one) for one in value]
    return value


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
      columns: the transaction itself, with `inputs` as JSON gives them.
      postings: account or house, and amount, in their order.
      lots: those that it opened, by id, each with account, origin, amount, and its times.
      allocations: what was drawn from which lot.
    """
    columns = {f"{name}": plain(value) if name == "inputs" else value for name, value in columns.items()}
    return digest([columns, postings, sorted(lots), sorted(allocations.items())])


def link_nothing(previous: bytes, sealed: bytes, account_id: int, number: int) -> bytes:
    """The chain of what moved nothing after one more such transaction; having no entries, those are chained apart."""
    return sha256(previous + sealed + f"{account_id}/nothing {number}".encode()).digest()


def link(previous: bytes, sealed: bytes, account_id: int, entry: int, amount: int, balance: int) -> bytes:
    """The chain of an account after an entry."""
    return sha256(previous + sealed + f"{account_id}/{entry}/{amount}/{balance}".encode()).digest()
