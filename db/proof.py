"""The ledger proves itself: is what is stored what the entries say, why does an entry stand there, and what is owed.

Nothing here is changed, and nothing here trusts a stored balance: `verify` rebuilds each from the entries.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.ledger import chain
from afterglow.ledger.book import Book, Standing
from afterglow.ledger.entries import Kind
from afterglow.ledger.lots import Lot
from db import bulk, people
from db.tables import (
    allocations,
    customers,
    documents,
    events,
    holds,
    ledger_accounts,
    ledger_forgettings,
    ledger_transactions,
    lots,
    postings,
)

#: Accounts, or transactions, that are looked at together.
PAGE = 500


class UnknownEntryError(AfterglowError):
    """There is no such entry in the ledger; `afterglow ledger statement CUSTOMER` lists them."""


# Verifying


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a look at the whole ledger found."""

    accounts: int
    transactions: int
    #: Sentences; none where everything adds up.
    differences: Sequence[str]
    #: How often a customer was forgotten, and their entries were sealed anew.
    forgotten: int = 0


def verify(connection: Connection) -> Verdict:
    """Rebuild every balance and lot from the entries, and follow every chain.

    For a connection on which nothing was read yet: all of it is read at one instant.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    differences: list[str] = []
    counted = {"accounts": 0, "transactions": 0}
    for page in _pages(connection, ledger_transactions):
        counted["transactions"] += len(page)
        differences += _unbalanced(connection, [row.id for row in page])
    for page in _pages(connection, ledger_accounts):
        counted["accounts"] += len(page)
        differences += _rebuilt(connection, page)
    forgotten = connection.execute(sa.select(sa.func.count()).select_from(ledger_forgettings)).scalar_one()
    return Verdict(differences=differences, forgotten=forgotten, **counted)


def _pages(connection: Connection, table: sa.Table) -> Iterator[Sequence[Any]]:
    """All rows of a table by id, some at a time."""
    after = 0
    page = sa.select(table).where(table.c.id > sa.bindparam("after")).order_by(table.c.id).limit(PAGE)
    while rows := connection.execute(page, {"after": after}).all():
        yield rows
        after = rows[-1].id


def _unbalanced(connection: Connection, ids: Sequence[int]) -> Iterator[str]:
    """Transactions whose postings do not sum to zero, or to what was granted."""
    p, t = postings.c, ledger_transactions.c
    total, moved = sa.func.sum(p.amount), sa.func.sum(sa.case((p.amount > 0, p.amount), else_=0))
    rows = connection.execute(
        sa.select(t.id, t.kind, t.granted, sa.func.count(p.n).label("legs"), total.label("total"), moved.label("moved"))
        .select_from(ledger_transactions.outerjoin(postings))
        .where(bulk.among(t.id, ids))
        .group_by(t.id, t.kind, t.granted)
        .order_by(t.id)
    )
    for row in rows:
        if row.total:
            yield f"Transaction {row.id}: its postings sum to {row.total} and not to zero."
        elif row.legs == 1:
            yield f"Transaction {row.id}: it has one posting."
        elif row.kind not in (Kind.TRANSFER, Kind.SETTLE) and (row.moved or 0) != row.granted:
            yield f"Transaction {row.id}: {row.moved or 0} moved, and {row.granted} was granted."


@dataclass(frozen=True, slots=True)
class _Sealed:
    """Everything that hangs on some transactions."""

    seals: Mapping[int, bytes]
    #: By transaction and account: what it opened and drew there.
    moved: Mapping[tuple[int, int], int]


def _sealed(connection: Connection, ids: Sequence[int]) -> _Sealed:
    """The seals of transactions, from the rows as they stand."""
    t, p, lot, a = ledger_transactions.c, postings.c, lots.c, allocations.c
    columns = {row.id: dict(row._mapping) for row in connection.execute(sa.select(ledger_transactions).where(bulk.among(t.id, ids)))}  # fmt: skip  # noqa: E501
    legs: dict[int, list[tuple[int | str, int]]] = defaultdict(list)
    for row in connection.execute(
        sa.select(p.transaction_id, p.account_id, p.house, p.amount)
        .where(bulk.among(p.transaction_id, ids))
        .order_by(p.transaction_id, p.n)
    ):
        legs[row.transaction_id].append((row.account_id if row.house is None else row.house, row.amount))
    opened: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    moved: dict[tuple[int, int], int] = defaultdict(int)
    for row in connection.execute(sa.select(lots).where(bulk.among(lot.transaction_id, ids)).order_by(lot.id)):
        opened[row.transaction_id].append(
            (row.id, row.account_id, row.origin_id, row.amount, row.earned_at, row.activates_at, row.expires_at)
        )
        moved[row.transaction_id, row.account_id] += row.amount
    drawn: dict[int, dict[int, int]] = defaultdict(dict)
    for row in connection.execute(
        sa.select(a.transaction_id, a.lot_id, a.amount, lot.account_id)
        .join(lots, lot.id == a.lot_id)
        .where(bulk.among(a.transaction_id, ids))
    ):
        drawn[row.transaction_id][row.lot_id] = row.amount
        moved[row.transaction_id, row.account_id] -= row.amount
    made = {id_: chain.seal(columns[id_], legs[id_], opened[id_], drawn[id_]) for id_ in columns}
    return _Sealed(seals=made, moved=moved)


def seals(connection: Connection, ids: Collection[int]) -> Mapping[int, bytes]:
    """The seals of transactions, from the rows as they stand."""
    return _sealed(connection, sorted(ids)).seals


def _rebuilt(connection: Connection, accounts: Sequence[Any]) -> Iterator[str]:
    """What differs between accounts as stored and as their entries make them."""
    ids = [account.id for account in accounts]
    p = postings.c
    rows = connection.execute(
        sa.select(p.transaction_id, p.account_id, p.amount, p.entry, p.balance, p.chain)
        .where(bulk.among(p.account_id, ids))
        .order_by(p.account_id, p.entry)
    ).all()
    entries: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        entries[row.account_id].append(row)
    sealed = _sealed(connection, sorted({row.transaction_id for row in rows}))
    empty = nothings(connection, accounts)
    left = _left(connection, ids)
    held = _held(connection, ids)
    for account in accounts:
        yield from _chained(account, entries[account.id], sealed)
        if account.role == "wallet":
            yield from _chained_nothings(account, empty.get(account.id, ()))
            yield from left[account.id].differences
            if left[account.id].remaining != account.balance:
                yield f"{_name(account)}: its lots hold {left[account.id].remaining}, and its balance is {account.balance}."  # noqa: E501
        if account.role == "held":
            amount, differences = held[account.id]
            yield from differences
            if amount != account.balance:
                yield f"{_name(account)}: its open holds are of {amount}, and its balance is {account.balance}."


def _name(account: Any) -> str:
    return f"Account {account.id} ({account.role} of customer {account.customer_id} in '{account.programme}')"


def _chained(account: Any, entries: Sequence[Any], sealed: _Sealed) -> Iterator[str]:
    """What differs along an account's entries; the first break alone, since all after it follow from it."""
    balance, link = 0, chain.START
    for number, row in enumerate(entries, 1):
        balance += row.amount
        what = f"{_name(account)}: entry {number} (transaction {row.transaction_id})"
        if row.entry != number:
            yield f"{what} is missing."
            return
        if row.balance != balance:
            yield f"{what} leaves {balance}, and says {row.balance}."
            return
        if account.role == "wallet" and sealed.moved.get((row.transaction_id, account.id), 0) != row.amount:
            yield f"{what} moves {row.amount}, and its lots {sealed.moved.get((row.transaction_id, account.id), 0)}."
            return
        link = chain.link(link, sealed.seals[row.transaction_id], account.id, number, row.amount, balance)
        if link != row.chain:
            yield f"{what} was changed after it was written: the chain breaks here."
            return
    if (account.balance, account.entries, account.chain) != (balance, len(entries), link):
        yield (
            f"{_name(account)}: its {len(entries)} entries make {balance}, and it says {account.balance} "
            f"after {account.entries}."
        )


