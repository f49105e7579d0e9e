"""Reliving the stored history under changed files, a range of customers at a time, in as many processes as cores."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from afterglow.backtest import Comparison, Period
from afterglow.language.catalog import Document, read_documents
from afterglow.testing import ShopUnderTest
from db import lives
from db.app import settle_memory
from db.engine import Database

#: So many numbers of customers are one piece of work.
RANGE = 1_000


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is relived: the files, and where the history is. It is handed to other processes."""

    database_url: str
    documents: Sequence[Document]
    secret: bytes
    since: datetime
    until: datetime

    @property
    def period(self) -> Period:
        """What is compared."""
        return Period(since=self.since, until=self.until)


class Reliving:
    """The work on ranges of customers in one process."""

    def __init__(self, work: Work) -> None:
        self.work = work
        bodies = {(one.kind, one.name): one.body for one in work.documents}
        self.shop = ShopUnderTest(catalog=read_documents(bodies))
        self.database = Database(work.database_url, pool_size=1)

    def range(self, after: int) -> Comparison:
        """Compare the customers of one range."""
        found, work = Comparison(), self.work
        catalog = self.shop.catalog
        for together in lives.histories(self.database, work.secret, catalog, after, after + RANGE, work.period):
            found.take(self.shop, together, work.period)
        return found


def backtest(
    work: Work, *, processes: int | None = None, say: Callable[[Comparison, float], None] | None = None
) -> Comparison:
    """Relive all customers, and compare with what happened.

    Args:
      processes: how many share the work; unless given, one for each core.
      say: hears what was found so far, and which part of the customers that is, after each range.
    """
    database = Database(work.database_url, pool_size=1)
    with database.reading() as connection:
        last = lives.last_customer(connection)
    database.close()
    ranges = range(0, last, RANGE)
    processes = min(processes or len(os.sched_getaffinity(0)), len(ranges))
    found = Comparison()
    if processes <= 1:
        reliving = Reliving(work)
        parts = map(reliving.range, ranges)
        for n, part in enumerate(parts, start=1):
            _hear(found, part, n / len(ranges), say)
        reliving.database.close()
        return found
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(work,)) as pool:
        for n, part in enumerate(pool.map(_in_process, ranges), start=1):
            _hear(found, part, n / len(ranges), say)
    return found


def _hear(found: Comparison, part: Comparison, share: float, say: Callable[[Comparison, float], None] | None) -> None:
    found.add(part)
    if say is not None:
        say(found, share)


#: What a process of the pool works with.
_reliving: Reliving | None = None


def _begin(work: Work) -> None:
    global _reliving
    _reliving = Reliving(work)
    settle_memory()


def _in_process(after: int) -> Comparison:
    assert _reliving is not None
    return _reliving.range(after)
