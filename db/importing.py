"""Writing history: rows of a file, a batch in one transaction with a constant number of statements.

What is imported is recorded as events of the past: it enters stages and counts orders, but starts no run and wakes
none. Whatever came before, by a webhook or by the same file, is a repeat and changes nothing.

Balances that customers bring along are transactions of the ledger, once for each customer, programme and key.

Locks as `ingest` takes them: identities first, then customers sorted by id.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow import past
from afterglow.importing import (
    BadRow,
    BalanceRow,
    CodeRow,
    ConsentRow,
    CustomerRow,
    OrderRow,
    Row,
    SuppressionRow,
    Word,
)
from afterglow.language.shop import Shop
from afterglow.ledger.entries import Kind
from afterglow.loyalty.expiring import expires_at
from afterglow.matching import Identity, Named, Register
from db import bulk, events, identity, ledger, loyalty, occasions, people, segments
from db.catalog import Release
from db.people import Person
from db.tables import (
    consents,
    customers,
    ledger_transactions,
    lots,
    profiles,
    referral_codes,
    suppressions,
    vanity_codes,
)
from db.tables import events as events_table

_CUSTOMER = ("id", "orders", "spent", "last_order_at", "stage", "stage_at", "since")
_PROFILE = (
    "customer_id",
    "email",
    "phone",
    "first_name",
    "last_name",
    "locale",
    "timezone",
    "attributes",
    "updated_at",
)
#: What a row can say about a person by the same names.
_SAID = ("email", "phone", "first_name", "last_name", "locale", "timezone")


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import.

    Args:
      source: under whose name ids and orders count.
      file: its name, as evidence of consent.
    """

    source: str
    file: str
    secret: bytes = field(repr=False)
    release: Release
    now: datetime

    @property
    def shop(self) -> Shop:
        """The shop in force."""
        return self.release.catalog.shop


@dataclass(kw_only=True)
class Outcome:
    """What became of rows. Each is new, changed something, was known, or is bad."""

    new: int = 0
    changed: int = 0
    known: int = 0
    bad: list[BadRow] = field(default_factory=list)
    #: Events of these rows, new or imported before.
    events: list[int] = field(default_factory=list)
    #: What new balances add up to, by programme and asset.
    sums: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: "Outcome") -> None:
        """Count another batch in."""
        self.new += other.new
        self.changed += other.changed
        self.known += other.known
        self.bad += other.bad
        self.events += other.events
        self.sums += other.sums


_T = TypeVar("_T")


def write(connection: Connection, kind: str, this: Import, rows: Sequence[Any]) -> Outcome:
    """Write rows of a kind of file, in the order of their lines. May be repeated."""
    return _WRITERS[kind](connection, this, rows)


def _customers(connection: Connection, this: Import, rows: Sequence[CustomerRow]) -> Outcome:
    owners = _Owners(connection, this, rows, [_identities(this, row.id, row.email) for row in rows], _born_customer)
    outcome = Outcome(bad=owners.refused)
    happened: list[tuple[CustomerRow, str, str, datetime, dict[str, Any]]] = [
        (row, past.CREATED, row.id or ones[0][1], row.since, {}) for row, ones in owners.rows
    ]
    taken = _record(connection, this, owners, happened, outcome)
    changed = {id(row) for row in owners.learn(_learn_customer)}
    owners.write(connection, taken)
    words = [(owners.owner[id(row)], row.line, row.word) for row, *_ in happened if row.word is not None]
    heard = _hear(connection, this, words)
    for row, *_ in happened:
        if id(row) in owners.makers:
            outcome.new += 1
        elif id(row) in changed or row.line in heard:
            outcome.changed += 1
        else:
            outcome.known += 1
    return outcome


