"""What docs/testing.md shows is what runs."""

import json
import re
import shutil
from pathlib import Path

import pytest

from afterglow import ROOT
from afterglow.language.check import check_files
from afterglow.language.testing import CustomerModel, ExpectedModel, FlowTestModel
from tests.driver import shop_files
from tests.workers.test_cli import Afterglow, afterglow

__all__ = ["afterglow"]  # fixture

PAGE = (ROOT / "docs" / "testing.md").read_text()
FLOW = "flows/cup-check.yaml"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for folder in ("flows", "templates/email"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / FLOW).write_text(blocks("yaml")[0])
    return tmp_path


def without_times(told: str) -> str:
    return re.sub(r"[0-9.]+ ms", "0 ms", re.sub(r" +(?=[0-9.]+ ms)", " ", told))


def test_the_flow_of_the_page_and_its_tests_are_right():
    assert check_files({**shop_files(), FLOW: blocks("yaml")[0]}) == []


def test_every_command_of_the_page_says_what_the_page_says(afterglow: Afterglow, shop: Path):
    right, wrong = blocks("console")

    command, _, expected = right.partition("\n")
    status, told, _ = afterglow(*command.split()[2:])
    assert (status, without_times(told)) == (0, without_times(expected))

    (shop / FLOW).write_text(blocks("yaml")[0].replace("wait: 3 days", "wait: 2 days"))
    command, _, expected = wrong.partition("\n")
    status, told, _ = afterglow(*command.split()[2:])
    shown = without_times(expected).removesuffix("      ...\n")
    assert status == 1
    assert without_times(told).startswith(shown)


def test_the_lines_of_the_page_can_stand_in_a_timeline(afterglow: Afterglow, shop: Path):
    lines = re.sub("^", "    ", blocks("yaml")[1], flags=re.MULTILINE).rstrip()
    test = f"  - name: of lines\n{lines}\n    expect: []\n"
    (shop / FLOW).write_text(blocks("yaml")[0] + test)

    status, told, _ = afterglow("test", FLOW, "--format", "json", "-k", "of lines")

    assert status == 0, told
    assert [one["ok"] for one in json.loads(told)] == [True]


@pytest.mark.parametrize("model", [FlowTestModel, ExpectedModel, CustomerModel])
def test_every_key_is_on_the_page(model):
    names = [field.alias or name for name, field in model.model_fields.items() if name != "consent"]
    lacking = [name for name in names if f"`{name}`" not in PAGE]
    assert lacking == []
