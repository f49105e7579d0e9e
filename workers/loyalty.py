"""What events mean to loyalty programmes: a batch of `ingest` at once, and what time brings.

For a batch, with its customers locked:

1. Each event earns what the rules of each programme say; limits, budgets and tiers are counted along. An event that
   ends a hold makes the points of its order spendable.
2. Whoever gained or lost progress is looked at: a tier is reached at once.
3. What flows listen to is put into the inbox, in the same transaction, under a key made of the entry.

`take_back` (called by `workers.unwinding`) takes the points and the progress of orders back that were returned, by all
refunds of them that were ever told, so that it does not matter which came first. What is earned and taken back counts
on the board of points at once.

The number of statements does not depend on the size of the batch, and there is none where no programme is in force.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import structlog
from sqlalchemy.engine import Connection

from afterglow import past
from afterglow.acting import AWARDED
from afterglow.language.programme import WARN, Programme, Tiers
from afterglow.ledger.book import Policy
from afterglow.ledger.entries import Kind
from afterglow.loyalty.earning import Earning, Happening, SoFar, earn, is_limited, number, read_terms
from afterglow.loyalty.expiring import activates_at, expires_at
from afterglow.loyalty.periods import period
from afterglow.loyalty.refunding import kept_points, kept_progress, to_take_back
from afterglow.loyalty.tiers import Standing, review
from afterglow.returning import UNWOUND
from db import intake, leaderboards, ledger, loyalty, rounds
from db.app import App
from db.catalog import Release
from db.intake import Received
from db.ledger import Clawback, Credit, Hanging, Posted
from db.loyalty import Member, Told
from db.own_events import own_event
from workers.arrivals import Arrival

log = structlog.get_logger()

#: How often what expires soon is looked for, and rows of one round.
LOOK_EVERY: Final = timedelta(hours=1)
#: More than any order was for.
_ALL: Final = Decimal("Infinity")
BATCH: Final = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """An event that was recorded, and what expressions knew then."""

    arrival: Arrival
    names: Mapping[str, Any]

    @property
    def subject(self) -> str | None:
        """What the points hang on: the order, as its source calls it."""
        return past.order_subject(self.arrival.source, self.arrival.mapped.payload)

    @property
    def is_award(self) -> bool:
        """Whether a flow awards points by it; nobody else can."""
        return self.arrival.source == past.OURS and self.arrival.mapped.event == AWARDED


def take_part(connection: Connection, release: Release, heard: Sequence[Heard], now: datetime) -> bool:
    """Let the programmes in force hear events. Whether something new is in the inbox."""
    programmes = release.catalog.loyalty
    names = frozenset[str]().union(*(programme.events for programme in programmes.values()))
    mine = [one for one in heard if one.arrival.mapped.event in names or one.is_award]
    return _Batch(connection, release, now).hear(mine) if mine else False


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What was taken back of orders: what hung on them and what that lost; and whether something is in the inbox."""

    clawbacks: Sequence[Clawback] = ()
    is_news: bool = False


def take_back(connection: Connection, release: Release, orders: Mapping[str, Sequence[Told]], now: datetime) -> Taken:
    """Take the points and the progress of orders back, as far as they were returned.

    Args:
      orders: by subject, everything that was ever told to undo the order, oldest first; never nothing.
    """
    if not release.catalog.loyalty or not orders:
        return Taken()
    return _Batch(connection, release, now).take_back(orders)


@dataclass(kw_only=True, slots=True)
class _Standing:
    """A customer in a programme, as the batch changes them."""

    so_far: SoFar = field(default_factory=SoFar)
    progress: list[tuple[datetime, int]] = field(default_factory=list)
    before: Standing | None = None
    now: Standing | None = None


