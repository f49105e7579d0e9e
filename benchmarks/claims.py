"""Claiming 500 due runs out of ten million waiting ones, beside ten thousand; with nothing due; behind a paused flow.

Rows are made by the database itself without their foreign keys being checked, since a claim reads only runs and
customers. A claim is timed inside a transaction that is rolled back.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from benchmarks import rig
from db import enrollments
from db.app import App
from db.due import full

CUSTOMERS = 200_000
FEW, MANY = 10_000, 10_000_000
DUE = 500
PAUSED = 300_000
ROUNDS = 25


def fill(app: App, waiting: int, flow_id: int) -> None:
    """Runs that wait for days spread over the next months, and 500 that are due."""
    with app.writing() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("TRUNCATE enrollments, customers CASCADE")
        connection.execute(
            sa.text(
                "INSERT INTO customers (id, orders, spent, since) "
                "SELECT n, 1, 4000, now() FROM generate_series(1, :customers) n"
            ),
            {"customers": CUSTOMERS},
        )
        connection.execute(
            sa.text(
                "INSERT INTO enrollments (customer_id, flow_id, event_id, entered_at, due_at, until, state, lane, "
                "step) SELECT 1 + n % :customers, :flow, n, now(), "
                "now() + interval '1 hour' + n * interval '0.5 second', "
                "now(), 'waiting', 1, 'first-cups' FROM generate_series(1, :waiting) n"
            ),
            {"customers": CUSTOMERS, "flow": flow_id, "waiting": waiting},
        )
        connection.execute(
            sa.text(
                "INSERT INTO enrollments (customer_id, flow_id, event_id, entered_at, due_at, state, lane, step) "
                "SELECT n, :flow, n, now(), now() - interval '1 minute', 'waiting', 1, 'first-cups' "
                "FROM generate_series(1, :due) n"
            ),
            {"flow": flow_id, "due": DUE},
        )
    rig.analyze(app)


def add_paused(app: App, flow_id: int) -> None:
    """Runs of a paused flow that would have been due first of all."""
    with app.writing() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.execute(
            sa.text(
                "INSERT INTO enrollments (customer_id, flow_id, event_id, entered_at, due_at, state, lane, step) "
                "SELECT 1 + n % :customers, :flow, n, now(), now() - interval '9 days', 'paused', 1, 'first-cups' "
                "FROM generate_series(1, :paused) n"
            ),
            {"customers": CUSTOMERS, "flow": flow_id, "paused": PAUSED},
        )
    rig.analyze(app)


def claim_ms(app: App, now: datetime, expected: int) -> float:
    """The median of several claims, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        with app.database.engine.connect() as connection:
            began = perf_counter()
            ids = enrollments.DUE.claim(connection, now, DUE, alone=False)
            times.append((perf_counter() - began) * 1000)
            assert len(ids) == expected, f"{len(ids)} claimed, not {expected}"
            connection.rollback()
    return round(median(times), 2)


def plan(app: App, now: datetime) -> dict[str, Any]:
    """The plan of a claim as a prepared statement has it: its nodes, and the index that it walks."""
    text = str(enrollments.DUE.both.compile(dialect=postgresql.dialect()))
    text = re.sub(r"%\(now\)s::[A-Z ]*TIME ZONE", "$1", text)
    text = re.sub(r"%\(limit\)s::INTEGER", "$2", text)
    text = re.sub(r"%\(fast_limit\)s::INTEGER", "$3", text)
    with app.reading() as connection:
        connection.exec_driver_sql(f"PREPARE claim (timestamptz, int, int) AS {text}")
        explain = f"EXPLAIN (FORMAT JSON) EXECUTE claim ('{now.isoformat()}', {DUE}, {full(DUE)})"
        found = connection.exec_driver_sql(explain).scalar_one()
        connection.exec_driver_sql("DEALLOCATE claim")
    tree = found if isinstance(found, list) else json.loads(found)
    nodes: list[str] = []
    indexes: list[str] = []

    def walk(node: dict[str, Any]) -> None:
        nodes.append(node["Node Type"])
        indexes.extend([node["Index Name"]] if "Index Name" in node else [])
        for child in node.get("Plans", ()):
            walk(child)

    walk(tree[0]["Plan"])
    assert "Sort" not in nodes, nodes
    assert "Seq Scan" not in nodes, nodes
    assert "ix_enrollments_due" in indexes, indexes
    return {"nodes": nodes, "indexes": indexes}


def run(many: int = MANY) -> dict[str, Any]:
    """The figures; fails where the plan has a sort or a scan of the table, or changes with the number of rows."""
    figures: dict[str, Any] = {}
    plans = []
    with rig.postgresql() as url:
        app = rig.open_(url)
        with app.reading() as connection:
            flow_id = app.catalog.current(connection).flow_id("first-order")
        for name, waiting in (("few", FEW), ("many", many)):
            fill(app, waiting, flow_id)
            now = datetime.now(UTC)
            plans.append(plan(app, now))
            figures[f"{name}_waiting"] = waiting
            figures[f"{name}_claim_ms"] = claim_ms(app, now, DUE)
            figures[f"{name}_nothing_due_ms"] = claim_ms(app, now - timedelta(hours=1), 0)
        add_paused(app, flow_id)
        figures["behind_paused_claim_ms"] = claim_ms(app, datetime.now(UTC), DUE)
        app.close()
    assert plans[0] == plans[1], plans
    return figures | {
        "ratio_many_to_few": round(figures["many_claim_ms"] / figures["few_claim_ms"], 2),
        "ratio_paused_to_many": round(figures["behind_paused_claim_ms"] / figures["many_claim_ms"], 2),
        "plan": plans[0],
    }


if __name__ == "__main__":
    rig.show(run())
