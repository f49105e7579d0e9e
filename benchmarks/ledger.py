"""The ledger: earning, spending, expiring and verifying, and beside it a balance column locked order by order.

AFTERGLOW_FAULTS=long expires 1,000,000 lots instead of 50,000.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from benchmarks import rig
from db import bulk, ledger, people, proof
from db.engine import Database
from db.ledger import Change, Credit, Spend
from db.tables import customers, lots
from tests.examples import LONG

CUSTOMERS, BATCH, WORKERS = 5_000, 250, 2
ORDERS = 10_000  # of each worker
LOTS = 1_000_000 if LONG else 50_000
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
INPUTS = {"order.total": 40.5, "tier": "gold", "by": 1.5}

#: What most would write: a balance, its log, and a lock for each order.
NAIVE = """
CREATE TABLE naive_balances (customer_id bigint PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
CREATE TABLE naive_entries (id bigserial PRIMARY KEY, customer_id bigint NOT NULL REFERENCES naive_balances,
  key text NOT NULL UNIQUE, amount bigint NOT NULL, inputs jsonb NOT NULL, at timestamptz NOT NULL);
INSERT INTO naive_balances SELECT id, 0 FROM customers
"""


def _customers(url: str) -> None:
    database = Database(url)
    with database.writing() as connection:
        ids = bulk.next_ids(connection, customers, CUSTOMERS)
        bulk.insert(connection, customers, ("id", "orders", "spent", "since"), [(one, 0, 0, NOW) for one in ids])
    database.close()


def _ids(database: Database) -> list[int]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(customers.c.id).order_by(customers.c.id)).scalars())


def _earned(customer_id: int, key: str, days: int = 365) -> Credit:
    return Credit(
        programme="beans",
        asset="points",
        customer_id=customer_id,
        kind="earn",
        key=key,
        amount=61,
        event_at=NOW,
        activates_at=NOW,
        expires_at=NOW + timedelta(days=days),
        rule="per-euro",
        inputs=INPUTS,
        progress=61,
        subject=key,
    )


def _spent(customer_id: int, key: str) -> Spend:
    return Spend(programme="beans", asset="points", customer_id=customer_id, key=key, amount=50, event_at=NOW)


def _post(url: str, make: Callable[[int, str], Change], begin: Callable[[], None]) -> int:
    """Post changes in batches, as `ingest` does: customers locked, sorted."""
    database = Database(url)
    ids = _ids(database)
    begin()
    for first in range(0, ORDERS, BATCH):
        who = [ids[(first + n) % len(ids)] for n in range(BATCH)]
        changes = [make(one, f"{make.__name__}/{os.getpid()}/{first + n}") for n, one in enumerate(who)]
        with database.writing() as connection:
            people.lock(connection, who)
            ledger.post(connection, changes, NOW)
    database.close()
    return ORDERS


def _naive(url: str, begin: Callable[[], None]) -> int:
    """The same load on a balance column, an order at a time."""
    database = Database(url)
    ids = _ids(database)
    done = ORDERS // 5
    begin()
    for n in range(done):
        one = ids[n % len(ids)]
        with database.writing() as connection:
            run = connection.exec_driver_sql
            balance = run("SELECT balance FROM naive_balances WHERE customer_id = %s FOR UPDATE", (one,)).scalar_one()
            run("UPDATE naive_balances SET balance = %s WHERE customer_id = %s", (balance + 61, one))
            run(
                "INSERT INTO naive_entries (customer_id, key, amount, inputs, at) VALUES (%s, %s, 61, %s, %s)",
                (one, f"{os.getpid()}/{n}", '{"order.total": 40.5, "tier": "gold", "by": 1.5}', NOW),
            )
    database.close()
    return done


def _expire(url: str, begin: Callable[[], None]) -> int:
    database = Database(url)
    begin()
    done = 0
    while True:
        with database.writing() as connection:
            booked = ledger.expire(connection, NOW + timedelta(days=400), 2000)
        done += booked
        if not booked:
            break
    database.close()
    return done


def _fill(url: str, count: int) -> None:
    """Lots enough to be expired."""
    database = Database(url)
    ids = _ids(database)
    with database.reading() as connection:
        there = connection.execute(sa.select(sa.func.count()).select_from(lots)).scalar_one()
    for first in range(0, count - there, 2000):
        with database.writing() as connection:
            changes = [_earned(ids[n % len(ids)], f"fill/{n}", 1 + n % 365) for n in range(first, first + 2000)]
            ledger.post(connection, changes, NOW)
    database.close()


def _rate(done: int, seconds: float) -> int:
    return round(done / seconds)


def _measure(url: str, workers: int) -> dict[str, Any]:
    _customers(url)
    figures: dict[str, Any] = {}
    for name, make in (("earned_per_s", _earned), ("spent_per_s", _spent)):
        figures[name] = _rate(*rig.in_processes(workers, _post, url, make))
    return figures


def _verify(url: str) -> dict[str, Any]:
    database = Database(url)
    began = time.perf_counter()
    with database.reading() as connection:
        verdict = proof.verify(connection)
    took = time.perf_counter() - began
    database.close()
    assert not verdict.differences, verdict.differences[:3]
    return {"verified_transactions": verdict.transactions, "verified_per_s": _rate(verdict.transactions, took)}


def run() -> dict[str, Any]:
    """PostgreSQL with two workers, SQLite with one, and the naive way on PostgreSQL in the same run."""
    figures: dict[str, Any] = {}
    with rig.postgresql() as url:
        figures["postgresql"] = _measure(url, WORKERS)
        database = Database(url)
        with database.writing() as connection:
            connection.exec_driver_sql(NAIVE)
        database.close()
        naive = _rate(*rig.in_processes(WORKERS, _naive, url))
        figures["balance_column_per_s"] = naive
        figures["ratio_to_balance_column"] = round(figures["postgresql"]["earned_per_s"] / naive, 2)
        _fill(url, LOTS)
        expired, took = rig.in_processes(WORKERS, _expire, url)
        figures["postgresql"] |= {
            "expired_lots": expired,
            "expired_lots_per_s": _rate(expired, took),
            "a_million_lots_expire_in_s": round(1_000_000 / (expired / took)),
        }
        figures["postgresql"] |= _verify(url)
    with rig.sqlite() as url:
        figures["sqlite"] = _measure(url, 1) | _verify(url)
    return figures


if __name__ == "__main__":
    rig.show(run())
