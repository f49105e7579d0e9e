"""What a batch of events means to referral programmes: who was brought by whom, what qualifies, what undoes it.

`ingest` calls `follow` with the customers locked and the events recorded, and `workers.unwinding` calls `undo`. Where a
referral stands is decided anew from all touches and all events of its referee, so that it does not matter in which
order webhooks arrive. Judging and rewarding need the referrer too, and are done soon after by `workers.rewarding`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.engine import Connection

from afterglow.language.referral import ReferralProgramme
from afterglow.language.shop import Shop
from afterglow.referring.attribution import CLICK, Sign, Touch, attributed, signs
from afterglow.referring.qualification import Standing, order_of, standing
from afterglow.returning import UNWOUND
from afterglow.tokens import read_token
from db import leaderboards, referring
from db.catalog import Release
from db.people import Person
from db.referring import Decision, Heard, Referral, Whose
from db.tables import ReferralState
from workers.arrivals import Arrival


@dataclass(frozen=True, kw_only=True, slots=True)
class _Course:
    """How far a referral came: the touch that counts, and the event that qualified."""

    touch: Touch
    event: Heard | None


@dataclass(kw_only=True, slots=True)
class _Changes:
    """What a batch changes, gathered to be written in a few statements."""

    new: list[Referral] = field(default_factory=list)
    changed: list[Referral] = field(default_factory=list)
    notes: list[Decision] = field(default_factory=list)
    told: list[tuple[str, Referral, str, Mapping[str, object]]] = field(default_factory=list)
    scored: list[leaderboards.Change] = field(default_factory=list)

    def tell(self, event: str, referral: Referral) -> None:
        """Tell both sides."""
        self.told += [(event, referral, side, {}) for side in ("referrer", "referee")]

    def write(self, connection: Connection, now: datetime) -> None:
        """Write all but the scores."""
        referring.insert(connection, self.new)
        referring.save(connection, self.changed)
        referring.note(connection, self.notes)
        referring.tell(connection, self.told, now)

    def move(
        self,
        referral: Referral,
        state: ReferralState,
        at: datetime,
        because: str,
        evidence: Mapping[str, object],
        due_at: datetime | None = None,
    ) -> None:
        referral.state, referral.due_at = state, due_at
        self.notes.append(Decision(referral_id=referral.id, at=at, state=state, because=because, evidence=evidence))


def follow(
    connection: Connection,
    release: Release,
    arrivals: Sequence[Arrival],
    persons: Mapping[int, Person],
    secrets: Sequence[bytes],
    now: datetime,
) -> bool:
    """Take a batch of recorded events in. Whether a referral is to be looked at soon.

    Without referral programmes nothing is asked; without a referee among the customers, one thing.
    """
    programmes = release.catalog.referrals
    if not programmes or not arrivals:
        return False
    bringing = _touch(connection, arrivals, secrets)
    listened = {name for one in programmes.values() for name in (one.on, *undone_by(one))}
    ours = [one for one in arrivals if one.mapped.event in listened or one.event_id in bringing]
    if not ours:
        return False
    touches = {
        whose: found
        for whose, found in referring.touched(connection, (one.customer_id for one in ours)).items()
        if whose[0] in programmes
    }
    if not touches:
        return False
    known = referring.of_referees(connection, (customer for _, customer in touches))
    starts: dict[int, datetime] = {}
    for (_, customer), found in touches.items():
        starts[customer] = min(starts.get(customer, now), min(one.at for one in found))
    heard = referring.heard(connection, starts, listened)
    by_customer: dict[int, list[Arrival]] = {}
    for one in ours:
        by_customer.setdefault(one.customer_id, []).append(one)
    book = _Book(release=release, persons=persons)
    numbers = iter(referring.new_ids(connection, sum(whose not in known for whose in touches)))
    for whose, found in sorted(touches.items()):
        mine = by_customer[whose[1]]
        latest = max(mine, key=lambda one: one.mapped.occurred_at)
        referral = known.get(whose)
        if _is_open(referral):
            book.bring(whose, referral, found, heard.get(whose[1], ()), latest, numbers)
    changes = book.changes
    changes.write(connection, now)
    return any(one.due_at is not None for one in (*changes.new, *changes.changed))


@dataclass(frozen=True, kw_only=True, slots=True)
class Undone:
    """What refunds did to referrals: those that changed, and what is to come off the boards."""

    referrals: Sequence[Referral] = ()
    scored: Sequence[leaderboards.Change] = ()


def undone_by(programme: ReferralProgramme) -> frozenset[str]:
    """The events that undo what qualified in a programme: those of its file, and a person's word."""
    return programme.undone_by | {UNWOUND}


