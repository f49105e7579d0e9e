"""Mutated payloads of every shipped source: mapped, ignored or unmappable with a reason, and never anything else.

Short with the other tests; AFTERGLOW_FAULTS=long tries 5,000 per source. A run can be repeated with the seed that a
failure prints: FUZZ_SEED.
"""

import json
import os
import random
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import orjson
import pytest

from afterglow.language.source import Source, read_source
from afterglow.mapping import Ignored, Mapped, PrivacyRequest, Unmappable, elements, map_element
from afterglow.mapping.soap import read_soap
from tests.examples import LONG

ROOT = Path(__file__).parents[2]
RECEIVED = datetime(2026, 3, 20, 12, 0, tzinfo=UTC)
TRIES = 5_000 if LONG else 250
SOURCES = {path.stem: path for path in sorted((ROOT / "flows/sources").glob("*.yaml"))}
#: What customers might have written; no reason may repeat it.
CANARY = "canary-Zoe-Personal"
#: What the shop knows, for sources whose payload names the event.
KNOWN_EVENTS = {
    "order.paid": {"order.id": "text", "order.total": "number", "order.items[].price": "number"},
    "survey.answered": {"score": "number"},
}
KNOWN_STAGES = ("awareness", "purchase", "retention")

NUMBERS = [0, -1, 1, 0.1, -0.0, 1.5, 1e300, -1e300, 2**31, 2**63, 2**64 - 1, -(2**63), 10**15, 123456789012345678]
TEXTS = [
    "", " ", "0", "-1", "null", "true", "NaN", "1e400", "1e-400", "9" * 400, "0x10", "1,50", "1.234,56", "١٢٣", "½",
    "a@b", "@", "é@é.example", "ada@example.com\r\nBcc: x@example.com", f"{CANARY}@example.com", CANARY, CANARY * 40,
    "\u0000", "\u202e", "\ufeff", "\U0001f9cb" * 30, "e\u0301" * 300, "\ud7ff", "x" * 20_000, "EURO", "eur", "XX",
    "+", "+33", "++336", "' OR 1=1 --", "{{ 7 * 7 }}", "<script>", "../../etc", "%00", "%s%n", "order.paid", "won",
]  # fmt: skip
DATES = [
    "2026-13-45", "2026-02-30T00:00:00Z", "0000-00-00 00:00:00", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-12:00", "2026-03-02T25:00:00Z", "2026-W10-1", "20260302T090000Z", "2026-03-02 09:00:00 UTC",
    "2026-03-02T09:00:00.123456789Z",
    "02/03/2026", "Mon, 02 Mar 2026 09:00:00 GMT", "1772442000", "1772442000000",
    "tomorrow", "1969-12-31", "2199-01-01",
    1772442000, 1772442000000, -62135596800, 253402300800, 1e18,
]  # fmt: skip
SHAPES = [[], {}, [[]], [{}], [None], [1, "a", None], {"id": CANARY}, {"": ""}, {"\u0000": 1}]


def copied(value: object) -> object:
    """So that nothing that is changed later holds itself."""
    return json.loads(json.dumps(value))


def nested(deep: int, chance: random.Random) -> object:
    value: object = CANARY
    for _ in range(deep):
        value = [value] if chance.random() < 0.5 else {"a": value}
    return value


def odd(chance: random.Random) -> object:
    """Some value that a payload should not hold where it stands."""
    match chance.randrange(8):
        case 0:
            return None
        case 1:
            return chance.choice([True, False])
        case 2:
            return chance.choice(NUMBERS)
        case 3:
            return chance.choice(TEXTS)
        case 4:
            return chance.choice(DATES)
        case 5:
            return copied(chance.choice(SHAPES))
        case 6:
            return nested(chance.choice([3, 20, 31, 40, 100]), chance)
        case _:
            return "".join(chr(chance.choice([0, 9, 10, 0x7F, 0xE9, 0x2028, 0x1F600, 0xFFFF])) for _ in range(6))


def containers(value: object) -> list[dict | list]:
    found, ahead = [], [value]
    while ahead:
        here = ahead.pop()
        if isinstance(here, dict | list) and here:
            found.append(here)
            ahead.extend(here.values() if isinstance(here, dict) else here)
    return found


def spoil(payload: object, chance: random.Random) -> object:
    """Change one thing somewhere."""
    places = containers(payload)
    if not places or chance.random() < 0.02:
        return odd(chance)
    where = chance.choice(places)
    place = chance.choice(list(where) if isinstance(where, dict) else list(range(len(where))))
    match chance.randrange(7):
        case 0:
            del where[place]
        case 1:
            where[place] = None
        case 2:
            where[place] = retyped(where[place])
        case 3 if isinstance(where, list):
            where.extend(copied([where[place]] * chance.choice([1, 5, 300])))
        case 3:
            where[chance.choice(TEXTS)[:50]] = copied(where[place])
        case 4:
            other = chance.choice(places)
            where[place] = copied(chance.choice(list(other.values()) if isinstance(other, dict) else other))
        case _:
            where[place] = odd(chance)
    return payload


def retyped(value: object) -> object:
    match value:
        case bool() | None:
            return str(value)
        case int() | float():
            return str(value)
        case str():
            return float(value) if re.fullmatch(r"-?\d{1,15}(\.\d+)?", value) else [value]
        case list():
            return {str(n): inner for n, inner in enumerate(value)}
        case dict():
            return list(value.values())
        case _:
            return value


