"""When a flow would begin by itself for a customer: by a date, a moment, a schedule, or a segment moved by time alone.

Only what is known now is lived ahead, and nobody does anything: who enters a segment by what they do is not foreseen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from afterglow.language.catalog import Catalog
from afterglow.language.flow.graph import Flow
from afterglow.language.segment import ENTERED, Segment
from afterglow.language.shop import Shop
from afterglow.language.starts import OnDate, OverSegment
from afterglow.occasions import date_event, meaning, next_date, next_time, round_event
from afterglow.segments import Known, judge


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """What would begin a flow for a customer: when, the name of the event, and what it carries."""

    at: datetime
    event: str
    payload: Mapping[str, Any]


def by_itself(flow: Flow) -> str | None:
    """What begins a flow without anybody doing something, in words; None where nothing does."""
    match flow.occasion:
        case OnDate(fact=fact, yearly=yearly):
            return f"on customer.{fact}{' of every year' if yearly else ''}"
        case OverSegment(segment=segment, cron=cron):
            return f"{'once' if cron is None else cron} over segment {segment}"
        case None if flow.segment is not None:
            return f"{'entering' if flow.event == ENTERED else 'leaving'} segment {flow.segment} by time alone"
        case _:
            return None


def begins_otherwise(old: Flow | None, new: Flow, before: Catalog, then: Catalog) -> bool:
    """Whether a flow that is live begins by something else, or for others, than the version in force."""
    if old is None or old.status != "live":
        return True
    return _decides(old, before) != _decides(new, then)


def _decides(flow: Flow, catalog: Catalog) -> tuple[object, ...]:
    occasion, shop = flow.occasion, catalog.shop
    segment = occasion.segment if isinstance(occasion, OverSegment) else flow.segment
    told = meaning(occasion, shop.zone) if isinstance(occasion, OnDate | OverSegment) else flow.event
    judged = catalog.segments[segment].digest if segment is not None and segment in catalog.segments else None
    return told, segment, judged, flow.when.text if flow.when is not None else None


def start_of(flow: Flow, catalog: Catalog, known: Known, after: datetime, until: datetime) -> Start | None:
    """The first start after an instant, and not after another, that a flow has by itself for a customer."""
    shop, person = catalog.shop, known.person
    zone = person.zone(shop)
    match flow.occasion:
        case OnDate() as on:
            coming = next_date(on, person.facts(shop).get(on.fact), zone, after)
            if coming is None or coming.at > until:
                return None
            return Start(at=coming.at, event=on.event, payload=date_event(flow.name, on, coming, person.id)[1])
        case OverSegment() as over:
            segment = catalog.segments[over.segment]
            found = next_time(over, shop.zone, zone, after)
            if found is None or found[0] > until or not judge(segment, known, known.names(shop), after).is_in:
                return None
            return Start(at=found[0], event=over.event, payload=round_event(flow.name, over, found[1], person.id)[1])
    assert flow.segment is not None
    at = _moved(catalog.segments[flow.segment], known, shop, after, until, enters=flow.event == ENTERED)
    payload = {"segment": {"name": flow.segment}}
    return None if at is None else Start(at=at, event=str(flow.event), payload=payload)


def _moved(
    segment: Segment, known: Known, shop: Shop, after: datetime, until: datetime, *, enters: bool
) -> datetime | None:
    """When time alone brings a customer into a segment, or out of it; None: not until then."""
    names = known.names(shop)
    was = judge(segment, known, names, after)
    while was.look_at is not None and was.look_at <= until:
        at, now = was.look_at, judge(segment, known, names, was.look_at)
        if now.is_in is enters and was.is_in is not enters:
            return at
        was = now
    return None
