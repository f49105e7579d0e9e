"""Link tokens: short, unguessable, and without an address in them.

A link in a mail (unsubscribe, rating, referral) must say whose it is without saying who that is, and nobody
may be able to make one up. A token is the ids it speaks of, packed as variable-length integers, and an HMAC
over them and the purpose. The purpose is signed too, so that a rating link never unsubscribes anybody.
A token has no expiry: an unsubscribe link must work for as long as somebody keeps the mail (RFC 8058).
"""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

MAC_BYTES = 12
"""96 bits: far beyond guessing over HTTP, and two 63-bit ids still fit into 40 characters."""

LONG_MAC_BYTES = 16
"""128 bits, for links that show what is somebody's own."""

LARGEST_ID = 2**63 - 1
_LONGEST_TOKEN = 200


def make_token(secret: bytes, purpose: str, *ids: int, mac_bytes: int = MAC_BYTES) -> str:
    """The url-safe token for these ids and this purpose: always the same for the same input.

    At most 40 characters for two ids, whatever they are, and 22 for two small ones. Raises ValueError for an
    empty secret, an empty purpose and for ids outside 0 to 2**63 - 1.
    """
    if not secret:
        raise ValueError("A token needs a secret; set one and try again.")
    packed = b"".join(_packed(number) for number in ids)
    return urlsafe_b64encode(packed + _mac(secret, purpose, packed, mac_bytes)).rstrip(b"=").decode("ascii")


def read_token(
    secrets: Sequence[bytes], purpose: str, token: str, *, mac_bytes: int = MAC_BYTES
) -> tuple[int, ...] | None:
    """The ids in a token made for this purpose with any of these secrets; None for anything else.

    A purpose has one length of `mac_bytes`, for making and for reading.

    Several secrets let the first be rotated in while links signed with the others still work. Never raises
    for a bad token, however malformed, and exactly one spelling of each token is accepted.
    """
    if len(token) > _LONGEST_TOKEN or not token.isascii():
        return None
    try:
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return None
    # The decoder skips foreign characters and ignores spare bits; a second spelling of a token is refused.
    if urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") != token or len(raw) < mac_bytes:
        return None
    packed, mac = raw[:-mac_bytes], raw[-mac_bytes:]
    # Every secret is tried, so that the time taken does not tell which one fitted.
    matches = [hmac.compare_digest(_mac(secret, purpose, packed, mac_bytes), mac) for secret in secrets if secret]
    return _unpacked(packed) if any(matches) else None


def _mac(secret: bytes, purpose: str, packed: bytes, mac_bytes: int) -> bytes:
    if not purpose or "\0" in purpose:
        raise ValueError("A token needs a purpose, a plain word such as 'unsubscribe'.")
    return hmac.digest(secret, purpose.encode() + b"\0" + packed, "sha256")[:mac_bytes]


def _packed(number: int) -> bytes:
    """Seven bits a byte, least first, the high bit meaning "more follows" (LEB128)."""
    if not 0 <= number <= LARGEST_ID:
        raise ValueError(f"A token carries ids from 0 to {LARGEST_ID}, not {number}.")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _unpacked(packed: bytes) -> tuple[int, ...]:
    """The inverse of `_packed` over a row of ids; only ever called on bytes whose HMAC was right."""
    ids: list[int] = []
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            ids.append(number)
            number = shift = 0
    return tuple(ids)
