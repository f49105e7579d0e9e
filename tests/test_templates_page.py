"""What docs/templates.md shows is what runs."""

import re
from functools import cache
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from afterglow.language.catalog import Catalog, compile_files, read_documents
from afterglow.language.check import check_files
from afterglow.language.flow.compiler import read_flow
from afterglow.previews import languages, preview
from afterglow.testing import ShopUnderTest, judge, live
from db import outbox
from db.tables import decisions, touchpoints
from tests.driver import SAM, START, Driver, driving, shop_files

PAGE = (ROOT / "docs" / "templates.md").read_text()
FRENCH, _ = re.findall(r"```mjml\n(.*?)```", PAGE, re.DOTALL)  # the other: tests/workers/test_reviews.py
(TESTS,) = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if block.startswith("tests:")]
WELCOME = "flows/welcome.yaml"


@cache
def files() -> dict[str, str]:
    """The shipped shop with the French welcome of the page, and the test of it."""
    shipped = dict(shop_files())
    test = TESTS.removeprefix("tests:\n").replace("customer:", "splits: {which-tip: scale}\n    customer:", 1)
    return shipped | {"templates/email/welcome.fr.mjml": FRENCH, WELCOME: shipped[WELCOME] + test}


@cache
def catalog() -> Catalog:
    return read_documents({(one.kind, one.name): one.body for one in compile_files(files())})


def test_the_french_mail_is_sound_and_the_test_that_is_shown_is_kept() -> None:
    assert check_files(files()) == []
    flow = read_flow(files()[WELCOME], WELCOME)
    (test,) = [one for one in flow.tests if "French" in one.name]

    assert judge(test, live(ShopUnderTest(catalog=catalog()), flow, test)).is_kept


@pytest.mark.parametrize(
    ("locale", "gets"),
    [
        ("fr-CA", "email/welcome.fr"),
        ("FR", "email/welcome.fr"),
        ("fr_BE", "email/welcome.fr"),
        ("de", "email/welcome"),
        (None, "email/welcome"),
    ],
)
def test_each_customer_gets_the_nearest_form(locale: str | None, gets: str) -> None:
    assert catalog().in_language("email/welcome", locale) == gets


def test_a_preview_shows_every_form_with_the_words_of_its_language() -> None:
    found = languages(catalog().mails, "welcome")
    written = {
        locale: preview(
            catalog(), catalog().mails[name], "email/welcome", locale, {}, public_url="https://x.example", now=START
        ).rendered
        for locale, name in found.items()
    }

    assert set(written) == {None, "fr"}
    assert "2 mars 2026" in written["fr"].html
    assert "Se désabonner" in written["fr"].html
    assert "Se désabonner: https" in written["fr"].text
    assert "parce que vous avez accepté de recevoir des nouvelles de Ember &amp; Oak Coffee" in written["fr"].html
    assert 'lang="fr"' in written["fr"].html
    assert 'lang="en"' in written[None].html
    assert "Unsubscribe" in written[None].html


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"templates/email/nobody.fr.mjml": FRENCH}, "There is no email/nobody.mjml beside this"),
        ({"templates/email/thank-you.fr.mjml": FRENCH}, "The kind of a mail is the same in every language"),
        (
            {"templates/email/welcome.fr.mjml": FRENCH.replace("kind: marketing", "kind: marketing\ntopic: news")},
            "The topic of a mail is the same in every language: 'coffee-care' in email/welcome.mjml.",
        ),
        (
            {WELCOME: shop_files()[WELCOME].replace("send: email/welcome\n", "send: email/welcome.fr\n")},
            "Write email/welcome: each customer gets the form in their own language.",
        ),
    ],
)
def test_check_says_what_does_not_fit_between_languages(changed: dict[str, str], told: str) -> None:
    assert any(told in problem.message for problem in check_files(files() | changed))


def test_the_form_that_went_is_pinned_and_told(database_url: str) -> None:
    new: dict[str, Any] = {"files": {"templates/email/welcome.fr.mjml": FRENCH}}
    with driving(database_url, **new) as driver:
        driver.post("customer.created", customer={**SAM, "locale": "fr-CA"}, consent="granted")
        driver.post("customer.created", customer={"id": "c2", "email": "eve@example.com"}, consent="granted")
        driver.at(hours=1)
        noted = driver.rows(sa.select(decisions.c.detail).where(decisions.c.verb == "sent").order_by(decisions.c.id))
        subjects = letters(driver)

    assert [row[0].get("locale") for row in noted] == ["fr", None]
    assert subjects == ["Sam, bienvenue", "Good to meet you"]


def letters(driver: Driver) -> list[str]:
    ids = [row[0] for row in driver.rows(sa.select(touchpoints.c.id).order_by(touchpoints.c.id))]
    with driver.app.reading() as connection:
        found = [outbox.letter(connection, driver.app.catalog, driver.app.settings, id_) for id_ in ids]
    return [one.rendered.subject for one in found if one is not None and one.rendered is not None]
