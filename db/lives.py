"""The stored history of customers, in short pages: what a backtest lives again.

Each page is a transaction of its own, so that no snapshot is held for long and memory stays flat. The people of one
company are read together, with the one of them who has the lowest number.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow import past, rails
from afterglow.backtest import History, Mail, Period, Told, Word, trigger_of
from afterglow.decide import Event
from afterglow.language.catalog import Catalog
from afterglow.language.shop import Shop
from afterglow.person import Person
from db import accounts, bulk, identity, people
from db.engine import Database
from db.tables import (
    consents,
    customers,
    enrollments,
    events,
    segment_members,
    stage_entries,
    suppressions,
    touchpoints,
)

#: How many customers are read at once.
PAGE = 200


def last_customer(connection: Connection) -> int:
    """The highest number of a customer; 0 where there is none."""
    return connection.execute(sa.select(sa.func.max(customers.c.id))).scalar() or 0


def histories(
    database: Database, secret: bytes, catalog: Catalog, after: int, upto: int, period: Period
) -> Iterator[Sequence[History]]:
    """The customers with numbers above `after` up to `upto`, without those forgotten or merged into others.

    Each comes alone, save where what one does can mean something to the others of their account: then all people of it
    come together, where the first of them is, whatever the numbers of the others.

    Args:
      secret: by which addresses are looked up on the suppression list.
      catalog: the files under which they are to live.
      period: only what went in it is read.
    """
    while True:
        with database.reading() as connection:
            page = _page(connection, after, upto)
            together = _together(connection, page) if catalog.uses_accounts else [[id_] for id_ in page]
            wanted = [id_ for ids in together for id_ in ids]
            found = {one.person.id: one for one in _histories(connection, wanted, secret, catalog.shop, period)}
        if not page:
            return
        for ids in together:
            yield [found[id_] for id_ in ids]
        after = page[-1]


def _together(connection: Connection, page: Sequence[int]) -> list[list[int]]:
    """Those of a page who are lived alone, and those who are the first of their account with all others of it."""
    c = customers.c
    here = sa.select(c.account_id).where(bulk.among(c.id, page), c.account_id.is_not(None)).distinct()
    alive = (c.forgotten_at.is_(None), c.merged_into.is_(None))
    people_of: dict[int, list[int]] = {}
    account_of: dict[int, int] = {}
    query = sa.select(c.id, c.account_id).where(c.account_id.in_(here), *alive).order_by(c.id)
    for row in connection.execute(query):
        people_of.setdefault(row.account_id, []).append(row.id)
        account_of[row.id] = row.account_id
    found = []
    for id_ in page:
        ids = people_of[account_of[id_]] if id_ in account_of else [id_]
        if ids[0] == id_:
            found.append(ids)
    return found


def _page(connection: Connection, after: int, upto: int) -> list[int]:
    c = customers.c
    query = sa.select(c.id).where(c.id > after, c.id <= upto, c.forgotten_at.is_(None), c.merged_into.is_(None))
    return [row.id for row in connection.execute(query.order_by(c.id).limit(PAGE))]


def _histories(connection: Connection, page: Sequence[int], secret: bytes, shop: Shop, period: Period) -> list[History]:
    persons = people.load(connection, page, segments=True)
    companies = accounts.facts(connection, shop, (person.account_id for person in persons.values()))
    told = _told(connection, page, period.until)
    words = _words(connection, page, told)
    suppressed = _suppressed(connection, persons, secret)
    went = _went(connection, page, period, told)
    return [
        History(
            person=persons[id_],
            told=tuple(told[id_].values()),
            account=companies.get(persons[id_].account_id),
            words=words[id_],
            suppressed=suppressed.get(id_),
            went=went[id_],
        )
        for id_ in page
    ]


def count_members(connection: Connection, segment: str) -> int:
    """How many are in a segment now."""
    m = segment_members.c
    return connection.execute(sa.select(sa.func.count()).where(m.segment == segment)).scalar() or 0


def members(database: Database, secret: bytes, shop: Shop, segment: str, now: datetime) -> Iterator[Sequence[History]]:
    """Who is in a segment, and what happened to them up to now; each alone."""
    after, period = 0, Period(since=now, until=now)
    m, c = segment_members.c, customers.c
    while True:
        query = sa.select(m.customer_id).join(customers, c.id == m.customer_id)
        of_it = query.where(m.segment == segment, m.customer_id > after, c.forgotten_at.is_(None))
        with database.reading() as connection:
            page = [row.customer_id for row in connection.execute(of_it.order_by(m.customer_id).limit(PAGE))]
            found = _histories(connection, page, secret, shop, period)
        if not page:
            return
        yield from ([one] for one in found)
        after = page[-1]


def _told(connection: Connection, page: Iterable[int], until: datetime) -> Mapping[int, dict[int, Told]]:
    """Each customer's events by id, in the order in which they came."""
    e, s = events.c, stage_entries.c
    staged = connection.execute(sa.select(s.event_id, s.stage).where(bulk.among(s.customer_id, page)))
    stages: dict[int, str] = {row.event_id: row.stage for row in staged}
    columns = (e.id, e.customer_id, e.source, e.key, e.name, e.occurred_at, e.recorded_at, e.payload)
    query = sa.select(*columns).where(bulk.among(e.customer_id, page), e.recorded_at < until)
    found: dict[int, dict[int, Told]] = defaultdict(dict)
    for row in connection.execute(query.order_by(e.recorded_at, e.id)):
        event = Event(id=row.id, name=row.name, occurred_at=row.occurred_at, payload=row.payload)
        found[row.customer_id][row.id] = Told(
            event=event,
            came_at=row.recorded_at,
            source=row.source,
            stage=stages.get(row.id),
            is_past=past.is_past(row.key),
        )
    return found


