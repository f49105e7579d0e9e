"""A ledger with a few customers for tests: an empty, migrated database, and changes that say little.

with ledger(database_url) as desk:
    sam = desk.customer()
    desk.earn(sam, 100)
    assert desk.standing(sam).spendable == 100
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import sqlalchemy as sa

from afterglow.ledger.book import Standing
from db import ledger as ledger_
from db.engine import Database
from db.ledger import Change, Clawback, Credit, Outcome, Posted, Reserve, Return, Settle, Spend, Void
from db.tables import customers

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
WHERE: Mapping[str, Any] = {"programme": "beans", "asset": "points"}


@dataclass(kw_only=True)
class LedgerDesk:
    """A database and a clock that stands still."""

    database: Database
    now: datetime = START
    keys: Iterator[int] = field(default_factory=lambda: count(1))

    def customer(self) -> int:
        """A new customer."""
        with self.database.writing() as connection:
            return int(
                connection.execute(
                    customers.insert().values(orders=0, spent=0, since=START).returning(customers.c.id)
                ).scalar_one()
            )

    def post(self, *wanted: Change) -> list[Outcome]:
        """Do changes in one batch."""
        with self.database.writing() as connection:
            return ledger_.post(connection, wanted, self.now)

    def do(self, change: Change) -> Posted:
        """Do a change that must succeed."""
        (outcome,) = self.post(change)
        assert isinstance(outcome, Posted), outcome
        return outcome

    def earn(self, customer_id: int, amount: int, **further: Any) -> Posted:
        """Points to be spent from now on."""
        return self.do(self.credit(customer_id, amount, **further))

    def credit(self, customer_id: int, amount: int, **further: Any) -> Credit:
        """The change that `earn` does."""
        days, after = further.pop("days", None), further.pop("pending_days", 0)
        expires = None if days is None else self.now + timedelta(days=days)
        given: dict[str, Any] = {
            **WHERE,
            "customer_id": customer_id,
            "kind": "earn",
            "key": f"k{next(self.keys)}",
            "amount": amount,
            "event_at": self.now,
            "activates_at": self.now + timedelta(days=after),
            "expires_at": expires,
        }
        return Credit(**(given | further))

    def spend(self, customer_id: int, amount: int, **further: Any) -> Spend:
        return Spend(**(self._given(customer_id, amount) | further))

    def reserve(self, customer_id: int, amount: int, minutes: int = 15, **further: Any) -> Reserve:
        return Reserve(**(self._given(customer_id, amount) | {"expires_at": self.now + timedelta(minutes=minutes)} | further))  # fmt: skip  # noqa: E501

    def claw_back(self, customer_id: int, amount: int, **further: Any) -> Clawback:
        return Clawback(**(self._given(customer_id, amount) | further))

    def settle(self, hold_id: int, amount: int | None = None) -> Settle:
        return Settle(hold_id=hold_id, amount=amount, key=f"k{next(self.keys)}", event_at=self.now)

    def void(self, hold_id: int) -> Void:
        return Void(hold_id=hold_id, key=f"k{next(self.keys)}", event_at=self.now)

    def give_back(self, transaction_id: int, amount: int | None = None) -> Return:
        return Return(transaction_id=transaction_id, amount=amount, key=f"k{next(self.keys)}", event_at=self.now)

    def _given(self, customer_id: int, amount: int) -> dict[str, Any]:
        key = f"k{next(self.keys)}"
        return {**WHERE, "customer_id": customer_id, "amount": amount, "key": key, "event_at": self.now}

    def standing(self, customer_id: int) -> Standing:
        """What the customer has now."""
        with self.database.reading() as connection:
            found = ledger_.balances(connection, [customer_id], self.now)
        return found.get((customer_id, "beans", "points")) or Standing(
            balance=0, spendable=0, pending=0, held=0, debt=0, expires_at=None, expiring=0
        )

    def expire(self, limit: int = 1000) -> int:
        """Book what is past."""
        with self.database.writing() as connection:
            return ledger_.expire(connection, self.now, limit)

    def after(self, **further: float) -> None:
        """Let time go by, as `timedelta` takes it."""
        self.now += timedelta(**further)

    def rows(self, query: sa.Executable) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with self.database.reading() as connection:
            return [tuple(row) for row in connection.execute(query)]


@contextmanager
def ledger(database_url: str, *, hands: int = 10) -> Iterator[LedgerDesk]:
    """A ledger on a migrated database, for so many threads."""
    database = Database(database_url, pool_size=hands, durable=False)
    try:
        yield LedgerDesk(database=database)
    finally:
        database.close()
