"""Leaderboards on the pages for the team and in the API."""

import csv
import io
import re
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import quote

import pytest

from db import leaderboards, privacy
from db.leaderboards import Change, Evidence
from tests.driver import START, Driver
from tests.small_shop import small
from tests.web.conftest import KEY
from tests.web.shop_of_pages import HOSTILE
from tests.web.test_api import send
from tests.web.test_pages import Site
from web.app import Faces
from web.pages import evidence

DAY = timedelta(days=1)
BEARER = {"authorization": f"Bearer {KEY}"}


def scored(driver: Driver, *given: tuple[str, int, int], metric: str = "referrals") -> None:
    """Customers by name, with what they scored so many days before START."""
    for name, _, _ in given:
        driver.post("ping.one", customer={"id": name, "first_name": name, "email": f"p{len(name)}@example.com"})
    changes = [
        Change(programme="friends", metric=metric, customer_id=driver.customer(n), delta=delta, at=START - days * DAY)
        for n, delta, days in given
    ]
    with driver.app.writing() as connection:
        calendar = driver.app.catalog.current(connection).catalog.shop.calendar
        leaderboards.record(connection, changes, calendar, driver.clock.now())


@pytest.fixture
def site(database_url: str) -> Iterator[Site]:
    with small(database_url, key=KEY) as driver:
        scored(driver, ("Ada", 3, 20), ("Benjamin", 1, 20), ("Benjamin", 5, 0), ("Ada", 2, 0), ("Cleopatra", 2, 0))
        scored(driver, ("Benjamin", 12_050, 0), metric="revenue")
        faces = Faces(driver.app)
        yield Shown(driver, faces)
        faces.close()


class Shown(Site):
    """A site that is asked with the key."""

    def ask(self, method, path, **options):
        options["headers"] = {**options.get("headers", {}), **BEARER}
        return super().ask(method, path, **options)


def cells(html: str) -> list[list[str]]:
    """The text of each row of the table."""
    rows = re.findall(r"<tr.*?</tr>", html.partition("<tbody>")[2].partition("</tbody>")[0], re.DOTALL)
    return [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in row.split("</td>")[:-1]] for row in rows]


def test_a_board_shows_ranks_scores_and_places_gained_since_the_period_before(site):
    shown = cells(site.get("/leaderboards/friends?period=this-month"))

    assert [(row[0], row[1], row[3], row[4]) for row in shown] == [
        ("1", "Benjamin", "5", "▲ up 1"),
        ("2", "Ada", "2", "▼ down 1"),
        ("2", "Cleopatra", "2", "new"),
    ]


def test_the_board_of_all_time_shows_what_is_new_this_month(site):
    shown = cells(site.get("/leaderboards/friends"))

    assert [(row[0], row[1], row[3], row[4]) for row in shown] == [
        ("1", "Benjamin", "6", "+5"),
        ("2", "Ada", "5", "+2"),
        ("3", "Cleopatra", "2", "+2"),
    ]


def test_money_is_told_in_the_shops_currency(site):
    page = site.get("/leaderboards/friends?metric=revenue")
    assert "Referred revenue, EUR" in page
    assert cells(page)[0][3] == "120.50"


def test_the_list_of_programmes_leads_to_their_boards(site):
    page = site.get("/leaderboards")
    assert 'href="/leaderboards/friends?metric=revenue"' in page
    assert [row[1] for row in cells(page)] == ["Benjamin", "Benjamin"]


@pytest.mark.parametrize("sought", ["cleo", "CLEO", "p9@example.com"])
def test_somebody_is_found_by_name_or_whole_address_with_the_true_rank(site, sought):
    shown = cells(site.get(f"/leaderboards/friends?q={quote(sought)}"))
    assert [(row[0], row[1]) for row in shown] == [("3", "Cleopatra")]


def test_who_is_not_on_the_board_is_not_found_and_the_page_says_what_to_do(site):
    assert "Nobody is found." in site.get("/leaderboards/friends?q=nobody")


def test_pages_follow_each_other(site, monkeypatch):
    monkeypatch.setattr("web.pages.leaderboards.PLACES", 2)
    page = site.get("/leaderboards/friends?period=this-month")
    further = re.search(r'href="([^"]*)" rel="next"', page)
    assert further
    assert [row[1] for row in cells(site.get(further[1].replace("&amp;", "&")))] == ["Cleopatra"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/leaderboards/freinds", "Did you mean"),
        ("/leaderboards/friends?metric=clicks", "Nothing called"),
        ("/leaderboards/friends?period=2026-13", "No period is called"),
        ("/leaderboards/friends/999999", "no customer of this number"),
        ("/leaderboards/friends/x", "no customer of this number"),
    ],
)
def test_an_address_that_names_nothing_says_what_there_is(site, path, told):
    assert told in site.get(path, 404)


