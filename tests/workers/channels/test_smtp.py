"""Every way a relay can fail, and the one fate that is true of each mail.

The judge is the sink's accept log: what it has was sent, and a mail we call anything but sent or in doubt must
not be in it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.sample_mails import mail, mails
from tests.smtp_sink import Relay, sink
from workers.channels import Fate, InDoubt, NotBegun, Rejected, Sent, make_channel

N, S, D = NotBegun, Sent, InDoubt
PLENTY_S = 20.0


def sent_through(relay: Relay, count: int, deadline_s: float = PLENTY_S) -> list[Fate]:
    channel = make_channel("smtp", relay.url)
    try:
        return channel.send(mails(count), deadline_s)
    finally:
        channel.close()


def kinds(fates: Sequence[Fate]) -> list[type[Fate]]:
    return [type(fate) for fate in fates]


def assert_true(fates: Sequence[Fate], relay: Relay) -> None:
    """The log and the fates agree: nothing twice, nothing sent that was called unsent, and the reverse."""
    accepted = [int(line["touchpoint"]) for line in relay.accepts()]
    assert len(accepted) == len(set(accepted))
    for number, fate in enumerate(fates, 1):
        match fate:
            case Sent():
                assert number in accepted
            case Rejected() | NotBegun():
                assert number not in accepted
            case InDoubt():
                pass


@pytest.fixture(params=[True, False], ids=["pipelining", "one by one"])
def pipelining(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_each_mail_goes_to_its_own_recipient_and_no_other(tmp_path: Path, pipelining: bool) -> None:
    with sink(log=tmp_path / "log", pipelining=pipelining) as relay:
        fates = sent_through(relay, 30)

        assert [line["rcpt"] for line in relay.accepts()] == [f"customer{n}@example.com" for n in range(1, 31)]
        assert [line["touchpoint"] for line in relay.accepts()] == [str(n) for n in range(1, 31)]
        assert fates == [Sent(f"SINK{n}") for n in range(1, 31)]


# What the fault is, and the fate of four mails when the second one meets it.
FAULTS = [
    ("mail=451 4.3.0 busy@2", [S, Rejected, S, S]),
    ("mail=550 5.7.1 not you@2", [S, Rejected, S, S]),
    ("mail=421 4.3.2 closing@2", [S, S, S, S]),
    ("mail=530 5.7.0 log in first@2", [S, N, N, N]),
    ("rcpt=550 5.1.1 unknown@2", [S, Rejected, S, S]),
    ("rcpt=451 4.7.1 greylisted@2", [S, Rejected, S, S]),
    ("data=451 4.3.0 no space@2", [S, Rejected, S, S]),
    ("data=554 5.7.1 no@2", [S, Rejected, S, S]),
    ("data-anyway=550 5.1.1 unknown@2", [S, Rejected, S, S]),
    ("dot=451 4.3.0 later@2", [S, Rejected, S, S]),
    ("dot=554 5.7.1 spam@2", [S, Rejected, S, S]),
    ("close-at-mail@2", [S, S, S, S]),
    ("close-at-data@2", [S, S, S, S]),
    ("close-after-data@2", [S, D, N, N]),
    ("close-after-dot@2", [S, D, N, N]),
    ("accept-then-close@2", [S, D, N, N]),
    ("garbage-after-dot@2", [S, D, N, N]),
    ("close-after-accept@2", [S, S, S, S]),
    ("close-after-accept", [S, S, S, S]),
    ("rcpt=550 5.1.1 unknown", [Rejected, Rejected, Rejected, Rejected]),
    ("close-at-mail", [Rejected, N, N, N]),
    ("close-at-data", [Rejected, N, N, N]),
    ("mail=421 4.3.2 closing", [N, N, N, N]),
    ("greeting=554 5.3.2 no service", [N, N, N, N]),
    ("greeting=421 4.3.2 too many connections", [N, N, N, N]),
]


@pytest.mark.parametrize(("fault", "expected"), FAULTS, ids=[fault for fault, _ in FAULTS])
def test_a_relay_s_fault_leaves_each_mail_with_its_true_fate(
    fault: str, expected: list[type[Fate]], pipelining: bool, tmp_path: Path
) -> None:
    with sink(log=tmp_path / "log", faults=[fault], pipelining=pipelining) as relay:
        fates = sent_through(relay, 4)

        assert kinds(fates) == expected
        assert_true(fates, relay)


@pytest.mark.parametrize("fault", ["hold-after-dot@2", "accept-then-hold@2", "drip@2"])
def test_silence_after_the_final_dot_is_doubt_about_that_mail_alone_and_ends_at_the_deadline(
    fault: str, pipelining: bool, tmp_path: Path
) -> None:
    with sink(log=tmp_path / "log", faults=[fault], pipelining=pipelining) as relay:
        began = time.monotonic()
        fates = sent_through(relay, 4, deadline_s=1.5)
        took = time.monotonic() - began

        assert kinds(fates) == [S, D, N, N]
        assert_true(fates, relay)
        # The drip would have been a fate after five seconds, each byte well within any timeout per read; the others
        # would never have been one. A machine that stands still meanwhile takes its time.
        assert took < 60


def test_only_a_dead_address_is_suppressed() -> None:
    replies = {
        "rcpt=550 5.1.1 no such user": (True, True),
        "rcpt=550 5.7.1 your host is on our blocklist": (True, False),
        "rcpt=452 4.2.2 mailbox full": (False, False),
        "dot=550 5.1.1 no such user": (True, True),
        "dot=552 5.2.2 over quota": (True, False),
        "mail=550 5.1.8 bad sender": (True, False),
    }
    faults = [f"{reply}@{number}" for number, reply in enumerate(replies, 1)]
    with sink(faults=faults) as relay:
        fates = sent_through(relay, len(replies))

    for fate, (permanent, suppress) in zip(fates, replies.values(), strict=True):
        assert isinstance(fate, Rejected)
        assert (fate.permanent, fate.suppress) == (permanent, suppress)


steps = st.lists(
    st.sampled_from(
        [
            "",
            "",
            "rcpt=550 5.1.1 x",
            "mail=451 4.3.0 x",
            "data=451 4.3.0 x",
            "dot=451 4.3.0 x",
            "data-anyway=550 5.1.1 x",
            "close-at-mail",
            "close-at-data",
            "close-after-accept",
            "accept-then-close",
            "close-after-dot",
            "garbage-after-dot",
            "mail=421 4.3.2 x",
        ]
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=examples(25), deadline=None)
@given(faults=steps, pipelining=st.booleans())
def test_under_any_row_of_faults_nothing_is_sent_twice_and_every_fate_is_true(
    faults: list[str], pipelining: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    placed = [f"{fault}@{number}" for number, fault in enumerate(faults, 1) if fault]
    with sink(log=tmp_path_factory.mktemp("sink") / "log", faults=placed, pipelining=pipelining) as relay:
        fates = sent_through(relay, 6)

        assert_true(fates, relay)
        assert kinds(fates).count(InDoubt) <= 1


def test_a_batch_goes_on_where_the_relay_let_a_kept_connection_die(tmp_path: Path) -> None:
    with sink(log=tmp_path / "log", faults=["close-after-accept@1"]) as relay:
        channel = make_channel("smtp", relay.url)
        first = channel.send(mails(1), PLENTY_S)
        second = channel.send([mail(2), mail(3)], PLENTY_S)
        channel.close()

        assert kinds(first + second) == [S, S, S]
        assert_true(first + second, relay)


def test_a_connection_is_kept_from_one_batch_to_the_next() -> None:
    # From its second connection on, this relay turns everybody away.
    with sink(faults=["greeting=421 4.3.2 too many@2"]) as relay:
        channel = make_channel("smtp", relay.url)
        for _ in range(3):
            assert kinds(channel.send(mails(2), PLENTY_S)) == [S, S]
        channel.close()


def test_a_connection_that_rested_is_asked_first_and_one_that_tired_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Mail is answered on the first two connections only.
    with sink(faults=["greeting=421 4.3.2 too many@3"]) as relay:
        channel = make_channel("smtp", relay.url)
        assert kinds(channel.send(mails(1), PLENTY_S)) == [S]
        monkeypatch.setattr("workers.channels.smtp.RESTED_S", -1.0)
        assert kinds(channel.send(mails(1), PLENTY_S)) == [S]
        monkeypatch.setattr("workers.channels.smtp.TIRED_S", -1.0)
        assert kinds(channel.send(mails(1), PLENTY_S)) == [S]
        assert kinds(channel.send(mails(1), PLENTY_S)) == [N]
        channel.close()


def test_a_relay_that_is_not_there_leaves_every_mail_to_be_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    fates = make_channel("smtp", f"smtp://127.0.0.1:{port}?tls=no").send(mails(2), PLENTY_S)

    assert kinds(fates) == [N, N]
    assert "could not be reached" in str(fates[0])


def test_a_relay_that_never_greets_costs_the_deadline_and_no_mail() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        fates = make_channel("smtp", f"smtp://127.0.0.1:{silent.getsockname()[1]}?tls=no").send(mails(2), 0.5)

    assert kinds(fates) == [N, N]
    assert time.monotonic() - began < 60


def test_a_relay_without_8bitmime_gets_ascii_and_the_same_text() -> None:
    with sink(eightbit=False) as relay:
        assert kinds(sent_through(relay, 2)) == [S, S]


@pytest.mark.parametrize(
    "address", ["", "a@x.example, b@y.example", "a@x.example\r\nRCPT TO:<b@y.example>", "a@x.example> SIZE=1", "é@x.de"]
)
def test_an_address_that_is_not_one_is_refused_before_the_relay_hears_of_it(address: str, tmp_path: Path) -> None:
    hostile = [mail(1), mail(2, to_address=address), mail(3)]
    with sink(log=tmp_path / "log") as relay:
        channel = make_channel("smtp", relay.url)
        fates = channel.send(hostile, PLENTY_S)
        channel.close()

        assert kinds(fates) == [S, Rejected, S]
        assert [line["rcpt"] for line in relay.accepts()] == ["customer1@example.com", "customer3@example.com"]
    assert isinstance(fates[1], Rejected)
    assert fates[1].permanent
    assert not fates[1].suppress
