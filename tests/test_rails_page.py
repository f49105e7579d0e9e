"""What docs/rails.md shows is what runs."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.language.check import check_files
from tests.driver import SECRET, driving, shop_files
from tests.test_testing_page import without_times
from tests.workers.test_cli import Afterglow, afterglow
from workers.cli import main

__all__ = ["afterglow"]  # fixture

PAGE = (ROOT / "docs" / "rails.md").read_text()
SHOP, FLOW, LOOSE = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
TESTED, WHY, CHECKED = (
    session.removeprefix("$ ").partition("\n")[::2] for session in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
)


def with_keys(text: str, block: str) -> str:
    """A file with these keys in the place of its own."""
    keys = set(YAML(typ="safe").load(block))
    parts = re.split(r"^(?=\w)", text, flags=re.MULTILINE)
    return "".join(part for part in parts if part.partition(":")[0] not in keys) + block


def files(flow: str = FLOW) -> dict[str, Any]:
    return {"flows/shop.yaml": with_keys(shop_files()["flows/shop.yaml"], SHOP), "flows/harvest.yaml": flow}


def loose() -> str:
    """The flow of the page, laxer: the changed keys first, so that they stand in the lines that the page names."""
    kept = with_keys(FLOW, LOOSE).removesuffix(LOOSE)
    return LOOSE + "".join(
        part for part in re.split(r"^(?=\w)", kept, flags=re.MULTILINE) if not part.startswith("tests")
    )


def test_the_flow_of_the_page_has_no_problem_and_its_tests_come_true(afterglow: Afterglow, tmp_path: Path) -> None:
    assert check_files({**shop_files(), **files()}) == []
    for folder in ("flows", "templates/email"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for path, text in files().items():
        (tmp_path / path).write_text(text)

    command, expected = TESTED
    status, told, _ = afterglow(*command.split()[1:])

    assert (status, without_times(told)) == (0, without_times(expected))


def test_a_flow_that_would_loosen_the_rails_is_told_so_at_its_place() -> None:
    found = check_files({**shop_files(), **files(loose())})

    assert [str(problem) for problem in found] == CHECKED[1].splitlines()


def test_why_names_the_flow_that_went_first(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    monkeypatch.setenv("COLUMNS", "300")
    with driving(sqlite_url, files=files()) as driver:
        order = {"order": {"id": "o1", "number": "1", "total": 40, "currency": "EUR"}}
        driver.post("order.delivered", order, consent="granted")
        driver.at(days=14)
        driver.post("order.paid", order, stage="purchase")
        driver.at(days=20)
        said = CliRunner().invoke(main, shlex.split(WHY[0])[1:])

    assert said.exit_code == 0, said.output
    assert WHY[1].strip() in said.output, said.output
