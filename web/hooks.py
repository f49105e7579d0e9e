"""`POST /hooks/{source}`: the way in for providers.

What happens while the provider waits: read the bytes, verify the signature, divide, find the key, commit, 202 (or
what the source's format has for it: Salesforce wants 200 and an acknowledgement in SOAP). No
mapping and no rules: what cannot be mapped is accepted and parked later, because several providers switch a hook
off after a few refusals. Their unsigned question whether somebody is there gets 200, and nothing of it is kept. Refused
are only a bad signature (401), a source without a secret (403), an unknown source (404), another method (405), a body
that does not come (408) or is too large (413), and everything while the inbox cannot be written (503, with
Retry-After).

A plain ASGI application: at thousands of requests a second a framework's layers cost more than the work.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import structlog
from starlette.types import Message, Receive, Scope, Send

from afterglow.errors import AfterglowError
from afterglow.language.source import Source
from afterglow.mapping import FORMATS, Answer, Unmappable, elements
from afterglow.signatures import BadSignature, is_ping, verify
from db.app import App
from db.intake import Received
from web.intake import RETRY_AFTER_S, Intake, IntakeUnavailable, NotStorable
from web.room import Room
from web.security import is_loopback
from web.sources import Guard, Sources

log = structlog.get_logger()

PREFIX: Final = "/hooks/"
#: The largest body, in bytes.
BODY_MAX: Final = 256 * 1024
#: How long a body may take to come, in seconds.
BODY_S_MAX: Final = 20.0
#: Bytes of bodies that come in pieces and are not complete: what does not come in one is not to be trusted with memory.
READING_MAX: Final = 32 * 1024 * 1024
#: A source's refusals are told to the log at most this often, in seconds.
REFUSALS_S: Final = 60.0
#: Names by which we are reached that are told apart.
HOSTS_MAX: Final = 20
#: Longer header values are not kept.
HEADER_MAX: Final = 2_000

#: Never stored: they open doors, or say where the sender is.
_NEVER_KEPT: Final = frozenset(
    (
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-afterglow-secret",
        "x-api-key",
        "x-auth-token",
        "x-csrf-token",
        "x-real-ip",
    )
)
#: Names of sources as counted; a stranger must not be able to make up new ones.
UNKNOWN: Final = "(unknown)"

#: What a question is answered whether somebody is there.
_HERE: Final = replace(FORMATS["json"].answer, status=200)

Headers = Iterable[tuple[bytes, bytes]]


class Refused(AfterglowError):
    """The request is refused with a status; `closes` where the rest of its body is not wanted."""

    def __init__(self, status: int, sentence: str, *, closes: bool = False) -> None:
        super().__init__(sentence)
        self.status = status
        self.closes = closes or status in (408, 413)


class Hooks:
    """The endpoint. `counts` says how many requests ended how, by (source, status)."""

    def __init__(self, app: App, intake: Intake) -> None:
        self._app = app
        self._intake = intake
        self._sources = Sources(app)
        self._patience = Patience(BODY_S_MAX)
        self._reading = Room(READING_MAX)
        self._noticed = Noticed(app.settings.public_url)
        self.counts: Counter[tuple[str, int]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix(PREFIX).rstrip("/")
        counted = UNKNOWN
        try:
            guard = await self._guard(scope, name)
            counted = guard.source.name
            if not guard.is_open:
                self._sources.tell_closed(guard.source)
                raise Refused(403, "This source has no secret set, so it accepts nothing; the server's log says which.")
            accepted = await self._accept(guard, scope, receive)
        except Refused as refused:
            self.counts[counted, refused.status] += 1
            await _refuse(send, refused)
        else:
            answer = FORMATS[guard.source.format].answer if accepted is not None else _HERE
            self.counts[counted, answer.status] += 1
            start, content = _accepted(answer, accepted or 0)
            await send(start)
            await send(content)

    async def _guard(self, scope: Scope, name: str) -> Guard:
        if scope["method"] != "POST":
            raise Refused(405, "Webhooks are posted; use POST.")
        try:
            guard = await self._sources.find(name)
        except IntakeUnavailable as error:
            raise Refused(503, str(error)) from None
        if guard is None:
            raise Refused(404, "There is no source of this name; each file in flows/sources/ is one.")
        return guard

    async def _accept(self, guard: Guard, scope: Scope, receive: Receive) -> int | None:
        """Store what a request holds. How many elements there were; None where it only asked if we are here."""
        headers = joined(scope["headers"])
        with self._patience:
            body = await read_body(headers.get("content-length"), receive, self._reading, guard.source.name)
        if guard.scheme is not None:
            if is_ping(guard.scheme, body):
                return None
            try:
                uri = public_uri(self._app.settings.public_url, scope)
                verify(guard.scheme, guard.secrets, headers, body, self._app.clock.now(), uri=uri)
            except BadSignature as error:
                self._noticed.refusal(guard.source.name, str(error))
                raise Refused(401, str(error)) from None
            self._noticed.host(headers.get("host", ""))
        try:
            self._intake.check_room(guard.source.name)
            rows = received(guard.source, headers, body)
            await self._intake.accept(rows)
        except IntakeUnavailable as error:
            raise Refused(503, str(error)) from None
        except NotStorable:
            # Its key or a header holds what no column takes; the bytes themselves can always be kept.
            await self._keep_bare(guard.source, body)
        return len(rows)

    async def _keep_bare(self, source: Source, body: bytes) -> None:
        try:
            await self._intake.accept([_whole(source, {}, body)])
        except AfterglowError as error:
            raise Refused(503, str(error)) from None


class Noticed:
    """Tells the log what somebody who connects a source must know, seldom enough for whoever reads it."""

    def __init__(self, public_url: str) -> None:
        self._public = urlsplit(public_url).netloc.lower()
        self._seen = {self._public}
        self._refused_at: dict[str, float] = {}

    def refusal(self, source: str, reason: str) -> None:
        """A request of a known source is refused: at most once a minute for each, since strangers knock too."""
        now = time.monotonic()
        if now - self._refused_at.get(source, -REFUSALS_S) >= REFUSALS_S:
            self._refused_at[source] = now
            log.warning("webhooks are refused", source=source, reason=reason)

    def host(self, host: str) -> None:
        """A signed request came to this name; another than the public address has is told once."""
        if host in self._seen or len(self._seen) > HOSTS_MAX:
            return
        self._seen.add(host)
        if host.lower() != self._public and not _is_ourselves(host):
            log.warning(
                "webhooks come to another name than AFTERGLOW_PUBLIC_URL has; links in mails lead to the latter",
                host=host[:100],
                public=self._public,
            )


class Patience:
    """Ends waiting that takes too long: `with patience:` around what is awaited.

    As asyncio.timeout, but with one timer for all requests: a timer each costs a tenth of the whole request.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[asyncio.Task[Any], float] = {}  # oldest first
        self._lost: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._since[task] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._seconds / 4, self._look, loop)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        task = asyncio.current_task()
        assert task is not None
        del self._since[task]
        if task in self._lost:
            self._lost.discard(task)
            if task.uncancel() == 0 and kind is asyncio.CancelledError:
                raise Refused(408, f"The body did not come within {self._seconds:.0f} seconds.") from None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._seconds / 4, self._look, loop) if self._since else None
        for task, since in self._since.items():
            if loop.time() - since < self._seconds:
                break
            if task not in self._lost:
                self._lost.add(task)
                task.cancel()