def _orders(connection: Connection, this: Import, rows: Sequence[OrderRow]) -> Outcome:
    event = this.shop.model.order_event
    outcome = Outcome()
    recorded = events.digests(connection, [(this.source, past.past_key(event, row.order_id)) for row in rows])
    fresh: dict[str, OrderRow] = {}
    for row in rows:
        key = past.past_key(event, row.order_id)
        if (this.source, key) in recorded:
            outcome.events.append(recorded[this.source, key][0])
            outcome.known += 1
        elif row.order_id in fresh:
            outcome.bad.append(BadRow(row.line, f"its order stands on line {fresh[row.order_id].line} already"))
        else:
            fresh[row.order_id] = row
    rows = list(fresh.values())
    wanted = [
        [*_identities(this, row.id, row.email), identity.order_identity(this.source, row.order_id)] for row in rows
    ]
    owners = _Owners(connection, this, rows, wanted, _born_order)
    outcome.bad += owners.refused
    happened = [(row, event, row.order_id, row.paid_at, row.payload) for row, _ in owners.rows]
    taken = _record(connection, this, owners, happened, outcome)
    outcome.new += len(taken)
    outcome.known += len(happened) - len(taken)
    owners.keep_only({id(row) for row, *_ in taken})
    owners.learn(_learn_order)
    owners.write(connection, taken)
    # A refund that came before its order waits for it.
    events.free_awaiting(
        connection, ["/".join(identity.order_identity(this.source, row.order_id)) for row, *_ in taken]
    )
    return outcome


def _consent(connection: Connection, this: Import, rows: Sequence[ConsentRow]) -> Outcome:
    outcome = Outcome()
    found = _found(connection, this, rows, outcome)
    heard = _hear(connection, this, [(owner, row.line, row.word) for row, owner in found])
    outcome.new = len(heard)
    outcome.known = len(found) - len(heard)
    return outcome


def _suppressions(connection: Connection, this: Import, rows: Sequence[SuppressionRow]) -> Outcome:
    strictest = _last(
        sorted(rows, key=lambda row: row.covers == "everything"),
        lambda row: identity.address_digest(this.secret, row.email).hex(),
    )
    written = bulk.insert(
        connection,
        suppressions,
        ("channel", "digest", "reason", "covers", "at"),
        [("email", digest, row.reason, row.covers, row.at) for digest, row in sorted(strictest.items())],
        # An import only ever adds: what is suppressed stays so, and for as much as it was.
        on_conflict="(channel, digest) DO UPDATE SET covers = excluded.covers, reason = excluded.reason "
        "WHERE suppressions.covers = 'marketing' AND excluded.covers = 'everything'",
        returning="digest",
    )
    return Outcome(new=len(written), known=len(rows) - len(written))


def _codes(connection: Connection, this: Import, rows: Sequence[CodeRow]) -> Outcome:
    outcome = Outcome()
    found = _found(connection, this, rows, outcome)
    v = vanity_codes.c
    query = sa.select(v.code).where(bulk.among(v.code, sorted({row.code for row, _ in found})))
    chosen = set(connection.execute(query).scalars())
    taken = [row for row, _ in found if row.code in chosen]
    outcome.bad.extend(BadRow(row.line, f"the code {row.code} was chosen for a customer here") for row in taken)
    found = [(row, owner) for row, owner in found if row.code not in chosen]
    written = {
        row[0]
        for row in bulk.insert(
            connection,
            referral_codes,
            ("programme", "customer_id", "code", "made_at"),
            [(row.programme, owner, row.code, row.made_at) for row, owner in found],
            on_conflict="DO NOTHING",
            returning="code",
        )
    }
    c = referral_codes.c
    query = sa.select(c.code, c.programme, c.customer_id)
    stored = {
        row.code: (row.programme, row.customer_id)
        for row in connection.execute(query.where(bulk.among(c.code, sorted({row.code for row, _ in found}))))
    }
    for row, owner in found:
        if stored.get(row.code) != (row.programme, owner):
            whose = "another customer's" if row.code in stored else "not this customer's: there is one already"
            outcome.bad.append(BadRow(row.line, f"the code is {whose} in the programme {row.programme}"))
        elif row.code in written:
            written.discard(row.code)
            outcome.new += 1
        else:
            outcome.known += 1
    return outcome


