"""What a CRM tells in pieces becomes one customer's story, whatever the order of the pieces."""

import json
from itertools import permutations

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from afterglow.mapping import elements
from db.tables import consents, customers, events, identities, inbox, profiles
from tests.driver import Driver
from tests.small_shop import flow, small

WON = flow("won", [{"send": "email/note"}], starts={"event": "deal.won"}, once_per="deal.id")
MISSED = flow("missed", [{"id": "w", "wait": "9 days"}], starts={"event": "deal.lost"}, once_per="deal.id")


def post(driver: Driver, source: str, name: str, **changes: object) -> None:
    """Put a captured payload into the inbox as the web does, divided."""
    kind = "xml" if source == "salesforce" else "json"
    body = (ROOT / f"tests/payloads/{source}/{name}.{kind}").read_bytes()
    if changes:
        body = json.dumps([element | changes for element in json.loads(body)]).encode()
    with driver.app.reading() as connection:
        catalog = driver.app.catalog.current(connection).catalog
    for element in elements(catalog.sources[source], {}, body):
        driver.receive(source, element.key, element.body)


def states(driver: Driver) -> list[str]:
    return [state for (state,) in driver.rows(sa.select(inbox.c.state).order_by(inbox.c.id))]


#: As HubSpot may tell it, every piece with an id of its own.
PIECES = {
    "contact.propertyChange.email": 1,
    "deal.creation": 2,
    "deal.propertyChange.amount": 3,
    "deal.propertyChange.won": 4,
    "deal.associationChange": 5,
}


@pytest.mark.parametrize(
    "order", [list(order) for number, order in enumerate(permutations(PIECES)) if number % 17 == 0], ids=str
)
def test_a_deal_belongs_to_its_contact_in_whatever_order_hubspot_tells_it(sqlite_url, order):
    with small(sqlite_url, WON, sources=("hubspot",)) as driver:
        driver.clock.jump(driver.clock.now().replace(hour=10))
        for name in order:
            post(driver, "hubspot", name, eventId=PIECES[name])
        driver.drain()

        assert states(driver) == ["mapped"] * len(PIECES)
        assert driver.rows(sa.select(customers.c.id, customers.c.stage)) == [(1, "purchase")]
        assert driver.rows(sa.select(profiles.c.email)) == [("ada.example@example.com",)]
        assert sorted(driver.rows(sa.select(events.c.name))) == [
            ("customer.updated",),
            ("deal.contact_added",),
            ("deal.created",),
            ("deal.updated",),
            ("deal.won",),
        ]
        assert [flow for flow, _, _ in driver.touchpoints()] == ["won"]


def test_a_deal_told_five_times_starts_one_flow(database_url):
    with small(database_url, WON, sources=("hubspot",)) as driver:
        driver.clock.jump(driver.clock.now().replace(hour=10))
        post(driver, "hubspot", "deal.associationChange", eventId=9)
        for attempt in range(5):
            post(driver, "hubspot", "deal.propertyChange.won", attemptNumber=attempt)
            post(driver, "hubspot", "object.propertyChange.deal-won", attemptNumber=attempt, eventId=2)  # both forms

        assert len(driver.touchpoints()) == 1


def test_a_contact_without_an_address_is_known_by_id_and_gets_one_later(database_url):
    with small(database_url, sources=("hubspot",)) as driver:
        driver.clock.jump(driver.clock.now().replace(hour=10))
        post(driver, "hubspot", "contact.creation", eventId=1)
        assert driver.rows(sa.select(identities.c.source, identities.c.external_id)) == [("hubspot", "501")]
        post(driver, "hubspot", "contact.propertyChange.email", eventId=2)

        assert driver.rows(sa.select(profiles.c.email)) == [("ada.example@example.com",)]
        assert driver.rows(sa.select(identities.c.source).order_by(identities.c.source)) == [("email",), ("hubspot",)]


def test_whoever_opted_out_in_the_crm_has_withdrawn(database_url):
    with small(database_url, sources=("hubspot", "salesforce")) as driver:
        driver.clock.jump(driver.clock.now().replace(day=4))
        post(driver, "hubspot", "contact.propertyChange.opted-out")
        post(driver, "hubspot", "contact.propertyChange.opted-in-again", eventId=2)
        post(driver, "salesforce", "contact.updated")

        assert driver.rows(sa.select(consents.c.topic, consents.c.state)) == [("*", "withdrawn"), ("*", "withdrawn")]


def test_salesforce_and_hubspot_know_one_customer_by_the_address(database_url):
    with small(database_url, WON, MISSED, sources=("hubspot", "salesforce")) as driver:
        driver.clock.jump(driver.clock.now().replace(day=3))
        post(driver, "hubspot", "contact.propertyChange.email")
        post(driver, "salesforce", "contact.created")
        post(driver, "salesforce", "opportunity.won")

        assert states(driver) == ["mapped"] * 3
        assert driver.rows(sa.select(customers.c.stage)) == [("purchase",)]
        assert [flow for flow, _, _ in driver.touchpoints()] == ["won"]
