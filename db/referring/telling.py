"""What flows hear of referrals: events of our own."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256

from sqlalchemy.engine import Connection

from afterglow.native import NativeCustomer, NativeEvent
from afterglow.past import OURS
from db.intake import Received, receive
from db.referring.keeping import Referral
from db.referring.rewards import Reward

#: What can happen to a referral more than once.
_OFTEN = frozenset({"referral.review", "referral.rejected", "referral.reversed"})


def tell(
    connection: Connection, told: Sequence[tuple[str, Referral, str, Mapping[str, object]]], now: datetime
) -> None:
    """Put events of our own into the inbox, so that flows start by them: name, referral, side, what else they carry.

    Each happens once per referral, side and generation, whoever tells it again; what can happen again, at an instant.
    """
    receive(connection, [_received(*one, now) for one in told], now)


def about_reward(
    event: str, referral: Referral, reward: Reward, code: str | None = None
) -> tuple[str, Referral, str, dict[str, object]]:
    """What to `tell` of a reward that was given or taken back; a code that is told stands at the shop by now."""
    more: dict[str, object] = {"generation": reward.generation}
    if reward.milestone:
        more["milestone"] = reward.milestone
    if reward.coupon:
        more["coupon"] = reward.coupon
    elif reward.webhook:
        more["webhook"] = reward.webhook
    elif reward.asset == "points":
        more["points"] = reward.granted
    if code is not None:
        more["code"] = code
    return event, referral, "referee" if reward.side == "referee" else "referrer", more


def _received(name: str, referral: Referral, side: str, more: Mapping[str, object], now: datetime) -> Received:
    customer = referral.referee_id if side == "referee" else referral.referrer_id
    variant = {"variant": referral.variant} if referral.variant is not None else {}
    once = "/".join(str(more[part]) for part in ("milestone", "generation") if part in more)
    again = now.isoformat() if name in _OFTEN else ""
    event = NativeEvent(
        event=name,
        key="/".join(filter(None, (name, str(referral.id), side, once, again))),
        occurred_at=now,
        customer=NativeCustomer(customer=customer),
        payload={"programme": referral.programme, "referral": referral.id, "side": side, **variant, **more},
    )
    body = event.model_dump_json(exclude_unset=True).encode()
    return Received(OURS, event.key, sha256(event.key.encode()).digest(), {}, body)
