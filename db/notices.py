"""Notices: webhooks of ours, each about a reward that was given or taken back, or an event by which a flow asks for it.

A notice is written in the transaction of what it tells of, so none is forgotten and none is about nothing. It is
claimed by committing when it will be tried next, and posted with no transaction open: a worker that dies leaves it due
again. The other side may hear one twice, never with another id.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.asking import wait_after
from afterglow.matching import is_account
from db import bulk, people
from db.fetching import LEASE, still_claimed
from db.referring import Reward
from db.tables import Moment, NoticeState, identities, referral_rewards
from db.tables import events as events_table
from db.tables import notices as table

_now = sa.bindparam("now", type_=Moment)
DUE = sa.exists().where(table.c.state == sa.literal_column("'waiting'"), table.c.due_at <= _now)


@dataclass(frozen=True, kw_only=True, slots=True)
class OfReward:
    """The reward that a notice is about."""

    reward_id: int
    referral_id: int
    programme: str
    webhook: str
    side: str
    milestone: int
    generation: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OfEvent:
    """The event by which a flow asks for a notice: where it goes, and what the step tells."""

    event_id: int
    webhook: str
    flow: str
    step: str
    given: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """A notice that is claimed, with all that the other side is told."""

    id: int
    kind: str
    tries: int
    made_at: datetime
    customer_id: int
    #: The customer's ids by source.
    ids: Mapping[str, Sequence[str]]
    about: OfReward | OfEvent


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """What became of a notice: told, failed for good, or to be tried again at `due_at`."""

    id: int
    state: NoticeState
    due_at: datetime | None = None
    reason: str | None = None


def note(connection: Connection, kind: str, rewards: Sequence[Reward], at: datetime) -> bool:
    """Write notices about those of these rewards that are webhooks: `given` or `taken_back`. Whether there are any."""
    rows = [(one.id, kind, NoticeState.WAITING.value, 0, at, at) for one in rewards if one.webhook and one.granted]
    columns = ("reward_id", "kind", "state", "tries", "due_at", "made_at")
    bulk.insert(connection, table, columns, rows)
    return bool(rows)


def tell(connection: Connection, event_ids: Sequence[int], at: datetime) -> None:
    """Write notices about events by which flows ask for them. One event is told once."""
    rows = [(event, "asked", NoticeState.WAITING.value, 0, at, at) for event in event_ids]
    columns = ("event_id", "kind", "state", "tries", "due_at", "made_at")
    bulk.insert(connection, table, columns, rows, on_conflict="DO NOTHING")


def claim(connection: Connection, now: datetime, limit: int) -> list[Notice]:
    """Claim due notices, oldest first. A try is counted and the next one set before anything is sent.

    That a reward was taken back is told after it was told, or could not be told, that it was given.
    """
    n, w, v = table.c, referral_rewards.c, events_table.c
    before = table.alias("before")
    is_earlier = sa.and_(
        before.c.reward_id == n.reward_id, before.c.id < n.id, before.c.state == sa.literal_column("'waiting'")
    )
    earlier = sa.exists().where(is_earlier)
    # What waits for another comes when that one does; until then it is not due, so that nobody looks for nothing.
    connection.execute(
        table.update()
        .where(n.state == "waiting", n.due_at <= _now, sa.exists().where(is_earlier, before.c.due_at > _now))
        .values(due_at=sa.select(sa.func.max(before.c.due_at)).where(is_earlier).scalar_subquery()),
        {"now": now},
    )
    ids = connection.execute(
        sa.select(n.id)
        .where(n.state == "waiting", n.due_at <= _now, ~earlier)
        .order_by(n.due_at, n.id)
        .limit(limit)
        .with_for_update(of=table, skip_locked=True),
        {"now": now},
    ).scalars()
    wanted = list(ids)
    if not wanted:
        return []
    rows = connection.execute(
        sa.select(
            n.id,
            n.kind,
            (n.tries + 1).label("tries"),
            n.made_at,
            n.reward_id,
            *(w[name] for name in ("referral_id", "programme", "webhook", "side", "milestone", "generation")),
            n.event_id,
            v.payload,
            sa.func.coalesce(w.customer_id, v.customer_id).label("customer_id"),
        )
        .outerjoin(referral_rewards, w.id == n.reward_id)
        .outerjoin(events_table, v.id == n.event_id)
        .where(bulk.among(n.id, wanted))
        .order_by(n.id)
    ).all()
    bulk.update(
        connection,
        table,
        ("id", "due_at", "tries"),
        [(row.id, now + max(LEASE, wait_after(row.tries)), row.tries) for row in rows],
    )
    kept = people.kept(connection, {row.customer_id for row in rows})
    known = _ids(connection, kept.values())
    return [
        Notice(
            id=row.id,
            kind=row.kind,
            tries=row.tries,
            made_at=row.made_at,
            customer_id=kept[row.customer_id],
            ids=known[kept[row.customer_id]],
            about=_about(row),
        )
        for row in rows
    ]


def _about(row: Any) -> OfReward | OfEvent:
    if row.event_id is None:
        return OfReward(**{name: getattr(row, name) for name in OfReward.__slots__})
    said, by = row.payload, row.payload.get("by", {})
    return OfEvent(
        event_id=row.event_id,
        webhook=said.get("webhook", ""),
        flow=by.get("flow", ""),
        step=by.get("step", ""),
        given=said.get("given", {}),
    )


def _ids(connection: Connection, customer_ids: Collection[int]) -> Mapping[int, Mapping[str, list[str]]]:
    i = identities.c
    found: dict[int, dict[str, list[str]]] = defaultdict(dict)
    for row in connection.execute(
        sa.select(i.customer_id, i.source, i.external_id)
        .where(bulk.among(i.customer_id, sorted(set(customer_ids))))
        .order_by(i.source, i.external_id)
    ):
        if is_account((row.source, row.external_id)):  # and no order, of which there may be hundreds
            found[row.customer_id].setdefault(row.source, []).append(row.external_id)
    return found


def settle(connection: Connection, ends: Sequence[End], claimed: Mapping[int, int], now: datetime) -> None:
    """Write what became of claimed notices, where nobody else claimed them meanwhile.

    Args:
      claimed: as in `db.fetching.still_claimed`.
    """
    n = table.c
    mine = {end.id: claimed[end.id] for end in ends}
    still = still_claimed(connection, n.id, n.tries, n.state == "waiting", mine)
    bulk.update(
        connection,
        table,
        ("id", "state", "due_at", "reason", "told_at"),
        [
            (end.id, end.state.value, end.due_at, end.reason, now if end.state is NoticeState.TOLD else None)
            for end in ends
            if end.id in still
        ],
    )


def again(connection: Connection, now: datetime) -> int:
    """Try once more what could not be told. How many."""
    failed = table.c.state == "failed"
    return connection.execute(
        table.update().where(failed).values(state="waiting", tries=0, due_at=now, reason=None)
    ).rowcount


def unheard(connection: Connection, limit: int = 1000) -> Sequence[Any]:
    """Notices that failed, or were tried in vain: kind, reward_id, referral_id, event_id, state, tries, reason.

    With the name of the webhook, where it is about a reward.
    """
    n, w = table.c, referral_rewards.c
    return connection.execute(
        sa.select(n.kind, n.reward_id, w.referral_id, n.event_id, w.webhook, n.state, n.tries, n.reason)
        .outerjoin(referral_rewards, w.id == n.reward_id)
        .where(sa.or_(n.state == "failed", sa.and_(n.state == "waiting", n.reason.is_not(None))))
        .order_by(n.id)
        .limit(limit)
    ).all()


def of_referral(connection: Connection, referral_id: int) -> Sequence[Any]:
    """The notices about a referral's rewards: reward_id, kind, state, tries, due_at, told_at, reason."""
    n, w = table.c, referral_rewards.c
    return connection.execute(
        sa.select(n.reward_id, n.kind, n.state, n.tries, n.due_at, n.told_at, n.reason)
        .join(referral_rewards, w.id == n.reward_id)
        .where(w.referral_id == referral_id)
        .order_by(n.id)
    ).all()


def forget(connection: Connection, customer_ids: Collection[int], reason: str) -> None:
    """Tell nobody any more of what forgotten people were to get, or did."""
    theirs = bulk.among(referral_rewards.c.customer_id, sorted(customer_ids))
    happened = bulk.among(events_table.c.customer_id, sorted(customer_ids))
    n = table.c
    connection.execute(
        table.update()
        .where(
            n.state == "waiting",
            sa.or_(
                sa.and_(n.kind == "given", n.reward_id.in_(sa.select(referral_rewards.c.id).where(theirs))),
                n.event_id.in_(sa.select(events_table.c.id).where(happened)),
            ),
        )
        .values(state="dropped", due_at=None, reason=reason)
    )
