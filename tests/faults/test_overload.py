"""One source floods a real web process: the others do not notice, nothing is lost silently, and memory is bounded."""

import json
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from afterglow.language.catalog import compile_files
from afterglow.signatures import sign
from db import catalog
from db.tables import inbox
from tests.examples import LONG
from tests.faults import client, flood
from tests.faults.rig import WEB, Rig, distributed
from tests.faults.shop import files

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.xdist_group("faults")]

#: How long the flood lasts, in seconds.
SECONDS = 60.0 if LONG else 6.0
#: The most memory that the web process may ever have had (resident), in bytes.
RSS_MAX = 320 * 1024 * 1024
#: Of the requests of the other source, how many must be accepted.
ACCEPTED_MIN = 0.95
#: How long a provider waits for an answer (Shopify: five seconds), and what the other source posts in a second. Beside
#: other tests the machine may stand still for longer than that.
ANSWER_S_MAX = 5.0 if LONG else 60.0
A_SECOND = 20
CONNECTIONS = 10

FLOOD_YAML = f"""
source: {flood.SOURCE}
auth: {{scheme: standard_webhooks, secrets: [FLOOD_WEBHOOK_SECRET]}}
each: body
key: body.id
events:
  - event: order.paid
    customer: {{id: body.id}}
"""


@dataclass
class Neighbour:
    """Another source that posts steadily over a few connections and does not post again: each request is judged."""

    address: str
    accepted: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(CONNECTIONS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Post no more, and wait for what is under way."""
        self._ended.set()
        for thread in self._threads:
            thread.join(ANSWER_S_MAX + 1)

    def _run(self, thread: int) -> None:
        with closing(HTTPConnection(self.address, timeout=ANSWER_S_MAX)) as connection:
            self._post(connection, thread)

    def _post(self, connection: HTTPConnection, thread: int) -> None:
        for number in count():
            if self._ended.wait(CONNECTIONS / A_SECOND):
                return
            key = f"neighbour-{thread}-{number}"
            body = json.dumps({"type": "order.paid", "data": {"customer": {"id": key}}}).encode()
            headers = sign("standard_webhooks", client.SECRET, body, datetime.now(UTC), key)
            began = time.monotonic()
            try:
                connection.request("POST", "/hooks/generic", body, {**headers, "content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, HTTPException) as error:
                self.refused.append(type(error).__name__)
                connection.close()
                continue
            self.seconds.append(time.monotonic() - began)
            if answer.status == 202:
                self.accepted.append(key)
            else:
                self.refused.append(str(answer.status))


def highest_rss(pid: int) -> int:
    """The most resident memory that a process ever had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("this system does not tell")


def keys(rig: Rig, source: str) -> set[str]:
    with rig.database.reading() as connection:
        return set(connection.execute(sa.select(inbox.c.key).where(inbox.c.source == source)).scalars())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_flood_by_one_source_is_shed_and_the_others_are_accepted(tmp_path, capsys):
    with distributed(tmp_path, FLOOD_WEBHOOK_SECRET=client.SECRET) as rig:
        with rig.database.writing() as connection:
            documents = compile_files({**files(), f"flows/sources/{flood.SOURCE}.yaml": FLOOD_YAML})
            catalog.apply(connection, documents, now=datetime.now(UTC), by="the tests")
        web = rig.process("web", WEB)
        web.start()
        rig.until_ready()
        address = urlsplit(rig.url).netloc
        neighbour = Neighbour(address)
        neighbour.start()
        port = address.rpartition(":")[2]
        try:
            told = subprocess.run(
                [sys.executable, "-m", "tests.faults.flood", port, str(SECONDS), client.SECRET],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=SECONDS + 60,
                check=True,
            )
        finally:
            neighbour.end()
        assert web.lives
        assert web._process is not None
        rss = highest_rss(web._process.pid)
        flooded = json.loads(told.stdout)
        stored = keys(rig, flood.SOURCE)
        neighbours = keys(rig, "generic")

    answers = flooded["answers"]
    posted = len(neighbour.accepted) + len(neighbour.refused)
    seconds = sorted(neighbour.seconds)
    times = sum(answers.values()) / max(1, len(flooded["accepted"]))
    with capsys.disabled(), suppress(IndexError):
        print(
            f"\nflood of {SECONDS:g} s, {times:.1f} times what was accepted: {answers}; "
            f"neighbour {len(neighbour.accepted)} of {posted} accepted, "
            f"median {seconds[len(seconds) // 2] * 1000:.0f} ms, slowest {seconds[-1] * 1000:.0f} ms; "
            f"{rss / 2**20:.0f} MB resident at most"
        )
    assert len(neighbour.accepted) >= ACCEPTED_MIN * posted
    assert posted >= 30
    assert rss <= RSS_MAX

    # Badly signed ones get nothing but a 401; signed ones are taken, or told to come again.
    assert {answer for answer in answers if answer.startswith("bad")} <= {"bad 401"}
    assert answers["signed 202"] > 0
    assert answers["signed 503"] > 0
    assert {answer for answer in answers if answer.startswith("signed")} == {"signed 202", "signed 503"}
    assert flooded["silent"] == 0

    # Every 2xx is in the database.
    promised = {
        f"{connection}-{number}-{n}"
        for kind, connection, number in flooded["accepted"]
        if kind == "signed"
        for n in range(flood.ELEMENTS)
    }
    promised |= {f"large-{c}-{n}" for kind, c, n in flooded["accepted"] if kind == "large"}
    assert promised <= stored
    assert set(neighbour.accepted) <= neighbours
