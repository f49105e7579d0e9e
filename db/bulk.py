"""Writing many rows with one statement, whatever their number.

PostgreSQL gets one INSERT or UPDATE over `unnest` of arrays, a constant text that stays prepared; SQLite gets one
`executemany`. Both see the same call. Rows are tuples in the order of the named columns.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from db.engine import dump_json
from db.tables import Moment

Row = tuple[Any, ...]


class among(sa.sql.expression.ColumnElement[bool]):
    """`column = any of values`, with one bound parameter, so that the statement is the same for any number."""

    inherit_cache = True
    type = sa.Boolean()
    _traverse_internals = [  # noqa: RUF012
        ("column", sa.sql.visitors.InternalTraversal.dp_clauseelement),
        ("values", sa.sql.visitors.InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, column: sa.ColumnElement[Any], values: Iterable[Any]) -> None:
        self.column = column
        self.values: sa.BindParameter[Any] = sa.bindparam(
            None, list(values), type_=_ListOf(isinstance(column.type, sa.Integer)), unique=True
        )


class _ListOf(sa.types.TypeDecorator[list[Any]]):
    """A list as one parameter: the text of an array on PostgreSQL, JSON text on SQLite."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, integers: bool) -> None:
        super().__init__()
        self.integers = integers

    def process_bind_param(self, value: list[Any] | None, dialect: Dialect) -> str:
        return array_literal(value or ()) if dialect.name == "postgresql" else dump_json(value)


@compiles(among, "postgresql")
def _among_postgresql(element: among, compiler: SQLCompiler, **options: Any) -> str:
    items = "bigint" if element.values.type.integers else "text"  # type: ignore[attr-defined]
    values = compiler.process(element.values, **options)
    # As a subquery the text is read once. Without, where it is no index condition, it is read again for each row.
    return f"{compiler.process(element.column, **options)} = ANY((SELECT CAST({values} AS {items}[]))::{items}[])"


@compiles(among, "sqlite")
def _among_sqlite(element: among, compiler: SQLCompiler, **options: Any) -> str:
    values = compiler.process(element.values, **options)
    return f"{compiler.process(element.column, **options)} IN (SELECT value FROM json_each({values}))"


def insert(
    connection: Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    on_conflict: str = "",
    returning: str = "",
) -> list[Row]:
    """Insert the rows; with `returning`, the named column of those that were really inserted.

    Args:
      on_conflict: text after ON CONFLICT, such as "DO NOTHING"; the same words work in both databases.
      returning: one column name.
    """
    if not rows:
        return []
    text = _insert_text(connection.dialect.name, table, tuple(columns), on_conflict, returning)
    if connection.dialect.name == "postgresql":
        if returning:
            return [tuple(row) for row in connection.exec_driver_sql(text, _arrays(table, columns, rows)).all()]
        _write(connection, text, _arrays(table, columns, rows))
        return []
    values = _bound(connection, table, columns, rows)
    if returning:
        return [tuple(row) for row_values in values for row in connection.exec_driver_sql(text, tuple(row_values))]
    connection.exec_driver_sql(text, [tuple(row) for row in values])
    return []


def insert_new(connection: Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[Row]) -> int:
    """Insert the rows that are not there yet; how many were not."""
    if not rows:
        return 0
    text = _insert_text(connection.dialect.name, table, tuple(columns), "DO NOTHING", "")
    if connection.dialect.name == "postgresql":
        return connection.exec_driver_sql(text, _arrays(table, columns, rows)).rowcount
    values = _bound(connection, table, columns, rows)
    return connection.exec_driver_sql(text, [tuple(row) for row in values]).rowcount


def update(
    connection: Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    where: str = "",
    also: str = "",
) -> None:
    """Update rows by their first column, which names the key; the other columns are set.

    Args:
      where: a further condition on the stored row, such as "t.state = 'sending'" (the table is called t).
      also: what else is set, the same for every row, such as "tries = 0".
    """
    if not rows:
        return
    text = _update_text(connection.dialect.name, table, tuple(columns), where, also)
    if connection.dialect.name == "postgresql":
        _write(connection, text, _arrays(table, columns, rows))
        return
    values = _bound(connection, table, columns, rows)
    connection.exec_driver_sql(text, [(*row[1:], row[0]) for row in values])


@contextmanager
def at_once(connection: Connection) -> Iterator[None]:
    """Let PostgreSQL do all writes of this block as one statement when it ends: one way there and back.

    For writes that do not build on each other: each sees the rows as they were before the block, and no row may be
    written twice. What returns something is done at once as ever; on SQLite so is everything.
    """
    if connection.dialect.name != "postgresql":
        yield
        return
    gathered: list[tuple[str, Row]] = []
    connection.info[_GATHERED] = gathered
    try:
        yield
    finally:
        del connection.info[_GATHERED]
    if gathered:
        texts = [text for text, _ in gathered]
        *first, last = texts
        heads = ", ".join(f"w{n} AS ({text})" for n, text in enumerate(first))
        connection.exec_driver_sql(
            f"WITH {heads} {last}" if heads else last, tuple(value for _, values in gathered for value in values)
        )


_GATHERED = "afterglow gathered"


