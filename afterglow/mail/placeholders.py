"""Hide `{{ }}`, `{% %}` and `{# #}` from the MJML parser behind plain words, and bring them back afterwards.

MJML reads markup: `{% if total < 3 %}` breaks it, and whatever stands where it expects no text is thrown away
without a word. So each expression becomes one word that survives MJML, and afterwards it can be seen
which words came out again.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from itertools import count

#: An expression, a statement or a comment; quoted text inside may hold the closing characters.
MARKED = re.compile(
    r"""\{\#.*?\#\}"""
    r"""|\{\{(?:"[^"]*"|'[^']*'|(?!\}\}).)*?\}\}"""
    r"""|\{%(?:"[^"]*"|'[^']*'|(?!%\}).)*?%\}""",
    re.DOTALL,
)
_STEM = "agexpr"
_WORD = re.compile(rf"{_STEM}\d{{5}}z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Placeholder:
    """One hidden expression: the word in its place, what it was, and where (line and col count from 1)."""

    word: str
    source: str
    file: str
    line: int
    col: int

    @property
    def name(self) -> str:
        """What stands between the braces, such as `body` in `{{ body }}`."""
        return self.source[2:-2].strip()

    @property
    def is_comment(self) -> bool:
        return self.source.startswith("{#")


@dataclass(frozen=True, kw_only=True, slots=True)
class Hidden:
    """A piece of a template with its expressions hidden."""

    text: str
    placeholders: tuple[Placeholder, ...]


class Hider:
    """Hides expressions in any number of pieces, never using a word twice."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def hide(self, text: str, file: str, place: tuple[int, int] = (1, 1), *, literal: bool = False) -> Hidden:
        """Hide every expression of `text`, which stands in `file` from `place` on.

        With `literal`, the rest of the text is plain words and is escaped to stand in markup.
        """
        parts: list[str] = []
        found: list[Placeholder] = []
        end = 0
        for match in MARKED.finditer(text):
            line, col = place_of(text, match.start(), place)
            word = f"{_STEM}{next(self._numbers):05d}z"
            found.append(Placeholder(word=word, source=match.group(), file=file, line=line, col=col))
            parts += [_plain(text[end : match.start()], literal), "" if found[-1].is_comment else word]
            end = match.end()
        parts.append(_plain(text[end:], literal))
        kept = tuple(hidden for hidden in found if not hidden.is_comment)
        return Hidden(text="".join(parts), placeholders=kept)


def restore(text: str, placeholders: Iterable[Placeholder]) -> str:
    """Put every expression back where its word stands."""
    sources = {hidden.word: hidden.source for hidden in placeholders}
    return _WORD.sub(lambda match: sources.get(match.group(), match.group()), text)


def surviving(text: str) -> frozenset[str]:
    """The words that still stand in the text."""
    return frozenset(_WORD.findall(text))


def blanked(text: str, *, keep: str) -> str:
    """The text with every expression overwritten by the character `keep`, so that offsets and lines stay.

    Comments become spaces: they are dropped before anything is sent.
    """

    def overwrite(match: re.Match[str]) -> str:
        filler = " " if match.group().startswith("{#") else keep
        return "".join(c if c == "\n" else filler for c in match.group())

    return MARKED.sub(overwrite, text)


def place_of(text: str, offset: int, start: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """Line and column of an offset in a text whose first character stands at `start`."""
    line = text.count("\n", 0, offset)
    col = offset - (text.rfind("\n", 0, offset) + 1) + 1
    return (start[0] + line, col if line else start[1] + col - 1)


def _plain(text: str, literal: bool) -> str:
    return escape(text) if literal else text
