"""What a provider meets at `POST /hooks/{source}`."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from structlog.testing import capture_logs

from afterglow import ROOT
from afterglow.language.catalog import Document
from afterglow.language.source import read_source
from afterglow.signatures import SCHEMES, sign
from db.tables import inbox
from tests.bad_signatures import BODY, LISTS, SECRETS, UNSIGNED_HEADERS, forged
from tests.web.conftest import BOTH, SHOPIFY_SECRET, client, faces_of, put_into_force, rows
from web import hooks

ORDER = {"id": 820982911946154508, "email": "jon@example.com", "total_price": "40.00", "currency": "EUR"}
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STRIPE_SECRET = "whsec_stripe"
PAYLOADS = Path(__file__).parents[1] / "payloads"


def signed(body: bytes, *, event: str = "e-1", secret: str = SHOPIFY_SECRET, **more: str) -> dict[str, str]:
    headers = sign("shopify", secret, body, datetime.now(UTC), event)
    return {**headers, "x-shopify-topic": "orders/paid", "content-type": "application/json", **more}


async def post(face, body: bytes, headers: dict[str, str], source: str = "shopify") -> httpx.Response:
    async with client(face) as http:
        return await http.post(f"/hooks/{source}", content=body, headers=headers)


@BOTH
def test_a_signed_webhook_is_on_the_disk_when_it_is_answered(app, faces):
    body = json.dumps(ORDER).encode()

    answer = asyncio.run(post(faces.public, body, signed(body)))

    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
    (row,) = rows(app, inbox)
    assert (row.source, row.key, row.state, row.tries) == ("shopify", "orders/paid/e-1", "received", 0)
    assert (row.body, row.digest) == (body, hashlib.sha256(body).digest())
    assert row.headers["x-shopify-topic"] == "orders/paid"


def test_headers_that_open_doors_or_tell_addresses_are_not_stored(app, faces):
    secret = {"authorization": "Basic eHg6eXk=", "cookie": "a=b", "x-api-key": "k", "x-forwarded-for": "203.0.113.9"}

    asyncio.run(post(faces.public, b"{}", signed(b"{}", **secret)))

    (row,) = rows(app, inbox)
    assert row.headers.keys().isdisjoint({*secret, "host", "user-agent", "accept"})


@BOTH
def test_the_same_webhook_again_is_accepted_and_stored_once(app, faces):
    async def twice():
        return [await post(faces.public, b"{}", signed(b"{}")) for _ in range(2)]

    answers = asyncio.run(twice())

    assert [answer.status_code for answer in answers] == [202, 202]
    assert len(rows(app, inbox)) == 1


@BOTH
def test_the_same_key_with_another_body_is_kept_beside_the_first(app, faces):
    async def both():
        for body in (b'{"id": 1}', b'{"id": 2}'):
            assert (await post(faces.public, body, signed(body))).status_code == 202

    asyncio.run(both())

    assert [row.key for row in rows(app, inbox)] == ["orders/paid/e-1"] * 2


@BOTH
def test_many_at_once_share_commits_and_none_is_lost_or_doubled(app, faces):
    commits = []
    write = faces.intake._write
    faces.intake._write = lambda batch: commits.append(len(batch)) or write(batch)

    async def storm():
        async with client(faces.public) as http:
            bodies = [json.dumps({"id": n % 60}).encode() for n in range(120)]
            posts = (
                http.post("/hooks/shopify", content=body, headers=signed(body, event=str(n % 60)))
                for n, body in enumerate(bodies)
            )
            return [answer.status_code for answer in await asyncio.gather(*posts)]

    assert asyncio.run(storm()) == [202] * 120
    assert sorted(row.key for row in rows(app, inbox)) == sorted(f"orders/paid/{n}" for n in range(60))
    assert sum(commits) == 120
    assert len(commits) < 60


def test_nobody_has_to_wait_for_the_others_to_be_hinted(app, faces, monkeypatch):
    hints = []
    monkeypatch.setattr(type(app), "hint", lambda self, *kinds: hints.append(kinds))

    asyncio.run(post(faces.public, b"{}", signed(b"{}")))
    faces.intake.close()

    assert hints == [("ingest",)]


BAD_SIGNATURES = {
    "missing": {"x-shopify-hmac-sha256": None},
    "empty": {"x-shopify-hmac-sha256": ""},
    "wrong": {"x-shopify-hmac-sha256": "AAAA"},
    "of another secret": sign("shopify", "other", b"{}", datetime.now(UTC), "e"),
    "of another body": sign("shopify", SHOPIFY_SECRET, b"{ }", datetime.now(UTC), "e"),
    "not ASCII": {"x-shopify-hmac-sha256": "é" * 44},
    "not base64": {"x-shopify-hmac-sha256": "%%%%"},
    "far too long": {"x-shopify-hmac-sha256": "A" * 9000},
}


@pytest.mark.parametrize("case", BAD_SIGNATURES)
def test_a_bad_signature_is_refused_and_nothing_is_stored(app, faces, case):
    headers = {**signed(b"{}"), **BAD_SIGNATURES[case]}
    raw = [(k.encode(), v.encode("latin-1")) for k, v in headers.items() if v is not None]

    answer = asyncio.run(post(faces.public, b"{}", raw))

    assert answer.status_code == 401
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"].endswith(".")
    assert rows(app, inbox) == []


#: A source of the sample shop for each scheme, and the variable of its secret.
OF_SCHEME = {
    "shopify": ("shopify", "SHOPIFY_WEBHOOK_SECRET"),
    "stripe": ("stripe", "STRIPE_WEBHOOK_SECRET"),
    "standard_webhooks": ("generic", "GENERIC_WEBHOOK_SECRET"),
    "hubspot_v3": ("hubspot", "HUBSPOT_CLIENT_SECRET"),
    "segment": ("segment", "SEGMENT_SHARED_SECRET"),
    "shared_secret": ("salesforce", "SALESFORCE_WEBHOOK_SECRET"),
    "woocommerce": ("woocommerce", "WOOCOMMERCE_WEBHOOK_SECRET"),
    "judgeme": ("judgeme", "JUDGEME_WEBHOOK_SECRET"),
    "basic": ("pipedrive", "PIPEDRIVE_WEBHOOK_LOGIN"),
}


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_whatever_was_forged_is_401_and_nothing_is_stored(app, monkeypatch, scheme):
    source, variable = OF_SCHEME[scheme]
    monkeypatch.setenv(variable, SECRETS[scheme])
    uri = f"{app.settings.public_url}/hooks/{source}"

    async def all_of_them(face):
        answers = {}
        for one in forged(scheme, datetime.now(UTC), uri):
            raw = [(name.encode(), value.encode("utf-8")) for name, value in one.headers.items()]
            place = f"{source}?{one.query}" if one.query else source
            answers[one.why] = await post(face, one.body, raw, place)
        good = sign(scheme, SECRETS[scheme], BODY, datetime.now(UTC), "msg_1", uri=uri)
        for name in good.keys() - UNSIGNED_HEADERS - LISTS:
            for beside in (good[name], "AAAA"):
                raw = [(key.encode(), value.encode()) for key, value in [*good.items(), (name, beside)]]
                answers[f"{name} beside {beside[:9]}"] = await post(face, BODY, raw, source)
        return answers

    with faces_of(app) as faces:
        answers = asyncio.run(all_of_them(faces.public))

    assert len(answers) >= 40
    assert {why: answer.status_code for why, answer in answers.items() if answer.status_code != 401} == {}
    assert {answer.json()["error"][-1] for answer in answers.values()} == {"."}
    assert [why for why, answer in answers.items() if SECRETS[scheme] in answer.text] == []
    assert rows(app, inbox) == []


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_what_a_provider_sends_is_accepted_and_its_credentials_are_not_stored(app, monkeypatch, scheme):
    source, variable = OF_SCHEME[scheme]
    monkeypatch.setenv(variable, SECRETS[scheme])
    good = sign(scheme, SECRETS[scheme], BODY, datetime.now(UTC), "m", uri=f"{app.settings.public_url}/hooks/{source}")

    with faces_of(app) as faces:
        answer = asyncio.run(post(faces.public, BODY, good, source))

    assert answer.status_code in (200, 202)
    stored = rows(app, inbox)
    assert stored
    assert not [row for row in stored if {"authorization", "x-afterglow-secret"} & row.headers.keys()]
    assert SECRETS[scheme] not in repr([row.headers for row in stored])


def test_every_scheme_is_used_by_a_shipped_source_and_no_source_has_a_door_without_one():
    shipped = [read_source(path.read_text(), path.name) for path in ROOT.glob("flows/sources/*.yaml")]

    assert {source.name: source.auth.scheme for source in shipped} == {
        source: scheme for scheme, (source, _) in OF_SCHEME.items()
    }
    assert OF_SCHEME.keys() == SCHEMES.keys()


PINGS_REFUSED = (b"webhook_id=1&a=b", b"webhook_id=", b"webhook_id=one", b" webhook_id=1", b"webhook_id=1" * 9)


def test_the_question_whether_somebody_is_there_is_answered_200_and_nothing_is_stored(app, monkeypatch):
    """WooCommerce asks it unsigned when a webhook is saved, and shows an error for any other answer, 202 too."""
    monkeypatch.setenv("WOOCOMMERCE_WEBHOOK_SECRET", "typed into each webhook")
    form = {"content-type": "application/x-www-form-urlencoded"}

    async def ask(face) -> list[int]:
        return [(await post(face, body, form, "woocommerce")).status_code for body in (b"webhook_id=1", *PINGS_REFUSED)]

    with faces_of(app) as faces:
        assert asyncio.run(ask(faces.public)) == [200] + [401] * len(PINGS_REFUSED)
        assert faces.hooks.counts["woocommerce", 200] == 1
    assert rows(app, inbox) == []


def test_other_sources_answer_no_unsigned_question(app, monkeypatch):
    monkeypatch.setenv("JUDGEME_WEBHOOK_SECRET", "token")

    with faces_of(app) as faces:
        assert asyncio.run(post(faces.public, b"webhook_id=1", {}, "judgeme")).status_code == 401


@pytest.mark.parametrize("query", ["", "?a=1&b=%2F%41"])
def test_hubspot_signs_the_public_address_whatever_a_proxy_says_of_the_host(opened, monkeypatch, query):
    secret, body = SECRETS["hubspot_v3"], b'[{"eventId": 1, "objectId": 2}, {"eventId": 3, "objectId": 2}]'
    monkeypatch.setenv("HUBSPOT_CLIENT_SECRET", secret)
    app = opened(public_url="https://crm.example/afterglow/")
    proxy = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "http", "host": "10.0.0.7:8000"}

    async def both(face):
        answers = []
        for base in ("https://crm.example/afterglow", "http://evil.example"):
            signed_uri = f"{base}/hooks/hubspot{query}"
            headers = sign("hubspot_v3", secret, body, datetime.now(UTC), "", uri=signed_uri)
            answers.append(await post(face, body, {**headers, **proxy}, f"hubspot{query}"))
        return answers

    with faces_of(app) as faces:
        right, wrong = asyncio.run(both(faces.public))

    assert (right.status_code, right.json()) == (202, {"accepted": 2})
    assert wrong.status_code == 401


SOAP = (PAYLOADS / "salesforce/two-contacts.xml").read_bytes()


@pytest.mark.parametrize("body", [SOAP, b"", b"{}", b"<no", b"<a/>", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'])
def test_salesforce_is_answered_in_soap_and_its_secret_is_kept_nowhere(app, monkeypatch, body):
    secret = SECRETS["shared_secret"]
    monkeypatch.setenv("SALESFORCE_WEBHOOK_SECRET", secret)
    headers = {"content-type": "text/xml; charset=UTF-8", "soapaction": '""'}

    with faces_of(app) as faces:
        answer = asyncio.run(post(faces.public, body, headers, f"salesforce?key={secret}"))
        asyncio.run(post(faces.public, body + b" ", {**headers, "x-afterglow-secret": secret}, "salesforce"))
        assert faces.hooks.counts == {("salesforce", 200): 2}

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    envelope = ElementTree.fromstring(answer.content)
    name = "{http://schemas.xmlsoap.org/soap/envelope/}Body/{http://soap.sforce.com/2005/09/outbound}"
    assert envelope.findtext(f"{name}notificationsResponse/{{http://soap.sforce.com/2005/09/outbound}}Ack") == "true"
    kept = rows(app, inbox)
    assert len(kept) == 2  # two notifications, and the same two again; or what cannot be read, whole
    assert secret not in repr(kept)


def test_a_batch_of_segment_needs_a_shared_secret(app, monkeypatch):
    secret = SECRETS["shared_secret"]
    monkeypatch.setenv("SEGMENT_SHARED_SECRET", secret)
    text = (ROOT / "flows/sources/segment.yaml").read_text().replace("scheme: segment", "scheme: shared_secret")
    put_into_force(app, Document(kind="source", name="segment", body=text))
    body = b'[{"messageId": "a"}, {"messageId": "b"}]'

    with faces_of(app) as faces:
        answer = asyncio.run(post(faces.public, body, {"x-afterglow-secret": secret}, "segment"))

    assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
    assert [row.key for row in rows(app, inbox)] == ["a", "b"]


def test_a_signature_given_twice_is_refused(faces):
    raw = [(k.encode(), v.encode()) for k, v in signed(b"{}").items()]
    signature = next(pair for pair in raw if pair[0] == b"x-shopify-hmac-sha256")

    assert asyncio.run(post(faces.public, b"{}", [*raw, signature])).status_code == 401


@pytest.mark.parametrize(("minutes", "status"), [(0, 202), (-4, 202), (4, 202), (-6, 401), (6, 401)])
@pytest.mark.parametrize(
    ("source", "scheme", "secret"),
    [("stripe", "stripe", STRIPE_SECRET), ("generic", "standard_webhooks", STANDARD_SECRET)],
)
def test_a_signed_moment_must_be_recent(app, monkeypatch, minutes, status, source, scheme, secret):
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
    monkeypatch.setenv("GENERIC_WEBHOOK_SECRET", STANDARD_SECRET)
    moment = datetime.now(UTC) + timedelta(minutes=minutes)
    body = b'{"id": "evt_1", "type": "x"}'

    with faces_of(app) as faces:
        answer = asyncio.run(post(faces.public, body, sign(scheme, secret, body, moment, "m1"), source))

    assert answer.status_code == status


def test_while_a_secret_is_changed_both_are_believed(app, monkeypatch):
    monkeypatch.setenv("SHOPIFY_WEBHOOK_SECRET", f"new-secret {SHOPIFY_SECRET}")

    async def both():
        return [
            (await post(faces.public, b"{}", signed(b"{}", secret=secret))).status_code
            for secret in ("new-secret", SHOPIFY_SECRET, "neither")
        ]

    with faces_of(app) as faces:
        assert asyncio.run(both()) == [202, 202, 401]


def test_a_source_without_a_secret_accepts_nothing(app, monkeypatch):
    monkeypatch.delenv("SHOPIFY_WEBHOOK_SECRET")

    with faces_of(app) as faces:
        answer = asyncio.run(post(faces.public, b"{}", signed(b"{}")))

    assert answer.status_code == 403
    assert "no secret" in answer.json()["error"]
    assert rows(app, inbox) == []


@pytest.mark.parametrize("name", ["nope", "", "../api", "shop.yaml", "shopify/orders", "%00", "é"])
def test_an_unknown_source_is_404(faces, name):
    assert asyncio.run(post(faces.public, b"{}", signed(b"{}"), name)).status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_only_post_is_understood(app, faces, method):
    async def ask():
        async with client(faces.public) as http:
            return await http.request(method, "/hooks/shopify", headers=signed(b""))

    answer = asyncio.run(ask())

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert rows(app, inbox) == []


def test_a_body_over_256_kb_is_413_whether_or_not_it_says_so(app, faces):
    body = b'"' + b"x" * hooks.BODY_MAX + b'"'

    async def streamed():
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    async def ask(content):
        async with client(faces.public) as http:
            return (await http.post("/hooks/shopify", content=content, headers=signed(body))).status_code

    assert asyncio.run(ask(body)) == 413
    assert asyncio.run(ask(streamed())) == 413
    assert rows(app, inbox) == []


def test_a_body_of_exactly_256_kb_is_taken(app, faces):
    body = b'"' + b"x" * (hooks.BODY_MAX - 2) + b'"'

    assert asyncio.run(post(faces.public, body, signed(body))).status_code == 202


BAD_BODIES = {
    "empty": b"",
    "not JSON": b"hello",
    "not UTF-8": b'{"a": "\xff"}',
    "a nesting bomb": b"[" * 100_000,
    "a lone surrogate": b'{"a": "\\ud800"}',
    "no object": b"42",
    "a NUL": b'{"id": "\\u0000"}',
    "a huge number": b"9" * 5000,
}


@BOTH
@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_body_that_means_nothing_is_accepted_as_it_is_and_parked_later(app, faces, case):
    body = BAD_BODIES[case]

    assert asyncio.run(post(faces.public, body, signed(body))).status_code == 202

    assert [row.body for row in rows(app, inbox)] == [body]


def test_a_body_that_cannot_be_read_goes_by_its_digest(app, faces):
    asyncio.run(post(faces.public, b"hello", signed(b"hello")))

    (row,) = rows(app, inbox)
    assert row.key == "sha256:" + hashlib.sha256(b"hello").hexdigest()


@BOTH
def test_a_key_that_no_column_takes_costs_neither_the_webhook_nor_its_neighbours(app, faces):
    strange = signed(b"{}", event="e\0x")

    async def together():
        async with client(faces.public) as http:
            posts = [
                http.post("/hooks/shopify", content=b"{}", headers=headers)
                for headers in (signed(b"{}", event="a"), strange, signed(b"{}", event="b"))
            ]
            return [answer.status_code for answer in await asyncio.gather(*posts)]

    assert asyncio.run(together()) == [202, 202, 202]
    assert len(rows(app, inbox)) == 3


LISTED = """
source: listed
auth: none
each: body.events
key: item.id
events:
  - event: order.paid
    customer: {id: item.customer}
