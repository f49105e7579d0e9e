"""History out of a file, a batch a transaction, beside all else that runs; and, where wanted, the flow it starts.

Starting is a second step that comes after everything is in, so that it can be shown before it is done: who would enter
is asked of the customers as they then are, and one who entered already never enters again.
"""

import csv
import gzip
import io
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow import importing, past
from afterglow.decide import Run, decide, key_of
from afterglow.errors import AfterglowError
from afterglow.importing import BadRow, Desk, Row, columns_of, records, rows
from afterglow.language.catalog import Catalog
from afterglow.language.flow.graph import Flow
from afterglow.starting import could_start
from db import bulk, events, people
from db.catalog import Release
from db.clock import DatabaseClock
from db.engine import Database
from db.events import NewRun
from db.importing import Import, Outcome, balances, write
from db.people import MergedMeanwhileError
from db.settings import Settings
from db.tables import enrollments, runs, stage_entries
from db.tables import events as events_table
from workers.batches import is_passing
from workers.facts import load_facts

#: Reads a file from standard input.
STDIN: Final = "-"
#: Rows of one transaction. SQLite has one writer, and others wait for it.
BATCH: Final = 4_000
BATCH_SQLITE: Final = 500
#: Writers beside each other on PostgreSQL: one works while another waits for the disk.
WRITERS: Final = 2
#: For which SQLite is left to others after each batch.
PAUSE_S: Final = 0.02
#: How often a batch is tried whose connection or whose turn was lost.
ATTEMPTS: Final = 5
#: Source of ids where none is named.
OWN: Final = "import"

_T = TypeVar("_T")


class UnreadableFileError(AfterglowError):
    """A file cannot be imported at all."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What somebody asked to have imported.

    Args:
      file: a path, or "-" for standard input.
      form: csv or jsonl; None: as the file's name tells.
      zone: of moments written without one; the shop's unless given.
      stage: that rows bring; what the source's webhook would bring unless given.
      renamed: our names of columns by the file's.
      ignored: the file's columns that are not read.
    """

    kind: str
    file: str
    source: str = OWN
    form: str | None = None
    zone: ZoneInfo | None = None
    stage: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    ignored: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)
class Reached:
    """How far an import is."""

    outcome: Outcome
    read: int
    size: int | None


class Lines:
    """The lines of a file, decoded; knows how much of it was read."""

    def __init__(self, file: str) -> None:
        self._raw: Any = sys.stdin.buffer if file == STDIN else Path(file).open("rb")  # noqa: SIM115 - closed by `close`
        self.size = None if file == STDIN else Path(file).stat().st_size
        self._counted = 0
        whole: Any = io.BufferedReader(gzip.GzipFile(fileobj=self._raw)) if file.endswith(".gz") else self._raw
        encoding = "utf-16" if whole.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        self._text = io.TextIOWrapper(whole, encoding=encoding, errors="replace", newline="")

    def __iter__(self) -> Iterator[str]:
        return iter(self._text)

    @property
    def read(self) -> int:
        """Bytes read so far; nothing where it comes from a pipe."""
        return 0 if self.size is None else self._raw.tell()

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self.size is not None:
            self._raw.close()
        else:
            self._text.detach()


