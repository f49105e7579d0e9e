"""`afterglow run` as an operator has it: a real process, a real port, signals, and a kill -9."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from afterglow import ROOT
from afterglow.signatures import sign
from db.engine import Database
from db.tables import claims, enrollments, inbox, touchpoints

#: Everything here is done within a second or two; a busy machine, or one that stands still for a while, gets time.
PATIENCE_S = 120.0
#: How long a run may take to end on such a machine; ours takes less than a second.
END_S_MAX = 40.0
ENVIRONMENT = {
    "AFTERGLOW_SECRET": "a-secret-for-tests-only",
    "AFTERGLOW_PUBLIC_BIND": "127.0.0.1:0",
    "AFTERGLOW_PRIVATE_BIND": "127.0.0.1:0",
    "AFTERGLOW_THREADS": "4",
    "SHOPIFY_WEBHOOK_SECRET": "shpss_0123456789abcdef",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder: the sample shop is run from it, on a database that is made in it."""
    return tmp_path


def command(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Start the command line in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "workers.cli", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)} | environment,
    )


def done(folder: Path, *words: str, **environment: str) -> tuple[int, str, str]:
    """Run a command to its end."""
    process = command(folder, *words, **environment)
    told, error = process.communicate(timeout=PATIENCE_S)
    return process.returncode, told, error


class Running:
    """A `run` that answers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.told = ""
        assert process.stdout is not None
        while "Ctrl-C" not in self.told:
            line = process.stdout.readline()
            assert line, self.told + (process.stderr.read() if process.stderr else "")
            self.told += line
        self.public, self.private = (re.search(rf"{face}\s+(\S+)", self.told)[1] for face in ("public", "private"))

    def post(self, payload: Mapping[str, Any], topic: str = "orders/paid", id_: str = "w1") -> int:
        """Post a signed webhook, as Shopify does. The status."""
        body = json.dumps(payload).encode()
        headers = sign("shopify", ENVIRONMENT["SHOPIFY_WEBHOOK_SECRET"], body, datetime.now(UTC), id_)
        headers |= {"X-Shopify-Topic": topic, "X-Shopify-Event-Id": id_, "X-Shopify-Webhook-Id": id_}
        return httpx.post(f"{self.public}/hooks/shopify", content=body, headers=headers).status_code

    def end(self, how: signal.Signals) -> float:
        """Send a signal and wait for the end. How many seconds it took."""
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(PATIENCE_S)
        return time.monotonic() - began


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[Running]:
    process = command(folder, "run", **environment)
    try:
        yield Running(process)
    finally:
        process.kill()
        process.communicate()


def rows(url: str, query: sa.Select[Any]) -> list[Any]:
    database = Database(url, pool_size=1)
    try:
        with database.reading() as connection:
            return list(connection.execute(query))
    finally:
        database.close()


def until(true: Callable[[], object], log: Path | None = None) -> None:
    """Wait for something that comes soon."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, log.read_text()[-5000:] if log else "it never came"
        time.sleep(0.05)


def order() -> dict[str, Any]:
    """A paid order in the shape that Shopify documents."""
    content: dict[str, Any] = json.loads((ROOT / "tests/payloads/shopify/orders-paid.json").read_text())
    return content.get("body", content)


SENT = sa.select(touchpoints.c.step).where(touchpoints.c.state == "sent")


def test_a_webhook_to_a_fresh_run_becomes_a_mail_and_a_signal_ends_it_soon(folder: Path):
    url = f"sqlite:///{folder}/afterglow.db"
    with running(folder) as run:
        assert run.post(order()) == 202
        until(lambda: rows(url, SENT))

        status, _, error = done(folder, "run")
        assert status == 1
        assert re.fullmatch(r"Afterglow runs on \S+ already \(process \d+\); .*\n", error)
        assert done(folder, "flows")[0] == 0  # readers and short writers work beside it
        assert done(folder, "event", "customer.created", "--customer", "ann@example.com")[0] == 0
        told = sa.select(inbox.c.id).where(inbox.c.state == "mapped", inbox.c.source == "command-line")
        until(lambda: rows(url, told))

        assert run.end(signal.SIGTERM) < END_S_MAX
        assert run.process.returncode == 0

    assert [row.step for row in rows(url, SENT)] == ["thank-you"]
    assert done(folder, "doctor")[0] == 0


