"""A flow as a picture: its steps from above to below, branches beside each other where there is room.

Where the branches of a flow do not fit beside each other, all stand below each other, each moved in a little; lines on
the right then lead from the end of a branch to where it goes on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from afterglow.language.flow.graph import Flow, next_steps
from afterglow.language.pieces import stands_in
from afterglow.pictures import drawing
from afterglow.pictures.drawing import GLYPHS, LINE, SMALL, TITLE, Box, Chip, Here, Point, Way
from afterglow.pictures.lettering import clean, shortened, wrapped

WIDE: Final = 1200
MARGIN: Final = 8.0
_BOX: Final = 232.0
_BESIDE: Final = 28.0
_STEP: Final = 26.0
#: From a step to the words on its branches, and from those to the first step of each.
_TO_CHIP: Final = 30.0
_FROM_CHIP: Final = 18.0
_EMPTY: Final = 96.0
_INDENT: Final = 26.0
_NARROW_MAX: Final = 460.0
_NARROW_MIN: Final = 190.0
_RAIL: Final = 9.0
#: Said elsewhere in the box, or too long for it.
_UNSAID: Final = ("id", "was", "about")


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """One way on from a step, under the name that the file gives it."""

    label: str
    places: tuple["Place", ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A step, and what hangs on it."""

    id: str
    verb: str
    sentence: str
    goes_on: bool
    branches: tuple[Branch, ...]


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Where everything stands."""

    boxes: tuple[Box, ...]
    chips: tuple[Chip, ...]
    ways: tuple[Way, ...]
    ends: tuple[Point, ...]
    width: float
    height: float


def flow_picture(
    flow: Flow, people: Mapping[str, Here] | None = None, *, width: float = WIDE, alone: bool = True
) -> str:
    """A flow as SVG.

    Args:
      people: those on each step, by its id; steps that are left out have none. None: not counted.
      width: pixels at most, where the words allow it; 358 fits a phone.
      alone: with its own style, for a file; without, for a page that serves `STYLE`.
    """
    made = arranged(flow, width)
    found = None if people is None else {box.id: people.get(box.id, Here(people=0)) for box in made.boxes}
    return drawing.document(
        f"Flow {flow.name}: {flow.about}",
        made.width,
        made.height,
        [
            *(drawing.way(way) for way in made.ways),
            *(drawing.end(x, y) for x, y in made.ends),
            *(drawing.word_on_line(chip) for chip in made.chips),
            *(drawing.box(box, found.get(box.id) if found else None) for box in made.boxes),
        ],
        alone=alone,
    )


def arranged(flow: Flow, width: float = WIDE) -> Arrangement:
    """Where the steps of a flow stand in a picture of at most this width, where it is possible."""
    places = tree(flow)
    wide = _beside(places, last=True)
    start = drawing.chip(_start(flow), 0, 0, max(_BOX, min(width, _BOX * 2)) - 2 * MARGIN)
    if wide.right - wide.left + 2 * MARGIN > width:
        return _below(places, start, width)
    wide.move(0, start.h + _STEP)
    left, right = min(wide.left, start.x), max(wide.right, start.x + start.w)
    wide.chips.append(start)
    wide.ways.insert(0, Way(corners=((0, start.h), (0, start.h + _STEP)), tip=bool(places)))
    wide.move(MARGIN - left, MARGIN)
    return wide.done(right - left + 2 * MARGIN)


def tree(flow: Flow) -> tuple[Place, ...]:
    """The steps of a flow as they nest in its file."""
    lists: dict[tuple[str | int, ...], list[Any]] = {}
    for step in flow.steps.values():
        lists.setdefault(stands_in(step.path)[0], []).append(step)
    for steps in lists.values():
        steps.sort(key=lambda step: stands_in(step.path)[1])
    owned: dict[tuple[str | int, ...], list[tuple[str | int, ...]]] = {}
    owners = {step.path for step in flow.steps.values()}
    for where in lists:
        owner = next((where[:n] for n in range(len(where) - 1, 0, -1) if where[:n] in owners), None)
        if owner is not None:
            owned.setdefault(owner, []).append(where)

    def place(step: Any) -> Place:
        keys = written(flow, step.path)
        verb = next((key for key in keys if key in GLYPHS), next((key for key in keys if key != "id"), "do"))
        branches = tuple(
            Branch(label=label, places=tuple(place(inner) for inner in lists.get(where, ())))
            for label, where in _branches(step.path, verb, keys, owned.get(step.path, []))
        )
        return Place(
            id=step.id,
            verb=verb,
            sentence=_sentence(verb, keys),
            goes_on=bool(next_steps(step)),
            branches=branches if any(branch.places for branch in branches) else (),
        )

    return tuple(place(step) for step in lists.get(("steps",), ()))


def _branches(
    path: tuple[str | int, ...], verb: str, keys: Mapping[str, Any], found: Sequence[tuple[str | int, ...]]
) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """The name of each branch of a step, and where its list of steps stands."""
    told: set[tuple[str | int, ...]] = set()
    for label, below in _named(verb, keys):
        told.add((*path, *below))
        yield label, (*path, *below)
    for where in found:
        if where not in told:
            yield ".".join(str(part) for part in where[len(path) :]), where


def _named(verb: str, keys: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """The branches that a step of this kind has, those without steps too, by their names in the file."""
    several = keys.get(verb)
    match verb:
        case "split":
            for n, branch in enumerate(keys["split"]):
                yield f"{branch['name']}, weight {branch['weight']}", ("split", n, "steps")
        case "if":
            yield "then", ("then",)
            for n, further in enumerate(keys.get("elif", ())):
                yield f"elif {further['if']}", ("elif", n, "then")
            yield "else", ("else",)
        case "wait_for" if isinstance(several, str):
            yield "arrived", ("arrived",)
            yield "timed_out", ("timed_out",)
        case "wait_for":
            for n, awaited in enumerate(several or ()):
                yield awaited["event"], ("wait_for", n, "arrived")
            yield "timed_out", ("timed_out",)


def _sentence(verb: str, keys: Mapping[str, Any]) -> str:
    """What a step does, in the words of its file."""
    said = [in_words(verb, keys.get(verb))]
    said += [in_words(key, value) for key, value in keys.items() if key != verb and key not in _UNSAID]
    return ", ".join(words for words in said if words)


def in_words(key: str, value: Any) -> str:
    """A key with its value; a list of steps is drawn and not said."""
    match value:
        case str() | int() | float():
            return key if value is True else f"{key} {value}"
        case Mapping():
            return f"{key} {' '.join(in_words(*pair) for pair in value.items())}"
        case [str(), *others] if all(isinstance(one, str) for one in others):
            return f"{key} {' or '.join(str(one) for one in value)}"
        case [{"event": _}, *_]:
            return f"{key} {' or '.join(str(one['event']) for one in value)}"
        case _:
            return key if key in GLYPHS else ""


def _start(flow: Flow) -> str:
    starts = written(flow, ("starts",))
    return (
        clean(", ".join(in_words(key, value) for key, value in starts.items()))
        if isinstance(starts, Mapping)
        else "start"
    )


def written(flow: Flow, path: Sequence[str | int]) -> Any:
    """What stands at a path of a flow's file, as it was read."""
    return flow.written(tuple(path))


