"""Codes from the reward to the mail: created once, told of when they stand, taken out of use, nothing lost."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from afterglow.asking import TRIES_MAX
from afterglow.coupons.providers import PROVIDERS
from afterglow.coupons.terms import code_of
from afterglow.language.referral import read_referral
from afterglow.problems import Problems
from db import coupons, doctor, ledger, proof, redemptions, reviewing
from db.clock import DatabaseClock
from db.tables import CouponState, claims, events, holds
from db.tables import coupons as table
from tests.coupon_shops import CouponShops, coupon_shops
from tests.driver import Driver
from tests.small_shop import flow, put_into_force, small
from tests.workers.test_referring import ANN, code, order, refund
from workers import coupons as work
from workers.actors import Seats

EVERY = pytest.mark.parametrize("provider", sorted(PROVIDERS))
REDEEMED = flow("redeemed", [{"send": "email/receipt"}], starts={"event": "reward.redeemed"}, once_per="code")


def friends(provider: str = "shopify", **more: Any) -> str:
    """A referral programme whose coupons have codes of their own, as JSON."""
    worth = {} if provider == "imported" else {"percent": 10, "minimum": "20.00", "valid_for": "90 days"}
    return json.dumps(
        {
            "programme": "friends",
            "kind": "referral",
            "about": "Give 10, get 10",
            "qualifies": {"on": "order.paid", "hold": "14 days", "undone_by": "order.refunded"},
            "rewards": {"referrer": {"coupon": "thanks-10"}, "referee": {"coupon": "welcome-10"}},
            "coupons": {name: {"codes": provider, **worth} for name in ("thanks-10", "welcome-10")},
            **more,
        }
    )


def beans(provider: str = "shopify", **more: Any) -> str:
    """A loyalty programme with one reward, a code that is created, as JSON."""
    return json.dumps(
        {
            "programme": "beans",
            "kind": "loyalty",
            "about": "Points",
            "earn": [{"id": "per-euro", "on": "order.paid", "points": 1, "amount": "order.total"}],
            "expires": {"after": "12 months"},
            "rewards": [{"id": "five-off", "about": "5 off", "costs": 50, "gives": {"coupon": "five"}}],
            "coupons": {"five": {"codes": provider, "amount": "5.00"}},
            **more,
        }
    )


@pytest.fixture
def shops(monkeypatch: pytest.MonkeyPatch) -> Iterator[CouponShops]:
    with coupon_shops() as made:
        made.lead(monkeypatch)
        yield made


@contextmanager
def installed(database_url: str, *programmes: str, **options: Any) -> Iterator[Driver]:
    with small(database_url, REDEEMED, programmes=programmes, fetch_local="yes", **options) as driver:
        driver.post("ping.one", customer=ANN)
        try:
            work._real = driver.clock  # type: ignore[assignment]  # so that a shop's quiet passes as the days do
            yield driver
            with driver.app.reading() as connection:
                assert not proof.verify(connection).differences
                assert connection.execute(sa.select(claims)).all() == []
        finally:
            work._real = DatabaseClock()
            driver.actors.close()


def rewarded(driver: Driver) -> None:
    """Bob orders with Ann's code, and the hold ends."""
    order(driver, codes=[code(driver)])
    driver.at(days=14)


def told(driver: Driver, name: str) -> list[dict[str, Any]]:
    e = events.c
    return [dict(row[0]) for row in driver.rows(sa.select(e.payload).where(e.name == name).order_by(e.id))]


def rows(driver: Driver) -> list[tuple[Any, ...]]:
    c = table.c
    return driver.rows(sa.select(c.name, c.state, c.tries).order_by(c.name, c.id))


def reasons(driver: Driver) -> set[str]:
    return {row[0] for row in driver.rows(sa.select(table.c.reason))}


def findings(driver: Driver) -> list[str]:
    with driver.app.reading() as connection:
        found = doctor.examine(connection, driver.clock.now(), driver.app.settings, catalog=driver.app.catalog)
    return [finding.check for finding in found]


def standing(driver: Driver) -> Any:
    customer = driver.customer("ann")
    with driver.app.reading() as connection:
        return ledger.balances(connection, [customer], driver.clock.now())[customer, "beans", "points"]


