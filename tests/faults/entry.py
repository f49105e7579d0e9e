"""Our processes as they are, but less patient, and where a test says so with somebody in the shop who kills them.

    dramatiq tests.faults.entry:setup            a worker
    python -m tests.faults.entry run             the command line

What a test changes stands in the environment:

    FAULTS_LEASE_S   how long a lease lasts (ours: two minutes); a quarter of it is the deadline for a batch
    FAULTS_POISON    any value: events and customers marked "poison-..." kill the process that works on them
    FAULTS_TRIES     how often a row may kill its process before it is set aside (ours: three times)
    FAULTS_PAUSE     "before 2" or "after 2": the worker waits so many seconds before, or after, each batch is sent
    FAULTS_MINUTE_S  how many seconds a minute of a flow's waits lasts
    FAULTS_NOTES     a file that gets a line when a batch is about to be sent, and one when the worker lets go of it
"""

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import dramatiq

from afterglow import durations, letters
from db import claims, touchpoints
from workers import advance, deliver, ingest, scheduler
from workers.channels import Fate, Outgoing
from workers.channels.smtp import Smtp

#: Marks, by the kind of work that they kill.
POISON = {"inbox": "poison-mapping", "enrollments": "poison-decide", "touchpoints": "poison-render"}


def prepare() -> None:
    """Change what the environment says."""
    lease_s = float(os.environ["FAULTS_LEASE_S"])
    deliver.LEASE = timedelta(seconds=lease_s)
    deliver.DEADLINE_S = lease_s / 4
    touchpoints.back_off = lambda attempts: timedelta(seconds=1)
    claims.SETTLING = timedelta(seconds=1)
    scheduler.TEND_S = 1.0
    if tries := os.environ.get("FAULTS_TRIES"):
        claims.TRIES_MAX = int(tries)
    if minute := os.environ.get("FAULTS_MINUTE_S"):
        durations._UNITS["minute"] = (0, 0, int(minute))
    if os.environ.get("FAULTS_POISON"):
        ingest.map_element = _deadly(ingest.map_element, POISON["inbox"], lambda given: given[2])
        advance.decide = _deadly(advance.decide, POISON["enrollments"], lambda given: given[2].names())
        letters.render = _deadly(letters.render, POISON["touchpoints"], lambda given: given[1])
    if pause := os.environ.get("FAULTS_PAUSE"):
        when, _, seconds = pause.partition(" ")
        _pause(when, float(seconds))
    if notes := os.environ.get("FAULTS_NOTES"):
        _note(Path(notes))


def _deadly(work: Callable[..., Any], mark: str, facts: Callable[[Sequence[Any]], object]) -> Callable[..., Any]:
    def working(*given: Any, **options: Any) -> Any:
        if mark in repr(facts(given)):
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*given, **options)

    return working


def _pause(when: str, seconds: float) -> None:
    honest = Smtp.send

    def send(self: Smtp, messages: Sequence[Outgoing], deadline_s: float) -> list[Fate]:
        if when == "before":
            time.sleep(seconds)
        fates = honest(self, messages, deadline_s)
        if when == "after":
            time.sleep(seconds)
        return fates

    Smtp.send = send  # type: ignore[method-assign]


def _note(notes: Path) -> None:
    honest = deliver.Deliver.send

    def send(self: deliver.Deliver) -> None:
        mails = [handed.id for handed, _ in self.outgoing]
        if mails:
            _write(notes, {"holds": mails})
        try:
            honest(self)
        finally:
            if mails:
                _write(notes, {"lets go": mails})

    deliver.Deliver.send = send  # type: ignore[method-assign]


def _write(notes: Path, line: dict[str, list[int]]) -> None:
    with notes.open("a") as file:
        file.write(json.dumps(line) + "\n")


def setup() -> dramatiq.Broker:
    """What `workers.main:setup` gives, prepared."""
    from workers import main

    prepare()
    return main.setup()


if __name__ == "__main__":
    from workers.cli import main as command_line

    prepare()
    command_line()
