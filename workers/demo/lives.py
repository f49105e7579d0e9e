"""What happens to the roastery's customers, as the webhooks that tell of it. Pure: the same seed, the same lives.

Providers are as they are: a few webhooks come late and so out of order, a few come twice, and one refund comes before
its order. Everybody's dice are their own, so that one customer more changes nobody else's life.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

from workers.demo import payloads
from workers.demo.payloads import PLAN, Order
from workers.demo.people import Kind, Person, everybody

#: The first day: a Monday, and daylight saving begins (in America, then in Europe) within the weeks that follow.
FIRST_DAY: Final = date(2026, 3, 2)

#: Of a hundred webhooks, so many come late, and so many come again.
LATE: Final = 0.03
AGAIN: Final = 0.04

Source = str


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One webhook: posted at `at` to `source`, in the name of the provider's event `id`."""

    at: datetime
    source: Source
    topic: str
    id: str
    body: bytes
    #: When the provider's event came about, which may be long before it is posted.
    triggered_at: datetime
    #: The address of the customer it speaks of.
    who: str


def lives(seed: int, count: int, days: int) -> list[Delivery]:
    """Everything that will be posted of the first `count` customers within so many days, in order of time.

    What customers do with a mail they get is not here: see `reactions`.
    """
    end = end_of(days)
    told = [
        delivery
        for person in everybody(seed, count)
        for delivery in life(person, Random(f"{seed}/life/{person.number}"), days)
    ]
    return sorted((one for one in told if one.at < end), key=lambda one: (one.at, one.id))


def start_of() -> datetime:
    """The instant at which the demo begins."""
    return datetime.combine(FIRST_DAY, time(), tzinfo=UTC)


def end_of(days: int) -> datetime:
    """The instant at which the demo ends."""
    return start_of() + timedelta(days=days)


def life(person: Person, rng: Random, days: int, joins: datetime | None = None) -> Sequence[Delivery]:
    """One customer's webhooks.

    Args:
      joins: when they come, where that is not left to the dice.
    """
    story = Story(person=person, rng=rng)
    if joins is None:
        # Fewer come late, so that most have the time for a story.
        day = int(rng.triangular(0, max(1, days - 4), days * 0.15))
        joins = story.on(day, time(rng.choice((7, 8, 9, 12, 13, 17, 18, 19, 20, 21)), rng.randrange(60)))
    _TELLS[person.kind](story, joins)
    return story.told


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
        bought = left if left is not None else self._basket(at, choices or self._taste())
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

    def is_refunded(self, bought: Order, at: datetime, note: str, share: Decimal = Decimal(1)) -> None:
        """The money goes back, or a share of it."""
        amount = (bought.total * share).quantize(Decimal("0.01"))
        self._shopify("refunds/create", payloads.refund(bought, amount, note, at), at)

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
        self, source: Source, topic: str, id_: str, at: datetime, body: payloads.Body, wait: timedelta | None
    ) -> None:
        """Post it: soon, or late; once, or again."""
        if wait is None:
            late = self.rng.random() < LATE
            wait = timedelta(minutes=self.rng.uniform(10, 180)) if late else timedelta(seconds=self.rng.uniform(1, 20))
        posted = at + wait
        self.told.append(
            Delivery(at=posted, source=source, topic=topic, id=id_, body=_bytes(body), triggered_at=at, who=self.person.email)
        )
        if source != "generic" and self.rng.random() < AGAIN:
            again = body | {"pending_webhooks": 0} if source == "stripe" else body
            self.told.append(
                Delivery(
                    at=posted + timedelta(minutes=self.rng.choice((1, 5, 30, 120))),
                    source=source,
                    topic=topic,
                    id=id_,
                    body=_bytes(again),
                    triggered_at=at,
                    who=self.person.email,
                )
            )

    def _basket(self, at: datetime, choices: Sequence[tuple[int, int]]) -> Order:
        self.orders += 1
        return Order(
            id=5_100_000_000_000 + self.person.number * 100 + self.orders,
            number=1000 + self.person.number * 10 + self.orders,
            at=at,
            items=payloads.basket(choices),
            code=self.person.code if self.orders == 1 else None,
        )

    def _taste(self) -> list[tuple[int, int]]:
        first = self.rng.choices(range(4), (45, 25, 15, 15))[0]
        extra = [(4, 1)] if self.rng.random() < 0.25 else []
        return [(first, self.rng.choices((1, 2, 3), (60, 30, 10))[0]), *extra]

    def _post(self) -> float | None:
        """Days until a parcel is there: most come soon, some late, a few never."""
        dice = self.rng.random()
        return self.rng.randint(2, 5) if dice < 0.86 else self.rng.randint(9, 14) if dice < 0.95 else None


# The lives. Days are counted from the first; hours are the customer's own.


def _unhappy(story: Story, joins: datetime) -> None:
    """Mara. Her first beans arrive stale, and she says so; later she comes back, and brings a friend."""
    story.joins(story.on(0, time(18, 10)))
    story.buys(story.on(1, time(8, 20)), [(0, 1), (4, 1)], arrives_after=3)
    story.buys(story.on(20, time(19, 5)), [(1, 2)], arrives_after=3)
    story.buys(story.on(44, time(9, 40)), [(1, 2), (0, 1)], arrives_after=3)


