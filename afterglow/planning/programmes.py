"""Loyalty and referral programmes under another file: the stored history counted under both, and held together.

Both files are lived from the beginning, as though each had always been in force, so that what differs is the files'
doing and nothing else's. What history cannot tell stays out of both and is said: points that were given by hand,
brought along or won as a reward, and a programme's budget, which all customers share.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from afterglow.language.programme import Programme
from afterglow.language.referral import Gives, ReferralProgramme
from afterglow.language.shop import Shop
from afterglow.loyalty.earning import Happening, SoFar, earn, number
from afterglow.loyalty.expiring import expires_at, prolonged
from afterglow.loyalty.refunding import kept_points, kept_progress
from afterglow.loyalty.tiers import Standing, review
from afterglow.person import Person
from afterglow.referring.qualification import standing as referral_standing
from afterglow.refusals import Standing as Known
from afterglow.returning import UNWOUND

#: Places of the board that are held together.
PLACES: Final = 10
#: More than any order was for.
_ALL: Final = Decimal("Infinity")


@dataclass(frozen=True, kw_only=True, slots=True)
class Happened:
    """An event of a customer, and the order that it speaks of."""

    name: str
    occurred_at: datetime
    payload: Mapping[str, Any]
    subject: str | None


@dataclass(kw_only=True, slots=True)
class Account:
    """What a customer comes to under a programme: points earned and not returned, those left to spend, and the tier."""

    earned: int = 0
    left: int = 0
    tier: int = 0
    #: Points that were spent and would not have been there.
    lacking: int = 0


def account(
    programme: Programme,
    shop: Shop,
    person: Person,
    events: Sequence[Happened],
    spent: Sequence[tuple[datetime, int]],
    now: datetime,
) -> Account:
    """What a customer's history comes to under a programme.

    Args:
      events: what they did, oldest first: all that the programme hears, and their orders and refunds.
      spent: when they spent how many points; negative where they got some back.
    """
    counting = _Counting(programme=programme, shop=shop, person=person, returned=_returned(programme, shop, events))
    timeline: list[tuple[datetime, int, Happened | int]] = [
        *((one.occurred_at, 0, one) for one in events),
        *((at, 1, amount) for at, amount in spent),
    ]
    for at, _, one in sorted(timeline, key=lambda entry: entry[:2]):
        if isinstance(one, int):
            counting.spend(at, one)
        else:
            counting.hear(one)
    return counting.result(now)


@dataclass(kw_only=True, slots=True)
class _Counting:
    programme: Programme
    shop: Shop
    person: Person
    #: By order: what was returned of it, in major units.
    returned: Mapping[str, Decimal]
    known: Known = field(default_factory=Known)
    so_far: SoFar = field(default_factory=SoFar)
    progress: list[tuple[datetime, int]] = field(default_factory=list)
    standing: Standing | None = None
    #: What is left of what was earned, and until when.
    lots: list[tuple[datetime | None, int]] = field(default_factory=list)
    found: Account = field(default_factory=Account)

    def hear(self, one: Happened) -> None:
        programme, at, zone = self.programme, one.occurred_at, self.shop.zone
        self.known = self.known.after(one.name, at, one.payload, None, self.shop)
        then = replace(
            self.person, orders=self.known.orders, spent=self.known.spent, last_order_at=self.known.last_order_at
        )
        names = {**one.payload, "customer": then.facts(self.shop), "shop": self.shop.facts}
        tier = programme.tiers.names[self.standing.level if self.standing else 0] if programme.tiers else None
        happening = Happening(event=one.name, occurred_at=at, names=names, tier=tier)
        earnings = earn(programme, happening, self.so_far, zone, self.shop.model.currency)
        returned = self.returned.get(one.subject or "", Decimal(0))
        for n, earning in enumerate(earnings):
            kept = kept_points(earning.terms, earning.granted, returned) if returned else earning.granted
            self.found.earned += kept
            self.lots.append((expires_at(programme.expiry, at, zone), kept))
            self.advance(earning.terms, earning.granted, returned, at, first=n == 0)
        if earnings:
            if (until := prolonged(programme.expiry, at, zone)) is not None:
                self.lots = [(until, amount) for _, amount in self.living(at)]
            self.look(at)

    def advance(self, terms: Any, granted: int, returned: Decimal, at: datetime, *, first: bool) -> None:
        """Count towards the tier: the points, or the money of the event, once."""
        tiers = self.programme.tiers
        if tiers is None:
            return
        whole = self.shop.to_minor(terms.whole) if first and terms.whole is not None else 0
        progress = granted if tiers.by == "points" else whole
        if progress:
            self.progress.append((at, kept_progress(terms, progress, returned) if returned else progress))

    def look(self, at: datetime) -> None:
        tiers = self.programme.tiers
        if tiers is not None:
            scale = self.shop.digits if tiers.by == "spend" else 0
            self.standing = review(tiers, self.standing, self.progress, at, self.shop.zone, scale)

    def living(self, at: datetime) -> list[tuple[datetime | None, int]]:
        """What can still be spent at an instant, that which ends first in front."""
        left = [lot for lot in self.lots if lot[1] and (lot[0] is None or lot[0] > at)]
        return sorted(left, key=lambda lot: (lot[0] is None, lot[0]))

    def spend(self, at: datetime, amount: int) -> None:
        if amount < 0:  # what came back is taken for new; its first end is not known
            self.lots.append((expires_at(self.programme.expiry, at, self.shop.zone), -amount))
            return
        left: list[tuple[datetime | None, int]] = []
        for until, there in self.living(at):
            taken = min(there, amount)
            amount -= taken
            left.append((until, there - taken))
        self.lots = left
        self.found.lacking += amount

    def result(self, now: datetime) -> Account:
        self.look(now)
        self.found.left = sum(amount for _, amount in self.living(now))
        self.found.tier = self.standing.level if self.standing else 0
        return self.found


def _returned(programme: Programme, shop: Shop, events: Sequence[Happened]) -> dict[str, Decimal]:
    """By order, what was returned of it under a programme."""
    found: dict[str, Decimal] = {}
    for one in events:
        if one.subject is None:
            continue
        if one.name == UNWOUND:
            found[one.subject] = _ALL
        elif programme.refunds is not None and one.name == programme.refunds.event:
            amount = number(programme.refunds.amount.value({**one.payload, "shop": shop.facts}))
            found[one.subject] = found.get(one.subject, Decimal(0)) + max(amount or Decimal(0), Decimal(0))
    return found


@dataclass(kw_only=True)
class LoyaltyDifference:
    """Two files of a loyalty programme over everybody's history; customers are added one after the other."""

    before: Programme
    after: Programme
    customers: int = 0
    earned: list[int] = field(default_factory=lambda: [0, 0])
    left: list[int] = field(default_factory=lambda: [0, 0])
    lacking: list[int] = field(default_factory=lambda: [0, 0])
    gain: int = 0
    lose: int = 0
    up: int = 0
    down: int = 0
    reach: dict[str, list[int]] = field(default_factory=dict)
    first: tuple[list[tuple[int, int]], list[tuple[int, int]]] = field(default_factory=lambda: ([], []))

    def add(self, customer: int, one: Account, other: Account) -> None:
        """Count a customer, as they are under the first file and under the second."""
        self.customers += 1
        for n, (programme, found) in enumerate(((self.before, one), (self.after, other))):
            self.earned[n] += found.earned
            self.left[n] += found.left
            self.lacking[n] += found.lacking > 0
            for reward in programme.rewards.values():
                self.reach.setdefault(reward.id, [0, 0])[n] += found.left >= reward.costs
            place = (found.earned, -customer)
            if found.earned and (len(self.first[n]) < PLACES or place > self.first[n][0]):
                (heapq.heappush if len(self.first[n]) < PLACES else heapq.heapreplace)(self.first[n], place)
        self.gain += other.earned > one.earned
        self.lose += other.earned < one.earned
        tiers = self._tier(one, self.before), self._tier(other, self.after)
        self.up += tiers[0] < tiers[1]
        self.down += tiers[0] > tiers[1]

    def _tier(self, found: Account, programme: Programme) -> int:
        """The tier's place in the new file, so that tiers which only moved are compared by name."""
        if programme.tiers is None:
            return 0
        name = programme.tiers.names[found.tier]
        names = self.after.tiers.names if self.after.tiers else ()
        return names.index(name) if name in names else found.tier

    def lines(self) -> Iterator[str]:
        """The difference in words."""
        yield f"history of {self.customers:,} customers, as though each file had always been in force:"
        yield f"points earned and kept: {_change(self.earned)}; more for {self.gain:,}, fewer for {self.lose:,}"
        yield f"points that can still be spent, which are owed: {_change(self.left)}"
        if self.before.tiers or self.after.tiers:
            yield f"tiers: {self.up:,} up, {self.down:,} down"
        for reward, counts in self.reach.items():
            if counts[0] != counts[1]:
                yield f"customers who could have {reward}: {_change(counts)}"
        others = {place[1] for place in self.first[1]} - {place[1] for place in self.first[0]}
        if others:
            yield f"first {len(self.first[1])} by points: {len(others)} are others"
        if self.lacking[1] > self.lacking[0]:
            more = self.lacking[1] - self.lacking[0]
            yield f"{more:,} customers have spent points that they would not have had"
        budget = ", and the budget" if self.before.budget or self.after.budget else ""
        yield f"not counted: points given by hand, brought along or won as a reward{budget}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Brought:
    """A referral that qualified once: who brought whom, with which event, and what undid its order."""

    referrer: int
    variant: str | None
    names: Mapping[str, Any]
    undoing: Sequence[Mapping[str, Any]]


