"""Durations: what is read, what is refused, and how days are counted on the customer's wall."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.durations import Duration, parse_duration, shared_out

PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30 minutes", Duration(seconds=1_800)),
        ("1 minute", Duration(seconds=60)),
        ("36 hours", Duration(seconds=129_600)),
        ("1 day", Duration(days=1)),
        (" 7  Days ", Duration(days=7)),
        ("2 weeks", Duration(days=14)),
        ("3 months", Duration(months=3)),
        ("1 year", Duration(months=12)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text, duration):
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("3 dyas", "'dyas' is not a unit of time"),
        ("3 dayss", "Did you mean 'days'?"),
        ("soon", "'soon' is not a duration: write a number and a unit"),
        ("three days", "is not a duration"),
        ("-1 days", "is not a duration"),
        ("1.5 days", "is not a duration"),
        ("\u0663 days", "is not a duration"),
        ("11 years", "longer than ten years"),
        ("9999999 days", "longer than ten years"),
        ("", "is not a duration"),
        (3, "'3' is not a duration"),
        (None, "is not a duration"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=r"duration|unit|longer") as refused:
        parse_duration(text)

    assert sentence in str(refused.value)


@given(st.text())
def test_no_text_makes_parsing_fail_otherwise(text):
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert duration.after(datetime(2026, 1, 1, tzinfo=UTC), PARIS) >= datetime(2026, 1, 1, tzinfo=UTC)


def test_a_day_later_it_is_the_same_time_on_the_wall_though_clocks_changed():
    saturday_ten = datetime(2026, 3, 28, 9, 0, tzinfo=UTC)  # 10:00 in Paris, the night before summer time

    sunday = Duration(days=1).after(saturday_ten, PARIS)

    assert sunday.astimezone(PARIS).hour == 10
    assert sunday - saturday_ten == timedelta(hours=23)


def test_twenty_four_hours_are_exact_though_clocks_changed():
    saturday_ten = datetime(2026, 3, 28, 9, 0, tzinfo=UTC)

    sunday = parse_duration("24 hours").after(saturday_ten, PARIS)

    assert sunday - saturday_ten == timedelta(hours=24)
    assert sunday.astimezone(PARIS).hour == 11


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        ((2026, 1, 31), 1, (2026, 2, 28)),
        ((2028, 1, 31), 1, (2028, 2, 29)),
        ((2026, 11, 30), 3, (2027, 2, 28)),
        ((2028, 2, 29), 12, (2029, 2, 28)),
        ((2026, 12, 15), 1, (2027, 1, 15)),
    ],
)
def test_a_month_after_its_last_day_ends_with_the_shorter_month(start, months, end):
    later = Duration(months=months).after(datetime(*start, 12, tzinfo=UTC), ZoneInfo("UTC"))

    assert later == datetime(*end, 12, tzinfo=UTC)


@given(
    moment=st.datetimes(datetime(2026, 1, 1), datetime(2028, 12, 31), timezones=st.just(UTC)),
    days=st.integers(1, 400),
    zone=st.sampled_from(["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_days_later_is_never_earlier_and_off_by_an_hour_or_two_at_most(moment, days, zone):
    later = Duration(days=days).after(moment, ZoneInfo(zone))

    assert abs(later - moment - timedelta(days=days)) <= timedelta(hours=2)


@given(span=st.timedeltas(timedelta(microseconds=1), timedelta(days=1)), turns=st.integers(1, 100_000))
def test_turns_that_share_a_span_outlast_it_by_less_than_a_microsecond_each(span, turns):
    together = turns * shared_out(span, turns)

    assert span <= together < span + turns * timedelta(microseconds=1)
