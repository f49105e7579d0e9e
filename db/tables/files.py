"""What marketers wrote, by digest, and what of it is in force."""

import sqlalchemy as sa

from db.tables.columns import Id, Json, Moment, metadata

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
    sa.Column("commit", sa.Text),  # of the repository in which the files stood; NULL where they stood in none
    # Up to which run of theirs people were told to go over to this release; NULL: nobody is left to be told.
    sa.Column("moved_upto", Id),
)

#: When the next turn of marketing is free, of the whole shop ("*") or of a flow, and where the line of a flow's mails
#: ends that wait for one. Rows are there only where a rate is declared.
send_turns = sa.Table(
    "send_turns",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("free_at", Moment, nullable=False),
    sa.Column("line_at", Moment, nullable=False),
)

#: Marketing that is stopped by hand: one flow, or "*" for all.
halts = sa.Table(
    "halts",
    metadata,
    sa.Column("flow", sa.Text, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
)