# -- Branches beside each other: the line of each list is its axis, at x = 0 --------------------------------------


@dataclass(kw_only=True)
class _Piece:
    """A part of a picture that can still be moved. `open`: its end goes on, at its axis."""

    left: float = 0.0
    right: float = 0.0
    height: float = 0.0
    open: bool = True
    boxes: list[Box] = field(default_factory=list)
    chips: list[Chip] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)
    ends: list[Point] = field(default_factory=list)

    def move(self, dx: float, dy: float) -> None:
        self.left, self.right, self.height = self.left + dx, self.right + dx, self.height + dy
        self.boxes = [box.moved(dx, dy) for box in self.boxes]
        self.chips = [chip.moved(dx, dy) for chip in self.chips]
        self.ways = [way.moved(dx, dy) for way in self.ways]
        self.ends = [(x + dx, y + dy) for x, y in self.ends]

    def take(self, other: "_Piece") -> None:
        self.boxes += other.boxes
        self.chips += other.chips
        self.ways += other.ways
        self.ends += other.ends
        self.left, self.right = min(self.left, other.left), max(self.right, other.right)

    def line(self, *corners: Point, tip: bool = False, back: bool = False) -> None:
        self.ways.append(Way(corners=corners, tip=tip, back=back))

    def done(self, width: float) -> Arrangement:
        return Arrangement(
            boxes=tuple(self.boxes),
            chips=tuple(self.chips),
            ways=tuple(self.ways),
            ends=tuple(self.ends),
            width=width,
            height=self.height + MARGIN,
        )


