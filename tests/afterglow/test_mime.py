"""A composed mail says what was asked, to one recipient, in bytes every relay carries unchanged.

The standard library is the judge twice: its parser reads what we write, and EmailMessage, our slow elder,
writes the same mail for comparison.
"""

from __future__ import annotations

import email
import re
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from afterglow.mime import (
    BadAddress,
    Outgoing,
    Uncomposable,
    checked_address,
    compose,
    message_id_for,
)

MAIL = Outgoing(
    touchpoint_id=42,
    to_address="zoe@example.com",
    to_name="Zoë Müller",
    sender_name="Northlight Roastery",
    sender_address="hello@northlight.example",
    reply_to="care@northlight.example",
    subject="Your coffee is here ☕",
    html="<p>Hello <b>Zoë</b></p>\n",
    text="Hello Zoë\n",
    headers={
        "List-Unsubscribe": "<https://northlight.example/u/AbC-123>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    },
    message_id=message_id_for("key-42", "northlight.example"),
    date=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
    idempotency_key="key-42",
)

names = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)
nasty = st.sampled_from(
    [
        "Doe, Jane",
        "a@b.example, c@d.example",
        '"quoted" \\ back',
        "Bcc: x@y.example",
        "one\r\nBcc: two@x.example",
        "a\n\n<script>",
        "=?utf-8?q?not_encoded?=",
        "(comment)",
        "<angle@x.example>",
        "☕" * 40,
        "x" * 2_000,
        "é" * 700,
        "tab\there",
        "\x00nul",
        "line\u2028separator",
        "",
        "   ",
        ".",
        "semi; colon: at@",
    ]
)
bodies = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=400),
    st.lists(
        st.sampled_from([".", "..", "\r\n", "\n", "\r", "é☕", "From me", " ", "x" * 1_200, "=3D", "\x00", "--=_"])
    ).map("".join),
)


def parsed(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=SMTP)
    assert isinstance(message, EmailMessage)
    return message


def elder(outgoing: Outgoing) -> EmailMessage:
    """The same mail as EmailMessage writes it."""
    message = EmailMessage(policy=SMTP)
    message["From"] = Address(outgoing.sender_name or "", addr_spec=outgoing.sender_address)
    message["To"] = Address(outgoing.to_name or "", addr_spec=outgoing.to_address)
    message["Reply-To"] = outgoing.reply_to
    message["Subject"] = outgoing.subject
    message["Date"] = outgoing.date
    message["Message-ID"] = outgoing.message_id
    message.set_content(outgoing.text)
    message.add_alternative(outgoing.html, subtype="html")
    return parsed(message.as_bytes())


