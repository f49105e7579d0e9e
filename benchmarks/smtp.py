"""Mails a second to a relay on this machine: our channel beside what most would write.

The same 10 KB mails, one thread, the same sink (`tests/smtp_sink.py`, a process of its own), in rounds one after
the other so that a busy moment hits everybody; the median round counts. Beside the channel: smtplib with an
EmailMessage per mail on one kept connection, and the same with a connection per mail. The composing alone is
measured too, as that is where the time goes.

Run it: `python -m benchmarks.smtp`.
"""

from __future__ import annotations

import json
import smtplib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from statistics import median
from typing import Any

from afterglow.mime import Outgoing, compose, message_id_for
from tests.smtp_sink import sink
from workers.channels import Sent, make_channel

ROUNDS = 5
MAILS = 500
MAILS_WITH_CONNECTIONS = 100
TARGET = 3.0
"""How many times faster than smtplib + EmailMessage on a kept connection the channel has to be."""

_ROW = '<tr><td style="padding:10px 25px;font-size:16px">Single origin, washed, roasted on {} — 250 g</td></tr>\n'
_HTML = "<html><body><table>\n" + "".join(_ROW.format(day) for day in range(93)) + "</table></body></html>\n"
_TEXT = "Hello {},\n\nyour coffee is on its way. It was roasted yesterday — let it rest a week.\n" * 6


def mail(number: int) -> Outgoing:
    """A marketing mail of about 10 KB, with everything a real one has."""
    return Outgoing(
        touchpoint_id=number,
        to_address=f"customer{number}@example.com",
        to_name=f"Zoë Müller {number}",
        sender_name="Northlight Roastery",
        sender_address="hello@northlight.example",
        reply_to="care@northlight.example",
        subject=f"Your coffee is on its way, Zoë ☕ ({number})",
        html=_HTML + f"<!-- {number} -->\n",
        text=_TEXT.format(*[number] * 6),
        headers={
            "List-Unsubscribe": f"<https://northlight.example/u/AbCdEfGhIjKlMnOp{number}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        },
        message_id=message_id_for(str(number), "northlight.example"),
        date=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
        idempotency_key=str(number),
    )


_POLICY = SMTP.clone(max_line_length=998)


def email_message(outgoing: Outgoing) -> EmailMessage:
    """The same mail in the way the standard library's documentation shows."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = Address(outgoing.sender_name or "", addr_spec=outgoing.sender_address)
    message["To"] = Address(outgoing.to_name or "", addr_spec=outgoing.to_address)
    message["Reply-To"] = outgoing.reply_to
    message["Subject"] = outgoing.subject
    message["Date"] = outgoing.date
    message["Message-ID"] = outgoing.message_id
    message["X-Afterglow-Touchpoint"] = str(outgoing.touchpoint_id)
    for name, value in outgoing.headers.items():
        message[name] = value
    message.set_content(outgoing.text)
    message.add_alternative(outgoing.html, subtype="html")
    return message


@contextmanager
def our_channel(port: int) -> Iterator[Callable[[Sequence[Outgoing]], None]]:
    """The channel, in batches of the size it asks for."""
    channel = make_channel("smtp", f"smtp://127.0.0.1:{port}?tls=no")

    def send(mails: Sequence[Outgoing]) -> None:
        for start in range(0, len(mails), channel.batch):
            fates = channel.send(mails[start : start + channel.batch], 60)
            assert all(isinstance(fate, Sent) for fate in fates), fates

    yield send
    channel.close()


@contextmanager
def kept_connection(port: int) -> Iterator[Callable[[Sequence[Outgoing]], None]]:
    """smtplib and EmailMessage on one connection."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="localhost", timeout=60) as client:

        def send(mails: Sequence[Outgoing]) -> None:
            for outgoing in mails:
                client.send_message(email_message(outgoing))

        yield send


@contextmanager
def connection_per_mail(port: int) -> Iterator[Callable[[Sequence[Outgoing]], None]]:
    """smtplib and EmailMessage with a connection per mail."""

    def send(mails: Sequence[Outgoing]) -> None:
        for outgoing in mails:
            with smtplib.SMTP("127.0.0.1", port, local_hostname="localhost", timeout=60) as client:
                client.send_message(email_message(outgoing))

    yield send


def per_second(work: Callable[[], object], count: int) -> float:
    """How many of `count` things a second `work` does."""
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def run() -> dict[str, Any]:
    """All figures in mails a second, and ours as a multiple of theirs."""
    mails = [mail(number) for number in range(MAILS)]
    few = mails[:MAILS_WITH_CONNECTIONS]
    figures: dict[str, list[float]] = {
        name: [] for name in ("channel", "kept", "per_mail", "compose", "compose_7bit", "email_message")
    }
    with (
        sink() as relay,
        our_channel(relay.port) as ours,
        kept_connection(relay.port) as kept,
        connection_per_mail(relay.port) as per_mail,
    ):
        for send in (ours, kept, per_mail):
            send(few)
        for _ in range(ROUNDS):
            figures["channel"].append(per_second(lambda: ours(mails), len(mails)))
            figures["kept"].append(per_second(lambda: kept(mails), len(mails)))
            figures["per_mail"].append(per_second(lambda: per_mail(few), len(few)))
            for name, eightbit in (("compose", True), ("compose_7bit", False)):
                composing = per_second(lambda e=eightbit: [compose(one, eightbit=e) for one in mails], len(mails))
                figures[name].append(composing)
            elder = per_second(lambda: [email_message(one).as_bytes() for one in few], len(few))
            figures["email_message"].append(elder)
    middle = {name: median(rounds) for name, rounds in figures.items()}
    ratio = middle["channel"] / middle["kept"]
    return {
        "name": "smtp",
        "bytes_per_mail": len(compose(mails[0], eightbit=True)),
        "per_second": {name: round(figure) for name, figure in middle.items()},
        "rounds": {name: [round(figure) for figure in rounds] for name, rounds in figures.items()},
        "ratio": round(ratio, 2),
        "ratio_to_connection_per_mail": round(middle["channel"] / middle["per_mail"], 2),
        "ratio_composing": round(middle["compose"] / middle["email_message"], 2),
        "target": TARGET,
        "reached": ratio >= TARGET,
    }


_WORDS = {
    "channel": "Afterglow's SMTP channel",
    "kept": "smtplib + EmailMessage, one connection kept",
    "per_mail": "smtplib + EmailMessage, a connection per mail",
    "compose": "composing only: afterglow.mime, 8-bit",
    "compose_7bit": "composing only: afterglow.mime, for a relay without 8BITMIME",
    "email_message": "composing only: EmailMessage",
}


def main() -> None:
    """Prints the table and, as its last line, the JSON."""
    result = run()
    for name, figure in result["per_second"].items():
        print(f"{_WORDS[name]:<62}{figure:>8,}/s")
    print(
        f"Sent: {result['ratio']}x a kept connection (target {TARGET}x),"
        f" {result['ratio_to_connection_per_mail']}x a connection per mail;"
        f" composed: {result['ratio_composing']}x; {result['bytes_per_mail']:,} bytes a mail."
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
