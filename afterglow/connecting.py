"""Proving that a source is connected: a harmless request, and how a shell signs and sends it as the provider would."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from afterglow.language.source import Source
from afterglow.mapping import Ignored
from afterglow.mapping.trial import Trial, tried

#: Stands for the event in a ping, in the places where sources look for one. No rule of a shop speaks of it.
PING: Final[Mapping[str, Any]] = {"type": "afterglow.ping"}

#: How a shell signs `$body`, by scheme; `NAME` is the variable, of which the first secret signs.
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
}
#: The headers that carry the signature, by scheme.
_SIGNED: Final[Mapping[str, tuple[str, ...]]] = {
    "shopify": ("x-shopify-hmac-sha256: $signature",),
    "stripe": ("stripe-signature: t=$time,v1=$signature",),
    "standard_webhooks": ("webhook-id: $id", "webhook-timestamp: $time", "webhook-signature: v1,$signature"),
}


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
    bodies = [orjson.dumps(candidate) for candidate in _candidates(source)]
    attempts = [
        (body, tried(source, headers or {}, body, received_at=now, known_events=known_events)) for body in bodies
    ]
    return next((attempt for attempt in attempts if _is_harmless(attempt[1])), attempts[0])


def _is_harmless(trials: list[Trial]) -> bool:
    return bool(trials) and all(isinstance(trial.result, Ignored) for trial in trials)


def _candidates(source: Source) -> list[Any]:
    found: list[Any] = [dict(PING)]
    if source.each is not None:
        for name in sorted(source.each.expression.names):
            root, *path = name.split(".")
            inner: Any = [dict(PING)]
            for step in reversed(path):
                inner = {step: inner}
            if root == "body":
                found.append(inner)
    return found


def curl(source: Source, url: str, body: bytes) -> str | None:
    """What to paste into a shell to send a body, signed with the variable of the environment; None where no shell
    signs this scheme easily.

    Args:
      url: of the hook.
      body: JSON without a single quote.
    """
    signing, signed = "", tuple[str, ...]()
    if source.auth == "none":
        pass
    elif source.auth.scheme in _SIGNING:
        signing = _SIGNING[source.auth.scheme].replace("NAME", source.auth.secrets[0])
        signed = _SIGNED[source.auth.scheme]
    else:
        return None
    headers = "".join(f' \\\n  -H "{header}"' for header in ("content-type: application/json", *signed))
    return f"body='{body.decode()}'\n{signing}curl -i {url}{headers} \\\n  --data-binary \"$body\"\n"
