"""What docs/companies.md shows is what runs, and so does the example of a shop that sells to cafés."""

import re
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.language.check import check_files
from workers.cli import main
from workers.scaffold import UnknownExampleError, example_files, make_shop
from workers.testing import run_all

PAGE = (ROOT / "docs" / "companies.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
(OFFER,) = [block for block in BLOCKS if block.startswith("flow:")]
(TESTS,) = [block for block in BLOCKS if block.startswith("tests:")]
(SEGMENTS,) = [block for block in BLOCKS if block.startswith("segments:")]
(ACCOUNTS,) = [block for block in BLOCKS if block.startswith("accounts:")]


@cache
def files() -> dict[str, str]:
    return example_files("cafes")


def test_the_example_and_the_flow_of_the_page_have_no_problem() -> None:
    assert ACCOUNTS in files()["flows/shop.yaml"]
    assert check_files(files()) == []
    assert check_files(files() | {"flows/offer.yaml": OFFER + TESTS, "flows/segments.yaml": SEGMENTS}) == []


def test_every_flow_of_the_example_and_of_the_page_does_what_its_tests_promise(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    make_shop(shop, "cafes")
    kept = {(tried.flow.name, tried.test.name): tried.is_kept for tried in run_all([shop], "")}

    assert {flow for flow, _ in kept} == {"enquiry", "tasting", "offer", "renewal"}
    assert [name for name, is_kept in kept.items() if not is_kept] == []
    (shop / "flows/offer.yaml").write_text(OFFER + TESTS)
    assert [tried.is_kept for tried in run_all([shop / "flows/offer.yaml"], "")] == [True]
    with pytest.raises(UnknownExampleError, match="there is cafes"):
        make_shop(tmp_path / "other", "offices")


def test_a_flow_of_the_example_is_simulated_by_companies_which_the_command_says(tmp_path: Path) -> None:
    make_shop(tmp_path / "shop", "cafes")
    asked = ["simulate", "offer", "--days", "30", "--customers", "30", "--folder", str(tmp_path / "shop")]
    told = " ".join(CliRunner().invoke(main, asked).output.split())

    assert "20 runs began" in told  # ten companies, of whom those who brew have none
    assert "in companies of one decision-maker, one barista, one billing" in told


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("account.seats", "account.seat"), "shop.yaml does not supply 'account.seat'. Did you mean 'account.seats'?"),
        (("account.seats >= 30", 'account.seats >= "30"'), "This is never true: 'account.seats' is a number"),
    ],
)
def test_what_a_segment_says_wrongly_of_accounts_is_told(changed: tuple[str, str], told: str) -> None:
    found = check_files(files() | {"flows/segments.yaml": SEGMENTS.replace(*changed)})
    assert any(told in one.message for one in found), found


def test_a_segment_reads_no_account_where_the_shop_declares_none() -> None:
    shop = files()["flows/shop.yaml"].replace(ACCOUNTS, "")
    found = check_files(files() | {"flows/segments.yaml": SEGMENTS, "flows/shop.yaml": shop})
    assert any(one.file == "flows/segments.yaml" and "declare `accounts` in shop.yaml" in one.message for one in found)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            ("to: {role: billing}", "to: {role: biling}"),
            "There is no role 'biling' in shop.yaml under accounts. Did you",
        ),
        (
            ("run_per: account\n", ""),
            "Only a flow that runs per account has others to run for: say `run_per: account`.",
        ),
        (
            ("to: {role: billing}", "to: {role: barista}"),
            "Nobody gets this: the flow runs for billing and decision-maker.",
        ),
        (("topic: trade", "only_if: account.seat > 3\ntopic: trade"), "'account.seat'"),
    ],
)
def test_what_a_flow_says_wrongly_of_accounts_is_told(changed: tuple[str, str], told: str) -> None:
    assert any(told in one.message for one in check_files(files() | {"flows/offer.yaml": OFFER.replace(*changed)}))
