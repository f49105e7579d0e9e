"""What a process needs to act, composed once per process by `open_app()`: no globals at import time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dramatiq
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from db.broker import Hints, check_broker, make_broker
from db.catalog import CatalogCache
from db.clock import Clock, DatabaseClock
from db.engine import Database
from db.schema import check_schema
from db.settings import Settings


@dataclass(frozen=True, kw_only=True)
class App:
    """The settings and the connections of one process."""

    settings: Settings
    database: Database
    broker: dramatiq.Broker
    hints: Hints
    clock: Clock
    catalog: CatalogCache

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A read-write transaction."""
        with self.database.writing() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self.database.reading() as connection:
            yield connection

    def hint(self, *kinds: str) -> None:
        """Say that there may be due work of these kinds."""
        self.hints.hint(*kinds)

    def close(self) -> None:
        """Let go of everything."""
        self.hints.close()
        self.broker.close()
        self.database.close()


def open_app(settings: Settings, *, clock: Clock | None = None, durable: bool = True) -> App:
    """Connect to the database and the broker and make sure that they can be used.

    Args:
      durable: False only for a SQLite file that is thrown away; see `Database`.

    Raises:
      DatabaseUnavailableError, BrokerUnavailableError, PendingMigrationsError: each with what to do, in one sentence.
    """
    database = Database(settings.database_url, pool_size=settings.threads + 4, durable=durable)
    try:
        database.check()
        check_schema(database)
        broker = make_broker(settings.broker_url)
        check_broker(broker)
    except AfterglowError:
        database.close()
        raise
    return App(
        settings=settings,
        database=database,
        broker=broker,
        hints=Hints(broker, threads=settings.threads, url=settings.broker_url),
        clock=clock or DatabaseClock(),
        catalog=CatalogCache(),
    )


def settle_memory() -> None:
    """Tell the collector that what a long-lived process holds after its start will stay.

    A batch makes tens of thousands of short-lived objects; walking everything that lives for ever each time costs a
    seventh of a step.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
