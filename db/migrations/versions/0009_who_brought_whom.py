"""Who brought whom: clicks, touches, referrals, what was decided about them, and what they brought.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_STATES = "state IN ('attributed', 'qualified', 'review', 'rewarded', 'rejected', 'reversed')"
_DUE = sa.text("due_at IS NOT NULL")
_REVIEW = sa.text("state = 'review'")
_STANDING = sa.text("state <> 'taken_back'")


def upgrade() -> None:
    op.create_table(
        "clicks",
        sa.Column("id", ID, nullable=False),
        sa.Column("programme", sa.Text(), nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_clicks_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clicks")),
    )
    op.create_index(op.f("ix_clicks_customer_id"), "clicks", ["customer_id"])
    op.create_table(
        "touches",
        sa.Column("id", ID, nullable=False),
        sa.Column("programme", sa.Text(), nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("referrer_id", ID, nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("code_made_at", Moment, nullable=False),
        sa.Column("event_id", ID, nullable=False),
        sa.Column("click_id", ID),
        sa.CheckConstraint(
            "method IN ('code', 'discount', 'landing', 'click')", name=op.f("ck_touches_method_is_known")
        ),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_touches_customer_id")),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_touches_event_id")),
        sa.ForeignKeyConstraint(["referrer_id"], ["customers.id"], name=op.f("fk_touches_referrer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_touches")),
        sa.UniqueConstraint("event_id", "method", "code", name=op.f("uq_touches_event_id_method_code")),
    )
    op.create_index(op.f("ix_touches_customer_id"), "touches", ["customer_id"])
    op.create_index(op.f("ix_touches_referrer_id"), "touches", ["referrer_id"])
    op.create_table(
        "referrals",
        sa.Column("id", ID, nullable=False),
        sa.Column("programme", sa.Text(), nullable=False),
        sa.Column("referrer_id", ID, nullable=False),
        sa.Column("referee_id", ID, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("touch_id", ID, nullable=False),
        sa.Column("document_id", ID, nullable=False),
        sa.Column("attributed_at", Moment, nullable=False),
        sa.Column("event_id", ID),
        sa.Column("subject", sa.Text()),
        sa.Column("qualified_at", Moment),
        sa.Column("judged_at", Moment),
        sa.Column("rewarded_at", Moment),
        sa.Column("due_at", Moment),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "referrer_id <> referee_id OR state IN ('review', 'rejected', 'reversed')",
            name=op.f("ck_referrals_nobody_alone"),
        ),
        sa.CheckConstraint(
            "state <> 'qualified' OR (due_at IS NOT NULL AND event_id IS NOT NULL)",
            name=op.f("ck_referrals_qualified_is_due"),
        ),
        sa.CheckConstraint(
            "state <> 'rewarded' OR rewarded_at IS NOT NULL", name=op.f("ck_referrals_rewarded_has_a_time")
        ),
        sa.CheckConstraint(_STATES, name=op.f("ck_referrals_state_is_known")),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name=op.f("fk_referrals_document_id")),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_referrals_event_id")),
        sa.ForeignKeyConstraint(["referee_id"], ["customers.id"], name=op.f("fk_referrals_referee_id")),
        sa.ForeignKeyConstraint(["referrer_id"], ["customers.id"], name=op.f("fk_referrals_referrer_id")),
        sa.ForeignKeyConstraint(["touch_id"], ["touches.id"], name=op.f("fk_referrals_touch_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_referrals")),
        sa.UniqueConstraint("referee_id", "programme", name=op.f("uq_referrals_referee_id_programme")),
    )
    op.create_index("ix_referrals_due", "referrals", ["due_at"], postgresql_where=_DUE, sqlite_where=_DUE)
    op.create_index("ix_referrals_referrer_id_state", "referrals", ["referrer_id", "state", "programme"])
    op.create_index("ix_referrals_review", "referrals", ["id"], postgresql_where=_REVIEW, sqlite_where=_REVIEW)
    op.create_table(
        "referral_decisions",
        sa.Column("id", ID, nullable=False),
        sa.Column("referral_id", ID, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("author", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("evidence", JSON, nullable=False),
        sa.CheckConstraint(_STATES, name=op.f("ck_referral_decisions_state_is_known")),
        sa.ForeignKeyConstraint(["referral_id"], ["referrals.id"], name=op.f("fk_referral_decisions_referral_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_referral_decisions")),
    )
    op.create_index(op.f("ix_referral_decisions_referral_id"), "referral_decisions", ["referral_id"])
    op.create_table(
        "referral_marks",
        sa.Column("referral_id", ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('email', 'phone', 'address', 'payment')", name=op.f("ck_referral_marks_kind_is_known")
        ),
        sa.ForeignKeyConstraint(["referral_id"], ["referrals.id"], name=op.f("fk_referral_marks_referral_id")),
        sa.PrimaryKeyConstraint("referral_id", "kind", name=op.f("pk_referral_marks")),
    )
    op.create_index(op.f("ix_referral_marks_digest"), "referral_marks", ["digest"])
    op.create_table(
        "referral_rewards",
        sa.Column("id", ID, nullable=False),
        sa.Column("referral_id", ID, nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("milestone", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("programme", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("wallet", sa.Text()),
        sa.Column("coupon", sa.Text()),
        sa.Column("desired", sa.BigInteger(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("counts_at", Moment, nullable=False),
        sa.Column("given_at", Moment, nullable=False),
        sa.Column("taken_back_at", Moment),
        sa.CheckConstraint(
            "(side = 'milestone') = (milestone > 0)", name=op.f("ck_referral_rewards_milestone_has_a_number")
        ),
        sa.CheckConstraint("(state = 'capped') = (granted = 0)", name=op.f("ck_referral_rewards_capped_is_nothing")),
        sa.CheckConstraint(
            "(state = 'taken_back') = (taken_back_at IS NOT NULL)",
            name=op.f("ck_referral_rewards_taken_back_has_a_time"),
        ),
        sa.CheckConstraint("asset IN ('points', 'credit', 'coupon')", name=op.f("ck_referral_rewards_asset_is_known")),
        sa.CheckConstraint(
            "side IN ('referrer', 'referee', 'milestone')", name=op.f("ck_referral_rewards_side_is_known")
        ),
        sa.CheckConstraint(
            "state IN ('given', 'capped', 'taken_back')", name=op.f("ck_referral_rewards_state_is_known")
        ),
        sa.CheckConstraint("granted IN (0, desired)", name=op.f("ck_referral_rewards_all_or_nothing")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_referral_rewards_customer_id")),
        sa.ForeignKeyConstraint(["referral_id"], ["referrals.id"], name=op.f("fk_referral_rewards_referral_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_referral_rewards")),
        sa.UniqueConstraint(
            "referral_id",
            "side",
            "milestone",
            "generation",
            name=op.f("uq_referral_rewards_referral_id_side_milestone_generation"),
        ),
    )
    op.create_index(op.f("ix_referral_rewards_customer_id"), "referral_rewards", ["customer_id"])
    op.create_index(
        "uq_referral_rewards_standing",
        "referral_rewards",
        ["referral_id", "side", "milestone"],
        unique=True,
        postgresql_where=_STANDING,
        sqlite_where=_STANDING,
    )


def downgrade() -> None:
    op.drop_table("referral_rewards")
    op.drop_table("referral_marks")
    op.drop_table("referral_decisions")
    op.drop_table("referrals")
    op.drop_table("touches")
    op.drop_table("clicks")
