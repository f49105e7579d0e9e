"""What customers buy with points: given once for a key, and cancelled to the very lots that paid for it."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.language.programme import Reward
from afterglow.ledger.entries import Kind
from afterglow.problems import did_you_mean
from db import bulk, intake, ledger, loyalty, people
from db.catalog import Release
from db.ledger import Clawback, Credit, Refused, Return, Spend
from db.own_events import own_event
from db.tables import coupons, redemptions

#: The asset of store credit, in minor units of the shop's currency.
CREDIT = "credit"
#: Letters of codes that we make: none that is taken for another. Twelve of them are 60 bits.
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_LENGTH = 12


class RedemptionError(AfterglowError):
    """This cannot be redeemed, or not be cancelled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Redemption:
    """What a customer got for points."""

    id: int
    customer_id: int
    programme: str
    reward: str
    state: str
    at: datetime
    code: str | None


def redeem(
    connection: Connection, release: Release, customer_id: int, programme: str, reward: str, key: str, now: datetime
) -> Redemption:
    """Buy a reward. The same key again gives what it gave, and costs nothing.

    Tells `reward.redeemed`, where a flow listens to it; hint `ingest` after the commit.

    Raises:
      RedemptionError: there is no such programme or reward, too few points, or no code is left.
    """
    customer_id = people.lock_kept(connection, customer_id)
    wanted = _reward(release, programme, reward)
    if (before := _under(connection, key)) is not None:
        if (before.customer_id, before.programme, before.reward) != (customer_id, programme, reward):
            raise RedemptionError(f"Something else was redeemed under the key '{key}'; use a new key.")
        return before
    person = people.load(connection, [customer_id]).get(customer_id)
    if person is None or person.forgotten_at is not None:
        raise RedemptionError(f"There is no customer {customer_id} any more; nothing was redeemed.")
    coupon = _take_coupon(connection, wanted)
    document_id = release.ids["programme"][programme]
    spend = Spend(
        programme=programme,
        asset=release.catalog.loyalty[programme].asset,
        customer_id=customer_id,
        key=key,
        amount=wanted.costs,
        event_at=now,
        document_id=document_id,
        rule=reward,
        inputs={"costs": wanted.costs},
    )
    (paid,) = ledger.spend(connection, [spend], now)
    if isinstance(paid, Refused):
        raise RedemptionError(
            f"'{reward}' costs {wanted.costs} and customer {customer_id} can spend {paid.spendable or 0}."
        )
    (id_,) = bulk.next_ids(connection, redemptions, 1)
    row = (id_, customer_id, programme, reward, key, paid.id, "given", now)
    columns = ("id", "customer_id", "programme", "reward", "key", "transaction_id", "state", "at")
    bulk.insert(connection, redemptions, columns, [row])
    if coupon is not None:
        connection.execute(coupons.update().where(coupons.c.id == coupon.id).values(redemption_id=id_))
    active = {customer_id: (now, _subject(id_))}
    made = release.catalog.loyalty[programme]
    loyalty.prolong(connection, made, active, document_id, release.catalog.shop.zone, now)
    if wanted.credit is not None:
        credit = Credit(
            programme=programme,
            asset=CREDIT,
            customer_id=customer_id,
            kind=Kind.REWARD,
            key=_subject(id_),
            amount=release.catalog.shop.to_minor(wanted.credit),
            event_at=now,
            activates_at=now,
            document_id=document_id,
            rule=reward,
            subject=_subject(id_),
        )
        ledger.credit(connection, [credit], now)
    if "reward.redeemed" in release.catalog.listened:
        told = {"programme": programme, "reward": reward, "about": wanted.about, "points": wanted.costs}
        told["code"] = coupon.code if coupon else None
        intake.receive(connection, [own_event("reward.redeemed", _subject(id_), customer_id, now, told)], now)
    return Redemption(
        id=id_,
        customer_id=customer_id,
        programme=programme,
        reward=reward,
        state="given",
        at=now,
        code=coupon.code if coupon else None,
    )


