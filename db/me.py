"""A customer's own page: whose link it is, and all that is theirs, for the page and for the shop's theme.

A link's token is derived from the customer's number and a generation (`afterglow.letters.me_token`); what is stored is
only which generation opens, where it is not the first. So a copy of the database opens nobody's page, mails can be made
again from their contexts, and revoking is one number that moves on, for the customer and for all who were merged into
them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.ledger.entries import Role
from db import bulk, coupons, ledger, merging, people, redemptions, referrals, referring
from db.catalog import Release
from db.coupons import Held
from db.people import Person
from db.redemptions import Redemption
from db.referring import Referral, Reward
from db.standing import InProgramme, standing_of
from db.tables import ledger_accounts, lots, me_links

#: Friends, past codes and dates of expiry that the page tells of, the newest and the next.
SHOWN = 50


def generations(connection: Connection, customer_ids: Collection[int]) -> dict[int, int]:
    """The generation of these customers' links, where it is not 0."""
    if not customer_ids:
        return {}
    m = me_links.c
    rows = connection.execute(
        sa.select(m.customer_id, m.generation).where(bulk.among(m.customer_id, sorted(set(customer_ids))))
    )
    return {row.customer_id: row.generation for row in rows}


def revoke(connection: Connection, customer_id: int, now: datetime) -> int:
    """Close all links to a customer's own page, also those of who was merged into them; a new one has the next
    generation, which is returned."""
    customer_id = people.lock_kept(connection, customer_id)
    rows = [(id_, 1, now) for id_ in (customer_id, *merging.stones(connection, customer_id))]
    bulk.insert(
        connection,
        me_links,
        ("customer_id", "generation", "revoked_at"),
        rows,
        on_conflict="(customer_id) DO UPDATE "
        "SET generation = me_links.generation + 1, revoked_at = excluded.revoked_at",
    )
    return generations(connection, [customer_id])[customer_id]


def opened(connection: Connection, customer_id: int, generation: int) -> Person | None:
    """Whose page a link opens that names this customer; None where it was revoked, or they were forgotten."""
    if generations(connection, [customer_id]).get(customer_id, 0) != generation:
        return None
    kept = people.kept(connection, [customer_id]).get(customer_id)
    person = people.load(connection, [kept]).get(kept) if kept is not None else None
    return person if person is not None and person.forgotten_at is None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Expiring:
    """So many points that are past from an instant on."""

    programme: str
    at: datetime
    amount: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Friend:
    """A friend's progress. Nobody's name: `referral` and what became of it."""

    referral: Referral
    #: What it brought the customer.
    rewards: tuple[Reward, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mine:
    """All that is a customer's."""

    person: Person
    programmes: tuple[InProgramme, ...]
    #: Store credit to spend, in minor units, by loyalty programme.
    credit: Mapping[str, int]
    expiring: tuple[Expiring, ...]
    #: When the points that wait can be spent, the first of them, by programme.
    active_from: Mapping[str, datetime]
    #: Coupons of which no code is left.
    sold_out: frozenset[str]
    #: Their code in each referral programme in force.
    codes: Mapping[str, str]
    friends: tuple[Friend, ...]
    redeemed: tuple[Redemption, ...]
    #: Codes that friends brought them, or that they got for coming by a friend: which side, and since when.
    brought: tuple[tuple[str, datetime, Held], ...]
    #: How often they redeemed anything: what makes a form's key new.
    times: int


def mine(connection: Connection, release: Release, person: Person, now: datetime) -> Mine:
    """Read all that is a customer's, with a constant number of statements."""
    brought = [one for one in referring.of_customer(connection, person.id) if one.referrer_id == person.id]
    rewards = referring.rewards_of(connection, [one.id for one in brought])
    redeemed = redemptions.of_customer(connection, person.id)
    balances = ledger.balances(connection, [person.id], now)
    waiting, expiring = _lots(connection, release, person.id, now)
    codes = referrals.shown(connection, [person.id])[person.id]
    return Mine(
        person=person,
        programmes=tuple(standing_of(connection, release, person.id, now)),
        credit={
            programme: has.spendable
            for (_, programme, asset), has in balances.items()
            if asset == redemptions.CREDIT and has.spendable and programme in release.catalog.loyalty
        },
        expiring=expiring,
        active_from=waiting,
        sold_out=_sold_out(connection, release),
        codes={name: code for name, code in codes.items() if name in release.catalog.referrals},
        friends=tuple(
            Friend(
                referral=one,
                rewards=tuple(each for each in rewards.get(one.id, ()) if each.customer_id == person.id),
            )
            for one in brought[:SHOWN]
        ),
        redeemed=tuple(redeemed[:SHOWN]),
        brought=tuple(coupons.of_customer(connection, person.id)[:SHOWN]),
        times=len(redeemed),
    )


def _lots(
    connection: Connection, release: Release, customer_id: int, now: datetime
) -> tuple[dict[str, datetime], tuple[Expiring, ...]]:
    """When what waits can be spent first, by programme; what is past when, the next first."""
    a, t = ledger_accounts.c, lots.c
    rows = connection.execute(
        sa.select(a.programme, a.asset, t.remaining, t.activates_at, t.expires_at)
        .join(lots, t.account_id == a.id)
        .where(a.customer_id == customer_id, a.role == Role.WALLET, t.remaining > 0)
        .order_by(t.expires_at, t.activates_at)
    )
    waiting: dict[str, datetime] = {}
    expiring: dict[tuple[str, datetime], int] = {}
    for row in rows:
        loyalty = release.catalog.loyalty.get(row.programme)
        if loyalty is None or row.asset != loyalty.asset:
            continue
        if row.activates_at > now:
            waiting[row.programme] = min(row.activates_at, waiting.get(row.programme, row.activates_at))
        if row.expires_at is not None and row.expires_at > now:
            key = (row.programme, row.expires_at)
            expiring[key] = expiring.get(key, 0) + row.remaining
    told = [Expiring(programme=name, at=at, amount=amount) for (name, at), amount in expiring.items()]
    return waiting, tuple(sorted(told, key=lambda one: (one.at, one.programme))[:SHOWN])


def _sold_out(connection: Connection, release: Release) -> frozenset[str]:
    """The coupons whose codes come from a list that has none left; of others the shop makes as many as are wanted."""
    listed = {
        reward.coupon
        for programme in release.catalog.loyalty.values()
        for reward in programme.rewards.values()
        if reward.coupon is not None
        and (reward.coupon not in programme.coupons or programme.coupons[reward.coupon].provider is None)
    }
    return frozenset(listed - coupons.with_codes_left(connection, listed))
