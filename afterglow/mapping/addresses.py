"""Addresses and numbers as payloads bring them, in one spelling.

The filters `email` and `phone` decide; what is plainly written already is recognised first, because asking a
library about it costs more than all the rest of a mapping.
"""

import re
from typing import Final

from afterglow.expressions.filters import email, phone

#: Addresses of which every reader of the standards says the same: `email` makes them lower case and nothing else.
_PLAIN_EMAIL: Final = re.compile(
    r"[a-z0-9]{1,24}(?:[._+-][a-z0-9]{1,12}){0,3}@(?:[a-z0-9]{1,30}(?:-[a-z0-9]{1,10}){0,3}\.){1,3}[a-z]{2,12}"
)
#: Names that never reach anybody (RFC 6761): `email` decides about them.
_SPECIAL: Final = (".arpa", ".invalid", ".local", ".localhost", ".onion", ".test")
_SEPARATORS: Final = str.maketrans("", "", " -.()/\u00a0")
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")


def normalised_email(written: str | None) -> str | None:
    """The address as `| email` gives it; None if it is none."""
    if written is None:
        return None
    lower = written.strip().lower()
    if _PLAIN_EMAIL.fullmatch(lower) and not lower.endswith(_SPECIAL):
        return lower
    found = email(written)
    return found if isinstance(found, str) else None


def normalised_phone(written: str | None) -> str | None:
    """The number in E.164; None if it is none, or is a national number whose country nobody told."""
    if written is None:
        return None
    digits = written.translate(_SEPARATORS)
    if _E164.fullmatch(digits):
        return digits
    found = phone(written)
    return found if isinstance(found, str) else None
