"""A process that posts to the ledger by many hands until it is done, and is killed meanwhile.

    python -m tests.faults.posting DATABASE_URL NOTES HANDS FIRST BEYOND

It does the batches FIRST up to BEYOND that NOTES does not name yet, and notes each one that is done. A batch that was
done and not noted is done again: its keys are the same.
"""

import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from db import ledger
from db.engine import Database
from db.ledger import Change, Posted, Reserve
from db.tables import customers
from tests.ledger_shop import LedgerDesk

#: Changes in one batch.
SIZE = 32


def changes(desk: LedgerDesk, people: Sequence[int], seed: int) -> list[Change]:
    """The changes of a batch: the same ones whenever and by whomever it is done."""
    dice = random.Random(seed)
    wanted: list[Change] = []
    for n in range(SIZE):
        one, amount = dice.choice(people), dice.randint(1, 50)
        make = dice.choice([desk.credit, desk.credit, desk.spend, desk.reserve, desk.claw_back])
        further: dict[str, Any] = {"key": f"{seed}/{n}", "subject": f"order/{dice.randint(1, 9)}"}
        if make == desk.credit:
            further["days"] = dice.choice([None, 10, 20])
        if make == desk.claw_back:
            further["policy"] = dice.choice(["only_pending", "within_balance", "unlimited"])
        wanted.append(make(one, amount, **further))
    return wanted


def post(desk: LedgerDesk, people: Sequence[int], seed: int) -> None:
    """Do a batch, then settle what it holds or let it go."""
    wanted = changes(desk, people, seed)
    outcomes = desk.post(*wanted)
    ends = [
        replace((desk.settle if outcome.id % 2 else desk.void)(outcome.id), key=f"{seed}/end/{outcome.id}")
        for outcome, change in zip(outcomes, wanted, strict=True)
        if isinstance(change, Reserve) and isinstance(outcome, Posted)
    ]
    with desk.database.writing() as connection:
        ledger.post(connection, ends, desk.now)


def main(url: str, notes: str, hands: str, first: str, beyond: str) -> None:
    """Do what is left."""
    desk = LedgerDesk(database=Database(url, pool_size=int(hands)))
    with desk.database.reading() as connection:
        people = list(connection.execute(sa.select(customers.c.id).order_by(customers.c.id)).scalars())
    done = {int(line) for line in Path(notes).read_text().split()} if Path(notes).exists() else set()
    left = [seed for seed in range(int(first), int(beyond)) if seed not in done]

    def work(seed: int) -> None:
        post(desk, people, seed)
        with Path(notes).open("a") as lines:
            lines.write(f"{seed} ")

    with ThreadPoolExecutor(int(hands)) as pool:
        for one in [pool.submit(work, seed) for seed in left]:
            one.result()


if __name__ == "__main__":
    main(*sys.argv[1:])
