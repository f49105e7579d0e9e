"""Files in force: one pointer for every process, versions by content, and nothing is applied twice."""

import threading

import pytest
import sqlalchemy as sa

from db import catalog
from db.catalog import CatalogCache, NothingAppliedError
from db.engine import Database
from db.tables import documents, releases
from tests.driver import START
from tests.small_shop import documents as shop_documents
from tests.small_shop import flow

ONE = flow("one", [{"send": "email/receipt"}])
OTHER = flow("one", [{"send": "email/note"}])


@pytest.fixture
def database(database_url):
    opened = Database(database_url, durable=False)
    yield opened
    opened.close()


def apply(database: Database, *flows: str) -> bool:
    with database.writing() as connection:
        return catalog.apply(connection, shop_documents(*flows), now=START, by="a test")


def count(database: Database, table: sa.Table) -> int:
    with database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_before_the_first_apply_nothing_can_be_read(database):
    with database.reading() as connection, pytest.raises(NothingAppliedError, match="afterglow apply"):
        CatalogCache().current(connection)


def test_the_same_files_are_applied_once_and_versions_are_kept_by_content(database):
    assert apply(database, ONE)
    before = count(database, documents)
    assert not apply(database, ONE)
    assert apply(database, OTHER)
    assert count(database, documents) == before + 1, "only the flow changed"
    assert apply(database, ONE), "back to what it was is a release again"

    assert count(database, documents) == before + 1
    assert count(database, releases) == 3


def test_every_process_sees_a_release_at_once_and_still_knows_the_version_a_run_began_in(database):
    cache = CatalogCache()
    apply(database, ONE)
    with database.reading() as connection:
        first = cache.current(connection)
        assert cache.current(connection) is first
    apply(database, OTHER)

    with database.reading() as connection:
        second = cache.current(connection)
        began_in = cache.flow(connection, first.flow_id("one"))

    assert second.id > first.id
    assert second.flow_id("one") != first.flow_id("one")
    assert second.mail_id("email/receipt") == first.mail_id("email/receipt")
    assert (began_in.first, second.catalog.flows["one"].first) == ("receipt", "note")


def test_a_file_taken_away_is_no_longer_in_force(database):
    apply(database, ONE)
    apply(database)

    with database.reading() as connection:
        assert CatalogCache().current(connection).catalog.flows == {}


def test_many_that_apply_at_once_make_one_release_of_what_is_the_same(database):
    done: list[bool] = []
    threads = [threading.Thread(target=lambda: done.append(apply(database, ONE))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(done) == [False] * 5 + [True]
    assert count(database, releases) == 1


def test_two_that_apply_different_files_at_once_leave_one_whole_release_in_force(database):
    threads = [threading.Thread(target=apply, args=(database, each)) for each in (ONE, OTHER) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with database.reading() as connection:
        release = CatalogCache().current(connection)
        newest = connection.execute(sa.select(sa.func.max(releases.c.id))).scalar()
    assert release.id == newest
    assert release.catalog.flows["one"].first in ("receipt", "note")
