"""What a shop and its flows say about when marketing may go, besides quiet hours and caps: days, pace, lateness.

Each is declared once for the shop, and flows only tighten it: `touchpoint.question` takes the tighter of two.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from afterglow.durations import Duration, shared_out
from afterglow.local_time import from_wall, local_day

#: What becomes of a mail that comes to be sent an hour or more after it was due; later is tighter.
Late = Literal["send", "next window", "skip"]
LATES: Final = ("send", "next window", "skip")
#: So much later than it was due is nothing: a worker that was restarted, a long queue at ten o'clock.
LATE_AFTER: Final = timedelta(hours=1)
#: What becomes of a mail that finds a cap full; later is tighter.
Loser = Literal["defer", "skip"]
LOSERS: Final = ("defer", "skip")


class BlackoutModel(BaseModel):
    """Days on which no marketing is sent, by the calendar where the customer lives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: str = Field(
        description="A day or the first and the last: `12-24..12-26` every year, `2026-11-27` once.",
    )
    because: str = Field(description="Why, in a few words; `afterglow why` says it.")

    def compiled(self) -> "Blackout":
        """The days; ValueError where they cannot be read, or are all days of the year."""
        first, dots, last = (part.strip() for part in self.days.partition(".."))
        parts = [first, last] if dots else [first, first]
        if all(_YEARLY.fullmatch(part) for part in parts):
            for part in parts:
                _day(f"2024-{part}", self.days)  # a year that has a 29 February
            blackout = Blackout(first=parts[0], last=parts[1], because=self.because)
            if all(date(2024, 1, 1) + timedelta(days=n) in blackout for n in range(366)):
                raise ValueError(f"'{self.days}' is every day of the year; to send nothing, write `status: paused`.")
            return blackout
        lasts = _day(parts[1], self.days) - _day(parts[0], self.days)
        if lasts < timedelta():
            raise ValueError(f"'{self.days}' ends before it begins.")
        if lasts > timedelta(days=365):
            raise ValueError(f"'{self.days}' is longer than a year; to send nothing, write `status: paused`.")
        return Blackout(first=parts[0], last=parts[1], because=self.because)


_YEARLY: Final = re.compile(r"\d\d-\d\d", re.ASCII)


def _day(text: str, days: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise ValueError(
            f"'{days}' is no day and no range of days; write 12-24..12-26 for every year, or 2026-11-27."
        ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Blackout:
    """Days without marketing, from the first to the last, both included: as `MM-DD` every year, else once."""

    first: str
    last: str
    because: str

    def __contains__(self, day: date) -> bool:
        written = day.isoformat()[-len(self.first) :]
        if self.first <= self.last:
            return self.first <= written <= self.last
        return written >= self.first or written <= self.last  # over the turn of the year

    def until(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """The instant (UTC) at which the first local day after it begins; None where it is not one of its days."""
        day = local_day(moment, zone)
        if day not in self:
            return None
        while day in self:
            day += timedelta(days=1)
        return from_wall(datetime.combine(day, time()), zone)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """At most `at_most` marketing mails in any time of length `within`; `text` says it."""

    at_most: int
    within: timedelta
    text: str

    @property
    def grace(self) -> timedelta:
        """How late a turn may be used; later, it is lost, so that what stood still does not come as a burst."""
        return min(self.within / 20, timedelta(minutes=1))

    @property
    def spacing(self) -> timedelta:
        """From one turn to the next, in whole microseconds, rounded up.

        A little wider than the rate, so that turns used at once and turns used late make no window too full: `at_most`
        turns last `within` and the grace.
        """
        return shared_out(self.within + self.grace, self.at_most)


_RATE: Final = re.compile(r"(?:at most )?(\d{1,3}(?:,\d{3})+|\d{1,9}) per (minute|hour|day)", re.ASCII)
_PERIODS: Final = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}


def parse_rate(text: str) -> Rate:
    """A rate such as `2,000 per hour`; the period is a minute, an hour or a day of 24 hours.

    Raises ValueError with a sentence for the author of the file.
    """
    found = _RATE.fullmatch(text.strip())
    at_most = int(found[1].replace(",", "")) if found else 0
    if found is None or not at_most:
        raise ValueError(f"'{text}' is not a rate; write it as 2,000 per hour (or minute, or day).")
    return Rate(at_most=at_most, within=_PERIODS[found[2]], text=f"at most {at_most:,} per {found[2]}")


def length(duration: Duration) -> timedelta:
    """How long a duration is, to compare two: a day is 24 hours and a month 30 days here."""
    return timedelta(days=duration.days + 30 * duration.months, seconds=duration.seconds)
