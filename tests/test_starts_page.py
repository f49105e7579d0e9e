"""What docs/starts.md shows is what runs."""

import re
import shlex
from functools import cache
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.language.catalog import compile_files, read_documents
from afterglow.language.check import check_files
from afterglow.language.flow.compiler import read_flow
from afterglow.language.starts import StartsModel
from afterglow.testing import ShopUnderTest, judge, live
from tests.driver import SAM, SECRET, driving, shop_files
from workers.cli import main

PAGE = (ROOT / "docs" / "starts.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
(SESSION,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
HEAD = "flow: {name}\nabout: An example\nstatus: live\n"
STEPS = "steps: [{send: email/brew-tips}]\n"
NEWSLETTER = "  - {segment: newsletter, about: Who wants it, when: customer.orders >= 0}\n"


@cache
def files() -> dict[str, str]:
    """Every example as a flow of its own, in a shop that knows its facts and segments."""
    found = {**shop_files()}
    found["flows/segments.yaml"] += NEWSLETTER
    dates = "attributes:\n  renewal_date: date\n"
    found["flows/shop.yaml"] = found["flows/shop.yaml"].replace("attributes:\n", dates)
    for n, block in enumerate(BLOCKS):
        keys = YAML(typ="safe").load(block)
        name = "asked-for" if "asked" in keys["starts"] else f"example-{n}"
        text = HEAD.format(name=name) + ("" if "steps" in keys else STEPS) + block
        found[f"flows/{name}.yaml"] = text
    return found


def examples() -> list[str]:
    return [path for path in files() if "example-" in path or "asked-for" in path]


def test_no_example_has_a_problem() -> None:
    assert check_files(files()) == []


@pytest.mark.parametrize("path", examples())
def test_the_tests_of_every_example_are_kept(path: str) -> None:
    documents = compile_files({name: text for name, text in files().items() if name == path or name not in examples()})
    shop = ShopUnderTest(catalog=read_documents({(one.kind, one.name): one.body for one in documents}))
    flow = read_flow(files()[path], path)

    assert flow.tests
    for test in flow.tests:
        came = live(shop, flow, test)
        assert judge(test, came).is_kept, "\n".join(map(str, came.lines))


def test_the_command_answers_as_it_is_shown(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    command, *answer = SESSION.removeprefix("$ ").splitlines()
    with driving(sqlite_url, files={"flows/asked-for.yaml": files()["flows/asked-for.yaml"]}) as driver:
        driver.post("customer.updated", customer=SAM)
        said = CliRunner().invoke(main, shlex.split(command)[1:])

    assert said.exit_code == 0, said.output
    assert said.output.splitlines()[: len(answer)] == answer


@pytest.mark.parametrize("model", [StartsModel])
def test_every_key_is_told(model: Any) -> None:
    for name in model.model_fields:
        assert re.search(rf"`{name}[`:]|[{{ ]{name}: ", PAGE), name
