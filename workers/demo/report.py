"""What came of it: mails by flow and step, runs by flow, and what was not sent and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.tables import OPEN_TOUCHPOINTS, EnrollmentState, InboxState, documents, enrollments, inbox, touchpoints


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The mails of one step of a flow: how many were sent, wait, were skipped, or failed otherwise."""

    flow: str
    step: str
    sent: int
    waiting: int
    skipped: int
    failed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """The runs of a flow, and why some were stopped."""

    flow: str
    begun: int
    finished: int
    under_way: int
    stopped: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What came of the demo."""

    steps: tuple[Step, ...]
    flows: tuple[Flow, ...]
    #: Why mails were not sent, with how many, most first.
    reasons: tuple[tuple[str, int], ...]
    #: Inbox rows by state.
    inbox: tuple[tuple[str, int], ...]

    @property
    def sent(self) -> int:
        """All mails that were sent."""
        return sum(step.sent for step in self.steps)


def summary(connection: Connection) -> Summary:
    """Count, in four queries; everything sorted, so that two runs can be compared."""
    return Summary(
        steps=_steps(connection),
        flows=_flows(connection),
        reasons=_most_first(_reasons(connection)),
        inbox=_inbox(connection),
    )


def _steps(connection: Connection) -> tuple[Step, ...]:
    t = touchpoints.c
    rows = connection.execute(
        sa.select(t.flow, t.step, t.state, sa.func.count(), sa.func.min(t.queued_at)).group_by(t.flow, t.step, t.state)
    )
    counts: dict[tuple[str, str], Counter[str]] = {}
    first: dict[tuple[str, str], object] = {}
    for flow, step, state, number, queued_at in rows:
        counts.setdefault((flow, step), Counter())[state] += number
        first[flow, step] = min(first.get((flow, step), queued_at), queued_at)
    open_states = [state.value for state in OPEN_TOUCHPOINTS]
    return tuple(
        Step(
            flow=flow,
            step=step,
            sent=found["sent"],
            waiting=sum(found[state] for state in open_states),
            skipped=found["skipped"],
            failed=sum(found.values()) - found["sent"] - found["skipped"] - sum(found[state] for state in open_states),
        )
        for (flow, step), found in sorted(counts.items(), key=lambda pair: (pair[0][0], first[pair[0]], pair[0][1]))
    )


def _flows(connection: Connection) -> tuple[Flow, ...]:
    e = enrollments.c
    rows = connection.execute(
        sa.select(documents.c.name, e.state, e.reason, sa.func.count())
        .join(documents, documents.c.id == e.flow_id)
        .group_by(documents.c.name, e.state, e.reason)
    )
    counts: dict[str, Counter[str]] = {}
    stopped: dict[str, Counter[str]] = {}
    for flow, state, reason, number in rows:
        counts.setdefault(flow, Counter())[state] += number
        if state == EnrollmentState.STOPPED.value:
            stopped.setdefault(flow, Counter())[reason or ""] += number
    return tuple(
        Flow(
            flow=flow,
            begun=sum(found.values()),
            finished=found["finished"],
            under_way=sum(found.values()) - found["finished"] - found["stopped"],
            stopped=_most_first(stopped.get(flow, Counter())),
        )
        for flow, found in sorted(counts.items())
    )


def _reasons(connection: Connection) -> Counter[str]:
    t = touchpoints.c
    rows = connection.execute(
        sa.select(t.reason, sa.func.count().label("n"))
        .where(t.state != "sent", t.reason.is_not(None))
        .group_by(t.reason)
    )
    return Counter({row.reason: row.n for row in rows})


def _inbox(connection: Connection) -> tuple[tuple[str, int], ...]:
    rows = connection.execute(sa.select(inbox.c.state, sa.func.count()).group_by(inbox.c.state))
    order: Sequence[str] = [state.value for state in InboxState]
    return tuple(sorted(((state, number) for state, number in rows), key=lambda pair: order.index(pair[0])))


def _most_first(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
