"""`POST /hooks/{source}`: the way in for providers.

What happens while the provider waits: read the bytes, verify the signature, divide, find the key, commit, 202. No
mapping and no rules: what cannot be mapped is accepted and parked later, because several providers switch a hook
off after a few refusals. Refused are only a bad signature (401), a source without a secret (403), an unknown source
(404), another method (405), a body that does not come (408) or is too large (413), and everything while the inbox
cannot be written (503, with Retry-After).

A plain ASGI application: at thousands of requests a second a framework's layers cost more than the work.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import structlog
from starlette.types import Message, Receive, Scope, Send

from afterglow.errors import AfterglowError
from afterglow.language.source import Source
from afterglow.mapping import Unmappable, elements
from afterglow.signatures import BadSignature, verify
from db.app import App
from db.intake import Received
from web.intake import RETRY_AFTER_S, Intake, IntakeUnavailable, NotStorable
from web.security import is_loopback
from web.sources import Guard, Sources

log = structlog.get_logger()

PREFIX: Final = "/hooks/"
#: The largest body, in bytes.
BODY_MAX: Final = 256 * 1024
#: How long a body may take to come, in seconds.
BODY_S_MAX: Final = 20.0
#: A source's refusals are told to the log at most this often, in seconds.
REFUSALS_S: Final = 60.0
#: Names by which we are reached that are told apart.
HOSTS_MAX: Final = 20
#: Longer header values are not kept.
HEADER_MAX: Final = 2_000

#: Never stored: they open doors, or say where the sender is.
_NEVER_KEPT: Final = frozenset(
    ("authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token", "x-csrf-token", "x-real-ip")
)
#: Names of sources as counted; a stranger must not be able to make up new ones.
UNKNOWN: Final = "(unknown)"

Headers = Iterable[tuple[bytes, bytes]]


class Refused(AfterglowError):
    """The request is refused with a status."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Hooks:
    """The endpoint. `counts` says how many requests ended how, by (source, status)."""

    def __init__(self, app: App, intake: Intake) -> None:
        self._app = app
        self._intake = intake
        self._sources = Sources(app)
        self._patience = Patience(BODY_S_MAX)
        self._noticed = Noticed(app.settings.public_url)
        self.counts: Counter[tuple[str, int]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix(PREFIX).rstrip("/")
        counted = UNKNOWN
        try:
            guard = await self._guard(scope, name)
            counted = guard.source.name
            if not guard.is_open:
                raise Refused(403, "This source has no secret set, so it accepts nothing; the server's log says which.")
            accepted = await self._accept(guard, scope["headers"], receive)
        except Refused as refused:
            self.counts[counted, refused.status] += 1
            await _refuse(send, refused)
        else:
            self.counts[counted, 202] += 1
            await send(_START_ACCEPTED if accepted == 1 else _start(202, _told(accepted)))
            await send(_BODY_ACCEPTED if accepted == 1 else _body(_told(accepted)))

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

    async def _accept(self, guard: Guard, raw_headers: Headers, receive: Receive) -> int:
        """Store what a request holds. How many elements there were."""
        headers = joined(raw_headers)
        with self._patience:
            body = await read_body(headers.get("content-length"), receive)
        if guard.scheme is not None:
            try:
                verify(guard.scheme, guard.secrets, headers, body, self._app.clock.now())
            except BadSignature as error:
                self._noticed.refusal(guard.source.name, str(error))
                raise Refused(401, str(error)) from None
            self._noticed.host(headers.get("host", ""))
        rows = received(guard.source, headers, body)
        try:
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


async def read_body(declared: str | None, receive: Receive, limit: int = BODY_MAX) -> bytes:
    """The bytes of a request.

    Raises:
      Refused: 413 as soon as it is clear that they are too many, 408 where they do not come.
    """
    if declared is not None and declared.isdecimal() and int(declared[:20]) > limit:
        raise Refused(413, f"The body is larger than {limit // 1024} KB.")
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(408, "The connection was closed before the body was complete.")
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > limit:
            raise Refused(413, f"The body is larger than {limit // 1024} KB.")
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


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
        case 408 | 413:  # the rest of the body is not wanted
            extra = [(b"connection", b"close")]
        case 503:
            extra = [(b"retry-after", str(RETRY_AFTER_S).encode())]
    await send(_start(refused.status, content, extra))
    await send(_body(content))


def _told(accepted: int) -> bytes:
    return orjson.dumps({"accepted": accepted})


def _start(status: int, content: bytes, extra: Iterable[tuple[bytes, bytes]] = ()) -> Message:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        *extra,
    ]
    return {"type": "http.response.start", "status": status, "headers": headers}


def _body(content: bytes) -> Message:
    return {"type": "http.response.body", "body": content}


_START_ACCEPTED: Final = _start(202, _told(1))
_BODY_ACCEPTED: Final = _body(_told(1))
