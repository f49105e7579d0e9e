"""When the silence of a source is an alarm, and when it is only a night."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow import silence
from afterglow.silence import HOUR, Silence, hour_of, judge, learn, told
from tests.examples import examples

PARIS = ZoneInfo("Europe/Paris")
#: A Monday.
START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(weeks=1)

Rate = Callable[[datetime], float]


def shop(a_day: float) -> Rate:
    """Orders of a shop that sleeps: most in the evening, few at night, half as many on Sundays."""
    shape = [0.1, 0, 0, 0, 0, 0, 0.3, 0.8, 1, 1, 1.1, 1.2, 1.3, 1.1, 1, 1, 1.1, 1.2, 1.5, 1.9, 2, 1.7, 1, 0.4]

    def rate(moment: datetime) -> float:
        local = moment.astimezone(PARIS)
        return a_day * shape[local.hour] / sum(shape) * (0.5 if local.weekday() == 6 else 1)

    return rate


def office(an_hour: float) -> Rate:
    """A CRM of people who work from Monday to Friday."""

    def rate(moment: datetime) -> float:
        local = moment.astimezone(PARIS)
        return an_hour if local.weekday() < 5 and 9 <= local.hour < 18 else 0

    return rate


def arriving(rate: Rate, until: datetime, seed: int, cluster: int = 1) -> Iterator[datetime]:
    """Clusters by chance (Poisson) at this rate an hour, oldest first; each webhook of a cluster at its instant."""
    chance = random.Random(seed)
    hour = START
    while hour < until:
        left = rate(hour) / cluster
        moments, at = [], 0.0
        while left > 0 and (at := at + chance.expovariate(left)) < 1:
            moments.append(hour + at * HOUR)
        for moment in moments:
            yield from [moment] * cluster
        hour += HOUR


def false_alarms(moments: list[datetime], until: datetime) -> list[Silence]:
    """The alarms of a source that never fell silent: each gap is judged when it is longest."""
    counts: Counter[datetime] = Counter()
    alarms, learned_at, rhythm = [], START, None
    for before, moment in zip(moments, [*moments[1:], until], strict=True):
        counts[hour_of(before)] += 1
        if before - learned_at >= 3 * DAY:
            learned_at, rhythm = before, learn(counts, before, PARIS)
        if rhythm and (found := judge(rhythm, before, moment, PARIS)):
            alarms.append(found)
    return alarms


YEAR = START + timedelta(days=365)
SOURCES = {
    "a busy shop": (shop(1_000), 1),
    "a shop": (shop(200), 1),
    "a shop whose orders are four webhooks each": (shop(200), 4),
    "a small shop": (shop(12), 1),
    "a very small shop": (shop(2), 1),
    "an office": (office(12), 1),
    "a quiet office": (office(1), 1),
    "an office that posts in batches of 30": (office(30), 30),
    "a machine": (lambda moment: 6.0, 1),
    "one that hardly speaks": (lambda moment: 3 / 168, 1),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_year_of_nights_and_weekends_raises_no_alarm(name):
    rate, cluster = SOURCES[name]
    alarms = false_alarms(list(arriving(rate, YEAR, seed=7, cluster=cluster)), YEAR)

    assert alarms == []


@pytest.mark.parametrize(
    ("name", "stopped", "hours"),
    [
        ("a busy shop", START + 10 * WEEK + DAY + 13 * HOUR, 2),  # a Tuesday at 14:00 in Paris
        ("a busy shop", START + 10 * WEEK + DAY + 23 * HOUR, 9),  # at midnight: in the morning
        ("a shop", START + 10 * WEEK + DAY + 13 * HOUR, 3),
        ("a shop", START + 3 * WEEK + DAY + 13 * HOUR, 4),
        ("a shop whose orders are four webhooks each", START + 10 * WEEK + DAY + 13 * HOUR, 7),
        ("a small shop", START + 10 * WEEK + DAY + 13 * HOUR, 48),
        ("an office", START + 10 * WEEK + DAY + 10 * HOUR, 2.5),
        ("an office", START + 10 * WEEK + 4 * DAY + 17 * HOUR, 67),  # a Friday evening: on Monday morning
        ("a machine", START + 10 * WEEK, 3.5),
        ("a machine", START + 5 * DAY, 72),
        ("one that hardly speaks", START + 30 * WEEK, 24 * 50),
    ],
)
def test_a_source_that_stops_is_told_of_within_its_time(name, stopped, hours):
    rate, cluster = SOURCES[name]
    moments = list(arriving(rate, stopped, seed=11, cluster=cluster))
    counts = Counter(hour_of(moment) for moment in moments)
    until = stopped

    while (rhythm := learn(counts, until, PARIS)) is None or judge(rhythm, moments[-1], until, PARIS) is None:
        until += HOUR / 4
        assert until - stopped <= hours * HOUR, "no alarm in time"

    assert until - moments[-1] >= silence.SHORTEST


def test_the_silence_that_is_judged_does_not_become_usual_while_it_lasts():
    moments = list(arriving(shop(200), START + 8 * WEEK, seed=3))
    counts = Counter(hour_of(moment) for moment in moments)

    for days in (1, 3, 10, 30, 50):
        now = moments[-1] + days * DAY
        rhythm = learn(counts, now, PARIS)
        assert rhythm is not None
        assert judge(rhythm, moments[-1], now, PARIS) is not None, days


@pytest.mark.parametrize(
    "counts",
    [
        {},
        {START + n * HOUR: 5 for n in range(48)},  # two days
        {START + n * 10 * DAY: 1 for n in range(5)},  # five webhooks
        {START - 10 * WEEK + n * HOUR: 5 for n in range(200)},  # nothing for eight weeks
    ],
)
def test_nobody_judges_by_too_little(counts):
    assert learn(counts, START + 5 * DAY if len(counts) != 5 else START + 41 * DAY, PARIS) is None


def test_a_source_in_its_first_weeks_is_judged_by_its_longest_gap():
    nightly = {START + day * DAY + hour * HOUR: 9 for day in range(5) for hour in range(8, 20)}
    rhythm = learn(nightly, START + 5 * DAY, PARIS)
    assert rhythm is not None
    last = START + 4 * DAY + 19 * HOUR

    assert judge(rhythm, last, last + 62 * HOUR, PARIS) is None  # its first weekend
    assert judge(rhythm, last, last + 73 * HOUR, PARIS) == Silence(since=last, usual_per_hour=None, longest_gap=DAY)


def test_clocks_that_change_frighten_nobody():
    # An American CRM read on a Paris clock: for three weeks of March the two are an hour closer.
    def rate(moment: datetime) -> float:
        local = moment.astimezone(ZoneInfo("America/New_York"))
        return 40 if local.weekday() < 5 and 9 <= local.hour < 18 else 0

    until = START + 20 * WEEK
    assert false_alarms(list(arriving(rate, until, seed=5)), until) == []


@settings(max_examples=examples(60), deadline=None)
@given(
    counts=st.dictionaries(st.integers(0, 8 * 168 - 1), st.integers(0, 500), max_size=300),
    gap=st.floats(0, 400),
    later=st.floats(0, 400),
)
def test_silence_never_ends_by_lasting_longer_and_never_begins_before_two_hours(counts, gap, later):
    now = START + 8 * WEEK
    rhythm = learn({START + n * HOUR: count for n, count in counts.items()}, now, PARIS)
    if rhythm is None:
        return
    assert rhythm.cluster >= 1
    assert rhythm.enough >= math.log(silence.WEEKS_PER_FALSE_ALARM) or rhythm.longest is not None

    first = judge(rhythm, now, now + gap * HOUR, PARIS)
    then = judge(rhythm, now, now + (gap + later) * HOUR, PARIS)

    assert first is None or gap >= 2
    assert first is None or then is not None


def test_an_alarm_says_since_when_what_is_usual_and_where_to_look():
    tuesday = datetime(2026, 3, 3, 14, 0, tzinfo=UTC)

    assert told("shopify", tuesday - 9 * HOUR, tuesday, PARIS, 12.2) == (
        "Shopify has been silent for 9 hours; at this time of a Tuesday it usually sends about 12 an hour. "
        "Look at the webhook's state in Shopify's settings: it removes hooks after 8 failures within 4 hours."
    )
    assert told("judge-me", tuesday - 50 * HOUR, tuesday, PARIS, 0.2).startswith(
        "Judge me has been silent for 2 days, although it usually sends something in such a time. "
        "Look in Judge me's settings"
    )
    assert "longer than it ever was" in told("stripe", tuesday - 9 * HOUR, tuesday, PARIS, None)
