"""Forty and more bad signatures for every shipped source: all 401, none 500, and nothing is stored."""

import asyncio
import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from afterglow import ROOT
from afterglow.language.source import read_source
from afterglow.signatures import SCHEMES, sign
from db.tables import inbox
from tests.web.conftest import client, faces_of, rows

BODY = json.dumps({"id": 7, "status": "processing", "name": "Élodie ☕"}).encode()
VECTORS_MIN = 40
SOURCES = {path.stem: read_source(path.read_text(), path.name) for path in ROOT.glob("flows/sources/*.yaml")}
#: A secret that the scheme takes, and another.
SECRETS = {
    "standard_webhooks": (
        "whsec_" + base64.b64encode(b"k" * 32).decode(),
        "whsec_" + base64.b64encode(b"o" * 32).decode(),
    ),
    "basic": ("afterglow:café-au-lait", "afterglow:espresso"),
}
PLAIN = ("the-secret-0123456789", "another-secret-0123456789")
#: Headers that a provider sends and no scheme reads: changing them changes no signature.
BESIDE = {"x-shopify-event-id", "x-shopify-webhook-id", "x-wc-webhook-delivery-id"}
#: Headers that hold a list of signatures, of which one must be right: what is only added to it spoils nothing.
LISTS = {"stripe-signature", "webhook-signature"}
ADDED = ("doubled", "twice", "beside another", "with a line's end", "behind another kind")

Raw = list[tuple[bytes, bytes]]
NAMES = sorted(name for name, source in SOURCES.items() if source.auth != "none")


def scheme_of(name: str) -> str:
    return SOURCES[name].auth.scheme


def secrets_of(name: str) -> tuple[str, str]:
    return SECRETS.get(scheme_of(name), PLAIN)


def signed(name: str, secret: str, body: bytes = BODY, minutes: int = 0) -> dict[str, bytes]:
    moment = datetime.fromtimestamp(datetime.now(UTC).timestamp() + 60 * minutes, UTC)
    return {key: value.encode() for key, value in sign(scheme_of(name), secret, body, moment, "m-1").items()}


def bad(name: str) -> Iterator[tuple[str, Raw, bytes]]:
    """(what is wrong, headers, body)."""
    secret, other = secrets_of(name)
    good = signed(name, secret)
    read = sorted(good.keys() - BESIDE)
    yield "nothing", [], BODY
    yield "another secret", list(_raw(signed(name, other))), BODY
    yield "an empty body signed by another", list(_raw(signed(name, other, b""))), b""
    if scheme_of(name) != "basic":  # a password says nothing about the body
        for what, body in (("a longer body", BODY + b" "), ("a shorter body", BODY[:-1]), ("no body", b"")):
            yield what, list(_raw(good)), body
        yield "a changed body", list(_raw(good)), BODY.replace(b"7", b"8")
    for header in read:
        vectors = [(what, list(_raw(good | {header: value}))) for what, value in _twisted(good[header])]
        vectors += [
            ("missing", list(_raw({key: value for key, value in good.items() if key != header}))),
            ("twice", [*_raw(good), (header.encode(), good[header])]),
            ("beside another", [*_raw(good), (header.encode(), b"AAAA")]),
        ]
        for what, headers in vectors:
            if headers != list(_raw(good)) and not (header in LISTS and what in ADDED):
                yield f"{header}: {what}", headers, BODY


def _raw(headers: dict[str, bytes]) -> Iterator[tuple[bytes, bytes]]:
    return ((key.encode(), value) for key, value in headers.items())


