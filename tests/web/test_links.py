"""What customers find behind the links in their mails."""

import asyncio
import json

import pytest
import sqlalchemy as sa

from afterglow.letters import RATE, UNSUBSCRIBE
from afterglow.tokens import make_token
from db import bulk
from db.tables import consents, customers, decisions, events, inbox, referral_codes
from tests.web.conftest import BOTH, SECRET, client, rows
from web.links import with_ref

CUSTOMER, TOUCHPOINT = 7, 3
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture
def customer(app):
    now = app.clock.now()
    with app.writing() as connection:
        connection.execute(customers.insert().values(id=CUSTOMER, orders=0, spent=0, since=now))
        row = ("email", "*", "granted", "consent", {}, now)
        bulk.insert(
            connection,
            consents,
            ("channel", "topic", "state", "basis", "evidence", "occurred_at", "customer_id"),
            [(*row, CUSTOMER)],
        )
        connection.execute(
            referral_codes.insert().values(programme="friends", customer_id=CUSTOMER, code="AB12-CD34-E", made_at=now)
        )


def unsubscribe_path(customer_id: int = CUSTOMER) -> str:
    return "/u/" + make_token(SECRET.encode(), UNSUBSCRIBE, TOUCHPOINT, customer_id)


def rate_path(survey: str = "answer") -> str:
    return f"/rate/{survey}/" + make_token(SECRET.encode(), f"{RATE} {survey}", TOUCHPOINT, CUSTOMER)


def ask(faces, method: str, path: str, **options):
    async def once():
        async with client(faces.public) as http:
            return await http.request(method, path, **options)

    return asyncio.run(once())


def words(app) -> dict[str, str]:
    return {row.topic: row.state for row in rows(app, consents)}


def heard(app) -> list[dict]:
    return [json.loads(row.body) for row in rows(app, inbox) if row.source == "page"]


def state_of_the_database(app) -> list:
    return [rows(app, table) for table in (consents, inbox, events, decisions)]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
def test_looking_at_a_link_changes_nothing(app, customer, faces, method):
    before = state_of_the_database(app)

    paths = [unsubscribe_path(), rate_path() + "?score=1", unsubscribe_path() + "?choice=all", "/r/AB12-CD34-E"]
    answers = [ask(faces, method, path) for path in paths]

    assert state_of_the_database(app) == before
    assert {answer.status_code for answer in answers} <= {200, 302, 405}


def test_the_page_asks_and_says_that_nothing_has_changed_yet(customer, faces):
    answer = ask(faces, "GET", unsubscribe_path())

    assert answer.status_code == 200
    assert "Nothing changes until you press a button" in answer.text
    assert "Unsubscribe from everything" in answer.text


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"data": ONE_CLICK}, id="urlencoded"),
        pytest.param({"files": {"List-Unsubscribe": (None, "One-Click")}}, id="multipart"),
        pytest.param({"data": {"choice": "all"}}, id="by the page"),
    ],
)
def test_a_post_ends_marketing_before_it_is_answered(app, customer, faces, body):
    answer = ask(faces, "POST", unsubscribe_path(), **body)

    assert answer.status_code == 200
    assert "Done" in answer.text
    assert words(app) == {"*": "withdrawn"}
    assert [(one["event"], one["customer"], one["payload"]["topic"]) for one in heard(app)] == [
        ("consent.withdrawn", {"customer": CUSTOMER}, "*")
    ]


def test_one_click_counts_for_everything_whatever_else_the_body_says(app, customer, faces):
    ask(faces, "POST", unsubscribe_path(), data={**ONE_CLICK, "choice": "again"})

    assert words(app) == {"*": "withdrawn"}


