"""The ledger: every change of points, store credit or coupons, as a transaction that happens once.

`post` takes changes of any kind and number, does them in the order given with a constant number of statements, and
says of each what became of it. A change has a key: the same key with the same content again is a repeat, and gets the
first one's answer; with other content it is a `ConflictError`.

The caller has locked the customers, and nobody of them was merged into another. Beyond that `post` locks their
accounts, sorted, so that what it reads is true until it commits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.ledger import book, chain
from afterglow.ledger.book import Book, Moved, Policy, ShortError, Standing
from afterglow.ledger.entries import CREDITS, House, Kind, Role
from afterglow.ledger.lots import Lot
from db import bulk, people
from db.engine import dump_json, load_json
from db.tables import (
    HoldState,
    allocations,
    customers,
    holds,
    ledger_accounts,
    ledger_transactions,
    lots,
    postings,
)

#: Customer, programme and asset.
Place = tuple[int, str, str]


class ConflictError(AfterglowError):
    """Something else was posted under this key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What every change says. No personal data: ids, names of rules, numbers."""

    #: What makes it happen once, within customer, programme, asset and kind.
    key: str
    #: When it happened.
    event_at: datetime
    #: What caused it, and the programme's file (`documents.id`) and rule by which.
    event_id: int | None = None
    document_id: int | None = None
    rule: str | None = None
    #: What the rule read.
    inputs: Mapping[str, Any] = field(default_factory=dict)
    #: What it adds to the progress towards a tier; negative where it takes away.
    progress: int = 0
    #: What it hangs on, such as "order/shopify/1001".
    subject: str | None = None
    author: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Named(Change):
    programme: str
    asset: str
    customer_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Credit(_Named):
    """New points, as a lot of their own."""

    #: earn, bonus, reward, or adjust (by a person: with author and reason).
    kind: str
    #: Zero is recorded too: that a cap or a budget left nothing.
    amount: int
    activates_at: datetime
    expires_at: datetime | None = None
    #: Before a cap or a budget cut it; as much as `amount` unless given.
    desired: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend(_Named):
    """Points that are spent at once; refused where there are too few."""

    #: redeem, or adjust (taken away by a person: with author and reason).
    kind: str = Kind.REDEEM
    amount: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Reserve(_Named):
    """Points that are held for a redemption; refused where there are too few."""

    amount: int
    #: When they go back unless they were settled.
    expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Settle(Change):
    """What is held is spent, in part or whole; the rest goes back."""

    #: The transaction that reserved it.
    hold_id: int
    #: All unless given; at least 1.
    amount: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Void(Change):
    """What is held goes back."""

    hold_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Return(Change):
    """What was spent goes back to the lots it came from, with the times that those have."""

    #: The redemption: a `Spend`, or the transaction that reserved what was settled.
    transaction_id: int
    #: All that was not returned yet, unless given.
    amount: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Clawback(_Named):
    """Points that are taken back, of what hangs on the same subject first. What is short is desired and not granted."""

    amount: int
    policy: Policy = Policy.WITHIN_BALANCE
    #: The transaction that this one undoes.
    undoes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Posted:
    """A change that is in the ledger."""

    id: int
    #: What moved: less than desired where a cap or a policy cut it.
    granted: int
    #: Whether it was there already.
    was_there: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A change that did not happen, and left no trace."""

    reason: str
    #: What could be spent, where that was too little.
    spendable: int | None = None


Outcome = Posted | Refused


def post(connection: Connection, wanted: Sequence[Change], now: datetime) -> list[Outcome]:
    """Do changes in their order, and say what became of each.

    Raises:
      ConflictError: another change was posted under the same key. Nothing of the batch happens.
      ValueError: an amount is negative, or a customer, hold or transaction is not there.
    """
    if not wanted:
        return []
    batch = _Batch(connection, now)
    items = _items(connection, wanted)
    batch.lock({item.place: _roles(item.change) for item in items}, items)
    there = _there(connection, items)
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
    batch = _Batch(connection, now)
    batch.read(sorted(set(customer_ids)))
    batch.load_lots([account.id for account in batch.accounts.values() if account.role == Role.WALLET], [])
    batch.load_timed_out()
    for hold in batch.timed_out:
        batch.books[hold.place].settle(hold.drawn, hold.amount, 0)
    return {place: one.standing(now) for place, one in batch.books.items()}


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


