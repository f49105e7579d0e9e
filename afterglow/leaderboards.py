"""Leaderboards, the pure part: what is measured, which seasons an instant falls into, who stands where.

A board is a programme, a metric and a season. A season is half-open, [start, until), on the calendar of one zone; the
board of all time is the season `all`. Ranks are those of SQL's RANK(), 1, 2, 2, 4: nobody is placed behind somebody of
the same score. Where one prize needs one winner, the order among equals is declared: who reached the score first, then
the lower number.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal
from zoneinfo import ZoneInfo

from afterglow.errors import AfterglowError
from afterglow.local_time import from_wall, local_day
from afterglow.problems import did_you_mean

Unit = Literal["count", "money", "points"]
Kind = Literal["week", "month", "quarter", "year"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """What a board counts."""

    name: str
    label: str
    #: `money` is in minor units of the shop's currency.
    unit: Unit


#: What can be counted. Only qualified referrals count: a click or an order that may still be returned does not.
METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric(name="referrals", label="Qualified referrals", unit="count"),
        Metric(name="revenue", label="Referred revenue", unit="money"),
        Metric(name="rewards", label="Value of rewards", unit="money"),
        Metric(name="points", label="Points earned", unit="points"),
    )
}


def in_units(metric: Metric, value: int, to_major: Callable[[int], Decimal]) -> str:
    """A score as people write it, without its unit: `1,234` or `1,234.50`."""
    return f"{to_major(value):,}" if metric.unit == "money" else f"{value:,}"


#: The season without beginning or end.
ALL: Final = "all"
KINDS: Final[tuple[Kind, ...]] = ("week", "month", "quarter", "year")

_WEEK = re.compile(r"(\d{4})-W(\d{2})", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_QUARTER = re.compile(r"(\d{4})-Q([1-4])", re.ASCII)
_YEAR = re.compile(r"\d{4}", re.ASCII)
_RELATIVE = re.compile(r"(this|last)-(week|month|quarter|year)")


class UnknownPeriodError(AfterglowError):
    """No season is called that here."""


class UnknownMetricError(AfterglowError):
    """Nothing of that name is counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Season:
    """A stretch of time with a board of its own: `start` is part of it, `until` is not; None where it has no end."""

    name: str
    kind: str
    start: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """A season with dates of its own: from the beginning of the first day to the beginning of `until`."""

    name: str
    first: date
    until: date


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Which seasons a shop keeps, all in one zone."""

    zone: ZoneInfo
    kinds: tuple[Kind, ...] = ("week", "month")
    declared: tuple[Declared, ...] = ()
    #: How long after its end a season is sealed: late webhooks are still to come.
    settle: timedelta = timedelta(days=3)
    _days: dict[date, tuple[Season, ...]] = field(default_factory=dict, repr=False, compare=False)

    def seasons_at(self, at: datetime) -> tuple[Season, ...]:
        """The seasons that an instant falls into; that of all time comes first."""
        day = local_day(at, self.zone)
        found = self._days.get(day)
        if found is None:
            kept = (self._around(kind, day) for kind in self.kinds)
            declared = (self._declared(one) for one in self.declared if one.first <= day < one.until)
            found = self._days[day] = (Season(name=ALL, kind=ALL), *kept, *declared)
        return found

    def season(self, period: str, now: datetime) -> Season:
        """The season that a person means: `all`, `this-month`, `last-week`, `2026-10`, `2026-W09`, `2026-Q4`, `2026`,
        or the name of a declared one.

        Raises:
          UnknownPeriodError: there is none of that name, or none of that kind is kept.
        """
        for one in self.declared:
            if one.name == period:
                return self._declared(one)
        if period == ALL:
            return Season(name=ALL, kind=ALL)
        if relative := _RELATIVE.fullmatch(period):
            found = self._around(_kind(relative[2]), local_day(now, self.zone))
            found = found if relative[1] == "this" else self._before(found)
        else:
            kind, day = _first_day(period)
            if kind is None or day is None:
                raise UnknownPeriodError(self._unknown(period))
            found = self._around(kind, day)
        if found.kind not in self.kinds:
            raise UnknownPeriodError(
                f"No seasons of a {found.kind} are kept; add {found.kind} to `leaderboards.seasons` in flows/shop.yaml."
            )
        return found

    def before(self, season: Season) -> Season | None:
        """The season of the same kind before this one; None for all time and for declared ones."""
        return self._before(season) if season.kind in KINDS else None

    def latest(self, kind: str, count: int, now: datetime) -> list[Season]:
        """So many seasons of a kind, oldest first; the last is the one that runs now."""
        found = [self._around(_kind(kind), local_day(now, self.zone))]
        while len(found) < count:
            found.append(self._before(found[-1]))
        return found[::-1]

    def choices(self, now: datetime) -> list[tuple[str, str]]:
        """Periods to choose from, as (what is written, what is read)."""
        relative = [(f"{which}-{kind}", f"{which.title()} {kind}") for kind in self.kinds for which in ("this", "last")]
        today = local_day(now, self.zone)
        declared = [(one.name, one.name) for one in self.declared if one.first <= today]
        return [(ALL, "All time"), *relative, *declared]

    def _around(self, kind: Kind, day: date) -> Season:
        return _season(kind, _start(kind, day), self.zone)

    def _before(self, season: Season) -> Season:
        assert season.start is not None
        return self._around(_kind(season.kind), local_day(season.start, self.zone) - timedelta(days=1))

    def _declared(self, one: Declared) -> Season:
        return Season(
            name=one.name,
            kind="declared",
            start=_midnight(one.first, self.zone),
            until=_midnight(one.until, self.zone),
        )

    def _unknown(self, period: str) -> str:
        known = [ALL, *(f"{which}-{kind}" for kind in self.kinds for which in ("this", "last"))]
        known += [one.name for one in self.declared]
        return (
            f"No period is called '{period}'; say all, this-month, last-week, 2026-10 or 2026-W09."
            f"{did_you_mean(period, known)}"
        )


def metric_of(name: str) -> Metric:
    """A metric by its name.

    Raises:
      UnknownMetricError: naming those that there are.
    """
    if name not in METRICS:
        raise UnknownMetricError(f"Nothing called '{name}' is counted; say one of {', '.join(METRICS)}.")
    return METRICS[name]


def _kind(word: str) -> Kind:
    return next(kind for kind in KINDS if kind == word)


def _start(kind: Kind, day: date) -> date:
    match kind:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "quarter":
            return day.replace(month=day.month - (day.month - 1) % 3, day=1)
        case "year":
            return day.replace(month=1, day=1)


def _end(kind: Kind, start: date) -> date:
    if kind == "week":
        return start + timedelta(days=7)
    months = start.month - 1 + {"month": 1, "quarter": 3, "year": 12}[kind]
    return date(start.year + months // 12, months % 12 + 1, 1)


@lru_cache(maxsize=4096)
def _season(kind: Kind, start: date, zone: ZoneInfo) -> Season:
    match kind:
        case "week":
            year, week, _ = start.isocalendar()
            name = f"{year}-W{week:02}"
        case "month":
            name = f"{start:%Y-%m}"
        case "quarter":
            name = f"{start.year}-Q{(start.month + 2) // 3}"
        case "year":
            name = f"{start.year}"
    return Season(name=name, kind=kind, start=_midnight(start, zone), until=_midnight(_end(kind, start), zone))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return from_wall(datetime.combine(day, time()), zone).astimezone(UTC)


def _first_day(period: str) -> tuple[Kind | None, date | None]:
    """What kind of season a name such as 2026-10 means, and its first day; None where it means none."""
    try:
        if found := _WEEK.fullmatch(period):
            return "week", date.fromisocalendar(int(found[1]), int(found[2]), 1)
        if found := _MONTH.fullmatch(period):
            return "month", date(int(found[1]), int(found[2]), 1)
        if found := _QUARTER.fullmatch(period):
            return "quarter", date(int(found[1]), 3 * int(found[2]) - 2, 1)
        if _YEAR.fullmatch(period):
            return "year", date(int(period), 1, 1)
    except ValueError:
        pass
    return None, None


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What a customer has on a board."""

    customer_id: int
    value: int
    #: When the latest of what it is made of happened: the tie-break of prizes.
    reached_at: datetime