def public_uri(public_url: str, scope: Scope) -> str:
    """The address as the provider knows it: our configured one, whatever a proxy or a stranger says of the host."""
    raw_path, query = scope.get("raw_path") or scope["path"].encode(), scope.get("query_string", b"")
    path: str = raw_path.decode("latin-1")
    return f"{public_url}{path}?{query.decode('latin-1')}" if query else public_url + path


def _is_ourselves(host: str) -> bool:
    """Whether a Host header names this machine: a proxy may put that in place of the name that was asked for."""
    name, colon, port = host.rpartition(":")
    return is_loopback((name if colon and port.isdecimal() else host).strip("[]"))


def joined(raw_headers: Headers) -> dict[str, str]:
    """Headers by lower-cased name; one that comes twice is joined by a comma, as RFC 9110 5.3 reads it."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw_headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def read_body(declared: str | None, receive: Receive, room: Room, source: str, limit: int = BODY_MAX) -> bytes:
    """The bytes of a request.

    Args:
      declared: its Content-Length, where it has one.
      room: where bodies that come in pieces take room until they are complete.

    Raises:
      Refused: 413 as soon as it is clear that they are too many, 408 where they do not come, 503 where too many
        bodies of this source are under way.
    """
    is_declared = declared is not None and declared.isdecimal()
    size = int(declared[:20]) if declared is not None and is_declared else limit
    if is_declared and size > limit:
        raise Refused(413, f"The body is larger than {limit // 1024} KB.")
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise Refused(413, f"The body is larger than {limit // 1024} KB.")
        return body
    if not room.take(source, size):
        raise Refused(503, "Too many bodies are under way; post it again in a moment.", closes=True)
    try:
        return await _read_pieces(message, receive, limit)
    finally:
        room.leave(source, size)


async def _read_pieces(message: Message, receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise Refused(408, "The connection was closed before the body was complete.")
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > limit:
            raise Refused(413, f"The body is larger than {limit // 1024} KB.")
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def received(source: Source, headers: Mapping[str, str], body: bytes) -> list[Received]:
    """The rows of a verified request; one for the whole body where it cannot be divided."""
    keep = kept(source, headers)
    try:
        parts = elements(source, headers, body)
    except Unmappable:  # `ingest` finds the same reason again, and parks the row with it
        return [_whole(source, keep, body)]
    return [Received(source.name, part.key, bytes.fromhex(part.digest), keep, part.body) for part in parts]


def kept(source: Source, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that mapping may need, now or after the file was changed."""
    return {
        name: value
        for name, value in headers.items()
        if (name.startswith(("x-", "webhook-")) or name == "content-type" or name in source.header_names)
        and name not in _NEVER_KEPT
        and not name.startswith("x-forwarded-")
        and len(value) <= HEADER_MAX
    }


