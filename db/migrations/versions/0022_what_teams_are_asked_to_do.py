"""What teams are asked to do.

Revision ID: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("enrollment_id", ID, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("due_on", sa.Text()),
        sa.Column("asked_at", Moment, nullable=False),
        sa.Column("done_at", Moment),
        sa.Column("done_by", sa.Text()),
        sa.CheckConstraint("(done_at IS NULL) = (done_by IS NULL)", name=op.f("ck_tasks_done_by_somebody")),
        sa.CheckConstraint("due_on LIKE '____-__-__'", name=op.f("ck_tasks_due_on_a_day")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_tasks_customer_id")),
        sa.ForeignKeyConstraint(
            ["enrollment_id", "step"],
            ["touchpoints.enrollment_id", "touchpoints.step"],
            name=op.f("fk_tasks_note"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        sa.UniqueConstraint("enrollment_id", "step", name=op.f("uq_tasks_enrollment_id_step")),
    )
    op.create_index("ix_tasks_customer_id", "tasks", ["customer_id"])
    op.create_index(
        "ix_tasks_open",
        "tasks",
        ["due_on", "id"],
        postgresql_where=sa.text("done_at IS NULL"),
        sqlite_where=sa.text("done_at IS NULL"),
    )
    op.create_index(
        "ix_tasks_done",
        "tasks",
        ["done_at"],
        postgresql_where=sa.text("done_at IS NOT NULL"),
        sqlite_where=sa.text("done_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_table("tasks")
