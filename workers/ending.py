"""Ending runs from outside of them: where they stand, what they have queued, and the reason why."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from db import bulk, enrollments, touchpoints
from db.tables import TouchpointState
from db.touchpoints import Settled


def end(connection: Connection, runs: Sequence[tuple[Any, str]], notes: Sequence[bulk.Row], now: datetime) -> int:
    """End open runs, whose customers are locked, and skip the marketing that they have queued. How much that was.

    Args:
      runs: as `db.enrollments.open_of` reads them, each with the reason.
      notes: a decision for each, as `db.enrollments.note` takes them.
    """
    enrollments.move(
        connection, [(run.id, "stopped", run.step, None, None, run.lane, reason, now) for run, reason in runs]
    )
    queued = touchpoints.queued_by(connection, [run.id for run, _ in runs])
    reasons = {run.id: reason for run, reason in runs}
    closing = [one for one in queued if one.kind != "service"]
    touchpoints.close(connection, [_skipped(one, reasons[one.enrollment_id], now) for one in closing])
    enrollments.note(connection, notes)
    return len(closing)


def _skipped(row: Any, reason: str, now: datetime) -> Settled:
    return Settled(
        id=row.id,
        state=TouchpointState.SKIPPED,
        at=now,
        reason=f"the run stopped: {reason}",
        provider_id=row.provider_id,
        template_id=row.template_id,
        prepared_at=row.prepared_at,
    )
