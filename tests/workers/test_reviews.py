"""What customers say about products, told to others: only with permission, and no longer than that."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from afterglow.language.check import check_files
from afterglow.reviews import signed
from db import outbox, privacy
from db.reviews import of_products
from db.tables import quotings, reviews, touchpoints
from tests.driver import START, Driver, driving, shop_files

PAGE = (ROOT / "docs" / "templates.md").read_text()
(TOLD,) = [block for block in re.findall(r"```mjml\n(.*?)```", PAGE, re.DOTALL) if "best_review" in block]
FILES: dict[str, Any] = {
    "templates/email/tip-water.mjml": TOLD.replace("topic: community", "topic: coffee-care"),
    "templates/email/tip-water.txt": "{{ best_review('house-roast') }}",
    "flows/told.yaml": "flow: told\nabout: Tell\nstatus: live\nstarts: {event: customer.created}\ntopic: coffee-care\n"
    "steps: [{send: email/tip-water}]\n",
}


@pytest.fixture
def shop(database_url: str) -> Iterator[Driver]:
    welcome = shop_files()["flows/welcome.yaml"].replace("status: live", "status: draft")
    with driving(database_url, files={**FILES, "flows/welcome.yaml": welcome}) as driver:
        yield driver


def review(driver: Driver, who: str, stars: int, text: str, **allowed: bool) -> None:
    customer = {"id": who, "email": f"{who}@example.com", "first_name": who.title(), "last_name": "Keller"}
    said = {"id": f"r-{who}", "stars": stars, "text": text, **allowed}
    driver.post("review.posted", {"review": said, "product": {"id": "house-roast"}}, customer=customer)


def told(driver: Driver, number: int) -> str:
    driver.post("customer.created", customer={"id": f"n{number}", "email": f"n{number}@example.com"}, consent="granted")
    return again(driver)[-1]


def again(driver: Driver) -> list[str]:
    ids = [row[0] for row in driver.rows(sa.select(touchpoints.c.id).order_by(touchpoints.c.id))]
    with driver.app.reading() as connection:
        found = [outbox.letter(connection, driver.app.catalog, driver.app.settings, id_) for id_ in ids]
    return [one.rendered.html for one in found if one is not None and one.rendered is not None]


def test_all_reviews_count_and_the_best_is_quoted_that_may_be_as_its_writer_allows(shop: Driver) -> None:
    review(shop, "ada", 5, "Never drank better.")
    review(shop, "ben", 4, "Very good, every day.", may_be_quoted=True)
    review(shop, "eve", 2, "Too dark for me.", may_be_quoted=True)
    html = told(shop, 1)

    assert "3.7 of 5, by 3 people" in html
    assert "“Very good, every day.”" in html
    assert "Ben" not in html

    allowed = {"review": {"id": "r-ada", "may_be_quoted": True, "may_be_named": True}}
    shop.post("review.permitted", allowed, customer={"id": "ada"})
    assert "“Never drank better.” (Ada K.)" in told(shop, 2)
    kept = sa.select(reviews.c.text, reviews.c.permitted_by, reviews.c.permitted_at).order_by(reviews.c.event_id)
    assert shop.rows(kept)[0] == ("Never drank better.", "api", START)


@pytest.mark.parametrize("how", ["forgotten", "taken back"])
def test_whoever_is_quoted_no_more_stands_in_no_mail_that_is_made_again(shop: Driver, how: str) -> None:
    review(shop, "ada", 5, "Never drank better.", may_be_quoted=True, may_be_named=True)
    assert "(Ada K.)" in told(shop, 1)

    if how == "forgotten":
        with shop.app.writing() as connection:
            privacy.forget(connection, shop.customer("ada"), START, shop.secret)
    else:
        no = {"review": {"id": "r-ada", "may_be_quoted": False}}
        shop.post("review.permitted", no, customer={"id": "ada"})

    (html,) = again(shop)
    assert "Never drank better" not in html
    assert "5.0 of 5, by 1 people" in html
    assert "Never drank better" not in told(shop, 2)
    assert shop.rows(sa.select(quotings)) == []


def test_an_answer_on_stars_is_a_review_of_the_shop_and_quoted_by_first_name_with_permission(shop: Driver) -> None:
    by_page = {"id": "rate/1/answer", "may_be_quoted": True, "wording": "1"}
    answer = {"survey": "answer", "scale": "stars", "comment": "The best in town."}
    ada = {"id": "ada", "first_name": "Ada", "last_name": "Keller"}
    shop.post("survey.answered", {**answer, "score": 5, "review": by_page}, customer=ada)
    shop.post("survey.answered", {**answer, "score": 5, "comment": "Unsaid"}, customer={"id": "ben"})
    shop.post("survey.answered", {**answer, "score": 9, "scale": "nps", "review": by_page}, customer={"id": "eve"})

    with shop.app.reading() as connection:
        known = of_products(connection, [""])[""]
    assert (known["count"], known["average"], known["quote"]) == (2, "5.0", "“The best in town.” (Ada)")
    r = reviews.c
    kept = shop.rows(sa.select(r.permitted_by, r.permitted_at, r.wording).where(r.permitted_at.is_not(None)))
    assert kept == [("api", START, "1")]

    no = {"review": {"id": "rate/1/answer", "may_be_quoted": False}}
    shop.post("review.permitted", no, customer={"id": "ada"})
    with shop.app.reading() as connection:
        assert "quote" not in of_products(connection, [""])[""]
    assert shop.rows(sa.select(r.event_id).where(r.wording.is_not(None))) == []


def test_a_mail_may_tell_of_the_shop_itself_and_of_nothing_that_is_no_product() -> None:
    of_shop = TOLD.replace('"house-roast"', "").replace("'house-roast'", "")
    files = {**shop_files(), **FILES, "templates/email/tip-water.mjml": of_shop}

    assert check_files(files) == []
    [problem] = check_files({**files, "templates/email/tip-water.txt": "{{ best_review(1) }}"})
    assert "or nothing: best_review() tells of the shop." in problem.message


def test_the_database_keeps_no_wording_without_a_permission(shop: Driver) -> None:
    review(shop, "ada", 5, "Never drank better.")
    with pytest.raises(sa.exc.IntegrityError), shop.app.writing() as connection:
        connection.execute(reviews.update().values(wording="1"))


@pytest.mark.parametrize(
    ("first", "last", "as_"), [("Ada", "Keller", "Ada K."), ("Ada", None, "Ada"), (None, "Keller", None)]
)
def test_no_more_of_a_name_is_told_than_an_initial(first: str | None, last: str | None, as_: str | None) -> None:
    assert signed(first, last) == as_
