"""Rewards of referrals: given when the hold ended, taken back when the order is undone."""

from collections.abc import Iterable, Sequence

from afterglow.referring.rewarding import lost
from db import coupons, ledger, notices, referring
from db.referring import Referral, Reward, Whose
from db.tables import ReferralState
from workers.rewarding.booking import clawback, credit, is_booked
from workers.rewarding.desk import Desk
from workers.rewarding.round import BOTH, Round


def reward(round_: Round, due: Sequence[Referral]) -> None:
    """Reward referrals whose hold ended: both sides, milestones, and what a cap cut off as nothing."""
    if not due:
        return
    desk = Desk(round_, due)
    given: list[tuple[Referral, Reward]] = []
    for referral in due:
        made = desk.grant(referral)
        given += [(referral, one) for one in made]
        capped = [one for one in made if one.state == "capped"]
        evidence: dict[str, object] = {"rewards": [one.id for one in made], "capped": len(capped)}
        if capped:
            evidence |= desk.cap(referral)
        referral.rewarded_at = round_.at(referral)
        round_.score(referral, 1)
        for one in made:
            round_.score_reward(referral, one, 1)
        round_.move(referral, ReferralState.REWARDED, "the hold ended", evidence)
    rewards = [one for _, one in given]
    referring.give(round_.connection, rewards)
    notices.note(round_.connection, "given", rewards, round_.now)
    ledger.credit(round_.connection, [credit(round_, r, one) for r, one in given if is_booked(one)], round_.now)
    wanted = []
    for referral, one in given:
        coupon = round_.programmes[referral.document_id].coupons.get(one.coupon or "")
        if one.state != "given":
            continue
        if coupon is None:
            round_.told.append(referring.about_reward("referral.rewarded", referral, one))
        else:  # told once the shop knows the code, so that no mail names one which it does not
            wanted.append(coupons.Wanted(coupon=coupon, key=one.key, reward_id=one.id))
    coupons.want(round_.connection, round_.shop, wanted, round_.now)


def take_back(round_: Round, due: Sequence[Referral]) -> None:
    """Take back what undone referrals brought, and the milestones that no longer stand."""
    if not due:
        return
    by_id = {one.id: one for one in due}
    gone = [
        (by_id[one.referral_id], one)
        for rewards in _standing_rewards(round_, due).values()
        for one in rewards
        if not one.milestone
    ]
    gone += _lost_milestones(round_, due)
    rewards = [one for _, one in gone]
    referring.take_back(round_.connection, rewards, round_.now)
    notices.note(round_.connection, "taken_back", rewards, round_.now)
    held = coupons.of_rewards(round_.connection, [one.id for one in rewards])
    coupons.disable(round_.connection, [one.id for one in held.values()], round_.now)
    ledger.claw_back(round_.connection, [clawback(round_, one) for one in rewards if is_booked(one)], round_.now)
    for referral, one in gone:
        round_.score_reward(referral, one, -1)
    round_.told += [referring.about_reward("referral.reversed", *pair) for pair in gone]
    for referral in due:
        round_.score(referral, -1)
        ids = [one.id for of, one in gone if of is referral]
        # Each side hears of it once: by the reward that it has no more, or that there was none.
        round_.told += [
            ("referral.reversed", referral, side, {})
            for side in BOTH
            if not any(of is referral and one.side == side for of, one in gone)
        ]
        round_.move(referral, ReferralState.REVERSED, "its rewards are taken back", {"rewards": ids})
    referring.save(round_.connection, due)


def _standing_rewards(round_: Round, referrals: Iterable[Referral]) -> dict[int, list[Reward]]:
    ids = [one.id for one in referrals]
    rewards = referring.rewards_of(round_.connection, ids) if ids else {}
    return {id_: [one for one in rewards.get(id_, ()) if one.state == "given"] for id_ in ids}


def _lost_milestones(round_: Round, due: Sequence[Referral]) -> list[tuple[Referral, Reward]]:
    """The milestones that no longer stand, each with the referral that it was lost by."""
    by_whose: dict[Whose, list[Referral]] = {}
    for one in due:
        by_whose.setdefault((one.programme, one.referrer_id), []).append(one)
    referrers = {referrer for _, referrer in by_whose}
    counting = referring.counting(round_.connection, referrers)
    found = []
    for whose, rewards in referring.milestones_of(round_.connection, referrers).items():
        if whose not in by_whose:
            continue
        standing = {one.milestone: one for one in rewards if one.state == "given"}
        left = counting.get(whose, 0) - sum(one.counts for one in by_whose[whose])
        found += [(by_whose[whose][-1], standing[at]) for at in lost(standing, left)]
    return found
