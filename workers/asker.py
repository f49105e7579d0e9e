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
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from afterglow.asking import QUIET, retry_after
from afterglow.mapping import Unmappable, parsed

#: The largest document, as webhooks.
BYTES_MAX: Final = 256 * 1024
#: How many requests of one batch are open at once.
AT_ONCE: Final = 10
CONNECT_S: Final = 5.0
#: What an answer to a batch may take beyond its deadline: cancelling.
_GRACE_S: Final = 5.0

_Result = TypeVar("_Result")


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
        return self._run(self._all(questions, headers, until), deadline_s + _GRACE_S)

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

    async def _all(self, questions: Sequence[Question], headers: Mapping[str, str], until: float) -> list[Answer]:
        if not self._allow_local and (refusal := await inside(questions[0].url, until)):
            return [refusal] * len(questions)
        quiet = asyncio.Event()
        tasks = [asyncio.create_task(self._one(question, headers, quiet)) for question in questions]
        await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()))
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        return [_fate(end, question) for end, question in zip(ended, questions, strict=True)]

    async def _one(self, question: Question, headers: Mapping[str, str], quiet: asyncio.Event) -> Answer:
        await asyncio.sleep(max(0.0, question.at - time.monotonic()))
        if quiet.is_set() or time.monotonic() > question.late:
            return NotAsked()
        assert self._client is not None
        async with self._client.stream("GET", question.url, headers=headers) as response:
            fate = await _read(response)
        if isinstance(fate, Failed) and fate.quiet is not None:
            quiet.set()
        return fate


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


def _fate(end: Answer | BaseException, question: Question) -> Answer:
    match end:
        case asyncio.CancelledError():
            return NotAsked() if time.monotonic() < question.at else Failed("gave no whole answer in time")
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
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > BYTES_MAX:
            return Failed(f"answered with more than {BYTES_MAX // 1024} KB", for_good=True)
    try:
        content = parsed(bytes(body))
    except Unmappable:
        return Failed("answered with JSON that cannot be read")
    return Document(content) if isinstance(content, dict | list) else Failed("answered with JSON that is no object")
