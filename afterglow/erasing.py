"""Whether a raw text speaks of a person: the search behind `forget`, for webhooks that became nobody's event.

A raw body is JSON in whatever shape a stranger gave it, so the search looks at bytes: it ignores the case of letters,
reads JSON's escapes, and takes whole words only, lest sam@example.com be found in another-sam@example.com.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|([/\"\\]))")
#: Shorter ids stand in too many texts that mean something else, and a text that is emptied does not come back.
ID_LENGTH_MIN = 10


_ADDRESS = re.compile(rb"[a-z0-9._%+\-]{1,64}@[a-z0-9\-]{1,63}(?:\.[a-z0-9\-]{1,63}){1,8}")

#: What may stand beside an address or an id without making it another one: nothing that could be part of it.
_BEGINS, _ENDS = rb"(?<![a-z0-9._%+\-])", rb"(?![a-z0-9\-]|\.[a-z0-9])"


@dataclass(frozen=True, slots=True)
class Needles:
    """The texts that name a person. False where there are none."""

    _words: re.Pattern[bytes] | None
    _anywhere: re.Pattern[bytes] | None

    @classmethod
    def of(cls, *, addresses: Iterable[str | None], ids: Iterable[str]) -> "Needles":
        """What to look for: addresses, phone numbers and ids at a source that are long enough to mean somebody."""
        words = [*addresses, *(one for one in ids if len(one) >= ID_LENGTH_MIN)]
        wanted = sorted({word.lower().encode() for word in words if word}, key=len, reverse=True)
        if not wanted:
            return cls(None, None)
        either = b"(?:" + b"|".join(re.escape(word) for word in wanted) + b")"
        return cls(re.compile(_BEGINS + either + _ENDS), re.compile(either))

    def __bool__(self) -> bool:
        return self._words is not None

    def are_in(self, text: bytes, *, anywhere: bool = False) -> bool:
        """Whether the text holds one of them, as a word of its own or (for texts that are the person's) anywhere."""
        pattern = self._anywhere if anywhere else self._words
        if pattern is None:
            return False
        if pattern.search(text.lower()):
            return True
        return b"\\" in text and pattern.search(_ESCAPE.sub(_unescaped, text).lower()) is not None


def addresses_in(text: bytes) -> set[str]:
    """Everything in a raw text that looks like an e-mail address, in lower case, so that its hash can be compared."""
    lower = text.lower()
    texts = (lower, _ESCAPE.sub(_unescaped, lower)) if b"\\" in lower else (lower,)
    return {found.decode() for each in texts for found in _ADDRESS.findall(each)}


def _unescaped(escape: re.Match[bytes]) -> bytes:
    code = escape.group(1)
    if code is None:
        return escape.group(2)
    return chr(int(code, 16)).encode("utf-8", errors="replace")
