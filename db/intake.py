"""Into the inbox: the one statement by which anything from outside comes in, whoever brought it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk
from db.engine import Database
from db.tables import InboxState, inbox

_COLUMNS = ("source", "key", "digest", "state", "tries", "received_at", "headers", "body")


class Received(NamedTuple):
    """One element of a request, as it came. (A tuple because thousands are made each second.)"""

    source: str
    key: str
    #: SHA-256 of what makes two deliveries the same: of the body, unless the caller knows better.
    digest: bytes
    #: Only the headers that mapping may need, by lower-cased name.
    headers: Mapping[str, str]
    body: bytes


def receive(connection: Connection, rows: Sequence[Received], now: datetime) -> None:
    """Write rows into the inbox; those that are in it already, under the same key and digest, are left alone."""
    bulk.insert(connection, inbox, _COLUMNS, [_row(row, now) for row in rows], on_conflict="DO NOTHING")


def receive_at_once(database: Database, rows: Sequence[Received], now: datetime) -> None:
    """Write rows into the inbox in a transaction of their own.

    One statement commits by itself, so PostgreSQL is asked once instead of three times.
    """
    if database.is_sqlite:
        with database.writing() as connection:
            receive(connection, rows, now)
    else:
        with database.engine.connect() as connection:
            receive(connection.execution_options(isolation_level="AUTOCOMMIT"), rows, now)


def receive_one(connection: Connection, row: Received, now: datetime) -> int | None:
    """Write one row into the inbox; its number, or None where something came in under its key before."""
    if is_received(connection, row.source, row.key):
        return None
    written = bulk.insert(connection, inbox, _COLUMNS, [_row(row, now)], on_conflict="DO NOTHING", returning="id")
    return int(written[0][0]) if written else None


def receive_once(connection: Connection, row: Received, now: datetime) -> bool:
    """Write one row into the inbox. False where it was in it already."""
    written = bulk.insert(connection, inbox, _COLUMNS, [_row(row, now)], on_conflict="DO NOTHING", returning="id")
    return bool(written)


def is_received(connection: Connection, source: str, key: str) -> bool:
    """Whether something came in under this key."""
    query = sa.select(inbox.c.id).where(inbox.c.source == source, inbox.c.key == key).limit(1)
    return connection.execute(query).first() is not None


def _row(row: Received, now: datetime) -> bulk.Row:
    return (row.source, row.key, row.digest, InboxState.RECEIVED.value, 0, now, row.headers, row.body)
