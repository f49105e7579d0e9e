"""Notices: webhooks of ours to the shop, each about one reward that was given or taken back.

A notice is written in the transaction that gives the reward, so none is forgotten and none is about nothing. It is
claimed by committing when it will be tried next, and posted with no transaction open: a worker that dies leaves it due
again. The shop may hear one twice, never with another id.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.asking import wait_after
from db import bulk, people
from db.fetching import LEASE, still_claimed
from db.referring import Reward
from db.tables import Moment, NoticeState, identities, referral_rewards, reward_notices

#: Identities that no source gave.
_OF_NO_SOURCE: Final = ("email", "phone")

_now = sa.bindparam("now", type_=Moment)
DUE = sa.exists().where(reward_notices.c.state == sa.literal_column("'waiting'"), reward_notices.c.due_at <= _now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """A notice that is claimed, with all that the shop is told."""

    id: int
    kind: str
    tries: int
    made_at: datetime
    reward_id: int
    referral_id: int
    programme: str
    webhook: str
    side: str
    milestone: int
    generation: int
    customer_id: int
    #: The customer's ids by source.
    ids: Mapping[str, Sequence[str]]


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
    bulk.insert(connection, reward_notices, columns, rows)
    return bool(rows)


def claim(connection: Connection, now: datetime, limit: int) -> list[Notice]:
    """Claim due notices, oldest first. A try is counted and the next one set before anything is sent.

    That a reward was taken back is told after it was told, or could not be told, that it was given.
    """
    n, w = reward_notices.c, referral_rewards.c
    before = reward_notices.alias("before")
    is_earlier = sa.and_(
        before.c.reward_id == n.reward_id, before.c.id < n.id, before.c.state == sa.literal_column("'waiting'")
    )
    earlier = sa.exists().where(is_earlier)
    # What waits for another comes when that one does; until then it is not due, so that nobody looks for nothing.
    connection.execute(
        reward_notices.update()
        .where(n.state == "waiting", n.due_at <= _now, sa.exists().where(is_earlier, before.c.due_at > _now))
        .values(due_at=sa.select(sa.func.max(before.c.due_at)).where(is_earlier).scalar_subquery()),
        {"now": now},
    )
    ids = connection.execute(
        sa.select(n.id)
        .where(n.state == "waiting", n.due_at <= _now, ~earlier)
        .order_by(n.due_at, n.id)
        .limit(limit)
        .with_for_update(of=reward_notices, skip_locked=True),
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
            w.customer_id,
        )
        .join(referral_rewards, w.id == n.reward_id)
        .where(bulk.among(n.id, wanted))
        .order_by(n.id)
    ).all()
    bulk.update(
        connection,
        reward_notices,
        ("id", "due_at", "tries"),
        [(row.id, now + max(LEASE, wait_after(row.tries)), row.tries) for row in rows],
    )
    kept = people.kept(connection, {row.customer_id for row in rows})
    known = _ids(connection, kept.values())
    return [
        Notice(**{**row._mapping, "customer_id": kept[row.customer_id]}, ids=known[kept[row.customer_id]])
        for row in rows
    ]


def _ids(connection: Connection, customer_ids: Collection[int]) -> Mapping[int, Mapping[str, list[str]]]:
    i = identities.c
    found: dict[int, dict[str, list[str]]] = defaultdict(dict)
    for row in connection.execute(
        sa.select(i.customer_id, i.source, i.external_id)
        .where(bulk.among(i.customer_id, sorted(set(customer_ids))), i.source.not_in(_OF_NO_SOURCE))
        .order_by(i.source, i.external_id)
    ):
        found[row.customer_id].setdefault(row.source, []).append(row.external_id)
    return found


def settle(connection: Connection, ends: Sequence[End], claimed: Mapping[int, int], now: datetime) -> None:
    """Write what became of claimed notices, where nobody else claimed them meanwhile.

    Args:
      claimed: as in `db.fetching.still_claimed`.
    """
    n = reward_notices.c
    mine = {end.id: claimed[end.id] for end in ends}
    still = still_claimed(connection, n.id, n.tries, n.state == "waiting", mine)
    bulk.update(
        connection,
        reward_notices,
        ("id", "state", "due_at", "reason", "told_at"),
        [
            (end.id, end.state.value, end.due_at, end.reason, now if end.state is NoticeState.TOLD else None)
            for end in ends
            if end.id in still
        ],
    )


def again(connection: Connection, now: datetime) -> int:
    """Try once more what could not be told. How many."""
    failed = reward_notices.c.state == "failed"
    return connection.execute(
        reward_notices.update().where(failed).values(state="waiting", tries=0, due_at=now, reason=None)
    ).rowcount


def unheard(connection: Connection, limit: int = 1000) -> Sequence[Any]:
    """Notices that failed, or were tried in vain: reward_id, referral_id, webhook, kind, state, tries, reason."""
    n, w = reward_notices.c, referral_rewards.c
    return connection.execute(
        sa.select(n.reward_id, w.referral_id, w.webhook, n.kind, n.state, n.tries, n.reason)
        .join(referral_rewards, w.id == n.reward_id)
        .where(sa.or_(n.state == "failed", sa.and_(n.state == "waiting", n.reason.is_not(None))))
        .order_by(n.id)
        .limit(limit)
    ).all()


def of_referral(connection: Connection, referral_id: int) -> Sequence[Any]:
    """The notices about a referral's rewards: reward_id, kind, state, tries, due_at, told_at, reason."""
    n, w = reward_notices.c, referral_rewards.c
    return connection.execute(
        sa.select(n.reward_id, n.kind, n.state, n.tries, n.due_at, n.told_at, n.reason)
        .join(referral_rewards, w.id == n.reward_id)
        .where(w.referral_id == referral_id)
        .order_by(n.id)
    ).all()


def forget(connection: Connection, customer_ids: Collection[int], reason: str) -> None:
    """Tell the shop of no reward any more that forgotten people were to get."""
    theirs = sa.select(referral_rewards.c.id).where(bulk.among(referral_rewards.c.customer_id, sorted(customer_ids)))
    n = reward_notices.c
    connection.execute(
        reward_notices.update()
        .where(n.reward_id.in_(theirs), n.kind == "given", n.state == "waiting")
        .values(state="dropped", due_at=None, reason=reason)
    )
