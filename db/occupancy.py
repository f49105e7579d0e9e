"""Where people stand in flows, and what became of the mails: the figures on the flows' pages, and whom they count.

A figure is counted in a bounded stretch: the runs that are due next, the newest messages. Where there are more, the
page says of how many the figures speak.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.overview import SET_ASIDE, UNSETTLED, Figure, counted, state_is
from db.tables import decisions, documents, enrollments, profiles, touchpoints

#: Rows that one figure looks at, at most.
COUNTED_MAX: Final = 50_000
PAGE: Final = 50
#: States in which a run is not over; `sending` runs are found by their message.
STANDING: Final = ("waiting", "paused", "parked")


Measure = Literal["converted", "converted though held out", "held out", "taken in"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Occupancy:
    """People and mails by (flow, step, state). `of_runs` and `of_mails` say how many were counted where not all."""

    people: Mapping[tuple[str, str | None, str], int]
    mails: Mapping[tuple[str, str, str], int]
    of_runs: int | None
    of_mails: int | None

    def inside(self, flow: str, step: str | None = None, state: str | None = None) -> int:
        """People in a flow; on one step of it; in one state."""
        return sum(
            count
            for (f, s, st), count in self.people.items()
            if f == flow and (step is None or s == step) and (state is None or st == state)
        )

    def sent(self, flow: str, states: Sequence[str], step: str | None = None) -> int:
        """Mails of a flow, or of one step of it, in these states."""
        return sum(
            count
            for (f, s, st), count in self.mails.items()
            if f == flow and st in states and (step is None or s == step)
        )


def occupancy(connection: Connection) -> Occupancy:
    """All figures of all flows, in five queries."""
    people: dict[tuple[str, str | None, str], int] = {}
    e, t = enrollments.c, touchpoints.c
    waiting = (
        sa.select(e.flow_id, e.step)
        .where(state_is(enrollments, "waiting"))
        .order_by(e.lane, e.due_at)
        .limit(COUNTED_MAX)
        .subquery()
    )
    grouped = sa.select(waiting.c.flow_id, waiting.c.step, sa.literal("waiting"), sa.func.count())
    rows = list(connection.execute(grouped.group_by(waiting.c.flow_id, waiting.c.step)))
    capped = sum(row[3] for row in rows) == COUNTED_MAX
    for state in SET_ASIDE:
        aside = (
            sa.select(e.flow_id, e.step).where(state_is(enrollments, state, SET_ASIDE)).limit(COUNTED_MAX).subquery()
        )
        grouped = sa.select(aside.c.flow_id, aside.c.step, sa.literal(state), sa.func.count())
        rows += connection.execute(grouped.group_by(aside.c.flow_id, aside.c.step))
    names = {row.id: row.name for row in connection.execute(sa.select(documents.c.id, documents.c.name).where(_FLOWS))}
    for flow_id, step, state, count in rows:
        key = (names[flow_id], step, state)
        people[key] = people.get(key, 0) + count
    newest = sa.select(t.flow, t.step, t.state).order_by(t.id.desc()).limit(COUNTED_MAX).subquery()
    grouped_mails = sa.select(newest.c.flow, newest.c.step, newest.c.state, sa.func.count())
    mails = {
        (flow, step, state): count
        for flow, step, state, count in connection.execute(
            grouped_mails.group_by(newest.c.flow, newest.c.step, newest.c.state)
        )
    }
    for (flow, step, state), count in mails.items():
        if state in ("queued", *UNSETTLED):
            people[flow, step, "sending"] = people.get((flow, step, "sending"), 0) + count
    return Occupancy(
        people=people,
        mails=mails,
        of_runs=COUNTED_MAX if capped else None,
        of_mails=COUNTED_MAX if sum(mails.values()) == COUNTED_MAX else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """Runs by flow that reached its goal, and those that a holdout drew, among the newest decisions.

    `of_decisions` says how many were looked at where not all.
    """

    counts: Mapping[tuple[str, Measure], int]
    of_decisions: int | None

    def of(self, flow: str, measure: Measure) -> int:
        """How many runs of a flow."""
        return self.counts.get((flow, measure), 0)


def measures(connection: Connection) -> Measures:
    """What goals and holdouts of all flows have come to, in one query."""
    d, e = decisions.c, enrollments.c
    newest = sa.select(d.id).order_by(d.id.desc()).limit(1).scalar_subquery()
    oldest = sa.select(newest - COUNTED_MAX).scalar_subquery()
    rows = connection.execute(
        sa.select(documents.c.name, d.verb, d.detail)
        .join(enrollments, e.id == d.enrollment_id)
        .join(documents, documents.c.id == e.flow_id)
        .where(d.id > oldest, d.verb.in_(["converted", "held out", "taken in"]))
    )
    counts: dict[tuple[str, Measure], int] = {}
    for flow, verb, detail in rows:
        measure: Measure = "converted though held out" if "held_out" in (detail or {}) else verb
        counts[flow, measure] = counts.get((flow, measure), 0) + 1
    top = connection.execute(sa.select(newest)).scalar() or 0
    return Measures(counts=counts, of_decisions=COUNTED_MAX if top > COUNTED_MAX else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Marketing:
    """Marketing messages that have not left, and those that have lately; figures stop at a bound."""

    queued: Figure
    held: Figure
    sent: Figure  # in the last stretch of messages


def marketing(connection: Connection, flow: str | None) -> Marketing:
    """What a halt would hold, or a resume let go, of one flow or of all."""
    t = touchpoints.c
    newest = sa.select(t.id, t.flow, t.kind, t.state).order_by(t.id.desc()).limit(COUNTED_MAX).subquery()
    waits = {
        "queued": sa.select(t.id).where(state_is(touchpoints, "queued"), t.kind == "marketing"),
        "held": sa.select(t.id).where(state_is(touchpoints, "held", UNSETTLED), t.kind == "marketing"),
        "sent": sa.select(newest.c.id).where(newest.c.kind == "marketing", newest.c.state == "sent"),
    }
    of_flow = {"queued": t.flow == flow, "held": t.flow == flow, "sent": newest.c.flow == flow}
    return Marketing(
        **{
            name: counted(connection, query if flow is None else query.where(of_flow[name]))
            for name, query in waits.items()
        }
    )


_FLOWS = documents.c.kind == "flow"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A page of the people behind a figure."""

    rows: Sequence[Any]
    more: bool


