"""A moment that everybody in a segment is told of, by processes that are killed between and within their batches."""

import random
import signal
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from db import bulk
from db.tables import customers, enrollments, inbox, profiles, segment_members
from tests.driver import SECRET, START
from tests.examples import LONG
from tests.small_shop import flow, small

MEMBERS, BATCH, KILLS = (5_000, 50, 60) if LONG else (150, 15, 2)

#: A worker that tells of what has come, a batch at a time, and says so after each.
WORKER = f"""
import sys
from datetime import timedelta
from db.app import open_app
from db.clock import JumpingClock
from db.settings import load_settings
from tests.driver import START
from workers import occasions
occasions.BATCH, occasions.WAITING_MAX, occasions.TURNS = {BATCH}, 1_000_000, 1
settings = load_settings(database_url=sys.argv[1], secret=sys.argv[2])
app = open_app(settings, clock=JumpingClock(START + timedelta(days=4, hours=1)), durable=True)
for _ in range({MEMBERS // BATCH + 3}):
    occasions.reach(app)
    print("batch", flush=True)
"""


@pytest.mark.faults
@pytest.mark.timeout(3600 if LONG else 120)
def test_who_is_killed_between_batches_leaves_nobody_out_and_tells_nobody_twice(database_url: str) -> None:
    chance = random.Random(7)
    friday = flow("friday", [{"send": "email/receipt"}], starts={"once": "2026-03-06 09:00", "segment": "all"})
    with small(database_url, friday) as driver:
        driver.actors.tend()
        with driver.app.writing() as connection:
            everybody = range(1, MEMBERS + 1)
            people = [(id_, 0, 0, START) for id_ in everybody]
            bulk.insert(connection, customers, ("id", "orders", "spent", "since"), people)
            known = [(id_, "Europe/Paris", {}, START) for id_ in everybody]
            bulk.insert(connection, profiles, ("customer_id", "timezone", "attributes", "updated_at"), known)
            members = [("all", id_, START) for id_ in everybody]
            bulk.insert(connection, segment_members, ("segment", "customer_id", "since"), members)
        for kill in range(KILLS + 1):
            run(database_url, None if kill == KILLS else chance)
        told = driver.rows(sa.select(inbox.c.key).where(inbox.c.source == "programme"))
        driver.at(days=4, hours=1)
        begun = driver.rows(sa.select(enrollments.c.customer_id).order_by(enrollments.c.customer_id))

    assert sorted(key for (key,) in told) == sorted(f"once/friday/2026-03-06/{id_}" for id_ in everybody)
    assert [customer for (customer,) in begun] == list(everybody)


def run(database_url: str, chance: random.Random | None) -> None:
    """Let a worker go on, and kill it after a few batches, or somewhere in one; None: let it end."""
    command = [sys.executable, "-c", WORKER, database_url, SECRET.replace(" ", "-")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        if chance is None:
            assert worker.wait() == 0
            return
        for _ in range(chance.randrange(1, 4)):
            worker.stdout.readline()
        time.sleep(chance.uniform(0, 0.01))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
