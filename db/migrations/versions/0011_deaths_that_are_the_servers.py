"""Tell deaths of a worker from those of the database: a claim knows since when its server ran.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

from db.tables import Moment

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("claims", sa.Column("server_since", Moment))


def downgrade() -> None:
    op.drop_column("claims", "server_since")
