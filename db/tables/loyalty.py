"""Tiers, budgets, and what points bought."""

import sqlalchemy as sa

from db.tables.columns import Id, Moment, Word, customer, metadata

#: Which tier a customer is in. Who never reached a higher one than the lowest has no row.
memberships = sa.Table(
    "memberships",
    metadata,
    sa.Column("programme", sa.Text, primary_key=True),
    customer(primary_key=True, index=True),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("since", Moment, nullable=False),
    sa.Column("falls_at", Moment),  # when they leave it, where they hold it no longer
    sa.Column("review_at", Moment),  # when to look again; NULL: not unless something happens
    sa.Index(
        "ix_memberships_due",
        "review_at",
        postgresql_where=sa.text("review_at IS NOT NULL"),
        sqlite_where=sa.text("review_at IS NOT NULL"),
    ),
)

#: How much of a programme's budget is given, by period.
budgets = sa.Table(
    "budgets",
    metadata,
    sa.Column("programme", sa.Text, primary_key=True),
    sa.Column("starts_at", Moment, primary_key=True),
    sa.Column("granted", sa.BigInteger, nullable=False),
    sa.CheckConstraint("granted >= 0", name="granted_is_no_debt"),
)

#: What customers bought with points.
redemptions = sa.Table(
    "redemptions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    customer(nullable=False, index=True),
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("reward", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),  # the same for repeats, so that it is given once
    sa.Column("transaction_id", Id, sa.ForeignKey("ledger_transactions.id"), nullable=False, unique=True),
    # making | given | failed | cancelling | cancelled; making and cancelling wait for a code at the shop
    sa.Column("state", Word, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.UniqueConstraint("key"),
    sa.CheckConstraint("state IN ('making', 'given', 'failed', 'cancelling', 'cancelled')", name="state_is_known"),
)
