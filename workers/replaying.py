"""Stored history counted under changed programmes: everybody's events and spendings, some customers at a time."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow import past
from afterglow.language.catalog import Catalog
from afterglow.language.programme import Programme
from afterglow.language.referral import ReferralProgramme
from afterglow.planning.programmes import Brought, Happened, LoyaltyDifference, ReferralDifference, account
from afterglow.returning import UNWOUND
from db import bulk, events, loyalty, people
from db.engine import Database
from db.tables import customers, ledger_transactions, postings, referrals

#: Customers, or referrals, that are looked at together.
PAGE: Final = 500


def differences(database: Database, before: Catalog, after: Catalog, now: datetime) -> Iterator[str]:
    """What changed programmes would come to, in words: a heading each, and a line for each figure below."""
    for name, new in sorted(after.programmes.items()):
        old = before.programmes.get(name)
        if old is None or old.document.text == new.document.text:
            continue
        match old, new:
            case Programme(), Programme():
                loyal = LoyaltyDifference(before=old, after=new)
                for customer, one, other in _accounts(database, before, after, old, new, now):
                    loyal.add(customer, one, other)
                lines = loyal.lines()
            case ReferralProgramme(), ReferralProgramme():
                brought = ReferralDifference(before=old, after=new)
                for referral in _referrals(database, after, {*old.undone_by, *new.undone_by}, name):
                    brought.add(referral)
                lines = brought.lines()
            case _:
                continue
        yield f"~ programme {name}"
        yield from (f"    {line}" for line in lines)


def _accounts(
    database: Database, before: Catalog, after: Catalog, old: Programme, new: Programme, now: datetime
) -> Iterator[tuple[int, Any, Any]]:
    names = old.events | new.events | {UNWOUND, after.shop.model.order_event, "order.refunded"}
    last = 0
    while True:
        with database.reading() as connection:
            c = customers.c
            query = sa.select(c.id).where(c.id > last, c.merged_into.is_(None)).order_by(c.id).limit(PAGE)
            ids = list(connection.execute(query).scalars())
            happened = _happened(loyalty.told(connection, ids, names))
            spent = _spent(connection, ids, new)
            persons = people.load(connection, happened)
        for customer, told in happened.items():
            person, spendings = persons[customer], spent.get(customer, ())
            one, other = (
                account(programme, catalog.shop, person, told, spendings, now)
                for programme, catalog in ((old, before), (new, after))
            )
            yield customer, one, other
        if len(ids) < PAGE:
            return
        last = ids[-1]


def _happened(told: Sequence[loyalty.Told]) -> dict[int, list[Happened]]:
    found: dict[int, list[Happened]] = {}
    for one in told:
        found.setdefault(one.customer_id, []).append(
            Happened(
                name=one.name,
                occurred_at=one.occurred_at,
                payload=one.payload,
                subject=past.order_subject(one.source, one.payload),
            )
        )
    return found


def _spent(connection: Connection, ids: Sequence[int], programme: Programme) -> dict[int, list[tuple[datetime, int]]]:
    """What these customers spent, or got back of it."""
    numbers = loyalty.former(connection, ids)
    t = ledger_transactions.c
    rows = connection.execute(
        sa.select(t.customer_id, t.event_at, postings.c.amount)
        .join(postings, postings.c.transaction_id == t.id)
        .where(
            bulk.among(t.customer_id, sorted(numbers)),
            t.programme == programme.name,
            t.asset == programme.asset,
            postings.c.house == "spent",
        )
        .order_by(t.id)
    )
    found: dict[int, list[tuple[datetime, int]]] = {}
    for customer, at, amount in rows:
        found.setdefault(numbers[customer], []).append((at, amount))
    return found


def _referrals(database: Database, after: Catalog, undone_by: set[str], name: str) -> Iterator[Brought]:
    r, last = referrals.c, 0
    undoing = {*undone_by, UNWOUND}
    while True:
        with database.reading() as connection:
            rows = connection.execute(
                sa.select(r.id, r.referrer_id, r.referee_id, r.event_id, r.subject, r.variant)
                .where(r.programme == name, r.event_id.is_not(None), r.state != "rejected", r.id > last)
                .order_by(r.id)
                .limit(PAGE)
            ).all()
            qualifying = events.payloads(connection, [row.event_id for row in rows])
            persons = people.load(connection, [row.referee_id for row in rows])
            undone: dict[str, list[Mapping[str, Any]]] = {}
            for told in loyalty.told(connection, [row.referee_id for row in rows], undoing):
                if (subject := past.order_subject(told.source, told.payload)) is not None:
                    undone.setdefault(subject, []).append(told.payload)
        shop = after.shop
        for row in rows:
            if row.referrer_id == row.referee_id:
                continue
            names = {
                **qualifying[row.event_id],
                "customer": persons[row.referee_id].facts(shop),
                "shop": shop.facts,
            }
            subject = row.subject or ""
            yield Brought(referrer=row.referrer_id, variant=row.variant, names=names, undoing=undone.get(subject, ()))
        if len(rows) < PAGE:
            return
        last = rows[-1].id
