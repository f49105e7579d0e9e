"""`make bench`: every figure in one run, as a table, and as JSON in benchmarks/results/.

Name benchmarks to run only those: `python -m benchmarks intake advance`.
"""

import importlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import rig

NAMES = (
    "intake", "mapping", "checking", "advance", "claims", "spine", "smtp", "importing", "ledger", "earning",
    "leaderboards", "backtest", "simulate", "once",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def main(names: list[str]) -> None:
    """Run the benchmarks one after the other."""
    console = Console()
    found: dict[str, Any] = {"machine": rig.machine(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    console.print(f"On {found['machine']}, PostgreSQL with fsync on.")
    for name in names or NAMES:
        console.print(f"[dim]{name} ...[/dim]")
        found[name] = importlib.import_module(f"benchmarks.{name}").run()
        table = Table("figure", "value", title=name, title_justify="left", box=None)
        for figure, value in _flat(found[name]):
            table.add_row(figure, value)
        console.print(table)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H-%M}.json"
    file.write_text(json.dumps(found, indent=2, default=str) + "\n")
    console.print(f"Written to {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}")


def _flat(figures: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in figures.items():
        if isinstance(value, dict):
            rows.extend(_flat(value, f"{before}{name}."))
        else:
            rows.append((before + name, f"{value:,}" if isinstance(value, int) else str(value)))
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
