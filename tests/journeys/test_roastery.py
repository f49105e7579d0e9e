"""The shipped roastery lived through: what a customer gets, and when by the clock on their wall, flow by flow."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from db import ledger
from db.tables import contexts, customers, enrollments, referral_codes, runs, touchpoints
from tests.driver import SAM, Driver, driving

PARIS = ZoneInfo("Europe/Paris")  # where Sam lives, and the shop
SPRING = datetime(2026, 3, 20, 15, 30, tzinfo=UTC)  # clocks change within
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ITEMS = [{"title": "House Roast", "quantity": 2}]


def agreed(driver: Driver) -> None:
    """Sam has an account, and wants to hear from us."""
    driver.post("customer.created", stage="awareness", consent="granted")


def ordered(driver: Driver, number: int = 1) -> Mapping[str, Any]:
    order = {"id": f"o{number}", "number": f"{1000 + number}", "total": 40.5, "currency": "EUR", "items": ITEMS}
    driver.post("order.paid", {"order": order}, stage="purchase")
    return order


def got(driver: Driver, *flows: str) -> list[tuple[str, str, str]]:
    """What came of each touchpoint of these flows: when by Sam's clock, which step, and its end."""
    t = touchpoints.c
    query = sa.select(t.settled_at, t.step, t.state).where(t.flow.in_(flows)).order_by(t.settled_at, t.id)
    return [
        (f"{at.astimezone(PARIS):%a %d %b %H:%M}" if at else "", step, state) for at, step, state in driver.rows(query)
    ]


def ended(driver: Driver, flow: str) -> list[tuple[str, str | None]]:
    """State and reason of every run of a flow."""
    e = enrollments.c
    query = sa.select(e.state, e.reason).join(runs, runs.c.enrollment_id == e.id).where(runs.c.flow == flow)
    return [tuple(row) for row in driver.rows(query.order_by(e.id))]


# The first order


def test_an_unhappy_first_customer_is_answered_by_a_person(database_url):
    with driving(database_url) as driver:
        agreed(driver)
        order = ordered(driver)
        driver.at(days=2)
        driver.post("order.delivered", {"order": {"id": order["id"]}})
        driver.at(days=6)
        driver.post("survey.answered", {"score": 1, "survey": "answer"})
        driver.at(days=25)

        assert got(driver, "first-order") == [
            ("Mon 02 Mar 09:00", "thank-you", "sent"),
            ("Sat 07 Mar 10:00", "brew-check-in", "sent"),
            ("Sun 08 Mar 09:00", "notify-customer-care", "sent"),
        ]
        about = sa.select(contexts.c.facts).join(touchpoints, touchpoints.c.id == contexts.c.touchpoint_id)
        [(facts,)] = driver.rows(about.where(touchpoints.c.step == "notify-customer-care"))
        assert facts["extra"]["about"].startswith("Rated the first cups 1 out of 5, order 1001.")
        assert ended(driver, "first-order") == [("finished", None)]


@pytest.mark.parametrize(("score", "last"), [(5, "brew-check-in"), (3, "brew-check-in"), (None, "brew-tips")])
def test_a_happy_first_customer_is_left_alone_and_a_silent_one_gets_tips(sqlite_url, score, last):
    with driving(sqlite_url) as driver:
        agreed(driver)
        ordered(driver)
        driver.at(days=2)
        driver.post("order.delivered", {"order": {"id": "o1"}})
        driver.at(days=6)
        if score:
            driver.post("survey.answered", {"score": score, "survey": "answer"})
        driver.at(days=16)

        assert got(driver, "first-order")[-1][1:] == (last, "sent")


def test_coffee_that_never_arrives_is_asked_about_all_the_same(sqlite_url):
    with driving(sqlite_url) as driver:
        agreed(driver)
        ordered(driver)
        driver.post("order.delivered", {"order": {"id": "another"}})
        driver.at(days=14)

        assert got(driver, "first-order")[1] == ("Sun 15 Mar 10:00", "brew-check-in", "sent")


