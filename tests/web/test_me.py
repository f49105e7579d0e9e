"""`/me/{token}`: a customer's own page, for whoever holds the link, and for nobody else."""

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow.letters import ME, me_token
from afterglow.tokens import LONG_MAC_BYTES, make_token
from db import me, privacy
from db.tables import inbox, redemptions, referral_codes
from tests.driver import Driver, driving
from tests.web.conftest import faces_of
from tests.web.shop_of_me import FILES, MARA, go_on, order, path, redeem, who
from tests.web.test_links import ask
from web.me import is_of_shop

pytestmark = pytest.mark.xdist_group("me")
SHOP = "https://ember-oak.example"


class Place:
    """Mara's page, and how to ask for it."""

    def __init__(self, driver: Driver, faces: Any) -> None:
        self.driver, self.faces = driver, faces
        self.mara = driver.customer("mara")
        self.path = path(driver, self.mara)

    def get(self, path: str | None = None, **options: Any) -> Any:
        return ask(self.faces, "GET", path or self.path, **options)

    def post(self, form: dict[str, str], path: str | None = None, **options: Any) -> Any:
        return ask(self.faces, "POST", path or self.path, data=form, **options)

    def count(self) -> int:
        return int(self.driver.rows(sa.select(sa.func.count()).select_from(redemptions))[0][0])


@pytest.fixture
def place(story_of_me: Path, tmp_path: Path) -> Iterator[Place]:
    file = tmp_path / "afterglow.db"
    shutil.copyfile(story_of_me, file)
    with driving(f"sqlite:///{file}", files=FILES) as driver:
        go_on(driver)
        with faces_of(driver.app) as faces:
            yield Place(driver, faces)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def read(html: str) -> str:
    """What somebody reads of a page."""
    text = _Text()
    text.feed(html)
    return " ".join(" ".join(text.parts).split())


def form(html: str, reward: str = "five-off") -> dict[str, str]:
    """The hidden fields of the form of a reward."""
    forms = [dict(re.findall(r'name="(\w+)" value="([^"]*)"', one)) for one in html.split("<form")[1:]]
    return next(one for one in forms if one["reward"] == reward)


def test_the_page_tells_all_that_is_theirs(place):
    text = read(place.get().text)

    for told in (
        "Hello Mara",
        "290 beans to spend",
        "74 more on the way, from 1 Apr on",
        "364 beans to spend before 1 Apr 2027",
        "Regular 186 beans to Friend of the house",
        "A seat at the Saturday tasting 400 beans 110 beans to go",
        "A bag of this week's roast 250 beans None is left just now",
        "OAK-7Q2M",
        "Five euros for a friend, fifty beans for you",
        "A friend, 22 Mar Ordered. Waits for the return window, until 5 Apr.",
        "Ordered. We are having a look at this one.",
        "Came by your link. It counts with their order.",
        "The order was returned, so it does not count.",
        "Done. It brought you 50 beans.",
    ):
        assert told in text, (told, text)


def test_no_page_and_no_json_names_a_friend_or_an_address(place):
    for answer in (place.get(), place.get(place.path + ".json")):
        for private in ("Kim", "Lou", "Pat", "Lindt", "@", "kim.example", "of-kim", '"referee_id"'):
            assert private not in answer.text, private


def test_the_page_goes_nowhere_and_is_kept_by_nobody(place):
    headers = place.get().headers
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["x-robots-tag"] == "noindex, nofollow"
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    html = place.get().text
    loaded = re.findall(r'(?:src|<link[^>]* href)="([^"]+)"', html)
    assert sorted(loaded) == ["/customer.css", "/me.css", "/me.js"], "nothing from elsewhere"
    assert [ask(place.faces, "GET", one).status_code for one in loaded] == [200] * 3


def test_every_wrong_link_is_the_same_404(place):
    secret, mara = place.driver.secret, place.mara
    right = place.path.removeprefix("/me/")
    with place.driver.app.writing() as connection:
        lou = place.driver.customer("lou")
        privacy.forget(connection, lou, place.driver.clock.now(), secret)
    wrong = [
        "x", right[:-1], right + "A", right.swapcase(), right + "=", "%00", "é",
        me_token(secret, mara, 1), me_token(b"another", mara, 0), me_token(secret, 10**9, 0), me_token(secret, lou, 0),
        make_token(secret, ME, mara, 0), make_token(secret, "rate", mara, 0, mac_bytes=LONG_MAC_BYTES),
        make_token(secret, ME, mara, mac_bytes=LONG_MAC_BYTES),
    ]  # fmt: skip
    answers = [ask(place.faces, method, f"/me/{one}") for one in wrong for method in ("GET", "POST")]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert len({tuple(sorted(answer.headers.items())) for answer in answers}) == 1
    assert {place.get(f"/me/{one}.json").status_code for one in wrong} == {404}