def _write(connection: Connection, text: str, values: Row) -> None:
    gathered = connection.info.get(_GATHERED)
    if gathered is None:
        connection.exec_driver_sql(text, values)
    else:
        gathered.append((text, values))


def next_ids(connection: Connection, table: sa.Table, count: int) -> list[int]:
    """Take `count` fresh ids, so that rows which refer to each other can be written without reading ids back."""
    if not count:
        return []
    if connection.dialect.name == "postgresql":
        # OFFSET 0 keeps the name of the sequence from being looked up again for each id.
        text = (
            "SELECT nextval(name) FROM (SELECT pg_get_serial_sequence(%s, 'id')::regclass AS name OFFSET 0) AS ours, "
            "generate_series(1, %s)"
        )
        return [row[0] for row in connection.exec_driver_sql(text, (table.name, count))]
    # The write lock is held and rows with the highest ids are never deleted, so no other can take these.
    highest = connection.exec_driver_sql(f"SELECT coalesce(max(id), 0) FROM {table.name}").scalar_one()
    return list(range(highest + 1, highest + 1 + count))


@lru_cache(maxsize=256)
def _insert_text(dialect: str, table: sa.Table, columns: tuple[str, ...], on_conflict: str, returning: str) -> str:
    names = ", ".join(columns)
    tail = (f" ON CONFLICT {on_conflict}" if on_conflict else "") + (f" RETURNING {returning}" if returning else "")
    if dialect == "postgresql":
        picked = ", ".join(f"{name}::jsonb" if _is_json(table.c[name]) else name for name in columns)
        arrays = ", ".join(f"%s::{_array_type(table.c[name])}[]" for name in columns)
        return f"INSERT INTO {table.name} ({names}) SELECT {picked} FROM unnest({arrays}) AS v({names}){tail}"
    marks = ", ".join("?" for _ in columns)
    return f"INSERT INTO {table.name} ({names}) VALUES ({marks}){tail}"


@lru_cache(maxsize=256)
def _update_text(dialect: str, table: sa.Table, columns: tuple[str, ...], where: str, also: str) -> str:
    key, *rest = columns
    condition = f" AND {where}" if where else ""
    further = [also] if also else []
    if dialect == "postgresql":
        sets = [f"{name} = v.{name}" + ("::jsonb" if _is_json(table.c[name]) else "") for name in rest]
        arrays = ", ".join(f"%s::{_array_type(table.c[name])}[]" for name in columns)
        values = f"unnest({arrays}) AS v({', '.join(columns)})"
        changes = ", ".join(sets + further)
        return f"UPDATE {table.name} AS t SET {changes} FROM {values} WHERE t.{key} = v.{key}{condition}"
    changes = ", ".join([f"{name} = ?" for name in rest] + further)
    return f"UPDATE {table.name} AS t SET {changes} WHERE t.{key} = ?{condition}"


def _is_json(column: sa.Column[Any]) -> bool:
    return isinstance(column.type, sa.JSON)


def _array_type(column: sa.Column[Any]) -> str:
    if _is_json(column):
        return "text"
    return column.type.compile(postgresql.dialect())  # type: ignore[no-untyped-call]


def _arrays(table: sa.Table, columns: Sequence[str], rows: Sequence[Row]) -> Row:
    """One array literal per column. The driver's own lists cost more than all the rest of a batch."""
    return tuple(
        array_literal(column, _is_json(table.c[name]))
        for name, column in zip(columns, zip(*rows, strict=True), strict=True)
    )


def array_literal(values: Iterable[Any], as_json: bool = False) -> str:
    """The text of a PostgreSQL array: numbers bare, all else quoted, None as NULL (PostgreSQL manual, 8.15.2)."""
    return "{" + ",".join(["NULL" if value is None else _item(value, as_json) for value in values]) + "}"


@lru_cache(maxsize=4096)
def _quoted_moment(value: datetime) -> str:
    """An instant as an item of an array; a batch has few different ones."""
    return f'"{value.isoformat()}"'


def _item(value: Any, as_json: bool) -> str:
    if as_json:
        text = dump_json(value)
    elif type(value) is int:
        return str(value)
    elif type(value) is str:
        text = value
    elif isinstance(value, datetime):
        return _quoted_moment(value)
    elif isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    else:
        text = str(value)
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if '"' in text:
        text = text.replace('"', '\\"')
    return f'"{text}"'


def _bound(connection: Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[Row]) -> Sequence[Any]:
    """The rows with each value in the form that the driver takes."""
    converters = [
        (at, convert)
        for at, name in enumerate(columns)
        if (convert := _converter(connection.dialect, table.c[name])) is not None
    ]
    if not converters:
        return rows
    bound = [list(row) for row in rows]
    for at, convert in converters:
        for row in bound:
            if row[at] is not None:
                row[at] = convert(row[at])
    return bound


def _converter(dialect: Dialect, column: sa.Column[Any]) -> Callable[[Any], Any] | None:
    if _is_json(column):
        return dump_json
    kind = column.type
    if isinstance(kind, Moment) and dialect.name == "sqlite":
        return lambda moment: kind.process_bind_param(moment, dialect)
    return None