def _beside(places: Sequence[Place], *, last: bool) -> _Piece:
    """A list of steps, those of branches beside each other. `last`: nothing follows, so that it ends in a dot."""
    piece = _Piece()
    y = 0.0
    for n, place in enumerate(places):
        if n and piece.open:
            piece.line((0, y - _STEP), (0, y), tip=True)
        box = _box(place, -_BOX / 2, y, _BOX)
        piece.boxes.append(box)
        piece.left, piece.right = min(piece.left, box.x), max(piece.right, box.x + box.w)
        y += box.h
        piece.open = place.goes_on
        if place.branches:
            fork = _fork_beside(place.branches)
            fork.move(0, y)
            piece.take(fork)
            y, piece.open = fork.height, fork.open
        if n + 1 < len(places):
            y += _STEP
    if last and piece.open:
        piece.line((0, y), (0, y + _STEP - 6))
        piece.ends.append((0, y + _STEP))
        y += _STEP + 7
    piece.height = y
    return piece


def _fork_beside(branches: Sequence[Branch]) -> _Piece:
    """Branches beside each other; the axis stands in the middle between the first and the last."""
    columns = [_beside(branch.places, last=False) for branch in branches]
    axes: list[float] = []
    at = 0.0
    for branch, column in zip(branches, columns, strict=True):
        if not column.boxes:
            room = max(_EMPTY, drawing.chip(branch.label, 0, 0, _BOX).w)
            column.left, column.right = -room / 2, room / 2
        axes.append(at - column.left)
        at += column.right - column.left + _BESIDE
    middle = (axes[0] + axes[-1]) / 2
    first = _TO_CHIP + 20 + _FROM_CHIP
    floor = first + max(column.height for column in columns) + 16
    made = _Piece(open=any(column.open for column in columns), height=floor)
    for branch, column, axis in zip(branches, columns, (axis - middle for axis in axes), strict=True):
        room = column.right - column.left
        made.line((0, 0), (0, _TO_CHIP / 2), (axis, _TO_CHIP / 2), (axis, _TO_CHIP))
        made.chips.append(drawing.chip(branch.label, axis, _TO_CHIP, room))
        top = first if column.boxes else floor
        bottom = first + column.height if column.boxes else _TO_CHIP + 20
        if column.boxes:
            made.line((axis, _TO_CHIP + 20), (axis, top), tip=True)
        if column.open:
            made.line((axis, bottom), (axis, floor), (0, floor))
        column.move(axis, first)
        made.take(column)
    return made


# -- Branches below each other ------------------------------------------------------------------------------------


