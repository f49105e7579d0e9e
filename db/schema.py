"""Whether the database has the tables this release needs, and the migration that makes them."""

from typing import TYPE_CHECKING

from afterglow import ROOT
from afterglow.errors import AfterglowError
from db.engine import Database

if TYPE_CHECKING:  # imported where it is used: it tells the log about each of its plugins, before logs are set up
    from alembic.config import Config


class PendingMigrationsError(AfterglowError):
    """The database was made by another release; run `afterglow migrate`."""


def _config(url: str) -> "Config":
    from alembic.config import Config

    config = Config(str(ROOT / "alembic.ini"))
    config.attributes["url"] = url
    return config


def migrate(url: str) -> None:
    """Bring the database up to this release: under a lock, with timeouts."""
    from alembic import command

    command.upgrade(_config(url), "head")


def check_schema(database: Database) -> None:
    """Make sure that the database is at this release.

    Raises:
      PendingMigrationsError: naming where it stands, and the command to run.
    """
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    wanted = ScriptDirectory.from_config(_config("")).get_current_head()
    with database.reading() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found != wanted:
        raise PendingMigrationsError(
            f"The database stands at migration {found or 'none'} and this release needs {wanted}; "
            "run `afterglow migrate`."
        )
