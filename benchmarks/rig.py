"""What the benchmarks share: real servers with fsync on, the roastery applied, customers with runs that are due."""

import json
import multiprocessing as mp
import os
import platform
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from afterglow import ROOT
from afterglow.language.catalog import compile_files
from db import bulk, catalog, schema
from db.app import App, open_app
from db.events import FIRST
from db.settings import load_settings
from db.tables import consents, customers, enrollments, events, profiles
from tests.servers import postgres

SECRET = "benchmark-" * 4
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def machine() -> str:
    """The machine in a few words, for beside the figures."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    return f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}, {platform.system()}"


def _lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text().splitlines() if path.exists() else []


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL of our own with fsync on, tuned as a small server is; a migrated database with the shop applied."""
    options = {
        "shared_buffers": "512MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "30min",
        "max_connections": "200",
    }
    with postgres(own=True, fsync=True, options=options) as server:
        server.execute("CREATE DATABASE benchmark")
        url = server.database_url("benchmark")
        prepare(url)
        yield url


@contextmanager
def sqlite() -> Iterator[str]:
    """A SQLite file, migrated, with the shop applied."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/benchmark.db"
        prepare(url)
        yield url


def open_(url: str, **settings: Any) -> App:
    """The application of a process that measures."""
    return open_app(load_settings(database_url=url, secret=SECRET, _env_file=None, **settings))


def shop_files() -> dict[str, str]:
    """The sample shop's files by path."""
    files = [*(ROOT / "flows").rglob("*.yaml"), *(ROOT / "templates" / "email").iterdir()]
    return {str(file.relative_to(ROOT)): file.read_text() for file in files}


def prepare(url: str, files: dict[str, str] | None = None) -> None:
    """Migrate a database and put the shop into force."""
    schema.migrate(url)
    app = open_(url)
    with app.writing() as connection:
        catalog.apply(connection, compile_files(files or shop_files()), now=datetime.now(UTC))
    app.close()


def seed(
    url: str, count: int, *, flow: str = "first-order", due_at: datetime | None = None, batch: int = 10_000
) -> None:
    """Add customers, each with an order and one run of a flow, due at an instant (now unless given)."""
    app = open_(url)
    due_at = due_at or datetime.now(UTC) - timedelta(minutes=1)
    with app.writing() as connection:
        flow_id = app.catalog.current(connection).flow_id(flow)
    for first in range(0, count, batch):
        size = min(batch, count - first)
        with app.writing() as connection:
            people = bulk.next_ids(connection, customers, size)
            bulk.insert(
                connection,
                customers,
                ("id", "orders", "spent", "since", "stage", "stage_at"),
                [(c, 1, 4000, due_at, "purchase", due_at) for c in people],
            )
            bulk.insert(
                connection,
                profiles,
                ("customer_id", "email", "first_name", "timezone", "attributes", "updated_at"),
                [(c, f"customer{c}@example.com", f"Sam {c}", "Europe/Paris", {}, due_at) for c in people],
            )
            bulk.insert(
                connection,
                consents,
                ("customer_id", "channel", "topic", "state", "basis", "evidence", "occurred_at"),
                [(c, "email", "*", "granted", "consent", {}, due_at) for c in people],
            )
            happened = bulk.next_ids(connection, events, size)
            bulk.insert(
                connection,
                events,
                ("id", "customer_id", "source", "key", "name", "digest", "occurred_at", "recorded_at", "payload"),
                [
                    (e, c, "seed", str(e), "order.paid", b"", due_at, due_at, order(e))
                    for e, c in zip(happened, people, strict=True)
                ],
            )
            bulk.insert(
                connection,
                enrollments,
                ("customer_id", "flow_id", "event_id", "entered_at", "due_at", "state", "lane", "tries", "step"),
                [
                    (c, flow_id, e, due_at, due_at, "waiting", 0, 0, FIRST)
                    for e, c in zip(happened, people, strict=True)
                ],
            )
    analyze(app)
    app.close()


def order(number: int) -> dict[str, Any]:
    """An order's payload, of the size that a shop's mapping makes."""
    return {
        "order": {
            "id": f"o{number}",
            "number": str(1000 + number),
            "total": 40.5,
            "currency": "EUR",
            "items": [{"title": "House roast, 250 g", "sku": "HOUSE-250", "quantity": 2}],
        }
    }


def analyze(app: App) -> None:
    """Let the planner know what is there, as autovacuum would."""
    if app.database.is_sqlite:
        return
    with app.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))


def in_processes(count: int, work: Callable[..., int], *arguments: Any) -> tuple[int, float]:
    """Run `work(*arguments, begin)` in processes that begin together; what they did in all, and the seconds it took."""
    outcomes = together([(work, arguments)] * count)
    return sum(done for done, _ in outcomes), max(took for _, took in outcomes)


def together(works: list[tuple[Callable[..., int], tuple[Any, ...]]]) -> list[tuple[int, float]]:
    """Run each work in a process of its own, all from one moment; what each did, and its seconds."""
    context = mp.get_context("spawn")
    barrier = context.Barrier(len(works))
    results = context.Queue()
    processes = [
        context.Process(target=_run, args=(number, work, arguments, barrier, results))
        for number, (work, arguments) in enumerate(works)
    ]
    for process in processes:
        process.start()
    outcomes = dict(results.get() for _ in processes)
    for process in processes:
        process.join()
    for outcome in outcomes.values():
        if isinstance(outcome, str):
            raise RuntimeError(outcome)
    return [outcomes[number] for number in range(len(works))]


def _run(number: int, work: Callable[..., int], arguments: tuple[Any, ...], barrier: Any, results: Any) -> None:
    began = time.perf_counter()

    def begin() -> None:
        nonlocal began
        barrier.wait()
        began = time.perf_counter()

    try:
        done = work(*arguments, begin)
        results.put((number, (done, time.perf_counter() - began)))
    except BaseException:  # told to the parent, which would wait for ever otherwise
        results.put((number, traceback.format_exc()))
        raise


def show(figures: dict[str, Any]) -> None:
    """Print figures as JSON."""
    print(json.dumps(figures, indent=2))
