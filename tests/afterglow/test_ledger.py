"""The ledger's arithmetic: what can be built, what is drawn on first, and a book against a naive one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.ledger import chain
from afterglow.ledger.book import Book, Moved, Policy, ShortError, merge
from afterglow.ledger.entries import House, Posting, Role, Transaction
from afterglow.ledger.lots import Lot, draw, give_back, order
from tests.examples import examples

NOW = datetime(2026, 3, 2, tzinfo=UTC)
amounts = st.integers(1, 60)
days = st.none() | st.integers(-5, 20)


def lot(id_: int, amount: int, *, pending: int = 0, days: int | None = None, subject: str | None = None) -> Lot:
    return Lot(
        id=id_,
        origin_id=id_,
        subject=subject,
        amount=amount,
        remaining=amount,
        earned_at=NOW,
        activates_at=NOW + timedelta(days=pending),
        expires_at=None if days is None else NOW + timedelta(days=days),
    )


lots = st.lists(
    st.tuples(amounts, st.sampled_from([0, 0, 7]), days, st.sampled_from([None, "o1", "o2"])), max_size=6
).map(lambda some: [lot(n, a, pending=p, days=d, subject=s) for n, (a, p, d, s) in enumerate(some, 1)])


def book(some: list[Lot], customer: int = 1, debt: int = 0) -> Book:
    return Book(customer, wallet=sum(one.remaining for one in some), debt=debt, lots={one.id: one for one in some})


def adds_up(mine: Book, *moved: Moved) -> None:
    """What must hold after anything: the wallet is its lots, nothing is on the wrong side, debt only beside nothing."""
    assert mine.wallet == sum(one.remaining for one in mine.lots.values())
    assert all(0 <= one.remaining <= one.amount for one in mine.lots.values())
    assert mine.debt <= 0 <= mine.held
    for one in moved:
        if one.transaction:
            assert sum(posting.amount for posting in one.transaction.postings) == 0


@given(st.lists(st.integers(-5, 5), max_size=5))
def test_no_transaction_can_be_built_that_does_not_sum_to_zero(some):
    postings = tuple(Posting(None, House.ISSUED, amount) for amount in some)
    if len(some) < 2 or 0 in some or sum(some) != 0:
        with pytest.raises(ValueError, match="posting"):
            Transaction(postings)
    else:
        Transaction(postings)


def test_a_posting_names_a_customer_or_the_house_and_moves_no_more_than_a_column_holds():
    for wrong in (Posting(1, House.ISSUED, 5), Posting(None, Role.WALLET, 5), Posting(1, Role.WALLET, 10**16)):
        with pytest.raises(ValueError, match=r"issued|wallet"):
            Transaction((wrong, Posting(1, Role.WALLET, -wrong.amount)))


@given(lots, st.integers(0, 400))
def test_what_is_drawn_comes_from_the_lots_in_their_order_and_goes_back_the_other_way(some, amount):
    some = sorted(some, key=order)
    there = sum(one.remaining for one in some)
    drawn = draw(some, amount)

    assert sum(drawn.values()) == min(amount, there)
    full = [one.remaining == 0 for one in some]
    assert full == sorted(full, reverse=True), "only the last one drawn on has something left"
    give_back({one.id: one for one in some}, drawn, sum(drawn.values()))
    assert all(one.remaining == one.amount for one in some)


@given(lots, amounts)
def test_nobody_spends_what_is_pending_or_past(some, amount):
    mine = book(some)
    spendable = sum(one.amount for one in some if one.activates_at <= NOW and (one.expires_at is None or one.expires_at > NOW))  # fmt: skip  # noqa: E501
    if amount > spendable:
        with pytest.raises(ShortError):
            mine.spend(amount, NOW)
        assert all(one.remaining == one.amount for one in some)
    else:
        adds_up(mine, mine.spend(amount, NOW))
        assert mine.standing(NOW).spendable == spendable - amount


@given(lots, amounts, st.sampled_from(Policy))
def test_a_clawback_never_touches_what_is_past_and_owes_only_when_nothing_is_left(some, amount, policy):
    mine = book(some)
    before = mine.standing(NOW)
    past = {one.id: one.remaining for one in some if one.is_past(NOW)}
    moved = mine.claw_back(amount, "o1", policy, NOW)

    adds_up(mine, moved)
    assert all(mine.lots[id_].remaining == left for id_, left in past.items())
    expected = {Policy.WITHIN_BALANCE: min(amount, before.balance), Policy.UNLIMITED: amount}
    pending = sum(one.amount for one in some if one.is_pending(NOW) and one.subject == "o1")
    assert moved.granted == expected.get(policy, min(amount, pending))
    if mine.debt:
        assert mine.standing(NOW).balance == 0
        assert policy == Policy.UNLIMITED


@given(amounts, amounts)
def test_debt_is_paid_before_anything_is_kept(owed, amount):
    mine = book([], debt=-owed)
    moved = mine.credit(lot(1, amount))

    adds_up(mine, moved)
    assert mine.debt == min(0, amount - owed)
    assert mine.wallet == max(0, amount - owed)
    assert moved.granted == amount


@given(lots, amounts, st.integers(0, 60), st.integers(0, 60))
def test_what_is_held_is_spent_or_goes_back_to_where_it_was(some, amount, part, owed):
    mine = book(some)
    before = {one.id: one.remaining for one in some}
    try:
        held = mine.spend(amount, NOW, Role.HELD)
    except ShortError:
        return
    mine.debt = -owed
    settled = mine.settle(held.allocations, amount, min(part, amount))

    adds_up(mine, held, settled)
    assert mine.held == 0
    assert mine.debt == min(0, amount - min(part, amount) - owed)
    if part == owed == 0:
        assert {id_: one.remaining for id_, one in mine.lots.items()} == before


@given(lots, lots, st.integers(0, 100), st.integers(0, 100))
def test_a_merge_loses_nothing_and_pays_the_debt_of_both(mine, theirs, owed, owed_too):
    theirs = [Lot(**{name: getattr(one, name) for name in Lot.__dataclass_fields__} | {"id": one.id + 100}) for one in theirs]  # fmt: skip  # noqa: E501
    kept, merged = book(mine, 1, -owed), book(theirs, 2, -owed_too)
    worth = kept.wallet + merged.wallet + kept.debt + merged.debt
    moved, pairs = merge(kept, merged, NOW, range(200, 200 + len(theirs)))

    adds_up(kept, moved)
    adds_up(merged)
    assert kept.wallet + kept.debt == worth
    assert (merged.wallet, merged.debt) == (0, 0)
    assert kept.debt == 0 or kept.standing(NOW).balance == 0
    assert set(pairs) == {one.id for one in theirs}


@settings(max_examples=examples(50))
@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(), lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(), one, max_size=3)))  # fmt: skip  # noqa: E501
def test_the_digest_of_a_value_does_not_change_by_being_stored(value: Any):
    import orjson

    stored = orjson.loads(orjson.dumps(value))
    assert chain.digest(chain.plain(stored)) == chain.digest(chain.plain(value))


def test_the_digest_knows_instants_by_when_they_are_not_by_where():
    paris = datetime.fromisoformat("2026-03-02T01:00:00+01:00")
    assert chain.digest([paris]) == chain.digest([NOW])
    assert chain.digest([2.0, {"a": 1, "b": 2}]) != chain.digest([2.5, {"a": 1, "b": 2}])
    with pytest.raises(TypeError, match="set"):
        chain.digest({1, 2})