def cancel(connection: Connection, redemption_id: int, now: datetime) -> Redemption:
    """Take a reward back: the points return to the lots that they came from, with the times that those have.

    Its code is handed out to nobody else; the shop takes it out of use.

    Raises:
      RedemptionError: there is no such redemption, it is cancelled already, or its credit is spent.
    """
    found = _of(connection, redemptions.c.id == redemption_id)
    if not found:
        raise RedemptionError(f"There is no redemption {redemption_id}; `afterglow loyalty show CUSTOMER` lists them.")
    people.lock_kept(connection, found[0].customer_id)
    row = connection.execute(sa.select(redemptions).where(redemptions.c.id == redemption_id).with_for_update()).one()
    if row.state == "cancelled":
        raise RedemptionError(f"Redemption {redemption_id} is cancelled already.")
    _take_credit_back(connection, row, now)
    back = Return(key=f"cancel/{redemption_id}", transaction_id=row.transaction_id, event_at=now)
    (outcome,) = ledger.give_back(connection, [back], now)
    if isinstance(outcome, Refused):
        raise RedemptionError(outcome.reason)
    connection.execute(redemptions.update().where(redemptions.c.id == redemption_id).values(state="cancelled"))
    return _of(connection, redemptions.c.id == redemption_id)[0]


def _take_credit_back(connection: Connection, row: Any, now: datetime) -> None:
    subject = _subject(row.id)
    given = ledger.of_subject(connection, [subject])[subject]
    taken = [
        Clawback(
            programme=one.programme,
            asset=one.asset,
            customer_id=row.customer_id,
            key=f"cancel/{row.id}",
            amount=one.granted,
            undoes=one.id,
            event_at=now,
            subject=subject,
        )
        for one in given
        if one.kind == Kind.REWARD
    ]
    for one, posted in zip(taken, ledger.claw_back(connection, taken, now), strict=True):
        if posted.granted < one.amount:
            raise RedemptionError(f"The credit of redemption {row.id} is spent already; it cannot be cancelled.")


def of_customer(connection: Connection, customer_id: int) -> list[Redemption]:
    """What a customer redeemed, newest first."""
    return _of(connection, redemptions.c.customer_id == customer_id)


def _of(connection: Connection, where: sa.ColumnElement[bool]) -> list[Redemption]:
    r = redemptions.c
    rows = connection.execute(
        sa.select(r.id, r.customer_id, r.programme, r.reward, r.state, r.at, coupons.c.code)
        .outerjoin(coupons, coupons.c.redemption_id == r.id)
        .where(where)
        .order_by(r.id.desc())
    )
    return [Redemption(**row._mapping) for row in rows]


def _under(connection: Connection, key: str) -> Redemption | None:
    found = _of(connection, redemptions.c.key == key)
    return found[0] if found else None


def _reward(release: Release, programme: str, reward: str) -> Reward:
    programmes = release.catalog.loyalty
    if programme not in programmes:
        raise RedemptionError(
            f"No loyalty programme in force is called '{programme}'.{did_you_mean(programme, programmes)}"
        )
    rewards = programmes[programme].rewards
    if reward not in rewards:
        raise RedemptionError(f"'{programme}' has no reward '{reward}'.{did_you_mean(reward, rewards)}")
    return rewards[reward]


def _subject(redemption_id: int) -> str:
    return f"redemption/{redemption_id}"


# Coupon codes


def _take_coupon(connection: Connection, reward: Reward) -> Any:
    """A code that nobody has, locked; None where the reward gives none."""
    if reward.coupon is None:
        return None
    c = coupons.c
    found = connection.execute(
        sa.select(c.id, c.code)
        .where(c.name == reward.coupon, c.redemption_id.is_(None))
        .order_by(c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    if found is None:
        raise RedemptionError(
            f"No code of '{reward.coupon}' is left; add some with `afterglow loyalty codes {reward.coupon}`."
        )
    return found


def add_codes(connection: Connection, name: str, codes: Sequence[str]) -> int:
    """Add codes that the shop knows to a coupon's list; how many were not in it yet."""
    return bulk.insert_new(connection, coupons, ("name", "code"), [(name, code) for code in dict.fromkeys(codes)])


def make_codes(connection: Connection, name: str, count: int) -> list[str]:
    """Make new codes and add them to a coupon's list; they are worth something once the shop knows them."""
    codes = ["".join(secrets.choice(_LETTERS) for _ in range(_LENGTH)) for _ in range(count)]
    add_codes(connection, name, codes)
    return codes


def codes_left(connection: Connection) -> dict[str, int]:
    """How many codes of each coupon are still to be had."""
    c = coupons.c
    rows = connection.execute(
        sa.select(c.name, sa.func.count()).where(c.redemption_id.is_(None)).group_by(c.name).order_by(c.name)
    )
    return {row[0]: row[1] for row in rows}
