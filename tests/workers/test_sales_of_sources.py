"""Sales, deals and reviews as real sources tell of them, through the whole engine."""

import json
import random
import re
from itertools import permutations

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from afterglow.language.catalog import Document, compile_files
from afterglow.language.source import read_source
from afterglow.mapping import elements
from db import catalog
from db.tables import customers, events, identities, inbox, profiles, runs, stage_entries
from tests.crm_api import TOKEN, crm_api
from tests.driver import Driver, shop_files
from tests.small_shop import documents, flow, small

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


def switched_on(name: str, base: str = "https://api.hubapi.com") -> str:
    """A shipped source file with the rules in it that stand behind a #, as its page tells people to do."""
    text = re.sub(r"^( *)#(?=\S|  )", r"\1", shop_files()[f"flows/sources/{name}.yaml"], flags=re.MULTILINE)
    return text.replace("https://api.hubapi.com", base)


@pytest.mark.parametrize("name", ["stripe", "hubspot"])
def test_a_source_with_its_commented_rules_switched_on_compiles_in_the_sample_shop(name):
    path = f"flows/sources/{name}.yaml"
    text = switched_on(name)
    assert text != shop_files()[path]

    compile_files({**shop_files(), path: text})
    assert "order.paid" in read_source(text, path).event_names
    assert "order.paid" not in SOURCES[name].event_names


def sale(who: str) -> tuple[bytes, dict[str, str]]:
    """What each tells of the shop's order 5000000000001."""
    body = json.loads(payload(MESSAGES[who]))
    if who == "stripe":
        body["data"]["object"] |= {"metadata": {"order_id": "5000000000001"}, "receipt_email": "pays@example.com"}
    headers = {"x-shopify-topic": "orders/paid", "x-shopify-event-id": "e-1"} if who == "shopify" else {}
    return json.dumps(body).encode(), headers


MESSAGES = {
    "shopify": "shopify/orders-paid",
    "stripe": "stripe/payment_intent.succeeded",
    "hubspot": "hubspot/deal.propertyChange.won",
}


@pytest.mark.parametrize("order", list(permutations(MESSAGES)), ids="-".join)
def test_a_sale_told_by_shopify_stripe_and_hubspot_is_one_order_one_thank_you_and_one_customer(
    sqlite_url, monkeypatch, order
):
    monkeypatch.setenv("HUBSPOT_ACCESS_TOKEN", TOKEN)
    with crm_api() as crm, small(sqlite_url, fetch_local="yes") as driver:
        crm.deals["9001"] = {"amount": "44.90", "shop_order_id": "5000000000001", "dealname": "A bag"}
        crm.contacts["501"] = {"email": "works@example.com", "firstname": "Ada"}
        crm.of_deal["9001"] = ["501"]
        made = [
            *documents(THANKS, sources=("shopify",), owners={"order": "shopify"}),
            *(Document(kind="source", name=name, body=switched_on(name, crm.base)) for name in ("stripe", "hubspot")),
        ]
        with driver.app.writing() as connection:
            catalog.apply(connection, made, now=driver.clock.now(), by="the tests")
        driver.at(days=1)
        for who in order:
            hear(driver, who, *sale(who))
            driver.drain()
        driver.actors.tend()
        driver.drain()
        driver.actors.close()

        assert counted(driver) == {"order.paid": 1}
        assert driver.touchpoints() == [("thanks", "receipt", "sent")]
        assert driver.rows(sa.select(customers.c.orders)) == [(1,)]
        [(told,)] = driver.rows(sa.select(events.c.payload))
        assert (told["order"]["id"], told["payment"]["id"], told["deal"]["name"]) == (
            "5000000000001",
            "pi_example1",
            "A bag",
        )
        known = {(row[0], row[1]) for row in driver.rows(sa.select(identities.c.source, identities.c.external_id))}
        assert {("stripe", "cus_example1"), ("hubspot", "501")} <= known
        assert parked(driver) == []


def test_with_fetch_a_change_in_hubspot_without_an_address_is_a_customer_with_one(sqlite_url, monkeypatch):
    monkeypatch.setenv("HUBSPOT_ACCESS_TOKEN", TOKEN)
    with crm_api() as crm, small(sqlite_url, fetch_local="yes") as driver:
        crm.contacts["501"] = {"email": "works@example.com", "firstname": "Ada"}
        crm.deals["9001"] = {"amount": "44.90", "dealname": "A bag"}
        with driver.app.writing() as connection:
            made = [*documents(), Document(kind="source", name="hubspot", body=switched_on("hubspot", crm.base))]
            catalog.apply(connection, made, now=driver.clock.now(), by="the tests")
        driver.at(days=1)

        hear(driver, "hubspot", payload("hubspot/deal.propertyChange.won"))
        driver.drain()
        assert counted(driver) == {}, "a deal of nobody waits for its contact, as without fetch"
        for name in ("contact.propertyChange.phone", "contact.deletion", "deal.associationChange"):
            hear(driver, "hubspot", payload(f"hubspot/{name}"))
            driver.drain()
        driver.actors.tend()
        driver.drain()
        driver.actors.close()

        assert driver.rows(sa.select(profiles.c.email, profiles.c.first_name)) == [("works@example.com", "Ada")]
        assert counted(driver) == {"customer.updated": 1, "deal.contact_added": 1, "deal.won": 1}
        assert crm.paths() == ["deals/9001", "contacts/501"]
        assert parked(driver) == []
