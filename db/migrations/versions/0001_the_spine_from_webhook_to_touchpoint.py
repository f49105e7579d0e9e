"""the spine: from webhook to touchpoint

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.tables import Moment

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", ID, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("external_id", "source", name=op.f("uq_accounts_external_id_source")),
    )
    op.create_table(
        "claims",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("members", JSON, nullable=False),
        sa.Column("claimed_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_claims")),
    )
    op.create_table(
        "documents",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_documents")),
        sa.UniqueConstraint("kind", "name", "digest", name=op.f("uq_documents_kind_name_digest")),
    )
    op.create_table(
        "halts",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("flow", name=op.f("pk_halts")),
    )
    op.create_table(
        "inbox",
        sa.Column("id", ID, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("received_at", Moment, nullable=False),
        sa.Column("headers", JSON, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("customer_id", ID, nullable=True),
        sa.Column("awaits", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('received', 'mapped', 'ignored', 'awaiting', 'parked')", name=op.f("ck_inbox_state_is_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        sa.UniqueConstraint("source", "key", "digest", name=op.f("uq_inbox_source_key_digest")),
    )
    with op.batch_alter_table("inbox", schema=None) as batch_op:
        batch_op.create_index(
            "ix_inbox_bodies",
            ["received_at"],
            unique=False,
            postgresql_where=sa.text("length(body) > 0"),
            sqlite_where=sa.text("length(body) > 0"),
        )
        batch_op.create_index("ix_inbox_customer_id", ["customer_id"], unique=False)
        batch_op.create_index(
            "ix_inbox_received",
            ["id"],
            unique=False,
            postgresql_where=sa.text("state = 'received'"),
            sqlite_where=sa.text("state = 'received'"),
        )
        batch_op.create_index(
            "ix_inbox_suspects",
            ["id"],
            unique=False,
            postgresql_where=sa.text("state = 'received' AND tries > 0"),
            sqlite_where=sa.text("state = 'received' AND tries > 0"),
        )
        batch_op.create_index(
            "ix_inbox_unsettled",
            ["state", "awaits"],
            unique=False,
            postgresql_where=sa.text("state IN ('awaiting', 'parked')"),
            sqlite_where=sa.text("state IN ('awaiting', 'parked')"),
        )

    op.create_table(
        "releases",
        sa.Column("id", ID, nullable=False),
        sa.Column("applied_at", Moment, nullable=False),
        sa.Column("applied_by", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("manifest", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
    )
    op.create_table(
        "suppressions",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("covers", sa.Text(), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.CheckConstraint("covers IN ('marketing', 'everything')", name=op.f("ck_suppressions_covers_is_known")),
        sa.PrimaryKeyConstraint("channel", "digest", name=op.f("pk_suppressions")),
    )
    op.create_table(
        "customers",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=True),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("stage_at", Moment, nullable=True),
        sa.Column("orders", sa.Integer(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("last_order_at", Moment, nullable=True),
        sa.Column("since", Moment, nullable=False),
        sa.Column("forgotten_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_customers_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customers")),
    )
    op.create_table(
        "consents",
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("evidence", JSON, nullable=False),
        sa.Column("occurred_at", Moment, nullable=False),
        sa.CheckConstraint("state IN ('granted', 'withdrawn')", name=op.f("ck_consents_state_is_known")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_consents_customer_id")),
        sa.PrimaryKeyConstraint("customer_id", "channel", "topic", name=op.f("pk_consents")),
    )
    op.create_table(
        "decisions",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("enrollment_id", ID, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=True),
        sa.Column("detail", JSON, nullable=True),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_decisions_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
    )
    with op.batch_alter_table("decisions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_decisions_customer_id"), ["customer_id"], unique=False)

    op.create_table(
        "events",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("occurred_at", Moment, nullable=False),
        sa.Column("recorded_at", Moment, nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_events_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("key", "source", name=op.f("uq_events_key_source")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index("ix_events_customer_id_occurred_at", ["customer_id", "occurred_at"], unique=False)

    op.create_table(
        "identities",
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_identities_customer_id")),
        sa.PrimaryKeyConstraint("external_id", "source", name=op.f("pk_identities")),
    )
    with op.batch_alter_table("identities", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_identities_customer_id"), ["customer_id"], unique=False)

    op.create_table(
        "profiles",
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("last_name", sa.Text(), nullable=True),
        sa.Column("locale", sa.Text(), nullable=True),
        sa.Column("timezone", sa.Text(), nullable=True),
        sa.Column("attributes", JSON, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_profiles_customer_id")),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("pk_profiles")),
    )
    op.create_table(
        "referral_codes",
        sa.Column("programme", sa.Text(), nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("made_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_referral_codes_customer_id")),
        sa.PrimaryKeyConstraint("programme", "customer_id", name=op.f("pk_referral_codes")),
        sa.UniqueConstraint("code", name=op.f("uq_referral_codes_code")),
    )
    op.create_table(
        "runs",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("enrollment_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_runs_customer_id")),
        sa.PrimaryKeyConstraint("flow", "customer_id", "key", "n", name=op.f("pk_runs")),
    )
    op.create_table(
        "enrollments",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("flow_id", ID, nullable=False),
        sa.Column("event_id", ID, nullable=False),
        sa.Column("entered_at", Moment, nullable=False),
        sa.Column("due_at", Moment, nullable=True),
        sa.Column("until", Moment, nullable=True),
        sa.Column("ended_at", Moment, nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("tries", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("step", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(due_at IS NOT NULL) = (state IN ('waiting', 'paused'))", name=op.f("ck_enrollments_waits_for_one_thing")
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'sending', 'paused', 'finished', 'stopped', 'parked')",
            name=op.f("ck_enrollments_state_is_known"),
        ),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_enrollments_customer_id")),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_enrollments_event_id")),
        sa.ForeignKeyConstraint(["flow_id"], ["documents.id"], name=op.f("fk_enrollments_flow_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrollments")),
        postgresql_with={"fillfactor": "80"},
    )
    with op.batch_alter_table("enrollments", schema=None) as batch_op:
        batch_op.create_index("ix_enrollments_customer_id", ["customer_id"], unique=False)
        batch_op.create_index(
            "ix_enrollments_due",
            ["lane", "due_at"],
            unique=False,
            postgresql_where=sa.text("state = 'waiting'"),
            sqlite_where=sa.text("state = 'waiting'"),
        )
        batch_op.create_index(
            "ix_enrollments_set_aside",
            ["state", "flow_id"],
            unique=False,
            postgresql_where=sa.text("state IN ('paused', 'parked')"),
            sqlite_where=sa.text("state IN ('paused', 'parked')"),
        )
        batch_op.create_index(
            "ix_enrollments_suspects",
            ["id"],
            unique=False,
            postgresql_where=sa.text("state = 'waiting' AND tries > 0"),
            sqlite_where=sa.text("state = 'waiting' AND tries > 0"),
        )

    op.create_table(
        "stage_entries",
        sa.Column("event_id", ID, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("entered_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_stage_entries_customer_id")),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_stage_entries_event_id")),
        sa.PrimaryKeyConstraint("event_id", "stage", name=op.f("pk_stage_entries")),
    )
    with op.batch_alter_table("stage_entries", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_stage_entries_customer_id"), ["customer_id"], unique=False)

    op.create_table(
        "answers",
        sa.Column("enrollment_id", ID, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("event_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["enrollment_id"], ["enrollments.id"], name=op.f("fk_answers_enrollment_id")),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_answers_event_id")),
        sa.PrimaryKeyConstraint("enrollment_id", "step", name=op.f("pk_answers")),
        sa.UniqueConstraint("enrollment_id", "event_id", name=op.f("uq_answers_enrollment_id_event_id")),
    )
    op.create_table(
        "touchpoints",
        sa.Column("id", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("enrollment_id", ID, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("template_id", ID, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("tries", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", Moment, nullable=True),
        sa.Column("queued_at", Moment, nullable=False),
        sa.Column("prepared_at", Moment, nullable=True),
        sa.Column("leased_until", Moment, nullable=True),
        sa.Column("settled_at", Moment, nullable=True),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('service', 'marketing', 'team')", name=op.f("ck_touchpoints_kind_is_known")),
        sa.CheckConstraint(
            "state <> 'sending' OR leased_until IS NOT NULL", name=op.f("ck_touchpoints_sending_has_a_lease")
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'held', 'sending', 'sent', 'rejected', 'skipped', 'failed', 'in_doubt')",
            name=op.f("ck_touchpoints_state_is_known"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('queued', 'held') OR due_at IS NOT NULL", name=op.f("ck_touchpoints_queued_is_due")
        ),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_touchpoints_customer_id")),
        sa.ForeignKeyConstraint(["enrollment_id"], ["enrollments.id"], name=op.f("fk_touchpoints_enrollment_id")),
        sa.ForeignKeyConstraint(["template_id"], ["documents.id"], name=op.f("fk_touchpoints_template_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_touchpoints")),
        sa.UniqueConstraint("enrollment_id", "step", name=op.f("uq_touchpoints_enrollment_id_step")),
        postgresql_with={"fillfactor": "80"},
    )
    with op.batch_alter_table("touchpoints", schema=None) as batch_op:
        batch_op.create_index("ix_touchpoints_customer_id_prepared_at", ["customer_id", "prepared_at"], unique=False)
        batch_op.create_index(
            "ix_touchpoints_due",
            ["channel", "lane", "due_at"],
            unique=False,
            postgresql_where=sa.text("state = 'queued'"),
            sqlite_where=sa.text("state = 'queued'"),
        )
        batch_op.create_index(
            "ix_touchpoints_suspects",
            ["id"],
            unique=False,
            postgresql_where=sa.text("state = 'queued' AND tries > 0"),
            sqlite_where=sa.text("state = 'queued' AND tries > 0"),
        )
        batch_op.create_index(
            "ix_touchpoints_troubled",
            ["state", "id"],
            unique=False,
            postgresql_where=sa.text("state IN ('failed', 'rejected', 'in_doubt')"),
            sqlite_where=sa.text("state IN ('failed', 'rejected', 'in_doubt')"),
        )
        batch_op.create_index(
            "ix_touchpoints_unsettled",
            ["state", "leased_until"],
            unique=False,
            postgresql_where=sa.text("state IN ('sending', 'held')"),
            sqlite_where=sa.text("state IN ('sending', 'held')"),
        )

    op.create_table(
        "contexts",
        sa.Column("touchpoint_id", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.ForeignKeyConstraint(["touchpoint_id"], ["touchpoints.id"], name=op.f("fk_contexts_touchpoint_id")),
        sa.PrimaryKeyConstraint("touchpoint_id", name=op.f("pk_contexts")),
    )


def downgrade() -> None:
    op.drop_table("contexts")
    with op.batch_alter_table("touchpoints", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_touchpoints_unsettled",
            postgresql_where=sa.text("state IN ('sending', 'held')"),
            sqlite_where=sa.text("state IN ('sending', 'held')"),
        )
        batch_op.drop_index(
            "ix_touchpoints_troubled",
            postgresql_where=sa.text("state IN ('failed', 'rejected', 'in_doubt')"),
            sqlite_where=sa.text("state IN ('failed', 'rejected', 'in_doubt')"),
        )
        batch_op.drop_index(
            "ix_touchpoints_suspects",
            postgresql_where=sa.text("state = 'queued' AND tries > 0"),
            sqlite_where=sa.text("state = 'queued' AND tries > 0"),
        )
        batch_op.drop_index(
            "ix_touchpoints_due", postgresql_where=sa.text("state = 'queued'"), sqlite_where=sa.text("state = 'queued'")
        )
        batch_op.drop_index("ix_touchpoints_customer_id_prepared_at")

    op.drop_table("touchpoints")
    op.drop_table("answers")
    with op.batch_alter_table("stage_entries", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_stage_entries_customer_id"))

    op.drop_table("stage_entries")
    with op.batch_alter_table("enrollments", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_enrollments_suspects",
            postgresql_where=sa.text("state = 'waiting' AND tries > 0"),
            sqlite_where=sa.text("state = 'waiting' AND tries > 0"),
        )
        batch_op.drop_index(
            "ix_enrollments_set_aside",
            postgresql_where=sa.text("state IN ('paused', 'parked')"),
            sqlite_where=sa.text("state IN ('paused', 'parked')"),
        )
        batch_op.drop_index(
            "ix_enrollments_due",
            postgresql_where=sa.text("state = 'waiting'"),
            sqlite_where=sa.text("state = 'waiting'"),
        )
        batch_op.drop_index("ix_enrollments_customer_id")

    op.drop_table("enrollments")
    op.drop_table("runs")
    op.drop_table("referral_codes")
    op.drop_table("profiles")
    with op.batch_alter_table("identities", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_identities_customer_id"))

    op.drop_table("identities")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index("ix_events_customer_id_occurred_at")

    op.drop_table("events")
    with op.batch_alter_table("decisions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_decisions_customer_id"))

    op.drop_table("decisions")
    op.drop_table("consents")
    op.drop_table("customers")
    op.drop_table("suppressions")
    op.drop_table("releases")
    with op.batch_alter_table("inbox", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_inbox_unsettled",
            postgresql_where=sa.text("state IN ('awaiting', 'parked')"),
            sqlite_where=sa.text("state IN ('awaiting', 'parked')"),
        )
        batch_op.drop_index(
            "ix_inbox_suspects",
            postgresql_where=sa.text("state = 'received' AND tries > 0"),
            sqlite_where=sa.text("state = 'received' AND tries > 0"),
        )
        batch_op.drop_index(
            "ix_inbox_received",
            postgresql_where=sa.text("state = 'received'"),
            sqlite_where=sa.text("state = 'received'"),
        )
        batch_op.drop_index("ix_inbox_customer_id")
        batch_op.drop_index(
            "ix_inbox_bodies", postgresql_where=sa.text("length(body) > 0"), sqlite_where=sa.text("length(body) > 0")
        )

    op.drop_table("inbox")
    op.drop_table("halts")
    op.drop_table("documents")
    op.drop_table("claims")
    op.drop_table("accounts")