def test_a_refund_stops_everything_that_hangs_on_its_order_and_nothing_else(database_url):
    with driving(database_url) as driver:
        agreed(driver)
        ordered(driver)
        driver.at(days=2)
        driver.post("order.delivered", {"order": {"id": "o1"}})
        driver.post("order.refunded", {"order": {"id": "another"}, "refund": {"amount": 1}})
        driver.at(days=4)
        driver.post("order.refunded", {"order": {"id": "o1"}, "refund": {"amount": 40.5}})
        driver.at(days=60)

        assert driver.touchpoints() == [("first-order", "thank-you", "sent")]
        for flow in ("first-order", "refill", "review-request", "win-back"):
            assert ended(driver, flow) == [("stopped", "order.refunded with the same order.id")], flow
        assert driver.rows(sa.select(customers.c.spent)) == [(-100,)]


def test_nobody_gets_marketing_while_they_wait_for_an_answer(database_url):
    with driving(database_url) as driver:
        agreed(driver)
        ordered(driver)
        driver.post("order.delivered", {"order": {"id": "o1"}})
        driver.at(days=1)
        driver.post("customer.updated", customer={**SAM, "attributes": {"open_ticket": True}})
        driver.at(days=5)

        assert got(driver, "first-order")[1] == ("Thu 05 Mar 10:00", "brew-check-in", "skipped")


# Before an order


def test_a_new_customer_is_welcomed_and_gets_one_tip(database_url):
    with driving(database_url) as driver:
        agreed(driver)
        driver.at(days=10)

        [welcome, (at, tip, state)] = got(driver, "welcome")
        assert welcome == ("Mon 02 Mar 09:30", "welcome", "sent")
        assert (at, state) == ("Fri 06 Mar 10:00", "sent")
        assert tip in ("tip-scale", "tip-water")


def test_whoever_orders_before_the_welcome_gets_none(sqlite_url):
    with driving(sqlite_url) as driver:
        agreed(driver)
        driver.at(minutes=10)
        ordered(driver)
        driver.at(days=10)

        assert got(driver, "welcome") == []
        assert ended(driver, "welcome") == [("stopped", "order.paid")]


def test_without_consent_there_is_no_marketing_and_service_mail_comes(database_url):
    with driving(database_url) as driver:
        driver.post("customer.created", stage="awareness")
        driver.at(days=1)
        ordered(driver)
        driver.at(days=60)

        sent = [(flow, step) for flow, step, state in driver.touchpoints() if state == "sent"]
        assert sent == [("first-order", "thank-you")]
        assert {state for _, _, state in driver.touchpoints()} == {"sent", "skipped"}


CHECKOUT = {"checkout": {"id": "k1", "url": "https://ember-oak.example/c/k1", "items": ITEMS, "total": 19}}


def test_a_basket_left_behind_is_mentioned_twice(database_url):
    with driving(database_url) as driver:
        driver.post("customer.updated", consent="granted")
        driver.post("checkout.started", CHECKOUT, stage="decision")
        driver.at(hours=1)
        driver.post("checkout.started", CHECKOUT, stage="decision")  # changed: the same basket
        driver.at(days=9)

        assert got(driver, "abandoned-checkout") == [
            ("Mon 02 Mar 13:00", "checkout-reminder", "sent"),
            ("Wed 04 Mar 10:00", "checkout-second", "sent"),
        ]


@pytest.mark.parametrize(
    ("hours", "event", "reminders"), [(2, "order.placed", 0), (2, "order.paid", 0), (24, "order.paid", 1)]
)
def test_any_order_ends_the_reminders_of_a_basket(database_url, hours, event, reminders):
    with driving(database_url) as driver:
        driver.post("customer.updated", consent="granted")
        driver.post("checkout.started", CHECKOUT, stage="decision")
        driver.at(hours=hours)
        driver.post(event, {"order": {"id": "o1", "total": 19, "items": ITEMS}})
        driver.at(days=9)

        assert len(got(driver, "abandoned-checkout")) == reminders
        assert ended(driver, "abandoned-checkout") == [("stopped", event)]