class _Batch:
    """One batch of events, or of reviews."""

    def __init__(self, connection: Connection, release: Release, now: datetime) -> None:
        self.connection, self.release, self.now = connection, release, now
        self.shop = release.catalog.shop
        self.zone = self.shop.zone
        self.programmes = release.catalog.loyalty
        self.tiers: Mapping[str, Tiers] = {
            name: programme.tiers for name, programme in self.programmes.items() if programme.tiers
        }
        self.members: dict[Member, _Standing] = {}
        self.said: list[Received] = []
        self.scored: list[leaderboards.Change] = []

    def hear(self, heard: Sequence[Heard]) -> bool:
        customers = sorted({one.arrival.customer_id for one in heard})
        self._load(customers)
        budgets = self._budgets((name, one.arrival.mapped.occurred_at) for one in heard for name in self.programmes)
        given = [pair for one in heard for pair in (*self._earn(one, budgets), *self._award(one, budgets))]
        posted = ledger.credit(self.connection, [credit for _, credit in given], self.now)
        for (one, credit), entry in zip(given, posted, strict=True):
            self._say_earned(one, credit, entry)
            if not entry.was_there:
                self._score(credit, entry.granted, credit.event_at)
        self._arrive(heard, customers)
        self._prolong(credit for _, credit in given)
        budgets.save()
        self._save_standings()
        leaderboards.record(self.connection, self.scored, self.shop.calendar, self.now)
        return self._tell()

    def take_back(self, orders: Mapping[str, Sequence[Told]]) -> Taken:
        """Take back what was returned of orders."""
        hanging = ledger.of_subject(self.connection, orders)
        taken: list[tuple[Hanging, Clawback]] = []
        for subject, events in orders.items():
            for name, programme in self.programmes.items():
                entries = [entry for entry in hanging[subject] if entry.programme == name]
                taken += self._refunded(programme, entries, events)
        if not taken:
            return Taken()
        self._load(sorted({clawback.customer_id for _, clawback in taken}))
        budgets = self._budgets((entry.programme, entry.event_at) for entry, _ in taken)
        posted = ledger.claw_back(self.connection, [clawback for _, clawback in taken], self.now)
        for (entry, clawback), done in zip(taken, posted, strict=True):
            if done.was_there:
                continue
            self._member(clawback.customer_id, entry.programme).progress.append((entry.event_at, clawback.progress))
            budgets.take(
                entry.programme, self._starts(self.programmes[entry.programme], entry.event_at), -clawback.amount
            )
            # All of it, as for limits, whether or not it could be had: what was spent of it was not earned either.
            self._score(clawback, -clawback.amount, entry.event_at)
        for customer, name in sorted({(clawback.customer_id, clawback.programme) for _, clawback in taken}):
            self._look(customer, name, self.now)
        budgets.save()
        self._save_standings()
        leaderboards.record(self.connection, self.scored, self.shop.calendar, self.now)
        return Taken(clawbacks=[clawback for _, clawback in taken], is_news=self._tell())

    def review(self, customers: Sequence[int]) -> bool:
        """Look at the tiers of customers for whom it is time."""
        self._load(customers)
        for customer, name in list(self.members):
            self._look(customer, name, self.now)
        self._save_standings()
        return self._tell()

    # Reading

    def _load(self, customers: Sequence[int]) -> None:
        limited = {name for name, one in self.programmes.items() if any(is_limited(rule) for rule in one.earn)}
        if not limited and not self.tiers:
            return
        if self.tiers:
            for member, standing in loyalty.standings(self.connection, customers, self.tiers).items():
                self.members[member] = _Standing(before=standing, now=standing)
        for member, entries in loyalty.earned(self.connection, customers, limited | self.tiers.keys()).items():
            mine = self._member(*member)
            mine.progress += [(entry.at, entry.progress) for entry in entries if entry.progress]
            mine.so_far.entries += [
                (entry.rule, entry.at, entry.points)
                for entry in entries
                if entry.rule is not None and entry.kind in (Kind.EARN, Kind.CLAWBACK)
            ]

    def _member(self, customer: int, programme: str) -> _Standing:
        return self.members.setdefault((customer, programme), _Standing())

    def _budgets(self, at: Iterable[tuple[str, datetime]]) -> loyalty.Budgets:
        """The budgets of programmes at these instants."""
        limited = {name: one.budget.points for name, one in self.programmes.items() if one.budget is not None}
        wanted = ((name, moment) for name, moment in at if name in limited) if limited else ()
        return loyalty.Budgets(
            self.connection,
            {(name, self._starts(self.programmes[name], moment)): limited[name] for name, moment in wanted},
        )

    def _starts(self, programme: Programme, at: datetime) -> datetime:
        return period(programme.budget.per if programme.budget else "ever", at, self.zone)[0]

    # Earning

    def _earn(self, one: Heard, budgets: loyalty.Budgets) -> Iterable[tuple[Heard, Credit]]:
        """What one event earns in each programme."""
        mapped = one.arrival.mapped
        for name, programme in self.programmes.items():
            if all(rule.event != mapped.event for rule in programme.earn):
                continue
            member = self._member(one.arrival.customer_id, name)
            happening = Happening(
                event=mapped.event, occurred_at=mapped.occurred_at, names=one.names, tier=self._tier(name, member)
            )
            starts = self._starts(programme, mapped.occurred_at)
            earnings = earn(
                programme,
                happening,
                member.so_far,
                self.zone,
                self.shop.model.currency,
                budgets.room(name, starts),
            )
            for n, earning in enumerate(earnings):
                budgets.take(name, starts, earning.granted)
                progress = self._progress(programme, earning, first=n == 0)
                if progress:
                    member.progress.append((mapped.occurred_at, progress))
                yield one, self._credit(one, programme, earning, progress)
            if earnings:
                self._look(one.arrival.customer_id, name, one.arrival.at)

    def _award(self, one: Heard, budgets: loyalty.Budgets) -> Iterable[tuple[Heard, Credit]]:
        """What a flow gives: as far as the budget goes, to be spent at once, because there is nothing to send back."""
        if not one.is_award:
            return
        mapped, customer = one.arrival.mapped, one.arrival.customer_id
        said: Mapping[str, Any] = mapped.payload
        programme = self.programmes.get(said["programme"])
        if programme is None:  # which was taken out of force since
            return
        at, desired = mapped.occurred_at, int(said["points"])
        starts = self._starts(programme, at)
        left = budgets.room(programme.name, starts)
        granted = desired if left is None else min(desired, left)
        budgets.take(programme.name, starts, granted)
        progress = granted if programme.tiers and programme.tiers.by == "points" else 0
        if progress:
            self._member(customer, programme.name).progress.append((at, progress))
        yield (
            one,
            Credit(
                programme=programme.name,
                asset=programme.asset,
                customer_id=customer,
                kind=Kind.BONUS,
                key=one.arrival.key,
                amount=granted,
                desired=desired,
                event_at=at,
                activates_at=at,
                expires_at=expires_at(programme.expiry, at, self.zone),
                event_id=one.arrival.event_id,
                document_id=self.release.ids["programme"][programme.name],
                rule=f"flow {said['by']['flow']}",
                inputs={"awarded": desired, "because": said.get("because")},
                progress=progress,
            ),
        )
        self._look(customer, programme.name, one.arrival.at)

    def _tier(self, programme: str, member: _Standing) -> str | None:
        if programme not in self.tiers:
            return None
        return self.tiers[programme].names[member.now.level if member.now else 0]

    def _progress(self, programme: Programme, earning: Earning, *, first: bool) -> int:
        """What it adds towards a tier: the points, or the money of the event, once."""
        if programme.tiers is None:
            return 0
        if programme.tiers.by == "points":
            return earning.granted
        whole = earning.terms.whole
        return self.shop.to_minor(whole) if first and whole is not None else 0

    def _credit(self, one: Heard, programme: Programme, earning: Earning, progress: int) -> Credit:
        at = one.arrival.mapped.occurred_at
        return Credit(
            programme=programme.name,
            asset=programme.asset,
            customer_id=one.arrival.customer_id,
            kind=Kind.EARN,
            key=f"{earning.rule}/{one.arrival.event_id}",
            amount=earning.granted,
            desired=earning.desired,
            event_at=at,
            activates_at=activates_at(programme.hold, at, self.zone),
            expires_at=expires_at(programme.expiry, at, self.zone),
            event_id=one.arrival.event_id,
            document_id=self.release.ids["programme"][programme.name],
            rule=earning.rule,
            inputs=earning.terms.inputs(),
            progress=progress,
            subject=one.subject,
        )

    def _say_earned(self, one: Heard, credit: Credit, entry: Posted) -> None:
        if entry.was_there or not entry.granted or one.arrival.is_history:
            return
        self._say(
            "points.earned",
            f"points.earned/{entry.id}",
            credit.customer_id,
            credit.event_at,
            {
                "programme": credit.programme,
                "points": entry.granted,
                "rule": credit.rule,
                "spendable_at": credit.activates_at.isoformat(),
            },
        )

    def _score(self, change: Credit | Clawback, delta: int, at: datetime) -> None:
        """Count points on the board of who earned most."""
        self.scored.append(
            leaderboards.Change(
                programme=change.programme,
                metric="points",
                customer_id=change.customer_id,
                delta=delta,
                at=at,
                subject=change.subject,
            )
        )

    # Orders: the end of a hold, and refunds

    def _arrive(self, heard: Sequence[Heard], customers: Sequence[int]) -> None:
        """Make spendable what has arrived, of the orders of this batch."""
        names = {one.hold.until for one in self.programmes.values() if one.hold and one.hold.until}
        subjects = {subject: one.arrival.customer_id for one in heard if (subject := one.subject) is not None}
        if not names or not subjects:
            return
        told: dict[str, list[Told]] = {}
        for event in loyalty.told(self.connection, customers, names):
            subject = past.order_subject(event.source, event.payload)
            if subject in subjects:
                told.setdefault(subject, []).append(event)
        if not told:
            return
        hanging = ledger.of_subject(self.connection, told)
        self._release({subject: (subjects[subject], events) for subject, events in told.items()}, hanging)

    def _refunded(
        self, programme: Programme, entries: Sequence[Hanging], events: Sequence[Told]
    ) -> Iterable[tuple[Hanging, Clawback]]:
        """What the refunds of an order take back: of each entry, what it gave less what stays and what was taken."""
        refunds = programme.refunds
        mine = [event for event in events if event.name == UNWOUND or (refunds and event.name == refunds.event)]
        refunded = sum((self._returned(programme, event) for event in mine), Decimal(0))
        if not refunded:
            return
        for entry in entries:
            if entry.kind != Kind.EARN or "whole" not in entry.inputs:
                continue
            undone = [other for other in entries if other.undoes == entry.id and other.kind == Kind.CLAWBACK]
            terms = read_terms(entry.inputs)
            kept = kept_points(terms, entry.granted, refunded)
            amount = to_take_back(kept, entry.granted, sum(other.desired for other in undone))
            progress = kept_progress(terms, entry.progress, refunded) - entry.progress
            progress -= sum(other.progress for other in undone)
            if not amount and not progress:
                continue
            last = mine[-1]
            yield (
                entry,
                Clawback(
                    programme=entry.programme,
                    asset=entry.asset,
                    customer_id=last.customer_id,
                    key=f"refund/{entry.id}/{last.id}",
                    amount=amount,
                    policy=Policy(refunds.policy if refunds else "within_balance"),
                    undoes=entry.id,
                    event_at=last.occurred_at,
                    event_id=last.id,
                    document_id=entry.document_id,
                    rule=entry.rule,
                    inputs={
                        "refunded": "all" if refunded == _ALL else str(refunded),
                        "of": entry.inputs["whole"],
                        "kept": kept,
                    },
                    progress=progress,
                    subject=entry.subject,
                ),
            )

    def _returned(self, programme: Programme, event: Told) -> Decimal:
        """How much an event gives back, in major units; a person's word gives all back."""
        if event.name == UNWOUND or programme.refunds is None:
            return _ALL
        amount = number(programme.refunds.amount.value({**event.payload, "shop": self.shop.facts}))
        return max(amount, Decimal(0)) if amount is not None else Decimal(0)

    def _release(
        self, orders: Mapping[str, tuple[int, Sequence[Told]]], hanging: Mapping[str, Sequence[Hanging]]
    ) -> None:
        """Let points be spent whose order has arrived: a lot that waits is closed, and opened again without waiting."""
        ends = [
            (entry, customer, event)
            for subject, (customer, events) in orders.items()
            for event in events
            for entry in hanging[subject]
            if entry.kind == Kind.EARN and self._ends_hold(entry, event)
        ]
        if not ends:
            return
        left = loyalty.pending(self.connection, {entry.id for entry, _, _ in ends}, self.now)
        changes: list[ledger.Change] = []
        for entry, customer, event in ends:
            if (lot := left.pop(entry.id, None)) is None:
                continue
            said: dict[str, Any] = {
                "programme": entry.programme,
                "asset": entry.asset,
                "customer_id": customer,
                "key": f"arrived/{entry.id}",
                "amount": lot.remaining,
                "document_id": entry.document_id,
                "event_id": event.id,
                "rule": entry.rule,
                "subject": entry.subject,
            }
            changes += [
                Clawback(**said, event_at=event.occurred_at, undoes=entry.id, policy=Policy.ONLY_PENDING),
                # It counts for limits when it was earned, as what it takes the place of.
                Credit(
                    **said,
                    kind=Kind.EARN,
                    event_at=entry.event_at,
                    activates_at=event.occurred_at,
                    expires_at=lot.expires_at,
                    inputs=dict(entry.inputs),
                ),
            ]
        ledger.post(self.connection, changes, self.now)

    def _ends_hold(self, entry: Hanging, event: Told) -> bool:
        programme = self.programmes.get(entry.programme)
        return programme is not None and programme.hold is not None and programme.hold.until == event.name

    def _prolong(self, credits_: Iterable[Credit]) -> None:
        """Let what customers have live on where inactivity ends it: they were active."""
        active: dict[str, dict[int, tuple[datetime, str]]] = {}
        for credit in credits_:
            mine = active.setdefault(credit.programme, {})
            mine[credit.customer_id] = max(
                mine.get(credit.customer_id, (credit.event_at, "")), (credit.event_at, f"event {credit.event_id}")
            )
        for name, customers in active.items():
            document_id = self.release.ids["programme"][name]
            loyalty.prolong(self.connection, self.programmes[name], customers, document_id, self.zone, self.now)

    # Tiers

    def _look(self, customer: int, programme: str, at: datetime) -> None:
        """Judge the tier of a customer whose progress has changed, or whose time has come."""
        if programme not in self.tiers:
            return
        member = self._member(customer, programme)
        tiers = self.tiers[programme]
        scale = self.shop.digits if tiers.by == "spend" else 0
        member.now = review(tiers, member.now, member.progress, at, self.zone, scale)

    def _save_standings(self) -> None:
        changed = {
            key: member.now
            for key, member in self.members.items()
            if member.now is not None
            and member.now != member.before
            and (member.now.level or member.now.review_at is not None or member.before is not None)
        }
        loyalty.save_standings(self.connection, changed, self.tiers)
        for (customer, programme), standing in changed.items():
            before = self.members[customer, programme].before
            old, new = before.level if before else 0, standing.level
            if old == new:
                continue
            names = self.tiers[programme].names
            event, told = (
                ("tier.reached", {"tier": names[new], "before": names[old]})
                if new > old
                else ("tier.left", {"tier": names[old], "after": names[new]})
            )
            key = f"{event}/{programme}/{customer}/{names[new]}/{standing.since.isoformat()}"
            self._say(event, key, customer, standing.since, {"programme": programme, **told})

    # Our own events

    def _say(self, event: str, key: str, customer: int, at: datetime, payload: Mapping[str, Any]) -> None:
        if event in self.release.catalog.listened:
            self.said.append(own_event(event, key, customer, at, payload))

    def _tell(self) -> bool:
        intake.receive(self.connection, self.said, self.now)
        return bool(self.said)


