"""One batch of changes: accounts are locked and read, all is done in memory, and written as one statement."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.ledger import book, chain
from afterglow.ledger.book import Book, Moved, Policy, ShortError
from afterglow.ledger.changes import (
    Change,
    Clawback,
    Credit,
    Named,
    Outcome,
    Posted,
    Refused,
    Reserve,
    Return,
    Settle,
    Spend,
    Void,
)
from afterglow.ledger.entries import CREDITS, House, Kind, Role
from afterglow.ledger.lots import Lot
from db import bulk
from db.engine import dump_json, load_json
from db.tables import HoldState, allocations, holds, ledger_accounts, ledger_transactions, lots, postings

#: Customer, programme and asset.
Place = tuple[int, str, str]

#: Written into the statements, so that the indexes of lots with something left can be used.
NONE: sa.ColumnElement[int] = sa.literal_column("0")


@dataclass(frozen=True, slots=True)
class Item:
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
    nothings: int
    nothings_chain: bytes
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


def items(connection: Connection, wanted: Sequence[Change]) -> list[Item]:
    ids = [target for one in wanted if (target := _target(one)) is not None]
    t = ledger_transactions.c
    found = {}
    if ids:
        query = sa.select(t.id, t.customer_id, t.programme, t.asset, t.kind, t.granted).where(bulk.among(t.id, ids))
        found = {row.id: row for row in connection.execute(query)}
    return [item_of(one, found) for one in wanted]


def _target(change: Change) -> int | None:
    match change:
        case Settle() | Void():
            return change.hold_id
        case Return():
            return change.transaction_id
    return None


def item_of(change: Change, targets: Mapping[int, Any]) -> Item:
    amount = getattr(change, "amount", None)
    if amount is not None and amount < (0 if isinstance(change, Credit | Clawback) else 1):
        raise ValueError(f"{amount} is no amount of a {type(change).__name__.lower()}.")
    content = {name: getattr(change, name) for name in type(change).__dataclass_fields__}
    content["inputs"] = chain.plain(load_json(dump_json(change.inputs)))
    digest = chain.digest([type(change).__name__, content])
    if isinstance(change, Named):
        kind = _KINDS.get(type(change)) or change.kind  # type: ignore[attr-defined]
        allowed = {Credit: CREDITS, Spend: {Kind.REDEEM, Kind.ADJUST}}.get(type(change))
        if allowed is not None and kind not in allowed:
            raise ValueError(f"{kind} is no kind of a {type(change).__name__.lower()}.")
        return Item(change, (change.customer_id, change.programme, change.asset), str(kind), digest)
    target = targets.get(_target(change) or 0)
    if target is None or target.kind not in (
        (Kind.REDEEM, Kind.RESERVE) if isinstance(change, Return) else (Kind.RESERVE,)
    ):
        raise ValueError(f"Transaction {_target(change)} is none that a {type(change).__name__.lower()} can be about.")
    return Item(change, (target.customer_id, target.programme, target.asset), _KINDS[type(change)], digest, target)


def roles_of(change: Change) -> set[Role]:
    """The accounts that a change may need; those that are there are read in any case."""
    match change:
        case Reserve():
            return {Role.WALLET, Role.HELD}
        case Clawback(policy=Policy.UNLIMITED):
            return {Role.WALLET, Role.DEBT}
    return {Role.WALLET}


def there(connection: Connection, items: Sequence[Item]) -> dict[tuple[Any, ...], tuple[int, int, bytes]]:
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


class Batch:
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
            self.accounts[*place, row.role] = _Account(
                row.id, row.role, row.balance, row.entries, row.chain, row.nothings, row.nothings_chain or chain.START
            )
            mine = self.books.setdefault(place, Book(row.customer_id))
            setattr(mine, row.role, row.balance)

    def lock(self, items: Sequence[Item]) -> None:
        """Make and lock the accounts of these items."""
        roles: dict[Place, set[Role]] = {}
        for item in items:
            roles.setdefault(item.place, set()).update(roles_of(item.change))
        self.make(roles)

    def make(self, roles: Mapping[Place, Iterable[Role]]) -> None:
        """Make the accounts that are not there yet, and only then lock all, so that two never wait for each other."""
        whose = sorted({place[0] for place in roles})
        a = ledger_accounts.c
        there = {
            tuple(row)
            for row in self.connection.execute(
                sa.select(a.customer_id, a.programme, a.asset, a.role).where(bulk.among(a.customer_id, whose))
            )
        }
        wanted = {(*place, role.value) for place, some in roles.items() for role in some}
        bulk.insert(
            self.connection,
            ledger_accounts,
            ("customer_id", "programme", "asset", "role", "balance", "entries", "chain"),
            [(*name, 0, 0, chain.START) for name in sorted(wanted - there)],
            on_conflict="DO NOTHING",
        )
        self.read(whose, lock=True)

    def load(self, items: Sequence[Item]) -> None:
        """Load what these items need: lots, holds, what redemptions drew; for a credit only where there is debt."""
        busy = {item.place for item in items if not isinstance(item.change, Credit) or self.books[item.place].debt}
        reserves = {item.change.hold_id for item in items if isinstance(item.change, Settle | Void)}
        redemptions = {item.change.transaction_id for item in items if isinstance(item.change, Return)}
        if busy:
            self.load_holds(ids=reserves, timed_out_of={place[0] for place in busy})
            returnable = self._load_spent(redemptions)
            drawn = {lot for hold in self.holds.values() for lot in hold.drawn} | returnable
            wallets = [self.accounts[*place, Role.WALLET.value].id for place in busy]
            self.load_lots(wallets, drawn)
        credits_ = sum(isinstance(item.change, Credit) for item in items)
        self.take_ids(len({item.name for item in items}) + len(self.timed_out), credits_)
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
                query.where(bulk.among(lots.c.account_id, wanted), lots.c.remaining > NONE)
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

    def do(self, item: Item) -> Outcome:
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

    def _credit(self, item: Item, mine: Book, change: Credit) -> Outcome:
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

    def _reserve(self, item: Item, mine: Book, change: Reserve) -> Outcome:
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

    def _settle(self, item: Item, mine: Book, change: Settle | Void) -> Outcome:
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

    def _return(self, item: Item, mine: Book, change: Return) -> Outcome:
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
        item = Item(change, place, kind, chain.digest([kind, key, moved.granted]))
        return self._record(item, moved, moved.granted, undoes=undoes).id

    def _record(
        self, item: Item, moved: Moved, desired: int, id_: int | None = None, *, undoes: int | None = None
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
        legs: list[tuple[_Account | None, str, int]] = []
        if moved.transaction is not None:
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
        if not legs:
            self._nothing(self.accounts[*item.place, Role.WALLET.value], sealed)
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

    @staticmethod
    def _nothing(wallet: _Account, sealed: bytes) -> None:
        """Count a transaction that moved nothing, so that it is missed where it is gone."""
        wallet.nothings += 1
        wallet.nothings_chain = chain.link_nothing(wallet.nothings_chain, sealed, wallet.id, wallet.nothings)
        wallet.is_changed = True

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
                ("id", "balance", "entries", "chain", "nothings", "nothings_chain"),
                [
                    (
                        account.id,
                        account.balance,
                        account.entries,
                        account.chain,
                        account.nothings,
                        account.nothings_chain,
                    )
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
