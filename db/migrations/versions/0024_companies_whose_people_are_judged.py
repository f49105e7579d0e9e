"""Companies of which something changed, so that the segments of their people are to be judged.

Revision ID: 0024
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account_looks",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("tells", sa.Boolean(), nullable=False),
        sa.Column("upto", ID, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_account_looks_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_looks")),
    )
    op.create_index("ix_account_looks_account_id", "account_looks", ["account_id"])
    op.create_index("ix_account_looks_due_at", "account_looks", ["due_at"])


def downgrade() -> None:
    op.drop_table("account_looks")
