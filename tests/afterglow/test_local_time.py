"""Local time over every zone there is: gaps give the first instant after, folds the first of two."""

from datetime import UTC, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.durations import Duration
from afterglow.local_time import (
    Opening,
    Quiet,
    at_local,
    from_wall,
    known_zone,
    local_day,
    next_opening,
    quiet_until,
)

ZONES = sorted(available_timezones() - {"localtime", "posixrules", "Factory"})
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PARIS = ZoneInfo("Europe/Paris")
NIGHT = Quiet(start=time(21), end=time(8))


@cache
def transitions(name: str) -> tuple[datetime, ...]:
    """Instants at which a zone's offset changes in 2026 to 2028; steps of a week miss none."""
    zone = ZoneInfo(name)
    found = []
    moment = START
    while moment < END:
        later = moment + timedelta(days=7)
        if moment.astimezone(zone).utcoffset() != later.astimezone(zone).utcoffset():
            early, late = moment, later
            while late - early > SECOND:
                middle = early + (late - early) // 2 // SECOND * SECOND
                if middle.astimezone(zone).utcoffset() == early.astimezone(zone).utcoffset():
                    early = middle
                else:
                    late = middle
            found.append(late)
        moment = later
    return tuple(found)


def wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


@pytest.mark.parametrize("name", ZONES)
def test_every_zone_keeps_the_rules_for_gap_and_fold(name):
    zone = ZoneInfo(name)
    assert known_zone(name) is not None

    for change in transitions(name):
        before = (change - SECOND).astimezone(zone).utcoffset()
        after = change.astimezone(zone).utcoffset()
        shift = after - before
        last, first = wall(change - SECOND, zone) + SECOND, wall(change, zone)

        if shift > timedelta(0):  # the walls from `last` up to `first` do not exist
            for missing in (last, last + shift / 2, first - SECOND, last + timedelta(microseconds=1)):
                assert from_wall(missing, zone) == change
        else:  # the walls from `first` up to `last` exist twice
            for repeated in (first, first - shift / 2, last - SECOND):
                instant = from_wall(repeated, zone)
                assert instant < change
                assert wall(instant, zone) == wall(instant - shift, zone) == repeated


@given(
    name=st.sampled_from(ZONES),
    moment=st.datetimes(datetime(2026, 1, 1), datetime(2028, 12, 31), timezones=st.just(UTC)),
)
def test_an_instant_found_from_the_wall_is_that_instant_or_the_first_of_two(name, moment):
    zone = ZoneInfo(name)

    found = from_wall(wall(moment, zone), zone)

    assert found <= moment
    assert wall(found, zone) == wall(moment, zone)


@given(
    name=st.sampled_from(ZONES),
    moment=st.datetimes(datetime(2026, 1, 1), datetime(2028, 12, 31), timezones=st.just(UTC)),
    days=st.integers(0, 60),
    at=st.times().map(lambda at: at.replace(microsecond=0)),
)
def test_days_later_at_a_time_is_that_time_on_that_day_where_it_exists(name, moment, days, at):
    zone = ZoneInfo(name)

    there = at_local(moment, Duration(days=days), at, zone)

    planned = datetime.combine(local_day(moment, zone) + timedelta(days=days), at)
    assert wall(there, zone) == planned or wall(there - SECOND, zone) < planned < wall(there, zone)


def test_seven_days_at_ten_is_ten_where_the_customer_lives():
    monday_evening = datetime(2026, 3, 23, 23, 30, tzinfo=UTC)  # already Tuesday in Paris

    due = at_local(monday_evening, Duration(days=7), time(10), PARIS)

    assert due == datetime(2026, 3, 31, 8, 0, tzinfo=UTC)  # Tuesday, 10:00, by now in summer time


