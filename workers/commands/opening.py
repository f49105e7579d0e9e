"""The database as short commands need it: no broker, because what stops or explains must work while Redis is down."""

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.problems import did_you_mean
from db import identity
from db.catalog import CatalogCache, NothingAppliedError, Release
from db.clock import DatabaseClock
from db.engine import Database
from db.schema import check_schema
from db.settings import Settings, load_settings
from workers.commands.console import complain
from workers.commands.failing import sentence

_Counted = TypeVar("_Counted")


class NoDatabaseError(AfterglowError):
    """There is no database yet; `afterglow run` makes one, or `afterglow migrate`."""


class UnknownError(AfterglowError):
    """Nothing of that name is known."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What a short command works with."""

    settings: Settings
    database: Database

    def now(self, connection: Connection) -> datetime:
        """The present instant."""
        return DatabaseClock().now(connection)

    def release(self, connection: Connection) -> Release:
        """The files in force."""
        return CatalogCache().current(connection)

    def customer(self, connection: Connection, given: str) -> int:
        """The customer that a person means.

        Raises:
          UnknownError: when there is none.
        """
        found = identity.find_customer(connection, self.settings.secrets[0], given)
        if found is None:
            raise UnknownError(
                f"No customer is known as '{given}'; give an address, our number, or the id that a source uses."
            )
        return found

    def flow(self, connection: Connection, name: str) -> str:
        """The name of a flow, held against those in force.

        Raises:
          UnknownError: when no flow is called that.
        """
        try:
            known = self.release(connection).catalog.flows
        except NothingAppliedError:
            return name
        if name not in known:
            raise UnknownError(
                f"No flow in force is called '{name}'.{did_you_mean(name, known)} `afterglow flows` lists them."
            )
        return name


@contextmanager
def opened() -> Iterator[Desk]:
    """The database of the settings, answering and at this release.

    Raises:
      AfterglowError: with what to do, where it cannot be used.
    """
    settings = load_settings()
    if is_missing(settings.database_url):
        raise NoDatabaseError(
            f"There is no database at {sqlite_file(settings.database_url)} yet; `afterglow run` makes one, "
            "or `afterglow migrate`."
        )
    database = Database(settings.database_url, pool_size=2)
    try:
        database.check()
        check_schema(database)
        yield Desk(settings=settings, database=database)
    finally:
        database.close()


def counted(ask: Callable[[Desk], _Counted]) -> _Counted | None:
    """What is known of people; None where there is no database yet, or it does not answer, which is told."""
    try:
        with opened() as desk:
            return ask(desk)
    except NoDatabaseError:
        return None
    except Exception as error:
        if (told := sentence(error)) is None:
            raise
        complain(f"Nobody is counted. {told}")
        return None


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database; None for other databases."""
    name = url.partition("///")[2].partition("?")[0]
    return Path(name) if url.startswith("sqlite") and name and name != ":memory:" else None


def is_missing(url: str) -> bool:
    """Whether a SQLite database was never made: opening it would make an empty one."""
    file = sqlite_file(url)
    return file is not None and (not file.exists() or not file.stat().st_size)


def me() -> str:
    """Who gives this command."""
    return getpass.getuser()