def _balances(connection: Connection, this: Import, rows: Sequence[BalanceRow]) -> Outcome:
    outcome = Outcome()
    found = _found(connection, this, rows, outcome)
    brought = _brought(connection, [owner for _, owner in found])
    fresh: dict[tuple[int, str, str, str], BalanceRow] = {}
    for row, owner in found:
        name = (owner, row.programme, row.asset, row.key)
        there = brought.get(name, ())
        if not row.amount or any(row.amount == b.granted and row.expires_at in (None, b.expires_at) for b in there):
            outcome.known += 1
        elif there:
            entry = f"see `afterglow ledger explain {there[0].id}`, and correct it with `afterglow ledger adjust`"
            outcome.bad.append(BadRow(row.line, f"another balance was brought in under its key before: {entry}"))
        elif name in fresh:
            reason = f"its customer's balance stands on line {fresh[name].line} already; give each a key of its own"
            outcome.bad.append(BadRow(row.line, reason))
        elif row.expires_at is not None and row.expires_at <= this.now:
            outcome.bad.append(BadRow(row.line, "its balance has expired already"))
        else:
            fresh[name] = row
    ledger.credit(connection, [_opening(this, row, name[0]) for name, row in fresh.items()], this.now)
    outcome.new = len(fresh)
    outcome.sums = Counter(balances(fresh.values()))
    return outcome


def balances(rows: Iterable[Any]) -> dict[tuple[str, str], int]:
    """What balances add up to, by programme and asset; other rows have none."""
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        if isinstance(row, BalanceRow):
            sums[row.programme, row.asset] += row.amount
    return sums


def _brought(connection: Connection, owners: Sequence[int]) -> Mapping[tuple[int, str, str, str], list[Any]]:
    """The balances that these customers, and who was merged into them, brought before; by what is unique."""
    numbers = loyalty.former(connection, owners)
    t = ledger_transactions.c
    found: dict[tuple[int, str, str, str], list[Any]] = defaultdict(list)
    for row in connection.execute(
        sa.select(t.id, t.customer_id, t.programme, t.asset, t.key, t.granted, lots.c.expires_at)
        .join(lots, lots.c.transaction_id == t.id)
        .where(bulk.among(t.customer_id, sorted(numbers)), t.kind == "opening")
        .order_by(t.id)
    ):
        found[numbers[row.customer_id], row.programme, row.asset, row.key].append(row)
    return found


def _opening(this: Import, row: BalanceRow, owner: int) -> ledger.Credit:
    """The balance as new points, to be spent at once. It is no progress towards a tier: nobody says how it came."""
    expiry = this.release.catalog.loyalty[row.programme].expiry
    return ledger.Credit(
        programme=row.programme,
        asset=row.asset,
        customer_id=owner,
        kind=Kind.OPENING,
        key=row.key,
        amount=row.amount,
        event_at=row.at,
        activates_at=row.at,
        expires_at=row.expires_at or expires_at(expiry, row.at, this.shop.zone),
        document_id=this.release.ids["programme"][row.programme],
        inputs={"source": this.source, "line": row.line},
    )


_WRITERS: Mapping[str, Callable[[Connection, Import, Sequence[Any]], Outcome]] = {
    "customers": _customers,
    "orders": _orders,
    "consent": _consent,
    "suppressions": _suppressions,
    "referral-codes": _codes,
    "balances": _balances,
}