def headers_of(name: str, file: Path, chance: random.Random) -> dict[str, str]:
    """What the provider would send with it, at times spoiled too."""
    topic = ".".join(file.stem.split(".")[:2])
    headers = {
        "content-type": "application/json",
        "x-shopify-topic": file.stem.split(".")[0].replace("-", "/"),
        "x-shopify-event-id": "e-1",
        "x-wc-webhook-topic": topic,
        "x-wc-webhook-delivery-id": "d-1",
        "webhook-id": "msg-1",
    }
    if chance.random() < 0.1:
        headers[chance.choice(sorted(headers))] = str(chance.choice(TEXTS))[:2_000]
    if chance.random() < 0.05:
        del headers[chance.choice(sorted(headers))]
    return headers


def spoiled_body(file: Path, chance: random.Random) -> bytes:
    is_xml = file.suffix == ".xml"
    payload = read_soap(file.read_bytes()) if is_xml else json.loads(file.read_bytes())
    for _ in range(chance.choice([1, 1, 2, 3, 5, 8])):
        payload = spoil(payload, chance)
    body = as_soap(payload) if is_xml else json.dumps(payload, ensure_ascii=chance.random() < 0.5).encode()
    if chance.random() < 0.05:
        cut = bytearray(body)
        for _ in range(chance.randint(1, 4)):
            cut[chance.randrange(len(cut))] = chance.randrange(256)
        body = bytes(cut[: chance.randint(0, len(cut))]) if chance.random() < 0.5 else bytes(cut)
    return body


def as_soap(message: object) -> bytes:
    """A message in its envelope again. What no XML can hold (some names, NUL) stays in it: the sender is broken."""
    return (
        '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:i="http://www.w3.org/2001/XMLSchema-instance">'
        f"<e:Body>{as_xml('notifications', message)}</e:Body></e:Envelope>"
    ).encode("utf-8", "surrogatepass")


def as_xml(name: str, value: object) -> str:
    match value:
        case dict():
            kind = f" i:type={quoteattr(str(value['type']))}" if "type" in value else ""
            inner = "".join(as_xml(key, held) for key, held in value.items() if key != "type")
            return f"<{name}{kind}>{inner}</{name}>"
        case list():
            return "".join(as_xml(name, held) for held in value)
        case None:
            return f'<{name} i:nil="true"/>'
        case _:
            return f"<{name}>{escape(str(value))}</{name}>"


def fate(source: Source, headers: dict[str, str], body: bytes) -> list[str]:
    """What each element became; AssertionError where that is not one of the three."""
    try:
        parts = elements(source, headers, body)
    except Unmappable as error:
        assert_tells_nothing(error.reason)
        return ["unmappable"]
    return [_fate_of_element(source, headers, part.key, part.body) for part in parts]


def _fate_of_element(source: Source, headers: dict[str, str], key: str, body: bytes) -> str:
    assert key
    assert len(key) <= 200
    assert "\0" not in key
    try:
        result = map_element(
            source, headers, body, received_at=RECEIVED, known_events=KNOWN_EVENTS, known_stages=KNOWN_STAGES
        )
    except Unmappable as error:
        assert_tells_nothing(error.reason)
        return "unmappable"
    if isinstance(result, Ignored):
        assert_tells_nothing(result.reason)
        return "ignored"
    if isinstance(result, PrivacyRequest):
        assert (result.customer is None) == (result.kind == "forget-everybody")
        return "privacy request"
    assert isinstance(result, Mapped)
    assert len(result.digest()) == 64
    assert result.occurred_at <= RECEIVED
    assert result.customer.external_id or result.customer.email or result.customer.order_id
    assert "\0" not in repr(result)
    assert orjson.dumps(dict(result.payload), default=str)
    return "mapped"


def assert_tells_nothing(reason: str) -> None:
    assert reason[-1] in ".?"
    assert len(reason) < 400
    # The one thing that is repeated: an event or a stage that a system of the shop's own names and nobody declared.
    assert CANARY not in re.sub(r"^The shop knows no (event|stage) '[^']*'", "", reason)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_spoiled_payload_is_mapped_ignored_or_unmappable_and_its_reason_repeats_no_customer_data(name):
    source = read_source(SOURCES[name].read_text(), f"{name}.yaml")
    files = sorted((ROOT / "tests/payloads" / name).glob("*.*"))
    assert files, f"tests/payloads/{name}/ holds no payload to spoil"
    seed = int(os.environ.get("FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
    chance = random.Random(seed)
    fates: Counter[str] = Counter()
    for n in range(TRIES):
        file = files[n % len(files)]
        headers, body = headers_of(name, file, chance), spoiled_body(file, chance)
        try:
            fates.update(fate(source, headers, body))
        except Exception as error:
            raise AssertionError(f"FUZZ_SEED={seed}, try {n}, {file.name}: {body[:2_000]!r}") from error
    print(f"\n{name}: {TRIES} requests, FUZZ_SEED={seed}, {dict(fates)}")
    assert fates.keys() >= {"mapped", "unmappable"}  # spoiled enough to mean something, and not beyond all meaning