# After orders


def test_every_repeat_order_is_thanked_and_the_first_is_not_thanked_twice(database_url):
    with driving(database_url) as driver:
        for number in (1, 2, 3):
            ordered(driver, number)
            driver.at(days=number)

        assert got(driver, "first-order")[0] == ("Mon 02 Mar 09:00", "thank-you", "sent")
        assert got(driver, "repeat-order") == [
            ("Tue 03 Mar 09:00", "thank-you-again", "sent"),
            ("Wed 04 Mar 09:00", "thank-you-again", "sent"),
        ]
        assert len(ended(driver, "first-order")) == 1


def test_a_bag_that_should_be_empty_is_asked_about_unless_they_ordered(database_url):
    with driving(database_url) as driver:
        agreed(driver)
        ordered(driver)
        driver.at(days=10)
        ordered(driver, 2)
        driver.at(days=60)

        assert ended(driver, "refill") == [("stopped", "order.paid"), ("finished", None)]
        assert got(driver, "refill") == [("Thu 16 Apr 09:30", "refill", "sent")]  # two bags, and summer time has begun


def test_everybody_is_asked_for_a_review_once_however_they_rated(database_url):
    with driving(database_url) as driver:
        agreed(driver)
        ordered(driver)
        driver.post("order.delivered", {"order": {"id": "o1"}})
        driver.at(days=4)
        driver.post("survey.answered", {"score": 1, "survey": "answer"})
        driver.at(days=7)
        ordered(driver, 2)
        driver.post("order.delivered", {"order": {"id": "o2"}})
        driver.at(days=30)

        assert got(driver, "review-request") == [("Mon 16 Mar 10:30", "review-request", "sent")]


def test_silence_after_an_order_brings_one_mail(database_url):
    with driving(database_url) as driver:
        agreed(driver)
        ordered(driver)
        driver.at(days=80)

        assert got(driver, "win-back") == [("Thu 16 Apr 10:00", "win-back", "sent")]


def test_who_came_often_gets_the_more_personal_one_and_only_after_the_last_order(database_url):
    with driving(database_url) as driver:
        agreed(driver)
        for number in (1, 2, 3, 4):
            ordered(driver, number)
            driver.at(days=number)
        driver.at(days=80)

        assert [step for _, step, _ in got(driver, "win-back")] == ["win-back-regular"]
        assert ended(driver, "win-back") == [("stopped", "order.paid")] * 3 + [("finished", None)]


def test_a_subscriber_is_not_won_back(sqlite_url):
    with driving(sqlite_url) as driver:
        agreed(driver)
        ordered(driver)
        driver.at(days=5)
        driver.post("subscription.started", {"subscription": {"id": "s1"}}, stage="retention")
        driver.at(days=80)

        assert got(driver, "win-back", "refill") == []


# Friends


def rated(driver: Driver, score: int) -> None:
    driver.post("survey.answered", {"score": score, "survey": "answer"})


def test_a_good_rating_brings_a_link_to_share_once_and_it_is_the_customers_own(database_url):
    with driving(database_url) as driver:
        agreed(driver)
        ordered(driver)
        driver.at(days=7)
        rated(driver, 5)
        driver.at(days=20)
        ordered(driver, 2)
        driver.at(days=60)

        assert got(driver, "referral-invitation") == [("Wed 11 Mar 17:00", "invited-when-happy", "sent")]
        assert ended(driver, "referral-invitation") == [("finished", "they have their link")]
        [(programme, customer, code)] = driver.rows(
            sa.select(referral_codes.c.programme, referral_codes.c.customer_id, referral_codes.c.code)
        )
        assert (programme, customer) == ("friends", driver.customer())
        in_mail = sa.select(contexts.c.facts).join(touchpoints, touchpoints.c.id == contexts.c.touchpoint_id)
        [(facts,)] = driver.rows(in_mail.where(touchpoints.c.flow == "referral-invitation"))
        assert facts["codes"] == {"friends": code}


