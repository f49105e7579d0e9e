"""Balances that customers bring along from elsewhere: once in the ledger, whatever is imported again."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from db import ledger, proof
from db.tables import ledger_transactions, lots
from tests.driver import Driver
from tests.small_shop import small
from tests.workers.test_cli import Afterglow, afterglow
from tests.workers.test_importing import file, told

__all__ = ["afterglow"]

BEANS = json.dumps(
    {
        "programme": "beans",
        "kind": "loyalty",
        "about": "A point for every euro",
        "earn": [{"id": "per-euro", "on": "order.paid", "amount": "order.total", "points": 1}],
        "expires": {"after": "12 months", "end_of": "month"},
    }
)
PEOPLE = ("id,email", "11,ann@example.com", ",bob@example.com")
#: Commands live by the database's own clock, so that what is to stay expires long after it.
BALANCES = ("id,email,programme,points,expires_at,at", "11,,beans,500,2099-01-01,2026-03-01")


@pytest.fixture
def driver(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    with small(database_url, programmes=(BEANS,)) as installation:
        yield installation


@pytest.fixture
def balances(driver: Driver, afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports these lines as balances, of customers who are known: what came of it."""
    afterglow("import", "customers", file("people.csv", *PEOPLE))

    def import_(*lines: str, check: bool = False) -> dict[str, Any]:
        return told(
            afterglow("import", "balances", file("balances.csv", *lines), "--json", *(["--check"] if check else []))
        )

    return import_


def points(driver: Driver) -> int:
    """What Ann, who was imported first, can spend now."""
    with driver.app.reading() as connection:
        return ledger.balances(connection, [1], datetime.now(UTC))[1, "beans", "points"].spendable


def test_a_balance_is_one_transaction_with_the_expiry_given_or_the_programmes(driver: Driver, balances: Any):
    found = balances(*BALANCES, ",bob@example.com,beans,40,,2026-02-15")

    assert (found["new"], found["bad"]) == (2, [])
    assert found["sums"] == [{"programme": "beans", "asset": "points", "amount": 540}]
    t = ledger_transactions.c
    query = sa.select(t.kind, t.granted, t.event_at, t.progress, lots.c.expires_at)
    rows = driver.rows(query.join(lots, lots.c.transaction_id == t.id).order_by(t.id))
    paris = timedelta(hours=1)
    assert rows == [
        ("opening", 500, datetime(2026, 3, 1, tzinfo=UTC) - paris, 0, datetime(2099, 1, 1, tzinfo=UTC) - paris),
        ("opening", 40, datetime(2026, 2, 15, tzinfo=UTC) - paris, 0, datetime(2027, 3, 1, tzinfo=UTC) - paris),
    ]
    with driver.app.reading() as connection:
        assert proof.verify(connection).differences == []


def test_the_same_file_again_changes_nothing_also_when_two_turned_out_to_be_one(
    driver: Driver, balances: Any, afterglow: Afterglow
):
    lines = (*BALANCES, ",bob@example.com,beans,40,,")
    first, again = balances(*lines), balances(*lines)
    assert (first["new"], again["new"], again["known"], again["bad"], again["sums"]) == (2, 0, 2, [], [])

    assert afterglow("merge", 1, 2, "--yes")[0] == 0
    merged = balances(*lines)

    assert (merged["new"], merged["known"], merged["bad"]) == (0, 2, [])
    assert points(driver) == 540


def test_another_amount_or_expiry_under_the_same_key_is_refused_and_says_so(driver: Driver, balances: Any):
    balances(*BALANCES)
    for changed in ("11,,beans,501,2099-01-01,2026-03-01", "11,,beans,500,2098-01-01,2026-03-01"):
        [bad] = balances(BALANCES[0], changed)["bad"]
        assert bad["reason"].startswith(
            "another balance was brought in under its key before: see `afterglow ledger explain 1`"
        )

    assert points(driver) == 500


def test_balances_of_one_customer_are_told_apart_by_their_key(driver: Driver, balances: Any):
    head = "id,programme,points,expires_at,key"
    found = balances(head, "11,beans,10,2098-01-01,", "11,beans,10,2099-01-01,", "11,beans,10,2099-01-01,second")

    assert (found["new"], [bad["line"] for bad in found["bad"]]) == (2, [3])
    assert "give each a key of its own" in found["bad"][0]["reason"]
    assert points(driver) == 20


def test_credit_is_read_in_major_units_and_kept_in_minor_ones(driver: Driver, balances: Any):
    found = balances("id,programme,credit", "11,beans,12.50")

    assert found["sums"] == [{"programme": "beans", "asset": "credit", "amount": 1250}]


def test_a_check_says_the_sums_and_writes_nothing(driver: Driver, balances: Any, afterglow: Afterglow):
    found = balances(*BALANCES, ",bob@example.com,beans,40,,", check=True)

    assert found["sums"] == [{"programme": "beans", "asset": "points", "amount": 540}]
    assert driver.rows(sa.select(ledger_transactions.c.id)) == []
    assert "beans: 540 points could be brought in." in afterglow("import", "balances", "balances.csv", "--check")[1]
    assert "beans: 540 points were brought in." in afterglow("import", "balances", "balances.csv")[1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("11,others,5,,", "programme is no loyalty programme in force; they are beans"),
        ("11,beans,-5,,", "points is no whole number of 0 or more"),
        ("11,beans,5.5,,", "points is no whole number of 0 or more"),
        ("11,beans,,,", "it says neither points nor credit"),
        ("11,beans,5,2.00,", "points and credit stand on two rows"),
        ("11,beans,5,,2001-01-01", "its balance has expired already"),
        ("99,beans,5,,", "it names a customer whom we do not know; import customers first"),
        ("11,beans,9999999999999999,,", "points is more than the ledger takes"),
    ],
)
def test_a_row_that_cannot_be_taken_in_says_why(driver: Driver, balances: Any, row: str, reason: str):
    found = balances("id,programme,points,credit,expires_at", row)

    assert [bad["reason"] for bad in found["bad"]] == [reason]
    assert driver.rows(sa.select(ledger_transactions.c.id)) == []


def test_nothing_is_no_entry(driver: Driver, balances: Any):
    assert balances("id,programme,points", "11,beans,0")["known"] == 1
    assert driver.rows(sa.select(ledger_transactions.c.id)) == []
