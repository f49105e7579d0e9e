"""Segments: who is in them, when to look again, how far they are filled, and where the fifths begin.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

from db.tables import Json, Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "segment_members",
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("since", Moment, nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_segment_members_customer_id")),
        sa.PrimaryKeyConstraint("segment", "customer_id", name=op.f("pk_segment_members")),
    )
    op.create_index(op.f("ix_segment_members_customer_id"), "segment_members", ["customer_id"])
    op.create_table(
        "segment_looks",
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("tells", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_segment_looks_customer_id")),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("pk_segment_looks")),
    )
    op.create_index(op.f("ix_segment_looks_due_at"), "segment_looks", ["due_at"])
    op.create_table(
        "segment_fillings",
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("upto", ID, nullable=False),
        sa.Column("last", ID, nullable=False),
        sa.Column("tells", sa.Boolean(), nullable=False),
        sa.Column("began_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("segment", name=op.f("pk_segment_fillings")),
    )
    op.create_table(
        "quintiles",
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("cuts", Json, nullable=False),
        sa.Column("made_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("measure", name=op.f("pk_quintiles")),
    )


def downgrade() -> None:
    op.drop_table("quintiles")
    op.drop_table("segment_fillings")
    op.drop_table("segment_looks")
    op.drop_table("segment_members")