def undo(
    connection: Connection,
    release: Release,
    arrivals: Sequence[Arrival],
    persons: Mapping[int, Person],
    now: datetime,
) -> Undone:
    """Count in what a batch of recorded events gives back of what qualified.

    Before the reward that ends a referral for both; after it a person looks, unless the programme says that it is taken
    back, or a person has said so already. What is to be taken back is due (`workers.rewarding`).
    """
    programmes = release.catalog.referrals
    undoing = {name for one in programmes.values() for name in undone_by(one)}
    by_customer: dict[int, list[Arrival]] = {}
    for one in arrivals:
        if one.mapped.event in undoing:
            by_customer.setdefault(one.customer_id, []).append(one)
    if not by_customer:
        return Undone()
    known = {
        whose: referral
        for whose, referral in referring.of_referees(connection, by_customer).items()
        if whose[0] in programmes and referral.event_id is not None
    }
    if not known:
        return Undone()
    names = undoing | {one.on for one in programmes.values()}
    starts = {customer: referring.BEGINNING for _, customer in known}
    heard = referring.heard(connection, starts, names)
    book = _Book(release=release, persons=persons)
    for (_, customer), referral in sorted(known.items()):
        book.undo(referral, heard.get(customer, ()), by_customer[customer])
    book.changes.write(connection, now)
    return Undone(referrals=book.changes.changed, scored=book.changes.scored)


def _touch(connection: Connection, arrivals: Sequence[Arrival], secrets: Sequence[bytes]) -> set[int]:
    """Record the touches that events bring. The events that bring any."""
    said = {one.event_id: (one, found) for one in arrivals if (found := signs(one.mapped.payload))}
    if not said:
        return set()
    tokens = {sign.text: read_token(secrets, CLICK, sign.text) for sign in _every(said, "click")}
    numbers = {text: ids[0] for text, ids in tokens.items() if ids is not None and len(ids) == 1}
    clicked = referring.clicked(connection, numbers.values()) if numbers else {}
    texts = {sign.text for way in ("code", "discount", "landing") for sign in _every(said, way)}
    codes = referring.codes(connection, texts | {code for code, _ in clicked.values()})
    rows = []
    for arrival, found in said.values():
        for sign in found:
            click_id = numbers.get(sign.text) if sign.method == "click" else None
            text, at = clicked.get(click_id or 0, (sign.text, arrival.mapped.occurred_at))
            code = codes.get(text) if (sign.method != "click" or click_id in clicked) else None
            if code is None:
                continue
            rows.append(
                (
                    code.programme,
                    arrival.customer_id,
                    code.customer_id,
                    sign.method,
                    at,
                    code.code,
                    code.made_at,
                    arrival.event_id,
                    click_id,
                )
            )
    referring.touch(connection, rows)
    return {row[7] for row in rows}


def _every(said: Mapping[int, tuple[Arrival, list[Sign]]], method: str) -> Iterable[Sign]:
    return (sign for _, found in said.values() for sign in found if sign.method == method)


def _is_open(referral: Referral | None) -> bool:
    """Whether it is still open which touch and which event count: until a referral is judged."""
    return (
        referral is None
        or referral.state is ReferralState.ATTRIBUTED
        or (referral.state is ReferralState.QUALIFIED and referral.judged_at is None)
    )


