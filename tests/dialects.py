"""What SQLAlchemy works out about statements is kept from test to test, as a process keeps it from batch to batch.

Every test opens its database anew, and a new engine has compiled nothing yet: that took a third of a test's time. The
dialects registered here are one object each for all engines that are made with the same options, and these engines
share what they have compiled.
"""

from collections.abc import Hashable
from typing import Any, Self

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.util import LRUCache

_COMPILED: LRUCache[Any, Any] = LRUCache(3000)


class _Once:
    """A dialect that is made, and gets to know its server, once for each set of options."""

    _made: dict[Hashable, Self] = {}  # noqa: RUF012
    _is_made = _is_initialized = False

    def __new__(cls, **options: Any) -> Self:
        return cls._made.setdefault((cls, *sorted(options.items(), key=lambda one: one[0])), super().__new__(cls))

    def __init__(self, **options: Any) -> None:
        if not self._is_made:
            super().__init__(**options)
            self._is_made = True

    def initialize(self, connection: Connection) -> None:
        if not self._is_initialized:
            super().initialize(connection)  # type: ignore[misc]
            self._is_initialized = True

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        engine.update_execution_options(compiled_cache=_COMPILED)


class PostgreSQL(_Once, PGDialect_psycopg):
    """PostgreSQL by psycopg."""

    supports_statement_cache = True


class SQLite(_Once, SQLiteDialect_pysqlite):
    """SQLite by Python's own driver."""

    supports_statement_cache = True


def register() -> None:
    """From now on engines are made with these dialects."""
    registry.register("postgresql.psycopg", __name__, PostgreSQL.__name__)
    for name in ("sqlite", "sqlite.pysqlite"):
        registry.register(name, __name__, SQLite.__name__)
