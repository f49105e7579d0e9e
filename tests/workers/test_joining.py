"""One sale told by a shop, a payment provider and a CRM: one event, one customer, one thank-you, in any order."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import permutations
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow.language.catalog import compile_files
from afterglow.language.check import check_files
from afterglow.mapping.joining import joined
from db import catalog
from db.tables import consents, customers, enrollments, events, identities, inbox, profiles, stage_entries
from tests.driver import Driver, shop_files
from tests.small_shop import MAILS, SHOP, flow, small

THANKS = flow("thanks", [{"send": "email/receipt"}], once_per="order.id", starts={"stage": "purchase"})


def source(name: str, order: str, **further: Any) -> dict[str, Any]:
    """A source whose webhooks say that an order was paid."""
    rule = {
        "event": "order.paid",
        "stage": "purchase",
        "customer": {"id": "body.who", "email": "body.email", "first_name": "body.first_name"},
        "payload": {"order": {"id": "body.order | text", "total": "body.total | money('EUR')"}},
        **further,
    }
    if order:
        rule["joins"] = order
    return {"source": name, "auth": "none", "key": "body.id", "events": [rule]}


SOURCES = {
    "shop": source("shop", ""),
    "pay": source(
        "pay", "body.reference", payload={"order": {"total": "body.total | money('EUR')", "card": "body.card | text"}}
    ),
    "crm": source(
        "crm",
        "body.reference",
        account={"id": "body.company"},
        consent={"state": "body.consent"},
        payload={"order": {"owner": "body.owner | text"}},
    ),
}

SALE: Mapping[str, dict[str, Any]] = {
    "shop": {"id": "s1", "who": "17", "email": "sam@example.com", "order": 5001, "total": "40.00"},
    "pay": {"id": "p1", "who": "cus_9", "email": "sam.pays@example.com", "reference": "5001", "total": "40.01",
            "card": "visa"},
    "crm": {"id": "d1", "who": "c-3", "reference": "5001", "first_name": "Sam", "owner": "Kim", "company": "Acme",
            "consent": "granted"},
}  # fmt: skip


def files(owners: Mapping[str, str] | None = None, **sources: Any) -> dict[str, str]:
    shipped = shop_files()
    found = {path: text for path, text in shipped.items() if "/_" in path}
    found |= {"flows/stages.yaml": shipped["flows/stages.yaml"], "flows/thanks.yaml": THANKS}
    shop = {**SHOP, "events": {}, "owners": dict({"order": "shop"} if owners is None else owners)}
    found["flows/shop.yaml"] = json.dumps(shop)
    found |= {f"flows/sources/{name}.yaml": json.dumps(text) for name, text in (SOURCES | sources).items()}
    head, body = MAILS["receipt"]
    column = f"<mj-section><mj-column><mj-text>{body}</mj-text></mj-column></mj-section>"
    found["templates/email/receipt.mjml"] = f"---\n{head}\nsubject: A receipt\npreheader: Look\n---\n{column}\n"
    found["templates/email/receipt.txt"] = f"{body}\n"
    return found


@contextmanager
def selling(database_url: str, **further: Any) -> Iterator[Driver]:
    with small(database_url) as driver:
        with driver.app.writing() as connection:
            catalog.apply(connection, compile_files(files(**further)), now=driver.clock.now(), by="the tests")
        yield driver


def tell(driver: Driver, *who: str, drained: bool = True, **changes: Any) -> None:
    for name in who:
        said = SALE[name] | changes
        driver.receive(name, str(said["id"]), json.dumps(said).encode(), drained=False)
        if drained:
            driver.drain()


def sale(driver: Driver) -> dict[str, Any]:
    """What there is of the sale in the end."""
    driver.actors.tend()
    driver.drain()
    [event] = driver.rows(sa.select(events.c.source, events.c.name, events.c.payload))
    return {
        "event": event,
        "customers": driver.rows(sa.select(customers.c.orders, customers.c.spent, customers.c.stage)),
        "profile": driver.rows(sa.select(profiles.c.email, profiles.c.first_name)),
        "known as": {row[0] for row in driver.rows(sa.select(identities.c.source)) if ":" not in row[0]},
        "mails": driver.touchpoints(),
        "runs": len(driver.rows(sa.select(enrollments.c.id))),
        "stages": len(driver.rows(sa.select(stage_entries.c.event_id))),
        "consent": driver.rows(sa.select(consents.c.state)),
        "inbox": sorted(row[0] for row in driver.rows(sa.select(inbox.c.state))),
    }


WHOLE = {
    "event": ("shop", "order.paid", {"order": {"id": "5001", "total": 40, "card": "visa", "owner": "Kim"}}),
    "customers": [(1, 4000, "purchase")],
    "profile": [("sam@example.com", "Sam")],
    "known as": {"shop", "pay", "crm", "email"},
    "mails": [("thanks", "receipt", "sent")],
    "runs": 1,
    "stages": 1,
    "consent": [("granted",)],
    "inbox": ["mapped", "mapped", "mapped"],
}


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one by one"])
@pytest.mark.parametrize("order", list(permutations(SALE)), ids="-".join)
def test_one_sale_in_any_order_is_one_event_one_customer_and_one_thank_you(sqlite_url, order, together):
    with selling(sqlite_url) as driver:
        tell(driver, *order, drained=not together)
        driver.drain()

        assert sale(driver) == WHOLE


def test_one_sale_on_postgresql(postgres_url):
    with selling(postgres_url) as driver:
        tell(driver, "crm", "pay", "shop", "pay", "crm", "shop")

        assert sale(driver) == WHOLE


def test_deliveries_repeated_and_changed_by_a_counter_add_nothing_twice(database_url):
    with selling(database_url) as driver:
        for attempt in range(3):
            tell(driver, "pay", "shop", "crm", attempt=attempt)

        assert {**sale(driver), "inbox": None} == {**WHOLE, "inbox": None}


def test_what_comes_before_its_order_waits_and_says_for_what(database_url):
    with selling(database_url) as driver:
        tell(driver, "pay")

        [(state, reason, awaits)] = driver.rows(sa.select(inbox.c.state, inbox.c.reason, inbox.c.awaits))
        assert (state, awaits) == ("awaiting", "shop:order.paid/5001")
        assert reason == "it adds to a order.paid that shop has not told of yet"
        driver.actors.tend()
        assert driver.rows(sa.select(inbox.c.state)) == [("awaiting",)], "tending does not try it for nothing"


def test_a_source_that_is_not_the_owner_and_names_no_order_is_let_go_and_says_why(database_url):
    with selling(database_url) as driver:
        tell(driver, "crm", reference=None)

        [(state, reason)] = driver.rows(sa.select(inbox.c.state, inbox.c.reason))
        assert state == "ignored"
        assert reason == "shop owns order.paid (owners in shop.yaml), and this names no order there"
        assert driver.rows(sa.select(customers.c.id)) == []


def test_where_no_other_source_owns_the_event_the_same_file_brings_it(database_url):
    with selling(database_url, owners={"order": "pay"}) as driver:
        tell(driver, "pay")

        assert driver.rows(sa.select(events.c.source, events.c.name)) == [("pay", "order.paid")]


def test_the_shops_own_code_may_tell_of_any_event(database_url):
    with selling(database_url) as driver:
        driver.post("order.paid", {"order": {"id": "o1", "total": 4}})

        assert driver.rows(sa.select(events.c.source, events.c.name)) == [("api", "order.paid")]


def test_a_source_whose_requests_name_the_event_speaks_for_the_shops_own_systems(database_url):
    own = source("own", "", event={"from": "body.type"})
    with selling(database_url, own=own) as driver:
        said = SALE["shop"] | {"id": "x1", "type": "order.paid"}
        driver.receive("own", "x1", json.dumps(said).encode())

        assert driver.rows(sa.select(events.c.source, events.c.name)) == [("own", "order.paid")]


def test_two_owners_of_one_event_are_a_problem_that_says_what_to_write():
    told = [problem for problem in check_files(files(owners={})) if "order.paid" in problem.message]

    assert [problem.file for problem in told] == ["flows/sources/pay.yaml", "flows/sources/shop.yaml"]
    assert "`owners: {order.paid: crm}`" in told[0].message


@pytest.mark.parametrize(
    ("owners", "said"),
    [
        ({"order": "shpo"}, "There is no source 'shpo' in flows/sources/. Did you mean 'shop'?"),
        ({"ordr": "shop", "order": "shop"}, "No source brings 'ordr' or any 'ordr.…'."),
        ({"order": "ping"}, "The source 'ping' brings no 'order'."),
    ],
)
def test_an_owner_that_cannot_be_one_is_a_problem(owners, said):
    ping = source("ping", "", event="ping.one", stage=None, payload={})
    del ping["events"][0]["stage"]

    told = [problem.message for problem in check_files(files(owners=owners, ping=ping))]

    assert any(message.startswith(said) for message in told), told


def test_news_about_a_customer_may_come_from_every_source():
    twin = {name: source(name, "", event="customer.updated") for name in ("one", "two")}
    for text in twin.values():
        del text["events"][0]["stage"]

    assert not [problem for problem in check_files(files(**twin)) if "customer.updated" in problem.message]


def test_what_is_joined_lacks_nothing_and_replaces_nothing():
    told = {"order": {"id": "1", "total": 40, "note": None, "ship": {"to": "Paris"}}}

    assert joined(told, {"order": {"id": "2", "card": "visa", "note": "gift", "ship": {"by": "bike"}}, "deal": 7}) == {
        "order": {"id": "1", "total": 40, "note": "gift", "card": "visa", "ship": {"to": "Paris", "by": "bike"}},
        "deal": 7,
    }
    assert joined(told, {"order": {"id": "2", "ship": None}}) is None