@dataclass(kw_only=True, slots=True)
class _Book:
    """Follows referrals, one after the other."""

    release: Release
    persons: Mapping[int, Person]
    changes: _Changes = field(default_factory=_Changes)

    def bring(
        self,
        whose: Whose,
        referral: Referral | None,
        touches: Sequence[Touch],
        heard: Sequence[Heard],
        latest: Arrival,
        numbers: Iterator[int],
    ) -> None:
        """Say who brought a customer, and whether they did what counts, where that is new."""
        programme = self.release.catalog.referrals[whose[0]]
        shop = self.release.catalog.shop
        course = self._course(programme, touches, heard, whose[1], latest.mapped.occurred_at)
        if course is None:
            return
        document = self.release.ids["programme"][programme.name]
        evidence = {"touch": course.touch.id, "method": course.touch.method, "referrer": course.touch.referrer}
        if referral is None:
            referral = Referral(
                id=next(numbers),
                programme=programme.name,
                referrer_id=course.touch.referrer,
                referee_id=whose[1],
                state=ReferralState.ATTRIBUTED,
                touch_id=course.touch.id,
                document_id=document,
                attributed_at=latest.at,
                variant=programme.variant_of(course.touch.referrer),
            )
            self.changes.new.append(referral)
            self.changes.move(referral, ReferralState.ATTRIBUTED, latest.at, "a touch", evidence)
            self.changes.tell("referral.attributed", referral)
        else:
            if (referral.touch_id, referral.referrer_id) != (course.touch.id, course.touch.referrer):
                referral.touch_id, referral.referrer_id = course.touch.id, course.touch.referrer
                referral.variant = programme.variant_of(referral.referrer_id)
                self.changes.move(referral, ReferralState.ATTRIBUTED, latest.at, "another touch counts", evidence)
            elif course.event is None or course.event.id == referral.event_id:
                return
            self.changes.changed.append(referral)
        if course.event is not None:
            self._qualify(referral, programme, shop, course.event, document, heard, latest)

    def _course(
        self,
        programme: ReferralProgramme,
        touches: Sequence[Touch],
        heard: Sequence[Heard],
        customer: int,
        at: datetime,
    ) -> _Course | None:
        zone = self.release.catalog.shop.zone
        for event in heard:
            if event.name != programme.on:
                continue
            touch = attributed(programme, touches, customer=customer, at=event.occurred_at, zone=zone)
            if touch is not None and self._standing(programme, event, customer, ()).qualifies:
                return _Course(touch=touch, event=event)
        touch = attributed(programme, touches, customer=customer, at=at, zone=zone)
        return _Course(touch=touch, event=None) if touch is not None else None

    def _qualify(
        self,
        referral: Referral,
        programme: ReferralProgramme,
        shop: Shop,
        event: Heard,
        document: int,
        heard: Sequence[Heard],
        latest: Arrival,
    ) -> None:
        after = self._standing(programme, event, referral.referee_id, _undoing(programme, event, heard))
        order = order_of(event.payload)
        referral.event_id, referral.document_id = event.id, document
        if referral.variant not in {one.name for one in programme.variants}:  # another file is in force since
            referral.variant = programme.variant_of(referral.referrer_id)
        referral.subject = f"order/{event.source}/{order}" if order is not None else None
        referral.qualified_at = event.occurred_at
        referral.amount, referral.refunded = shop.to_minor(after.total), shop.to_minor(after.refunded)
        numbers = {"event": event.id, "amount": referral.amount}
        self.changes.move(referral, ReferralState.QUALIFIED, latest.at, f"{event.name} counts", numbers, latest.at)
        if not after.qualifies:
            numbers |= {"refunded": referral.refunded}
            self.changes.move(referral, ReferralState.REVERSED, latest.at, "it was undone before", numbers)
            self.changes.tell("referral.reversed", referral)

    def undo(self, referral: Referral, heard: Sequence[Heard], mine: Sequence[Arrival]) -> None:
        """Count in what was given back of one referral, by all that was ever told of it.

        Args:
          mine: what this batch tells.
        """
        programme = self.release.catalog.referrals[referral.programme]
        shop = self.release.catalog.shop
        event = next((one for one in heard if one.id == referral.event_id), None)
        if event is None:
            return
        latest = max(mine, key=lambda one: one.mapped.occurred_at)
        undoing = _undoing(programme, event, heard)
        before = self._standing(programme, event, referral.referee_id, ())
        after = self._standing(programme, event, referral.referee_id, undoing)
        refunded = shop.to_minor(after.refunded)
        ids = {one.id for one in undoing}
        by_hand = any(one.mapped.event == UNWOUND and one.event_id in ids for one in mine)
        if not undoing or (refunded == referral.refunded and not by_hand):
            return
        left, referral.refunded = referral.net, refunded
        self.changes.changed.append(referral)
        self._score(referral, referral.net - left)
        if referral.state in (ReferralState.REJECTED, ReferralState.REVERSED):
            return
        # The condition may read what changed meanwhile, such as customer.orders: only what the refund changed counts.
        if after.qualifies or (after.net and not before.qualifies):
            return
        evidence = {"event": latest.event_id, "amount": referral.amount, "refunded": refunded}
        if referral.rewarded_at is None:
            self.changes.move(referral, ReferralState.REVERSED, latest.at, "undone before the reward", evidence)
            self.changes.tell("referral.reversed", referral)
        elif by_hand or (referral.state is ReferralState.REWARDED and programme.after_reward == "take back"):
            because = "undone after the reward, which is taken back"
            self.changes.move(referral, ReferralState.REVERSED, latest.at, because, evidence, latest.at)
        elif referral.state is ReferralState.REWARDED:
            deadline = programme.fraud.deadline.after(latest.at, shop.zone)
            self.changes.move(referral, ReferralState.REVIEW, latest.at, "undone after the reward", evidence, deadline)
            self.changes.tell("referral.review", referral)

    def _score(self, referral: Referral, delta: int) -> None:
        """Take what was given back off the referred revenue, in the season in which it counted."""
        if not referral.counts or not delta:
            return
        assert referral.rewarded_at is not None
        self.changes.scored.append(
            leaderboards.Change(
                programme=referral.programme,
                metric="revenue",
                customer_id=referral.referrer_id,
                delta=delta,
                at=referral.rewarded_at,
                subject=referral.reference,
            )
        )

    def _standing(
        self, programme: ReferralProgramme, event: Heard, customer: int, undoing: Iterable[Heard]
    ) -> Standing:
        shop = self.release.catalog.shop
        names = {**event.payload, "customer": self.persons[customer].facts(shop), "shop": shop.facts}
        return standing(programme, names, (one.payload for one in undoing))


def _undoing(programme: ReferralProgramme, event: Heard, heard: Iterable[Heard]) -> list[Heard]:
    """What undoes an event: of the same order, or, where it is about none, whatever came after it."""
    order = order_of(event.payload)
    return [
        one
        for one in heard
        if one.name in undone_by(programme)
        and (order_of(one.payload) == order if order is not None else one.occurred_at >= event.occurred_at)
    ]
