"""Merge customers who turn out to be one, and undo it.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_WANTED = sa.text("state = 'wanted'")


def upgrade() -> None:
    with op.batch_alter_table("customers") as batch_op:
        batch_op.add_column(sa.Column("merged_into", ID, nullable=True))
        batch_op.create_foreign_key(batch_op.f("fk_customers_merged_into"), "customers", ["merged_into"], ["id"])
        batch_op.create_index(batch_op.f("ix_customers_merged_into"), ["merged_into"], unique=False)
    op.create_table(
        "merges",
        sa.Column("id", ID, nullable=False),
        sa.Column("kept", ID, nullable=False),
        sa.Column("merged", ID, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by_hand", sa.Boolean(), nullable=False),
        sa.Column("wanted_at", Moment, nullable=False),
        sa.Column("done_at", Moment, nullable=True),
        sa.Column("undone_at", Moment, nullable=True),
        sa.Column("journal", JSON, nullable=True),
        sa.CheckConstraint("kept < merged", name=op.f("ck_merges_older_is_kept")),
        sa.CheckConstraint("state <> 'done' OR done_at IS NOT NULL", name=op.f("ck_merges_done_has_a_time")),
        sa.CheckConstraint("state IN ('wanted', 'done', 'undone', 'parked')", name=op.f("ck_merges_state_is_known")),
        sa.ForeignKeyConstraint(["kept"], ["customers.id"], name=op.f("fk_merges_kept")),
        sa.ForeignKeyConstraint(["merged"], ["customers.id"], name=op.f("fk_merges_merged")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_merges")),
        sa.UniqueConstraint("kept", "merged", name=op.f("uq_merges_kept_merged")),
    )
    op.create_index(op.f("ix_merges_merged"), "merges", ["merged"])
    op.create_index("ix_merges_wanted", "merges", ["id"], postgresql_where=_WANTED, sqlite_where=_WANTED)


def downgrade() -> None:
    op.drop_table("merges")
    with op.batch_alter_table("customers") as batch_op:
        batch_op.drop_index(batch_op.f("ix_customers_merged_into"))
        batch_op.drop_constraint(batch_op.f("fk_customers_merged_into"), type_="foreignkey")
        batch_op.drop_column("merged_into")
