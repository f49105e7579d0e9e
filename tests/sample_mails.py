"""Mails to send in the channels' tests: valid, small, and each told apart by its touchpoint."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from afterglow.mime import Outgoing, message_id_for

_MAIL = Outgoing(
    touchpoint_id=1,
    to_address="zoe@example.com",
    to_name="Zoë Müller",
    sender_name="Northlight Roastery",
    sender_address="hello@northlight.example",
    reply_to=None,
    subject="Your coffee is here ☕",
    html="<p>Grüße</p>\n.\n..dots\n",
    text="Grüße\n.\n..dots\n",
    headers={"List-Unsubscribe": "<https://northlight.example/u/AbC>"},
    message_id="<1@northlight.example>",
    date=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
    idempotency_key="1",
)


def mail(number: int = 1, **changes: Any) -> Outgoing:
    """The mail of touchpoint `number`, to an address of its own."""
    return replace(
        _MAIL,
        **{
            "touchpoint_id": number,
            "to_address": f"customer{number}@example.com",
            "message_id": message_id_for(str(number), "northlight.example"),
            "idempotency_key": str(number),
            **changes,
        },
    )


def mails(count: int) -> list[Outgoing]:
    """The mails of touchpoints 1 to `count`."""
    return [mail(number) for number in range(1, count + 1)]
