"""Files that are edited while customers stand in a flow and mails go out: every step is taken once, by everybody.

Short with the other tests; `make faults` (AFTERGLOW_FAULTS=long) does what the figures speak of. Real workers and a
scheduler on PostgreSQL, mails over SMTP; webhooks stand in the inbox already, since the way in has tests of its own.
A minute of a flow's waits lasts a second here.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow.language.catalog import compile_files
from db import bulk, catalog, control
from db.clock import DatabaseClock
from db.tables import decisions, documents, enrollments, inbox, touchpoints
from tests.examples import LONG
from tests.faults.rig import SCHEDULER, WORKER, Rig, distributed, until
from tests.faults.shop import files

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.xdist_group("faults"),
    pytest.mark.timeout(1800 if LONG else 240),
]

FLOW = "first-order"
SENDS = ("receipt", "note", "thanks")
#: How long all that is left may take in the end, in seconds.
REST_S_MAX = 600.0 if LONG else 120.0
#: What `on_edit` may be; None: the file does not say, and people finish in the version they began in.
ON_EDIT = (None, "move")


def flow(version: int = 0, *, status: str = "live", on_edit: str | None = None) -> dict[str, Any]:
    """A version of the flow: other waits, and from the thirtieth on another name for one of them."""
    renamed = version % 60 >= 30
    arrival: dict[str, Any] = {
        "id": "parcel" if renamed else "arrival",
        "wait_for": "order.delivered",
        "same": "order.id",
        "for_up_to": f"{2 + version % 3} minutes",
    }
    if on_edit == "move" and renamed:
        arrival["was"] = "arrival"
    steps = [
        {"send": "email/receipt"},
        {"id": "settle", "wait": f"{1 + version % 4} minutes"},
        {"send": "email/note"},
        arrival,
        {"send": "email/thanks"},
    ]
    made = {
        "flow": FLOW,
        "about": f"Version {version}",
        "status": status,
        "starts": {"event": "order.paid"},
        "once_per": "order.id",
        "topic": "care",
        "steps": steps,
    }
    return made | ({"on_edit": on_edit} if on_edit else {})


def shop(version: int = 0, **changes: Any) -> Mapping[str, str]:
    """The shop's files with a version of the flow, and of what its mails say."""
    texts = dict(files())
    for name in SENDS:
        for ending in ("mjml", "txt"):
            file = f"templates/email/{name}.{ending}"
            texts[file] = texts[file].replace(".</mj-text>", f". ({version})</mj-text>")
    return texts | {f"flows/{FLOW}.yaml": json.dumps(flow(version, **changes))}


def apply(rig: Rig, texts: Mapping[str, str]) -> None:
    """Put files into force."""
    made = compile_files(texts)
    with rig.database.writing() as connection:
        catalog.apply(connection, made, now=DatabaseClock().now(connection), by="the tests")


def tell(rig: Rig, event: str, numbers: range) -> None:
    """Put an event of each of these customers' orders into the inbox."""
    columns = ("source", "key", "digest", "state", "tries", "received_at", "headers", "body")
    with rig.database.writing() as connection:
        now = DatabaseClock().now(connection)
        rows = []
        for number in numbers:
            key = f"{event}/{number}"
            told = {
                "event": event,
                "key": key,
                "customer": {"id": f"c{number}", "email": f"c{number}@example.com"},
                "payload": {"order": {"id": f"o{number}", "total": 40}},
                "occurred_at": now.isoformat(),
                "consent": {"state": "granted", "topic": "*"},
            }
            body = json.dumps(told).encode()
            rows.append(("api", key, sha256(body).digest(), "received", 0, now, {}, body))
        bulk.insert(connection, inbox, columns, rows)


def rows(rig: Rig, query: sa.Select[Any]) -> list[Any]:
    with rig.database.reading() as connection:
        return list(connection.execute(query))


