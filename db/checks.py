"""What the doctor looks for: each check is one query for the ids of offenders.

Anti-joins and partial indexes, so that a million rows take seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.leaderboards import ALL
from db.catalog import Release
from db.enrollments import UNWOUND
from db.merging import MERGED, references
from db.referring import COUNTS
from db.settings import Settings
from db.tables import (
    claims,
    contexts,
    coupons,
    customers,
    enrollments,
    events,
    halts,
    identities,
    inbox,
    ledger_forgettings,
    merges,
    notices,
    privacy_requests,
    profiles,
    referrals,
    runs,
    scores,
    touchpoints,
)

#: Work that has been due for longer than this is stuck, or nobody works.
OVERDUE = timedelta(minutes=10)
#: An order that did not come for so long will hardly come any more.
AWAITING = timedelta(days=7)
#: A document that was asked for in vain so often is worth a look.
FETCH_TRIES = 4
Severity = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing to look for: a query whose only column is the id of an offender."""

    name: str
    query: sa.Select[Any]
    what: str
    what_to_do: str
    severity: Severity = "error"


REPORT = "This should be impossible: keep a copy of the database and report it."
WORKERS = "See that `afterglow worker` and `afterglow scheduler` run, and what their logs say."


def _is(column: sa.ColumnElement[Any], *states: str) -> sa.ColumnElement[bool]:
    """`column` is one of these words, written out: a bound parameter could not use a partial index."""
    return column.in_([sa.literal_column(f"'{state}'") for state in states])


def book_keeping(now: datetime) -> Iterator[Check]:
    """Every open run has exactly one of a due time, an awaited event with a deadline, a pending touchpoint."""
    e, t = enrollments.c, touchpoints.c
    # As the two partial indexes have it, so that closed messages, which are nearly all, are not looked at.
    is_open = sa.or_(_is(t.state, "queued"), _is(t.state, "sending", "held"))
    pending = (
        sa.select(t.enrollment_id, sa.func.count().label("n"))
        .where(is_open)
        .group_by(t.enrollment_id)
        .subquery("pending")
    )
    yield Check(
        name="waiting without a time",
        query=sa.select(e.id).where(_is(e.state, "waiting", "paused"), e.due_at.is_(None)),
        what="runs wait and have no moment at which they go on",
        what_to_do=REPORT,
    )
    yield Check(
        name="time without waiting",
        query=sa.select(e.id).where(~_is(e.state, "waiting", "paused"), e.due_at.is_not(None)),
        what="runs have a moment at which they go on, but do not wait",
        what_to_do=REPORT,
    )
    yield Check(
        name="awaited past its deadline",
        query=sa.select(e.id).where(_is(e.state, "waiting", "paused"), e.until < e.due_at, e.due_at > now),
        what="runs are looked at only after their wait has ended",
        what_to_do=REPORT,
    )
    yield Check(
        name="waiting for nothing",
        # A step that is not begun is due at once; a begun wait knows when it ends.
        query=sa.select(e.id).where(_is(e.state, "waiting"), e.until.is_(None), e.due_at > now + OVERDUE),
        what="runs wait although the step that they stand on is not begun",
        what_to_do=REPORT,
    )
    yield Check(
        name="held by nothing",
        query=sa.select(e.id)
        .outerjoin(pending, pending.c.enrollment_id == e.id)
        .where(_is(e.state, "sending"), sa.func.coalesce(pending.c.n, 0) != 1),
        what="runs are held by a message, but have not exactly one that is open",
        what_to_do=REPORT,
    )
    yield Check(
        name="message of an ended run",
        # The run of a forgotten or merged customer, or of an order that is unwound, ends at once; what was with the
        # provider is settled after it, and an order's service mail still goes.
        query=sa.select(t.id)
        .join(enrollments, e.id == t.enrollment_id)
        .join(customers, customers.c.id == t.customer_id)
        .where(
            is_open,
            _is(e.state, "finished", "stopped"),
            customers.c.forgotten_at.is_(None),
            sa.func.coalesce(e.reason, "").not_in([MERGED, UNWOUND]),
        ),
        what="messages are open although their run has ended",
        what_to_do=REPORT,
    )
    yield Check(
        name="message of a run that moves",
        query=sa.select(t.id)
        .join(enrollments, e.id == t.enrollment_id)
        .where(is_open, _is(e.state, "waiting", "paused", "parked")),
        what="messages are open although their run is not held by them",
        what_to_do=REPORT,
    )
    yield Check(
        name="end without a time",
        query=sa.select(e.id).where(_is(e.state, "finished", "stopped") != e.ended_at.is_not(None)),
        what="runs have ended without a moment, or have a moment and have not ended",
        what_to_do=REPORT,
    )
    yield Check(
        name="queued without a time",
        query=sa.select(t.id).where(_is(t.state, "queued", "held"), t.due_at.is_(None)),
        what="messages are queued and have no moment at which they go",
        what_to_do=REPORT,
    )
    yield Check(
        name="fetching without a time",
        query=sa.select(inbox.c.id).where(_is(inbox.c.state, "fetching"), inbox.c.fetch_at.is_(None)),
        what="webhooks lack a document and have no moment at which it is asked for",
        what_to_do=REPORT,
    )
    yield Check(
        name="sending without a lease",
        query=sa.select(t.id).where(_is(t.state, "sending"), t.leased_until.is_(None)),
        what="messages are with the provider without a lease, so that nobody would notice a dead worker",
        what_to_do=REPORT,
    )
    yield Check(
        name="promise without a run",
        query=sa.select(runs.c.enrollment_id)
        .outerjoin(enrollments, sa.and_(e.id == runs.c.enrollment_id, e.customer_id == runs.c.customer_id))
        .where(e.id.is_(None)),
        what="keys are taken by runs that do not exist, so that these customers never get the flow",
        what_to_do=REPORT,
    )
    yield Check(
        name="run without a promise",
        query=sa.select(e.id).outerjoin(runs, runs.c.enrollment_id == e.id).where(runs.c.enrollment_id.is_(None)),
        what="runs exist without their key, so that the flow could run again for the same thing",
        what_to_do=REPORT,
    )


