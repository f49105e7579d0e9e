"""The schema: made by migrations alone, the same as the tables in code, up and down, on both databases."""

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from afterglow import ROOT
from db import schema
from db.engine import Database
from db.tables import metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a single table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server = request.getfixturevalue("postgres_server")
    name = f"afterglow_test_{uuid4().hex}"
    server.execute(f"CREATE DATABASE {name}")
    yield server.database_url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def tables(url: str) -> set[str]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        return set(sa.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def config(url: str) -> Config:
    made = Config(str(ROOT / "alembic.ini"))
    made.attributes["url"] = url
    return made


def test_migrations_make_every_table_and_leave_no_drift(empty_url):
    schema.migrate(empty_url)

    assert tables(empty_url) == {*metadata.tables, "alembic_version"}
    command.check(config(empty_url))


def test_migrations_go_down_to_nothing_and_up_again(empty_url):
    schema.migrate(empty_url)
    command.downgrade(config(empty_url), "base")
    assert tables(empty_url) == {"alembic_version"}

    schema.migrate(empty_url)
    schema.migrate(empty_url)  # a second time changes nothing
    assert tables(empty_url) == {*metadata.tables, "alembic_version"}
    command.check(config(empty_url))


def test_a_database_that_is_behind_is_refused_with_the_command_to_run(empty_url):
    database = Database(empty_url)
    with pytest.raises(schema.PendingMigrationsError, match="run `afterglow migrate`"):
        schema.check_schema(database)

    schema.migrate(empty_url)
    schema.check_schema(database)
    database.close()


def test_a_database_of_a_later_release_is_refused_too(empty_url):
    schema.migrate(empty_url)
    database = Database(empty_url)
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(schema.PendingMigrationsError, match="9999"):
        schema.check_schema(database)
    database.close()


@pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)  # SQLite locks its file by itself
def test_two_migrators_follow_each_other(empty_url):
    database = Database(empty_url)
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with database.engine.connect() as other:
        other.exec_driver_sql("SELECT pg_advisory_lock(2944308737)")
        thread = threading.Thread(target=schema.migrate, args=(empty_url,))
        thread.start()
        for _ in count():
            with database.reading() as connection:
                if connection.execute(waiting).scalar_one():
                    break
            assert thread.is_alive()
            thread.join(0.01)
        assert tables(empty_url) == set()
        other.exec_driver_sql("SELECT pg_advisory_unlock(2944308737)")
    thread.join()

    assert "customers" in tables(empty_url)
    database.close()
