"""What brings a customer into a flow besides stages and events: a date of theirs, a schedule, a moment, being asked.

Each of these is told by an event of our own that names the flow (`date.reached`, `schedule.reached`, `flow.asked`), so
that whatever follows knows events alone. Which instants they mean is worked out in `afterglow.occasions`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from functools import lru_cache
from typing import ClassVar, Final, Literal

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, Field

from afterglow.durations import Duration, parse_offset
from afterglow.language.compiling import Compiler, Path
from afterglow.language.segment import crossing
from afterglow.local_time import known_zone

#: The words of `zone` that are no places: each customer's own clock, and the shop's.
CUSTOMER: Final = "customer"
SHOP: Final = "shop"


class StartsModel(BaseModel):
    """What brings a customer into the flow: one of stage, event, segment, leaves, date, schedule, once and asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str | None = Field(default=None, description="Start when the customer enters this stage.")
    event: str | None = Field(default=None, description="Start when this event happens.")
    date: str | None = Field(
        default=None, description="Start on a date that is known of the customer, such as `customer.renewal_date`."
    )
    yearly: bool = Field(default=False, description="With `date`: every year on that day, such as a birthday.")
    offset: str | None = Field(default=None, description="With `date`: so long after it, or before it: `-30 days`.")
    at: str | None = Field(
        default=None,
        description='With `date`: local time on that day, such as "10:00"; midnight unless given.',
    )
    schedule: str | None = Field(
        default=None, description='Start again and again, by the five fields of cron, such as "0 10 * * MON".'
    )
    once: str | None = Field(default=None, description='Start at one moment, such as "2026-11-27 09:00".')
    segment: str | None = Field(
        default=None,
        description="Start when the customer enters this segment; with `schedule` and `once`, for everybody who is in "
        "it at that moment.",
    )
    leaves: str | None = Field(default=None, description="Start when the customer leaves this segment.")
    zone: str | None = Field(
        default=None,
        description="With `schedule` and `once`, by whose clock: `customer` (unless given), `shop`, or a place such as "
        "Europe/Paris.",
    )
    asked: Literal[True] | None = Field(
        default=None, description="Start when somebody asks: the API, `afterglow start`, or a `start` step of a flow."
    )
    when: str | None = Field(
        default=None, description="Only where this condition is true, such as `customer.orders == 1`."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class OnDate:
    """A date that is known of the customer (`customer.<fact>`), moved by `offset`, at a local time of day.

    `yearly`: on that day of every year; 29 February is kept on 28 February in other years.
    """

    event: ClassVar[str] = "date.reached"

    fact: str
    yearly: bool
    offset: Duration
    at: time | None


@dataclass(frozen=True, kw_only=True, slots=True)
class OverSegment:
    """Moments at which everybody in a segment starts: those of `cron`, or the one wall time `once`.

    `zone` is CUSTOMER, SHOP or an IANA name: whose clock shows that time.
    """

    event: ClassVar[str] = "schedule.reached"

    segment: str
    cron: str | None
    once: datetime | None
    zone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Starts when it is asked for, about one customer."""

    event: ClassVar[str] = "flow.asked"


Occasion = OnDate | OverSegment | Asked

#: What the events of occasions carry: `flow` is the one that they are for.
EVENTS: Final[Mapping[str, Mapping[str, str]]] = {
    OnDate.event: {"flow": "text", "fact": "text", "date": "text", "years": "number"},
    OverSegment.event: {"flow": "text", "segment": "text", "moment": "text"},
    Asked.event: {"flow": "text", "by": "anything", "given": "anything"},
}
#: The keys that go with each way to start; the others are refused beside it.
_GO_WITH: Final[Mapping[str, frozenset[str]]] = {
    "stage": frozenset(),
    "event": frozenset(),
    "segment": frozenset(),
    "leaves": frozenset(),
    "date": frozenset({"yearly", "offset", "at"}),
    "schedule": frozenset({"segment", "zone"}),
    "once": frozenset({"segment", "zone"}),
    "asked": frozenset(),
}
_FACT: Final = re.compile(r"customer\.([a-z][a-z0-9_]*)")
#: Enough to learn whether a schedule ever comes: 29 February comes at least every eight years.
_SOME_DAY: Final = datetime(2024, 1, 1)


@lru_cache(maxsize=512)
def next_wall(cron: str, after: datetime) -> datetime | None:
    """The first wall time after another one at which a schedule comes; None where it never does."""
    return next(CronSim(cron, after), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """The event that starts a flow, where it is no stage; the segment that it must be of, the occasion it tells of."""

    event: str | None = None
    segment: str | None = None
    occasion: Occasion | None = None


def start_of(compiler: Compiler, model: StartsModel) -> Start:
    """What starts a flow; what is wrong is noted with the compiler."""
    path: Path = ("starts",)
    over = model.schedule is not None or model.once is not None
    given = [way for way in _GO_WITH if getattr(model, way) is not None and not (over and way == "segment")]
    if len(given) != 1:
        ways = list(_GO_WITH)
        compiler.say(path, f"A flow starts in one way: give one of {', '.join(ways[:-1])} and {ways[-1]}.")
        return Start()
    (way,) = given
    for key in ("yearly", "offset", "at", "zone"):
        if getattr(model, key) and key not in _GO_WITH[way]:
            others = " or ".join(name for name, keys in _GO_WITH.items() if key in keys)
            compiler.say((*path, key), f"'{key}' goes with {others}, not with {way}; leave it out.")
    occasion: Occasion | None = None
    match way:
        case "date":
            occasion = _on_date(compiler, model, path)
        case "schedule" | "once":
            occasion = _over_segment(compiler, model, path)
        case "asked":
            occasion = Asked()
        case "segment" | "leaves":
            event, segment = crossing(model.segment, model.leaves) or (None, None)
            return Start(event=event, segment=segment)
        case _:
            return Start(event=model.event)
    return Start(event=occasion.event if occasion else None, occasion=occasion)


def _on_date(compiler: Compiler, model: StartsModel, path: Path) -> OnDate | None:
    found = _FACT.fullmatch(model.date or "")
    if found is None:
        message = f"'{model.date}' is not a date that is known of a customer; write it as customer.renewal_date."
        compiler.say((*path, "date"), message)
    given = model.offset or "0 days"
    offset = compiler.collected((*path, "offset"), lambda: parse_offset(given))
    at = compiler.collected((*path, "at"), lambda: _time_of_day(model.at))
    if at is not None and offset is not None and offset.seconds:
        compiler.say((*path, "at"), "'at' goes with an offset in days; hours are counted exactly.")
    if found is None or offset is None:
        return None
    return OnDate(fact=found[1], yearly=model.yearly, offset=offset, at=at)


def _over_segment(compiler: Compiler, model: StartsModel, path: Path) -> OverSegment | None:
    way = "schedule" if model.schedule is not None else "once"
    zone = model.zone or CUSTOMER
    if zone not in (CUSTOMER, SHOP) and known_zone(zone) is None:
        compiler.say((*path, "zone"), f"'{zone}' is no zone; write customer, shop, or a place such as Europe/Berlin.")
    if model.segment is None:
        compiler.say(path, f"Say with `segment` for whom: '{way}' starts everybody who is in it at that moment.")
    cron = compiler.collected((*path, "schedule"), lambda: _cron(model.schedule))
    once = compiler.collected((*path, "once"), lambda: _moment(model.once))
    if model.segment is None or (cron is None and once is None):
        return None
    return OverSegment(segment=model.segment, cron=cron, once=once, zone=zone)


def _cron(text: str | None) -> str | None:
    """A schedule that comes some day. Raises ValueError with a sentence for the author of the flow."""
    if text is None:
        return None
    hint = 'write five fields (minute, hour, day of the month, month, day of the week), such as "0 10 * * MON".'
    if len(text.split()) != 5:
        raise ValueError(f"'{text}' is not a schedule: {hint}")
    if not text.split()[0].isdigit():
        raise ValueError(f"'{text}' comes more often than once an hour; the first field is one minute, such as 0.")
    try:
        comes = next_wall(text, _SOME_DAY) is not None
    except CronSimError as error:
        raise ValueError(f"'{text}' is not a schedule ({str(error).lower()}): {hint}") from None
    if not comes:
        raise ValueError(f"'{text}' never comes: no year has such a day.")
    return text


def _moment(text: str | None) -> datetime | None:
    """A wall time. Raises ValueError with a sentence for the author of the flow."""
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M")
    except ValueError:
        raise ValueError(f"'{text}' is not a moment; write it as \"2026-11-27 09:00\".") from None


def _time_of_day(text: str | None) -> time | None:
    """A time of day. Raises ValueError with a sentence for the author of the flow."""
    if text is None:
        return None
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a time of day; write it as \"10:00\".") from None
