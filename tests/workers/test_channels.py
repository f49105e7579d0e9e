"""What every channel promises, held against every channel there is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sample_mails import mail, mails
from tests.smtp_sink import sink
from workers.channels import FACTORIES, Channel, NotBegun, Rejected, Sent, UnknownChannel, make_channel


@pytest.fixture(params=sorted(FACTORIES))
def channel(request: pytest.FixtureRequest) -> Iterator[Channel]:
    """Each channel in turn, with a provider that accepts everything."""
    with sink() as relay:
        channel = make_channel(request.param, relay.url)
        yield channel
        channel.close()


def test_a_channel_is_known_by_the_name_it_was_made_by(channel: Channel) -> None:
    assert FACTORIES[channel.name]
    assert channel.batch >= 1


def test_every_mail_has_a_fate_in_the_order_given(channel: Channel) -> None:
    fates = channel.send(mails(7), 20)

    assert [type(fate) for fate in fates] == [Sent] * 7


def test_no_mails_have_no_fates(channel: Channel) -> None:
    assert channel.send([], 20) == []


def test_no_time_left_is_a_fate_and_not_an_error(channel: Channel) -> None:
    fates = channel.send(mails(3), 0)

    assert len(fates) == 3
    assert all(isinstance(fate, NotBegun | Sent) for fate in fates)


def test_one_mail_that_cannot_be_written_does_not_hinder_the_others(channel: Channel) -> None:
    first, last = mail(1), mail(3)
    hostile = mail(2, headers={"Bcc": "everybody@example.com"})

    fates = channel.send([first, hostile, last], 20)

    assert isinstance(fates[0], Sent)
    assert isinstance(fates[1], Rejected | Sent)
    assert isinstance(fates[2], Sent)
    assert channel.leaves_the_machine == isinstance(fates[1], Rejected)


def test_threads_may_send_through_one_channel_at_once(channel: Channel) -> None:
    with ThreadPoolExecutor(4) as threads:
        batches = list(threads.map(lambda _: channel.send(mails(5), 20), range(8)))

    assert all(isinstance(fate, Sent) for fates in batches for fate in fates)


def test_a_closed_channel_opens_again_when_it_is_used(channel: Channel) -> None:
    channel.send([mail()], 20)
    channel.close()
    channel.close()

    assert isinstance(channel.send([mail()], 20)[0], Sent)


def test_only_the_outbox_keeps_everything_on_the_machine(channel: Channel) -> None:
    assert channel.leaves_the_machine == (channel.name != "outbox")


def test_a_channel_without_idempotency_keys_risks_at_most_fifty_mails_at_once(channel: Channel) -> None:
    assert not channel.leaves_the_machine or channel.batch <= 50


def test_an_unknown_channel_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownChannel, match="no channel 'pigeon'; choose one of outbox, smtp"):
        make_channel("pigeon")