def redeem(driver: Driver, key: str = "k") -> redemptions.Redemption:
    """Ann spends 50 of her points."""
    with driver.app.writing() as connection:
        release, now = driver.app.catalog.current(connection), driver.clock.now()
        return redemptions.redeem(connection, release, driver.customer("ann"), "beans", "five-off", key, now)


def cancel(driver: Driver, redemption: int) -> redemptions.Redemption:
    with driver.app.writing() as connection:
        return redemptions.cancel(connection, redemption, driver.clock.now())


def states(driver: Driver) -> list[tuple[str, str | None]]:
    with driver.app.reading() as connection:
        found = redemptions.of_customer(connection, driver.customer("ann"))
    return [(one.state, one.code) for one in found]


def earn(driver: Driver, points: int = 100) -> None:
    order(driver, ANN, id_="a1", total=points)


# Rewards of referrals


@EVERY
def test_both_sides_get_a_code_of_their_own_which_the_event_names(database_url, shops, provider):
    with installed(database_url, friends(provider)) as driver:
        rewarded(driver)

        says = told(driver, "referral.rewarded")
        assert [(one["side"], one["coupon"]) for one in says] == [("referrer", "thanks-10"), ("referee", "welcome-10")]
        assert {(provider, one["code"]) for one in says} == set(shops.created)
        assert len(shops.created) == 2
        assert rows(driver) == [("thanks-10", "standing", 1), ("welcome-10", "standing", 1)]
        assert findings(driver) == []


def test_nobody_is_told_before_the_code_stands(database_url, shops):
    shops.always["shopify"] = "500"
    with installed(database_url, friends()) as driver:
        rewarded(driver)
        assert told(driver, "referral.rewarded") == []
        assert {row[1] for row in rows(driver)} == {"wanted"}
        assert reasons(driver) == {"shopify was asked to create a code and answered 500."}
        driver.at(days=14, minutes=20)
        assert "codes that do not come" in findings(driver)

        shops.always.clear()
        driver.at(days=14, hours=2)
        assert {one["code"] for one in told(driver, "referral.rewarded")} == {one for _, one in shops.created}
        assert len(shops.created) == 2
        assert findings(driver) == []


@EVERY
@pytest.mark.parametrize("fault", ["lost", "500", "429 retry-after=1", "throttled", "html", "401"])
def test_whatever_the_shop_answers_there_is_one_code_in_the_end(sqlite_url, shops, provider, fault):
    shops.faults += [fault] * 3
    with installed(sqlite_url, friends(provider)) as driver:
        rewarded(driver)
        driver.at(days=16)
        assert [row[1] for row in rows(driver)] == ["standing", "standing"]
        assert len(shops.created) == 2
        assert {one["code"] for one in told(driver, "referral.rewarded")} == {one for _, one in shops.created}


def test_a_shop_that_is_down_keeps_no_other_waiting(database_url, shops):
    shops.always["woocommerce"] = "500"
    both = json.loads(friends("woocommerce"))
    both["coupons"]["welcome-10"]["codes"] = "stripe"
    with installed(database_url, json.dumps(both)) as driver:
        rewarded(driver)
        assert [(one["side"], one["coupon"]) for one in told(driver, "referral.rewarded")] == [
            ("referee", "welcome-10")
        ]
        assert rows(driver) == [("thanks-10", "wanted", 1), ("welcome-10", "standing", 1)]


def test_without_credentials_everything_waits_and_says_for_what(database_url, shops, monkeypatch):
    monkeypatch.delenv("SHOPIFY_ADMIN_TOKEN")
    with installed(database_url, friends()) as driver:
        rewarded(driver)
        assert shops.asked == []
        [reason] = reasons(driver)
        assert "SHOPIFY_ADMIN_TOKEN must be in the environment" in reason

        shops.lead(monkeypatch)
        driver.at(days=16)
        assert len(told(driver, "referral.rewarded")) == 2


def test_what_the_shop_refuses_is_set_aside_for_a_person_who_tries_it_again(database_url, shops):
    shops.always["shopify"] = "422"
    with installed(database_url, friends()) as driver:
        rewarded(driver)
        assert [row[1] for row in rows(driver)] == ["failed", "failed"]
        assert findings(driver) == ["codes that failed"]

        shops.always.clear()
        with driver.app.writing() as connection:
            aside = coupons.listed(connection, [CouponState.FAILED])
            assert coupons.retry(connection, [row.id for row in aside], driver.clock.now()) == 2
        driver.drain()
        assert len(told(driver, "referral.rewarded")) == len(shops.created) == 2


