"""Who posted this? The signature schemes of the sources, one row of one table each.

Nearly every scheme here is an HMAC-SHA256; they differ in what is signed, in where the signature stands and in
whether a moment is signed with it. A scheme states those three things and `verify` does the rest, so a new
provider is a new row. Providers that sign nothing show a secret instead (`shared_secret`). Nothing but BadSignature
leaves `verify`, whatever a stranger sends: a malformed header is an answer, not an accident.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import unquote_to_bytes

from afterglow.errors import AfterglowError
from afterglow.problems import did_you_mean

#: How far a signed moment may lie from ours, both ways; Stripe's and Standard Webhooks' libraries say the same.
TOLERANCE: Final = timedelta(minutes=5)
#: More signatures than any rotation needs; beyond it a stranger would only make us compare.
MOST_SIGNATURES: Final = 16
LONGEST_HEADER: Final = 4096

#: Under this name a claim finds the address that was posted to; no header can be called so.
URI: Final = ":uri"

_SECONDS = re.compile(rb"[0-9]{1,12}")
_MILLISECONDS = re.compile(rb"[0-9]{1,15}")
_SYMMETRIC_PREFIX: Final = "whsec_"


class BadSignature(AfterglowError):
    """The request is not signed by this source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What a request's headers claim: these signatures, over `prefix` + body + `suffix`, made at `signed_at`."""

    signatures: tuple[bytes, ...]
    prefix: bytes = b""
    suffix: bytes = b""
    #: Seconds since 1970; None where the provider signs no moment.
    signed_at: float | None = None


