"""On the page of an answer customers allow to be quoted, by a box that is not ticked; the same link takes it back."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from afterglow.letters import rate_purpose
from afterglow.reviews import SHOP, WORDING, WORDINGS
from afterglow.tokens import make_token
from db.reviews import of_products
from db.tables import events, reviews
from tests.driver import START, Driver
from tests.small_shop import flow, small
from tests.web.conftest import client, faces_of
from web.app import Faces

ANSWER = {"score": "5", "comment": "The best in town."}


@dataclass
class Page:
    """The page of an answer, and the installation behind it."""

    driver: Driver
    faces: Faces

    def ask(self, method: str, scale: str = "stars", query: str = "", **form: str) -> str:
        token = make_token(self.driver.secret, rate_purpose("answer", scale), 1, self.driver.customer())
        path = f"/rate/answer/{token}" if scale == "stars" else f"/rate/{scale}/answer/{token}"

        async def once() -> httpx.Response:
            async with client(self.faces.public) as http:
                return await http.request(method, path + query, data=form or None)

        answer = asyncio.run(once())
        self.driver.drain()
        return answer.text

    def quoted(self) -> str | None:
        with self.driver.app.reading() as connection:
            quote: str | None = of_products(connection, [SHOP]).get(SHOP, {}).get("quote")
        return quote

    def permissions(self) -> list[tuple[Any, ...]]:
        r = reviews.c
        return self.driver.rows(sa.select(r.permitted_by, r.permitted_at, r.wording))


@pytest.fixture
def page(sqlite_url: str) -> Iterator[Page]:
    with small(sqlite_url, flow("asks", [{"survey": "email/rate"}])) as driver:
        who = {"id": "c1", "first_name": "Ada", "last_name": "Keller", "email": "ada@example.com"}
        driver.post("order.paid", {"order": {"id": "o1"}}, customer=who)
        with faces_of(driver.app) as faces:
            yield Page(driver, faces)


def test_the_box_says_what_is_allowed_and_is_not_ticked_whatever_the_link_says(page: Page) -> None:
    shown = page.ask("GET", query="?score=5&quote=yes")

    assert WORDINGS[WORDING].format(shop="Small Shop") in shown
    assert '<input type="checkbox" name="quote" value="yes">' in shown
    assert 'name="quote"' not in page.ask("GET", scale="nps")
    assert page.quoted() is None


def test_who_ticks_the_box_is_quoted_by_first_name_with_time_and_wording_kept(page: Page) -> None:
    page.ask("POST", quote="yes", **ANSWER)

    assert page.quoted() == "“The best in town.” (Ada)"
    assert page.permissions() == [("page", START, WORDING)]


@pytest.mark.parametrize(("scale", "form"), [("stars", ANSWER), ("nps", {**ANSWER, "quote": "yes"})])
def test_nobody_is_quoted_who_did_not_tick_it_or_was_not_asked(page: Page, scale: str, form: dict[str, str]) -> None:
    page.ask("POST", scale=scale, **form)

    assert page.quoted() is None
    assert all(permission == (None, None, None) for permission in page.permissions())


def test_a_tick_without_words_permits_nothing(page: Page) -> None:
    page.ask("POST", score="5", comment=" ", quote="yes")

    ((said,),) = page.driver.rows(sa.select(events.c.payload).where(events.c.name == "survey.answered"))
    assert "review" not in said


def test_the_same_link_takes_it_back_and_looking_does_not(page: Page) -> None:
    page.ask("POST", quote="yes", **ANSWER)
    assert "Show them no longer" in page.ask("GET", query="?quote=no")
    assert page.quoted() is not None

    assert "We show your words to nobody any more." in page.ask("POST", quote="no")

    assert page.quoted() is None
    assert page.permissions() == [(None, None, None)]
    assert "Show them no longer" not in page.ask("GET")
    page.ask("POST", quote="yes", **ANSWER)  # the first answer counts
    assert page.quoted() is None
