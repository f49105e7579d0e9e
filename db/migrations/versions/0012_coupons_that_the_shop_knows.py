"""Codes of coupons have a life: wanted, created at the shop, handed out, taken out of use.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

from db.tables import Json, Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STATES = "'free', 'wanted', 'standing', 'unwanted', 'failed', 'stuck', 'disabled', 'used'"
CHECKS = {
    "state_is_known": f"state IN ({STATES})",
    "work_is_due": "(state IN ('wanted', 'unwanted')) = (due_at IS NOT NULL)",
    "free_is_nobodys": "state <> 'free' OR (redemption_id IS NULL AND reward_id IS NULL)",
    "one_has_it": "redemption_id IS NULL OR reward_id IS NULL",
    "standing_has_a_code": "state NOT IN ('free', 'standing') OR code IS NOT NULL",
    "created_by_terms": "provider IS NULL OR terms IS NOT NULL",
    "decided_before_asking": "provider IS NULL OR tries = 0 OR code IS NOT NULL",
}
PARTIAL = {
    "ix_coupons_left": (["name", "id"], "state = 'free'"),
    "ix_coupons_due": (["due_at"], "due_at IS NOT NULL"),
    "ix_coupons_set_aside": (["id"], "state IN ('failed', 'stuck')"),
}

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_coupons_left", table_name="coupons")
    with op.batch_alter_table("coupons") as table:
        table.alter_column("code", existing_type=sa.Text(), nullable=True)
        # For the rows that are there; what comes later says its state.
        table.add_column(sa.Column("state", sa.Text(), nullable=False, server_default="free"))
        table.add_column(sa.Column("key", sa.Text()))
        table.add_column(sa.Column("reward_id", ID))
        table.add_column(sa.Column("provider", sa.Text()))
        table.add_column(sa.Column("terms", Json))
        table.add_column(sa.Column("external_id", sa.Text()))
        table.add_column(sa.Column("due_at", Moment))
        table.add_column(sa.Column("tries", sa.SmallInteger(), nullable=False, server_default="0"))
        table.add_column(sa.Column("reason", sa.Text()))
        table.create_foreign_key(op.f("fk_coupons_reward_id"), "referral_rewards", ["reward_id"], ["id"])
        table.create_unique_constraint(op.f("uq_coupons_key"), ["key"])
        table.create_unique_constraint(op.f("uq_coupons_reward_id"), ["reward_id"])
    op.execute("UPDATE coupons SET state = 'standing' WHERE redemption_id IS NOT NULL")
    with op.batch_alter_table("coupons") as table:
        table.alter_column("state", existing_type=sa.Text(), existing_nullable=False, server_default=None)
        for name, condition in CHECKS.items():
            table.create_check_constraint(op.f(f"ck_coupons_{name}"), condition)
    for name, (columns, condition) in PARTIAL.items():
        where = sa.text(condition)
        op.create_index(name, "coupons", columns, unique=False, postgresql_where=where, sqlite_where=where)
    with op.batch_alter_table("redemptions") as table:
        table.drop_constraint(op.f("ck_redemptions_state_is_known"), type_="check")
        table.create_check_constraint(
            op.f("ck_redemptions_state_is_known"),
            "state IN ('making', 'given', 'failed', 'cancelling', 'cancelled')",
        )


def downgrade() -> None:
    for name in PARTIAL:
        op.drop_index(name, table_name="coupons")
    # What is on its way is lost to the code before this one: it knows only lists, and what was handed out.
    op.execute("DELETE FROM coupons WHERE state NOT IN ('free', 'standing') OR reward_id IS NOT NULL")
    op.execute("UPDATE redemptions SET state = 'given' WHERE state IN ('making', 'cancelling')")
    op.execute("UPDATE redemptions SET state = 'cancelled' WHERE state = 'failed'")
    with op.batch_alter_table("redemptions") as table:
        table.drop_constraint(op.f("ck_redemptions_state_is_known"), type_="check")
        table.create_check_constraint(op.f("ck_redemptions_state_is_known"), "state IN ('given', 'cancelled')")
    with op.batch_alter_table("coupons") as table:
        for name in CHECKS:
            table.drop_constraint(op.f(f"ck_coupons_{name}"), type_="check")
        table.drop_constraint(op.f("uq_coupons_key"), type_="unique")
        table.drop_constraint(op.f("uq_coupons_reward_id"), type_="unique")
        table.drop_constraint(op.f("fk_coupons_reward_id"), type_="foreignkey")
        for column in ("state", "key", "reward_id", "provider", "terms", "external_id", "due_at", "tries", "reason"):
            table.drop_column(column)
        table.alter_column("code", existing_type=sa.Text(), nullable=False)
    where = sa.text("redemption_id IS NULL")
    op.create_index("ix_coupons_left", "coupons", ["name", "id"], postgresql_where=where, sqlite_where=where)