@pytest.mark.parametrize(("score", "at"), [(2, "Wed 01 Apr 17:00"), (None, "Wed 01 Apr 17:00")])
def test_who_did_not_rate_well_is_invited_when_they_come_back(sqlite_url, score, at):
    with driving(sqlite_url) as driver:
        agreed(driver)
        ordered(driver)
        driver.at(days=7)
        if score:
            rated(driver, score)
        driver.at(days=21)
        ordered(driver, 2)
        driver.at(days=80)

        assert got(driver, "referral-invitation") == [(at, "referral-invitation", "sent")]


def test_who_sent_something_back_is_not_asked_to_praise_it(sqlite_url):
    with driving(sqlite_url) as driver:
        agreed(driver)
        ordered(driver)
        ordered(driver, 2)
        driver.at(days=3)
        driver.post("order.refunded", {"order": {"id": "o2"}, "refund": {"amount": 40.5}})
        driver.at(days=60)

        assert got(driver, "referral-invitation") == []


def a_friend(driver: Driver, n: int, total: float = 24) -> Mapping[str, Any]:
    """A friend of Sam's orders with Sam's code."""
    [(code,)] = driver.rows(sa.select(referral_codes.c.code))
    friend = {"id": f"f{n}", "email": f"{'xyz'[n - 1] * 6}@example.org", "timezone": "Europe/Paris"}
    driver.post("customer.created", customer=friend, consent="granted")
    order = {"id": f"of{n}", "total": total, "items": ITEMS, "codes": [code]}
    driver.post("order.paid", {"order": order}, customer=friend, stage="purchase")
    return friend


def beans(driver: Driver, external_id: str) -> int:
    customer = driver.customer(external_id)
    with driver.app.reading() as connection:
        return ledger.balances(connection, [customer], driver.clock.now())[customer, "beans", "beans"].balance


def invited(driver: Driver) -> None:
    agreed(driver)
    ordered(driver)
    driver.at(days=7)
    rated(driver, 4)
    driver.at(days=10)


def test_both_are_rewarded_and_told_when_the_time_for_returns_is_over(database_url):
    with driving(database_url) as driver:
        invited(driver)
        a_friend(driver, 1)
        driver.at(days=23, hours=12)
        assert beans(driver, "c1") == 40
        driver.at(days=27)

        assert (beans(driver, "c1"), beans(driver, "f1")) == (240, 224)
        assert [step for _, step, _ in got(driver, "referral-thanks", "referral-gift")] == [
            "referral-thanks",
            "referral-gift",
        ]


def test_an_order_below_the_minimum_brings_nobody_anything(sqlite_url):
    with driving(sqlite_url) as driver:
        invited(driver)
        a_friend(driver, 1, total=19.99)
        driver.at(days=40)

        assert (beans(driver, "c1"), beans(driver, "f1")) == (40, 19)


def test_the_third_friend_brings_a_seat_at_the_table(sqlite_url):
    with driving(sqlite_url) as driver:
        invited(driver)
        for n in (1, 2, 3):
            a_friend(driver, n)
        driver.at(days=40)

        assert beans(driver, "c1") == 40 + 3 * 200 + 400
        assert [(step, state) for _, step, state in got(driver, "referral-vip")] == [("referral-vip", "sent")]


@pytest.mark.parametrize("days", [13, 20])
def test_a_friend_who_sends_it_back_takes_both_rewards_along(database_url, days):
    with driving(database_url) as driver:
        invited(driver)
        friend = a_friend(driver, 1)
        driver.at(days=10 + days)
        driver.post("order.refunded", {"order": {"id": "of1"}, "refund": {"amount": 24}}, customer=friend)
        driver.at(days=45)

        assert (beans(driver, "c1"), beans(driver, "f1")) == (40, 0)
        assert len(got(driver, "referral-gift")) == (days > 14)


