"""Runs of flows, what they send, and how batches of work are shared among processes."""

import sqlalchemy as sa

from db.tables.columns import Id, Json, Moment, State, Word, customer, metadata, one_of, suspects


class EnrollmentState(State):
    """The life of one run of a flow for one customer."""

    WAITING = "waiting"  # has due_at; -> sending, finished, stopped, paused, parked
    SENDING = "sending"  # held by a touchpoint that is not settled; -> waiting, stopped
    PAUSED = "paused"  # its flow is paused; keeps due_at; -> waiting
    FINISHED = "finished"
    STOPPED = "stopped"
    PARKED = "parked"  # failed or killed its worker three times; -> waiting by `afterglow retry`


class TouchpointState(State):
    """The life of one message to one customer."""

    QUEUED = "queued"  # has due_at; -> sending, sent, skipped, held, failed
    HELD = "held"  # halted or paused; keeps due_at; -> queued
    SENDING = "sending"  # handed to the provider under a lease; -> sent, rejected, queued, in_doubt
    SENT = "sent"
    REJECTED = "rejected"  # the provider refused for good
    SKIPPED = "skipped"  # we decided not to send: reason says why
    FAILED = "failed"  # could not be made: reason says why
    IN_DOUBT = "in_doubt"  # may have left; marketing is never repeated


OPEN_TOUCHPOINTS = (TouchpointState.QUEUED, TouchpointState.HELD, TouchpointState.SENDING)

#: One run per key, for ever: this table outlives the runs themselves.
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("flow", sa.Text, primary_key=True),
    customer(primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    sa.Column("enrollment_id", Id, nullable=False),
)

_waiting = sa.text("state = 'waiting'")

