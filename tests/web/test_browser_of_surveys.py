"""The page behind a survey, in a real Chromium: with one tap from the mail, and without scripts."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from afterglow.letters import rate_purpose
from afterglow.tokens import make_token
from db.tables import events
from tests.driver import SAM, driving
from tests.web.test_browser import CONTRAST, Site, chromium, pytestmark
from web.serve import WebServer

__all__ = ["chromium", "pytestmark"]


@pytest.fixture(scope="module")
def site(chromium: Any, tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> Iterator[Site]:
    file = tmp_path_factory.mktemp("browser-of-surveys") / "afterglow.db"
    shutil.copyfile(_sqlite_template, file)
    with driving(f"sqlite:///{file}", private_bind="127.0.0.1:0", public_bind="127.0.0.1:0") as driver:
        driver.post("customer.created", customer=SAM)
        server = WebServer(driver.app)
        ready = threading.Event()
        thread = threading.Thread(target=server.run, args=(ready,), daemon=True)
        thread.start()
        assert ready.wait(60)
        made = Site(driver, server.public_url, chromium)
        yield made
        server.stop()
        thread.join(20)
        assert made.complaints == []


def path(site: Site, scale: str, score: int | None, survey: str) -> str:
    token = make_token(site.driver.secret, rate_purpose(survey, scale), 7, site.driver.customer())
    where = f"/rate/{survey}/{token}" if scale == "stars" else f"/rate/{scale}/{survey}/{token}"
    return where + (f"?score={score}" if score is not None else "")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_a_scale_fits_its_window_and_text_stands_out(site: Site, width: int) -> None:
    for scale, score in (("nps", 9), ("nps", None), ("stars", 2)):
        for dark in (False, True):
            page = site.open(path(site, scale, score, "looks"), width=width, dark=dark)
            assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
            assert page.evaluate(CONTRAST) == []
            page.context.close()


def test_an_answer_is_one_more_tap_and_a_comment_is_kept(site: Site) -> None:
    page = site.open(path(site, "nps", 9, "likely"), width=390, script=False)
    assert page.get_by_role("radio", name="9 out of 10").is_checked()
    page.get_by_role("radio", name="10 out of 10").check(force=True)
    page.get_by_label("Anything you would like to add?").fill("The best")
    page.get_by_role("button", name="Send").click()
    assert page.get_by_role("heading", name="Thank you for your 10 out of 10.").is_visible()
    site.driver.drain()
    (said,) = [
        row[0] for row in site.driver.rows(events.select().with_only_columns(events.c.payload)) if "score" in row[0]
    ]
    assert said == {"score": 10, "survey": "likely", "scale": "nps", "comment": "The best"}
