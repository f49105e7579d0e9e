"""From an accepted webhook to a mail in the outbox: how many a second, how soon, and beside a million that are due.

Real processes on one machine: one web process, two worker processes, a scheduler, PostgreSQL with fsync on, Redis, and
a client that posts signed Shopify orders of 1.7 KB. A mail counts as sent when its transaction is committed
(`track_commit_timestamp`), not when it was decided.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from statistics import quantiles
from typing import Any

import sqlalchemy as sa

from afterglow import ROOT
from benchmarks import intake, rig
from db.app import App
from tests.servers import postgres, redis_server

THROUGHPUT = 20_000
RATE, SECONDS = 50, 20
#: Posted before anything is measured, in seconds: processes and plans warm up.
WARM_UP = 5
MILLION = 1_000_000

#: One flow, so that a webhook is one mail; the roastery answers an order with three runs.
FLOW = """
flow: thanks
about: Thank, and see that it arrived
status: live
starts: {stage: purchase}
once_per: order.id
stops: {event: order.refunded, same: order.id}
steps:
  - send: email/thank-you
  - id: arrival
    wait_for: order.delivered
    same: order.id
    for_up_to: 10 days
"""


def lean_shop() -> dict[str, str]:
    """The roastery's brand, sources and templates with the one flow, and no programme."""
    files = rig.shop_files()
    for name in [*files]:
        is_flow = name.startswith("flows/") and name.count("/") == 1
        if name.startswith("flows/programmes/") or (is_flow and name not in ("flows/shop.yaml", "flows/stages.yaml")):
            del files[name]
    shop = files["flows/shop.yaml"]
    head, _, tail = shop.partition("priority:")
    rest = tail.partition("\n\n")[2]
    return files | {"flows/thanks.yaml": FLOW, "flows/shop.yaml": f"{head}\n{rest}"}


@contextmanager
def installation(files: dict[str, str]) -> Iterator[tuple[App, int]]:
    """The processes of a small installation; an app on its database, and the port of its hooks."""
    options = {
        "shared_buffers": "512MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "30min",
        "track_commit_timestamp": "on",
        "max_connections": "200",
    }
    with ExitStack() as stack:
        server = stack.enter_context(postgres(own=True, fsync=True, options=options))
        redis = stack.enter_context(redis_server(own=True))
        server.execute("CREATE DATABASE spine")
        url = server.database_url("spine")
        rig.prepare(url, files)
        port, private = 18_080, 18_081
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AFTERGLOW_")},
            "AFTERGLOW_DATABASE_URL": url,
            "AFTERGLOW_BROKER_URL": redis.url,
            "AFTERGLOW_SECRET": rig.SECRET,
            "AFTERGLOW_PUBLIC_BIND": f"127.0.0.1:{port}",
            "AFTERGLOW_PRIVATE_BIND": f"127.0.0.1:{private}",
            "SHOPIFY_WEBHOOK_SECRET": intake.SECRET,
            "PYTHONPATH": str(ROOT),
        }
        commands = (
            [sys.executable, "-m", "workers.cli", "web"],
            [sys.executable, "-m", "dramatiq", "workers.main:setup", "--processes", "2", "--threads", "8"],
            [sys.executable, "-m", "workers.cli", "scheduler"],
        )
        for command in commands:
            process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)
            stack.callback(_end, process)
        app = rig.open_(url)
        stack.callback(app.close)
        _until_answering(port)
        time.sleep(3)
        yield app, port


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _until_answering(port: int) -> None:
    import socket

    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("the web process does not answer")


def sent(app: App) -> int:
    """How many mails are in the outbox."""
    with app.reading() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM touchpoints WHERE state = 'sent'")).scalar_one())