def _whole(source: Source, headers: Mapping[str, str], body: bytes) -> Received:
    digest = hashlib.sha256(body)
    return Received(source.name, f"sha256:{digest.hexdigest()}", digest.digest(), headers, body)


async def _refuse(send: Send, refused: Refused) -> None:
    content = orjson.dumps({"error": str(refused)})
    extra: list[tuple[bytes, bytes]] = []
    match refused.status:
        case 405:
            extra = [(b"allow", b"POST")]
        case 503:
            extra = [(b"retry-after", str(RETRY_AFTER_S).encode())]
    if refused.closes:
        extra.append((b"connection", b"close"))
    await send(_start(refused.status, content, extra))
    await send(_body(content))


@lru_cache(maxsize=64)
def _accepted(answer: Answer, accepted: int) -> tuple[Message, Message]:
    content = answer.content(accepted)
    return _start(answer.status, content, media_type=answer.media_type), _body(content)


def _start(
    status: int, content: bytes, extra: Iterable[tuple[bytes, bytes]] = (), *, media_type: bytes = b"application/json"
) -> Message:
    headers = [
        (b"content-type", media_type),
        (b"content-length", str(len(content)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        *extra,
    ]
    return {"type": "http.response.start", "status": status, "headers": headers}


def _body(content: bytes) -> Message:
    return {"type": "http.response.body", "body": content}
