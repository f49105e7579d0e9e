"""All that was recorded about one customer, read with a constant number of queries, whatever happened to them."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.language.flow.graph import Flow
from afterglow.language.shop import Shop, read_shop
from db import accounts, bulk, identity, people
from db.catalog import CatalogCache, NothingAppliedError
from db.people import Person
from db.tables import (
    answers,
    consents,
    decisions,
    documents,
    enrollments,
    events,
    inbox,
    releases,
    runs,
    stage_entries,
    suppressions,
    touchpoints,
)


class UnknownCustomerError(AfterglowError):
    """There is no such customer; name one by e-mail address, by our number, or by an id at a source."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """What was in force during a time, as far as starting flows needs it."""

    shop: Shop
    flows: Mapping[str, Flow]


@dataclass(frozen=True, kw_only=True)
class History:
    """All that was recorded about one customer."""

    person: Person
    zone: ZoneInfo
    events: Sequence[Any]
    stages: Mapping[int, Sequence[Any]]
    runs: Sequence[Any]
    keys: Mapping[int, str]
    versions: Mapping[int, Flow]
    decisions: Sequence[Any]
    touchpoints: Sequence[Any]
    answered: Sequence[Any]
    consents: Sequence[Any]
    suppressions: Sequence[Any]
    inbox: Sequence[Any]
    releases: Mapping[int, Release]
    in_force: Sequence[tuple[datetime, int]]
    known_flows: frozenset[str]
    #: The company that they buy for now, where there is one.
    account: Mapping[str, Any] | None

    def release_at(self, moment: datetime) -> Release:
        """The release in force at an instant; the first for anything before it."""
        at = bisect_right(self.in_force, moment, key=lambda pair: pair[0])
        return self.releases[self.in_force[max(0, at - 1)][1]]


def read(connection: Connection, catalog: CatalogCache, secret: bytes, customer_id: int) -> History:
    person = people.load(connection, [customer_id], segments=True).get(customer_id)
    if person is None:
        raise UnknownCustomerError
    happened = _of(connection, events, customer_id)
    entered: dict[int, list[Any]] = {}
    for row in _of(connection, stage_entries, customer_id, stage_entries.c.event_id):
        entered.setdefault(row.event_id, []).append(row)
    started = _of(connection, enrollments, customer_id)
    in_force, seen, manifests = _releases(connection, happened)
    versions = catalog.flows(
        connection,
        sorted(
            {run.flow_id for run in started} | {id_ for m in manifests.values() for id_ in m.get("flow", {}).values()}
        ),
    )
    shops = _shops(connection, manifests)
    zone_shop = shops[manifests[seen[-1]]["shop"]["shop"]]
    companies = accounts.facts(connection, zone_shop, [person.account_id])
    company = companies.get(person.account_id) if person.account_id is not None else None
    answered = connection.execute(
        sa.select(answers).where(bulk.among(answers.c.enrollment_id, [run.id for run in started]))
    ).all()
    return History(
        person=person,
        zone=person.zone(zone_shop),
        events=happened,
        stages=entered,
        runs=started,
        keys={row.enrollment_id: row.key for row in _of(connection, runs, customer_id, runs.c.enrollment_id)},
        versions=versions,
        decisions=_of(connection, decisions, customer_id),
        touchpoints=_of(connection, touchpoints, customer_id),
        answered=answered,
        consents=_of(connection, consents, customer_id, consents.c.occurred_at),
        suppressions=_suppressions(connection, secret, person),
        inbox=_remarks(connection, customer_id, happened),
        releases={
            id_: Release(
                shop=shops[manifests[id_]["shop"]["shop"]],
                flows={name: versions[doc] for name, doc in sorted(manifests[id_].get("flow", {}).items())},
            )
            for id_ in seen
        },
        in_force=in_force,
        account=company,
        known_flows=frozenset(versions[id_].name for id_ in versions)
        | frozenset(name for m in manifests.values() for name in m.get("flow", {})),
    )


def _of(connection: Connection, table: sa.Table, customer_id: int, order: Any = None) -> Sequence[Any]:
    by = table.c.id if order is None else order
    return connection.execute(sa.select(table).where(table.c.customer_id == customer_id).order_by(by)).all()


def _releases(
    connection: Connection, happened: Sequence[Any]
) -> tuple[list[tuple[datetime, int]], list[int], dict[int, Any]]:
    """(applied_at, id) of every release; the ids of those in force when something happened; their manifests."""
    rows = connection.execute(sa.select(releases.c.applied_at, releases.c.id).order_by(releases.c.id)).all()
    if not rows:
        raise NothingAppliedError
    in_force = [(row.applied_at, row.id) for row in rows]
    seen = {in_force[-1][1]}
    for row in happened:
        at = bisect_right(in_force, row.recorded_at, key=lambda pair: pair[0])
        seen.add(in_force[max(0, at - 1)][1])
    found = connection.execute(
        sa.select(releases.c.id, releases.c.manifest).where(bulk.among(releases.c.id, sorted(seen)))
    )
    return in_force, sorted(seen), {row.id: row.manifest for row in found}


def _shops(connection: Connection, manifests: Mapping[int, Any]) -> dict[int, Shop]:
    ids = sorted({manifest["shop"]["shop"] for manifest in manifests.values()})
    rows = connection.execute(sa.select(documents.c.id, documents.c.body).where(bulk.among(documents.c.id, ids)))
    return {row.id: read_shop(row.body, "flows/shop.yaml") for row in rows}


def _suppressions(connection: Connection, secret: bytes, person: Person) -> Sequence[Any]:
    digest = identity.address_digest(secret, person.email).hex() if person.email else ""
    return connection.execute(sa.select(suppressions).where(suppressions.c.digest == digest)).all()


def _remarks(connection: Connection, customer_id: int, happened: Sequence[Any]) -> Sequence[Any]:
    """Inbox rows with something to say: those mapped to this customer, and conflicts with the customer's events."""
    c = inbox.c
    columns = (c.id, c.source, c.key, c.state, c.reason, c.received_at)
    told = connection.execute(sa.select(*columns).where(c.customer_id == customer_id, c.reason.is_not(None))).all()
    keys = {(row.source, row.key) for row in happened}
    parked = connection.execute(
        sa.select(*columns).where(
            bulk.among(c.key, sorted({key for _, key in keys})),
            c.state.in_(
                [sa.literal_column("'parked'"), sa.literal_column("'awaiting'"), sa.literal_column("'fetching'")]
            ),
            c.customer_id.is_(None),
        )
    ).all()
    remarks = [*told, *(row for row in parked if (row.source, row.key) in keys)]
    return sorted(remarks, key=lambda row: row.id)
