"""What the ledger hears of rewards."""

from afterglow.language.programme import Programme
from afterglow.ledger.book import Policy
from afterglow.loyalty.expiring import expires_at
from db import ledger
from db.referring import Referral, Reward
from workers.rewarding.round import Round


def is_booked(reward: Reward) -> bool:
    """Whether the ledger keeps it: points and credit that were given; a coupon is none of its business."""
    return reward.granted > 0 and reward.wallet is not None


def credit(round_: Round, referral: Referral, reward: Reward) -> ledger.Credit:
    """The points or credit of a reward that was given."""
    wallet = _wallet(round_, reward.wallet)
    return ledger.Credit(
        programme=reward.wallet or "",
        asset=_asset(reward, wallet),
        customer_id=reward.customer_id,
        kind="reward",
        key=reward.key,
        amount=reward.granted,
        event_at=reward.given_at,
        activates_at=reward.given_at,
        expires_at=expires_at(wallet.expiry, reward.given_at, round_.shop.zone) if wallet else None,
        event_id=referral.event_id,
        document_id=referral.document_id,
        rule=f"{reward.side} {reward.milestone}" if reward.milestone else reward.side,
        inputs={"referral": referral.id, "generation": reward.generation},
        subject=reward.key,
    )


def clawback(round_: Round, reward: Reward) -> ledger.Clawback:
    """The same, taken back as its programme says."""
    wallet = _wallet(round_, reward.wallet)
    policy = wallet.refunds.policy if wallet is not None and wallet.refunds is not None else "within_balance"
    return ledger.Clawback(
        programme=reward.wallet or "",
        asset=_asset(reward, wallet),
        customer_id=reward.customer_id,
        key=reward.key,
        amount=reward.granted,
        event_at=round_.now,
        policy=Policy(policy),
        inputs={"referral": reward.referral_id},
        subject=reward.key,
    )


def _wallet(round_: Round, name: str | None) -> Programme | None:
    return round_.release.catalog.loyalty.get(name or "")


def _asset(reward: Reward, wallet: Programme | None) -> str:
    return wallet.asset if wallet is not None and reward.asset == "points" else reward.asset
