"""When dates and schedules come for the customer of a test: what `workers.occasions` keeps in tables."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from afterglow.language.catalog import Catalog
from afterglow.language.starts import OnDate, OverSegment
from afterglow.occasions import Coming, Round, date_event, date_on, just_before, next_date, next_round, round_event
from afterglow.person import Person


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """An event that tells that a date or a schedule has come."""

    event: str
    payload: Mapping[str, Any]


@dataclass(kw_only=True)
class Calendar:
    """What comes next for one customer, by flow."""

    catalog: Catalog
    person: Person
    _dates: dict[str, Coming] = field(default_factory=dict)
    _rounds: dict[str, Round] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def begin(self, now: datetime) -> None:
        """Plan what comes from an instant on."""
        for flow, on in self.catalog.on_dates.items():
            self._plan(flow, self._next(on, now))
        for flow, over in self.catalog.over_segments.items():
            self._go_on(flow, over, just_before(now))

    def look_again(self, now: datetime) -> None:
        """Plan anew what hangs on the customer, about whom something may have become known."""
        for flow, on in self.catalog.on_dates.items():
            planned = self._dates.get(flow)
            held = date_on(on, *self._known(on), planned.date) if planned else None
            self._plan(flow, held or self._next(on, now))

    @property
    def due_at(self) -> datetime | None:
        """When anything comes next."""
        moments = [one.at for one in self._dates.values()] + [one.at for one in self._rounds.values()]
        return min(moments, default=None)

    def take(self, now: datetime) -> Iterator[Told]:
        """What has come; what comes next is planned."""
        for flow, coming in [(flow, one) for flow, one in self._dates.items() if one.at <= now]:
            on = self.catalog.on_dates[flow]
            self._plan(flow, self._next(on, coming.at))
            yield from self._once(on.event, *date_event(flow, on, coming, self.person.id))
        for flow, one in [(flow, one) for flow, one in self._rounds.items() if one.at <= now]:
            over = self.catalog.over_segments[flow]
            self._go_on(flow, over, one.at)
            wall = one.wall(self.person.zone(self.catalog.shop))
            if wall is not None and over.segment in self.person.segments:
                yield from self._once(over.event, *round_event(flow, over, wall, self.person.id))

    def _once(self, event: str, key: str, payload: Mapping[str, Any]) -> Iterator[Told]:
        if key not in self._told:
            self._told.add(key)
            yield Told(event=event, payload={name: value for name, value in payload.items() if value is not None})

    def _known(self, on: OnDate) -> tuple[object, Any]:
        shop = self.catalog.shop
        return self.person.facts(shop).get(on.fact), self.person.zone(shop)

    def _next(self, on: OnDate, after: datetime) -> Coming | None:
        return next_date(on, *self._known(on), after)

    def _plan(self, flow: str, coming: Coming | None) -> None:
        self._dates.pop(flow, None)
        if coming is not None:
            self._dates[flow] = coming

    def _go_on(self, flow: str, over: OverSegment, after: datetime) -> None:
        shop = self.catalog.shop
        coming = next_round(over, shop.zone, after, (self.person.zone(shop).key,))
        self._rounds.pop(flow, None)
        if coming is not None:
            self._rounds[flow] = coming
