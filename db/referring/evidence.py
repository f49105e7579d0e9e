"""What is known of referees and referrers when a referral is decided."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk
from db.referring.keeping import COUNTS, Whose
from db.tables import ReferralState, events, referral_marks, referrals, suppressions


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """An event of a referee."""

    id: int
    source: str
    name: str
    occurred_at: datetime
    payload: Mapping[str, Any]


_HEARD = ("source", "name", "occurred_at", "payload")


def heard(connection: Connection, starts: Mapping[int, datetime], names: Iterable[str]) -> dict[int, list[Heard]]:
    """Each customer's events with these names at or after an instant, oldest first."""
    rows = connection.execute(
        sa.select(events.c.id, events.c.customer_id, *(events.c[name] for name in _HEARD))
        .where(
            bulk.among(events.c.customer_id, sorted(starts)),
            events.c.occurred_at >= min(starts.values()),
            bulk.among(events.c.name, sorted(set(names))),
        )
        .order_by(events.c.occurred_at, events.c.id)
    )
    found: dict[int, list[Heard]] = {}
    for row in rows:
        if row.occurred_at >= starts[row.customer_id]:
            one = Heard(id=row.id, **{name: getattr(row, name) for name in _HEARD})
            found.setdefault(row.customer_id, []).append(one)
    return found


def orders_before(connection: Connection, referral_ids: Iterable[int], order_event: str) -> dict[int, int]:
    """How many orders the referees had before the events by which these referrals qualified."""
    earlier, qualified, r = events.alias("earlier"), events.alias("qualified"), referrals
    before = sa.or_(
        earlier.c.occurred_at < qualified.c.occurred_at,
        sa.and_(earlier.c.occurred_at == qualified.c.occurred_at, earlier.c.id < qualified.c.id),
    )
    rows = connection.execute(
        sa.select(r.c.id, sa.func.count())
        .join(qualified, qualified.c.id == r.c.event_id)
        .join(earlier, (earlier.c.customer_id == r.c.referee_id) & (earlier.c.name == order_event) & before)
        .where(bulk.among(r.c.id, sorted(set(referral_ids))))
        .group_by(r.c.id)
    )
    return {row[0]: row[1] for row in rows}


def newest_events(connection: Connection, customer_ids: Iterable[int], name: str) -> dict[int, int]:
    """The number of each customer's newest event of a name."""
    rows = connection.execute(
        sa.select(events.c.customer_id, sa.func.max(events.c.id))
        .where(bulk.among(events.c.customer_id, sorted(set(customer_ids))), events.c.name == name)
        .group_by(events.c.customer_id)
    )
    return {row[0]: row[1] for row in rows}


def forgotten(connection: Connection, digests: Iterable[str]) -> set[str]:
    """Those of these addresses (keyed hashes) whose person was forgotten."""
    s = suppressions.c
    rows = connection.execute(
        sa.select(s.digest).where(
            s.channel == "email", s.reason == "forgotten", bulk.among(s.digest, sorted(set(digests)))
        )
    )
    return set(rows.scalars())


@dataclass(frozen=True, kw_only=True, slots=True)
class Marked:
    """A referral whose referee has a mark."""

    kind: str
    digest: str
    referral_id: int
    programme: str
    referrer_id: int
    referee_id: int


def mark(connection: Connection, rows: Iterable[tuple[int, str, str]]) -> None:
    """Record marks given as (referral, kind, digest)."""
    bulk.insert(
        connection,
        referral_marks,
        ("referral_id", "kind", "digest"),
        sorted(set(rows)),
        on_conflict="(referral_id, kind) DO UPDATE SET digest = excluded.digest",
    )


def marked(connection: Connection, digests: Iterable[str]) -> list[Marked]:
    """The referrals whose referees have these marks."""
    m, r = referral_marks.c, referrals.c
    rows = connection.execute(
        sa.select(m.kind, m.digest, m.referral_id, r.programme, r.referrer_id, r.referee_id)
        .join(referrals, r.id == m.referral_id)
        .where(bulk.among(m.digest, sorted(set(digests))))
        .order_by(m.referral_id)
    )
    return [Marked(**row._mapping) for row in rows]


def qualified_since(
    connection: Connection, referrer_ids: Iterable[int], since: datetime
) -> dict[Whose, list[datetime]]:
    """When the referrals of these referrers qualified, by programme and referrer, from an instant on."""
    r = referrals.c
    rows = connection.execute(
        sa.select(r.programme, r.referrer_id, r.qualified_at).where(
            bulk.among(r.referrer_id, sorted(set(referrer_ids))), r.qualified_at >= since
        )
    )
    found: dict[Whose, list[datetime]] = {}
    for row in rows:
        found.setdefault((row.programme, row.referrer_id), []).append(row.qualified_at)
    return found


def counted(connection: Connection, referrer_ids: Iterable[int]) -> dict[Whose, dict[ReferralState, int]]:
    """How many referrals of each state these referrers have, by programme and referrer."""
    r = referrals.c
    rows = connection.execute(
        sa.select(r.programme, r.referrer_id, r.state, sa.func.count())
        .where(bulk.among(r.referrer_id, sorted(set(referrer_ids))))
        .group_by(r.programme, r.referrer_id, r.state)
    )
    found: dict[Whose, dict[ReferralState, int]] = {}
    for programme, referrer, state, count in rows:
        found.setdefault((programme, referrer), {})[ReferralState(state)] = count
    return found


def counting(connection: Connection, referrer_ids: Iterable[int]) -> dict[Whose, int]:
    """How many referrals of these referrers count, by programme and referrer."""
    r = referrals.c
    rows = connection.execute(
        sa.select(r.programme, r.referrer_id, sa.func.count())
        .where(bulk.among(r.referrer_id, sorted(set(referrer_ids))), COUNTS)
        .group_by(r.programme, r.referrer_id)
    )
    return {(programme, referrer): count for programme, referrer, count in rows}


def parents(connection: Connection, customer_ids: Iterable[int]) -> dict[Whose, int]:
    """By whom these customers were brought, by programme and customer; what was rejected brought nobody."""
    r = referrals.c
    rows = connection.execute(
        sa.select(r.programme, r.referee_id, r.referrer_id).where(
            bulk.among(r.referee_id, sorted(set(customer_ids))), r.state != "rejected"
        )
    )
    return {(row.programme, row.referee_id): row.referrer_id for row in rows}


def referrers_of(connection: Connection, customer_ids: Iterable[int]) -> set[int]:
    """Who brought these customers and was rewarded for it."""
    r = referrals.c
    rows = connection.execute(
        sa.select(r.referrer_id).where(
            bulk.among(r.referee_id, sorted(set(customer_ids))), r.rewarded_at.is_not(None), r.state != "rejected"
        )
    )
    return set(rows.scalars())