def _twisted(value: bytes) -> Iterator[tuple[str, bytes]]:
    """A header's value, spoiled."""
    for keep in (1, 5, len(value) // 2, len(value) - 3, len(value) - 1):
        yield f"cut to {keep}", value[:keep]
    for place in (0, len(value) // 2, len(value) - 5):
        changed = b"A" if value[place : place + 1] != b"A" else b"B"
        yield f"changed at {place}", value[:place] + changed + value[place + 1 :]
    yield "swapped case", value.swapcase() if value.swapcase() != value else value + b"x"
    yield "doubled", value * 2
    yield "padded", value + b"="
    yield "padded more", value + b"===="
    yield "with a line's end", value + b"\n"
    yield "with a NUL", value + b"\0"
    yield "in quotes", b'"' + value + b'"'
    yield "behind another kind", b"Bearer " + value
    yield "with a word before it", b"sha256=" + value
    for odd in (
        b"", b" ", b",", b"=", b"==", b"%", b"null", b"none", b"undefined", b"0", b"-1", b"true", b"[]", b"{}",
        b"A" * 43, b"A" * 44, b"0" * 64, b"A" * 9_000, b"\xe9" * 44, "é☕".encode(), b"\xff\xfe", b"\x00", b"t=1,v1=",
        b"v1,", b"Basic", b"Basic ", b"Basic =", b"Basic Og==",
    ):  # fmt: skip
        yield repr(odd[:12]), odd


@pytest.mark.parametrize("name", NAMES)
def test_every_bad_signature_is_refused_with_a_sentence_and_nothing_is_stored(app, monkeypatch, name):
    secret, _ = secrets_of(name)
    for variable in SOURCES[name].auth.secrets:
        monkeypatch.setenv(variable, secret)
    vectors = list(bad(name))
    assert len(vectors) >= VECTORS_MIN

    async def post_all(face) -> list[tuple[str, httpx.Response]]:
        async with client(face) as http:
            return [
                (what, await http.post(f"/hooks/{name}", content=body, headers=headers))
                for what, headers, body in vectors
            ]

    with faces_of(app) as faces:
        answers = asyncio.run(post_all(faces.public))

    assert [(what, answer.status_code) for what, answer in answers if answer.status_code != 401] == []
    assert {answer.json()["error"][-1] for _, answer in answers} == {"."}
    assert not [what for what, answer in answers if secret in answer.text]
    assert rows(app, inbox) == []


@pytest.mark.parametrize("name", NAMES)
def test_what_its_provider_sends_is_accepted_and_its_credentials_are_not_stored(app, monkeypatch, name):
    secret, _ = secrets_of(name)
    for variable in SOURCES[name].auth.secrets:
        monkeypatch.setenv(variable, secret)

    async def post(face) -> httpx.Response:
        async with client(face) as http:
            return await http.post(f"/hooks/{name}", content=BODY, headers=list(_raw(signed(name, secret))))

    with faces_of(app) as faces:
        answer = asyncio.run(post(faces.public))

    assert answer.status_code == 202
    stored = rows(app, inbox)
    assert stored
    assert not [row for row in stored if "authorization" in row.headers]
    assert secret not in repr([row.headers for row in stored])


def test_every_scheme_of_the_table_is_used_by_a_shipped_source():
    assert {scheme_of(name) for name in NAMES} == SCHEMES.keys()


PINGS_REFUSED = (b"webhook_id=1&a=b", b"webhook_id=", b"webhook_id=one", b" webhook_id=1", b"webhook_id=1" * 9)


def test_the_question_whether_somebody_is_there_is_answered_200_and_nothing_is_stored(app, monkeypatch):
    """WooCommerce asks it unsigned when a webhook is saved, and shows an error for any other answer, 202 too."""
    monkeypatch.setenv("WOOCOMMERCE_WEBHOOK_SECRET", "typed into each webhook")
    form = {"content-type": "application/x-www-form-urlencoded"}

    async def ask(face) -> list[int]:
        async with client(face) as http:
            return [
                (await http.post("/hooks/woocommerce", content=body, headers=form)).status_code
                for body in (b"webhook_id=1", *PINGS_REFUSED)
            ]

    with faces_of(app) as faces:
        assert asyncio.run(ask(faces.public)) == [200] + [401] * len(PINGS_REFUSED)
        assert faces.hooks.counts["woocommerce", 200] == 1
    assert rows(app, inbox) == []


def test_other_sources_answer_no_unsigned_question(app, monkeypatch):
    monkeypatch.setenv("JUDGEME_WEBHOOK_SECRET", "token")

    async def ask(face) -> int:
        async with client(face) as http:
            return (await http.post("/hooks/judgeme", content=b"webhook_id=1")).status_code

    with faces_of(app) as faces:
        assert asyncio.run(ask(faces.public)) == 401
