"""Referrals of customers who are merged, parted, told about themselves or forgotten."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk, coupons
from db.referring.keeping import Decision, Referral, by_id, note, of_customer, of_either_side
from db.referring.rewards import rewards_of
from db.tables import ReferralState, clicks, referral_marks, referrals, touches


def merge(connection: Connection, kept: int, merged: int, now: datetime) -> dict[str, Any]:
    """Give a customer the touches and referrals of another. What moved and what was so before, for `part`.

    Whoever turns out to have brought themselves is no friend, and who was brought twice was brought once, the other
    referral staying with the stone: what was not rewarded is rejected, and at what was, a person looks.
    """
    t, r = touches.c, referrals.c
    moved: dict[str, Any] = {}
    for column in (t.customer_id, t.referrer_id):
        mine = touches.update().where(column == merged).values({column.name: kept}).returning(t.id)
        moved[column.name] = sorted(connection.execute(mine).scalars())
    both = [kept, merged]
    theirs = of_either_side(connection, both)
    brought = {one.programme for one in theirs if one.referee_id == kept}
    moved["referrals"] = []
    notes: list[Decision] = []
    for one in theirs:
        if merged not in (one.referrer_id, one.referee_id):
            continue
        due_at = one.due_at.isoformat() if one.due_at else None
        before = [one.id, one.referrer_id, one.referee_id, one.state.value, due_at]
        because = None
        if one.referee_id == merged and one.programme in brought:
            because = "the referee turned out to be one who was referred before"
        elif one.referee_id == merged:
            one.referee_id = kept
        if one.referrer_id == merged:
            one.referrer_id = kept
        if {one.referrer_id, one.referee_id} <= set(both):
            because = "both turned out to be one customer"
        if because is not None and one.state not in (ReferralState.REJECTED, ReferralState.REVERSED):
            one.state = ReferralState.REJECTED if one.rewarded_at is None else ReferralState.REVIEW
            one.due_at = None
            evidence = {"kept": kept, "merged": merged}
            note_ = Decision(referral_id=one.id, at=now, state=one.state, because=because, evidence=evidence)
            notes.append(note_)
        moved["referrals"].append([*before, one.state.value])
        connection.execute(referrals.update().where(r.id == one.id).values(**_changed(one)))
    note(connection, notes)
    return moved


def _changed(one: Referral) -> dict[str, Any]:
    return {
        "referrer_id": one.referrer_id,
        "referee_id": one.referee_id,
        "state": one.state.value,
        "due_at": one.due_at,
    }


def part(connection: Connection, moved: Mapping[str, Any], kept: int, merged: int, now: datetime) -> None:
    """Give the other back what `merge` moved; a referral has its old state again if nobody decided since."""
    t = touches.c
    for column in (t.customer_id, t.referrer_id):
        theirs = bulk.among(t.id, moved.get(column.name, [])) & (column == kept)
        connection.execute(touches.update().where(theirs).values({column.name: merged}))
    before = {row[0]: row for row in moved.get("referrals", [])}
    notes: list[Decision] = []
    for one in by_id(connection, before).values():
        _, referrer, referee, state, due_at, made = before[one.id]
        one.referrer_id, one.referee_id = referrer, referee
        if state != made and one.state.value == made:
            one.state = ReferralState(state)
            one.due_at = datetime.fromisoformat(due_at) if due_at else None
            because = "the two are not one customer after all"
            notes.append(Decision(referral_id=one.id, at=now, state=one.state, because=because, evidence={}))
        connection.execute(referrals.update().where(referrals.c.id == one.id).values(**_changed(one)))
    note(connection, notes)


def told_to(connection: Connection, customer_id: int) -> list[dict[str, Any]]:
    """A customer's referrals for `export`: on which side they were and what became of it; not who the other is."""
    referred = of_customer(connection, customer_id, limit=10_000)
    rewards = rewards_of(connection, [one.id for one in referred])
    held = coupons.of_rewards(connection, [one.id for given in rewards.values() for one in given])
    return [
        {
            "referral": one.id,
            "programme": one.programme,
            "side": "referee" if one.referee_id == customer_id else "referrer",
            "state": one.state.value,
            "attributed_at": one.attributed_at,
            "qualified_at": one.qualified_at,
            "rewarded_at": one.rewarded_at,
            "rewards": [
                {
                    "for": each.side,
                    "asset": each.asset,
                    "amount": each.granted,
                    "coupon": each.coupon,
                    **({"code": held[each.id].code} if each.id in held else {}),
                    "webhook": each.webhook,
                }
                for each in rewards.get(one.id, ())
                if each.customer_id == customer_id
            ],
        }
        for one in referred
    ]


def forget(connection: Connection, customer_ids: Collection[int]) -> None:
    """Forget by what people are known again, and the clicks on their links.

    The keyed hash of a referee's mailbox stays, so that a deleted person is not new; a referral is numbers alone.
    """
    theirs = sa.select(referrals.c.id).where(bulk.among(referrals.c.referee_id, sorted(customer_ids)))
    m = referral_marks.c
    connection.execute(referral_marks.delete().where(m.referral_id.in_(theirs), m.kind != "email"))
    connection.execute(clicks.delete().where(bulk.among(clicks.c.customer_id, sorted(customer_ids))))
