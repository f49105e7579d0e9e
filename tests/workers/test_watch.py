"""Sources are watched: counted by the hour, and told of when they fall silent."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from afterglow.language.catalog import Document
from afterglow.language.shop import read_shop
from afterglow.mime import Outgoing, compose
from afterglow.problems import Problems
from db import alarms, catalog, doctor, pulses, rounds
from db.gauges import gauges
from db.tables import inbox
from db.tables import pulses as pulses_table
from tests.driver import START, Driver, shop_files
from tests.small_shop import SHOP, documents, put_into_force, small
from tests.web.conftest import client
from web.app import Faces
from workers.channels import Fate, InDoubt, NotBegun, Rejected, Sent
from workers.watch import watch

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def driver(database_url: str) -> Iterator[Driver]:
    with small(database_url, sources=("shopify", "generic")) as driver:
        yield driver


def came(driver: Driver, source: str, moments: list[datetime], state: str = "mapped") -> None:
    """Webhooks of a source as they stand in the inbox afterwards."""
    rows = [
        {
            "source": source, "key": f"{source}{moment}{n}", "digest": b"d", "state": state, "received_at": moment,
            "headers": {}, "body": b"{}",
        }
        for n, moment in enumerate(moments)
    ]  # fmt: skip
    with driver.app.writing() as connection:
        connection.execute(inbox.insert(), rows)


def counted(driver: Driver) -> list[tuple[object, ...]]:
    p = pulses_table.c
    query = sa.select(p.source, p.hour, p.received, p.mapped, p.ignored, p.parked)
    return driver.rows(query.order_by(p.hour, p.source))


def on(driver: Driver) -> list[str]:
    with driver.app.reading() as connection:
        return [alarm.source for alarm in alarms.raised(connection)]


def steadily(until: datetime, weeks: int = 4, an_hour: int = 12) -> list[datetime]:
    """A source that never sleeps."""
    hours = weeks * 168
    return [until - n * HOUR - m * HOUR / an_hour for n in range(hours) for m in range(an_hour)]


def test_what_came_is_counted_by_source_hour_and_fate_and_again_changes_nothing(driver):
    for source, state, minutes in (
        ("shopify", "mapped", (-130, -125, -5)),
        ("shopify", "ignored", (-128,)),
        ("generic", "parked", (-61, -59)),
        ("generic", "received", (-4,)),
    ):
        came(driver, source, [START + timedelta(minutes=minute) for minute in minutes], state)
    expected = [
        ("shopify", START - 3 * HOUR, 3, 2, 1, 0),
        ("generic", START - 2 * HOUR, 1, 0, 0, 1),
        ("generic", START - HOUR, 2, 0, 0, 1),
        ("shopify", START - HOUR, 1, 1, 0, 0),
    ]

    watch(driver.app, driver.actors.email)
    assert counted(driver) == expected

    with driver.app.writing() as connection:
        assert pulses.roll_up(connection, START)
    assert counted(driver) == expected


def test_a_past_of_weeks_with_holes_is_counted_to_its_end_in_stretches(driver):
    moments = [START - n * 9 * HOUR for n in range(60)]
    came(driver, "shopify", moments)

    for minute in range(10):
        driver.clock.jump(START + timedelta(minutes=minute))
        watch(driver.app, driver.actors.email)

    assert [row[2] for row in counted(driver)] == [1] * 60


def test_counts_do_not_shrink_when_bodies_are_emptied_and_go_after_13_weeks(driver):
    came(driver, "shopify", [START - n * HOUR for n in range(20)])
    watch(driver.app, driver.actors.email)
    with driver.app.writing() as connection:
        connection.execute(inbox.update().where(inbox.c.received_at < START).values(body=b""))

    driver.clock.jump(START + 5 * timedelta(minutes=1))
    watch(driver.app, driver.actors.email)
    assert [row[2] for row in counted(driver)] == [1] * 20

    driver.clock.jump(START + timedelta(weeks=13) - 10 * HOUR)
    watch(driver.app, driver.actors.email)
    assert len(counted(driver)) == 11


def test_one_process_at_a_time_and_at_most_once_a_minute(driver):
    minute = timedelta(minutes=1)
    taken = [
        rounds.take(driver.app.database, "pulses", START + seconds * timedelta(seconds=1), minute)
        for seconds in (0, 1, 59, 60, 61, 119, 121)
    ]

    assert taken == [True, False, False, True, False, False, True]


def test_a_source_that_stops_raises_one_alarm_until_it_is_heard_again(driver):
    came(driver, "shopify", steadily(START))
    came(driver, "generic", steadily(START + 3 * HOUR))
    said = {}
    for minutes in range(0, 200, 20):
        driver.clock.jump(START + timedelta(minutes=minutes))
        for _ in range(20):  # weeks are counted in stretches
            watch(driver.app, driver.actors.email)
            driver.clock.jump(driver.clock.now() + timedelta(minutes=1))
        said[minutes] = on(driver)

    assert [minutes for minutes, sources in said.items() if sources] == [120, 140, 160, 180]
    assert said[180] == ["shopify"]

    now = driver.clock.now()
    came(driver, "shopify", [now])
    driver.clock.jump(now + timedelta(minutes=2))
    watch(driver.app, driver.actors.email)
    assert on(driver) == []


def test_an_alarm_is_on_the_page_in_the_metrics_and_with_the_doctor(driver):
    came(driver, "shopify", steadily(START - 9 * HOUR))
    for minutes in range(30):
        driver.clock.jump(START + timedelta(minutes=minutes))
        watch(driver.app, driver.actors.email)
    sentence = (
        "Shopify has been silent for 9 hours; at this time of a Monday it usually sends about 12 an hour. "
        "Look at the webhook's state in Shopify's settings: it removes hooks after 8 failures within 4 hours."
    )

    async def shown(face: Faces, path: str) -> str:
        async with client(face.private) as http:
            return (await http.get(path, headers={"accept": "text/html"})).text.replace("&#39;", "'")

    face = Faces(driver.app)
    assert sentence in asyncio.run(shown(face, "/"))
    assert 'afterglow_alarms{kind="silence",source="shopify"} 1.0' in asyncio.run(shown(face, "/metrics"))
    face.close()
    with driver.app.reading() as connection:
        assert gauges(connection, driver.clock.now()).alarms == {("shopify", "silence"): 1}
        found = doctor.examine(connection, driver.clock.now(), driver.app.settings, catalog=driver.app.catalog)
    (finding,) = [one for one in found if one.check == "silence of shopify"]
    assert (finding.severity, f"{finding.what}. {finding.what_to_do}") == ("warning", sentence)


def test_an_alarm_outlasts_the_weeks_that_are_learned_from_and_ends_with_the_source(driver):
    came(driver, "shopify", steadily(START))
    for days in (0, 0, 0, 1, 30, 70):
        for minutes in range(30):
            driver.clock.jump(START + days * DAY + timedelta(minutes=minutes))
            watch(driver.app, driver.actors.email)
    assert on(driver) == ["shopify"]

    put_into_force(driver, sources=("generic",))
    driver.clock.jump(driver.clock.now() + HOUR)
    watch(driver.app, driver.actors.email)
    assert on(driver) == []


def paid(driver: Driver, numbers: range, *, email: bool = True, **order: object) -> None:
    """Orders by Shopify's rules, each of a customer of its own, and the round that looks at them."""
    headers = {"x-shopify-topic": "orders/paid", "content-type": "application/json"}
    for number in numbers:
        body = {
            "id": number, "currency": "EUR", "financial_status": "paid", "total_price": "40.00",
            "created_at": START.isoformat(), "processed_at": START.isoformat(),
            "email": f"c{number}@example.com" if email else None,
            "customer": {"id": number, "first_name": "Sam", "email": f"c{number}@example.com" if email else None},
            "line_items": [{"id": 1, "title": "Beans", "quantity": 1, "price": "40.00", "product_id": 7}],
            **order,
        }  # fmt: skip
        event = {**headers, "x-shopify-event-id": f"e{number}"}
        driver.receive("shopify", f"orders/paid/e{number}", json.dumps(body).encode(), headers=event, drained=False)
    driver.drain()
    driver.clock.jump(driver.clock.now() + timedelta(minutes=11))
    watch(driver.app, driver.actors.email)


