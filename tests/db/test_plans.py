"""PostgreSQL's plans: a claim costs what it claims, however many rows wait beside."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from db import account_looks, enrollments, fetching, pulses, reception, touchpoints
from db.engine import Database
from workers.scheduler import _DUE

CUSTOMERS, WAITING, DUE, PAUSED = 2_000, 20_000, 300, 50_000

FILL = f"""
SET session_replication_role = replica;
INSERT INTO inbox (id, source, key, digest, state, received_at, headers, body, fetch_at)
  SELECT n, 'crm', n::text, '', CASE WHEN mod(n, 10) = 0 THEN 'fetching' ELSE 'mapped' END, now(), '{{}}', '',
         CASE WHEN n <= {DUE} THEN timestamptz '2026-01-01' ELSE timestamptz '2027-01-01' + n * interval '1 minute' END
  FROM generate_series(1, {WAITING}) n;
INSERT INTO accounts (id, source, external_id, name)
  SELECT n, 'crm', n::text, 'Café' FROM generate_series(1, {CUSTOMERS} / 4) n;
INSERT INTO account_looks (id, account_id, due_at, tells, upto)
  SELECT 1000000 + n, n, CASE WHEN n <= 3 THEN timestamptz '2026-01-01' ELSE timestamptz '2027-01-01' END, true, 0
  FROM generate_series(1, {CUSTOMERS} / 4) n;
INSERT INTO customers (id, orders, spent, since, account_id)
  SELECT n, 0, 0, now(), 1 + (n - 1) / 4 FROM generate_series(1, {CUSTOMERS}) n;
INSERT INTO enrollments (id, customer_id, flow_id, event_id, entered_at, due_at, state, lane, tries, step)
  SELECT n, 1 + mod(n, {CUSTOMERS}), 1, 1, now(),
         CASE WHEN n <= {DUE} THEN timestamptz '2026-01-01' ELSE timestamptz '2027-01-01' + n * interval '1 minute' END,
         'waiting', mod(n, 2), 0, 'first'
  FROM generate_series(1, {WAITING}) n;
INSERT INTO enrollments (id, customer_id, flow_id, event_id, entered_at, due_at, state, lane, tries, step)
  SELECT {WAITING} + n, 1 + mod(n, {CUSTOMERS}), 1, 1, now(), timestamptz '2025-01-01', 'paused', mod(n, 2), 0, 'first'
  FROM generate_series(1, {PAUSED}) n;
INSERT INTO touchpoints (id, customer_id, enrollment_id, step, flow, channel, template, kind, state, lane,
                         attempts, tries, epoch, due_at, queued_at)
  SELECT n, 1 + mod(n, {CUSTOMERS}), n, 'first', 'f', 'email', 'email/note', 'marketing',
         CASE WHEN n <= {WAITING} THEN 'queued' ELSE 'sent' END, mod(n, 2), 0, 0, 0,
         CASE WHEN n <= {DUE} THEN timestamptz '2026-01-01' ELSE timestamptz '2027-01-01' + n * interval '1 minute' END,
         now()
  FROM generate_series(1, {WAITING} + {PAUSED}) n;
