"""What docs/leaderboards.md shows is what runs."""

import json
import re
import shlex
from collections.abc import Iterator
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.language.check import check_files
from afterglow.leaderboards import METRICS
from db import leaderboards
from db.leaderboards import Change
from tests.driver import SECRET, START, Driver, shop_files
from tests.small_shop import small
from tests.web.conftest import KEY
from tests.web.test_api import send
from web.app import Faces
from workers.cli import main

PAGE = (ROOT / "docs" / "leaderboards.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def driver(sqlite_url: str) -> Iterator[Driver]:
    with small(sqlite_url, key=KEY) as driver:
        for name in ("Ada", "Ben", "Cleo"):
            driver.post("ping.one", customer={"id": name, "first_name": name})
        who = {name: driver.customer(name) for name in ("Ada", "Ben", "Cleo")}
        given = (("Ada", 3, 20), ("Ben", 1, 20), ("Ben", 5, 0), ("Ada", 2, 0), ("Cleo", 2, 0))
        changes = [
            Change(programme="friends", metric=metric, customer_id=who[name], delta=delta, at=START - timedelta(days))
            for name, delta, days in given
            for metric in ("referrals", "revenue")
        ]
        with driver.app.writing() as connection:
            calendar = driver.app.catalog.current(connection).catalog.shop.calendar
            leaderboards.record(connection, changes, calendar, START)
        yield driver


def test_the_seasons_that_the_page_shows_are_a_shops():
    (shown,) = blocks("yaml")
    files = shop_files()
    text = files["flows/shop.yaml"]
    assert "leaderboards:" not in text
    assert check_files({**files, "flows/shop.yaml": f"{text}\n{shown}"}) == []


def test_every_command_that_the_page_shows_runs(driver, sqlite_url, monkeypatch):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET)
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("afterglow ")]

    assert len(lines) == 6
    for line in lines:
        ran = CliRunner().invoke(main, shlex.split(line)[1:])
        assert ran.exit_code == ("--verify" in line), ran.output  # these scores were made of nothing


def test_the_answer_that_the_page_shows_is_the_apis(driver):
    (path,) = re.findall(r'"http://127.0.0.1:8001([^"]*)"', PAGE)
    faces = Faces(driver.app)
    answer = send(faces, "GET", path)
    faces.close()

    assert answer.json() == json.loads(blocks("json")[0])


def test_the_page_names_every_metric_and_no_other():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert rows == list(METRICS)
