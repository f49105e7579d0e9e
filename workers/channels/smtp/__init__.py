"""E-mail by SMTP through a relay, on kept connections.

A thread that sends takes a connection from the pool, or opens one, and gives it back. Where the relay
offers PIPELINING, one round trip carries the end of one mail and the beginning of the next (RFC 2920);
`conversation` keeps the books on which reply belongs to which mail.
"""

from __future__ import annotations

import smtplib
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from workers.channels import Fate, Outgoing
from workers.channels.smtp.conversation import Conversation, in_words
from workers.channels.smtp.relay import BadRelay, Relay, Security
from workers.channels.smtp.session import Session

RESTED_S = 5.0
"""A connection idle for longer is asked (NOOP) before mail is entrusted to it."""

TIRED_S = 60.0
"""A connection idle for longer is not used again: many relays close theirs after a minute or two."""

_MOST_KEPT = 16


class Smtp:
    """The SMTP channel. At most `batch` mails are in doubt when a process dies while sending."""

    name = "smtp"
    leaves_the_machine = True
    batch = 50

    def __init__(self, relay: Relay, *, tls: ssl.SSLContext | None = None) -> None:
        """Connects to nothing yet. `tls` replaces the default context. BadRelay for an unreadable `ca`."""
        self._relay = relay
        self._tls = tls
        if tls is None and relay.security is not Security.NONE:
            try:
                self._tls = ssl.create_default_context(cafile=relay.ca)
            except OSError:
                raise BadRelay(
                    f"AFTERGLOW_SMTP_URL names the CA file {relay.ca!r}, which cannot be read; correct ?ca=."
                ) from None
        self._idle: list[Session] = []
        self._lock = threading.Lock()

    def send(self, messages: Sequence[Outgoing], deadline_s: float) -> list[Fate]:
        """The fate of each message, in order. Never raises for the relay's or the mails' faults.

        Goes on over a new connection when one ends (relays limit mails per connection), as long as the last
        one settled something; hands over nothing more after a mail came to be in doubt.
        """
        expires = time.monotonic() + deadline_s
        conversation = Conversation(messages, reserve_s=min(5.0, deadline_s / 4))
        while conversation.waiting:
            try:
                session, kept = self._taken(expires)
            except (OSError, smtplib.SMTPException) as error:
                conversation.stop(f"The relay could not be reached: {in_words(error)}.")
                break
            intact = False
            try:
                intact = conversation.hold(session, kept=kept)
            finally:
                if intact:
                    self._keep(session)
                else:
                    session.close()
            if not intact and not conversation.may_go_on(session):
                break
        return conversation.fates()

    def close(self) -> None:
        """Says goodbye on every idle connection; call it when no thread sends any more."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.leave()

    def _taken(self, expires: float) -> tuple[Session, bool]:
        """A connection for this thread alone, and whether it was a kept one."""
        while True:
            with self._lock:
                if not self._idle:
                    break
                session = self._idle.pop()
            session.expires = expires
            session.settled = 0
            if self._still_good(session):
                return session, True
            session.close()
        return Session(self._relay, self._tls, expires), False

    @staticmethod
    def _still_good(session: Session) -> bool:
        rested = time.monotonic() - session.used_at
        if rested > TIRED_S or not session.rests_quietly():
            return False
        if rested > RESTED_S:
            with suppress(OSError, smtplib.SMTPException):
                return session.noop()[0] == 250
            return False
        return True

    def _keep(self, session: Session) -> None:
        session.used_at = time.monotonic()
        with self._lock:
            if len(self._idle) < _MOST_KEPT:
                self._idle.append(session)
                return
        session.leave()
