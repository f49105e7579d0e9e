"""Companies of which something changed: the segments of all their people are to be judged.

Whoever changes a company only adds a row, and waits for nobody; the people are found by index, in batches, and each
gets a look of their own (`db.segments`).
"""

from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk, people, segments
from db.tables import account_looks, accounts, customers


def put(connection: Connection, rows: Sequence[tuple[int, datetime, bool]], but: Collection[int]) -> bool:
    """Have the people of companies judged, given as (account_id, due_at, tells), whose rows are locked.

    Args:
      but: customers who are judged anyway: a company that has no others needs no look.

    Returns:
      whether one has others.
    """
    others = sa.exists().where(customers.c.account_id == accounts.c.id, ~bulk.among(customers.c.id, sorted(but)))
    named = bulk.among(accounts.c.id, sorted({account for account, *_ in rows}))
    have_others = set(connection.execute(sa.select(accounts.c.id).where(named, others)).scalars())
    wanted = [(*row, 0) for row in rows if row[0] in have_others]
    bulk.insert(connection, account_looks, ("account_id", "due_at", "tells", "upto"), wanted)
    return bool(wanted)


def pass_on(connection: Connection, now: datetime, limit: int) -> bool:
    """Make up to `limit` people due whose companies are; whether there may be more of them.

    Customers are locked before rows of companies, as by whoever forgets somebody; a row that others went on with while
    we waited is left to them.
    """
    a, c = account_looks.c, customers.c
    due = connection.execute(sa.select(a.id, a.upto).where(a.due_at <= now).order_by(a.id).limit(limit)).all()
    if not due:
        return False
    mine = bulk.among(a.id, [row.id for row in due])
    found = connection.execute(
        sa.select(a.id, a.due_at, a.tells, c.id.label("customer_id"))
        .join(customers, (c.account_id == a.account_id) & (c.id > a.upto))
        .where(mine)
        .order_by(a.id, c.id)
        .limit(limit)
    ).all()
    people.lock(connection, [row.customer_id for row in found])
    stand = connection.execute(sa.select(a.id, a.upto).where(mine).order_by(a.id).with_for_update()).all()
    ours = {tuple(row) for row in due} & {tuple(row) for row in stand}
    ids = {id_ for id_, _ in ours}
    looks: dict[int, tuple[int, datetime, bool]] = {}
    for row in found:
        if row.id in ids:
            _, due_at, tells = looks.get(row.customer_id, (0, row.due_at, False))
            looks[row.customer_id] = (row.customer_id, min(due_at, row.due_at), tells or row.tells)
    segments.put_looks(connection, sorted(looks.values()))
    is_cut = len(found) == limit
    done = ids - ({row.id for row in found[-1:]} if is_cut else set())
    connection.execute(account_looks.delete().where(bulk.among(a.id, sorted(done))))
    if is_cut and found[-1].id in ids:
        at = {"upto": found[-1].customer_id}
        connection.execute(account_looks.update().where(a.id == found[-1].id).values(**at))
    return is_cut or len(due) == limit
