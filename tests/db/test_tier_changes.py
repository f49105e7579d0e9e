"""Other tiers for a programme in force: nobody is lowered unasked, or before the grace that was promised is over."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from db import tier_changes
from db.tables import memberships, releases
from db.tier_changes import Move
from tests.driver import START, Driver, driving
from tests.small_shop import put_into_force
from tests.workers.test_loyalty import LEVELS, names_of_events, order, programme, shop, tier
from workers.applying import apply_folder
from workers.scaffold import make_shop

TIERS: dict[str, Any] = {"over": "rolling 12 months", "levels": LEVELS, "grace": "30 days"}
HIGHER = [LEVELS[0], {"tier": "silver", "from": 500}, {"tier": "gold", "from": 2000}]


@pytest.fixture
def driver(database_url: str) -> Iterator[Driver]:
    """A customer in silver, by 400 points of START."""
    with shop(database_url, tiers=TIERS) as installation:
        order(installation, "o1", 400)
        assert tier(installation) == "silver"
        yield installation


def change(driver: Driver, **tiers: Any) -> list[Move]:
    """Put other tiers into force, as `apply` does: what changes."""
    with driver.app.reading() as connection:
        before = driver.app.catalog.current(connection).catalog.loyalty
    put_into_force(driver, programmes=(programme(tiers={**TIERS, **tiers}),))
    with driver.app.writing() as connection:
        now, catalog = driver.clock.now(), driver.app.catalog.current(connection).catalog
        found = tier_changes.moves(connection, before, catalog.loyalty, catalog.shop, now)
        tier_changes.arrange(connection, found, catalog.loyalty, now)
    return found


def test_who_is_lowered_keeps_the_tier_for_the_grace_that_the_file_before_promised(driver: Driver):
    [move] = change(driver, levels=HIGHER, grace="0 days")

    assert (move.raised, move.lowered, str(move)) == ([], [1], "tiers of beans: 0 up, 1 down")
    with pytest.raises(
        tier_changes.LoweringError, match=r"would lower 1 customer at once and raise 0 customers; say under"
    ):
        tier_changes.refuse_lowering([move])
    order(driver, "o2", 10)
    driver.at(days=29)
    assert tier(driver) == "silver"
    driver.at(days=31)
    assert tier(driver) == "bronze"


def test_who_is_raised_is_looked_at_soon_also_who_was_never_in_a_tier(driver: Driver):
    order(driver, "o2", 100, customer={"id": "other"})
    [move] = change(driver, levels=[LEVELS[0], {"tier": "silver", "from": 100}, {"tier": "gold", "from": 350}])
    tier_changes.refuse_lowering([move])
    driver.at(minutes=1)

    assert (len(move.raised), move.lowered) == (2, [])
    m = memberships.c
    assert driver.rows(sa.select(m.tier).order_by(m.customer_id)) == [("gold",), ("silver",)]


def test_from_a_day_to_come_on_other_levels_hold_with_the_grace_of_the_file(driver: Driver):
    [move] = change(driver, next={"from": "2026-04-01", "levels": HIGHER})
    tier_changes.refuse_lowering([move])
    assert (move.lowered, str(move)) == ([1], "tiers of beans from 2026-04-01 on: 0 up, 1 down")
    order(driver, "o2", 450, customer={"id": "other"})

    driver.at(days=29)
    m = memberships.c
    assert driver.rows(sa.select(m.tier)) == [("silver",), ("silver",)]
    driver.at(days=58)
    assert driver.rows(sa.select(m.tier)) == [("silver",), ("silver",)], "the grace is not over"
    driver.at(days=61)
    assert driver.rows(sa.select(m.tier)) == [("bronze",), ("bronze",)]


def test_lower_levels_from_a_day_on_raise_who_is_in_the_lowest_tier_on_that_day(driver: Driver):
    order(driver, "o2", 100, customer={"id": "other"})
    lower = [LEVELS[0], {"tier": "silver", "from": 100}, {"tier": "gold", "from": 1000}]
    [move] = change(driver, next={"from": "2026-04-01", "levels": lower})
    order(driver, "o3", 150, customer={"id": "third"})
    driver.at(days=29)
    assert len(move.raised) == 1
    driver.at(days=31)

    assert driver.rows(sa.select(memberships.c.tier)) == [("silver",)] * 3


def test_what_changes_nothing_about_levels_says_nothing_and_who_falls_already_is_no_news(driver: Driver):
    assert change(driver, downgrade="to earned") == []
    driver.at(START + timedelta(days=366))
    assert change(driver, grace="60 days") == []
    assert names_of_events(driver) == []


def test_applying_a_folder_that_lowers_somebody_is_refused_and_says_how_many(sqlite_url: str, tmp_path: Path):
    folder = tmp_path / "shop"
    make_shop(folder)
    beans = folder / "flows" / "programmes" / "beans.yaml"
    with driving(sqlite_url) as driver:
        order(driver, "o1", 300, customer={"email": "sam@example.com"})
        assert tier(driver) == "regular"
        assert "{tier: regular, from: 250}" in beans.read_text()
        beans.write_text(beans.read_text().replace("{tier: regular, from: 250}", "{tier: regular, from: 400}"))

        with pytest.raises(tier_changes.LoweringError, match="would lower 1 customer at once"):
            apply_folder(driver.app.database, driver.clock, folder, by="kim")
        assert driver.rows(sa.select(sa.func.count()).select_from(releases)) == [(1,)]

        applied = apply_folder(driver.app.database, driver.clock, folder, by="kim", lowers=True)
        assert applied.tiers == ("tiers of beans: 0 up, 1 down",)
