"""A backtest is no second engine: what is relived from the stored history is what the workers did."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from afterglow import ROOT
from afterglow.backtest import Example, Period, relive
from afterglow.language.catalog import Document
from afterglow.language.testing import Happens
from afterglow.local_time import from_wall
from afterglow.past import OURS, past_key
from afterglow.simulate import Plan, lived, made_up
from afterglow.testing import ShopUnderTest
from afterglow.testing.life import Life
from db import lives
from tests import small_shop
from tests.driver import Driver, driving
from tests.workers.test_cli import Afterglow, afterglow
from tests.workers.test_flow_tests import FLOWS, LONG, SEGMENTS, SHOP, ZONES, Worlds, decided, happenings, under_test
from workers.backtest import Work, backtest

__all__ = ["afterglow"]  # fixture


@pytest.fixture
def worlds(database_url: str) -> Iterator[Worlds]:
    with driving(database_url) as driver:
        small_shop.put_into_force(driver, *FLOWS, segments=SEGMENTS, **SHOP)
        yield Worlds(driver)


def relived(driver: Driver, customer: int, shop: ShopUnderTest) -> Life:
    period = Period(since=datetime(2020, 1, 1, tzinfo=UTC), until=driver.clock.now())
    catalog = shop.catalog
    ((history,),) = lives.histories(driver.app.database, driver.secret, catalog, customer - 1, customer, period)
    (life,) = relive(shop, [history], period)
    return life


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@settings(
    max_examples=300 if LONG else 10,
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
    place = {event.id: n for n, event in enumerate(life.events, start=1)}
    return {
        name: place[value] if name == "event" and isinstance(value, int) else value for name, value in detail.items()
    }


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@settings(
    max_examples=200 if LONG else 5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    flow=st.sampled_from(["check-in", "divided", "pinged", "either"]),
    seed=st.integers(1, 10**6),
    answers=st.sampled_from([0.0, 0.5, 1.0]),
    stops=st.sampled_from([0.0, 0.5]),
)
def test_what_is_simulated_is_what_the_workers_do_with_the_same_events(worlds, flow, seed, answers, stops):
    driver = worlds.driver
    worlds.customers += 1
    start = from_wall(worlds.start, ZoneInfo("Europe/Paris"))
    plan = Plan(shop=under_test(), flow=flow, starts=start, days=20, seed=seed, answers=answers, stops=stops)
    ((who,),) = made_up(plan, [worlds.customers])

    (life,) = lived(plan, [who])

    address = {"id": f"c{worlds.customers}", "email": who.person.email}
    for n, event in enumerate(one for one in life.events if life.told_by[one.id] != OURS):
        driver.at(event.occurred_at)
        driver.post(
            event.name,
            json.loads(orjson.dumps(event.payload, default=float)),
            stage=life.stages[event.id],
            customer=address,
            consent=None if n else "granted",
        )
    driver.at(driver.clock.now() + timedelta(days=60))
    worlds.start = (driver.clock.now() + timedelta(days=2)).replace(tzinfo=None)
    assert driver.customer(address["id"]) == who.person.id
    mine = [(one.at, one.flow, one.verb, one.step, dict(one.detail)) for one in life.lived.notes]
    assert mine == [one for one in decided(driver, who.person.id) if one[0] <= life.now]  # it ends with the flow


# -- The comparison ------------------------------------------------------------------------------------------

GREETING = [{"id": "two-days", "wait": "2 days"}, {"send": "email/note"}, {"send": "email/news", "id": "again"}]
SOONER = [{"id": "two-days", "wait": "1 day"}, {"send": "email/note"}, {"send": "email/gift", "id": "gift"}]
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def greeting(steps: list[Any], **shop: Any) -> tuple[Document, ...]:
    return small_shop.documents(small_shop.flow("greeting", steps, once_per="order.id"), **shop)


def work(driver: Driver, documents: tuple[Document, ...], since: datetime = START) -> Work:
    return Work(
        database_url=str(driver.app.settings.database_url),
        documents=documents,
        secret=driver.secret,
        since=since,
        until=driver.clock.now(),
    )


@pytest.fixture
def greeted(database_url: str) -> Iterator[Driver]:
    """Two customers were greeted; one withdrew before the second mail."""
    with small_shop.small(database_url, small_shop.flow("greeting", GREETING, once_per="order.id")) as driver:
        for name in ("sam", "kim"):
            who = {"id": name, "email": f"{name}@example.com", "timezone": "Europe/Paris"}
            order = {"order": {"id": name, "total": 40, "gift": "a cup"}}
            driver.post("order.paid", order, customer=who, consent="granted")
        driver.at(days=30)
        yield driver


def test_the_files_in_force_come_to_what_happened(greeted: Driver):
    found = backtest(work(greeted, greeting(GREETING)))

    figures = found.figures
    assert {place: (one.went, one.would, one.same) for place, one in figures.items()} == {
        ("greeting", "email/note"): (2, 2, 2),
        ("greeting", "email/news"): (2, 2, 2),
    }
    assert not any(one.examples or one.dropped for one in figures.values())
    assert (found.customers, found.events, found.reaches_back_to) == (2, 2, START)


def test_what_changed_is_told_by_mail_with_who_and_when(greeted: Driver):
    found = backtest(work(greeted, greeting(SOONER)))

    note, news, gift = (found.figures["greeting", f"email/{name}"] for name in ("note", "news", "gift"))
    assert (note.earlier, note.later, note.same) == (2, 0, 0)
    assert (news.only_went, news.would, gift.only_would, gift.went) == (2, 0, 2, 0)
    sam = greeted.customer("sam")
    assert note.examples["earlier"][0] == Example(
        customer=sam, went=START + timedelta(days=2), would=START + timedelta(days=1)
    )


def test_what_the_caps_would_keep_back_is_counted(greeted: Driver):
    capped = greeting(GREETING, caps=[{"at_most": 1, "within": "7 days"}], keep_for="2 days")

    found = backtest(work(greeted, capped))

    news = found.figures["greeting", "email/news"]
    assert news.only_went == 2
    assert news.deferred == {"cap of 1 within 7 days": 2}
    assert news.dropped == {"it could not go in time, after cap of 1 within 7 days": 2}


def test_only_what_is_since_the_day_asked_for_is_compared(greeted: Driver):
    found = backtest(work(greeted, greeting(GREETING), since=START + timedelta(days=3)))

    assert (found.events, found.figures) == (2, {})


def test_processes_come_to_what_one_comes_to(greeted: Driver, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workers.backtest.RANGE", 1)  # in this process; those that are spawned take whole ranges
    heard: list[float] = []

    alone = backtest(work(greeted, greeting(SOONER)), processes=1, say=lambda found, share: heard.append(share))

    monkeypatch.setattr("db.lives.PAGE", 1)
    assert alone == backtest(work(greeted, greeting(SOONER)), processes=1)
    assert heard == [0.5, 1.0]


def test_the_past_that_was_imported_starts_flows_from_the_day_asked_for_on(greeted: Driver):
    greeted.post(
        "order.paid", {"order": {"id": "old", "total": 10}}, occurred_at=START, key=past_key("order.paid", "old")
    )

    greeted.at(days=31)
    flows = greeting([{"send": "email/receipt"}])
    since, later = (backtest(work(greeted, flows, START + timedelta(days=n))) for n in (-1, 1))

    assert since.figures["greeting", "email/receipt"].only_would == 3
    assert later.imported == 1
    assert ("greeting", "email/receipt") not in later.figures


def test_the_command_tells_it_in_words_and_as_json(
    greeted: Driver, afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", str(greeted.app.settings.database_url))
    for folder in ("flows", "templates/email"):
        shutil.copytree(ROOT / folder, tmp_path / folder)

    status, told, _ = afterglow("plan", "--since", "2026-03-02")
    assert status == 0
    assert "2 events of 2 customers relived" in told
    assert "The history reaches back to 2026-03-02 08:00 UTC, which is later than the day" in told

    status, told, _ = afterglow("plan", "--since", "2026-03-02", "--format", "json")
    mails = {(one["flow"], one["template"]): one for one in json.loads(told)["mails"]}
    assert status == 0
    assert mails["greeting", "email/note"]["only_went"] == 2

    status, _, errors = afterglow("plan", "--since", "yesterday")
    assert status == 2
    assert "write it as 2026-11-01" in errors
