"""For whom flows would begin by themselves under other files, and the mails that would be queued as they do.

SQL narrows, the functions of production decide. Customers are read in short pages, each a transaction of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.engine import Connection

from afterglow.decide import Facts, Run, next_n
from afterglow.language.catalog import Catalog
from afterglow.language.flow.graph import Flow
from afterglow.language.segment import Segment
from afterglow.language.starts import OnDate, OverSegment
from afterglow.planning import begins_otherwise, by_itself, mails_at, start_of
from afterglow.starting import started_by
from db import accounts, events, people, segments
from db.engine import Database

#: How far ahead it is looked.
AHEAD: Final = timedelta(days=30)
#: Customers who are looked at together.
PAGE: Final = 1000


@dataclass(kw_only=True, slots=True)
class Beginnings:
    """For how many a flow would begin within `AHEAD`, by what and when first, with the mails queued as it begins."""

    by: str
    people: int = 0
    first: datetime | None = None
    mails: int = 0

    def add(self, at: datetime, mails: int) -> None:
        """Count one more."""
        self.people += 1
        self.first = min(at, self.first or at)
        self.mails += mails


def beginnings(database: Database, current: Catalog, then: Catalog, name: str, now: datetime) -> Beginnings | None:
    """For whom a flow would begin by itself; None where it never does, or does so now already."""
    flow = then.flows.get(name)
    by = by_itself(flow) if flow is not None and flow.status == "live" else None
    if flow is None or by is None or not begins_otherwise(current.flows.get(name), flow, current, then):
        return None
    found, alone, beyond = Beginnings(by=by), replace(then, flows={name: flow}), 0
    while True:
        with database.reading() as connection:
            ids = _candidates(connection, flow, then, beyond, now)
            for at, mails in _begun(connection, flow, alone, ids, now):
                found.add(at, mails)
        if len(ids) < PAGE:
            return found
        beyond = ids[-1]


def _segment(flow: Flow, catalog: Catalog) -> Segment | None:
    name = flow.occasion.segment if isinstance(flow.occasion, OverSegment) else flow.segment
    return None if name is None else catalog.segments[name]


def _candidates(connection: Connection, flow: Flow, catalog: Catalog, beyond: int, now: datetime) -> Sequence[int]:
    """The next customers for whom it may begin, by number."""
    if (segment := _segment(flow, catalog)) is not None:
        return segments.possible(connection, segment, catalog.shop, beyond, now, PAGE)
    assert isinstance(flow.occasion, OnDate)
    return people.with_fact(connection, flow.occasion.fact, beyond, PAGE)


def _begun(
    connection: Connection, flow: Flow, alone: Catalog, ids: Sequence[int], now: datetime
) -> Iterator[tuple[datetime, int]]:
    """When the flow begins for each of these for whom it does, and how many mails that queues.

    Args:
      alone: the files with this flow and no other.
    """
    shop, segment = alone.shop, _segment(flow, alone)
    persons = people.load(connection, ids, segments=alone.reads_segments)
    companies = accounts.facts(connection, shop, (person.account_id for person in persons.values()))
    ran = events.last_runs(connection, [flow.name], persons) if flow.once_per is not None else {}
    for id_, known in segments.known(connection, persons, [segment] if segment else [], shop, now).items():
        start = start_of(flow, alone, known, now, now + AHEAD)
        if start is None:
            continue
        person = known.person
        account = companies.get(person.account_id) if person.account_id is not None else None
        facts = Facts(
            customer=person.facts(shop),
            shop=shop.facts,
            zone=person.zone(shop),
            trigger=start.payload,
            answers={},
            answered_by=frozenset(),
            events=(),
            holdout=shop.holdout,
            account=account,
            kinds=shop.model.attributes,
        )
        for _, key in started_by(alone, start.event, None, 0, facts.names()):
            if next_n(flow, ran.get((flow.name, id_, key)), start.at, facts.zone) is not None:
                run = Run(customer_id=id_, event_id=0, entered_at=start.at, step=flow.first, until=None, begins=True)
                yield start.at, len(mails_at(flow, run, facts, start.at))