def test_a_revoked_link_opens_nothing_and_redeems_nothing(place):
    old = form(place.get().text)
    with place.driver.app.writing() as connection:
        me.revoke(connection, place.mara, place.driver.clock.now())

    assert [place.get().status_code, place.post(old).status_code] == [404, 404]
    assert place.post(old, place.path + ".json").status_code == 404
    assert place.count() == 1
    assert place.get(path(place.driver, place.mara)).status_code == 200


def test_a_reward_is_redeemed_once_however_often_its_form_is_sent(place):
    sent = form(place.get().text)
    answers = [place.post(sent) for _ in range(3)]

    assert {answer.status_code for answer in answers} == {303}
    assert {answer.headers["location"] for answer in answers} == {f"{place.path}?got=2#got"}
    shown = place.get(f"{place.path}?got=2")
    assert "It is yours: 5 euros off your next order" in read(shown.text)
    assert "OAK-9RTX" in shown.text
    assert "190 beans to spend" in read(shown.text)
    assert place.count() == 2
    keys = place.driver.rows(sa.select(redemptions.c.key).order_by(redemptions.c.id.desc()))
    assert keys[0] == (f"me/{sent['key']}",)


def test_only_a_form_of_this_page_redeems(place):
    ours = form(place.get().text)
    hers = me_token(place.driver.secret, place.driver.customer("jo"), 0)
    wrong = [
        {},
        {**ours, "key": ""},
        {**ours, "key": ours["key"][:-1]},
        {**ours, "key": "é\n"},
        {**ours, "reward": "tasting"},
        {**ours, "programme": "friends"},
        {**ours, "key": place.path.removeprefix("/me/")},
    ]
    answers = [place.post(one) for one in wrong] + [place.post(ours, f"/me/{hers}")]
    answers += [place.post(ours, headers={"sec-fetch-site": site}) for site in ("cross-site", "same-site")]
    answers += [place.post(ours, headers={"origin": "https://evil.example"})]

    assert {answer.status_code for answer in answers} == {409}
    assert all("nothing was taken" in answer.text for answer in answers)
    assert place.count() == 1
    assert place.post(ours, headers={"sec-fetch-site": "same-origin", "origin": "null"}).status_code == 303


def test_what_cannot_be_had_any_more_costs_nothing(place):
    sent = form(place.get().text)
    redeem(place.driver, place.mara, "five-off", "meanwhile")
    answer = place.post(sent)

    assert answer.status_code == 409
    assert "nothing was taken" in answer.text
    assert "190 beans to spend" in read(answer.text)
    assert "customer" not in read(answer.text).lower()


def test_got_shows_only_ones_own(place):
    order(place.driver, who("Rob"), 300)
    place.driver.at(days=40)
    theirs = path(place.driver, place.driver.customer("rob"))
    assert "OAK-7Q2M" not in place.get(f"{theirs}?got=1").text
    assert "It is yours" not in place.get(f"{theirs}?got=%F0%9F%98%80").text


def test_looking_makes_a_code_where_there_is_none_and_changes_nothing_else(place):
    rob = who("Rob")
    place.driver.post("customer.created", customer=rob)
    theirs = path(place.driver, place.driver.customer("rob"))
    before = place.driver.rows(sa.select(inbox.c.id))
    answers = [place.get(theirs) for _ in range(2)]

    codes = place.driver.rows(
        sa.select(referral_codes.c.code).where(referral_codes.c.customer_id == place.driver.customer("rob"))
    )
    assert len(codes) == 1
    assert all(f"/r/{codes[0][0]}" in answer.text for answer in answers)
    assert "Nobody has come by your link yet." in read(answers[0].text)
    assert place.driver.rows(sa.select(inbox.c.id)) == before


