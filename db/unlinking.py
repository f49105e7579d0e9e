"""What the ledger forgets of a person: the words by which the shop's own books would lead back to them.

Amounts, times and numbers stay, since what was owed must add up for ever; they name nobody. Subjects (an order's
number), keys and reasons are taken out, and because every entry is chained by a digest of them, the digests are made
anew: of an order's number, which anybody can guess, a digest is no better than the number itself.

The triggers that refuse all changes let these through while a row of `ledger_forgettings` is open, which only the
transaction that wrote it can see; it is closed before it commits, and stays as the record that it was done.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.ledger import chain
from db import bulk, proof
from db.tables import ledger_accounts, ledger_forgettings, ledger_transactions, postings, redemptions, referrals

_WORD = "forgotten"


def unlink(connection: Connection, customer_id: int, numbers: Collection[int], now: datetime) -> int:
    """Take out what leads from the ledger to a customer, who is locked. How many transactions; 0 the second time.

    Args:
      numbers: all numbers of the customer: their own, and those that were merged into it.
    """
    t = ledger_transactions.c
    mine = bulk.among(t.customer_id, sorted(numbers))
    rows = connection.execute(
        sa.select(t.id, t.key, t.reason).where(mine, t.key.not_like(f"{_WORD} %")).order_by(t.id)
    ).all()
    _elsewhere(connection, numbers)
    if not rows:
        return 0
    ids = [row.id for row in rows]
    accounts = _accounts(connection, ids, numbers)
    values = {"customer_id": customer_id, "at": now, "transactions": len(ids)}
    door = connection.execute(ledger_forgettings.insert().values(**values).returning(ledger_forgettings.c.id)).scalar()
    bulk.update(
        connection,
        ledger_transactions,
        ("id", "key", "digest", "subject", "reason"),
        [
            (row.id, f"{_WORD} {row.id}", chain.digest([_WORD, row.id]), None, None if row.reason is None else _WORD)
            for row in rows
        ],
    )
    _seal_anew(connection, accounts)
    closed = ledger_forgettings.update().where(ledger_forgettings.c.id == door).values(done_at=now)
    connection.execute(closed)
    return len(ids)


def _elsewhere(connection: Connection, numbers: Collection[int]) -> None:
    """The same words beside the ledger: keys of redemptions, orders of referrals."""
    r, f = redemptions.c, referrals.c
    connection.execute(
        redemptions.update()
        .where(bulk.among(r.customer_id, sorted(numbers)))
        .values(key=sa.literal(f"{_WORD} ") + sa.cast(r.id, sa.Text))
    )
    connection.execute(referrals.update().where(bulk.among(f.referee_id, sorted(numbers))).values(subject=None))


def _accounts(connection: Connection, transaction_ids: Sequence[int], numbers: Collection[int]) -> list[int]:
    """All accounts whose chains hold these transactions, locked; another's too, where two were one for a while."""
    p, a = postings.c, ledger_accounts.c
    touched = sa.select(p.account_id).where(bulk.among(p.transaction_id, transaction_ids), p.account_id.is_not(None))
    wanted = sa.or_(a.id.in_(touched), bulk.among(a.customer_id, sorted(numbers)))
    query = sa.select(a.id).where(wanted).order_by(a.id).with_for_update(key_share=True)
    return list(connection.execute(query).scalars())


def _seal_anew(connection: Connection, account_ids: Sequence[int]) -> None:
    """Follow the chains of accounts from their beginnings, and write what they are now."""
    p, a = postings.c, ledger_accounts.c
    accounts = connection.execute(sa.select(ledger_accounts).where(bulk.among(a.id, account_ids)).order_by(a.id)).all()
    rows = connection.execute(
        sa.select(p.transaction_id, p.n, p.account_id, p.entry, p.amount, p.balance)
        .where(bulk.among(p.account_id, account_ids))
        .order_by(p.account_id, p.entry)
    ).all()
    seals = proof.seals(connection, {row.transaction_id for row in rows})
    nothings = proof.nothings(connection, accounts)
    links: dict[int, bytes] = defaultdict(lambda: chain.START)
    linked = []
    for row in rows:
        link = links[row.account_id] = chain.link(
            links[row.account_id], seals[row.transaction_id], row.account_id, row.entry, row.amount, row.balance
        )
        linked.append({"of": row.transaction_id, "leg": row.n, "link": link})
    if linked:
        leg = (p.transaction_id == sa.bindparam("of")) & (p.n == sa.bindparam("leg"))
        connection.execute(postings.update().where(leg).values(chain=sa.bindparam("link")), linked)
    bulk.update(
        connection,
        ledger_accounts,
        ("id", "chain", "nothings_chain"),
        [(one.id, links[one.id], _nothings(one.id, one.nothings, nothings.get(one.id, ()))) for one in accounts],
    )


def _nothings(account_id: int, count: int, sealed: Iterable[bytes]) -> bytes:
    mine = list(sealed)[-count:] if count else []
    link = chain.START
    for number, seal in enumerate(mine, 1):
        link = chain.link_nothing(link, seal, account_id, number)
    return link
