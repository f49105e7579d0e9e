"""Deciding about queued touchpoints: the first part of a delivery, in one transaction with the customers locked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from afterglow import letters, pacing, rails, touchpoint
from afterglow.decide import HELD_OUT, Facts, Run, stopping
from afterglow.expressions import RenderError
from afterglow.language.flow.graph import Flow
from afterglow.language.shop import Shop
from afterglow.letters import Addressed, Letterhead
from afterglow.mail_templates import Mail
from afterglow.mime import message_id_for
from afterglow.tokens import make_token
from db import bulk, coupons, identity, me, people, referrals, reviews, tasks, touchpoints, turns
from db.app import App
from db.catalog import Release
from db.enrollments import UNWOUND
from db.people import Person
from db.tables import TouchpointState
from db.touchpoints import Settled
from workers.channels import Channel, Outgoing
from workers.facts import load_facts
from workers.settle import Handed


@dataclass(kw_only=True, slots=True)
class Batch:
    """What a preparation decided, gathered to be written in a few statements."""

    closed: list[Settled] = field(default_factory=list)
    go_on: list[tuple[int, datetime]] = field(default_factory=list)
    stopped: list[bulk.Row] = field(default_factory=list)
    deferred: list[tuple[int, datetime, datetime, str | None]] = field(default_factory=list)
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


class Preparation:
    """Everything that one batch of touchpoints needs to know, read once."""

    def __init__(
        self,
        app: App,
        provider: Channel,
        connection: Connection,
        rows: Sequence[Any],
        channel: str,
        now: datetime,
        leased_until: datetime,
    ) -> None:
        self.app, self.provider, self.rows, self.now = app, provider, rows, now
        self.leased_until = leased_until
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
        self.persons = people.load(connection, customers, segments=self.release.catalog.reads_segments)
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
        notes = [row.enrollment_id for row in rows if row.kind == "team"]
        self.due = tasks.due_days(connection, notes) if notes else {}
        self.codes = self._codes(connection)
        self.generations = me.generations(connection, self._linked())
        mails = self.release.catalog.mails
        named = {name for row in rows if (name := self._name_of(row)) in mails}
        self.reviews = reviews.of_products(
            connection, frozenset().union(*(letters.reviewed(mails[name]) for name in named))
        )
        self._connection = connection
        #: Locked for this transaction as soon as a mail asks for a turn.
        self.pace: pacing.Pace | None = None

    def _codes(self, connection: Connection) -> dict[int, dict[str, str]]:
        wanted: dict[int, frozenset[str]] = {}
        for row in self.rows:
            mail = self.release.catalog.mails.get(self._name_of(row))
            if mail and (named := letters.programmes(mail)):
                wanted[row.customer_id] = wanted.get(row.customer_id, frozenset()) | named
        codes = referrals.codes(connection, self.secret, wanted, self.now)
        programmes = self.release.catalog.referrals
        carried = {
            code: coupon
            for each in codes.values()
            for name, code in each.items()
            if name in programmes and (coupon := programmes[name].carries) is not None
        }
        coupons.carry(connection, self.release.catalog.shop, carried, self.now)
        return codes

    def _linked(self) -> list[int]:
        """The customers whose mails link their own pages."""
        mails = self.release.catalog.mails
        named = ((row.customer_id, self._name_of(row)) for row in self.rows)
        return [customer for customer, name in named if name in mails and letters.reads_me(mails[name])]

    def _name_of(self, row: Any) -> str:
        """The mail that goes: the template in the customer's language."""
        locale = self.persons[row.customer_id].locale if row.kind != "team" else None
        return self.release.catalog.in_language(row.template, locale)

    def ranked(self) -> list[Any]:
        """Earlier due moments first; at one moment service mail, then flows in the shop's order of priority."""
        return sorted(
            self.rows,
            key=lambda row: touchpoint.precedence(
                self.shop,
                due_at=self.app.clock.moment(row.due_at, self.now),
                kind=row.kind,
                flow=row.flow,
                queued_at=row.queued_at,
                number=row.id,
            ),
        )

    def prepare(self, row: Any, batch: Batch) -> tuple[Handed, Outgoing] | None:
        """Decide about one touchpoint; the letter for the provider where it may go now and leaves the machine."""
        at = self.app.clock.moment(row.due_at, self.now)
        receipt = row.kind == "service" and row.run_reason == UNWOUND  # due for an order, whatever became of it
        if row.run_state == "stopped" and not receipt:  # while the provider had the mail, and did not begin it
            batch.end(row, TouchpointState.SKIPPED, at, f"the run stopped: {row.run_reason}")
            return None
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
        question = self._question(row, flow, facts, person)
        verdict = rails.judge(question, at)
        match pacing.paced(verdict, question, pacing.rates(self.shop, flow), at, self._locked_pace):
            case rails.Skip(reason=reason):
                batch.end(row, TouchpointState.SKIPPED, at, reason)
                return None
            case rails.Hold(reason=reason):
                batch.held.append((row.id, reason))
                batch.note(row, at, "held", because=reason)
                return None
            case rails.Defer(until=until, reason=reason, anew=anew):
                batch.deferred.append((row.id, until, until if anew else row.queued_at, reason))
                batch.note(row, at, "deferred", because=reason, until=until.isoformat())
                return None
            case rails.Go(basis=basis):
                return self._letter(row, flow, facts, person, at, batch, basis)

    def _locked_pace(self) -> pacing.Pace:
        if self.pace is None:
            flows = [self.flows[row.flow_id] for row in self.rows if row.kind == "marketing"]
            self.pace = turns.lock(self._connection, self.shop, flows)
        return self.pace

    def _question(self, row: Any, flow: Flow, facts: Facts, person: Person) -> rails.Question:
        digest = self.digests.get(person.id)
        return touchpoint.question(
            kind=row.kind,
            topic=row.topic,
            step=row.step,
            queued_at=row.queued_at,
            due_at=row.due_at,
            flow=flow,
            current=self.release.catalog.flows.get(flow.name),
            facts=facts,
            person=person,
            shop=self.shop,
            suppressed=self.suppressed.get(digest) if digest else None,
            consents=[
                rails.Consent(topic=topic, granted=granted, basis=basis)
                for topic, granted, basis in self.consents.get(person.id, ())
            ],
            is_halted=bool(self.halted & {"*", flow.name}),
            sent=self.sent.get(person.id, ()),
            is_held_out=row.run_reason == HELD_OUT,
        )

    def _letter(
        self, row: Any, flow: Flow, facts: Facts, person: Person, at: datetime, batch: Batch, basis: str | None
    ) -> tuple[Handed, Outgoing] | None:
        name = self._name_of(row)
        mail, template_id = self.release.catalog.mails.get(name), self.release.mail_id(name)
        if mail is None or template_id is None:
            batch.end(row, TouchpointState.FAILED, at, f"there is no template {row.template} in force")
            return None
        due_on = self.due.get((row.enrollment_id, row.step))
        address, extra = touchpoint.addressee(row.kind, row.step, flow, facts, person, self.shop, due_on)
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
        codes, generation = self.codes.get(row.customer_id, {}), self.generations.get(row.customer_id, 0)
        variants = touchpoint.variants(mail, self.release.catalog, row.customer_id)
        stored = letters.context(mail, facts.names(), codes, extra, variants, generation, self.reviews)
        to = Addressed(touchpoint_id=row.id, customer_id=row.customer_id, kind=row.kind, topic=row.topic)
        try:
            rendered = letters.render(mail, stored, self.head, to)
        except RenderError as error:
            batch.end(row, TouchpointState.FAILED, at, f"{name}: {error}")
            return None
        batch.contexts.append((row.id, row.customer_id, stored))
        if row.kind == "marketing":
            self.sent.setdefault(row.customer_id, []).append(rails.Went(at, row.flow))
        if not self.provider.leaves_the_machine:
            batch.closed.append(
                Settled(id=row.id, state=TouchpointState.SENT, at=at, template_id=template_id, prepared_at=at)
            )
            batch.go_on.append((row.enrollment_id, at))
            batch.note(row, at, "sent", template=row.template, **touchpoint.went(basis, mail.locale))
            return None
        batch.handed.append((row.id, template_id, at, self.leased_until))
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
            basis=basis,
            locale=mail.locale,
        )
        return handed, self._outgoing(handed, mail, rendered, address, person, to)

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
