"""Which tier a customer is in, when they leave it, and what is missing to the next.

A tier is reached at once. It is left only at a review: when what counted no longer does, and after the grace.

  rolling 12 months  what was earned counts until twelve months later, to the instant
  calendar year      what was earned in a year counts in that year and the whole of the next: the better year counts
  lifetime           everything counts for ever; only refunds take a tier away

`to earned` falls to the tier that the progress stands for. `one step` falls by one, and keeps that one for another
twelve months before falling further.

Where a file names other levels from a day on, everybody is looked at on that day.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import takewhile
from zoneinfo import ZoneInfo

from afterglow.durations import Duration
from afterglow.language.programme import Tiers
from afterglow.local_time import local_day
from afterglow.loyalty.periods import period

_YEAR = Duration(months=12)
#: (when it counts from, how much): points, or minor units of money; negative for what a refund took.
Progress = Sequence[tuple[datetime, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where a customer stands: a level of the programme by its place, lowest 0.

    `falls_at` is when they fall, where they no longer hold it. `review_at` is when to look again; None: not unless
    something happens.
    """

    level: int
    since: datetime
    falls_at: datetime | None = None
    review_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """A tier, the next one with what is missing to it, and until when the tier is held if nothing more is earned."""

    tier: str
    next_tier: str | None
    missing: int | None
    progress: int
    held_until: datetime | None


def progress_at(tiers: Tiers, progress: Progress, moment: datetime, zone: ZoneInfo) -> int:
    """How much counts at a moment, never below 0."""
    past = [(at, amount) for at, amount in progress if at <= moment]
    match tiers.over:
        case "lifetime":
            total = sum(amount for _, amount in past)
        case "rolling 12 months":
            total = sum(amount for at, amount in past if _YEAR.after(at, zone) > moment)
        case _:
            year = local_day(moment, zone).year
            years = [sum(amount for at, amount in past if local_day(at, zone).year == y) for y in (year, year - 1)]
            total = max(years)
    return max(0, total)


def level_of(tiers: Tiers, amount: int, scale: int = 0) -> int:
    """The place of the tier that an amount of progress stands for.

    Args:
      scale: decimals of the shop's currency, where money counts; `amount` is then in minor units.
    """
    reached = takewhile(lambda level: _units(level.starts_at, scale) <= amount, tiers.levels)
    return max(0, sum(1 for _ in reached) - 1)


def review(
    tiers: Tiers, standing: Standing | None, progress: Progress, now: datetime, zone: ZoneInfo, scale: int = 0
) -> Standing:
    """Where a customer stands now, every step on the way taken at its own instant, however late it is looked at."""
    current = standing or Standing(level=0, since=now)
    while current.review_at is not None and current.review_at <= now:
        current = _stepped(tiers, current, progress, current.review_at, zone, scale)
    return _stepped(tiers, current, progress, now, zone, scale)


def outlook(
    tiers: Tiers, standing: Standing, progress: Progress, now: datetime, zone: ZoneInfo, scale: int = 0
) -> Outlook:
    """What a customer can be told: what is missing to the next tier, and until when this one is sure."""
    tiers = tiers.at(now, zone)
    amount = progress_at(tiers, progress, now, zone)
    above = tiers.levels[standing.level + 1 : standing.level + 2]
    drop = _drop(tiers, standing.level, progress, now, zone, scale)
    return Outlook(
        tier=tiers.levels[standing.level].tier,
        next_tier=above[0].tier if above else None,
        missing=_units(above[0].starts_at, scale) - amount if above else None,
        progress=amount,
        held_until=standing.falls_at or (None if drop is None else tiers.grace.after(drop, zone)),
    )


def _stepped(
    tiers: Tiers, standing: Standing, progress: Progress, at: datetime, zone: ZoneInfo, scale: int
) -> Standing:
    """The standing after looking once, at an instant; to be looked at again when other levels begin to hold."""
    now = tiers.at(at, zone)
    standing = _held(now, standing, progress, at, zone, scale)
    starts_at = now.next_from(zone)
    if starts_at is None or (standing.review_at is not None and standing.review_at <= starts_at):
        return standing
    return replace(standing, review_at=starts_at)


def _held(tiers: Tiers, standing: Standing, progress: Progress, at: datetime, zone: ZoneInfo, scale: int) -> Standing:
    earned = level_of(tiers, progress_at(tiers, progress, at, zone), scale)
    if earned >= standing.level:
        since = at if earned > standing.level else standing.since
        drop = _drop(tiers, earned, progress, at, zone, scale)
        return Standing(level=earned, since=since, review_at=drop)
    falls_at = standing.falls_at or tiers.grace.after(at, zone)
    if falls_at > at:
        return Standing(level=standing.level, since=standing.since, falls_at=falls_at, review_at=falls_at)
    lower = standing.level - 1 if tiers.one_step else earned
    if lower > earned:
        next_fall = _YEAR.after(at, zone)
        return Standing(level=lower, since=at, falls_at=next_fall, review_at=next_fall)
    return Standing(level=lower, since=at, review_at=_drop(tiers, lower, progress, at, zone, scale))


def _drop(tiers: Tiers, level: int, progress: Progress, after: datetime, zone: ZoneInfo, scale: int) -> datetime | None:
    """The first instant after one at which the progress, if nothing is added, no longer holds a level."""
    if level == 0 or tiers.over == "lifetime":
        return None
    needed = _units(tiers.levels[level].starts_at, scale)
    if tiers.over == "calendar year":
        next_year = period("year", after, zone)[1]
        years = (next_year, period("year", next_year, zone)[1])
        return next((at for at in years if progress_at(tiers, progress, at, zone) < needed), None)
    leaving: dict[datetime, int] = {}
    for at, amount in progress:
        if at <= after and (end := _YEAR.after(at, zone)) > after:
            leaving[end] = leaving.get(end, 0) + amount
    left = sum(leaving.values())
    for end in sorted(leaving):
        left -= leaving[end]
        if left < needed:
            return end
    return None


def _units(starts_at: Decimal, scale: int) -> int:
    return int(starts_at.scaleb(scale))