def nothings(connection: Connection, accounts: Sequence[Any]) -> Mapping[int, list[bytes]]:
    """By wallet the seals of the transactions that moved nothing, oldest first."""
    wallets = {(one.customer_id, one.programme, one.asset): one.id for one in accounts if one.role == "wallet"}
    t = ledger_transactions.c
    rows = connection.execute(
        sa.select(t.id, t.customer_id, t.programme, t.asset)
        .where(
            bulk.among(t.customer_id, sorted({customer for customer, _, _ in wallets})),
            t.granted == sa.literal_column("0"),
            ~sa.exists().where(postings.c.transaction_id == t.id),
        )
        .order_by(t.id)
    ).all()
    sealed = seals(connection, [row.id for row in rows]) if rows else {}
    found: dict[int, list[bytes]] = defaultdict(list)
    for row in rows:
        if (wallet := wallets.get((row.customer_id, row.programme, row.asset))) is not None:
            found[wallet].append(sealed[row.id])
    return found


def _chained_nothings(account: Any, sealed: Sequence[bytes]) -> Iterator[str]:
    """What differs of transactions that moved nothing. Those from before they were chained, the oldest, are let be."""
    mine = sealed[len(sealed) - account.nothings :] if account.nothings <= len(sealed) else sealed
    link = chain.START
    for number, seal in enumerate(mine, 1):
        link = chain.link_nothing(link, seal, account.id, number)
    if len(mine) < account.nothings or link != (account.nothings_chain or chain.START):
        yield f"{_name(account)}: of {account.nothings} transactions that moved nothing one was changed or is missing."


