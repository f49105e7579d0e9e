"""Many processes, whose database and Redis go away and come back: nobody is restarted, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from afterglow import ROOT
from afterglow.signatures import sign
from db.tables import inbox, touchpoints
from tests.ports import free_port
from tests.servers import postgres, redis_server
from tests.workers.test_cli_run import ENVIRONMENT, rows, until

SECRET = ENVIRONMENT["SHOPIFY_WEBHOOK_SECRET"]


@contextmanager
def started(folder: Path, log: Path, environment: dict[str, str], *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the command line, ended by SIGTERM."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", *words],
            cwd=folder,
            stdout=output,
            stderr=output,
            env=os.environ | environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"{words} did not end:\n{log.read_text()}") from None


def order(id_: int) -> bytes:
    content = json.loads((ROOT / "tests/payloads/shopify/orders-paid.json").read_text())
    content |= {"id": id_, "email": f"c{id_}@example.com", "customer": {"id": id_, "email": f"c{id_}@example.com"}}
    return json.dumps(content).encode()


@pytest.mark.slow
def test_web_worker_and_scheduler_go_on_when_database_and_redis_come_back(tmp_path: Path):
    with ExitStack() as stack:
        database = stack.enter_context(postgres(own=True, fsync=False))
        redis = stack.enter_context(redis_server(own=True))
        port = free_port()
        environment = ENVIRONMENT | {
            "AFTERGLOW_DATABASE_URL": database.url,
            "AFTERGLOW_BROKER_URL": redis.url,
            "AFTERGLOW_PUBLIC_BIND": f"127.0.0.1:{port}",
            "PYTHONPATH": str(ROOT),
        }
        log = tmp_path / "log"
        for words in (("migrate",), ("apply", str(ROOT))):
            with started(tmp_path, log, environment, *words) as process:
                assert process.wait(60) == 0, log.read_text()
        processes = [
            stack.enter_context(started(tmp_path, log, environment, *words))
            for words in (("web",), ("worker", "--processes", "1", "--threads", "4"), ("scheduler",))
        ]

        def post(id_: int) -> int:
            body = order(id_)
            headers = sign("shopify", SECRET, body, datetime.now(UTC), str(id_))
            headers |= {"X-Shopify-Topic": "orders/paid", "X-Shopify-Event-Id": str(id_)}
            try:
                return httpx.post(f"http://127.0.0.1:{port}/hooks/shopify", content=body, headers=headers).status_code
            except httpx.TransportError:
                return 0

        def sent() -> int:
            found = sa.select(sa.func.count()).where(touchpoints.c.state == "sent")
            return int(rows(database.url, found)[0][0])

        until(lambda: post(1) == 202, log)
        until(lambda: sent() == 1, log)

        redis.stop_immediate()
        assert post(2) == 202  # a webhook needs no Redis
        redis.start()
        until(lambda: sent() == 2, log)

        database.stop_immediate()
        assert post(3) == 503  # a webhook needs its database: the sender is asked to come again
        database.start()
        until(lambda: post(3) == 202, log)
        until(lambda: sent() == 3, log)

        assert [process.poll() for process in processes] == [None] * 3
        assert rows(database.url, sa.select(inbox.c.id).where(inbox.c.state != "mapped")) == []
