"""The ledger: every change of points, store credit or coupons, as a transaction that happens once.

`post` takes changes of any kind and number, does them in the order given with a constant number of statements, and
says of each what became of it. A change has a key: the same key with the same content again is a repeat, and gets the
first one's answer; with other content it is a `ConflictError`.

The caller has locked the customers, and nobody of them was merged into another. Beyond that `post` locks their
accounts, sorted, so that what it reads is true until it commits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.ledger.book import Standing
from afterglow.ledger.changes import (
    Change,
    Clawback,
    ConflictError,
    Credit,
    Outcome,
    Posted,
    Refused,
    Reserve,
    Return,
    Settle,
    Spend,
    Void,
)
from afterglow.ledger.entries import Role
from db import booking, bulk, people
from db.booking import Place
from db.tables import HoldState, customers, holds, ledger_accounts, ledger_transactions, lots

__all__ = [
    "Change",
    "Clawback",
    "ConflictError",
    "Credit",
    "Hanging",
    "Outcome",
    "Place",
    "Posted",
    "Refused",
    "Reserve",
    "Return",
    "Settle",
    "Spend",
    "Standing",
    "Void",
]


def post(connection: Connection, wanted: Sequence[Change], now: datetime) -> list[Outcome]:
    """Do changes in their order, and say what became of each.

    Raises:
      ConflictError: another change was posted under the same key. Nothing of the batch happens.
      ValueError: an amount is negative, or a customer, hold or transaction is not there.
    """
    if not wanted:
        return []
    batch = booking.Batch(connection, now)
    items = booking.items(connection, wanted)
    batch.lock(items)
    there = booking.there(connection, items)
    fresh = [item for item in items if item.name not in there]
    batch.load(fresh)
    outcomes: list[Outcome] = []
    for item in items:
        first = there.get(item.name)
        if first is None:
            outcome = batch.do(item)
            if isinstance(outcome, Posted):
                there[item.name] = (outcome.id, outcome.granted, item.digest)
        elif first[2] == item.digest:
            outcome = Posted(id=first[0], granted=first[1], was_there=True)
        else:
            raise ConflictError(
                f"Another {item.kind} of customer {item.place[0]} in '{item.place[1]}' was posted under the key "
                f"'{item.change.key}' (transaction {first[0]}); compare the two with `afterglow ledger explain`."
            )
        outcomes.append(outcome)
    batch.write()
    return outcomes


def credit(connection: Connection, wanted: Sequence[Credit], now: datetime) -> list[Posted]:
    """Bring new points. Debt is paid first. Raises as `post` does."""
    return [_surely(outcome) for outcome in post(connection, wanted, now)]


def spend(connection: Connection, wanted: Sequence[Spend], now: datetime) -> list[Outcome]:
    """Spend points at once. Raises as `post` does."""
    return post(connection, wanted, now)


def reserve(connection: Connection, wanted: Sequence[Reserve], now: datetime) -> list[Outcome]:
    """Hold points for redemptions; the id of what was posted names the hold. Raises as `post` does."""
    return post(connection, wanted, now)


def settle(connection: Connection, wanted: Sequence[Settle], now: datetime) -> list[Outcome]:
    """Spend what is held; refused where it is held no more. Raises as `post` does."""
    return post(connection, wanted, now)


def void(connection: Connection, wanted: Sequence[Void], now: datetime) -> list[Outcome]:
    """Let what is held go back; refused where it is held no more. Raises as `post` does."""
    return post(connection, wanted, now)


def give_back(connection: Connection, wanted: Sequence[Return], now: datetime) -> list[Outcome]:
    """Return what was spent; refused where less was spent than is to be returned. Raises as `post` does.

    What a customer spent who was merged since goes on to the one who was kept.
    """
    outcomes = post(connection, wanted, now)
    t = ledger_transactions.c
    ids = [one.transaction_id for one in wanted]
    whose = set(connection.execute(sa.select(t.customer_id).where(bulk.among(t.id, ids))).scalars())
    for merged, kept in sorted(people.kept(connection, whose).items()):
        if merged != kept:
            transfer(connection, kept, merged, now)
    return outcomes


def claw_back(connection: Connection, wanted: Sequence[Clawback], now: datetime) -> list[Posted]:
    """Take points back. Raises as `post` does."""
    return [_surely(outcome) for outcome in post(connection, wanted, now)]


def _surely(outcome: Outcome) -> Posted:
    if isinstance(outcome, Refused):
        raise ValueError(outcome.reason)
    return outcome


def balances(connection: Connection, customer_ids: Iterable[int], now: datetime) -> dict[Place, Standing]:
    """What customers have at this instant, by customer, programme and asset; holds that timed out count as gone."""
    batch = booking.Batch(connection, now)
    batch.read(sorted(set(customer_ids)))
    batch.load_lots([account.id for account in batch.accounts.values() if account.role == Role.WALLET], [])
    batch.load_timed_out()
    for hold in batch.timed_out:
        batch.books[hold.place].settle(hold.drawn, hold.amount, 0)
    return {place: one.standing(now) for place, one in batch.books.items()}


def places(connection: Connection) -> set[tuple[str, str]]:
    """Every programme and asset of which a customer has or had something."""
    a = ledger_accounts.c
    return {(row.programme, row.asset) for row in connection.execute(sa.select(a.programme, a.asset).distinct())}


@dataclass(frozen=True, kw_only=True, slots=True)
class Hanging:
    """A transaction that hangs on a subject."""

    id: int
    subject: str
    customer_id: int
    programme: str
    asset: str
    kind: str
    key: str
    event_at: datetime
    event_id: int | None
    document_id: int | None
    rule: str | None
    inputs: Mapping[str, Any]
    desired: int
    granted: int
    progress: int
    undoes: int | None


def of_subject(connection: Connection, subjects: Iterable[str]) -> dict[str, list[Hanging]]:
    """What hangs on these subjects, oldest first; every subject is a key of the answer."""
    wanted = sorted(set(subjects))
    found: dict[str, list[Hanging]] = {subject: [] for subject in wanted}
    t = ledger_transactions.c
    columns = [t[name] for name in Hanging.__dataclass_fields__]
    rows = connection.execute(sa.select(*columns).where(bulk.among(t.subject, wanted)).order_by(t.id))
    for row in rows:
        found[row.subject].append(Hanging(**row._mapping))
    return found


def expire(connection: Connection, now: datetime, limit: int = 1000) -> int:
    """Book that lots are past, of customers whom nobody else works on; how many lots. Fewer than `limit`: all done.

    For tidiness: a lot that is past cannot be spent, booked or not.
    """
    a = ledger_accounts.c
    due = connection.execute(
        sa.select(lots.c.id, a.customer_id)
        .join(ledger_accounts, a.id == lots.c.account_id)
        .join(customers, customers.c.id == a.customer_id)
        .where(lots.c.remaining > booking.NONE, lots.c.expires_at <= now)
        .order_by(lots.c.expires_at)
        .limit(limit)
        .with_for_update(of=customers, key_share=True, skip_locked=True)
    ).all()
    if not due:
        return 0
    batch = booking.Batch(connection, now)
    batch.read(sorted({row.customer_id for row in due}), lock=True)
    batch.load_lots([], [row.id for row in due])
    return batch.expire()


def time_out(connection: Connection, now: datetime, limit: int = 1000) -> int:
    """Let holds go back that nobody settled in time, of customers whom nobody else works on; how many."""
    a = ledger_accounts.c
    due = connection.execute(
        sa.select(a.customer_id)
        .select_from(holds)
        .join(ledger_accounts, a.id == holds.c.account_id)
        .join(customers, customers.c.id == a.customer_id)
        .where(holds.c.state == "held", holds.c.expires_at <= now)
        .order_by(holds.c.expires_at)
        .limit(limit)
        .with_for_update(of=customers, key_share=True, skip_locked=True)
    ).scalars()
    whose = sorted(set(due))
    if not whose:
        return 0
    batch = booking.Batch(connection, now)
    batch.read(whose, lock=True)
    batch.load_timed_out()
    batch.take_ids(len(batch.timed_out), 0)
    batch.void_timed_out()
    batch.write()
    return len(batch.timed_out)


def transfer(connection: Connection, kept: int, merged: int, now: datetime) -> list[int]:
    """Move all that a customer has to the one whom they turned out to be; the transactions, one for each asset.

    Lots keep their times. What the customer holds for a redemption goes back first: its settling is then refused.
    """
    batch = booking.Batch(connection, now)
    batch.read([kept, merged])
    theirs = [place for place in batch.books if place[0] == merged]
    if not theirs:
        return []
    roles = {(kept, *place[1:]): {Role.WALLET, Role.DEBT} for place in theirs}
    batch.make(roles | {place: {Role.WALLET} for place in theirs})
    batch.load_holds(open_of={merged})
    wallets = [account.id for account in batch.accounts.values() if account.role == Role.WALLET]
    batch.load_lots(wallets, [lot for hold in batch.timed_out for lot in hold.drawn])
    batch.take_ids(len(batch.timed_out) + len(theirs), len(batch.lot_places))
    batch.void_timed_out(HoldState.VOID)
    made = [batch.transfer(place, (kept, *place[1:])) for place in theirs]
    batch.write()
    return [id_ for id_ in made if id_ is not None]


def transfer_back(connection: Connection, transaction_ids: Sequence[int], now: datetime) -> None:
    """Give a customer back what of a transfer is still there, to the lots it came from. What was spent stays spent."""
    t = ledger_transactions.c
    rows = connection.execute(
        sa.select(ledger_transactions).where(bulk.among(t.id, list(transaction_ids))).order_by(t.id)
    ).all()
    if not rows:
        return
    batch = booking.Batch(connection, now)
    batch.read(sorted({one for row in rows for one in (row.customer_id, row.inputs["from"])}), lock=True)
    pairs = [(int(old), new) for row in rows for old, new in row.inputs["lots"].items()]
    batch.load_lots([], [lot for pair in pairs for lot in pair])
    batch.take_ids(len(rows), 0)
    for row in rows:
        batch.transfer_back(row)
    batch.write()
