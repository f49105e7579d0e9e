"""Who is in which segment, when to look again, and how far a new segment is filled."""

import sqlalchemy as sa

from db.tables.columns import Id, Json, Moment, customer, metadata

#: Who is in a segment now. (`memberships` are those of tiers.)
segment_members = sa.Table(
    "segment_members",
    metadata,
    sa.Column("segment", sa.Text, primary_key=True),
    customer(primary_key=True, index=True),
    sa.Column("since", Moment, nullable=False),
)

#: When a customer's segments are to be judged: at once where something happened, later where time alone may move them.
segment_looks = sa.Table(
    "segment_looks",
    metadata,
    customer(primary_key=True),
    sa.Column("due_at", Moment, nullable=False, index=True),
    sa.Column("tells", sa.Boolean, nullable=False),  # whether who enters or leaves by it is told of: the past is not
)

#: Companies of which something changed, so that the segments of all their people are to be judged; those up to the
#: customer `upto` have their look. A row is only ever added by whoever changes a company, so that nobody waits for it.
account_looks = sa.Table(
    "account_looks",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("account_id", Id, sa.ForeignKey("accounts.id"), nullable=False, index=True),
    sa.Column("due_at", Moment, nullable=False, index=True),
    sa.Column("tells", sa.Boolean, nullable=False),  # as of `segment_looks`
    sa.Column("upto", Id, nullable=False),
)

#: The segments in force, and how far each was filled by the meaning it has now. Customers beyond `upto`, up to `last`
#: (the newest when the filling began), are still to be judged.
segment_fillings = sa.Table(
    "segment_fillings",
    metadata,
    sa.Column("segment", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),  # of what decides who is in it
    sa.Column("upto", Id, nullable=False),
    sa.Column("last", Id, nullable=False),
    sa.Column("tells", sa.Boolean, nullable=False),  # whether who enters or leaves by the filling is told of
    sa.Column("began_at", Moment, nullable=False),
)

#: Where the fifths of all customers with orders begin, by measure.
quintiles = sa.Table(
    "quintiles",
    metadata,
    sa.Column("measure", sa.Text, primary_key=True),  # recency | frequency | monetary
    sa.Column("cuts", Json, nullable=False),  # four numbers, ascending
    sa.Column("made_at", Moment, nullable=False),
)
