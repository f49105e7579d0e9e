"""When the silence of a source is no longer usual.

What is usual is learned from counts per hour. For each hour of the week, on the shop's clock, the average of the weeks
seen says how many webhooks to expect; the quietest of the hour and its two neighbours counts, so that a day that begins
an hour later (also by a clock change elsewhere) frightens nobody.

Webhooks come in clusters: one order is three of them within a second. So counts are divided by a size of cluster, which
is chosen such that chance would leave as many hours of these weeks empty as were empty. With `n` clusters expected
since the last webhook, chance alone brings no webhook with the probability exp(-n).

The rule: a source is silent when that probability is below 1 in 1,000, and so small that chance would bring such a gap
once in 1,000 weeks of this source's webhooks; never before two hours. One that was seen for less than two weeks, or
brings fewer than 20 clusters a week, is judged by the longest gap it had: silence is three times that, and three days
at least. One that was seen for less than three days, or brought fewer than ten webhooks, is not judged.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
WEEK: Final = timedelta(weeks=1)
#: How far back is learned from.
LEARNED: Final = 8 * WEEK
#: Silence is never shorter.
SHORTEST: Final = 2 * HOUR
#: Chance would bring such a gap once in so many weeks.
WEEKS_PER_FALSE_ALARM: Final = 1000
#: Whoever was seen for less than this, or brings fewer clusters a week, is judged by the longest gap ...
YOUNG: Final = 2 * WEEK
SPARSE: Final = 20
#: ... times this, and at least so long.
GAP_TIMES: Final = 3
GAP_SHORTEST: Final = 3 * DAY
#: Less than this is not judged.
SEEN_MIN: Final = 3 * DAY
COUNT_MIN: Final = 10
_HOURS: Final = 168
_BISECTIONS: Final = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Rhythm:
    """What is usual for one source."""

    #: Webhooks expected in each hour of the week, Monday 0:00 first; zeros where it is judged by its longest gap.
    per_hour: tuple[float, ...]
    #: Webhooks that come together.
    cluster: float
    #: Expected clusters that make a silence; infinite where it is judged by its longest gap.
    enough: float
    #: A gap that makes a silence by itself; none where it is judged by the hour of the week.
    longest: timedelta | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Silence:
    """A source is silent beyond what is usual."""

    since: datetime
    #: How many webhooks an hour are usual at this time of the week; None where it is judged by its longest gap.
    usual_per_hour: float | None
    #: The longest gap that it had, as far as that counts.
    longest_gap: timedelta | None


def hour_of(moment: datetime) -> datetime:
    """The full hour (UTC) in which an instant lies."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def hour_of_week(moment: datetime, zone: ZoneInfo) -> int:
    """0 to 167, Monday 0:00 on the zone's clock first."""
    local = moment.astimezone(zone)
    return local.weekday() * 24 + local.hour


def learn(counts: Mapping[datetime, int], now: datetime, zone: ZoneInfo) -> Rhythm | None:
    """What is usual for a source; None where too little is known.

    Args:
      counts: webhooks by full hour (UTC); hours without any may be missing. The last eight weeks count.
      now: the hour that contains it is not over, and does not count.
      zone: the shop's.
    """
    end = hour_of(now)
    seen = {hour: count for hour, count in counts.items() if end - LEARNED <= hour < end and count > 0}
    if not seen:
        return None
    first, last = min(seen), max(seen)
    if last - first < SEEN_MIN or sum(seen.values()) < COUNT_MIN:
        return None
    totals, times, empty = [0] * _HOURS, [0] * _HOURS, [0] * _HOURS
    hour = first
    # Up to the last webhook only: the silence that is to be judged must not become usual while it lasts.
    while hour <= last:
        at = hour_of_week(hour, zone)
        count = seen.get(hour, 0)
        totals[at] += count
        times[at] += 1
        empty[at] += not count
        hour += HOUR
    averages = [total / max(1, number) for total, number in zip(totals, times, strict=True)]
    cluster = _cluster(averages, times, sum(empty))
    weekly = sum(averages) / cluster
    if last - first < YOUNG or weekly < SPARSE:
        gap = max(GAP_TIMES * _longest_gap(seen), GAP_SHORTEST)
        return Rhythm(per_hour=(0.0,) * _HOURS, cluster=cluster, enough=math.inf, longest=gap)
    quietest = tuple(min(averages[at - 1], averages[at], averages[(at + 1) % _HOURS]) for at in range(_HOURS))
    return Rhythm(per_hour=quietest, cluster=cluster, enough=math.log(WEEKS_PER_FALSE_ALARM * weekly), longest=None)