def throughput(app: App, port: int, count: int) -> dict[str, Any]:
    """Post as fast as it is accepted; the clock stops when the last mail is in the outbox."""
    asyncio.run(intake.load(port, 500, 16, 9_000_000))  # processes and plans warm up
    _wait_for(app, 500)
    command = [sys.executable, "-m", "benchmarks.intake", "load", str(port), str(count), "32", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = _commits(app)
    loading = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT)
    loading.communicate()
    _wait_for(app, 500 + count)
    with app.reading() as connection:
        row = connection.execute(
            sa.text(
                "SELECT min(i.received_at) AS began, max(pg_xact_commit_timestamp(t.xmin)) AS ended, count(*) AS mails "
                "FROM touchpoints t JOIN enrollments e ON e.id = t.enrollment_id JOIN events v ON v.id = e.event_id "
                "JOIN inbox i ON i.source = v.source AND i.key = v.key WHERE i.received_at > :before"
            ),
            {"before": before},
        ).one()
    return {"mails": row.mails, "per_second": round(row.mails / (row.ended - row.began).total_seconds())}


def _commits(app: App) -> datetime:
    with app.reading() as connection:
        return app.clock.now(connection)


def _wait_for(app: App, count: int, seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while sent(app) < count:
        if time.monotonic() > ends:
            raise RuntimeError(f"{sent(app)} of {count} mails after {seconds:.0f} s")
        time.sleep(0.2)


def latency(app: App, port: int, rate: float, seconds: float, first: int) -> dict[str, Any]:
    """Post at a steady rate; milliseconds from posting to the commit of the mail."""
    posted = asyncio.run(_steadily(port, rate, seconds, first))
    ends = time.monotonic() + 60
    took: list[float] = []
    while len(took) < len(posted) and time.monotonic() < ends:
        time.sleep(0.5)
        took = _took(app, posted)
    assert len(took) == len(posted), f"{len(took)} of {len(posted)} mails after a minute"
    cuts = quantiles(took, n=100)
    return {"mails": len(took), "p50_ms": round(cuts[49]), "p99_ms": round(cuts[98]), "max_ms": round(max(took))}


def _took(app: App, posted: dict[str, datetime]) -> list[float]:
    """Milliseconds from posting to commit of those mails that are sent."""
    with app.reading() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT v.payload #>> '{order,id}' AS number, pg_xact_commit_timestamp(t.xmin) AS at "
                "FROM touchpoints t JOIN enrollments e ON e.id = t.enrollment_id JOIN events v ON v.id = e.event_id "
                "WHERE t.state = 'sent' AND t.template = 'email/thank-you' AND v.recorded_at > :before "
                "AND v.source = 'shopify'"
            ),
            {"before": min(posted.values()) - timedelta(seconds=1)},
        )
        return [(row.at - posted[row.number]).total_seconds() * 1000 for row in rows if row.number in posted]


async def _steadily(port: int, rate: float, seconds: float, first: int) -> dict[str, datetime]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    posted: dict[str, datetime] = {}
    count = int(rate * seconds)
    requests = [intake.request(first + n) for n in range(count)]
    began = time.monotonic()
    for n, request in enumerate(requests):
        await asyncio.sleep(max(0.0, began + n / rate - time.monotonic()))
        posted[str(5_000_000_000 + first + n)] = datetime.now(UTC)
        writer.write(request)
        answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 202"), answer
    writer.close()
    return posted


def make_due(app: App, count: int, flow: str) -> None:
    """Let so many runs fall due at one moment, as after a wait until ten o'clock."""
    rig.seed(app.settings.database_url, count, flow=flow, due_at=datetime.now(UTC) + timedelta(hours=1))
    with app.writing() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.execute(sa.text("UPDATE enrollments SET lane = 1, due_at = now() WHERE lane = 0 AND due_at > now()"))


def run() -> dict[str, Any]:
    """The figures."""
    figures: dict[str, Any] = {}
    with installation(lean_shop()) as (app, port):
        latency(app, port, RATE, WARM_UP, first=500_000)
        figures["latency_at_50_per_s"] = latency(app, port, RATE, SECONDS, first=1_000_000)
        figures["end_to_end"] = throughput(app, port, THROUGHPUT)
    with installation(rig.shop_files()) as (app, port):
        latency(app, port, RATE, WARM_UP, first=500_000)
        figures["roastery_latency_at_50_per_s"] = latency(app, port, RATE, SECONDS, first=1_000_000)
        make_due(app, MILLION, "win-back")
        figures["beside_a_million_due"] = latency(app, port, 10, SECONDS, first=2_000_000)
    return figures


if __name__ == "__main__":
    rig.show(run())