class _Owners:
    """Whose each row of customers or orders is. One who is not known is made by the first row that speaks of them."""

    def __init__(
        self,
        connection: Connection,
        this: Import,
        rows: Sequence[Any],
        wanted: Sequence[list[Identity]],
        born: Callable[[Any, Shop], bulk.Row],
    ) -> None:
        self.this = this
        #: The rows that can be taken in, with what they name their customer by.
        self.rows = list(zip(rows, wanted, strict=True))
        self.refused: list[BadRow] = []
        #: Customer and, for those made now, the row that makes them; by the row's identity in memory.
        self.owner: dict[int, int] = {}
        self.makers: dict[int, int] = {}
        self._persons: dict[int, Person] = {}
        self._changed: dict[int, Person] = {}
        self._identify(connection, born)
        self._lock(connection)

    def _identify(self, connection: Connection, born: Callable[[Any, Shop], bulk.Row]) -> None:
        known = identity.known(connection, chain.from_iterable(ones for _, ones in self.rows))
        accounts = defaultdict(set, identity.accounts(connection, known.values()))
        register = Register(owners=known, accounts=accounts)
        numbers = iter(bulk.next_ids(connection, customers, sum(ones[0] not in known for _, ones in self.rows)))
        made: list[bulk.Row] = []
        for row, ones in self.rows:

            def make(row: Any = row) -> int:
                owner = self.makers[id(row)] = next(numbers)
                made.append((owner, *born(row, self.this.shop)))
                return owner

            owner = register.meet(Named(identities=tuple(ones)), make)
            assert owner is not None
            self.owner[id(row)] = owner
        bulk.insert(connection, customers, _CUSTOMER, made)
        settled = identity.settle_claims(connection, register.claimed, {customer for customer, *_ in made})
        if settled.turned_out:  # somebody else met these people at the same moment
            self.makers = {key: owner for key, owner in self.makers.items() if owner not in settled.turned_out}
            self.owner = {key: settled.turned_out.get(owner, owner) for key, owner in self.owner.items()}

    def _lock(self, connection: Connection) -> None:
        """Lock and read the customers who were known before."""
        made = set(self.makers.values())
        known = {owner for owner in self.owner.values() if owner not in made}
        if not known:
            return
        self._persons = people.locked(connection, known)
        for row, _ in self.rows:
            person = self._persons.get(self.owner[id(row)])
            if person is not None and person.forgotten_at is not None:
                self.refused.append(BadRow(row.line, "the customer was forgotten, and stays so"))
        self.rows = [pair for pair in self.rows if not self._is_forgotten(pair[0])]

    def _is_forgotten(self, row: Any) -> bool:
        person = self._persons.get(self.owner[id(row)])
        return person is not None and person.forgotten_at is not None

    def keep_only(self, wanted: set[int]) -> None:
        """Learn from these rows only; a row that made its customer is always among them."""
        self.rows = [pair for pair in self.rows if id(pair[0]) in wanted or id(pair[0]) in self.makers]

    def known(self) -> set[int]:
        """The customers who were known before."""
        return set(self._persons)

    def learn(self, learn: Callable[[Person, Any, Shop], None]) -> list[Any]:
        """Learn what the rows say about customers who are known; the rows that changed something."""
        later = [row for row, _ in self.rows if id(row) not in self.makers]
        of_made = {self.owner[id(row)] for row in later} - self._persons.keys()
        makers = {self.makers[id(row)]: row for row, _ in self.rows if id(row) in self.makers} if of_made else {}
        for customer in of_made:
            self._persons[customer] = _person(customer, makers[customer], self.this.shop)
        changing = []
        for row in later:
            person = self._persons[self.owner[id(row)]]
            before = copy(person)
            before.attributes = dict(person.attributes)
            learn(person, row, self.this.shop)
            if person != before:
                self._changed[person.id] = person
                changing.append(row)
        return changing

    def write(self, connection: Connection, taken: Sequence[tuple[Any, int, datetime]]) -> None:
        """Write profiles of customers made now, stage entries of (row, event, moment), and what was learned."""
        made = [(self.makers[id(row)], row) for row, _ in self.rows if id(row) in self.makers]
        with bulk.at_once(connection):
            bulk.insert(connection, profiles, _PROFILE, [(customer, *_profile(row)) for customer, row in made])
            events.enter_stages(
                connection,
                [(event, row.stage, self.owner[id(row)], at) for row, event, at in taken if row.stage is not None],
            )
        people.save(connection, self._changed, ())
        occasions.look_again(connection, [*self._changed, *(customer for customer, _ in made)], self.this.now)
        if self.this.release.catalog.segments:  # quietly: the past starts nothing
            segments.touch(connection, set(self.owner.values()), self.this.now, tells=False)


def _identities(this: Import, external_id: str | None, email: str | None) -> list[Identity]:
    """What names the customer, strongest first, exactly as a webhook of the source would."""
    ones: list[Identity] = []
    if external_id is not None:
        ones.append((this.source, external_id))
    if email is not None:
        ones.append(identity.email_identity(this.secret, email))
    return ones


