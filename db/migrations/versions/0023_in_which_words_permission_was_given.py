"""In which words a customer allowed to be quoted.

Revision ID: 0023
Revises: 0022
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # In SQL, as SQLite adds a column with a constraint of its own, and no constraint alone.
    op.execute(
        "ALTER TABLE reviews ADD COLUMN wording TEXT "
        "CONSTRAINT ck_reviews_wording_of_a_permission CHECK (wording IS NULL OR permitted_at IS NOT NULL)"
    )


def downgrade() -> None:
    op.drop_column("reviews", "wording")