def test_after_a_kill_the_next_run_settles_what_was_in_work(folder: Path):
    url = f"sqlite:///{folder}/afterglow.db"
    with running(folder) as run:
        run.post(order())
        until(lambda: rows(url, SENT))
        run.end(signal.SIGKILL)

    # What a kill can leave: a batch announced and not done, a mail handed over and not settled.
    database = Database(url, pool_size=1)
    with database.writing() as connection:
        now = datetime.now(UTC)
        member = (
            connection.execute(sa.select(enrollments.c.id).where(enrollments.c.state == "waiting")).scalars().first()
        )
        connection.execute(claims.insert().values(id="x", kind="enrollments", members=[member], claimed_at=now))
        connection.execute(
            touchpoints.update().values(
                state="sending", leased_until=datetime(2999, 1, 1, tzinfo=UTC), kind="marketing"
            )
        )
    database.close()

    with running(folder) as run:
        assert rows(url, sa.select(claims)) == []
        assert [row.state for row in rows(url, sa.select(touchpoints.c.state))] == ["in_doubt"]
        assert rows(url, sa.select(enrollments.c.tries).where(enrollments.c.id == member)) == [(1,)]
        assert run.post(order()) == 202  # a repeat
        assert run.end(signal.SIGTERM) < END_S_MAX

    assert len(rows(url, sa.select(touchpoints.c.id))) == 1


def test_it_runs_on_postgresql_without_redis(folder: Path, postgres_url: str):
    with running(folder, AFTERGLOW_DATABASE_URL=postgres_url) as run:
        assert run.post(order()) == 202
        until(lambda: rows(postgres_url, SENT))
        assert run.end(signal.SIGTERM) < END_S_MAX


def test_a_port_that_is_taken_is_one_sentence_and_ctrl_c_ends_a_run_too(folder: Path):
    with running(folder) as run:
        other = {"AFTERGLOW_DATABASE_URL": "sqlite:///other.db", "AFTERGLOW_PUBLIC_BIND": run.public.rpartition("/")[2]}
        status, _, error = done(folder, "run", **other)

        assert status == 1
        assert "AFTERGLOW_PUBLIC_BIND" in error
        assert error.count("\n") == 1
        assert run.end(signal.SIGINT) < END_S_MAX
        assert run.process.returncode == 0


def test_broken_files_stop_a_run_with_their_places(folder: Path):
    (folder / "flows").mkdir()
    (folder / "flows/shop.yaml").write_text("name: x\nname: y\n")

    status, _, error = done(folder, "run")

    assert status == 1
    assert "flows/shop.yaml:2:1: " in error


def test_a_new_shop_runs_with_the_secrets_of_its_own_file(folder: Path):
    assert done(folder, "init", "shop")[0] == 0
    settings = folder / "shop/.env"
    settings.write_text(settings.read_text() + "\nSHOPIFY_WEBHOOK_SECRET=" + ENVIRONMENT["SHOPIFY_WEBHOOK_SECRET"])
    bare = {name: value for name, value in ENVIRONMENT.items() if "BIND" in name}
    environment = {k: v for k, v in os.environ.items() if k not in ENVIRONMENT} | bare | {"PYTHONPATH": str(ROOT)}

    process = subprocess.Popen(
        [sys.executable, "-m", "workers.cli", "run"],
        cwd=folder / "shop",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        run = Running(process)
        assert run.post(order()) == 202
        assert run.end(signal.SIGTERM) < END_S_MAX
    finally:
        process.kill()
        process.communicate()
