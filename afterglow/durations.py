"""Durations as a marketer writes them: "36 hours", "7 days", "3 months".

Minutes and hours are exact lengths of time. Days, weeks, months and years belong to the calendar on the
customer's wall: a day later it is the same time there, even when the clocks changed in the night.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from afterglow.local_time import from_wall
from afterglow.problems import did_you_mean

_SHAPE = re.compile(r"\s*(\d{1,7})\s+([A-Za-z]+)\s*", re.ASCII)
#: What one of each unit adds to (months, days, seconds).
_UNITS: Final[dict[str, tuple[int, int, int]]] = {
    "minute": (0, 0, 60),
    "hour": (0, 0, 3_600),
    "day": (0, 1, 0),
    "week": (0, 7, 0),
    "month": (1, 0, 0),
    "year": (12, 0, 0),
}
#: Nobody plans a mail further ahead; a larger number is a slip.
LONGEST_YEARS: Final = 10


@dataclass(frozen=True, kw_only=True)
class Duration:
    """A length of time: calendar parts (`months`, then `days`) and an exact one (`seconds`). Negative: back in time."""

    days: int = 0
    months: int = 0
    seconds: int = 0

    def on_calendar(self, day: date) -> date:
        """The day `months` and `days` later; 31 January plus a month is the last day of February."""
        if self.months:
            months = day.year * 12 + day.month - 1 + self.months
            year, month = months // 12, months % 12 + 1
            day = date(year, month, min(day.day, monthrange(year, month)[1]))
        return day + timedelta(days=self.days)

    def after(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The instant (UTC) this much after `moment`: first the calendar on the zone's wall, then the exact
        part.

        Where the same wall time does not exist on that day, it is the first instant after the gap; where it
        exists twice, the first of the two.
        """
        if self.days or self.months:
            wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
            moment = from_wall(datetime.combine(self.on_calendar(wall.date()), wall.time()), zone)
        return moment.astimezone(UTC) + timedelta(seconds=self.seconds)

    @property
    def is_calendar(self) -> bool:
        """Whether it counts whole days only, so that a wall time may be asked for at its end."""
        return self.seconds == 0


def parse_offset(text: str) -> Duration:
    """A duration that may lead back: `30 days`, or `-30 days`, whose parts are negative.

    Raises ValueError with a sentence for the author of the flow.
    """
    duration = parse_duration(text.strip().removeprefix("-"))
    if not text.strip().startswith("-"):
        return duration
    return Duration(days=-duration.days, months=-duration.months, seconds=-duration.seconds)


def parse_duration(text: object) -> Duration:
    """A number and a unit (minutes, hours, days, weeks, months, years; singular too), at most ten years.

    Raises ValueError with a sentence for the author of the flow.
    """
    found = _SHAPE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"'{text}' is not a duration: write a number and a unit, such as '3 days' or '36 hours'.")
    number, word = int(found[1]), found[2].lower()
    unit = _UNITS.get(word.removesuffix("s"))
    if unit is None:
        units = [f"{name}s" for name in _UNITS]
        raise ValueError(f"'{found[2]}' is not a unit of time: use {', '.join(units)}.{did_you_mean(word, units)}")
    months, days, seconds = (number * part for part in unit)
    if months > 12 * LONGEST_YEARS or days * 86_400 + seconds > 366 * 86_400 * LONGEST_YEARS:
        raise ValueError(f"'{text.strip()}' is longer than ten years: write a shorter duration.")  # type: ignore[attr-defined]
    return Duration(months=months, days=days, seconds=seconds)


def shared_out(span: timedelta, turns: int) -> timedelta:
    """From one turn to the next where so many share a span, in whole microseconds, rounded up: none comes too soon."""
    return timedelta(microseconds=-(-(span // timedelta(microseconds=1)) // turns))
