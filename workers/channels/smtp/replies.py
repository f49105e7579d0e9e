"""What a relay's reply means for a mail, and how it is told without naming anybody.

Codes: RFC 5321, 4.2; enhanced codes: RFC 3463 and its registry. Only a reply that speaks about the
recipient's address suppresses it: relays answer 550 for blocklists and policies too, and one bad afternoon
on a blocklist must not silence a whole shop's customers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.channels import Fate, Rejected, Sent


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: its code and its text, lines joined."""

    code: int
    text: str

    @property
    def refuses(self) -> bool:
        """Whether this is a no (4xx for now, 5xx for good) as opposed to a yes or to nonsense."""
        return 400 <= self.code <= 599


CLOSING = 421
"""The relay ends the connection; it may say so in answer to any command (RFC 5321, 3.8)."""

NOT_LET_IN = frozenset({530, 534, 535, 538})
"""Codes about our login (RFC 4954, 6): they say nothing about the mail or its recipient."""

_DEAD_ADDRESS = re.compile(r"5\.1\.(?:1|2|3|6|10)\b|5\.2\.1\b")
"""No such mailbox, no such domain, bad syntax, moved away, null MX; mailbox disabled."""

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\b")
_NO_SUCH_MAILBOX = re.compile(
    r"(?:user|recipient|mailbox|address|account) (?:is )?(?:unknown|not found|unavailable|disabled)"
    r"|(?:unknown|invalid|no such) (?:user|recipient|mailbox|address|local part)|does(?: not|n't) exist",
    re.IGNORECASE,
)


def refusal(reply: Reply, *, of_recipient: bool, address: str) -> Rejected:
    """The Rejected that a 4xx or 5xx reply means; `of_recipient` if it answered RCPT."""
    permanent = reply.code >= 500
    return Rejected(
        reason=f"The relay refused it: {reply.code} {scrubbed(reply.text, address)}".rstrip(),
        permanent=permanent,
        suppress=permanent and _is_dead(reply, of_recipient),
    )


def verdict(reply: Reply, address: str) -> Fate | None:
    """What the reply to the final dot means; None if it is no answer to it at all."""
    if 200 <= reply.code <= 299:
        return Sent(provider_id(reply.text))
    if reply.refuses:
        return refusal(reply, of_recipient=False, address=address)
    return None


def _is_dead(reply: Reply, of_recipient: bool) -> bool:
    """Whether the recipient's address is the reason, judged by the enhanced code, else by the words."""
    if found := _ENHANCED.match(reply.text):
        return _DEAD_ADDRESS.fullmatch(found[0]) is not None
    return of_recipient and reply.code in (550, 551, 553) and _NO_SUCH_MAILBOX.search(reply.text) is not None


_QUEUED_AS = re.compile(r"queued as ([\w.-]{4,80})|^(?:2\.\d\.\d )?ok:? ([\w.-]{8,120})$", re.I | re.M)


def provider_id(text: str) -> str | None:
    """The relay's own id for a mail, as postfix ("queued as ...") and Amazon SES ("Ok ...") tell it."""
    found = _QUEUED_AS.search(text)
    return (found[1] or found[2]) if found else None


_ADDRESS_LIKE = re.compile(r"[^\s<>()\[\]\"',;]*(?:@|%40)[^\s<>()\[\]\"',;]*", re.IGNORECASE)
_LONGEST_REASON = 300


def scrubbed(text: str, address: str = "") -> str:
    """A relay's words fit to be stored: one line, bounded, every address and this one's local part taken out.

    Reasons outlive the customer's data, are shown on pages and logged; relays quote addresses in them.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = _ADDRESS_LIKE.sub("(address)", line)
    if local := address.partition("@")[0]:
        line = re.sub(rf"(?<!\w){re.escape(local)}(?!\w)", "(address)", line, flags=re.IGNORECASE)
    return line[:_LONGEST_REASON]
