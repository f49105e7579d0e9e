"""Connections: nothing is lost among threads, whoever waits is served in turn, and trouble is said in one sentence."""

import threading
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from db import bulk
from db.engine import Database, DatabaseUnavailableError, FairLock, dump_json, load_json
from db.tables import customers, stage_entries, suppressions
from tests.driver import START


def with_a_customer(database: Database) -> None:
    with database.writing() as connection:
        bulk.insert(connection, customers, ("id", "orders", "spent", "since"), [(1, 0, 0, START)])


def orders(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute(sa.select(customers.c.orders)).scalar_one())


def test_eight_hundred_increments_by_eight_threads_lose_nothing(database_url):
    # Two of them on one file, as where `afterglow event` writes beside a run: the lock in a process is not enough.
    databases = [Database(database_url, durable=False) for _ in range(2)]
    with_a_customer(databases[0])
    failed: list[Exception] = []

    def count(database: Database) -> None:
        try:
            for _ in range(100):
                with database.writing() as connection:
                    # Read, then write, as work does: only a lock taken at the beginning makes this safe.
                    known = connection.execute(sa.select(customers.c.orders).with_for_update()).scalar_one()
                    connection.execute(customers.update().values(orders=known + 1))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=count, args=(database,)) for database in databases * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert orders(databases[0]) == 800
    for database in databases:
        database.close()


def test_waiters_are_served_in_the_order_in_which_they_came():
    lock, served = FairLock(), []
    lock.acquire()

    def wait(number: int) -> None:
        lock.acquire()
        served.append(number)
        lock.release()

    threads = []
    for number in range(20):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        while len(lock._waiters) <= number:
            threads[-1].join(0.001)
    lock.release()
    for thread in threads:
        thread.join()

    assert served == list(range(20))
    lock.acquire()  # free again
    lock.release()


def test_what_raises_is_rolled_back_and_the_next_may_write(database_url):
    database = Database(database_url)
    with_a_customer(database)

    def fails() -> None:
        with database.writing() as connection:
            connection.execute(customers.update().values(orders=5))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert orders(database) == 0

    with database.writing() as connection:
        connection.execute(customers.update().values(orders=6))
    assert orders(database) == 6
    database.close()


def test_readers_do_not_wait_for_a_writer(database_url):
    database = Database(database_url)
    with_a_customer(database)

    with database.writing() as connection:
        connection.execute(customers.update().values(orders=5))
        assert orders(database) == 0
    assert orders(database) == 5
    database.close()


def test_foreign_keys_and_checks_hold(database_url):
    database = Database(database_url)
    with_a_customer(database)

    for table, columns, row in (
        (stage_entries, ("event_id", "stage", "customer_id", "entered_at"), (9, "purchase", 9, START)),
        (suppressions, ("channel", "digest", "reason", "covers", "at"), ("email", "x", "bounced", "nothing", START)),
    ):
        with pytest.raises(sa.exc.IntegrityError), database.writing() as connection:
            bulk.insert(connection, table, columns, [row])
    database.close()


def test_an_error_does_not_tell_its_parameters(database_url):
    database = Database(database_url)

    with pytest.raises(sa.exc.DBAPIError) as raised, database.writing() as connection:
        connection.execute(sa.text("SELECT nonsense FROM customers WHERE stage = :who"), {"who": "sam@example.com"})

    assert "sam@example.com" not in str(raised.value)
    database.close()


@pytest.mark.parametrize(
    "url",
    ["postgresql+psycopg://me:hush@127.0.0.1:1/afterglow", "sqlite:////nowhere/at/all.db"],
)
def test_a_database_that_cannot_be_reached_is_said_in_one_sentence_without_the_password(url):
    database = Database(url)

    with pytest.raises(DatabaseUnavailableError, match="cannot be reached") as raised:
        database.check()

    assert "AFTERGLOW_DATABASE_URL" in str(raised.value)
    assert "hush" not in str(raised.value)
    assert "\n" not in str(raised.value)
    database.close()


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=4))
def test_amounts_survive_json_exactly(amount):
    kept = load_json(dump_json({"amount": amount}))["amount"]

    assert Decimal(str(kept)) == amount, "expressions take a float for the decimal that it is written as"