def drifts(driver: Driver) -> set[str]:
    with driver.app.reading() as connection:
        return {alarm.subject for alarm in alarms.raised(connection) if alarm.kind == "drift"}


def test_a_path_that_turns_null_is_told_of_and_over_when_it_is_filled_again(driver):
    paid(driver, range(1, 131))
    assert drifts(driver) == set()

    paid(driver, range(200, 250), email=False)
    assert drifts(driver) == {"order.paid customer.email"}
    paid(driver, range(300, 320), email=False)
    assert drifts(driver) == {"order.paid customer.email"}

    paid(driver, range(400, 450))
    assert drifts(driver) == set()


def test_another_file_of_the_source_ends_a_drift(driver):
    paid(driver, range(1, 131))
    paid(driver, range(200, 250), total_price=None)
    assert "order.paid order.total" in drifts(driver)

    text = shop_files()["flows/sources/shopify.yaml"]
    files = [one for one in documents(sources=("generic",)) if one.kind != "source" or one.name != "shopify"]
    shopify = Document(kind="source", name="shopify", body=text + "# read again\n")
    with driver.app.writing() as connection:
        catalog.apply(connection, (*files, shopify), now=driver.clock.now(), by="the tests")
    paid(driver, range(300, 302), total_price=None)

    assert drifts(driver) == set()


@dataclass
class Relay:
    """A provider of the tests that does as it is told."""

    fates: list[Fate]
    sent: list[Outgoing] = field(default_factory=list)
    name = "relay"
    leaves_the_machine = True
    batch = 50

    def send(self, messages: Sequence[Outgoing], deadline_s: float) -> list[Fate]:
        self.sent += messages
        return [self.fates.pop(0) for _ in messages]

    def close(self) -> None:
        """Nothing to let go of."""


@pytest.mark.parametrize(
    ("fates", "live", "mails"),
    [
        ([Sent()], "yes", 1),
        ([NotBegun("the relay is away"), Sent()], "yes", 2),
        ([InDoubt("no answer")], "yes", 1),
        ([Rejected("no", permanent=True)], "yes", 1),
        ([], "no", 0),
    ],
)
def test_the_team_is_told_once_of_an_alarm(database_url, fates, live, mails):
    relay = Relay(list(fates))
    shop = {"alarms": {"notify": "desk"}}
    with small(database_url, sources=("shopify",), shop=shop, email=relay, live=live) as driver:
        came(driver, "shopify", steadily(START - 9 * HOUR))
        for minutes in range(40):
            driver.clock.jump(START + timedelta(minutes=minutes))
            watch(driver.app, relay)

    assert len(relay.sent) == mails
    for mail in relay.sent:
        assert mail.to_address == "desk@small.example"
        assert "Shopify has been silent for 9 hours" in mail.text
        assert b"Shopify needs you" in compose(mail, eightbit=True)


def test_a_team_that_does_not_exist_cannot_be_told():
    text = json.dumps({**SHOP, "alarms": {"notify": "dsek"}})

    with pytest.raises(Problems, match=r"There is no team 'dsek'\. Did you mean 'desk'\?"):
        read_shop(text, "flows/shop.yaml")
