"""Asking a provider's API for documents: one HTTP client in each process, on an event loop of its own.

Every request of a batch has its instant, and one deadline covers them all, whatever a server does: dribbles, hangs in
the middle of a body, redirects. What comes back is a fate for each question, and nothing raises. URLs and bodies hold
personal data: they are in no fate but the document itself, and in no log.
"""

import asyncio
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from afterglow.asking import QUIET, retry_after
from afterglow.coupons.talking import Call, Reply
from afterglow.mapping import Unmappable, parsed

#: The largest document, as webhooks.
BYTES_MAX: Final = 256 * 1024
#: How many requests of one batch are open at once.
AT_ONCE: Final = 10
CONNECT_S: Final = 5.0
#: What an answer to a batch may take beyond its deadline: cancelling.
_GRACE_S: Final = 5.0

_Result = TypeVar("_Result")
_Asked = TypeVar("_Asked", "Question", "Request")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One document to ask for, and when: seconds of `time.monotonic`; later than `late`, not at all."""

    url: str = field(repr=False)
    at: float
    late: float


@dataclass(frozen=True, slots=True)
class Document:
    """The document: an object or a list."""

    content: object = field(repr=False)


@dataclass(frozen=True, slots=True)
class Gone:
    """The provider has no such document, or none any more."""


@dataclass(frozen=True, slots=True)
class NotAsked:
    """It was not asked for: its turn had passed, or the source asked for quiet meanwhile."""


@dataclass(frozen=True, slots=True)
class Failed:
    """No document came.

    Args:
      what: ends the sentence "The source 'x' ...": `answered 500`. Never anything of the body.
      quiet: how long the source wants to be left alone.
      for_good: asking again changes nothing.
      refused: the token is what was wrong.
    """

    what: str
    quiet: timedelta | None = None
    for_good: bool = False
    refused: bool = False


Answer = Document | Gone | NotAsked | Failed


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One call of a talk with a provider (`afterglow.coupons.talking`), and when, as of a `Question`."""

    call: Call = field(repr=False)
    base: str
    at: float
    late: float

    @property
    def url(self) -> str:
        """Where to."""
        return self.base + self.call.path


Outcome = Reply | NotAsked | Failed


class Asker:
    """The HTTP client of a process. Its thread begins with the first question."""

    def __init__(self, *, allow_local: bool = False) -> None:
        """Open nothing yet.

        Args:
          allow_local: whether this machine and private networks may be asked: in tests.
        """
        self._allow_local = allow_local
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient | None = None
        self._thread: threading.Thread | None = None

    def ask(self, questions: Sequence[Question], headers: Mapping[str, str], deadline_s: float) -> list[Answer]:
        """The answers in the order of the questions, all within the deadline (seconds from now)."""
        if not questions:
            return []
        self.open()
        until = time.monotonic() + deadline_s
        work = self._all(questions, self._one, headers, until)
        return self._run(work, deadline_s + _GRACE_S)

    def call(self, requests: Sequence[Request], headers: Mapping[str, str], deadline_s: float) -> list[Outcome]:
        """What providers reply to calls, in their order, all within the deadline (seconds from now).

        Whatever the status, a reply is a reply; who talks knows what it means.
        """
        if not requests:
            return []
        self.open()
        until = time.monotonic() + deadline_s
        work = self._all(requests, self._call, headers, until)
        return self._run(work, deadline_s + _GRACE_S)

    def open(self) -> None:
        """Be ready, so that no turn passes while the client is made (reading certificates takes a while)."""
        with self._lock:
            if self._loop is not None:
                return
            self._client = httpx.AsyncClient(
                follow_redirects=False,
                trust_env=False,  # a .netrc would replace the token
                timeout=httpx.Timeout(None, connect=CONNECT_S),
                limits=httpx.Limits(max_connections=2 * AT_ONCE, max_keepalive_connections=AT_ONCE),
                # No encoding, so that a small answer stays small.
                headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "Afterglow"},
            )
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="asker", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Let go of the connections and end the thread."""
        with self._lock:
            loop, thread, client = self._loop, self._thread, self._client
            self._loop = self._thread = self._client = None
        if loop is None or thread is None:
            return
        if client is not None:
            asyncio.run_coroutine_threadsafe(client.aclose(), loop).result(_GRACE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_GRACE_S)
        loop.close()

    def _run(self, work: Coroutine[Any, Any, _Result], timeout_s: float) -> _Result:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    async def _all(
        self,
        asked: Sequence[_Asked],
        one: Callable[[_Asked, Mapping[str, str], asyncio.Event], Coroutine[Any, Any, _Result]],
        headers: Mapping[str, str],
        until: float,
    ) -> list[_Result | NotAsked | Failed]:
        if not self._allow_local and (refusal := await inside(asked[0].url, until)):
            return [refusal for _ in asked]
        quiet = asyncio.Event()
        tasks = [asyncio.create_task(one(each, headers, quiet)) for each in asked]
        await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()))
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        return [_fate(end, each.at) for end, each in zip(ended, asked, strict=True)]

    async def _one(self, question: Question, headers: Mapping[str, str], quiet: asyncio.Event) -> Answer:
        if not await _has_turn(question.at, question.late, quiet):
            return NotAsked()
        assert self._client is not None
        async with self._client.stream("GET", question.url, headers=headers) as response:
            fate = await _read(response)
        if isinstance(fate, Failed) and fate.quiet is not None:
            quiet.set()
        return fate

    async def _call(self, request: Request, headers: Mapping[str, str], quiet: asyncio.Event) -> Outcome:
        if not await _has_turn(request.at, request.late, quiet):
            return NotAsked()
        assert self._client is not None
        call = request.call
        every = {**headers, **call.headers}
        async with self._client.stream(call.method, request.url, headers=every, content=call.body) as response:
            outcome = await _heard(response)
        if isinstance(outcome, Reply) and (outcome.quiet is not None or outcome.status == 429):
            quiet.set()
        return outcome


async def _has_turn(at: float, late: float, quiet: asyncio.Event) -> bool:
    await asyncio.sleep(max(0.0, at - time.monotonic()))
    return not quiet.is_set() and time.monotonic() <= late


async def inside(url: str, until: float) -> Failed | None:
    """A refusal where the host's name leads into a private network. A name that leads nowhere fails later."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            found = await loop.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return Failed("cannot be found by its name")
    if all(ipaddress.ip_address(address[4][0]).is_global for address in found):
        return None
    return Failed("leads into a private network, where nothing is fetched from; correct its base", for_good=True)


