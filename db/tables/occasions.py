"""When dates, schedules and moments start flows: what comes next, and how far the telling of it is."""

import sqlalchemy as sa

from db.tables.columns import Id, Moment, customer, metadata

_live = sa.text("is_live")

#: The flows that a date, a schedule or a moment starts, as the files in force say. Customers beyond `upto` are still to
#: be told of the moment `due_at`; or, where it is a date, to be looked at for the first time.
occasions = sa.Table(
    "occasions",
    metadata,
    sa.Column("flow", sa.Text, primary_key=True),
    sa.Column("meaning", sa.Text, nullable=False),  # of what starts it: another one begins anew
    sa.Column("is_live", sa.Boolean, nullable=False),  # paused flows keep their place
    sa.Column("due_at", Moment),  # NULL: nothing comes by itself
    sa.Column("upto", Id, nullable=False),
    sa.Index("ix_occasions_live", "due_at", "flow", postgresql_where=_live, sqlite_where=_live),
)

#: When a customer's date starts a flow next; also when to look again, because something about it has changed.
coming_dates = sa.Table(
    "coming_dates",
    metadata,
    sa.Column("flow", sa.Text, primary_key=True),
    customer(primary_key=True, index=True),
    sa.Column("day", sa.Text),  # the day that comes, YYYY-MM-DD; NULL: it is not worked out yet
    sa.Column("due_at", Moment, nullable=False),
    sa.Index("ix_coming_dates_due", "flow", "due_at"),
)
