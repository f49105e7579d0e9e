"""Steps a second: due runs decided and written, with every fact, foreign key and decision."""

from collections.abc import Callable
from typing import Any

from benchmarks import rig
from workers.advance import Advance
from workers.batches import run_batch

RUNS = 60_000


def drain(url: str, begin: Callable[[], Any]) -> int:
    """Advance until nothing is due. How many runs were advanced."""
    app = rig.open_(url)
    app.database.check()
    work = Advance(app)
    begin()
    total = 0
    while done := run_batch(app, work):
        total += done
    app.close()
    return total


def run(runs: int = RUNS) -> dict[str, Any]:
    """The figures."""
    with rig.postgresql() as url:
        rig.seed(url, runs)
        done, took = rig.in_processes(2, drain, url)
    with rig.sqlite() as url:
        rig.seed(url, runs // 2)
        embedded, embedded_took = rig.in_processes(1, drain, url)
    return {
        "steps": done,
        "postgresql_steps_per_s": round(done / took),
        "sqlite_steps_per_s": round(embedded / embedded_took),
    }


if __name__ == "__main__":
    rig.show(run())
