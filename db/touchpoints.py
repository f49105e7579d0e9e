"""Messages to customers: queueing, claiming those that are due, handing over under a lease, settling."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.rails import Went
from db import bulk
from db.due import Due
from db.tables import (
    TouchpointState,
    consents,
    contexts,
    enrollments,
    halts,
    suppressions,
    touchpoints,
)

#: Why a message is held whose flow stands still.
PAUSED = "the flow is paused"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewTouchpoint:
    """A touchpoint to be queued."""

    customer_id: int
    enrollment_id: int
    step: str
    flow: str
    channel: str
    template: str
    kind: str
    topic: str | None
    lane: int
    due_at: datetime


def queue(connection: Connection, new: Sequence[NewTouchpoint]) -> None:
    """Queue touchpoints; the run of each is held until it is settled."""
    bulk.insert(
        connection,
        touchpoints,
        (
            "customer_id",
            "enrollment_id",
            "step",
            "flow",
            "channel",
            "template",
            "kind",
            "topic",
            "lane",
            "due_at",
            "queued_at",
        ),
        [
            (
                t.customer_id,
                t.enrollment_id,
                t.step,
                t.flow,
                t.channel,
                t.template,
                t.kind,
                t.topic,
                t.lane,
                t.due_at,
                t.due_at,
            )
            for t in new
        ],
    )


#: Claims of touchpoints of one channel that are due.
DUE = Due(touchpoints, "queued", touchpoints.c.channel == sa.bindparam("channel", type_=sa.Text))


def queued(connection: Connection, ids: Sequence[int], now: datetime) -> Sequence[Any]:
    """The touchpoints that are still queued and due, with the run that each belongs to."""
    t, e = touchpoints.c, enrollments.c
    return connection.execute(
        sa.select(
            t.id,
            t.customer_id,
            t.enrollment_id,
            t.step,
            t.flow,
            t.channel,
            t.template,
            t.kind,
            t.topic,
            t.due_at,
            t.queued_at,
            t.attempts,
            t.epoch,
            e.flow_id,
            e.event_id,
            e.entered_at,
            e.state.label("run_state"),
            e.reason.label("run_reason"),
        )
        .join(enrollments, e.id == t.enrollment_id)
        .where(bulk.among(t.id, ids), t.state == "queued", t.due_at <= now)
    ).all()


def also_queued(connection: Connection, customer_ids: Sequence[int], channel: str, now: datetime) -> list[int]:
    """All due touchpoints of these (locked) customers on a channel, so that they can be ranked together."""
    rows = connection.execute(
        sa.select(touchpoints.c.id).where(
            bulk.among(touchpoints.c.customer_id, list(set(customer_ids))),
            touchpoints.c.state == "queued",
            touchpoints.c.tries == sa.literal_column("0"),
            touchpoints.c.channel == channel,
            touchpoints.c.due_at <= now,
        )
    )
    return [row[0] for row in rows]


def sent_marketing(connection: Connection, customer_ids: Iterable[int], after: datetime) -> dict[int, list[Went]]:
    """What marketing went (or may have gone) to these customers after an instant: what caps count."""
    rows = connection.execute(
        sa.select(touchpoints.c.customer_id, touchpoints.c.prepared_at, touchpoints.c.flow).where(
            bulk.among(touchpoints.c.customer_id, list(set(customer_ids))),
            touchpoints.c.prepared_at > after,
            touchpoints.c.kind == "marketing",
            touchpoints.c.state.in_(["sending", "sent", "in_doubt"]),
        )
    )
    found: dict[int, list[Went]] = {}
    for row in rows:
        found.setdefault(row.customer_id, []).append(Went(row.prepared_at, row.flow))
    return found


def consents_of(
    connection: Connection, customer_ids: Iterable[int], channel: str
) -> dict[int, list[tuple[str, bool, str]]]:
    """What these customers said about a channel: (topic, granted, basis)."""
    rows = connection.execute(
        sa.select(consents.c.customer_id, consents.c.topic, consents.c.state, consents.c.basis).where(
            bulk.among(consents.c.customer_id, list(set(customer_ids))), consents.c.channel == channel
        )
    )
    found: dict[int, list[tuple[str, bool, str]]] = {}
    for row in rows:
        found.setdefault(row.customer_id, []).append((row.topic, row.state == "granted", row.basis))
    return found


def suppressed(connection: Connection, channel: str, digests: Iterable[str]) -> dict[str, str]:
    """Which of these address hashes are suppressed, and for what ("marketing" or "everything")."""
    rows = connection.execute(
        sa.select(suppressions.c.digest, suppressions.c.covers).where(
            suppressions.c.channel == channel, bulk.among(suppressions.c.digest, sorted(set(digests)))
        )
    )
    return {row.digest: row.covers for row in rows}


def halted(connection: Connection) -> frozenset[str]:
    """Flows whose marketing is halted; "*" stands for all."""
    return frozenset(row[0] for row in connection.execute(sa.select(halts.c.flow)))


def hand_over(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """Mark touchpoints as handed to the provider, given as (id, template_id, prepared_at, leased_until)."""
    bulk.update(
        connection,
        touchpoints,
        ("id", "template_id", "prepared_at", "leased_until"),
        rows,
        also="state = 'sending', attempts = t.attempts + 1, epoch = t.epoch + 1, tries = 0",
    )


def keep_contexts(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """Pin what touchpoints are rendered with, given as (touchpoint_id, customer_id, facts)."""
    bulk.insert(
        connection,
        contexts,
        ("touchpoint_id", "customer_id", "facts"),
        rows,
        on_conflict="(touchpoint_id) DO UPDATE SET facts = excluded.facts",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """The end of a touchpoint."""

    id: int
    state: TouchpointState
    at: datetime
    reason: str | None = None
    provider_id: str | None = None
    template_id: int | None = None
    prepared_at: datetime | None = None


def queued_by(connection: Connection, run_ids: Sequence[int]) -> Sequence[Any]:
    """What these runs have queued and no provider has in hand."""
    t = touchpoints.c
    if not run_ids:
        return []
    return connection.execute(
        sa.select(touchpoints)
        .where(bulk.among(t.enrollment_id, list(run_ids)), t.state.in_(["queued", "held"]))
        .order_by(t.id)
    ).all()


def held_by_pause(connection: Connection, flow: str) -> list[int]:
    """The customers of mails to them that are held because their flow is paused, one for each mail."""
    t = touchpoints.c
    query = sa.select(t.customer_id).where(
        t.state == "held", t.reason == PAUSED, t.flow == flow, t.kind != sa.literal_column("'team'")
    )
    return list(connection.execute(query).scalars())


def close(connection: Connection, ended: Sequence[Settled]) -> None:
    """End touchpoints that were never handed to a provider."""
    bulk.update(
        connection,
        touchpoints,
        ("id", "state", "settled_at", "reason", "provider_id", "template_id", "prepared_at", "tries"),
        [(s.id, s.state.value, s.at, s.reason, s.provider_id, s.template_id, s.prepared_at, 0) for s in ended],
    )


def settle(connection: Connection, ended: Sequence[tuple[Settled, int]]) -> dict[int, int]:
    """End touchpoints that were handed over, given with the epoch of the handing. Those really ended, and whose.

    A customer may have been merged into another while the provider had the mail.

    A worker that stood still past its lease settles nothing: the epoch or the state has changed meanwhile.
    """
    ids = [settled.id for settled, _ in ended]
    epochs = {settled.id: epoch for settled, epoch in ended}
    rows = connection.execute(
        sa.select(touchpoints.c.id, touchpoints.c.epoch, touchpoints.c.customer_id)
        .where(bulk.among(touchpoints.c.id, sorted(ids)), touchpoints.c.state == "sending")
        .order_by(touchpoints.c.id)
        .with_for_update()
    )
    mine = {row.id: row.customer_id for row in rows if row.epoch == epochs[row.id]}
    bulk.update(
        connection,
        touchpoints,
        ("id", "state", "settled_at", "leased_until", "reason", "provider_id"),
        [(s.id, s.state.value, s.at, None, s.reason, s.provider_id) for s, _ in ended if s.id in mine],
    )
    return mine


def defer(connection: Connection, rows: Sequence[tuple[int, datetime, datetime, str | None]]) -> None:
    """Look at queued touchpoints again later, given as (id, due_at, queued_at, reason); they leave the fast lane."""
    columns = ("id", "due_at", "queued_at", "reason", "lane", "tries")
    bulk.update(connection, touchpoints, columns, [(*row, 1, 0) for row in rows])


def hold(connection: Connection, rows: Sequence[tuple[int, str]]) -> None:
    """Take touchpoints out of the queue until a person says otherwise, given as (id, reason)."""
    bulk.update(
        connection,
        touchpoints,
        ("id", "state", "reason", "tries"),
        [(id_, "held", reason, 0) for id_, reason in rows],
    )


def requeue(connection: Connection, rows: Sequence[tuple[int, int, datetime, str | None]]) -> dict[int, int]:
    """Put handed-over touchpoints back, given as (id, epoch, due_at, reason). Those really put back, and whose."""
    found = connection.execute(
        sa.select(touchpoints.c.id, touchpoints.c.epoch, touchpoints.c.customer_id)
        .where(bulk.among(touchpoints.c.id, sorted(row[0] for row in rows)), touchpoints.c.state == "sending")
        .order_by(touchpoints.c.id)
        .with_for_update()
    )
    epochs = {row[0]: row[1] for row in rows}
    mine = {row.id: row.customer_id for row in found if row.epoch == epochs[row.id]}
    bulk.update(
        connection,
        touchpoints,
        ("id", "due_at", "reason", "state", "leased_until"),
        [(id_, due_at, reason, "queued", None) for id_, _, due_at, reason in rows if id_ in mine],
    )
    return mine


def expired(connection: Connection, now: datetime, limit: int) -> Sequence[Any]:
    """Touchpoints whose lease ran out: the worker died, or stands still, between handing over and settling."""
    t = touchpoints.c
    return connection.execute(
        sa.select(t.id, t.customer_id, t.enrollment_id, t.step, t.kind, t.epoch, t.attempts, t.leased_until)
        .where(t.state == "sending", t.leased_until < now)
        .order_by(t.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def back_off(attempts: int) -> timedelta:
    """How long to wait before the next attempt after so many: one minute, then twice as long, at most six hours."""
    return min(timedelta(minutes=2 ** max(0, attempts - 1)), timedelta(hours=6))
