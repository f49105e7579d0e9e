"""Telling a batch of mails to a relay, and never losing track of which mail got which reply.

At any moment there are at most two mails under way on a connection. One is *told*: its content and final
dot are being written or are written, and until the relay answers the dot nobody knows whether it has it.
The other is *opened*: its MAIL, RCPT and DATA are written behind that dot, and without content it cannot
have been sent. So when a connection breaks, the first is in doubt (or, if the dot had not left, refused for
now) and the second only lost its turn. Everything else here follows from this.
"""

from __future__ import annotations

import smtplib
import ssl
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from socket import gaierror

from afterglow.mime import Uncomposable, checked_address, compose
from workers.channels import Fate, InDoubt, NotBegun, Outgoing, Rejected
from workers.channels.smtp.replies import CLOSING, NOT_LET_IN, Reply, refusal, scrubbed, verdict
from workers.channels.smtp.session import Garbled, Session

_RSET = b"RSET\r\n"
_LONE_DOT = b".\r\n"


class _Closing(smtplib.SMTPException):
    """The relay said 421: it ends this connection, and another one may do."""


class _NotLetIn(smtplib.SMTPException):
    """The relay wants a login that we did not give or that is not enough."""


@dataclass(frozen=True, slots=True)
class _Mail:
    """One composed mail in the form it is written to this relay."""

    index: int
    address: str
    envelope: tuple[bytes, bytes, bytes]
    content: bytes


class Conversation:
    """One batch's way to the relay, over one connection after another if need be."""

    def __init__(self, messages: Sequence[Outgoing], *, reserve_s: float) -> None:
        """`reserve_s`: so much of the deadline is kept to hear the last answer; no mail is begun in it."""
        self.waiting = deque(range(len(messages)))
        self._messages = messages
        self._reserve_s = reserve_s
        self._fates: dict[int, Fate] = {}
        self._why = "Its turn did not come before the batch ended."
        self._stopped = False
        self._kept = False
        self._told: _Mail | None = None
        self._opened: _Mail | None = None

    def stop(self, reason: str) -> None:
        """Nothing more is begun, for this reason."""
        self._why = reason
        self._stopped = True

    def may_go_on(self, session: Session) -> bool:
        """Whether another connection is worth trying after this one ended before the batch did.

        It is if this one settled something, or if it was a kept one that was already dead when taken.
        """
        return not self._stopped and (session.settled > 0 or self._kept)

    def fates(self) -> list[Fate]:
        """The fate of every message, in order; those whose turn never came are not begun."""
        return [self._fates.get(index, NotBegun(self._why)) for index in range(len(self._messages))]

    def hold(self, session: Session, *, kept: bool) -> bool:
        """Tells the waiting mails on this connection. False if the connection is of no more use."""
        self._kept = kept
        try:
            self._talk(session)
        except _NotLetIn as error:
            self._take_back()
            self.stop(f"The relay wants a login: {error}.")
            return False
        except (OSError, smtplib.SMTPException) as error:
            self._account_for(session, error)
            return False
        return True

    def _talk(self, session: Session) -> None:
        carried = b""
        mail = self._composed(session)
        while mail is not None or carried:
            if mail is not None and session.left < self._reserve_s:
                self.stop("The deadline of the batch left no time to send it.")
                mail = None
                continue
            if mail is not None:
                self._opened = mail
                self.waiting.popleft()
            commands = (*((carried,) if carried else ()), *(mail.envelope if mail else ()))
            replies = session.exchange(commands)
            # Composed while the relay works on what it was just given.
            following = self._composed(session) if mail is not None else None
            if carried:
                self._close(session, carried, next(replies))
            carried = self._open(session, mail, replies) if mail is not None else b""
            mail = following

    def _composed(self, session: Session) -> _Mail | None:
        """The next waiting mail that can be written; those that cannot are refused on the way."""
        while self.waiting and not self._stopped:
            index = self.waiting[0]
            try:
                return _written(index, self._messages[index], session)
            except Uncomposable as error:
                self.waiting.popleft()
                self._fates[index] = Rejected(f"It was not sent: {error}", permanent=True)
        return None

    def _close(self, session: Session, carried: bytes, reply: Reply) -> None:
        """Hears the answer to what led the group: a mail's final dot, a lone dot, or RSET."""
        if (told := self._told) is not None:
            fate = verdict(reply, told.address)
            if fate is None:
                raise Garbled(f"the relay answered the end of a mail with {reply.code}")
            self._fates[told.index] = fate
            self._told = None
            session.settled += 1
        elif carried == _RSET and reply.refuses:
            raise _Closing("the relay refused to start over")
        if reply.code == CLOSING:
            raise _Closing(f"the relay closes: {scrubbed(reply.text)}")

    def _open(self, session: Session, mail: _Mail, replies: Iterator[Reply]) -> bytes:
        """Hears the answers to MAIL, RCPT and DATA; returns what to write at the head of the next group."""
        no: Reply | None = None
        of_recipient = content_asked_for = False
        for place, reply in enumerate(replies):
            if reply.code == CLOSING:
                raise _Closing(f"the relay closes: {scrubbed(reply.text)}")
            content_asked_for = place == 2 and reply.code == 354
            welcome = content_asked_for if place == 2 else 200 <= reply.code <= 299
            if welcome or no is not None:
                continue
            if not reply.refuses:
                raise Garbled(f"the relay answered with {reply.code} out of place")
            if place == 0 and reply.code in NOT_LET_IN:
                raise _NotLetIn(f"{reply.code} {scrubbed(reply.text)}")
            no, of_recipient = reply, place == 1
            if not session.pipelining:
                break
        self._opened = None
        if no is None:
            self._told = mail
            return mail.content
        self._fates[mail.index] = refusal(no, of_recipient=of_recipient, address=mail.address)
        session.settled += 1
        # A relay may ask for the content of a mail whose only recipient it refused (RFC 2920, 3.1): an empty
        # one is owed to it. Otherwise the transaction is still open and the next MAIL would be "nested".
        return _LONE_DOT if content_asked_for else _RSET

    def _take_back(self) -> None:
        """The opened mail only lost its turn."""
        if self._opened is not None:
            self.waiting.appendleft(self._opened.index)
            self._opened = None

    def _account_for(self, session: Session, error: OSError | smtplib.SMTPException) -> None:
        """Says what a broken conversation means for the told and the opened mail."""
        words = in_words(error)
        if (told := self._told) is not None:
            if session.handed >= len(told.content):
                self._fates[told.index] = InDoubt(f"The whole mail was handed over, and then {words}.")
                self.stop(f"Nothing more was sent after a mail came to be in doubt: {words}.")
            else:
                # Without its final dot a relay must throw a mail away (RFC 5321, 4.1.1.4).
                self._fates[told.index] = Rejected(f"Before the end of the mail {words}.", permanent=False)
            self._told = None
        elif (opened := self._opened) is not None and self._broke_it(session, error):
            self._fates[opened.index] = Rejected(f"Before its content was sent {words}.", permanent=False)
            self._opened = None
        self._take_back()
        if not self._stopped:
            self._why = f"Its turn did not come: {words}."
            self._stopped = isinstance(error, TimeoutError)

    def _broke_it(self, session: Session, error: OSError | smtplib.SMTPException) -> bool:
        """Whether the opened mail counts as tried: the break may be its doing, and next time may break too.

        Not if the relay said that it closes, or if nothing of it left; nor yet on a connection that was
        merely old or had served others, for then it gets its chance on a new one.
        """
        if isinstance(error, _Closing) or session.handed == 0:
            return False
        return isinstance(error, TimeoutError) or (session.settled == 0 and not self._kept)


