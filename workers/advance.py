"""Runs that are due take their next steps: a batch in one transaction.

1. Claim: lock the customers of due runs. Read the runs again, now that nobody else can move them.
2. Load every fact that the batch can need, in a handful of queries. A run of an older version of a flow whose file says
   `on_edit: move` goes over to the version in force.
3. Call the pure `decide` for each.
4. Write: where each run stands, the touchpoints it queued, the answers it took, what it did, and the actions that
   `ingest` is to do (`workers.acting`).

There is no lease: nothing here has an effect outside the database, so a worker that dies rolls back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from afterglow import acting as actions
from afterglow import touchpoint
from afterglow.decide import HELD_OUT, Decision, Facts, Outcome, Queued, Run, decide
from afterglow.language.flow.graph import Flow
from db import bulk, enrollments, events, people, tasks, touchpoints
from db.app import App
from db.catalog import Release
from db.people import Person
from db.tables import enrollments as enrollments_table
from db.tasks import NewTask
from db.touchpoints import NewTouchpoint
from workers import acting
from workers.acting import Acted
from workers.facts import load_facts
from workers.versions import Versions, newer


@dataclass(slots=True)
class Advance:
    """The work on runs."""

    app: App
    table: str = "enrollments"
    batch: int = 0
    #: Filled by `do`: whether touchpoints were queued.
    queued: bool = field(default=False)
    #: Filled by `do`: whether runs did something that is to be heard.
    acted: bool = field(default=False)
    #: Whether the customers' other due runs are done with those claimed, so that flows that want a customer at one
    #: moment queue together, and the one with priority goes first. Where it is sought which one kills or fails, each
    #: answers for itself.
    _takes_others: bool = True

    def __post_init__(self) -> None:
        # On SQLite a batch is two commits that wait for the disk, and nobody waits for its locks.
        self.batch = self.batch or (1000 if self.app.database.is_sqlite else 500)

    def find(self, connection: Connection, now: datetime, limit: int, *, alone: bool) -> list[int]:
        self._takes_others = not alone
        return enrollments.DUE.claim(connection, now, limit, alone=alone)

    def lock(self, connection: Connection, ids: Sequence[int]) -> None:
        self._takes_others = False
        enrollments.DUE.lock(connection, ids)

    def park(self, connection: Connection, item: int, reason: str, now: datetime) -> None:
        query = enrollments_table.update().where(enrollments_table.c.id == item)
        connection.execute(query.values(state="parked", due_at=None, reason=reason))

    def do(self, connection: Connection, ids: Sequence[int], now: datetime) -> None:
        rows = enrollments.due(connection, ids, now, with_others=self._takes_others)
        if not rows:
            return
        release = self.app.catalog.current(connection)
        flows = self.app.catalog.flows(connection, [row.flow_id for row in rows])
        versions = Versions(connection, rows, flows, newer(flows, {row.flow_id for row in rows}, release))
        persons = people.load(connection, (row.customer_id for row in rows), segments=release.catalog.reads_segments)
        facts = _load_facts(connection, rows, versions.flows, persons, release)
        # A run that was set aside has the error as its reason; what was drawn at its beginning is among its decisions.
        held_out = enrollments.noted(connection, HELD_OUT, [row for row in rows if row.reason not in (None, HELD_OUT)])
        moves: list[bulk.Row] = []
        queued: list[NewTouchpoint] = []
        asked: list[NewTask] = []
        notes: list[bulk.Row] = []
        taken: list[bulk.Row] = []
        acted: list[Acted] = []
        altered: dict[int, Person] = {}
        changed: list[bulk.Row] = []
        for row in rows:
            flow = versions.flows[row.id]
            at = self.app.clock.moment(row.due_at, now)
            if _is_paused(release, flow):
                moves.append((row.id, "paused", row.step, row.due_at, row.until, row.lane, row.reason, None))
                continue
            run = Run(
                customer_id=row.customer_id,
                event_id=row.event_id,
                entered_at=row.entered_at,
                step=flow.first if row.step == events.FIRST else row.step,
                until=row.until,
                begins=row.step == events.FIRST,
                held_out=row.reason == HELD_OUT or row.id in held_out,
                done=versions.done(row.id),
                id=row.id,
            )
            moved: tuple[Decision, ...] = ()
            if (over := versions.over(row, run, facts[row.id].zone, at)) is not None:
                run, moved = over[0], (over[1],)
                changed.append((row.id, versions.version(row.flow_id)))
            known = facts[row.id]
            if (person := altered.get(row.customer_id)) is not None:
                known = replace(known, customer=person.facts(release.catalog.shop))
            outcome = decide(flow, run, known, at)
            lane = _lane(row.lane, run, outcome)
            moves.append(_move(row.id, outcome, lane, at))
            notes.extend(
                (row.customer_id, row.id, at, decision.verb, decision.step, dict(decision.detail) or None)
                for decision in (*moved, *outcome.decisions)
            )
            taken.extend((row.id, step, event) for step, event in outcome.answers)
            for action in outcome.actions:
                acted.append(Acted(run=row.id, customer_id=row.customer_id, flow=flow.name, action=action, at=at))
                if action.facts:
                    altered[row.customer_id] = persons[row.customer_id]
                    actions.take_to_heart(persons[row.customer_id], action, at)
            if outcome.queued is not None:
                queued.append(_touchpoint(release, flow, row, outcome, lane))
                if (task := _task(row, outcome.queued, at)) is not None:
                    asked.append(task)
        enrollments.change_version(connection, changed)  # by itself: one statement changes a row once
        with bulk.at_once(connection):
            enrollments.move(connection, moves)
            touchpoints.queue(connection, queued)
            tasks.ask(connection, asked)
            enrollments.answer(connection, taken)
            enrollments.note(connection, notes)
            if acted:
                people.save(connection, altered, ())
                acting.tell(connection, acted)
        self.acted |= bool(acted)
        self.queued |= bool(queued)

    def committed(self) -> None:
        """Hints about messages follow the batch."""
        if self.acted:
            self.app.hint("ingest")


def _is_paused(release: Release, flow: Flow) -> bool:
    """Whether the flow stands still now, whatever the version says that the run began in."""
    current = release.catalog.flows.get(flow.name)
    return current is not None and current.status == "paused"


def _load_facts(
    connection: Connection,
    rows: Sequence[Any],
    flow_of: Mapping[int, Flow],
    persons: Mapping[int, Person],
    release: Release,
) -> dict[int, Facts]:
    """What each run of the batch can know, by run."""
    return load_facts(
        connection,
        [(row.id, row.customer_id, row.event_id, row.entered_at, flow_of[row.id]) for row in rows],
        persons,
        release.catalog.shop,
    )


def _lane(lane: int, run: Run, outcome: Outcome) -> int:
    """A run stays in the fast lane until it begins to wait; an event that wakes it brings it back there."""
    return 1 if outcome.state == "waiting" else lane


def _move(run: int, outcome: Outcome, lane: int, at: datetime) -> bulk.Row:
    ended_at = at if outcome.state in ("finished", "stopped") else None
    return (run, outcome.state, outcome.step, outcome.due_at, outcome.until, lane, outcome.reason, ended_at)


def _task(row: Any, queued: Queued, at: datetime) -> NewTask | None:
    """The task that a note to a team tells of."""
    if queued.team is None or queued.task is None:
        return None
    return NewTask(
        customer_id=row.customer_id,
        enrollment_id=row.id,
        step=queued.step,
        team=queued.team,
        name=queued.task,
        due_on=queued.due_on,
        asked_at=at,
    )


def _touchpoint(release: Release, flow: Flow, row: Any, outcome: Outcome, lane: int) -> NewTouchpoint:
    """The touchpoint of a step that was due when its run was, however late that is."""
    queued = outcome.queued
    assert queued is not None
    kind, topic = touchpoint.kind_and_topic(queued, flow, release.catalog.mails)
    return NewTouchpoint(
        customer_id=row.customer_id,
        enrollment_id=row.id,
        step=queued.step,
        flow=flow.name,
        channel=queued.template.partition("/")[0],
        template=queued.template,
        kind=kind,
        topic=topic,
        lane=0 if kind == "service" else lane,
        due_at=row.due_at,
    )
