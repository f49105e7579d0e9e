"""The pages for the team in a real Chromium: what only a browser can tell. Skipped, loudly, where none is found."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.driver import Driver, driving
from tests.web.shop_of_pages import HOSTILE, lived_in, order, placed, troubled
from web.serve import WebServer

playwright_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (found := shutil.which(name))),
    None,
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: install Chromium to try the pages as people see them"),
]
PAGES = (
    "/", "/outbox", "/outbox/1", "/customers", "/customers/1", "/customers/3", "/journey", "/flows",
    "/flows/first-order", "/runs", "/events", "/webhooks", "/webhooks?state=mapped", "/webhooks/1", "/sources", "/halt",
    "/nothing-here",
    "/leaderboards", "/leaderboards/friends", "/leaderboards/friends?period=this-month&metric=revenue",
    "/leaderboards/friends/1?period=this-month", "/leaderboards/friends?q=nobody",
    "/segments", "/segments/regulars", "/segments/lapsed", "/segments/best",
    "/referrals", "/referrals?show=decided", "/referrals?show=rejected", "/tasks", "/tasks?show=done",
)  # fmt: skip
LONG = "Maximiliana-Wilhelmina von und zu Hohenzollern-Sigmaringen-Rechtsschutzversicherungsgesellschaften"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Site:
    """An installation that is served, and a browser to look at it."""

    def __init__(self, driver: Driver, url: str, browser: Any) -> None:
        self.driver, self.url, self._browser = driver, url, browser
        self.complaints: list[str] = []

    def open(self, path: str = "/", *, width: int = 1280, dark: bool = False, script: bool = True) -> Any:
        context = self._browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
        )
        page = context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(f"{path}: {error}"))
        page.on("dialog", lambda dialog: (self.complaints.append(f"{path}: {dialog.message}"), dialog.dismiss()))
        page.goto(self.url + path)
        return page


@pytest.fixture(scope="module")
def _site(chromium: Any, tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> Iterator[Site]:
    file = tmp_path_factory.mktemp("browser") / "afterglow.db"
    shutil.copyfile(_sqlite_template, file)
    with driving(f"sqlite:///{file}", private_bind="127.0.0.1:0", public_bind="127.0.0.1:0") as driver:
        lived_in(driver)
        for n, name in enumerate(HOSTILE):
            order(driver, 10 + n, first_name=name, last_name=LONG)
        troubled(driver)
        placed(driver)
        server = WebServer(driver.app)
        ready = threading.Event()
        thread = threading.Thread(target=server.run, args=(ready,), daemon=True)
        thread.start()
        assert ready.wait(60)
        yield Site(driver, server.private_url, chromium)
        server.stop()
        thread.join(20)


@pytest.fixture
def site(_site: Site) -> Iterator[Site]:
    _site.complaints.clear()
    yield _site
    assert _site.complaints == []


@pytest.mark.parametrize("width", [360, 1600])
def test_no_page_is_wider_than_its_window(site: Site, width: int) -> None:
    page = site.open(width=width)
    for path in PAGES:
        page.goto(site.url + path)
        too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert too_wide <= 0, path
    page.context.close()


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(site: Site, dark: bool) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text."""
    page = site.open(dark=dark)
    for path in PAGES:
        page.goto(site.url + path)
        faint = page.evaluate(CONTRAST)
        assert faint == [], path
    page.context.close()


CONTRAST = """() => {
  const rgb = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = (c) => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > 0.99) return c; } return [255, 255, 255, 1]; };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const e = node.parentElement;
    if (!node.data.trim() || !e.checkVisibility() || e.closest(".hidden, .skip, option")) continue;
    const a = light(rgb(getComputedStyle(e).color)), b = light(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${node.data.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return faint;
}"""


def test_hostile_names_are_read_and_never_run(site: Site) -> None:
    page = site.open("/customers")
    for name in HOSTILE:
        assert page.get_by_text(name).count() >= 1, name
    boards = ["/leaderboards", "/leaderboards/friends", *(f"/leaderboards/friends/{n}" for n in range(1, 10))]
    for path in [*boards, *(f"/{of}/{n}" for of in ("customers", "outbox") for n in range(1, 10))]:
        page.goto(site.url + path)
    page.context.close()


