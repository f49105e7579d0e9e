"""`afterglow loyalty`, as an operator uses it."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from tests.driver import SECRET, Driver
from tests.small_shop import small
from tests.workers.test_loyalty import CREDIT, FIVE_OFF, RULE, order, programme
from workers.cli import main

Afterglow = Callable[..., tuple[int, str, str]]
TIERS = {"over": "lifetime", "levels": [{"tier": "bronze", "from": 0}, {"tier": "silver", "from": 300}]}


@pytest.fixture
def driver(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """A shop with a programme, on the database that commands use, of an hour ago."""
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("workers.logs.set_up_logs", lambda: None)
    text = programme(RULE, rewards=[FIVE_OFF, CREDIT], tiers=TIERS)
    with small(database_url, programmes=(text,)) as installation:
        installation.clock.jump(datetime.now(UTC) - timedelta(hours=1))
        yield installation


@pytest.fixture
def afterglow() -> Afterglow:
    """Gives a command: its exit status, output and errors."""

    def run(*words: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(main, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def test_points_buy_a_code_and_come_back_with_its_cancellation(driver: Driver, afterglow: Afterglow, tmp_path):
    order(driver, "o1", 120)
    customer = driver.customer()
    _, shown, _ = afterglow("loyalty", "show", customer)
    assert "120 points to spend." in shown
    assert "180 more to silver." in shown

    status, _, error = afterglow("loyalty", "redeem", customer, "beans", "five-off")
    assert (status, "No code of 'five' is left" in " ".join(error.split())) == (1, True)
    listed = tmp_path / "codes.txt"
    listed.write_text("ONE\nTWO\nONE\n")
    assert json.loads(afterglow("loyalty", "codes", "five", "--from", listed, "--json")[1])["left"] == {"five": 2}

    given = json.loads(afterglow("loyalty", "redeem", customer, "beans", "five-off", "--json")[1])
    assert (given["code"], given["state"]) == ("ONE", "given")
    told = json.loads(afterglow("loyalty", "show", customer, "--json")[1])
    assert told["programmes"][0]["spendable"] == 70
    assert [one["id"] for one in told["redeemed"]] == [given["id"]]

    _, cancelled, _ = afterglow("loyalty", "cancel", given["id"])
    assert "Take the code ONE out of use" in " ".join(cancelled.split())
    assert afterglow("loyalty", "cancel", given["id"])[0] == 1
    assert "120 points to spend." in afterglow("loyalty", "show", customer)[1]


def test_codes_that_are_made_are_printed_for_the_shop(driver: Driver, afterglow: Afterglow):
    lines = afterglow("loyalty", "codes", "five", "--make", 20)[1].split()
    assert len(set(lines)) == 20
    assert all(len(line) == 12 for line in lines)
    assert json.loads(afterglow("loyalty", "codes", "--json")[1])["left"] == {"five": 20}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("redeem", "{}", "bean", "five-off"), "Did you mean 'beans'?"),
        (("redeem", "{}", "beans", "five-of"), "Did you mean 'five-off'?"),
        (("redeem", "{}", "beans", "credit"), "'credit' costs 30 and customer"),
        (("cancel", "99"), "There is no redemption 99"),
        (("show", "nobody@example.com"), "No customer is known"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(driver: Driver, afterglow: Afterglow, words, sentence):
    order(driver, "o1", 10)
    status, _, error = afterglow("loyalty", *(word.format(driver.customer()) for word in words))
    assert status == 1
    assert sentence in " ".join(error.split())
