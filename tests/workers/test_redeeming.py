"""Many rewards are bought at once, as one after the other would be, in as few statements as one."""

from typing import Any

import sqlalchemy as sa

from db import coupons, ledger, redemptions
from db.redemptions import Redemption, RedemptionError, Wish
from db.tables import coupons as codes
from tests.driver import Driver
from tests.workers.test_loyalty import CREDIT, FIVE_OFF, order, shop

REWARDS = [FIVE_OFF, CREDIT]


def wish(driver: Driver, customer: str, reward: str, key: str) -> Wish:
    return Wish(customer_id=driver.customer(customer), programme="beans", reward=reward, key=key)


def bought(driver: Driver, *wishes: Wish) -> list[str]:
    """What became of each: the code or the state, or why not."""
    with driver.app.writing() as connection:
        release = driver.app.catalog.current(connection)
        outcomes = redemptions.redeem_all(connection, release, wishes, driver.clock.now())
    return [told(outcomes[one]) for one in wishes]


def told(outcome: Redemption | RedemptionError) -> str:
    return str(outcome) if isinstance(outcome, RedemptionError) else outcome.code or outcome.state


def with_points(driver: Driver, *customers: str, points: int = 100) -> None:
    for name in customers:
        order(driver, f"o-{name}", points, customer={"id": name})


def test_each_is_bought_or_refused_for_itself_and_a_refusal_leaves_nothing_behind(database_url):
    with shop(database_url, rewards=REWARDS) as driver:
        with_points(driver, "ann", "ben")
        with driver.app.writing() as connection:
            coupons.add(connection, "five", ["A"], driver.clock.now())

        found = bought(
            driver,
            wish(driver, "ann", "credit", "1"),
            wish(driver, "ann", "credit", "2"),
            wish(driver, "ann", "five-off", "3"),  # 40 points are left, of 50
            wish(driver, "ben", "five-off", "4"),  # and so the code is his
            wish(driver, "ben", "five-off", "5"),
            wish(driver, "ben", "nothing", "6"),
            wish(driver, "ann", "credit", "1"),
            wish(driver, "ben", "credit", "1"),
        )

        assert found[:2] == ["given", "given"]
        assert found[2] == f"'five-off' costs 50 and customer {driver.customer('ann')} can spend 40."
        assert found[3] == "A"
        assert found[4].startswith("No code of 'five' is left")
        assert found[5].startswith("'beans' has no reward 'nothing'.")
        assert found[6] == "given"
        assert found[7].startswith("Something else was redeemed under the key '1'")
        again = bought(driver, wish(driver, "ann", "credit", "2"), wish(driver, "ben", "credit", "2"))
        assert again[0] == "given"
        assert again[1].startswith("Something else was redeemed under the key '2'")
        with driver.app.reading() as connection:
            both = [driver.customer("ann"), driver.customer("ben")]
            points = ledger.balances(connection, both, driver.clock.now())
            assert [points[one, "beans", "points"].spendable for one in both] == [40, 50]
        assert driver.rows(sa.select(codes.c.code, codes.c.state)) == [("A", "standing")]


def test_as_few_statements_buy_many_rewards_as_one(postgres_url):
    asked = {}
    with shop(postgres_url, rewards=REWARDS) as driver:
        with driver.app.writing() as connection:
            coupons.add(connection, "five", [f"C{n}" for n in range(50)], driver.clock.now())
        for size in (1, 20):
            names = [f"c{size}-{n}" for n in range(size)]
            with_points(driver, *names)
            wishes = [
                wish(driver, name, reward["id"], f"{name} {reward['id']}") for name in names for reward in REWARDS
            ]
            statements: list[Any] = []

            def counted(*said: Any, heard: list[Any] = statements) -> None:
                heard.append(said[2])

            sa.event.listen(driver.app.database.engine, "before_cursor_execute", counted)
            bought(driver, *wishes)
            sa.event.remove(driver.app.database.engine, "before_cursor_execute", counted)
            asked[size] = len(statements)
    assert asked[20] == asked[1]
