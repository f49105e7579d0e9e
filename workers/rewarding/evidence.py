"""What is known of referrals that are to be judged, read for all of them at once."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from afterglow.referring import fraud, likeness
from db import events as events_table
from db import identity, referring
from db.people import Person
from db.referring import Referral, Whose
from db.tables import ReferralState
from workers.rewarding.round import Round

_DAY = timedelta(days=1)


class Evidence:
    """What is known of referrals that are to be judged, read for all of them at once."""

    def __init__(self, round_: Round, due: Sequence[Referral]) -> None:
        self.round, connection = round_, round_.connection
        self.secret = round_.app.settings.secrets[0]
        referrers = {one.referrer_id for one in due}
        order_event = round_.shop.model.order_event
        newest = referring.newest_events(connection, referrers, order_event)
        events = {one.event_id for one in due if one.event_id is not None} | set(newest.values())
        payloads = events_table.payloads(connection, events)
        self.orders = referring.orders_before(connection, [one.id for one in due], order_event)
        self.marks = {one.id: self._marks(one, payloads.get(one.event_id or 0, {})) for one in due}
        self.own = {
            referrer: _of_order(self.secret, payloads.get(newest.get(referrer, 0), {})) for referrer in referrers
        }
        referring.mark(
            connection, [(id_, kind, digest) for id_, marks in self.marks.items() for kind, digest in marks.items()]
        )
        self.marked = referring.marked(connection, [d for marks in self.marks.values() for d in marks.values()])
        spellings = {one.id: self._spellings(one) for one in due}
        self.spellings = spellings
        self.holders = identity.known(connection, [one for ones in spellings.values() for one in ones])
        self.forgotten = referring.forgotten(connection, [digest for ones in spellings.values() for _, digest in ones])
        since = min(one.qualified_at for one in due if one.qualified_at is not None) - _DAY
        self.qualified = referring.qualified_since(connection, referrers, since)
        self.counted = referring.counted(connection, referrers)
        self.parents = self._parents(due)
        self.touches = referring.touches_by_id(connection, {one.touch_id for one in due})

    def _email(self, referral: Referral) -> str | None:
        return self.round.persons[referral.referee_id].email

    def _spellings(self, referral: Referral) -> list[tuple[str, str]]:
        """The identities by which an address of this mailbox would be known: as it is, untagged, canonical."""
        email = self._email(referral)
        if not email:
            return []
        ways = {email, likeness.untagged(email), likeness.canonical(email)}
        return [identity.email_identity(self.secret, way) for way in sorted(ways)]

    def _marks(self, referral: Referral, payload: Mapping[str, Any]) -> dict[str, str]:
        person = self.round.persons[referral.referee_id]
        found = _of_order(self.secret, payload)
        if person.email:
            found["email"] = _mark(self.secret, "email", likeness.canonical(person.email))
        if person.phone:
            found["phone"] = _mark(self.secret, "phone", person.phone)
        return found

    def _parents(self, due: Sequence[Referral]) -> dict[Whose, int]:
        """By whom the referrers were brought, and those, as far as a ring is looked for."""
        found: dict[Whose, int] = {}
        ask = {one.referrer_id for one in due}
        for _ in range(fraud.RING_MAX - 1):
            level = referring.parents(self.round.connection, ask) if ask else {}
            found |= level
            ask = set(level.values()) - {customer for _, customer in found}
        return found

    def of(self, referral: Referral) -> fraud.Facts:
        """What is known of one."""
        programme = self.round.programmes[referral.document_id]
        whose = (referral.programme, referral.referrer_id)
        assert referral.qualified_at is not None
        states = self.counted.get(whose, {})
        undone = states.get(ReferralState.REVERSED, 0)
        touch = self.touches.get(referral.touch_id)
        parents = {customer: up for (name, customer), up in self.parents.items() if name == referral.programme}
        clicked = touch.at if touch is not None and touch.method == "click" else None
        return fraud.Facts(
            referrer=_party(self.round.persons[referral.referrer_id]),
            referee=_party(self.round.persons[referral.referee_id]),
            orders_before=self.orders.get(referral.id, 0) if programme.first_purchase else -1,
            known_as=self._known_as(referral),
            was_forgotten=any(digest in self.forgotten for _, digest in self.spellings[referral.id]),
            referred_before=self._referred_before(referral),
            in_a_day=sum(
                referral.qualified_at - _DAY < at <= referral.qualified_at for at in self.qualified.get(whose, ())
            ),
            share_address=self._sharing(referral, "address"),
            share_payment=self._sharing(referral, "payment"),
            undone=undone,
            settled=undone + states.get(ReferralState.REWARDED, 0),
            ring=fraud.ring(parents, referral.referrer_id, referral.referee_id),
            click_to_order=referral.qualified_at - clicked if clicked else None,
        )

    def _known_as(self, referral: Referral) -> int | None:
        holders = {self.holders[one] for one in self.spellings[referral.id] if one in self.holders}
        return min((one for one in holders if one < referral.referee_id), default=None)

    def _referred_before(self, referral: Referral) -> int | None:
        mine = self.marks[referral.id]
        return min(
            (
                one.referral_id
                for one in self.marked
                if one.kind in ("email", "phone")
                and one.programme == referral.programme
                and one.referral_id < referral.id
                and mine.get(one.kind) == one.digest
            ),
            default=None,
        )

    def _sharing(self, referral: Referral, kind: str) -> int:
        """How many share this mark: the referrer, and the referrer's other referees."""
        mine = self.marks[referral.id].get(kind)
        if mine is None:
            return 0
        others = {
            one.referee_id
            for one in self.marked
            if (one.kind, one.digest, one.referrer_id) == (kind, mine, referral.referrer_id)
            and one.referral_id != referral.id
        }
        return len(others) + (self.own[referral.referrer_id].get(kind) == mine)


def _of_order(secret: bytes, payload: Mapping[str, Any]) -> dict[str, str]:
    """The marks of an order, where its source maps them: where it went, and with what it was paid."""
    order = payload.get("order")
    given = order if isinstance(order, Mapping) else {}
    said = {"address": given.get("ship_to"), "payment": given.get("paid_with")}
    return {
        kind: _mark(secret, kind, plain)
        for kind, text in said.items()
        if isinstance(text, str) and (plain := "".join(letter for letter in text.casefold() if letter.isalnum()))
    }


def _mark(secret: bytes, kind: str, text: str) -> str:
    return identity.address_digest(secret, f"referral {kind}\0{text}").hex()


def _party(person: Person) -> fraud.Party:
    name = " ".join(part for part in (person.first_name, person.last_name) if part)
    return fraud.Party(customer=person.id, email=person.email, phone=person.phone, name=name or None)