def one_line(text: str) -> str:
    return re.sub(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+", " ", text).strip()


def settled_lines(text: str) -> str:
    """Line ends made one kind, and one at the end: all that composing may change in a body."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return plain if plain.endswith("\n") else plain + "\n"


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode("utf-8").replace("\r\n", "\n")


def assert_sound(raw: bytes, *, eightbit: bool) -> None:
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert b"\0" not in raw
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert raw.endswith(b"\r\n")
    assert eightbit or raw.isascii()
    assert raw.partition(b"\r\n\r\n")[0].isascii()


def test_a_mail_reads_as_the_standard_library_would_have_written_it() -> None:
    ours, theirs = parsed(compose(MAIL, eightbit=True)), elder(MAIL)

    for header in ("From", "To", "Reply-To", "Subject", "Date", "Message-ID", "MIME-Version"):
        assert ours[header] == theirs[header], header
    assert ours["To"].addresses == theirs["To"].addresses
    assert ours.get_content_type() == theirs.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in ours.iter_parts()] == ["text/plain", "text/html"]
    for kind in ("plain", "html"):
        assert body(ours, kind) == body(theirs, kind)
    assert not [part.defects for part in ours.walk() if part.defects]


@given(st.one_of(names, nasty), st.one_of(names, nasty), st.booleans())
def test_any_name_and_subject_arrive_as_one_line_and_bring_no_header(name: str, subject: str, eightbit: bool) -> None:
    raw = compose(replace(MAIL, to_name=name, subject=subject), eightbit=eightbit)
    message = parsed(raw)

    assert_sound(raw, eightbit=eightbit)
    assert message["Subject"] == one_line(subject)
    assert [address.addr_spec for address in message["To"].addresses] == ["zoe@example.com"]
    assert name_read(raw) == one_line(name)
    assert {header.lower() for header in message.keys()} == {  # noqa: SIM118 - a message's keys repeat
        "from",
        "to",
        "reply-to",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "content-type",
        "x-afterglow-touchpoint",
        "list-unsubscribe",
        "list-unsubscribe-post",
    }
    assert len(message.keys()) == 11


def name_read(raw: bytes) -> str:
    """The recipient's name by RFC 2047; the newer parser wrongly keeps blanks between encoded words."""
    name, _ = parseaddr(email.message_from_bytes(raw)["To"])
    return str(make_header(decode_header(name)))


@given(st.one_of(names, nasty), st.one_of(names, nasty))
def test_an_encoded_word_is_short_and_can_be_read_by_itself(name: str, subject: str) -> None:
    head = compose(replace(MAIL, to_name=name, subject=subject), eightbit=False).partition(b"\r\n\r\n")[0]

    for line in head.split(b"\r\n"):
        words = re.findall(rb"=\?utf-8\?b\?([A-Za-z0-9+/=]*)\?=", line)
        assert not words or len(line) <= 76
        for word in words:
            assert len(word) + 12 <= 75
            b64decode(word).decode("utf-8")


@given(bodies, bodies, st.booleans())
def test_any_body_survives_but_for_its_line_ends(text: str, html: str, eightbit: bool) -> None:
    assume(text and html)
    raw = compose(replace(MAIL, text=text, html=html), eightbit=eightbit)
    message = parsed(raw)

    assert_sound(raw, eightbit=eightbit)
    assert body(message, "plain") == settled_lines(text)
    assert body(message, "html") == settled_lines(html)


@given(st.one_of(names, nasty), bodies)
def test_the_same_touchpoint_composes_to_the_same_bytes(name: str, text: str) -> None:
    mail = replace(MAIL, to_name=name, text=text)

    assert compose(mail, eightbit=True) == compose(mail, eightbit=True)


def test_a_name_that_brings_the_boundary_along_cannot_end_a_part() -> None:
    boundary = parsed(compose(MAIL, eightbit=True)).get_boundary()
    hostile = f"Hi\n--{boundary}\nContent-Type: text/html\n\nbuy this\n--{boundary}--\n"

    message = parsed(compose(replace(MAIL, text=hostile), eightbit=True))

    assert message.get_boundary() != boundary
    assert body(message, "plain") == hostile
    assert body(message, "html") == MAIL.html


@pytest.mark.parametrize("length", [40, 74, 75, 76, 77, 85, 120, 200, 400, 700, 900])
def test_list_unsubscribe_is_one_plain_line_whatever_the_length_of_its_address(length: int) -> None:
    url = "https://northlight.example/u/" + "a" * (length - 29)
    raw = compose(
        replace(
            MAIL,
            headers={"List-Unsubscribe": f"<{url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
        ),
        eightbit=False,
    )

    assert len(url) == length
    assert f"\r\nList-Unsubscribe: <{url}>\r\n".encode() in raw
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in raw


@pytest.mark.parametrize("value", ["<https://x.example/ü>", "a\r\nBcc: b@x.example", "x" * 1_000, "", "a\x00b"])
def test_a_header_value_that_is_not_plain_ascii_on_one_line_is_refused(value: str) -> None:
    with pytest.raises(Uncomposable, match="List-Unsubscribe must be plain ASCII"):
        compose(replace(MAIL, headers={"List-Unsubscribe": value}), eightbit=True)


@pytest.mark.parametrize(
    "name",
    [
        "Bcc",
        "To",
        "Subject",
        "X-Evil\r\nBcc",
        "Content-Type",
        "X-Afterglow-Touchpoint",
        "X-Afterglow-a: b",
        "",
    ],
)
def test_a_header_outside_the_allowed_ones_is_refused(name: str) -> None:
    with pytest.raises(Uncomposable, match="may not carry"):
        compose(replace(MAIL, headers={name: "x@y.example"}), eightbit=True)


BAD_ADDRESSES = [
    "",
    "plain",
    "@example.com",
    "a@",
    "a@b@c.example",
    "a@x.example, b@evil.example",
    "a@x.example b@evil.example",
    "a@x.example\r\nRCPT TO:<b@evil.example>",
    "a@x.example>",
    "<a@x.example>",
    "Zoe <a@x.example>",
    '"a b"@x.example',
    "a..b@x.example",
    ".a@x.example",
    "a.@x.example",
    "a@-x.example",
    "a@x..example",
    "a@x.example.",
    "a@[127.0.0.1]",
    "a(comment)@x.example",
    "a;b@x.example",
    "a:b@x.example",
    "a\\b@x.example",
    "a\x00@x.example",
    "a@x.example\n",
    " a@x.example",
    "a@x_y.example",
    "l" * 65 + "@x.example",
    "a@" + "d" * 64 + ".example",
    "a@" + "d.example" * 40,
    "üser@x.example",
    "a\u200b@x.example",
]


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_what_is_not_exactly_one_address_is_refused_without_repeating_it(address: str) -> None:
    for changed in (
        replace(MAIL, to_address=address),
        replace(MAIL, sender_address=address),
        replace(MAIL, reply_to=address or "?"),
    ):
        with pytest.raises(BadAddress) as refused:
            compose(changed, eightbit=True)
        assert not address or address not in str(refused.value)


@given(st.emails())
def test_every_ordinary_address_is_carried_as_it_is(address: str) -> None:
    assert checked_address(address) == address


def test_a_domain_in_another_script_is_carried_in_its_ascii_form() -> None:
    assert checked_address("zoe@rösterei.de") == "zoe@xn--rsterei-90a.de"


@pytest.mark.parametrize(
    ("text", "eightbit", "encoding"),
    [
        ("plain\n", True, "7bit"),
        ("plain\n", False, "7bit"),
        ("Grüße aus der Rösterei, wie immer frisch\n", True, "8bit"),
        ("Grüße aus der Rösterei, wie immer frisch\n", False, "quoted-printable"),
        ("コーヒーが届きました\n", False, "base64"),
        ("x" * 999, True, "quoted-printable"),
        ("x" * 998, True, "7bit"),
        ("x" * 998 + "\n" + "y" * 998 + "\n", True, "7bit"),
        ("é" * 500, True, "base64"),
    ],
)
def test_a_body_is_encoded_only_as_far_as_the_relay_needs(text: str, eightbit: bool, encoding: str) -> None:
    part = parsed(compose(replace(MAIL, text=text), eightbit=eightbit)).get_body(("plain",))

    assert part is not None
    assert part["Content-Transfer-Encoding"] == encoding


def test_a_mail_with_one_body_is_a_single_part_and_one_with_none_is_refused() -> None:
    message = parsed(compose(replace(MAIL, html=""), eightbit=True))

    assert message.get_content_type() == "text/plain"
    assert message.get_content().replace("\r\n", "\n") == MAIL.text
    with pytest.raises(Uncomposable, match="neither text nor HTML"):
        compose(replace(MAIL, html="", text=""), eightbit=True)


@pytest.mark.parametrize("message_id", ["", "bare@x.example", "<a@b>\r\nBcc: c@d", "<a b@c>", "<" + "a" * 300 + "@b>"])
def test_a_message_id_that_is_not_one_is_refused(message_id: str) -> None:
    with pytest.raises(Uncomposable, match="Message-ID"):
        compose(replace(MAIL, message_id=message_id), eightbit=True)


def test_a_date_without_a_zone_is_refused() -> None:
    with pytest.raises(Uncomposable, match="time zone"):
        compose(replace(MAIL, date=datetime(2026, 3, 2)), eightbit=True)


def test_a_lone_surrogate_is_shown_as_a_question_mark_instead_of_losing_the_mail() -> None:
    message = parsed(compose(replace(MAIL, to_name="a\ud800", text="b\udfff", subject="\ud800"), eightbit=True))

    assert message["Subject"] == "?"
    assert body(message, "plain") == "b?\n"
