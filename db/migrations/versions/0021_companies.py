"""Companies: facts about them, what ran once for each, and their people found by index.

Revision ID: 0021
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0021"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
    op.add_column("accounts", sa.Column("attributes", json))
    op.create_index("ix_customers_account_id", "customers", ["account_id"])
    op.create_table(
        "account_runs",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("event_id", ID, nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_account_runs_account_id")),
        sa.PrimaryKeyConstraint("flow", "account_id", "key", name=op.f("pk_account_runs")),
    )
    op.create_index("ix_account_runs_account_id", "account_runs", ["account_id"])
    op.create_index("ix_account_runs_event_id", "account_runs", ["event_id"])


def downgrade() -> None:
    op.drop_table("account_runs")
    op.drop_index("ix_customers_account_id", "customers")
    op.drop_column("accounts", "attributes")
