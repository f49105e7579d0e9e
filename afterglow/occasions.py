"""When a date, a schedule or a moment starts flows: which instants they mean, by the clocks of those they are for.

Two rules settle the calendar's oddities. 29 February is kept on 28 February where a year has none. A wall time that a
clock change skips is the first instant after the gap, one that comes twice the first of the two (`local_time`); of
several that fall on one instant so, only one counts. So a time of day comes once for every local date.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from afterglow.decide import instant_of
from afterglow.durations import Duration
from afterglow.language.starts import CUSTOMER, SHOP, OnDate, OverSegment, next_wall
from afterglow.local_time import from_wall, known_zone, local_day

_NOTHING: Final = Duration()
#: Wall times of a schedule that are looked at until one lies ahead: clocks go back by few hours.
_WALLS_MAX: Final = 24 * 60
#: Beyond these no date is planned, and no clock reckons.
_YEARS: Final = range(1900, 9990)


@dataclass(frozen=True, kw_only=True, slots=True)
class Coming:
    """A date of a customer that comes: the day itself, and the instant (UTC) at which it starts a flow."""

    date: date
    at: datetime
    #: Of a yearly one, how many years it has been.
    years: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """An instant (UTC) at which a schedule comes, and what clocks show then: one clock for all, or those of zones."""

    at: datetime
    clock: datetime | None = None
    clocks: Mapping[str, datetime] = field(default_factory=dict)

    def wall(self, zone: ZoneInfo) -> datetime | None:
        """The wall time that comes for whoever lives in a zone; None where it does not come there now."""
        return self.clock or self.clocks.get(zone.key)


def next_date(on: OnDate, value: object, zone: ZoneInfo, after: datetime) -> Coming | None:
    """The first time after an instant at which a date starts a flow; None where it is no date, or all is past.

    Args:
      value: what is known under `on.fact`: a day, an instant, or text of one.
      zone: where the customer lives.
    """
    return next((coming for coming in _from(on, value, zone, after) if coming.at > after), None)


def date_on(on: OnDate, value: object, zone: ZoneInfo, day: date) -> Coming | None:
    """What a date means on the day for which it was planned; None where that is not its day any more."""
    start = instant_of(day, on.offset, on.at, zone)
    if start is None:
        return None
    before = start - timedelta(days=1)
    return next((coming for coming in _from(on, value, zone, before) if coming.date == day), None)


def _from(on: OnDate, value: object, zone: ZoneInfo, after: datetime) -> Iterator[Coming]:
    """What a date means about an instant and in the years that follow, the earliest first."""
    midnight = instant_of(value, _NOTHING, time(), zone)
    if midnight is None or midnight.year not in _YEARS:
        return
    first = local_day(midnight, zone)
    if not on.yearly:
        at = instant_of(value, on.offset, on.at, zone)
        if at is not None:
            yield Coming(date=first, at=at)
        return
    back = Duration(months=-on.offset.months, days=-on.offset.days)
    about = back.on_calendar(local_day(after - timedelta(seconds=on.offset.seconds), zone)).year
    begin = max(first.year, about - 1)
    for year in range(begin, begin + 4):
        day = anniversary(first, year)
        at = instant_of(day, on.offset, on.at, zone)
        if at is not None:
            yield Coming(date=day, at=at, years=year - first.year)


def anniversary(day: date, year: int) -> date:
    """The same day in another year; 29 February is kept on 28 February where there is none."""
    try:
        return day.replace(year=year)
    except ValueError:
        return date(year, 2, 28)


def next_round(over: OverSegment, shop: ZoneInfo, after: datetime, zones: Collection[str]) -> Round | None:
    """The first instant after another one at which a schedule comes for anybody; None where it never does again.

    Args:
      shop: the zone of the shop, which is that of customers of whom none is known.
      zones: where customers may live.
    """
    if over.zone != CUSTOMER:
        found = next_time(over, shop, shop, after)
        return Round(at=found[0], clock=found[1]) if found else None
    coming: dict[datetime, dict[str, datetime]] = {}
    for name in {*zones, shop.key}:
        zone = known_zone(name)
        if zone is not None and (found := _next_in(over, zone, after)) is not None:
            coming.setdefault(found[0], {})[name] = found[1]
    return Round(at=min(coming), clocks=coming[min(coming)]) if coming else None


def next_time(over: OverSegment, shop: ZoneInfo, lives: ZoneInfo, after: datetime) -> tuple[datetime, datetime] | None:
    """The first instant after another one at which a schedule comes for whoever lives in a zone, and its wall time.

    None where it never does again; arguments as of `next_round`.
    """
    if over.zone == CUSTOMER:
        return _next_in(over, lives, after)
    return _next_in(over, shop if over.zone == SHOP else known_zone(over.zone) or shop, after)


def _next_in(over: OverSegment, zone: ZoneInfo, after: datetime) -> tuple[datetime, datetime] | None:
    """The first instant after another one at which a schedule comes in one zone, and what the clock shows."""
    if over.cron is None:
        assert over.once is not None
        at = from_wall(over.once, zone)
        return (at, over.once) if at > after else None
    wall: datetime | None = after.astimezone(zone).replace(tzinfo=None, fold=0)
    for _ in range(_WALLS_MAX):
        wall = next_wall(over.cron, wall) if wall is not None else None
        if wall is None:
            return None
        at = from_wall(wall, zone)
        if at > after:
            return at, wall
    raise AssertionError((over, zone.key, after))


def date_event(flow: str, on: OnDate, coming: Coming, customer_id: int) -> tuple[str, Mapping[str, Any]]:
    """The key and payload of the event that a date of a customer has come.

    Of a yearly date there is one in each year, whatever becomes of the date meanwhile.
    """
    which = f"{coming.date.year}" if on.yearly else coming.date.isoformat()
    payload = {"flow": flow, "fact": on.fact, "date": coming.date.isoformat(), "years": coming.years}
    return f"date/{flow}/{which}/{customer_id}", payload


def round_event(flow: str, over: OverSegment, wall: datetime, customer_id: int) -> tuple[str, Mapping[str, Any]]:
    """The key and payload of the event that a schedule has come for a customer.

    A moment that comes once comes once in a day, though its hour be changed while it is being told.
    """
    moment = wall.isoformat(timespec="minutes")
    which = wall.date().isoformat() if over.cron is None else moment
    payload = {"flow": flow, "segment": over.segment, "moment": moment}
    return f"{'once' if over.cron is None else 'schedule'}/{flow}/{which}/{customer_id}", payload


def just_before(moment: datetime) -> datetime:
    """An instant after which nothing else comes before this one, so that what comes exactly then still lies ahead."""
    return moment - timedelta(microseconds=1)


def meaning(occasion: OnDate | OverSegment, shop: ZoneInfo) -> str:
    """What starts a flow, as a text that is another one where it means other instants or other people."""
    match occasion:
        case OnDate(fact=fact, offset=by):
            moved = f"{by.months} months {by.days} days {by.seconds} seconds"
            return f"{DATE}{fact}{' yearly' if occasion.yearly else ''}, {moved}, at {occasion.at}"
        case OverSegment():
            when = occasion.cron or f"{occasion.once:%Y-%m-%d %H:%M}"
            return f"{when} in {shop.key if occasion.zone == SHOP else occasion.zone} for {occasion.segment}"


#: How the meaning of a date begins, and of nothing else.
DATE: Final = "date "