def test_unsubscribing_twice_is_fine_and_one_event(app, customer, faces):
    answers = [ask(faces, "POST", unsubscribe_path(), data=ONE_CLICK) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(heard(app)) == 1


def test_the_way_back_leads_back(app, customer, faces):
    page = ask(faces, "POST", unsubscribe_path(), data=ONE_CLICK)
    assert 'value="again"' in page.text

    answer = ask(faces, "POST", unsubscribe_path(), data={"choice": "again"})

    assert "Welcome back" in answer.text
    assert words(app) == {"*": "granted"}
    assert [one["event"] for one in heard(app)] == ["consent.withdrawn", "consent.granted"]


def test_a_word_dated_in_the_future_does_not_outlive_the_customers_own(app, customer, faces):
    with app.writing() as connection:
        later = app.clock.now().replace(year=2999)
        connection.execute(consents.update().values(occurred_at=later))

    ask(faces, "POST", unsubscribe_path(), data=ONE_CLICK)

    assert words(app) == {"*": "withdrawn"}


def test_a_post_that_says_nothing_changes_nothing(app, customer, faces):
    for body in ({}, {"data": {"choice": "?"}}, {"content": b"\xff" * 100}, {"content": b"x" * 50_000}):
        assert ask(faces, "POST", unsubscribe_path(), **body).status_code == 400

    assert words(app) == {"*": "granted"}
    assert heard(app) == []


def test_links_that_lead_nowhere_look_all_the_same(customer, faces):
    good = make_token(SECRET.encode(), UNSUBSCRIBE, TOUCHPOINT, CUSTOMER)
    paths = [
        "/u/x",
        "/u/" + good[:-1],
        "/u/" + make_token(b"another-secret-altogether", UNSUBSCRIBE, TOUCHPOINT, CUSTOMER),
        "/u/" + make_token(SECRET.encode(), "rate answer", TOUCHPOINT, CUSTOMER),
        "/u/" + make_token(SECRET.encode(), UNSUBSCRIBE, CUSTOMER),
        "/u/%00",
        "/u/" + "é" * 30,
        "/rate/answer/" + good,
        "/rate/%00/" + good,
        rate_path().replace("/answer/", "/other/"),
        unsubscribe_path(customer_id=999),
        "/nowhere",
    ]

    answers = [ask(faces, method, path) for path in paths for method in ("GET", "POST")]

    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1


def test_a_rating_is_asked_for_and_then_recorded_once(app, customer, faces):
    asked = ask(faces, "GET", rate_path() + "?score=2")
    assert asked.text.count('name="score"') == 5
    assert "You chose 2" in asked.text

    first = ask(faces, "POST", rate_path(), data={"score": "2"})
    second = ask(faces, "POST", rate_path(), data={"score": "5"})
    looked = ask(faces, "GET", rate_path())

    assert "Thank you for your 2 out of 5" in first.text
    assert "already" in second.text
    assert "already" in looked.text
    assert [(one["event"], one["payload"]) for one in heard(app)] == [
        ("survey.answered", {"score": 2, "survey": "answer", "scale": "stars"})
    ]


@pytest.mark.parametrize("score", ["0", "6", "-1", "1.5", "", "five", "\uff11"])
def test_only_scores_from_one_to_five_are_recorded(app, customer, faces, score):
    assert ask(faces, "POST", rate_path(), data={"score": score}).status_code == 400
    assert heard(app) == []


def test_two_surveys_of_one_mail_are_two_answers(app, customer, faces):
    for survey in ("answer", "delivery"):
        ask(faces, "POST", rate_path(survey), data={"score": "4"})

    assert [one["key"] for one in heard(app)] == ["rate/3/answer", "rate/3/delivery"]


@pytest.mark.parametrize(
    ("code", "target"),
    [
        ("AB12-CD34-E", "https://ember-oak.example/friends?ref=AB12-CD34-E"),
        ("ab12-cd34-e", "https://ember-oak.example/friends?ref=AB12-CD34-E"),
        ("ZZZZ", "https://ember-oak.example"),
        ("%2F%2Fevil.example", "https://ember-oak.example"),
        ("%0d%0aX:y", "https://ember-oak.example"),
    ],
)
def test_a_friends_link_leads_to_the_shop_and_nowhere_else(customer, faces, code, target):
    answer = ask(faces, "GET", f"/r/{code}")

    assert answer.status_code in (302, 404)
    assert answer.headers.get("location", target) == target


def test_the_code_stands_beside_what_the_address_asks_for_already():
    assert with_ref("https://a.example/b?x=1&ref=old#c", "N") == "https://a.example/b?x=1&ref=N#c"


@pytest.mark.parametrize("path", [unsubscribe_path(), rate_path(), "/u/x", "/nowhere", "/customer.css", "/health"])
def test_every_page_is_strict_about_what_a_browser_may_do(customer, faces, path):
    headers = ask(faces, "GET", path).headers

    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert path == "/customer.css" or headers["cache-control"] == "no-store"


def test_pages_hold_no_inline_style_or_script(customer, faces):
    for path in (unsubscribe_path(), rate_path(), "/nowhere"):
        text = ask(faces, "GET", path).text
        assert "<script" not in text
        assert " style=" not in text
        assert "<style" not in text


def test_without_a_database_nothing_is_said_to_be_done(customer, faces, monkeypatch):
    def dead(*arguments, **named):
        raise sa.exc.OperationalError("x", {}, Exception("no"))

    monkeypatch.setattr("db.links.say", dead)

    answer = ask(faces, "POST", unsubscribe_path(), data=ONE_CLICK)

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


def test_a_survey_on_another_scale_takes_its_scores_and_a_comment_and_no_other_token(app, customer, faces):
    token = make_token(SECRET.encode(), f"{RATE} nps answer", TOUCHPOINT, CUSTOMER)
    path = f"/rate/nps/answer/{token}"

    asked = ask(faces, "GET", path + "?score=0")
    assert asked.text.count('name="score"') == 11
    assert "You chose 0" in asked.text
    assert ask(faces, "GET", rate_path().replace("/rate/", "/rate/nps/")).status_code == 404
    assert ask(faces, "POST", path, data={"score": "11"}).status_code == 400
    assert heard(app) == []

    said = ask(faces, "POST", path, data={"score": "0", "comment": "  <b>Stale</b>  "})

    assert "Thank you for your 0 out of 10" in said.text
    (one,) = heard(app)
    assert one["payload"] == {"score": 0, "survey": "answer", "scale": "nps", "comment": "<b>Stale</b>"}
