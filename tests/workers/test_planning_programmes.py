"""A plan counts stored history under changed programmes; under the file in force it comes to what the ledger has."""

from datetime import timedelta

from afterglow.language.catalog import Document
from afterglow.planning.programmes import account
from db import ledger, loyalty, people
from db.ledger import Spend
from tests.driver import Driver
from tests.small_shop import documents, small
from tests.workers import test_referring as referring
from tests.workers.test_loyalty import LEVELS, REFUNDS, RULE, order, programme, refund, standing, tier
from workers.planning import make_plan
from workers.replaying import _happened, _spent, differences

TIERS = {"by": "points", "over": "lifetime", "downgrade": "to earned", "levels": LEVELS}
REWARDS = [{"id": "five", "about": "Five off", "costs": 250, "gives": {"coupon": "five"}}]
BEANS = programme(refunds=REFUNDS, tiers=TIERS, rewards=REWARDS, expires={"after": "6 months"})
CAT = {"id": "c2", "email": "cat@example.com"}


def spend(driver: Driver, amount: int) -> None:
    with driver.app.writing() as connection:
        now = driver.clock.now()
        said = Spend(
            programme="beans", asset="points", customer_id=driver.customer(), key="a gift", amount=amount, event_at=now
        )
        ledger.spend(connection, [said], now)


def lived(driver: Driver) -> None:
    order(driver, "o1", 400)
    driver.at(days=10)
    order(driver, "o2", 240)
    order(driver, "o3", 120, customer=CAT)
    refund(driver, "o2", 60)
    driver.at(days=20)
    spend(driver, 150)
    driver.at(days=200)
    order(driver, "o4", 90)
    driver.at(days=201)


def test_under_the_file_in_force_history_comes_to_what_the_ledger_has(database_url):
    with small(database_url, programmes=(BEANS,)) as driver:
        lived(driver)
        with driver.app.reading() as connection:
            catalog = driver.app.catalog.current(connection).catalog
            me = driver.customer()
            made = catalog.loyalty["beans"]
            told = _happened(loyalty.told(connection, [me], made.events))[me]
            spent = _spent(connection, [me], made)[me]
            person = people.load(connection, [me])[me]
        found = account(made, catalog.shop, person, told, spent, driver.clock.now())

        assert (found.earned, found.lacking) == (670, 0)
        assert found.left == standing(driver).spendable
        assert made.tiers is not None
        assert made.tiers.names[found.tier] == tier(driver)


def test_a_changed_programme_is_told_with_points_what_is_owed_tiers_rewards_and_places(sqlite_url):
    with small(sqlite_url, programmes=(BEANS,)) as driver:
        lived(driver)
        doubled = programme(
            {**RULE, "points": 2}, refunds=REFUNDS, tiers=TIERS, rewards=REWARDS, expires={"after": "6 months"}
        )
        plan = make_plan(driver.app.database, driver.app.clock, documents(programmes=(doubled,)))

        assert plan.programmes == (
            "~ programme beans",
            "    history of 2 customers, as though each file had always been in force:",
            "    points earned and kept: 790 -> 1,580 (+790); more for 2, fewer for 0",
            "    points that can still be spent, which are owed: 90 -> 180 (+90)",
            "    tiers: 1 up, 0 down",
            "    not counted: points given by hand, brought along or won as a reward",
        )


def test_a_changed_referral_programme_is_told_with_what_counts_and_the_rewards(sqlite_url):
    with referring.shop(sqlite_url) as driver:
        referring.order(driver, codes=[referring.code(driver)])
        driver.at(days=30)
        text = referring.FRIENDS.replace(">= 20", ">= 50").replace("thanks-10", "thanks-20")
        with driver.app.reading() as connection:
            before = driver.app.catalog.current(connection).catalog
        for changed, counts in ((text, "1 -> 0 (-1)"), (text.replace(">= 50", ">= 40"), "1, no change")):
            new = [*documents(), Document(kind="programme", name="friends", body=changed)]
            lines = make_plan(driver.app.database, driver.app.clock, new).programmes
            assert lines[2] == f"    referrals that count: {counts}"
        assert "    rewards of coupon thanks-20: 0 -> 1 (+1)" in lines
        assert [*differences(driver.app.database, before, before, driver.clock.now() + timedelta(days=1))] == []
