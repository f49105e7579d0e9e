"""One connection to a relay: smtplib with one deadline over everything.

smtplib's timeout is per read, so that a relay which sends a byte now and then holds a thread for hours.
Both of its primitives, `send` and `getreply`, are replaced here by ones that give each system call only the
time that remains; EHLO, STARTTLS and AUTH, built on them, inherit that. Only the name lookup has its own
bound, the resolver's.
"""

from __future__ import annotations

import selectors
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from workers.channels.smtp.relay import Relay, Security
from workers.channels.smtp.replies import Reply

_CHUNK = 65_536
_LONGEST_REPLY_LINE = 8_192
_MOST_REPLY_LINES = 200
_CONNECT_S = 10.0
"""Of the deadline, the most that one of a host's addresses may use: a dead one must not starve the next."""


class Garbled(smtplib.SMTPException):
    """The relay's answer makes no sense."""


class Session(smtplib.SMTP):
    """A connection on which mails can be sent. Used by one thread at a time."""

    def __init__(self, relay: Relay, tls: ssl.SSLContext | None, expires: float) -> None:
        """Connects, becomes private and logs in, all before `expires` (on `time.monotonic`).

        Raises OSError (DNS, refused, TLS, timeout) or SMTPException (greeting, EHLO, STARTTLS, login).
        """
        # Given a name, smtplib does not look up our own, which can take seconds; the true one is set below.
        super().__init__(local_hostname="localhost")
        self.expires = expires
        self.settled = 0
        """Mails of the current batch that got their answer on this connection."""
        self.handed = 0
        """Bytes of the last `send` that may have reached the relay."""
        self._unread = b""
        try:
            self._open(relay, tls)
        except BaseException:
            self.close()
            raise
        self.used_at = time.monotonic()

    @property
    def pipelining(self) -> bool:
        """Whether commands may be written together (RFC 2920)."""
        return self.has_extn("pipelining")

    @property
    def eightbit(self) -> bool:
        """Whether bodies may have bytes over 127 (RFC 6152)."""
        return self.has_extn("8bitmime")

    @property
    def left(self) -> float:
        """Seconds until the deadline, negative once it passed."""
        return self.expires - time.monotonic()

    def remaining(self) -> float:
        """Seconds until the deadline; TimeoutError when there are none."""
        if (left := self.left) <= 0:
            raise TimeoutError("the deadline passed")
        return left

    def rests_quietly(self) -> bool:
        """Whether an idle connection has said nothing since: what it has to say then is that it closes."""
        if self.sock is None or self._unread:
            return False
        with selectors.DefaultSelector() as selector:  # select() itself fails beyond 1,024 open files
            selector.register(self.sock, selectors.EVENT_READ)
            return not selector.select(0)

    def exchange(self, commands: Sequence[bytes]) -> Iterator[Reply]:
        """The replies to these commands, one for one and in order.

        Where the relay offers PIPELINING all are written before this returns, and the caller reads every
        reply. Elsewhere each is written when its reply is asked for; a caller that stops asking sends no
        more.
        """
        if self.pipelining:
            self.send(b"".join(commands))
            return (self.reply() for _ in commands)
        return self._one_by_one(commands)

    def reply(self) -> Reply:
        """The next reply."""
        code, text = self.getreply()
        return Reply(code, text.decode("utf-8", "replace"))

    def _one_by_one(self, commands: Sequence[bytes]) -> Iterator[Reply]:
        for command in commands:
            self.send(command)
            yield self.reply()

    def _open(self, relay: Relay, tls: ssl.SSLContext | None) -> None:
        plain = self._connected(relay)
        self.sock = plain
        if relay.security is Security.FROM_START:
            self._become_private(plain, relay, tls)
        code, words = self.getreply()
        if code != 220:
            raise smtplib.SMTPConnectError(code, words)
        # Our address as a literal (RFC 5321, 4.1.3) is true everywhere; a container's name rarely is.
        own = self.sock.getsockname()[0]
        self.local_hostname = f"[IPv6:{own}]" if ":" in own else f"[{own}]"
        self.ehlo_or_helo_if_needed()
        if relay.security is Security.STARTTLS:
            self._start_tls(plain, relay, tls)
            self.ehlo_or_helo_if_needed()
        if relay.username is not None and relay.password is not None:
            self.login(relay.username, relay.password)

    def _connected(self, relay: Relay) -> socket.socket:
        trouble: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(relay.host, relay.port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(min(self.remaining(), _CONNECT_S))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                trouble = error
            else:
                return sock
        raise trouble or OSError("the relay's name has no address")

    def _start_tls(self, plain: socket.socket, relay: Relay, tls: ssl.SSLContext | None) -> None:
        code, _ = self.docmd("STARTTLS")
        if code != 220:
            raise smtplib.SMTPNotSupportedError(
                f"the relay offers no STARTTLS ({code}), and mail is not sent without TLS"
            )
        if self._unread:
            # Plain text behind the reply would be read as if it had come through TLS (CVE-2011-0411).
            raise Garbled("the relay spoke out of turn before TLS")
        self._become_private(plain, relay, tls)
        # What was said in plain text counts for nothing (RFC 3207, 4.2).
        self.ehlo_resp = self.helo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False

    def _become_private(self, plain: socket.socket, relay: Relay, tls: ssl.SSLContext | None) -> None:
        plain.settimeout(self.remaining())
        context = tls or ssl.create_default_context(cafile=relay.ca)
        self.sock = context.wrap_socket(plain, server_hostname=relay.host)

    def send(self, s: Any) -> None:
        """Writes all of it before the deadline; `handed` says how much may have arrived if this fails.

        A plain `send` that fails took nothing; through TLS a failed one may have.
        """
        data = memoryview(s.encode("ascii") if isinstance(s, str) else s)
        self.handed = 0
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the connection is closed")
        through_tls = isinstance(self.sock, ssl.SSLSocket)
        done = 0
        while done < len(data):
            self.sock.settimeout(self.remaining())
            chunk = data[done : done + _CHUNK]
            if through_tls:
                self.handed = done + len(chunk)
            done += self.sock.send(chunk)
            self.handed = max(self.handed, done)

    def getreply(self) -> tuple[int, bytes]:
        """The next reply's code and its lines. Raises Garbled rather than guess."""
        lines: list[bytes] = []
        while len(lines) < _MOST_REPLY_LINES:
            line = self._line()
            code, mark = line[:3], line[3:4]
            if not code.isdigit() or len(code) < 3 or mark not in (b" ", b"-", b""):
                raise Garbled("the relay's answer is not SMTP")
            lines.append(line[4:].strip())
            if mark != b"-":
                return int(code), b"\n".join(lines)
        raise Garbled("the relay's answer does not end")

    def _line(self) -> bytes:
        while (end := self._unread.find(b"\n")) < 0:
            if len(self._unread) > _LONGEST_REPLY_LINE:
                raise Garbled("the relay's answer has a line without end")
            if self.sock is None:
                raise smtplib.SMTPServerDisconnected("the connection is closed")
            self.sock.settimeout(self.remaining())
            chunk = self.sock.recv(_CHUNK)
            if not chunk:
                raise smtplib.SMTPServerDisconnected("the relay closed the connection")
            self._unread += chunk
        line, self._unread = self._unread[:end].rstrip(b"\r"), self._unread[end + 1 :]
        return line

    def leave(self, patience_s: float = 1.0) -> None:
        """Says QUIT and closes, within `patience_s`; a relay that does not answer is left without a word."""
        self.expires = time.monotonic() + patience_s
        try:
            with suppress(OSError, smtplib.SMTPException):
                self.docmd("QUIT")
        finally:
            self.close()