def _written(index: int, outgoing: Outgoing, session: Session) -> _Mail:
    """The mail as this relay wants it: dot-stuffed (RFC 5321, 4.5.2), its size and body type announced."""
    raw = compose(outgoing, eightbit=session.eightbit)
    address = checked_address(outgoing.to_address)
    size = b" SIZE=%d" % len(raw) if session.has_extn("size") else b""
    body = b" BODY=8BITMIME" if not raw.isascii() else b""
    sender = checked_address(outgoing.sender_address).encode("ascii")
    return _Mail(
        index=index,
        address=address,
        envelope=(
            b"MAIL FROM:<%b>%b%b\r\n" % (sender, size, body),
            b"RCPT TO:<%b>\r\n" % address.encode("ascii"),
            b"DATA\r\n",
        ),
        content=raw.replace(b"\r\n.", b"\r\n..") + _LONE_DOT,
    )


def in_words(error: OSError | smtplib.SMTPException) -> str:
    """What went wrong on a connection, as the end of a sentence, without addresses and secrets."""
    match error:
        case smtplib.SMTPResponseException():
            words = error.smtp_error
            text = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
            return f"the relay said {error.smtp_code} {scrubbed(text)}".rstrip()
        case TimeoutError():
            return "the relay did not answer before the deadline"
        case gaierror():
            return "its name could not be looked up"
        case ssl.SSLError():
            return f"TLS failed ({scrubbed(error.reason or str(error))})"
        case smtplib.SMTPException():
            return scrubbed(str(error)) or "the relay broke off"
        case _:
            return f"the connection failed ({error.strerror or type(error).__name__})"
