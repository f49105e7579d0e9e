"""Ways to reach people. One file, one channel; this one says what every channel promises.

A channel takes a batch of complete mails and says the fate of each. It opens no transaction, looks up no
fact, retries nothing by itself and never raises for what a provider does: trouble is a fate. The four fates
are what delivery must be able to tell apart (a provider that falls silent after the last byte leaves a mail
*in doubt*, which is neither sent nor not sent):

    Sent       the provider took it
    Rejected   the provider, or the mail's own form, says no: for good, or for now
    NotBegun   nothing about this mail was tried; it may simply be queued again
    InDoubt    the provider may or may not have it, and only a policy can decide

To add a channel, write `workers/channels/<name>.py` with a class that keeps this protocol and a line in
`FACTORIES`; `tests/workers/test_channels.py` holds every channel to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from afterglow.errors import AfterglowError
from afterglow.mime import Outgoing

__all__ = [
    "FACTORIES",
    "Channel",
    "Fate",
    "InDoubt",
    "NotBegun",
    "Outgoing",
    "Rejected",
    "Sent",
    "UnknownChannel",
    "make_channel",
]


@dataclass(frozen=True, slots=True)
class Sent:
    """The provider took it, under this id of its own where it told one."""

    provider_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider said no, or the mail cannot be written; the reason never contains an address.

    `permanent`: trying again is pointless. `suppress`: the address itself is dead, so write to it no more.
    """

    reason: str
    permanent: bool
    suppress: bool = False


@dataclass(frozen=True, slots=True)
class NotBegun:
    """Nothing was tried for this mail, so that it may be queued again without harm."""

    reason: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The whole mail went out and no answer came back."""

    reason: str


Fate = Sent | Rejected | NotBegun | InDoubt


class Channel(Protocol):
    """A way to send. Safe to use from several threads at once; made in the process that uses it."""

    @property
    def name(self) -> str:
        """The word for it in settings and records."""

    @property
    def leaves_the_machine(self) -> bool:
        """Whether a real person may get what is sent: the staging guard asks this."""

    @property
    def batch(self) -> int:
        """How many mails to hand over at once, which bounds how many a crash leaves in doubt."""

    def send(self, messages: Sequence[Outgoing], deadline_s: float) -> list[Fate]:
        """The fate of each message, in order, within `deadline_s` seconds for all of them together."""

    def close(self) -> None:
        """Let go of connections; a later `send` opens new ones."""


class UnknownChannel(AfterglowError):
    """There is no channel of this name; choose one of those listed."""


def _outbox(url: str) -> Channel:
    from workers.channels.outbox import Outbox

    return Outbox()


def _smtp(url: str) -> Channel:
    from workers.channels.smtp import Smtp
    from workers.channels.smtp.relay import parse_relay

    return Smtp(parse_relay(url))


FACTORIES: Mapping[str, Callable[[str], Channel]] = {"outbox": _outbox, "smtp": _smtp}
"""A channel's name -> what makes it from its provider's URL (`AFTERGLOW_SMTP_URL` for `smtp`)."""


def make_channel(name: str, url: str = "") -> Channel:
    """The channel of this name, carried by the provider at `url`; connects to nothing yet.

    Raises UnknownChannel, and an AfterglowError with the sentence to show where the URL is of no use.
    """
    try:
        factory = FACTORIES[name]
    except KeyError:
        raise UnknownChannel(f"There is no channel {name!r}; choose one of {', '.join(FACTORIES)}.") from None
    return factory(url)