def test_a_time_that_does_not_exist_is_the_moment_the_clock_jumps():
    due = at_local(datetime(2026, 3, 28, 12, tzinfo=UTC), Duration(days=1), time(2, 30), PARIS)

    assert due == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_a_time_that_exists_twice_is_the_first():
    due = at_local(datetime(2026, 10, 24, 12, tzinfo=UTC), Duration(days=1), time(2, 30), PARIS)

    assert due == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_day_that_an_island_skipped_begins_with_the_next():
    apia = ZoneInfo("Pacific/Apia")  # 30 December 2011 was left out

    assert from_wall(datetime(2011, 12, 30, 12), apia) == datetime(2011, 12, 30, 10, tzinfo=UTC)
    assert quiet_until(datetime(2011, 12, 30, 9, 59, tzinfo=UTC), NIGHT, apia) == from_wall(
        datetime(2011, 12, 31, 8), apia
    )


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ((2026, 1, 10, 19, 59), None),
        ((2026, 1, 10, 20, 0), (2026, 1, 11, 7, 0)),  # 21:00 in Paris
        ((2026, 1, 11, 3, 0), (2026, 1, 11, 7, 0)),
        ((2026, 1, 11, 6, 59), (2026, 1, 11, 7, 0)),
        ((2026, 1, 11, 7, 0), None),
        ((2026, 3, 28, 23, 0), (2026, 3, 29, 6, 0)),  # an hour shorter
        ((2026, 10, 24, 21, 0), (2026, 10, 25, 7, 0)),  # an hour longer
    ],
)
def test_quiet_hours_run_over_midnight_and_over_clock_changes(now, until):
    expected = datetime(*until, tzinfo=UTC) if until else None

    assert quiet_until(datetime(*now, tzinfo=UTC), NIGHT, PARIS) == expected


def test_quiet_hours_by_day_do_not_reach_into_the_night():
    siesta = Quiet(start=time(13), end=time(15))

    assert quiet_until(datetime(2026, 1, 10, 12, 30, tzinfo=UTC), siesta, PARIS) == datetime(
        2026, 1, 10, 14, tzinfo=UTC
    )
    assert quiet_until(datetime(2026, 1, 10, 23, 30, tzinfo=UTC), siesta, PARIS) is None


@pytest.mark.parametrize("minute", [0, 15, 30, 45])
def test_the_repeated_hour_is_not_quiet_a_second_time(minute):
    until_a_quarter_to = Quiet(start=time(21), end=time(2, 45))
    ends = datetime(2026, 10, 25, 0, 45, tzinfo=UTC)

    assert quiet_until(ends - timedelta(minutes=15), until_a_quarter_to, PARIS) == ends
    assert quiet_until(ends + timedelta(minutes=15 + minute), until_a_quarter_to, PARIS) is None


def test_quiet_hours_that_fall_into_a_gap_are_none_that_night():
    inside_the_gap = Quiet(start=time(2, 10), end=time(2, 50))

    assert quiet_until(datetime(2026, 3, 29, 1, 0, tzinfo=UTC), inside_the_gap, PARIS) is None


@given(
    name=st.sampled_from(ZONES),
    moment=st.datetimes(datetime(2026, 1, 2), datetime(2028, 12, 30), timezones=st.just(UTC)),
    start=st.times(),
    end=st.times(),
)
def test_the_end_of_quiet_is_later_and_itself_not_quiet(name, moment, start, end):
    if start == end:
        return
    quiet, zone = Quiet(start=start, end=end), ZoneInfo(name)

    until = quiet_until(moment, quiet, zone)

    if until is not None:
        assert moment < until <= moment + timedelta(hours=26)
        assert quiet_until(until, quiet, zone) is None


def test_equal_times_are_no_quiet_hours():
    with pytest.raises(ValueError, match="two different times"):
        Quiet(start=time(8), end=time(8))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Europe",
        "Europe/Pari",
        "../../etc/passwd",
        "/etc/localtime",
        "localtime",
        "\x00",
        "x" * 5_000,
        "é",
    ],
)
def test_what_is_no_zone_is_none(name):
    assert known_zone(name) is None


