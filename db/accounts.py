"""Companies: what is known of them, who belongs to them, and what started once for each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.language.shop import Shop
from db import bulk
from db.tables import account_runs, accounts, customers, enrollments, profiles

#: Flow, number of the account, and what there is one run of.
Key = tuple[str, int, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Colleague:
    """Somebody of an account, as far as is asked before they are locked."""

    customer_id: int
    account_id: int
    role: str | None
    #: Whether a run of theirs is open.
    is_inside: bool


def facts(connection: Connection, shop: Shop, ids: Iterable[int | None]) -> dict[int | None, dict[str, Any]]:
    """What expressions and templates know as `account`, by number. A shop without accounts asks nothing."""
    wanted = sorted({id_ for id_ in ids if id_ is not None})
    if shop.model.accounts is None or not wanted:
        return {}
    declared = shop.model.accounts.attributes
    rows = connection.execute(
        sa.select(accounts.c.id, accounts.c.name, accounts.c.attributes).where(bulk.among(accounts.c.id, wanted))
    )
    return {
        row.id: {
            **{name: value for name, value in (row.attributes or {}).items() if name in declared},
            "id": str(row.id),
            "name": row.name,
        }
        for row in rows
    }


def claim(connection: Connection, wanted: Sequence[tuple[Key, int, datetime]]) -> set[Key]:
    """The keys, given with the event and the moment, under which a flow has not run for its account before."""
    first = {key: (*key, event, at) for key, event, at in reversed(wanted)}
    if not first:
        return set()
    bulk.insert(
        connection,
        account_runs,
        ("flow", "account_id", "key", "event_id", "started_at"),
        [row for _, row in sorted(first.items())],
        on_conflict="DO NOTHING",
    )
    a = account_runs.c
    mine = sorted({row[3] for row in first.values()})
    rows = connection.execute(sa.select(a.flow, a.account_id, a.key).where(bulk.among(a.event_id, mine)))
    return {(row.flow, row.account_id, row.key) for row in rows} & first.keys()


def colleagues(connection: Connection, ids: Iterable[int]) -> list[Colleague]:
    """Everybody of these accounts, in order of their numbers; who was forgotten or merged is nobody's colleague."""
    c = customers.c
    is_open = sa.exists().where(
        enrollments.c.customer_id == c.id, enrollments.c.state.in_(["waiting", "sending", "paused"])
    )
    rows = connection.execute(
        sa.select(c.id, c.account_id, profiles.c.attributes, is_open.label("is_inside"))
        .select_from(customers.outerjoin(profiles))
        .where(bulk.among(c.account_id, sorted(set(ids))), c.forgotten_at.is_(None), c.merged_into.is_(None))
        .order_by(c.id)
    )
    return [
        Colleague(
            customer_id=row.id,
            account_id=row.account_id,
            role=(row.attributes or {}).get("role"),
            is_inside=bool(row.is_inside),
        )
        for row in rows
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """The numbers of companies by (source, external id), and of those of whom something was news."""

    numbers: Mapping[tuple[str, str], int]
    news: frozenset[int]


def learn(connection: Connection, wanted: Mapping[tuple[str, str], tuple[str, Mapping[str, Any]]]) -> Learned:
    """Find companies, given as name and attributes by (source, external id), and let what is said of them be known.

    Names and attributes follow the source; what it does not say stays. A company that is new is made.
    """
    name = "CASE WHEN excluded.name = excluded.external_id THEN accounts.name ELSE excluded.name END"
    if connection.dialect.name == "postgresql":
        before = "coalesce(accounts.attributes, '{}'::jsonb)"
        merged = f"{before} || coalesce(excluded.attributes, '{{}}'::jsonb)"
    else:
        before = "json(coalesce(accounts.attributes, '{}'))"  # written without spaces, as json_patch does
        merged = f"json_patch({before}, coalesce(excluded.attributes, '{{}}'))"
    news = bulk.insert(
        connection,
        accounts,
        ("source", "external_id", "name", "attributes"),
        [(*key, name or key[1], dict(attributes)) for key, (name, attributes) in sorted(wanted.items())],
        on_conflict=f"(source, external_id) DO UPDATE SET name = {name}, attributes = {merged} "
        f"WHERE accounts.name <> {name} OR {before} <> {merged}",
        returning="id",
    )
    rows = connection.execute(
        sa.select(accounts.c.id, accounts.c.source, accounts.c.external_id).where(
            bulk.among(accounts.c.external_id, sorted({external_id for _, external_id in wanted}))
        )
    )
    numbers = {(row.source, row.external_id): row.id for row in rows}
    return Learned(numbers=numbers, news=frozenset(id_ for (id_,) in news))
