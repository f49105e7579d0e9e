"""Connections: PostgreSQL for many processes, SQLite with a safe recipe for one.

SQLite, as SQLAlchemy opens it, loses updates without an error (117 of 800 read-modify-writes survived): the driver
begins its transactions late and as readers. So here every write begins with BEGIN IMMEDIATE, behind a first-come
first-served lock, because SQLite's own waiting is unfair and starves the web beside busy workers.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from afterglow.errors import AfterglowError

#: Longest any single statement of ours may run, and wait for a lock, in milliseconds.
STATEMENT_MS_MAX = 30_000
LOCK_MS_MAX = 10_000


class DatabaseUnavailableError(AfterglowError):
    """The database cannot be reached."""


def dump_json(value: object) -> str:
    """JSON text. A Decimal becomes a number with the same digits, exact up to 15 of them.

    Reading gives floats again, and expressions take a float for the decimal that it is written as, so that an amount
    goes through the database unchanged.
    """
    return orjson.dumps(value, default=jsonable, option=orjson.OPT_NON_STR_KEYS).decode()


def jsonable(value: object) -> object:
    """What JSON has no word for, in its words: a Decimal as a number."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value.adjusted()) < 15 else float(value)
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")


load_json = orjson.loads


class FairLock:
    """A mutex that serves waiters in the order in which they came (threading.Lock does not promise that)."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiters: deque[threading.Event] = deque()
        self._held = False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *raised: object) -> None:
        self.release()

    def acquire(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            turn = threading.Event()
            self._waiters.append(turn)
        turn.wait()

    def release(self) -> None:
        with self._guard:
            if self._waiters:
                self._waiters.popleft().set()
            else:
                self._held = False


class Database:
    """One database: `writing()` and `reading()` hand out connections inside a transaction."""

    def __init__(self, url: str, *, pool_size: int = 10, durable: bool = True) -> None:
        """Open it.

        Args:
          durable: False lets SQLite answer before anything is on the disk, which loses commits when the machine
            stops. Only for a file that is thrown away, as the demo's is.
        """
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._lock = FairLock()
        if self.is_sqlite:
            synchronous = "FULL" if durable else "OFF"
            self.engine = _sqlite(self.url, begin="BEGIN IMMEDIATE", pool_size=4, synchronous=synchronous)
            self.reader = _sqlite(self.url, begin="BEGIN", pool_size=pool_size, synchronous=synchronous)
            hasty = "NORMAL" if durable else "OFF"
            self._hasty = _sqlite(self.url, begin="BEGIN IMMEDIATE", pool_size=1, synchronous=hasty)
        else:
            self.engine = self.reader = _postgresql(self.url, pool_size)
            # One statement commits by itself, so the database is asked once.
            self._hasty = _postgresql(self.url, pool_size, "-c synchronous_commit=off").execution_options(
                isolation_level="AUTOCOMMIT"
            )

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A read-write transaction: committed when the block ends, rolled back when it raises."""
        with self._turn(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing_hastily(self) -> Iterator[Connection]:
        """For one statement whose commit does not wait for the disk.

        It outlives the death of any process, but not a crash of the machine.
        """
        with self._turn(), self._hasty.begin() as connection:
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """SQLite has one writer: wait for our turn."""
        if not self.is_sqlite:
            yield
            return
        with self._lock:
            yield

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads; never waits for writers."""
        with self.reader.connect() as connection:
            yield connection

    def check(self) -> None:
        """Make sure that the database answers.

        Raises:
          DatabaseUnavailableError: saying where it was looked for (without the password) and what to do.
        """
        try:
            with self.reading() as connection:
                connection.execute(sa.text("SELECT 1"))
        except sa.exc.DBAPIError as error:
            reason = " ".join(str(error.orig).split())[:200]
            where = self.url.render_as_string(hide_password=True)
            raise DatabaseUnavailableError(
                f"The database {where} cannot be reached ({reason}); start it or correct AFTERGLOW_DATABASE_URL."
            ) from None

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()
        self.reader.dispose()
        self._hasty.dispose()


def _postgresql(url: sa.URL, pool_size: int, further: str = "") -> Engine:
    options = (
        f"{further} -c timezone=UTC -c statement_timeout={STATEMENT_MS_MAX} -c lock_timeout={LOCK_MS_MAX} "
        "-c idle_in_transaction_session_timeout=60000 "
        # Every hot statement has an index and a constant text. A plan made while a table was still empty would scan
        # the table for as long as the connection lives, so plans are made once, and never by a scan.
        "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_memoize=off -c jit=off"
    )
    return sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_recycle=1800,
        hide_parameters=True,  # errors are logged, and parameters hold personal data
        json_serializer=dump_json,
        json_deserializer=load_json,
        connect_args={"options": options, "connect_timeout": 5},
    )


def _sqlite(url: sa.URL, *, begin: str, pool_size: int, synchronous: str) -> Engine:
    engine = sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        hide_parameters=True,  # errors are logged, and parameters hold personal data
        json_serializer=dump_json,
        json_deserializer=load_json,
        connect_args={"check_same_thread": False, "timeout": 15},
    )

    @sa.event.listens_for(engine, "connect")
    def configure(raw: Any, record: object) -> None:
        raw.isolation_level = None  # the driver must not begin transactions of its own
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            "foreign_keys=ON",
            "busy_timeout=15000",
            "temp_store=MEMORY",
        ):
            raw.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
