"""`GET /r/CODE`: a click is recorded, the friend stands on the shop's own page with the code, and nowhere else."""

from urllib.parse import parse_qs, urlsplit

import pytest

from afterglow.language.catalog import Document
from afterglow.referring.attribution import CLICK
from afterglow.referring.linking import is_own
from afterglow.tokens import read_token
from db.tables import clicks, coupons
from tests.web.conftest import BOTH, SECRET, put_into_force, rows
from tests.web.test_links import CUSTOMER, ask, customer

__all__ = ["customer"]

BROWSER = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}
FRIENDS = """\
programme: friends
kind: referral
about: x
page: PAGE
qualifies: {on: order.paid}
rewards: {referee: {coupon: welcome-10}}
"""


@pytest.fixture
def page(app, customer, request):
    """Puts a programme into force whose page is the parameter."""
    url = getattr(request, "param", "https://ember-oak.example/friends?from=mail")
    put_into_force(app, Document(kind="programme", name="friends", body=FRIENDS.replace("PAGE", url)))
    return url


@BOTH
def test_a_click_is_recorded_and_its_token_stands_beside_the_code(app, page, faces):
    answer = ask(faces, "GET", "/r/ab12-cd34-e", headers=BROWSER)

    there = urlsplit(answer.headers["location"])
    query = parse_qs(there.query)
    [click] = rows(app, clicks)
    assert answer.status_code == 302
    assert (there.scheme, there.netloc, there.path) == ("https", "ember-oak.example", "/friends")
    assert (query["from"], query["ref"]) == (["mail"], ["AB12-CD34-E"])
    assert read_token([SECRET.encode()], CLICK, query["ref_click"][0]) == (click.id,)
    assert (click.programme, click.customer_id, click.code) == ("friends", CUSTOMER, "AB12-CD34-E")


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", BROWSER),
        ("GET", {"user-agent": ""}),
        ("GET", {"user-agent": "Mozilla/5.0 (compatible; Googlebot/2.1)"}),
        ("GET", {"user-agent": "facebookexternalhit/1.1"}),
        ("GET", {"user-agent": "WhatsApp/2.23.20.0"}),
        ("GET", {"user-agent": "curl/8.5.0"}),
        ("GET", BROWSER | {"sec-purpose": "prefetch;prerender"}),
    ],
)
def test_who_only_looks_at_the_link_leaves_no_click_and_goes_the_same_way(app, page, faces, method, headers):
    answer = ask(faces, method, "/r/AB12-CD34-E", headers=headers)

    assert answer.headers["location"] == "https://ember-oak.example/friends?from=mail&ref=AB12-CD34-E"
    assert rows(app, clicks) == []


@pytest.mark.parametrize("code", ["ZZZZ", "AB12-CD34", "%2F%2Fevil.example", "%0d%0aX:y", "\uff21"])
def test_an_unknown_code_leads_to_the_shop_without_one(app, page, faces, code):
    answer = ask(faces, "GET", f"/r/{code}", headers=BROWSER)

    assert answer.headers.get("location", "https://ember-oak.example") == "https://ember-oak.example"
    assert rows(app, clicks) == []


@pytest.mark.parametrize(
    "page", ["https://evil.example/", "http://ember-oak.example/", '"//evil.example"'], indirect=True
)
def test_a_page_elsewhere_in_a_file_is_not_followed(app, page, faces):
    answer = ask(faces, "GET", "/r/AB12-CD34-E", headers=BROWSER)
    assert answer.headers["location"].startswith("https://ember-oak.example/?ref=AB12-CD34-E&ref_click=")


@pytest.mark.parametrize(
    ("there", "is_ours"),
    [
        ("https://shop.example/a?b=c", True),
        ("https://www.shop.example", True),
        ("https://shop.example:8443/", True),
        ("https://shop.example.evil.example", False),
        ("https://evilshop.example", False),
        ("https://shop.example@evil.example", False),
        ("https://evil.example\\@shop.example/", False),
        ("//shop.example/", False),
        ("javascript:alert(1)//shop.example", False),
        ("https://shop.example/\r\nX: y", False),
        ("https://[shop.example", False),
        ("/friends", False),
        ("", False),
    ],
)
def test_only_the_shops_own_site_is_the_shops(there, is_ours):
    assert is_own(there, "https://shop.example/") is is_ours


@BOTH
def test_a_link_carries_a_code_of_shopify_into_the_cart_where_the_programme_says_so(app, customer, faces):
    carries = "carries: hello\ncoupons: {hello: {codes: shopify, percent: 10}}\n"
    body = FRIENDS.replace("PAGE", "https://ember-oak.example/friends?from=mail") + carries
    put_into_force(app, Document(kind="programme", name="friends", body=body))

    for _ in range(2):
        there = urlsplit(ask(faces, "GET", "/r/ab12-cd34-e", headers=BROWSER).headers["location"])
    assert (there.netloc, there.path) == ("ember-oak.example", "/discount/AB12-CD34-E")
    after = urlsplit(parse_qs(there.query)["redirect"][0])
    assert (after.scheme, after.netloc, after.path) == ("", "", "/friends")
    assert parse_qs(after.query)["ref"] == ["AB12-CD34-E"]
    [wanted] = rows(app, coupons)
    assert (wanted.code, wanted.name, wanted.state) == ("AB12-CD34-E", "hello", "wanted")
    assert wanted.terms["shared"]
