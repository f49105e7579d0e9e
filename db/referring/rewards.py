"""What referrals brought to both sides, and what was taken back."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk
from db.referring.keeping import Whose
from db.tables import referral_rewards


@dataclass(frozen=True, kw_only=True, slots=True)
class Reward:
    """What a referral brought to one of the two. Amounts: points, minor units of credit, or 1 coupon or webhook."""

    id: int
    referral_id: int
    side: str
    milestone: int
    generation: int
    customer_id: int
    programme: str
    state: str
    asset: str
    wallet: str | None
    coupon: str | None
    webhook: str | None
    desired: int
    granted: int
    #: What it costs the shop, in minor units of its currency.
    worth: int
    counts_at: datetime
    given_at: datetime

    @property
    def key(self) -> str:
        """What makes its ledger transaction happen once, and what that hangs on."""
        return f"referral-reward/{self.id}"


_COLUMNS = tuple(Reward.__dataclass_fields__)
_query = sa.select(*(referral_rewards.c[name] for name in _COLUMNS))


def rewards_of(connection: Connection, referral_ids: Iterable[int]) -> dict[int, list[Reward]]:
    """What these referrals brought, in the order in which it was given; what was taken back too."""
    rows = connection.execute(
        _query.where(bulk.among(referral_rewards.c.referral_id, sorted(set(referral_ids)))).order_by(
            referral_rewards.c.id
        )
    )
    found: dict[int, list[Reward]] = {}
    for row in rows:
        found.setdefault(row.referral_id, []).append(Reward(**row._mapping))
    return found


def rewards_by_id(connection: Connection, reward_ids: Iterable[int]) -> dict[int, Reward]:
    """Rewards by number."""
    rows = connection.execute(_query.where(bulk.among(referral_rewards.c.id, sorted(set(reward_ids)))))
    return {row.id: Reward(**row._mapping) for row in rows}


def rewarded_instants(
    connection: Connection, referrer_ids: Iterable[int], since: datetime
) -> dict[Whose, list[datetime]]:
    """For a cap: the instants of the rewards that these referrers have for their own side, from one on."""
    w = referral_rewards.c
    rows = connection.execute(
        sa.select(w.programme, w.customer_id, w.counts_at).where(
            bulk.among(w.customer_id, sorted(set(referrer_ids))),
            w.side == "referrer",
            w.state == "given",
            w.counts_at >= since,
        )
    )
    found: dict[Whose, list[datetime]] = {}
    for row in rows:
        found.setdefault((row.programme, row.customer_id), []).append(row.counts_at)
    return found


def milestones_of(connection: Connection, referrer_ids: Iterable[int]) -> dict[Whose, list[Reward]]:
    """The milestones that these referrers have or had, by programme and referrer."""
    w = referral_rewards.c
    rows = connection.execute(
        _query.where(bulk.among(w.customer_id, sorted(set(referrer_ids))), w.side == "milestone").order_by(w.id)
    )
    found: dict[Whose, list[Reward]] = {}
    for row in rows:
        found.setdefault((row.programme, row.customer_id), []).append(Reward(**row._mapping))
    return found


def reward_ids(connection: Connection, count: int) -> list[int]:
    """Fresh numbers of rewards."""
    return bulk.next_ids(connection, referral_rewards, count)


def give(connection: Connection, rewards: Sequence[Reward]) -> None:
    """Record rewards. The database refuses a second standing one of a referral and side."""
    bulk.insert(
        connection, referral_rewards, _COLUMNS, [tuple(getattr(one, name) for name in _COLUMNS) for one in rewards]
    )


def take_back(connection: Connection, rewards: Collection[Reward], now: datetime) -> None:
    """Record that rewards are taken back."""
    rows = [(one.id, "taken_back", now) for one in rewards]
    bulk.update(connection, referral_rewards, ("id", "state", "taken_back_at"), rows, where="t.state = 'given'")
