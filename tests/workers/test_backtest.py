"""A backtest is no second engine: what is relived from the stored history is what the workers did."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from afterglow.backtest import Period, relive
from afterglow.language.testing import Happens
from afterglow.local_time import from_wall
from afterglow.testing import ShopUnderTest
from afterglow.testing.living import Life
from db import lives
from tests import small_shop
from tests.driver import Driver, driving
from tests.workers.test_flow_tests import FLOWS, LONG, SHOP, ZONES, Worlds, decided, happenings, under_test
from workers.backtest import Work, backtest

WELCOME = small_shop.flow(
    "welcome",
    [{"id": "two-days", "wait": "2 days"}, {"send": "email/note"}, {"id": "a-day", "wait": "1 day"}, {"send": "email/news"}],
    once_per="customer.id",
)  # fmt: skip


@pytest.fixture
def worlds(database_url: str) -> Iterator[Worlds]:
    with driving(database_url) as driver:
        small_shop.put_into_force(driver, *FLOWS, **SHOP)
        yield Worlds(driver)


def relived(driver: Driver, customer: int, shop: ShopUnderTest) -> Life:
    period = Period(since=datetime(2020, 1, 1, tzinfo=UTC), until=driver.clock.now())
    (history,) = lives.histories(driver.app.database, driver.secret, customer - 1, customer, period)
    return relive(shop, history, period)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@settings(
    max_examples=300 if LONG else 20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    lines=st.lists(happenings(), min_size=1, max_size=7),
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    withdraws=st.none() | st.integers(1, 6),
)
def test_what_is_relived_from_stored_events_is_what_the_workers_did(worlds, lines, zone, hour, withdraws):
    """As far as the database remembers it: one word on consent after another, and attributes that stay."""
    driver = worlds.driver
    worlds.customers += 1
    who = {"id": f"c{worlds.customers}", "email": f"c{worlds.customers}@example.com", "timezone": zone}
    wall = worlds.start.replace(hour=hour)
    for n, (gap, line) in enumerate(lines):
        wall += gap if n else timedelta()
        driver.at(from_wall(wall, ZoneInfo(zone)))
        said = "granted" if not n else "withdrawn" if n == withdraws else None
        _post(driver, who, line, said)
    driver.at(driver.clock.now() + timedelta(days=40))
    number = driver.customer(who["id"])
    worlds.start = (driver.clock.now() + timedelta(days=2)).replace(tzinfo=None)

    life = relived(driver, number, under_test())

    mine = [(one.at, one.flow, one.verb, one.step, _numbered(life, one.detail)) for one in life.lived.notes]
    note("\n".join(map(str, mine)))
    assert mine == decided(driver, number)


def _post(driver: Driver, who: dict[str, Any], line: Happens, said: str | None) -> None:
    driver.post(line.event, line.payload, stage=line.stage, customer=who, consent=said)


def _numbered(life: Life, detail: Any) -> dict[str, Any]:
    """A decision with events counted from one, as `decided` has them."""
    place = {event.id: n for n, event in enumerate(sorted(life.events, key=lambda event: event.id), start=1)}
    return {name: place[value] if name == "event" and isinstance(value, int) else value for name, value in detail.items()}
