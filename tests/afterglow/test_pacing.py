"""A rate holds in every window, whoever asks; what became free at one moment goes evenly; priority wins a turn."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow import rails
from afterglow.language.rails import Rate, parse_rate
from afterglow.local_time import Quiet
from afterglow.pacing import SHOP, Pace, paced
from tests.afterglow.test_rails import FINE
from tests.examples import examples

MORNING = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)  # eight o'clock in Paris
GO = rails.Go(basis="consent")


def let_go(mails: list[tuple[datetime, str]], shop: Rate, flows: dict[str, Rate]) -> list[tuple[datetime, str]]:
    """When each mail goes, given when it may first and of which flow; the first flow by name has priority."""
    pace, gone = Pace(), []
    waiting = sorted(mails)
    while waiting:
        now, flow = waiting.pop(0)
        given = ((SHOP, shop), *(((flow, flows[flow]),) if flow in flows else ()))
        question = replace(FINE, flow=flow, queued_at=now, due_at=now, quiet_hours=())
        match paced(GO, question, given, now, lambda: pace):
            case rails.Go():
                gone.append((now, flow))
            case rails.Defer(until=until):
                assert until > now
                waiting = sorted([*waiting, (until, flow)])
    return gone


def fullest(moments: list[datetime], within: timedelta) -> int:
    return max(sum(start <= at < start + within for at in moments) for start in moments)


@settings(max_examples=examples(60), deadline=None)
@given(
    at_most=st.integers(1, 40),
    minutes=st.lists(st.tuples(st.integers(0, 300), st.sampled_from("ab")), min_size=1, max_size=120),
)
def test_no_window_ever_holds_more_than_the_rate(at_most, minutes):
    shop, own = parse_rate(f"{at_most} per hour"), parse_rate(f"{max(1, at_most // 2)} per hour")

    gone = let_go([(MORNING + timedelta(minutes=minute), flow) for minute, flow in minutes], shop, {"b": own})

    assert len(gone) == len(minutes), "each goes in the end"
    assert fullest([at for at, _ in gone], shop.within) <= shop.at_most
    if theirs := [at for at, flow in gone if flow == "b"]:
        assert fullest(theirs, own.within) <= own.at_most


def test_a_night_of_mails_goes_out_evenly_in_the_morning_and_almost_as_fast_as_the_rate():
    rate = parse_rate("2,000 per hour")

    gone = [at for at, _ in let_go([(MORNING, "a")] * 4000, rate, {})]

    first = [at for at in gone if at == MORNING]
    assert len(first) <= 34, "what is free at once is a minute's worth"
    per_quarter = [sum(n * 15 <= (at - MORNING).total_seconds() / 60 < n * 15 + 15 for at in gone) for n in range(8)]
    assert all(480 <= number <= 530 for number in per_quarter), per_quarter
    assert gone[-1] - MORNING < timedelta(hours=2, minutes=4)


def test_of_two_flows_that_wait_the_one_with_priority_goes_first_and_both_go():
    rate = parse_rate("60 per hour")

    gone = let_go([(MORNING, "b")] * 60 + [(MORNING + timedelta(minutes=10), "a")] * 10, rate, {})

    of_a = [at for at, flow in gone if flow == "a"]
    assert of_a[-1] < MORNING + timedelta(minutes=22), "though sixty of the other stood in line before"
    assert len(gone) == 70


def test_who_would_have_a_place_in_the_night_waits_for_the_morning_and_leaves_the_place_to_others():
    evening = MORNING + timedelta(hours=12, minutes=30)  # half past eight
    rate, pace = parse_rate("1 per hour"), Pace()
    night = replace(FINE, queued_at=evening, due_at=evening, quiet_hours=[Quiet(start=time(21), end=time(8))])
    elsewhere = replace(night, zone=ZoneInfo("America/New_York"))

    def asked(question: rails.Question) -> rails.Verdict:
        return paced(GO, question, [(SHOP, rate)], evening, lambda: pace)

    assert asked(night) == GO
    assert asked(night) == rails.Defer(until=MORNING + timedelta(days=1), reason="quiet hours")
    assert asked(elsewhere) == rails.Defer(until=evening + timedelta(hours=1), reason="at most 1 per hour")


@pytest.mark.parametrize("text", ["2000", "2,00 per hour", "0 per hour", "5 per week", "-1 per day", "1.5 per hour"])
def test_what_is_no_rate_is_told_how_to_write_one(text):
    with pytest.raises(ValueError, match="write it as 2,000 per hour"):
        parse_rate(text)