def _record(
    connection: Connection,
    this: Import,
    owners: _Owners,
    happened: Sequence[tuple[Any, str, str, datetime, dict[str, Any]]],
    outcome: Outcome,
) -> list[tuple[Any, int, datetime]]:
    """Record events given as (row, name, subject, moment, payload); (row, event, moment of stage) of those new."""
    keys = [past.past_key(name, subject) for _, name, subject, _, _ in happened]
    known = owners.known()
    there: dict[tuple[str, str], tuple[int, bytes]] = {}
    told: set[tuple[int, str, str | None]] = set()
    if known:
        mine = [(row, key) for (row, *_), key in zip(happened, keys, strict=True) if owners.owner[id(row)] in known]
        there = events.digests(connection, [(this.source, key) for _, key in mine])
        names = {name for _, name, *_ in happened}
        told = {
            (customer, name, past.order_of(payload))
            for customer, name, payload in events.happened(connection, known, names, this.source)
        }
    fresh: dict[str, tuple[Any, str, datetime, dict[str, Any]]] = {}
    for (row, name, subject, at, payload), key in zip(happened, keys, strict=True):
        if (this.source, key) in there:
            outcome.events.append(there[this.source, key][0])
        elif key not in fresh and not (
            told and (owners.owner[id(row)], name, None if name == past.CREATED else subject) in told
        ):
            fresh[key] = (row, name, at, payload)
    ids = bulk.next_ids(connection, events_table, len(fresh))
    new = events.record(
        connection,
        [
            (id_, owners.owner[id(row)], this.source, key, name, b"", at, this.now, payload)
            for id_, (key, (row, name, at, payload)) in zip(ids, fresh.items(), strict=True)
        ],
    )
    outcome.events += sorted(new)
    return [
        (row, id_, row.stage_at if isinstance(row, CustomerRow) else at)
        for id_, (row, _, at, _) in zip(ids, fresh.values(), strict=True)
        if id_ in new
    ]


def _born_customer(row: CustomerRow, shop: Shop) -> bulk.Row:
    """A new customer as the row says: orders, spent, last order, stage, since when, known since."""
    return (0, 0, None, row.stage, row.stage_at if row.stage is not None else None, row.since)


def _born_order(row: OrderRow, shop: Shop) -> bulk.Row:
    at = row.paid_at
    return (1, shop.to_minor(row.total), at, row.stage, at if row.stage is not None else None, at)


def _said_at(row: CustomerRow | OrderRow) -> datetime:
    return row.paid_at if isinstance(row, OrderRow) else row.updated_at or row.since


def _profile(row: CustomerRow | OrderRow) -> bulk.Row:
    attributes = row.attributes if isinstance(row, CustomerRow) else {}
    return (
        row.email,
        row.phone,
        row.first_name,
        row.last_name,
        row.locale,
        row.timezone,
        attributes,
        _said_at(row),
    )


def _person(customer: int, row: CustomerRow | OrderRow, shop: Shop) -> Person:
    """A customer made by this row, as it was written."""
    born = _born_order(row, shop) if isinstance(row, OrderRow) else _born_customer(row, shop)
    values: dict[str, Any] = dict(zip(_CUSTOMER[1:], born, strict=True))
    values |= dict(zip(_PROFILE[1:], _profile(row), strict=True))
    values["attributes"] = dict(values["attributes"])
    return replace(people.new(customer, values["since"]), **values)


def _learn_customer(person: Person, row: CustomerRow, shop: Shop) -> None:
    """News overwrites; a row that does not say how new it is only fills gaps."""
    newer = row.updated_at is not None and (person.updated_at is None or row.updated_at > person.updated_at)
    _learn_profile(person, row, newer)
    for name, said in row.attributes.items():
        if newer or name not in person.attributes:
            person.attributes[name] = said
    if newer:
        person.updated_at = row.updated_at
    person.since = min(person.since, row.since)
    if person.stage is not None and not row.is_stage_dated:
        row.stage = None
    _enter(person, row.stage, row.stage_at)


