"""Webhooks of ours tell of more than rewards.

Revision ID: 0018
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_KEPT = "reward_id, kind, state, tries, due_at, made_at, told_at, reason"
_waiting = sa.text("state = 'waiting'")


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("id", ID, nullable=False),
        sa.Column("reward_id", ID),
        sa.Column("event_id", ID),
        *_columns(),
        sa.CheckConstraint("kind IN ('given', 'taken_back', 'asked')", name=op.f("ck_notices_kind_is_known")),
        sa.CheckConstraint("(reward_id IS NULL) = (kind = 'asked')", name=op.f("ck_notices_reward_or_not")),
        sa.CheckConstraint("(event_id IS NULL) = (kind <> 'asked')", name=op.f("ck_notices_event_or_not")),
        *_rules("notices"),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_notices_event_id")),
        sa.UniqueConstraint("event_id", name=op.f("uq_notices_event_id")),
    )
    op.execute(f"INSERT INTO notices ({_KEPT}) SELECT {_KEPT} FROM reward_notices ORDER BY id")
    op.drop_table("reward_notices")
    op.create_index("ix_notices_due", "notices", ["due_at"], postgresql_where=_waiting, sqlite_where=_waiting)


def downgrade() -> None:
    op.create_table(
        "reward_notices",
        sa.Column("id", ID, nullable=False),
        sa.Column("reward_id", ID, nullable=False),
        *_columns(),
        sa.CheckConstraint("kind IN ('given', 'taken_back')", name=op.f("ck_reward_notices_kind_is_known")),
        *_rules("reward_notices"),
    )
    op.execute(
        f"INSERT INTO reward_notices ({_KEPT}) SELECT {_KEPT} FROM notices WHERE reward_id IS NOT NULL ORDER BY id"
    )
    op.drop_table("notices")
    op.create_index(
        "ix_reward_notices_due", "reward_notices", ["due_at"], postgresql_where=_waiting, sqlite_where=_waiting
    )


def _columns() -> list[sa.Column[object]]:
    """What a notice of either table has."""
    return [
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", Moment),
        sa.Column("made_at", Moment, nullable=False),
        sa.Column("told_at", Moment),
        sa.Column("reason", sa.Text()),
    ]


def _rules(table: str) -> list[sa.Constraint]:
    """The constraints of either table, named after it."""
    return [
        sa.CheckConstraint(
            "state IN ('waiting', 'told', 'failed', 'dropped')", name=op.f(f"ck_{table}_state_is_known")
        ),
        sa.CheckConstraint("(state = 'waiting') = (due_at IS NOT NULL)", name=op.f(f"ck_{table}_waiting_is_due")),
        sa.CheckConstraint("(state = 'told') = (told_at IS NOT NULL)", name=op.f(f"ck_{table}_told_has_a_time")),
        sa.ForeignKeyConstraint(["reward_id"], ["referral_rewards.id"], name=op.f(f"fk_{table}_reward_id")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint("reward_id", "kind", name=op.f(f"uq_{table}_reward_id_kind")),
    ]
