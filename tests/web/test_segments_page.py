"""The pages of segments: faces, counts, who is in one."""

import base64
import json
from collections.abc import Iterator

import pytest

from afterglow.language.check import check_files
from tests.driver import driving, shop_files
from tests.web.conftest import faces_of
from tests.web.shop_of_pages import HOSTILE
from tests.web.test_pages import Site, assert_harmless, text_of

PNG = b"\x89PNG\r\n\x1a\n and what follows"
SEGMENTS = json.dumps(
    {
        "segments": [
            {
                "segment": "buyers",
                "about": HOSTILE[0],
                "when": "customer.orders > 0",
                "persona": {"name": "Bea Buyer", "description": HOSTILE[1], "picture": "people/bea.png"},
            },
            {
                "segment": "french",
                "about": "In France",
                "when": 'customer.country == "FR"',
                "persona": {"name": "Luc"},
            },
            {"segment": "nobody", "about": "None", "when": "customer.orders > 99"},
            # Those that flows of the roastery start by.
            {"segment": "regulars", "about": "Often", "when": "customer.orders > 99"},
            {"segment": "lapsed", "about": "Long ago", "when": "customer.orders > 99"},
        ]
    }
)
FILES = {"flows/segments.yaml": SEGMENTS, "pictures/people/bea.png": base64.b64encode(PNG).decode()}


@pytest.fixture
def site(sqlite_url: str) -> Iterator[Site]:
    with driving(sqlite_url, files=FILES) as driver:
        who = {"id": "c1", "first_name": HOSTILE[0], "country": "FR"}
        driver.post("order.paid", {"order": {"id": "o1", "total": 20}}, customer=who)
        with faces_of(driver.app) as faces:
            yield Site(driver, faces)


def test_segments_are_shown_with_faces_counts_and_members_and_nothing_written_becomes_markup(site: Site) -> None:
    shown = text_of(site.get("/segments"))
    for told in ("Bea Buyer 1 customer buyers", "Luc 1 customer french", "nobody None 0"):
        assert told in shown
    one = site.get("/segments/buyers")
    assert "customer.orders > 0" in text_of(one)
    assert f'href="/customers/{site.driver.customer()}"' in one
    assert "Bea Buyer since" in text_of(site.get(f"/customers/{site.driver.customer()}"))
    for path in ("/segments", "/segments/buyers", "/segments/nobody", f"/customers/{site.driver.customer()}"):
        assert_harmless(site.get(path), path)
    site.get("/segments/unknown", status=404)


def test_a_picture_comes_from_the_release_and_is_what_its_bytes_say(site: Site) -> None:
    found = site.ask("GET", "/segments/buyers/picture")
    assert (found.content, found.headers["content-type"]) == (PNG, "image/png")
    site.get("/segments/french/picture", status=404)
    site.get("/segments/..%2f..%2fshop/picture", status=404)
    script = base64.b64encode(b"<svg onload=alert(1)>").decode()
    told = [str(one) for one in check_files({**shop_files(), **FILES, "pictures/people/bea.png": script})]
    assert told == [
        "pictures/people/bea.png:1:1: This is no picture that pages can show: save it as PNG, JPEG or WebP."
    ]
    missing = [one.message for one in check_files({**shop_files(), "flows/segments.yaml": SEGMENTS})]
    assert missing == ["There is no picture pictures/people/bea.png."]
