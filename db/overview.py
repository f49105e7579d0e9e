"""How the installation stands at this moment, for people: what needs somebody, and the figures of the day.

Every query walks an index and stops at a bound, so that the first page costs the same whatever the database holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import alarms, bulk, requests, tasks
from db.alarms import Alarm
from db.tables import documents, enrollments, events, halts, inbox, profiles, referrals, touchpoints

#: The highest figure that is counted exactly.
COUNT_MAX = 10_000
#: Rows of each list on the first page; the rest is one click away.
SHOWN = 5
#: Work that has been due for longer than this is late, or nobody works.
OVERDUE = timedelta(minutes=10)
#: Trouble older than this has been seen; it stays in the outbox.
RECENT = timedelta(days=7)
DAY = timedelta(days=1)
PAGE = 50
#: What no index finds is looked for among so many of the newest.
LOOK_BACK = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A count that stops at a bound: "10,000+" where there are more."""

    value: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.value:,}{'+' if self.more else ''}"

    def __bool__(self) -> bool:
        return self.value > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pile:
    """Things of one kind: how many, and the newest of them."""

    count: Figure
    rows: Sequence[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What waits for a person."""

    halts: Sequence[Any]  # flow, at, by
    alarms: Sequence[Alarm]
    held: Figure
    parked: Pile  # inbox rows
    fetching: Figure  # inbox rows that lack a document of their source
    runs: Pile  # parked runs
    in_doubt: Pile  # touchpoints of the last days
    failed: Pile
    referrals: Figure  # that wait for a look
    late_tasks: Figure  # of teams, whose day has passed
    asked: Sequence[Any]  # customers' requests for their data: source, asked_at, due_at, customer_ids
    overdue: dict[str, Figure]  # webhooks, runs, messages that are late; only what is

    @property
    def nothing(self) -> bool:
        """Whether nobody is needed."""
        piles = (self.parked, self.runs, self.in_doubt, self.failed)
        told = (*self.halts, *self.alarms, *self.asked, *self.overdue)
        figures = (self.referrals, self.late_tasks, *(pile.count for pile in piles))
        return not told and not any(figures)


@dataclass(frozen=True, kw_only=True, slots=True)
class Today:
    """The last 24 hours in figures, and what comes next."""

    events: Figure
    sent: Figure
    waiting: Figure
    last_event_at: datetime | None
    next_due_at: datetime | None


def counted(connection: Connection, rows: sa.Select[Any], limit: int = COUNT_MAX) -> Figure:
    """How many rows a query finds, looking at no more than the limit."""
    found = rows.limit(limit + 1).subquery()
    number: int = connection.execute(sa.select(sa.func.count()).select_from(found)).scalar_one()
    return Figure(value=min(number, limit), more=number > limit)


def ends(connection: Connection, table: sa.Table) -> tuple[Any, Any]:
    """The lowest and the highest id of a table, or two times None.

    As two subqueries: SQLite finds one of them by its index, and both at once by reading the whole table.
    """
    ids = (sa.select(sa.func.min(table.c.id)).scalar_subquery(), sa.select(sa.func.max(table.c.id)).scalar_subquery())
    lowest, highest = connection.execute(sa.select(*ids)).one()
    return lowest, highest


def state_is(table: sa.Table, state: str, index: Sequence[str] = ()) -> sa.ColumnElement[bool]:
    """`state = ...` as a constant, so that a partial index can serve it.

    Args:
      index: the states of the index's own condition, which SQLite wants repeated word for word.
    """
    # The states are ours, from this package's own enums: nothing that anybody sent stands in this text.
    is_state = table.c.state == sa.literal_column(f"'{state}'")
    if not index:
        return is_state
    words = ", ".join(f"'{one}'" for one in index)
    return is_state & sa.text(f"{table.name}.state IN ({words})")


UNSETTLED_INBOX = ("awaiting", "parked")
SET_ASIDE = ("paused", "parked")
UNSETTLED = ("sending", "held")
TROUBLED = ("failed", "rejected", "in_doubt")


def needs(connection: Connection, now: datetime, zone: ZoneInfo) -> Needs:
    """What waits for a person, newest first; `zone` is the shop's, by whose calendar tasks are due."""
    return Needs(
        halts=connection.execute(sa.select(halts).order_by(halts.c.at)).all(),
        alarms=alarms.raised(connection),
        held=counted(connection, sa.select(touchpoints.c.id).where(state_is(touchpoints, "held", UNSETTLED))),
        parked=_parked_webhooks(connection),
        fetching=counted(connection, sa.select(inbox.c.id).where(state_is(inbox, "fetching"))),
        runs=_parked_runs(connection),
        in_doubt=_trouble(connection, "in_doubt", now),
        failed=_trouble(connection, "failed", now),
        referrals=needs_review(connection),
        late_tasks=counted(connection, tasks.late(now.astimezone(zone).date())),
        asked=requests.to_hand_over(connection),
        overdue={name: count for name, count in _overdue(connection, now).items() if count},
    )


def needs_review(connection: Connection) -> Figure:
    """How many referrals wait for a person."""
    return counted(connection, sa.select(referrals.c.id).where(state_is(referrals, "review")))


def _parked_webhooks(connection: Connection) -> Pile:
    return Pile(
        count=counted(connection, sa.select(inbox.c.id).where(state_is(inbox, "parked", UNSETTLED_INBOX))),
        rows=webhooks(connection, "parked", limit=SHOWN),
    )


def webhooks(
    connection: Connection, state: str, *, source: str | None = None, before: int | None = None, limit: int = PAGE
) -> Sequence[Any]:
    """Elements of webhooks in a state, newest first: id, source, key, state, received_at, reason.

    Those that wait for nothing are in no index, so they are looked for among the newest only.
    """
    c = inbox.c
    query = sa.select(c.id, c.source, c.key, c.state, c.received_at, c.reason).order_by(c.id.desc()).limit(limit)
    if state == "fetching":
        query = query.where(state_is(inbox, state, ()))
    elif state in UNSETTLED_INBOX:
        query = query.where(state_is(inbox, state, UNSETTLED_INBOX))
    else:
        top = before or connection.execute(sa.select(sa.func.max(c.id))).scalar() or 0
        query = query.where(c.state == state, c.id > top - LOOK_BACK)
    if source is not None:
        query = query.where(c.source == source)
    if before is not None:
        query = query.where(c.id < before)
    return connection.execute(query).all()


def webhook(connection: Connection, id_: int) -> Any | None:
    """One element, whole."""
    return connection.execute(sa.select(inbox).where(inbox.c.id == id_)).one_or_none()


def _parked_runs(connection: Connection) -> Pile:
    e, d, p = enrollments.c, documents.c, profiles.c
    is_parked = state_is(enrollments, "parked", SET_ASIDE)
    newest = (
        sa.select(e.id, e.customer_id, d.name.label("flow"), e.step, e.reason, p.first_name, p.last_name, p.email)
        .join(documents, d.id == e.flow_id)
        .outerjoin(profiles, p.customer_id == e.customer_id)
        .where(is_parked)
        .order_by(e.id.desc())
        .limit(SHOWN)
    )
    return Pile(
        count=counted(connection, sa.select(e.id).where(is_parked)),
        rows=connection.execute(newest).all(),
    )


def parked_run_ids(connection: Connection, limit: int) -> list[int]:
    """The newest parked runs."""
    e = enrollments.c
    query = sa.select(e.id).where(state_is(enrollments, "parked", SET_ASIDE)).order_by(e.id.desc()).limit(limit)
    return list(connection.execute(query).scalars())


def _trouble(connection: Connection, state: str, now: datetime) -> Pile:
    t, p = touchpoints.c, profiles.c
    found = (
        sa.select(t.id)
        .where(state_is(touchpoints, state, TROUBLED), t.settled_at >= now - RECENT)
        .order_by(t.id.desc())
        .limit(COUNT_MAX + 1)
    )
    ids: Sequence[int] = connection.execute(found).scalars().all()
    newest = (
        sa.select(
            t.id, t.customer_id, t.flow, t.step, t.template, t.kind, t.reason, t.settled_at,
            p.first_name, p.last_name, p.email,
        )
        .outerjoin(profiles, p.customer_id == t.customer_id)
        .where(bulk.among(t.id, ids[:SHOWN]))
        .order_by(t.id.desc())
    )  # fmt: skip
    count = Figure(value=min(len(ids), COUNT_MAX), more=len(ids) > COUNT_MAX)
    return Pile(count=count, rows=connection.execute(newest).all() if ids else ())


def _overdue(connection: Connection, now: datetime) -> dict[str, Figure]:
    late = now - OVERDUE
    e, t = enrollments.c, touchpoints.c
    # Read webhooks leave the index, so its first row is the oldest; a flood of new ones is not late yet.
    unread = sa.select(inbox.c.id, inbox.c.received_at).where(state_is(inbox, "received")).order_by(inbox.c.id)
    oldest = unread.limit(COUNT_MAX + 1).subquery()
    both_lanes: tuple[sa.ColumnElement[int], ...] = (sa.literal_column("0"), sa.literal_column("1"))
    unfetched = sa.select(inbox.c.id).where(state_is(inbox, "fetching"), inbox.c.fetch_at < late)
    return {
        "documents": counted(connection, unfetched),
        "webhooks": counted(connection, sa.select(oldest.c.id).where(oldest.c.received_at < late)),
        "runs": counted(
            connection,
            sa.select(e.id).where(state_is(enrollments, "waiting"), e.lane.in_(both_lanes), e.due_at < late),
        ),
        "messages": counted(
            connection,
            sa.select(t.id).where(
                state_is(touchpoints, "queued"),
                t.channel == sa.literal_column("'email'"),
                t.lane.in_(both_lanes),
                t.due_at < late,
            ),
        ),
        "leases": counted(
            connection,
            sa.select(t.id).where(state_is(touchpoints, "sending", UNSETTLED), t.leased_until < late),
        ),
    }


def today(connection: Connection, now: datetime) -> Today:
    """The figures of the last 24 hours. Rows are numbered in the order in which they were made, near enough."""
    e, t, v = enrollments.c, touchpoints.c, events.c
    newest_events = sa.select(v.recorded_at).order_by(v.id.desc()).limit(COUNT_MAX + 1).subquery()
    newest_mails = sa.select(t.state, t.prepared_at).order_by(t.id.desc()).limit(COUNT_MAX + 1).subquery()
    due = [
        sa.select(e.due_at)
        .where(state_is(enrollments, "waiting"), e.lane == sa.literal_column(lane))
        .order_by(e.due_at)
        .limit(1)
        .scalar_subquery()
        for lane in ("0", "1")
    ]
    next_of_lanes = connection.execute(sa.select(*(each.label(f"lane_{n}") for n, each in enumerate(due)))).one()
    return Today(
        events=counted(connection, sa.select(newest_events).where(newest_events.c.recorded_at > now - DAY)),
        sent=counted(
            connection,
            sa.select(newest_mails).where(newest_mails.c.state == "sent", newest_mails.c.prepared_at > now - DAY),
        ),
        waiting=counted(connection, sa.select(e.id).where(state_is(enrollments, "waiting"))),
        last_event_at=connection.execute(sa.select(v.recorded_at).order_by(v.id.desc()).limit(1)).scalar(),
        next_due_at=min((moment for moment in next_of_lanes if moment is not None), default=None),
    )


def newest_events(
    connection: Connection, *, name: str | None, before: int | None, look_back: int = LOOK_BACK, limit: int = PAGE
) -> Sequence[Any]:
    """Events of all customers, newest first; of one name only among the last so many."""
    v, p = events.c, profiles.c
    query = (
        sa.select(v.id, v.name, v.source, v.customer_id, v.recorded_at, p.first_name, p.last_name, p.email)
        .outerjoin(profiles, p.customer_id == v.customer_id)
        .order_by(v.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(v.id < before)
    if name is not None:
        top = before or connection.execute(sa.select(sa.func.max(v.id))).scalar() or 0
        query = query.where(v.name == name, v.id > top - look_back)
    return connection.execute(query).all()
