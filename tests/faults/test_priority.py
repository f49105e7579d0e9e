"""Ten flows fire at once for every customer, a cap lets two through: real workers, one list of priority.

Short with the other tests; AFTERGLOW_FAULTS=long takes 2,000 customers and four workers.
"""

import json
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa

from db import bulk
from db.tables import enrollments, inbox, touchpoints
from tests.examples import LONG
from tests.faults import shop
from tests.faults.rig import SCHEDULER, WORKER, Rig, distributed, until

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.xdist_group("faults"),
    pytest.mark.timeout(1200 if LONG else 240),
]

CUSTOMERS, WORKERS = (2000, 4) if LONG else (40, 2)
#: In the order of priority, which is neither that of their names nor that in which they begin.
FLOWS = [f"flow-{n}" for n in (7, 2, 9, 0, 4, 1, 8, 3, 6, 5)]


def files() -> dict[str, str]:
    """The shop of the fault tests with ten flows instead of its one, and a cap of two."""
    texts = {path: text for path, text in shop.files().items() if path != f"flows/{shop.FLOW}.yaml"}
    rails = {"caps": [{"at_most": 2, "within": "24 hours"}], "priority": FLOWS}
    texts["flows/shop.yaml"] = json.dumps(json.loads(texts["flows/shop.yaml"]) | rails)
    one = json.loads(shop.files()[f"flows/{shop.FLOW}.yaml"])
    for name in FLOWS:
        flow = one | {"flow": name, "about": "One of ten", "steps": [{"send": "email/note"}]}
        texts[f"flows/{name}.yaml"] = json.dumps(flow)
    return texts


def pay(rig: Rig) -> None:
    """Let an order of each customer wait in the inbox."""
    now = datetime.now(UTC)
    rows = []
    for n in range(CUSTOMERS):
        body = {
            "event": "order.paid",
            "key": f"order {n}",
            "stage": "purchase",
            "customer": {"id": f"c{n}", "email": f"c{n}@example.com"},
            "payload": {"order": {"id": f"o{n}", "total": 40}},
            "consent": {"state": "granted", "topic": "*"},
        }
        raw = json.dumps(body).encode()
        rows.append(("api", f"order {n}", sha256(raw).digest(), "received", 0, now, {}, raw))
    columns = ("source", "key", "digest", "state", "tries", "received_at", "headers", "body")
    with rig.database.writing() as connection:
        bulk.insert(connection, inbox, columns, rows)


def is_decided(rig: Rig) -> bool:
    """Whether every flow has asked for its customer, and nothing is left that is due today."""
    t, e = touchpoints.c, enrollments.c
    today = sa.or_(t.state == "sending", sa.and_(t.state == "queued", t.reason.is_(None)))
    with rig.database.reading() as connection:
        asked = connection.execute(sa.select(sa.func.count()).select_from(touchpoints)).scalar_one()
        left = connection.execute(sa.select(sa.func.count()).select_from(touchpoints).where(today)).scalar_one()
        runs = sa.select(sa.func.count()).select_from(enrollments).where(e.state == "waiting")
        return asked == CUSTOMERS * len(FLOWS) and not left and not connection.execute(runs).scalar_one()


def test_of_ten_flows_at_once_exactly_the_first_two_of_the_list_reach_each_customer(tmp_path: Path) -> None:
    with distributed(tmp_path, files()) as rig:
        pay(rig)
        for n in range(WORKERS):
            rig.process(f"worker-{n}", WORKER)
        rig.process("scheduler", SCHEDULER)
        began = time.monotonic()
        rig.keep()
        until(lambda: is_decided(rig), 900 if LONG else 120, "the end of what is due today")
        took = time.monotonic() - began
        t = touchpoints.c
        query = sa.select(t.customer_id, t.flow, t.state, t.reason)
        with rig.database.reading() as connection:
            rows = connection.execute(query).all()
        log = (tmp_path / "accepts.jsonl").read_text()
    accepted = Counter(str(json.loads(line)["rcpt"]) for line in log.splitlines())
    got: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        if row.state == "sent":
            got[row.customer_id].add(row.flow)
    print(f"{CUSTOMERS} customers, {WORKERS} workers: {took:.1f} s with starting")
    assert len(got) == CUSTOMERS
    assert set(map(frozenset, got.values())) == {frozenset(FLOWS[:2])}
    assert Counter(row.state for row in rows) == {"sent": 2 * CUSTOMERS, "queued": 8 * CUSTOMERS}
    first, second = sorted(FLOWS[:2])
    waiting = {row.reason for row in rows if row.state == "queued"}
    assert waiting == {f"cap of 2 within 24 hours, {first} and {second} went first"}
    assert (len(accepted), set(accepted.values())) == (CUSTOMERS, {2}), "and no more left the house"
