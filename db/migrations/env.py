"""Runs the migrations: under a lock, with timeouts, each in its own transaction."""

import sqlalchemy as sa
from alembic import context

from db.tables import metadata

#: Any constant: two migrators take the same one.
LOCK_KEY = 0x_AF7E_96_01


def _migrate() -> None:
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _run(connection)
        return
    url = context.config.attributes.get("url") or context.config.get_main_option("sqlalchemy.url")
    if not url:
        from db.settings import load_settings

        url = load_settings().database_url
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as opened:
        _run(opened)
    engine.dispose()


def _run(connection: sa.Connection) -> None:
    postgresql = connection.dialect.name == "postgresql"
    if postgresql:
        connection.execute(sa.text("SET lock_timeout = '60s'; SET statement_timeout = '600s'"))
        # A session lock, so that it covers each migration; then short waits: a waiting ALTER blocks all behind it.
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
        connection.execute(sa.text("SET lock_timeout = '4s'"))
        connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        transaction_per_migration=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    if postgresql:
        connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK_KEY})
        connection.commit()


_migrate()