class _Left:
    """What lots of an account hold."""

    def __init__(self) -> None:
        self.remaining = 0
        self.differences: list[str] = []


def _left(connection: Connection, account_ids: Sequence[int]) -> Mapping[int, _Left]:
    lot, a = lots.c, allocations.c
    drawn = sa.func.coalesce(sa.func.sum(a.amount), 0)
    found: dict[int, _Left] = defaultdict(_Left)
    for row in connection.execute(
        sa.select(lot.id, lot.account_id, lot.amount, lot.remaining, drawn.label("drawn"))
        .select_from(lots.outerjoin(allocations, a.lot_id == lot.id))
        .where(bulk.among(lot.account_id, account_ids))
        .group_by(lot.id, lot.account_id, lot.amount, lot.remaining)
        .order_by(lot.id)
    ):
        mine = found[row.account_id]
        mine.remaining += row.remaining
        if row.amount - row.drawn != row.remaining:
            mine.differences.append(
                f"Lot {row.id}: of {row.amount} {row.drawn} was drawn, and {row.remaining} is said to be left."
            )
    return found


def _held(connection: Connection, account_ids: Sequence[int]) -> Mapping[int, tuple[int, list[str]]]:
    """What open holds of accounts are of, and holds whose state is not what was posted."""
    h, t = holds.c, ledger_transactions.c
    amounts: dict[int, int] = defaultdict(int)
    wrong: dict[int, list[str]] = defaultdict(list)
    ends = ledger_transactions.alias("ends")
    for row in connection.execute(
        sa.select(holds, t.granted, ends.c.kind, ends.c.granted.label("ended"))
        .join(ledger_transactions, t.id == h.transaction_id)
        .outerjoin(ends, (ends.c.undoes == h.transaction_id) & ends.c.kind.in_(["settle", "void"]))
        .where(bulk.among(h.account_id, account_ids))
        .order_by(h.transaction_id)
    ):
        if row.state == "held":
            amounts[row.account_id] += row.amount
        posted = {None: ("held", 0), "settle": ("settled", row.ended)}.get(row.kind, ("void", 0))
        stored = ("void" if row.state == "timed_out" else row.state, row.settled)
        if stored != posted or row.amount != row.granted:
            wrong[row.account_id].append(
                f"Hold {row.transaction_id}: it is {row.state} of {row.amount}, which the entries do not say."
            )
    return {id_: (amounts[id_], wrong[id_]) for id_ in account_ids}


