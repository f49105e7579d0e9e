"""The pure decisions of loyalty programmes: earning, expiry, tiers, refunds."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.durations import Duration
from afterglow.language.programme import POINTS_MAX, Expiry, Hold, Level, Tiers, read_loyalty
from afterglow.loyalty.earning import Happening, SoFar, Terms, earn, read_terms, rounded
from afterglow.loyalty.expiring import activates_at, expires_at, prolonged
from afterglow.loyalty.periods import period
from afterglow.loyalty.refunding import kept_points, kept_progress, to_take_back
from afterglow.loyalty.tiers import Standing, level_of, outlook, progress_at, review
from tests.examples import examples

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2026, 3, 10, 11, tzinfo=UTC)

moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 12, 31), timezones=st.just(UTC))
amounts = st.decimals("0.01", "100000", places=2)
multipliers = st.sampled_from(["1", "1.2", "1.5", "2", "3.33"]).map(Decimal)
terms = st.builds(
    Terms,
    points=st.integers(1, 50),
    per=st.one_of(st.none(), st.sampled_from(["1", "0.5", "10", "3"]).map(Decimal)),
    rounding=st.sampled_from(["down", "nearest", "up"]),
    by=multipliers,
    amount=amounts,
    whole=amounts,
)


def programme(earn: str, rest: str = "") -> Any:
    return read_loyalty(f"programme: p\nkind: loyalty\nabout: a\nearn:\n  - {earn}\n{rest}", "p.yaml")


def happening(at: datetime = NOON, tier: str | None = None, event: str = "order.paid", **order: Any) -> Happening:
    names = {"order": order, "customer": {"stage": "advocacy"}}
    return Happening(event=event, occurred_at=at, names=names, tier=tier)


def granted(made: Any, *happenings: Happening, so_far: SoFar | None = None) -> list[int]:
    """What each happening is granted by all rules together, one after the other."""
    so_far = so_far or SoFar()
    return [sum(one.granted for one in earn(made, each, so_far, PARIS, "EUR")) for each in happenings]


PER_EURO = "{id: r, on: order.paid, points: 1, per: 1, amount: order.total%s}"


# Earning


@pytest.mark.parametrize(
    ("rounding", "total", "points"),
    [("down", "9.99", 9), ("nearest", "9.50", 10), ("nearest", "9.49", 9), ("up", "9.01", 10), ("up", "9.00", 9)],
)
def test_points_are_rounded_as_the_rule_says(rounding, total, points):
    made = programme(PER_EURO % f", round: {rounding}")
    assert granted(made, happening(total=Decimal(total))) == [points]


@given(items=st.lists(st.tuples(amounts, st.integers(1, 5)), max_size=6), by=multipliers)
@settings(max_examples=examples(60))
def test_an_order_is_rounded_once_whatever_its_items(items, by):
    rule = f"{{id: r, on: order.paid, points: 1, per: 3, items: item.beans, times: [{{by: {by}, tier: gold}}]}}"
    made = programme(rule.replace(", times: [{by: 1, tier: gold}]", ""), _TIERS)
    listed = [{"beans": True, "price": price, "quantity": n} for price, n in items]
    listed.append({"beans": False, "price": Decimal(999), "quantity": 9})

    total = sum(Fraction(price) * n for price, n in items)

    assert granted(made, happening(tier="gold", items=listed)) == [int(total * Fraction(by) / 3)]


_TIERS = "tiers: {over: lifetime, levels: [{tier: bronze, from: 0}, {tier: gold, from: 10}]}\n"


def test_the_largest_multiplier_that_applies_counts():
    times = (
        ", times: [{tier: gold, by: 1.5}, {from: 2026-03-10, until: 2026-03-11, by: 2}, "
        "{when: customer.stage == 'advocacy', by: 1.2}]"
    )
    made = programme(PER_EURO % times, _TIERS)
    midnight = datetime(2026, 3, 10, 23, tzinfo=UTC)  # 11 March in Paris: the double day is over

    assert granted(
        made,
        happening(total=Decimal(100), tier="gold"),
        happening(total=Decimal(100), tier="gold", at=midnight - timedelta(seconds=1)),
        happening(total=Decimal(100), tier="gold", at=midnight),
        happening(total=Decimal(100), tier="bronze", at=midnight),
    ) == [200, 200, 150, 120]


def test_a_limit_cuts_what_is_granted_and_what_was_desired_is_known():
    made = programme(PER_EURO % ", at_most: {points: 100, per: month}")
    so_far = SoFar()
    first, second = (earn(made, happening(total=Decimal(70)), so_far, PARIS, "EUR")[0] for _ in range(2))

    assert (first.desired, first.granted, second.desired, second.granted) == (70, 70, 70, 30)
    april = datetime(2026, 3, 31, 22, tzinfo=UTC)
    assert granted(made, happening(total=Decimal(70), at=april), so_far=so_far) == [70]
    assert granted(made, happening(total=Decimal(70), at=april - timedelta(seconds=1)), so_far=so_far) == [0]


@given(totals=st.lists(amounts, max_size=12), limit=st.integers(1, 500))
@settings(max_examples=examples(60))
def test_no_order_of_events_goes_over_a_limit(totals, limit):
    made = programme(PER_EURO % f", at_most: {{points: {limit}, per: year}}")
    given_ = granted(made, *(happening(total=total) for total in totals))
    assert sum(given_) == min(limit, sum(int(total) for total in totals))


def test_only_the_first_time_earns_and_again_after_it_was_taken_back():
    made = programme("{id: r, on: review.written, points: 50, first_time: true}")
    review_ = happening(event="review.written")
    so_far = SoFar()
    assert granted(made, review_, review_, so_far=so_far) == [50, 0]
    so_far.entries.append(("r", NOON, -50))
    assert granted(made, review_, so_far=so_far) == [50]


@pytest.mark.parametrize("order", [{}, {"total": "12"}, {"total": 0}, {"total": -5}, {"total": 12, "currency": "USD"}])
def test_what_is_no_amount_of_our_money_earns_nothing(order):
    assert granted(programme(PER_EURO % ""), happening(**order)) == [0]


@given(one=terms)
@settings(max_examples=examples(60))
def test_terms_come_back_from_the_ledger_as_they_were(one):
    assert read_terms(one.inputs()) == one


@given(value=st.fractions(0, 10**6))
@settings(max_examples=examples(60))
def test_rounding_is_never_off_by_a_whole_point(value):
    down, nearest, up = (rounded(value, mode) for mode in ("down", "nearest", "up"))  # type: ignore[arg-type]
    assert down <= nearest <= up <= down + 1
    assert abs(nearest - value) <= Fraction(1, 2)
    assert rounded(Fraction(10**30), "up") == POINTS_MAX


# Refunds


@given(one=terms, parts=st.lists(amounts, max_size=6), data=st.data())
@settings(max_examples=examples(100))
def test_any_parts_in_any_order_end_alike_and_never_take_more_than_was_given(one, parts, data):
    given_ = data.draw(st.integers(0, one.worth()))

    def taken(refunds: list[Decimal]) -> int:
        total, so_far = Decimal(0), 0
        for refund in refunds:
            total += refund
            so_far += to_take_back(kept_points(one, given_, total), given_, so_far)
        return so_far

    assert taken(parts) == taken(data.draw(st.permutations(parts))) == taken([sum(parts, Decimal(0))])
    assert 0 <= taken(parts) <= given_
    if sum(parts, Decimal(0)) >= (one.whole or 0):
        assert taken(parts) == given_


def test_a_refund_goes_by_the_share_of_the_whole_order():
    half = Terms(
        points=2, per=Decimal(1), rounding="down", by=Decimal(1), amount=Decimal("15.00"), whole=Decimal("30.00")
    )
    assert kept_points(half, 30, Decimal("10.00")) == 20
    assert kept_points(half, 10, Decimal("10.00")) == 10  # a limit cut it: what is left is still worth more
    assert kept_progress(half, 3000, Decimal("10.00")) == 2000
    assert kept_points(half, 30, Decimal(0)) == 30


def test_points_that_depend_on_no_amount_go_with_the_last_part():
    fixed = Terms(points=50, per=None, rounding="down", by=Decimal(1), amount=None, whole=Decimal(30))
    assert [kept_points(fixed, 50, Decimal(part)) for part in ("29.99", "30", "40")] == [50, 0, 0]


# Expiry


@pytest.mark.parametrize(
    ("expiry", "earned", "expected"),
    [
        (Expiry(after=Duration(months=1), end_of=None, inactive=None), (2026, 1, 31, 11), (2026, 2, 28, 11)),
        (Expiry(after=Duration(months=12), end_of="month", inactive=None), (2026, 3, 10, 11), (2027, 3, 31, 22)),
        (Expiry(after=Duration(months=12), end_of="quarter", inactive=None), (2026, 2, 10, 11), (2027, 3, 31, 22)),
        (Expiry(after=Duration(months=12), end_of="year", inactive=None), (2026, 3, 10, 11), (2027, 12, 31, 23)),
        (Expiry(after=None, end_of=None, inactive=Duration(months=6)), (2026, 8, 31, 10), (2027, 2, 28, 11)),
    ],
)
def test_points_expire_on_the_calendar_of_the_shop(expiry, earned, expected):
    assert expires_at(expiry, datetime(*earned, tzinfo=UTC), PARIS) == datetime(*expected, tzinfo=UTC)


def test_without_a_rule_points_are_spendable_at_once_and_never_expire():
    assert activates_at(None, NOON, PARIS) == NOON
    assert activates_at(Hold(at_most=Duration(days=14), until=None), NOON, PARIS) == NOON + timedelta(days=14)
    assert expires_at(None, NOON, PARIS) is None
    assert prolonged(Expiry(after=Duration(days=1), end_of=None, inactive=None), NOON, PARIS) is None


@given(moment=moments, length=st.sampled_from(["day", "week", "month", "quarter", "year", "ever"]))
@settings(max_examples=examples(100))
def test_every_moment_lies_in_one_period_and_periods_touch(moment, length):
    start, end = period(length, moment, PARIS)
    assert start <= moment < end
    if length != "ever":
        assert period(length, end, PARIS)[0] == end
        assert period(length, start, PARIS) == (start, end)


# Tiers


def tiers(over: Any = "rolling 12 months", grace: int = 0, one_step: bool = False) -> Tiers:
    levels = tuple(Level(tier=tier, starts_at=Decimal(at)) for tier, at in (("b", 0), ("s", 300), ("g", 1000)))
    return Tiers(by="points", over=over, one_step=one_step, grace=Duration(days=grace), levels=levels)


def reached(made: Tiers, progress: list[tuple[datetime, int]], *moments_: datetime) -> list[int]:
    """The level after looking at each of these moments."""
    standing, levels = None, []
    for moment in moments_:
        standing = review(made, standing, progress, moment, PARIS)
        levels.append(standing.level)
    return levels


def test_a_tier_is_reached_at_once_and_left_when_a_year_is_over():
    year = datetime(2027, 3, 10, 11, tzinfo=UTC)
    second = timedelta(seconds=1)
    progress = [(NOON, 1200)]
    assert reached(tiers(), progress, NOON - second, NOON, year - second, year) == [0, 2, 2, 0]
    assert reached(tiers(grace=30), progress, NOON, year, year + timedelta(days=31)) == [2, 2, 0]
    assert reached(
        tiers(one_step=True), progress, NOON, year, year + timedelta(days=364), year + timedelta(days=366)
    ) == [
        2,
        1,
        1,
        0,
    ]


def test_what_is_earned_in_the_grace_keeps_the_tier():
    year = datetime(2027, 3, 10, 11, tzinfo=UTC)
    progress = [(NOON, 1200), (year + timedelta(days=10), 1000)]
    assert reached(tiers(grace=30), progress, NOON, year, year + timedelta(days=40)) == [2, 2, 2]


def test_a_calendar_year_counts_to_the_end_of_the_next():
    progress = [(NOON, 1200)]
    last = datetime(2027, 12, 31, 22, 59, 59, tzinfo=UTC)
    assert reached(tiers("calendar year"), progress, NOON, last, last + timedelta(seconds=1)) == [2, 2, 0]


def test_a_refund_takes_a_tier_and_a_lifetime_keeps_it_otherwise():
    later = NOON + timedelta(days=4000)
    assert reached(tiers("lifetime"), [(NOON, 1000)], NOON, later) == [2, 2]
    standing = review(tiers("lifetime"), None, [(NOON, 1000)], NOON, PARIS)
    assert review(tiers("lifetime"), standing, [(NOON, 1000), (NOON, -1)], later, PARIS).level == 1


@given(
    over=st.sampled_from(["rolling 12 months", "calendar year", "lifetime"]),
    grace=st.integers(0, 60),
    one_step=st.booleans(),
    progress=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 900)), min_size=1, max_size=8),
    looks=st.lists(st.integers(0, 1500), max_size=8),
)
@settings(max_examples=examples(100))
def test_it_does_not_matter_how_often_or_how_late_a_tier_is_reviewed(over, grace, one_step, progress, looks):
    made = tiers(over, grace, one_step)
    entries = sorted((NOON + timedelta(days=day), points) for day, points in progress)
    end = NOON + timedelta(days=1600)
    # Whoever earns is looked at in that moment; between, nobody needs to look.
    at_events = [at for at, _ in entries]
    sometimes = sorted([*at_events, *(NOON + timedelta(days=day, minutes=7) for day in looks)])

    def final(moments_: list[datetime]) -> Standing:
        standing = None
        for moment in (*moments_, end):
            standing = review(made, standing, [e for e in entries if e[0] <= moment], moment, PARIS)
        assert standing is not None
        return standing if standing.level else replace(standing, since=NOON)

    assert final(at_events) == final(sometimes)


@given(points=st.integers(0, 2000), over=st.sampled_from(["rolling 12 months", "calendar year", "lifetime"]))
@settings(max_examples=examples(60))
def test_who_earns_what_is_missing_reaches_the_next_tier(points, over):
    made = tiers(over)
    progress = [(NOON, points)] if points else []
    standing = review(made, None, progress, NOON, PARIS)
    ahead = outlook(made, standing, progress, NOON, PARIS)
    assert ahead.progress == points == progress_at(made, progress, NOON, PARIS)
    assert standing.level == level_of(made, points)
    if ahead.missing is not None:
        assert review(made, standing, [*progress, (NOON, ahead.missing)], NOON, PARIS).level == standing.level + 1
        assert review(made, standing, [*progress, (NOON, ahead.missing - 1)], NOON, PARIS).level == standing.level
    if ahead.held_until is not None:
        assert review(made, standing, progress, ahead.held_until - timedelta(seconds=1), PARIS).level == standing.level
        assert review(made, standing, progress, ahead.held_until, PARIS).level < standing.level
