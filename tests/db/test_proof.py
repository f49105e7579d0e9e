"""The ledger proves itself: verify finds whatever was changed, statements and liability say what the entries say."""

import pytest
import sqlalchemy as sa

from db import ledger as ledger_
from db import proof, unlinking
from db.proof import UnknownEntryError, Verdict
from tests.ledger_shop import START, LedgerDesk, ledger


def verify(desk: LedgerDesk) -> Verdict:
    with desk.database.reading() as connection:
        return proof.verify(connection)


def lives(desk: LedgerDesk) -> tuple[int, int]:
    """Two customers with something of every kind of transaction."""
    sam, kim = desk.customer(), desk.customer()
    desk.earn(sam, 100, days=30, subject="order/1", progress=100, rule="per-euro", inputs={"total": 100.0})
    desk.earn(sam, 50, days=60, pending_days=14)
    desk.earn(sam, 0, desired=20)
    bought = desk.do(desk.spend(sam, 30)).id
    desk.do(desk.give_back(bought, 10))
    hold, other, late = (desk.do(desk.reserve(sam, amount)).id for amount in (20, 10, 5))
    desk.do(desk.settle(hold, 15))
    desk.do(desk.void(other))
    desk.earn(kim, 40)
    desk.do(desk.spend(kim, 40))
    desk.do(desk.claw_back(kim, 25, policy="unlimited"))
    desk.after(days=30)
    desk.expire()
    desk.do(desk.spend(sam, 10))
    assert late
    assert desk.expire() == 1, "what came back from the hold that timed out is past as well"
    return sam, kim


def test_an_honest_ledger_is_verified_and_so_is_an_empty_one(database_url):
    with ledger(database_url) as desk:
        assert verify(desk) == Verdict(accounts=0, transactions=0, differences=[])
        sam, kim = lives(desk)
        with desk.database.writing() as connection:
            ledger_.transfer(connection, sam, kim, desk.now)

        found = verify(desk)

    assert found.differences == []
    assert (found.accounts, found.transactions) == (5, 18)


