"""What happens to the roastery's customers. Pure: the same seed, the same lives.

Everybody's dice are their own, so that one customer more changes nobody else's life.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Final

from workers.demo.payloads import PLAN
from workers.demo.people import Kind, Person, everybody
from workers.demo.story import FIRST_DAY, Delivery, Story


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
    """Noor. She is happy, writes about it when she is asked, and brings three friends who stay."""
    story.joins(story.on(1, time(9, 15)))
    story.buys(story.on(1, time(9, 30)), [(1, 1)], arrives_after=2)
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


def _brings_friends(story: Story, joins: datetime) -> None:
    """Sofia. She likes it from the first cup, and tells three friends."""
    story.joins(story.on(0, time(12, 40)))
    story.buys(story.on(0, time(12, 55)), [(1, 2)], arrives_after=2)
    story.buys(story.on(29, time(13, 5)), [(0, 2)], arrives_after=2)


def _brings_himself(story: Story, joins: datetime) -> None:
    """Viktor. He would like to be his own friend."""
    story.joins(story.on(38, time(10, 0)))
    story.buys(story.on(38, time(10, 20)), [(2, 1)], arrives_after=2)


def _visitor(story: Story, joins: datetime) -> None:
    story.joins(joins)
    if story.rng.random() < 0.55:
        story.looks(story.later(joins, story.rng.choice((0.02, 1, 3, 9))), story.taste())
    if story.rng.random() < 0.08:
        story.says_no(story.later(joins, 6, 3))


def _buyer(story: Story, joins: datetime) -> None:
    rng = story.rng
    story.joins(joins)
    at = story.later(joins, rng.choice((0.01, 0.02, 1, 2, 5)))
    left = story.looks(at, story.taste()) if rng.random() < 0.25 else None
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
    """Somebody whom a friend sent: two bags, which is enough for both to be rewarded."""
    story.joins(joins)
    at = story.later(joins, 0.01)
    story.buys(at, [(story.taste()[0][0], 2)], arrives_after=3)
    if story.rng.random() < 0.5:
        story.buys(story.later(at, 20, 6))


def _returns_it(story: Story, joins: datetime) -> None:
    """Rosa. Three days after both were rewarded she sends everything back, with a mail to her on the way."""
    story.joins(joins)
    bought = story.buys(story.later(joins, 0.01), [(1, 3)], arrives_after=3)
    day = (joins.date() - FIRST_DAY).days
    story.looks(story.on(day + 16, time(13, 10)), [(0, 1)])
    story.is_refunded(bought, story.on(day + 17, time(11, 5)), "Everything sent back", promptly=True)


def _himself_again(story: Story, joins: datetime) -> None:
    story.joins(joins)
    story.buys(story.later(joins, 0.01), [(0, 2)], arrives_after=3)


_TELLS: Final[Mapping[Kind, Callable[[Story, datetime], None]]] = {
    "unhappy": _unhappy,
    "refunded": _refunded,
    "reviewer": _reviewer,
    "refund first": _refund_first,
    "hesitant": _hesitant,
    "card expired": _card_expired,
    "had enough": _had_enough,
    "brings friends": _brings_friends,
    "brings himself": _brings_himself,
    "visitor": _visitor,
    "buyer": _buyer,
    "subscriber": _subscriber,
    "guest": _guest,
    "friend": _friend,
    "friend who returns it": _returns_it,
    "himself again": _himself_again,
}
