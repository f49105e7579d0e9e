"""The servers and fixtures on which other tests lean."""

import redis
import sqlalchemy as sa
from dramatiq.brokers.redis import RedisBroker

from tests.servers import postgres


def test_a_database_of_a_test_is_migrated_and_empty(database_url):
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        tables = sa.inspect(connection).get_table_names()
        customers = connection.scalar(sa.text("SELECT count(*) FROM customers"))
        version = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    engine.dispose()

    assert {"customers", "events", "enrollments", "touchpoints"} <= set(tables)
    assert customers == 0
    assert version


def test_tests_do_not_see_each_others_rows(postgres_server, postgres_url):
    copied = postgres_url.split("/")[-1].split("?")[0]

    assert copied.startswith("afterglow_test_")
    assert copied != sa.make_url(postgres_server.url).database


def test_dramatiq_takes_the_url_of_the_test_redis(redis_url):
    broker = RedisBroker(url=redis_url)
    broker.client.set("left over", 1)

    assert broker.client.get("left over") == b"1"
    broker.close()
    broker.client.close()


def test_redis_is_empty_at_the_start_of_a_test(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_committed_rows_survive_an_immediate_stop_of_postgresql():
    with postgres(own=True) as server:
        server.execute("CREATE TABLE kept AS SELECT 1 AS one")

        server.stop_immediate()
        server.start()

        server.execute("SELECT one FROM kept")
        assert "not properly shut down" in server.log
