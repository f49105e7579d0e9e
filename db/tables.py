"""The tables. They have no behaviour: verbs are functions in the modules beside this one.

Personal data (addresses, names, attributes) stands in `profiles` alone, one row per customer; everything else refers
to customers by id, so that one DELETE forgets a person. Hot tables (`inbox`, `enrollments`, `touchpoints`) are
narrow and have a partial index on exactly the rows that are due. Promises of uniqueness are UNIQUE constraints in
tables that are never partitioned.
"""

import enum
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Moment(sa.types.TypeDecorator[datetime]):
    """An instant. `timestamptz` on PostgreSQL; whole microseconds since 1970 on SQLite, which sort and compare."""

    impl = sa.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(sa.BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return (value - EPOCH) // MICROSECOND

    def result_processor(self, dialect: Dialect, coltype: Any) -> Callable[[Any], datetime | None] | None:
        """None where the driver gives instants; a bare function otherwise, since a batch reads thousands."""
        if dialect.name == "postgresql":
            return None
        return lambda value: None if value is None else EPOCH + timedelta(0, 0, value)


class Word(sa.types.TypeDecorator[str]):
    """A text of a short list of ours, such as a state.

    Compared with a constant it is written into the statement instead of being bound, because the plan of a statement
    with a parameter cannot use an index that holds only the rows of one state.
    """

    impl = sa.Text
    cache_ok = True

    class Comparator(sa.types.TypeDecorator.Comparator[str]):
        """Turns words on the other side into constants."""

        def operate(self, op: Any, *other: Any, **options: Any) -> Any:
            return super().operate(op, *(_constant(one) for one in other), **options)

    comparator_factory = Comparator


def _constant(value: Any) -> Any:
    if isinstance(value, str):
        if not value.replace("_", "").isalpha():
            raise ValueError(f"{value!r} is not a word")
        return sa.literal_column(f"'{value}'")
    if isinstance(value, list | tuple | set | frozenset):
        return [_constant(one) for one in value]
    return value


Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class State(enum.StrEnum):
    """A state is a word in a text column, held to its list by a CHECK."""


class InboxState(State):
    """The life of one element of a webhook."""

    RECEIVED = "received"  # -> mapped, ignored, awaiting, fetching, parked
    MAPPED = "mapped"  # it became an event, or repeated one
    IGNORED = "ignored"  # nothing in the source file speaks of it
    AWAITING = "awaiting"  # names an order we have not seen yet; -> received when the order comes
    FETCHING = "fetching"  # lacks a document of its source; has fetch_at; -> received, parked
    PARKED = "parked"  # a human must look; -> received by `afterglow inbox retry`


class MergeState(State):
    """The life of a finding that two customers are one."""

    WANTED = "wanted"  # -> done, parked; deleted where it no longer holds
    DONE = "done"  # -> undone
    UNDONE = "undone"  # they are not the same: never merged again, unless by hand
    PARKED = "parked"  # it failed; -> wanted by `afterglow merge`


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


class HoldState(State):
    """The life of what a redemption holds until it is settled; each of the ends is final."""

    HELD = "held"  # -> settled, void, timed_out
    SETTLED = "settled"  # spent, in part or whole; the rest went back
    VOID = "void"  # went back
    TIMED_OUT = "timed_out"  # went back, because nobody settled it in time


OPEN_TOUCHPOINTS = (TouchpointState.QUEUED, TouchpointState.HELD, TouchpointState.SENDING)


def _one_of(column: str, states: type[State]) -> sa.CheckConstraint:
    words = ", ".join(f"'{state.value}'" for state in states)
    return sa.CheckConstraint(f"{column} IN ({words})", name=f"{column}_is_known")


def _customer(**options: Any) -> sa.Column[int]:
    return sa.Column("customer_id", Id, sa.ForeignKey("customers.id"), **options)


def _suspects(table: str, where: str) -> sa.Index:
    """Rows whose batch died before: few, and found without a look at the others."""
    condition = sa.text(where)
    return sa.Index(f"ix_{table}_suspects", "id", postgresql_where=condition, sqlite_where=condition)


accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.UniqueConstraint("external_id", "source"),
)

