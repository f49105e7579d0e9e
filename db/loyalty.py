"""Loyalty programmes' own memory beside the ledger: tiers, budgets, and what the ledger says about earning.

Whoever calls these has locked the customers. What a customer earned under a number that was merged into another counts
for the one who was kept.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.language.programme import Programme, Tiers
from afterglow.ledger.entries import Kind
from afterglow.loyalty.expiring import prolonged
from afterglow.loyalty.tiers import Standing
from db import bulk, ledger
from db.tables import (
    budgets,
    customers,
    events,
    ledger_accounts,
    ledger_transactions,
    lots,
    memberships,
)

#: (customer, programme)
Member = tuple[int, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Earned:
    """What an entry of the ledger did for limits and tiers, at the moment at which it counts.

    What undoes an entry counts at that entry's moment, so that the two leave a period or a window together.
    """

    customer_id: int
    programme: str
    asset: str
    kind: str
    rule: str | None
    at: datetime
    points: int  # negative where they were taken back
    progress: int


def former(connection: Connection, customer_ids: Iterable[int]) -> dict[int, int]:
    """These customers, and everybody who was merged into them: the customer by each of their numbers."""
    found = {id_: id_ for id_ in customer_ids}
    ask = list(found)
    while ask:
        c = customers.c
        rows = connection.execute(sa.select(c.id, c.merged_into).where(bulk.among(c.merged_into, ask))).all()
        found |= {row.id: found[row.merged_into] for row in rows}
        ask = [row.id for row in rows]
    return found


def earned(
    connection: Connection, customer_ids: Iterable[int], programmes: Collection[str]
) -> dict[Member, list[Earned]]:
    """What these customers earned in these programmes, refunds included; oldest entry first."""
    numbers = former(connection, customer_ids)
    t, undone = ledger_transactions, ledger_transactions.alias("undone")
    rows = connection.execute(
        sa.select(
            t.c.customer_id,
            t.c.programme,
            t.c.asset,
            t.c.kind,
            t.c.rule,
            sa.func.coalesce(undone.c.event_at, t.c.event_at).label("at"),
            sa.case((t.c.kind == Kind.CLAWBACK.value, -t.c.desired), else_=t.c.granted).label("points"),
            t.c.progress,
        )
        .outerjoin(undone, undone.c.id == t.c.undoes)
        .where(
            bulk.among(t.c.customer_id, sorted(numbers)),
            bulk.among(t.c.programme, sorted(programmes)),
            sa.or_(t.c.progress != 0, sa.and_(t.c.rule.is_not(None), t.c.kind.in_([Kind.EARN, Kind.CLAWBACK]))),
        )
        .order_by(t.c.id)
    )
    found: dict[Member, list[Earned]] = {}
    for row in rows:
        one = Earned(**{**row._mapping, "customer_id": numbers[row.customer_id]})
        found.setdefault((one.customer_id, one.programme), []).append(one)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """An event about an order that programmes listen to."""

    id: int
    customer_id: int
    source: str
    name: str
    occurred_at: datetime
    payload: Mapping[str, Any]


def told(connection: Connection, customer_ids: Iterable[int], names: Collection[str]) -> list[Told]:
    """What was ever told of these customers under these names, oldest first."""
    columns = [events.c[name] for name in Told.__dataclass_fields__]
    rows = connection.execute(
        sa.select(*columns)
        .where(
            bulk.among(events.c.customer_id, sorted(set(customer_ids))), bulk.among(events.c.name, sorted(set(names)))
        )
        .order_by(events.c.id)
    )
    return [Told(**row._mapping) for row in rows]


def pending(connection: Connection, transaction_ids: Collection[int], now: datetime) -> dict[int, Any]:
    """What is left of lots that these entries opened and that cannot be spent yet, by entry: amount and expiry."""
    rows = connection.execute(
        sa.select(lots.c.origin_id, lots.c.remaining, lots.c.expires_at)
        .join(ledger_transactions, ledger_transactions.c.id == lots.c.origin_id)
        .join(ledger_accounts, ledger_accounts.c.id == lots.c.account_id)
        .where(
            bulk.among(lots.c.origin_id, sorted(transaction_ids)),
            lots.c.remaining > sa.literal_column("0"),
            lots.c.activates_at > now,
        )
    )
    return {row.origin_id: row for row in rows}


def prolong(
    connection: Connection,
    programme: Programme,
    active: Mapping[int, tuple[datetime, str]],
    document_id: int,
    zone: ZoneInfo,
    now: datetime,
) -> None:
    """Let points that expire after inactivity live on, of customers who did something.

    The times of a lot never change: what can be spent is taken back, and given again with a later end.

    Args:
      active: when each customer did something, and a key that is made of it.
    """
    ends = {customer: end for customer, (at, _) in active.items() if (end := prolonged(programme.expiry, at, zone))}
    if not ends:
        return
    a = ledger_accounts.c
    rows = connection.execute(
        sa.select(a.customer_id, lots.c.remaining, lots.c.expires_at)
        .join(ledger_accounts, a.id == lots.c.account_id)
        .where(
            bulk.among(a.customer_id, sorted(ends)),
            a.programme == programme.name,
            a.asset == programme.asset,
            lots.c.remaining > sa.literal_column("0"),
            lots.c.activates_at <= now,
            lots.c.expires_at > now,
        )
    )
    amounts: dict[int, int] = {}
    for row in rows:
        if row.expires_at < ends[row.customer_id]:
            amounts[row.customer_id] = amounts.get(row.customer_id, 0) + row.remaining
    changes: list[ledger.Change] = []
    for customer, amount in sorted(amounts.items()):
        said: dict[str, Any] = {
            "programme": programme.name,
            "asset": programme.asset,
            "customer_id": customer,
            "key": f"active/{active[customer][1]}",
            "amount": amount,
            "event_at": active[customer][0],
            "document_id": document_id,
            "inputs": {"prolonged_to": ends[customer].isoformat()},
        }
        changes += [
            ledger.Clawback(**said),
            ledger.Credit(**said, kind=Kind.BONUS, activates_at=now, expires_at=ends[customer]),
        ]
    ledger.post(connection, changes, now)


# Tiers


def standings(
    connection: Connection, customer_ids: Iterable[int], tiers: Mapping[str, Tiers]
) -> dict[Member, Standing]:
    """Where customers stand; who has no row stands in the lowest tier, as who is in one that the file has no more.

    Args:
      tiers: by programme.
    """
    m = memberships.c
    rows = connection.execute(
        sa.select(memberships).where(
            bulk.among(m.customer_id, sorted(set(customer_ids))), bulk.among(m.programme, sorted(tiers))
        )
    )
    return {
        (row.customer_id, row.programme): Standing(
            level=names.index(row.tier) if row.tier in (names := tiers[row.programme].names) else 0,
            since=row.since,
            falls_at=row.falls_at,
            review_at=row.review_at,
        )
        for row in rows
    }


def save_standings(connection: Connection, wanted: Mapping[Member, Standing], tiers: Mapping[str, Tiers]) -> None:
    """Write where customers stand."""
    bulk.insert(
        connection,
        memberships,
        ("programme", "customer_id", "tier", "since", "falls_at", "review_at"),
        [
            (
                programme,
                customer,
                tiers[programme].names[standing.level],
                standing.since,
                standing.falls_at,
                standing.review_at,
            )
            for (customer, programme), standing in sorted(wanted.items(), key=lambda item: item[0])
        ],
        on_conflict="(programme, customer_id) DO UPDATE SET tier = excluded.tier, since = excluded.since, "
        "falls_at = excluded.falls_at, review_at = excluded.review_at",
    )


def to_review(connection: Connection, programmes: Collection[str], now: datetime, limit: int) -> list[int]:
    """Customers whose tier is due to be looked at, locked; those on whom somebody works are left for later.

    Args:
      programmes: those that have tiers; what is left of others is never looked at.
    """
    m = memberships.c
    rows = connection.execute(
        sa.select(m.customer_id)
        .join(customers, customers.c.id == m.customer_id)
        .where(m.review_at <= now, bulk.among(m.programme, sorted(programmes)), customers.c.merged_into.is_(None))
        .order_by(m.review_at)
        .limit(limit)
        .with_for_update(of=customers, key_share=True, skip_locked=True)
    )
    return sorted({row.customer_id for row in rows})


def take_over(connection: Connection, kept: int, merged: int, now: datetime) -> None:
    """Look anew at the tiers of a customer whom another turned out to be: the other's row stays, should they part."""
    m = memberships.c
    theirs = connection.execute(sa.select(memberships).where(m.customer_id == merged)).all()
    bulk.insert(
        connection,
        memberships,
        ("programme", "customer_id", "tier", "since", "falls_at", "review_at"),
        [(row.programme, kept, row.tier, row.since, row.falls_at, now) for row in theirs],
        on_conflict="(programme, customer_id) DO UPDATE SET review_at = excluded.review_at",
    )