"""


@pytest.fixture
def listed(app):
    put_into_force(app, Document(kind="source", name="listed", body=LISTED))


def test_each_element_is_a_row_of_its_own(app, listed, faces):
    body = b'{"events": [{"id": 1}, {"id": "b"}, {"other": true}]}'

    answer = asyncio.run(post(faces.public, body, {}, "listed"))

    assert answer.json() == {"accepted": 3}
    keys = [row.key for row in rows(app, inbox)]
    assert keys[:2] == ["1", "b"]
    assert keys[2].startswith("sha256:")


def test_a_source_may_say_in_so_many_words_that_it_is_not_signed(app, listed, faces):
    assert asyncio.run(post(faces.public, b'{"events": []}', {}, "listed")).json() == {"accepted": 0}


def test_a_source_put_into_force_is_known_without_a_restart(app, faces, monkeypatch):
    async def before_and_after():
        first = await post(faces.public, b'{"events": []}', {}, "listed")
        put_into_force(app, Document(kind="source", name="listed", body=LISTED))
        faces.hooks._sources._looked_at -= 2  # two seconds later
        return [first.status_code, (await post(faces.public, b'{"events": []}', {}, "listed")).status_code]

    assert asyncio.run(before_and_after()) == [404, 202]


def test_a_body_that_does_not_come_is_given_up(faces):
    faces.hooks._patience = hooks.Patience(0.05)
    sent = []

    async def never():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": "/hooks/shopify", "method": "POST", "headers": []}
    asyncio.run(faces.public(scope, never, send))

    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_request_that_is_cancelled_from_outside_is_not_taken_for_a_slow_one():
    async def waiting():
        with hooks.Patience(60):
            await asyncio.Event().wait()

    async def cancelled():
        task = asyncio.create_task(waiting())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


def test_endings_are_counted_under_names_that_no_stranger_can_make_up(faces):
    async def several():
        await post(faces.public, b"{}", signed(b"{}"))
        await post(faces.public, b"{}", {})
        await post(faces.public, b"{}", {}, "made-up")

    asyncio.run(several())

    assert faces.hooks.counts == {("shopify", 202): 1, ("shopify", 401): 1, (hooks.UNKNOWN, 404): 1}


def test_whoever_connects_a_source_is_told_why_it_is_refused_once_a_minute(app, monkeypatch):
    with capture_logs() as told, faces_of(app) as faces:
        for _ in range(3):
            asyncio.run(post(faces.public, b"{}", signed(b"{}", secret="another")))
        assert [line["source"] for line in told if line["event"] == "webhooks are refused"] == ["shopify"]
        assert "The signature does not match" in told[-1]["reason"]
        monkeypatch.setattr(hooks, "REFUSALS_S", 0.0)
        asyncio.run(post(faces.public, b"{}", signed(b"{}", secret="another")))
    assert len([line for line in told if line["event"] == "webhooks are refused"]) == 2


@pytest.mark.parametrize(
    ("host", "is_told"),
    [
        ("hooks.example", False),
        ("HOOKS.example", False),
        ("localhost:8001", False),
        ("[::1]:8000", False),
        ("shop.example", True),
        ("shop.example:8443", True),
    ],
)
def test_a_proxy_that_is_reached_by_another_name_is_told_once(opened, host, is_told):
    with capture_logs() as told, faces_of(opened(public_url="https://hooks.example")) as faces:
        for event in ("e-1", "e-2"):
            asyncio.run(post(faces.public, b"{}", signed(b"{}", event=event, host=host)))
        asyncio.run(post(faces.public, b"{}", signed(b"{}", secret="another", host="stranger.example")))

    assert [line["host"] for line in told if "another name" in line["event"]] == ([host] if is_told else [])
