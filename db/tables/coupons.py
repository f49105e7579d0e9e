"""Codes of coupons: from lists that the shop made, and created at the shop."""

import sqlalchemy as sa

from db.tables.columns import Id, Json, Moment, State, Word, metadata, one_of


class CouponState(State):
    """The life of a code. `due_at` says when the shop is asked next, where it is."""

    FREE = "free"  # of a list, still to be had; -> standing
    WANTED = "wanted"  # to be created, or taken from a list; has due_at; -> standing, failed, unwanted, disabled
    STANDING = "standing"  # the shop knows it, and somebody has it; -> unwanted, stuck, disabled
    UNWANTED = "unwanted"  # to be taken out of use; has due_at; -> disabled, used, stuck
    FAILED = "failed"  # could not be created: a person looks; -> wanted, disabled
    STUCK = "stuck"  # could not be taken out of use: a person looks; -> unwanted, disabled
    DISABLED = "disabled"
    USED = "used"  # an order had used it before it could be taken out of use


_due = sa.text("due_at IS NOT NULL")
_free = sa.text("state = 'free'")
_set_aside = sa.text("state IN ('failed', 'stuck')")

#: Every code is handed out once, and what gets a code gets one.
coupons = sa.Table(
    "coupons",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("code", sa.Text),  # NULL: not decided yet, or to be taken from a list
    sa.Column("state", Word, nullable=False),
    # What gets it, such as redemption/7, of which the code is made; NULL: nothing yet, or taken from a list at once.
    sa.Column("key", sa.Text, unique=True),
    sa.Column("redemption_id", Id, sa.ForeignKey("redemptions.id"), unique=True),
    sa.Column("reward_id", Id, sa.ForeignKey("referral_rewards.id"), unique=True),
    sa.Column("provider", sa.Text),  # NULL: of a list
    sa.Column("terms", Json),  # what it is worth, as the provider is asked at every try
    sa.Column("external_id", sa.Text),  # the provider's own
    sa.Column("due_at", Moment),
    sa.Column("tries", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("reason", sa.Text),  # why it did not work the last time
    sa.UniqueConstraint("code", "name"),
    one_of("state", CouponState),
    sa.CheckConstraint("(state IN ('wanted', 'unwanted')) = (due_at IS NOT NULL)", name="work_is_due"),
    sa.CheckConstraint("state <> 'free' OR (redemption_id IS NULL AND reward_id IS NULL)", name="free_is_nobodys"),
    sa.CheckConstraint("redemption_id IS NULL OR reward_id IS NULL", name="one_has_it"),
    sa.CheckConstraint("state NOT IN ('free', 'standing') OR code IS NOT NULL", name="standing_has_a_code"),
    sa.CheckConstraint("provider IS NULL OR terms IS NOT NULL", name="created_by_terms"),
    sa.CheckConstraint("provider IS NULL OR tries = 0 OR code IS NOT NULL", name="decided_before_asking"),
    sa.Index("ix_coupons_left", "name", "id", postgresql_where=_free, sqlite_where=_free),
    sa.Index("ix_coupons_due", "due_at", postgresql_where=_due, sqlite_where=_due),
    sa.Index("ix_coupons_set_aside", "id", postgresql_where=_set_aside, sqlite_where=_set_aside),
)
