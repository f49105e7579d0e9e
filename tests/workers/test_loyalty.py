"""Loyalty programmes in the way from a webhook to the ledger: earning, holds, refunds, expiry, tiers."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from db import coupons, ledger, loyalty, proof, redemptions
from db.ledger import Spend
from db.tables import budgets, events, ledger_transactions, memberships
from tests.driver import Driver
from tests.examples import LONG
from tests.small_shop import flow, put_into_force, small

RULE = {"id": "per-euro", "on": "order.paid", "points": 1, "amount": "order.total"}
REFUNDS = {"on": "order.refunded", "amount": "refund.amount"}
LEVELS = [{"tier": "bronze", "from": 0}, {"tier": "silver", "from": 300}, {"tier": "gold", "from": 1000}]


def programme(*earn: Mapping[str, Any], **more: Any) -> str:
    """The text of a programme file."""
    rules = list(earn or [RULE])
    return json.dumps({"programme": "beans", "kind": "loyalty", "about": "Points", "earn": rules, **more})


@contextmanager
def shop(url: str, *earn: Mapping[str, Any], flows: tuple[str, ...] = (), **more: Any) -> Iterator[Driver]:
    with small(url, *flows, programmes=(programme(*earn, **more),)) as driver:
        yield driver
        with driver.app.reading() as connection:
            assert not proof.verify(connection).differences


def order(driver: Driver, number: str, total: float | str, **options: Any) -> None:
    driver.post("order.paid", {"order": {"id": number, "total": total}}, **options)


def refund(driver: Driver, number: str, amount: float | str, **options: Any) -> None:
    driver.post("order.refunded", {"order": {"id": number}, "refund": {"amount": amount}}, **options)


def standing(driver: Driver, asset: str = "points") -> Any:
    """What the only customer has in the programme now."""
    customer = driver.customer()
    with driver.app.reading() as connection:
        return ledger.balances(connection, [customer], driver.clock.now())[customer, "beans", asset]


def entries(driver: Driver, *columns: str) -> list[tuple[Any, ...]]:
    t = ledger_transactions.c
    return driver.rows(sa.select(*(t[name] for name in columns)).order_by(t.id))


def tier(driver: Driver) -> str:
    found = driver.rows(sa.select(memberships.c.tier))
    return str(found[0][0]) if found else "bronze"


def names_of_events(driver: Driver) -> list[str]:
    return [row[0] for row in driver.rows(sa.select(events.c.name).where(events.c.source == "programme"))]


def test_an_order_earns_once_and_says_by_which_file_and_rule(database_url):
    with shop(database_url) as driver:
        order(driver, "o1", "42.90", key="k")
        order(driver, "o1", "42.90", key="k")  # told twice

        assert entries(driver, "kind", "rule", "granted", "subject") == [("earn", "per-euro", 42, "order/api/o1")]
        ((document, event, inputs),) = entries(driver, "document_id", "event_id", "inputs")
        assert document is not None
        assert event is not None
        assert inputs["amount"] == "42.90"
        assert standing(driver).spendable == 42


def test_a_shop_without_a_programme_asks_the_ledger_nothing(database_url):
    with small(database_url) as driver:
        order(driver, "o1", 42)
        assert entries(driver, "id") == []


def test_limits_count_what_was_granted_before_and_a_refund_makes_room(database_url):
    rule = {**RULE, "at_most": {"points": 100, "per": "month"}}
    with shop(database_url, rule, refunds=REFUNDS) as driver:
        order(driver, "o1", 70)
        order(driver, "o2", 70)
        assert entries(driver, "desired", "granted") == [(70, 70), (70, 30)]

        refund(driver, "o1", 70)
        order(driver, "o3", 100)
        assert standing(driver).balance == 30 + 70


def test_a_budget_is_shared_by_all_customers_and_refunds_give_to_it(database_url):
    with shop(database_url, budget={"points": 100, "per": "ever"}, refunds=REFUNDS) as driver:
        order(driver, "o1", 60, drained=False)
        order(driver, "o2", 60, customer={"id": "other"}, drained=False)
        order(driver, "o3", 60, customer={"id": "third"})
        assert entries(driver, "granted") == [(60,), (40,), (0,)]

        refund(driver, "o1", 30)
        assert driver.rows(sa.select(budgets.c.granted)) == [(70,)]


def test_only_the_first_order_of_a_customer_gets_the_welcome(database_url):
    rule = {"id": "welcome", "on": "order.paid", "points": 50, "first_time": True}
    with shop(database_url, rule) as driver:
        order(driver, "o1", 10, drained=False)
        order(driver, "o2", 10, drained=False)
        order(driver, "o3", 10, customer={"id": "other"})
        assert entries(driver, "granted") == [(50,), (50,)]


# Refunds


PARTS = ("12.34", "0.01", "30", "7.77")


@pytest.mark.parametrize("parts", [PARTS, PARTS[::-1], ("50.12",)])
def test_the_parts_of_a_refund_end_alike_in_any_order(database_url, parts):
    rule = {**RULE, "points": 3, "per": 2, "round": "nearest"}
    with shop(database_url, rule, refunds=REFUNDS) as driver:
        order(driver, "o1", "99.99")
        for part in parts:
            refund(driver, "o1", part)
        assert standing(driver).balance == 75  # of 49.87 that stay: 74.8


def test_a_refund_that_comes_before_its_order_counts(database_url):
    with shop(database_url, refunds=REFUNDS) as driver:
        driver.post("ping.one", {"n": 1})  # so that the customer is known
        refund(driver, "o1", 40)
        order(driver, "o1", 100)
        assert standing(driver).balance == 60


def test_a_refund_goes_by_the_rule_under_which_the_order_earned(database_url):
    with shop(database_url, refunds=REFUNDS) as driver:
        order(driver, "o1", 100)
        put_into_force(driver, programmes=(programme({**RULE, "points": 5}, refunds=REFUNDS),))
        refund(driver, "o1", 50)
        assert standing(driver).balance == 50


@pytest.mark.parametrize(
    ("policy", "balance", "debt"), [("only_pending", 60, 0), ("within_balance", 0, 0), ("unlimited", 0, -40)]
)
def test_a_refund_of_what_is_spent_goes_as_far_as_the_policy_says(database_url, policy, balance, debt):
    with shop(database_url, refunds={**REFUNDS, "policy": policy}) as driver:
        order(driver, "o1", 100)
        order(driver, "o2", 60)
        with driver.app.writing() as connection:
            spend = Spend(
                programme="beans",
                asset="points",
                customer_id=driver.customer(),
                key="s",
                amount=100,
                event_at=driver.clock.now(),
            )
            ledger.spend(connection, [spend], driver.clock.now())
        refund(driver, "o1", 100)
        assert (standing(driver).balance, standing(driver).debt) == (balance, debt)


@pytest.mark.long
def test_orders_and_refunds_in_any_order_and_batches_end_alike(sqlite_url):
    numbers = count(1)

    @given(
        orders=st.lists(st.integers(500, 9000), min_size=1, max_size=2),
        refunds=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 2500)), min_size=2, max_size=4),
        data=st.data(),
    )
    @settings(max_examples=50 if LONG else 8, database=None)
    def ends_alike(orders: list[int], refunds: list[tuple[int, int]], data: st.DataObject) -> None:
        told = [("order", n, cents) for n, cents in enumerate(orders)]
        told += [("refund", n % len(orders), cents) for n, cents in refunds]
        breaks = data.draw(st.sets(st.integers(0, len(told))))
        ends = {_end(driver, f"c{next(numbers)}", told, breaks) for told in (told, data.draw(st.permutations(told)))}
        assert len(ends) == 1

    with shop(sqlite_url, {**RULE, "points": 7, "per": 3}, refunds=REFUNDS, tiers=_TIERS) as driver:
        ends_alike()


def _end(driver: Driver, who: str, told: list[tuple[str, int, int]], breaks: set[int]) -> tuple[int, int, int]:
    """Balance, debt and progress of a new customer of whom this was told, in batches that end at the breaks."""
    driver.post("ping.one", {"n": 1}, customer={"id": who})
    for at, (what, number, cents) in enumerate(told):
        call = order if what == "order" else refund
        amount = f"{cents / 100:.2f}"
        call(driver, f"{who}-{number}", amount, customer={"id": who}, drained=at in breaks)
    driver.drain()
    customer = driver.customer(who)
    with driver.app.reading() as connection:
        now = ledger.balances(connection, [customer], driver.clock.now()).get((customer, "beans", "points"))
    t = ledger_transactions.c
    ((progress,),) = driver.rows(sa.select(sa.func.sum(t.progress)).where(t.customer_id == customer))
    return (now.balance, now.debt, progress or 0) if now else (0, 0, 0)


_TIERS = {"over": "rolling 12 months", "levels": LEVELS}


# Holds and expiry


def test_points_wait_for_the_hold_and_expire_at_the_end_of_a_month(database_url):
    with shop(database_url, hold="14 days", expires={"after": "2 months", "end_of": "month"}) as driver:
        order(driver, "o1", 100)
        assert (standing(driver).spendable, standing(driver).pending) == (0, 100)
        driver.at(days=15)
        assert standing(driver).spendable == 100
        expires_at = standing(driver).expires_at
        driver.at(expires_at - timedelta(seconds=1))
        assert standing(driver).spendable == 100
        driver.at(expires_at)
        assert standing(driver).balance == 0
        assert entries(driver, "kind")[-1] == ("expire",)


def test_points_can_be_spent_as_soon_as_their_order_arrives(database_url):
    shop_events = {"hold": {"until": "ping.two", "at_most": "30 days"}, "refunds": REFUNDS}
    with shop(database_url, {**RULE, "at_most": {"points": 150, "per": "year"}}, **shop_events) as driver:
        order(driver, "o1", 100)
        order(driver, "o2", 10)
        refund(driver, "o1", 20)
        driver.at(days=2)
        driver.post("ping.two", {"n": 1, "order": {"id": "o1"}})
        assert (standing(driver).spendable, standing(driver).pending) == (80, 10)

        refund(driver, "o1", 30)  # 50 by now
        assert (standing(driver).spendable, standing(driver).pending) == (50, 10)
        order(driver, "o3", 500)  # 60 of the limit are used
        assert standing(driver).balance == 150


def test_points_live_on_while_their_customer_does_something(database_url):
    with shop(database_url, expires={"inactive": "6 months"}, refunds=REFUNDS, rewards=[CREDIT]) as driver:
        order(driver, "o1", 100)
        first = standing(driver).expires_at
        driver.at(days=150)
        order(driver, "o2", 10)
        assert (standing(driver).spendable, standing(driver).expiring) == (110, 110)
        assert standing(driver).expires_at > first
        refund(driver, "o1", 50)
        driver.at(days=300)
        _redeem(driver, "credit", "k")
        driver.at(days=400)
        assert standing(driver).spendable == 30
        driver.at(days=500)
        assert standing(driver).balance == 0


@pytest.mark.parametrize(("warn", "before", "after"), [({}, 330, 340), ({"warn": "6 weeks"}, 322, 324)])
def test_flows_start_by_points_that_expire_soon(database_url, warn, before, after):
    warned = flow("warned", [{"send": "email/receipt"}], starts={"event": "points.expiring"})
    with shop(database_url, expires={"after": "12 months", **warn}, flows=(warned,)) as driver:
        order(driver, "o1", 100)
        driver.at(days=before)
        assert names_of_events(driver) == []
        driver.at(days=after)
        driver.at(days=after + 1)

        assert names_of_events(driver) == ["points.expiring"]
        assert driver.touchpoints() == [("warned", "receipt", "sent")]


def test_what_no_flow_listens_to_is_not_told(database_url):
    earned = flow("earned", [{"send": "email/receipt"}], starts={"event": "points.earned", "when": "points >= 50"})
    with shop(database_url) as driver:
        order(driver, "o1", 100)
        assert names_of_events(driver) == []
        put_into_force(driver, earned, programmes=(programme(),))
        order(driver, "o2", 20)
        order(driver, "o3", 60)
        assert names_of_events(driver) == ["points.earned", "points.earned"]
        assert driver.touchpoints() == [("earned", "receipt", "sent")]


# Tiers


def test_a_tier_is_reached_at_once_multiplies_what_follows_and_falls_with_a_refund(database_url):
    told = flow("told", [{"send": "email/receipt"}], starts={"event": "tier.reached", "when": 'tier == "silver"'})
    rule = {**RULE, "times": [{"tier": "silver", "by": 2}]}
    with shop(database_url, rule, refunds=REFUNDS, tiers=_TIERS, flows=(told,)) as driver:
        order(driver, "o1", 300, drained=False)
        order(driver, "o2", 100)
        assert tier(driver) == "silver"
        assert [granted for (granted,) in entries(driver, "granted")] == [300, 200]
        assert driver.touchpoints() == [("told", "receipt", "sent")]

        refund(driver, "o1", 300)
        assert tier(driver) == "bronze"


def test_a_tier_is_left_after_a_year_without_orders(database_url):
    left = flow("left", [{"send": "email/receipt"}], starts={"event": "tier.left"})
    tiers = {**_TIERS, "grace": "30 days"}
    with shop(database_url, tiers=tiers, flows=(left,)) as driver:
        order(driver, "o1", 1500)
        assert tier(driver) == "gold"
        driver.at(days=366)
        driver.at(days=394)
        assert tier(driver) == "gold"
        driver.at(days=396)
        assert tier(driver) == "silver"
        driver.at(days=396 + 366)
        assert tier(driver) == "bronze"
        assert names_of_events(driver) == ["tier.left", "tier.left"]


def test_a_tier_that_the_file_has_no_more_is_judged_anew_once(database_url):
    with shop(database_url, tiers=_TIERS) as driver:
        order(driver, "o1", 1500)
        fewer = {**_TIERS, "levels": LEVELS[:2]}
        put_into_force(driver, programmes=(programme(tiers=fewer),))
        driver.at(days=366)
        assert tier(driver) == "bronze"
        with driver.app.writing() as connection:
            assert loyalty.to_review(connection, ["beans"], driver.clock.now(), 10) == []


def test_tiers_by_money_count_each_order_once(database_url):
    more = {"id": "extra", "on": "order.paid", "points": 10}
    with shop(database_url, RULE, more, tiers={**_TIERS, "by": "spend"}, refunds=REFUNDS) as driver:
        order(driver, "o1", "299.99")
        assert tier(driver) == "bronze"
        order(driver, "o2", "0.01")
        assert tier(driver) == "silver"
        refund(driver, "o2", "0.01")
        assert tier(driver) == "bronze"


@pytest.mark.parametrize("kind", ["order.paid", "order.refunded", "ping.two"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"budget": {"points": 1_000_000, "per": "year"}},
        {"hold": {"until": "ping.two", "at_most": "30 days"}},
        {"expires": {"inactive": "6 months"}},
    ],
    ids=["plain", "budget", "hold", "inactivity"],
)
def test_a_batch_asks_as_often_as_a_single_event(postgres_url, kind, more):
    asked: dict[int, int] = {}
    tiers = {**_TIERS, "by": "points"}
    payloads = {"order.paid": {"total": 400}, "order.refunded": {}, "ping.two": {}}
    with shop(postgres_url, {**RULE, "first_time": True}, tiers=tiers, refunds=REFUNDS, **more) as driver:
        for size in (2, 30):
            told = ["order.paid"] if kind == "order.paid" else ["order.paid", kind]
            for event in told:
                for n in range(size):
                    one = {"order": {"id": f"o{size}-{n}", **payloads[event]}, "refund": {"amount": 150}, "n": n}
                    driver.post(event, one, customer={"id": f"c{size}-{n}"}, drained=False)
                statements: list[Any] = []

                def counted(*said: Any, heard: list[Any] = statements) -> None:
                    heard.append(said[2])

                sa.event.listen(driver.app.database.engine, "before_cursor_execute", counted)
                driver.actors.ingest()
                sa.event.remove(driver.app.database.engine, "before_cursor_execute", counted)
            asked[size] = len(statements)
    assert asked[30] <= asked[2] + 1  # now and then a look for suspects falls into one of them


# Redemption


FIVE_OFF = {"id": "five-off", "about": "5 euros off", "costs": 50, "gives": {"coupon": "five"}}
CREDIT = {"id": "credit", "about": "Credit", "costs": 30, "gives": {"credit": "2.50"}}


def _redeem(driver: Driver, reward: str, key: str) -> redemptions.Redemption:
    with driver.app.writing() as connection:
        release = driver.app.catalog.current(connection)
        return redemptions.redeem(connection, release, driver.customer(), "beans", reward, key, driver.clock.now())


def _cancel(driver: Driver, redemption: int) -> None:
    with driver.app.writing() as connection:
        redemptions.cancel(connection, redemption, driver.clock.now())


def test_a_code_is_handed_out_once_and_a_cancelled_one_to_nobody_else(database_url):
    redeemed = flow("redeemed", [{"send": "email/receipt"}], starts={"event": "reward.redeemed"})
    with shop(database_url, rewards=[FIVE_OFF], expires={"after": "12 months"}, flows=(redeemed,)) as driver:
        order(driver, "o1", 100)
        expires_at = standing(driver).expires_at
        with pytest.raises(redemptions.RedemptionError, match="No code of 'five' is left"):
            _redeem(driver, "five-off", "k")
        with driver.app.writing() as connection:
            assert coupons.add(connection, "five", ["A", "B", "A"], driver.clock.now()) == 2

        first, again = _redeem(driver, "five-off", "k"), _redeem(driver, "five-off", "k")
        assert first == again
        assert (first.code, standing(driver).spendable) == ("A", 50)
        _cancel(driver, first.id)
        assert (standing(driver).spendable, standing(driver).expires_at) == (100, expires_at)
        with pytest.raises(redemptions.RedemptionError, match="cancelled already"):
            _cancel(driver, first.id)
        assert _redeem(driver, "five-off", "other").code == "B"
        driver.drain()
        assert len(driver.touchpoints()) == 2


def test_credit_is_given_in_minor_units_and_taken_back_unless_spent(database_url):
    with shop(database_url, rewards=[CREDIT]) as driver:
        order(driver, "o1", 70)
        given_ = _redeem(driver, "credit", "k")
        assert standing(driver, "credit").spendable == 250
        _cancel(driver, given_.id)
        assert (standing(driver, "credit").spendable, standing(driver).spendable) == (0, 70)

        _redeem(driver, "credit", "k2")
        _redeem(driver, "credit", "k3")
        with pytest.raises(redemptions.RedemptionError, match="costs 30 and customer"):
            _redeem(driver, "credit", "k4")


def test_a_merge_brings_the_progress_of_both_together(database_url):
    with shop(database_url, tiers=_TIERS) as driver:
        order(driver, "o1", 200, customer={"id": "one", "email": "a@example.com"})
        order(driver, "o2", 150, customer={"email": "b@example.com"})
        assert tier(driver) == "bronze"
        driver.post("ping.one", {"n": 1}, customer={"id": "one", "email": "b@example.com"})
        driver.actors.tend()
        driver.drain()
        order(driver, "o3", 1, customer={"id": "one"})
        assert tier(driver) == "silver"
