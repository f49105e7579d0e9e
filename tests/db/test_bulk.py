"""Many rows by one statement: the same call gives the same rows on both databases, whatever stands in them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db import bulk
from db.engine import Database
from db.tables import accounts, customers, decisions, inbox, profiles
from tests.examples import examples

NOW = datetime(2026, 3, 2, 8, 0, 0, 123456, tzinfo=UTC)
CUSTOMER = ("id", "stage", "orders", "spent", "since")


@pytest.fixture
def database(database_url):
    opened = Database(database_url, durable=False)
    yield opened
    opened.close()


def customers_of(database: Database) -> list[tuple]:
    query = sa.select(*(customers.c[name] for name in CUSTOMER)).order_by(customers.c.id)
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(query)]


@pytest.mark.parametrize("number", [0, 1, 2, 700])
def test_rows_of_any_number_are_inserted_and_read_as_they_were(database, number):
    rows = [
        (n, None if n % 2 else "purchase", n, 10**12 + n, NOW + timedelta(microseconds=n)) for n in range(1, number + 1)
    ]
    with database.writing() as connection:
        assert bulk.insert(connection, customers, CUSTOMER, rows) == []

    assert customers_of(database) == rows


def test_only_rows_really_inserted_are_returned(database):
    columns = ("id", "source", "external_id", "name")
    with database.writing() as connection:
        bulk.insert(connection, accounts, columns, [(1, "api", "a", "A")])
        rows = [(2, "api", "a", "again"), (3, "api", "b", "B"), (4, "api", "b", "twice")]
        taken = bulk.insert(connection, accounts, columns, rows, on_conflict="DO NOTHING", returning="id")

    assert taken == [(3,)]


def test_an_update_changes_the_rows_it_names_and_no_others(database):
    with database.writing() as connection:
        bulk.insert(connection, customers, CUSTOMER, [(n, "purchase", n, 0, NOW) for n in range(1, 5)])
        changes = [(1, None, 10), (2, "loyalty", 20), (9, "nobody", 90)]
        bulk.update(connection, customers, ("id", "stage", "orders"), changes)
        bulk.update(connection, customers, ("id", "orders"), [])
        bulk.update(connection, customers, ("id", "orders"), [(3, 30), (4, 40)], where="t.orders = 4")

    found = [(id_, stage, orders) for id_, stage, orders, _, _ in customers_of(database)]
    assert found == [(1, None, 10), (2, "loyalty", 20), (3, "purchase", 3), (4, "purchase", 40)]


def test_an_update_can_set_the_same_for_every_row_besides(database):
    with database.writing() as connection:
        bulk.insert(connection, customers, CUSTOMER, [(n, "purchase", n, 0, NOW) for n in (1, 2)])
        bulk.update(connection, customers, ("id", "stage"), [(1, "loyalty")], also="orders = t.orders + 10")

    found = [(id_, stage, orders) for id_, stage, orders, _, _ in customers_of(database)]
    assert found == [(1, "loyalty", 11), (2, "purchase", 2)]


def test_writes_at_once_are_one_statement_on_postgresql_and_the_same_everywhere(database):
    sent: list[str] = []
    with database.writing() as connection:
        bulk.insert(connection, customers, CUSTOMER, [(n, "purchase", n, 0, NOW) for n in (1, 2)])
        sa.event.listen(connection, "before_cursor_execute", lambda *given: sent.append(given[2]))
        with bulk.at_once(connection):
            bulk.insert(connection, customers, CUSTOMER, [(3, None, 3, 0, NOW)])
            bulk.update(connection, customers, ("id", "orders"), [(1, 10)])
            bulk.update(connection, customers, ("id", "stage"), [])
        with bulk.at_once(connection):
            bulk.update(connection, customers, ("id", "orders"), [(2, 20)])
        with bulk.at_once(connection):
            pass

    assert len(sent) == (3 if database.is_sqlite else 2)
    assert [row[2] for row in customers_of(database)] == [10, 20, 3]


def test_writes_at_once_that_fail_leave_nothing_behind(database):
    def twice() -> None:
        with database.writing() as connection, bulk.at_once(connection):
            bulk.insert(connection, customers, CUSTOMER, [(1, "purchase", 1, 0, NOW)])
            bulk.insert(connection, customers, CUSTOMER, [(1, "purchase", 2, 0, NOW)])

    with pytest.raises(sa.exc.IntegrityError):
        twice()
    with database.writing() as connection:  # the connection gathers nothing any more
        bulk.insert(connection, customers, CUSTOMER, [(5, "purchase", 5, 0, NOW)])
    assert [row[0] for row in customers_of(database)] == [5]


def test_amounts_bytes_and_nothing_survive(database):
    body, facts = (
        b"\x00\xff'\"\\",
        {"total": Decimal("12.30"), "text": 'a"b\\c{}', "none": None, "list": [1, "é", "☕"]},
    )
    with database.writing() as connection:
        columns = ("source", "key", "digest", "state", "tries", "received_at", "headers", "body", "reason")
        bulk.insert(connection, inbox, columns, [("api", "k", body, "received", 0, NOW, facts, body, None)])
        stored = connection.execute(sa.select(inbox.c.digest, inbox.c.body, inbox.c.headers, inbox.c.reason)).one()
        again = ("customer_id", "enrollment_id", "at", "verb", "step", "detail")
        bulk.insert(connection, customers, CUSTOMER, [(1, None, 0, 0, NOW)])
        bulk.insert(connection, decisions, again, [(1, 1, NOW, "waits", None, None)])
        is_null = connection.execute(sa.select(decisions.c.detail.is_(None))).scalar()

    assert tuple(stored) == (body, body, {**facts, "total": 12.3}, None)
    assert is_null, "no detail is NULL, not the word null"


# Everything that a database keeps as text: no NUL and no half of a pair.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30) | st.sampled_from(
    ["", "NULL", "null", "{}", '"', "\\", '\\"', "{a,b}", ",", " ", "\n", "'", "%s", "%%", ":x", "$1", "?"]
)


@given(names=st.lists(texts, min_size=1, max_size=20, unique=True))
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_kept_and_found_again(database, names):
    with database.engine.connect() as connection, connection.begin() as transaction:
        bulk.insert(connection, accounts, ("source", "external_id", "name"), [("s", name, name) for name in names])
        bulk.insert(connection, customers, CUSTOMER, [(1, names[0], 0, 0, NOW)])
        bulk.insert(connection, profiles, ("customer_id", "attributes", "updated_at"), [(1, {"n": names}, NOW)])
        bulk.update(connection, customers, ("id", "stage"), [(1, names[-1])])
        found = connection.execute(
            sa.select(accounts.c.external_id, accounts.c.name).where(bulk.among(accounts.c.external_id, names[:10]))
        ).all()
        kept = connection.execute(sa.select(profiles.c.attributes)).scalar()
        stage = connection.execute(sa.select(customers.c.stage)).scalar()
        transaction.rollback()

    assert {tuple(row) for row in found} == {(name, name) for name in names[:10]}
    assert kept == {"n": names}
    assert stage == names[-1]


def test_among_is_one_statement_for_any_number_and_none_matches_nothing(database):
    with database.writing() as connection:
        bulk.insert(connection, customers, CUSTOMER, [(n, "purchase", n, 0, NOW) for n in range(1, 9)])

        def among(*ids: int) -> list[int]:
            query = sa.select(customers.c.id).where(bulk.among(customers.c.id, ids)).order_by(customers.c.id)
            return list(connection.execute(query).scalars())

        assert among() == []
        assert among(3, 3, 99) == [3]
        assert among(*range(5, 5_000)) == [5, 6, 7, 8]
        not_these = sa.select(customers.c.id).where(sa.not_(bulk.among(customers.c.id, [1, 2, 3])))
        assert sorted(connection.execute(not_these).scalars()) == [4, 5, 6, 7, 8]
        texts = {str(sa.select(customers.c.id).where(bulk.among(customers.c.id, ids)).compile(connection)) for ids in ([], [1], [1, 2])}  # fmt: skip  # noqa: E501
        assert len(texts) == 1


def test_ids_that_were_taken_are_taken_by_nobody_else(database):
    with database.writing() as connection:
        first = bulk.next_ids(connection, customers, 3)
        bulk.insert(connection, customers, CUSTOMER, [(id_, None, 0, 0, NOW) for id_ in first])
        second = bulk.next_ids(connection, customers, 2)

    assert bulk.next_ids(connection, customers, 0) == []
    assert len({*first, *second}) == 5
