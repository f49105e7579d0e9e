"""Queued touchpoints go out, or do not: the only place with an effect outside the database.

1. Prepare, in a transaction with the customers locked: rank all that each customer has queued, ask the rails about
   each, render what may go, and mark it as handed over under a lease.
2. Call the provider with no transaction open, under one deadline for the whole batch.
3. Settle, in a transaction: each touchpoint gets its fate, and its run goes on.

A worker that dies between 1 and 3 leaves touchpoints in doubt; `resolve` decides by what they are. The outbox keeps
mails at home, so there 1 and 3 are one transaction and nothing is ever in doubt.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from afterglow import letters, rails
from afterglow.decide import Facts, Run, stopping
from afterglow.expressions import RenderError
from afterglow.language.flow import Flow, Notify
from afterglow.language.shop import Shop
from afterglow.letters import Addressed, Letterhead
from afterglow.mail_templates import Mail
from afterglow.mime import message_id_for
from afterglow.tokens import make_token
from db import bulk, enrollments, identity, people, referrals, touchpoints
from db.app import App
from db.catalog import Release
from db.people import Person
from db.tables import TouchpointState, suppressions
from db.touchpoints import Settled
from workers.batches import is_passing
from workers.channels import Channel, Fate, InDoubt, NotBegun, Outgoing, Rejected, Sent
from workers.facts import load_facts

#: How long a provider may take over one batch, in seconds, and how long the lease lasts: several times that.
DEADLINE_S = 30.0
LEASE = timedelta(seconds=120)
#: How long to wait before fates are written again that could not be written, in seconds.
SETTLE_AGAIN_S = 0.5
#: After so many attempts that a provider refused for now, or that stayed in doubt, it is given up.
ATTEMPTS_MAX = 8
IN_DOUBT_MAX = 3


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


@dataclass(kw_only=True, slots=True)
class _Batch:
    """What a preparation decided, gathered to be written in a few statements."""

    closed: list[Settled] = field(default_factory=list)
    go_on: list[tuple[int, datetime]] = field(default_factory=list)
    stopped: list[bulk.Row] = field(default_factory=list)
    deferred: list[tuple[int, datetime, str | None]] = field(default_factory=list)
    held: list[tuple[int, str]] = field(default_factory=list)
    handed: list[bulk.Row] = field(default_factory=list)
    contexts: list[bulk.Row] = field(default_factory=list)
    notes: list[bulk.Row] = field(default_factory=list)

    def note(self, row: Any, at: datetime, verb: str, **detail: Any) -> None:
        self.notes.append((row.customer_id, row.enrollment_id, at, verb, row.step, detail or None))

    def end(self, row: Any, state: TouchpointState, at: datetime, reason: str) -> None:
        """Close a touchpoint that does not go; its run goes on."""
        self.closed.append(Settled(id=row.id, state=state, at=at, reason=reason))
        self.go_on.append((row.enrollment_id, at))
        self.note(row, at, state.value, because=reason)


@dataclass(slots=True)
class Deliver:
    """The work on the touchpoints of one way to reach people."""

    app: App
    provider: Channel
    channel: str = "email"
    table: str = "touchpoints"
    #: How many touchpoints are claimed, and at most handed over, at once; the provider's own number unless given.
    batch: int = 0
    #: What the provider must be given, since its handing over is committed; and whether runs go on.
    outgoing: list[tuple[Handed, Outgoing]] = field(default_factory=list)
    moved: bool = field(default=False)
    #: What `do` prepared; it may go only once it is committed.
    _prepared: list[tuple[Handed, Outgoing]] = field(default_factory=list)
    _prepared_at: float = 0.0
    #: Whether the customers' other touchpoints are ranked with those claimed. Where it is sought which one kills or
    #: fails, each answers for itself.
    _ranks_others: bool = True

    def __post_init__(self) -> None:
        self.batch = self.batch or self.provider.batch

    def find(self, connection: Connection, now: datetime, limit: int, *, alone: bool) -> list[int]:
        self._ranks_others = not alone
        return touchpoints.claim(connection, self.channel, now, limit, alone=alone)

    def lock(self, connection: Connection, ids: Sequence[int]) -> None:
        self._ranks_others = False
        touchpoints.lock(connection, ids)

    def park(self, connection: Connection, item: int, reason: str, now: datetime) -> None:
        batch = _Batch()
        for row in touchpoints.queued(connection, [item], now):
            batch.end(row, TouchpointState.FAILED, now, reason)
        self._write(connection, batch)

    def do(self, connection: Connection, ids: Sequence[int], now: datetime) -> None:
        self._prepared, self._prepared_at = [], time.monotonic()
        rows = touchpoints.queued(connection, ids, now)
        if self._ranks_others:
            more = touchpoints.also_queued(connection, [row.customer_id for row in rows], self.channel, now)
            known = {row.id for row in rows}
            rows = [*rows, *touchpoints.queued(connection, [id_ for id_ in more if id_ not in known], now)]
        if not rows:
            return
        preparation = _Preparation(self.app, self.provider, connection, rows, self.channel, now)
        batch = _Batch()
        room = self.batch - len(self.outgoing)
        for row in preparation.ranked():
            if len(self._prepared) == room:
                break  # what is prepared at once bounds what a crash leaves in doubt
            letter = preparation.prepare(row, batch)
            if letter and self.provider.leaves_the_machine:
                self._prepared.append(letter)
        self._write(connection, batch)

    def committed(self) -> None:
        self.outgoing += self._prepared
        self._prepared = []

    def send(self) -> None:
        """Give the prepared touchpoints to the provider and settle them. No transaction is open meanwhile.

        To be called also where the batch failed: a commit may have happened although its answer was lost, and then
        nobody but this object knows that nothing was sent.
        """
        if self._prepared:
            uncertain, self._prepared = self._prepared, []
            self._settle([(handed, NotBegun("the database went away")) for handed, _ in uncertain])
        if not self.outgoing:
            return
        mails, self.outgoing = self.outgoing, []
        if time.monotonic() - self._prepared_at > LEASE.total_seconds() - DEADLINE_S:
            # This process stood still. Others may soon take these for abandoned, and some of them send again.
            fates: Sequence[Fate] = [NotBegun("the worker stood still before it began")] * len(mails)
        else:
            fates = self.provider.send([letter for _, letter in mails], DEADLINE_S)
        self._settle([(handed, fate) for (handed, _), fate in zip(mails, fates, strict=True)])
        self.moved = True

    def _settle(self, ends: Sequence[tuple[Handed, Fate]]) -> None:
        """Write the fates down, again and again while the database is away: they are known nowhere else.

        Raises:
          sqlalchemy.exc.OperationalError: when it stays away for as long as the lease lasts.
        """
        until = time.monotonic() + LEASE.total_seconds()
        while True:
            try:
                with self.app.writing() as connection:
                    settle(connection, ends, self.channel, self.app.clock.now(connection))
                return
            except Exception as error:
                if not is_passing(error) or time.monotonic() > until:
                    raise
            time.sleep(SETTLE_AGAIN_S)

    def _write(self, connection: Connection, batch: _Batch) -> None:
        touchpoints.hand_over(connection, batch.handed)
        touchpoints.close(connection, batch.closed)
        touchpoints.defer(connection, batch.deferred)
        touchpoints.hold(connection, batch.held)
        touchpoints.keep_contexts(connection, batch.contexts)
        enrollments.go_on(connection, batch.go_on)
        enrollments.stop(connection, batch.stopped)
        enrollments.note(connection, batch.notes)
        self.moved |= bool(batch.go_on)


class _Preparation:
    """Everything that one batch of touchpoints needs to know, read once."""

    def __init__(
        self,
        app: App,
        provider: Channel,
        connection: Connection,
        rows: Sequence[Any],
        channel: str,
        now: datetime,
    ) -> None:
        self.app, self.provider, self.rows, self.now = app, provider, rows, now
        self.release: Release = app.catalog.current(connection)
        self.shop: Shop = self.release.catalog.shop
        self.secret = app.settings.secrets[0]
        self.head = Letterhead(
            shop=self.shop,
            public_url=app.settings.public_url,
            private_url=f"http://{app.settings.private_bind}",
            secret=self.secret,
        )
        self.flows = app.catalog.flows(connection, [row.flow_id for row in rows])
        customers = [row.customer_id for row in rows]
        self.persons = people.load(connection, customers)
        self.facts = load_facts(
            connection,
            [
                (row.enrollment_id, row.customer_id, row.event_id, row.entered_at, self.flows[row.flow_id])
                for row in rows
            ],
            self.persons,
            self.shop,
        )
        self.halted = touchpoints.halted(connection)
        marketing = [row for row in rows if row.kind == "marketing"]
        window = max(
            (cap.window for row in marketing for cap in (*self.shop.caps, *self.flows[row.flow_id].caps)),
            default=timedelta(),
        )
        to_whom = [row.customer_id for row in marketing]
        oldest = min((row.due_at for row in rows), default=now)
        self.sent = touchpoints.sent_marketing(connection, to_whom, min(oldest, now) - window) if marketing else {}
        self.consents = touchpoints.consents_of(connection, to_whom, channel) if marketing else {}
        self.digests = {
            id_: identity.address_digest(self.secret, person.email).hex()
            for id_, person in self.persons.items()
            if person.email
        }
        self.suppressed = touchpoints.suppressed(connection, channel, self.digests.values())
        self.codes = self._codes(connection)

    def _codes(self, connection: Connection) -> dict[int, dict[str, str]]:
        wanted: dict[int, frozenset[str]] = {}
        for row in self.rows:
            mail = self.release.catalog.mails.get(row.template)
            if mail and (named := letters.programmes(mail)):
                wanted[row.customer_id] = wanted.get(row.customer_id, frozenset()) | named
        return referrals.codes(connection, self.secret, wanted, self.now)

    def ranked(self) -> list[Any]:
        """Earlier due moments first; at one moment service mail, then flows in the shop's order of priority."""
        return sorted(
            self.rows,
            key=lambda row: (
                self.app.clock.moment(row.due_at, self.now),
                row.kind == "marketing",
                self.shop.rank(row.flow),
                row.queued_at,
                row.id,
            ),
        )

    def prepare(self, row: Any, batch: _Batch) -> tuple[Handed, Outgoing] | None:
        """Decide about one touchpoint; the letter where it may go now."""
        at = self.app.clock.moment(row.due_at, self.now)
        flow, facts, person = (
            self.flows[row.flow_id],
            self.facts[row.enrollment_id],
            self.persons[row.customer_id],
        )
        run = Run(
            customer_id=row.customer_id,
            event_id=row.event_id,
            entered_at=row.entered_at,
            step=row.step,
            until=None,
        )
        if (stop := stopping(flow, run, facts)) is not None:
            batch.closed.append(
                Settled(id=row.id, state=TouchpointState.SKIPPED, at=at, reason=f"the run stopped: {stop.reason}")
            )
            batch.stopped.append((row.enrollment_id, "stopped", stop.reason, at))
            batch.note(row, at, "stopped", **stop.decisions[0].detail)
            return None
        match rails.judge(self._question(row, flow, facts, person), at):
            case rails.Skip(reason=reason):
                batch.end(row, TouchpointState.SKIPPED, at, reason)
                return None
            case rails.Hold(reason=reason):
                batch.held.append((row.id, reason))
                batch.note(row, at, "held", because=reason)
                return None
            case rails.Defer(until=until, reason=reason):
                batch.deferred.append((row.id, until, reason))
                batch.note(row, at, "deferred", because=reason, until=until.isoformat())
                return None
            case rails.Go():
                return self._letter(row, flow, facts, person, at, batch)

    def _question(self, row: Any, flow: Flow, facts: Facts, person: Person) -> rails.Question:
        marketing = row.kind == "marketing"
        current = self.release.catalog.flows.get(flow.name)
        digest = self.digests.get(person.id)
        return rails.Question(
            kind=row.kind,
            topic=row.topic,
            queued_at=row.queued_at,
            has_address=person.email is not None,
            forgotten=person.forgotten_at is not None,
            suppressed=self.suppressed.get(digest) if digest else None,
            consents=[
                rails.Consent(topic=topic, granted=granted) for topic, granted in self.consents.get(person.id, ())
            ]
            if marketing
            else (),
            only_if=flow.only_if is None or flow.only_if.is_true(facts.names()),
            only_if_text=flow.only_if.text if flow.only_if else "",
            halted=marketing and bool(self.halted & {"*", flow.name}),
            paused=current is not None and current.status == "paused",
            quiet_hours=[quiet for quiet in (self.shop.quiet_hours, flow.quiet_hours) if quiet] if marketing else (),
            caps=(*self.shop.caps, *flow.caps) if marketing else (),
            keep_for=self.shop.keep_for,
            sent=self.sent.get(person.id, ()),
            zone=facts.zone,
        )

    def _letter(
        self, row: Any, flow: Flow, facts: Facts, person: Person, at: datetime, batch: _Batch
    ) -> tuple[Handed, Outgoing] | None:
        mail = self.release.catalog.mails.get(row.template)
        template_id = self.release.mail_id(row.template)
        if mail is None or template_id is None:
            batch.end(row, TouchpointState.FAILED, at, f"there is no template {row.template} in force")
            return None
        address, extra = self._addressee(row, flow, facts, person)
        if address is None:
            batch.end(row, TouchpointState.FAILED, at, "shop.yaml names no address for this team")
            return None
        if self.provider.leaves_the_machine and not self.app.settings.may_mail(address):
            batch.end(
                row,
                TouchpointState.SKIPPED,
                at,
                "staging guard: not live, and the address is not in AFTERGLOW_ALLOW",
            )
            return None
        stored = letters.context(mail, facts.names(), self.codes.get(row.customer_id, {}), extra)
        to = Addressed(touchpoint_id=row.id, customer_id=row.customer_id, kind=row.kind, topic=row.topic)
        try:
            rendered = letters.render(mail, stored, self.head, to)
        except RenderError as error:
            batch.end(row, TouchpointState.FAILED, at, f"{row.template}: {error}")
            return None
        batch.contexts.append((row.id, row.customer_id, stored))
        if row.kind == "marketing":
            self.sent.setdefault(row.customer_id, []).append(at)
        if not self.provider.leaves_the_machine:
            batch.closed.append(
                Settled(id=row.id, state=TouchpointState.SENT, at=at, template_id=template_id, prepared_at=at)
            )
            batch.go_on.append((row.enrollment_id, at))
            batch.note(row, at, "sent", template=row.template)
        else:
            batch.handed.append((row.id, template_id, at, self.now + LEASE))
        handed = Handed(
            id=row.id,
            epoch=row.epoch + 1,
            attempts=row.attempts + 1,
            customer_id=row.customer_id,
            enrollment_id=row.enrollment_id,
            step=row.step,
            kind=row.kind,
            at=at,
            digest=self.digests.get(person.id) if row.kind != "team" else None,
        )
        return handed, self._outgoing(handed, mail, rendered, address, person, to)

    def _addressee(self, row: Any, flow: Flow, facts: Facts, person: Person) -> tuple[str | None, dict[str, Any]]:
        """Whom a touchpoint goes to, and what a team's letter needs besides."""
        if row.kind != "team":
            return person.email, {}
        step = flow.steps[row.step]
        assert isinstance(step, Notify)
        team = self.shop.model.teams.get(step.team)
        try:
            about = step.about.render(facts.names(), {}, escape=False) if step.about else flow.about
        except RenderError as error:
            about = f"{flow.about} ({error})"
        return (team.address if team else None), {"team": step.team, "about": about}

    def _outgoing(
        self, handed: Handed, mail: Mail, rendered: Any, address: str, person: Person, to: Addressed
    ) -> Outgoing:
        sender = self.shop.model.sender
        key = make_token(self.secret, "send", handed.id)
        name = " ".join(part for part in (person.first_name, person.last_name) if part)
        return Outgoing(
            touchpoint_id=handed.id,
            to_address=address,
            to_name=name if name and to.kind != "team" else None,
            sender_name=sender.name,
            sender_address=sender.address,
            reply_to=self.shop.model.reply_to,
            subject=rendered.subject,
            html=rendered.html,
            text=rendered.text,
            headers=letters.headers(self.head, to),
            message_id=message_id_for(key, sender.address.rpartition("@")[2]),
            date=handed.at,
            idempotency_key=key,
        )


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
    bulk.insert(
        connection,
        suppressions,
        ("channel", "digest", "reason", "covers", "at"),
        dead,
        on_conflict="(channel, digest) DO UPDATE SET covers = 'everything'",
    )
    by_id = {handed.id: handed for handed, _ in ends}
    enrollments.go_on(connection, [(by_id[id_].enrollment_id, now) for id_ in sorted(ended)])
    reasons = {
        settled.id: (settled.state.value.replace("_", " "), settled.reason)
        for settled, _ in closed
        if settled.id in ended
    }
    reasons |= {id_: ("tried again", reason) for id_, _, _, reason in again if id_ in requeued}
    enrollments.note(
        connection,
        [
            (one.customer_id, one.enrollment_id, now, verb, one.step, {"because": reason} if reason else None)
            for id_, (verb, reason) in reasons.items()
            if (one := by_id[id_])
        ],
    )


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
