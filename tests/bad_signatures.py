"""Requests that no source posted: for every signature scheme the ways in which one can be forged, spoilt or late.

Held against `verify` and against the web face; both must refuse every one, and for no other reason.
"""

import base64
import hmac
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from afterglow.signatures import SCHEMES, TOLERANCE, sign

BODY = json.dumps({"id": 1, "name": "Élodie \u2615"}).encode()
WHSEC = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER_WHSEC = "whsec_" + base64.b64encode(b"o" * 32).decode()
SECRETS = {
    "shopify": "shpss_0123456789abcdef",
    "stripe": WHSEC,
    "standard_webhooks": WHSEC,
    "hubspot_v3": "01234567-89ab-cdef-0123-456789abcdef",
    "segment": "segment-0123456789abcdef",
    "shared_secret": "Shown-0123456789abcdef",
    "woocommerce": "typed-into-each-webhook",
    "judgeme": "token-0123456789abcdef",
    "basic": "afterglow:caf\u00e9-au-lait",
}
OTHERS = {
    "shopify": "shpss_fedcba9876543210",
    "stripe": OTHER_WHSEC,
    "standard_webhooks": OTHER_WHSEC,
    "hubspot_v3": "fedcba98-7654-3210-fedc-ba9876543210",
    "segment": "segment-fedcba9876543210",
    "shared_secret": "Shown-fedcba9876543210",
    "woocommerce": "typed-into-another-webhook",
    "judgeme": "token-fedcba9876543210",
    "basic": "afterglow:espresso",
}
#: Without a signed moment, a request is as good tomorrow.
UNTIMED = frozenset({"shopify", "segment", "shared_secret", "woocommerce", "judgeme", "basic"})
#: What is shown is the secret, whatever the body.
UNSIGNED_BODY = frozenset({"shared_secret", "basic"})
#: Sent along, and signed by nobody.
UNSIGNED_HEADERS = frozenset({"x-shopify-event-id", "x-shopify-webhook-id", "x-wc-webhook-delivery-id"})

#: Headers that hold a list of signatures, of which one must be right: what is only added to it spoils nothing.
LISTS = frozenset({"stripe-signature", "webhook-signature"})

_MALFORMED = (
    " ", ",", "=", "é", "ÿ" * 10, "t=", "t=1,v1=", "\x00", "v1,", "v1=", "null", "None", "0", "true", "[]", "{}",
    "'", '"', "%00", "../", "a" * 44, "a" * 64, "=" * 44, "A" * 5000, "Bearer x", "Basic eDp5",
)  # fmt: skip


class Forged(NamedTuple):
    """A request that must be refused, and why in a few words."""

    why: str
    headers: dict[str, str]
    body: bytes = BODY
    query: str = ""


def forged(scheme: str, now: datetime, uri: str) -> Iterator[Forged]:
    """What must be refused at this moment by a source of the scheme that is posted to at this address."""
    good = sign(scheme, SECRETS[scheme], BODY, now, "msg_1", uri=uri)
    yield Forged("no headers", {})
    yield Forged("signed by another secret", sign(scheme, OTHERS[scheme], BODY, now, "msg_1", uri=uri))
    for name, value in good.items():
        if name in UNSIGNED_HEADERS:
            continue
        yield Forged(f"{name} missing", {other: text for other, text in good.items() if other != name})
        yield Forged(f"{name} empty", {**good, name: ""})
        yield Forged(f"{name} cut short", {**good, name: value[:-1]})
        yield Forged(f"{name} with a character more", {**good, name: value + "A"})
        yield Forged(f"{name} backwards", {**good, name: value[::-1]})
        yield Forged(f"{name} with its last character changed", {**good, name: value[:-2] + "~" + value[-1]})
        for why, text in _twisted(value):
            if not (name in LISTS and why in _ADDED):
                yield Forged(f"{name} {why}", {**good, name: text})
        for text in _MALFORMED:
            yield Forged(f"{name} is {text[:12]!r}", {**good, name: text})
    for other in SCHEMES.keys() - {scheme}:
        yield Forged(f"headers of {other}", sign(other, SECRETS[other], BODY, now, "msg_1", uri=uri))
    if scheme not in UNSIGNED_BODY:
        for why, body in (
            ("a space more", BODY + b" "),
            ("a character less", BODY[:-1]),
            ("nothing", b""),
            ("another id", BODY.replace(b"1", b"2")),
            ("a flipped bit", bytes([BODY[0] ^ 1]) + BODY[1:]),
        ):
            yield Forged(f"of the body is left: {why}", good, body)
    if scheme not in UNTIMED:
        for off_by in (-TOLERANCE, TOLERANCE, -timedelta(days=365), timedelta(days=365)):
            moment = now + off_by + timedelta(seconds=60 if off_by > timedelta(0) else -60)
            yield Forged(f"off by {off_by}", sign(scheme, SECRETS[scheme], BODY, moment, "msg_1", uri=uri))
    yield from _OF_THEIR_OWN.get(scheme, _nothing)(now, uri)


