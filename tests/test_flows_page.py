"""What docs/flows.md shows is what runs."""

import re
import shlex
from functools import cache
from typing import Any

import pytest
import sqlalchemy as sa
from ruamel.yaml import YAML
from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.language.check import check_files
from afterglow.language.flow.models import VERBS, FlowModel, OpeningModel, PieceModel
from db.tables import documents, enrollments
from tests.driver import SAM, SECRET, Driver, driving, shop_files
from workers.cli import main

PAGE = (ROOT / "docs" / "flows.md").read_text()
#: Where the steps are told that do something besides sending.
ACTIONS = (ROOT / "docs" / "actions.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
(WHOLE,) = [block for block in BLOCKS if block.startswith("flow:")]
(ATTRIBUTES,) = [block for block in BLOCKS if block.startswith("attributes:")]
(PIECE,) = [block for block in BLOCKS if block.startswith("piece:")]
(SESSION,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
#: What can happen to somebody within these examples, by day.
NEWS = {2: "order.delivered", 3: "survey.answered"}


def flow_with(block: str) -> str:
    """The first flow of the page, with the keys of another block, or its steps, in the place of its own."""
    if block == WHOLE:
        return block
    if block.startswith("- "):
        block = "steps:\n" + "".join(f"  {line}\n" for line in block.splitlines())
    kept = [part for part in re.split(r"^(?=\w)", WHOLE, flags=re.MULTILINE) if part]
    keys = set(YAML(typ="safe").load(block))
    return "".join(part for part in kept if part.partition(":")[0] not in keys) + block


EXAMPLES = [flow_with(block) for block in BLOCKS if block not in (ATTRIBUTES, PIECE)]


@cache
def files() -> dict[str, Any]:
    """Every example as a flow of its own, in a shop that knows the attribute."""
    shop = shop_files()["flows/shop.yaml"].replace("attributes:\n", ATTRIBUTES)
    named = {f"example-{n}": text for n, text in enumerate(EXAMPLES[1:])} | {"first-cups": EXAMPLES[0]}
    flows = {f"flows/{name}.yaml": text.replace("flow: first-cups", f"flow: {name}") for name, text in named.items()}
    return {"flows/shop.yaml": shop, "flows/pieces/ask-how-it-was.yaml": PIECE, **flows}


def test_no_flow_and_no_part_of_one_has_a_problem() -> None:
    assert check_files({**shop_files(), **files()}) == []


def test_every_example_is_lived_through_and_the_session_that_is_shown_answers_so(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    monkeypatch.setenv("COLUMNS", "200")
    with driving(sqlite_url, files=files()) as driver:
        live_through(driver)
        query = sa.select(documents.c.name, enrollments.c.state).join(
            documents, documents.c.id == enrollments.c.flow_id
        )
        mine = {name.rpartition("/")[2].removesuffix(".yaml") for name in files()} - {"shop", "ask-how-it-was"}
        found = [row for row in driver.rows(query) if row[0] in mine]
        command, *answer = SESSION.removeprefix("$ ").splitlines()
        said = CliRunner().invoke(main, shlex.split(command)[1:])

    assert sorted(found) == [(name, "finished") for name in sorted(mine)]
    assert said.exit_code == 0, said.output
    for line in answer:
        assert line in said.output


def live_through(driver: Driver) -> None:
    """Eighty days of one customer, in all examples at once."""
    order = {"order": {"id": "o1", "number": "1", "total": 40, "currency": "EUR"}}
    who = {**SAM, "attributes": {"renewal_date": "2026-05-02"}}
    driver.post("order.paid", order, customer=who, consent="granted")
    for day, event in NEWS.items():
        driver.at(days=day)
        driver.post(event, {**order, "score": 1})
    driver.at(days=80)


@pytest.mark.parametrize("model", [FlowModel, OpeningModel, PieceModel, *VERBS.values()])
def test_every_key_of_the_language_is_told(model: Any) -> None:
    for name, field in model.model_fields.items():
        assert re.search(rf"`{field.alias or name}[`:]|^[ -]*{field.alias or name}:", PAGE + ACTIONS, re.MULTILINE), (
            name
        )