# Explaining


@dataclass(frozen=True, kw_only=True, slots=True)
class Explained:
    """A transaction, and why it stands there."""

    transaction: Mapping[str, Any]
    #: The programme's file as it was, by name and digest.
    document: Mapping[str, Any] | None
    #: What caused it, as it was told to us.
    event: Mapping[str, Any] | None
    postings: Sequence[Mapping[str, Any]]
    lots: Sequence[Mapping[str, Any]]
    allocations: Sequence[Mapping[str, Any]]
    #: Later transactions that undo it.
    undone_by: Sequence[int]


def explain(connection: Connection, transaction_id: int) -> Explained:
    """Why an entry stands in the ledger: rule, file and digest, inputs, and the webhook that caused it.

    Raises:
      UnknownEntryError: there is no such transaction.
    """
    t, p, lot, a, d, e = (table.c for table in (ledger_transactions, postings, lots, allocations, documents, events))
    row = connection.execute(sa.select(ledger_transactions).where(t.id == transaction_id)).one_or_none()
    if row is None:
        raise UnknownEntryError

    def rows(query: sa.Select[Any]) -> list[Mapping[str, Any]]:
        return [dict(one._mapping) for one in connection.execute(query)]

    document = rows(sa.select(d.id, d.kind, d.name, d.digest).where(d.id == row.document_id))
    event = rows(sa.select(e.id, e.name, e.source, e.key, e.occurred_at, e.recorded_at).where(e.id == row.event_id))
    account = ledger_accounts.c
    legs = (
        sa.select(account.customer_id, account.role, p.house, p.amount, p.account_id, p.entry, p.balance)
        .select_from(postings.outerjoin(ledger_accounts))
        .where(p.transaction_id == transaction_id)
        .order_by(p.n)
    )
    return Explained(
        transaction=dict(row._mapping) | {"digest": row.digest.hex()},
        document=document[0] if document else None,
        event=event[0] if event else None,
        postings=rows(legs),
        lots=rows(
            sa.select(lot.id, lot.amount, lot.remaining, lot.earned_at, lot.activates_at, lot.expires_at)
            .where(lot.transaction_id == transaction_id)
            .order_by(lot.id)
        ),
        allocations=rows(sa.select(a.lot_id, a.amount).where(a.transaction_id == transaction_id).order_by(a.lot_id)),
        undone_by=list(connection.execute(sa.select(t.id).where(t.undoes == transaction_id).order_by(t.id)).scalars()),
    )


