"""Scores, how many have each, and seasons as they were sealed."""

import sqlalchemy as sa

from db.tables.columns import Id, Json, Moment, customer, metadata

_METRICS = "metric IN ('referrals', 'revenue', 'rewards', 'points')"

_placed = sa.text("value > 0")

_unsealed = sa.text("revision IS NULL")

#: What a customer has on each board they are on. A board is a programme, a metric and a season; who has nothing (any
#: more) keeps a row of 0, and is on none.
scores = sa.Table(
    "scores",
    metadata,
    customer(primary_key=True),
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
    customer(nullable=False, index=True),
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
