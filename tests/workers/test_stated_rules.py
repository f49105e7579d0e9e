"""The rules that the source files state for odd orders: test orders, voided ones, guests who agreed to nothing."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from db.tables import consents, customers, events, inbox, profiles
from tests.driver import Driver, driving


@pytest.fixture
def driver(database_url: str) -> Iterator[Driver]:
    with driving(database_url) as driver:
        yield driver


def _comes(driver: Driver, file: str) -> None:
    """A webhook of Shopify's, as `tests/payloads` has it."""
    topic = file.split(".")[0].replace("-", "/")
    headers = {"x-shopify-topic": topic, "x-shopify-triggered-at": "2026-03-02T08:00:00Z"}
    driver.receive("shopify", file, (ROOT / f"tests/payloads/shopify/{file}.json").read_bytes(), headers=headers)


def test_a_test_order_is_nobodys_order(driver: Driver) -> None:
    _comes(driver, "orders-paid.test-order")

    assert driver.rows(sa.select(customers.c.id)) == []
    assert driver.rows(sa.select(inbox.c.state, inbox.c.reason)) == [
        ("ignored", "A test order, paid through a test gateway.")
    ]


def test_a_voided_order_counts_as_no_order_and_thanks_nobody(driver: Driver) -> None:
    _comes(driver, "orders-create")
    _comes(driver, "orders-cancelled")

    assert driver.rows(sa.select(events.c.name).order_by(events.c.id)) == [("order.placed",), ("order.cancelled",)]
    assert driver.rows(sa.select(customers.c.orders, customers.c.spent)) == [(0, 0)]
    assert driver.touchpoints() == []


def test_a_guest_who_agreed_to_nothing_is_thanked_and_gets_no_marketing(driver: Driver) -> None:
    _comes(driver, "orders-paid.guest")
    driver.at(days=40)

    assert driver.rows(sa.select(profiles.c.email, profiles.c.timezone, profiles.c.timezone_from)) == [
        ("guest@example.com", "Europe/Paris", "address")
    ]
    assert driver.rows(sa.select(consents.c.topic)) == []
    fates = {(step, state) for _, step, state in driver.touchpoints()}
    assert ("thank-you", "sent") in fates
    assert len(fates) > 1
    assert {state for step, state in fates if step != "thank-you"} == {"skipped"}