#: What somebody with all rights changes behind our back, and a word of what is found.
FORGERIES = {
    "UPDATE postings SET amount = amount + 1 WHERE transaction_id = 1 AND n = 1": "sum to 1",
    "UPDATE postings SET amount = amount * 2 WHERE transaction_id = 4": "moved",
    "DELETE FROM postings WHERE transaction_id = 4": "missing",
    "UPDATE ledger_accounts SET balance = balance + 5 WHERE id = 1": "its balance is",
    "UPDATE ledger_accounts SET entries = entries + 1 WHERE id = 1": "entries make",
    "UPDATE lots SET remaining = 1 WHERE id = 1": "said to be left",
    "UPDATE lots SET expires_at = NULL WHERE id = 2": "the chain breaks here",
    "UPDATE lots SET amount = 200 WHERE id = 1": "its lots 200",
    "UPDATE allocations SET amount = amount + 1 WHERE lot_id = 2": "its lots",
    "UPDATE ledger_transactions SET inputs = '{}' WHERE id = 1": "the chain breaks here",
    "UPDATE ledger_transactions SET progress = 1000 WHERE id = 1": "the chain breaks here",
    "UPDATE ledger_transactions SET reason = 'because' WHERE id = 4": "the chain breaks here",
    "DELETE FROM ledger_transactions WHERE id = 3": "moved nothing",
    "UPDATE ledger_transactions SET desired = 21 WHERE id = 3": "moved nothing",
    "UPDATE ledger_accounts SET nothings = 0 WHERE nothings = 1": "moved nothing",
    "UPDATE holds SET state = 'held', settled = 0 WHERE state = 'settled'": "the entries do not say",
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_whatever_is_changed_behind_the_ledgers_back_is_found(database_url, forgery):
    with ledger(database_url) as desk:
        lives(desk)
        with desk.database.writing() as connection:
            forge(connection, forgery)

        assert FORGERIES[forgery] in "\n".join(verify(desk).differences)


def test_a_ledger_that_forgot_somebody_still_proves_itself_also_who_was_one_with_them_for_a_while(database_url):
    with ledger(database_url) as desk:
        sam, kim = lives(desk)
        with desk.database.writing() as connection:
            moved = ledger_.transfer(connection, sam, kim, desk.now)
            ledger_.transfer_back(connection, moved, desk.now)
        before = desk.standing(sam)
        with desk.database.writing() as connection:
            assert unlinking.unlink(connection, sam, [sam], desk.now) > 10
        desk.earn(sam, 7)
        found, after = verify(desk), desk.standing(sam)
        texts = desk.rows(sa.text(f"SELECT key, subject FROM ledger_transactions WHERE customer_id = {sam}"))

    assert (found.differences, found.forgotten) == ([], 1)
    assert after.balance == before.balance + 7
    assert {subject for _, subject in texts} == {None}
    assert [key for key, _ in texts if not key.startswith("forgotten ")] == [texts[-1][0]]


@pytest.mark.parametrize("forgery", ["UPDATE postings SET amount = 1", "UPDATE ledger_transactions SET subject = NULL"])
def test_entries_cannot_be_changed_once_somebody_is_forgotten(database_url, forgery):
    with ledger(database_url) as desk:
        sam, _ = lives(desk)
        with desk.database.writing() as connection:
            unlinking.unlink(connection, sam, [sam], desk.now)

        with pytest.raises(sa.exc.DBAPIError, match="only added to"), desk.database.writing() as connection:
            connection.exec_driver_sql(forgery)


def forge(connection: sa.Connection, statement: str) -> None:
    """Change something although the triggers refuse it."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
    else:
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
        for name in names:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
    assert connection.exec_driver_sql(statement).rowcount > 0


def test_an_entry_is_explained_by_its_rule_and_what_it_read(database_url):
    with ledger(database_url) as desk:
        lives(desk)
        with desk.database.reading() as connection:
            earned, bought = proof.explain(connection, 1), proof.explain(connection, 4)
            with pytest.raises(UnknownEntryError):
                proof.explain(connection, 1000)

    assert (earned.transaction["rule"], earned.transaction["inputs"]) == ("per-euro", {"total": 100})
    assert [(leg["house"], leg["role"], leg["amount"]) for leg in earned.postings] == [
        ("issued", None, -100),
        (None, "wallet", 100),
    ]
    assert bought.allocations == [{"lot_id": 1, "amount": 30}]
    assert bought.undone_by == [5]


def test_a_statement_says_what_the_ledger_said_at_that_instant(database_url):
    with ledger(database_url) as desk:
        sam, _ = lives(desk)
        with desk.database.reading() as connection:
            then = proof.statement(connection, sam, START)
            now = proof.statement(connection, sam, desk.now)

        assert now.standing["beans", "points"] == desk.standing(sam)
    first = then.standing["beans", "points"]
    assert (first.spendable, first.pending, first.held) == (60, 50, 5)
    assert len(then.lines) == 10
    assert sum(line.amount for line in then.lines) == 110
    assert sum(line.amount for line in now.lines) == now.standing["beans", "points"].balance == 40


def test_the_liability_is_what_all_customers_have_by_month(database_url):
    with ledger(database_url) as desk:
        lives(desk)
        with desk.database.reading() as connection:
            (owed,) = proof.liability(connection, desk.now)

    assert (owed.outstanding, owed.pending, owed.held, owed.debt) == (40, 0, 0, -25)
    assert owed.expiring == {"2026-05": 40}
    (march,) = owed.cohorts
    assert (march.issued, march.spent, march.expired, march.clawed_back, march.remaining) == (190, 85, 65, 0, 40)
    assert march.breakage == pytest.approx(65 / 190)
