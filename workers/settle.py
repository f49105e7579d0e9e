"""Giving touchpoints their fates: the last part of a delivery, and what becomes of those whose worker died."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from afterglow import touchpoint
from db import bulk, enrollments, touchpoints
from db.app import App
from db.tables import TouchpointState, suppressions
from db.touchpoints import Settled
from workers.channels import Fate, InDoubt, NotBegun, Rejected, Sent

#: After so many attempts that a provider refused for now, or that stayed in doubt, it is given up. In doubt as often
#: as refused: service mail is promised at least once, and kills and restarts are no fault of the mail's.
ATTEMPTS_MAX = 8
IN_DOUBT_MAX = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Handed:
    """A touchpoint in the hands of a provider."""

    id: int
    epoch: int
    attempts: int
    customer_id: int
    enrollment_id: int
    step: str
    kind: str
    at: datetime
    digest: str | None  # of the address, should it turn out to be dead
    basis: str | None = None  # on what it goes; None where nobody can say any more
    locale: str | None = None  # of the mail; None: the shop's own


def settle(connection: Connection, ends: Sequence[tuple[Handed, Fate]], channel: str, now: datetime) -> None:
    """Give touchpoints their fates; runs go on where a touchpoint ended."""
    closed: list[tuple[Settled, int]] = []
    again: list[tuple[int, int, datetime, str | None]] = []
    dead: list[bulk.Row] = []
    for handed, fate in ends:
        state, reason = _verdict(handed, fate)
        if state is TouchpointState.QUEUED:
            again.append((handed.id, handed.epoch, now + touchpoints.back_off(handed.attempts), reason))
            continue
        provider_id = fate.provider_id if isinstance(fate, Sent) else None
        closed.append(
            (Settled(id=handed.id, state=state, at=now, reason=reason, provider_id=provider_id), handed.epoch)
        )
        if isinstance(fate, Rejected) and fate.suppress and handed.digest:
            dead.append((channel, handed.digest, "bounced", "everything", now))
    ended = touchpoints.settle(connection, closed)
    requeued = touchpoints.requeue(connection, again)
    by_id = {handed.id: handed for handed, _ in ends}
    reasons = {
        settled.id: (settled.state.value.replace("_", " "), settled.reason)
        for settled, _ in closed
        if settled.id in ended
    }
    reasons |= {id_: ("tried again", reason) for id_, _, _, reason in again if id_ in requeued}
    whose = ended | requeued
    notes = [
        (whose[id_], one.enrollment_id, now, verb, one.step, _detail(verb, reason, one))
        for id_, (verb, reason) in reasons.items()
        if (one := by_id[id_])
    ]
    with bulk.at_once(connection):
        bulk.insert(
            connection,
            suppressions,
            ("channel", "digest", "reason", "covers", "at"),
            list(dict.fromkeys(dead)),  # one statement changes no row twice
            on_conflict="(channel, digest) DO UPDATE SET covers = 'everything'",
        )
        enrollments.go_on(connection, [(by_id[id_].enrollment_id, now) for id_ in sorted(ended)])
        enrollments.note(connection, notes)


def _detail(verb: str, reason: str | None, handed: Handed) -> dict[str, str] | None:
    detail = {"because": reason} if reason else {}
    if verb == "sent":
        detail |= touchpoint.went(handed.basis, handed.locale)
    return detail or None


def _verdict(handed: Handed, fate: Fate) -> tuple[TouchpointState, str | None]:
    """What a fate means under our policy: marketing at most once, service mail at least once."""
    match fate:
        case Sent():
            return TouchpointState.SENT, None
        case NotBegun(reason=reason):
            return TouchpointState.QUEUED, reason
        case Rejected(reason=reason, permanent=permanent):
            gave_up = permanent or handed.attempts >= ATTEMPTS_MAX
            return (TouchpointState.REJECTED if gave_up else TouchpointState.QUEUED), reason
        case InDoubt(reason=reason):
            if handed.kind == "marketing" or handed.attempts >= IN_DOUBT_MAX:
                return TouchpointState.IN_DOUBT, f"it may have been sent: {reason}"
            return (
                TouchpointState.QUEUED,
                f"it may have been sent, and is sent again as service mail: {reason}",
            )


def resolve(app: App) -> int:
    """Settle what was handed to a provider by a worker that did not come back. How many there were."""
    with app.writing() as connection:
        now = app.clock.now(connection)
        rows = touchpoints.expired(connection, now, limit=500)
        ends: list[tuple[Handed, Fate]] = [
            (
                Handed(
                    id=row.id,
                    epoch=row.epoch,
                    attempts=row.attempts,
                    customer_id=row.customer_id,
                    enrollment_id=row.enrollment_id,
                    step=row.step,
                    kind=row.kind,
                    at=now,
                    digest=None,
                ),
                InDoubt("its worker did not come back"),
            )
            for row in rows
        ]
        settle(connection, ends, "email", now)
    return len(rows)
