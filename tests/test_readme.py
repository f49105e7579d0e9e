"""What README shows is what runs."""

import re
import shlex

from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.language.check import check_files
from tests.driver import driving, shop_files
from workers.cli import main

README = (ROOT / "README.md").read_text()


def shown_flow() -> str:
    found = re.search(r"```yaml\n(flow: .*?)```", README, re.DOTALL)
    assert found
    return found[1]


def test_the_flow_that_a_newcomer_copies_has_no_problem() -> None:
    assert check_files({**shop_files(), "flows/big-order.yaml": shown_flow()}) == []


def test_the_flow_that_a_newcomer_copies_does_what_it_says(sqlite_url: str) -> None:
    with driving(sqlite_url, files={**shop_files(), "flows/big-order.yaml": shown_flow()}) as driver:
        driver.post("customer.created", consent="granted")
        order = {"id": "o1", "number": "1001", "total": 120, "currency": "EUR"}
        driver.post("order.paid", payload={"order": order})
        driver.post("order.delivered", payload={"order": {"id": "o1"}})
        driver.at(days=4)

        mine = [row for row in driver.touchpoints() if row[0] == "big-order"]

    assert mine == [("big-order", "notify-customer-care", "sent"), ("big-order", "brew-tips", "sent")]


def test_every_command_that_is_shown_exists() -> None:
    known = CliRunner().invoke(main, ["--help"]).output
    shown = {
        words[1]
        for line in re.findall(r"^(?:\.venv/bin/)?(afterglow .*)$", README, re.MULTILINE)
        if len(words := shlex.split(line, comments=True)) > 1
    }

    assert shown
    assert not [command for command in shown if f" {command} " not in known]
