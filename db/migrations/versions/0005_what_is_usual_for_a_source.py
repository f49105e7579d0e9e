"""Learn what is usual for a source, and raise alarms.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.tables import Moment

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "pulses",
        sa.Column("hour", Moment, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("received", sa.Integer(), nullable=False),
        sa.Column("mapped", sa.Integer(), nullable=False),
        sa.Column("ignored", sa.Integer(), nullable=False),
        sa.Column("parked", sa.Integer(), nullable=False),
        sa.Column("last_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("hour", "source", name=op.f("pk_pulses")),
    )
    op.create_table(
        "fillings",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("present", sa.Integer(), nullable=False),
        sa.Column("latest", sa.BigInteger(), nullable=False),
        sa.Column("latest_seen", sa.SmallInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("source", "event", "path", name=op.f("pk_fillings")),
    )
    op.create_table(
        "alarms",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("since", Moment, nullable=False),
        sa.Column("cleared_at", Moment, nullable=True),
        sa.Column("told_at", Moment, nullable=True),
        sa.Column("detail", JSON, nullable=False),
        sa.CheckConstraint("kind IN ('silence', 'drift')", name=op.f("ck_alarms_kind_is_known")),
        sa.PrimaryKeyConstraint("source", "kind", "subject", name=op.f("pk_alarms")),
    )
    op.create_table(
        "rounds",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("upto", ID, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_rounds")),
    )


def downgrade() -> None:
    op.drop_table("rounds")
    op.drop_table("alarms")
    op.drop_table("fillings")
    op.drop_table("pulses")
