"""Queued touchpoints go out, or do not: the only place with an effect outside the database.

1. Prepare, in a transaction with the customers locked: rank all that each customer has queued, ask the rails about
   each, render what may go, and mark it as handed over under a lease.
2. Call the provider with no transaction open, under one deadline for the whole batch.
3. Settle, in a transaction: each touchpoint gets its fate, and its run goes on.

The parts are `prepare.py`, the provider's file in `channels/`, and `settle.py`; this one holds them together. A worker
that dies between 1 and 3 leaves touchpoints in doubt; `resolve` decides by what they are. The outbox
keeps mails at home, so there 1 and 3 are one transaction and nothing is ever in doubt.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from afterglow.pacing import Pace
from db import bulk, enrollments, reviews, touchpoints, turns
from db.app import App
from db.tables import TouchpointState
from workers.batches import is_passing
from workers.channels import Channel, Fate, NotBegun, Outgoing
from workers.prepare import Batch, Preparation
from workers.settle import Handed, settle

#: How long a provider may take over one batch, in seconds, and how long the lease lasts: several times that.
DEADLINE_S = 30.0
LEASE = timedelta(seconds=120)
#: How long to wait before fates are written again that could not be written, in seconds.
SETTLE_AGAIN_S = 0.5


@dataclass(slots=True)
class Deliver:
    """The work on the touchpoints of one way to reach people."""

    app: App
    provider: Channel
    channel: str = "email"
    table: str = "touchpoints"
    #: How many touchpoints are claimed, and at most handed over, at once; the provider's own number unless given.
    batch: int = 0
    #: What the provider must be given, since its handing over is committed; and whether runs go on.
    outgoing: list[tuple[Handed, Outgoing]] = field(default_factory=list)
    moved: bool = field(default=False)
    #: What `do` prepared; it may go only once it is committed.
    _prepared: list[tuple[Handed, Outgoing]] = field(default_factory=list)
    _prepared_at: float = 0.0
    #: Whether the customers' other touchpoints are ranked with those claimed. Where it is sought which one kills or
    #: fails, each answers for itself.
    _ranks_others: bool = True

    def __post_init__(self) -> None:
        self.batch = self.batch or self.provider.batch

    def find(self, connection: Connection, now: datetime, limit: int, *, alone: bool) -> list[int]:
        self._ranks_others = not alone
        return touchpoints.DUE.claim(connection, now, limit, alone=alone, channel=self.channel)

    def lock(self, connection: Connection, ids: Sequence[int]) -> None:
        self._ranks_others = False
        touchpoints.DUE.lock(connection, ids)

    def park(self, connection: Connection, item: int, reason: str, now: datetime) -> None:
        batch = Batch()
        for row in touchpoints.queued(connection, [item], now):
            batch.end(row, TouchpointState.FAILED, now, reason)
        self._write(connection, batch)

    def do(self, connection: Connection, ids: Sequence[int], now: datetime) -> None:
        self._prepared, self._prepared_at = [], time.monotonic()
        rows = touchpoints.queued(connection, ids, now)
        if self._ranks_others:
            more = touchpoints.also_queued(connection, [row.customer_id for row in rows], self.channel, now)
            if further := [*{*more} - {row.id for row in rows}]:
                rows = [*rows, *touchpoints.queued(connection, further, now)]
        if not rows:
            return
        preparation = Preparation(self.app, self.provider, connection, rows, self.channel, now, now + LEASE)
        batch = Batch()
        room = self.batch - len(self.outgoing)
        for row in preparation.ranked():
            if len(self._prepared) == room:
                break  # what is prepared at once bounds what a crash leaves in doubt
            letter = preparation.prepare(row, batch)
            if letter is not None:
                self._prepared.append(letter)
        self._write(connection, batch, preparation.pace)

    def committed(self) -> None:
        self.outgoing += self._prepared
        self._prepared = []

    def send(self) -> None:
        """Give the prepared touchpoints to the provider and settle them. No transaction is open meanwhile.

        To be called also where the batch failed: a commit may have happened although its answer was lost, and then
        nobody but this object knows that nothing was sent.
        """
        if self._prepared:
            uncertain, self._prepared = self._prepared, []
            self._settle([(handed, NotBegun("the database went away")) for handed, _ in uncertain])
        if not self.outgoing:
            return
        mails, self.outgoing = self.outgoing, []
        if time.monotonic() - self._prepared_at > LEASE.total_seconds() - DEADLINE_S:
            # This process stood still. Others may soon take these for abandoned, and some of them send again.
            fates: Sequence[Fate] = [NotBegun("the worker stood still before it began")] * len(mails)
        else:
            fates = self.provider.send([letter for _, letter in mails], DEADLINE_S)
        self._settle([(handed, fate) for (handed, _), fate in zip(mails, fates, strict=True)])
        self.moved = True

    def _settle(self, ends: Sequence[tuple[Handed, Fate]]) -> None:
        """Write the fates down, again and again while the database is away: they are known nowhere else.

        Raises:
          sqlalchemy.exc.OperationalError: when it stays away for as long as the lease lasts. A process that stood
            still in the middle of a try, and finds its connection dead, tries once more.
        """
        until = time.monotonic() + LEASE.total_seconds()
        while True:
            began = time.monotonic()
            try:
                with self.app.writing() as connection:
                    settle(connection, ends, self.channel, self.app.clock.now(connection))
                return
            except Exception as error:
                if not is_passing(error) or began > until:
                    raise
            time.sleep(SETTLE_AGAIN_S)

    def _write(self, connection: Connection, batch: Batch, pace: Pace | None = None) -> None:
        with bulk.at_once(connection):
            touchpoints.hand_over(connection, batch.handed)
            touchpoints.close(connection, batch.closed)
            touchpoints.defer(connection, batch.deferred)
            touchpoints.hold(connection, batch.held)
            touchpoints.keep_contexts(connection, batch.contexts)
            reviews.note_quotings(connection, ((row[0], row[2]) for row in batch.contexts))
            enrollments.go_on(connection, batch.go_on)
            enrollments.stop(connection, batch.stopped)
            enrollments.note(connection, batch.notes)
            if pace is not None:
                turns.keep(connection, pace)
        self.moved |= bool(batch.go_on)
