"""Consent comes in with its evidence and its basis, and a mail goes on a basis that `why` can tell."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from afterglow.rails import NOT_BY_BUYING, Consent, basis_of
from db import privacy, touchpoints, why
from db.tables import consents
from tests.driver import START, Driver
from tests.small_shop import flow, small

NEWS = flow("news-flow", [{"send": "email/news"}], topic="news")


@pytest.fixture
def driver(database_url: str) -> Iterator[Driver]:
    with small(database_url, NEWS) as driver:
        yield driver


def _say(driver: Driver, state: str, basis: str, *, days: float, words: str | None = None) -> None:
    """Post a word on all marketing that was said so many days before now."""
    key = f"word-{next(driver.keys)}"
    body = {
        "event": "ping.one",
        "key": key,
        "occurred_at": (START - timedelta(days=days)).isoformat(),
        "customer": {"id": "c1", "email": "sam@example.com"},
        "consent": {"state": state, "basis": basis, "evidence": words},
        "payload": {},
    }
    driver.receive("api", key, json.dumps(body).encode())


def _stands(driver: Driver) -> tuple[str, str]:
    [(state, basis)] = driver.rows(sa.select(consents.c.state, consents.c.basis))
    return state, basis


def test_the_providers_words_the_moment_and_the_basis_are_kept_and_told(driver: Driver) -> None:
    _say(driver, "granted", "consent", days=3, words="confirmed_opt_in")

    c = consents.c
    assert driver.rows(sa.select(c.basis, c.evidence, c.occurred_at)) == [
        ("consent", {"source": "api", "event": 1, "words": "confirmed_opt_in"}, START - timedelta(days=3))
    ]
    with driver.app.reading() as connection:
        told = privacy.export(connection, driver.app.catalog, driver.app.settings, driver.customer())
        lines = [line.sentence for line in why.story(connection, driver.app.catalog, driver.secret, driver.customer())]
    assert told["consents"][0]["evidence"]["words"] == "confirmed_opt_in"
    assert 'Agreed to marketing by email on all topics (consent, from api: "confirmed_opt_in").' in lines


def test_the_customers_own_word_stands_before_a_newer_permission_on_another_basis(driver: Driver) -> None:
    _say(driver, "withdrawn", "consent", days=5)
    _say(driver, "granted", "existing-customer", days=1)
    assert _stands(driver) == ("withdrawn", "consent")

    _say(driver, "granted", "consent", days=0)
    _say(driver, "granted", "service", days=0)
    assert _stands(driver) == ("granted", "consent")


def test_the_customers_own_word_that_comes_late_replaces_a_permission_on_another_basis(driver: Driver) -> None:
    _say(driver, "granted", "existing-customer", days=1)
    assert _stands(driver) == ("granted", "existing-customer")
    _say(driver, "withdrawn", "consent", days=5)
    assert _stands(driver) == ("withdrawn", "consent")


def test_a_basis_that_is_none_of_the_three_is_refused_by_the_database(driver: Driver) -> None:
    _say(driver, "granted", "consent", days=1)
    with pytest.raises(sa.exc.IntegrityError), driver.app.writing() as connection:
        connection.execute(consents.update().values(basis="because"))


def _bought(driver: Driver) -> tuple[list[tuple[str, str, str]], list[str]]:
    driver.post("order.paid", {"order": {"id": "o1", "total": 9}}, stage="purchase")
    with driver.app.reading() as connection:
        lines = [line.sentence for line in why.story(connection, driver.app.catalog, driver.secret, driver.customer())]
    return driver.touchpoints(), lines


def test_who_bought_without_a_word_gets_no_marketing_unless_the_shop_says_so(driver: Driver) -> None:
    sent, lines = _bought(driver)

    assert sent == [("news-flow", "news", "skipped")]
    assert "Mail email/news was not sent: the customer has not agreed to news." in lines


def test_who_bought_gets_what_the_shop_opened_to_existing_customers_and_why_says_so(database_url: str) -> None:
    with small(database_url, NEWS, shop={"existing_customers": {"may_mail_about": ["news"]}}) as driver:
        sent, lines = _bought(driver)

    assert sent == [("news-flow", "news", "sent")]
    assert "Mail email/news was sent, as to an existing customer." in lines


def test_an_existing_customer_who_unsubscribed_gets_nothing_even_where_the_shop_opened_it(database_url: str) -> None:
    with small(database_url, NEWS, shop={"existing_customers": {"may_mail_about": ["news"]}}) as driver:
        _say(driver, "withdrawn", "existing-customer", days=1)
        sent, _ = _bought(driver)

    assert sent == [("news-flow", "news", "skipped")]


def test_a_mail_that_was_agreed_to_says_so(driver: Driver) -> None:
    _say(driver, "granted", "consent", days=1)
    sent, lines = _bought(driver)

    assert sent == [("news-flow", "news", "sent")]
    assert "Mail email/news was sent, as the customer agreed." in lines
    with driver.app.reading() as connection:
        [word] = touchpoints.consents_of(connection, [driver.customer()], "email")[driver.customer()]
    topic, granted, basis = word
    assert basis_of([Consent(topic=topic, granted=granted, basis=basis)], "news", NOT_BY_BUYING) == "consent"