def _fate(end: _Result | BaseException, at: float) -> _Result | NotAsked | Failed:
    match end:
        case asyncio.CancelledError():
            return NotAsked() if time.monotonic() < at else Failed("gave no whole answer in time")
        case httpx.TimeoutException():
            return Failed("could not be reached in time")
        case httpx.ConnectError():
            return Failed("could not be reached")
        case httpx.HTTPError() | httpx.InvalidURL():
            return Failed(f"gave no whole answer ({type(end).__name__})")
        case BaseException():
            return Failed(f"could not be asked ({type(end).__name__})")
        case _:
            return end


async def _read(response: httpx.Response) -> Answer:
    status = response.status_code
    wished = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
    if status in (404, 410):
        return Gone()
    if status in (401, 403):
        return Failed(f"answered {status}", for_good=True, refused=True)
    if status == 429:
        return Failed("answered 429, too many requests", quiet=QUIET if wished is None else wished)
    if status >= 500 or status in (408, 425):
        return Failed(f"answered {status}", quiet=wished)
    if 300 <= status < 400:
        return Failed(f"answered {status}, a redirect, and none is followed; correct its base", for_good=True)
    if status != 200:
        return Failed(f"answered {status}", for_good=True)
    if response.headers.get("content-encoding", "identity") != "identity":
        return Failed("answered in an encoding that nobody asked for")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        return Failed("answered with something else than JSON")
    body = await _body(response)
    if body is None:
        return Failed(f"answered with more than {BYTES_MAX // 1024} KB", for_good=True)
    try:
        content = parsed(body)
    except Unmappable:
        return Failed("answered with JSON that cannot be read")
    return Document(content) if isinstance(content, dict | list) else Failed("answered with JSON that is no object")


async def _heard(response: httpx.Response) -> Outcome:
    """A reply of any status; its body only where it is JSON."""
    body = await _body(response)
    if body is None:
        return Failed(f"answered with more than {BYTES_MAX // 1024} KB")
    try:
        content: object = parsed(body)
    except Unmappable:
        content = None
    quiet = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
    return Reply(status=response.status_code, content=content, quiet=quiet)


async def _body(response: httpx.Response) -> bytes | None:
    """The body; None where it is too large."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > BYTES_MAX:
            return None
    return bytes(body)