def test_after_most_of_a_day_a_person_is_told(sqlite_url, shops):
    shops.always["shopify"] = "500"
    with installed(sqlite_url, friends()) as driver:
        rewarded(driver)
        driver.at(days=17)
        assert rows(driver) == [("thanks-10", "failed", TRIES_MAX), ("welcome-10", "failed", TRIES_MAX)]
        assert findings(driver) == ["codes that failed"]


def test_a_code_that_is_somebody_elses_is_never_told_of(database_url, shops):
    with installed(database_url, friends()) as driver:
        order(driver, codes=[code(driver)])
        taken = [code_of(driver.secret, f"referral-reward/{number}") for number in (1, 2)]
        for one in taken:
            shops._create("shopify", "gid://shopify/DiscountCodeNode/{}", one, {"title": "Spring sale"})
        driver.at(days=15)
        assert told(driver, "referral.rewarded") == []
        assert reasons(driver) == {"shopify was asked to create a code and has the code already, and not from us."}


def test_codes_of_a_list_are_drawn_and_who_finds_none_waits_for_more(database_url, shops):
    with installed(database_url, friends("imported")) as driver:
        with driver.app.writing() as connection:
            coupons.add(connection, "thanks-10", ["ONE", "TWO"], driver.clock.now())
        rewarded(driver)
        assert [one.get("code") for one in told(driver, "referral.rewarded")] == ["ONE"]
        assert reasons(driver) >= {
            "No code of 'welcome-10' is left; add some with `afterglow loyalty codes welcome-10`."
        }

        with driver.app.writing() as connection:
            assert coupons.add(connection, "welcome-10", ["THREE"], driver.clock.now()) == 1
        driver.drain()
        assert [one.get("code") for one in told(driver, "referral.rewarded")] == ["ONE", "THREE"]
        assert rows(driver) == [("thanks-10", "free", 0), ("thanks-10", "standing", 1), ("welcome-10", "standing", 1)]
        assert shops.asked == []


@EVERY
def test_a_reward_that_is_taken_back_takes_its_code_out_of_use(database_url, shops, provider):
    with installed(database_url, friends(provider)) as driver:
        rewarded(driver)
        shops.codes[provider][told(driver, "referral.rewarded")[1]["code"]].uses = 1
        refund(driver, 40)
        with driver.app.writing() as connection:
            reviewing.reject(connection, 1, author="kim", reason="returned", now=driver.clock.now())
        driver.drain()
        driver.at(days=16)
        assert [one.active for one in shops.codes[provider].values()] == [False, False]
        assert rows(driver) == [("thanks-10", "disabled", 1), ("welcome-10", "used", 1)]


def test_what_is_taken_back_before_it_was_asked_for_never_is(database_url, shops):
    shops.always["shopify"] = "500"
    with installed(database_url, friends()) as driver:
        rewarded(driver)
        with driver.app.writing() as connection:
            reviewing.reject(connection, 1, author="kim", reason="returned", now=driver.clock.now())
        shops.always.clear()
        driver.drain()
        driver.at(days=16)
        assert shops.created == []
        assert {row[1] for row in rows(driver)} == {"disabled"}
        assert told(driver, "referral.rewarded") == []


# Points


def test_points_are_held_until_the_code_stands_and_then_spent(database_url, shops):
    with installed(database_url, beans()) as driver:
        earn(driver)
        made = redeem(driver)
        assert (made.state, made.code) == ("making", None)
        assert (standing(driver).spendable, standing(driver).held) == (50, 50)
        assert redeem(driver) == made, "the same key again"

        driver.drain()
        [(state, given)] = states(driver)
        assert (state, ("shopify", given)) == ("given", shops.created[0])
        assert (standing(driver).spendable, standing(driver).held, standing(driver).balance) == (50, 0, 50)
        assert [(one["code"], one["points"]) for one in told(driver, "reward.redeemed")] == [(given, 50)]
        assert findings(driver) == []


