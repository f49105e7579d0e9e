"""Alarms about sources: raised and cleared by the round that watches them, read by pages, metrics and the doctor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow import drift, silence
from db import bulk
from db.tables import alarms

Kind = Literal["silence", "drift"]
Key = tuple[str, Kind, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """What somebody must be told about a source."""

    source: str
    kind: Kind
    #: Of a drift its event and path, such as "order.paid order.total"; of silence nothing.
    subject: str
    since: datetime
    #: The figures of its sentence.
    detail: Mapping[str, Any] = field(default_factory=dict)
    told_at: datetime | None = None

    @property
    def key(self) -> Key:
        """What there is one alarm of."""
        return self.source, self.kind, self.subject

    def sentence(self, now: datetime, zone: ZoneInfo) -> str:
        """It in plain words, and what to do; `zone` is the shop's."""
        if self.kind == "drift":
            event, _, path = self.subject.partition(" ")
            return drift.told(self.source, event, path, self.detail["usual"], self.detail["now"])
        return silence.told(self.source, self.since, now, zone, self.detail.get("usual_per_hour"))


def raised(connection: Connection) -> Sequence[Alarm]:
    """The alarms that are on, oldest first."""
    a = alarms.c
    query = sa.select(a.source, a.kind, a.subject, a.since, a.detail, a.told_at).where(a.cleared_at.is_(None))
    return [Alarm(**row._mapping) for row in connection.execute(query.order_by(a.since, a.source, a.subject))]


def claim_untold(connection: Connection, now: datetime) -> Sequence[Alarm]:
    """The alarms that are on and were told to nobody; from now on they count as told."""
    a = alarms.c
    untold = alarms.update().where(a.cleared_at.is_(None), a.told_at.is_(None)).values(told_at=now)
    rows = connection.execute(untold.returning(a.source, a.kind, a.subject, a.since, a.detail, a.told_at))
    return sorted((Alarm(**row._mapping) for row in rows), key=lambda alarm: (alarm.since, alarm.key))


def give_back(connection: Connection, claimed_at: datetime) -> None:
    """What was claimed at this instant could not be told: it may be claimed again."""
    connection.execute(alarms.update().where(alarms.c.told_at == claimed_at).values(told_at=None))


def settle(connection: Connection, kind: Kind, on: Sequence[Alarm], cleared: Sequence[Key], now: datetime) -> None:
    """Raise these alarms, or refresh their figures where they are on; end those."""
    columns = ("source", "kind", "subject", "since", "detail")
    bulk.insert(
        connection,
        alarms,
        columns,
        [(alarm.source, kind, alarm.subject, alarm.since, dict(alarm.detail)) for alarm in on],
        on_conflict="(source, kind, subject) DO UPDATE SET since = excluded.since, detail = excluded.detail, "
        "told_at = CASE WHEN alarms.cleared_at IS NULL AND alarms.since = excluded.since "
        "THEN alarms.told_at END, cleared_at = NULL",
    )
    if cleared:
        connection.execute(
            alarms.update()
            .where(
                alarms.c.kind == kind,
                alarms.c.cleared_at.is_(None),
                bulk.among(alarms.c.source + " " + alarms.c.subject, [f"{key[0]} {key[2]}" for key in cleared]),
            )
            .values(cleared_at=now)
        )
