"""Loyalty programmes: tiers of customers, budgets, what points bought, and coupon codes.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "memberships",
        sa.Column("programme", sa.Text(), nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("since", Moment, nullable=False),
        sa.Column("falls_at", Moment, nullable=True),
        sa.Column("review_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_memberships_customer_id")),
        sa.PrimaryKeyConstraint("programme", "customer_id", name=op.f("pk_memberships")),
    )
    op.create_index(op.f("ix_memberships_customer_id"), "memberships", ["customer_id"], unique=False)
    op.create_index(
        "ix_memberships_due",
        "memberships",
        ["review_at"],
        unique=False,
        postgresql_where=sa.text("review_at IS NOT NULL"),
        sqlite_where=sa.text("review_at IS NOT NULL"),
    )
    op.create_table(
        "budgets",
        sa.Column("programme", sa.Text(), nullable=False),
        sa.Column("starts_at", Moment, nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("granted >= 0", name=op.f("ck_budgets_granted_is_no_debt")),
        sa.PrimaryKeyConstraint("programme", "starts_at", name=op.f("pk_budgets")),
    )
    op.create_table(
        "redemptions",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("programme", sa.Text(), nullable=False),
        sa.Column("reward", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("transaction_id", ID, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.CheckConstraint("state IN ('given', 'cancelled')", name=op.f("ck_redemptions_state_is_known")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_redemptions_customer_id")),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["ledger_transactions.id"], name=op.f("fk_redemptions_transaction_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redemptions")),
        sa.UniqueConstraint("key", name=op.f("uq_redemptions_key")),
        sa.UniqueConstraint("transaction_id", name=op.f("uq_redemptions_transaction_id")),
    )
    op.create_index(op.f("ix_redemptions_customer_id"), "redemptions", ["customer_id"], unique=False)
    op.create_table(
        "coupons",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("redemption_id", ID, nullable=True),
        sa.ForeignKeyConstraint(["redemption_id"], ["redemptions.id"], name=op.f("fk_coupons_redemption_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_coupons")),
        sa.UniqueConstraint("code", "name", name=op.f("uq_coupons_code_name")),
        sa.UniqueConstraint("redemption_id", name=op.f("uq_coupons_redemption_id")),
    )
    op.create_index(
        "ix_coupons_left",
        "coupons",
        ["name", "id"],
        unique=False,
        postgresql_where=sa.text("redemption_id IS NULL"),
        sqlite_where=sa.text("redemption_id IS NULL"),
    )


def downgrade() -> None:
    for table in ("coupons", "redemptions", "budgets", "memberships"):
        op.drop_table(table)
