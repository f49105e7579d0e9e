"""One customer's story: every method is one thing that happens, told as webhooks. Pure.

Providers are as they are: a few webhooks come late and so out of order, and a few come twice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

from workers.demo import payloads
from workers.demo.payloads import PLAN, Order
from workers.demo.people import Person

#: The first day: a Monday, and daylight saving begins (in America, then in Europe) within the weeks that follow.
FIRST_DAY: Final = date(2026, 3, 2)

#: Of a hundred webhooks, so many come late, and so many come again.
LATE: Final = 0.03
AGAIN: Final = 0.04


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One webhook: posted at `at` to `source`, in the name of the provider's event `id`."""

    at: datetime
    source: str
    topic: str
    id: str
    body: bytes
    #: When the provider's event came about, which may be long before it is posted.
    triggered_at: datetime
    #: The address of the customer it speaks of.
    who: str


@dataclass(kw_only=True, slots=True)
class Story:
    """Gathers what is posted about one customer. Every method is one thing that happens."""

    person: Person
    rng: Random
    told: list[Delivery] = field(default_factory=list)
    orders: int = 0

    def on(self, day: int, at: time) -> datetime:
        """An instant by the customer's own clock, counted in days from the first."""
        local = datetime.combine(FIRST_DAY + timedelta(days=day), at, tzinfo=ZoneInfo(self.person.zone))
        return local.astimezone(UTC)

    def later(self, at: datetime, days: float, around: float = 0.0) -> datetime:
        """An instant some days later, at an hour at which people are awake."""
        moved = at + timedelta(days=max(0.0, days + self.rng.uniform(-around, around)))
        local = moved.astimezone(ZoneInfo(self.person.zone))
        if not 7 <= local.hour <= 21:
            local = local.replace(hour=self.rng.randint(8, 20))
        return max(local.astimezone(UTC), at + timedelta(minutes=2))

    # What happens

    def joins(self, at: datetime) -> None:
        """They create an account; the shop's site knows their time zone from the browser."""
        self._shopify("customers/create", payloads.customer(self.person, at), at, timedelta(seconds=1))
        self._own("customer.updated", at + timedelta(seconds=2), timezone=self.person.zone)

    def looks(self, at: datetime, choices: Sequence[tuple[int, int]]) -> Order:
        """They fill a basket and leave it."""
        basket = self._basket(at, choices)
        self._shopify("checkouts/create", payloads.checkout(self.person, basket, at), at)
        changed = at + timedelta(minutes=self.rng.randint(1, 6))
        self._shopify("checkouts/update", payloads.checkout(self.person, basket, changed), changed)
        return basket

    def buys(
        self,
        at: datetime,
        choices: Sequence[tuple[int, int]] = (),
        *,
        arrives_after: float | None = -1.0,
        left: Order | None = None,
        held_up: timedelta | None = None,
    ) -> Order:
        """They order and pay; the parcel leaves the next day.

        Args:
          arrives_after: days until it is delivered; None: it gets lost; negative: as the dice say.
          left: the basket they had left before.
          held_up: Shopify's webhooks about the order come so much later.
        """
        bought = left if left is not None else self._basket(at, choices or self.taste())
        if left is not None:
            done = payloads.checkout(self.person, bought, at, completed_at=at)
            self._shopify("checkouts/update", done, at)
            bought = Order(id=bought.id, number=bought.number, at=at, items=bought.items, code=bought.code)
        paid_at = at + timedelta(seconds=self.rng.randint(2, 9))
        self._shopify("orders/create", payloads.order(self.person, bought, at, paid=False), at, held_up)
        self._shopify("orders/paid", payloads.order(self.person, bought, paid_at, paid=True), paid_at, held_up)
        sent_at = self.on((at.date() - FIRST_DAY).days + 1, time(15, self.rng.randrange(60)))
        sent = payloads.order(self.person, bought, sent_at, paid=True, sent=True)
        self._shopify("orders/fulfilled", sent, sent_at)
        left_at = sent_at + timedelta(hours=5)
        self._shopify("fulfillment_events/create", payloads.parcel(bought, "in_transit", left_at), left_at)
        if arrives_after is not None and arrives_after < 0:
            arrives_after = self._post()
        if arrives_after is not None:
            came = self.on((at.date() - FIRST_DAY).days + int(arrives_after), time(11, self.rng.randrange(60)))
            came = max(came, left_at + timedelta(hours=9))
            self._shopify("fulfillment_events/create", payloads.parcel(bought, "delivered", came), came)
        return bought

    def is_refunded(
        self, bought: Order, at: datetime, note: str, share: Decimal = Decimal(1), *, promptly: bool = False
    ) -> None:
        """The money goes back, or a share of it."""
        amount = (bought.total * share).quantize(Decimal("0.01"))
        wait = timedelta(seconds=1) if promptly else None
        self._shopify("refunds/create", payloads.refund(bought, amount, note, at), at, wait)

    def says_no(self, at: datetime) -> None:
        """They take their consent back on the account page of the shop."""
        change = payloads.consent_change(self.person, granted=False, at=at)
        self._shopify("customers_email_marketing_consent/update", change, at)

    def subscribes(self, at: datetime) -> None:
        """They subscribe, and pay for the first time."""
        me = self.person
        self._stripe("customer.created", payloads.stripe_customer(me, at), at, promptly=True)
        at += timedelta(seconds=4)
        self._stripe("customer.subscription.created", payloads.subscription(me, PLAN, at), at, promptly=True)
        self._stripe("invoice.paid", payloads.invoice(me, PLAN, 0, at, paid=True), at)

    def renews(self, n: int, at: datetime) -> None:
        """The invoice is paid; Stripe says so twice."""
        paid = payloads.invoice(self.person, PLAN, n, at, paid=True)
        self._stripe("invoice.payment_succeeded", paid, at)
        self._stripe("invoice.paid", paid, at + timedelta(seconds=1))

    def cannot_pay(self, n: int, at: datetime, attempt: int = 1) -> None:
        """The card is refused."""
        self._stripe(
            "invoice.payment_failed",
            payloads.invoice(self.person, PLAN, n, at, paid=False, attempt=attempt),
            at,
        )

    def loses_subscription(self, began: datetime, at: datetime) -> None:
        """Stripe gives up, and the subscription ends."""
        gone = payloads.subscription(self.person, PLAN, began, ended_at=at)
        self._stripe("customer.subscription.deleted", gone, at)

    def reviews(self, at: datetime, stars: int) -> None:
        """They write a review on the shop's site."""
        self._own("review.posted", at, data={"review": {"stars": stars}, "stage": "advocacy"})

    def ticket(self, at: datetime, is_open: bool) -> None:
        """The help desk opens or closes a ticket about them."""
        self._own("customer.updated", at, attributes={"open_ticket": is_open})

    # How it is told

    def _shopify(self, topic: str, body: payloads.Body, at: datetime, held_up: timedelta | None = None) -> None:
        self._tell("shopify", topic, f"demo-{self.person.number}-{len(self.told)}", at, body, held_up)

    def _stripe(self, kind: str, thing: payloads.Body, at: datetime, *, promptly: bool = False) -> None:
        id_ = f"evt_demo{self.person.number}x{len(self.told)}"
        wait = timedelta(seconds=1) if promptly else None
        self._tell("stripe", kind, id_, at, payloads.stripe_event(id_, kind, thing, at), wait)

    def _own(self, kind: str, at: datetime, *, data: Mapping[str, Any] | None = None, **who: Any) -> None:
        body = payloads.own_event(kind, {"email": self.person.email, **who}, at, data)
        # Two stories may be told of one person: what the mails made them do is told apart.
        id_ = f"own-{kind}-{self.person.number}-{int(at.timestamp())}"
        self._tell("generic", kind, id_, at, body, timedelta(seconds=1))

    def _tell(
        self, source: str, topic: str, id_: str, at: datetime, body: payloads.Body, wait: timedelta | None
    ) -> None:
        """Post it: soon, or late; once, or again."""
        if wait is None:
            late = self.rng.random() < LATE
            wait = timedelta(minutes=self.rng.uniform(10, 180)) if late else timedelta(seconds=self.rng.uniform(1, 20))
        told = Delivery(
            at=at + wait,
            source=source,
            topic=topic,
            id=id_,
            body=_bytes(body),
            triggered_at=at,
            who=self.person.email,
        )
        self.told.append(told)
        if source != "generic" and self.rng.random() < AGAIN:
            again = body | {"pending_webhooks": 0} if source == "stripe" else body
            then = told.at + timedelta(minutes=self.rng.choice((1, 5, 30, 120)))
            self.told.append(replace(told, at=then, body=_bytes(again)))

    def _basket(self, at: datetime, choices: Sequence[tuple[int, int]]) -> Order:
        self.orders += 1
        return Order(
            id=5_100_000_000_000 + self.person.number * 100 + self.orders,
            number=1000 + self.person.number * 10 + self.orders,
            at=at,
            items=payloads.basket(choices),
            code=self.person.code if self.orders == 1 else None,
        )

    def taste(self) -> list[tuple[int, int]]:
        """What they like off the shelf, as (place on it, quantity)."""
        first = self.rng.choices(range(4), (45, 25, 15, 15))[0]
        extra = [(4, 1)] if self.rng.random() < 0.25 else []
        return [(first, self.rng.choices((1, 2, 3), (60, 30, 10))[0]), *extra]

    def _post(self) -> float | None:
        """Days until a parcel is there: most come soon, some late, a few never."""
        dice = self.rng.random()
        return self.rng.randint(2, 5) if dice < 0.86 else self.rng.randint(9, 14) if dice < 0.95 else None


def _bytes(body: payloads.Body) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
