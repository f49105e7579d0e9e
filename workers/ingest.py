"""From the inbox to events: what each element of a webhook becomes, a batch in one transaction.

1. Map each element with its source's file; what cannot be mapped is parked with its reason, never refused. What lacks
   a document of its source waits for `fetch`.
2. Tell repeats (same key, same mapped event) from conflicts (same key, another event: parked).
3. Find or make the customer. An element that names only an order we do not know waits for that order; one that shows
   two customers to be one leaves the wish that they be merged.
4. Lock the customers, record the events, and what they say: profile, consent, stage, orders.
5. Follow referrals: who was brought by whom, and whether that counts.
6. Start the flows that the event or the stage starts, wake the runs that wait for it, and note whose goal it is. Let
   the loyalty programmes hear it, and have the segments of its customers judged.
7. Do what runs asked for: end runs, buy rewards, note whom to tell.
8. Unwind the orders that were returned: points, rewards, boards and runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow import past
from afterglow.decide import next_n
from afterglow.language.flow.graph import Flow
from afterglow.language.segment import ENTERED, LEFT
from afterglow.language.starts import Asked
from afterglow.learn import learn
from afterglow.mapping import Ignored, Lacking, Mapped, PrivacyRequest, Unmappable, map_element
from afterglow.native import NATIVE_SOURCES, map_native
from afterglow.starting import is_woken, started_by
from db import accounts, bulk, enrollments, events, fetching, merging, people, requests, reviews, segments
from db.app import App
from db.catalog import Release
from db.events import NewRun
from db.people import Person
from db.tables import InboxState, inbox
from db.tables import enrollments as enrollments_table
from db.tables import events as events_table
from workers import acting, companies, goals, joining, loyalty, occasions, referring, unwinding
from workers.arrivals import (
    Arrival,
    Fate,
    Matching,
    identified,
    new_orders,
    of_those_not_forgotten,
    that_the_past_does_not_know,
)
from workers.loyalty import Heard
from workers.unwinding import Unwound

#: Written into the statement, so that the index of rows that were tried before can be used.
_NONE: sa.ColumnElement[int] = sa.literal_column("0")


@dataclass(slots=True)
class Ingest:
    """The work on the inbox."""

    app: App
    table: str = "inbox"
    batch: int = 250
    #: Filled by `do`: whether there are new runs or newly due ones, and whether elements may be mapped now that waited
    #: for an order of this batch, or that the programmes of this batch told.
    woke: bool = field(default=False)
    freed: bool = field(default=False)
    #: Filled by `do`: whether documents must be fetched first.
    lacks: bool = field(default=False)
    #: Whether customers turned out to be one.
    _matched: bool = field(default=False)
    #: Whether a referral is to be judged, or undone.
    _referred: bool = field(default=False)
    #: Filled by `do`: whether somebody's segments are to be judged.
    touched: bool = field(default=False)
    #: Filled by `do`: whether somebody asks to be forgotten, or for their data.
    asked: bool = field(default=False)
    #: Filled by `do`: what the orders of the last batch took back that were returned.
    unwound: Unwound = field(default_factory=Unwound)

    def find(self, connection: Connection, now: datetime, limit: int, *, alone: bool) -> list[int]:
        rows = connection.execute(
            sa.select(inbox.c.id)
            .where(inbox.c.state == "received", inbox.c.tries > _NONE if alone else inbox.c.tries == _NONE)
            .order_by(*((inbox.c.tries, inbox.c.id) if alone else (inbox.c.id,)))
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return [row.id for row in rows]

    def lock(self, connection: Connection, ids: Sequence[int]) -> None:
        connection.execute(sa.select(inbox.c.id).where(bulk.among(inbox.c.id, ids)).with_for_update())

    def park(self, connection: Connection, item: int, reason: str, now: datetime) -> None:
        connection.execute(inbox.update().where(inbox.c.id == item).values(state="parked", reason=reason))

    def do(self, connection: Connection, ids: Sequence[int], now: datetime) -> None:
        release = self.app.catalog.current(connection)
        fates: dict[int, Fate] = {}
        lacking: list[int] = []
        mapped = self._mapped(connection, ids, now, release, fates, lacking)
        arrivals, joins = joining.parted(release.catalog, mapped, fates)
        arrivals = _without_repeats(connection, arrivals, fates)
        matching = self._matching(release)
        identities = identified(connection, matching, arrivals, fates)
        arrivals, fresh = list(identities.arrivals), identities.fresh
        joins, ones = joining.whose(connection, matching, joins, fates)
        known = {arrival.customer_id for arrival in (*arrivals, *joins)} - fresh.keys()
        others = unwinding.others(connection, release, arrivals)
        reads = release.catalog.reads_segments
        persons = people.locked(connection, known | others, segments=reads) | fresh
        allowed = of_those_not_forgotten(connection, [*arrivals, *joins], persons, fates)
        arrivals = [arrival for arrival in allowed if arrival.owner is None]
        order_event = release.catalog.shop.model.order_event
        arrivals = that_the_past_does_not_know(connection, arrivals, order_event, fates)
        arrivals = _recorded(connection, arrivals, fates, now)
        joins = [arrival for arrival in allowed if arrival.owner is not None]
        joins = joining.add(connection, joins, persons, release.catalog.shop, fates)
        self.touched |= companies.find(connection, release.catalog, [*arrivals, *joins], persons)
        heard: list[Heard] = []
        hung_on = occasions.hung_on(release, persons, but=fresh)
        starting = self._take_in(connection, release, arrivals, persons, fates, heard, now)
        self._referred |= referring.follow(connection, release, arrivals, persons, self.app.settings.secrets, now)
        starting = events.claim_keys(connection, starting)
        waiting, sending = self._woken(connection, arrivals)
        converted = goals.conversions(connection, release, arrivals, persons, starting)
        with bulk.at_once(connection):
            people.save(connection, persons, fresh)
            self._touch(connection, release, [*arrivals, *joins])
            _write_words(connection, arrivals, joins)
            reviews.hear(connection, [_said(arrival) for arrival in arrivals])
            events.insert_enrollments(connection, starting)
            events.wake(connection, waiting, sending)
            enrollments.note(connection, converted)
            bulk.update(
                connection,
                inbox,
                ("id", "state", "reason", "customer_id", "awaits"),
                [(row, fate.state.value, fate.reason, fate.customer_id, fate.awaits) for row, fate in fates.items()],
                also="tries = 0",
            )
            fetching.lack(connection, lacking, now)
            occasions.look_again(connection, hung_on, occasions.hung_on(release, persons), now)
        self.freed |= loyalty.take_part(connection, release, heard, now)
        self.freed |= acting.do(connection, self.app, release, arrivals, now)
        self.unwound = unwinding.unwind(connection, self.app, release, arrivals, persons, now)
        self.freed |= self.unwound.is_news
        self._referred |= self.unwound.is_due
        self.lacks |= bool(lacking)
        self.woke |= bool(starting or waiting or sending)
        self.freed |= bool(events.free_awaiting(connection, new_orders(arrivals)))
        # Last, because whoever notes the same at this moment waits for our commit, and then nobody waits for them.
        self._matched |= bool(merging.want(connection, [*identities.ones, *ones], now))

    def committed(self) -> None:
        """Hints about runs follow the batch."""
        if self._matched or self._referred:
            self.app.hint("tend")

    def _touch(self, connection: Connection, release: Release, arrivals: Sequence[Arrival]) -> None:
        """Have the segments of these customers judged, where there are any; what came as history is not told of."""
        if not release.catalog.segments:
            return
        looks: dict[int, tuple[int, datetime, bool]] = {}
        for arrival in arrivals:
            if arrival.mapped.event in (ENTERED, LEFT):
                continue  # which is what came of judging, and says nothing new
            id_ = arrival.customer_id
            _, at, tells = looks.get(id_, (id_, arrival.at, False))
            looks[id_] = (id_, min(at, arrival.at), tells or not arrival.is_history)
        segments.put_looks(connection, list(looks.values()))
        self.touched |= bool(looks)

    def _matching(self, release: Release) -> Matching:
        catalog = release.catalog
        return Matching(
            secret=self.app.settings.secrets[0],
            by_phone=catalog.shop.model.match_by_phone,
            many_ids=merging.many_ids(release),
        )

    def _mapped(
        self,
        connection: Connection,
        ids: Sequence[int],
        now: datetime,
        release: Release,
        fates: dict[int, Fate],
        lacking: list[int],
    ) -> list[Arrival]:
        """The elements that say something, oldest event first; those that lack a document are added to `lacking`."""
        c = inbox.c
        rows = connection.execute(
            sa.select(c.id, c.source, c.key, c.headers, c.body, c.received_at, c.fetched, c.customer_id).where(
                bulk.among(inbox.c.id, ids), inbox.c.state == "received"
            )
        ).all()  # a cursor left open by a mapping that raises would keep SQLite's old snapshot alive
        arrivals = []
        asked = []
        for row in rows:
            at = self.app.clock.moment(row.received_at, now)
            try:
                mapped = _map(release, row, at)
            except Unmappable as error:
                fates[row.id] = Fate(state=InboxState.PARKED, reason=str(error))
                continue
            if isinstance(mapped, PrivacyRequest):
                asked.append((row.id, row.source, at, mapped))
                fates[row.id] = Fate(state=InboxState.MAPPED, reason=requests.reason(mapped.kind))
                continue
            if isinstance(mapped, Ignored):
                fates[row.id] = Fate(state=InboxState.IGNORED, reason=mapped.reason)
                continue
            if isinstance(mapped, Lacking):
                lacking.append(row.id)
                continue
            arrivals.append(
                Arrival(
                    inbox_id=row.id,
                    source=row.source,
                    key=row.key,
                    at=at,
                    mapped=mapped,
                    digest=bytes.fromhex(mapped.digest()),
                    customer_id=row.customer_id or 0,  # of one that was mapped before, and is replayed
                    is_history=_is_history(row.headers, mapped.occurred_at, at),
                )
            )
        requests.ask(connection, asked)
        self.asked |= bool(asked)
        return sorted(arrivals, key=lambda arrival: (arrival.mapped.occurred_at, arrival.inbox_id))

    def _take_in(
        self,
        connection: Connection,
        release: Release,
        arrivals: Sequence[Arrival],
        persons: dict[int, Person],
        fates: dict[int, Fate],
        heard: list[Heard],
        now: datetime,
    ) -> list[NewRun]:
        """Learn what the events say about their customers; the runs that they would start.

        Each event is added to `heard`, with what was known at that moment.
        """
        catalog = release.catalog
        starting: list[tuple[Flow, Arrival, str]] = []
        known = accounts.facts(connection, catalog.shop, (person.account_id for person in persons.values()))
        for arrival in arrivals:
            mapped, person = arrival.mapped, persons[arrival.customer_id]
            fate = fates[arrival.inbox_id]
            fate.reason = learn(person, mapped, catalog.shop)
            names = {**mapped.payload, "customer": person.facts(catalog.shop), "shop": catalog.shop.facts}
            if person.account_id in known:
                names["account"] = known[person.account_id]
            heard.append(Heard(arrival=arrival, names=names))
            if arrival.is_history:
                fate.reason = "; ".join(filter(None, [fate.reason, "it was fetched late, so it started nothing"]))
                continue
            started = started_by(catalog, mapped.event, mapped.stage, arrival.event_id, names)
            starting += [(flow, arrival, key) for flow, key in started]
        spread, told = companies.spread(connection, catalog, [(one.arrival, one.names) for one in heard], persons, now)
        starting += spread
        self.freed |= told
        again = [(flow.name, arrival.customer_id) for flow, arrival, _ in starting if flow.reenter is not None]
        last = events.last_runs(connection, *zip(*again, strict=True)) if again else {}
        ids = bulk.next_ids(connection, enrollments_table, len(starting))
        return [
            NewRun(
                id=id_,
                flow=flow.name,
                flow_id=release.flow_id(flow.name),
                customer_id=arrival.customer_id,
                key=key,
                event_id=arrival.event_id,
                entered_at=arrival.mapped.occurred_at,
                due_at=arrival.at,
                lane=0 if flow.occasion is None or isinstance(flow.occasion, Asked) else 1,
                n=next_n(
                    flow,
                    last.get((flow.name, arrival.customer_id, key)),
                    arrival.mapped.occurred_at,
                    persons[arrival.customer_id].zone(catalog.shop),
                )
                or 1,  # which is taken
            )
            for id_, (flow, arrival, key) in zip(ids, starting, strict=True)
        ]

    def _woken(
        self, connection: Connection, arrivals: Sequence[Arrival]
    ) -> tuple[dict[int, datetime], dict[int, datetime]]:
        """The open runs that listen to one of these events, waiting or held by a touchpoint, and when to look.

        Only `decide` says what an event means to them.
        """
        by_customer: dict[int, list[Arrival]] = {}
        for arrival in arrivals:
            if arrival.is_history:
                continue
            by_customer.setdefault(arrival.customer_id, []).append(arrival)
        open_runs = events.open_runs(connection, by_customer)
        flows = self.app.catalog.flows(connection, [run.flow_id for run in open_runs])
        waiting: dict[int, datetime] = {}
        sending: dict[int, datetime] = {}
        for run in open_runs:
            for arrival in by_customer[run.customer_id]:
                said, at = arrival.mapped, arrival.mapped.occurred_at
                mine = {"trigger": run.event_id, "entered_at": run.entered_at}
                if is_woken(flows[run.flow_id], said.event, said.stage, arrival.event_id, at, **mine):
                    (sending if run.state == "sending" else waiting).setdefault(run.id, arrival.at)
        return waiting, sending


def _map(release: Release, row: Any, at: datetime) -> Mapped | Ignored | Lacking | PrivacyRequest:
    catalog = release.catalog
    if row.source in NATIVE_SOURCES:
        mapped: Mapped | Ignored | Lacking | PrivacyRequest = map_native(
            row.body, received_at=at, known_events=catalog.events
        )
    else:
        source = catalog.sources.get(row.source)
        if source is None:
            raise Unmappable(f"no source '{row.source}' is in force; add flows/sources/{row.source}.yaml and apply")
        mapped = map_element(
            source,
            row.headers,
            row.body,
            received_at=at,
            known_events=catalog.events,
            known_stages=catalog.stage_names,
            fetched=row.fetched,
        )
    if isinstance(mapped, Mapped) and mapped.stage is not None and mapped.stage not in catalog.stage_names:
        raise Unmappable(f"'{mapped.stage}' is not a stage of this shop; see flows/stages.yaml")
    return mapped


def _is_history(headers: Mapping[str, str], occurred_at: datetime, at: datetime) -> bool:
    """Whether an element was fetched, and so late that it starts nothing."""
    limit = headers.get(past.FETCHED)
    return limit is not None and at - occurred_at >= timedelta(seconds=float(limit))


def _without_repeats(connection: Connection, arrivals: list[Arrival], fates: dict[int, Fate]) -> list[Arrival]:
    """The arrivals that are the first under their key."""
    seen = {
        key: digest for key, (_, digest) in events.digests(connection, [(a.source, a.key) for a in arrivals]).items()
    }
    first = []
    for arrival in arrivals:
        key = (arrival.source, arrival.key)
        if key not in seen:
            seen[key] = arrival.digest
            first.append(arrival)
        else:
            fates[arrival.inbox_id] = _repeat(arrival, seen[key])
    return first


def _repeat(arrival: Arrival, digest: bytes) -> Fate:
    # One that is replayed stays its customer's, so that whoever is forgotten is forgotten here, too.
    customer_id = arrival.customer_id or None
    # Of the past the key says all: a file and a provider's list tell the same order in different words.
    if arrival.digest == digest or past.is_past(arrival.key):
        reason = "a repeat of an event that is recorded already"
        return Fate(state=InboxState.MAPPED, reason=reason, customer_id=customer_id)
    return Fate(
        state=InboxState.PARKED,
        customer_id=customer_id,
        reason=f"conflict: another {arrival.mapped.event} was recorded under the same key; compare the two",
    )


def _recorded(
    connection: Connection, arrivals: Sequence[Arrival], fates: dict[int, Fate], now: datetime
) -> list[Arrival]:
    """Insert the events; the arrivals whose event is new."""
    for arrival, id_ in zip(arrivals, bulk.next_ids(connection, events_table, len(arrivals)), strict=True):
        arrival.event_id = id_
    new = events.record(
        connection,
        [
            (
                arrival.event_id,
                arrival.customer_id,
                arrival.source,
                arrival.key,
                arrival.mapped.event,
                arrival.digest,
                arrival.mapped.occurred_at,
                arrival.at,
                arrival.mapped.payload,
            )
            for arrival in arrivals
        ],
    )
    late = [arrival for arrival in arrivals if arrival.event_id not in new]
    if late:  # another worker recorded them between our look and our insert
        stored = events.digests(connection, [(arrival.source, arrival.key) for arrival in late])
        for arrival in late:
            fates[arrival.inbox_id] = _repeat(arrival, stored[arrival.source, arrival.key][1])
    return [arrival for arrival in arrivals if arrival.event_id in new]


def _said(arrival: Arrival) -> reviews.Said:
    return reviews.Said(
        event_id=arrival.event_id,
        customer_id=arrival.customer_id,
        name=arrival.mapped.event,
        source=arrival.source,
        at=arrival.mapped.occurred_at,
        payload=arrival.mapped.payload,
    )


def _write_words(connection: Connection, arrivals: Sequence[Arrival], joins: Sequence[Arrival]) -> None:
    """Stage entries of events, and consents, also of what was added to events."""
    events.enter_stages(
        connection,
        [
            (arrival.event_id, arrival.mapped.stage, arrival.customer_id, arrival.mapped.occurred_at)
            for arrival in arrivals
            if arrival.mapped.stage is not None
        ],
    )
    events.hear_consents(
        connection,
        [
            (
                arrival.customer_id,
                "email",
                consent.topic,
                consent.state,
                consent.basis,
                {"source": arrival.source, "event": arrival.event_id}
                | ({"words": consent.evidence} if consent.evidence else {}),
                consent.at or arrival.mapped.occurred_at,
            )
            for arrival in (*arrivals, *joins)
            if (consent := arrival.mapped.consent) is not None
        ],
    )
