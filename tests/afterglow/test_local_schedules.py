"""Local schedules through the rails, at every change of a clock: once for every local date, never in quiet hours.

Every zone, every change in 2026 to 2028 and every half hour with AFTERGLOW_FAULTS=long; a part of the zones otherwise.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from afterglow.durations import Duration
from afterglow.local_time import EVERY_DAY, Opening, Quiet, at_local, from_wall, local_day, next_opening
from afterglow.rails import Defer, Go, judge
from tests.afterglow.test_local_time import HALF_HOURS, ZONES, transitions, wall
from tests.afterglow.test_rails import FINE
from tests.examples import LONG

TAKEN = ZONES if LONG else ZONES[::40]
NIGHT = Quiet(start=time(21), end=time(8))
TICK = timedelta(microseconds=1)


def behaviours() -> list[str]:
    """One zone of each behaviour: those whose clocks change at the same instants, from and to the same offsets."""
    found = {}
    for name in TAKEN:
        changes = transitions(name)
        moments = [moment for change in changes for moment in (change - timedelta(seconds=1), change)]
        found[changes, tuple(moment.astimezone(ZoneInfo(name)).utcoffset() for moment in moments)] = name
    return sorted(found.values())


def goes(due: datetime, zone: ZoneInfo, quiet: Quiet) -> datetime:
    """When marketing that is due at an instant goes by the rails."""
    question, now = replace(FINE, zone=zone, quiet_hours=(quiet,), queued_at=due), due
    for _ in range(3):
        match judge(replace(question, due_at=now), now):
            case Go():
                return now
            case Defer(until=until):
                assert until > now
                now = until
    raise AssertionError(f"{due} in {zone.key} is deferred again and again")


def fires(first: date, days: int, at: time, zone: ZoneInfo) -> Iterator[datetime]:
    """When a run comes out of `until: {at: ...}`, day after day, going on as soon as it did."""
    moment = from_wall(datetime.combine(first, time()), zone)
    for _ in range(days):
        moment = next_opening(moment, Opening(weekdays=EVERY_DAY, start=at, end=None), zone)
        yield moment
        moment += TICK


@pytest.mark.long
@pytest.mark.parametrize("name", TAKEN)
def test_every_half_hour_fires_once_for_every_local_date_and_never_in_quiet_hours(name):
    zone = ZoneInfo(name)
    noon = from_wall(datetime(2027, 1, 5, 12), zone)
    for change in transitions(name) or (noon,):
        first = local_day(change, zone) - timedelta(days=2)
        days = [first + timedelta(days=n) for n in range(5)]
        for at in HALF_HOURS:
            due = list(fires(first, len(days), at, zone))

            assert due == [from_wall(datetime.combine(day, at), zone) for day in days], "once for every local date"
            for day, moment in zip(days, due, strict=True):
                exists = wall(moment, zone) == datetime.combine(day, at)
                assert exists or moment == change, "what the clock jumps over comes at the jump"
                assert not exists or moment.astimezone(zone).fold == 0, "of two it is the first"
                yesterday = from_wall(datetime.combine(day - timedelta(days=1), time(12)), zone)
                assert at_local(yesterday, Duration(days=1), at, zone) == moment, "`wait: 1 day, at` means the same"
                gone = goes(moment, zone, NIGHT)
                assert time(8) <= wall(gone, zone).time() < time(21)
                assert gone == moment or wall(gone, zone).time() == time(8), "and goes as soon as the night ends"


@pytest.mark.long
@pytest.mark.parametrize("name", behaviours())
def test_quiet_hours_that_begin_or_end_at_any_half_hour_are_kept_around_every_change(name):
    """A period lasts from the first instant of its beginning to the first of its end, so no hour is quiet twice."""
    zone = ZoneInfo(name)
    for change in transitions(name):
        for n, start in enumerate(HALF_HOURS):
            quiet = Quiet(start=start, end=HALF_HOURS[(n + 15) % 48])
            for minutes in range(-18 * 60, 18 * 60, 30 if LONG else 210):
                moment = change + timedelta(minutes=minutes)
                gone = goes(moment, zone, quiet)
                today = local_day(gone, zone)
                for day in (today - timedelta(days=1), today):
                    begins = from_wall(datetime.combine(day, quiet.start), zone)
                    end_day = day + timedelta(days=quiet.start > quiet.end)
                    ends = from_wall(datetime.combine(end_day, quiet.end), zone)
                    assert not begins <= gone < ends
                    assert not (begins <= moment < ends) or gone >= ends
                assert gone - moment <= timedelta(hours=9)