#: Of these a list keeps the right signature.
_ADDED = frozenset({"doubled", "behind another kind", "with a word before it"})


def _twisted(value: str) -> Iterator[tuple[str, str]]:
    """A header's value, spoiled; what stays the same is left out."""
    made = {f"cut to {keep}": value[:keep] for keep in (1, 5, len(value) // 2, len(value) - 3)}
    for place in (0, len(value) // 2, max(0, len(value) - 5)):
        made[f"changed at {place}"] = value[:place] + ("A" if value[place] != "A" else "B") + value[place + 1 :]
    made["with its case swapped"] = value.swapcase()
    made["doubled"] = value * 2
    made["padded"] = value + "="
    made["padded more"] = value + "===="
    made["with a NUL"] = value + "\0"
    made["in quotes"] = f'"{value}"'
    made["behind another kind"] = f"Bearer {value}"
    made["with a word before it"] = f"sha256={value}"
    return ((why, text) for why, text in made.items() if text != value)


def _nothing(now: datetime, uri: str) -> Iterator[Forged]:
    yield from ()


def _hubspot(now: datetime, uri: str) -> Iterator[Forged]:
    secret, seconds = SECRETS["hubspot_v3"], int(now.timestamp())

    def over(text: bytes, moment: str) -> dict[str, str]:
        signature = base64.b64encode(hmac.digest(secret.encode(), text, "sha256")).decode()
        return {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": moment}

    moment = f"{seconds}000"
    good = over(b"POST" + uri.encode() + BODY + moment.encode(), moment)
    for other in (uri + "/", uri + "?a=1", uri.upper(), uri.replace("//", "//evil."), "", uri.partition("//")[2]):
        yield Forged(f"signed for {other}", sign("hubspot_v3", secret, BODY, now, "", uri=other))
    yield Forged("signed for another method", over(b"GET" + uri.encode() + BODY + moment.encode(), moment))
    yield Forged("the moment signed in seconds", over(b"POST" + uri.encode() + BODY + b"%d" % seconds, str(seconds)))
    yield Forged("the moment not signed", over(b"POST" + uri.encode() + BODY, moment))
    yield Forged("another moment than the signed one", {**good, "x-hubspot-request-timestamp": f"{seconds}001"})
    yield Forged("posted with a query", good, BODY, "a=1")
    for odd in ("-1", "1e12", "\u0661" * 13, "9" * 16, f"{seconds}000.5", f" {seconds}000", f"+{seconds}000"):
        yield Forged(f"the moment is {odd!r}", {**good, "x-hubspot-request-timestamp": odd})
    plain = hmac.new(secret.encode(), BODY, "sha256").hexdigest()
    yield Forged("signed as the first version", {"x-hubspot-signature": plain, "x-hubspot-signature-version": "v1"})


def _segment(now: datetime, uri: str) -> Iterator[Forged]:
    key = SECRETS["segment"].encode()
    first = hmac.new(key, BODY, "sha1")
    yield Forged("by SHA-256", {"x-signature": hmac.new(key, BODY, "sha256").hexdigest()})
    yield Forged("in base64", {"x-signature": base64.b64encode(first.digest()).decode()})
    yield Forged("in capitals", {"x-signature": first.hexdigest().upper()})
    yield Forged("with its algorithm before it", {"x-signature": f"sha1={first.hexdigest()}"})
    batch = b"[" + BODY + b',{"id": 2}]'
    yield Forged("a batch of which the first is signed", {"x-signature": first.hexdigest()}, batch)
    yield Forged("a batch of one of which the first is signed", {"x-signature": first.hexdigest()}, b"[" + BODY + b"]")


def _shared(now: datetime, uri: str) -> Iterator[Forged]:
    secret = SECRETS["shared_secret"]
    for shown in (secret[1:], secret * 2, secret.lower(), secret.upper(), "*", "%", OTHERS["shared_secret"]):
        yield Forged(f"shows {shown} in the header", {"x-afterglow-secret": shown})
        yield Forged(f"shows {shown} as a token", {"authorization": f"Bearer {shown}"})
        yield Forged(f"shows {shown} in the address", {}, BODY, f"key={shown}")
    yield Forged("a name and password", {"authorization": "Basic " + base64.b64encode(secret.encode()).decode()})
    yield Forged("twice in the address", {}, BODY, f"key={secret}&key={secret}")
    yield Forged("under another name", {}, BODY, f"secret={secret}")
    yield Forged("an empty header beside the address", {"x-afterglow-secret": ""}, BODY, f"key={secret}")
    yield Forged("escaped twice", {}, BODY, f"key={secret.replace('-', '%252D')}")
    for odd in ("key", "key=", "key=%", "key=%ff%00", "key=é", "&&&", "key=" + "A" * 5000):
        yield Forged(f"the query is {odd[:12]}", {}, BODY, odd)


_OF_THEIR_OWN = {"hubspot_v3": _hubspot, "segment": _segment, "shared_secret": _shared}
