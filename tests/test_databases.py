"""Tests do not see each other's rows, though one database is given from test to test."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import psycopg
import pytest

from tests.databases import Databases
from tests.servers import Postgres

Taken = tuple[str, psycopg.Connection[Any]]
NUMBERS = count(1)
BORN = "INSERT INTO customers (orders, spent, since) VALUES (0, 0, now()) RETURNING id"
WHICH = "SELECT oid FROM pg_database WHERE datname = current_database()"


@pytest.fixture
def databases(postgres_server: Postgres, _postgres_template: str) -> Iterator[Databases]:
    made = Databases(postgres_server, template=_postgres_template)
    yield made
    made.close()


@pytest.fixture
def take(databases: Databases) -> Callable[[], Taken]:
    def taken() -> Taken:
        name = f"afterglow_given_{os.getpid()}_{next(NUMBERS)}"
        url = databases.take(name).replace("+psycopg", "", 1)
        return name, psycopg.connect(url, autocommit=True)

    return taken


def asked(connection: psycopg.Connection[Any], query: str) -> list[Any]:
    return [row[0] for row in connection.execute(query.encode())]


def test_the_next_finds_no_row_and_numbers_from_one_and_who_outlived_their_test_is_cut_off(databases, take):
    name, connection = take()
    which = asked(connection, WHICH)
    assert asked(connection, BORN) == [1]
    databases.give_back(name)
    other, second = take()

    with pytest.raises(psycopg.OperationalError):
        connection.execute(b"SELECT 1")
    assert asked(second, WHICH) == which
    assert other != name
    assert asked(second, "SELECT id FROM customers") == []
    assert asked(second, BORN) == [1]
    second.close()
    databases.give_back(other)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE customers ADD COLUMN more integer",
        "CREATE TABLE more (id integer)",
        "ALTER TABLE postings DISABLE TRIGGER ALL",
        "ALTER TABLE customers ALTER COLUMN spent DROP NOT NULL",
        "ANALYZE customers",
    ],
)
def test_a_database_that_is_not_as_it_was_is_given_to_nobody(databases, take, change):
    name, connection = take()
    which = asked(connection, WHICH)
    asked(connection, BORN)
    connection.execute(change.encode())
    connection.close()
    databases.give_back(name)
    other, second = take()

    assert asked(second, WHICH) != which
    second.close()
    databases.give_back(other)