enrollments = sa.Table(
    "enrollments",
    metadata,
    sa.Column("id", Id, primary_key=True),
    customer(nullable=False),
    sa.Column("flow_id", Id, sa.ForeignKey("documents.id"), nullable=False),
    sa.Column("event_id", Id, sa.ForeignKey("events.id"), nullable=False),
    sa.Column("entered_at", Moment, nullable=False),  # the trigger's occurred_at
    sa.Column("due_at", Moment),  # when to look again
    sa.Column("until", Moment),  # when the wait on this step ends; NULL: the step is not begun
    sa.Column("ended_at", Moment),
    sa.Column("state", Word, nullable=False),
    sa.Column("lane", sa.SmallInteger, nullable=False),
    sa.Column("tries", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("step", sa.Text),  # the step to run next; NULL: past the last
    sa.Column("reason", sa.Text),
    one_of("state", EnrollmentState),
    sa.CheckConstraint(
        "(due_at IS NOT NULL) = (state IN ('waiting', 'paused'))",
        name="waits_for_one_thing",
    ),
    sa.Index("ix_enrollments_due", "lane", "due_at", postgresql_where=_waiting, sqlite_where=_waiting),
    suspects("enrollments", "state = 'waiting' AND tries > 0"),
    sa.Index("ix_enrollments_customer_id", "customer_id"),
    sa.Index(
        "ix_enrollments_set_aside",
        "state",
        "flow_id",
        postgresql_where=sa.text("state IN ('paused', 'parked')"),
        sqlite_where=sa.text("state IN ('paused', 'parked')"),
    ),
    postgresql_with={"fillfactor": "80"},
)

#: Which event ended which wait; one event answers one wait of a run.
answers = sa.Table(
    "answers",
    metadata,
    sa.Column("enrollment_id", Id, sa.ForeignKey("enrollments.id"), primary_key=True),
    sa.Column("step", sa.Text, primary_key=True),
    sa.Column("event_id", Id, sa.ForeignKey("events.id"), nullable=False),
    sa.UniqueConstraint("enrollment_id", "event_id"),
)

_queued = sa.text("state = 'queued'")

_unsettled = sa.text("state IN ('sending', 'held')")

_troubled = sa.text("state IN ('failed', 'rejected', 'in_doubt')")

touchpoints = sa.Table(
    "touchpoints",
    metadata,
    sa.Column("id", Id, primary_key=True),
    customer(nullable=False),
    sa.Column("enrollment_id", Id, sa.ForeignKey("enrollments.id"), nullable=False),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("flow", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("template", sa.Text, nullable=False),
    sa.Column("template_id", Id, sa.ForeignKey("documents.id")),  # pinned when prepared
    sa.Column("kind", sa.Text, nullable=False),  # service | marketing | team
    sa.Column("topic", sa.Text),
    sa.Column("state", Word, nullable=False, server_default="queued"),
    sa.Column("lane", sa.SmallInteger, nullable=False),
    sa.Column(
        "attempts", sa.SmallInteger, nullable=False, server_default="0"
    ),  # how often it was handed to the provider
    sa.Column("tries", sa.SmallInteger, nullable=False, server_default="0"),  # how often its batch died
    sa.Column("epoch", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", Moment),
    sa.Column("queued_at", Moment, nullable=False),
    sa.Column("prepared_at", Moment),
    sa.Column("leased_until", Moment),
    sa.Column("settled_at", Moment),
    sa.Column("provider_id", sa.Text),
    sa.Column("reason", sa.Text),
    one_of("state", TouchpointState),
    sa.CheckConstraint("kind IN ('service', 'marketing', 'team')", name="kind_is_known"),
    sa.CheckConstraint("state NOT IN ('queued', 'held') OR due_at IS NOT NULL", name="queued_is_due"),
    sa.CheckConstraint("state <> 'sending' OR leased_until IS NOT NULL", name="sending_has_a_lease"),
    sa.UniqueConstraint("enrollment_id", "step"),
    sa.Index("ix_touchpoints_due", "channel", "lane", "due_at", postgresql_where=_queued, sqlite_where=_queued),
    # What one customer has queued, ranked together by `prepare`.
    sa.Index("ix_touchpoints_queued", "customer_id", postgresql_where=_queued, sqlite_where=_queued),
    sa.Index(
        "ix_touchpoints_unsettled",
        "state",
        "leased_until",
        postgresql_where=_unsettled,
        sqlite_where=_unsettled,
    ),
    suspects("touchpoints", "state = 'queued' AND tries > 0"),
    sa.Index("ix_touchpoints_troubled", "state", "id", postgresql_where=_troubled, sqlite_where=_troubled),
    sa.Index("ix_touchpoints_customer_id_prepared_at", "customer_id", "prepared_at"),
    postgresql_with={"fillfactor": "80"},
)

#: The facts a touchpoint was rendered with: personal data, so apart, and deleted by `forget`. The customer stands here
#: for the day on which tables are distributed by customer; reading goes through the touchpoint, which has the keys.
contexts = sa.Table(
    "contexts",
    metadata,
    sa.Column("touchpoint_id", Id, sa.ForeignKey("touchpoints.id"), primary_key=True),
    sa.Column("customer_id", Id, nullable=False),
    sa.Column("facts", Json, nullable=False),
)

#: What runs did, and why. No personal data: ids, names of steps and rules, instants.
decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    customer(nullable=False, index=True),
    sa.Column("enrollment_id", Id, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("verb", sa.Text, nullable=False),
    sa.Column("step", sa.Text),
    sa.Column("detail", Json),
)

#: Batches in work. A row that can be locked belongs to a process that died: its members are tried alone.
claims = sa.Table(
    "claims",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),  # inbox | enrollments | touchpoints
    sa.Column("members", Json, nullable=False),
    sa.Column("claimed_at", Moment, nullable=False),
    # Since when the server ran that took the claim, by its own word; SQLite has no server.
    sa.Column("server_since", Moment),
)

#: What one of all processes does now and then: when it was done last, and how far it came.
rounds = sa.Table(
    "rounds",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("upto", Id),
)
