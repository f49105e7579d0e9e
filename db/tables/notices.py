"""Webhooks of ours: what other systems are told."""

import sqlalchemy as sa

from db.tables.columns import Id, Moment, State, Word, metadata, one_of


class NoticeState(State):
    """The life of a webhook of ours."""

    WAITING = "waiting"  # has due_at; -> told, failed, dropped
    TOLD = "told"  # the other side said yes
    FAILED = "failed"  # the tries are used up: a person looks; -> waiting by `afterglow webhooks retry`
    DROPPED = "dropped"  # the customer was forgotten before


_waiting = sa.text("state = 'waiting'")

#: What is told of a reward that the shop gives itself, or of an event by which a flow asks for it. At least once, under
#: an id of its own.
notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("reward_id", Id, sa.ForeignKey("referral_rewards.id")),
    sa.Column("event_id", Id, sa.ForeignKey("events.id"), unique=True),
    sa.Column("kind", Word, nullable=False),  # given | taken_back | asked
    sa.Column("state", Word, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("due_at", Moment),
    sa.Column("made_at", Moment, nullable=False),
    sa.Column("told_at", Moment),
    sa.Column("reason", sa.Text),  # what went wrong last, never what the other side answered
    sa.UniqueConstraint("reward_id", "kind"),
    sa.CheckConstraint("kind IN ('given', 'taken_back', 'asked')", name="kind_is_known"),
    sa.CheckConstraint("(reward_id IS NULL) = (kind = 'asked')", name="reward_or_not"),
    sa.CheckConstraint("(event_id IS NULL) = (kind <> 'asked')", name="event_or_not"),
    one_of("state", NoticeState),
    sa.CheckConstraint("(state = 'waiting') = (due_at IS NOT NULL)", name="waiting_is_due"),
    sa.CheckConstraint("(state = 'told') = (told_at IS NOT NULL)", name="told_has_a_time"),
    sa.Index("ix_notices_due", "due_at", postgresql_where=_waiting, sqlite_where=_waiting),
)
