"""The customer's own page: links that can be revoked, codes that somebody chose, what people decided.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "me_links",
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("revoked_at", Moment, nullable=False),
        sa.CheckConstraint("generation > 0", name=op.f("ck_me_links_generation_is_later")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_me_links_customer_id")),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("pk_me_links")),
    )
    op.create_table(
        "vanity_codes",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("programme", sa.Text(), nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("made_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_vanity_codes_customer_id")),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_vanity_codes")),
    )
    op.create_index("ix_vanity_codes_customer_id", "vanity_codes", ["customer_id"])
    by_people = sa.text("author IS NOT NULL")
    op.create_index(
        "ix_referral_decisions_by_people",
        "referral_decisions",
        ["id"],
        postgresql_where=by_people,
        sqlite_where=by_people,
    )


def downgrade() -> None:
    op.drop_index("ix_referral_decisions_by_people", "referral_decisions")
    op.drop_table("vanity_codes")
    op.drop_table("me_links")
