"""Companies: facts about them, what ran once for each; reviews, and which messages quote them.

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
    op.add_column("accounts", sa.Column("attributes", json))
    op.create_index("ix_customers_account_id", "customers", ["account_id"])
    op.create_table(
        "account_runs",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("event_id", ID, nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_account_runs_account_id")),
        sa.PrimaryKeyConstraint("flow", "account_id", "key", name=op.f("pk_account_runs")),
    )
    op.create_index("ix_account_runs_account_id", "account_runs", ["account_id"])
    op.create_index("ix_account_runs_event_id", "account_runs", ["event_id"])
    op.create_table(
        "reviews",
        sa.Column("event_id", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("number", sa.Text()),
        sa.Column("product", sa.Text()),
        sa.Column("stars", sa.SmallInteger(), nullable=False),
        sa.Column("text", sa.Text()),
        sa.Column("named", sa.Boolean(), nullable=False),
        sa.Column("permitted_at", Moment),
        sa.Column("permitted_by", sa.Text()),
        sa.CheckConstraint("stars BETWEEN 1 AND 5", name=op.f("ck_reviews_stars_are_known")),
        sa.CheckConstraint(
            "(text IS NULL) = (permitted_at IS NULL) AND (text IS NULL) = (permitted_by IS NULL)",
            name=op.f("ck_reviews_quoted_with_permission"),
        ),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_reviews_event_id")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_reviews_customer_id")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_reviews")),
    )
    op.create_index("ix_reviews_customer_id", "reviews", ["customer_id"])
    op.create_index("ix_reviews_product", "reviews", ["product", "stars"])
    op.create_table(
        "quotings",
        sa.Column("event_id", ID, nullable=False),
        sa.Column("touchpoint_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["reviews.event_id"], name=op.f("fk_quotings_event_id")),
        sa.ForeignKeyConstraint(["touchpoint_id"], ["touchpoints.id"], name=op.f("fk_quotings_touchpoint_id")),
        sa.PrimaryKeyConstraint("event_id", "touchpoint_id", name=op.f("pk_quotings")),
    )
    op.create_index("ix_quotings_touchpoint_id", "quotings", ["touchpoint_id"])


def downgrade() -> None:
    op.drop_table("quotings")
    op.drop_table("reviews")
    op.drop_table("account_runs")
    op.drop_index("ix_customers_account_id", "customers")
    op.drop_column("accounts", "attributes")
