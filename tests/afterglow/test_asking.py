"""How often a provider may be asked, and when again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.asking import LONGEST_QUIET, TRIES_MAX, retry_after, turns, wait_after

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
TENTH = timedelta(milliseconds=100)


def test_the_first_request_goes_at_once_and_the_next_a_tenth_of_a_second_later():
    found = turns(NOW - timedelta(hours=1), NOW, 3, spacing=TENTH, before=NOW + timedelta(seconds=10))

    assert found.at == [NOW, NOW + TENTH, NOW + 2 * TENTH]
    assert found.free_at == NOW + 3 * TENTH


def test_a_turn_that_others_took_is_not_given_again():
    found = turns(NOW + timedelta(seconds=1), NOW, 2, spacing=TENTH, before=NOW + timedelta(seconds=10))

    assert found.at == [NOW + timedelta(seconds=1), NOW + timedelta(seconds=1.1)]


def test_no_turn_is_taken_that_comes_too_late_to_be_used():
    before = NOW + timedelta(seconds=0.25)

    assert turns(NOW, NOW, 50, spacing=TENTH, before=before).at == [NOW, NOW + TENTH, NOW + 2 * TENTH]
    for free_at in (before, NOW + timedelta(days=1)):
        found = turns(free_at, NOW, 50, spacing=TENTH, before=before)
        assert (found.at, found.free_at) == ([], free_at)


@given(
    st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(1, 40)), max_size=30),
    st.integers(1, 20),
    st.integers(1, 5),
)
def test_no_window_holds_more_requests_than_the_rate_allows_whoever_asks_and_when(asked, at_most, within_s):
    within = timedelta(seconds=within_s)
    spacing = timedelta(microseconds=-(-within_s * 1_000_000 // at_most))
    free_at, now, sent = NOW, NOW, []
    for later, wanted in asked:
        now += timedelta(microseconds=later)
        found = turns(free_at, now, wanted, spacing=spacing, before=now + timedelta(seconds=10))
        free_at = found.free_at
        sent += found.at

    for first in sent:
        assert sum(first <= moment < first + within for moment in sent) <= at_most


def test_waits_double_from_a_minute_and_all_of_them_are_most_of_a_day():
    waits = [wait_after(tries) for tries in range(1, TRIES_MAX)]

    assert waits[:4] == [timedelta(minutes=minutes) for minutes in (1, 2, 4, 8)]
    assert timedelta(hours=18) < sum(waits, timedelta()) < timedelta(hours=24)
    assert wait_after(32_000) == timedelta(hours=6)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Mon, 02 Mar 2026 08:00:30 GMT", 30),
        ("Mon, 02 Mar 2026 07:00:00 GMT", 0),
        ("Monday, 02-Mar-26 08:00:30 GMT", 30),
        ("999999999", LONGEST_QUIET.total_seconds()),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_QUIET.total_seconds()),
    ],
)
def test_retry_after_is_understood_in_both_of_its_forms(header, seconds):
    assert retry_after(header, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "1.5", "٣", "Mon, 99 Mar 2026 08:00:30 GMT"])
def test_a_retry_after_that_says_nothing_is_none(header):
    assert retry_after(header, NOW) is None
