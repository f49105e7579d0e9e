"""A mail as bytes, fast, and the same bytes every time.

Composing is where a mailer spends its time: the standard library's EmailMessage makes fewer than a thousand
mails of 10 KB a second. A mail of ours always has the same shape, so the shape is a constant and only values
are encoded and filled in. Nothing here reads a clock or draws a random number: Date, Message-ID and the boundary
come from the touchpoint, so that the bytes of a mail in doubt can be made again.

What is promised about the bytes, each of which other mailers have got wrong:

- one recipient, and no header that a value brought along (controls in values become a space);
- List-Unsubscribe stays plain ASCII on one line, whatever its length: receivers ignore an encoded one;
- no bare CR or LF anywhere, so that no relay can see a second message in this one ("SMTP smuggling");
- no line over 998 bytes (RFC 5322, 2.1.1), and 8-bit bodies only where the relay offers 8BITMIME (RFC 6152).
"""

from __future__ import annotations

import re
from base64 import encodebytes
from binascii import b2a_base64, b2a_qp
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from hashlib import sha256

from email_validator import EmailNotValidError, validate_email

from afterglow.errors import AfterglowError

LONGEST_LINE = 998
"""Bytes in a line without its CRLF (RFC 5322, 2.1.1)."""

HEADERS = (
    "Auto-Submitted",
    "Feedback-ID",
    "In-Reply-To",
    "List-Help",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Precedence",
    "References",
    "X-Auto-Response-Suppress",
    "X-Entity-Ref-ID",
)
"""The headers a mail may bring along besides those every mail has; any `X-Afterglow-...` may come too."""


class Uncomposable(AfterglowError):
    """This mail cannot be written as MIME; correct what the sentence names."""


class BadAddress(Uncomposable):
    """This is not one address that SMTP can carry; correct it at its source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """One mail to one customer, complete: no fact is looked up after this.

    `html` or `text` may be empty, not both. `date` is aware. `message_id` is `<left@right>` (see
    `message_id_for`). `idempotency_key` is the same for every try of one touchpoint and unguessable.
    """

    touchpoint_id: int
    to_address: str
    to_name: str | None
    sender_name: str | None
    sender_address: str
    reply_to: str | None
    subject: str
    html: str
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)
    message_id: str
    date: datetime
    idempotency_key: str


def message_id_for(idempotency_key: str, domain: str) -> str:
    """The Message-ID of the touchpoint with this key, under the sender's domain."""
    return f"<{sha256(idempotency_key.encode()).hexdigest()[:32]}@{domain}>"


def compose(outgoing: Outgoing, *, eightbit: bool) -> bytes:
    """The mail as bytes with CRLF line ends, ready for DATA except for dot-stuffing.

    `eightbit` says whether the relay offered 8BITMIME; without it every byte is ASCII. Raises BadAddress for
    an address that is not exactly one, and Uncomposable for a header outside `HEADERS` or not plain ASCII.
    """
    parts = [
        (subtype, *_body(body, eightbit))
        for subtype, body in ((b"plain", outgoing.text), (b"html", outgoing.html))
        if body
    ]
    head = b"From: %b\r\nTo: %b\r\n%bSubject: %b\r\nDate: %b\r\nMessage-ID: %b\r\n%bMIME-Version: 1.0\r\n" % (
        _brand_mailbox(outgoing.sender_name, outgoing.sender_address, len("From: ")),
        mailbox(outgoing.to_name, outgoing.to_address, len("To: ")),
        b"Reply-To: %b\r\n" % _brand_mailbox(None, outgoing.reply_to, 0) if outgoing.reply_to else b"",
        unstructured(outgoing.subject, len("Subject: ")),
        _date(outgoing.date),
        _message_id(outgoing.message_id),
        _further(outgoing.headers, outgoing.touchpoint_id),
    )
    match parts:
        case [plain, html]:
            boundary = _boundary(outgoing.idempotency_key, plain[2], html[2])
            return _ALTERNATIVE % (head, boundary, boundary, *plain, boundary, *html, boundary)
        case [only]:
            return _SINGLE % (head, *only)
        case _:
            raise Uncomposable("This mail has neither text nor HTML; give its template a body.")


_PART = b"Content-Type: text/%b; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n\r\n%b"
_SINGLE = b"%b" + _PART
_ALTERNATIVE = b"\r\n".join(
    (
        b'%bContent-Type: multipart/alternative; boundary="%b"',
        b"",
        b"--%b",
        _PART,
        b"--%b",
        _PART,
        b"--%b--",
        b"",
    )
)


def _boundary(key: str, *bodies: bytes) -> bytes:
    """A boundary that occurs in neither body, even if a customer's name tried to bring it along."""
    for attempt in range(1_000):
        boundary = b"=_%b" % sha256(f"{attempt}:{key}".encode()).hexdigest()[:32].encode()
        if not any(boundary in body for body in bodies):
            return boundary
    raise Uncomposable("No boundary can be found that the mail's text does not contain; look at its template.")


# Bodies

_HIGH = bytes(range(0x80, 0x100))


