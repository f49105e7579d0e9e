"""Proving that a source is connected: a harmless request, and how a shell signs and sends it as the provider would."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from afterglow.language.source import Source
from afterglow.mapping import Ignored
from afterglow.mapping.intake import FORMATS
from afterglow.mapping.trial import Trial, tried

#: Stands for the event in a ping, in the places where sources look for one. No rule of a shop speaks of it.
PING: Final[Mapping[str, Any]] = {"type": "afterglow.ping"}
#: The same in SOAP, where `type` says something else.
SOAP_PING: Final[Mapping[str, Any]] = {"Id": "afterglow.ping"}

#: How a shell signs `$body`, by scheme; `NAME` is the variable, of which the first secret signs, `URL` the hook.
_SIGNING: Final[Mapping[str, str]] = {
    "shopify": """\
signature=$(printf %s "$body" | openssl dgst -sha256 -hmac "${NAME%% *}" -binary | base64)
""",
    "stripe": """\
time=$(date +%s)
signature=$(printf %s "$time.$body" | openssl dgst -sha256 -hmac "${NAME%% *}" -r | cut -d' ' -f1)
""",
    "standard_webhooks": """\
time=$(date +%s); id=ping_$time
secret="${NAME%% *}"
key=$(printf %s "${secret#whsec_}" | base64 -d | od -An -tx1 -v | tr -d ' \\n')
signature=$(printf %s "$id.$time.$body" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)
""",
    "hubspot_v3": """\
time=$(date +%s)000
signature=$(printf %s "POSTURL$body$time" | openssl dgst -sha256 -hmac "${NAME%% *}" -binary | base64)
""",
    "segment": """\
signature=$(printf %s "$body" | openssl dgst -sha1 -hmac "${NAME%% *}" -r | cut -d' ' -f1)
""",
    "shared_secret": "",
    "woocommerce": """\
signature=$(printf %s "$body" | openssl dgst -sha256 -hmac "${NAME%% *}" -binary | base64)
""",
    "judgeme": """\
signature=$(printf %s "$body" | openssl dgst -sha256 -hmac "${NAME%% *}" -r | cut -d' ' -f1)
""",
    "basic": """\
login=$(printf %s "${NAME%% *}" | base64 | tr -d '\\n')
""",
}
#: The headers that carry the signature, by scheme.
_SIGNED: Final[Mapping[str, tuple[str, ...]]] = {
    "shopify": ("x-shopify-hmac-sha256: $signature",),
    "stripe": ("stripe-signature: t=$time,v1=$signature",),
    "standard_webhooks": ("webhook-id: $id", "webhook-timestamp: $time", "webhook-signature: v1,$signature"),
    "hubspot_v3": ("x-hubspot-signature-v3: $signature", "x-hubspot-request-timestamp: $time"),
    "segment": ("x-signature: $signature",),
    "shared_secret": ("x-afterglow-secret: ${NAME%% *}",),
    "woocommerce": ("x-wc-webhook-signature: $signature",),
    "judgeme": ("judgeme-hmac-sha256: $signature",),
    "basic": ("authorization: Basic $login",),
}
_ENVELOPE: Final = (
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body><ping>{}</ping>'
    "</soapenv:Body></soapenv:Envelope>"
)


def media_type(source: Source) -> str:
    """The content type of its requests; their answers have the same."""
    return FORMATS[source.format].answer.media_type.decode()


def success(source: Source) -> int:
    """The status that says its request is on the disk."""
    return FORMATS[source.format].answer.status


def ping(
    source: Source,
    *,
    now: datetime,
    known_events: Mapping[str, Mapping[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[bytes, list[Trial]]:
    """A body that the source lets go where it can, and what would become of it.

    A source that divides its requests gets a list in the place where it looks for one. Where no body is ignored, the
    one that is nearest: the caller says that it will be parked.

    Args:
      now: aware; when it is sent.
      headers: with which it goes, by lower-cased name.
    """
    write = _soap if source.format == "soap" else orjson.dumps
    bodies = [write(candidate) for candidate in _candidates(source)]
    attempts = [
        (body, tried(source, headers or {}, body, received_at=now, known_events=known_events)) for body in bodies
    ]
    return next((attempt for attempt in attempts if _is_harmless(attempt[1])), attempts[0])


def _is_harmless(trials: list[Trial]) -> bool:
    return bool(trials) and all(isinstance(trial.result, Ignored) for trial in trials)


def _candidates(source: Source) -> list[Any]:
    one = dict(SOAP_PING if source.format == "soap" else PING)
    found: list[Any] = [one]
    if source.each is not None:
        for name in sorted(source.each.expression.names):
            root, *path = name.split(".")
            inner: Any = [one]
            for step in reversed(path):
                inner = {step: inner}
            if root == "body":
                found.append(inner)
    return found


def _soap(candidate: Any) -> bytes:
    """A message that holds the candidate. A list of one is told from its one in no XML."""
    return _ENVELOPE.format(_xml(candidate)).encode()


def _xml(value: Any) -> str:
    match value:
        case dict():
            return "".join(f"<{name}>{_xml(inner)}</{name}>" for name, inner in value.items())
        case list():
            return "".join(map(_xml, value))
        case _:
            return str(value)


def curl(source: Source, url: str, body: bytes) -> str | None:
    """What to paste into a shell to send a body, signed with the variable of the environment; None where no shell
    signs this scheme easily.

    Args:
      url: of the hook.
      body: without a single quote.
    """
    signing, signed = "", tuple[str, ...]()
    if source.auth == "none":
        pass
    elif source.auth.scheme in _SIGNING:
        scheme, variable = source.auth.scheme, source.auth.secrets[0]
        signing = _SIGNING[scheme].replace("NAME", variable).replace("URL", url)
        signed = tuple(header.replace("NAME", variable) for header in _SIGNED[scheme])
    else:
        return None
    headers = "".join(f' \\\n  -H "{header}"' for header in (f"content-type: {media_type(source)}", *signed))
    return f"body='{body.decode()}'\n{signing}curl -i {url}{headers} \\\n  --data-binary \"$body\"\n"
