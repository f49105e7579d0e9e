"""Who may see the private face.

Without a key: a browser or a shell on this very machine, and only when it asks for this machine by name (a page of
a stranger can point its own name at 127.0.0.1; the Host header tells). With a key: whoever shows it, programs as
`Authorization: Bearer`, people once, on the login page, for a cookie. And whatever changes something must come from
our own pages, since browsers send cookies, and reach loopback, on behalf of any page.
"""

import hashlib
import hmac
import ipaddress
import time
from collections import deque
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import FormData, Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from db.settings import Settings, SettingsError
from web.render import page

COOKIE: Final = "afterglow_session"
#: How long a login lasts, in seconds.
SESSION_S: Final = 7 * 24 * 3600
#: Wrong keys in a minute, from anywhere, before the login page stops comparing.
WRONG_KEYS_MAX: Final = 20

_SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_OPEN_PATHS: Final = frozenset(("/health", "/ready", "/login"))
_OPEN_FOLDER: Final = "/static/"


def parse_bind(bind: str) -> tuple[str, int]:
    """Host and port of "host:port"; an IPv6 address stands in brackets.

    Raises:
      SettingsError: when it is something else.
    """
    host, colon, port = bind.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise SettingsError(f"'{bind}' is no address to listen on; write it as 127.0.0.1:8000.")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)


def check_private_bind(settings: Settings) -> None:
    """Make sure that the private pages are not open to everybody.

    Raises:
      SettingsError: when they would listen beyond this machine without a key.
    """
    host, _ = parse_bind(settings.private_bind)
    if not settings.key.get_secret_value() and not is_loopback(host):
        raise SettingsError(
            f"AFTERGLOW_PRIVATE_BIND is {settings.private_bind}, which others can reach, and no key is set; "
            "set AFTERGLOW_KEY, or listen on 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Whether a name or address without port means this machine."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


class PrivateFace:
    """Lets through to `inner` only who may see it."""

    def __init__(self, inner: ASGIApp, settings: Settings) -> None:
        self._inner = inner
        self._key = settings.key.get_secret_value().encode()
        self._wrong: deque[float] = deque(maxlen=WRONG_KEYS_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = self._refusal(scope)
        if answer is None and self._key and scope["path"] in ("/login", "/logout"):
            answer = await self._session(Request(scope, receive))
        await (answer or self._inner)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        path, method = scope["path"], scope["method"]
        if not self._key:
            if not _asks_this_machine(scope, headers):
                return _no(403, "Without AFTERGLOW_KEY these pages answer only on this machine, by its own name.")
            if path.startswith("/api/"):
                return None  # it says itself that it needs a key
            return None if method in _SAFE_METHODS or is_our_own(headers) else _foreign()
        if _bearer(headers, self._key):
            return None
        if path.startswith("/api/"):
            return _no(401, "Send the key as `Authorization: Bearer AFTERGLOW_KEY`.")
        if path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER) or self._has_session(headers):
            return None if method in _SAFE_METHODS or is_our_own(headers) else _foreign()
        if method in _SAFE_METHODS and "text/html" in headers.get("accept", ""):
            return RedirectResponse(f"/login?next={quote(path, safe='/')}", 303)
        return _no(401, "Log in at /login, or send the key as `Authorization: Bearer AFTERGLOW_KEY`.")

    def _has_session(self, headers: Headers) -> bool:
        cookies: Mapping[str, str] = cookie_parser(headers.get("cookie", ""))
        until, _, mac = cookies.get(COOKIE, "").partition(".")
        if not until.isascii() or not until.isdecimal() or len(until) > 12:
            return False
        return _same(mac, self._mac(until)) and int(until) > time.time()

    def _mac(self, until: str) -> str:
        return hmac.new(self._key, b"session\0" + until.encode(), hashlib.sha256).hexdigest()

    async def _session(self, request: Request) -> Response:
        if request.url.path == "/logout":
            answer: Response = RedirectResponse("/login", 303)
            answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
            return answer
        onward = _own_path(request.query_params.get("next", "/"))
        if request.method != "POST":
            return page("login", onward=onward, problem="")
        form: FormData = await request.form()
        if self._is_throttled():
            return page("login", status=429, onward=onward, problem="Too many wrong keys; wait a minute.")
        if not _same(str(form.get("key", "")).strip(), self._key.decode()):
            self._wrong.append(time.monotonic())
            return page("login", status=401, onward=onward, problem="That is not the key of this installation.")
        until = str(int(time.time()) + SESSION_S)
        answer = RedirectResponse(onward, 303)
        answer.set_cookie(
            COOKIE,
            f"{until}.{self._mac(until)}",
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    def _is_throttled(self) -> bool:
        return len(self._wrong) == WRONG_KEYS_MAX and time.monotonic() - self._wrong[0] < 60


def is_our_own(headers: Headers) -> bool:
    """Whether a request that changes something was made by a page of ours.

    Browsers say so in Sec-Fetch-Site, older ones in Origin; a request that says neither is not believed.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    host = headers.get("host", "")
    return host != "" and headers.get("origin") in (f"http://{host}", f"https://{host}")


def holds_key(headers: Headers, settings: Settings) -> bool:
    """Whether a request shows the key as a bearer token."""
    key = settings.key.get_secret_value().encode()
    return bool(key) and _bearer(headers, key)


def _bearer(headers: Headers, key: bytes) -> bool:
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and _same(shown.strip(), key.decode())


def _same(shown: str, wanted: str) -> bool:
    # As bytes: comparing texts that are not ASCII raises.
    return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), wanted.encode())


def _asks_this_machine(scope: Scope, headers: Headers) -> bool:
    client = scope.get("client")
    try:
        name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return False
    return client is not None and is_loopback(client[0]) and is_loopback(name)


def _own_path(path: str) -> str:
    """A path on this face; anything that could lead elsewhere becomes the first page."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if plain and "\\" not in path else "/"


def _foreign() -> Response:
    return _no(403, "This was not sent from a page of this installation, so nothing was changed.")


def _no(status: int, sentence: str) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": sentence}, status, headers)
