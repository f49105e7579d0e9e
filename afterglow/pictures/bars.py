"""A number for each day as upright bars: in the letters of a terminal, and as SVG."""

import math
from collections.abc import Sequence
from typing import Final

from afterglow.pictures import drawing
from afterglow.pictures.drawing import number, words
from afterglow.pictures.lettering import markup

#: A bar ends in one of these, so that a line of letters shows eight heights.
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_LEFT, _TOP, _BOTTOM, _RIGHT = 56.0, 44.0, 30.0, 16.0


def columns(counts: Sequence[int], width: int, ends: tuple[str, str], *, height: int = 6) -> list[str]:
    """The lines of a plot that fits a width; days share a column where there are more of them than columns.

    Args:
      ends: what the first and the last day are called.
    """
    if not counts:
        return []
    room = max(width - len(f"{max(counts) * len(counts):,}") - 2, 10)
    together = math.ceil(len(counts) / room)
    sums = [sum(counts[n : n + together]) for n in range(0, len(counts), together)]
    wide = max(1, min(3, room // len(sums)))
    top = max(sums)
    margin = len(f"{top:,}")
    lines = []
    for row in range(height, 0, -1):
        bars = "".join(_EIGHTHS[_eighths(one, top, height, row)] * wide for one in sums)
        lines.append(f"{f'{top:,}' if row == height else '':>{margin}} │{bars}".rstrip())
    lines.append(f"{'0':>{margin}} └{'─' * (len(sums) * wide)}")
    between = len(sums) * wide - len(ends[0]) - len(ends[1])
    lines.append(f"{'':>{margin}}  {ends[0]}{' ' * max(between, 1)}{ends[1]}")
    return lines


def _eighths(value: int, top: int, height: int, row: int) -> int:
    """How much of a row, the first at the foot, a bar fills; what is not nothing can be seen."""
    filled = math.ceil(value * height * 8 / top) if top else 0
    return min(max(filled - (row - 1) * 8, 0), 8)


def bars_picture(title: str, counts: Sequence[int], labels: Sequence[str], *, width: int = 960) -> str:
    """The same as SVG for a file. Each bar says its day and number where one points at it.

    Args:
      labels: what each day is called.
    """
    height, top = 300.0, max(counts, default=0)
    room = width - _LEFT - _RIGHT
    each = room / max(len(counts), 1)
    foot, tall = height - _BOTTOM, height - _BOTTOM - _TOP
    parts = [words(title, _LEFT, 26, "title"), words(f"{top:,}", _LEFT - 8, _TOP + 5, "soft", "end")]
    parts.append(words("0", _LEFT - 8, foot + 4, "soft", "end"))
    for y in (_TOP, foot):
        parts.append(f'<path class="stem" d="M{number(_LEFT)} {number(y)}H{number(width - _RIGHT)}"/>')
    for n, (count, label) in enumerate(zip(counts, labels, strict=True)):
        if count:
            tip = tall * count / top
            bar = drawing.rectangle("tip on-track", _LEFT + n * each, foot - tip, max(each - 1, 0.5), tip, 1)
            parts.append(f"<g><title>{markup(f'{label}: {count:,}')}</title>{bar}</g>")
    if labels:
        parts.append(words(labels[0], _LEFT, height - 9, "soft"))
        parts.append(words(labels[-1], width - _RIGHT, height - 9, "soft", "end"))
    return drawing.document(title, width, height, parts, alone=True)
