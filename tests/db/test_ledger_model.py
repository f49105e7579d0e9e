"""The ledger against a naive one that keeps every single point, under a clock that jumps, on both databases.

AFTERGLOW_FAULTS=long tries 2,000 lives instead of a few.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from db import proof
from db.ledger import Change, Posted, Refused
from tests.examples import LONG
from tests.ledger_shop import LedgerDesk, ledger


@dataclass(eq=False)
class Point:
    """One point of one lot, and where it is: wallet, held 7, spent 7, or gone."""

    n: int
    lot: int
    subject: str
    earned_at: datetime
    activates_at: datetime
    expires_at: datetime | None
    where: str = "wallet"

    def is_past(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at


@dataclass
class Naive:
    """The ledger as a list of points."""

    points: list[Point] = field(default_factory=list)
    debt: int = 0
    #: When what is held goes back.
    until: dict[str, datetime] = field(default_factory=dict)
    #: By redemption: how much of it was spent, and not returned.
    spent: dict[int, int] = field(default_factory=dict)

    def ordered(self, where: str) -> list[Point]:
        """The points that are there, in the order in which they are drawn on."""
        never = datetime.max.replace(tzinfo=None)
        return sorted(
            (point for point in self.points if point.where == where),
            key=lambda p: ((p.expires_at.replace(tzinfo=None) if p.expires_at else never), p.earned_at, p.lot, p.n),
        )

    def spendable(self, now: datetime) -> list[Point]:
        return [point for point in self.ordered("wallet") if point.activates_at <= now and not point.is_past(now)]

    def pending(self, now: datetime) -> list[Point]:
        return [point for point in self.ordered("wallet") if point.activates_at > now and not point.is_past(now)]

    def pay(self, amount: int) -> int:
        """Pay the debt; what is left of the amount."""
        paid = min(amount, self.debt)
        self.debt -= paid
        return amount - paid

    def back(self, where: str, amount: int) -> None:
        """Return points, those drawn last first."""
        for point in self.ordered(where)[::-1][:amount]:
            point.where = "wallet"

    def time_out(self, now: datetime) -> None:
        for where, until in sorted(self.until.items(), key=lambda item: int(item[0].split()[1])):
            if until <= now:
                self.settle(where, 0)

    def settle(self, where: str, amount: int) -> None:
        held = len(self.ordered(where))
        self.back(where, self.pay(held - amount))
        for point in self.ordered(where):
            point.where = where.replace("held", "spent")
        del self.until[where]
        if amount:
            self.spent[int(where.split()[1])] = amount


class Life(RuleBasedStateMachine):
    """A customer's life. `desk` is set by the test; each life is a new customer's."""

    desk: LedgerDesk

    @initialize()
    def begin(self) -> None:
        self.customer = self.desk.customer()
        self.naive = Naive()
        self.lots = 0
        self.said: list[tuple[Change, Posted]] = []
        self.posted_in_all = 0

    def do(self, change: Change) -> Posted | Refused:
        self.naive.time_out(self.desk.now)
        (outcome,) = self.desk.post(change)
        if isinstance(outcome, Posted):
            self.said.append((change, outcome))
        return outcome

    @rule(amount=st.integers(1, 9), pending=st.sampled_from([0, 0, 3]), days=st.sampled_from([None, 1, 2, 4]), subject=st.sampled_from("ab"))  # fmt: skip  # noqa: E501
    def earn(self, amount: int, pending: int, days: int | None, subject: str) -> None:
        change = self.desk.credit(self.customer, amount, pending_days=pending, days=days, subject=subject)
        assert isinstance(self.do(change), Posted)
        self.lots += 1
        for n in range(self.naive.pay(amount)):
            self.naive.points.append(
                Point(n, self.lots, subject, change.event_at, change.activates_at, change.expires_at)
            )

    @rule(amount=st.integers(1, 12))
    def spend(self, amount: int) -> None:
        outcome = self.do(self.desk.spend(self.customer, amount))
        self.took(outcome, amount, "spent")
        if isinstance(outcome, Posted):
            self.naive.spent[outcome.id] = amount

    @rule(amount=st.integers(1, 12), minutes=st.sampled_from([15, 60 * 24 * 4]))
    def reserve(self, amount: int, minutes: int) -> None:
        outcome = self.do(self.desk.reserve(self.customer, amount, minutes=minutes))
        self.took(outcome, amount, "held")
        if isinstance(outcome, Posted):
            self.naive.until[f"held {outcome.id}"] = self.desk.now + timedelta(minutes=minutes)

    def took(self, outcome: Any, amount: int, where: str) -> None:
        spendable = self.naive.spendable(self.desk.now)
        assert isinstance(outcome, Posted) == (amount <= len(spendable))
        if isinstance(outcome, Posted):
            for point in spendable[:amount]:
                point.where = f"{where} {outcome.id}"

    @precondition(lambda self: self.naive.until)
    @rule(data=st.data(), part=st.integers(0, 12))
    def settle(self, data: st.DataObject, part: int) -> None:
        where = data.draw(st.sampled_from(sorted(self.naive.until)))
        hold = int(where.split()[1])
        outcome = self.do(self.desk.settle(hold, part) if part else self.desk.void(hold))
        is_held = where in self.naive.until and part <= len(self.naive.ordered(where))
        assert isinstance(outcome, Posted) == is_held
        if is_held:
            self.naive.settle(where, part)

    @precondition(lambda self: self.naive.spent)
    @rule(data=st.data(), amount=st.integers(1, 9))
    def give_back(self, data: st.DataObject, amount: int) -> None:
        redemption = data.draw(st.sampled_from(sorted(self.naive.spent)))
        outcome = self.do(self.desk.give_back(redemption, amount))
        assert isinstance(outcome, Posted) == (amount <= self.naive.spent[redemption])
        if isinstance(outcome, Posted):
            self.naive.spent[redemption] -= amount
            self.naive.back(f"spent {redemption}", self.naive.pay(amount))

    @rule(amount=st.integers(1, 12), subject=st.sampled_from("ab"), policy=st.sampled_from(["only_pending", "within_balance", "unlimited"]))  # fmt: skip  # noqa: E501
    def claw_back(self, amount: int, subject: str, policy: str) -> None:
        outcome = self.do(self.desk.claw_back(self.customer, amount, subject=subject, policy=policy))
        pending, active = self.naive.pending(self.desk.now), self.naive.spendable(self.desk.now)
        own = [p for p in pending if p.subject == subject]
        if policy != "only_pending":
            own += [p for p in active if p.subject == subject]
            own += [p for p in active + pending if p.subject != subject]
        for point in own[:amount]:
            point.where = "gone"
        short = amount - len(own[:amount])
        if policy == "unlimited":
            self.naive.debt += short
            short = 0
        assert isinstance(outcome, Posted)
        assert outcome.granted == amount - short

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def say_again(self, data: st.DataObject) -> None:
        change, first = data.draw(st.sampled_from(self.said))
        assert self.desk.post(change) == [Posted(id=first.id, granted=first.granted, was_there=True)]

    @rule(hours=st.sampled_from([1, 24, 48]))
    def time_goes_by(self, hours: int) -> None:
        self.desk.after(hours=hours)

    @rule()
    def book_what_is_past(self) -> None:
        self.desk.expire()

    @invariant()
    def both_say_the_same(self) -> None:
        if not hasattr(self, "naive"):
            return
        now = self.desk.now
        self.naive.time_out(now)
        found = self.desk.standing(self.customer)
        expected = (
            len(self.naive.spendable(now)),
            len(self.naive.pending(now)),
            sum(len(self.naive.ordered(where)) for where in self.naive.until),
            -self.naive.debt,
        )
        assert (found.spendable, found.pending, found.held, found.debt) == expected

    def teardown(self) -> None:
        if not LONG:  # it reads the lives of before, too
            assert_proven(self.desk)


def assert_proven(desk: LedgerDesk) -> None:
    with desk.database.reading() as connection:
        assert proof.verify(connection).differences == []


@pytest.mark.long
def test_a_life_in_the_ledger_is_that_of_its_single_points(database_url):
    with ledger(database_url) as desk:
        life = type("LifeHere", (Life,), {"desk": desk})
        run_state_machine_as_test(
            life,
            settings=settings(
                max_examples=2000 if LONG else 40,
                stateful_step_count=30,
                suppress_health_check=list(HealthCheck),
                deadline=None,
            ),
        )
        assert_proven(desk)