EVERY_DAY = frozenset(range(7))
HALF_HOURS = tuple(time(n // 2, n % 2 * 30) for n in range(48))


@pytest.mark.parametrize("name", ZONES)
def test_a_time_of_the_day_comes_once_for_every_local_date_around_every_change(name):
    zone = ZoneInfo(name)
    for change in transitions(name):
        days = [local_day(change, zone) + timedelta(days=n) for n in range(-2, 3)]
        begins = from_wall(datetime.combine(days[0], time()), zone)
        for at in _near(change, zone):
            opening = Opening(weekdays=EVERY_DAY, start=at, end=None)
            found, moment = [], begins
            for _ in days:
                found.append(next_opening(moment, opening, zone))
                moment = found[-1] + timedelta(microseconds=1)

            assert found == [from_wall(datetime.combine(day, at), zone) for day in days]
            for day, one in zip(days, found, strict=True):
                asked = datetime.combine(day, at)
                assert wall(one, zone) == asked or one == change, "only what the clock jumps over comes at the jump"


def _near(change: datetime, zone: ZoneInfo) -> set[time]:
    """Times of the day near a change, each half hour of it, and one far from it."""
    local = wall(change, zone).hour * 2
    return {HALF_HOURS[(local + n) % 48] for n in (*range(-5, 6), 24)}


@pytest.mark.parametrize("name", ZONES)
def test_an_opening_over_midnight_holds_nobody_inside_and_ends_on_time_around_every_change(name):
    zone = ZoneInfo(name)
    opening = Opening(weekdays=EVERY_DAY, start=time(22), end=time(6))
    for change in transitions(name):
        for minutes in range(-24 * 60, 24 * 60, 180):
            moment = change + timedelta(minutes=minutes)
            then = next_opening(moment, opening, zone)

            inside = not time(6) <= wall(moment, zone).time() < time(22)
            assert (then == moment) == inside
            assert inside or wall(then, zone).time() == time(22) or then == change
            assert timedelta(0) <= then - moment <= timedelta(hours=17)


def test_a_weekday_is_that_of_the_customer_and_of_the_day_on_which_the_opening_begins():
    tuesday = Opening(weekdays=frozenset({1}), start=time(10), end=None)
    night = Opening(weekdays=frozenset({5}), start=time(22), end=time(6))
    whole = Opening(weekdays=frozenset({0, 2}), start=time(), end=time())
    monday_noon = datetime(2026, 3, 2, 11, tzinfo=UTC)

    assert next_opening(monday_noon, tuesday, PARIS) == datetime(2026, 3, 3, 9, tzinfo=UTC)
    assert next_opening(datetime(2026, 3, 3, 9, tzinfo=UTC), tuesday, PARIS) == datetime(2026, 3, 3, 9, tzinfo=UTC)
    assert next_opening(datetime(2026, 3, 3, 9, 1, tzinfo=UTC), tuesday, PARIS) == datetime(2026, 3, 10, 9, tzinfo=UTC)
    sunday_at_one = datetime(2026, 3, 8, 0, tzinfo=UTC)
    assert next_opening(sunday_at_one, night, PARIS) == sunday_at_one, "Saturday's night lasts until Sunday at six"
    assert next_opening(datetime(2026, 3, 8, 5, tzinfo=UTC), night, PARIS) == datetime(2026, 3, 14, 21, tzinfo=UTC)
    assert next_opening(monday_noon, whole, PARIS) == monday_noon
    assert next_opening(monday_noon + timedelta(days=1), whole, PARIS) == datetime(2026, 3, 3, 23, tzinfo=UTC)
    kiritimati = ZoneInfo("Pacific/Kiritimati")  # where it is Tuesday already
    assert next_opening(monday_noon, tuesday, kiritimati) == datetime(2026, 3, 2, 20, tzinfo=UTC)


def test_an_opening_that_lies_in_a_gap_is_none_that_week():
    gap = Opening(weekdays=frozenset({6}), start=time(2), end=time(3))

    assert next_opening(datetime(2026, 3, 28, 12, tzinfo=UTC), gap, PARIS) == datetime(2026, 4, 5, 0, tzinfo=UTC)