customers = sa.Table(
    "customers",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("account_id", Id, sa.ForeignKey("accounts.id")),
    sa.Column("stage", sa.Text),
    sa.Column("stage_at", Moment),
    sa.Column("orders", sa.Integer, nullable=False),
    sa.Column("spent", sa.BigInteger, nullable=False),  # minor units of the shop's currency
    sa.Column("last_order_at", Moment),
    sa.Column("since", Moment, nullable=False),
    sa.Column("forgotten_at", Moment),
    # Whom this customer turned out to be. What was theirs is that one's now; the row stays so that old numbers lead on.
    sa.Column("merged_into", Id, sa.ForeignKey("customers.id"), index=True),
)

#: The one place for personal data.
profiles = sa.Table(
    "profiles",
    metadata,
    _customer(primary_key=True),
    sa.Column("email", sa.Text),
    sa.Column("phone", sa.Text),
    sa.Column("first_name", sa.Text),
    sa.Column("last_name", sa.Text),
    sa.Column("locale", sa.Text),
    sa.Column("timezone", sa.Text),  # told by a source or derived; NULL: the shop's
    sa.Column("country", sa.Text),  # ISO 3166 code and region of the newest address
    sa.Column("region", sa.Text),
    sa.Column("locale_from", sa.Text),  # what locale and timezone were taken from; NULL: told, or from nothing
    sa.Column("timezone_from", sa.Text),
    sa.Column("attributes", Json, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
    sa.CheckConstraint("locale_from IN ('told', 'address')", name="locale_from_is_known"),
    sa.CheckConstraint("timezone_from IN ('told', 'address', 'phone', 'locale')", name="timezone_from_is_known"),
)

#: A customer's id at a source; under source "email" (and "phone") its keyed hash; under "<source>:order" an order.
identities = sa.Table(
    "identities",
    metadata,
    # The id leads the key, because the ids of a batch are looked up whatever their source.
    sa.Column("external_id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    _customer(nullable=False, index=True),
)

#: Customers who turned out to be one: what is wanted, what was done, what was undone. The older (lower number) is kept.
merges = sa.Table(
    "merges",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("kept", Id, sa.ForeignKey("customers.id"), nullable=False),
    sa.Column("merged", Id, sa.ForeignKey("customers.id"), nullable=False, index=True),
    sa.Column("state", Word, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("by_hand", sa.Boolean, nullable=False),
    sa.Column("wanted_at", Moment, nullable=False),
    sa.Column("done_at", Moment),
    sa.Column("undone_at", Moment),
    # What moved and what was overwritten, to put it back: personal data, emptied by `forget` and once it was used.
    sa.Column("journal", Json),
    sa.UniqueConstraint("kept", "merged"),
    sa.CheckConstraint("kept < merged", name="older_is_kept"),
    sa.CheckConstraint("state <> 'done' OR done_at IS NOT NULL", name="done_has_a_time"),
    _one_of("state", MergeState),
    sa.Index(
        "ix_merges_wanted",
        "id",
        postgresql_where=sa.text("state = 'wanted'"),
        sqlite_where=sa.text("state = 'wanted'"),
    ),
)

#: What a customer allows on a channel. Topic "*" is every topic. The word with the latest occurred_at stands, save
#: that what the customer said themselves is never overruled by a permission on another basis. `evidence` says by which
#: source and event it came, and what the provider said about how it was given.
consents = sa.Table(
    "consents",
    metadata,
    _customer(primary_key=True),
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("state", Word, nullable=False),
    sa.Column("basis", sa.Text, nullable=False),
    sa.Column("evidence", Json, nullable=False),
    sa.Column("occurred_at", Moment, nullable=False),
    sa.CheckConstraint("state IN ('granted', 'withdrawn')", name="state_is_known"),
    sa.CheckConstraint("basis IN ('consent', 'existing-customer', 'service')", name="basis_is_known"),
)

#: Addresses that get no mail, as keyed hashes, so that the list can outlive the person's data.
suppressions = sa.Table(
    "suppressions",
    metadata,
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),  # bounced | complained | forgotten | by-hand
    sa.Column("covers", sa.Text, nullable=False),  # marketing | everything
    sa.Column("at", Moment, nullable=False),
    sa.CheckConstraint("covers IN ('marketing', 'everything')", name="covers_is_known"),
)

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
    _one_of("state", InboxState),
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
    _suspects("inbox", "state = 'received' AND tries > 0"),
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
    _customer(nullable=False),
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
    _customer(nullable=False, index=True),
    sa.Column("entered_at", Moment, nullable=False),
)

#: Every file that was ever in force, by digest: flows, compiled templates, sources, shop, stages.
documents = sa.Table(
    "documents",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.UniqueConstraint("kind", "name", "digest"),
)

#: What `apply` put into force, and when; the release with the highest id is in force.
releases = sa.Table(
    "releases",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("applied_at", Moment, nullable=False),
    sa.Column("applied_by", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("manifest", Json, nullable=False),  # {kind: {name: document id}}
)

#: One run per key, for ever: this table outlives the runs themselves.
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("flow", sa.Text, primary_key=True),
    _customer(primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    sa.Column("enrollment_id", Id, nullable=False),
)

_waiting = sa.text("state = 'waiting'")

enrollments = sa.Table(
    "enrollments",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _customer(nullable=False),
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
    _one_of("state", EnrollmentState),
    sa.CheckConstraint(
        "(due_at IS NOT NULL) = (state IN ('waiting', 'paused'))",
        name="waits_for_one_thing",
    ),
    sa.Index("ix_enrollments_due", "lane", "due_at", postgresql_where=_waiting, sqlite_where=_waiting),
    _suspects("enrollments", "state = 'waiting' AND tries > 0"),
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
    _customer(nullable=False),
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
    _one_of("state", TouchpointState),
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
    _suspects("touchpoints", "state = 'queued' AND tries > 0"),
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
    _customer(nullable=False, index=True),
    sa.Column("enrollment_id", Id, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("verb", sa.Text, nullable=False),
    sa.Column("step", sa.Text),
    sa.Column("detail", Json),
)

referral_codes = sa.Table(
    "referral_codes",
    metadata,
    sa.Column("programme", sa.Text, primary_key=True),
    _customer(primary_key=True),
    sa.Column("code", sa.Text, nullable=False, unique=True),
    sa.Column("made_at", Moment, nullable=False),
)

#: What customers have, a row for each asset and role. Points come from and go to the house, which has no row: nothing
#: of ours is locked by everybody. The ledger holds no personal data and is never changed, only added to.
ledger_accounts = sa.Table(
    "ledger_accounts",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _customer(nullable=False),
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("asset", sa.Text, nullable=False),
    sa.Column("role", Word, nullable=False),  # wallet | held | debt
    sa.Column("balance", sa.BigInteger, nullable=False),
    sa.Column("entries", sa.Integer, nullable=False),
    sa.Column("chain", sa.LargeBinary, nullable=False),  # after the newest entry
    sa.UniqueConstraint("customer_id", "programme", "asset", "role"),
    sa.CheckConstraint("role IN ('wallet', 'held', 'debt')", name="role_is_known"),
    sa.CheckConstraint("CASE role WHEN 'debt' THEN balance <= 0 ELSE balance >= 0 END", name="keeps_to_its_side"),
    postgresql_with={"fillfactor": "80"},
)

ledger_transactions = sa.Table(
    "ledger_transactions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("asset", sa.Text, nullable=False),
    _customer(nullable=False),
    sa.Column("kind", Word, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),  # of what was asked for: tells a repeat from a conflict
    sa.Column("event_at", Moment, nullable=False),  # when it happened; the tier progress counts then
    sa.Column("recorded_at", Moment, nullable=False),  # when we learned of it
    sa.Column("event_id", Id, sa.ForeignKey("events.id")),  # what caused it
    sa.Column("document_id", Id, sa.ForeignKey("documents.id")),  # the programme's file as it was then
    sa.Column("rule", sa.Text),
    sa.Column("inputs", Json, nullable=False),  # what the rule read
    sa.Column("desired", sa.BigInteger, nullable=False),  # before a cap or a policy cut it
    sa.Column("granted", sa.BigInteger, nullable=False),  # what moved
    sa.Column("progress", sa.BigInteger, nullable=False),  # towards the tier, with its sign
    sa.Column("subject", sa.Text),  # what it hangs on, such as an order
    sa.Column("undoes", Id, sa.ForeignKey("ledger_transactions.id")),
    sa.Column("author", sa.Text),
    sa.Column("reason", sa.Text),
    # The key leads, because the keys of a batch are looked up.
    sa.UniqueConstraint("key", "customer_id", "programme", "asset", "kind"),
    sa.CheckConstraint(
        "kind IN ('earn', 'bonus', 'reward', 'adjust', 'redeem', 'reserve', 'settle', 'void', 'return', 'expire', "
        "'clawback', 'transfer')",
        name="kind_is_known",
    ),
    sa.CheckConstraint("granted BETWEEN 0 AND desired", name="grants_no_more_than_desired"),
    sa.CheckConstraint("kind <> 'adjust' OR (author IS NOT NULL AND reason IS NOT NULL)", name="adjusts_for_a_reason"),
    sa.Index("ix_ledger_transactions_customer_id_event_at", "customer_id", "event_at"),
    sa.Index(
        "ix_ledger_transactions_subject",
        "subject",
        postgresql_where=sa.text("subject IS NOT NULL"),
        sqlite_where=sa.text("subject IS NOT NULL"),
    ),
    sa.Index(
        "ix_ledger_transactions_undoes",
        "undoes",
        postgresql_where=sa.text("undoes IS NOT NULL"),
        sqlite_where=sa.text("undoes IS NOT NULL"),
    ),
)

#: The entries: those of one transaction sum to zero.
postings = sa.Table(
    "postings",
    metadata,
    sa.Column("transaction_id", Id, sa.ForeignKey("ledger_transactions.id"), primary_key=True),
    sa.Column("n", sa.SmallInteger, primary_key=True),
    sa.Column("account_id", Id, sa.ForeignKey("ledger_accounts.id")),
    sa.Column("house", Word),  # issued | spent | expired | adjusted
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("entry", sa.Integer),  # its number within the account
    sa.Column("balance", sa.BigInteger),  # of the account after it
    sa.Column("chain", sa.LargeBinary),  # over all entries of the account up to this one
    sa.UniqueConstraint("account_id", "entry"),
    sa.CheckConstraint("amount <> 0", name="moves_something"),
    sa.CheckConstraint("house IN ('issued', 'spent', 'expired', 'adjusted')", name="house_is_known"),
    sa.CheckConstraint("(account_id IS NULL) <> (house IS NULL)", name="has_one_place"),
    sa.CheckConstraint(
        "(account_id IS NULL) = (entry IS NULL) AND (account_id IS NULL) = (balance IS NULL) "
        "AND (account_id IS NULL) = (chain IS NULL)",
        name="is_chained_where_it_is_an_account",
    ),
)

_some_left = sa.text("remaining > 0")

#: What each credit brought, and how much of it is left. Pending, to be spent and past are a matter of the instant.
lots = sa.Table(
    "lots",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("account_id", Id, sa.ForeignKey("ledger_accounts.id"), nullable=False),
    sa.Column("transaction_id", Id, sa.ForeignKey("ledger_transactions.id"), nullable=False, index=True),
    # By which it was earned: another one where the lot came from a customer who was merged.
    sa.Column("origin_id", Id, sa.ForeignKey("ledger_transactions.id"), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("remaining", sa.BigInteger, nullable=False),  # the amount less what was drawn
    sa.Column("earned_at", Moment, nullable=False),
    sa.Column("activates_at", Moment, nullable=False),
    sa.Column("expires_at", Moment),
    sa.CheckConstraint("amount > 0", name="holds_something"),
    sa.CheckConstraint("remaining BETWEEN 0 AND amount", name="remaining_is_a_part"),
    sa.Index("ix_lots_open", "account_id", postgresql_where=_some_left, sqlite_where=_some_left),
    sa.Index(
        "ix_lots_due",
        "expires_at",
        postgresql_where=sa.text("remaining > 0 AND expires_at IS NOT NULL"),
        sqlite_where=sa.text("remaining > 0 AND expires_at IS NOT NULL"),
    ),
    postgresql_with={"fillfactor": "80"},
)

#: What a transaction drew from which lot, negative where it was returned.
allocations = sa.Table(
    "allocations",
    metadata,
    sa.Column("transaction_id", Id, sa.ForeignKey("ledger_transactions.id"), primary_key=True),
    sa.Column("lot_id", Id, sa.ForeignKey("lots.id"), primary_key=True, index=True),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.CheckConstraint("amount <> 0", name="draws_something"),
)

_held = sa.text("state = 'held'")

#: What redemptions hold until they are settled, by the transaction that reserved it.
holds = sa.Table(
    "holds",
    metadata,
    sa.Column("transaction_id", Id, sa.ForeignKey("ledger_transactions.id"), primary_key=True),
    sa.Column("account_id", Id, sa.ForeignKey("ledger_accounts.id"), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("settled", sa.BigInteger, nullable=False),
    sa.Column("state", Word, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    _one_of("state", HoldState),
    sa.CheckConstraint("amount > 0", name="holds_something"),
    sa.CheckConstraint("settled BETWEEN 0 AND amount", name="settled_is_a_part"),
    sa.CheckConstraint("(settled > 0) = (state = 'settled')", name="settles_what_is_settled"),
    sa.Index("ix_holds_due", "expires_at", postgresql_where=_held, sqlite_where=_held),
    sa.Index("ix_holds_open", "account_id", postgresql_where=_held, sqlite_where=_held),
)

#: Marketing that is stopped by hand: one flow, or "*" for all.
halts = sa.Table(
    "halts",
    metadata,
    sa.Column("flow", sa.Text, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
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

_open = sa.text("state <> 'done'")

#: What customers ask for by way of a provider: to be forgotten, or to have what is kept about them. Kept by number; the
#: texts in `who` that name the person stand here only until the request is first looked at.
privacy_requests = sa.Table(
    "privacy_requests",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("inbox_id", Id, nullable=False, unique=True),
    sa.Column("asked_at", Moment, nullable=False),
    sa.Column("due_at", Moment, nullable=False),  # until when the law wants it done
    sa.Column("who", Json),  # {id, email, phone}
    sa.Column("customer_ids", Json, nullable=False),  # for whom an export is to be made
    sa.Column("state", Word, nullable=False),
    sa.Column("done_at", Moment),
    sa.CheckConstraint("kind IN ('forget', 'export', 'forget-everybody')", name="kind_is_known"),
    sa.CheckConstraint("state IN ('asked', 'found', 'done')", name="state_is_known"),
    sa.CheckConstraint("(state = 'done') = (done_at IS NOT NULL)", name="done_has_a_moment"),
    sa.CheckConstraint("state = 'asked' OR who IS NULL", name="names_nobody_for_long"),
    sa.Index("ix_privacy_requests_open", "state", "due_at", postgresql_where=_open, sqlite_where=_open),
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

#: What one of all processes does now and then: when it was done last, and how far it came.
rounds = sa.Table(
    "rounds",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("upto", Id),
)


class ReferralState(State):
    """The life of a referral. `due_at` says when it is looked at next, where it is."""

    ATTRIBUTED = "attributed"  # somebody brought them; -> qualified, reversed
    QUALIFIED = (
        "qualified"  # has due_at: to be judged, then when the hold ends; -> review, rejected, rewarded, reversed
    )
    REVIEW = "review"  # a person looks; may have a deadline; -> qualified, rewarded, rejected, reversed
    REWARDED = "rewarded"  # -> review, reversed
    REJECTED = "rejected"  # never rewarded; -> qualified by `afterglow referrals approve`
    REVERSED = "reversed"  # undone; has due_at while rewards must be taken back; -> qualified by approving


#: Referral links that were followed. Nothing about who did.
clicks = sa.Table(
    "clicks",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("programme", sa.Text, nullable=False),
    _customer(nullable=False, index=True),  # the referrer
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("at", Moment, nullable=False),
)

#: Every sign that a customer was brought by another: which one counts is decided anew from all of them.
touches = sa.Table(
    "touches",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("programme", sa.Text, nullable=False),
    _customer(nullable=False, index=True),  # who was brought
    sa.Column("referrer_id", Id, sa.ForeignKey("customers.id"), nullable=False, index=True),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("code_made_at", Moment, nullable=False),
    sa.Column("event_id", Id, sa.ForeignKey("events.id"), nullable=False),
    sa.Column("click_id", Id),
    sa.UniqueConstraint("event_id", "method", "code"),
    sa.CheckConstraint("method IN ('code', 'discount', 'landing', 'click')", name="method_is_known"),
)

_due_referral = sa.text("due_at IS NOT NULL")
_standing_reward = sa.text("state <> 'taken_back'")

#: Who brought whom, once per programme and referee. Amounts are in minor units of the shop's currency.
referrals = sa.Table(
    "referrals",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("referrer_id", Id, sa.ForeignKey("customers.id"), nullable=False),
    sa.Column("referee_id", Id, sa.ForeignKey("customers.id"), nullable=False),
    sa.Column("state", Word, nullable=False),
    sa.Column("touch_id", Id, sa.ForeignKey("touches.id"), nullable=False),
    sa.Column("document_id", Id, sa.ForeignKey("documents.id"), nullable=False),  # the programme's file as it was
    sa.Column("attributed_at", Moment, nullable=False),
    sa.Column("event_id", Id, sa.ForeignKey("events.id")),  # that qualified
    sa.Column("subject", sa.Text),  # the order of that event, such as order/shopify/1001
    sa.Column("qualified_at", Moment),
    sa.Column("judged_at", Moment),
    sa.Column("rewarded_at", Moment),
    sa.Column("due_at", Moment),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("refunded", sa.BigInteger, nullable=False),
    # The id leads, because the referees of a batch are looked up whatever the programme.
    sa.UniqueConstraint("referee_id", "programme"),
    _one_of("state", ReferralState),
    sa.CheckConstraint(
        "state <> 'qualified' OR (due_at IS NOT NULL AND event_id IS NOT NULL)", name="qualified_is_due"
    ),
    sa.CheckConstraint("state <> 'rewarded' OR rewarded_at IS NOT NULL", name="rewarded_has_a_time"),
    sa.CheckConstraint("referrer_id <> referee_id OR state IN ('review', 'rejected', 'reversed')", name="nobody_alone"),
    sa.Index("ix_referrals_referrer_id_state", "referrer_id", "state", "programme"),
    sa.Index("ix_referrals_due", "due_at", postgresql_where=_due_referral, sqlite_where=_due_referral),
    sa.Index(
        "ix_referrals_review",
        "id",
        postgresql_where=sa.text("state = 'review'"),
        sqlite_where=sa.text("state = 'review'"),
    ),
)

#: What became of a referral, when, by whose word, and on what evidence: ids, names of rules and numbers.
referral_decisions = sa.Table(
    "referral_decisions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("referral_id", Id, sa.ForeignKey("referrals.id"), nullable=False, index=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("state", Word, nullable=False),
    sa.Column("because", sa.Text, nullable=False),
    sa.Column("author", sa.Text),  # of a person's decision
    sa.Column("reason", sa.Text),
    sa.Column("evidence", Json, nullable=False),
    _one_of("state", ReferralState),
)

#: What referrals brought: one reward per referral and side stands at a time, for ever.
referral_rewards = sa.Table(
    "referral_rewards",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("referral_id", Id, sa.ForeignKey("referrals.id"), nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("milestone", sa.Integer, nullable=False),  # 0: of the referral itself
    sa.Column("generation", sa.Integer, nullable=False),  # which time it is given
    _customer(nullable=False, index=True),  # who gets it
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("state", Word, nullable=False),
    sa.Column("asset", sa.Text, nullable=False),  # points | credit | coupon
    sa.Column("wallet", sa.Text),  # the loyalty programme of points and credit
    sa.Column("coupon", sa.Text),
    sa.Column("desired", sa.BigInteger, nullable=False),  # points, minor units of credit, or 1 coupon
    sa.Column("granted", sa.BigInteger, nullable=False),
    sa.Column("counts_at", Moment, nullable=False),  # the instant whose period the cap counts
    sa.Column("given_at", Moment, nullable=False),
    sa.Column("taken_back_at", Moment),
    sa.UniqueConstraint("referral_id", "side", "milestone", "generation"),
    sa.CheckConstraint("side IN ('referrer', 'referee', 'milestone')", name="side_is_known"),
    sa.CheckConstraint("(side = 'milestone') = (milestone > 0)", name="milestone_has_a_number"),
    sa.CheckConstraint("state IN ('given', 'capped', 'taken_back')", name="state_is_known"),
    sa.CheckConstraint("asset IN ('points', 'credit', 'coupon')", name="asset_is_known"),
    sa.CheckConstraint("(state = 'capped') = (granted = 0)", name="capped_is_nothing"),
    sa.CheckConstraint("granted IN (0, desired)", name="all_or_nothing"),
    sa.CheckConstraint("(state = 'taken_back') = (taken_back_at IS NOT NULL)", name="taken_back_has_a_time"),
    sa.Index(
        "uq_referral_rewards_standing",
        "referral_id",
        "side",
        "milestone",
        unique=True,
        postgresql_where=_standing_reward,
        sqlite_where=_standing_reward,
    ),
)

#: By what a referee is known again, as keyed hashes: the mailbox, the phone number, the postal address, the card.
referral_marks = sa.Table(
    "referral_marks",
    metadata,
    sa.Column("referral_id", Id, sa.ForeignKey("referrals.id"), primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False, index=True),
    sa.CheckConstraint("kind IN ('email', 'phone', 'address', 'payment')", name="kind_is_known"),
)

#: Which tier a customer is in. Who never reached a higher one than the lowest has no row.
memberships = sa.Table(
    "memberships",
    metadata,
    sa.Column("programme", sa.Text, primary_key=True),
    _customer(primary_key=True, index=True),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("since", Moment, nullable=False),
    sa.Column("falls_at", Moment),  # when they leave it, where they hold it no longer
    sa.Column("review_at", Moment),  # when to look again; NULL: not unless something happens
    sa.Index(
        "ix_memberships_due",
        "review_at",
        postgresql_where=sa.text("review_at IS NOT NULL"),
        sqlite_where=sa.text("review_at IS NOT NULL"),
    ),
)

#: How much of a programme's budget is given, by period.
budgets = sa.Table(
    "budgets",
    metadata,
    sa.Column("programme", sa.Text, primary_key=True),
    sa.Column("starts_at", Moment, primary_key=True),
    sa.Column("granted", sa.BigInteger, nullable=False),
    sa.CheckConstraint("granted >= 0", name="granted_is_no_debt"),
)

#: What customers bought with points.
redemptions = sa.Table(
    "redemptions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _customer(nullable=False, index=True),
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("reward", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),  # the same for repeats, so that it is given once
    sa.Column("transaction_id", Id, sa.ForeignKey("ledger_transactions.id"), nullable=False, unique=True),
    sa.Column("state", Word, nullable=False),  # given | cancelled
    sa.Column("at", Moment, nullable=False),
    sa.UniqueConstraint("key"),
    sa.CheckConstraint("state IN ('given', 'cancelled')", name="state_is_known"),
)

#: Codes that the shop knows, by the name of the coupon; each is handed out once.
coupons = sa.Table(
    "coupons",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("redemption_id", Id, sa.ForeignKey("redemptions.id"), unique=True),  # NULL: still to be had
    sa.UniqueConstraint("code", "name"),
    sa.Index(
        "ix_coupons_left",
        "name",
        "id",
        postgresql_where=sa.text("redemption_id IS NULL"),
        sqlite_where=sa.text("redemption_id IS NULL"),
    ),
)

_METRICS = "metric IN ('referrals', 'revenue', 'rewards', 'points')"
_placed, _unsealed = sa.text("value > 0"), sa.text("revision IS NULL")

#: What a customer has on each board they are on. A board is a programme, a metric and a season; who has nothing (any
#: more) keeps a row of 0, and is on none.
scores = sa.Table(
    "scores",
    metadata,
    _customer(primary_key=True),
    sa.Column("programme", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("season", sa.Text, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
    sa.Column("reached_at", Moment, nullable=False),
    sa.CheckConstraint(_METRICS, name="metric_is_known"),
)
sa.Index(
    "ix_scores_board",
    scores.c.programme,
    scores.c.metric,
    scores.c.season,
    scores.c.value.desc(),
    scores.c.reached_at,
    scores.c.customer_id,
    postgresql_where=_placed,
    sqlite_where=_placed,
)

#: How many customers of a board have a score: at level 0 each score, at level n each range of 256**n scores. Together
#: with what moved since (`score_moves`) it is right at any moment.
score_counts = sa.Table(
    "score_counts",
    metadata,
    sa.Column("programme", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("season", sa.Text, primary_key=True),
    sa.Column("level", sa.SmallInteger, primary_key=True),
    sa.Column("bucket", sa.BigInteger, primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),  # of the scores; at the highest level only
)

#: Scores that changed and are not in the counts yet: a row a batch and board, so that nobody waits for a counter.
score_moves = sa.Table(
    "score_moves",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("metric", sa.Text, nullable=False),
    sa.Column("season", sa.Text, nullable=False),
    sa.Column("moves", sa.Text, nullable=False),  # JSON: [score before, score after], ...
    sa.Index("ix_score_moves_board", "programme", "metric", "season"),
)

#: Every board that there is, and the newest revision of its season: 0 while it is not sealed.
seasons = sa.Table(
    "seasons",
    metadata,
    sa.Column("programme", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("season", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("starts_at", Moment),
    sa.Column("ends_at", Moment),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.CheckConstraint(_METRICS, name="metric_is_known"),
    sa.CheckConstraint("starts_at < ends_at", name="ends_after_it_starts"),
)

#: A season as it was sealed, and sealed again after late changes. Rows are never changed.
season_seals = sa.Table(
    "season_seals",
    metadata,
    sa.Column("programme", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("season", sa.Text, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("sealed_at", Moment, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),  # of every score of the season, not of the first places alone
    sa.Column("placed", sa.BigInteger, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("places", Json, nullable=False),  # the first ones: [rank, customer, value, reached_at]
)

#: Changes of seasons that were over: what a further revision is made of.
late_scores = sa.Table(
    "late_scores",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("metric", sa.Text, nullable=False),
    sa.Column("season", sa.Text, nullable=False),
    _customer(nullable=False, index=True),
    sa.Column("delta", sa.BigInteger, nullable=False),
    sa.Column("subject", sa.Text),
    sa.Column("recorded_at", Moment, nullable=False),
    sa.Column("revision", sa.Integer),  # the first that holds it
    sa.Index(
        "ix_late_scores_unsealed",
        "programme",
        "metric",
        "season",
        postgresql_where=_unsealed,
        sqlite_where=_unsealed,
    ),
)
