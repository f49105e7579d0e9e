"""Find what a customer has queued without walking the whole queue.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_QUEUED = sa.text("state = 'queued'")


def upgrade() -> None:
    op.create_index(
        "ix_touchpoints_queued", "touchpoints", ["customer_id"], postgresql_where=_QUEUED, sqlite_where=_QUEUED
    )


def downgrade() -> None:
    op.drop_index("ix_touchpoints_queued", "touchpoints")
