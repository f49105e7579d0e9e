"""Balances that customers bring along; variants of rewards.

Revision ID: 0015
Revises: 0011
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0011"
branch_labels = None
depends_on = None

_KINDS = ("earn", "bonus", "reward", "adjust", "redeem", "reserve", "settle", "void", "return", "expire", "clawback", "transfer")  # fmt: skip  # noqa: E501


def upgrade() -> None:
    _knows("ledger_transactions", "kind", _KINDS, ("opening", *_KINDS))
    op.add_column("referrals", sa.Column("variant", sa.Text()))


def downgrade() -> None:
    op.drop_column("referrals", "variant")
    _knows("ledger_transactions", "kind", ("opening", *_KINDS), _KINDS)


def _knows(table: str, column: str, before: Sequence[str], after: Sequence[str]) -> None:
    """Hold a column to another list of words."""
    name, old, new = f"ck_{table}_{column}_is_known", _among(column, before), _among(column, after)
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        op.drop_constraint(op.f(name), table, type_="check")
        op.create_check_constraint(op.f(name), table, new)
        return
    # Making the table anew would drop what guards it. Where only a CHECK changes, the text of the table may be replaced
    # (SQLite, "ALTER TABLE", section 7: the simpler procedure); another version makes every connection read it again.
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = connection.execute(
        sa.text("UPDATE sqlite_schema SET sql = replace(sql, :old, :new) WHERE name = :table AND instr(sql, :old) > 0"),
        {"old": f"CHECK ({old})", "new": f"CHECK ({new})", "table": table},
    ).rowcount
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")
    assert changed == 1, f"{table} has no constraint {name} as expected"


def _among(column: str, words: Sequence[str]) -> str:
    listed = ", ".join(f"'{word}'" for word in words)
    return f"{column} IN ({listed})"