def _learn_order(person: Person, row: OrderRow, shop: Shop) -> None:
    """As `ingest` learns from the event that counts as an order."""
    newer = person.updated_at is None or row.paid_at >= person.updated_at
    _learn_profile(person, row, newer)
    if newer:
        person.updated_at = row.paid_at
    person.orders += 1
    person.spent += shop.to_minor(row.total)
    person.last_order_at = max(person.last_order_at or row.paid_at, row.paid_at)
    person.since = min(person.since, row.paid_at)
    _enter(person, row.stage, row.paid_at)


def _learn_profile(person: Person, row: CustomerRow | OrderRow, newer: bool) -> None:
    for name in _SAID:
        said = getattr(row, name)
        derived = getattr(person, f"{name}_from", None) not in (None, "told")
        if said is not None and (newer or derived or getattr(person, name) is None):
            setattr(person, name, said)
            if name in ("locale", "timezone"):
                setattr(person, f"{name}_from", "told")


def _enter(person: Person, stage: str | None, at: datetime) -> None:
    if stage is not None and (person.stage_at is None or at > person.stage_at):
        person.stage, person.stage_at = stage, at


def _found(connection: Connection, this: Import, rows: Sequence[_T], outcome: Outcome) -> list[tuple[_T, int]]:
    """Rows whose customer is known and locked, with the customer; the others are bad."""
    wanted: list[list[Identity]] = [_identities(this, row.id, row.email) for row in rows]  # type: ignore[attr-defined]
    known = identity.known(connection, chain.from_iterable(wanted))
    found = []
    for row, ones in zip(rows, wanted, strict=True):
        owner = next((known[one] for one in ones if one in known), None)
        if owner is None:
            line: int = row.line  # type: ignore[attr-defined]
            outcome.bad.append(BadRow(line, "it names a customer whom we do not know; import customers first"))
        else:
            found.append((row, owner))
    people.locked(connection, [owner for _, owner in found])
    return found


def _hear(connection: Connection, this: Import, words: Sequence[tuple[int, int, Word]]) -> set[int]:
    """Record words given as (customer, line, word); the lines of those that stand now and did not before.

    The latest word stands. A grant without a moment of its own never takes a customer's other word back: it only
    stands where there is none.
    """
    if not words:
        return set()
    undated = [one for one in words if one[2].state == "granted" and not one[2].is_dated]
    dated = [one for one in words if one[2].state != "granted" or one[2].is_dated]
    later = "WHERE excluded.occurred_at > consents.occurred_at OR (excluded.occurred_at = consents.occurred_at "
    later += "AND excluded.state = 'withdrawn' AND consents.state = 'granted')"
    heard: set[int] = set()
    for ones, conflict in (
        (
            sorted(dated, key=lambda one: (one[2].at, one[2].state == "withdrawn")),
            "(customer_id, channel, topic) DO UPDATE SET state = excluded.state, basis = excluded.basis, "
            f"evidence = excluded.evidence, occurred_at = excluded.occurred_at {later}",
        ),
        (undated, "(customer_id, channel, topic) DO NOTHING"),
    ):
        last = _last(ones, lambda one: (one[0], one[2].topic))
        by_key = {key: line for key, (_, line, _) in last.items()}
        columns = ("customer_id", "channel", "topic", "state", "basis", "evidence", "occurred_at")
        rows = [
            (customer, "email", word.topic, word.state, word.basis, _evidence(this, line, word), word.at)
            for customer, line, word in last.values()
        ]
        written = bulk.insert(connection, consents, columns, rows, on_conflict=conflict, returning="customer_id, topic")
        heard |= {by_key[customer, topic] for customer, topic in written}
    return heard


def _evidence(this: Import, line: int, word: Word) -> dict[str, Any]:
    found: dict[str, Any] = {"source": this.source, "import": this.file, "line": line}
    if word.words is not None:
        found["words"] = word.words
    if not word.is_dated:
        found["dated"] = "by the file"
    return found


def _last(ones: Iterable[_T], key: Callable[[_T], Hashable]) -> dict[Any, _T]:
    """The last of those under each key."""
    return {key(one): one for one in ones}


__all__ = ["Import", "Outcome", "Row", "balances", "write"]