#: Written into the statements, so that the indexes of lots with something left can be used.
_NONE: sa.ColumnElement[int] = sa.literal_column("0")


def expire(connection: Connection, now: datetime, limit: int = 1000) -> int:
    """Book that lots are past, of customers whom nobody else works on; how many lots. Fewer than `limit`: all done.

    For tidiness: a lot that is past cannot be spent, booked or not.
    """
    a = ledger_accounts.c
    due = connection.execute(
        sa.select(lots.c.id, a.customer_id)
        .join(ledger_accounts, a.id == lots.c.account_id)
        .join(customers, customers.c.id == a.customer_id)
        .where(lots.c.remaining > _NONE, lots.c.expires_at <= now)
        .order_by(lots.c.expires_at)
        .limit(limit)
        .with_for_update(of=customers, key_share=True, skip_locked=True)
    ).all()
    if not due:
        return 0
    batch = _Batch(connection, now)
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
    batch = _Batch(connection, now)
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
    batch = _Batch(connection, now)
    batch.read([kept, merged], lock=True)
    theirs = [place for place in batch.books if place[0] == merged]
    if not theirs:
        return []
    roles = {(kept, *place[1:]): {Role.WALLET, Role.DEBT} for place in theirs}
    batch.make(roles)
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
    batch = _Batch(connection, now)
    batch.read(sorted({one for row in rows for one in (row.customer_id, row.inputs["from"])}), lock=True)
    pairs = [(int(old), new) for row in rows for old, new in row.inputs["lots"].items()]
    batch.load_lots([], [lot for pair in pairs for lot in pair])
    batch.take_ids(len(rows), 0)
    for row in rows:
        batch.transfer_back(row)
    batch.write()


# One batch


@dataclass(frozen=True, slots=True)
class _Item:
    """A change, and whose it is."""

    change: Change
    place: Place
    kind: str
    digest: bytes
    target: Any = None

    @property
    def name(self) -> tuple[Any, ...]:
        """What is unique."""
        return (self.change.key, *self.place, self.kind)


@dataclass(slots=True)
class _Account:
    """An account as it is, and as the batch leaves it."""

    id: int
    role: str
    balance: int
    entries: int
    chain: bytes
    is_changed: bool = False


@dataclass(slots=True)
class _Hold:
    id: int
    place: Place
    account_id: int
    amount: int
    state: str
    expires_at: datetime
    settled: int = 0
    #: What was drawn from which lot.
    drawn: dict[int, int] = field(default_factory=dict)
    is_new: bool = False


_KINDS: Mapping[type[Change], str] = {
    Reserve: Kind.RESERVE,
    Settle: Kind.SETTLE,
    Void: Kind.VOID,
    Return: Kind.RETURN,
    Clawback: Kind.CLAWBACK,
}
_COLUMNS = tuple(column.name for column in ledger_transactions.columns)
_LOT = ("id", "account_id", "transaction_id", "origin_id", "amount", "remaining", "earned_at", "activates_at", "expires_at")  # fmt: skip  # noqa: E501


def _items(connection: Connection, wanted: Sequence[Change]) -> list[_Item]:
    ids = [target for one in wanted if (target := _target(one)) is not None]
    t = ledger_transactions.c
    found = {}
    if ids:
        query = sa.select(t.id, t.customer_id, t.programme, t.asset, t.kind, t.granted).where(bulk.among(t.id, ids))
        found = {row.id: row for row in connection.execute(query)}
    return [_item(one, found) for one in wanted]


def _target(change: Change) -> int | None:
    match change:
        case Settle() | Void():
            return change.hold_id
        case Return():
            return change.transaction_id
    return None


