"""The ledger under many hands: nothing is spent twice, nothing is booked twice, nothing is ever changed.

AFTERGLOW_FAULTS=long runs the numbers that we promise; otherwise few, of the same kind.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from db import ledger as ledger_
from db import proof
from db.ledger import ConflictError, Posted
from db.tables import ledger_accounts, ledger_transactions, metadata, postings
from tests.examples import LONG
from tests.ledger_shop import LedgerDesk, ledger

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200 if LONG else 120)]


def verified(desk: LedgerDesk) -> bool:
    with desk.database.reading() as connection:
        return proof.verify(connection).differences == []


def at_once(work: Sequence[Callable[[], Any]], hands: int) -> list[Any]:
    """Do all of this by so many threads; what each returned."""
    with ThreadPoolExecutor(hands) as pool:
        return [one.result() for one in [pool.submit(each) for each in work]]


@pytest.fixture
def desk(database_url: str) -> Any:
    with ledger(database_url, hands=32) as opened:
        yield opened


def test_of_racing_redemptions_exactly_as_many_succeed_as_the_balance_allows(desk):
    accounts, racers, balance, price = (2_000, 64, 100, 7) if LONG else (6, 12, 20, 3)
    people = [desk.customer() for _ in range(accounts)]
    desk.post(*(desk.credit(one, balance) for one in people))
    below: list[int] = []
    done = threading.Event()

    def watch() -> int:
        """Look at the balances at one instant after the other."""
        a, p = ledger_accounts.c, postings.c
        looks = 0
        while not done.is_set():
            with desk.database.reading() as connection:
                if not desk.database.is_sqlite:
                    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                low = connection.execute(sa.select(a.id).where(a.role != "debt", a.balance < 0)).all()
                sums = sa.select(p.account_id, sa.func.sum(p.amount)).where(p.account_id.is_not(None)).group_by(p.account_id)  # fmt: skip  # noqa: E501
                if looks % 10 == 0:
                    total = {row[0]: row[1] for row in connection.execute(sums)}
                    stored = {row[0]: row[1] for row in connection.execute(sa.select(a.id, a.balance))}
                    below.extend(id_ for id_ in stored if stored[id_] != total.get(id_, 0))
            below.extend(row[0] for row in low)
            looks += 1
        return looks

    work = [lambda one=one: desk.post(desk.spend(one, price))[0] for one in people for _ in range(racers)]
    random.Random(1).shuffle(work)
    watchers = 3 if LONG else 1
    pool = ThreadPoolExecutor(watchers)
    watching = [pool.submit(watch) for _ in range(watchers)]
    try:
        outcomes = at_once(work, 32)
    finally:
        done.set()

    looks = sum(each.result() for each in watching)
    print(f"{len(outcomes)} redemptions, {looks} snapshots")
    assert looks >= (10_000 if LONG else 1)
    assert below == []
    assert sum(isinstance(one, Posted) for one in outcomes) == accounts * (balance // price)
    assert {desk.standing(one).spendable for one in people[:50]} == {balance % price}
    assert verified(desk)


def test_of_many_copies_of_a_key_one_is_posted_and_altered_ones_are_refused(desk):
    keys, copies = (5_000, 20) if LONG else (12, 8)
    sam = [desk.customer() for _ in range(max(2, keys // 20))]
    changes = []
    for n in range(keys):
        honest = desk.credit(sam[n % len(sam)], 10 + n % 5, key=f"order {n}", days=30)
        altered = desk.credit(sam[n % len(sam)], 99, key=f"order {n}", days=30)
        changes.append([honest] * (copies - 1) + [altered])

    def post(change: Any) -> str:
        try:
            (outcome,) = desk.post(change)
        except ConflictError:
            return "conflict"
        return "repeat" if outcome.was_there else "first"

    # The honest ones begin, so that it is known which content is the altered one.
    begun = Counter(at_once([lambda c=c: post(c[0]) for c in changes], 16))
    rest = [lambda c=c: post(c) for some in changes for c in some[1:]]
    random.Random(2).shuffle(rest)
    found = begun + Counter(at_once(rest, 16))

    assert found == {"first": keys, "repeat": keys * (copies - 2), "conflict": keys}
    assert desk.rows(sa.select(sa.func.count()).select_from(ledger_transactions)) == [(keys,)]
    assert verified(desk)


class _Crash(Exception):
    """The process dies, as the database sees it."""


def test_whatever_many_hands_do_and_whoever_dies_the_ledger_adds_up(desk):
    batches, hands = (3_200, 32) if LONG else (60, 8)
    people = [desk.customer() for _ in range(80 if LONG else 10)]

    def work(seed: int) -> int:
        dice = random.Random(seed)
        changes = []
        for n in range(32):
            one, amount = dice.choice(people), dice.randint(1, 50)
            make = dice.choice([desk.credit, desk.credit, desk.spend, desk.reserve, desk.claw_back])
            further: dict[str, Any] = {"key": f"{seed}/{n}", "subject": f"order/{dice.randint(1, 9)}"}
            if make == desk.credit:
                further["days"] = dice.choice([None, 10, 20])
            if make == desk.claw_back:
                further["policy"] = dice.choice(["only_pending", "within_balance", "unlimited"])
            changes.append(make(one, amount, **further))
        try:
            with desk.database.writing() as connection:
                outcomes = ledger_.post(connection, changes, desk.now)
                if dice.random() < 0.2:
                    raise _Crash
        except _Crash:
            outcomes = desk.post(*changes)  # somebody else does it again
        holds = [o.id for o, c in zip(outcomes, changes, strict=True) if isinstance(o, Posted) and hasattr(c, "expires_at") and not hasattr(c, "activates_at")]  # fmt: skip  # noqa: E501
        if holds:
            desk.post(*(dice.choice([desk.settle, desk.void])(hold) for hold in holds))
        return sum(isinstance(one, Posted) for one in outcomes)

    posted = sum(at_once([lambda seed=seed: work(seed) for seed in range(batches)], hands))

    assert posted > batches * 15
    assert verified(desk)


def test_jobs_that_run_together_expire_each_lot_once(desk):
    people = [desk.customer() for _ in range(30)]
    desk.post(*(desk.credit(one, 10, days=days) for one in people for days in (1, 2, 40)))
    desk.after(days=3)

    booked = at_once([lambda: desk.expire(limit=7)] * 24, 4)
    while more := desk.expire():
        booked.append(more)

    assert sum(booked) == 60
    assert {desk.standing(one).balance for one in people} == {10}
    assert verified(desk)


#: What of a row may change; all other columns are written once.
CHANGING = {
    "ledger_accounts": {"balance", "entries", "chain", "nothings", "nothings_chain"},
    "ledger_transactions": set(),
    "postings": set(),
    "allocations": set(),
    "lots": {"remaining"},
    "holds": {"settled", "state"},
}


def forbidden(dialect: str) -> list[str]:
    """Statements that no one may run, not even by mistake."""
    found = []
    for table, changing in CHANGING.items():
        found += [f"UPDATE {table} SET {c.name} = {c.name}" for c in metadata.tables[table].columns if c.name not in changing]  # fmt: skip  # noqa: E501
        found.append(f"DELETE FROM {table}")
        found.append(f"TRUNCATE {table} CASCADE" if dialect == "postgresql" else f"DELETE FROM {table} WHERE 1 = 1")
    found += [
        "UPDATE ledger_accounts SET balance = -1 WHERE role = 'wallet'",
        "UPDATE ledger_accounts SET balance = 1 WHERE role = 'debt'",
        "UPDATE lots SET remaining = amount + 1",
        "UPDATE lots SET remaining = -1",
        "UPDATE holds SET settled = amount + 1",
        "UPDATE holds SET state = 'lost'",
        "INSERT INTO postings (transaction_id, n, house, amount) VALUES (1, 9, 'issued', 0)",
        "INSERT INTO postings (transaction_id, n, house, amount) VALUES (1, 9, 'nowhere', 5)",
        "INSERT INTO postings (transaction_id, n, amount) VALUES (1, 9, 5)",
        "INSERT INTO postings (transaction_id, n, house, amount) VALUES (999, 1, 'issued', 5), (999, 2, 'spent', -5)",
    ]
    if dialect == "postgresql":
        found += [
            "INSERT INTO postings (transaction_id, n, house, amount) VALUES (1, 9, 'issued', 5)",
            "INSERT INTO postings (transaction_id, n, house, amount) VALUES (1, 8, 'issued', 5), (1, 9, 'spent', -4)",
        ]
    else:
        found += [
            "UPDATE ledger_accounts SET balance = balance + 1 WHERE role = 'wallet'",
            "INSERT OR REPLACE INTO postings SELECT * FROM postings",
            "INSERT OR REPLACE INTO ledger_transactions SELECT * FROM ledger_transactions",
            "INSERT OR REPLACE INTO lots SELECT * FROM lots",
            "INSERT OR REPLACE INTO allocations SELECT * FROM allocations",
        ]
    return found


def test_every_statement_that_would_change_what_was_posted_is_refused(desk):
    sam = desk.customer()
    desk.earn(sam, 100)
    desk.do(desk.spend(sam, 10))
    desk.do(desk.reserve(sam, 10))
    desk.do(desk.claw_back(sam, 100, policy="unlimited"))
    statements = forbidden(desk.database.engine.dialect.name)
    assert len(statements) >= 50

    allowed = []
    for statement in statements:
        try:
            with desk.database.writing() as connection:
                connection.exec_driver_sql(statement)
        except sa.exc.DBAPIError:
            continue
        allowed.append(statement)

    assert allowed == []
    assert verified(desk)


def test_a_transaction_that_does_not_sum_to_zero_moves_no_account(desk):
    sam = desk.customer()
    desk.earn(sam, 100)
    before = desk.rows(sa.select(ledger_transactions.c.id))
    another = sa.select(sa.func.max(ledger_transactions.c.id) + 1).scalar_subquery()
    content = [column for column in ledger_transactions.columns if column.name not in ("id", "key")]
    forged = sa.select(another, sa.literal("forged"), *content)
    leg = (
        "INSERT INTO postings SELECT transaction_id + 1, 1, account_id, NULL, 50, 2, 150, chain "
        "FROM postings WHERE account_id IS NOT NULL"
    )

    def forge() -> None:
        with desk.database.writing() as connection:
            columns = ["id", "key", *(column.name for column in content)]
            connection.execute(ledger_transactions.insert().from_select(columns, forged))
            connection.exec_driver_sql(leg)
            connection.exec_driver_sql("UPDATE ledger_accounts SET balance = 150, entries = 2 WHERE role = 'wallet'")

    with pytest.raises(sa.exc.DBAPIError, match="do not sum to zero"):
        forge()

    assert desk.rows(sa.select(ledger_transactions.c.id)) == before
    assert verified(desk)
