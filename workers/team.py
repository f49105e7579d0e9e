"""Letters to the team that hang on no run: alarms, the digest."""

from datetime import datetime

from afterglow.language.shop import Shop
from afterglow.mime import Outgoing, message_id_for


def letter(shop: Shop, address: str, *, subject: str, text: str, key: str, now: datetime) -> Outgoing:
    """A plain letter from the shop to its team. `key` is the same for repeats of the same letter."""
    sender = shop.model.sender
    return Outgoing(
        touchpoint_id=0,  # there is none
        to_address=address,
        to_name=None,
        sender_name=sender.name,
        sender_address=sender.address,
        reply_to=None,
        subject=f"{shop.model.name}: {subject}",
        html="",
        text=text,
        headers={"Auto-Submitted": "auto-generated"},
        message_id=message_id_for(key, sender.address.rpartition("@")[2]),
        date=now,
        idempotency_key=key,
    )
