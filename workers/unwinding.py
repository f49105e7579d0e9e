"""What an order that was returned takes with it: everything that it brought, in one transaction with the event.

`ingest` calls `unwind` for every batch, with the customers locked and the events recorded; `afterglow unwind` by way of
an event of ours. Everything is decided from all that was ever told of an order, so that partial refunds may come any
number of times, in any order, and before the order itself. A refund of a part takes its share of points, progress and
revenue; once nothing of an order is left (`afterglow.returning`), its runs end too.

Runs end that are about the order (`once_per: order.id`, or once per event, and the event is of that order) and began
before the whole was undone, save those whose flow listens to what undid it or was started by it: that flow says itself
what it means. What such runs have queued is not sent, but for service mail: a receipt is due for an order that was
paid, whatever became of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from afterglow import past, returning
from afterglow.language.catalog import Catalog
from afterglow.ledger.changes import Clawback
from afterglow.returning import Undoing, total_of, undone_at
from db import enrollments, leaderboards
from db.app import App
from db.catalog import Release
from db.enrollments import UNWOUND
from db.loyalty import Told, told
from db.people import Person
from db.referring import Referral, referrers_of
from db.tables import ReferralState
from workers import ending, loyalty, referring, rewarding
from workers.arrivals import Arrival


@dataclass(frozen=True, kw_only=True, slots=True)
class Unwound:
    """What went back."""

    clawbacks: Sequence[Clawback] = ()
    referrals: Sequence[Referral] = ()
    #: Runs that ended, and messages that will not go.
    runs: int = 0
    messages: int = 0
    #: Whether something of ours is in the inbox, and whether a referral is to be looked at soon.
    is_news: bool = False
    is_due: bool = False


def others(connection: Connection, release: Release, arrivals: Sequence[Arrival]) -> set[int]:
    """Whom a batch may take something from beside its own customers: who brought a friend whose order is undone.

    They are locked with the customers of the batch, so that both sides lose their rewards in its transaction.
    """
    programmes = release.catalog.referrals.values()
    names = {name for programme in programmes for name in referring.undone_by(programme)}
    customers = {one.customer_id for one in arrivals if one.mapped.event in names}
    return referrers_of(connection, customers) if customers else set()


def unwind(
    connection: Connection,
    app: App,
    release: Release,
    arrivals: Sequence[Arrival],
    persons: Mapping[int, Person],
    now: datetime,
) -> Unwound:
    """Take back what the orders of a batch brought, as far as they were returned.

    The points of the order, their tier progress, budget and board; the referral that qualified by it: both rewards, its
    milestone, its coupon and its boards; the runs about it, and what they have queued.
    """
    orders = _orders(connection, release.catalog, arrivals)
    taken = loyalty.take_back(connection, release, orders, now)
    undone = referring.undo(connection, release, arrivals, persons, now)
    leaderboards.record(connection, undone.scored, release.catalog.shop.calendar, now)
    waiting = [one for one in undone.referrals if one.due_at is not None]
    at_once = [one.id for one in waiting if one.state is ReferralState.REVERSED and persons.keys() >= {one.referrer_id}]
    if at_once:
        rewarding.settle(connection, app, at_once, now)
    runs, messages = _end_runs(connection, app, release.catalog, orders, now)
    return Unwound(
        clawbacks=taken.clawbacks,
        referrals=undone.referrals,
        runs=runs,
        messages=messages,
        is_news=taken.is_news or bool(undone.referrals),
        is_due=bool(waiting),
    )


# Which orders


def _orders(connection: Connection, catalog: Catalog, arrivals: Sequence[Arrival]) -> dict[str, list[Told]]:
    """By subject, what was ever told to undo the orders of a batch: of an order that comes after its refund, too."""
    undoing = catalog.undoing
    brings = catalog.started_by_event.keys() | {rule.event for one in catalog.loyalty.values() for rule in one.earn}
    customers: dict[str, int] = {}
    for one in arrivals:
        if one.mapped.event in undoing or one.mapped.event in brings or one.mapped.stage in catalog.started_by_stage:
            subject = past.order_subject(one.source, one.mapped.payload)
            if subject is not None:
                customers[subject] = one.customer_id
    found: dict[str, list[Told]] = {}
    if customers:
        for event in told(connection, customers.values(), undoing):
            subject = past.order_subject(event.source, event.payload)
            if subject in customers:
                found.setdefault(subject, []).append(event)
    return found


def _wholes(connection: Connection, catalog: Catalog, orders: Mapping[str, Sequence[Told]]) -> dict[str, datetime]:
    """Since when nothing is left of orders of which nothing is."""
    customers = {event.customer_id for events in orders.values() for event in events}
    totals = {
        past.order_subject(event.source, event.payload): total_of(event.payload)
        for event in told(connection, customers, [catalog.shop.model.order_event])
    }
    found = {}
    for subject, events in orders.items():
        undoing = [Undoing(name=one.name, at=one.occurred_at, payload=one.payload) for one in events]
        at = undone_at(totals.get(subject), undoing)
        if at is not None:
            found[subject] = at
    return found


# Their runs


def _end_runs(
    connection: Connection, app: App, catalog: Catalog, orders: Mapping[str, Sequence[Told]], now: datetime
) -> tuple[int, int]:
    """End the runs about orders of which nothing is left, and what they have queued. How many of both."""
    wholes = _wholes(connection, catalog, orders) if orders else {}
    if not wholes:
        return 0, 0
    customers = {event.customer_id for subject in wholes for event in orders[subject]}
    open_runs = enrollments.open_of(connection, customers)
    flows = app.catalog.flows(connection, [run.flow_id for run in open_runs])
    undoing = {subject: {event.name: event.id for event in orders[subject]} for subject in wholes}
    undone = [
        (run, subject)
        for run in open_runs
        if (subject := past.order_subject(run.source, run.payload)) in wholes
        and run.entered_at <= wholes[subject]
        and not returning.has_its_say(flows[run.flow_id], run.name, undoing[subject].keys())
    ]
    notes = [
        (run.customer_id, run.id, now, UNWOUND, None, {"event": max(undoing[subject].values())})
        for run, subject in undone
    ]
    return len(undone), ending.end(connection, [(run, UNWOUND) for run, _ in undone], notes, now)