def standing(
    connection: Connection, *, state: str, flow: str | None = None, step: str | None = None, page: int = 0
) -> Standing:
    """Runs in a state, those that go on first at the top.

    Args:
      state: one of `STANDING`.
      page: counted from 0, within the stretch that the figure speaks of.
    """
    e, p = enrollments.c, profiles.c
    found = sa.select(e.id).where(state_is(enrollments, state, () if state == "waiting" else SET_ASIDE))
    if state == "waiting":
        found = found.order_by(e.lane, e.due_at)
    names = sa.select(documents.c.id).where(_FLOWS, documents.c.name == flow)
    counted = found.limit(COUNTED_MAX).subquery()
    query = (
        sa.select(
            e.id, e.customer_id, documents.c.name.label("flow"), e.step, e.state, e.entered_at, e.due_at, e.until,
            e.reason, p.first_name, p.last_name, p.email,
        )
        .join(counted, counted.c.id == e.id)
        .join(documents, documents.c.id == e.flow_id)
        .outerjoin(profiles, p.customer_id == e.customer_id)
        .order_by(sa.func.coalesce(e.until, e.due_at), e.id)
        .offset(page * PAGE)
        .limit(PAGE + 1)
    )  # fmt: skip
    if flow is not None:
        query = query.where(e.flow_id.in_(names))
    if step is not None:
        query = query.where(e.step == step)
    rows = connection.execute(query).all()
    return Standing(rows=rows[:PAGE], more=len(rows) > PAGE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A version of a flow's file."""

    id: int
    body: str
    versions: int


def version(connection: Connection, document_id: int, name: str) -> Version:
    """The text of a flow in force, and how many versions of it there ever were."""
    d = documents.c
    body: str = connection.execute(sa.select(d.body).where(d.id == document_id)).scalar_one()
    count = connection.execute(sa.select(sa.func.count()).where(_FLOWS, d.name == name)).scalar_one()
    return Version(id=document_id, body=body, versions=count)


def last_at(connection: Connection) -> datetime | None:
    """When the newest message was queued."""
    t = touchpoints.c
    return connection.execute(sa.select(t.queued_at).order_by(t.id.desc()).limit(1)).scalar()