def _item(change: Change, targets: Mapping[int, Any]) -> _Item:
    amount = getattr(change, "amount", None)
    if amount is not None and amount < (0 if isinstance(change, Credit | Clawback) else 1):
        raise ValueError(f"{amount} is no amount of a {type(change).__name__.lower()}.")
    content = {name: getattr(change, name) for name in type(change).__dataclass_fields__}
    content["inputs"] = chain.plain(load_json(dump_json(change.inputs)))
    digest = chain.digest([type(change).__name__, content])
    if isinstance(change, _Named):
        kind = _KINDS.get(type(change)) or change.kind  # type: ignore[attr-defined]
        allowed = {Credit: CREDITS, Spend: {Kind.REDEEM, Kind.ADJUST}}.get(type(change))
        if allowed is not None and kind not in allowed:
            raise ValueError(f"{kind} is no kind of a {type(change).__name__.lower()}.")
        return _Item(change, (change.customer_id, change.programme, change.asset), str(kind), digest)
    target = targets.get(_target(change) or 0)
    if target is None or target.kind not in (
        (Kind.REDEEM, Kind.RESERVE) if isinstance(change, Return) else (Kind.RESERVE,)
    ):
        raise ValueError(f"Transaction {_target(change)} is none that a {type(change).__name__.lower()} can be about.")
    return _Item(change, (target.customer_id, target.programme, target.asset), _KINDS[type(change)], digest, target)


def _roles(change: Change) -> set[Role]:
    """The accounts that a change may need; those that are there are read in any case."""
    match change:
        case Reserve():
            return {Role.WALLET, Role.HELD}
        case Clawback(policy=Policy.UNLIMITED):
            return {Role.WALLET, Role.DEBT}
    return {Role.WALLET}


def _there(connection: Connection, items: Sequence[_Item]) -> dict[tuple[Any, ...], tuple[int, int, bytes]]:
    """Id, granted amount and digest of what was posted before under the same names."""
    t = ledger_transactions.c
    rows = connection.execute(
        sa.select(t.id, t.granted, t.digest, t.key, t.customer_id, t.programme, t.asset, t.kind).where(
            bulk.among(t.key, sorted({item.change.key for item in items}))
        )
    )
    names = {item.name for item in items}
    return {tuple(row[3:]): (row.id, row.granted, row.digest) for row in rows if tuple(row[3:]) in names}


def _times(lot: Lot) -> tuple[datetime, datetime, datetime | None]:
    return lot.earned_at, lot.activates_at, lot.expires_at


