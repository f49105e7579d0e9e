"""`afterglow test` and pytest in a shop's folder: what they say, and the statuses they exit with."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from afterglow import ROOT
from tests.workers.test_cli import Afterglow, afterglow

__all__ = ["afterglow"]  # fixture

FIRST = "flows/first-order.yaml"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A copy of the shipped shop, in the folder in which commands run."""
    for folder in ("flows", "templates/email"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def edited(shop: Path, before: str, after: str) -> None:
    text = (shop / FIRST).read_text()
    assert before in text
    (shop / FIRST).write_text(text.replace(before, after))


def test_every_flow_of_the_roastery_keeps_at_least_two_tests(afterglow: Afterglow, shop: Path):
    status, told, _ = afterglow("test", "--format", "json")
    tests = json.loads(told)

    assert status == 0
    assert all(one["ok"] for one in tests)
    names = {path.stem for path in (ROOT / "flows").glob("*.yaml")} - {"shop", "stages", "segments"}
    assert {name for name in names if sum(one["flow"] == name for one in tests) < 2} == set()


def test_a_test_that_holds_is_one_line(afterglow: Afterglow, shop: Path):
    status, told, _ = afterglow("test", FIRST, "-k", "UNHAPPY")

    assert status == 0
    assert re.fullmatch(
        r"ok +[0-9.]+ ms  first-order: an unhappy answer reaches a human\n1 test: everything came as expected\.\n", told
    )


def test_a_failure_is_shown_with_both_sides_and_exits_1(afterglow: Afterglow, shop: Path):
    edited(shop, "wait: 3 days", "wait: 4 days")

    status, told, complained = afterglow("test", FIRST, "-k", "unhappy")

    assert status == 1
    assert "FAIL" in told
    assert "-  Sat 7 Mar 2026 10:00  send email/brew-check-in  nothing" in told
    assert "+  Sun 8 Mar 2026 10:00  nothing                   send email/brew-check-in" in told
    assert "Waits until Sun 8 Mar 2026 10:00 Europe/Paris" in told
    assert "1 of 1 test failed" in complained


def test_github_is_told_at_the_line_of_each_difference(afterglow: Afterglow, shop: Path):
    edited(shop, "wait: 3 days", "wait: 4 days")

    told = afterglow("test", FIRST, "-k", "unhappy", "--format", "github")[1]

    wanted = next(n for n, line in enumerate((shop / FIRST).read_text().splitlines(), 1) if "2026-03-07 10:00" in line)
    assert f"::error file={FIRST},line={wanted},col=" in told
    assert ",title=first-order%3A an unhappy answer reaches a human::Expected" in told


def test_files_that_do_not_compile_are_told_with_their_places(afterglow: Afterglow, shop: Path):
    edited(shop, "event: survey.answered, score: 1", "event: survey.answred, score: 1")

    status, _, complained = afterglow("test")

    assert status == 1
    assert "No source brings an event 'survey.answred'. Did you mean 'survey.answered'?" in complained


def test_a_name_that_no_test_has_is_no_success(afterglow: Afterglow, shop: Path):
    assert afterglow("test", "-k", "no such test")[0] == 1
    assert "neither flows/NAME.yaml nor the folder of a shop" in afterglow("test", "templates")[2]


def in_pytest(shop: Path) -> tuple[int, str]:
    """What pytest makes of a shop's folder where Afterglow is installed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", FIRST],
        cwd=shop,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_pytest_collects_the_tests_of_flows(shop: Path):
    status, told = in_pytest(shop)
    assert status == 0, told
    assert f"{FIRST}::an unhappy answer reaches a human PASSED" in told

    edited(shop, "wait: 3 days", "wait: 4 days")
    status, told = in_pytest(shop)
    assert status == 1
    assert "+  Sun 8 Mar 2026 10:00  nothing                   send email/brew-check-in" in told
    assert "Traceback" not in told


def test_pytest_tells_what_is_wrong_with_a_flow_file(shop: Path):
    edited(shop, "event: survey.answered, score: 1", "event: survey.answred, score: 1")

    status, told = in_pytest(shop)

    assert status == 2
    assert "Did you mean 'survey.answered'?" in told
    assert "Traceback" not in told


def test_the_ci_file_of_a_new_shop_runs_its_tests(afterglow: Afterglow, tmp_path: Path):
    afterglow("init", "shop")

    assert "- run: afterglow test --format github" in (tmp_path / "shop/.github/workflows/check.yaml").read_text()