def test_what_the_shop_refuses_gives_the_points_back_to_the_lots_they_came_from(database_url, shops):
    shops.always["shopify"] = "422"
    with installed(database_url, beans()) as driver:
        earn(driver)
        expires_at = standing(driver).expires_at
        redeem(driver)
        driver.drain()
        assert states(driver) == [("failed", None)]
        assert (standing(driver).spendable, standing(driver).held) == (100, 0)
        assert standing(driver).expires_at == expires_at
        assert told(driver, "reward.redeemed") == []
        with pytest.raises(redemptions.RedemptionError, match="brought nothing"):
            cancel(driver, 1)
        assert findings(driver) == ["codes that failed"]

        with driver.app.writing() as connection:
            assert coupons.retry(connection, [1], driver.clock.now()) == 0, "its points went back"
            work.dismiss(connection, [1], driver.clock.now())
        shops.always.clear()
        driver.drain()
        assert findings(driver) == []


@EVERY
def test_cancelling_waits_until_the_shop_took_the_code_out_of_use(database_url, shops, provider):
    with installed(database_url, beans(provider)) as driver:
        earn(driver)
        made = redeem(driver)
        driver.drain()
        shops.faults += ["500"]
        assert cancel(driver, made.id).state == "cancelling"
        driver.drain()
        assert standing(driver).spendable == 50
        with pytest.raises(redemptions.RedemptionError, match="cancelled already"):
            cancel(driver, made.id)

        driver.at(hours=1)
        assert states(driver)[0][0] == "cancelled"
        assert standing(driver).spendable == 100
        assert not next(iter(shops.codes[provider].values())).active


def test_a_code_that_was_used_stays_given(database_url, shops):
    with installed(database_url, beans()) as driver:
        earn(driver)
        made = redeem(driver)
        driver.drain()
        next(iter(shops.codes["shopify"].values())).uses = 1
        cancel(driver, made.id)
        driver.drain()
        assert states(driver)[0][0] == "given"
        assert standing(driver).spendable == 50
        with pytest.raises(redemptions.RedemptionError, match="was used"):
            cancel(driver, made.id)


def test_what_is_cancelled_while_it_is_made_gives_the_points_back_at_once(database_url, shops):
    shops.faults += ["lost"]  # so the code exists, and nobody heard of it
    with installed(database_url, beans()) as driver:
        earn(driver)
        made = redeem(driver)
        driver.drain()
        assert cancel(driver, made.id).state == "cancelled"
        assert standing(driver).spendable == 100
        driver.at(hours=1)
        assert [one.active for one in shops.codes["shopify"].values()] == [False]
        assert told(driver, "reward.redeemed") == []


def test_a_code_whose_points_went_back_meanwhile_is_taken_out_of_use(database_url, shops):
    shops.always["shopify"] = "500"
    with installed(database_url, beans()) as driver:
        earn(driver)
        redeem(driver)
        driver.drain()
        with driver.app.writing() as connection:
            hold = connection.execute(sa.select(holds.c.transaction_id)).scalar_one()
            back = ledger.Void(key="merged", hold_id=hold, event_at=driver.clock.now())
            ledger.void(connection, [back], driver.clock.now())
        shops.always.clear()
        driver.at(hours=1)
        assert states(driver)[0][0] == "failed"
        assert standing(driver).spendable == 100
        assert [one.active for one in shops.codes["shopify"].values()] == [False]
        assert told(driver, "reward.redeemed") == []


def test_a_code_that_cannot_be_taken_out_of_use_waits_for_a_person(database_url, shops):
    with installed(database_url, beans()) as driver:
        earn(driver)
        made = redeem(driver)
        driver.drain()
        shops.always["shopify"] = "422"
        cancel(driver, made.id)
        driver.drain()
        assert rows(driver) == [("five", "stuck", 1)]
        assert findings(driver) == ["codes that are still in use"]

        with driver.app.writing() as connection:
            work.dismiss(connection, [1], driver.clock.now())
            with pytest.raises(coupons.CouponError, match="waits for nobody"):
                work.dismiss(connection, [1], driver.clock.now())
        assert states(driver)[0][0] == "cancelled"
        assert standing(driver).spendable == 100


# Crashes


class _Crash(BaseException):
    """The process is gone."""


