"""The ledger's promises: what is posted sums to zero, happens once, and stands as the lots say."""

import pytest
import sqlalchemy as sa

from db import ledger as ledger_
from db.ledger import ConflictError, Posted, Refused
from db.tables import holds, ledger_transactions, lots, postings
from tests.ledger_shop import START, ledger


def test_what_is_earned_can_be_spent_and_what_is_pending_not_yet(database_url):
    with ledger(database_url) as desk:
        sam = desk.customer()
        desk.earn(sam, 100)
        desk.earn(sam, 40, pending_days=14, days=60)

        assert desk.standing(sam).spendable == 100
        assert desk.standing(sam).pending == 40
        (refused,) = desk.post(desk.spend(sam, 101))
        assert refused == Refused(reason="101 is wanted and 100 can be spent.", spendable=100)
        desk.do(desk.spend(sam, 60))
        assert desk.standing(sam).balance == 80
        desk.after(days=14)
        assert desk.standing(sam).spendable == 80
        assert desk.standing(sam).expiring == 40


def test_a_batch_does_its_changes_in_order_each_seeing_those_before(database_url):
    with ledger(database_url) as desk:
        sam, kim = desk.customer(), desk.customer()
        outcomes = desk.post(
            desk.spend(sam, 10), desk.credit(sam, 30), desk.spend(sam, 10), desk.credit(kim, 5), desk.spend(sam, 21)
        )

        assert [isinstance(one, Posted) for one in outcomes] == [False, True, True, True, False]
        assert desk.standing(sam).spendable == 20
        assert desk.standing(kim).spendable == 5


def test_the_same_key_happens_once_and_with_other_content_never(database_url):
    with ledger(database_url) as desk:
        sam = desk.customer()
        change = desk.credit(sam, 30, key="order 1", inputs={"total": 30.0, "rule": "per-euro"})
        first = desk.do(change)

        again = desk.post(change, change)
        assert again == [Posted(id=first.id, granted=30, was_there=True)] * 2
        with pytest.raises(ConflictError, match="'order 1'"):
            desk.post(desk.credit(sam, 5), desk.credit(sam, 31, key="order 1"))
        assert desk.standing(sam).balance == 30
        assert desk.rows(sa.select(sa.func.count()).select_from(ledger_transactions)) == [(1,)]


def test_what_is_past_cannot_be_spent_booked_or_not_and_is_booked_once(database_url):
    with ledger(database_url) as desk:
        sam = desk.customer()
        desk.earn(sam, 30, days=10)
        desk.earn(sam, 20, days=20)
        desk.after(days=10)

        assert desk.standing(sam).spendable == 20
        assert isinstance(desk.post(desk.spend(sam, 21))[0], Refused)
        assert (desk.expire(), desk.expire()) == (1, 0)
        assert desk.standing(sam).spendable == 20
        houses = desk.rows(sa.select(postings.c.house, postings.c.amount).where(postings.c.house.is_not(None)))
        assert ("expired", 30) in houses


def test_who_spends_draws_on_what_is_past_first(database_url):
    with ledger(database_url) as desk:
        sam = desk.customer()
        desk.earn(sam, 10)
        desk.earn(sam, 10, days=30)
        desk.earn(sam, 10, days=20)
        desk.do(desk.spend(sam, 15))

        assert desk.rows(sa.select(lots.c.remaining).order_by(lots.c.id)) == [(10,), (5,), (0,)]


def test_a_hold_is_settled_in_part_and_the_rest_goes_back_to_its_lots(database_url):
    with ledger(database_url) as desk:
        sam = desk.customer()
        desk.earn(sam, 10, days=20)
        desk.earn(sam, 20, days=30)
        hold = desk.do(desk.reserve(sam, 25)).id
        assert desk.standing(sam).spendable == 5
        assert desk.standing(sam).held == 25

        desk.do(desk.settle(hold, 12))

        assert desk.rows(sa.select(lots.c.remaining).order_by(lots.c.id)) == [(0,), (18,)]
        assert desk.rows(sa.select(holds.c.state, holds.c.settled)) == [("settled", 12)]
        assert isinstance(desk.post(desk.settle(hold))[0], Refused)
        assert isinstance(desk.post(desk.void(hold))[0], Refused)


def test_a_hold_that_nobody_settled_in_time_is_gone_whoever_looks(database_url):
    with ledger(database_url) as desk:
        sam = desk.customer()
        desk.earn(sam, 30)
        hold = desk.do(desk.reserve(sam, 25, minutes=15)).id
        desk.after(minutes=15)

        assert desk.standing(sam).spendable == 30
        assert desk.standing(sam).held == 0
        assert isinstance(desk.post(desk.settle(hold))[0], Refused)
        desk.do(desk.spend(sam, 30))
        assert desk.rows(sa.select(holds.c.state)) == [("timed_out",)]