def _below(places: Sequence[Place], start: Chip, width: float) -> Arrangement:
    """Every list moved in by its depth; all boxes end at one line, and rails lead back on its right."""
    depth = _depth(places)
    rails = max(0, depth - 1) * _RAIL + (_RAIL if depth else 0)
    right = min(width, _NARROW_MAX) - MARGIN - rails
    right = max(right, MARGIN + depth * _INDENT + _NARROW_MIN)
    piece = _Piece()
    piece.chips.append(Chip(text=start.text, x=MARGIN, y=MARGIN, w=min(start.w, right - MARGIN)))
    piece.line((MARGIN + 18, MARGIN + 20), (MARGIN + 18, MARGIN + 20 + _STEP), tip=True)
    piece.height = MARGIN + 20 + _STEP
    _list_below(piece, places, MARGIN, right, depth, follows=False)
    return piece.done(right + rails + MARGIN)


def _depth(places: Sequence[Place]) -> int:
    inner = [_depth(branch.places) for place in places for branch in place.branches]
    return 1 + max(inner) if inner else 0


def _list_below(
    piece: _Piece, places: Sequence[Place], left: float, right: float, depth: int, *, follows: bool
) -> bool:
    """Add a list of steps below what is there. Whether its end goes on.

    Args:
      depth: of further nesting that is possible: how far to the right its rails stand.
      follows: something comes after the list.
    """
    axis = left + 18
    goes_on = True
    for n, place in enumerate(places):
        box = _box(place, left, piece.height, right - left)
        piece.boxes.append(box)
        piece.height += box.h
        goes_on = place.goes_on
        more = n + 1 < len(places)
        if place.branches:
            goes_on = _fork_below(piece, place, left, right, depth, follows=more or follows, to_next=more)
        elif more:
            if goes_on:
                piece.line((axis, piece.height), (axis, piece.height + _STEP), tip=True)
            piece.height += _STEP
        elif goes_on and not follows:
            piece.line((axis, piece.height), (axis, piece.height + 12))
            piece.ends.append((axis, piece.height + 18))
            piece.height += 25
    return goes_on


def _fork_below(
    piece: _Piece, place: Place, left: float, right: float, depth: int, *, follows: bool, to_next: bool
) -> bool:
    """Add the branches of a step below it, each with a line to what follows where something does."""
    axis, inner, rail = left + 18, left + _INDENT, right + depth * _RAIL
    top = piece.height
    leaving: list[Point] = []
    for branch in place.branches:
        piece.height += 14
        chip = Chip(text=branch.label, x=inner + 4, y=piece.height, w=drawing.chip(branch.label, 0, 0, right - inner).w)
        piece.chips.append(chip)
        middle = piece.height + 10
        piece.line((axis, top), (axis, middle), (inner + 4, middle))
        piece.height += 20
        if branch.places:
            piece.line((inner + 18, piece.height), (inner + 18, piece.height + 14), tip=True)
            piece.height += 14
            goes_on = _list_below(piece, branch.places, inner, right, depth - 1, follows=follows)
            forked = bool(branch.places[-1].branches)
            last = piece.boxes[-1]
            if goes_on and follows and not forked:
                leaving.append((right, last.y + last.h / 2))
            elif goes_on and follows:
                leaving.append((right + (depth - 1) * _RAIL, piece.height))
        elif follows:
            leaving.append((chip.x + chip.w, middle))
        else:
            piece.line((chip.x + chip.w, middle), (chip.x + chip.w + 14, middle))
            piece.ends.append((chip.x + chip.w + 20, middle))
    piece.height += _STEP if follows else 0
    if not leaving:
        return False
    for x, y in leaving:
        piece.line((x, y), (rail, y), (rail, piece.height), back=True)
    if to_next:
        piece.line((rail, piece.height), (rail, piece.height + 20), (right, piece.height + 20), tip=True)
    return True


def _box(place: Place, x: float, y: float, w: float) -> Box:
    lines = wrapped(place.sentence, SMALL, w - 36 - 14, 4)
    return Box(
        id=place.id,
        x=x,
        y=y,
        w=w,
        h=46 + LINE * max(len(lines) - 1, 0) + 6,
        title=shortened(place.id, TITLE, w - 36 - 52),
        lines=lines,
        glyph=GLYPHS.get(place.verb, "do"),
        told=f"{place.id}: {place.sentence}",
    )
