"""Leaderboards: scores, how many have each, seasons and how they were sealed.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_METRICS = "metric IN ('referrals', 'revenue', 'rewards', 'points')"
_PLACED, _UNSEALED = sa.text("value > 0"), sa.text("revision IS NULL")


def _board() -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in ("programme", "metric", "season")]


def upgrade() -> None:
    op.create_table(
        "scores",
        sa.Column("customer_id", ID, nullable=False),
        *_board(),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("reached_at", Moment, nullable=False),
        sa.CheckConstraint(_METRICS, name=op.f("ck_scores_metric_is_known")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_scores_customer_id")),
        sa.PrimaryKeyConstraint("customer_id", "programme", "metric", "season", name=op.f("pk_scores")),
    )
    op.create_index(
        "ix_scores_board",
        "scores",
        ["programme", "metric", "season", sa.text("value DESC"), "reached_at", "customer_id"],
        postgresql_where=_PLACED,
        sqlite_where=_PLACED,
    )
    op.create_table(
        "score_counts",
        *_board(),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("bucket", sa.BigInteger(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("programme", "metric", "season", "level", "bucket", name=op.f("pk_score_counts")),
    )
    op.create_table(
        "score_moves",
        sa.Column("id", ID, nullable=False),
        *_board(),
        sa.Column("moves", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_score_moves")),
    )
    op.create_index("ix_score_moves_board", "score_moves", ["programme", "metric", "season"])
    op.create_table(
        "seasons",
        *_board(),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("starts_at", Moment),
        sa.Column("ends_at", Moment),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.CheckConstraint(_METRICS, name=op.f("ck_seasons_metric_is_known")),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck_seasons_ends_after_it_starts")),
        sa.PrimaryKeyConstraint("programme", "metric", "season", name=op.f("pk_seasons")),
    )
    op.create_table(
        "season_seals",
        *_board(),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("sealed_at", Moment, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("placed", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("places", JSON, nullable=False),
        sa.PrimaryKeyConstraint("programme", "metric", "season", "revision", name=op.f("pk_season_seals")),
    )
    op.create_table(
        "late_scores",
        sa.Column("id", ID, nullable=False),
        *_board(),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("recorded_at", Moment, nullable=False),
        sa.Column("revision", sa.Integer()),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_late_scores_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_late_scores")),
    )
    op.create_index("ix_late_scores_customer_id", "late_scores", ["customer_id"])
    op.create_index(
        "ix_late_scores_unsealed",
        "late_scores",
        ["programme", "metric", "season"],
        postgresql_where=_UNSEALED,
        sqlite_where=_UNSEALED,
    )


def downgrade() -> None:
    for table in ("late_scores", "season_seals", "seasons", "score_moves", "score_counts", "scores"):
        op.drop_table(table)