def look_again(connection: Connection, customer_ids: Sequence[int], now: datetime) -> None:
    """Let the tiers of customers be reviewed soon."""
    mine = bulk.among(memberships.c.customer_id, customer_ids)
    connection.execute(memberships.update().where(mine).values(review_at=now))


# Budgets


class Budgets:
    """What is left of the budgets of programmes, locked until the end of the transaction.

    A programme with a budget takes its orders a batch after the other: whoever gives must know what is left.
    """

    def __init__(self, connection: Connection, limits: Mapping[tuple[str, datetime], int]) -> None:
        """Lock the budgets.

        Args:
          limits: points by programme and start of the period.
        """
        self._connection, self._limits = connection, limits
        self._granted: dict[tuple[str, datetime], int] = {}
        self._changed: set[tuple[str, datetime]] = set()
        if not limits:
            return
        rows = [(*key, 0) for key in sorted(limits)]
        bulk.insert(connection, budgets, ("programme", "starts_at", "granted"), rows, on_conflict="DO NOTHING")
        b = budgets.c
        locked = connection.execute(
            sa.select(budgets)
            .where(bulk.among(b.programme, sorted({programme for programme, _ in limits})))
            .order_by(b.programme, b.starts_at)
            .with_for_update()
        )
        self._granted = {(row.programme, row.starts_at): row.granted for row in locked}

    def room(self, programme: str, starts_at: datetime) -> int | None:
        """How many points are left; None where there is no budget."""
        key = (programme, starts_at)
        return max(0, self._limits[key] - self._granted[key]) if key in self._limits else None

    def take(self, programme: str, starts_at: datetime, points: int) -> None:
        """Take points out of a budget; negative ones go back."""
        key = (programme, starts_at)
        if points and key in self._granted:
            self._granted[key] = max(0, self._granted[key] + points)
            self._changed.add(key)

    def save(self) -> None:
        """Write what was taken."""
        rows = [(*key, self._granted[key]) for key in sorted(self._changed)]
        bulk.insert(
            self._connection,
            budgets,
            ("programme", "starts_at", "granted"),
            rows,
            on_conflict="(programme, starts_at) DO UPDATE SET granted = excluded.granted",
        )


def expiring(connection: Connection, start: datetime, end: datetime) -> Sequence[Any]:
    """What is left of lots that expire in [start, end): customer, programme, asset, instant and points."""
    a = ledger_accounts.c
    return connection.execute(
        sa.select(a.customer_id, a.programme, a.asset, lots.c.expires_at, sa.func.sum(lots.c.remaining).label("points"))
        .join(ledger_accounts, a.id == lots.c.account_id)
        .where(lots.c.remaining > sa.literal_column("0"), lots.c.expires_at >= start, lots.c.expires_at < end)
        .group_by(a.customer_id, a.programme, a.asset, lots.c.expires_at)
        .order_by(lots.c.expires_at, a.customer_id)
    ).all()
