"""What came in, by source: for the page Sources, for `connect` and for the doctor.

The inbox has no index by source and time, on purpose: it is written thousands of times a second. So every question
here walks an index that is there for another reason, and stops at a bound.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.overview import LOOK_BACK, UNSETTLED_INBOX, Figure
from db.tables import inbox

HOURS: Final = 24
HOUR: Final = timedelta(hours=1)
#: At most so many of the newest webhooks of the day are counted.
COUNTED_MAX: Final = 100_000
#: At most so many that wait for somebody are counted, of all sources together.
WAITING_MAX: Final = 10_000


@dataclass(kw_only=True, slots=True)
class Hour:
    """What came within one hour, by what became of it."""

    mapped: int = 0
    ignored: int = 0
    #: Not read yet, or waiting for an order.
    open: int = 0
    parked: int = 0

    @property
    def total(self) -> int:
        return self.mapped + self.ignored + self.open + self.parked


@dataclass(kw_only=True, slots=True)
class Reception:
    """What came in from one source."""

    #: None: nothing among the newest webhooks.
    last_at: datetime | None = None
    #: The last 24 hours, oldest first; the last one ends now.
    hours: list[Hour] = field(default_factory=lambda: [Hour() for _ in range(HOURS)])
    #: Everything that waits for a person, whenever it came: how many, by reason, most first.
    parked: dict[str, int] = field(default_factory=dict)
    #: Everything that waits for its order.
    awaiting: int = 0

    def of_the_day(self, what: str) -> int:
        """How many of one kind (`mapped`, `ignored`, `parked`, `open`, `total`) came in the last 24 hours."""
        return sum(getattr(hour, what) for hour in self.hours)

    @property
    def parked_count(self) -> int:
        return sum(self.parked.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Receptions:
    """What came in, by source; sources of which nothing is known are not among them."""

    by_source: Mapping[str, Reception]
    #: The day holds more than was counted: the hours before are empty here.
    more_that_day: bool
    #: More waits than was counted.
    more_waiting: bool

    def of(self, source: str) -> Reception:
        """What came in from a source."""
        return self.by_source.get(source) or Reception()

    def parked_figure(self, source: str) -> Figure:
        """How many of a source wait for a person."""
        return Figure(value=self.of(source).parked_count, more=self.more_waiting)


def receptions(connection: Connection, now: datetime) -> Receptions:
    """What came in from every source in the last 24 hours, and what of it (or from before) still waits."""
    found: dict[str, Reception] = {}
    counted = 0
    for source, hour, state, number in connection.execute(_by_hour(now)):
        counted += number
        slot = found.setdefault(source, Reception()).hours[hour]
        kind = state if state in ("mapped", "ignored", "parked") else "open"
        setattr(slot, kind, getattr(slot, kind) + number)
    waiting = 0
    for source, state, reason, number in connection.execute(_UNSETTLED):
        waiting += number
        reception = found.setdefault(source, Reception())
        if state == "awaiting":
            reception.awaiting += number
        else:
            reason = reason or "no reason is recorded"
            reception.parked[reason] = reception.parked.get(reason, 0) + number
    for source, at in last_received(connection).items():
        found.setdefault(source, Reception()).last_at = at
    return Receptions(by_source=found, more_that_day=counted >= COUNTED_MAX, more_waiting=waiting > WAITING_MAX)


def _by_hour(now: datetime) -> sa.Select[Any]:
    """Source, hour (0 is the oldest), state, how many. By the index of those that still have their body, which are all
    of the day but those of the forgotten.
    """
    c = inbox.c
    newest = (
        sa.select(c.source, c.state, c.received_at)
        .where(sa.func.length(c.body) > sa.literal_column("0"), c.received_at > now - HOURS * HOUR)
        .order_by(c.received_at.desc())
        .limit(COUNTED_MAX)
        .subquery("newest")
    )
    ends: list[tuple[Any, Any]] = [
        (newest.c.received_at <= now - (HOURS - n) * HOUR, sa.literal_column(str(n - 1))) for n in range(1, HOURS)
    ]
    hour = sa.case(*ends, else_=sa.literal_column(str(HOURS - 1))).label("hour")
    hourly = sa.select(newest.c.source, hour, newest.c.state).subquery("hourly")
    return sa.select(hourly.c.source, hourly.c.hour, hourly.c.state, sa.func.count()).group_by(
        hourly.c.source, hourly.c.hour, hourly.c.state
    )


_WORDS: Final = ", ".join(f"'{state}'" for state in UNSETTLED_INBOX)
_waiting = (
    sa.select(inbox.c.source, inbox.c.state, inbox.c.reason)
    .where(sa.text(f"inbox.state IN ({_WORDS})"))  # as the index has it, word for word
    .limit(WAITING_MAX + 1)
    .subquery("waiting")
)
_UNSETTLED = (
    sa.select(_waiting.c.source, _waiting.c.state, _waiting.c.reason, sa.func.count().label("number"))
    .group_by(_waiting.c.source, _waiting.c.state, _waiting.c.reason)
    .order_by(sa.desc("number"))
)


def last_received(connection: Connection) -> dict[str, datetime]:
    """When each source was last heard, as far as the newest webhooks tell."""
    c = inbox.c
    top = sa.select(sa.func.max(c.id)).scalar_subquery()
    query = sa.select(c.source, sa.func.max(c.received_at)).where(c.id > top - LOOK_BACK).group_by(c.source)
    return {row[0]: row[1] for row in connection.execute(query)}


def newest_headers(
    connection: Connection, sources: Collection[str], limit: int
) -> Sequence[tuple[str, datetime, Mapping[str, str]]]:
    """Source, time of receipt and kept headers of the newest webhooks, among the last so many of all sources."""
    c = inbox.c
    newest = sa.select(c.id, c.source, c.received_at, c.headers).order_by(c.id.desc()).limit(limit)
    return [(row.source, row.received_at, row.headers) for row in connection.execute(newest) if row.source in sources]
