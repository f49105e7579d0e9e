"""Who may see the private face, and what may change something there."""

import asyncio
import time

import pytest

from db.settings import Settings, SettingsError
from tests.web.conftest import KEY, client, faces_of
from web import security
from web.security import COOKIE, check_private_bind, is_loopback, parse_bind

BEARER = {"authorization": f"Bearer {KEY}"}
OURS = {"sec-fetch-site": "same-origin"}
HTML = {"accept": "text/html"}


@pytest.fixture
def keyless(app):
    with faces_of(app) as made:
        yield made.private


@pytest.fixture
def private(opened):
    with faces_of(opened(key=KEY)) as made:
        yield made.private


def ask(face, method: str, path: str, *, host: str = "127.0.0.1", **options):
    async def once():
        async with client(face, host=host) as http:
            return await http.request(method, path, **options)

    return asyncio.run(once())


def test_without_a_key_this_machine_sees_everything(keyless):
    for host in ("localhost:8001", "127.0.0.1", "[::1]:8001"):
        assert ask(keyless, "GET", "/docs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.5:8001", "", "[", "localhost@evil.example"]
)
def test_a_name_that_only_points_here_is_refused(keyless, host):
    assert ask(keyless, "GET", "/docs", headers={"host": host}).status_code == 403


def test_without_a_key_other_machines_are_refused_whatever_they_claim(keyless):
    claims = {"host": "localhost", "x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"}

    for path in ("/docs", "/metrics", "/health", "/api/events"):
        assert ask(keyless, "GET", path, host="203.0.113.9", headers=claims).status_code == 403


def test_with_a_key_nothing_is_shown_without_it(private):
    for path in ("/docs", "/metrics", "/openapi.json", "/", "/nowhere"):
        assert ask(private, "GET", path).status_code == 401
        assert ask(private, "GET", path, headers=BEARER).status_code in (200, 303, 404)
    assert ask(private, "GET", "/metrics", headers={"authorization": "Bearer nope"}).status_code == 401


def test_people_are_led_to_the_login_page_and_back(private):
    led = ask(private, "GET", "/docs", headers=HTML)
    assert (led.status_code, led.headers["location"]) == (303, "/login?next=/docs")

    entered = ask(private, "POST", "/login?next=/docs", data={"key": KEY}, headers=OURS)
    assert (entered.status_code, entered.headers["location"]) == (303, "/docs")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert KEY not in cookie

    seen = ask(private, "GET", "/docs", headers={"cookie": cookie.partition(";")[0]})
    assert seen.status_code == 200


def test_a_wrong_key_opens_nothing_and_cannot_be_tried_for_ever(private):
    answers = [ask(private, "POST", "/login", data={"key": "no"}, headers=OURS) for _ in range(21)]

    assert {answer.status_code for answer in answers[:20]} == {401}
    assert answers[20].status_code == 429
    assert all("set-cookie" not in answer.headers for answer in answers)


@pytest.mark.parametrize(
    "onward", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1", "/a\r\nb"]
)
def test_a_login_leads_nowhere_else(private, onward):
    entered = ask(private, "POST", "/login", params={"next": onward}, data={"key": KEY}, headers=OURS)

    assert entered.headers["location"] == "/"


def test_a_cookie_is_worth_nothing_changed_old_or_of_another_key(private, opened):
    def cookie(until: int, key: str = KEY) -> str:
        return f"{COOKIE}={until}.{security.PrivateFace(None, Settings(key=key))._mac(str(until))}"

    later, earlier = int(time.time()) + 60, int(time.time()) - 60
    fine = cookie(later)

    assert ask(private, "GET", "/docs", headers={"cookie": fine}).status_code == 200
    for bad in (
        fine[:-1],
        cookie(earlier),
        cookie(later, "another"),
        fine.replace(str(later), str(later + 1)),
        f"{COOKIE}=",
        f"{COOKIE}=é.é",
    ):
        raw = [(b"cookie", bad.encode("latin-1")), (b"host", b"localhost")]
        assert ask(private, "GET", "/docs", headers=raw).status_code == 401


FOREIGN = [
    {},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://["},
    {"sec-fetch-site": "cross-site", "origin": "http://localhost:8001"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_another_page_sends_changes_nothing(keyless, private, method, headers):
    until = str(int(time.time()) + 60)
    session = f"{COOKIE}={until}.{security.PrivateFace(None, Settings(key=KEY))._mac(until)}"

    assert ask(keyless, method, "/anything", headers=headers).status_code == 403
    assert ask(private, method, "/anything", headers={**headers, "cookie": session}).status_code == 403
    assert ask(private, method, "/login", headers=headers).status_code == 403


def test_our_own_pages_may(keyless, private):
    for headers in (OURS, {"origin": "http://localhost:8001"}):
        assert ask(keyless, "POST", "/anything", headers=headers).status_code == 404
    assert ask(private, "POST", "/anything", headers=BEARER).status_code == 404


def test_every_answer_carries_the_strict_headers(private):
    for path, headers in (
        ("/docs", BEARER),
        ("/login", {}),
        ("/docs", {}),
        ("/nowhere", BEARER),
        ("/static/team.css", {}),
    ):
        found = ask(private, "GET", path, headers=headers).headers
        assert "frame-ancestors 'none'" in found["content-security-policy"]
        assert "unsafe" not in found["content-security-policy"]
        assert found["cache-control"] == "no-store"
        assert found["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("bind", "parts"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("[::1]:0", ("::1", 0)),
        (":80", ("0.0.0.0", 80)),
        ("host:1", ("host", 1)),
    ],
)
def test_an_address_is_host_and_port(bind, parts):
    assert parse_bind(bind) == parts


@pytest.mark.parametrize("bind", ["", "8000", "a:b", "a:99999", "a:-1"])
def test_what_is_no_address_is_said_so(bind):
    with pytest.raises(SettingsError, match="no address"):
        parse_bind(bind)


@pytest.mark.parametrize("bind", ["0.0.0.0:8001", "[::]:8001", ":8001", "192.168.1.5:8001", "shop.example:8001"])
def test_private_pages_open_to_others_need_a_key(bind):
    with pytest.raises(SettingsError, match="AFTERGLOW_KEY"):
        check_private_bind(Settings(private_bind=bind))

    check_private_bind(Settings(private_bind=bind, key=KEY))
    check_private_bind(Settings(private_bind="127.0.0.1:8001"))


def test_this_machine_has_several_names():
    assert all(map(is_loopback, ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "::1%lo"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example"]))
