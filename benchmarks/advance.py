"""Steps a second: due runs decided and written, with every fact, foreign key and decision.

Beside it, in the same run: the way most would write it (one Dramatiq message for each step, the same statements with
one row each), the same beside two ingest workers, SQLite in one process, and a DBOS workflow of one step where DBOS
is installed (`pip install dbos`; for information, as it does another job).
"""

import hashlib
import importlib.util
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dramatiq
from dramatiq import Worker
from dramatiq.brokers.redis import RedisBroker

from benchmarks import intake, rig
from db import bulk
from db.app import App, settle_memory
from db.tables import inbox
from tests.servers import redis_server
from workers.advance import Advance
from workers.batches import run_batch
from workers.ingest import Ingest

RUNS = 60_000
RUNS_ONE_BY_ONE = 6_000
THREADS = 8
DBOS_STEPS = 1_000


def drain(url: str, begin: Callable[[], Any]) -> int:
    """Advance until nothing is due. How many runs were advanced."""
    app = rig.open_(url)
    _settle_memory(app)
    begin()
    total = 0
    while done := run_batch(app, Advance(app)):
        total += done
    app.close()
    return total


def take_in(url: str, begin: Callable[[], Any]) -> int:
    """Ingest until the inbox is empty. Counts as no step."""
    app = rig.open_(url)
    _settle_memory(app)
    begin()
    while run_batch(app, Ingest(app)):
        pass
    app.close()
    return 0


def _settle_memory(app: App) -> None:
    """What a worker process does when it starts; see workers.main."""
    with app.reading() as connection:
        app.catalog.current(connection)
    settle_memory()


def one_by_one(url: str, redis_url: str, begin: Callable[[], Any]) -> int:
    """One Dramatiq message for each step: a worker of eight threads, the same statements for a single run."""
    app = rig.open_(url)
    _settle_memory(app)
    broker = RedisBroker(url=redis_url, middleware=[], namespace="naive")  # type: ignore[no-untyped-call]
    done = []

    def step(run: int) -> None:
        work = Advance(app)
        with app.writing() as connection:
            work.lock(connection, [run])
            work.do(connection, [run], app.clock.now(connection))
        done.append(run)

    dramatiq.actor(broker=broker, actor_name="step", queue_name="steps")(step)
    worker = Worker(broker, worker_threads=THREADS, worker_timeout=50)
    begin()
    worker.start()
    quiet = 0
    while quiet < 10:  # the queue is filled beforehand, so that ten empty looks mean the end
        waiting = broker.client.llen("naive:steps")
        quiet = 0 if waiting else quiet + 1
        time.sleep(0.05)
    worker.stop()
    app.close()
    return len(done)


def _enqueue(url: str, redis_url: str) -> None:
    broker = RedisBroker(url=redis_url, middleware=[], namespace="naive")  # type: ignore[no-untyped-call]
    broker.declare_queue("steps")
    app = rig.open_(url)
    with app.reading() as connection:
        ids = [row[0] for row in connection.exec_driver_sql("SELECT id FROM enrollments WHERE state = 'waiting'")]
    for run in ids:
        message: dramatiq.Message[None] = dramatiq.Message(
            queue_name="steps", actor_name="step", args=(run,), kwargs={}, options={}
        )
        broker.enqueue(message)
    app.close()


def fill_inbox(url: str, count: int) -> None:
    """Orders that wait in the inbox."""
    app = rig.open_(url)
    now = datetime.now(UTC)
    rows = [
        (
            "shopify",
            f"orders/paid/{n}",
            hashlib.sha256(str(n).encode()).digest(),
            "received",
            now,
            {"x-shopify-topic": "orders/paid"},
            intake.body(n),
        )
        for n in range(count)
    ]
    with app.writing() as connection:
        bulk.insert(connection, inbox, ("source", "key", "digest", "state", "received_at", "headers", "body"), rows)
    rig.analyze(app)
    app.close()


def beside_ingest(url: str, runs: int) -> float:
    """Steps a second of two workers while two others ingest all the time."""
    rig.seed(url, runs)
    fill_inbox(url, runs)
    works = [(drain, (url,)), (drain, (url,)), (take_in, (url,)), (take_in, (url,))]
    outcomes = rig.together(works)
    steps = outcomes[:2]
    return sum(done for done, _ in steps) / max(took for _, took in steps)


def dbos(url: str) -> float | None:
    """Workflows of one step a second, in one process; None where DBOS is not installed."""
    if importlib.util.find_spec("dbos") is None:
        return None
    from dbos import DBOS  # type: ignore[import-not-found,unused-ignore]

    DBOS(config={"name": "benchmark", "system_database_url": url, "log_level": "ERROR"})

    @DBOS.step()
    def send(number: int) -> int:
        return number

    @DBOS.workflow()
    def thank(number: int) -> int:
        return int(send(number))

    DBOS.launch()
    began = time.perf_counter()
    for handle in [DBOS.start_workflow(thank, number) for number in range(DBOS_STEPS)]:
        handle.get_result()
    took = time.perf_counter() - began
    DBOS.destroy()
    return DBOS_STEPS / took


def run(runs: int = RUNS) -> dict[str, Any]:
    """The figures."""
    with rig.postgresql() as url:
        rig.seed(url, runs)
        done, took = rig.in_processes(2, drain, url)
        ours = done / took
        beside = beside_ingest(url, runs // 2)
        workflow = dbos(url)
    with rig.postgresql() as url, redis_server(own=True) as redis:
        rig.seed(url, RUNS_ONE_BY_ONE)
        _enqueue(url, redis.url)
        done, took = rig.in_processes(2, one_by_one, url, redis.url)
        naive = done / (took - 0.5)  # the ten empty looks
    with rig.sqlite() as url:
        rig.seed(url, runs // 2)
        done, took = rig.in_processes(1, drain, url)
        embedded = done / took
    return {
        "postgresql_steps_per_s": round(ours),
        "beside_two_ingest_workers_steps_per_s": round(beside),
        "one_message_per_step_steps_per_s": round(naive),
        "ratio_to_one_message_per_step": round(ours / naive, 1),
        "dbos_workflows_per_s": round(workflow) if workflow else "not installed",
        "sqlite_steps_per_s": round(embedded),
    }


if __name__ == "__main__":
    rig.show(run())
