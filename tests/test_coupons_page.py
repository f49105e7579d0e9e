"""What docs/coupons.md shows is what runs."""

import re
import shlex
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.coupons.providers import PROVIDERS
from afterglow.language.check import check_files
from tests.coupon_shops import coupon_shops
from tests.driver import SECRET, driving, shop_files
from tests.workers.test_referring import ANN, BOB, code
from workers.cli import main

PAGE = (ROOT / "docs" / "coupons.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
FILES = {
    f"flows/{'programmes/' if kind == 'programme' else ''}{name}.yaml": block
    for block in BLOCKS
    for kind, name in re.findall(r"\A(programme|flow): (\S+)", block)
}


def test_the_files_that_are_shown_have_no_problem():
    assert len(FILES) == len(BLOCKS)
    assert check_files({**shop_files(), **FILES}) == []


def test_the_page_names_every_shop_and_what_opens_it():
    for provider, talks in PROVIDERS.items():
        assert f"{provider}`" in PAGE
        assert [name for name in talks.variables if f"`{name}`" not in PAGE] == []


def test_what_is_shown_ends_with_a_mail_about_a_code_that_the_shop_knows(sqlite_url, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    with coupon_shops() as shops, driving(sqlite_url, files=FILES, fetch_local="yes") as driver:
        shops.lead(monkeypatch)
        driver.post("customer.created", customer=ANN, consent="granted")
        order = {"id": "o1", "number": "1001", "total": 40, "currency": "EUR", "codes": [code(driver)]}
        driver.post("order.paid", {"order": order}, customer=BOB)
        driver.at(days=15)
        driver.actors.close()

        assert ("referral-code", "referral-invitation", "sent") in driver.touchpoints()
        assert {shop for shop, _ in shops.created} == {"shopify"}
        monkeypatch.setattr("workers.logs.set_up_logs", lambda: None)
        explained = CliRunner().invoke(main, ["referrals", "explain", "1"]).output
        assert shops.created[0][1] in explained
        assert "welcome-10" in CliRunner().invoke(main, ["coupons", "list"]).output, "its list is empty"
        CliRunner().invoke(main, ["loyalty", "codes", "welcome-10", "--make", "1"])
        driver.clock.jump(datetime.now(UTC) + timedelta(minutes=1))  # a command has the real clock
        driver.drain()
        [session] = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
        command, _, answer = session.removeprefix("$ ").partition("\n")
        assert CliRunner().invoke(main, shlex.split(command)[1:]).output == answer
