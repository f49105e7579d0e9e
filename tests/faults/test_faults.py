"""Nothing is lost and nothing is doubled, whatever is killed, emptied or restarted meanwhile.

Short with the other tests; `make faults` (AFTERGLOW_FAULTS=long) does what the figures in the README speak of. A run
can be repeated with the seed that it prints: FAULTS_SEED. FAULTS_KEEP=<folder> keeps logs of all processes.
"""

import json
import os
import random
import signal
import time
from collections import Counter
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest

from tests.examples import LONG
from tests.faults.checker import Poison, Verdict, judge
from tests.faults.client import planned
from tests.faults.entry import POISON
from tests.faults.rig import RUN, SCHEDULER, WEB, WORKER, Rig, distributed, embedded, haunt, plan, until

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.xdist_group("faults"),
    pytest.mark.timeout(1200 if LONG else 240),
]

#: How long all that is left may take once no fault happens any more, in seconds: leases must run out first.
REST_S_MAX = 300.0 if LONG else 120.0


@pytest.fixture
def chance() -> random.Random:
    """Chance that can be repeated."""
    seed = int(os.environ.get("FAULTS_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
    print(f"\nFAULTS_SEED={seed}")
    return random.Random(seed)


def holds(verdict: Verdict) -> None:
    print(json.dumps(verdict.figures, indent=2))
    assert not verdict.broken, "\n".join(verdict.broken)


def test_nothing_is_lost_or_doubled_while_everything_is_killed_flushed_and_restarted(
    tmp_path: Path, chance: random.Random
) -> None:
    customers, seconds = (2000, 120.0) if LONG else (100, 10.0)
    kills = {"worker": 24, "web": 8, "scheduler": 6} if LONG else {"worker": 3, "web": 1, "scheduler": 1}
    faults = plan(
        chance,
        seconds=seconds,
        kills=kills,
        beheadings=4 if LONG else 1,
        flushes=120 if LONG else 6,
        restarts=3 if LONG else 1,
    )
    with distributed(tmp_path) as rig:
        # Where a worker waits decides whether the relay has what a kill leaves in doubt.
        rig.process("worker-1", WORKER, FAULTS_PAUSE="before 0.2")
        rig.process("worker-2", WORKER, FAULTS_PAUSE="after 0.2")
        rig.process("web", WEB)
        rig.process("scheduler", SCHEDULER)
        rig.keep()
        rig.until_ready()
        posts = planned(customers, seconds=seconds, chance=chance)
        shop = rig.client(posts, chance)
        shop.start()
        haunt(rig, faults)
        shop.join(60)
        took = rig.until_done(REST_S_MAX)
        verdict = judge(
            rig,
            customers_planned=customers,
            posts=len(posts),
            faults={fault.what for fault in faults},
            senders_lost=rig.kills("worker"),
        )
        until(rig.has_no_orphans, REST_S_MAX, "the end of workers whose parent was killed")
    verdict.figures |= {"refusals": shop.refusals, "seconds after the faults": took}
    holds(verdict)


def test_rows_that_kill_their_process_are_set_aside_and_all_others_are_done(
    tmp_path: Path, chance: random.Random
) -> None:
    customers, poisonous, tries = (2000, 20, 3) if LONG else (60, 3, 2)
    names = [mark for mark, _ in zip(cycle(POISON.values()), range(poisonous), strict=False)]
    kinds = Counter(kind for kind, _ in zip(cycle(POISON), range(poisonous), strict=False))
    with distributed(tmp_path, FAULTS_POISON="yes", FAULTS_TRIES=str(tries)) as rig:
        for name, words in (("worker-1", WORKER), ("worker-2", WORKER), ("web", WEB), ("scheduler", SCHEDULER)):
            rig.process(name, words)
        rig.keep()
        rig.until_ready()
        posts = planned(customers, seconds=5 if LONG else 2, chance=chance, names=names)
        shop = rig.client(posts, chance)
        shop.start()
        shop.join(120)
        took = rig.until_done(REST_S_MAX)
        deaths = sum(process.starts - 1 for process in rig.processes if process.name.startswith("worker"))
        verdict = judge(
            rig,
            customers_planned=customers,
            posts=len(posts),
            faults=set(),
            senders_lost=deaths,
            poison=Poison(**kinds),
        )
    verdict.figures |= {"poison": dict(kinds), "deaths": deaths, "seconds": took}
    verdict.hold(deaths <= tries * poisonous + 6, f"{deaths} workers died of {poisonous} rows")
    verdict.hold(deaths >= 3, f"only {deaths} workers died: the poison did not work")
    holds(verdict)


class Sleeper:
    """A worker that waits before or after each batch that it sends, and writes down what it holds."""

    def __init__(self, rig: Rig, when: str) -> None:
        self.rig = rig
        self.process = rig.process(f"worker-{when}", WORKER, FAULTS_PAUSE=f"{when} 1")

    def has_let_go(self, batches: list[set[int]]) -> bool:
        """Whether it believes to be done with all these batches."""
        held = self.process.held()
        return not any(batch in held for batch in batches)

    def falls_asleep(self) -> bool:
        """Stop it if it has marketing in its hands. (Its notes are read again, for it goes on until it stops.)"""
        if not self._has_marketing():
            return False
        self.process.send(signal.SIGSTOP)
        if not self._has_marketing():
            self.process.send(signal.SIGCONT)
            return False
        return True

    def _has_marketing(self) -> bool:
        marketing = self.rig.mails("marketing")
        return any(marketing & batch for batch in self.process.held())


def test_a_worker_that_stood_still_changes_nothing_when_it_goes_on_and_a_restart_leaves_nothing_in_doubt(
    tmp_path: Path, chance: random.Random
) -> None:
    rounds, customers, seconds = (10, 2000, 150.0) if LONG else (1, 120, 3.0)
    with distributed(tmp_path, FAULTS_LEASE_S="6") as rig:
        rig.process("web", WEB)
        rig.process("scheduler", SCHEDULER)
        sleepers = [Sleeper(rig, when) for when in ("before", "after")]
        rig.keep()
        rig.until_ready()
        posts = planned(customers, seconds=seconds, chance=chance)
        shop = rig.client(posts, chance)
        shop.start()
        asleep, slept_on = 0, set[int]()
        for number in range(rounds):
            for sleeper in sleepers:
                until(sleeper.falls_asleep, REST_S_MAX, "a worker that hands marketing over")
            if not number:
                rig.process("worker", WORKER)  # not before, or the sleepers might never get any marketing
            held = [sleeper.process.held() for sleeper in sleepers]
            ids = {id_ for batches in held for batch in batches for id_ in batch}
            rig.restart_database()  # the living settle what they sent, and the zombies find their connections dead
            until(partial(rig.are_closed, ids), REST_S_MAX, "what others make of the mails that zombies hold")
            fates = rig.fates(ids)
            for sleeper in sleepers:
                sleeper.process.send(signal.SIGCONT)
            for sleeper, batches in zip(sleepers, held, strict=True):
                until(partial(sleeper.has_let_go, batches), REST_S_MAX, "what the zombie makes of its own mails")
            assert rig.fates(ids) == fates
            asleep += len(sleepers)
            slept_on |= ids
        shop.join(60)
        took = rig.until_done(REST_S_MAX)
        verdict = judge(rig, customers_planned=customers, posts=len(posts), faults=set(), senders_lost=asleep)
        verdict.hold(rig.in_doubt() <= slept_on, "mails are in doubt that no zombie held: the restarts left them")
    verdict.figures |= {"zombies": asleep, "seconds": took}
    holds(verdict)


def test_one_process_that_holds_everything_loses_and_doubles_nothing_however_often_it_is_killed(
    tmp_path: Path, chance: random.Random
) -> None:
    customers, kills = (400, 20) if LONG else (40, 3)
    with embedded(tmp_path, FAULTS_PAUSE="after 0.2") as rig:
        run = rig.process("run", RUN)
        rig.keep()
        rig.until_ready()
        posts = planned(customers, seconds=kills * 2.0, chance=chance)
        shop = rig.client(posts, chance)
        shop.start()
        for _ in range(kills):
            rig.until_ready()
            time.sleep(chance.uniform(0.2, 2.0))
            run.kill()
            rig.faults["kill run"] += 1
        shop.join(60)
        took = rig.until_done(REST_S_MAX)
        verdict = judge(rig, customers_planned=customers, posts=len(posts), faults={"kill run"}, senders_lost=run.kills)
    verdict.figures |= {"refusals": shop.refusals, "seconds after the faults": took}
    holds(verdict)