@dataclass(kw_only=True)
class Importer:
    """One import: reads the file, writes its rows."""

    database: Database
    settings: Settings
    release: Release
    wanted: Wanted
    now: datetime

    @property
    def catalog(self) -> Catalog:
        """The files in force."""
        return self.release.catalog

    def check(self, say: Callable[[Reached], None]) -> Outcome:
        """Read everything and write nothing: rows that could be written count as new.

        Raises:
          ColumnsError, UnreadableFileError: the file cannot be read at all.
        """
        outcome = Outcome()
        with closing(Lines(self.wanted.file)) as lines:
            for batch in _batches(self._rows(lines), BATCH):
                bad = [row for row in batch if type(row) is BadRow]
                outcome.add(Outcome(new=len(batch) - len(bad), bad=bad, sums=Counter(balances(batch))))
                say(Reached(outcome=outcome, read=lines.read, size=lines.size))
        return outcome

    def write(self, say: Callable[[Reached], None]) -> Outcome:
        """Write what can be written; the rest is told by line. May be repeated.

        Raises:
          ColumnsError, UnreadableFileError: the file cannot be read at all.
        """
        this = Import(
            source=self.wanted.source,
            file=Path(self.wanted.file).name if self.wanted.file != STDIN else "standard input",
            secret=self.settings.secrets[0],
            release=self.release,
            now=self.now,
        )
        outcome = Outcome()
        is_sqlite = self.database.is_sqlite
        writers = 1 if is_sqlite else WRITERS
        under_way: deque[Future[Outcome]] = deque()
        with closing(Lines(self.wanted.file)) as lines, ThreadPoolExecutor(writers) as pool:
            try:
                for batch in _batches(self._rows(lines), BATCH_SQLITE if is_sqlite else BATCH):
                    good = [row for row in batch if type(row) is not BadRow]
                    outcome.bad += [row for row in batch if type(row) is BadRow]
                    under_way.append(pool.submit(self._write, this, good))
                    while len(under_way) > writers:
                        outcome.add(under_way.popleft().result())
                        say(Reached(outcome=outcome, read=lines.read, size=lines.size))
                while under_way:
                    outcome.add(under_way.popleft().result())
                    say(Reached(outcome=outcome, read=lines.read, size=lines.size))
            except BaseException:
                for one in under_way:
                    one.cancel()
                raise
        outcome.bad.sort()
        return outcome

    def _rows(self, lines: Lines) -> Iterator[Row | BadRow]:
        kind, wanted = self.wanted.kind, self.wanted
        form = wanted.form or importing.format_of(wanted.file)
        if form is None:
            raise UnreadableFileError(
                f"The name {wanted.file} does not tell how the file is written; say --format csv or --format jsonl."
            )
        model = self.catalog.shop.model
        further: set[str] = set()
        if kind == "customers":
            further = set(model.attributes)
        elif kind == "orders":
            fields = self.catalog.events.get(model.order_event, {})
            further = {name for name in fields if name.startswith("order.") and "[]" not in name}

        def columns(header: Sequence[str]) -> list[str | None]:
            return columns_of(kind, header, further=further, renamed=wanted.renamed, ignored=wanted.ignored)

        written = self.now
        if wanted.file != STDIN:
            written = min(self.now, datetime.fromtimestamp(int(Path(wanted.file).stat().st_mtime), UTC))
        desk = Desk(
            catalog=self.catalog,
            as_of=written,
            now=self.now,
            zone=wanted.zone or self.catalog.shop.zone,
            stage=wanted.stage or self._stage(),
        )
        return rows(kind, records(form, lines, columns), desk)

    def _stage(self) -> str | None:
        """The stage that a webhook of the source would bring."""
        source = self.catalog.sources.get(self.wanted.source)
        event = {"customers": past.CREATED, "orders": self.catalog.shop.model.order_event}.get(self.wanted.kind)
        rules = source.events if source is not None else ()
        return next((r.stage for r in rules if r.event == event and isinstance(r.stage, str)), None)

    def _write(self, this: Import, good: Sequence[Any]) -> Outcome:
        """Write rows in one transaction; where that cannot be done, in halves, until the one is alone."""
        if not good:
            return Outcome()
        try:
            outcome = self._tried(this, good)
        except sa.exc.DBAPIError as error:
            if is_passing(error):
                raise
            if len(good) == 1:
                return Outcome(bad=[BadRow(good[0].line, f"the database refused it ({type(error.orig).__name__})")])
            middle = len(good) // 2
            outcome = self._write(this, good[:middle])
            outcome.add(self._write(this, good[middle:]))
        if self.database.is_sqlite:
            time.sleep(PAUSE_S)
        return outcome

    def _tried(self, this: Import, good: Sequence[Any]) -> Outcome:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self.database.writing() as connection:
                    return write(connection, self.wanted.kind, this, good)
            except (sa.exc.DBAPIError, MergedMeanwhileError) as error:
                is_lost = isinstance(error, MergedMeanwhileError) or is_passing(error)
                if not is_lost or attempt == ATTEMPTS:
                    raise
                time.sleep(0.2 * attempt)
        raise AssertionError("unreachable")

    def rejects(self, bad: Sequence[BadRow]) -> Path:
        """Write the rows that were not taken in, with line and reason before their own columns, beside the file."""
        is_file = self.wanted.file != STDIN
        path = Path(f"{self.wanted.file if is_file else 'standard-input'}.rejected.csv")
        reasons = {row.line: row.reason for row in bad}
        header: list[str] = []

        def theirs(names: Sequence[str]) -> list[str | None]:
            header.extend(name for name in names if name not in header)
            return list(names)

        found: dict[int, Mapping[str, Any]] = {}
        if is_file:
            form = self.wanted.form or importing.format_of(self.wanted.file) or "csv"
            with closing(Lines(self.wanted.file)) as lines:
                for record in records(form, lines, theirs):
                    if type(record) is not BadRow and record.line in reasons:
                        found[record.line] = record.values  # type: ignore[union-attr]
        path.touch(mode=0o600)  # it holds what the file holds
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["line", "reason", *header])
            for line, reason in sorted(reasons.items()):
                writer.writerow([line, reason, *(found.get(line, {}).get(name, "") for name in header)])
        return path


