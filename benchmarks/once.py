"""The one mail of Black Friday: a moment starts a flow for everybody in a large segment, in two worker processes.

Measured is the time until every run has begun, and until every first mail is queued; the longest transaction meanwhile,
which holds others up; and the peak of memory, at a quarter of the size too, so that it shows whether it grows. Run
alone: `python -m benchmarks.once 100000`.
"""

import multiprocessing as mp
import resource
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from afterglow.language.catalog import compile_files
from benchmarks import rig
from db import bulk, catalog
from db.app import App, settle_memory
from db.tables import customers, enrollments, occasions, profiles, segment_members, touchpoints
from workers import occasions as dates
from workers.advance import Advance
from workers.batches import run_batch
from workers.ingest import Ingest

MEMBERS = 100_000
FLOW = "black-friday"
_BATCH = 10_000
_PARIS = ZoneInfo("Europe/Paris")
_LOOK_S = 0.02


def fill(url: str, members: int) -> None:
    """Put the flow into force, whose moment was ten minutes ago, over a segment of so many customers."""
    now = datetime.now(UTC)
    moment = (now - timedelta(minutes=10)).astimezone(_PARIS)
    files = rig.shop_files()
    files[f"flows/{FLOW}.yaml"] = (
        f"flow: {FLOW}\nabout: The one mail\nstatus: live\ntopic: coffee-care\n"
        f'starts: {{once: "{moment:%Y-%m-%d %H:%M}", segment: regulars}}\nsteps:\n  - send: email/brew-tips\n'
    )
    app = rig.open_(url)
    with app.writing() as connection:
        catalog.apply(connection, compile_files(files), now=now - timedelta(hours=1))
    before = now - timedelta(days=1)
    for first in range(0, members, _BATCH):
        with app.writing() as connection:
            people = bulk.next_ids(connection, customers, min(_BATCH, members - first))
            bulk.insert(
                connection,
                customers,
                ("id", "orders", "spent", "since", "stage", "stage_at"),
                [(c, 9, 36_000, before, "loyalty", before) for c in people],
            )
            bulk.insert(
                connection,
                profiles,
                ("customer_id", "email", "first_name", "timezone", "attributes", "updated_at"),
                [(c, f"customer{c}@example.com", f"Sam {c}", _PARIS.key, {}, before) for c in people],
            )
            columns = ("segment", "customer_id", "since")
            bulk.insert(connection, segment_members, columns, [("regulars", c, before) for c in people])
    rig.analyze(app)
    app.close()


def worker(url: str, peaks: Any, begin: Callable[[], Any]) -> int:
    """Tell, take in and go on until the moment is told to everybody; how many runs went on here."""
    app = rig.open_(url)
    with app.reading() as connection:
        app.catalog.current(connection)
    settle_memory()
    begin()
    total, is_over = 0, False
    while not is_over:
        is_over = _is_told(app)
        dates.reach(app)
        while run_batch(app, Ingest(app)):
            pass
        while done := run_batch(app, Advance(app)):
            total += done
    app.close()
    peaks.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return total


def _is_told(app: App) -> bool:
    """Whether nobody is left to be told."""
    with app.reading() as connection:
        due_at = connection.execute(sa.select(occasions.c.due_at, occasions.c.flow)).all()
    told = {flow: at for at, flow in due_at}
    return FLOW in told and (told[FLOW] is None or told[FLOW] > datetime.now(UTC))


def watch(url: str, is_over: threading.Event, longest: list[float]) -> None:
    """Look again and again how long the oldest open transaction of others is open."""
    engine = sa.create_engine(url)
    oldest = sa.text(
        "SELECT extract(epoch FROM max(clock_timestamp() - xact_start)) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not is_over.wait(_LOOK_S):
            longest.append(float(connection.execute(oldest).scalar() or 0))
    engine.dispose()


def measured(members: int) -> dict[str, Any]:
    """The figures of one size."""
    with rig.postgresql() as url:
        fill(url, members)
        peaks = mp.get_context("spawn").Queue()
        is_over, longest = threading.Event(), [0.0]
        watcher = threading.Thread(target=watch, args=(url, is_over, longest))
        watcher.start()
        outcomes = rig.together([(worker, (url, peaks))] * 2)
        is_over.set()
        watcher.join()
        took = max(seconds for _, seconds in outcomes)
        app = rig.open_(url)
        with app.reading() as connection:
            runs = connection.execute(sa.select(sa.func.count()).select_from(enrollments)).scalar_one()
            queued = connection.execute(sa.select(sa.func.count()).select_from(touchpoints)).scalar_one()
        app.close()
        assert (runs, queued) == (members, members), (runs, queued)
    return {
        "begun_and_queued": runs,
        "seconds": round(took, 1),
        "per_s": round(runs / took),
        "longest_transaction_ms": round(max(longest) * 1000),
        "peak_mb_of_a_process": round(max(peaks.get() for _ in outcomes) / 1024),
    }


def run(members: int = MEMBERS) -> dict[str, Any]:
    """The figures."""
    return {"a_quarter": measured(members // 4), "whole": measured(members)}


if __name__ == "__main__":
    rig.show(run(*map(int, sys.argv[1:2])))
