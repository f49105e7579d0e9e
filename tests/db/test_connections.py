"""The doctor on the way in: what a shop that is being connected still lacks, in plain words, and nothing else."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from db.connections import CUSTOMERS_MIN, examine_sources
from db.doctor import Finding
from db.settings import Settings
from tests.driver import Driver
from tests.small_shop import small

SECRETS = {"SHOPIFY_WEBHOOK_SECRET": "s", "GENERIC_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}


@pytest.fixture
def driver(database_url: str) -> Iterator[Driver]:
    with small(database_url, sources=("shopify", "generic")) as driver:
        yield driver


def examined(driver: Driver, *, secrets: dict[str, str] = SECRETS, off: float = 0, **settings: object) -> list[Finding]:
    now = driver.clock.now()
    chosen = driver.app.settings.model_copy(update=settings)
    with driver.app.reading() as connection:
        return examine_sources(
            connection,
            now,
            chosen,
            here=now + timedelta(seconds=off),
            catalog=driver.app.catalog,
            environ=secrets,
        )


def names(found: list[Finding]) -> list[str]:
    return [finding.check for finding in found]


def customers(driver: Driver, number: int, *, email: bool) -> None:
    for n in range(number):
        who = {"id": n, "email": f"c{n}@example.com" if email else None}
        body = {"id": n, "created_at": "2026-03-02T08:00:00Z", **who}
        driver.receive(
            "shopify",
            f"k{n}",
            json.dumps(body).encode(),
            headers={"x-shopify-topic": "customers/create"},
            drained=False,
        )
    driver.drain()


def test_nothing_is_missing_where_all_is_connected(driver: Driver) -> None:
    customers(driver, CUSTOMERS_MIN, email=True)

    assert examined(driver) == []


def test_sources_without_a_secret_are_one_finding_with_their_variables(driver: Driver) -> None:
    (found,) = examined(driver, secrets={})

    assert (found.check, found.severity, found.count) == ("source without a secret", "warning", 2)
    assert found.examples == ("generic: GENERIC_WEBHOOK_SECRET", "shopify: SHOPIFY_WEBHOOK_SECRET")
    assert "afterglow connect" in found.what_to_do


def test_a_secret_that_cannot_be_one_is_wrong(driver: Driver) -> None:
    (found,) = examined(driver, secrets=SECRETS | {"GENERIC_WEBHOOK_SECRET": "whsec_not!base64"})

    assert (found.check, found.severity, found.examples) == ("secret that is none", "error", ("generic",))
    assert "not!base64" not in str(found)


def test_a_shop_whose_customers_have_no_address_is_told_what_to_do(driver: Driver) -> None:
    customers(driver, CUSTOMERS_MIN - 1, email=False)
    assert examined(driver) == []

    customers(driver, CUSTOMERS_MIN, email=False)
    (found,) = examined(driver)

    assert (found.check, found.count) == ("no addresses", CUSTOMERS_MIN)
    assert "shopify" in found.what
    assert "protected customer data" in found.what_to_do


def test_one_address_is_enough_to_say_that_they_arrive(driver: Driver) -> None:
    customers(driver, CUSTOMERS_MIN, email=False)
    customers(driver, CUSTOMERS_MIN + 1, email=True)  # the first of them are repeats under their keys

    assert "no addresses" not in names(examined(driver))


@pytest.mark.parametrize(("seconds", "told"), [(45, "after they were signed"), (-45, "before they are signed")])
def test_a_clock_that_is_off_shows_in_the_moments_that_were_signed(driver: Driver, seconds: int, told: str) -> None:
    signed_at = int(driver.clock.now().timestamp()) - seconds
    for n in range(5):
        headers = {
            "webhook-id": f"m{n}",
            "webhook-timestamp": str(signed_at),
            "webhook-signature": "v1,c2lnbmF0dXJl",
        }
        driver.receive("generic", f"m{n}", b'{"type":"afterglow.ping"}', headers=headers)

    (found,) = examined(driver)

    assert (found.check, found.count) == ("clock skew", 5)
    assert f"generic come 45 seconds {told}" in found.what


@pytest.mark.parametrize(("off", "told"), [(31, "31 seconds ahead of"), (-31, "31 seconds behind"), (29, None)])
def test_a_machine_whose_clock_is_not_the_databases_is_told(driver: Driver, off: float, told: str | None) -> None:
    found = examined(driver, off=off)

    assert [told in finding.what for finding in found if told] == ([True] if told else [])
    assert len(found) == (told is not None)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost", "https://[::1]:8000", "http://"])
def test_mails_that_go_out_with_links_to_nowhere_are_wrong(driver: Driver, url: str) -> None:
    (found,) = examined(driver, live="yes", public_url=url)

    assert (found.check, found.severity) == ("public address", "warning")
    assert examined(driver, live="no", public_url=url) == []
    assert examined(driver, live="yes", public_url="https://hooks.example") == []


def test_before_any_files_are_in_force_only_what_needs_none_is_told(database_url: str) -> None:
    with small(database_url) as driver:
        with driver.app.writing() as connection:
            connection.exec_driver_sql("DELETE FROM releases")
        with driver.app.reading() as connection:
            now = driver.clock.now()
            assert examine_sources(connection, now, Settings(), here=now) == []
