"""Find what is wrong with MJML by ourselves: its compiler accepts unknown tags and wrong ends without a word.

Text where it expects a component is thrown away just as silently, so text between components is a problem
too. Tags and their nesting are those of the MJML 4 documentation.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from afterglow.mail.placeholders import blanked, place_of
from afterglow.problems import Problem, did_you_mean

#: Stands for one character of an expression while markup is read; no template can contain it.
EXPRESSION: Final = "\x00"

_CONTENT: Final = frozenset(
    {
        "mj-accordion",
        "mj-button",
        "mj-carousel",
        "mj-divider",
        "mj-image",
        "mj-navbar",
        "mj-raw",
        "mj-social",
        "mj-spacer",
        "mj-table",
        "mj-text",
    }
)
#: Which components may stand in which; those that hold HTML instead are in HOLDS_HTML.
CHILDREN: Final[Mapping[str, frozenset[str]]] = {
    "mjml": frozenset({"mj-head", "mj-body"}),
    "mj-head": frozenset(
        {
            "mj-attributes",
            "mj-breakpoint",
            "mj-font",
            "mj-html-attributes",
            "mj-preview",
            "mj-raw",
            "mj-style",
            "mj-title",
        }
    ),
    "mj-body": frozenset({"mj-section", "mj-wrapper", "mj-hero", "mj-raw"}),
    "mj-wrapper": frozenset({"mj-section", "mj-hero", "mj-raw"}),
    "mj-section": frozenset({"mj-column", "mj-group", "mj-raw"}),
    "mj-group": frozenset({"mj-column", "mj-raw"}),
    "mj-column": _CONTENT,
    "mj-hero": _CONTENT,
    "mj-accordion": frozenset({"mj-accordion-element", "mj-raw"}),
    "mj-accordion-element": frozenset({"mj-accordion-title", "mj-accordion-text", "mj-raw"}),
    "mj-carousel": frozenset({"mj-carousel-image"}),
    "mj-navbar": frozenset({"mj-navbar-link", "mj-raw"}),
    "mj-social": frozenset({"mj-social-element", "mj-raw"}),
    "mj-html-attributes": frozenset({"mj-selector"}),
    "mj-selector": frozenset({"mj-html-attribute"}),
}
HOLDS_HTML: Final = frozenset(
    {
        "mj-text",
        "mj-table",
        "mj-button",
        "mj-raw",
        "mj-title",
        "mj-preview",
        "mj-style",
        "mj-accordion-title",
        "mj-accordion-text",
        "mj-navbar-link",
        "mj-social-element",
        "mj-html-attribute",
    }
)
_EMPTY: Final = frozenset(
    {
        "mj-all",
        "mj-breakpoint",
        "mj-carousel-image",
        "mj-class",
        "mj-divider",
        "mj-font",
        "mj-image",
        "mj-spacer",
    }
)
TAGS: Final = frozenset(CHILDREN) | HOLDS_HTML | _EMPTY | {"mj-attributes"}
#: HTML elements without an end tag (HTML Living Standard, 13.1.2).
_VOID: Final = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_TAG = re.compile(
    r"""<!--.*?-->"""
    r"""|<(?P<end>/?)(?P<name>[A-Za-z][\w:-]*)"""
    r"""(?P<attributes>(?:\s+[^\s<>"'=/]+(?:\s*=\s*(?:"[^"]*"|'[^']*'))?)*)\s*(?P<closed>/?)>"""
    r"""|(?P<stray><)""",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Open:
    name: str
    offset: int


def check_markup(text: str, file: str, *, inside: str | None, first_line: int = 1) -> list[Problem]:
    """Everything wrong with the tags of a piece of MJML.

    Parameters:
      text: the piece as written, expressions included.
      inside: the component in which it will stand, None for a whole document.
      first_line: the line of the file on which the piece begins.
    """
    return _Reader(text, file, inside, first_line).problems


def component_around(text: str, offset: int) -> str | None:
    """The component that is open at an offset of a document; None outside of all."""
    reader = _Reader(text[:offset], "", None, 1)
    return next((tag.name for tag in reversed(reader.open) if tag.name in TAGS), None)


class _Reader:
    """Reads a piece once, from left to right, keeping the open tags."""

    def __init__(self, text: str, file: str, inside: str | None, first_line: int) -> None:
        self.source, self.file, self.inside, self.first_line = text, file, inside, first_line
        self.text = blanked(text, keep=EXPRESSION)
        self.open: list[_Open] = []
        self.problems: list[Problem] = []
        end = 0
        for match in _TAG.finditer(self.text):
            self.between(end, match.start())
            end = match.end()
            if match["stray"]:
                self.say(
                    match.start(),
                    "This '<' begins no tag that can be read: write &lt; for the character, "
                    "and put the values of attributes in quotes.",
                )
            elif match["name"] and match["end"]:
                self.close(match["name"], match.start())
            elif match["name"]:
                self.begin(match["name"], match.start(), closed=bool(match["closed"]))
        self.between(end, len(self.text))
        for tag in self.open:
            self.say(tag.offset, f"<{tag.name}> is not closed; add </{tag.name}>.")

    def say(self, offset: int, message: str) -> None:
        line, col = place_of(self.source, offset, (self.first_line, 1))
        self.problems.append(Problem(self.file, line, col, message))

    def parent(self) -> str | None:
        return self.open[-1].name if self.open else self.inside

    def begin(self, name: str, offset: int, *, closed: bool) -> None:
        parent = self.parent()
        if name == "mj-include":
            self.say(offset, "<mj-include> is not read here; what all mails share belongs in the layout.")
        elif name.lower().startswith("mj") and name not in TAGS:
            self.say(offset, f"MJML has no tag <{name}>.{did_you_mean(name, TAGS)}")
        elif not _allowed(name, parent):
            self.say(offset, f"<{name}> cannot stand in {_where(parent)}: {_expected(parent)}.")
        if not closed and name.lower() not in _VOID:
            self.open.append(_Open(name, offset))

    def close(self, name: str, offset: int) -> None:
        if name.lower() in _VOID:
            return
        if all(tag.name != name for tag in self.open):
            self.say(offset, f"</{name}> closes nothing that is open here.")
            return
        while self.open[-1].name != name:
            left = self.open.pop()
            self.say(left.offset, f"<{left.name}> is not closed before </{name}>; add </{left.name}>.")
        self.open.pop()

    def between(self, start: int, end: int) -> None:
        """Text between two tags: fine in components that hold text or HTML, lost in all others."""
        parent = self.parent()
        lost = self.text[start:end].strip()
        if not lost or (parent is not None and parent not in CHILDREN and parent not in _EMPTY):
            return
        offset = start + self.text[start:end].index(lost[0])
        if lost[0] == EXPRESSION:
            what, wrapper = (
                "an expression",
                "<mj-raw>" if self.source.startswith("{%", offset) else "<mj-text>",
            )
        else:
            what, wrapper = "text", "<mj-text>"
        self.say(offset, f"MJML loses {what} that stands directly in {_where(parent)}; wrap it in {wrapper}.")


def _allowed(name: str, parent: str | None) -> bool:
    if parent is None:
        return name == "mjml"
    if parent == "mj-attributes":
        return name in TAGS
    if parent in CHILDREN:
        return name in CHILDREN[parent]
    return not name.startswith("mj-")


def _where(parent: str | None) -> str:
    return f"<{parent}>" if parent else "the outermost place"


def _expected(parent: str | None) -> str:
    if parent is None:
        return "a layout is one <mjml>"
    if parent in CHILDREN:
        return "MJML expects one of " + ", ".join(sorted(CHILDREN[parent]))
    return "it holds text and HTML, no components"
