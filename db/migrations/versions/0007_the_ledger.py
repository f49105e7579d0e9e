"""The ledger: accounts of customers, transactions and their postings, lots and what was drawn from them, holds.

What was posted is never changed: triggers refuse it. On PostgreSQL a trigger looks at each INSERT of postings as a
whole and refuses a transaction of it that does not sum to zero; SQLite knows no such trigger, so there it is what
builds the transactions that promises it, and `afterglow ledger verify` that holds it to that.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

#: The columns of each table that may change; all other changes are refused, and so is deleting.
_CHANGING = {
    "ledger_transactions": (),
    "postings": (),
    "allocations": (),
    "lots": ("remaining",),
    "holds": ("settled", "state"),
    "ledger_accounts": ("balance", "entries", "chain"),
}
_REFUSAL = "the ledger is only added to: correct an entry by another one"


def upgrade() -> None:
    op.create_table(
        "ledger_accounts",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("programme", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "CASE role WHEN 'debt' THEN balance <= 0 ELSE balance >= 0 END",
            name=op.f("ck_ledger_accounts_keeps_to_its_side"),
        ),
        sa.CheckConstraint("role IN ('wallet', 'held', 'debt')", name=op.f("ck_ledger_accounts_role_is_known")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_ledger_accounts_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_accounts")),
        sa.UniqueConstraint(
            "customer_id",
            "programme",
            "asset",
            "role",
            name=op.f("uq_ledger_accounts_customer_id_programme_asset_role"),
        ),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_table(
        "ledger_transactions",
        sa.Column("id", ID, nullable=False),
        sa.Column("programme", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("event_at", Moment, nullable=False),
        sa.Column("recorded_at", Moment, nullable=False),
        sa.Column("event_id", ID, nullable=True),
        sa.Column("document_id", ID, nullable=True),
        sa.Column("rule", sa.Text(), nullable=True),
        sa.Column("inputs", JSON, nullable=False),
        sa.Column("desired", sa.BigInteger(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("progress", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("undoes", ID, nullable=True),
        sa.Column("author", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "kind <> 'adjust' OR (author IS NOT NULL AND reason IS NOT NULL)",
            name=op.f("ck_ledger_transactions_adjusts_for_a_reason"),
        ),
        sa.CheckConstraint(
            "kind IN ('earn', 'bonus', 'reward', 'adjust', 'redeem', 'reserve', 'settle', 'void', 'return', 'expire', "
            "'clawback', 'transfer')",
            name=op.f("ck_ledger_transactions_kind_is_known"),
        ),
        sa.CheckConstraint(
            "granted BETWEEN 0 AND desired", name=op.f("ck_ledger_transactions_grants_no_more_than_desired")
        ),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_ledger_transactions_customer_id")),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name=op.f("fk_ledger_transactions_document_id")),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_ledger_transactions_event_id")),
        sa.ForeignKeyConstraint(["undoes"], ["ledger_transactions.id"], name=op.f("fk_ledger_transactions_undoes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_transactions")),
        sa.UniqueConstraint(
            "key",
            "customer_id",
            "programme",
            "asset",
            "kind",
            name=op.f("uq_ledger_transactions_key_customer_id_programme_asset_kind"),
        ),
    )
    op.create_index(
        "ix_ledger_transactions_customer_id_event_at", "ledger_transactions", ["customer_id", "event_at"], unique=False
    )
    op.create_index(
        "ix_ledger_transactions_subject",
        "ledger_transactions",
        ["subject"],
        unique=False,
        postgresql_where=sa.text("subject IS NOT NULL"),
        sqlite_where=sa.text("subject IS NOT NULL"),
    )
    op.create_index(
        "ix_ledger_transactions_undoes",
        "ledger_transactions",
        ["undoes"],
        unique=False,
        postgresql_where=sa.text("undoes IS NOT NULL"),
        sqlite_where=sa.text("undoes IS NOT NULL"),
    )
    op.create_table(
        "holds",
        sa.Column("transaction_id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("expires_at", Moment, nullable=False),
        sa.CheckConstraint("(settled > 0) = (state = 'settled')", name=op.f("ck_holds_settles_what_is_settled")),
        sa.CheckConstraint("state IN ('held', 'settled', 'void', 'timed_out')", name=op.f("ck_holds_state_is_known")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_holds_holds_something")),
        sa.CheckConstraint("settled BETWEEN 0 AND amount", name=op.f("ck_holds_settled_is_a_part")),
        sa.ForeignKeyConstraint(["account_id"], ["ledger_accounts.id"], name=op.f("fk_holds_account_id")),
        sa.ForeignKeyConstraint(["transaction_id"], ["ledger_transactions.id"], name=op.f("fk_holds_transaction_id")),
        sa.PrimaryKeyConstraint("transaction_id", name=op.f("pk_holds")),
    )
    op.create_index(
        "ix_holds_due",
        "holds",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'held'"),
        sqlite_where=sa.text("state = 'held'"),
    )
    op.create_index(
        "ix_holds_open",
        "holds",
        ["account_id"],
        unique=False,
        postgresql_where=sa.text("state = 'held'"),
        sqlite_where=sa.text("state = 'held'"),
    )
    op.create_table(
        "lots",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("transaction_id", ID, nullable=False),
        sa.Column("origin_id", ID, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("remaining", sa.BigInteger(), nullable=False),
        sa.Column("earned_at", Moment, nullable=False),
        sa.Column("activates_at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=True),
        sa.CheckConstraint("amount > 0", name=op.f("ck_lots_holds_something")),
        sa.CheckConstraint("remaining BETWEEN 0 AND amount", name=op.f("ck_lots_remaining_is_a_part")),
        sa.ForeignKeyConstraint(["account_id"], ["ledger_accounts.id"], name=op.f("fk_lots_account_id")),
        sa.ForeignKeyConstraint(["origin_id"], ["ledger_transactions.id"], name=op.f("fk_lots_origin_id")),
        sa.ForeignKeyConstraint(["transaction_id"], ["ledger_transactions.id"], name=op.f("fk_lots_transaction_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lots")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "ix_lots_due",
        "lots",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("remaining > 0 AND expires_at IS NOT NULL"),
        sqlite_where=sa.text("remaining > 0 AND expires_at IS NOT NULL"),
    )
    op.create_index(
        "ix_lots_open",
        "lots",
        ["account_id"],
        unique=False,
        postgresql_where=sa.text("remaining > 0"),
        sqlite_where=sa.text("remaining > 0"),
    )
    op.create_index(op.f("ix_lots_transaction_id"), "lots", ["transaction_id"], unique=False)
    op.create_table(
        "postings",
        sa.Column("transaction_id", ID, nullable=False),
        sa.Column("n", sa.SmallInteger(), nullable=False),
        sa.Column("account_id", ID, nullable=True),
        sa.Column("house", sa.Text(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=True),
        sa.Column("balance", sa.BigInteger(), nullable=True),
        sa.Column("chain", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "house IN ('issued', 'spent', 'expired', 'adjusted')", name=op.f("ck_postings_house_is_known")
        ),
        sa.CheckConstraint("(account_id IS NULL) <> (house IS NULL)", name=op.f("ck_postings_has_one_place")),
        sa.CheckConstraint(
            "(account_id IS NULL) = (entry IS NULL) AND (account_id IS NULL) = (balance IS NULL) "
            "AND (account_id IS NULL) = (chain IS NULL)",
            name=op.f("ck_postings_is_chained_where_it_is_an_account"),
        ),
        sa.CheckConstraint("amount <> 0", name=op.f("ck_postings_moves_something")),
        sa.ForeignKeyConstraint(["account_id"], ["ledger_accounts.id"], name=op.f("fk_postings_account_id")),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["ledger_transactions.id"], name=op.f("fk_postings_transaction_id")
        ),
        sa.PrimaryKeyConstraint("transaction_id", "n", name=op.f("pk_postings")),
        sa.UniqueConstraint("account_id", "entry", name=op.f("uq_postings_account_id_entry")),
    )
    op.create_table(
        "allocations",
        sa.Column("transaction_id", ID, nullable=False),
        sa.Column("lot_id", ID, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount <> 0", name=op.f("ck_allocations_draws_something")),
        sa.ForeignKeyConstraint(["lot_id"], ["lots.id"], name=op.f("fk_allocations_lot_id")),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["ledger_transactions.id"], name=op.f("fk_allocations_transaction_id")
        ),
        sa.PrimaryKeyConstraint("transaction_id", "lot_id", name=op.f("pk_allocations")),
    )
    op.create_index(op.f("ix_allocations_lot_id"), "allocations", ["lot_id"], unique=False)

    if op.get_bind().dialect.name == "postgresql":
        _guard_on_postgresql()
    else:
        _guard_on_sqlite()


def _fixed(table: str) -> str:
    """The columns that never change, for UPDATE OF."""
    columns = sa.inspect(op.get_bind()).get_columns(table)
    return ", ".join(column["name"] for column in columns if column["name"] not in _CHANGING[table])


def _guard_on_postgresql() -> None:
    op.execute(
        f"""
        CREATE FUNCTION ledger_refuses() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '{_REFUSAL} (% of %)', TG_OP, TG_TABLE_NAME USING ERRCODE = 'check_violation';
        END $$
        """
    )
    for table in _CHANGING:
        op.execute(
            f"CREATE TRIGGER {table}_are_kept BEFORE DELETE OR TRUNCATE OR UPDATE OF {_fixed(table)} ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuses()"
        )
    op.execute(
        """
        CREATE FUNCTION ledger_balances() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            wrong bigint;
        BEGIN
            SELECT transaction_id INTO wrong FROM fresh
            GROUP BY transaction_id HAVING sum(amount) <> 0 OR count(*) < 2 LIMIT 1;
            IF FOUND THEN
                RAISE EXCEPTION 'the postings of transaction % do not sum to zero', wrong
                USING ERRCODE = 'check_violation';
            END IF;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER postings_sum_to_zero AFTER INSERT ON postings REFERENCING NEW TABLE AS fresh "
        "FOR EACH STATEMENT EXECUTE FUNCTION ledger_balances()"
    )


