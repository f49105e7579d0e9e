"""The relay a shop sends through, read from one URL.

    smtp+starttls://user:password@host:587    TLS by STARTTLS, and no mail without it
    smtp://...                                the same
    smtps://user:password@host:465            TLS from the first byte
    smtp://localhost:25?tls=no                no TLS, which is allowed only on this machine
    ...?ca=/path/to/ca.pem                    trust this certificate authority instead of the system's

A user or password with `@`, `:`, `/` or `%` is written percent-encoded. Downgrading quietly to plain text is
how passwords and customers' mails end up on the wire, hence no "if offered".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from urllib.parse import parse_qsl, unquote, urlsplit

from afterglow.errors import AfterglowError


class BadRelay(AfterglowError):
    """AFTERGLOW_SMTP_URL is not a relay's address; write it like smtp+starttls://user:password@host:587."""


class Security(Enum):
    """When the connection becomes private."""

    FROM_START = "tls"
    STARTTLS = "starttls"
    NONE = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Relay:
    """Where the relay is and how to be let in. Its repr shows no password."""

    host: str
    port: int
    security: Security
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = None


_SCHEMES = {
    "smtps": (Security.FROM_START, 465),
    "smtp": (Security.STARTTLS, 587),
    "smtp+starttls": (Security.STARTTLS, 587),
}


def parse_relay(url: str) -> Relay:
    """The relay that this URL means. Raises BadRelay, which never repeats the URL: it holds a password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True))
    except ValueError:
        raise BadRelay from None
    if parts.scheme not in _SCHEMES or not host or parts.path not in ("", "/") or parts.fragment:
        raise BadRelay
    security, usual_port = _SCHEMES[parts.scheme]
    match options.pop("tls", None):
        case None:
            pass
        case "no" if parts.scheme == "smtp" and _on_this_machine(host):
            security = Security.NONE
        case "no":
            raise BadRelay(
                f"AFTERGLOW_SMTP_URL asks for no TLS towards {host}, which is allowed only for smtp://localhost;"
                " remove ?tls=no."
            )
        case _:
            raise BadRelay("AFTERGLOW_SMTP_URL has a ?tls= other than no; remove it, TLS is the default.")
    ca = options.pop("ca", None)
    if options:
        raise BadRelay(f"AFTERGLOW_SMTP_URL has the unknown option {min(options)!r}; known are ca and tls.")
    if (parts.username is None) != (parts.password is None):
        raise BadRelay("AFTERGLOW_SMTP_URL has only one of user and password; give both or neither.")
    username = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    if not f"{username}{password}".isascii():
        raise BadRelay("AFTERGLOW_SMTP_URL has a user or password beyond ASCII, which SMTP cannot carry.")
    return Relay(
        host=host,
        port=port or usual_port,
        security=security,
        username=username,
        password=password,
        ca=ca,
    )


def _on_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
