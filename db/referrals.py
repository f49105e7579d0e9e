"""Referral codes: each customer's own, per programme. A code is made when the first mail that names it is prepared."""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.letters import referral_code
from db import bulk
from db.tables import referral_codes


def codes(
    connection: Connection, secret: bytes, wanted: Mapping[int, frozenset[str]], now: datetime
) -> dict[int, dict[str, str]]:
    """The codes of customers in the programmes given for each; those that do not exist yet are made."""
    if not wanted:
        return {}
    rows = connection.execute(
        sa.select(referral_codes.c.customer_id, referral_codes.c.programme, referral_codes.c.code).where(
            bulk.among(referral_codes.c.customer_id, list(wanted))
        )
    )
    found: dict[int, dict[str, str]] = {customer: {} for customer in wanted}
    for row in rows:
        found[row.customer_id][row.programme] = row.code
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
