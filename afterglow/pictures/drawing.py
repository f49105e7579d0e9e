"""Boxes and lines as SVG. Colours are tokens, so that one picture is right by day and by night."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from afterglow.language.actions import VERBS as ACTIONS
from afterglow.pictures.lettering import markup, shortened, width

Point = tuple[float, float]

TITLE: Final = 13.5
SMALL: Final = 12.0
LINE: Final = 16.0

#: What pages add to their own tokens.
STYLE: Final = """\
.picture { display: block; max-width: 100%; height: auto; font-variant-numeric: tabular-nums; }
.picture text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.picture text { fill: var(--ink); font-size: 12px; }
.picture .title { font-size: 13.5px; font-weight: 600; }
.picture .soft { fill: var(--soft); }
.picture .box { fill: var(--card); stroke: var(--line); stroke-width: 1.25; }
.picture .box.occupied { stroke: var(--accent); }
.picture .chip { fill: var(--page); stroke: var(--line); }
.picture .chip + text { fill: var(--soft); }
.picture .way { fill: none; stroke: color-mix(in srgb, var(--soft) 55%, var(--page)); stroke-width: 1.5; }
.picture .way.back { stroke-dasharray: 3 4; }
.picture .track { fill: none; stroke: color-mix(in srgb, var(--accent) 28%, var(--page)); stroke-width: 7; }
.picture .tip { fill: var(--soft); }
.picture .tip.on-track { fill: var(--accent); }
.picture .glyph { fill: none; stroke: var(--soft); stroke-width: 1.5; stroke-linecap: round; stroke-linejoin: round; }
.picture .glyph.send, .picture .glyph.notify { stroke: var(--accent); }
.picture .end { fill: var(--page); stroke: var(--soft); stroke-width: 1.5; }
.picture .end + .end { fill: var(--soft); stroke: none; }
.picture .count { fill: var(--wash); }
.picture .occupied .count { fill: var(--accent); }
.picture .occupied .count + text { fill: var(--on-accent); font-weight: 600; }
.picture .troubled .count { fill: var(--alarm); }
.picture .troubled .count + text { fill: var(--on-alarm); font-weight: 600; }
.picture .stem { stroke: var(--line); stroke-width: 1.5; }
.picture a { text-decoration: none; }
.picture a:hover text { text-decoration: underline; }
.picture a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
"""

#: The tokens of a picture that stands alone; the same as those of the pages for the team.
_TOKENS: Final = """\
.picture { color-scheme: light dark; background: var(--page);
  --page: #fcfcfa; --card: #ffffff; --wash: #f4f3ef; --ink: #1d1e20; --soft: #62656b; --line: #e5e4df;
  --accent: #8a4a20; --on-accent: #ffffff; --alarm: #b3261e; --on-alarm: #ffffff; }
@media (prefers-color-scheme: dark) { .picture {
  --page: #141517; --card: #1b1d20; --wash: #212327; --ink: #e9e8e4; --soft: #a2a5ab; --line: #303338;
  --accent: #e9a878; --on-accent: #20130a; --alarm: #f28b82; --on-alarm: #2a0b08; } }
"""

_GLYPHS: Final = {
    "send": '<rect x=".75" y="1" width="14.5" height="11" rx="1.6"/><path d="M1.5 2.5 8 7.5l6.5-5"/>',
    "wait": '<circle cx="7.5" cy="6.5" r="5.5"/><path d="M7.5 3.5v3.2l2.2 1.3"/>',
    "fork": '<path d="M1 6.5h4c2 0 2-5 4-5h5M5 6.5c2 0 2 5 4 5h5"/>',
    "notify": '<path d="M2.5 9.5h10l-1.2-1.8V5a3.8 3.8 0 0 0-7.6 0v2.700zM6.300 11.8h2.4"/>',
    "stop": '<rect x="2.5" y="1.500" width="10" height="10" rx="1.5"/>',
    "do": '<path d="M2 6.5h10M8.500 3l3.500 3.500L8.500 10"/>',
}
GLYPHS: Final = {"send": "send", "wait": "wait", "until": "wait", "wait_for": "wait", "if": "fork", "split": "fork"} | {
    "notify": "notify",
    "survey": "send",
    **dict.fromkeys(ACTIONS, "do"),
    "stop": "stop",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Here:
    """The people at one place: how many, how many of them need somebody of the team, and where each is named."""

    people: int
    troubled: int = 0
    href: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle with words: `x` and `y` are its upper left corner."""

    id: str
    x: float
    y: float
    w: float
    h: float
    title: str
    lines: tuple[str, ...] = ()
    glyph: str | None = None
    told: str = ""

    def moved(self, dx: float, dy: float) -> "Box":
        return Box(
            id=self.id, x=self.x + dx, y=self.y + dy, w=self.w, h=self.h, title=self.title, lines=self.lines,
            glyph=self.glyph, told=self.told,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """A small word on a line: `x` and `y` are its upper left corner."""

    text: str
    x: float
    y: float
    w: float
    h: float = 20.0

    def moved(self, dx: float, dy: float) -> "Chip":
        return Chip(text=self.text, x=self.x + dx, y=self.y + dy, w=self.w, h=self.h)


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """A line through corners, with a tip where it arrives at a box."""

    corners: tuple[Point, ...]
    tip: bool = False
    back: bool = False

    def moved(self, dx: float, dy: float) -> "Way":
        return Way(corners=tuple((x + dx, y + dy) for x, y in self.corners), tip=self.tip, back=self.back)


def chip(text: str, centre: float, y: float, room: float) -> Chip:
    """A chip around a text, at most `room` wide."""
    w = min(width(text, SMALL) + 28, room)
    return Chip(text=text, x=centre - w / 2, y=y, w=w)


def document(title: str, w: float, h: float, inside: Iterable[str], *, alone: bool) -> str:
    """A whole picture. `alone`: with its own style, for a file; without, for a page that serves `STYLE`."""
    style = f"<style>\n{_TOKENS}{STYLE}</style>\n" if alone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="picture" role="group" aria-label="{markup(title)}" '
        f'width="{number(w)}" height="{number(h)}" viewBox="0 0 {number(w)} {number(h)}">\n'
        f"<title>{markup(title)}</title>\n{style}" + "\n".join(inside) + "\n</svg>\n"
    )


def words(text: str, x: float, y: float, kind: str = "", anchor: str = "") -> str:
    """A line of text; `y` is its baseline."""
    classes = f' class="{kind}"' if kind else ""
    anchored = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{number(x)}" y="{number(y)}"{classes}{anchored}>{markup(text)}</text>'


def rectangle(kind: str, x: float, y: float, w: float, h: float, radius: float) -> str:
    """A rectangle with round corners."""
    return (
        f'<rect class="{kind}" x="{number(x)}" y="{number(y)}" width="{number(w)}" height="{number(h)}" '
        f'rx="{number(radius)}"/>'
    )


def linked(href: str | None, inside: str) -> str:
    """What leads somewhere where there is an address."""
    return inside if href is None else f'<a href="{markup(href)}">{inside}</a>'


def count_of(here: Here, right: float, y: float) -> str:
    """A number of people in a pill that ends at `right`."""
    text = f"{here.people:,}"
    w = max(22.0, width(text, SMALL) + 14)
    told = "1 person" if here.people == 1 else f"{text} people"
    told += f", {here.troubled:,} of them parked" if here.troubled else ""
    return linked(
        here.href if here.people else None,
        f"<g><title>{told} here</title>"
        + rectangle("count", right - w, y, w, 19, 9.5)
        + words(text, right - w / 2, y + 13.7, "", "middle")
        + "</g>",
    )


def box(drawn: Box, here: Here | None) -> str:
    """A step: what it is, what it does, and who stands on it."""
    state = ""
    if here is not None and here.people:
        state = " troubled occupied" if here.troubled else " occupied"
    parts = [f'<g class="place{state}">', f"<title>{markup(drawn.told)}</title>" if drawn.told else ""]
    parts.append(rectangle(f"box{state}", drawn.x, drawn.y, drawn.w, drawn.h, 8))
    if drawn.glyph:
        parts.append(
            f'<g class="glyph {drawn.glyph}" transform="translate({number(drawn.x + 12)} {number(drawn.y + 12)})" '
            f'aria-hidden="true">{_GLYPHS[drawn.glyph]}</g>'
        )
    left = drawn.x + (36 if drawn.glyph else 14)
    parts.append(words(drawn.title, left, drawn.y + 23.5, "title"))
    parts += [words(line, left, drawn.y + 40.5 + LINE * n, "soft") for n, line in enumerate(drawn.lines)]
    if here is not None:
        parts.append(count_of(here, drawn.x + drawn.w - 10, drawn.y + 9.5))
    return "".join([*parts, "</g>"])


def way(drawn: Way) -> str:
    """A line, its corners rounded."""
    path = f'<path class="way{" back" if drawn.back else ""}" d="{rounded(drawn.corners, 9)}"/>'
    return path + (tip(drawn.corners[-2], drawn.corners[-1]) if drawn.tip else "")


def tip(before: Point, at: Point, kind: str = "tip", size: float = 4.5) -> str:
    """The head of an arrow that comes from `before` and ends at `at`."""
    dx, dy = _direction(before, at)
    (x, y), (bx, by) = at, (at[0] - dx * size * 1.5, at[1] - dy * size * 1.5)
    corners = ((x, y), (bx - dy * size, by + dx * size), (bx + dy * size, by - dx * size))
    return f'<path class="{kind}" d="M' + "L".join(f"{number(px)} {number(py)}" for px, py in corners) + 'z"/>'


def word_on_line(drawn: Chip) -> str:
    """A chip with its word."""
    text = shortened(drawn.text, SMALL, drawn.w - 14)
    full = f"<title>{markup(drawn.text)}</title>" if text != drawn.text else ""
    return (
        f"<g>{full}"
        + rectangle("chip", drawn.x, drawn.y, drawn.w, drawn.h, drawn.h / 2)
        + words(text, drawn.x + drawn.w / 2, drawn.y + 14, "", "middle")
        + "</g>"
    )


def end(x: float, y: float) -> str:
    """Where a run ends."""
    return (
        f'<g><title>The run ends here</title><circle class="end" cx="{number(x)}" cy="{number(y)}" r="6"/>'
        f'<circle class="end" cx="{number(x)}" cy="{number(y)}" r="2.8"/></g>'
    )


def rounded(corners: Sequence[Point], radius: float) -> str:
    """The path through corners, each turned in an arc of at most `radius`."""
    kept = [corner for n, corner in enumerate(corners) if n == 0 or corner != corners[n - 1]]
    path = [f"M{number(kept[0][0])} {number(kept[0][1])}"]
    for before, at, after in zip(kept, kept[1:], kept[2:], strict=False):
        r = min(radius, _length(before, at) / 2, _length(at, after) / 2)
        (bx, by), (ax, ay) = _direction(before, at), _direction(at, after)
        path.append(f"L{number(at[0] - bx * r)} {number(at[1] - by * r)}")
        path.append(f"Q{number(at[0])} {number(at[1])} {number(at[0] + ax * r)} {number(at[1] + ay * r)}")
    return "".join([*path, *(f"L{number(x)} {number(y)}" for x, y in kept[-1:] if len(kept) > 1)])


def _length(one: Point, other: Point) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])  # lines are upright or level


def _direction(one: Point, other: Point) -> Point:
    length = _length(one, other) or 1.0
    return ((other[0] - one[0]) / length, (other[1] - one[1]) / length)


def number(value: float) -> str:
    """A coordinate to a tenth, without a needless fraction."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")
