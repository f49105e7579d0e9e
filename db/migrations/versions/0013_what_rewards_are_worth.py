"""What rewards are worth, so that boards count their value: of credit that is the credit itself.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("referral_rewards", sa.Column("worth", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("UPDATE referral_rewards SET worth = granted WHERE asset = 'credit'")


def downgrade() -> None:
    op.drop_column("referral_rewards", "worth")
