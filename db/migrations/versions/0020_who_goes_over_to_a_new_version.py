"""How far people went over to the newest files, and of which commit those are.

Revision ID: 0020
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("releases", sa.Column("commit", sa.Text))
    op.add_column("releases", sa.Column("moved_upto", sa.BigInteger().with_variant(sa.Integer(), "sqlite")))


def downgrade() -> None:
    op.drop_column("releases", "moved_upto")
    op.drop_column("releases", "commit")
