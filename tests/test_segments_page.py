"""What docs/segments.md shows is what runs."""

import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.language.catalog import compile_files, read_documents
from afterglow.language.check import check_files
from afterglow.language.flow.compiler import read_flow
from afterglow.language.flow.models import StopsModel
from afterglow.language.segment import FUNCTIONS, PersonaModel, SegmentModel
from afterglow.language.starts import StartsModel
from afterglow.testing import ShopUnderTest, live
from afterglow.testing.report import comparison
from afterglow.testing.verdict import judge
from tests.driver import SECRET, Driver, driving, shop_files
from workers.cli import main

PAGE = (ROOT / "docs" / "segments.md").read_text()
SEGMENTS = "flows/segments.yaml"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def files() -> dict[str, str]:
    [segments], [flow] = blocks("yaml"), blocks("yaml flow")
    shipped = re.split(r"\n(?=  - segment: )", shop_files()[SEGMENTS])[1:]
    others = [one for one in shipped if one.strip().partition("\n")[0] not in segments]
    return {**shop_files(), SEGMENTS: "\n".join([segments, *others]), "flows/come-back.yaml": flow}


@pytest.fixture
def driver(sqlite_url: str) -> Iterator[Driver]:
    with driving(
        sqlite_url, files={SEGMENTS: blocks("yaml")[0]}, start=datetime.now(UTC) - timedelta(hours=1)
    ) as driver:
        for n in range(3):
            driver.post("order.paid", {"order": {"id": f"o{n}", "total": 20}}, stage="purchase")
        yield driver


def test_what_the_page_shows_fits_the_shipped_shop() -> None:
    assert check_files(files()) == []


def test_the_flow_that_the_page_shows_does_what_its_test_says() -> None:
    catalog = read_documents({(one.kind, one.name): one.body for one in compile_files(files())})
    flow = read_flow(files()["flows/come-back.yaml"], "flows/come-back.yaml")
    [test] = flow.tests
    lived = live(ShopUnderTest(catalog=catalog), flow, test)
    found = judge(test, lived)
    assert found.is_kept, comparison(found, lived.zone)


def test_every_command_that_the_page_shows_runs(
    driver: Driver, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    monkeypatch.setattr("workers.logs.set_up_logs", lambda: None)
    said = []
    for line in blocks("sh")[0].splitlines():
        result = CliRunner().invoke(main, shlex.split(line, comments=True)[1:])
        assert result.exit_code == 0, line
        said.append(" ".join(result.stdout.split()))
    listed, who, why = said
    assert "regulars 1 Three orders" in listed
    assert "1 customer of regulars." in who
    assert "Customer 1 is in regulars, since" in why
    assert 'count("order.paid", within="180 days") is 3' in why
    told = CliRunner().invoke(main, ["segments", "at-risk", "--customer", "1", "--json"])
    assert json.loads(told.stdout)["parts"]["customer.orders"] == "3"
    unknown = CliRunner().invoke(main, ["segments", "regular"])
    assert (unknown.exit_code, "Did you mean 'regulars'?" in " ".join(unknown.stderr.split())) == (1, True)


def test_every_key_and_every_function_stands_on_the_page() -> None:
    for model in (SegmentModel, PersonaModel):
        for name in model.model_fields:
            assert f"`{name}`" in PAGE, name
    for name in FUNCTIONS:
        assert f"`{name}(" in PAGE, name
    assert {"segment", "leaves"} <= StartsModel.model_fields.keys() & StopsModel.model_fields.keys()
