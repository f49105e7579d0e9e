"""Who a customer is: the one place for personal data, identities, merges, consent, and what customers ask for."""

import sqlalchemy as sa

from db.tables.columns import Id, Json, Moment, State, Word, customer, metadata, one_of


class MergeState(State):
    """The life of a finding that two customers are one."""

    WANTED = "wanted"  # -> done, parked; deleted where it no longer holds
    DONE = "done"  # -> undone
    UNDONE = "undone"  # they are not the same: never merged again, unless by hand
    PARKED = "parked"  # it failed; -> wanted by `afterglow merge`


accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("attributes", Json),  # facts that shop.yaml declares; NULL: none is known
    sa.UniqueConstraint("external_id", "source"),
)

#: What runs once for an account: claimed by the event that started it, whoever of the account did it.
account_runs = sa.Table(
    "account_runs",
    metadata,
    sa.Column("flow", sa.Text, primary_key=True),
    sa.Column("account_id", Id, sa.ForeignKey("accounts.id"), primary_key=True, index=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("event_id", Id, nullable=False, index=True),
    sa.Column("started_at", Moment, nullable=False),
)

customers = sa.Table(
    "customers",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("account_id", Id, sa.ForeignKey("accounts.id"), index=True),
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
    customer(primary_key=True),
    sa.Column("email", sa.Text),
    sa.Column("phone", sa.Text),
    sa.Column("first_name", sa.Text),
    sa.Column("last_name", sa.Text),
    sa.Column("locale", sa.Text),
    sa.Column("timezone", sa.Text, index=True),  # told by a source or derived; NULL: the shop's
    sa.Column("country", sa.Text),  # ISO 3166 code and region of the newest address
    sa.Column("region", sa.Text),
    sa.Column("locale_from", sa.Text),  # what locale and timezone were taken from; NULL: told, or from nothing
    sa.Column("timezone_from", sa.Text),
    sa.Column("attributes", Json, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
    sa.CheckConstraint("locale_from IN ('told', 'address')", name="locale_from_is_known"),
    sa.CheckConstraint("timezone_from IN ('told', 'address', 'phone', 'locale')", name="timezone_from_is_known"),
)

#: Whose own pages were closed: links carry a generation, and only those of this one open. No row: generation 0. A row
#: stays with its number when customers are merged, as the links do.
me_links = sa.Table(
    "me_links",
    metadata,
    customer(primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("revoked_at", Moment, nullable=False),
    sa.CheckConstraint("generation > 0", name="generation_is_later"),
)

#: A customer's id at a source; under source "email" (and "phone") its keyed hash; under "<source>:order" an order.
identities = sa.Table(
    "identities",
    metadata,
    # The id leads the key, because the ids of a batch are looked up whatever their source.
    sa.Column("external_id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    customer(nullable=False, index=True),
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
    one_of("state", MergeState),
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
    customer(primary_key=True),
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("state", Word, nullable=False),
    sa.Column("basis", sa.Text, nullable=False),
    sa.Column("evidence", Json, nullable=False),
    sa.Column("occurred_at", Moment, nullable=False),
    sa.CheckConstraint("state IN ('granted', 'withdrawn')", name="state_is_known"),
    sa.CheckConstraint("basis IN ('consent', 'existing-customer', 'service')", name="basis_is_known"),
)

#: What customers said about products. The text stands here only where its writer allows it to be quoted: by which
#: source they said so, and when. With `named`, first name and initial may stand beside it.
reviews = sa.Table(
    "reviews",
    metadata,
    sa.Column("event_id", Id, sa.ForeignKey("events.id"), primary_key=True),
    customer(nullable=False, index=True),
    sa.Column("number", sa.Text),  # at its source
    sa.Column("product", sa.Text),
    sa.Column("stars", sa.SmallInteger, nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("named", sa.Boolean, nullable=False),
    sa.Column("permitted_at", Moment),
    sa.Column("permitted_by", sa.Text),
    sa.Column("wording", sa.Text),  # the version of the words on our page by which it was permitted
    sa.CheckConstraint("stars BETWEEN 1 AND 5", name="stars_are_known"),
    sa.CheckConstraint("wording IS NULL OR permitted_at IS NOT NULL", name="wording_of_a_permission"),
    sa.CheckConstraint(
        "(text IS NULL) = (permitted_at IS NULL) AND (text IS NULL) = (permitted_by IS NULL)",
        name="quoted_with_permission",
    ),
    sa.Index("ix_reviews_product", "product", "stars"),
)

#: Which messages quote which reviews, so that a quote can be taken back.
quotings = sa.Table(
    "quotings",
    metadata,
    sa.Column("event_id", Id, sa.ForeignKey("reviews.event_id"), primary_key=True),
    sa.Column("touchpoint_id", Id, sa.ForeignKey("touchpoints.id"), primary_key=True, index=True),
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
