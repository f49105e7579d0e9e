"""Flows that start by a date, a schedule or a moment: what comes next, and how far the telling of it is.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "occasions",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("meaning", sa.Text(), nullable=False),
        sa.Column("is_live", sa.Boolean(), nullable=False),
        sa.Column("due_at", Moment),
        sa.Column("upto", ID, nullable=False),
        sa.PrimaryKeyConstraint("flow", name=op.f("pk_occasions")),
    )
    live = sa.text("is_live")
    op.create_index("ix_occasions_live", "occasions", ["due_at", "flow"], postgresql_where=live, sqlite_where=live)
    op.create_table(
        "coming_dates",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("day", sa.Text()),
        sa.Column("due_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_coming_dates_customer_id")),
        sa.PrimaryKeyConstraint("flow", "customer_id", name=op.f("pk_coming_dates")),
    )
    op.create_index("ix_coming_dates_due", "coming_dates", ["flow", "due_at"])
    op.create_index(op.f("ix_coming_dates_customer_id"), "coming_dates", ["customer_id"])
    # Which zones customers live in at all: a schedule by their own clocks comes in all zones of the world.
    op.create_index(op.f("ix_profiles_timezone"), "profiles", ["timezone"])


def downgrade() -> None:
    op.drop_index(op.f("ix_profiles_timezone"), "profiles")
    op.drop_table("coming_dates")
    op.drop_table("occasions")