# Subscriptions


def failed(driver: Driver, invoice: str = "i1") -> None:
    payload = {"invoice": {"id": invoice, "amount": 18.5, "currency": "EUR", "url": "https://pay.example/i1"}}
    driver.post("payment.failed", {**payload, "subscription": {"id": "s1"}})


def test_a_failed_payment_is_told_three_times_and_then_a_person_looks(database_url):
    with driving(database_url) as driver:
        failed(driver)
        driver.at(days=1)
        failed(driver)  # the provider tried again: the same invoice
        driver.at(days=30)

        assert got(driver, "payment-failed") == [
            ("Mon 02 Mar 09:00", "payment-failed", "sent"),
            ("Thu 05 Mar 10:00", "payment-failed-again", "sent"),
            ("Mon 09 Mar 10:00", "payment-last-reminder", "sent"),
            ("Thu 12 Mar 10:00", "notify-customer-care", "sent"),
        ]


def test_reminders_end_when_the_same_invoice_is_paid(database_url):
    with driving(database_url) as driver:
        failed(driver)
        driver.at(days=1)
        driver.post("payment.succeeded", {"invoice": {"id": "another"}})
        driver.at(days=4)
        driver.post("payment.succeeded", {"invoice": {"id": "i1"}})
        driver.at(days=30)

        assert [step for _, step, _ in got(driver, "payment-failed")] == ["payment-failed", "payment-failed-again"]
        assert ended(driver, "payment-failed") == [("stopped", "payment.succeeded with the same invoice.id")]


# Together


def test_a_busy_season_keeps_every_rail(database_url):
    """Five people with everything going on at once: caps and nights hold for each of them."""
    zones = ["Europe/Paris", "America/New_York", "Asia/Tokyo", "Pacific/Auckland", "America/Los_Angeles"]
    with driving(database_url, start=SPRING) as driver:
        for day in range(0, 24, 4):
            for n in range(5):
                who = {"id": f"c{n}", "email": f"c{n}@example.com", "timezone": zones[n]}
                key = f"{n}-{day}"
                driver.post("customer.created", customer=who, stage="awareness", consent="granted", drained=False)
                checkout = {"checkout": {**CHECKOUT["checkout"], "id": key}}
                driver.post("checkout.started", checkout, customer=who, stage="decision", drained=False)
                if (n + day) % 3 == 0:
                    order = {"order": {"id": key, "total": 20, "items": ITEMS}}
                    driver.post("order.paid", order, customer=who, stage="purchase", drained=False)
                    driver.post("order.delivered", {"order": {"id": key}}, customer=who, drained=False)
            driver.drain()
            driver.at(SPRING + (day + 4) * DAY)
        driver.at(driver.clock.now() + 70 * DAY)

        t = touchpoints.c
        sent: dict[int, list[datetime]] = {}
        query = sa.select(t.customer_id, t.prepared_at).where(t.kind == "marketing", t.state == "sent")
        for customer, at in driver.rows(query):
            sent.setdefault(customer, []).append(at)
        lives_in = {driver.customer(f"c{n}"): ZoneInfo(zones[n]) for n in range(5)}
        assert sum(map(len, sent.values())) > 30
        for customer, moments in sent.items():
            for start in moments:
                assert sum(start <= at < start + 20 * HOUR for at in moments) <= 1
                assert sum(start <= at < start + 7 * DAY for at in moments) <= 3
                assert 8 <= start.astimezone(lives_in[customer]).hour < 21
        waiting = driver.rows(sa.select(t.state).where(t.state.in_(["queued", "sending", "held"])))
        assert waiting == []
        assert driver.rows(sa.select(enrollments.c.state).distinct().order_by(enrollments.c.state)) == [
            ("finished",),
            ("stopped",),
        ]
