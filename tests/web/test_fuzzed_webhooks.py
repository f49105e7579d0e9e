"""Mutated payloads all the way in: posted over HTTP, then mapped. None breaks the web, none stays stuck in the inbox.

Short with the other tests; AFTERGLOW_FAULTS=long tries 5,000 per source. FUZZ_SEED repeats a run.
"""

import asyncio
import os
import random
from datetime import UTC, datetime

import pytest

from afterglow.language.source import read_source
from afterglow.signatures import sign
from db.tables import inbox
from tests.afterglow.test_fuzzed_payloads import ROOT, SOURCES, headers_of, spoiled_body
from tests.bad_signatures import SECRETS
from tests.examples import LONG
from tests.web.conftest import client, rows
from workers.actors import make_actors

TRIES = 5_000 if LONG else 40
#: The ends of an inbox row, besides those where it waits for something that is named.
ENDS = {"mapped", "ignored", "parked"}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.long
@pytest.mark.timeout(1800 if TRIES > 1000 else 120)
def test_a_spoiled_webhook_is_answered_and_ends_mapped_ignored_or_parked(name, app, faces, monkeypatch):
    auth = read_source(SOURCES[name].read_text(), f"{name}.yaml").auth
    for variable in auth.secrets:
        monkeypatch.setenv(variable, SECRETS[auth.scheme])
    seed = int(os.environ.get("FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
    chance = random.Random(seed)
    files = sorted((ROOT / "tests/payloads" / name).glob("*.*"))
    uri = f"{app.settings.public_url}/hooks/{name}"

    async def posted() -> dict[int, int]:
        answers: dict[int, int] = {}
        async with client(faces.public) as http:
            for n in range(TRIES):
                file = files[n % len(files)]
                body = spoiled_body(file, chance)
                theirs = {key: value for key, value in headers_of(name, file, chance).items() if value.isascii()}
                signature = sign(auth.scheme, SECRETS[auth.scheme], body, datetime.now(UTC), f"m{n}", uri=uri)
                headers = {key: value.replace("\n", " ").replace("\r", " ") for key, value in theirs.items()}
                answer = await http.post(f"/hooks/{name}", content=body, headers={**headers, **signature})
                answers[answer.status_code] = answers.get(answer.status_code, 0) + 1
        return answers

    answers = asyncio.run(posted())
    actors = make_actors(app)
    for _ in range(200):
        if not actors.ingest().may_grow and not any(row.state == "received" for row in rows(app, inbox)):
            break
    actors.close()

    found = rows(app, inbox)
    told = f"FUZZ_SEED={seed}, {answers}"
    assert answers.keys() <= {200, 202, 413}, told
    assert found, told
    for row in found:
        assert row.state in ENDS or (row.state == "awaiting" and row.awaits), (told, row.id, row.state, row.reason)
        assert row.reason or row.state == "mapped", (told, row.id, row.state)