# What time brings


def tend(app: App) -> None:
    """One round: book what expired or timed out, look at tiers whose time has come, say what expires soon."""
    with app.writing() as connection:
        expired = ledger.expire(connection, app.clock.now(connection), BATCH)
    with app.writing() as connection:
        ledger.time_out(connection, app.clock.now(connection), BATCH)
    with app.writing() as connection:
        release = app.catalog.current(connection)
        is_news = _review_due(connection, release, app.clock.now(connection))
    is_news |= _warn(app)
    if expired:
        log.info("points expired", lots=expired)
    if is_news:
        app.hint("ingest")


def _review_due(connection: Connection, release: Release, now: datetime) -> bool:
    tiered = [name for name, programme in release.catalog.loyalty.items() if programme.tiers]
    if not tiered:
        return False
    customers = loyalty.to_review(connection, tiered, now, BATCH)
    return bool(customers) and _Batch(connection, release, now).review(customers)


def _warn(app: App) -> bool:
    """Say of points that they expire soon, as the programme says, once for each customer and instant."""
    with app.reading() as connection:
        release = app.catalog.current(connection)
        now = app.clock.now(connection)
    if "points.expiring" not in release.catalog.listened or not rounds.take(app.database, _ROUND, now, LOOK_EVERY):
        return False
    programmes, zone = release.catalog.loyalty, release.catalog.shop.zone
    warned = {
        (name, one.asset): (one.expiry.warn if one.expiry else WARN).after(now, zone)
        for name, one in programmes.items()
    }
    with app.writing() as connection:
        rows = [
            own_event(
                "points.expiring",
                f"points.expiring/{row.programme}/{row.asset}/{row.customer_id}/{row.expires_at.isoformat()}",
                row.customer_id,
                now,
                {"programme": row.programme, "points": int(row.points), "expires_at": row.expires_at.isoformat()},
            )
            for row in loyalty.expiring(connection, now, max(warned.values(), default=now))
            if (until := warned.get((row.programme, row.asset))) is not None and row.expires_at < until
        ]
        intake.receive(connection, rows, now)
    return bool(rows)


_ROUND: Final = "points.expiring"
