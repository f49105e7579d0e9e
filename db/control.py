"""What people say by hand: halt and resume marketing, pause flows (by their files), let parked things go again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.rails import HALTED
from db import bulk, fetching, people
from db.catalog import Release
from db.tables import documents, enrollments, halts, inbox, releases, touchpoints
from db.touchpoints import PAUSED, halted

ALL = "*"


def halt(connection: Connection, flow: str, *, by: str, now: datetime) -> None:
    """Stop marketing of one flow ("*": of all). Every preparation after this commit sees it."""
    bulk.insert(connection, halts, ("flow", "at", "by"), [(flow, now, by)], on_conflict="DO NOTHING")


def resume(connection: Connection, flow: str, *, now: datetime) -> int:
    """Take a halt back and let held touchpoints go on. How many there were.

    Nothing is repeated, because only held ones go on; nothing is skipped as too old, because the time that they were
    held does not count as waiting. A batch that is at work meanwhile may hold some more by the halt that it had seen:
    those go on with the next `sweep`.
    """
    connection.execute(halts.delete().where(sa.true() if flow == ALL else halts.c.flow == flow))
    return _let_go(connection, _not_halted(connection), now)


def halts_now(connection: Connection) -> Sequence[Any]:
    """The halts in force: flow, since when, by whom."""
    return connection.execute(sa.select(halts).order_by(halts.c.at)).all()


def fates(connection: Connection, flow: str) -> Sequence[Any]:
    """Marketing touchpoints of a flow ("*": of all) by state: who got what, and who is still queued."""
    t = touchpoints.c
    query = (
        sa.select(t.flow, t.step, t.state, sa.func.count().label("count"))
        .where(t.kind == "marketing")
        .group_by(t.flow, t.step, t.state)
        .order_by(t.flow, t.step, t.state)
    )
    return connection.execute(query if flow == ALL else query.where(t.flow == flow)).all()


def recipients(connection: Connection, flow: str, states: Sequence[str], limit: int) -> Sequence[Any]:
    """The customers behind `fates`, newest first: id, flow, step, state, when."""
    t = touchpoints.c
    query = (
        sa.select(t.customer_id, t.flow, t.step, t.state, sa.func.coalesce(t.prepared_at, t.due_at).label("at"))
        .where(t.kind == "marketing", t.state.in_(states))
        .order_by(t.id.desc())
        .limit(limit)
    )
    return connection.execute(query if flow == ALL else query.where(t.flow == flow)).all()


def sweep(connection: Connection, release: Release, now: datetime, limit: int) -> int:
    """Take rows of paused flows out of the queue, and put rows of flows that run again back. How many were put back.

    So are messages put back that a batch held by a halt which was taken back before it was done.

    A flow is paused by its file. What was paused keeps its due moment; what fell due meanwhile is due now, so not late.
    """
    paused = [name for name, flow in release.catalog.flows.items() if flow.status == "paused"]
    versions = _versions(connection, paused)
    e, t = enrollments.c, touchpoints.c
    asleep = sa.select(e.id).where(e.state == "waiting", bulk.among(e.flow_id, versions)).limit(limit)
    if versions:
        connection.execute(enrollments.update().where(e.id.in_(asleep), e.state == "waiting").values(state="paused"))
    awake = sa.select(e.id).where(e.state == "paused")
    if versions:
        awake = awake.where(sa.not_(bulk.among(e.flow_id, versions)))
    back = connection.execute(
        enrollments.update()
        .where(e.id.in_(awake.limit(limit)), e.state == "paused")
        .values(state="waiting", due_at=sa.case((e.due_at < now, sa.literal(now, e.due_at.type)), else_=e.due_at))
    ).rowcount
    runs_again = (t.reason == PAUSED) & t.flow.not_in(paused)
    return back + _let_go(connection, runs_again | _not_halted(connection), now, limit)


def _not_halted(connection: Connection) -> sa.ColumnElement[bool]:
    """Which of the held were held by a halt that is not in force any more."""
    still = halted(connection)
    return sa.false() if ALL in still else (touchpoints.c.reason == HALTED) & touchpoints.c.flow.not_in(sorted(still))


def _let_go(connection: Connection, which: sa.ColumnElement[bool], now: datetime, limit: int | None = None) -> int:
    """Put held messages back into the queue, all or so many at most. How many."""
    t = touchpoints.c
    held = sa.select(t.id).where(t.state == "held", which).limit(limit)
    back = touchpoints.update().where(t.id.in_(held), t.state == "held")
    return connection.execute(back.values(state="queued", reason=None, due_at=now, queued_at=now)).rowcount


def send_over(connection: Connection, release: Release, now: datetime, limit: int) -> int | None:
    """Let runs of older versions be looked at now whose flow says `on_edit: move`, so that they go over at once.

    Goes along the runs by their numbers, so many in a call, until none is left. How many are to be looked at; None
    where nobody is left.
    """
    r, e = releases.c, enrollments.c
    upto = connection.execute(sa.select(r.moved_upto).where(r.id == release.id)).scalar()
    if upto is None:
        return None
    flows = release.catalog.flows.values()
    moving = [flow.name for flow in flows if flow.moves and flow.status != "draft"]
    versions = sorted(set(_versions(connection, moving)) - {release.flow_id(name) for name in moving})
    stretch = sa.select(e.id, e.customer_id).where(
        e.id > upto, e.id <= upto + limit, e.state.in_(["waiting", "paused"]), bulk.among(e.flow_id, versions)
    )
    rows = connection.execute(stretch).all()
    people.lock(connection, [row.customer_id for row in rows])
    told = connection.execute(
        enrollments.update()
        .where(bulk.among(e.id, [row.id for row in rows]), e.state.in_(["waiting", "paused"]), e.due_at > now)
        .values(due_at=now)
    ).rowcount
    newest = connection.execute(sa.select(sa.func.max(e.id))).scalar() or 0
    done = upto + limit >= newest
    connection.execute(releases.update().where(r.id == release.id).values(moved_upto=None if done else upto + limit))
    return told


def _versions(connection: Connection, flows: Sequence[str]) -> list[int]:
    if not flows:
        return []
    query = sa.select(documents.c.id).where(documents.c.kind == "flow", bulk.among(documents.c.name, flows))
    return [row[0] for row in connection.execute(query)]


def retry_inbox(connection: Connection, ids: Sequence[int]) -> int:
    """Let parked or waiting inbox rows be mapped again, and their documents be fetched again. How many."""
    query = inbox.update().where(
        bulk.among(inbox.c.id, ids),
        inbox.c.state.in_(["parked", "awaiting", "ignored", "fetching"]),
        inbox.c.body != b"",
    )
    fetching.clear_gone(connection)
    afresh = {"fetch_at": None, "fetch_tries": 0, "fetched": None}
    return connection.execute(query.values(state="received", reason=None, awaits=None, tries=0, **afresh)).rowcount


def replay_inbox(connection: Connection, ids: Sequence[int]) -> int:
    """Let inbox rows be mapped again from the body that is kept, whatever became of them. How many.

    What is recorded already stays as it is: the same key with the same event is a repeat, and with another (the source
    file was changed) it is parked as a conflict.
    """
    settled = inbox.c.state.in_(["mapped", "parked", "awaiting", "ignored"])
    query = inbox.update().where(bulk.among(inbox.c.id, ids), settled, inbox.c.body != b"")
    return connection.execute(query.values(state="received", reason=None, awaits=None, tries=0)).rowcount


def retry_runs(connection: Connection, ids: Sequence[int], now: datetime) -> int:
    """Let parked runs go on where they stood. How many."""
    query = enrollments.update().where(bulk.among(enrollments.c.id, ids), enrollments.c.state == "parked")
    return connection.execute(query.values(state="waiting", due_at=now, tries=0)).rowcount