"""


@pytest.fixture(scope="module")
def full(postgres_server: Any, _postgres_template: str) -> Iterator[Database]:
    """A database in which many wait, few are due and many more are of no interest; analysed."""
    name = "afterglow_test_plans"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE {_postgres_template}")
    database = Database(postgres_server.database_url(name))
    with database.writing() as connection:
        for statement in FILL.strip().rstrip(";").split(";"):
            connection.exec_driver_sql(statement)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    yield database
    database.close()
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def plan(database: Database, query: sa.Select[Any], given: dict[str, str]) -> list[dict[str, Any]]:
    """Every node of the generic plan: the one that a prepared statement runs by."""
    compiled = query.compile(database.engine, compile_kwargs={"render_postcompile": True})
    kinds = {"now": "timestamptz", "limit": "int", "fast_limit": "int", "channel": "text", "source": "text"}
    names = list(given)
    text = str(compiled)
    for number, name in enumerate(names, 1):
        text = text.replace(f"%({name})s::VARCHAR", f"${number}").replace(f"%({name})s::INTEGER", f"${number}")
        text = text.replace(f"%({name})s::TIMESTAMP WITH TIME ZONE", f"${number}").replace(f"%({name})s", f"${number}")
    assert "%(" not in text, text
    with database.writing() as connection:
        arguments = ", ".join(kinds[name] for name in names)
        connection.exec_driver_sql(f"PREPARE tried ({arguments}) AS {text}")
        values = ", ".join(f"'{given[name]}'" for name in names)
        found = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) EXECUTE tried ({values})").scalar_one()
        connection.exec_driver_sql("DEALLOCATE tried")
    top = (found if isinstance(found, list) else json.loads(found))[0]["Plan"]
    nodes, ahead = [], [top]
    while ahead:
        node = ahead.pop()
        nodes.append(node)
        ahead += node.get("Plans", [])
    return nodes


CLAIMS = {
    "enrollments": (enrollments.DUE.both, "ix_enrollments_due", {}),
    "touchpoints": (touchpoints.DUE.both, "ix_touchpoints_due", {"channel": "email"}),
}


@pytest.mark.parametrize("what", CLAIMS)
def test_a_claim_walks_its_index_in_order_and_sorts_nothing(full, what):
    query, index, given = CLAIMS[what]

    nodes = plan(full, query, {"now": "2026-06-01", "limit": "500", "fast_limit": "450", **given})

    kinds = [node["Node Type"] for node in nodes]
    assert not [kind for kind in kinds if "Sort" in kind or kind == "Seq Scan"], kinds
    scans = [node for node in nodes if node.get("Index Name") == index]
    assert [scan["Node Type"] for scan in scans] == ["Index Scan"] * 2, "one for each lane"
    for scan in scans:
        assert "due_at" in scan["Index Cond"], "how many are due decides what it costs, not how many wait"
        assert "lane" in scan["Index Cond"]


def test_a_paused_flow_leaves_the_index_so_that_its_rows_do_not_matter(full):
    entries = sa.text("SELECT reltuples FROM pg_class WHERE relname = :name")  # an estimate, from a sample
    with full.reading() as connection:
        for index in ("ix_enrollments_due", "ix_touchpoints_due"):
            assert connection.execute(entries, {"name": index}).scalar_one() == pytest.approx(WAITING, rel=0.1)


def test_looking_for_due_work_walks_no_table(full):
    nodes = plan(full, _DUE, {"now": "2026-06-01"})

    scanned = {node["Node Type"]: node.get("Index Name") for node in nodes if "Relation Name" in node}
    small = ("inbox", "segment_fillings")  # empty here; of the second there is at most one row a segment
    assert "Seq Scan" not in {node["Node Type"] for node in nodes if node.get("Relation Name") not in small}, scanned
    conditions = [node["Index Cond"] for node in nodes if node.get("Index Name") in ("ix_enrollments_due", "ix_touchpoints_due")]  # fmt: skip  # noqa: E501
    assert len(conditions) == 4
    assert all("due_at" in condition for condition in conditions)


def test_a_claim_of_what_lacks_a_document_walks_its_index_in_order(full):
    nodes = plan(full, fetching._CLAIM, {"now": "2026-06-01", "limit": "50", "source": "crm"})

    assert not [node for node in nodes if "Sort" in node["Node Type"] or node["Node Type"] == "Seq Scan"]
    [scan] = [node for node in nodes if node.get("Index Name") == "ix_inbox_fetching"]
    assert "fetch_at" in scan["Index Cond"]


def test_the_day_of_every_source_is_read_by_an_index_and_so_is_what_waits(full):
    now = datetime(2026, 6, 1, tzinfo=UTC)
    with full.reading() as connection:
        for query, index in (
            (reception._by_hour(now), "ix_inbox_bodies"),
            (reception._UNSETTLED, "ix_inbox_unsettled"),
        ):
            text = query.compile(full.engine, compile_kwargs={"literal_binds": True})
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # the table is empty here
            plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {text}".replace("%", "%%")))
            assert index in plan, plan
            assert "Seq Scan" not in plan, plan


FILL_INBOX = """
INSERT INTO inbox (id, source, key, digest, state, received_at, headers, body)
  SELECT 1000000 + n, 'shopify', n::text, 'd', 'mapped', timestamptz '2026-03-02' - n * interval '1 minute', '{}',
         CASE WHEN n <= 20000 THEN 'b'::bytea ELSE ''::bytea END
  FROM generate_series(1, 40000) n
"""


def test_counting_the_last_hour_reads_that_hour_alone(full):
    with full.writing() as connection:
        connection.exec_driver_sql(FILL_INBOX)
        connection.exec_driver_sql("ANALYZE inbox")
    text = str(pulses._ROLL_UP["postgresql"]).replace(":start", "$1").replace(":end", "$2")
    with full.writing() as connection:
        connection.exec_driver_sql(f"PREPARE counted (timestamptz, timestamptz) AS {text}")
        explained = "EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE counted ('2026-03-01 22:00', '2026-03-01 23:00')"
        found = connection.exec_driver_sql(explained).scalar_one()
        connection.exec_driver_sql("DEALLOCATE counted")
        connection.rollback()
    nodes, ahead = [], [found[0]["Plan"]]
    while ahead:
        nodes.append(ahead.pop())
        ahead += nodes[-1].get("Plans", [])
    (scan,) = [node for node in nodes if "Scan" in node["Node Type"] and node.get("Relation Name") == "inbox"]

    assert scan["Node Type"] in ("Index Scan", "Bitmap Heap Scan")
    assert "ix_inbox_bodies" in json.dumps(scan)
    assert scan["Actual Rows"] == 60


def test_all_due_runs_of_the_claimed_customers_are_read_by_their_index(full):
    said: list[tuple[str, Any]] = []
    with full.reading() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *given: said.append((given[2], given[3])))
        rows = enrollments.due(connection, [1, 2, 3], datetime(2026, 6, 1, tzinfo=UTC), with_others=True)
        (statement, values) = said[-1]
        plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", values))

    assert [row.id for row in rows] == [1, 2, 3]
    assert "ix_enrollments_customer_id" in plan, plan
    assert "Seq Scan" not in plan, plan


def test_the_people_of_a_changed_company_are_found_by_index_whoever_else_there_is(full):
    now = datetime(2026, 6, 1, tzinfo=UTC)
    scans = "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE relname IN ('customers', 'account_looks')"
    with full.writing() as connection:
        assert account_looks.put(connection, [(20, now, True)], but=[80])
        assert account_looks.pass_on(connection, now, 500) is False
        judged = connection.exec_driver_sql("SELECT customer_id FROM segment_looks ORDER BY 1").scalars().all()
        assert {row.relname: row.seq_scan for row in connection.exec_driver_sql(scans)} == {
            "customers": 0,
            "account_looks": 0,
        }
    assert judged == [*range(1, 13), *range(77, 81)]