# Telling a customer


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One transaction as a customer sees it: what it did to wallet and debt together."""

    id: int
    programme: str
    asset: str
    kind: str
    event_at: datetime
    recorded_at: datetime
    amount: int
    desired: int
    rule: str | None
    subject: str | None
    author: str | None
    reason: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """What was in the ledger at an instant."""

    customer_id: int
    as_of: datetime
    standing: Mapping[tuple[str, str], Standing]
    lines: Sequence[Line]


def history(connection: Connection, customer_id: int, as_of: datetime | None = None) -> list[Line]:
    """The transactions of a customer, with those of who was merged into them, that were recorded by an instant."""
    t, p, account = ledger_transactions.c, postings.c, ledger_accounts.c
    family = _family(connection, customer_id)
    own = sa.select(
        t.id,
        t.programme,
        t.asset,
        t.kind,
        t.event_at,
        t.recorded_at,
        t.desired,
        t.rule,
        t.subject,
        t.author,
        t.reason,
    ).where(bulk.among(t.customer_id, family))
    if as_of is not None:
        own = own.where(t.recorded_at <= as_of)
    amounts: dict[int, int] = defaultdict(int)
    for row in connection.execute(
        sa.select(p.transaction_id, p.amount)
        .join(ledger_accounts, account.id == p.account_id)
        .where(bulk.among(account.customer_id, family), account.role.in_(["wallet", "debt"]))
    ):
        amounts[row.transaction_id] += row.amount
    return [Line(**row._mapping, amount=amounts[row.id]) for row in connection.execute(own.order_by(t.id))]


def statement(connection: Connection, customer_id: int, as_of: datetime) -> Statement:
    """What the ledger said of a customer at an instant: by what was recorded by then, and with the lots as of then."""
    family = _family(connection, customer_id)
    t, p, account, lot, a = (c.c for c in (ledger_transactions, postings, ledger_accounts, lots, allocations))
    books: dict[tuple[str, str], Book] = defaultdict(lambda: Book(customer_id))
    for row in connection.execute(
        sa.select(account.programme, account.asset, account.role, sa.func.sum(p.amount).label("balance"))
        .select_from(postings)
        .join(ledger_accounts, account.id == p.account_id)
        .join(ledger_transactions, t.id == p.transaction_id)
        .where(bulk.among(account.customer_id, family), t.recorded_at <= as_of)
        .group_by(account.programme, account.asset, account.role)
    ):
        setattr(books[row.programme, row.asset], row.role, int(row.balance))
    drawn: dict[int, int] = defaultdict(int)
    for part in connection.execute(
        sa.select(a.lot_id, a.amount)
        .join(lots, lot.id == a.lot_id)
        .join(ledger_accounts, account.id == lot.account_id)
        .join(ledger_transactions, t.id == a.transaction_id)
        .where(bulk.among(account.customer_id, family), t.recorded_at <= as_of)
    ):
        drawn[part.lot_id] += part.amount
    for one in connection.execute(
        sa.select(lots, account.programme, account.asset)
        .join(ledger_accounts, account.id == lot.account_id)
        .join(ledger_transactions, t.id == lot.transaction_id)
        .where(bulk.among(account.customer_id, family), t.recorded_at <= as_of)
    ):
        books[one.programme, one.asset].lots[one.id] = Lot(
            id=one.id,
            origin_id=one.origin_id,
            subject=None,
            amount=one.amount,
            remaining=one.amount - drawn[one.id],
            earned_at=one.earned_at,
            activates_at=one.activates_at,
            expires_at=one.expires_at,
        )
    return Statement(
        customer_id=customer_id,
        as_of=as_of,
        standing={place: book.standing(as_of) for place, book in sorted(books.items())},
        lines=history(connection, customer_id, as_of),
    )


def _family(connection: Connection, customer_id: int) -> list[int]:
    """A customer, as whom they are known now, and all who were merged into them."""
    family = ask = list({people.kept(connection, [customer_id]).get(customer_id, customer_id)})
    while ask:
        ask = list(connection.execute(sa.select(customers.c.id).where(bulk.among(customers.c.merged_into, ask))).scalars())  # fmt: skip  # noqa: E501
        family = [*family, *ask]
    return family


# What is owed


@dataclass(frozen=True, kw_only=True, slots=True)
class Month:
    """Points earned in a month, and what became of them: all but `remaining` is final."""

    month: str
    issued: int
    spent: int
    expired: int
    clawed_back: int
    remaining: int

    @property
    def breakage(self) -> float:
        """The share of what was issued that expired unused."""
        return self.expired / self.issued if self.issued else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Owed:
    """What is owed to all customers of a programme, in one asset."""

    programme: str
    asset: str
    #: Pending, to be spent, and held for redemptions; without what is past and not booked yet.
    outstanding: int
    pending: int
    held: int
    #: Taken back after it was spent, and not paid yet: zero or below.
    debt: int
    #: What is past by the end of each month, unless it is spent; under "never" what has no such time.
    expiring: Mapping[str, int]
    cohorts: Sequence[Month]


def liability(connection: Connection, now: datetime) -> list[Owed]:
    """What is owed, by programme and asset."""
    account, lot = ledger_accounts.c, lots.c
    places = (account.programme, account.asset)
    totals: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in connection.execute(
        sa.select(*places, account.role, sa.func.sum(account.balance).label("amount")).group_by(*places, account.role)
    ):
        totals[row.programme, row.asset][row.role] = int(row.amount)
    pending = sa.case((lot.activates_at > now, 1), else_=0)
    expiring: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    month = _month(connection, lot.expires_at).label("month")
    for one in connection.execute(
        sa.select(*places, month, pending.label("pending"), sa.func.sum(lot.remaining).label("amount"))
        .join(ledger_accounts, account.id == lot.account_id)
        .where(lot.remaining > sa.literal_column("0"), lot.expires_at.is_(None) | (lot.expires_at > now))
        .group_by(*places, month, pending)
    ):
        place, amount = (one.programme, one.asset), int(one.amount)
        totals[place]["open"] += amount
        totals[place]["pending"] += amount if one.pending else 0
        expiring[place][one.month or "never"] = expiring[place].get(one.month or "never", 0) + amount
    cohorts = _cohorts(connection)
    return [
        Owed(
            programme=place[0],
            asset=place[1],
            outstanding=some["open"] + some["held"],
            pending=some["pending"],
            held=some["held"],
            debt=some["debt"],
            expiring=dict(sorted(expiring[place].items())),
            cohorts=cohorts.get(place, []),
        )
        for place, some in sorted(totals.items())
    ]


def _month(connection: Connection, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The month of an instant, as 2026-03, in UTC."""
    if connection.dialect.name == "postgresql":
        return sa.func.to_char(sa.func.timezone("UTC", column), sa.literal_column("'YYYY-MM'"))
    seconds = sa.type_coerce(column, sa.BigInteger) / sa.literal_column("1000000")
    return sa.func.strftime(sa.literal_column("'%Y-%m'"), seconds, sa.literal_column("'unixepoch'"))


