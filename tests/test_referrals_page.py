"""The page about referral programmes shows what runs."""

import json
import re
import shlex

import pytest
from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.language.check import check_files
from afterglow.language.referral import METHODS
from afterglow.referring import fraud
from afterglow.referring.wording import _RULES
from tests.driver import SECRET, driving, shop_files
from tests.workers.test_referring import ANN, BOB, code
from workers.cli import main

PAGE = (ROOT / "docs" / "referrals.md").read_text()
PROGRAMME, VARIANTS, FLOW = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
FILES = {"flows/programmes/friends.yaml": PROGRAMME, "flows/referral-thanks.yaml": FLOW}


def shown_commands() -> list[list[str]]:
    [block] = re.findall(r"```\n(afterglow .*?)```", PAGE, re.DOTALL)
    return [shlex.split(line) for line in block.splitlines()]


def test_the_files_that_are_shown_have_no_problem():
    assert check_files({**shop_files(), **FILES}) == []
    tried = re.sub(r"rewards:\n(  .*\n)+", VARIANTS, PROGRAMME)
    assert "variant: five-fifteen" in tried
    assert check_files({**shop_files(), **FILES, "flows/programmes/friends.yaml": tried}) == []


def test_what_is_shown_rewards_a_friend_and_every_command_works(database_url, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    with driving(database_url, files={**shop_files(), **FILES}) as driver:
        driver.post("customer.created", customer=ANN, consent="granted")
        order = {"id": "o1", "number": "1001", "total": 40, "currency": "EUR", "codes": [code(driver)]}
        driver.post("order.paid", {"order": order}, customer=BOB)
        driver.at(days=15)

        assert [row for row in driver.touchpoints() if row[0] == "referral-thanks"] == [
            ("referral-thanks", "referral-invitation", "sent")
        ]
        for words in shown_commands():
            told = CliRunner().invoke(main, words[1:])
            assert (words, told.exit_code) == (words, 0), told.output
        [one] = json.loads(CliRunner().invoke(main, ["referrals", "list", "--json"]).stdout)
        assert one["state"] == "rewarded"


def test_the_page_names_every_way_and_every_number_of_the_score():
    assert [method for method in METHODS if f"| `{method}` |" not in PAGE] == []
    strangers = (
        fraud.Party(customer=1, email="sam@yopmail.com", name="Sam"),
        fraud.Party(customer=2, email="sam1@yopmail.com", name="Sam"),
    )
    facts = fraud.Facts(
        referrer=strangers[0],
        referee=strangers[1],
        share_address=1,
        share_payment=1,
        ring=2,
        undone=4,
        settled=4,
        click_to_order=fraud.FAST / 2,
    )
    weights = {finding.weight for finding in fraud._adding(facts)}
    assert {int(number) for number in re.findall(r"\| (\d+)(?: each)? \|", PAGE)} == weights
    assert {finding.rule for finding in fraud._adding(facts)} < _RULES.keys()