def test_the_json_holds_the_same_and_only_the_shop_may_read_it(place):
    answer = place.get(place.path + ".json", headers={"origin": SHOP})
    told = answer.json()

    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["vary"] == "Origin"
    [beans] = told["programmes"]
    assert (beans["spendable"], beans["pending"], beans["tier"]["tier"]) == (290, 74, "regular")
    assert [one["progress"] for one in told["friends"]] == ["waiting", "waiting", "came", "ended", "rewarded"]
    [friends] = told["referrals"]
    assert friends["link"].endswith(f"/r/{friends['code']}")
    assert [one["code"] for one in told["redeemed"]] == ["OAK-7Q2M"]
    for origin in (
        "https://evil.example",
        "http://ember-oak.example",
        "null",
        "https://ember-oak.example.evil.example",
    ):
        headers = place.get(place.path + ".json", headers={"origin": origin}).headers
        assert "access-control-allow-origin" not in headers


def test_the_shops_theme_redeems_and_no_other_page_does(place):
    [beans] = place.get(place.path + ".json").json()["programmes"]
    key = next(one["key"] for one in beans["rewards"] if one["id"] == "five-off")
    sent = {"programme": "beans", "reward": "five-off", "key": key}

    stranger = place.post(sent, place.path + ".json", headers={"origin": "https://evil.example"})
    assert (stranger.status_code, place.count()) == (409, 1)
    answers = [place.post(sent, place.path + ".json", headers={"origin": SHOP}) for _ in range(2)]
    assert [(answer.status_code, answer.json()["given"]) for answer in answers] == [(200, 2)] * 2
    assert answers[0].json()["redeemed"][0]["code"] == "OAK-9RTX"
    assert place.count() == 2


@pytest.mark.parametrize(
    ("origin", "is_ours"),
    [
        ("https://shop.example", True),
        ("https://www.shop.example", True),
        ("http://shop.example", False),
        ("https://shop.example:8443", False),
        ("https://eu.shop.example", False),
        ("https://shop.example.evil.example", False),
        ("null", False),
        ("", False),
        ("https://[x", False),
    ],
)
def test_the_shops_origin_is_its_own_site_alone(origin, is_ours):
    assert is_of_shop(origin, "https://shop.example/") is is_ours


def test_a_page_where_there_is_nothing_says_so(sqlite_url):
    with driving(sqlite_url, files={"flows/programmes/beans.yaml": NOTHING}) as driver:
        driver.post("customer.created", customer={**MARA, "first_name": None})
        with faces_of(driver.app) as faces:
            text = read(ask(faces, "GET", path(driver, driver.customer("mara"))).text)
    assert "Hello 0 beans to spend" in text


NOTHING = """\
programme: beans
kind: loyalty
about: A bean for every euro
asset: beans
earn: [{id: per-euro, on: order.paid, amount: order.total, points: 1}]
"""

MAIL = """\
---
kind: service
subject: Yours
preheader: Look
---
<mj-section><mj-column><mj-text><a href="{{ me_url }}">Your page</a></mj-text></mj-column></mj-section>
"""
FLOW = """\
flow: yours
about: x
status: live
starts: {event: order.paid}
topic: coffee-care
steps:
  - send: email/yours
"""


def test_a_mail_links_the_page_and_shows_the_same_link_for_ever(database_url):
    files = {
        "templates/email/yours.mjml": MAIL,
        "templates/email/yours.txt": "{{ me_url }}\n",
        "flows/yours.yaml": FLOW,
    }
    with driving(database_url, files={**FILES, **files}) as driver, faces_of(driver.app) as faces:
        order(driver, MARA, 30)
        mara = driver.customer("mara")
        first = path(driver, mara)
        with driver.app.writing() as connection:
            me.revoke(connection, mara, driver.clock.now())
        driver.post("order.paid", {"order": {"id": "o2", "total": 30, "currency": "EUR"}}, customer=MARA)
        second = path(driver, mara)
        with driver.app.reading() as connection:
            export = privacy.export(connection, driver.app.catalog, driver.app.settings, mara)
        texts = [one["text"] for one in export["messages"] if "/me/" in (one["text"] or "")]
        assert [text.strip().partition("\n")[0].rpartition("/me/")[2] for text in texts] == [
            first.removeprefix("/me/"),
            second.removeprefix("/me/"),
        ]
        assert [ask(faces, "GET", one).status_code for one in (first, second)] == [404, 200]
