"""The journey map: the stages of a customer's life as a loop, and under each what a customer gets there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from afterglow.language.catalog import Catalog
from afterglow.language.flow.graph import Flow, Notify, Send, walk
from afterglow.pictures import drawing
from afterglow.pictures.drawing import LINE, SMALL, TITLE, Box, Here, Point
from afterglow.pictures.flows import in_words, written
from afterglow.pictures.lettering import markup, shortened, wrapped

WIDE: Final = 1200
MARGIN: Final = 10.0
#: Below this width the stages stand in one column.
_COLUMN_MIN: Final = 190.0
_BESIDE: Final = 30.0
_TURN: Final = 46.0
_ROWS: Final = 54.0
_HANG: Final = 12.0
_FLOW: Final = 14.0
_TICK: Final = 18.0
#: Flows that no stage and no event of a stage starts.
ANY_TIME: Final = "At any time"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hanging:
    """A flow, and the touchpoints that it can bring, in the order of its file."""

    name: str
    about: str
    status: str
    starts: str
    touchpoints: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """A stage, and the flows that hang on it."""

    stage: str
    about: str
    flows: tuple[Hanging, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    """A stage or the rest as it is drawn: the box, and the lines below it."""

    stop: Stop
    box: Box
    flows: tuple[tuple[Hanging, float, tuple[str, ...]], ...]
    bottom: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """People in each stage, and inside each flow."""

    stages: Mapping[str, Here]
    flows: Mapping[str, Here]


def journey_picture(
    catalog: Catalog,
    figures: Figures | None = None,
    *,
    width: float = WIDE,
    alone: bool = True,
    href: Callable[[str], str] | None = None,
) -> str:
    """The journey as SVG.

    Args:
      figures: None: not counted.
      width: pixels; 358 fits a phone.
      alone: with its own style, for a file; without, for a page that serves `STYLE`.
      href: the address of a flow.
    """
    stops, rest = stops_of(catalog)
    blocks, track, height = arranged(stops, width)
    inside = list(_track(blocks, track))
    for block in blocks:
        inside += _drawn(block, figures, href, stem=not _upright(blocks))
    if rest.flows:
        columns = max(1, min(len(rest.flows), int((width - 2 * MARGIN) // (_COLUMN_MIN + _BESIDE))))
        height = _rest(inside, rest, columns, width, height, figures, href)
    name = catalog.shop.model.name
    return drawing.document(f"The journey of customers of {name}", width, height + MARGIN, inside, alone=alone)


def stops_of(catalog: Catalog) -> tuple[tuple[Stop, ...], Stop]:
    """Each stage with its flows, and the flows that belong to none.

    A flow hangs on the stage that starts it, or on the stage into which a source brings customers with the event that
    starts it.
    """
    by_event = {
        rule.event: rule.stage
        for name in sorted(catalog.sources)
        for rule in catalog.sources[name].events
        if isinstance(rule.event, str) and isinstance(rule.stage, str)
    }
    hung: dict[str | None, list[Hanging]] = {}
    known = {stage.stage for stage in catalog.stages}
    for flow in sorted(catalog.flows.values(), key=lambda flow: (catalog.shop.rank(flow.name), flow.name)):
        stage = flow.stage or by_event.get(flow.event or "")
        hung.setdefault(stage if stage in known else None, []).append(_hanging(flow))
    stops = tuple(
        Stop(stage=stage.stage, about=stage.about or "", flows=tuple(hung.get(stage.stage, ())))
        for stage in catalog.stages
    )
    return stops, Stop(stage=ANY_TIME, about="", flows=tuple(hung.get(None, ())))


def _hanging(flow: Flow) -> Hanging:
    told = (
        step.template.rpartition("/")[2] if isinstance(step, Send) else f"{step.team} is told"
        for step in walk(flow)
        if isinstance(step, Send | Notify)
    )
    return Hanging(
        name=flow.name,
        about=flow.about,
        status=flow.status,
        starts=", ".join(_starts(flow)),
        touchpoints=tuple(dict.fromkeys(told)),
    )


def _starts(flow: Flow) -> Iterator[str]:
    starts = written(flow, ("starts",))
    if isinstance(starts, Mapping):
        yield from (in_words(key, value) for key, value in starts.items() if key != "when")


def arranged(stops: Sequence[Stop], width: float) -> tuple[tuple[_Block, ...], tuple[Point, ...], float]:
    """The blocks, the corners of the track through them, and how far down the picture goes."""
    above = (len(stops) + 1) // 2
    column = (width - 2 * MARGIN - 2 * _TURN - (above - 1) * _BESIDE) / above
    if column < _COLUMN_MIN:
        return _in_one_column(stops, width)
    column = min(column, 320.0)
    blocks: list[_Block] = []
    lefts = [MARGIN + _TURN + n * (column + _BESIDE) for n in range(above)]
    for left, stop in zip(lefts, stops, strict=False):
        blocks.append(_block(stop, left, MARGIN, column))
    middle = MARGIN + blocks[0].box.h / 2
    second = max(block.bottom for block in blocks) + _ROWS
    below = stops[above:]
    # The way back goes from right to left; fewer stages than above stand in the middle of it.
    shift = (above - len(below)) * (column + _BESIDE) / 2
    for left, stop in zip(reversed(lefts[: len(below)]), below, strict=True):
        blocks.append(_block(stop, left + shift, second, column))
    bottom = second + (blocks[0].box.h / 2)
    right = lefts[-1] + column + _TURN - 12
    left = MARGIN + 12
    first = blocks[0].box
    track = ((first.x, middle), (right, middle), (right, bottom), (left, bottom), (left, middle), (first.x, middle))
    return tuple(blocks), track, max([bottom + 8, *(block.bottom for block in blocks)])


def _in_one_column(stops: Sequence[Stop], width: float) -> tuple[tuple[_Block, ...], tuple[Point, ...], float]:
    left, y = MARGIN + 30, MARGIN
    blocks: list[_Block] = []
    for stop in stops:
        blocks.append(_block(stop, left, y, width - left - MARGIN - 14))
        y = blocks[-1].bottom + 26
    first, last = blocks[0].box, blocks[-1].box
    x, back = left + _HANG, MARGIN + 6
    top, bottom = first.y + first.h / 2, last.y + last.h / 2
    return tuple(blocks), ((x, top), (x, bottom), (back, bottom), (back, top), (x, top)), blocks[-1].bottom


def _block(stop: Stop, x: float, y: float, w: float) -> _Block:
    lines = wrapped(stop.about, SMALL, w - 28, 2) if stop.about else ()
    box = Box(
        id=stop.stage,
        x=x,
        y=y,
        w=w,
        h=36 + LINE * 2 + 2,
        title=shortened(stop.stage, TITLE, w - 28 - 60),
        lines=lines,
        told=f"{stop.stage}: {stop.about}" if stop.about else stop.stage,
    )
    return _Block(stop=stop, box=box, flows=(), bottom=box.y + box.h) if not stop.flows else _with_flows(stop, box)


def _with_flows(stop: Stop, box: Box) -> _Block:
    y = box.y + box.h + _FLOW
    placed = []
    for flow in stop.flows:
        lines = wrapped(" · ".join(flow.touchpoints), SMALL, box.w - _HANG - _TICK - 10, 6) if flow.touchpoints else ()
        placed.append((flow, y, lines))
        y += 22 + LINE * len(lines) + 10
    return _Block(stop=stop, box=box, flows=tuple(placed), bottom=y - 10)


def _track(blocks: Sequence[_Block], corners: Sequence[Point]) -> Iterator[str]:
    """The loop, with a tip before each stage."""
    yield f'<path class="track" d="{drawing.rounded(corners, 34)}"/>'
    upright = _upright(blocks)
    for block in blocks:
        yield drawing.rectangle("chip", block.box.x, block.box.y, block.box.w, block.box.h, 8)
    for n, block in enumerate(blocks):
        b = block.box
        if upright:
            at, before = (b.x + _HANG, b.y - 3), (b.x + _HANG, b.y - 20)
        elif n < (len(blocks) + 1) // 2:
            at, before = (b.x - 3, b.y + b.h / 2), (b.x - 20, b.y + b.h / 2)
        else:
            at, before = (b.x + b.w + 3, b.y + b.h / 2), (b.x + b.w + 20, b.y + b.h / 2)
        if not (upright and n == 0):
            yield drawing.tip(before, at, "tip on-track", 6)


def _upright(blocks: Sequence[_Block]) -> bool:
    """Whether the stages stand in one column, so that flows hang on the track itself."""
    return len({block.box.x for block in blocks}) == 1 and len(blocks) > 1


def _drawn(block: _Block, figures: Figures | None, href: Callable[[str], str] | None, *, stem: bool) -> Iterator[str]:
    here = None if figures is None else figures.stages.get(block.stop.stage, Here(people=0))
    yield drawing.box(block.box, here)
    if not block.flows:
        return
    x = block.box.x + _HANG
    if stem:
        yield (
            f'<path class="stem" d="M{drawing.number(x)} {drawing.number(block.box.y + block.box.h)}'
            f'V{drawing.number(block.flows[-1][1] + 10)}"/>'
        )
    for flow, y, lines in block.flows:
        yield f'<path class="stem" d="M{drawing.number(x)} {drawing.number(y + 10)}h{_TICK - 8:.0f}"/>'
        yield _flow(flow, x + _TICK, y, block.box.w - _HANG - _TICK - 10, lines, figures, href)


def _flow(
    flow: Hanging,
    x: float,
    y: float,
    w: float,
    lines: Sequence[str],
    figures: Figures | None,
    href: Callable[[str], str] | None,
) -> str:
    here = None if figures is None else figures.flows.get(flow.name, Here(people=0))
    state = "" if flow.status == "live" else f" ({flow.status})"
    name = drawing.linked(
        href(flow.name) if href else None,
        drawing.words(shortened(flow.name + state, TITLE, w - 50), x, y + 14.5, "title"),
    )
    count = ""
    if here is not None and here.people:
        count = drawing.count_of(here, x + w, y)
    occupied = " troubled occupied" if here and here.troubled else " occupied" if here and here.people else ""
    told = markup(f"{flow.name}, starts by {flow.starts}: {flow.about}")
    soft = "".join(drawing.words(line, x, y + 31 + LINE * n, "soft") for n, line in enumerate(lines))
    return f'<g class="hanging{occupied}"><title>{told}</title>{name}{count}{soft}</g>'


def _rest(
    inside: list[str],
    rest: Stop,
    columns: int,
    width: float,
    height: float,
    figures: Figures | None,
    href: Callable[[str], str] | None,
) -> float:
    """Add the flows that hang on no stage below the loop. How far down the picture goes then."""
    top = height + 40
    inside.append(
        f'<path class="stem" d="M{drawing.number(MARGIN)} {drawing.number(top)}H{drawing.number(width - MARGIN)}"/>'
    )
    inside.append(drawing.words(rest.stage, MARGIN, top + 26, "title"))
    inside.append(drawing.words("Started by events that belong to no stage", MARGIN, top + 43, "soft"))
    w = (width - 2 * MARGIN - (columns - 1) * _BESIDE) / columns
    bottoms = [top + 62] * columns
    for flow in rest.flows:
        n = bottoms.index(min(bottoms))
        x, y = MARGIN + n * (w + _BESIDE), bottoms[n]
        lines = (shortened(flow.starts, SMALL, w), *wrapped(" · ".join(flow.touchpoints), SMALL, w, 6))
        inside.append(_flow(flow, x, y, w, lines, figures, href))
        bottoms[n] = y + 22 + LINE * len(lines) + 12
    return max(bottoms)
