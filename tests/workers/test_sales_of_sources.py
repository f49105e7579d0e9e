"""Sales, deals and reviews as WooCommerce, Pipedrive and Judge.me tell of them, through the whole engine."""

import json
import random

import sqlalchemy as sa

from afterglow import ROOT
from afterglow.language.source import read_source
from afterglow.mapping import elements
from db.tables import customers, events, inbox, profiles, runs, stage_entries
from tests.driver import Driver
from tests.small_shop import flow, small

THANKS = flow("thanks", [{"send": "email/receipt"}], once_per="order.id")
SOURCES = {path.stem: read_source(path.read_text(), path.name) for path in ROOT.glob("flows/sources/*.yaml")}
#: One order's life; `total` and the refunds are chosen so that nothing is left of it.
LIFE = ("created.pending", "updated.processing", "updated.completed", "updated.part-refunded", "updated.refunded")


def hear(driver: Driver, source: str, body: bytes, headers: dict[str, str] | None = None) -> None:
    """A request, divided as the web divides it."""
    for part in elements(SOURCES[source], headers or {}, body):
        driver.receive(source, part.key, part.body, headers=headers or {}, drained=False)


def order(driver: Driver, file: str, delivery: str, **changes: object) -> None:
    body = json.loads((ROOT / f"tests/payloads/woocommerce/order.{file}.json").read_text()) | changes
    topic = f"order.{file.split('.')[0]}"
    headers = {"x-wc-webhook-topic": topic, "x-wc-webhook-delivery-id": delivery}
    hear(driver, "woocommerce", json.dumps(body).encode(), headers)


def payload(name: str) -> bytes:
    return (ROOT / f"tests/payloads/{name}.json").read_bytes()


def counted(driver: Driver) -> dict[str, int]:
    rows = driver.rows(sa.select(events.c.name, sa.func.count()).group_by(events.c.name))
    return {row[0]: row[1] for row in rows}


def parked(driver: Driver) -> list[str | None]:
    return [row[0] for row in driver.rows(sa.select(inbox.c.reason).where(inbox.c.state == "parked"))]


def test_an_order_posted_many_times_in_any_order_is_one_sale_one_thank_you_and_its_refunds(database_url):
    chance = random.Random(7)
    posts = [(file, n) for file in LIFE for n in range(3)]
    chance.shuffle(posts)
    with small(database_url, THANKS, sources=("woocommerce",)) as driver:
        driver.at(days=10)
        for n, (file, time) in enumerate(posts):
            order(driver, file, f"d{n}", date_modified_gmt=f"2026-03-1{time}T08:00:00", customer_note=f"note {time}")
            if chance.random() < 0.5:
                driver.drain()
        driver.drain()

        assert counted(driver) == {"order.placed": 1, "order.paid": 1, "order.fulfilled": 1, "order.refunded": 2}
        assert driver.touchpoints() == [("thanks", "receipt", "sent")]
        ((orders, spent),) = driver.rows(sa.select(customers.c.orders, customers.c.spent))
        assert (orders, int(spent)) == (1, 0)
        assert parked(driver) == []


def test_guests_of_woocommerce_are_not_one_customer(database_url):
    with small(database_url, THANKS, sources=("woocommerce",)) as driver:
        driver.at(days=1)
        for n in (1, 2, 3):
            address = {"email": f"guest-{n}@example.com", "country": "FR"}
            order(driver, "updated.guest", "same-second", id=n, billing=address)
        driver.drain()

        assert counted(driver) == {"order.placed": 3, "order.paid": 3}
        assert len(driver.rows(sa.select(customers.c.id))) == 3
        assert len(driver.touchpoints()) == 3


def test_a_deal_has_the_address_that_its_person_brings_and_is_no_order(database_url):
    deals = flow("welcome-deal", [{"send": "email/receipt"}], starts={"event": "deal.won"}, once_per="deal.id")
    with small(database_url, THANKS, deals, sources=("pipedrive",)) as driver:
        driver.at(days=1)
        deal = "change.deal"
        for name in ("create.person", f"{deal}.won", f"{deal}.won-second-attempt", f"{deal}.renamed-after-won"):
            hear(driver, "pipedrive", payload(f"pipedrive/{name}"))
            driver.drain()

        assert counted(driver) == {"customer.created": 1, "deal.won": 1}
        assert driver.touchpoints() == [("welcome-deal", "receipt", "sent")]
        assert [row[0] for row in driver.rows(sa.select(stage_entries.c.stage))] == ["purchase"]
        assert driver.rows(sa.select(customers.c.orders)) == [(0,)]
        assert driver.rows(sa.select(profiles.c.email)) == [("ada.example@example.com",)]
        assert parked(driver) == []


def test_a_review_is_its_buyers_though_the_review_app_counts_them_otherwise(database_url):
    asked = flow("sorry", [{"send": "email/note"}], starts={"event": "review.posted", "when": "review.stars <= 2"})
    with small(database_url, asked, sources=("woocommerce", "judgeme")) as driver:
        driver.at(days=19)
        order(driver, "updated.processing", "d1")
        for name in ("review.created", "review.created.one-star", "review.created.one-star", "review.updated"):
            hear(driver, "judgeme", payload(f"judgeme/{name}"))
        driver.drain()

        assert counted(driver) == {"order.placed": 1, "order.paid": 1, "review.posted": 2}
        assert len(driver.rows(sa.select(customers.c.id))) == 1
        assert driver.rows(sa.select(runs.c.flow)) == [("sorry",)]
