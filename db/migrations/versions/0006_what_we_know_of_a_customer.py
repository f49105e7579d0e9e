"""Where a customer lives and what that was taken from, on what basis a word on consent stands, what customers ask for.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NEW = ("country", "region", "locale_from", "timezone_from")
_OPEN = sa.text("state <> 'done'")


def _states() -> sa.CheckConstraint:
    """A condition that consents have: SQLite makes the table anew, and does not tell Alembic of those."""
    return sa.CheckConstraint("state IN ('granted', 'withdrawn')", name=op.f("ck_consents_state_is_known"))


def upgrade() -> None:
    with op.batch_alter_table("profiles") as profiles:
        for name in _NEW:
            profiles.add_column(sa.Column(name, sa.Text()))
        profiles.create_check_constraint(op.f("ck_profiles_locale_from_is_known"), "locale_from IN ('told', 'address')")
        profiles.create_check_constraint(
            op.f("ck_profiles_timezone_from_is_known"), "timezone_from IN ('told', 'address', 'phone', 'locale')"
        )
    with op.batch_alter_table("consents", table_args=(_states(),)) as consents:
        consents.create_check_constraint(
            op.f("ck_consents_basis_is_known"), "basis IN ('consent', 'existing-customer', 'service')"
        )
    op.create_table(
        "privacy_requests",
        sa.Column("id", ID, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("inbox_id", ID, nullable=False),
        sa.Column("asked_at", Moment, nullable=False),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("who", JSON),
        sa.Column("customer_ids", JSON, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("done_at", Moment),
        sa.CheckConstraint(
            "kind IN ('forget', 'export', 'forget-everybody')", name=op.f("ck_privacy_requests_kind_is_known")
        ),
        sa.CheckConstraint("state IN ('asked', 'found', 'done')", name=op.f("ck_privacy_requests_state_is_known")),
        sa.CheckConstraint(
            "(state = 'done') = (done_at IS NOT NULL)", name=op.f("ck_privacy_requests_done_has_a_moment")
        ),
        sa.CheckConstraint("state = 'asked' OR who IS NULL", name=op.f("ck_privacy_requests_names_nobody_for_long")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_privacy_requests")),
        sa.UniqueConstraint("inbox_id", name=op.f("uq_privacy_requests_inbox_id")),
    )
    op.create_index(
        "ix_privacy_requests_open",
        "privacy_requests",
        ["state", "due_at"],
        postgresql_where=_OPEN,
        sqlite_where=_OPEN,
    )


def downgrade() -> None:
    op.drop_table("privacy_requests")
    with op.batch_alter_table("consents", table_args=(_states(),)) as consents:
        consents.drop_constraint(op.f("ck_consents_basis_is_known"), type_="check")
    with op.batch_alter_table("profiles") as profiles:
        profiles.drop_constraint(op.f("ck_profiles_locale_from_is_known"), type_="check")
        profiles.drop_constraint(op.f("ck_profiles_timezone_from_is_known"), type_="check")
        for name in _NEW:
            profiles.drop_column(name)
