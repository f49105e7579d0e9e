"""Fetch from a source's API what its webhooks leave out.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.tables import Moment

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BEFORE = "state IN ('received', 'mapped', 'ignored', 'awaiting', 'parked')"
_AFTER = "state IN ('received', 'mapped', 'ignored', 'awaiting', 'fetching', 'parked')"
_FETCHING = sa.text("state = 'fetching'")


def upgrade() -> None:
    with op.batch_alter_table("inbox", schema=None) as batch_op:
        batch_op.add_column(sa.Column("fetch_at", Moment, nullable=True))
        batch_op.add_column(sa.Column("fetch_tries", sa.SmallInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("fetched", JSON, nullable=True))
        batch_op.drop_constraint(op.f("ck_inbox_state_is_known"), type_="check")
        batch_op.create_check_constraint(op.f("ck_inbox_state_is_known"), _AFTER)
        batch_op.create_check_constraint(
            op.f("ck_inbox_fetching_is_due"), "state <> 'fetching' OR fetch_at IS NOT NULL"
        )
    op.create_index("ix_inbox_fetching", "inbox", ["fetch_at"], postgresql_where=_FETCHING, sqlite_where=_FETCHING)
    op.create_table(
        "fetch_rates",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("free_at", Moment, nullable=False),
        sa.Column("paused_until", Moment, nullable=True),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_fetch_rates")),
    )
    op.create_table(
        "fetch_cache",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.Column("document", JSON, nullable=True),
        sa.CheckConstraint("state IN ('asking', 'kept', 'gone')", name=op.f("ck_fetch_cache_state_is_known")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_fetch_cache")),
    )
    op.create_index("ix_fetch_cache_until", "fetch_cache", ["until"])


def downgrade() -> None:
    op.drop_table("fetch_cache")
    op.drop_table("fetch_rates")
    # An older release knows no such state; mapped again there, the element is parked with its reason.
    op.execute("UPDATE inbox SET state = 'received', fetch_at = NULL WHERE state = 'fetching'")
    op.drop_index("ix_inbox_fetching", "inbox")
    with op.batch_alter_table("inbox", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("ck_inbox_fetching_is_due"), type_="check")
        batch_op.drop_constraint(op.f("ck_inbox_state_is_known"), type_="check")
        batch_op.create_check_constraint(op.f("ck_inbox_state_is_known"), _BEFORE)
        batch_op.drop_column("fetched")
        batch_op.drop_column("fetch_tries")
        batch_op.drop_column("fetch_at")