def count(rig: Rig, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    [[found]] = rows(rig, sa.select(sa.func.count()).select_from(table).where(*where))
    return int(found)


@contextmanager
def running(folder: Path, texts: Mapping[str, str], **environment: str) -> Iterator[Rig]:
    """Two workers and a scheduler with these files in force."""
    # Nobody is killed here, so that no lease need run out: a busy machine must leave nothing in doubt.
    with distributed(folder, texts, FAULTS_MINUTE_S="1", FAULTS_LEASE_S="120", **environment) as rig:
        for name, words in (("worker-1", WORKER), ("worker-2", WORKER), ("scheduler", SCHEDULER)):
            rig.process(name, words)
        rig.keep()
        yield rig


@contextmanager
def paused_by_its_file(rig: Rig) -> Iterator[tuple[str, ...]]:
    """The flow is paused in the files in force; the kinds of mail that do not go."""
    apply(rig, shop(status="paused"))
    yield ("service", "marketing")
    apply(rig, shop())


@contextmanager
def halted(rig: Rig) -> Iterator[tuple[str, ...]]:
    """The flow's marketing is halted by hand; the kinds of mail that do not go."""
    with rig.database.writing() as connection:
        control.halt(connection, FLOW, by="the tests", now=DatabaseClock().now(connection))
    yield ("marketing",)
    with rig.database.writing() as connection:
        control.resume(connection, FLOW, now=DatabaseClock().now(connection))


def every_step_was_taken_once(rig: Rig, customers: int) -> None:
    """Each customer's run took the flow's steps in order, each once, and the relay got each mail once."""
    t, e, d = touchpoints.c, enrollments.c, decisions.c
    assert Counter(row.state for row in rows(rig, sa.select(e.state))) == {"finished": customers}
    mails = rows(rig, sa.select(t.id, t.step, t.state))
    assert Counter((row.step, row.state) for row in mails) == {(step, "sent"): customers for step in SENDS}
    accepted = Counter(int(line["touchpoint"]) for line in rig.relay.accepts())
    assert accepted == {row.id: 1 for row in mails}
    taken: dict[int, list[str]] = {}
    for row in rows(rig, sa.select(d.enrollment_id, d.verb, d.step).order_by(d.id)):
        if row.verb not in ("waits", "waits for", "held", "went over"):
            taken.setdefault(row.enrollment_id, []).append(f"{row.verb} {row.step}")
    before, after = ["queued receipt", "sent receipt", "queued note", "sent note"], ["queued thanks", "sent thanks"]
    right = {
        (*before, f"{verb} {wait}", *after, "finished None")
        for verb in ("arrived", "timed out")
        for wait in ("arrival", "parcel")
    }
    ways = Counter(tuple(way) for way in taken.values())
    assert ways.keys() <= right, ways
    assert ways.total() == customers


def test_a_flow_paused_and_resumed_again_and_again_sends_everybody_each_mail_once_and_nothing_while_it_is_paused(
    tmp_path: Path,
) -> None:
    customers, pauses = (10_000, 100) if LONG else (100, 3)
    t, caught = touchpoints.c, Counter[str]()
    with running(tmp_path, shop(), FAULTS_PAUSE="before 0.02" if LONG else "before 0.3") as rig:
        tell(rig, "order.paid", range(customers))
        # What is told while a flow is paused begins no run of it.
        until(lambda: count(rig, enrollments) == customers, REST_S_MAX, "the beginning of all runs")
        for number in range(pauses):
            # Spread over what there is to send: each pause comes when so much has gone.
            share = customers * len(SENDS) * (number + 1) // (pauses + 1)
            until(lambda n=share: count(rig, touchpoints, t.state == "sent") >= n, REST_S_MAX, "mails")
            with paused_by_its_file(rig) if number % 2 == 0 else halted(rig) as meant:
                with rig.database.reading() as connection:
                    since = DatabaseClock().now(connection)
                time.sleep(0.5)
                caught["runs"] += count(rig, enrollments, enrollments.c.state == "paused")
                caught["mails"] += count(rig, touchpoints, t.state == "held")
                # A batch counts as prepared when it began, so what begins from now on may find the flow running again.
                assert count(rig, touchpoints, t.prepared_at > since, t.kind.in_(meant)) == 0
        took = rig.until_done(REST_S_MAX)
        print(json.dumps({"pauses": pauses, "caught": dict(caught), "seconds after them": round(took, 1)}))
        assert caught.total() > 0, "the pauses came when nothing was going on"
        every_step_was_taken_once(rig, customers)
        doctor = rig.command("doctor", "--json")
        assert doctor.returncode == 0, doctor.stdout


@pytest.mark.parametrize("on_edit", ON_EDIT)
def test_versions_of_a_flow_that_come_into_force_under_load_repeat_no_step_and_skip_none(
    tmp_path: Path, on_edit: str | None
) -> None:
    customers, versions = (5_000, 60) if LONG else (60, 4)
    each = customers // versions + 1
    step = 60 // versions
    inside = []
    with running(tmp_path, shop(on_edit=on_edit)) as rig:
        for version in range(versions):
            apply(rig, shop(version * step, on_edit=on_edit))
            inside.append(count(rig, enrollments, enrollments.c.ended_at.is_(None)))
            begun = range(version * each, min((version + 1) * each, customers))
            tell(rig, "order.paid", begun)
            # Of two versions back every other one arrives; the rest wait in vain.
            tell(rig, "order.delivered", range(max(0, begun.start - 2 * each), max(0, begun.start - each), 2))
            until(lambda n=begun.stop: count(rig, enrollments) == n, REST_S_MAX, "the beginning of all runs")
            time.sleep(0.5)
        took = rig.until_done(REST_S_MAX)
        began_in = count(rig, documents, documents.c.id.in_(sa.select(enrollments.c.flow_id)))
        print(json.dumps({"versions": began_in, "inside at each": inside, "seconds after them": round(took, 1)}))
        # Who goes over stands in a later version than the one they began in, perhaps all of them in the last.
        assert began_in == versions if on_edit is None else 1 <= began_in <= versions
        assert bool(count(rig, decisions, decisions.c.verb == "went over")) is (on_edit == "move")
        assert sum(map(bool, inside)) >= versions // 2, "nobody stood in the flow when it changed"
        every_step_was_taken_once(rig, customers)
        doctor = rig.command("doctor", "--json")
        assert doctor.returncode == 0, doctor.stdout