def _cohorts(connection: Connection) -> dict[tuple[str, str], list[Month]]:
    """What became of the points of each month. Lots that moved to another customer count where they were earned."""
    account, lot, a, t = ledger_accounts.c, lots.c, allocations.c, ledger_transactions.c
    place = (account.programme, account.asset)
    month = _month(connection, lot.earned_at).label("month")
    found: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in connection.execute(
        sa.select(
            *place,
            month,
            sa.func.sum(sa.case((lot.origin_id == lot.transaction_id, lot.amount), else_=0)).label("issued"),
            sa.func.sum(lot.remaining).label("remaining"),
        )
        .join(ledger_accounts, account.id == lot.account_id)
        .group_by(*place, month)
    ):
        found[row.programme, row.asset, row.month] |= {"issued": int(row.issued), "remaining": int(row.remaining)}
    for drawn in connection.execute(
        sa.select(*place, month, t.kind, sa.func.sum(a.amount).label("amount"))
        .select_from(allocations)
        .join(lots, lot.id == a.lot_id)
        .join(ledger_accounts, account.id == lot.account_id)
        .join(ledger_transactions, t.id == a.transaction_id)
        .where(t.kind != "transfer")
        .group_by(*place, month, t.kind)
    ):
        name = {"expire": "expired", "clawback": "clawed_back"}.get(drawn.kind, "spent")
        found[drawn.programme, drawn.asset, drawn.month][name] += int(drawn.amount)
    cohorts: dict[tuple[str, str], list[Month]] = defaultdict(list)
    for (programme, asset, when), some in sorted(found.items()):
        cohorts[programme, asset].append(
            Month(
                month=when,
                issued=some["issued"],
                spent=some["spent"],
                expired=some["expired"],
                clawed_back=some["clawed_back"],
                remaining=some["remaining"],
            )
        )
    return cohorts
