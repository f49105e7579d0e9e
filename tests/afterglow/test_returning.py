"""When nothing is left of an order, whatever came in which order."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.returning import CANCELLED, REFUNDED, UNWOUND, Undoing, total_of, undone_at
from tests.examples import examples

AT = datetime(2026, 3, 2, tzinfo=UTC)


def back(hours: float, amount: object = None, name: str = REFUNDED, **more: object) -> Undoing:
    refund = {} if amount is None else {"amount": amount}
    return Undoing(
        name=name, at=AT + timedelta(hours=hours), payload={"order": {"id": "1"}, "refund": {**refund, **more}}
    )


def test_refunds_that_reach_the_total_undo_the_whole_when_the_last_of_them_happened():
    parts = [back(1, 10.1), back(3, 20), back(2, 9.9)]
    assert undone_at(Decimal(40), parts) == AT + timedelta(hours=3)
    assert undone_at(Decimal("40.01"), parts) is None
    assert undone_at(None, parts) is None, "nobody said what the order was for"
    assert undone_at(Decimal(0), [back(1, 0)]) is None, "no money went back"


def test_what_says_no_amount_and_what_ends_an_order_undo_the_whole():
    for one in (back(1), back(1, 5, full=True), back(1, 5, CANCELLED), back(1, 5, UNWOUND)):
        assert undone_at(None, [back(0, 1), one]) == AT + timedelta(hours=1)
    assert undone_at(None, [back(0, -1)]) is None


@given(
    st.integers(1, 5000),
    st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 3000))), max_size=6),
    st.data(),
)
@settings(max_examples=examples(100))
def test_the_order_in_which_it_is_told_does_not_matter(total, told, data):
    undoing = [back(hours, None if cents is None else cents / 100) for hours, cents in told]
    shuffled = data.draw(st.permutations(undoing))
    assert undone_at(Decimal(total) / 100, undoing) == undone_at(Decimal(total) / 100, shuffled)


def test_the_total_is_what_the_order_says():
    assert total_of({"order": {"id": "1", "total": 19.99}}) == Decimal("19.99")
    assert total_of({"order": {"id": "1", "total": "much"}}) is None
    assert total_of({}) is None
