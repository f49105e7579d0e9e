"""Tasks of teams: asked for by a flow with the note that tells of them, and open until somebody says they are done.

A task is taken back with its run: where that is stopped before the note went, there is nothing to do.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from db import bulk, intake
from db.own_events import own_event
from db.tables import contexts, enrollments, profiles, tasks, touchpoints

#: Tasks of one list.
SHOWN: Final = 100
#: The event by which it is told that a task is done.
DONE: Final = "task.done"

_t = tasks.c


class TaskError(AfterglowError):
    """This task cannot be done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewTask:
    """A task to be asked for, with the run and the step whose note tells of it."""

    customer_id: int
    enrollment_id: int
    step: str
    team: str
    name: str
    due_on: date | None
    asked_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A task, about whom it is, and what the note says (None before the note went)."""

    id: int
    team: str
    name: str
    due_on: date | None
    asked_at: datetime
    done_at: datetime | None
    done_by: str | None
    flow: str
    customer_id: int
    first_name: str | None
    last_name: str | None
    email: str | None
    about: str | None

    def is_late(self, today: date) -> bool:
        """Whether its day has passed."""
        return self.done_at is None and self.due_on is not None and self.due_on < today


def ask(connection: Connection, new: Sequence[NewTask]) -> None:
    """Write tasks beside their notes, which are queued in the same transaction."""
    columns = ("customer_id", "enrollment_id", "step", "team", "name", "due_on", "asked_at")
    rows = [
        (one.customer_id, one.enrollment_id, one.step, one.team, one.name, _written(one.due_on), one.asked_at)
        for one in new
    ]
    bulk.insert(connection, tasks, columns, rows)


def due_days(connection: Connection, enrollment_ids: Collection[int]) -> dict[tuple[int, str], date]:
    """By when the tasks of these runs are due, by run and step."""
    due = sa.select(_t.enrollment_id, _t.step, _t.due_on).where(
        bulk.among(_t.enrollment_id, sorted(enrollment_ids)), _t.due_on.is_not(None)
    )
    return {(row.enrollment_id, row.step): date.fromisoformat(row.due_on) for row in connection.execute(due)}


def waiting(connection: Connection, *, team: str | None = None, limit: int = SHOWN) -> list[Task]:
    """The open tasks, of one team or of all: those due first, then those without a day, the oldest first."""
    mine = [] if team is None else [_t.team == team]
    return _found(connection, _is_open(), *mine, order=(_t.due_on.asc().nulls_last(), _t.id), limit=limit)


def finished(connection: Connection, *, team: str | None = None, limit: int = SHOWN) -> list[Task]:
    """The tasks that were done, the newest first."""
    mine = [] if team is None else [_t.team == team]
    return _found(connection, _t.done_at.is_not(None), *mine, order=(_t.done_at.desc(), _t.id.desc()), limit=limit)


def late(today: date) -> sa.Select[Any]:
    """The numbers of the open tasks whose day has passed."""
    return _joined(sa.select(_t.id)).where(_is_open(), _t.due_on < today.isoformat())


def do(connection: Connection, task_id: int, by: str, now: datetime) -> None:
    """Note that a task is done, and tell `task.done`; hint `ingest` after the commit.

    Raises:
      TaskError: there is no such task, it is done already, or it was taken back with its run.
    """
    mine = _joined(sa.select(_t.id)).where(_t.id == task_id, _is_open())
    change = tasks.update().where(_t.id.in_(mine), _t.done_at.is_(None)).values(done_at=now, done_by=by)
    row = connection.execute(change.returning(_t.customer_id, _t.enrollment_id, _t.step, _t.team, _t.name)).first()
    if row is None:
        raise TaskError(_why_not(connection, task_id))
    t = touchpoints.c
    flow = connection.execute(
        sa.select(t.flow).where(t.enrollment_id == row.enrollment_id, t.step == row.step)
    ).scalar_one()
    asked_by = {"flow": flow, "step": row.step, "run": row.enrollment_id}
    said = {"task": row.name, "team": row.team, "by": asked_by}
    intake.receive(connection, [own_event(DONE, f"{DONE}/{task_id}", row.customer_id, now, said)], now)


def _why_not(connection: Connection, task_id: int) -> str:
    row = connection.execute(sa.select(_t.done_at, _t.done_by).where(_t.id == task_id)).first()
    if row is None:
        return f"There is no task {task_id}; `afterglow tasks` lists those that are open."
    if row.done_at is not None:
        return f"Task {task_id} was done by {row.done_by} already; nothing is left to do."
    return f"Task {task_id} was taken back, as its run was stopped before the note went; nothing is left to do."


def forget(connection: Connection, customer_id: int) -> None:
    """Let nothing be left to do about this customer."""
    connection.execute(tasks.delete().where(_t.customer_id == customer_id))


def _joined(query: sa.Select[Any]) -> sa.Select[Any]:
    note = (touchpoints.c.enrollment_id == _t.enrollment_id) & (touchpoints.c.step == _t.step)
    return query.join(touchpoints, note).join(enrollments, enrollments.c.id == _t.enrollment_id)


def _is_open() -> sa.ColumnElement[bool]:
    taken_back = (touchpoints.c.state == "skipped") & (enrollments.c.state == "stopped")
    return _t.done_at.is_(None) & ~taken_back


def _found(
    connection: Connection, *where: sa.ColumnElement[bool], order: Iterable[sa.ColumnElement[Any]], limit: int
) -> list[Task]:
    p = profiles.c
    query = (
        _joined(
            sa.select(
                *(_t.id, _t.team, _t.name, _t.due_on, _t.asked_at, _t.done_at, _t.done_by, _t.customer_id),
                *(touchpoints.c.flow, p.first_name, p.last_name, p.email),
                contexts.c.facts["extra"]["about"].as_string().label("about"),
            )
        )
        .outerjoin(profiles, p.customer_id == _t.customer_id)
        .outerjoin(contexts, contexts.c.touchpoint_id == touchpoints.c.id)
        .where(*where)
        .order_by(*order)
        .limit(limit)
    )
    return [
        Task(**{**row._mapping, "due_on": date.fromisoformat(row.due_on) if row.due_on else None})
        for row in connection.execute(query)
    ]


def _written(day: date | None) -> str | None:
    return day.isoformat() if day else None
