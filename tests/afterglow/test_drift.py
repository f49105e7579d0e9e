"""A path that used to be filled and is not any more."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.drift import LATEST, SEEN_MAX, Filling, is_filled, told, watched
from afterglow.language.source import read_source
from tests.driver import shop_files


def after(*filled: tuple[bool, int]) -> Filling:
    """So many events in a row, each filled or not."""
    events = [one for one, times in filled for _ in range(times)]
    return reduce(Filling.after, events, Filling())


@pytest.mark.parametrize(
    ("events", "drifted"),
    [
        ([(True, 100), (False, 46)], True),
        ([(True, 100), (False, 45)], False),  # five of the latest 50 are filled: 10 %
        ([(True, 99), (False, 50)], True),
        ([(True, 49), (False, 50)], False),  # too few before
        ([(True, 80), (False, 21), (True, 50), (False, 50)], False),  # it was filled in 83 % only
        ([(False, 300)], False),
        ([(True, 300)], False),
        ([(True, 2000), (False, 2000)], True),  # it does not become usual while it lasts
    ],
)
def test_what_has_drifted(events, drifted):
    assert after(*events).has_drifted == drifted


def test_a_drift_is_over_when_half_of_the_latest_are_filled_again():
    assert not after((True, 2000), (False, 200), (True, 24)).is_well
    assert after((True, 2000), (False, 200), (True, 25)).is_well


def test_a_second_drift_after_a_recovery_is_seen_too():
    assert after((True, 2000), (False, 100), (True, 300), (False, 50)).has_drifted


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 600)), max_size=12))
def test_what_is_remembered_stays_within_its_bounds(events):
    filling = after(*events)

    assert 0 <= filling.present <= filling.seen < SEEN_MAX
    assert filling.latest < 1 << LATEST
    assert 0 <= filling.now <= 1
    assert not (filling.has_drifted and filling.is_well)


@pytest.mark.parametrize(
    ("path", "filled"),
    [
        ("order.total", True),
        ("order.note", False),
        ("order.none", False),
        ("order.empty", False),
        ("order.free", True),
        ("order.items", True),
        ("order.items[].title", True),
        ("order.items[].sku", False),
        ("order.gone[].sku", None),
        ("order.bare[].sku", None),
        ("order.bare", False),
        ("refund.amount", False),
        ("order.total.deeper", False),
    ],
)
def test_where_a_payload_holds_something(path, filled):
    items = [{"title": None}, {"title": "Beans"}]
    order = {"total": 40, "note": None, "empty": "", "free": 0, "items": items, "bare": []}

    assert is_filled({"order": order}, path) is filled


def test_the_paths_of_a_shipped_source_are_watched_and_the_customers_facts_too():
    source = read_source(shop_files()["flows/sources/shopify.yaml"], "shopify.yaml")

    paths = watched(source)["order.paid"]

    assert {"order.total", "customer.email"} <= paths


def test_a_drift_is_told_with_its_figures_and_what_to_do():
    assert told("shopify", "order.paid", "customer.email", 0.984, 0.02) == (
        "Shopify's order.paid no longer brings customer.email: it was filled in 98 % of the events, and is in 2 % of "
        "the latest 50. Compare a webhook of today with flows/sources/shopify.yaml: the provider may have renamed the "
        "field, or the app may have lost the right to read it."
    )
