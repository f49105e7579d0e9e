"""Referral codes: each customer's own, per programme, and those that somebody chose for them.

A code is made when it is first needed: by the mail that names it, or by the customer's own page. A chosen one, such as
MAYA-10, is shown in its place from then on, and both lead to the customer for ever.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.letters import referral_code
from db import bulk, people
from db.tables import coupons, referral_codes, vanity_codes


class CodeError(AfterglowError):
    """This cannot be somebody's code."""


def codes(
    connection: Connection, secret: bytes, wanted: Mapping[int, frozenset[str]], now: datetime
) -> dict[int, dict[str, str]]:
    """The codes of customers in the programmes given for each; those that do not exist yet are made."""
    if not wanted:
        return {}
    found = shown(connection, wanted)
    made = [
        (programme, customer, referral_code(secret, programme, customer), now)
        for customer, programmes in wanted.items()
        for programme in programmes - found[customer].keys()
    ]
    bulk.insert(
        connection,
        referral_codes,
        ("programme", "customer_id", "code", "made_at"),
        made,
        on_conflict="(programme, customer_id) DO NOTHING",
    )
    for programme, customer, code, _ in made:
        found[customer][programme] = code
    return found


def shown(connection: Connection, customer_ids: Collection[int]) -> dict[int, dict[str, str]]:
    """The code that each customer shares in each programme: of those that were chosen the newest, else the one made."""
    found: dict[int, dict[str, str]] = {customer: {} for customer in customer_ids}
    made, chosen = (
        sa.select(
            table.c.customer_id, table.c.programme, table.c.code, table.c.made_at, sa.literal(rank).label("rank")
        ).where(bulk.among(table.c.customer_id, list(customer_ids)))
        for rank, table in enumerate((referral_codes, vanity_codes))
    )
    for row in connection.execute(sa.union_all(made, chosen).order_by("rank", "made_at", "code")):
        found[row.customer_id][row.programme] = row.code
    return found


def choose(connection: Connection, secret: bytes, customer_id: int, programme: str, code: str, now: datetime) -> int:
    """Give a customer a code that somebody chose, as `afterglow.referring.vanity` spells it; the customer it is for.

    The codes from before go on working. The same again shows it again.

    Raises:
      CodeError: the code is taken: by another customer or programme, or by a coupon.
    """
    customer_id = people.lock_kept(connection, customer_id)
    person = people.load(connection, [customer_id]).get(customer_id)
    if person is None or person.forgotten_at is not None:
        raise CodeError(f"There is no customer {customer_id} any more, so that nobody can have a code.")
    codes(connection, secret, {customer_id: frozenset({programme})}, now)
    bulk.insert(
        connection,
        vanity_codes,
        ("code", "programme", "customer_id", "made_at"),
        [(code, programme, customer_id, now)],
        on_conflict="(code) DO UPDATE SET made_at = excluded.made_at "
        "WHERE vanity_codes.customer_id = excluded.customer_id AND vanity_codes.programme = excluded.programme",
    )
    v, c = vanity_codes.c, coupons.c
    mine = connection.execute(sa.select(v.customer_id, v.programme).where(v.code == code)).one()
    # Looked at after the insert, so that of two who want one code at once the later sees the earlier.
    made = connection.execute(sa.select(referral_codes.c.code).where(referral_codes.c.code == code)).first()
    if tuple(mine) != (customer_id, programme) or made is not None:
        raise CodeError(f"The code {code} is taken; choose another.")
    if connection.execute(sa.select(c.id).where(sa.func.upper(c.code) == code).limit(1)).first() is not None:
        raise CodeError(f"{code} is the code of a coupon, which would seem to be brought by a friend; choose another.")
    return customer_id