def _sha256(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")


def _the_key_itself(key: bytes, signed: bytes) -> bytes:
    return key


def _never(body: bytes) -> bool:
    return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """How one family of providers signs."""

    about: str
    #: Reads the headers (lower-cased names); raises BadSignature.
    claim: Callable[[Mapping[str, str]], Claim]
    #: The headers a provider would send, given (secret, body, moment in seconds, id of the message), and the
    #: address as a fifth where it counts.
    headers: Callable[..., dict[str, str]]
    #: How the bytes of a signature are written.
    written: Callable[[bytes], bytes]
    #: The bytes of a signature, given (key, what is signed).
    digest: Callable[[bytes, bytes], bytes] = _sha256
    #: Whether the public address that was posted to counts; the claim then finds it under URI.
    reads_uri: bool = False
    #: Whether a body only asks if somebody is there. Such a question is unsigned, answered 200 and kept nowhere.
    ping: Callable[[bytes], bool] = _never
    #: The key inside the secret as it stands in the environment; ValueError says what is wrong with it.
    key: Callable[[bytes], bytes] = bytes


def verify(
    scheme: str,
    secrets: Sequence[bytes | str],
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    *,
    uri: str = "",
) -> None:
    """Return if one of the secrets signed this body, and recently where the scheme signs a moment.

    Args:
      scheme: a name in SCHEMES.
      secrets: as they stand in the environment; several while one replaces another.
      headers: by lower-cased name, each with one value.
      body: the bytes as they arrived; parsing and writing them again would change them.
      now: aware.
      uri: the whole address, query included, as the provider knows it: a proxy between us may know another.

    Raises:
      BadSignature: for anything wrong with the request, in one sentence.
    """
    if (row := SCHEMES.get(scheme)) is None:
        raise BadSignature(f"There is no signature scheme '{scheme}'.{did_you_mean(scheme, SCHEMES)}")
    claim = row.claim({**headers, URI: uri} if row.reads_uri else headers)
    if claim.signed_at is not None:
        _refuse_stale(claim.signed_at, now)
    signed = claim.prefix + body + claim.suffix
    keys = [key for secret in secrets if (key := _usable_key(row, secret)) is not None]
    if not keys:
        raise BadSignature("This source has no usable secret; set one in the environment.")
    # Every pair is compared, and in constant time: how long it takes says nothing about how close it came.
    matches = [
        hmac.compare_digest(row.written(row.digest(key, signed)), signature)
        for key in keys
        for signature in claim.signatures
    ]
    if not any(matches):
        raise BadSignature("The signature does not match: the secret differs, or the body was changed.")


def sign(scheme: str, secret: bytes | str, body: bytes, now: datetime, id: str, *, uri: str = "") -> dict[str, str]:
    """The headers (lower-cased names) with which the provider would post this body, at this moment, to this address.

    Raises:
      ValueError: an unknown scheme, or a secret that is none.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"There is no signature scheme '{scheme}'.{did_you_mean(scheme, SCHEMES)}")
    row = SCHEMES[scheme]
    address = (uri,) if row.reads_uri else ()
    return row.headers(row.key(_bytes(secret)), body, int(now.timestamp()), id, *address)


def is_ping(scheme: str, body: bytes) -> bool:
    """Whether a provider of this scheme only asks, unsigned, if somebody is there."""
    return SCHEMES[scheme].ping(body)


def secret_problem(scheme: str, secret: bytes | str) -> str | None:
    """Why this text cannot be a secret of this scheme, for whoever set it; None if it can."""
    try:
        SCHEMES[scheme].key(_bytes(secret))
    except ValueError as error:
        return str(error)
    return None


def _bytes(secret: bytes | str) -> bytes:
    return secret.encode() if isinstance(secret, str) else secret


def _usable_key(row: Scheme, secret: bytes | str) -> bytes | None:
    try:
        return row.key(_bytes(secret)) or None
    except ValueError:  # whoever set it is told by secret_problem; the other secrets still count
        return None


def _refuse_stale(signed_at: float, now: datetime) -> None:
    off_by = signed_at - now.timestamp()
    if abs(off_by) > TOLERANCE.total_seconds():
        side = "in the future" if off_by > 0 else "old"
        raise BadSignature(
            f"The signature is {abs(round(off_by))} seconds {side}, more than the "
            f"{TOLERANCE.seconds} allowed; check the clocks, or post it again."
        )


def _header(headers: Mapping[str, str], name: str) -> bytes:
    """The header's value as bytes: comparing texts that are not ASCII raises, comparing bytes never does."""
    value = headers.get(name)
    if not value:
        raise BadSignature(f"The header {name} is missing.")
    if len(value) > LONGEST_HEADER:
        raise BadSignature(f"The header {name} is too long.")
    try:
        return value.encode("ascii")
    except UnicodeEncodeError:
        raise BadSignature(f"The header {name} holds characters that no signature has.") from None


def _seconds(text: bytes, name: str) -> int:
    if not _SECONDS.fullmatch(text):
        raise BadSignature(f"The header {name} holds no moment in seconds since 1970.")
    return int(text)


def _some(signatures: Sequence[bytes], name: str) -> tuple[bytes, ...]:
    if not signatures:
        raise BadSignature(f"The header {name} holds no signature of a version known here.")
    if len(signatures) > MOST_SIGNATURES:
        raise BadSignature(f"The header {name} holds more than {MOST_SIGNATURES} signatures.")
    return tuple(signatures)


def _hex(digest: bytes) -> bytes:
    return digest.hex().encode()


# Shopify: the raw body alone. Its headers (topic, event id, time) are not signed, so no replay window can be
# held; a repeated body is found by its key. https://shopify.dev/docs/apps/build/webhooks/subscribe/https

_SHOPIFY: Final = "x-shopify-hmac-sha256"


def _shopify_claim(headers: Mapping[str, str]) -> Claim:
    return Claim(signatures=(_header(headers, _SHOPIFY),))


def _shopify_headers(key: bytes, body: bytes, seconds: int, id: str) -> dict[str, str]:
    signature = base64.b64encode(hmac.digest(key, body, "sha256")).decode()
    return {_SHOPIFY: signature, "x-shopify-event-id": id, "x-shopify-webhook-id": id}


# Stripe: `t=1700000000,v1=<hex>,v1=<hex>` over "t.body"; v1 repeats while a secret is rolled, and v0 is a
# test signature to be ignored. The whole secret, `whsec_` included, is the key. https://docs.stripe.com/webhooks

_STRIPE: Final = "stripe-signature"


def _stripe_claim(headers: Mapping[str, str]) -> Claim:
    parts = [part.strip().partition(b"=") for part in _header(headers, _STRIPE).split(b",")]
    moments = [value for name, _, value in parts if name == b"t"]
    if len(moments) != 1:
        raise BadSignature(f"The header {_STRIPE} must hold one moment, written as t=1700000000.")
    signed_at = _seconds(moments[0], _STRIPE)
    signatures = _some([value for name, _, value in parts if name == b"v1"], _STRIPE)
    return Claim(signatures=signatures, prefix=moments[0] + b".", signed_at=signed_at)


def _stripe_headers(key: bytes, body: bytes, seconds: int, id: str) -> dict[str, str]:
    signature = hmac.digest(key, b"%d." % seconds + body, "sha256").hex()
    return {_STRIPE: f"t={seconds},v1={signature}"}


# Standard Webhooks: `v1,<base64> v1,<base64>` over "id.timestamp.body"; the secret is `whsec_` and base64.
# `v1a` (ed25519) is not read. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

_ID, _TIMESTAMP, _SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


def _standard_claim(headers: Mapping[str, str]) -> Claim:
    message, moment = _header(headers, _ID), _header(headers, _TIMESTAMP)
    signed_at = _seconds(moment, _TIMESTAMP)
    parts = [part.partition(b",") for part in _header(headers, _SIGNATURE).split()]
    signatures = _some([value for version, _, value in parts if version == b"v1"], _SIGNATURE)
    return Claim(signatures=signatures, prefix=message + b"." + moment + b".", signed_at=signed_at)


def _standard_headers(key: bytes, body: bytes, seconds: int, id: str) -> dict[str, str]:
    digest = hmac.digest(key, f"{id}.{seconds}.".encode() + body, "sha256")
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {_ID: id, _TIMESTAMP: str(seconds), _SIGNATURE: signature}


def _standard_key(secret: bytes) -> bytes:
    text = secret.removeprefix(_SYMMETRIC_PREFIX.encode())
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError(f"A secret of this scheme is '{_SYMMETRIC_PREFIX}' followed by base64.") from None


# HubSpot, third version: POST + address + body + moment in milliseconds, all in one. The address is the public one that
# the app's settings name; a few of its escapes are decoded before it is signed, either case of their digits, and no
# others. https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation

_HUBSPOT, _HUBSPOT_MOMENT = "x-hubspot-signature-v3", "x-hubspot-request-timestamp"
_HUBSPOT_DECODES: Final = {f"%{ord(sign):02X}": sign for sign in ":/?@!$'()*,;"}
_HUBSPOT_ESCAPE: Final = re.compile("|".join(_HUBSPOT_DECODES), re.IGNORECASE)


def _hubspot_prefix(uri: str) -> bytes:
    decoded = _HUBSPOT_ESCAPE.sub(lambda escape: _HUBSPOT_DECODES[escape.group().upper()], uri)
    return b"POST" + decoded.encode("utf-8", "surrogatepass")


def _hubspot_claim(headers: Mapping[str, str]) -> Claim:
    moment = _header(headers, _HUBSPOT_MOMENT)
    if not _MILLISECONDS.fullmatch(moment):
        raise BadSignature(f"The header {_HUBSPOT_MOMENT} holds no moment in milliseconds since 1970.")
    return Claim(
        signatures=(_header(headers, _HUBSPOT),),
        prefix=_hubspot_prefix(headers[URI]),
        suffix=moment,
        signed_at=int(moment) / 1000,
    )


def _hubspot_headers(key: bytes, body: bytes, seconds: int, id: str, uri: str) -> dict[str, str]:
    moment = f"{seconds}000"
    digest = hmac.digest(key, _hubspot_prefix(uri) + body + moment.encode(), "sha256")
    return {_HUBSPOT: base64.b64encode(digest).decode(), _HUBSPOT_MOMENT: moment}


# Segment: hex HMAC-SHA1 of the body; no moment is signed. Of a batch it signs the first event only, so that anybody
# who has seen one signed event could add others to it: a batch matches nothing here, and needs a shared secret.
# https://www.twilio.com/docs/segment/connections/destinations/catalog/actions-webhook

_SEGMENT: Final = "x-signature"


def _segment_claim(headers: Mapping[str, str]) -> Claim:
    return Claim(signatures=(_header(headers, _SEGMENT),))


def _segment_headers(key: bytes, body: bytes, seconds: int, id: str) -> dict[str, str]:
    return {_SEGMENT: hmac.digest(key, body, "sha1").hex()}


# Nothing signed at all: whoever posts shows the secret itself, in a header or, where a provider lets nobody choose
# headers, as `?key=` of the address. It proves who posts, not what; compared are digests, so that no length is told.

_SHAREABLE: Final = re.compile(rb"[!-~]{16,}")
_SHARED, _AUTHORIZATION, _BEARER = "x-afterglow-secret", "authorization", b"bearer "


def _shared_claim(headers: Mapping[str, str]) -> Claim:
    if _SHARED in headers:
        shown = _header(headers, _SHARED)
    elif (token := headers.get(_AUTHORIZATION, "").encode("latin-1", "replace"))[:7].lower() == _BEARER:
        shown = token[7:].strip()
    else:
        shown = _shown_in(headers[URI])
    return Claim(signatures=(hashlib.sha256(shown).digest(),))


def _shown_in(uri: str) -> bytes:
    keys = [part[4:] for part in uri[:LONGEST_HEADER].partition("?")[2].split("&") if part.startswith("key=")]
    if len(keys) != 1:
        raise BadSignature(f"The secret is missing: show it in the header {_SHARED}, or once as ?key= in the address.")
    return unquote_to_bytes(keys[0].encode("utf-8", "surrogatepass"))


def _shared_key(secret: bytes) -> bytes:
    if secret and not _SHAREABLE.fullmatch(secret):
        raise ValueError("A shared secret is at least 16 characters, of those that may stand in a header.")
    return secret


def _shared_headers(key: bytes, body: bytes, seconds: int, id: str, uri: str) -> dict[str, str]:
    return {_SHARED: key.decode("latin-1")}


# WooCommerce: the raw body alone, as Shopify. When a hook is switched on in its settings it posts `webhook_id=1` as a
# form, unsigned, and reports an error unless the answer is 200 (deliver_ping in WooCommerce's class-wc-webhook.php).

_WOOCOMMERCE: Final = "x-wc-webhook-signature"
_WOOCOMMERCE_PING: Final = re.compile(rb"webhook_id=[0-9]{1,12}")


def _woocommerce_claim(headers: Mapping[str, str]) -> Claim:
    return Claim(signatures=(_header(headers, _WOOCOMMERCE),))


def _woocommerce_headers(key: bytes, body: bytes, seconds: int, id: str) -> dict[str, str]:
    signature = base64.b64encode(_sha256(key, body)).decode()
    return {_WOOCOMMERCE: signature, "x-wc-webhook-delivery-id": id}


# Judge.me: the raw body alone, in hex. https://judge.me/help/en/articles/8299679-verifying-webhooks-from-judge-me

_JUDGEME: Final = "judgeme-hmac-sha256"


def _judgeme_claim(headers: Mapping[str, str]) -> Claim:
    return Claim(signatures=(_header(headers, _JUDGEME),))


def _judgeme_headers(key: bytes, body: bytes, seconds: int, id: str) -> dict[str, str]:
    return {_JUDGEME: _hex(_sha256(key, body)).decode()}


# HTTP Basic (RFC 7617): the secret is `user:password`, and nothing is signed. https://pipedrive.readme.io/docs/guide-for-webhooks-v2


def _basic_claim(headers: Mapping[str, str]) -> Claim:
    kind, _, credentials = _header(headers, _AUTHORIZATION).partition(b" ")
    if kind.lower() != b"basic" or not credentials:
        raise BadSignature(f"The header {_AUTHORIZATION} must hold a user and a password, written as Basic and base64.")
    return Claim(signatures=(credentials,))


def _basic_headers(key: bytes, body: bytes, seconds: int, id: str) -> dict[str, str]:
    return {_AUTHORIZATION: f"Basic {base64.b64encode(key).decode()}"}


def _basic_key(secret: bytes) -> bytes:
    user, colon, password = secret.partition(b":")
    if not (user and colon and password):
        raise ValueError("A secret of this scheme is a user and a password with a colon between them: user:password.")
    return secret


SCHEMES: Final[dict[str, Scheme]] = {
    "shopify": Scheme(
        about="Base64 HMAC-SHA256 of the body in X-Shopify-Hmac-Sha256; no moment is signed.",
        claim=_shopify_claim,
        headers=_shopify_headers,
        written=base64.b64encode,
    ),
    "stripe": Scheme(
        about="Hex HMAC-SHA256 of moment and body in Stripe-Signature; five minutes either way.",
        claim=_stripe_claim,
        headers=_stripe_headers,
        written=_hex,
    ),
    "standard_webhooks": Scheme(
        about="Base64 HMAC-SHA256 of id, moment and body in Webhook-Signature; five minutes either way.",
        claim=_standard_claim,
        headers=_standard_headers,
        written=base64.b64encode,
        key=_standard_key,
    ),
    "hubspot_v3": Scheme(
        about="Base64 HMAC-SHA256 of POST, public address, body and moment in X-HubSpot-Signature-v3; five minutes.",
        claim=_hubspot_claim,
        headers=_hubspot_headers,
        written=base64.b64encode,
        reads_uri=True,
    ),
    "segment": Scheme(
        about="Hex HMAC-SHA1 of the body in X-Signature; no moment is signed, and of a batch nothing.",
        claim=_segment_claim,
        headers=_segment_headers,
        written=_hex,
        digest=lambda key, signed: hmac.digest(key, signed, "sha1"),
    ),
    "shared_secret": Scheme(
        about="The secret itself, in X-Afterglow-Secret, as a bearer token or as ?key= of the address.",
        claim=_shared_claim,
        headers=_shared_headers,
        written=bytes,
        key=_shared_key,
        digest=lambda key, signed: hashlib.sha256(key).digest(),
        reads_uri=True,
    ),
    "woocommerce": Scheme(
        about="Base64 HMAC-SHA256 of the body in X-WC-Webhook-Signature; no moment is signed.",
        claim=_woocommerce_claim,
        headers=_woocommerce_headers,
        written=base64.b64encode,
        ping=lambda body: _WOOCOMMERCE_PING.fullmatch(body) is not None,
    ),
    "judgeme": Scheme(
        about="Hex HMAC-SHA256 of the body in JUDGEME-HMAC-SHA256; no moment is signed.",
        claim=_judgeme_claim,
        headers=_judgeme_headers,
        written=_hex,
    ),
    "basic": Scheme(
        about="User and password in Authorization (HTTP Basic); nothing is signed.",
        claim=_basic_claim,
        headers=_basic_headers,
        written=base64.b64encode,
        digest=_the_key_itself,
        key=_basic_key,
    ),
}