@dataclass(kw_only=True)
class Entrants:
    """Who would enter a flow by what was imported.

    Args:
      first: how many would do what at once, by what the first step that holds them does.
    """

    customers: int
    runs: int
    first: Counter[str]


@dataclass(kw_only=True)
class Starter:
    """Starts one flow for events of the past."""

    database: Database
    release: Release
    flow: Flow

    def look(self, event_ids: Sequence[int]) -> Entrants:
        """Who would enter, and what would happen to them at once. Writes nothing."""
        customers: set[int] = set()
        first: Counter[str] = Counter()
        seen: set[tuple[int, str]] = set()
        for batch in _batches(event_ids, BATCH):
            with self.database.reading() as connection:
                now = DatabaseClock().now(connection)
                wanted = [run for run in self._runs(connection, batch, now) if (run.customer_id, run.key) not in seen]
                seen |= {(run.customer_id, run.key) for run in wanted}
                customers |= {run.customer_id for run in wanted}
                first.update(self._first_steps(connection, wanted, now))
        return Entrants(customers=len(customers), runs=len(seen), first=first)

    def start(self, event_ids: Sequence[int]) -> int:
        """Start the runs, in the lane that waits for fresh events. How many; those that ran before do not again."""
        begun = 0
        for batch in _batches(event_ids, BATCH_SQLITE if self.database.is_sqlite else BATCH):
            with self.database.writing() as connection:
                now = DatabaseClock().now(connection)
                e = events_table.c
                theirs = connection.execute(sa.select(e.customer_id).where(bulk.among(e.id, batch)))
                people.lock(connection, theirs.scalars())
                wanted = self._runs(connection, batch, now)
                claimed = events.claim_keys(connection, wanted)
                events.insert_enrollments(connection, claimed)
                begun += len(claimed)
        return begun

    def _runs(self, connection: Connection, event_ids: Sequence[int], now: datetime) -> list[NewRun]:
        """The runs that these events would start and whose keys have not run, one for each key."""
        e = events_table.c
        query = sa.select(e.id, e.customer_id, e.name, e.occurred_at, e.payload)
        happened = connection.execute(
            query.where(bulk.among(e.id, list(event_ids))).order_by(e.occurred_at, e.id)
        ).all()
        if self.flow.stage is not None:
            s = stage_entries.c
            entered = connection.execute(
                sa.select(s.event_id).where(bulk.among(s.event_id, list(event_ids)), s.stage == self.flow.stage)
            )
            those = {row.event_id for row in entered}
            happened = [row for row in happened if row.id in those]
        else:
            happened = [row for row in happened if could_start(self.flow, row.name, (), row.payload)]
        persons = people.load(connection, [row.customer_id for row in happened], segments=True)
        shop = self.release.catalog.shop
        keys: dict[tuple[int, str], Any] = {}
        for row in happened:
            person = persons[row.customer_id]
            if person.forgotten_at is not None:
                continue
            names = {**row.payload, "customer": person.facts(shop), "shop": shop.facts}
            if self.flow.when is not None and not self.flow.when.is_true(names):
                continue
            key = key_of(self.flow, names, row.id)
            if key is not None:
                keys.setdefault((row.customer_id, key), row)
        r = runs.c
        ran = connection.execute(
            sa.select(r.customer_id, r.key).where(
                r.flow == self.flow.name, bulk.among(r.customer_id, sorted({customer for customer, _ in keys}))
            )
        )
        for run in ran:
            keys.pop((run.customer_id, run.key), None)
        ids = bulk.next_ids(connection, enrollments, len(keys))
        return [
            NewRun(
                id=id_,
                flow=self.flow.name,
                flow_id=self.release.flow_id(self.flow.name),
                customer_id=customer,
                key=key,
                event_id=row.id,
                entered_at=row.occurred_at,
                lane=1,
                due_at=now,
            )
            for id_, ((customer, key), row) in zip(ids, keys.items(), strict=True)
        ]

    def _first_steps(self, connection: Connection, wanted: Sequence[NewRun], now: datetime) -> Iterator[str]:
        """What each run would do at once, decided by the same code as ever."""
        persons = people.load(connection, [run.customer_id for run in wanted])
        facts = load_facts(
            connection,
            [(run.id, run.customer_id, run.event_id, run.entered_at, self.flow) for run in wanted],
            persons,
            self.release.catalog.shop,
        )
        for run in wanted:
            stands = Run(
                customer_id=run.customer_id,
                event_id=run.event_id,
                entered_at=run.entered_at,
                step=self.flow.first,
                until=None,
            )
            outcome = decide(self.flow, stands, facts[run.id], now)
            if outcome.queued is not None:
                yield f"send {outcome.queued.template}"
            elif outcome.state == "waiting" and outcome.due_at is not None:
                yield f"wait at {outcome.step}"
            else:
                yield f"end at once ({outcome.reason or outcome.state})"


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