def judge(rhythm: Rhythm, last_at: datetime, now: datetime, zone: ZoneInfo) -> Silence | None:
    """Whether the silence since the last webhook is beyond what is usual; None where it is not."""
    gap = now - last_at
    if gap < SHORTEST:
        return None
    if rhythm.longest is not None:
        if gap <= rhythm.longest:
            return None
        return Silence(since=last_at, usual_per_hour=None, longest_gap=rhythm.longest / GAP_TIMES)
    expected = sum(rhythm.per_hour[at] * share for at, share in _hours(last_at, now, zone)) / rhythm.cluster
    if expected <= rhythm.enough:
        return None
    usual = rhythm.per_hour[hour_of_week(now, zone)]
    return Silence(since=last_at, usual_per_hour=usual, longest_gap=None)


def told(source: str, since: datetime, now: datetime, zone: ZoneInfo, usual_per_hour: float | None) -> str:
    """The alarm in plain words, and what to do.

    Args:
      source: its name.
      usual_per_hour: as in Silence.
    """
    name = spoken(source)
    told = f"{name} has been silent for {_length(now - since)}"
    if usual_per_hour is None:
        told += ", longer than it ever was"
    elif usual_per_hour >= 1:
        day = now.astimezone(zone).strftime("%A")
        told += f"; at this time of a {day} it usually sends about {usual_per_hour:.0f} an hour"
    else:
        told += ", although it usually sends something in such a time"
    return f"{told}. {_ADVICE.get(source, _ELSE).format(name=name)}"


def spoken(source: str) -> str:
    """A source's name as people write it."""
    return _SPOKEN.get(source) or source[:1].upper() + source[1:].replace("-", " ")


_SPOKEN: Final = {"hubspot": "HubSpot", "woocommerce": "WooCommerce", "generic": "The source 'generic'"}
_ELSE: Final = "Look in {name}'s settings whether its webhook is still there and switched on, and post a test to it."
#: What providers do with a webhook that failed, by the name of the shipped source.
_ADVICE: Final = {
    "shopify": "Look at the webhook's state in Shopify's settings: it removes hooks after 8 failures within 4 hours.",
    "stripe": "Look at the endpoint in Stripe's dashboard: it gives up an event after 3 days of failures, "
    "and switches off endpoints that always fail.",
    "woocommerce": "Look at the webhook's status in WooCommerce's settings: it is switched off after 5 failures "
    "in a row, and nothing is ever sent again.",
    "hubspot": "Look at the app's webhook subscriptions in HubSpot: an event is tried 10 times within a day.",
    "pipedrive": "Look at the webhook in Pipedrive's settings: one that fails often is banned for a while, "
    "and then deleted.",
    "salesforce": "Look at the outbound messages in Salesforce's setup: undelivered ones are dropped after 24 hours.",
    "segment": "Look at the destination's delivery in Segment: events are tried again for 4 hours only.",
}


def _hours(since: datetime, until: datetime, zone: ZoneInfo) -> Iterator[tuple[int, float]]:
    """The hours of the week from one instant to another, each with the share of it that lies between."""
    hour = hour_of(since)
    while hour < until:
        share = (min(until, hour + HOUR) - max(since, hour)) / HOUR
        yield hour_of_week(hour, zone), share
        hour += HOUR


def _cluster(averages: list[float], times: list[int], empty: int) -> float:
    """The size of cluster by which chance leaves as many hours empty as were empty; at least 1.

    Args:
      averages: webhooks by hour of the week.
      times: how often that hour was seen.
      empty: how many of all hours seen were empty.
    """

    def expected_empty(cluster: float) -> float:
        return sum(n * math.exp(-average / cluster) for average, n in zip(averages, times, strict=True))

    low, high = 1.0, max(1.0, *averages) * 10
    if expected_empty(low) >= empty:
        return low
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if expected_empty(middle) < empty else (low, middle)
    return high


def _longest_gap(seen: Mapping[datetime, int]) -> timedelta:
    hours = sorted(seen)
    return max((b - a for a, b in pairwise(hours)), default=HOUR)


def _length(gap: timedelta) -> str:
    hours = int(gap / HOUR)
    if hours < 48:
        return f"{hours} hours" if hours != 1 else "1 hour"
    return f"{hours // 24} days"
