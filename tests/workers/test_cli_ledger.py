"""`afterglow ledger` on a database: what it proves, explains and states, and the statuses it exits with."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import db.ledger
from afterglow import ROOT
from db import people
from db.ledger import Credit, Spend
from tests.db.test_proof import forge
from tests.driver import SECRET, driving
from tests.ledger_shop import START, LedgerDesk, ledger
from workers.cli import main

Afterglow = Callable[..., tuple[int, str, str]]


@pytest.fixture
def afterglow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Afterglow:
    """Gives a command in an empty folder: its exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("workers.logs.set_up_logs", lambda: None)

    def run(*words: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(main, ["ledger", *(str(word) for word in words)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.fixture
def desk(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LedgerDesk]:
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    with ledger(database_url) as opened:
        yield opened


def test_verify_says_that_everything_adds_up_and_exits_with_1_where_it_does_not(afterglow: Afterglow, desk: LedgerDesk):
    sam = desk.customer()
    desk.earn(sam, 100)
    assert afterglow("verify") == (0, "1 transaction, 1 account: everything adds up.\n", "")

    with desk.database.writing() as connection:
        forge(connection, "UPDATE ledger_accounts SET balance = 1000")
    status, told, complained = afterglow("verify")

    assert (status, told) == (1, "1 transaction, 1 account: 2 differences.\n")
    assert "its lots hold 100, and its balance is 1000" in complained
    status, told, _ = afterglow("verify", "--json")
    assert status == 1
    assert json.loads(told)["accounts"] == 1


def test_an_entry_is_explained(afterglow: Afterglow, desk: LedgerDesk):
    sam = desk.customer()
    entry = desk.earn(sam, 40, desired=50, rule="per-euro", inputs={"total": 50}, days=365).id
    _, told, _ = afterglow("explain", entry)

    for said in ("earn of 40 points in beans", "50 was desired", "'per-euro'", "total = 50", "-40 issued", "40 of 40 left"):  # fmt: skip  # noqa: E501
        assert said in told
    assert json.loads(afterglow("explain", entry, "--json")[1])["transaction"]["granted"] == 40
    assert afterglow("explain", 99)[0] == 1


def test_a_statement_is_as_of_an_instant(afterglow: Afterglow, desk: LedgerDesk):
    sam = desk.customer()
    desk.earn(sam, 40, days=30)
    desk.after(days=1)
    desk.do(desk.spend(sam, 15))

    _, told, _ = afterglow("statement", sam, "--as-of", (START + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S"))
    assert "40 to spend, 40 of it until 2026-04-01" in told
    assert "redeem" not in told
    said = json.loads(afterglow("statement", sam, "--as-of", "2026-03-04T00:00:00", "--json")[1])
    assert said["standing"][0]["spendable"] == 25
    assert [line["amount"] for line in said["lines"]] == [40, -15]


def test_the_liability_is_stated(afterglow: Afterglow, desk: LedgerDesk):
    assert afterglow("liability")[1] == "Nothing was ever posted.\n"
    desk.earn(desk.customer(), 40)

    _, told, _ = afterglow("liability")
    assert "beans, points: 40 outstanding" in told
    (owed,) = json.loads(afterglow("liability", "--json")[1])
    assert owed["expiring"] == {"never": 40}
    assert owed["cohorts"][0]["breakage"] == 0


def test_a_person_adjusts_once_with_a_reason_and_never_takes_more_than_there_is(afterglow: Afterglow, desk: LedgerDesk):
    sam = desk.customer()
    given = (sam, "beans", 25, "--reason", "the roast was late", "--author", "kim")
    assert afterglow("adjust", *given, "--key", "ticket 7")[0] == 0
    desk.now = desk.now.replace(year=2999)
    assert desk.standing(sam).spendable == 25
    status, told, _ = afterglow("adjust", sam, "beans", "--reason", "a mistake", "--", -30)

    assert (status, told) == (1, "")
    assert afterglow("adjust", sam, "beans", "--reason", "a mistake", "--", -5)[0] == 0
    assert desk.standing(sam).spendable == 20
    assert "kim: the roast was late" in afterglow("explain", 1)[1]
    assert afterglow("adjust", sam, "beans", 1)[0] == 2, "without a reason"


def test_an_adjustment_of_a_programme_or_asset_that_does_not_exist_is_a_slip(
    afterglow: Afterglow, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    with driving(database_url) as driver:
        driver.post("customer.created")
        reason = ("--reason", "late")
        status, _, told = afterglow("adjust", 1, "bens", 5, *reason)
        assert (status, " ".join(told.split())) == (
            1,
            "There is no loyalty programme 'bens'; there are beans. Did you mean 'beans'?",
        )
        status, _, told = afterglow("adjust", 1, "beans", 5, *reason, "--asset", "stars")
        assert (status, told) == (1, "'beans' has no 'stars'; it has beans, credit.\n")
        assert afterglow("adjust", 1, "beans", 5, *reason, "--asset", "beans")[0] == 0
        assert afterglow("adjust", 1, "beans", 5, *reason, "--asset", "credit")[0] == 0


# The page


PAGE = (ROOT / "docs" / "ledger.md").read_text()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # PostgreSQL leaves out numbers of what was refused
def test_what_the_page_of_the_ledger_shows_is_what_runs(afterglow: Afterglow, desk: LedgerDesk):
    customer = desk.customer()
    (posting,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {"database": desk.database, "customer": customer, "now": START, "UTC": UTC, "datetime": datetime}
    exec(posting, names | {"ledger": db.ledger, "people": people, "Credit": Credit, "Spend": Spend})
    shown = re.findall(r"```console\n\$ afterglow ledger (.*?)\n(.*?)```", PAGE, re.DOTALL)

    assert {words.split()[0] for words, _ in shown} == {"statement", "explain", "liability", "adjust", "verify"}
    for words, output in shown:
        status, told, _ = afterglow(*shlex.split(words))
        assert (status, _lines(told)) == (0, _lines(output)), words


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]
