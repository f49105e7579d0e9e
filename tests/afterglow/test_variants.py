"""Variants of rewards: who offers which, and when it is said that one brings more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow import dividing
from afterglow.referring.rewarding import Side, Tally, grants
from afterglow.referring.variants import Sample, compare, difference
from tests.afterglow.test_referring import problems, programme
from tests.examples import examples

TWO = """\
  variants:
    - {variant: ten-ten, weight: 3, referrer: {coupon: ten}, referee: {coupon: ten}}
    - {variant: fifteen-five, referrer: {coupon: fifteen}, referee: {coupon: five}}
"""
BARE = {"  referrer: {programme: beans, points: 500}\n  referee: {coupon: welcome-10}\n": TWO}
TRIED = programme(**BARE)


def test_a_referrer_offers_the_same_variant_for_ever_and_weights_hold_over_many():
    offered = [TRIED.variant_of(customer) for customer in range(4_000)]

    assert offered == [TRIED.variant_of(customer) for customer in range(4_000)]
    assert 0.72 < offered.count("ten-ten") / 4_000 < 0.78
    assert programme().variant_of(7) is None


@given(st.floats(0, 1, exclude_max=True), st.lists(st.integers(1, 1_000), min_size=1, max_size=5))
@settings(max_examples=examples(100))
def test_every_share_has_a_way_and_no_way_is_passed_over(share: float, weights: list[int]):
    way = dividing.way(share, weights)

    assert sum(weights[:way]) <= share * sum(weights) * (1 + 1e-9)
    assert share * sum(weights) <= sum(weights[: way + 1]) * (1 + 1e-9)


def test_both_sides_get_what_the_referrers_variant_says():
    nothing = Tally(rewarded=0, generations={})
    for variant, given_ in (("ten-ten", ("ten", "ten")), ("fifteen-five", ("fifteen", "five"))):
        made = grants(TRIED, referrer=7, referee=9, tally=nothing, variant=variant)
        assert [one.side for one in made] == [Side.REFERRER, Side.REFEREE]
        assert tuple(one.gives.coupon for one in made) == given_


@pytest.mark.parametrize(
    ("variants", "sentence"),
    [
        ("    - {variant: one, referrer: {coupon: x}}\n", "One variant is nothing to choose from"),
        (2 * "    - {variant: one, referrer: {coupon: x}}\n", "Two variants have the same name."),
        ("    - {variant: one}\n    - {variant: two}\n", "Nobody gets anything"),
        ("    - {variant: one, referrer: {coupon: x, points: 5}}\n    - {variant: two}\n", "A reward is one thing"),
    ],
)
def test_variants_that_make_no_sense_are_refused(variants: str, sentence: str):
    text = programme(**BARE).document.text.replace(TWO, f"  variants:\n{variants}")

    assert any(sentence in problem for problem in problems(text))


def test_variants_and_rewards_for_all_exclude_each_other():
    text = programme().document.text.replace("  referee:", f"{TWO}  referee:")

    assert any("Variants stand instead of 'referrer' and 'referee'" in problem for problem in problems(text))


def test_nothing_is_said_before_there_is_enough():
    assert compare(Sample(referrers=1_000, successful=4), Sample(referrers=1_000, successful=400)) == "too few to tell"
    assert compare(Sample(referrers=9, successful=5), Sample(referrers=1_000, successful=400)) == "too few to tell"
    assert compare(Sample(referrers=0, successful=0), Sample(referrers=0, successful=0)) == "too few to tell"


def test_what_is_said_follows_the_interval():
    first = Sample(referrers=1_000, successful=100)

    assert compare(first, Sample(referrers=1_000, successful=160)).startswith("brings more: ")
    assert compare(first, Sample(referrers=1_000, successful=60)).startswith("brings less: ")
    assert compare(first, Sample(referrers=1_000, successful=110)).startswith("no difference seen: ")


def test_the_interval_is_that_of_the_paper():
    # Newcombe 1998, table II: 56 of 70 beside 48 of 80 is 0.0524 to 0.3339 by method 10.
    low, high = difference(Sample(referrers=80, successful=48), Sample(referrers=70, successful=56))

    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


@given(st.integers(1, 500), st.integers(1, 500), st.data())
@settings(max_examples=examples(100))
def test_an_interval_holds_what_was_seen_and_turns_round_with_the_two(n: int, m: int, data: st.DataObject):
    one = Sample(referrers=n, successful=data.draw(st.integers(0, n)))
    other = Sample(referrers=m, successful=data.draw(st.integers(0, m)))
    low, high = difference(one, other)

    seen = other.successful / m - one.successful / n
    assert low - 1e-9 <= seen <= high + 1e-9
    assert difference(other, one) == pytest.approx((-high, -low))
