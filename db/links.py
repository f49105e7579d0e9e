"""What customers do by the links in their mails: say no to marketing (or yes again), rate, bring a friend."""

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.language.shop import Shop
from afterglow.native import NativeCustomer, NativeEvent
from afterglow.rails import Consent, Existing, consent_refusal
from afterglow.reviews import PERMITTED, WORDING
from db import events, people, reviews
from db.intake import Received, is_received, receive_once
from db.tables import consents, customers, touchpoints

#: Our own pages, as a source of events.
PAGE = "page"
CHANNEL = "email"
#: Stands for every topic.
ALL = "*"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What a customer says about marketing, seen from one mail."""

    customer_id: int
    topic: str | None
    consents: tuple[Consent, ...]
    existing: Existing

    @property
    def all_refused(self) -> bool:
        """Whether the last word on all marketing was no."""
        return any(consent.topic == ALL and not consent.granted for consent in self.consents)

    @property
    def topic_refused(self) -> bool:
        """Whether marketing on the mail's own topic is not allowed, for whatever reason."""
        return consent_refusal(self.consents, self.topic, self.existing) is not None


def standing(connection: Connection, shop: Shop, touchpoint_id: int, customer_id: int) -> Standing | None:
    """How the customer of a mail stands; None where there is no such customer (any more)."""
    known = people.kept(connection, [customer_id])
    if not known:
        return None
    customer_id = known[customer_id]
    orders = connection.execute(sa.select(customers.c.orders).where(customers.c.id == customer_id)).scalar_one()
    topic: str | None = connection.execute(
        sa.select(touchpoints.c.topic).where(
            touchpoints.c.id == touchpoint_id, touchpoints.c.customer_id == customer_id
        )
    ).scalar()
    rows = connection.execute(
        sa.select(consents.c.topic, consents.c.state, consents.c.basis).where(
            consents.c.customer_id == customer_id, consents.c.channel == CHANNEL
        )
    )
    words = tuple(Consent(topic=row.topic, granted=row.state == "granted", basis=row.basis) for row in rows)
    existing = Existing(topics=shop.topics_of_existing_customers, has_bought=orders > 0)
    return Standing(customer_id=customer_id, topic=topic, consents=words, existing=existing)


def say(
    connection: Connection,
    *,
    touchpoint_id: int,
    customer_id: int,
    topic: str,
    granted: bool,
    by: str,
    now: datetime,
) -> None:
    """Record the customer's word on a topic; it stands when the transaction is committed.

    The customer is locked first, as `prepare` locks it: no mail is prepared on an older word after our commit. The
    word also goes into the inbox as an event of our own, so that flows and `why` hear of it; repeating what is said
    already makes no second event.

    Args:
      topic: of shop.yaml; "*" is every topic.
      by: how it was said, such as "one-click" or "page".
    """
    customer_id = people.lock_kept(connection, customer_id)
    before = connection.execute(
        sa.select(consents.c.state, consents.c.occurred_at).where(
            consents.c.customer_id == customer_id, consents.c.channel == CHANNEL, consents.c.topic == topic
        )
    ).first()
    state = "granted" if granted else "withdrawn"
    # A source with a fast clock may have dated its word after now; the customer's own word is the last all the same.
    at = max(now, before.occurred_at) if before else now
    evidence = {"source": PAGE, "by": by, "touchpoint": touchpoint_id}
    events.hear_consents(connection, [(customer_id, CHANNEL, topic, state, "consent", evidence, at)])
    if before is None or before.state != state:
        event = NativeEvent(
            event=f"consent.{state}",
            key=f"consent/{touchpoint_id}/{uuid.uuid4().hex}",
            occurred_at=now,
            customer=NativeCustomer(customer=customer_id),
            payload={"topic": topic, "by": by},
        )
        receive_once(connection, from_page(event), now)


def rating_key(touchpoint_id: int, survey: str) -> str:
    """What makes two answers to one question of one mail the same."""
    return f"rate/{touchpoint_id}/{survey}"


def rate(
    connection: Connection,
    *,
    touchpoint_id: int,
    customer_id: int,
    survey: str,
    scale: str,
    score: int,
    comment: str | None,
    may_be_quoted: bool,
    now: datetime,
) -> bool:
    """Record an answer as the event `survey.answered`. False where this question was answered already.

    Args:
      may_be_quoted: whether the customer allows the comment to be quoted, in the words of the page (`WORDING`).
    """
    t = touchpoints.c
    asked = connection.execute(sa.select(t.flow, t.step, t.enrollment_id).where(t.id == touchpoint_id)).first()
    payload: dict[str, Any] = {"score": score, "survey": survey, "scale": scale}
    if comment:
        payload["comment"] = comment
    if comment and may_be_quoted:
        number = rating_key(touchpoint_id, survey)
        payload["review"] = {"id": number, "may_be_quoted": True, "wording": WORDING}
    if asked is not None:
        payload["by"] = {"flow": asked.flow, "step": asked.step, "run": asked.enrollment_id}
    event = NativeEvent(
        event="survey.answered",
        key=rating_key(touchpoint_id, survey),
        occurred_at=now,
        customer=NativeCustomer(customer=customer_id),
        payload=payload,
    )
    return receive_once(connection, from_page(event), now)


def is_rated(connection: Connection, touchpoint_id: int, survey: str) -> bool:
    """Whether this question was answered."""
    return is_received(connection, PAGE, rating_key(touchpoint_id, survey))


def may_be_quoted(connection: Connection, touchpoint_id: int, customer_id: int, survey: str) -> bool:
    """Whether the customer allows to be quoted with their answer to this question."""
    return reviews.may_be_quoted(connection, customer_id, rating_key(touchpoint_id, survey))


def take_back(connection: Connection, touchpoint_id: int, customer_id: int, survey: str, now: datetime) -> None:
    """Record that the customer does not allow to be quoted any more."""
    number = rating_key(touchpoint_id, survey)
    event = NativeEvent(
        event=PERMITTED,
        key=f"unquote/{number}",
        occurred_at=now,
        customer=NativeCustomer(customer=customer_id),
        payload={"review": {"id": number, "may_be_quoted": False}},
    )
    receive_once(connection, from_page(event), now)


def from_page(event: NativeEvent) -> Received:
    """An event of a page as a row of the inbox. Its key alone says whether it is new: the first word counts."""
    body = event.model_dump_json(exclude_unset=True).encode()
    return Received(PAGE, event.key, hashlib.sha256(event.key.encode()).digest(), {}, body)
