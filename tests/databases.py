"""A PostgreSQL database of its own for each test: copied from a template once, then emptied and given to the next.

A copy costs a tenth of a second of CPU, more than most tests that need one; deleting what a test wrote costs a tenth of
that. Every test's database has a name of its own all the same, so that a process or a thread that outlives its test
finds nothing to connect to. A database whose schema a test changed, or which it analyzed, is dropped.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from tests.servers import Postgres

#: Every row of the catalogs by which one schema, or what the planner knows of it, differs from another, with the
#: transaction that wrote it.
_SCHEMA = """
SELECT md5(string_agg(it, ' ' ORDER BY it)) FROM (
  SELECT format('class %s %s', oid, xmin) FROM pg_class WHERE relnamespace = 'public'::regnamespace
  UNION ALL SELECT format('column %s %s %s', attrelid, attnum, a.xmin)
    FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'public'::regnamespace
  UNION ALL SELECT format('statistics %s %s %s', starelid, staattnum, s.xmin)
    FROM pg_statistic s JOIN pg_class c ON c.oid = starelid WHERE relnamespace = 'public'::regnamespace
  UNION ALL SELECT format('constraint %s %s', oid, xmin) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
  UNION ALL SELECT format('trigger %s %s', oid, xmin) FROM pg_trigger
  UNION ALL SELECT format('function %s %s', oid, xmin) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
) AS _(it)
"""
_TABLES = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
_RESTARTED = """
SELECT setval(format('%I.%I', schemaname, sequencename), start_value, false)
FROM pg_sequences WHERE last_value IS NOT NULL
"""
#: What a migrated database holds from the beginning.
_KEPT = "alembic_version"


class Databases:
    """Databases of a server that are copies of a template. One that is given back is kept for the next."""

    def __init__(self, server: Postgres, *, template: str) -> None:
        self._server = server
        self._template = template
        self._spare: str | None = None
        self._schemas: dict[str, str] = {}

    def take(self, name: str) -> str:
        """The URL of a database of this name that is as the template."""
        if self._spare is None:
            self._server.execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
            with self._connected(name) as connection:
                self._schemas[name] = _schema(connection)
        else:
            self._server.execute(f"ALTER DATABASE {self._spare} RENAME TO {name}")
            self._schemas[name] = self._schemas.pop(self._spare)
            self._spare = None
        return self._server.database_url(name)

    def give_back(self, name: str) -> None:
        """Empty a database for the next test; drop it where it is not as it was."""
        if self._spare is None and self._is_emptied(name):
            self._spare = name
            return
        del self._schemas[name]
        self._server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        """Drop what is kept."""
        if self._spare is not None:
            self._server.execute(f"DROP DATABASE {self._spare} WITH (FORCE)")

    def _is_emptied(self, name: str) -> bool:
        """Whether nothing is left of a test; somebody else's server may not let us."""
        try:
            with self._connected(name) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                if _schema(connection) != self._schemas[name]:
                    return False
                _empty(connection)
        except psycopg.Error:
            return False
        return True

    @contextmanager
    def _connected(self, name: str) -> Iterator[psycopg.Connection]:
        url = self._server.database_url(name).replace("postgresql+psycopg", "postgresql", 1)
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection


def _schema(connection: psycopg.Connection) -> str:
    [[digest]] = connection.execute(_SCHEMA)
    return str(digest)


def _empty(connection: psycopg.Connection) -> None:
    tables = [sql.SQL(name) for (name,) in connection.execute(_TABLES.encode()) if name != _KEPT]
    is_used = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(sql.Literal(table.as_string()), table)
        for table in tables
    )
    used = [sql.SQL(name) for (name,) in connection.execute(is_used)]
    # No trigger fires, and nothing is refused because something else points at it: all of it goes.
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        for table in used:
            connection.execute(sql.SQL("DELETE FROM {}").format(table))
    connection.execute(_RESTARTED)
    if used:
        connection.execute(sql.SQL("VACUUM {}").format(sql.SQL(", ").join(used)))
