"""What one of all processes does now and then: whoever finds that it is time does it, and the others do not."""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.engine import Database
from db.tables import rounds


def take(database: Database, name: str, now: datetime, every: timedelta) -> bool:
    """Whether it is time, and nobody else does it. Whoever gets True has it for `every`, also where it then dies."""
    with database.reading() as connection:
        at = last(connection, name)
    if at is not None and now - at < every:
        return False
    with database.writing() as connection:
        taken = connection.execute(_TAKE, {"name": name, "now": now, "before": now - every}).first()
    return taken is not None


def last(connection: Connection, name: str) -> datetime | None:
    """When it was taken last; None for never."""
    return connection.execute(sa.select(rounds.c.at).where(rounds.c.name == name)).scalar()


def let_go(database: Database, name: str) -> None:
    """Whoever took it could not do it: it is time again, for anybody."""
    with database.writing() as connection:
        connection.execute(rounds.delete().where(rounds.c.name == name))


def upto(connection: Connection, name: str) -> int:
    """How far it came; 0 before the first time."""
    return connection.execute(sa.select(rounds.c.upto).where(rounds.c.name == name)).scalar() or 0


def came_to(connection: Connection, name: str, upto: int) -> None:
    """Remember how far it came."""
    connection.execute(rounds.update().where(rounds.c.name == name).values(upto=upto))


_TAKE = sa.text(
    "INSERT INTO rounds (name, at) VALUES (:name, :now) "
    "ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE rounds.at <= :before RETURNING name"
).bindparams(
    sa.bindparam("now", type_=rounds.c.at.type),
    sa.bindparam("before", type_=rounds.c.at.type),
)