@EVERY
def test_a_crash_at_any_point_leaves_one_code_for_each_reward(sqlite_url, shops, provider, monkeypatch):
    """The worker ends before or after each call, before and after what it writes; the next one takes up the work."""
    with installed(sqlite_url, friends(provider), beans(provider)) as driver:
        earn(driver)
        redeem(driver)
        order(driver, codes=[code(driver)])
        crashes = _crashes(driver, monkeypatch)
        driver.clock.jump(driver.clock.now() + timedelta(days=15))
        driver.actors.tend()
        for _ in range(200):
            driver.clock.jump(driver.clock.now() + timedelta(hours=1))
            try:
                driver.drain()
            except _Crash:
                continue
            if not driver.rows(sa.select(table.c.id).where(table.c.due_at.is_not(None))):
                break
        assert next(crashes, None) is None, "every crash happened"
        assert len(shops.created) == 3
        said = {one["code"] for name in ("referral.rewarded", "reward.redeemed") for one in told(driver, name)}
        assert said == {one for _, one in shops.created}
        assert standing(driver).balance == 50


def _crashes(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Crashes still to come: each point once, in turn."""
    left = iter(
        ["before a call", "after a call", "after a second call", "before writing", "after writing", "after all"]
    )
    state = {"next": next(left), "calls": 0}

    def at(point: str) -> None:
        if state["next"] == point:
            state["next"] = next(left, "")
            raise _Crash

    call, settle, written = driver.actors._asker.call, work.settle, coupons.write

    def calling(*given: Any) -> Any:
        at("before a call")
        replies = call(*given)
        state["calls"] += 1
        at("after a call")
        if state["calls"] % 2:
            at("after a second call")
        return replies

    def settling(*given: Any) -> Any:
        at("before writing")
        done = settle(*given)
        at("after writing")
        return done

    def writing(*given: Any) -> None:
        written(*given)
        at("after all")

    monkeypatch.setattr(driver.actors._asker, "call", calling)
    monkeypatch.setattr(work, "settle", settling)
    monkeypatch.setattr(coupons, "write", writing)

    def still() -> Iterator[str]:
        while state["next"]:
            yield state["next"]

    return still()


CHILD = """
import os, sys
from datetime import datetime
import workers.coupons
from afterglow.coupons import providers
from db.app import open_app
from db.clock import JumpingClock
from db.settings import load_settings
from tests.coupon_shops import here
from workers.asker import Asker
from workers.coupons import Coupons

url, base, when, now = sys.argv[1:]
for name, talks in list(providers.PROVIDERS.items()):
    providers.PROVIDERS[name] = here(name, talks, base)
clock = workers.coupons._real = JumpingClock(datetime.fromisoformat(now))
app = open_app(load_settings(database_url=url, fetch_local="yes"), clock=clock)
asker = Asker(allow_local=True)
call = asker.call
def dying(*given):
    replies = call(*given) if when == "after" else None
    os.kill(os.getpid(), 9)
asker.call = dying
Coupons(app, asker).run()
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_that_is_killed_in_the_middle_of_a_call_leaves_one_code(postgres_url, shops, when):
    with installed(postgres_url, beans()) as driver:
        earn(driver)
        redeem(driver)
        environment = {**os.environ, "AFTERGLOW_SECRET": driver.app.settings.secret.get_secret_value()}
        words = [sys.executable, "-c", CHILD, postgres_url, shops.base, when, driver.clock.now().isoformat()]
        died = subprocess.run(words, cwd=ROOT, env=environment, check=False, timeout=60)
        assert died.returncode == -signal.SIGKILL
        assert len(shops.created) == (when == "after")
        assert rows(driver) == [("five", "wanted", 1)]

        driver.at(hours=1)
        assert [row[1] for row in rows(driver)] == ["standing"]
        assert len(shops.created) == 1


def test_a_talk_that_ends_after_the_reward_was_taken_back_changes_nothing(database_url, shops, monkeypatch):
    """While a worker waits for the shop's answer the reward is taken back: the code that comes is taken out of use."""
    with installed(database_url, friends()) as driver:
        order(driver, codes=[code(driver)])
        call = driver.actors._asker.call

        def slow(*given: Any) -> Any:
            replies = call(*given)
            monkeypatch.undo()
            shops.lead(monkeypatch)
            with driver.app.writing() as connection:
                reviewing.reject(connection, 1, author="kim", reason="returned", now=driver.clock.now())
            driver.actors.tend()
            return replies

        monkeypatch.setattr(driver.actors._asker, "call", slow)
        driver.at(days=15)
        driver.at(days=16)
        assert len(shops.created) == 2
        assert [one.active for one in shops.codes["shopify"].values()] == [False, False]
        assert {row[1] for row in rows(driver)} == {"disabled"}
        assert told(driver, "referral.rewarded") == []


def test_two_workers_never_talk_about_one_code(postgres_url, shops):
    with installed(postgres_url, beans()) as driver:
        earn(driver)
        redeem(driver)
        with driver.app.writing() as connection:
            first = coupons.claim(connection, driver.secret, driver.clock.now(), 10)
        with driver.app.writing() as connection:
            assert coupons.claim(connection, driver.secret, driver.clock.now(), 10) == []
        assert [row.tries for row in first] == [1]
        driver.at(hours=1)
        assert len(shops.created) == 1


def test_no_code_stands_in_the_log(sqlite_url, shops, capsys):
    shops.faults += ["500", "lost", "429 retry-after=1"]
    with installed(sqlite_url, friends()) as driver:
        rewarded(driver)
        driver.at(days=16)
        said = capsys.readouterr()
        assert shops.created
        assert [code for _, code in shops.created if code in said.out + said.err] == []


# Referral links


def test_the_code_of_a_referral_link_is_a_code_at_the_shop_and_brings_the_friend(database_url, shops):
    invite = flow("invite", [{"send": "email/invite"}], starts={"event": "ping.two"}, topic="news")
    hello = {"codes": "shopify", "percent": 10, "minimum": "20.00"}
    programme = friends(
        "shopify", carries="hello", rewards={"referrer": {"coupon": "thanks"}}, coupons={"hello": hello}
    )
    with installed(database_url, programme) as driver:
        put_into_force(driver, invite, programmes=(programme,))
        driver.post("ping.two", customer=ANN, consent="granted")
        driver.post("ping.two", customer=ANN)
        mine = code(driver)

        [(spelling, made)] = shops.codes["shopify"].items()
        assert (spelling, "usageLimit" in made.said, made.said["appliesOncePerCustomer"]) == (mine, False, True)
        assert rows(driver) == [("hello", "standing", 1)]
        order(driver, codes=[mine.lower()])
        assert [row["side"] for row in told(driver, "referral.attributed")] == ["referrer", "referee"]
        assert told(driver, "referral.rewarded") == []


def test_fetching_and_coupons_together_leave_sending_a_seat():
    sending = Seats(2)
    assert sending.lend()
    assert not sending.lend(), "the other one waits for the next hint"
    assert sending.take()
    sending.take_back()
    assert sending.lend()


# Files


@pytest.mark.parametrize(
    ("coupons", "sentence"),
    [
        ("{thanks: {codes: shopify}}", "A created code takes a 'percent' or an 'amount' off the order"),
        ("{thanks: {codes: shopify, percent: 10, amount: 5}}", "give one of the two"),
        ("{thanks: {codes: imported, percent: 10}}", "take 'percent' away"),
        ("{thanks: {codes: imported, valid_for: 3 days}}", "take 'valid_for' away"),
        ("{thank: {codes: imported}}", "No reward of this programme gives the coupon 'thank'. Did you mean 'thanks'?"),
        ("{thanks: {codes: shopify, percent: 10, valid_for: soon}}", "'soon' is not a duration"),
        ("{thanks: {codes: shopify, percent: 10.123}}", "two decimals at most"),
        ("{thanks: {codes: shopifi, percent: 10}}", "shopify"),
        ("{thanks: {codes: shopify, percent: 110}}", "100"),
        ("{thanks: {codes: stripe, percent: 10}}\ncarries: thanks", "A link carries a code of Shopify alone"),
    ],
)
def test_a_slip_in_a_file_is_told_with_its_place(coupons, sentence):
    text = (
        "programme: friends\nkind: referral\nabout: x\nqualifies: {on: order.paid}\n"
        f"rewards: {{referrer: {{coupon: thanks}}}}\ncoupons: {coupons}\n"
    )
    with pytest.raises(Problems) as problems:
        read_referral(text, "flows/programmes/friends.yaml")
    assert any(sentence in one.message and one.line >= 6 for one in problems.value.problems), problems.value.problems
