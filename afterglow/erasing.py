"""Whether a raw text speaks of a person: the search behind `forget`, for webhooks that became nobody's event.

A raw body is JSON in whatever shape a stranger gave it, so the search looks at bytes: it ignores the case of letters,
reads JSON's escapes, and takes short ids only as whole words, lest "17" be found in every price.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|([/\"\\]))")
#: Shorter ids stand in too many texts that mean something else, and a text that is emptied does not come back.
ID_LENGTH_MIN = 10


@dataclass(frozen=True, slots=True)
class Needles:
    """The texts that name a person. False where there are none."""

    _pattern: re.Pattern[bytes] | None

    @classmethod
    def of(cls, *, addresses: Iterable[str | None], ids: Iterable[str]) -> "Needles":
        """What to look for: addresses and phone numbers anywhere, ids at a source as whole words."""
        words = [*addresses, *(one for one in ids if len(one) >= ID_LENGTH_MIN)]
        wanted = sorted({word.lower().encode() for word in words if word}, key=len, reverse=True)
        if not wanted:
            return cls(None)
        either = b"|".join(re.escape(word) for word in wanted)
        return cls(re.compile(rb"(?<![a-z0-9])(?:" + either + rb")(?![a-z0-9])"))

    def __bool__(self) -> bool:
        return self._pattern is not None

    def are_in(self, text: bytes) -> bool:
        """Whether the text holds one of them."""
        if self._pattern is None:
            return False
        if self._pattern.search(text.lower()):
            return True
        return b"\\" in text and self._pattern.search(_ESCAPE.sub(_unescaped, text).lower()) is not None


def _unescaped(escape: re.Match[bytes]) -> bytes:
    code = escape.group(1)
    if code is None:
        return escape.group(2)
    return chr(int(code, 16)).encode("utf-8", errors="replace")