def _refunded(story: Story, joins: datetime) -> None:
    """Theo. He orders the wrong grind and gets his money back: nothing that hung on the order is sent any more."""
    story.joins(story.on(2, time(12, 30)))
    bought = story.buys(story.on(2, time(12, 41)), [(3, 2)], arrives_after=3)
    story.is_refunded(bought, story.on(6, time(15, 0)), "Wrong grind, returned")


def _reviewer(story: Story, joins: datetime) -> None:
    """Noor. She is happy and writes about it when she is asked."""
    story.joins(story.on(3, time(9, 15)))
    story.buys(story.on(3, time(9, 30)), [(1, 1)], arrives_after=2)
    story.buys(story.on(24, time(20, 10)), [(1, 2)], arrives_after=3)


def _refund_first(story: Story, joins: datetime) -> None:
    """Ivo. Shopify tells of his refund before it tells of his order."""
    story.joins(story.on(4, time(8, 0)))
    bought = story.buys(story.on(5, time(10, 0)), [(2, 1)], arrives_after=None, held_up=timedelta(hours=3))
    story.is_refunded(bought, story.on(5, time(12, 0)), "Cancelled by the customer")


def _hesitant(story: Story, joins: datetime) -> None:
    """Priya. She leaves a basket, is reminded once, and comes back to it."""
    story.joins(story.on(6, time(19, 0)))
    left = story.looks(story.on(6, time(12, 20)) + timedelta(hours=7), [(0, 2)])
    story.buys(story.on(8, time(8, 30)), left=left, arrives_after=4)


def _card_expired(story: Story, joins: datetime) -> None:
    """Kenji. His card has expired; after the first reminder he puts in a new one."""
    story.joins(story.on(5, time(20, 0)))
    began = story.on(5, time(20, 15))
    story.subscribes(began)
    for n in range(1, 5):
        at = began + timedelta(weeks=PLAN.weeks * n)
        if n == 2:
            story.cannot_pay(n, at)
            at += timedelta(days=1, hours=11)
        story.renews(n, at)


def _had_enough(story: Story, joins: datetime) -> None:
    """Lena. She likes the coffee and not the mails."""
    story.joins(story.on(1, time(7, 45)))
    story.buys(story.on(1, time(8, 5)), [(0, 1)], arrives_after=2)
    story.buys(story.on(15, time(8, 5)), [(0, 1)], arrives_after=2)
    story.buys(story.on(33, time(8, 15)), [(0, 1)], arrives_after=2)


def _visitor(story: Story, joins: datetime) -> None:
    story.joins(joins)
    if story.rng.random() < 0.55:
        story.looks(story.later(joins, story.rng.choice((0.02, 1, 3, 9))), story._taste())
    if story.rng.random() < 0.08:
        story.says_no(story.later(joins, 6, 3))


def _buyer(story: Story, joins: datetime) -> None:
    rng = story.rng
    story.joins(joins)
    at = story.later(joins, rng.choice((0.01, 0.02, 1, 2, 5)))
    left = story.looks(at, story._taste()) if rng.random() < 0.25 else None
    if left is not None:
        at = story.later(at, rng.choice((0.1, 1, 3)))
    bought = story.buys(at, left=left)
    if rng.random() < 0.06:
        share = rng.choice((Decimal(1), Decimal("0.5")))
        story.is_refunded(bought, story.later(at, 9, 5), "Sent back", share)
        return
    while rng.random() < 0.62:
        at = story.later(at, 21, 7)
        story.buys(at)


def _subscriber(story: Story, joins: datetime) -> None:
    rng = story.rng
    story.joins(joins)
    at = story.later(joins, 1, 1)
    story.buys(at)
    began = story.later(at, 8, 4)
    story.subscribes(began)
    for n in range(1, 5):
        due = began + timedelta(weeks=PLAN.weeks * n)
        if rng.random() < 0.14:
            story.cannot_pay(n, due)
            if rng.random() < 0.65:
                due = story.later(due, 2, 1.5)
            else:
                story.cannot_pay(n, due + timedelta(days=3), attempt=2)
                story.cannot_pay(n, due + timedelta(days=7), attempt=3)
                story.loses_subscription(began, due + timedelta(days=12))
                return
        story.renews(n, due)


def _guest(story: Story, joins: datetime) -> None:
    """Orders without an account, and so without a word on marketing."""
    story.buys(joins)


def _friend(story: Story, joins: datetime) -> None:
    story.joins(joins)
    at = story.later(joins, 0.01)
    story.buys(at)
    if story.rng.random() < 0.5:
        story.buys(story.later(at, 20, 6))


_TELLS: Final[Mapping[Kind, Callable[[Story, datetime], None]]] = {
    "unhappy": _unhappy,
    "refunded": _refunded,
    "reviewer": _reviewer,
    "refund first": _refund_first,
    "hesitant": _hesitant,
    "card expired": _card_expired,
    "had enough": _had_enough,
    "visitor": _visitor,
    "buyer": _buyer,
    "subscriber": _subscriber,
    "guest": _guest,
    "friend": _friend,
}


def _bytes(body: payloads.Body) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
