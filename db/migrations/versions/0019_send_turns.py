"""Turns of marketing, shared by all workers, where a rate is declared.

Revision ID: 0019
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

from db.tables import Moment

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "send_turns",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("free_at", Moment, nullable=False),
        sa.Column("line_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_send_turns")),
    )


def downgrade() -> None:
    op.drop_table("send_turns")