@pytest.mark.parametrize("after", ["x", "1.2.3", "1.2.999999999999999999.4", "-1.2.3.4"])
def test_a_cursor_that_is_none_shows_the_first_places(site, after):
    assert cells(site.get(f"/leaderboards/friends?after={after}"))[0][1] == "Benjamin"


def test_a_customers_page_shows_neighbours_rank_of_each_board_and_a_line(site):
    page = site.get(f"/leaderboards/friends/{site.driver.customer('Ada')}?period=this-month")

    assert [row[1] for row in cells(page)] == ["Benjamin", "Ada", "Cleopatra"]
    assert "2 of 3" in " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "<polyline" in page
    assert "March 2026: 2" in page
    assert "Nothing yet." in page


def test_a_customers_page_shows_each_thing_that_the_score_is_made_of(site, monkeypatch):
    def of_referrals(connection, programme, customer_id):
        assert (programme, customer_id) == ("friends", site.driver.customer("Ada"))
        return [
            Evidence(what="A friend ordered", state="in review", needs_you=True, at=START, customer_id=7,
                     because=["score 55: same payment fingerprint"]),
        ]  # fmt: skip

    monkeypatch.setattr(evidence, "of_referrals", of_referrals)
    page = site.get(f"/leaderboards/friends/{site.driver.customer('Ada')}")

    assert 'class="slot red"' in page
    assert "score 55: same payment fingerprint" in page
    assert 'href="/customers/7"' in page


def test_a_forgotten_customer_is_a_former_customer(site):
    ada = site.driver.customer("Ada")
    with site.driver.app.writing() as connection:
        privacy.forget(connection, ada, site.driver.clock.now(), site.driver.secret)

    shown = cells(site.get("/leaderboards/friends"))
    assert [row[1] for row in shown] == ["Benjamin", "a former customer", "Cleopatra"]
    assert "Ada" not in site.get(f"/leaderboards/friends/{ada}")


def test_hostile_names_are_text(site):
    scored(site.driver, *((name, 1, 0) for name in HOSTILE))
    page = site.get("/leaderboards/friends")
    assert not [name for name in HOSTILE if name in page and "<" in name]


def test_a_season_that_was_sealed_says_so_with_its_digest(site):
    with site.driver.app.writing() as connection:
        calendar = site.driver.app.catalog.current(connection).catalog.shop.calendar
        sealed = leaderboards.seal_due(connection, calendar, START + 9 * DAY)
    digest = next(seal.digest for board, seal in sealed if board.season == "2026-02")

    page = site.get("/leaderboards/friends?period=2026-02")
    assert "February 2026, sealed" in page
    assert digest[:12] in page


def test_the_file_for_spreadsheets_runs_no_formula_and_is_named(site):
    scored(site.driver, ("=cmd|' /C calc'!A0", 1, 0))
    answer = site.ask("GET", "/leaderboards/friends.csv?period=this-month")

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="friends-referrals-2026-03.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [row["rank"] for row in rows] == ["1", "2", "2", "4"]
    assert rows[3]["name"] == "'=cmd|' /C calc'!A0"


# The API


def test_the_api_tells_a_board_page_by_page(site):
    first = site.ask("GET", "/api/leaderboards/friends?period=this-month&limit=1").json()
    second = site.ask("GET", f"/api/leaderboards/friends?period=this-month&after={first['further']}").json()

    assert (first["metric"], first["season"], first["customers"], first["total"]) == ("referrals", "2026-03", 3, 9)
    assert first["from"] == "2026-02-28T23:00:00Z"
    assert [(one["rank"], one["name"], one["movement"]) for one in first["places"] + second["places"]] == [
        (1, "Benjamin", 1),
        (2, "Ada", -1),
        (2, "Cleopatra", None),
    ]
    assert second["further"] is None


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("nothing", 404, "Nobody is on a leaderboard of 'nothing'"),
        ("friends?metric=clicks", 404, "Nothing called 'clicks' is counted"),
        ("friends?period=soon", 404, "No period is called 'soon'"),
        ("friends?limit=0", 422, "limit"),
        ("friends?after=x", 422, "`after` is not"),
    ],
)
def test_the_api_says_what_there_is_instead(site, path, status, told):
    answer = site.ask("GET", f"/api/leaderboards/{path}")
    assert answer.status_code == status
    assert told in answer.json()["error"]


def test_without_the_key_the_api_tells_nothing(site):
    faces = Faces(site.driver.app)
    assert send(faces, "GET", "/api/leaderboards/friends", headers={}).status_code == 401
    faces.close()


def test_without_a_score_the_pages_say_what_to_do(sqlite_url):
    with small(sqlite_url) as driver:
        faces = Faces(driver.app)
        assert "Nobody has scored yet." in Site(driver, faces).get("/leaderboards")
        faces.close()
