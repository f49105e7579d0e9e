"""`POST /api/events`, probes and metrics."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error

from db import catalog
from db.tables import inbox
from tests import small_shop
from tests.examples import examples
from tests.web.conftest import BOTH, KEY, client, faces_of, rows
from tests.web.test_hooks import post, signed

EVENT = {
    "event": "order.paid",
    "key": "k-1",
    "customer": {"email": "Sam@Example.com"},
    "payload": {"order": {"id": "o1", "total": 40.5}},
}
BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def keyed(opened):
    return opened(key=KEY)


@pytest.fixture
def faces(keyed):
    with faces_of(keyed) as made:
        yield made


def send(faces, method: str = "POST", path: str = "/api/events", headers=BEARER, **options):
    async def once():
        async with client(faces.private) as http:
            return await http.request(method, path, headers=headers, **options)

    return asyncio.run(once())


@BOTH
def test_an_event_in_our_words_is_accepted_once(keyed, faces):
    answers = [send(faces, json=EVENT) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == {"accepted": True, "event": "order.paid", "key": "k-1"}
    (row,) = rows(keyed, inbox)
    assert (row.source, row.key) == ("api", "k-1")
    assert json.loads(row.body) == EVENT


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": KEY}, {"authorization": "Bearer é"}]
)
def test_without_the_key_nothing_is_accepted(keyed, faces, headers):
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]

    assert send(faces, headers=raw, json=EVENT).status_code == 401
    assert rows(keyed, inbox) == []


def test_where_no_key_is_set_the_answer_names_the_variable(app):
    with faces_of(app) as open_faces:
        answer = send(open_faces, json=EVENT)

    assert answer.status_code == 403
    assert "AFTERGLOW_KEY" in answer.json()["error"]


WRONG = {
    "an unknown event": ({"event": "order.payd"}, "Did you mean 'order.paid'?"),
    "an unknown stage": ({"stage": "retentoin"}, "Did you mean 'retention'?"),
    "an unknown topic": ({"consent": {"state": "granted", "topic": "new"}}, "Did you mean 'news'?"),
    "an unknown field": ({"evnt": 1}, "evnt is not known"),
    "nobody": ({"customer": {}}, "give at least one of id, email, customer"),
    "no address": ({"customer": {"email": "nobody"}}, "is not an e-mail address"),
    "a moment without offset": ({"occurred_at": "2026-03-02T09:00:00"}, "needs an offset"),
    "no key": ({"key": ""}, "key"),
    "another kind": ({"payload": []}, "payload should be a valid dictionary"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_a_sentence(keyed, faces, case):
    changed, sentence = WRONG[case]

    answer = send(faces, json={**EVENT, **changed})

    assert answer.status_code == 422
    assert sentence in answer.json()["error"]
    assert answer.json()["problems"]
    assert rows(keyed, inbox) == []


BODIES = {
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"event": "\xff"}',
    "a nesting bomb": b"[" * 100_000,
    "a deep payload": json.dumps({**EVENT, "payload": json.loads('{"a":' * 60 + "1" + "}" * 60)}).encode(),
    "a lone surrogate": json.dumps(EVENT).replace("o1", "\\ud800").encode(),
    "a NUL": json.dumps(EVENT).replace("k-1", "\\u0000").encode(),
    "a list": b"[]",
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_is_no_event_is_refused_and_nothing_breaks(keyed, faces, case):
    answer = send(faces, headers={**BEARER, "content-type": "application/json"}, content=BODIES[case])

    assert answer.status_code in (400, 422)
    assert answer.json()["error"]
    assert rows(keyed, inbox) == []


def test_a_body_over_256_kb_is_413(faces):
    async def streamed():
        for _ in range(10):
            yield b"x" * 50_000

    headers = {**BEARER, "content-type": "application/json"}
    assert send(faces, headers=headers, content=b"x" * 300_000).status_code == 413
    assert send(faces, headers=headers, content=streamed()).status_code == 413


def test_own_events_and_stages_are_known(faces):
    assert send(faces, json={**EVENT, "event": "survey.answered", "stage": "loyalty"}).status_code == 202


@pytest.mark.long
@pytest.mark.slow
def test_whatever_the_described_api_is_sent_it_never_breaks(faces):
    schema = schemathesis.openapi.from_asgi("/openapi.json", faces.private, headers=BEARER)

    for operation in schema.get_all_operations():
        _try_many(operation.ok().as_strategy())


def _try_many(cases) -> None:
    @given(case=cases)
    @settings(max_examples=examples(60), suppress_health_check=list(HealthCheck))
    def holds(case):
        case.call_and_validate(headers=BEARER, checks=[not_a_server_error])

    holds()


def test_the_docs_are_ours_and_load_nothing_from_elsewhere(faces):
    answer = send(faces, "GET", "/docs")

    assert answer.status_code == 200
    assert "POST /api/events" in answer.text
    assert "//" not in answer.text.replace("https://", "").replace("http://", "")
    assert 'src="http' not in answer.text
    paths = send(faces, "GET", "/openapi.json").json()["paths"].keys()
    assert paths == {"/api/events", "/api/flows/{name}/start", "/api/leaderboards/{programme}"}


@pytest.mark.parametrize("face", ["public", "private"])
def test_probes_answer_on_both_faces(faces, face):
    async def probes():
        async with client(getattr(faces, face)) as http:
            return [(await http.get(path)) for path in ("/health", "/ready")]

    health, ready = asyncio.run(probes())

    assert (health.status_code, health.json()) == (200, {"alive": True})
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "problems": {}})


def test_a_process_without_database_is_alive_and_not_ready(keyed, faces, monkeypatch):
    def dead():
        from db.engine import DatabaseUnavailableError

        raise DatabaseUnavailableError

    monkeypatch.setattr(keyed.database, "check", dead)

    assert send(faces, "GET", "/health").status_code == 200
    ready = send(faces, "GET", "/ready")
    assert (ready.status_code, ready.json()["problems"].keys()) == (503, {"database"})


@BOTH
def test_metrics_tell_what_came_in_and_what_waits(faces):
    asyncio.run(post(faces.public, b"{}", signed(b"{}")))
    asyncio.run(post(faces.public, b"{}", {}))

    text = send(faces, "GET", "/metrics").text

    assert 'afterglow_webhooks_total{source="shopify",status="202"} 1.0' in text
    assert 'afterglow_webhooks_total{source="shopify",status="401"} 1.0' in text
    assert 'afterglow_inbox{state="received"} 1.0' in text
    assert 'afterglow_touchpoints{state="in_doubt"} 0.0' in text
    assert 'afterglow_lag_seconds{table="inbox"}' in text


def test_a_flow_that_is_to_be_asked_is_asked_once_under_a_key_and_no_other_flow_is(keyed, faces):
    called = small_shop.flow("called", [{"send": "email/receipt"}], starts={"asked": True})
    drafted = small_shop.flow("drafted", [{"send": "email/receipt"}], starts={"asked": True}, status="draft")
    other = small_shop.flow("other", [{"send": "email/receipt"}])
    with keyed.writing() as connection:
        catalog.apply(connection, small_shop.documents(called, drafted, other), now=datetime.now(UTC), by="the tests")
    asking = {"key": "k-1", "customer": {"email": "sam@example.com"}, "given": {"size": 42}}

    answers = [send(faces, path="/api/flows/called/start", json=asking) for _ in range(2)]
    refused = {name: send(faces, path=f"/api/flows/{name}/start", json=asking) for name in ("cald", "drafted", "other")}

    assert [answer.status_code for answer in answers] == [202, 202]
    (row,) = rows(keyed, inbox)
    assert (row.source, row.key) == ("api", "asked/called/k-1")
    said = json.loads(row.body)
    assert (said["event"], said["payload"]) == ("flow.asked", {"flow": "called", "by": "api", "given": {"size": 42}})
    assert {answer.status_code for answer in refused.values()} == {404}
    assert "Did you mean 'called'?" in refused["cald"].json()["error"]
    assert "is draft" in refused["drafted"].json()["error"]
    assert "asked: true" in refused["other"].json()["error"]
    assert send(faces, path="/api/flows/called/start", headers={}, json=asking).status_code == 401
    assert send(faces, path="/api/flows/called/start", json={"customer": {"customer": 1}}).status_code == 422
