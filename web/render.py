"""Pages from Jinja templates, and the headers that every answer of ours carries."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from afterglow import ROOT

STATIC: Final = Path(__file__).parent / "static"
#: Customer pages: a stylesheet of ours and a form to ourselves, nothing else; never in a frame, never kept.
CUSTOMER_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: Pages for the team also have scripts and frames, all served by us.
TEAM_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@cache
def templates() -> Environment:
    """The templates below `templates/pages/`. HTML is escaped; a name that is missing is an error, not a gap."""
    environment = Environment(
        loader=FileSystemLoader(ROOT / "templates" / "pages"),
        autoescape=lambda name: name is None or name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pairs"] = _pairs
    return environment


def _pairs(words: Iterable[str]) -> list[tuple[str, str]]:
    """Options of a <select> whose value is what people read."""
    return [(word, word) for word in words]


def page(name: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> HTMLResponse:
    """The answer made of `templates/pages/NAME.html`."""
    html = templates().get_template(f"{name}.html").render(**values)
    return HTMLResponse(html, status_code=status, headers=dict(headers or {}))


def stylesheet(name: str, **values: Any) -> Response:
    """The answer made of `templates/pages/NAME.css`."""
    css = templates().get_template(f"{name}.css").render(**values)
    return Response(css, media_type="text/css", headers={"cache-control": "public, max-age=300"})


class StrictHeaders:
    """Adds the headers of a face to every answer that does not bring its own.

    A page that shows a mail in a frame answers the frame's address with a policy of its own (`sandbox`, and
    `frame-ancestors 'self'`).
    """

    def __init__(self, inner: ASGIApp, policy: str) -> None:
        self._inner = inner
        self._headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
            "cross-origin-opener-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=()",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_strictly(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._inner(scope, receive, send_strictly)


class BodyLimit:
    """Answers 413 to a body that is larger than any of ours needs to be."""

    def __init__(self, inner: ASGIApp, limit: int) -> None:
        self._inner = inner
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = 0
        started = False

        async def count() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise _TooLargeError
            return message

        async def note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        declared = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if declared.isdigit() and int(declared[:20]) > self._limit:
                raise _TooLargeError
            await self._inner(scope, count, note)
        except _TooLargeError:
            if started:
                raise
            content = b'{"error":"The body is larger than %d KB."}' % (self._limit // 1024)
            headers = {"content-type": "application/json", "connection": "close"}
            await Response(content, 413, headers)(scope, receive, send)


class _TooLargeError(BaseException):
    """Not an Exception: a framework between us that answers every Exception must let it pass."""
