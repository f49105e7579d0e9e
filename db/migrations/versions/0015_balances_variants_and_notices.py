"""Balances that customers bring along; variants of rewards; webhooks to the shop about rewards.

Revision ID: 0015
Revises: 0014
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_KINDS = ("earn", "bonus", "reward", "adjust", "redeem", "reserve", "settle", "void", "return", "expire", "clawback", "transfer")  # fmt: skip  # noqa: E501
_REFUSAL = "the ledger is only added to: correct an entry by another one"
#: While somebody is forgotten, in the same transaction, entries may lose what leads to them.
_OPEN = "SELECT 1 FROM ledger_forgettings WHERE done_at IS NULL"
#: SQLite cannot look at an INSERT of postings as a whole. It can where an account moves on by them: each new entry's
#: transaction must sum to zero by then, or the account does not move, and neither does anything else of the batch.
_MOVES_BALANCED = """
    CREATE TRIGGER ledger_accounts_move_balanced BEFORE UPDATE OF balance, entries ON ledger_accounts
    WHEN EXISTS (
        SELECT 1 FROM postings AS mine WHERE mine.account_id = NEW.id AND mine.entry > OLD.entries
        AND (SELECT sum(amount) FROM postings WHERE transaction_id = mine.transaction_id) <> 0
    ) OR NEW.balance - OLD.balance <> (
        SELECT coalesce(sum(amount), 0) FROM postings WHERE account_id = NEW.id AND entry > OLD.entries
    )
    BEGIN SELECT RAISE(ABORT, 'the postings of a transaction do not sum to zero'); END
"""
_ASSETS = ("points", "credit", "coupon")


def upgrade() -> None:
    _knows("ledger_transactions", "kind", _KINDS, ("opening", *_KINDS))
    op.add_column("ledger_accounts", sa.Column("nothings", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("ledger_accounts", sa.Column("nothings_chain", sa.LargeBinary()))
    op.add_column("referrals", sa.Column("variant", sa.Text()))
    op.create_table(
        "ledger_forgettings",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("transactions", sa.Integer(), nullable=False),
        sa.Column("done_at", Moment),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_ledger_forgettings_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_forgettings")),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(_MOVES_BALANCED)
        _refuse_on_sqlite(f"WHEN NOT EXISTS ({_OPEN})")
    else:
        _refuse_on_postgresql(
            "IF TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('ledger_transactions', 'postings') "
            f"AND EXISTS ({_OPEN}) THEN RETURN NULL; END IF;"
        )
    _knows("referral_rewards", "asset", _ASSETS, (*_ASSETS, "webhook"))
    op.add_column("referral_rewards", sa.Column("webhook", sa.Text()))
    op.create_table(
        "reward_notices",
        sa.Column("id", ID, nullable=False),
        sa.Column("reward_id", ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", Moment),
        sa.Column("made_at", Moment, nullable=False),
        sa.Column("told_at", Moment),
        sa.Column("reason", sa.Text()),
        sa.CheckConstraint("kind IN ('given', 'taken_back')", name=op.f("ck_reward_notices_kind_is_known")),
        sa.CheckConstraint(
            "state IN ('waiting', 'told', 'failed', 'dropped')", name=op.f("ck_reward_notices_state_is_known")
        ),
        sa.CheckConstraint("(state = 'waiting') = (due_at IS NOT NULL)", name=op.f("ck_reward_notices_waiting_is_due")),
        sa.CheckConstraint("(state = 'told') = (told_at IS NOT NULL)", name=op.f("ck_reward_notices_told_has_a_time")),
        sa.ForeignKeyConstraint(["reward_id"], ["referral_rewards.id"], name=op.f("fk_reward_notices_reward_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reward_notices")),
        sa.UniqueConstraint("reward_id", "kind", name=op.f("uq_reward_notices_reward_id_kind")),
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index(
        "ix_reward_notices_due", "reward_notices", ["due_at"], postgresql_where=waiting, sqlite_where=waiting
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER ledger_accounts_move_balanced")
        _refuse_on_sqlite("")
    else:
        _refuse_on_postgresql("")
    op.drop_table("ledger_forgettings")
    op.drop_column("ledger_accounts", "nothings_chain")
    op.drop_column("ledger_accounts", "nothings")
    op.drop_table("reward_notices")
    op.drop_column("referral_rewards", "webhook")
    _knows("referral_rewards", "asset", (*_ASSETS, "webhook"), _ASSETS)
    op.drop_column("referrals", "variant")
    _knows("ledger_transactions", "kind", ("opening", *_KINDS), _KINDS)


def _refuse_on_postgresql(unless: str) -> None:
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION ledger_refuses() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            {unless}
            RAISE EXCEPTION '{_REFUSAL} (% of %)', TG_OP, TG_TABLE_NAME USING ERRCODE = 'check_violation';
        END $$
        """
    )


def _refuse_on_sqlite(when: str) -> None:
    for table in ("ledger_transactions", "postings"):
        op.execute(f"DROP TRIGGER {table}_are_fixed")
        op.execute(
            f"CREATE TRIGGER {table}_are_fixed BEFORE UPDATE ON {table} {when} "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL} ({table})'); END"
        )


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