@dataclass(kw_only=True)
class ReferralDifference:
    """Two files of a referral programme over all referrals that ever qualified; they are added one by one."""

    before: ReferralProgramme
    after: ReferralProgramme
    referrals: int = 0
    counting: list[int] = field(default_factory=lambda: [0, 0])
    gives: tuple[dict[str, Decimal], dict[str, Decimal]] = field(default_factory=lambda: ({}, {}))
    of_referrer: tuple[dict[int, int], dict[int, int]] = field(default_factory=lambda: ({}, {}))

    def add(self, one: Brought) -> None:
        """Count a referral."""
        self.referrals += 1
        for n, programme in enumerate((self.before, self.after)):
            if not referral_standing(programme, one.names, one.undoing).qualifies:
                continue
            self.counting[n] += 1
            of = self.of_referrer[n]
            of[one.referrer] = rewarded = of.get(one.referrer, 0) + 1
            given = [*programme.sides(one.variant)]
            given += [each.gives for each in programme.milestones if each.at == rewarded]
            for gives in given:
                if gives is not None:
                    what, amount = _reward(gives)
                    self.gives[n][what] = self.gives[n].get(what, Decimal(0)) + amount

    def lines(self) -> Iterator[str]:
        """The difference in words."""
        yield f"{self.referrals:,} referrals that once qualified, as though each file had always been in force:"
        yield f"referrals that count: {_change(self.counting)}"
        for what in dict.fromkeys([*self.gives[0], *self.gives[1]]):
            yield f"rewards of {what}: {_change([self.gives[n].get(what, Decimal(0)) for n in (0, 1)])}"
        first = [
            {who for _, who in heapq.nlargest(PLACES, ((count, -who) for who, count in of.items()))}
            for of in self.of_referrer
        ]
        if others := first[1] - first[0]:
            yield f"first {len(first[1])} by referrals: {len(others)} are others"
        yield "not counted: referrals that only the new file would have let qualify, caps, and what was judged fraud"


def _reward(gives: Gives) -> tuple[str, Decimal]:
    """What a reward is, in words, and how much of it."""
    match gives.asset:
        case "points" | "credit":
            return f"{gives.asset} in {gives.programme}", gives.amount
        case "coupon":
            return f"coupon {gives.coupon}", gives.amount
        case "webhook":
            return f"webhook {gives.webhook}", gives.amount


def _change(pair: Sequence[int | Decimal]) -> str:
    one, other = pair
    return f"{one:,}, no change" if one == other else f"{one:,} -> {other:,} ({other - one:+,})"