def _words(
    connection: Connection, page: Iterable[int], told: Mapping[int, Mapping[int, Told]]
) -> Mapping[int, list[Word]]:
    """The last word of each customer on each topic; one that an event brought came with it."""
    c = consents.c
    query = sa.select(c.customer_id, c.topic, c.state, c.basis, c.evidence, c.occurred_at)
    found: dict[int, list[Word]] = defaultdict(list)
    for row in connection.execute(query.where(bulk.among(c.customer_id, page), c.channel == "email")):
        brought = told[row.customer_id].get(row.evidence.get("event"))
        said = rails.Consent(topic=row.topic, granted=row.state == "granted", basis=row.basis)
        if brought is not None and not brought.is_past:
            word = Word(said=said, at=brought.came_at, by=brought.event.id)
        else:
            word = Word(said=said, at=row.occurred_at)
        found[row.customer_id].append(word)
    return found


def _suppressed(
    connection: Connection, persons: Mapping[int, Person], secret: bytes
) -> dict[int, tuple[datetime, str]]:
    s = suppressions.c
    digests = {
        id_: identity.address_digest(secret, person.email).hex() for id_, person in persons.items() if person.email
    }
    query = sa.select(s.digest, s.at, s.covers).where(s.channel == "email", bulk.among(s.digest, digests.values()))
    rows = {row.digest: (row.at, row.covers) for row in connection.execute(query)}
    return {id_: rows[digest] for id_, digest in digests.items() if digest in rows}


def _went(
    connection: Connection, page: Iterable[int], period: Period, told: Mapping[int, Mapping[int, Told]]
) -> Mapping[int, list[Mail]]:
    """What went to each customer, or may have gone."""
    t = touchpoints.c
    query = (
        sa.select(t.customer_id, t.prepared_at, t.flow, t.template, enrollments.c.event_id)
        .join(enrollments, enrollments.c.id == t.enrollment_id)
        .where(
            bulk.among(t.customer_id, page),
            t.prepared_at >= period.since,
            t.prepared_at < period.until,
            t.state.in_(["sending", "sent", "in_doubt"]),
        )
    )
    found: dict[int, list[Mail]] = defaultdict(list)
    rows: Iterable[Any] = connection.execute(query)
    for row in rows:
        began = told[row.customer_id].get(row.event_id)
        trigger = trigger_of(began.event) if began is not None else row.event_id
        mail = Mail(at=row.prepared_at, flow=row.flow, template=row.template, trigger=trigger)
        found[row.customer_id].append(mail)
    return found