class _Batch:
    """The accounts, lots and holds that a batch works with, and the rows that it will write."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self.connection, self.now = connection, now
        self.accounts: dict[tuple[int, str, str, str], _Account] = {}
        self.books: dict[Place, Book] = {}
        #: Of every lot that is known whose it is.
        self.lot_places: dict[int, Place] = {}
        self.holds: dict[int, _Hold] = {}
        self.timed_out: list[_Hold] = []
        #: By redemption: what of it lots gave and did not get back, and how much was returned.
        self.spent: dict[int, tuple[dict[int, int], int]] = {}
        #: By hold that is settled: how much of it was spent.
        self.settled_amounts: dict[int, int] = {}
        self._ids: Iterator[int] = iter(())
        self._lot_ids: Iterator[int] = iter(())
        self._transactions: list[bulk.Row] = []
        self._postings: list[bulk.Row] = []
        self._opened: list[tuple[int, int, Lot]] = []
        self._allocations: list[bulk.Row] = []
        self._drawn: set[int] = set()
        self._settled: list[_Hold] = []

    # Reading

    def read(self, customer_ids: Sequence[int], *, lock: bool = False) -> None:
        """Read all accounts of customers, locked in the order of their ids where they will be written."""
        a = ledger_accounts.c
        query = sa.select(ledger_accounts).where(bulk.among(a.customer_id, customer_ids)).order_by(a.id)
        if lock:
            query = query.with_for_update(key_share=True)
        for row in self.connection.execute(query):
            place = (row.customer_id, row.programme, row.asset)
            self.accounts[*place, row.role] = _Account(row.id, row.role, row.balance, row.entries, row.chain)
            mine = self.books.setdefault(place, Book(row.customer_id))
            setattr(mine, row.role, row.balance)

    def make(self, roles: Mapping[Place, Iterable[Role]]) -> None:
        """Make the accounts that are not there yet, and lock all."""
        missing = sorted(
            (*place, role.value)
            for place, some in roles.items()
            for role in some
            if (*place, role.value) not in self.accounts
        )
        if missing:
            bulk.insert(
                self.connection,
                ledger_accounts,
                ("customer_id", "programme", "asset", "role", "balance", "entries", "chain"),
                [(*name, 0, 0, chain.START) for name in missing],
                on_conflict="DO NOTHING",
            )
            self.read(sorted({place[0] for place in roles}), lock=True)

    def lock(self, roles: Mapping[Place, Iterable[Role]], items: Sequence[_Item]) -> None:
        """Make and lock the accounts of these items."""
        all_: dict[Place, set[Role]] = {place: set(some) for place, some in roles.items()}
        for item in items:
            all_[item.place] |= _roles(item.change)
        self.read(sorted({place[0] for place in all_}), lock=True)
        self.make(all_)

    def load(self, items: Sequence[_Item]) -> None:
        """Load what these items need: lots save for credits, holds, what redemptions drew."""
        busy = {item.place for item in items if not isinstance(item.change, Credit)}
        reserves = {item.change.hold_id for item in items if isinstance(item.change, Settle | Void)}
        redemptions = {item.change.transaction_id for item in items if isinstance(item.change, Return)}
        if busy:
            self.load_holds(ids=reserves, timed_out_of={place[0] for place in busy})
            returnable = self._load_spent(redemptions)
            drawn = {lot for hold in self.holds.values() for lot in hold.drawn} | returnable
            wallets = [self.accounts[*place, Role.WALLET.value].id for place in busy]
            self.load_lots(wallets, drawn)
        credits_ = sum(isinstance(item.change, Credit) for item in items)
        self.take_ids(len(items) + len(self.timed_out), credits_)
        self.void_timed_out()

    def load_lots(self, account_ids: Iterable[int], ids: Iterable[int]) -> None:
        """Load lots with something left of these accounts, and these lots."""
        places = {account.id: name[:3] for name, account in self.accounts.items()}
        t = ledger_transactions.c
        columns = [lots.c[name] for name in _LOT]
        query = sa.select(*columns, t.subject).join(ledger_transactions, t.id == lots.c.origin_id)
        wanted, known = sorted(set(account_ids)), sorted(set(ids))
        rows: list[Any] = []
        if wanted:
            rows += self.connection.execute(
                query.where(bulk.among(lots.c.account_id, wanted), lots.c.remaining > _NONE)
            ).all()
        if known:
            rows += self.connection.execute(query.where(bulk.among(lots.c.id, known))).all()
        for row in rows:
            place = places[row.account_id]
            self.lot_places[row.id] = place
            self.books[place].lots.setdefault(
                row.id,
                Lot(
                    id=row.id,
                    origin_id=row.origin_id,
                    subject=row.subject,
                    amount=row.amount,
                    remaining=row.remaining,
                    earned_at=row.earned_at,
                    activates_at=row.activates_at,
                    expires_at=row.expires_at,
                ),
            )

    def load_timed_out(self) -> None:
        """Load the holds of the accounts at hand that timed out, with the lots they drew on."""
        self.load_holds(timed_out_of={place[0] for place in self.books})
        self.load_lots([], [lot for hold in self.timed_out for lot in hold.drawn])

    def load_holds(
        self, *, ids: Iterable[int] = (), timed_out_of: Iterable[int] = (), open_of: Iterable[int] = ()
    ) -> None:
        """Load holds by id, those of customers that timed out, and all open ones of customers (as if timed out)."""
        h = holds.c
        helds = {account.id: name[:3] for name, account in self.accounts.items() if account.role == Role.HELD}
        late, any_, known = set(timed_out_of), set(open_of), sorted(set(ids))
        theirs = [id_ for id_, place in helds.items() if place[0] in late | any_]
        rows: list[Any] = []
        if theirs:
            open_ = sa.select(holds).where(bulk.among(h.account_id, theirs), h.state == "held").order_by(h.transaction_id)  # fmt: skip  # noqa: E501
            rows += [
                row
                for row in self.connection.execute(open_)
                if row.expires_at <= self.now or helds[row.account_id][0] in any_
            ]
        ended = {row.transaction_id for row in rows}
        if known:
            rows += self.connection.execute(sa.select(holds).where(bulk.among(h.transaction_id, known))).all()
        for row in rows:
            hold = _Hold(
                row.transaction_id, helds[row.account_id], row.account_id, row.amount, row.state, row.expires_at
            )
            if self.holds.setdefault(hold.id, hold) is hold and hold.id in ended:
                self.timed_out.append(hold)
        for row in self._drawn_by(self.holds):
            self.holds[row.transaction_id].drawn[row.lot_id] = row.amount

    def _drawn_by(self, transaction_ids: Iterable[int]) -> Sequence[Any]:
        wanted = sorted(set(transaction_ids))
        if not wanted:
            return ()
        c = allocations.c
        return self.connection.execute(sa.select(allocations).where(bulk.among(c.transaction_id, wanted))).all()

    def _load_spent(self, redemptions: Iterable[int]) -> set[int]:
        """Load what redemptions drew and did not return; the lots."""
        wanted = sorted(set(redemptions))
        if not wanted:
            return set()
        t = ledger_transactions.c
        later = self.connection.execute(
            sa.select(t.id, t.undoes, t.kind, t.granted).where(bulk.among(t.undoes, wanted))
        ).all()
        of = {id_: id_ for id_ in wanted} | {row.id: row.undoes for row in later}
        returned = dict.fromkeys(wanted, 0)
        for row in later:
            returned[row.undoes] += row.granted if row.kind == Kind.RETURN else 0
        drawn: dict[int, dict[int, int]] = {id_: {} for id_ in wanted}
        for row in self._drawn_by(of):
            mine = drawn[of[row.transaction_id]]
            mine[row.lot_id] = mine.get(row.lot_id, 0) + row.amount
        h = holds.c
        settled = self.connection.execute(
            sa.select(h.transaction_id, h.settled).where(bulk.among(h.transaction_id, wanted))
        )
        self.settled_amounts = {row.transaction_id: row.settled for row in settled}
        self.spent = {id_: (drawn[id_], returned[id_]) for id_ in wanted}
        return {lot for some in drawn.values() for lot in some}

    def take_ids(self, transactions: int, opened: int) -> None:
        """Take ids for what is to be written."""
        self._ids = iter(bulk.next_ids(self.connection, ledger_transactions, transactions))
        self._lot_ids = iter(bulk.next_ids(self.connection, lots, opened))

    # Doing

    def do(self, item: _Item) -> Outcome:
        """Do one change in memory."""
        mine, change = self.books[item.place], item.change
        try:
            match change:
                case Credit():
                    return self._credit(item, mine, change)
                case Spend():
                    house = House.ADJUSTED if change.kind == Kind.ADJUST else House.SPENT
                    return self._record(item, mine.spend(change.amount, self.now, house), change.amount)
                case Reserve():
                    return self._reserve(item, mine, change)
                case Settle() | Void():
                    return self._settle(item, mine, change)
                case Return():
                    return self._return(item, mine, change)
                case Clawback():
                    moved = mine.claw_back(change.amount, change.subject, change.policy, self.now)
                    return self._record(item, moved, change.amount, undoes=change.undoes)
        except ShortError as error:
            return Refused(reason=str(error), spendable=error.spendable)
        raise TypeError(f"{type(change).__name__} is no change of the ledger")

    def _credit(self, item: _Item, mine: Book, change: Credit) -> Outcome:
        id_ = next(self._ids)
        lot = Lot(
            id=next(self._lot_ids),
            origin_id=id_,
            subject=change.subject,
            amount=change.amount,
            remaining=change.amount,
            earned_at=change.event_at,
            activates_at=change.activates_at,
            expires_at=change.expires_at,
        )
        moved = mine.credit(lot, House.ADJUSTED if change.kind == Kind.ADJUST else House.ISSUED)
        return self._record(item, moved, change.amount if change.desired is None else change.desired, id_)

    def _reserve(self, item: _Item, mine: Book, change: Reserve) -> Outcome:
        moved = mine.spend(change.amount, self.now, Role.HELD)
        posted = self._record(item, moved, change.amount)
        account = self.accounts[*item.place, Role.HELD.value]
        self.holds[posted.id] = _Hold(
            id=posted.id,
            place=item.place,
            account_id=account.id,
            amount=change.amount,
            state=HoldState.HELD,
            expires_at=change.expires_at,
            drawn=dict(moved.allocations),
            is_new=True,
        )
        return posted

    def _settle(self, item: _Item, mine: Book, change: Settle | Void) -> Outcome:
        hold = self.holds[change.hold_id]
        if hold.state != HoldState.HELD:
            return Refused(reason=f"Hold {hold.id} is {hold.state.replace('_', ' ')}.")
        amount = 0
        if isinstance(change, Settle):
            amount = hold.amount if change.amount is None else change.amount
            if amount > hold.amount:
                return Refused(reason=f"Hold {hold.id} is of {hold.amount}, less than {amount}.")
        moved = mine.settle(hold.drawn, hold.amount, amount)
        hold.state, hold.settled = (HoldState.SETTLED, amount) if amount else (HoldState.VOID, 0)
        self._settled.append(hold)
        return self._record(item, moved, moved.granted, undoes=hold.id)

    def _return(self, item: _Item, mine: Book, change: Return) -> Outcome:
        drawn, returned = self.spent[change.transaction_id]
        is_hold = item.target.kind == Kind.RESERVE
        spent = self.settled_amounts.get(change.transaction_id, 0) if is_hold else item.target.granted
        left = spent - returned
        amount = left if change.amount is None else change.amount
        if not 0 < amount <= left:
            return Refused(reason=f"Of redemption {change.transaction_id} {left} can be returned, and not {amount}.")
        moved = mine.give_back(drawn, amount)
        for lot, part in moved.allocations.items():
            drawn[lot] += part
        self.spent[change.transaction_id] = (drawn, returned + amount)
        return self._record(item, moved, amount, undoes=change.transaction_id)

    def void_timed_out(self, state: HoldState = HoldState.TIMED_OUT) -> None:
        """Let the holds go back that timed out."""
        for hold in self.timed_out:
            moved = self.books[hold.place].settle(hold.drawn, hold.amount, 0)
            hold.state = state
            self._settled.append(hold)
            at = min(hold.expires_at, self.now)
            self._ours(hold.place, Kind.VOID, f"hold {hold.id}", at, moved, undoes=hold.id)

    def expire(self) -> int:
        """Book that the lots at hand are past: a transaction for each account and instant. How many lots."""
        groups = []
        for place, mine in self.books.items():
            past = [lot for lot in mine.lots.values() if lot.remaining and lot.is_past(self.now)]
            past.sort(key=lambda lot: (lot.expires_at, lot.id))
            groups += [(place, at, list(some)) for at, some in groupby(past, key=lambda lot: lot.expires_at)]
        self.take_ids(len(groups), 0)
        for place, at, some in groups:
            entry = self.accounts[*place, Role.WALLET.value].entries + 1
            # A lot that got something back is past once more: the number of the entry tells the two apart.
            key = f"lot {some[0].id} at entry {entry}"
            self._ours(place, Kind.EXPIRE, key, at or self.now, self.books[place].expire(some))
        self.write()
        return sum(len(some) for _, _, some in groups)

    def transfer(self, origin: Place, to: Place) -> int | None:
        """Move all of one book to another; the transaction, where there was something."""
        kept, merged = self.books[to], self.books[origin]
        ids = [next(self._lot_ids) for lot in merged.lots.values() if lot.remaining]
        moved, pairs = book.merge(kept, merged, self.now, ids)
        if moved.transaction is None:
            return None
        entry = max(self.accounts[*origin, role.value].entries for role in Role if (*origin, role.value) in self.accounts)  # fmt: skip  # noqa: E501
        key = f"customer {origin[0]} at entry {entry + 1}"
        inputs = {"from": origin[0], "lots": {str(old): new for old, new in pairs.items()}}
        return self._ours(to, Kind.TRANSFER, key, self.now, moved, inputs=inputs)

    def transfer_back(self, row: Any) -> None:
        """Undo a transfer as far as it is still there."""
        to, origin = (row.customer_id, row.programme, row.asset), (row.inputs["from"], row.programme, row.asset)
        kept, merged = self.books[to], self.books[origin]
        pairs = {int(old): new for old, new in row.inputs["lots"].items()}
        moved = book.part(kept, merged, pairs)
        key = f"undoes {row.id}"
        self._ours(to, Kind.TRANSFER, key, self.now, moved, inputs={"from": to[0], "lots": {}}, undoes=row.id)

    # Writing

    def _ours(
        self,
        place: Place,
        kind: str,
        key: str,
        at: datetime,
        moved: Moved,
        *,
        inputs: Mapping[str, Any] | None = None,
        undoes: int | None = None,
    ) -> int:
        """Record a change that nobody asked for by a key."""
        change = Change(key=key, event_at=at, inputs=inputs or {})
        item = _Item(change, place, kind, chain.digest([kind, key, moved.granted]))
        return self._record(item, moved, moved.granted, undoes=undoes).id

    def _record(
        self, item: _Item, moved: Moved, desired: int, id_: int | None = None, *, undoes: int | None = None
    ) -> Posted:
        """Keep what is to be written of one transaction, sealed and chained."""
        id_ = next(self._ids) if id_ is None else id_
        change = item.change
        columns: dict[str, Any] = {
            "id": id_,
            "programme": item.place[1],
            "asset": item.place[2],
            "customer_id": item.place[0],
            "kind": str(item.kind),
            "key": change.key,
            "digest": item.digest,
            "event_at": change.event_at,
            "recorded_at": self.now,
            "event_id": change.event_id,
            "document_id": change.document_id,
            "rule": change.rule,
            "inputs": load_json(dump_json(change.inputs)),
            "desired": desired,
            "granted": moved.granted,
            "progress": change.progress,
            "subject": change.subject,
            "undoes": undoes,
            "author": change.author,
            "reason": change.reason,
        }
        self._transactions.append(tuple(columns[name] for name in _COLUMNS))
        opened = []
        for lot in moved.opened:
            owner = self.lot_places.get(lot.id) or item.place
            self.lot_places[lot.id] = owner
            account_id = self.accounts[*owner, Role.WALLET.value].id
            opened.append(
                (lot.id, account_id, lot.origin_id, lot.amount, lot.earned_at, lot.activates_at, lot.expires_at)
            )
            self._opened.append((id_, account_id, lot))
        self._allocations += [(id_, lot_id, amount) for lot_id, amount in moved.allocations.items()]
        self._drawn |= moved.allocations.keys()
        if moved.transaction is not None:
            legs: list[tuple[_Account | None, str, int]] = []
            for posting in moved.transaction.postings:
                account = None
                if posting.customer_id is not None:
                    account = self.accounts[posting.customer_id, *item.place[1:], posting.place.value]
                legs.append((account, posting.place.value, posting.amount))
            sealed = chain.seal(
                columns,
                [(account.id if account else place, amount) for account, place, amount in legs],
                opened,
                moved.allocations,
            )
            for n, (account, place, amount) in enumerate(legs, 1):
                self._postings.append((id_, n, *self._entry(account, place, amount, sealed)))
        return Posted(id=id_, granted=moved.granted, was_there=False)

    def _entry(self, account: _Account | None, place: str, amount: int, sealed: bytes) -> bulk.Row:
        """account_id, house, amount, entry, balance and chain of a posting."""
        if account is None:
            return (None, place, amount, None, None, None)
        account.balance += amount
        account.entries += 1
        account.chain = chain.link(account.chain, sealed, account.id, account.entries, amount, account.balance)
        account.is_changed = True
        return (account.id, None, amount, account.entries, account.balance, account.chain)

    def write(self) -> None:
        """Write everything."""
        known = {lot.id: lot for one in self.books.values() for lot in one.lots.values()}
        new = {lot.id for _, _, lot in self._opened}
        fresh = [hold for hold in self.holds.values() if hold.is_new]
        with bulk.at_once(self.connection):
            bulk.insert(self.connection, ledger_transactions, _COLUMNS, self._transactions)
            bulk.insert(
                self.connection,
                lots,
                _LOT,
                [
                    (lot.id, account_id, id_, lot.origin_id, lot.amount, known[lot.id].remaining, *_times(lot))
                    for id_, account_id, lot in self._opened
                ],
            )
            bulk.insert(
                self.connection,
                postings,
                ("transaction_id", "n", "account_id", "house", "amount", "entry", "balance", "chain"),
                self._postings,
            )
            bulk.insert(self.connection, allocations, ("transaction_id", "lot_id", "amount"), self._allocations)
            bulk.insert(
                self.connection,
                holds,
                ("transaction_id", "account_id", "amount", "settled", "state", "expires_at"),
                [(one.id, one.account_id, one.amount, one.settled, one.state, one.expires_at) for one in fresh],
            )
            bulk.update(
                self.connection,
                lots,
                ("id", "remaining"),
                [(id_, known[id_].remaining) for id_ in sorted(self._drawn - new)],
            )
            bulk.update(
                self.connection,
                ledger_accounts,
                ("id", "balance", "entries", "chain"),
                [
                    (account.id, account.balance, account.entries, account.chain)
                    for account in self.accounts.values()
                    if account.is_changed
                ],
            )
            bulk.update(
                self.connection,
                holds,
                ("transaction_id", "state", "settled"),
                [(hold.id, hold.state, hold.settled) for hold in self._settled if not hold.is_new],
            )
