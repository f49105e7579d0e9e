"""What teams are asked to do, and what they did."""

import sqlalchemy as sa

from db.tables.columns import Id, Moment, customer, metadata

_open = sa.text("done_at IS NULL")
_done = sa.text("done_at IS NOT NULL")

#: One for each note to a team that asks for something. It is open until somebody says that it is done.
tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", Id, primary_key=True),
    customer(nullable=False, index=True),
    sa.Column("enrollment_id", Id, nullable=False),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("team", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),  # as the flow names it: never personal data
    sa.Column("due_on", sa.Text),  # the day of the shop's calendar, YYYY-MM-DD; NULL: whenever
    sa.Column("asked_at", Moment, nullable=False),
    sa.Column("done_at", Moment),
    sa.Column("done_by", sa.Text),
    sa.ForeignKeyConstraint(
        ["enrollment_id", "step"],
        ["touchpoints.enrollment_id", "touchpoints.step"],
        name="fk_tasks_note",
    ),
    sa.UniqueConstraint("enrollment_id", "step"),
    sa.CheckConstraint("(done_at IS NULL) = (done_by IS NULL)", name="done_by_somebody"),
    sa.CheckConstraint("due_on LIKE '____-__-__'", name="due_on_a_day"),
    sa.Index("ix_tasks_open", "due_on", "id", postgresql_where=_open, sqlite_where=_open),
    sa.Index("ix_tasks_done", "done_at", postgresql_where=_done, sqlite_where=_done),
)
