"""find messages in trouble among millions

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TROUBLED = sa.text("state IN ('failed', 'rejected', 'in_doubt')")


def upgrade() -> None:
    op.create_index(
        "ix_touchpoints_troubled",
        "touchpoints",
        ["state", "id"],
        postgresql_where=TROUBLED,
        sqlite_where=TROUBLED,
    )


def downgrade() -> None:
    op.drop_index("ix_touchpoints_troubled", "touchpoints")
