"""What docs/backtest.md shows is what runs."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterglow import ROOT
from afterglow.language.catalog import compile_files
from afterglow.language.check import check_files
from db import catalog, schema
from tests.driver import Driver, driving, shop_files
from tests.workers.test_cli import Afterglow, afterglow
from workers.files import read_shop_folder

__all__ = ["afterglow"]  # fixture

PAGE = (ROOT / "docs" / "backtest.md").read_text()
FLOW = "flows/cup-check.yaml"


def block(kind: str, beginning: str = "") -> str:
    return next(one for one in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) if one.startswith(beginning))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The shipped shop with the flow of the page and no other, so that figures stay."""
    for folder in ("flows", "templates/email"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in (tmp_path / "flows").glob("*.yaml"):
        if file.read_text().startswith("flow: "):
            file.unlink()
    (tmp_path / FLOW).write_text(block("yaml"))
    return tmp_path


def without_today(told: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"to 20\d\d-\d\d-\d\d\s\d\d:\d\d UTC\.", "to NOW UTC.", told, count=1))


def expected(command: str, told: str) -> None:
    shown = block("console", f"$ afterglow {command}").partition("\n")[2]
    assert without_today(told) == without_today(shown)


def test_the_flow_of_the_page_is_right():
    assert check_files({**shop_files(), FLOW: block("yaml")}) == []


def test_the_simulation_of_the_page_says_what_the_page_says(afterglow: Afterglow, shop: Path):
    command = block("console", "$ afterglow simulate").splitlines()[0]

    status, told, _ = afterglow(*command.split()[2:], "--svg", shop / "mails.svg")

    assert status == 0
    expected("simulate", told)
    assert (shop / "mails.svg").read_text().startswith("<svg")


@pytest.fixture
def driver(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """The flow of the page was in force while four customers got their coffee."""
    url = f"sqlite:///{tmp_path}/shop.db"
    schema.migrate(url)
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", url)
    with driving(url) as installation:
        with installation.app.writing() as connection:
            catalog.apply(
                connection, compile_files(read_shop_folder(shop)), now=installation.clock.now(), by="the tests"
            )
        for n, name in enumerate(("sam", "kim", "lee", "ada")):
            installation.at(days=n)
            who = {"id": name, "email": f"{name}@example.com", "timezone": "Europe/Paris"}
            order = {"order": {"id": name, "total": 40}}
            consent = "granted" if name != "ada" else None
            installation.post("order.delivered", order, customer=who, consent=consent)
        installation.at(days=5)
        installation.post("survey.answered", {"score": 1}, customer={"id": "sam"})
        installation.at(days=60)
        yield installation


def test_the_backtest_of_the_page_says_what_the_page_says(afterglow: Afterglow, shop: Path, driver: Driver):
    changed = block("yaml").replace("wait: 3 days", "wait: 2 days").replace("email/brew-tips", "email/review-request")
    (shop / FLOW).write_text(changed)
    command = block("console", "$ afterglow plan").splitlines()[0]

    status, told, _ = afterglow(*command.split()[2:])

    assert status == 0
    expected("plan", told)
