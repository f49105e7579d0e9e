"""How much room words take: an estimate on the generous side, because who draws knows no font of who looks."""

import re
import unicodedata
from html import escape
from typing import Final

#: Characters that XML cannot hold, and marks that would turn the direction of what stands beside them.
_UNFIT: Final = re.compile(
    r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
_NARROW: Final = frozenset("iljtfrI.,:;'|!()[]{}/` ")
_BROAD: Final = frozenset("mwMWQOGD@%&—")
ELLIPSIS: Final = "…"


def clean(text: str) -> str:
    """One line that XML can hold."""
    return " ".join(_UNFIT.sub(" ", text).split())


def markup(text: str) -> str:
    """Any text as text of an SVG, also within quotes."""
    return escape(clean(text), quote=True)


def width(text: str, size: float) -> float:
    """Pixels that a line takes in a font of `size` pixels."""
    return size * sum(_share(letter) for letter in text)


def _share(letter: str) -> float:
    if letter in _NARROW:
        return 0.36
    if letter in _BROAD:
        return 0.92
    if ord(letter) < 0x2000:
        return 0.68 if letter.isupper() else 0.58
    return 0.0 if unicodedata.combining(letter) else 1.1


def shortened(text: str, size: float, room: float) -> str:
    """The beginning of a line that fits, with an ellipsis where something is left out."""
    text = clean(text)
    if width(text, size) <= room:
        return text
    while text and width(text + ELLIPSIS, size) > room:
        text = text[:-1]
    return text.rstrip() + ELLIPSIS


def wrapped(text: str, size: float, room: float, lines: int) -> tuple[str, ...]:
    """At most so many lines that fit, broken between words, and within a word that is longer than a line."""
    made: list[str] = []
    line = ""
    for word in clean(text).split(" "):
        longer = f"{line} {word}" if line else word
        if width(longer, size) <= room:
            line = longer
            continue
        if line:
            made.append(line)
        while width(word, size) > room and len(word) > 1 and len(made) < lines:
            end = 1
            while width(word[: end + 1], size) <= room:
                end += 1
            made.append(word[:end])
            word = word[end:]
        line = word
    if line:
        made.append(line)
    if len(made) <= lines:
        return tuple(made)
    return (*made[: lines - 1], shortened(" ".join(made[lines - 1 :]), size, room))
