"""An SMTP relay for tests, faults and benchmarks: fast, in its own process, honest about what it accepted.

It offers PIPELINING, SIZE, 8BITMIME and ENHANCEDSTATUSCODES. With an accept log every mail it accepts is
one JSON line ({"touchpoint", "message_id", "rcpt", "bytes"}), written and fsynced *before* the 250 leaves:
what the log has not, nobody was told; what was told, the log has, whoever is killed when. Concurrent
accepts share one fsync.

Faults are given as WHAT or WHAT@N, N being the how-manieth mail (a mail begins with MAIL, from 1, over all
connections); without N every mail is meant. The first that fits counts:

    greeting=554 5.3.2 go away     instead of the welcome (N: the connection)
    mail=..., rcpt=..., data=...   this reply to that command
    dot=451 4.3.0 later            this reply to the final dot
    close-at-mail, close-at-data   the connection closed instead of an answer to MAIL or to DATA
    close-after-data               354, and closed as soon as content arrives
    close-after-dot                the content taken and thrown away, and closed
    accept-then-close              accepted (and logged), and closed without a word
    hold-after-dot                 the content taken and thrown away, and silence
    accept-then-hold               accepted (and logged), and silence
    garbage-after-dot              accepted (and logged), and an answer that is not SMTP
    drip                           the answer to the dot, a byte every 200 ms
    data-anyway=550 5.1.1 no       that reply to RCPT, and 354 to DATA all the same
    close-after-accept             accepted, answered, and closed (a relay that limits mails per connection)

Run it: `python tests/smtp_sink.py --log accepts.jsonl --fault 'rcpt=550 5.1.1 unknown@3'`; it prints its
port. In tests: `with sink(faults=["hold-after-dot@2"]) as relay: relay.port`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_END = b"\r\n.\r\n"
_ADDRESS = re.compile(rb"<([^>]*)>")
_HEADER = re.compile(rb"^(x-afterglow-touchpoint|message-id):[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Fault:
    """One misbehaviour: what, with which words, at which mail (None: at each)."""

    what: str
    words: str
    at: int | None

    @classmethod
    def read(cls, text: str) -> Fault:
        """`rcpt=550 5.1.1 unknown@3` and the like."""
        text, _, number = text.rpartition("@") if re.search(r"@\d+$", text) else (text, "", "")
        what, _, words = text.partition("=")
        return cls(what, words, int(number) if number else None)


class AcceptLog:
    """Accepts made durable, many at a time, before anybody is told."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("ab", buffering=0) if path else None
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    def add(self, line: dict[str, Any]) -> asyncio.Future[None] | None:
        """A future that is done once the line is on disk; None if there is no log."""
        if self._file is None:
            return None
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((json.dumps(line).encode() + b"\n", done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return done

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            lines = b"".join(line for line, _ in batch)
            await asyncio.get_running_loop().run_in_executor(None, self._sync, lines)
            for _, done in batch:
                done.set_result(None)

    def _sync(self, lines: bytes) -> None:
        assert self._file is not None
        self._file.write(lines)
        os.fsync(self._file.fileno())


class Sink(asyncio.Protocol):
    """One connection."""

    connections = 0
    mails = 0

    def __init__(self, faults: Sequence[Fault], log: AcceptLog, *, pipelining: bool, eightbit: bool) -> None:
        self.faults = faults
        self.log = log
        offers = ["sink", "SIZE 33554432", "ENHANCEDSTATUSCODES"]
        offers += ["PIPELINING"] * pipelining + ["8BITMIME"] * eightbit
        lines = [f"250{' ' if i == len(offers) - 1 else '-'}{offer}" for i, offer in enumerate(offers)]
        self.ehlo = "\r\n".join(lines).encode() + b"\r\n"
        self.unread = bytearray()
        self.searched = 0
        self.in_content = self.busy = False
        self.number = 0
        self.rcpt: str | None = None
        self.open = False

    def fault(self, *kinds: str) -> Fault | None:
        """The fault of one of these kinds that the present mail is meant to meet."""
        for fault in self.faults:
            if fault.what in kinds and fault.at in (None, self.number):
                return fault
        return None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        Sink.connections += 1
        self.number = Sink.connections
        greeting = self.fault("greeting")
        self.number = 0
        self.say(greeting.words if greeting else "220 sink ready")

    def say(self, line: str) -> None:
        self.transport.write(line.encode() + b"\r\n")

    def data_received(self, data: bytes) -> None:
        self.unread += data
        self.read_on()

    def read_on(self) -> None:
        """Everything that has arrived, up to where an answer must be waited for."""
        while not self.busy and not self.transport.is_closing():
            if self.in_content:
                if self.fault("close-after-data") and self.unread:
                    self.transport.abort()
                    return
                if not self.read_content():
                    return
                continue
            end = self.unread.find(b"\r\n")
            if end < 0:
                return
            line = bytes(self.unread[:end])
            del self.unread[: end + 2]
            self.command(line)

    def read_content(self) -> bool:
        if self.unread.startswith(b".\r\n"):
            content, rest = b"", 3
        else:
            end = self.unread.find(_END, max(0, self.searched - 4))
            if end < 0:
                self.searched = len(self.unread)
                return False
            content, rest = bytes(self.unread[: end + 2]), end + len(_END)
        del self.unread[:rest]
        self.in_content = self.open = False
        self.searched = 0
        self.content(content)
        return True

    def command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb == b"MAIL":
            if self.open:
                self.say("503 5.5.1 nested MAIL command")
                return
            Sink.mails += 1
            self.number = Sink.mails
            self.rcpt = None
            if self.fault("close-at-mail"):
                self.transport.abort()
            elif fault := self.fault("mail"):
                self.say(fault.words)
            else:
                self.open = True
                self.say("250 2.1.0 Ok")
        elif verb == b"RCPT":
            found = _ADDRESS.search(line)
            if not self.open:
                self.say("503 5.5.1 need MAIL")
            elif fault := self.fault("rcpt", "data-anyway"):
                self.say(fault.words)
            elif self.rcpt is not None or found is None:
                self.say("452 4.5.3 one recipient, please")
            else:
                self.rcpt = found[1].decode()
                self.say("250 2.1.5 Ok")
        elif verb == b"DATA":
            if self.fault("close-at-data"):
                self.transport.abort()
            elif self.rcpt is None and not (self.open and self.fault("data-anyway")):
                self.say("554 5.5.1 no valid recipients")
            elif fault := self.fault("data"):
                self.say(fault.words)
            else:
                self.in_content = True
                self.say("354 go ahead")
        elif verb == b"EHLO":
            self.transport.write(self.ehlo)
        elif verb == b"RSET":
            self.open = False
            self.rcpt = None
            self.say("250 2.0.0 Ok")
        elif verb == b"QUIT":
            self.say("221 2.0.0 Bye")
            self.transport.close()
        elif verb in (b"HELO", b"NOOP"):
            self.say("250 2.0.0 Ok")
        else:
            self.say("502 5.5.2 not known here")

    def content(self, content: bytes) -> None:
        if self.rcpt is None:
            self.say("554 5.5.1 no valid recipients")
        elif self.fault("hold-after-dot"):
            self.busy = True
        elif self.fault("close-after-dot"):
            self.transport.abort()
        elif fault := self.fault("dot"):
            self.say(fault.words)
        else:
            head, _, _ = content.partition(b"\r\n\r\n")
            headers = {name.lower(): value for name, value in _HEADER.findall(head)}
            logged = self.log.add(
                {
                    "touchpoint": headers.get(b"x-afterglow-touchpoint", b"").decode(),
                    "message_id": headers.get(b"message-id", b"").decode(),
                    "rcpt": self.rcpt,
                    "bytes": len(content),
                }
            )
            if logged is None:
                self.accepted(self.number)
            else:
                self.busy = True
                number = self.number
                logged.add_done_callback(lambda _: self.resume(number))

    def resume(self, number: int) -> None:
        self.busy = False
        self.accepted(number)
        self.read_on()

    def accepted(self, number: int) -> None:
        answer = f"250 2.0.0 Ok: queued as SINK{number}"
        if self.transport.is_closing():
            return
        if self.fault("accept-then-close"):
            self.transport.abort()
        elif self.fault("accept-then-hold"):
            self.busy = True
        elif self.fault("garbage-after-dot"):
            self.say("<html>hello</html>")
        elif self.fault("drip"):
            self.busy = True
            self.drip(answer.encode() + b"\r\n")
        elif self.fault("close-after-accept"):
            self.say(answer)
            self.transport.close()
        else:
            self.say(answer)

    def drip(self, rest: bytes) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(rest[:1])
        if rest[1:]:
            asyncio.get_running_loop().call_later(0.2, self.drip, rest[1:])
        else:
            self.busy = False
            self.read_on()


async def serve(arguments: argparse.Namespace) -> None:
    """Serves until killed."""
    faults = [Fault.read(text) for text in arguments.fault]
    log = AcceptLog(arguments.log)
    server = await asyncio.get_running_loop().create_server(
        lambda: Sink(faults, log, pipelining=not arguments.no_pipelining, eightbit=not arguments.no_8bitmime),
        "127.0.0.1",
        arguments.port,
        backlog=512,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@dataclass(frozen=True)
class Relay:
    """A running sink."""

    port: int
    pid: int
    log: Path | None

    @property
    def url(self) -> str:
        """What AFTERGLOW_SMTP_URL would be."""
        return f"smtp://127.0.0.1:{self.port}?tls=no"

    def accepts(self) -> list[dict[str, Any]]:
        """What was accepted so far, in order."""
        assert self.log is not None, "this sink keeps no log"
        return [json.loads(line) for line in self.log.read_bytes().splitlines()]


@contextmanager
def sink(
    *,
    log: Path | None = None,
    faults: Sequence[str] = (),
    port: int = 0,
    pipelining: bool = True,
    eightbit: bool = True,
) -> Iterator[Relay]:
    """A sink in a process of its own, killed at the end. `port` 0 takes a free one."""
    command = [sys.executable, str(Path(__file__).resolve()), "--port", str(port)]
    command += ["--log", str(log)] if log else []
    command += ["--no-pipelining"] * (not pipelining) + ["--no-8bitmime"] * (not eightbit)
    for fault in faults:
        command += ["--fault", fault]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Relay(port=int(process.stdout.readline()), pid=process.pid, log=log)
        finally:
            process.kill()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="An SMTP sink that records what it accepts.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--no-pipelining", action="store_true")
    parser.add_argument("--no-8bitmime", action="store_true")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