def test_holds_time_out_by_the_job_too(database_url):
    with ledger(database_url) as desk:
        sam = desk.customer()
        desk.earn(sam, 30)
        desk.do(desk.reserve(sam, 25, minutes=15))
        desk.after(hours=1)
        with desk.database.writing() as connection:
            assert ledger_.time_out(connection, desk.now) == 1
            assert ledger_.time_out(connection, desk.now) == 0
        assert desk.rows(sa.select(lots.c.remaining)) == [(30,)]


def test_a_cancelled_redemption_goes_back_with_the_expiry_it_had(database_url):
    with ledger(database_url) as desk:
        sam = desk.customer()
        desk.earn(sam, 10, days=20)
        desk.earn(sam, 10)
        bought = desk.do(desk.spend(sam, 15)).id

        desk.do(desk.give_back(bought, 7))
        assert desk.rows(sa.select(lots.c.remaining).order_by(lots.c.id)) == [(2,), (10,)]
        (refused,) = desk.post(desk.give_back(bought, 9))
        assert isinstance(refused, Refused)
        desk.do(desk.give_back(bought))
        desk.after(days=20)
        assert desk.standing(sam).spendable == 10


def test_what_was_settled_can_be_returned_too(database_url):
    with ledger(database_url) as desk:
        sam = desk.customer()
        desk.earn(sam, 30)
        hold = desk.do(desk.reserve(sam, 25)).id
        desk.do(desk.settle(hold, 20))

        assert isinstance(desk.post(desk.give_back(hold, 21))[0], Refused)
        desk.do(desk.give_back(hold))
        assert desk.standing(sam).spendable == 30


@pytest.mark.parametrize(
    ("policy", "granted", "balance", "debt"),
    [("only_pending", 0, 35, 0), ("within_balance", 35, 0, 0), ("unlimited", 50, 0, -15)],
)
def test_a_clawback_takes_its_own_lot_first_and_then_as_the_policy_says(database_url, policy, granted, balance, debt):
    with ledger(database_url) as desk:
        sam = desk.customer()
        desk.earn(sam, 50, subject="order/1")
        desk.do(desk.spend(sam, 40))
        desk.earn(sam, 25)

        taken = desk.do(desk.claw_back(sam, 50, subject="order/1", policy=policy))

        assert taken.granted == granted
        assert (desk.standing(sam).balance, desk.standing(sam).debt) == (balance, debt)


def test_debt_is_paid_by_what_comes_next(database_url):
    with ledger(database_url) as desk:
        sam = desk.customer()
        desk.earn(sam, 50, subject="order/1")
        bought = desk.do(desk.spend(sam, 50)).id
        desk.do(desk.claw_back(sam, 50, subject="order/1", policy="unlimited"))
        desk.earn(sam, 20)
        assert (desk.standing(sam).balance, desk.standing(sam).debt) == (0, -30)
        desk.do(desk.give_back(bought, 40))

        assert (desk.standing(sam).balance, desk.standing(sam).debt) == (10, 0)


def test_a_hold_that_timed_out_pays_the_debt_before_what_is_earned_later_does(database_url):
    with ledger(database_url) as desk:
        sam = desk.customer()
        desk.earn(sam, 20, days=1)
        desk.do(desk.reserve(sam, 20, minutes=15))
        desk.do(desk.claw_back(sam, 20, policy="unlimited"))
        desk.after(days=2)
        desk.earn(sam, 10)

        assert (desk.standing(sam).balance, desk.standing(sam).debt) == (10, 0)


def test_what_hangs_on_an_order_is_found(database_url):
    with ledger(database_url) as desk:
        sam = desk.customer()
        desk.earn(sam, 50, subject="order/1", inputs={"total": 50}, progress=50)
        desk.do(desk.claw_back(sam, 20, subject="order/1", progress=-20))
        with desk.database.reading() as connection:
            found = ledger_.of_subject(connection, ["order/1", "order/2"])

        assert [(one.kind, one.granted, one.progress) for one in found["order/1"]] == [
            ("earn", 50, 50),
            ("clawback", 20, -20),
        ]
        assert found["order/1"][0].inputs == {"total": 50}
        assert found["order/2"] == []


def test_a_transfer_keeps_the_times_of_lots_and_can_be_taken_back(database_url):
    with ledger(database_url) as desk:
        kept, merged = desk.customer(), desk.customer()
        desk.earn(kept, 5)
        desk.earn(merged, 50, days=20, subject="order/1")
        desk.do(desk.reserve(merged, 10))
        with desk.database.writing() as connection:
            made = ledger_.transfer(connection, kept, merged, desk.now)
            assert ledger_.transfer(connection, kept, merged, desk.now) == []

        assert desk.standing(merged).balance == 0
        assert (desk.standing(kept).balance, desk.standing(kept).expiring) == (55, 50)
        desk.do(desk.claw_back(kept, 8, subject="order/1"))
        desk.do(desk.spend(kept, 12))
        with desk.database.writing() as connection:
            ledger_.transfer_back(connection, made, desk.now)
        assert desk.standing(kept).balance == 5
        assert desk.standing(merged).balance == 30
        desk.now = START
        desk.after(days=20)
        assert desk.standing(merged).balance == 0
