"""Flows that start by a date, a schedule, a moment, or when asked: whom they reach, when, and how often."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from db import bulk, merging, privacy
from db.tables import coming_dates, enrollments, occasions, segment_members
from db.why import story
from tests.driver import SAM, SECRET, START, Driver
from tests.small_shop import flow, put_into_force, small
from workers import occasions as reaching
from workers.cli import main

SHOP: Mapping[str, Any] = {"attributes": {"birthday": "date", "renewal": "date", "vip": "yes-no"}}
STEPS = [{"send": "email/receipt"}]
BIRTHDAY = flow("birthday", STEPS, starts={"date": "customer.birthday", "yearly": True, "at": "10:00"})
RENEWAL = flow("renewal", STEPS, starts={"date": "customer.renewal", "offset": "-30 days", "at": "10:00"})
FRIDAY = {"once": "2026-03-06 09:00", "segment": "all"}
#: START is Monday 2 March 2026, 09:00 in Paris.


def known(driver: Driver, *, who: Mapping[str, Any] = SAM, **attributes: Any) -> None:
    driver.post("customer.updated", customer={**who, "attributes": attributes})


def person(n: int, zone: str = "Europe/Paris") -> dict[str, Any]:
    return {"id": f"c{n}", "email": f"c{n}@example.com", "timezone": zone}


def begun(driver: Driver) -> list[tuple[int, str]]:
    """Customer, and when it was for each run, in UTC."""
    rows = driver.rows(sa.select(enrollments.c.customer_id, enrollments.c.entered_at).order_by(enrollments.c.id))
    return [(customer, f"{at:%Y-%m-%d %H:%M}") for customer, at in rows]


def join(driver: Driver, *customer_ids: int, since: datetime = START, segment: str = "all") -> None:
    rows = [(segment, id_, since) for id_ in customer_ids]
    with driver.app.writing() as connection:
        bulk.insert(connection, segment_members, ("segment", "customer_id", "since"), rows)


# Dates


def test_a_birthday_starts_every_year_where_the_customer_lives_and_29_february_is_kept_a_day_before(database_url):
    with small(database_url, BIRTHDAY, shop=SHOP) as driver:
        known(driver, birthday="1992-02-29")
        known(driver, who=person(2, "America/New_York"), birthday="1980-03-05")
        driver.at(datetime(2028, 12, 31, tzinfo=UTC))

        assert begun(driver) == [
            (2, "2026-03-05 15:00"),
            (1, "2027-02-28 09:00"),
            (2, "2027-03-05 15:00"),
            (1, "2028-02-29 09:00"),
            (2, "2028-03-05 15:00"),
        ]


def test_what_is_told_late_starts_nothing_and_what_changes_moves_the_start(sqlite_url):
    with small(sqlite_url, BIRTHDAY, RENEWAL, shop=SHOP) as driver:
        known(driver, birthday="1990-03-01", renewal="2026-03-20")  # both past
        driver.at(days=1)
        assert begun(driver) == []
        known(driver, renewal="2026-04-10")
        driver.at(days=2)
        known(driver, renewal="2026-04-20")
        driver.at(days=60)

        assert begun(driver) == [(1, "2026-03-21 09:00")]


def test_who_moves_on_the_day_is_told_at_once_or_later_but_once(sqlite_url):
    with small(sqlite_url, BIRTHDAY, shop=SHOP) as driver:
        known(driver, who=person(1, "America/New_York"), birthday="1990-03-05")
        known(driver, who=person(2, "Europe/Paris"), birthday="1990-03-05")
        driver.at(datetime(2026, 3, 5, 12, tzinfo=UTC))  # 10:00 has passed in Paris, and is still to come in New York
        driver.post("customer.updated", customer=person(1, "Europe/Paris"))
        driver.post("customer.updated", customer=person(2, "America/New_York"))
        driver.at(days=10)

        assert sorted(begun(driver)) == [(1, "2026-03-05 09:00"), (2, "2026-03-05 09:00")]


def test_a_flow_that_comes_into_force_later_finds_those_who_were_there_and_none_of_the_past(database_url, monkeypatch):
    monkeypatch.setattr(reaching, "BATCH", 2)
    with small(database_url, shop=SHOP) as driver:
        for n, day in enumerate(("01", "02", "03", "04", "05"), 1):
            known(driver, who=person(n), birthday=f"1990-03-{day}")
        driver.at(days=1, hours=4)  # 3 March, 13:00 in Paris
        put_into_force(driver, BIRTHDAY, **SHOP)
        driver.at(days=5)

        assert begun(driver) == [(4, "2026-03-04 09:00"), (5, "2026-03-05 09:00")]


def test_a_paused_flow_waits_with_what_is_not_too_old_and_one_taken_away_is_forgotten(sqlite_url):
    paused = BIRTHDAY.replace('"live"', '"paused"')
    with small(sqlite_url, paused, shop=SHOP) as driver:  # keep_for is three days
        known(driver, who=person(1), birthday="1990-03-03")
        known(driver, who=person(2), birthday="1990-03-07")
        driver.at(days=6)
        assert begun(driver) == []
        put_into_force(driver, BIRTHDAY, **SHOP)
        driver.at(days=6, hours=1)
        assert begun(driver) == [(2, "2026-03-07 09:00")]
        put_into_force(driver, **SHOP)
        driver.at(days=7)

        assert driver.rows(sa.select(occasions.c.flow)) == driver.rows(sa.select(coming_dates.c.flow)) == []


def test_an_edit_moves_the_start_and_tells_nobody_twice(sqlite_url):
    with small(sqlite_url, RENEWAL, shop=SHOP) as driver:
        known(driver, who=person(1), renewal="2026-04-02")  # told on 3 March
        known(driver, who=person(2), renewal="2026-04-20")
        driver.at(days=3)
        put_into_force(driver, RENEWAL.replace("-30 days", "-20 days"), **SHOP)
        driver.at(days=60)

        assert begun(driver) == [(1, "2026-03-03 09:00"), (2, "2026-03-31 08:00")]


def test_forgetting_and_merging_leave_no_date_behind(database_url):
    with small(database_url, BIRTHDAY, shop=SHOP) as driver:
        known(driver, who=person(1), birthday="1990-03-10")
        driver.at(hours=1)
        known(driver, who=person(2), birthday="1990-03-11")
        known(driver, who=person(3), birthday="1990-03-12")
        with driver.app.writing() as connection:
            privacy.forget(connection, 3, driver.clock.now(), driver.secret)
        with driver.app.writing() as connection:
            merging.want_by_hand(connection, 1, 2, "the test says so", driver.clock.now())
        driver.at(days=20)

        assert begun(driver) == [(1, "2026-03-11 09:00")]  # newer news wins


# Schedules and moments


def test_a_moment_reaches_everybody_in_the_segment_then_by_their_own_clock_and_nobody_later(database_url, monkeypatch):
    monkeypatch.setattr(reaching, "BATCH", 2)
    with small(database_url, flow("friday", STEPS, starts=FRIDAY)) as driver:
        for n, zone in enumerate(("Europe/Paris", "America/New_York", "Asia/Tokyo", "Europe/Paris", "Asia/Tokyo"), 1):
            known(driver, who=person(n, zone))
        known(driver, who={"id": "c6", "email": "c6@example.com"})  # nobody knows where: the shop's clock
        join(driver, 1, 2, 3, 4, 6)
        join(driver, 5, since=datetime(2026, 3, 6, 0, 0, 1, tzinfo=UTC))
        driver.at(days=30)

        assert begun(driver) == [
            (3, "2026-03-06 00:00"),
            (1, "2026-03-06 08:00"),
            (4, "2026-03-06 08:00"),
            (6, "2026-03-06 08:00"),
            (2, "2026-03-06 14:00"),
        ]
        assert driver.rows(sa.select(enrollments.c.lane).distinct()) == [(1,)]


def test_a_schedule_comes_again_and_again_by_the_clock_it_names(sqlite_url):
    weekly = {"schedule": "30 9 * * TUE", "segment": "all", "zone": "shop"}
    with small(sqlite_url, flow("weekly", STEPS, starts=weekly)) as driver:
        known(driver, who=person(1, "Asia/Tokyo"))
        join(driver, 1)
        driver.at(days=36)

        assert [at for _, at in begun(driver)] == [
            "2026-03-03 08:30",
            "2026-03-10 08:30",
            "2026-03-17 08:30",
            "2026-03-24 08:30",
            "2026-03-31 07:30",  # clocks went forward
            "2026-04-07 07:30",
        ]


def test_what_came_while_a_flow_was_paused_is_told_once_when_it_goes_on_unless_it_is_old_news(sqlite_url):
    daily = flow("daily", STEPS, starts={"schedule": "0 12 * * *", "segment": "all"}, status="paused")
    once = flow("friday", STEPS, starts=FRIDAY, status="paused")
    old = flow("old", STEPS, starts={"once": "2026-03-03 09:00", "segment": "all"}, status="paused")
    with small(sqlite_url, daily, once, old) as driver:
        known(driver, who=person(1))
        join(driver, 1)
        driver.at(days=5)
        put_into_force(driver, *(text.replace('"paused"', '"live"') for text in (daily, once, old)))
        driver.at(days=5, hours=2)

        assert sorted(begun(driver)) == [(1, "2026-03-06 08:00"), (1, "2026-03-06 11:00")]


def test_an_hour_changed_while_a_moment_is_told_tells_nobody_twice(sqlite_url):
    with small(sqlite_url, flow("friday", STEPS, starts=FRIDAY)) as driver:
        for n in (1, 2):
            known(driver, who=person(n))
        join(driver, 1)
        driver.at(days=4, minutes=30)
        join(driver, 2)
        put_into_force(driver, flow("friday", STEPS, starts={**FRIDAY, "once": "2026-03-06 11:00"}))
        driver.at(days=6)

        assert begun(driver) == [(1, "2026-03-06 08:00"), (2, "2026-03-06 10:00")]


def test_few_events_wait_at_once_so_that_a_webhook_does_not_wait_behind_thousands(sqlite_url, monkeypatch):
    monkeypatch.setattr(reaching, "BATCH", 10)
    monkeypatch.setattr(reaching, "WAITING_MAX", 10)
    with small(sqlite_url, flow("friday", STEPS, starts=FRIDAY)) as driver:
        for n in range(1, 36):
            driver.post("customer.updated", customer=person(n), drained=False)
        driver.drain()
        join(driver, *range(1, 36))
        driver.actors.tend()
        driver.clock.jump(START + timedelta(days=4))
        driver.actors.tend()
        waiting = driver.rows(sa.text("SELECT count(*) FROM inbox WHERE state = 'received'"))
        driver.drain()

        assert waiting == [(10,)]
        assert len({customer for customer, _ in begun(driver)}) == len(begun(driver)) == 35


def test_why_tells_by_which_flow_an_event_of_ours_is_meant_and_blames_no_other(sqlite_url):
    with small(sqlite_url, BIRTHDAY, RENEWAL, shop=SHOP) as driver:
        known(driver, birthday="1990-03-03")
        driver.at(days=2)
        with driver.app.reading() as connection:
            told = "\n".join(str(line) for line in story(connection, driver.app.catalog, driver.secret, 1))

        assert "date.reached came from programme: flow birthday" in told
        assert "birthday: Started by date.reached" in told
        assert "renewal" not in told


def test_nothing_is_written_for_events_that_change_no_date(sqlite_url):
    with small(sqlite_url, BIRTHDAY, shop=SHOP) as driver:
        known(driver, birthday="1990-06-01")
        driver.at(days=1)
        before = driver.rows(sa.select(coming_dates))
        driver.post("order.paid", {"order": {"id": "o1"}}, drained=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reaching.occasions, "look", lambda _, wanted: [1 / 0 for _ in wanted])
            driver.drain()

        assert driver.rows(sa.select(coming_dates)) == before != []


# Asked


def test_a_flow_is_asked_by_command_once_under_a_key_and_knows_what_is_given(sqlite_url, monkeypatch):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    called = flow("called", STEPS, starts={"asked": True, "when": "given.size > 40"})
    command = ["start", "called", "sam@example.com", "--given"]
    with small(sqlite_url, called) as driver:
        known(driver)
        said = [CliRunner().invoke(main, [*command, '{"size": 42}', "--key", "k"]) for _ in range(2)]
        too_small = CliRunner().invoke(main, [*command, '{"size": 39}'])
        driver.drain()
        unknown = CliRunner().invoke(main, ["start", "cald", "sam@example.com"])

        assert [one.exit_code for one in (*said, too_small, unknown)] == [0, 0, 0, 1]
        assert "called was asked already under this key." in said[1].output
        assert "Did you mean 'called'?" in unknown.output
        assert driver.rows(sa.select(enrollments.c.customer_id, enrollments.c.lane)) == [(1, 0)]
