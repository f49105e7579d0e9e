"""What came in: webhooks, the events they became, and what is usual for their sources."""

import sqlalchemy as sa

from db.tables.columns import Id, Json, Moment, State, Word, customer, metadata, one_of, suspects


class InboxState(State):
    """The life of one element of a webhook."""

    RECEIVED = "received"  # -> mapped, ignored, awaiting, fetching, parked
    MAPPED = "mapped"  # it became an event, or repeated one
    IGNORED = "ignored"  # nothing in the source file speaks of it
    AWAITING = "awaiting"  # names an order we have not seen yet; -> received when the order comes
    FETCHING = "fetching"  # lacks a document of its source; has fetch_at; -> received, parked
    PARKED = "parked"  # a human must look; -> received by `afterglow inbox retry`


inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("state", Word, nullable=False),
    sa.Column("tries", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("received_at", Moment, nullable=False),
    sa.Column("headers", Json, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # emptied after keep_webhooks_days
    sa.Column("customer_id", Id),  # not a foreign key: known only after mapping
    sa.Column("awaits", sa.Text),  # identity that must exist before this can be mapped
    sa.Column("reason", sa.Text),
    sa.Column("fetch_at", Moment),  # when its document is asked for, again where that failed
    sa.Column("fetch_tries", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("fetched", Json),  # documents by name, null for one that is gone; emptied with the body
    sa.UniqueConstraint("source", "key", "digest"),
    one_of("state", InboxState),
    sa.CheckConstraint("state <> 'fetching' OR fetch_at IS NOT NULL", name="fetching_is_due"),
    sa.Index(
        "ix_inbox_received",
        "id",
        postgresql_where=sa.text("state = 'received'"),
        sqlite_where=sa.text("state = 'received'"),
    ),
    sa.Index(
        "ix_inbox_unsettled",
        "state",
        "awaits",
        postgresql_where=sa.text("state IN ('awaiting', 'parked')"),
        sqlite_where=sa.text("state IN ('awaiting', 'parked')"),
    ),
    suspects("inbox", "state = 'received' AND tries > 0"),
    sa.Index(
        "ix_inbox_fetching",
        "fetch_at",
        postgresql_where=sa.text("state = 'fetching'"),
        sqlite_where=sa.text("state = 'fetching'"),
    ),
    sa.Index("ix_inbox_customer_id", "customer_id"),
    # Only rows that still have their body, so that emptying old ones never walks those emptied before.
    sa.Index(
        "ix_inbox_bodies",
        "received_at",
        postgresql_where=sa.text("length(body) > 0"),
        sqlite_where=sa.text("length(body) > 0"),
    ),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", Id, primary_key=True),
    customer(nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),  # of the mapped event: tells a repeat from a conflict
    sa.Column("occurred_at", Moment, nullable=False),
    sa.Column("recorded_at", Moment, nullable=False),
    sa.Column("payload", Json, nullable=False),
    sa.UniqueConstraint("key", "source"),  # the key leads, because the keys of a batch are looked up
    sa.Index("ix_events_customer_id_occurred_at", "customer_id", "occurred_at"),
)

stage_entries = sa.Table(
    "stage_entries",
    metadata,
    sa.Column("event_id", Id, sa.ForeignKey("events.id"), primary_key=True),
    sa.Column("stage", sa.Text, primary_key=True),
    customer(nullable=False, index=True),
    sa.Column("entered_at", Moment, nullable=False),
)

#: When the next request to a source may go, for all workers together. Real time, whatever the clock says.
fetch_rates = sa.Table(
    "fetch_rates",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("free_at", Moment, nullable=False),  # the first instant that nobody took
    sa.Column("paused_until", Moment),  # the source asked for quiet
)

#: Documents that were fetched a moment ago or are being asked for, by the keyed hash of source and URL.
fetch_cache = sa.Table(
    "fetch_cache",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("state", Word, nullable=False),  # asking | kept | gone
    sa.Column("at", Moment, nullable=False),  # when somebody began to ask
    sa.Column("until", Moment, nullable=False, index=True),  # from then on it may be asked for again
    sa.Column("document", Json),
    sa.CheckConstraint("state IN ('asking', 'kept', 'gone')", name="state_is_known"),
)

#: How many elements of webhooks came in each hour, and what became of them by the end of it: what is usual is learned
#: from these. Kept for 13 weeks.
pulses = sa.Table(
    "pulses",
    metadata,
    # The hour leads, because all sources of a stretch of time are read and deleted together.
    sa.Column("hour", Moment, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("received", sa.Integer, nullable=False),
    sa.Column("mapped", sa.Integer, nullable=False),
    sa.Column("ignored", sa.Integer, nullable=False),
    sa.Column("parked", sa.Integer, nullable=False),
    sa.Column("last_at", Moment, nullable=False),  # when the newest of them came
)

#: How often a path of a source's events is filled: what is usual, and in the latest ones.
fillings = sa.Table(
    "fillings",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("event", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("seen", sa.Integer, nullable=False),  # events before the latest, the old ones counting less and less
    sa.Column("present", sa.Integer, nullable=False),  # of these, those in which it was filled
    sa.Column("latest", sa.BigInteger, nullable=False),  # a bit for each of the latest events, the newest lowest
    sa.Column("latest_seen", sa.SmallInteger, nullable=False),  # how many of the bits are in use
    sa.Column("digest", sa.Text, nullable=False),  # of the source's file: another file learns anew
    sa.Column("at", Moment, nullable=False),
)

#: What somebody must be told about a source. A row stays when it is over, and is taken again by the next alarm.
alarms = sa.Table(
    "alarms",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),  # silence | drift
    sa.Column("subject", sa.Text, primary_key=True),  # of a drift its event and path; of silence nothing
    sa.Column("since", Moment, nullable=False),
    sa.Column("cleared_at", Moment),
    sa.Column("told_at", Moment),  # when the team was written to
    sa.Column("detail", Json, nullable=False),  # the figures of its sentence
    sa.CheckConstraint("kind IN ('silence', 'drift')", name="kind_is_known"),
)
