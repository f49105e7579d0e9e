"""Sources: what came in from each provider, what became of it, and what waits for a person."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from starlette.responses import Response

from afterglow.language.source import Source
from db import reception
from db.reception import HOUR, HOURS, Hour, Reception
from db.settings import source_secrets
from web.pages.look import Look

#: Reasons shown of each source; the list of webhooks has them all.
REASONS: Final = 5
#: What a chart measures, in its own units.
WIDTH, HEIGHT, GAP = 288, 44, 2
#: Parts of a bar, from the ground up.
PARTS: Final = ("mapped", "ignored", "open", "parked")

#: What a button did, told once, by the word that it left in the address.
_DONE = {
    "retried": "They will be read again in a moment.",
    "nothing": "Nothing was waiting any more, so nothing changed.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A part of a bar."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One hour: its blocks, and a sentence for whoever points at it."""

    x: float
    width: float
    told: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One source as the page shows it."""

    name: str
    about: str | None
    #: None where it is not a file's: our own API, for instance, or a file that was taken away.
    address: str | None
    #: Variables of which one must be set, where none is.
    missing: tuple[str, ...]
    reception: Reception
    bars: tuple[Bar, ...]
    reasons: tuple[tuple[str, int], ...]
    further_reasons: int

    @property
    def waits(self) -> bool:
        """Whether nobody has connected it yet: there is no secret, and nothing came."""
        heard = self.reception.last_at or self.reception.parked or self.reception.awaiting
        return bool(self.missing) and not heard


def sources(look: Look) -> Response:
    """Every source in force, and whatever else something came from."""
    received = reception.receptions(look.connection, look.now)
    files = look.release.catalog.sources
    names = sorted(files) + sorted(received.by_source.keys() - files.keys())
    rows = [_row(look, name, files.get(name), received.of(name)) for name in names]
    return look.page(
        "sources",
        tab="sources",
        connected=[row for row in rows if not row.waits],
        waiting=[row for row in rows if row.waits],
        received=received,
        counted_max=reception.COUNTED_MAX,
        waiting_max=reception.WAITING_MAX,
        box=(WIDTH, HEIGHT),
        done=_DONE.get(look.word("done") or ""),
    )


def _row(look: Look, name: str, source: Source | None, received: Reception) -> Row:
    needed = () if source is None or source.auth == "none" else tuple(source.auth.secrets)
    reasons = sorted(received.parked.items(), key=lambda pair: (-pair[1], pair[0]))
    return Row(
        name=name,
        about=source.about if source else None,
        address=f"{look.app.settings.public_url}/hooks/{name}" if source else None,
        missing=() if not needed or source_secrets(needed) else needed,
        reception=received,
        bars=_bars(look, received.hours),
        reasons=tuple(reasons[:REASONS]),
        further_reasons=len(reasons[REASONS:]),
    )


def _bars(look: Look, hours: list[Hour]) -> tuple[Bar, ...]:
    return bars(hours, [_clock(look, look.now - (HOURS - n) * HOUR) for n in range(HOURS)])


def _clock(look: Look, moment: datetime) -> str:
    return f"{moment.astimezone(look.zone):%H:%M}"


def bars(hours: list[Hour], clocks: list[str]) -> tuple[Bar, ...]:
    """A chart of a day: one bar an hour, as high as its share of the fullest; any part that is there can be seen.

    Args:
      clocks: when each hour begins, as people read it.
    """
    highest = max(hour.total for hour in hours) or 1
    step = WIDTH / len(hours)
    found = []
    for n, (hour, clock) in enumerate(zip(hours, clocks, strict=True)):
        ground, blocks = float(HEIGHT), []
        x, width = round(n * step, 2), round(step - GAP, 2)
        for kind in PARTS:
            if number := getattr(hour, kind):
                height = max(1.5, round(number / highest * (HEIGHT - 6), 2))
                ground -= height
                blocks.append(Block(kind=kind, x=x, y=round(ground, 2), width=width, height=height))
        told = ", ".join(f"{getattr(hour, kind):,} {kind}" for kind in PARTS if getattr(hour, kind)) or "nothing"
        found.append(Bar(x=round(n * step, 2), width=step, told=f"from {clock}: {told}", blocks=tuple(blocks)))
    return tuple(found)
