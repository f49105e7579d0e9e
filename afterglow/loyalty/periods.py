"""Periods of the shop's calendar: half-open, from one local midnight to another."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from afterglow.durations import Duration
from afterglow.local_time import from_wall, local_day

Length = Literal["day", "week", "month", "quarter", "year", "ever"]
#: Before everything and after everything, for what has no period.
ALWAYS = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))


def period(length: Length, moment: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The instants (UTC) at which the period around a moment begins and at which the next one does.

    Weeks begin on Monday (ISO 8601).
    """
    if length == "ever":
        return ALWAYS
    first, end = _days(length, local_day(moment, zone))
    return _midnight(first, zone), _midnight(end, zone)


def _days(length: Length, day: date) -> tuple[date, date]:
    match length:
        case "day":
            return day, day + timedelta(days=1)
        case "week":
            monday = day - timedelta(days=day.weekday())
            return monday, monday + timedelta(days=7)
        case "month":
            first = day.replace(day=1)
            return first, Duration(months=1).on_calendar(first)
        case "quarter":
            first = day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
            return first, Duration(months=3).on_calendar(first)
        case _:
            return date(day.year, 1, 1), date(day.year + 1, 1, 1)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return from_wall(datetime.combine(day, time()), zone)
