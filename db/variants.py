"""What the variants of a referral programme's rewards brought, and what they cost."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.language.referral import ReferralProgramme
from afterglow.language.shop import Shop
from afterglow.referring.variants import Sample, compare
from db.tables import clicks, referral_codes, referral_rewards, referrals

#: The referral counts for the shop: it qualified, and neither a rule nor a refund undid it.
_COUNTS = referrals.c.state.in_(["qualified", "review", "rewarded"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Brought:
    """One variant. Money is in minor units of the shop's currency."""

    #: None: referrals from before there were variants.
    variant: str | None
    #: None: the file in force does not know it any more.
    weight: int | None
    #: Customers who have a code and offer this variant, and how many of them brought a friend who qualified.
    referrers: int
    successful: int
    clicks: int
    referred: int
    qualified: int
    rewarded: int
    #: What friends who qualified paid, less what they got back.
    revenue: int
    #: What was given and not taken back to both sides: points, minor units of credit, coupons, webhooks; by asset.
    cost: Mapping[str, int]
    #: What can be said of it beside the first variant of the file; None of that one and of what is in the file no more.
    says: str | None

    @property
    def revenue_each(self) -> int:
        """Revenue for each referrer, whether or not they brought anybody."""
        return self.revenue // self.referrers if self.referrers else 0


def of(connection: Connection, programme: ReferralProgramme) -> list[Brought]:
    """What each variant of a programme brought: those of the file in their order, then others."""
    offered: Counter[str | None] = Counter()
    for referrer in connection.execute(
        sa.select(referral_codes.c.customer_id).where(referral_codes.c.programme == programme.name)
    ).scalars():
        offered[programme.variant_of(referrer)] += 1
    clicked: Counter[str | None] = Counter()
    c = clicks.c
    for row in connection.execute(
        sa.select(c.customer_id, sa.func.count().label("n"))
        .where(c.programme == programme.name)
        .group_by(c.customer_id)
    ):
        clicked[programme.variant_of(row.customer_id)] += row.n
    found = {row.variant: row for row in _referred(connection, programme.name)}
    costs = _costs(connection, programme.name)
    weights = {one.name: one.weight for one in programme.variants}
    others = sorted((found.keys() | offered.keys()) - weights.keys(), key=str)
    tried = {
        name: Sample(referrers=offered[name], successful=found[name].successful if name in found else 0)
        for name in weights
    }
    first = next(iter(weights), None)
    return [
        Brought(
            variant=name,
            weight=weights.get(name or ""),
            referrers=offered[name],
            clicks=clicked[name],
            cost=costs[name],
            says=None if name == first or name not in tried else compare(tried[first or ""], tried[name]),
            **{part: int(getattr(found[name], part) or 0) if name in found else 0 for part in _COUNTED},
        )
        for name in (*weights, *others)
    ]


_COUNTED = ("successful", "referred", "qualified", "rewarded", "revenue")


def _referred(connection: Connection, programme: str) -> Sequence[Any]:
    r = referrals.c
    rewarded = sa.case((r.state == "rewarded", 1), else_=0)
    return connection.execute(
        sa.select(
            r.variant,
            sa.func.count().label("referred"),
            sa.func.sum(sa.case((_COUNTS, 1), else_=0)).label("qualified"),
            sa.func.sum(rewarded).label("rewarded"),
            sa.func.sum(sa.case((_COUNTS, r.amount - r.refunded), else_=0)).label("revenue"),
            sa.func.count(sa.distinct(sa.case((_COUNTS, r.referrer_id)))).label("successful"),
        )
        .where(r.programme == programme)
        .group_by(r.variant)
    ).all()


def _costs(connection: Connection, programme: str) -> Mapping[str | None, Mapping[str, int]]:
    w, r = referral_rewards.c, referrals.c
    rows = connection.execute(
        sa.select(r.variant, w.asset, sa.func.sum(w.granted).label("amount"))
        .join(referrals, r.id == w.referral_id)
        .where(w.programme == programme, w.state == "given")
        .group_by(r.variant, w.asset)
        .order_by(w.asset)
    )
    found: dict[str | None, dict[str, int]] = defaultdict(dict)
    for row in rows:
        found[row.variant][row.asset] = int(row.amount)
    return found


#: The columns of `as_rows`.
COLUMNS = (
    "variant", "weight", "referrers", "successful", "clicks", "referred", "qualified", "rewarded", "revenue",
    "revenue each", "points", "credit", "coupons", "webhooks", "says",
)  # fmt: skip


def as_rows(found: Sequence[Brought], shop: Shop) -> list[tuple[Any, ...]]:
    """A row of COLUMNS for each; money in major units."""
    return [
        (
            one.variant or "none",
            one.weight,
            one.referrers,
            one.successful,
            one.clicks,
            one.referred,
            one.qualified,
            one.rewarded,
            shop.to_major(one.revenue),
            shop.to_major(one.revenue_each),
            one.cost.get("points", 0),
            shop.to_major(one.cost.get("credit", 0)),
            one.cost.get("coupon", 0),
            one.cost.get("webhook", 0),
            one.says,
        )
        for one in found
    ]
