"""What speaks against a referral.

Some rules settle it: the referee is the referrer, was a customer before, or was referred before. One asks for a look
whatever the score: too many referrals in a day. All others add to a score, and the programme's limits say from where on
a person looks and from where on it is rejected. An office or a family shares an address, so that no single sign of
this kind rejects anybody.

A verdict names its rules with their numbers: ids, counts, seconds, percents. Never names or addresses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

from afterglow.language.referral import Fraud
from afterglow.referring.likeness import alike, canonical, is_disposable, local_part

#: From here on two names are alike, in percent. (Martha and Marta: 91.)
ALIKE_FROM: Final = 88
#: Sooner after the click nobody has chosen and paid.
FAST: Final = timedelta(seconds=30)
#: A referrer's share of referrals that were undone counts from so many on.
SETTLED_FROM: Final = 4
UNDONE_FROM: Final = 50
#: So many people away a ring is looked for.
RING_MAX: Final = 5


class Verdict(StrEnum):
    """What becomes of a referral."""

    PASS = "pass"
    REVIEW = "review"
    REJECT = "reject"


@dataclass(frozen=True, kw_only=True, slots=True)
class Party:
    """One of the two, as a profile knows them."""

    customer: int
    email: str | None = None
    phone: str | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of a referral when it is judged. Numbers without a reason to count are 0 or None."""

    referrer: Party
    referee: Party
    #: The referee's orders before the one that qualified; -1 where the programme takes customers who bought before.
    orders_before: int = 0
    #: A customer who is older than the referee and known by another spelling of the same address.
    known_as: int | None = None
    #: Whether somebody with this address was forgotten: a deleted person is not new.
    was_forgotten: bool = False
    #: A referral of this programme whose referee has the same address or phone number.
    referred_before: int | None = None
    #: The referrer's referrals that qualified in the 24 hours up to this one, with it.
    in_a_day: int = 1
    #: Who shares the postal address, and the means of payment: the referrer, and the referrer's other referees.
    share_address: int = 0
    share_payment: int = 0
    #: The referrer's referrals that were undone, and all that came to an end.
    undone: int = 0
    settled: int = 0
    #: People in the ring that this referral closes (2: they referred each other); 0 where it closes none.
    ring: int = 0
    click_to_order: timedelta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A rule that speaks against it, what it adds to the score, and the numbers that it saw."""

    rule: str
    weight: int
    verdict: Verdict = Verdict.PASS
    numbers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What becomes of a referral, and why."""

    verdict: Verdict
    score: int
    findings: tuple[Finding, ...]

    def evidence(self) -> dict[str, object]:
        """As it is stored: ids, names of rules and numbers."""
        rules = {one.rule: {"weight": one.weight, **one.numbers} for one in self.findings}
        return {"verdict": self.verdict.value, "score": self.score, "rules": rules}


def judge(facts: Facts, limits: Fraud) -> Judgement:
    """Weigh everything that is known. The score is 0 to 100."""
    findings = (*_settling(facts), *_of_haste(facts, limits), *_adding(facts))
    score = min(100, sum(finding.weight for finding in findings))
    asked = {finding.verdict for finding in findings}
    if Verdict.REJECT in asked or score >= limits.reject_from:
        verdict = Verdict.REJECT
    elif Verdict.REVIEW in asked or score >= limits.review_from:
        verdict = Verdict.REVIEW
    else:
        verdict = Verdict.PASS
    return Judgement(verdict=verdict, score=score, findings=findings)


def ring(parents: Mapping[int, int], referrer: int, referee: int) -> int:
    """How many people are in the ring that is closed when a referrer brings a referee; 0 where none is.

    Args:
      parents: by whom each customer was brought.
    """
    at, length = referrer, 1
    while length < RING_MAX and (at := parents.get(at, 0)):
        length += 1
        if at == referee:
            return length
    return 0


def _settling(facts: Facts) -> list[Finding]:
    """Who is the same person, was a customer before or was referred before is no new friend."""
    one, other = facts.referrer, facts.referee
    found: list[Finding] = []

    def reject(rule: str, **numbers: int) -> None:
        found.append(Finding(rule=rule, weight=100, verdict=Verdict.REJECT, numbers=numbers))

    if one.customer == other.customer:
        reject("same-customer", customer=one.customer)
    if one.email and other.email and canonical(one.email) == canonical(other.email):
        reject("same-email", referrer=one.customer, referee=other.customer)
    if one.phone and one.phone == other.phone:
        reject("same-phone", referrer=one.customer, referee=other.customer)
    if facts.orders_before > 0:
        reject("existing-customer", orders_before=facts.orders_before)
    if facts.known_as is not None:
        reject("known-by-another-spelling", customer=facts.known_as)
    if facts.was_forgotten:
        reject("was-forgotten")
    if facts.referred_before is not None:
        reject("already-referred", referral=facts.referred_before)
    return found


def _of_haste(facts: Facts, limits: Fraud) -> list[Finding]:
    if facts.in_a_day <= limits.per_day:
        return []
    numbers = {"in_a_day": facts.in_a_day, "limit": limits.per_day}
    return [Finding(rule="too-many-in-a-day", weight=25, verdict=Verdict.REVIEW, numbers=numbers)]


def _adding(facts: Facts) -> list[Finding]:
    one, other = facts.referrer, facts.referee
    found: list[Finding] = []

    def add(rule: str, weight: int, **numbers: int) -> None:
        found.append(Finding(rule=rule, weight=weight, numbers=numbers))

    if (percent := alike(one.name, other.name)) >= ALIKE_FROM:
        add("similar-names", 20, percent=percent)
    if (percent := alike(local_part(one.email), local_part(other.email))) >= ALIKE_FROM:
        add("similar-addresses", 20, percent=percent)
    if other.email and is_disposable(other.email):
        add("disposable-address", 30)
    if facts.share_address:
        add("same-postal-address", 40, customers=facts.share_address)
    if facts.share_payment:
        add("same-payment", 50, customers=facts.share_payment)
    if facts.ring:
        add("ring", 50, people=facts.ring)
    if facts.settled >= SETTLED_FROM and (percent := 100 * facts.undone // facts.settled) >= UNDONE_FROM:
        add("often-undone", 25, percent=percent, referrals=facts.settled)
    if facts.click_to_order is not None and timedelta() <= facts.click_to_order < FAST:
        add("too-fast", 20, seconds=int(facts.click_to_order.total_seconds()))
    return found
