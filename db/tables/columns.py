"""What the tables are made of: types of columns, and columns and constraints that many have."""

import enum
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


MICROSECOND = timedelta(microseconds=1)


class Moment(sa.types.TypeDecorator[datetime]):
    """An instant. `timestamptz` on PostgreSQL; whole microseconds since 1970 on SQLite, which sort and compare."""

    impl = sa.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(sa.BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return (value - EPOCH) // MICROSECOND

    def result_processor(self, dialect: Dialect, coltype: Any) -> Callable[[Any], datetime | None] | None:
        """None where the driver gives instants; a bare function otherwise, since a batch reads thousands."""
        if dialect.name == "postgresql":
            return None
        return lambda value: None if value is None else EPOCH + timedelta(0, 0, value)


class Word(sa.types.TypeDecorator[str]):
    """A text of a short list of ours, such as a state.

    Compared with a constant it is written into the statement instead of being bound, because the plan of a statement
    with a parameter cannot use an index that holds only the rows of one state.
    """

    impl = sa.Text
    cache_ok = True

    class Comparator(sa.types.TypeDecorator.Comparator[str]):
        """Turns words on the other side into constants."""

        def operate(self, op: Any, *other: Any, **options: Any) -> Any:
            return super().operate(op, *(_constant(one) for one in other), **options)

    comparator_factory = Comparator


def _constant(value: Any) -> Any:
    if isinstance(value, str):
        if not value.replace("_", "").isalpha():
            raise ValueError(f"{value!r} is not a word")
        return sa.literal_column(f"'{value}'")
    if isinstance(value, list | tuple | set | frozenset):
        return [_constant(one) for one in value]
    return value


Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


Json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class State(enum.StrEnum):
    """A state is a word in a text column, held to its list by a CHECK."""


def one_of(column: str, states: type[State]) -> sa.CheckConstraint:
    words = ", ".join(f"'{state.value}'" for state in states)
    return sa.CheckConstraint(f"{column} IN ({words})", name=f"{column}_is_known")


def customer(**options: Any) -> sa.Column[int]:
    return sa.Column("customer_id", Id, sa.ForeignKey("customers.id"), **options)


def suspects(table: str, where: str) -> sa.Index:
    """Rows whose batch died before: few, and found without a look at the others."""
    condition = sa.text(where)
    return sa.Index(f"ix_{table}_suspects", "id", postgresql_where=condition, sqlite_where=condition)
