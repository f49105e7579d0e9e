"""Importing customers from a CSV file on PostgreSQL, beside plain psycopg writing the same rows.

Ours reads and checks the file, hashes addresses, finds who is known, and writes customers, profiles, identities, the
event of each and its consent. The others are handed rows that are ready: COPY is what the database itself can take, one
executemany per table what most would write.
"""

import csv
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa

from benchmarks import rig
from db.app import App
from db.engine import dump_json
from db.tables import customers
from workers.importing import Importer, Wanted

ROWS: Final = 200_000
#: executemany is slow; a part of the rows tells its speed.
ROWS_EXECUTEMANY: Final = 20_000
COLUMNS: Final = ("id", "email", "first_name", "last_name", "phone", "created_at", "consent", "consent_at")
TABLES: Final = {
    "customers": "id, orders, spent, stage, stage_at, since",
    "profiles": "customer_id, email, phone, first_name, last_name, attributes, updated_at",
    "identities": "source, external_id, customer_id",
    "events": "id, customer_id, source, key, name, digest, occurred_at, recorded_at, payload",
    "stage_entries": "event_id, stage, customer_id, entered_at",
    "consents": "customer_id, channel, topic, state, basis, evidence, occurred_at",
}

#: Which column of each names the customer.
PLACES: Final = {"customers": 0, "profiles": 0, "identities": 2, "events": 1, "stage_entries": 2, "consents": 0}


def rows(count: int) -> Iterator[tuple[str, ...]]:
    """Customers as a shop exports them."""
    for n in range(count):
        phone = f"+3361{n:07}"
        yield str(n), f"Customer{n}@Example.com", "Sam", f"Lee {n}", phone, "2025-01-02T09:00:00Z", "yes", "2025-01-03"


def ours(app: App, file: Path) -> float:
    """Seconds for the file."""
    with app.reading() as connection:
        release = app.catalog.current(connection)
        now = app.clock.now(connection)
    wanted = Wanted(kind="customers", file=str(file), source="shopify")
    importer = Importer(database=app.database, settings=app.settings, release=release, wanted=wanted, now=now)
    began = time.perf_counter()
    outcome = importer.write(lambda reached: None)
    took = time.perf_counter() - began
    assert (outcome.new, outcome.known, outcome.bad) in [(ROWS, 0, []), (0, ROWS, [])], outcome
    return took


def ready(connection: psycopg.Connection[Any]) -> dict[str, list[tuple[Any, ...]]]:
    """What ours wrote, as rows."""
    found = {}
    for table, columns in TABLES.items():
        query = f"SELECT {columns} FROM {table}"
        rows_ = connection.execute(query.encode()).fetchall()
        found[table] = [tuple(dump_json(v) if isinstance(v, dict) else v for v in row) for row in rows_]
    return found


@contextmanager
def emptied(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the database without customers."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("TRUNCATE customers CASCADE")
        connection.commit()
        yield connection


def copied(connection: psycopg.Connection[Any], found: dict[str, list[tuple[Any, ...]]]) -> float:
    """Seconds for COPY into each table."""
    began = time.perf_counter()
    for table, columns in TABLES.items():
        with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
            for row in found[table]:
                copy.write_row(row)
    connection.commit()
    return time.perf_counter() - began


def copied_by_two(url: str, found: dict[str, list[tuple[Any, ...]]]) -> float:
    """Seconds for COPY of a half of the customers each over two connections at once: all that two cores can take."""
    halves = []
    for half in (0, 1):
        mine = {row[0] for row in found["customers"][half::2]}
        halves.append({table: [row for row in rows_ if row[PLACES[table]] in mine] for table, rows_ in found.items()})
    with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(url.replace("+psycopg", ""))) for _ in halves]
        began = time.perf_counter()
        list(pool.map(copied, connections, halves))
        return time.perf_counter() - began


def executed_many(connection: psycopg.Connection[Any], found: dict[str, list[tuple[Any, ...]]], count: int) -> float:
    """Seconds for one executemany a table, for so many customers."""
    those = {row[0] for row in found["customers"][:count]}
    part = {table: [row for row in rows_ if row[PLACES[table]] in those] for table, rows_ in found.items()}
    began = time.perf_counter()
    for table, columns in TABLES.items():
        marks = ", ".join(["%s"] * (columns.count(",") + 1))
        text = f"INSERT INTO {table} ({columns}) VALUES ({marks})"
        connection.cursor().executemany(text.encode(), part[table])
    connection.commit()
    return time.perf_counter() - began


def run() -> dict[str, Any]:
    """The figures, in customers a second."""
    figures: dict[str, Any] = {"rows": ROWS}
    with tempfile.TemporaryDirectory() as folder, rig.postgresql() as url:
        file = Path(folder) / "customers.csv"
        with file.open("w", newline="") as written:
            writer = csv.writer(written)
            writer.writerow(COLUMNS)
            writer.writerows(rows(ROWS))
        app = rig.open_(url)
        figures["ours_rows_per_s"] = round(ROWS / ours(app, file))
        figures["ours_again_rows_per_s"] = round(ROWS / ours(app, file))
        with app.reading() as connection:
            count = connection.execute(sa.select(sa.func.count()).select_from(customers)).scalar_one()
        assert count == ROWS, count
        app.close()
        with psycopg.connect(url.replace("+psycopg", "")) as connection_:
            found = ready(connection_)
        with emptied(url) as connection_:
            figures["copy_of_ready_rows_per_s"] = round(ROWS / copied(connection_, found))
        with emptied(url):
            figures["copy_over_two_connections_per_s"] = round(ROWS / copied_by_two(url, found))
        with emptied(url) as connection_:
            took = executed_many(connection_, found, ROWS_EXECUTEMANY)
            figures["executemany_of_ready_rows_per_s"] = round(ROWS_EXECUTEMANY / took)
    figures["at"] = datetime.now(UTC).isoformat(timespec="seconds")
    return figures


if __name__ == "__main__":
    rig.show(run())