def in_order(scores: Iterable[Score]) -> list[Score]:
    """Scores as a board has them: the highest first; of equal ones who was there first, then the lower number."""
    on_it = (score for score in scores if score.value > 0)
    return sorted(on_it, key=lambda score: (-score.value, score.reached_at, score.customer_id))


def ranks(scores: Sequence[Score], *, first: int = 1, of_first: int | None = None) -> list[int]:
    """The competition ranks of scores that are in order.

    Args:
      first: the rank of the first of them.
      of_first: how many in all have the score of the first, where some of them stand before it, on an earlier page.
    """
    found: list[int] = []
    rank, equal = first, 0
    for n, score in enumerate(scores):
        if n and score.value != scores[n - 1].value:
            rank += of_first if of_first is not None and rank == first else equal
            equal = 0
        equal += 1
        found.append(rank)
    return found


def movement(before: int | None, rank: int) -> int | None:
    """Places gained (positive) or lost since an earlier rank; None for who was not placed."""
    return None if before is None else before - rank


def digest_of(programme: str, metric: str, season: Season, scores: Iterable[Score]) -> str:
    """The SHA-256 (hex) of a season as it stands: every score of it, in order."""
    found = sha256(f"{programme}\n{metric}\n{season.name}\n{_iso(season.start)}\n{_iso(season.until)}\n".encode())
    for score in scores:
        found.update(f"{score.customer_id} {score.value} {_iso(score.reached_at)}\n".encode())
    return found.hexdigest()


def _iso(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds") if moment else ""
