"""What docs/programmes.md shows is what runs."""

import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.language.check import check_files
from tests.driver import SECRET, driving, shop_files
from workers.cli import main

PAGE = (ROOT / "docs/programmes.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
WHOLE = next(block for block in BLOCKS if block.startswith("programme:"))
BALANCES = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
SESSION = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)


def programme_with(block: str) -> str:
    """The first programme of the page, with the keys of another block in the place of its own."""
    kept = [part for part in re.split(r"^(?=\w)", WHOLE, flags=re.MULTILINE) if part]
    keys = set(YAML(typ="safe").load(block))
    return "".join(part for part in kept if part.partition(":")[0] not in keys) + block


@pytest.mark.parametrize("block", BLOCKS)
def test_every_file_and_part_of_one_has_no_problem(block: str) -> None:
    if block.startswith("flow:"):
        files = {"flows/well-done.yaml": block}
    else:
        files = {"flows/programmes/coffee.yaml": programme_with(block)}
    assert check_files({**shop_files(), **files}) == []


def test_every_command_answers_as_shown(sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("workers.logs.set_up_logs", lambda: None)
    Path("codes.txt").write_text("ONE\nTWO\nTHREE\n")
    (balances,) = BALANCES
    Path("balances.csv").write_text(balances)
    rewards = "rewards:\n  - {id: five-off, about: 5 euros off, costs: 100, gives: {coupon: five-off}}\n"
    files = {"flows/programmes/coffee.yaml": WHOLE + rewards}
    session = "".join(SESSION)
    with driving(sqlite_url, files=files, start=datetime.now(UTC) - timedelta(hours=1)) as driver:
        order = {"order": {"id": "o1", "total": 120, "currency": "EUR"}}
        driver.post("order.paid", order, customer={"email": "sam@example.com"})
        for step in session.removeprefix("$ ").split("\n$ "):
            command, _, answer = step.partition("\n")
            said = CliRunner().invoke(main, shlex.split(command)[1:])
            for line in answer.splitlines():
                assert line.split() in [each.split() for each in said.output.splitlines()], said.output