def _guard_on_sqlite() -> None:
    for table in _CHANGING:
        for name, what in (("kept", "DELETE"), ("fixed", f"UPDATE OF {_fixed(table)}")):
            op.execute(
                f"CREATE TRIGGER {table}_are_{name} BEFORE {what} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL} ({table})'); END"
            )
    # INSERT OR REPLACE deletes the row in its way without asking the triggers above.
    for table, same in (
        (
            "ledger_transactions",
            "id = NEW.id OR (key = NEW.key AND customer_id = NEW.customer_id "
            "AND programme = NEW.programme AND asset = NEW.asset AND kind = NEW.kind)",
        ),
        (
            "postings",
            "(transaction_id = NEW.transaction_id AND n = NEW.n) "
            "OR (account_id = NEW.account_id AND entry = NEW.entry)",
        ),
        ("allocations", "transaction_id = NEW.transaction_id AND lot_id = NEW.lot_id"),
        ("lots", "id = NEW.id"),
        ("holds", "transaction_id = NEW.transaction_id"),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_are_not_replaced BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same}) "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL} ({table})'); END"
        )


def downgrade() -> None:
    for table in ("allocations", "postings", "lots", "holds", "ledger_transactions", "ledger_accounts"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION ledger_balances(); DROP FUNCTION ledger_refuses()")