def _body(text: str, eightbit: bool) -> tuple[bytes, bytes]:
    """The body's transfer encoding and its encoded bytes, ending in CRLF.

    Plain where that is allowed; base64 where more than a sixth of the bytes are not ASCII (beyond that it is
    the shorter one); else quoted-printable, which stays legible.
    """
    raw = text.encode("utf-8", "replace")
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not raw.endswith(b"\n"):
        raw += b"\n"
    ascii_only = raw.isascii()
    if (ascii_only or eightbit) and b"\0" not in raw and _lines_fit(raw):
        return b"7bit" if ascii_only else b"8bit", raw.replace(b"\n", b"\r\n")
    if not ascii_only and 6 * (len(raw) - len(raw.translate(None, _HIGH))) > len(raw):
        return b"base64", encodebytes(raw.replace(b"\n", b"\r\n")).replace(b"\n", b"\r\n")
    return b"quoted-printable", b2a_qp(raw).replace(b"\n", b"\r\n")


def _lines_fit(raw: bytes) -> bool:
    """Whether no line is longer than 998 bytes: jumps from line end to line end instead of splitting."""
    start, end = 0, len(raw)
    while end - start > LONGEST_LINE:
        newline = raw.rfind(b"\n", start, start + LONGEST_LINE + 1)
        if newline < 0:
            return False
        start = newline + 1
    return True


# Addresses and header values

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@({_LABEL}(?:\.{_LABEL})*)")
_MESSAGE_ID = re.compile(rf"<{_ATOM}(?:\.{_ATOM})*@{_ATOM}(?:\.{_ATOM})*>")
_PHRASE = re.compile(rf"{_ATOM}(?: {_ATOM})*")
_BLANKS = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")
_VISIBLE = re.compile(r"[\x20-\x7e]+")
_OUR_HEADER = re.compile(r"X-Afterglow-[A-Za-z0-9-]{1,60}", re.IGNORECASE)
_CANONICAL = {name.lower(): name.encode("ascii") for name in HEADERS}


def checked_address(address: str) -> str:
    """The address as SMTP carries it: one, bare, ASCII, its domain in A-labels; else BadAddress.

    Bounds are RFC 5321's (4.5.3.1): 64 before the @, 254 in all. Quoted local parts, which no mailbox of a
    customer needs and which hide commas and blanks, are refused. The error never repeats the address.
    """
    if not address.isascii():
        try:
            address = validate_email(address, check_deliverability=False, allow_smtputf8=False).ascii_email or ""
        except EmailNotValidError as error:
            raise BadAddress from error
    if len(address) > 254:
        raise BadAddress
    found = _ADDRESS.fullmatch(address)
    if found is None or len(found[1]) > 64:
        raise BadAddress
    return address


def mailbox(name: str | None, address: str, used: int) -> bytes:
    """`Name <address>` for a header whose line already has `used` characters; any name is made safe."""
    bare = checked_address(address).encode("ascii")
    shown = _one_line(name or "")
    if not shown:
        return bare
    if not shown.isascii() or len(shown) > 120 or "=?" in shown:
        return b"%b\r\n <%b>" % (_encoded_words(shown, used), bare)
    if not _PHRASE.fullmatch(shown):
        shown = '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return b"%b <%b>" % (shown.encode("ascii"), bare)


_brand_mailbox = lru_cache(maxsize=256)(mailbox)
"""Senders and reply addresses are few and repeat; customers' are never kept."""


def unstructured(text: str, used: int) -> bytes:
    """A free-text header value on one logical line, RFC 2047-encoded where it must be."""
    shown = _one_line(text)
    if shown.isascii() and "=?" not in shown and len(shown) <= 900:
        return shown.encode("ascii")
    return _encoded_words(shown, used)


def _one_line(text: str) -> str:
    """Every run of blanks and control characters is one space: a value cannot begin a header of its own."""
    return _BLANKS.sub(" ", text).strip()


def _encoded_words(text: str, used: int) -> bytes:
    """RFC 2047 "B" words of at most 75 characters on lines of at most 76; no character is cut in two."""
    raw = text.encode("utf-8", "replace")
    words, start, room = [], 0, (64 - used) // 4 * 3
    while start < len(raw):
        end = start + room
        while end < len(raw) and raw[end] & 0xC0 == 0x80:
            end -= 1
        words.append(b"=?utf-8?b?%b?=" % b2a_base64(raw[start:end], newline=False))
        start, room = end, 45
    return b"\r\n ".join(words)


@lru_cache(maxsize=1024)
def _date(moment: datetime) -> bytes:
    if moment.tzinfo is None:
        raise Uncomposable("A mail's date needs a time zone; pass an aware datetime.")
    return format_datetime(moment).encode("ascii")


def _message_id(value: str) -> bytes:
    if len(value) > 250 or not _MESSAGE_ID.fullmatch(value):
        raise Uncomposable("A Message-ID is <left@right> in plain ASCII; make it with message_id_for().")
    return value.encode("ascii")


def _further(headers: Mapping[str, str], touchpoint_id: int) -> bytes:
    """The allowed extra headers: as they are or not at all, since an encoded List-Unsubscribe is no use."""
    lines = [b"X-Afterglow-Touchpoint: %d\r\n" % touchpoint_id]
    for name, value in headers.items():
        canonical = _CANONICAL.get(name.lower())
        if canonical is None:
            if not _OUR_HEADER.fullmatch(name) or name.lower() == "x-afterglow-touchpoint":
                raise Uncomposable(f"A mail may not carry the header {name!r}; allowed are {', '.join(HEADERS)}.")
            canonical = name.encode("ascii")
        if not _VISIBLE.fullmatch(value) or len(canonical) + 2 + len(value) > LONGEST_LINE:
            raise Uncomposable(
                f"The header {canonical.decode()} must be plain ASCII on one line of at most {LONGEST_LINE}"
                " characters; shorten it."
            )
        lines.append(b"%b: %b\r\n" % (canonical, value.strip().encode("ascii")))
    return b"".join(lines)
