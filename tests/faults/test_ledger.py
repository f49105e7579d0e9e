"""The ledger adds up however many post to it and whoever of them is killed in the middle."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from db import proof
from db.ledger import Credit
from db.tables import ledger_accounts, ledger_transactions, postings
from tests.examples import LONG
from tests.faults.posting import SIZE, changes
from tests.ledger_shop import LedgerDesk, ledger

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.xdist_group("faults"),
    pytest.mark.timeout(3600 if LONG else 120),
]

CUSTOMERS = 80 if LONG else 10
BATCHES, KILLS = (3200, 40) if LONG else (24, 2)


class Posting:
    """A process that posts its share, and is started again until it is done."""

    def __init__(self, url: str, notes: Path, hands: int, share: range) -> None:
        self.words = [str(word) for word in (url, notes, hands, share.start, share.stop)]
        self.notes = notes
        self.kills = 0
        self.start()

    def start(self) -> None:
        words = [sys.executable, "-m", "tests.faults.posting", *self.words]
        self.process = subprocess.Popen(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})

    @property
    def is_posting(self) -> bool:
        """Whether it has done something since it started, and is not done."""
        return self.process.poll() is None and self.notes.exists() and len(self.notes.read_text()) > self._at_start

    _at_start = 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.kills += 1
        self._at_start = len(self.notes.read_text())
        self.start()


@pytest.fixture
def desk(database_url: str) -> LedgerDesk:
    with ledger(database_url) as opened:
        for _ in range(CUSTOMERS):
            opened.customer()
        yield opened


def test_a_hundred_thousand_changes_add_up_although_those_who_post_them_are_killed(desk, database_url, tmp_path):
    # SQLite is for one process; PostgreSQL for many.
    shares, hands = (1, 8) if desk.database.is_sqlite else (4, 8)
    each = BATCHES // shares
    posting = [Posting(database_url, tmp_path / str(n), hands, range(n * each, (n + 1) * each)) for n in range(shares)]
    chance = random.Random(7)
    try:
        while any(one.process.poll() is None for one in posting):
            time.sleep(chance.uniform(0.02, 0.5))
            busy = [one for one in posting if one.is_posting]
            if busy and sum(one.kills for one in posting) < KILLS:
                chance.choice(busy).kill()
        assert [one.process.returncode for one in posting] == [0] * shares
    finally:
        for one in posting:
            one.process.kill()
            one.process.wait()
    kills = sum(one.kills for one in posting)

    t, p, a = ledger_transactions.c, postings.c, ledger_accounts.c
    posted = desk.rows(sa.select(sa.func.count()).select_from(ledger_transactions))[0][0]
    print(f"{posted} transactions of {BATCHES * SIZE} changes, {kills} processes killed")
    people = [row[0] for row in desk.rows(sa.select(a.customer_id).distinct().order_by(a.customer_id))]
    credits = {
        (one.customer_id, one.key, one.amount)
        for seed in range(BATCHES)
        for one in changes(desk, people, seed)
        if isinstance(one, Credit)
    }
    stored = desk.rows(sa.select(t.customer_id, t.key, t.granted).where(t.kind == "earn"))
    assert kills
    assert len(stored) == len(credits)
    assert {tuple(row) for row in stored} == credits
    assert desk.rows(sa.select(p.transaction_id).group_by(p.transaction_id).having(sa.func.sum(p.amount) != 0)) == []
    with desk.database.reading() as connection:
        assert proof.verify(connection).differences == []
