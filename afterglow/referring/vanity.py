"""Codes that somebody chooses, such as MAYA-10: read aloud, typed by a friend, the same in any case.

Who guesses one only names a referrer, so a chosen code may be short; codes that are made have 65 bits.
"""

import re
from collections.abc import Collection
from typing import Final

from afterglow.referring.attribution import spelled

SHORTEST: Final = 4
LONGEST: Final = 20
#: Words that a shop or a person typing into a checkout means otherwise.
RESERVED: Final = frozenset((
    "ADMIN", "CODE", "COUPON", "DISCOUNT", "FREE", "FREESHIPPING", "FRIEND", "FRIENDS", "GIFT", "GIFTCARD", "HELP",
    "HOME", "LOGIN", "LOYALTY", "NONE", "NULL", "OFFER", "OFFICIAL", "POINTS", "PROMO", "REFER", "REFERRAL", "REWARD",
    "ROOT", "SALE", "SHIPPING", "SHOP", "STAFF", "SUPPORT", "TEAM", "TEST", "UNDEFINED", "VOUCHER", "WELCOME",
))  # fmt: skip
_SHAPE: Final = re.compile(r"[A-Z0-9]+(-[A-Z0-9]+)*")
#: What `letters.referral_code` makes; a chosen code that looks like it could be somebody's.
_MADE: Final = re.compile(r"[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{5}")


def vanity(name: str, reserved: Collection[str] = ()) -> str:
    """The code that is meant by a name, as codes are compared.

    Args:
      reserved: further words that it cannot be, such as the shop's name and those of its coupons.

    Raises:
      ValueError: with a sentence that says why it can be no code.
    """
    code = spelled(name)
    if not SHORTEST <= len(code) <= LONGEST or _SHAPE.fullmatch(code) is None or not any(c.isalpha() for c in code):
        raise ValueError(
            f"'{name}' can be no code: it has {SHORTEST} to {LONGEST} letters from A to Z and digits, with single "
            "hyphens between, and at least one letter."
        )
    if _MADE.fullmatch(code):
        raise ValueError(f"{code} looks like a code that was made; choose a shorter one.")
    if _bare(code) in RESERVED | {_bare(spelled(word)) for word in reserved}:
        raise ValueError(f"{code} means something else already; choose another.")
    return code


def _bare(code: str) -> str:
    """Without what people leave out: FREE-SHIPPING is FREESHIPPING."""
    return re.sub(r"[^A-Z0-9]", "", code)