def test_the_mail_stands_in_a_frame_that_can_do_nothing(site: Site) -> None:
    page = site.open("/outbox/1")
    frame = page.frame_locator("iframe")
    assert frame.get_by_text("Thank you for your first order").is_visible()
    inner = next(frame for frame in page.frames if frame.url.endswith("/html"))
    assert inner.evaluate("window.origin") == "null"
    page.goto(site.url + "/outbox?step=brew-check-in&state=sent")
    page.locator("td.subject a").first.click()
    page.wait_for_url("**/outbox/*")
    before = page.url
    page.frame_locator("iframe").get_by_role("link", name="Unsubscribe").first.click()
    page.wait_for_timeout(200)
    assert page.url == before
    assert len(page.context.pages) == 1
    assert not any("/u/" in frame.url for frame in page.frames)
    page.context.close()


def test_a_mail_is_looked_at_wide_on_a_phone_as_text_and_in_the_dark_without_scripts(site: Site) -> None:
    page = site.open("/outbox/1", script=False)
    frame = page.locator("iframe")
    wide = frame.bounding_box()["width"]
    page.get_by_text("Phone", exact=True).click()
    assert frame.bounding_box()["width"] == 375 < wide
    page.get_by_text("In the dark").click()
    assert frame.evaluate("frame => getComputedStyle(frame).colorScheme") == "dark"
    page.get_by_text("Text", exact=True).click()
    assert not frame.is_visible()
    assert page.locator(".plaintext").is_visible()
    page.context.close()


def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(site: Site) -> None:
    page = site.open("/outbox")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the page"
    seen = []
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", seen[-1]
    menu = ["Needs you", "Tasks", "Outbox", "Customers", "Journey", "Flows", "Segments", "Leaderboards"]
    menu += ["Referrals", "Sources"]
    assert seen[1:11] == menu
    assert seen[11:13] == ["subject", "customer"]
    page.context.close()


def test_every_field_has_a_label(site: Site) -> None:
    page = site.open("/")
    for path in PAGES:
        page.goto(site.url + path)
        nameless = page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]), select')].filter(e => !e.labels.length).length"
        )
        assert nameless == 0, path
    page.context.close()


def test_a_customer_is_found_and_a_mail_opened_without_scripts(site: Site) -> None:
    page = site.open("/customers", script=False)
    page.get_by_label("Search").fill("sam1")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Sam1").first.click()
    page.get_by_role("link", name="read it").first.click()
    assert page.get_by_role("heading", level=1).text_content() == "How were the first cups?"
    page.context.close()


def test_halting_by_hand_asks_and_can_be_taken_back(site: Site) -> None:
    page = site.open("/", script=False)
    page.get_by_role("button", name="Halt…").click()
    page.get_by_role("button", name="Halt all marketing now").click()
    assert page.get_by_role("heading", name="All marketing is halted").is_visible()
    page.locator("a[href='/resume']").click()
    page.get_by_role("button", name="Resume all marketing").click()
    assert page.get_by_text("Marketing goes on.").is_visible()
    page.context.close()


def test_a_board_is_switched_searched_and_opened_without_scripts(site: Site) -> None:
    page = site.open("/leaderboards", script=False, width=390)
    page.get_by_role("link", name="friends").click()
    page.get_by_role("link", name="Referred revenue").click()
    page.get_by_label("Period").select_option("this-month")
    page.get_by_label("Search").fill("sam1")
    page.get_by_role("button", name="Show").click()
    assert "metric=revenue" in page.url
    assert "period=this-month" in page.url
    page.get_by_role("link", name="Sam1", exact=True).click()
    assert page.get_by_role("heading", level=1).text_content() == "Sam1"
    assert page.get_by_role("img", name="Referred revenue").is_visible()
    page.context.close()
