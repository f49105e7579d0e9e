"""Which batches are in work, so that a row that kills its process is found and set aside.

Before a batch, its members are written to `claims` and committed; the batch's own transaction deletes that row first,
which locks it, and commits with the work. A row that somebody else can lock therefore belongs to a process that died
(or to a batch that failed and could not say so): its members are counted and from then on tried alone. Where the
server itself was restarted since, its claims say nothing: every batch broke off, and nobody need have died.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from db import bulk
from db.engine import Database
from db.enrollments import go_on, note
from db.tables import EnrollmentState, InboxState, TouchpointState, claims, enrollments, inbox, touchpoints

#: A row that was in a batch when its process died this often is parked.
TRIES_MAX = 3
#: How old a claim must be before it is looked at: older than the moment between its commit and its lock.
SETTLING = timedelta(seconds=3)

_TABLES = {"inbox": inbox, "enrollments": enrollments, "touchpoints": touchpoints}
_PARKED = {
    "inbox": (InboxState.RECEIVED, InboxState.PARKED),
    "enrollments": (EnrollmentState.WAITING, EnrollmentState.PARKED),
    "touchpoints": (TouchpointState.QUEUED, TouchpointState.FAILED),
}


_SERVER_SINCE = sa.func.pg_postmaster_start_time()


class ClaimLostError(AfterglowError):
    """The claim on this batch was taken for a dead one; the batch is left to others."""


def bury_last(connection: Connection, kind: str, members: Sequence[int], now: datetime) -> int:
    """Bury those batches that had some of these items before, which the caller has locked. How many there were.

    Whoever holds an item's lock in a living process has a claim on it that nobody else can overlap with; so the last
    owner died. Without this look a row that kills would first kill every other worker too, before its tries count.
    """
    query = sa.select(claims.c.id, claims.c.kind, claims.c.members).where(claims.c.kind == kind)
    mine = set(members)
    dead = [row.id for row in connection.execute(query) if not mine.isdisjoint(row.members)]
    if dead:  # somebody else may be burying one of them just now
        _bury(connection, query.where(bulk.among(claims.c.id, dead)), now)
    return len(dead)


def announce(database: Database, kind: str, members: Sequence[int], now: datetime) -> str:
    """Commit the claim on a batch, apart from the batch's own transaction. Its id."""
    claim = uuid.uuid4().hex
    # Lost in a crash of the machine, it is not missed: then no process died of the batch.
    with database.writing_hastily() as connection:
        since = None if database.is_sqlite else _SERVER_SINCE
        row = {"id": claim, "kind": kind, "members": list(members), "claimed_at": now, "server_since": since}
        connection.execute(claims.insert().values(row))
    return claim


def take(connection: Connection, claim: str) -> None:
    """Delete the claim inside the batch's transaction, which holds its lock until the batch is done.

    Raises:
      ClaimLostError: when somebody took it for a dead one.
    """
    if connection.execute(claims.delete().where(claims.c.id == claim)).rowcount != 1:
        raise ClaimLostError


def withdraw(database: Database, claim: str) -> None:
    """Forget a claim whose batch failed in this living process: nobody died of it."""
    with database.writing() as connection:
        connection.execute(claims.delete().where(claims.c.id == claim))


def bury(connection: Connection, now: datetime, *, all_of_them: bool = False) -> int:
    """Count one try against the members of every batch whose process died. How many batches there were.

    Args:
      all_of_them: at the start of the only process (SQLite), where no batch can be in work.
    """
    query = sa.select(claims.c.id, claims.c.kind, claims.c.members)
    if not all_of_them:
        query = query.where(claims.c.claimed_at < now - SETTLING)
    return _bury(connection, query, now)


def _bury(connection: Connection, query: sa.Select[Any], now: datetime) -> int:
    if connection.dialect.name == "postgresql":
        query = query.add_columns((claims.c.server_since < _SERVER_SINCE).label("broke_off"))
    else:
        query = query.add_columns(sa.false().label("broke_off"))
    dead = connection.execute(query.with_for_update(skip_locked=True)).all()
    for kind, table in _TABLES.items():
        members = [member for row in dead if row.kind == kind and not row.broke_off for member in row.members]
        if members:
            _count(connection, kind, table, members, now)
    connection.execute(claims.delete().where(bulk.among(claims.c.id, [row.id for row in dead])))
    return len(dead)


def _count(connection: Connection, kind: str, table: sa.Table, members: Sequence[int], now: datetime) -> None:
    open_state, parked_state = _PARKED[kind]
    open_ones = bulk.among(table.c.id, members) & (table.c.state == open_state)
    connection.execute(table.update().where(open_ones).values(tries=table.c.tries + 1))
    reason = f"its worker died {TRIES_MAX} times while working on it"
    parked: dict[str, Any] = {"state": parked_state.value, "reason": reason}
    if kind == "enrollments":
        parked["due_at"] = None
    if kind == "touchpoints":
        parked["settled_at"] = now
    hopeless = table.update().where(open_ones & (table.c.tries >= TRIES_MAX)).values(**parked)
    if kind != "touchpoints":
        connection.execute(hopeless)
        return
    t = touchpoints.c
    failed = connection.execute(hopeless.returning(t.customer_id, t.enrollment_id, t.step)).all()
    go_on(connection, [(row.enrollment_id, now) for row in failed])
    note(
        connection,
        [(row.customer_id, row.enrollment_id, now, "failed", row.step, {"because": reason}) for row in failed],
    )
