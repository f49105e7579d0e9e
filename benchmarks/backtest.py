"""Stored events relived a second under the roastery's files, in two processes, and how much memory a process takes.

The history is made by hand: customers of the roastery who buy, get their coffee, come back and answer now and then.
Two sizes, so that it shows whether memory grows with the history. Run alone: `python -m benchmarks.backtest 1000000`.
"""

import multiprocessing as mp
import resource
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from afterglow.language.catalog import compile_files
from benchmarks import rig
from db import bulk
from db.tables import consents, customers, events, profiles, stage_entries
from workers.backtest import Work, backtest

EVENTS = 200_000
#: Events of each customer.
EACH = 10
_BATCH = 2_000
_BAR = 1_667
#: What happens around an order: event, stage, days later.
_ORDER = (("checkout.started", "decision", 0), ("order.paid", "purchase", 0), ("order.delivered", "retention", 3))


def fill(url: str, wanted: int) -> None:
    """Write that many events of the last year, ten of each customer."""
    app = rig.open_(url)
    for first in range(0, wanted // EACH, _BATCH):
        size = min(_BATCH, wanted // EACH - first)
        with app.writing() as connection:
            people = bulk.next_ids(connection, customers, size)
            began = {c: rig.START - timedelta(days=365 - c % 300) for c in people}
            bulk.insert(
                connection,
                customers,
                ("id", "orders", "spent", "since", "stage", "stage_at"),
                [(c, 3, 12_150, at, "retention", at) for c, at in began.items()],
            )
            bulk.insert(
                connection,
                profiles,
                ("customer_id", "email", "first_name", "timezone", "attributes", "updated_at"),
                [(c, f"customer{c}@example.com", f"Sam {c}", "Europe/Paris", {}, at) for c, at in began.items()],
            )
            bulk.insert(
                connection,
                consents,
                ("customer_id", "channel", "topic", "state", "basis", "evidence", "occurred_at"),
                [(c, "email", "*", "granted", "consent", {}, at) for c, at in began.items()],
            )
            told = [(c, *one) for c, at in began.items() for one in _happened(c, at)]
            ids = bulk.next_ids(connection, events, len(told))
            bulk.insert(
                connection,
                events,
                ("id", "customer_id", "source", "key", "name", "digest", "occurred_at", "recorded_at", "payload"),
                [
                    (id_, c, "shopify", str(id_), name, b"", at, at, rig.order(number))
                    for id_, (c, name, _, at, number) in zip(ids, told, strict=True)
                ],
            )
            bulk.insert(
                connection,
                stage_entries,
                ("event_id", "stage", "customer_id", "entered_at"),
                [(id_, stage, c, at) for id_, (c, _, stage, at, _) in zip(ids, told, strict=True) if stage],
            )
    rig.analyze(app)
    app.close()


def _happened(customer: int, began: datetime) -> Iterator[tuple[str, str | None, datetime, int]]:
    yield "customer.created", None, began, 0
    for n in range((EACH - 1) // len(_ORDER)):
        for name, stage, days in _ORDER:
            yield name, stage, began + timedelta(days=40 * n + days, minutes=customer % 600 + days), customer * 10 + n


def relive(url: str, processes: int, results: Any) -> None:
    """Relive everything in a process of its own, so that it and its children can be measured."""
    work = Work(
        database_url=url,
        documents=compile_files(rig.shop_files()),
        secret=rig.SECRET.encode(),
        since=rig.START - timedelta(days=90),
        until=rig.START,
    )
    began = time.perf_counter()
    found = backtest(work, processes=processes)
    took = time.perf_counter() - began
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    busy = sum(one.ru_utime + one.ru_stime for one in used)
    results.put((found.events, took, busy, peak, sum(one.would for one in found.figures.values())))


def measured(wanted: int) -> dict[str, Any]:
    """The figures of one size."""
    with rig.postgresql() as url:
        fill(url, wanted)
        context = mp.get_context("spawn")
        results = context.Queue()
        process = context.Process(target=relive, args=(url, 2, results))
        process.start()
        relived, took, busy, peak, mails = results.get()
        process.join()
    return {
        "events": relived,
        "mails": mails,
        "events_per_s": round(relived / took),
        "events_per_cpu_s": round(relived / busy),
        "bar_events_per_s": _BAR,
        "peak_mb_of_a_process": round(peak / 1024),
    }


def run(wanted: int = EVENTS) -> dict[str, Any]:
    """The figures."""
    return {"a_quarter": measured(wanted // 4), "whole": measured(wanted)}


if __name__ == "__main__":
    rig.show(run(*map(int, sys.argv[1:2])))
