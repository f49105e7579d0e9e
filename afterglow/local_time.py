"""Local time: what the clock on a customer's wall says, and which instant that is.

Two rules settle the nights on which clocks change, and every function here keeps them:

- Gap (a wall time that does not exist, in spring): the first instant after the gap. What was planned for
  02:30 happens at the moment the clock jumps, when the wall says 03:00.
- Fold (a wall time that exists twice, in autumn): the first of the two.

Zones are IANA names through `zoneinfo`. Instants are aware datetimes in UTC; differences and comparisons are
made there only, since Python compares two datetimes of the same zone by the wall, ignoring the repeated hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from afterglow.durations import Duration

_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
#: Files of a time zone database that are no places: two mean "whatever this machine is set to".
_NO_PLACES: Final = frozenset({"localtime", "posixrules", "Factory"})


@lru_cache(maxsize=1024)
def known_zone(name: str) -> ZoneInfo | None:
    """The zone with this IANA name (`Europe/Paris`), or None when there is none."""
    if name in _NO_PLACES:
        return None
    try:
        return ZoneInfo(name)
    except (
        ZoneInfoNotFoundError,
        ValueError,
        OSError,
    ):  # OSError: "Europe" is a directory, long names are no files
        return None


def from_wall(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant (UTC) at which a clock in the zone shows the naive `wall`, by the rules for gap and fold.

    1. Read the wall with the offset in force before any change nearby (fold=0). When the way back shows the
    same
       wall, that is the instant, and the first one if there are two.
    2. Otherwise the wall lies in a gap, and the two readings (fold=1 before the change, fold=0 after) enclose
       exactly one change of offset: halve the distance until it is found, to the second.
    """
    late = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall(late, zone) == wall:
        return late
    early = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    offset_before = early.astimezone(zone).utcoffset()
    while late - early > _SECOND:
        middle = early + timedelta(seconds=(late - early) // _SECOND // 2)
        if middle.astimezone(zone).utcoffset() == offset_before:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def local_day(moment: datetime, zone: ZoneInfo) -> date:
    """The calendar day it is in the zone at an instant."""
    return moment.astimezone(zone).date()


def at_local(moment: datetime, duration: Duration, at: time, zone: ZoneInfo) -> datetime:
    """The instant (UTC) a duration after `moment`, moved to the wall time `at` of that day.

    The day is the one the customer's calendar shows at `moment` plus the duration's days and months (hours
    and minutes, if any, are added before looking at the calendar). So "3 days at 10:00" from Monday evening
    is Thursday ten o'clock whatever clocks did in between. A wall time in a gap gives the first instant
    after it, one in a fold the first of the two.
    """
    start = moment + timedelta(seconds=duration.seconds)
    day = duration.on_calendar(local_day(start, zone))
    return from_wall(datetime.combine(day, at.replace(tzinfo=None, fold=0)), zone)


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """A daily period, in wall time, in which no marketing is sent; `21:00` to `08:00` runs over midnight.

    The end is not part of it. Equal times are refused: they could mean always or never.
    """

    start: time
    end: time

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise ValueError("quiet hours need two different times; leave them out to have none")

    def beginning_on(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """The instants between which the period that begins on a local day is quiet; equal ones mean never.

        Both follow the rules for gap and fold, so a night is never quiet twice.
        """
        end_day = day if self.start < self.end else day + _DAY
        return (
            from_wall(datetime.combine(day, self.start), zone),
            from_wall(datetime.combine(end_day, self.end), zone),
        )


#: All days of the week, as an opening knows them.
EVERY_DAY: Final = frozenset(range(7))


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Times of the customer's week at which a wait may end, in wall time; Monday is 0.

    On each of `weekdays`: the one moment `start`, or, where `end` is given, from `start` until `end` (which is not part
    of it). An end at or before the start is that of the next day: such an opening belongs to the day on which it
    begins, and 00:00 to 00:00 is the whole day.
    """

    weekdays: frozenset[int]
    start: time
    end: time | None

    def beginning_on(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """The instants between which the opening of a local day lasts, by the rules for gap and fold.

        Equal ones are a moment where the opening is one; of others the whole lies in a gap, and there is none.
        """
        start = from_wall(datetime.combine(day, self.start), zone)
        if self.end is None:
            return start, start
        end_day = day if self.start < self.end else day + _DAY
        return start, from_wall(datetime.combine(end_day, self.end), zone)


#: Clocks never jump over the same weekday so many weeks in a row.
_WEEKS_AHEAD: Final = 6


def next_opening(moment: datetime, opening: Opening, zone: ZoneInfo) -> datetime:
    """The first instant (UTC) at or after `moment` that lies in an opening; `moment` itself where it does.

    A moment of the day comes once for every local day that is asked for: where it does not exist, at the first instant
    after the gap; where it exists twice, at the first of the two and not again.
    """
    today = local_day(moment, zone)
    for days in range(-1, 7 * _WEEKS_AHEAD):
        day = today + timedelta(days=days)
        if day.weekday() not in opening.weekdays:
            continue
        start, end = opening.beginning_on(day, zone)
        if start >= moment and (start < end or opening.end is None):
            return start
        if start <= moment < end:
            return moment.astimezone(UTC)
    raise AssertionError((moment, opening, zone.key))


def quiet_until(moment: datetime, quiet: Quiet, zone: ZoneInfo) -> datetime | None:
    """The instant (UTC) the quiet period around `moment` ends, or None when it is not quiet then.

    The instant given is itself not quiet: where a calendar skips a day, two periods touch and count as one.
    """
    until: datetime | None = None
    now = moment
    while (end := _end_around(now, quiet, zone)) is not None:
        until = now = end
    return until


def _end_around(moment: datetime, quiet: Quiet, zone: ZoneInfo) -> datetime | None:
    today = local_day(moment, zone)
    for day in (today - _DAY, today):
        start, end = quiet.beginning_on(day, zone)
        if start <= moment < end:
            return end
    return None
