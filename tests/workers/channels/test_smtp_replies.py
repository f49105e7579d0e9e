"""A reply means what the relay said about this mail, and is told without an address."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.channels import Rejected, Sent
from workers.channels.smtp.replies import Reply, provider_id, refusal, scrubbed, verdict


@pytest.mark.parametrize(
    ("code", "text", "of_recipient", "permanent", "suppress"),
    [
        (550, "5.1.1 The email account that you tried to reach does not exist", True, True, True),
        (550, "5.1.1 User unknown", False, True, True),
        (556, "5.1.10 Recipient domain has null MX", True, True, True),
        (550, "5.2.1 mailbox disabled", True, True, True),
        (550, "No such user here", True, True, True),
        (550, "user unknown", True, True, True),
        (550, "No such user here", False, True, False),
        (550, "5.7.515 Access denied, sending domain does not meet the required level", True, True, False),
        (550, "5.7.1 user unknown to our allow-list", True, True, False),
        (550, "Rejected: listed at a blocklist", True, True, False),
        (550, "5.1.8 sender address rejected", True, True, False),
        (550, "5.1.10x", True, True, False),
        (552, "5.2.2 over quota", True, True, False),
        (450, "4.1.1 user unknown for now", True, False, False),
        (451, "greylisted", True, False, False),
    ],
)
def test_a_refusal_suppresses_only_an_address_that_is_dead(
    code: int, text: str, of_recipient: bool, permanent: bool, suppress: bool
) -> None:
    fate = refusal(Reply(code, text), of_recipient=of_recipient, address="zoe@example.com")

    assert (fate.permanent, fate.suppress) == (permanent, suppress)
    assert fate.reason.startswith(f"The relay refused it: {code}")


def test_the_answer_to_the_final_dot_decides_or_says_nothing() -> None:
    assert verdict(Reply(250, "2.0.0 Ok: queued as 4XyZ9"), "a@b.example") == Sent("4XyZ9")
    assert isinstance(verdict(Reply(451, "later"), "a@b.example"), Rejected)
    assert verdict(Reply(354, "go ahead"), "a@b.example") is None
    assert verdict(Reply(199, ""), "a@b.example") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.0.0 Ok: queued as 4XyZ9qw1", "4XyZ9qw1"),
        ("Ok 0102018f-abcd-4f00-9a2b-000000", "0102018f-abcd-4f00-9a2b-000000"),
        ("2.0.0 OK 1700000000 d9443c01a7336-1f - gsmtp", None),
        ("Message accepted for delivery", None),
        ("Ok: queued as <zoe@example.com>", None),
    ],
)
def test_the_relay_s_own_id_is_kept_where_it_tells_one(text: str, expected: str | None) -> None:
    assert provider_id(text) == expected


@given(st.text(max_size=200), st.emails(), st.text(max_size=200))
@example("<", "zoe@example.com", ">: user zoe unknown (zoe%40example.com)")
@example("", "a.b+c@example.com", " =?a.b+c?= A.B+C")
def test_no_reason_ever_contains_an_address(before: str, address: str, after: str) -> None:
    for words in (before + address + after, f"{before}<{address}>{after}", f"{before} {address.upper()} {after}"):
        told = scrubbed(words, address)

        assert address.lower() not in told.lower()
        assert "@" not in told
        assert len(told) <= 300
        assert "\n" not in told
        assert "\r" not in told


def test_a_local_part_told_by_itself_is_taken_out_too() -> None:
    told = scrubbed("5.1.1 <zoe.mueller>: user zoe.mueller unknown", "zoe.mueller@example.com")

    assert "zoe" not in told
