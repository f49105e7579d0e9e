"""A customer's own page, and the page of referrals, in a real Chromium."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.driver import driving
from tests.web.shop_of_me import FILES, MARA, lived, path, who
from tests.web.test_browser import CONTRAST, LONG, Site, chromium, pytestmark
from web.serve import WebServer

__all__ = ["chromium", "pytestmark"]

HAS_SHARE = "navigator.share = (it) => { window.shared = it; return Promise.resolve(); }"
HAS_CLIPBOARD = "navigator.clipboard.writeText = (it) => { window.copied = it; return Promise.resolve(); }"


@pytest.fixture(scope="module")
def site(chromium: Any, tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> Iterator[Site]:
    file = tmp_path_factory.mktemp("browser-of-me") / "afterglow.db"
    shutil.copyfile(_sqlite_template, file)
    with driving(f"sqlite:///{file}", files=FILES, private_bind="127.0.0.1:0", public_bind="127.0.0.1:0") as driver:
        lived(driver)
        driver.post("customer.created", customer={**who("Newt"), "first_name": LONG})
        server = WebServer(driver.app)
        ready = threading.Event()
        thread = threading.Thread(target=server.run, args=(ready,), daemon=True)
        thread.start()
        assert ready.wait(60)
        made = Site(driver, server.public_url, chromium)
        made.private_url = server.private_url  # type: ignore[attr-defined]
        yield made
        server.stop()
        thread.join(20)
        assert made.complaints == []


def mine(site: Site, customer: str = "mara") -> str:
    return path(site.driver, site.driver.customer(customer))


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_fits_its_window_and_text_stands_out(site: Site, width: int) -> None:
    for who_ in ("mara", "newt"):
        for dark in (False, True):
            page = site.open(mine(site, who_), width=width, dark=dark)
            page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
            assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
            assert page.evaluate(CONTRAST) == []
            page.context.close()


def test_a_reward_is_asked_for_once_more_and_then_given_without_scripts(site: Site) -> None:
    page = site.open(mine(site), width=390, script=False)
    button = page.get_by_role("button", name="Yes, get 5 euros off your next order")
    assert not button.is_visible()
    page.get_by_text("Get it").first.click()
    button.click()
    assert page.get_by_role("heading", name="It is yours").is_visible()
    assert page.locator(".got code").text_content() == "OAK-9RTX"
    assert page.get_by_role("button", name="Copy").count() == 0, "no button that would do nothing"
    page.reload()
    page.go_back()
    page.context.close()


def test_sharing_and_copying_are_one_press_where_the_browser_can(site: Site) -> None:
    page = site.open("/customer.css", width=390)
    page.context.add_init_script(f"{HAS_SHARE}; {HAS_CLIPBOARD}")
    page.goto(site.url + mine(site))
    link = page.get_by_label("Your link").input_value()
    page.get_by_role("button", name="Share").click()
    assert page.evaluate("window.shared.text") == f"Mara sends you to Ember & Oak Coffee: {link}"
    page.locator(".share [data-copy]").click()
    assert page.evaluate("window.copied") == link
    assert page.get_by_role("status").first.text_content() == "Copied."
    assert page.get_by_role("link", name="WhatsApp").get_attribute("href").startswith("https://wa.me/?text=Mara%20")
    assert page.get_by_role("link", name="Mail").get_attribute("href").startswith("mailto:?subject=Coffee%20I%20")
    page.context.close()


def test_the_keyboard_reaches_everything_and_every_field_has_a_name(site: Site) -> None:
    page = site.open(mine(site))
    nameless = "[...document.querySelectorAll('input:not([type=hidden])')].filter(e => !e.labels.length).length"
    assert page.evaluate(nameless) == 0
    wanted = page.evaluate("[...document.querySelectorAll('a, button, summary, input')].filter(e => e.checkVisibility() && e.type !== 'hidden').length")  # fmt: skip  # noqa: E501
    for _ in range(wanted):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement !== document.body")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.context.close()


def test_nothing_is_asked_of_anybody_else(site: Site) -> None:
    page = site.open("/customer.css")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site.url + mine(site))
    assert asked
    assert all(url.startswith(site.url) for url in asked)
    page.context.close()


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_the_menu_shows_every_page_without_scrolling(site: Site, width: int) -> None:
    page = site.open("/customer.css", width=width)
    page.goto(site.private_url + "/referrals")  # type: ignore[attr-defined]
    nav = page.locator(".top nav")
    assert nav.evaluate("nav => nav.scrollWidth - nav.clientWidth") <= 0
    boxes = [link.bounding_box() for link in nav.get_by_role("link").all()]
    assert len(boxes) == 10
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    page.context.close()


def test_a_referral_is_decided_by_hand_and_the_decision_taken_back(site: Site) -> None:
    page = site.open("/customer.css", width=390, script=False)
    page.goto(site.private_url + "/referrals")  # type: ignore[attr-defined]
    page.get_by_role("button", name="Approve").click()
    assert page.url.endswith("/referrals"), "a reason is asked for first"
    page.get_by_label("Why").fill("a couple, two people")
    page.get_by_role("button", name="Approve").click()
    assert page.get_by_role("status").text_content().endswith("you can still reject it.")
    page.get_by_role("link", name="Decided by people").click()
    page.get_by_text("Decide otherwise").click()
    page.get_by_label("Why").fill("they are one person")
    page.get_by_role("button", name="Reject").click()
    assert page.get_by_text("the web page: they are one person").is_visible()
    page.context.close()


def test_the_customers_name_is_what_they_are_called(site: Site) -> None:
    page = site.open(mine(site))
    assert page.get_by_role("heading", level=1).text_content() == f"Hello {MARA['first_name']}"
    page.context.close()