def stuck(connection: Connection, now: datetime, settings: Settings, release: Release | None) -> Iterator[Check]:
    """What should have been done long ago."""
    e, t, late = enrollments.c, touchpoints.c, now - OVERDUE
    minutes = int(OVERDUE.total_seconds() // 60)
    yield Check(
        name="inbox overdue",
        query=sa.select(inbox.c.id).where(_is(inbox.c.state, "received"), inbox.c.received_at < late),
        what=f"webhooks have been waiting to be read for more than {minutes} minutes",
        what_to_do=WORKERS,
    )
    yield Check(
        name="fetches overdue",
        query=sa.select(inbox.c.id).where(_is(inbox.c.state, "fetching"), inbox.c.fetch_at < late),
        what=f"webhooks lack a document of their source that should have been asked for {minutes} minutes ago",
        what_to_do=WORKERS,
    )
    yield Check(
        name="codes overdue",
        query=sa.select(coupons.c.id).where(coupons.c.due_at < late),
        what=f"codes of coupons should have been asked of the shop {minutes} minutes ago",
        what_to_do=WORKERS,
    )
    yield Check(
        name="runs overdue",
        query=sa.select(e.id).where(_is(e.state, "waiting"), e.lane.in_([0, 1]), e.due_at < late),
        what=f"runs have been due for more than {minutes} minutes",
        what_to_do=WORKERS,
    )
    yield Check(
        name="messages overdue",
        query=sa.select(t.id).where(_is(t.state, "queued"), t.due_at < late),
        what=f"messages have been due for more than {minutes} minutes",
        what_to_do=WORKERS,
    )
    yield Check(
        name="leases run out",
        query=sa.select(t.id).where(_is(t.state, "sending"), t.leased_until < late),
        what="messages were handed to the provider by workers that did not come back, and nobody settled them",
        what_to_do=WORKERS,
    )
    yield Check(
        name="claims left over",
        query=sa.select(claims.c.id).where(claims.c.claimed_at < late),
        what="batches were begun by workers that did not come back, and nobody looked after them",
        what_to_do=WORKERS,
    )
    yield Check(
        name="webhooks kept too long",
        query=sa.select(inbox.c.id).where(
            inbox.c.received_at < now - timedelta(days=settings.keep_webhooks_days + 1),
            ~_is(inbox.c.state, "received", "fetching"),
            sa.func.length(inbox.c.body) > sa.literal_column("0"),
        ),
        what=f"webhooks older than {settings.keep_webhooks_days} days still have their body",
        what_to_do=WORKERS,
        severity="warning",
    )
    if release is None:
        return
    paused = [name for name, flow in release.catalog.flows.items() if flow.status == "paused"]
    halted = [row[0] for row in connection.execute(sa.select(halts.c.flow))]
    if "*" not in halted:
        yield Check(
            name="held by nobody",
            query=sa.select(t.id).where(_is(t.state, "held"), t.flow.not_in([*paused, *halted]), t.due_at < late),
            what="messages are held although nothing is halted or paused any more",
            what_to_do=WORKERS,
        )


def people() -> Iterator[Check]:
    """Personal data stands where it must, and nowhere after it was forgotten."""
    c = customers.c
    yield Check(
        name="customer without a profile",
        query=sa.select(c.id)
        .outerjoin(profiles)
        .where(profiles.c.customer_id.is_(None), c.forgotten_at.is_(None), c.merged_into.is_(None)),
        what="customers have no profile and were not forgotten",
        what_to_do=REPORT,
    )
    forgotten = c.forgotten_at.is_not(None)
    left = sa.or_(
        sa.exists().where(profiles.c.customer_id == c.id),
        sa.exists().where(identities.c.customer_id == c.id),
        sa.exists().where(touchpoints.c.customer_id == c.id, contexts.c.touchpoint_id == touchpoints.c.id),
        sa.exists().where(events.c.customer_id == c.id, sa.cast(events.c.payload, sa.Text) != "{}"),
        sa.exists().where(inbox.c.customer_id == c.id, sa.or_(inbox.c.body != b"", inbox.c.fetched.is_not(None))),
    )
    referring = references()
    yield Check(
        name="left behind by a merge",
        query=sa.select(c.id).where(
            c.merged_into.is_not(None), sa.or_(*(sa.exists().where(column == c.id) for column in referring))
        ),
        what="customers were merged into others, and something of theirs did not come along",
        what_to_do=REPORT,
    )
    yield Check(
        name="not quite forgotten",
        query=sa.select(c.id).where(forgotten, left),
        what="forgotten customers have personal data again: something about them came later",
        what_to_do="Run `afterglow forget` for them again; it deletes what is there.",
        severity="warning",
    )


def boards() -> Iterator[Check]:
    """Boards are what was recorded; `db.recounting` looks at every score, this at one sum a programme."""
    s, r = scores.c, referrals.c
    on_board = sa.select(s.programme, s.value.label("n")).where(
        s.metric == "referrals", s.season == ALL, s.value > sa.literal_column("0")
    )
    counting = sa.select(r.programme, sa.literal_column("-1").label("n")).where(COUNTS)
    both = sa.union_all(on_board, counting).subquery("both")
    yield Check(
        name="boards that are wrong",
        query=sa.select(both.c.programme).group_by(both.c.programme).having(sa.func.sum(both.c.n) != 0),
        what="leaderboards say another number of referrals than there are",
        what_to_do="`afterglow leaderboard PROGRAMME --verify` says whose; with --rebuild it puts them right.",
    )


def set_aside(now: datetime) -> Iterator[Check]:
    """What waits for a person."""
    yield Check(
        name="parked webhooks",
        query=sa.select(inbox.c.id).where(_is(inbox.c.state, "parked")),
        what="webhooks could not be read",
        what_to_do="`afterglow inbox` lists them with reasons and retries them.",
        severity="warning",
    )
    yield Check(
        name="orders that did not come",
        query=sa.select(inbox.c.id).where(_is(inbox.c.state, "awaiting"), inbox.c.received_at < now - AWAITING),
        what=f"webhooks have been waiting for an order for more than {AWAITING.days} days",
        what_to_do="`afterglow inbox` lists them; import the order, or let them be.",
        severity="warning",
    )
    yield Check(
        name="documents that do not come",
        query=sa.select(inbox.c.id).where(_is(inbox.c.state, "fetching"), inbox.c.fetch_tries >= FETCH_TRIES),
        what="webhooks wait for a document that their source has failed to give several times",
        what_to_do="`afterglow inbox list --state fetching` says what it answers.",
        severity="warning",
    )
    yield Check(
        name="codes that do not come",
        query=sa.select(coupons.c.id).where(coupons.c.due_at.is_not(None), coupons.c.tries >= FETCH_TRIES),
        what="codes of coupons were asked of the shop, or of a list, several times in vain",
        what_to_do="`afterglow coupons list` says why.",
        severity="warning",
    )
    yield Check(
        name="codes that failed",
        query=sa.select(coupons.c.id).where(_is(coupons.c.state, "failed")),
        what="codes of coupons could not be created, and whoever earned them waits",
        what_to_do="`afterglow coupons list` says why; `afterglow coupons retry` asks again.",
        severity="warning",
    )
    yield Check(
        name="codes that are still in use",
        query=sa.select(coupons.c.id).where(_is(coupons.c.state, "stuck")),
        what="codes of coupons were taken back and could not be taken out of use",
        what_to_do="`afterglow coupons list` names them; once that is done in the shop, `afterglow coupons dismiss`.",
        severity="warning",
    )
    yield Check(
        name="parked merges",
        query=sa.select(merges.c.id).where(merges.c.state == "parked"),
        what="merges of customers failed and were set aside",
        what_to_do="`afterglow merge` with the two numbers tries again; the log of the workers says why it failed.",
        severity="warning",
    )
    yield Check(
        name="parked runs",
        query=sa.select(enrollments.c.id).where(_is(enrollments.c.state, "parked")),
        what="runs failed and were set aside",
        what_to_do="`afterglow why CUSTOMER` says why; `afterglow retry` lets them go on.",
        severity="warning",
    )
    notice = notices.c
    yield Check(
        name="webhooks of ours that nobody takes",
        query=sa.select(notice.id).where(
            sa.or_(_is(notice.state, "failed"), sa.and_(_is(notice.state, "waiting"), notice.tries >= FETCH_TRIES))
        ),
        what="webhooks of ours were not taken by the other side",
        what_to_do="`afterglow webhooks unheard` says what it answers; `afterglow webhooks retry` tries again.",
        severity="warning",
    )
    yield Check(
        name="ledger left open",
        query=sa.select(ledger_forgettings.c.id).where(ledger_forgettings.c.done_at.is_(None)),
        what="customers are being forgotten in the ledger, whose entries anybody can change until that is closed",
        what_to_do=REPORT,
    )
    asked = privacy_requests.c
    yield Check(
        name="requests to hand over",
        query=sa.select(asked.id).where(_is(asked.state, "found"), asked.due_at >= now),
        what="customers have asked for what is kept about them",
        what_to_do="`afterglow export CUSTOMER` makes what they ask for, and with --answered closes it.",
        severity="warning",
    )
    yield Check(
        name="requests that are late",
        query=sa.select(asked.id).where(~_is(asked.state, "done"), asked.due_at < now),
        what="customers asked for their data, or to be forgotten, and the time that the law gives is over",
        what_to_do="The first page lists them; see to them today, and that `afterglow worker` runs.",
    )
