"""`source try`: step by step, what a request would become here, without writing anything.

The steps are those of `ingest`, and so are the functions; what `ingest` would write is told instead.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow import strict_yaml
from afterglow.captured import told
from afterglow.decide import key_of, next_n
from afterglow.language.catalog import Catalog
from afterglow.language.flow.graph import Flow
from afterglow.language.source import Source
from afterglow.learn import learn
from afterglow.mapping import Ignored, Lacking, Mapped, PrivacyRequest, Unmappable
from afterglow.mapping.trial import Trial
from afterglow.matching import Identity, Register
from afterglow.starting import could_start, hears
from db import events, identity, people
from db.catalog import CatalogCache
from db.people import Person
from db.tables import enrollments
from workers.arrivals import Accounts, Arrival, Matching, named


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """The rule that held, and where it stands."""

    place: str
    when: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowTold:
    """A flow that this event or stage could start."""

    flow: str
    starts: bool
    #: Why not; or for what, where it starts.
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Woken:
    """An open run that would look at the event."""

    run: int
    flow: str
    step: str | None


@dataclass(kw_only=True)
class Story:
    """What one element would become."""

    key: str
    rule: Held | None
    #: event, ignored, parked, awaiting, fetching, joining, privacy or repeat
    outcome: str
    reason: str | None = None
    #: The event as plain data, as expectations have it.
    event: dict[str, Any] | None = None
    #: Who it would be, in words; None where nobody.
    who: str | None = None
    customer_id: int | None = None
    found_by: str | None = None
    remark: str | None = None
    flows: list[FlowTold] = field(default_factory=list)
    wakes: list[Woken] = field(default_factory=list)


def stories(
    source: Source,
    text: str,
    file: str,
    trials: Sequence[Trial],
    catalog: Catalog,
    *,
    now: datetime,
    secret: bytes,
    connection: Connection | None,
) -> list[Story]:
    """What each tried element would become.

    Args:
      text: of the source's file, for the places of its rules.
      catalog: compiled from the folder's files, which need not be in force.
      secret: the installation's, for the hashes of addresses.
      connection: None where there is no database: then nobody is known, and nothing ran before.
    """
    document = strict_yaml.load(text, file)
    teller = _Teller(source, catalog, now, secret, connection)
    found = []
    for trial, plain in zip(trials, told(trials), strict=True):
        held = None
        if trial.rule is not None:
            line, _ = document.place(("events", trial.rule))
            when = source.events[trial.rule].when
            held = Held(place=f"{file}:{line}", when=None if when is None else when.expression.text)
        story = Story(key=trial.element.key, rule=held, outcome="event")
        match trial.result:
            case Ignored(reason=reason):
                story.outcome, story.reason = "ignored", reason
            case Unmappable() as error:
                story.outcome, story.reason = "parked", error.reason
            case PrivacyRequest(kind=kind):
                story.outcome, story.reason = "privacy", f"somebody asks to {kind.replace('-', ' ')}; it is obeyed"
            case Lacking(name=name):
                story.outcome = "fetching"
                story.reason = f"the document '{name}' is fetched from {source.name} first"
            case Mapped() as mapped:
                story.event = plain
                teller.tell(story, mapped)
        found.append(story)
    return found


class _Teller:
    """Elements of one request, told one after the other: a later one knows whom an earlier one made."""

    def __init__(
        self, source: Source, catalog: Catalog, now: datetime, secret: bytes, connection: Connection | None
    ) -> None:
        self._source, self._catalog, self._now = source, catalog, now
        self._connection = connection
        self._matching = Matching(
            secret=secret,
            by_phone=catalog.shop.model.match_by_phone,
            many_ids={one.name for one in catalog.sources.values() if one.many_ids},
        )
        self._register = Register(
            owners={},
            accounts=defaultdict(set) if connection is None else Accounts(connection, ()),
            many_ids=self._matching.many_ids,
        )
        self._versions = CatalogCache()
        self._made: dict[int, Person] = {}
        self._keys: dict[str, bytes] = {}

    def tell(self, story: Story, mapped: Mapped) -> None:
        arrival = Arrival(
            inbox_id=0,
            source=self._source.name,
            key=story.key,
            at=self._now,
            mapped=mapped,
            digest=bytes.fromhex(mapped.digest()),
        )
        if self._is_anothers(story, mapped) or self._is_repeat(story, arrival):
            return
        person = self._person(story, arrival)
        if person is None:
            return
        if person.forgotten_at is not None:
            story.outcome, story.reason = "ignored", "the customer was forgotten"
            return
        story.remark = learn(person, mapped, self._catalog.shop)
        names = {
            **mapped.payload,
            "customer": person.facts(self._catalog.shop),
            "shop": self._catalog.shop.facts,
        }
        story.flows = self._flows(mapped, person, names)
        if self._connection is not None and person.id > 0:
            story.wakes = self._woken(self._connection, mapped, person.id)

    def _is_anothers(self, story: Story, mapped: Mapped) -> bool:
        """Another source owns the event: this adds to it, or is let go."""
        owner = self._catalog.owner(self._source.name, mapped.event)
        if owner is None:
            return False
        if mapped.joins is None:
            story.outcome = "ignored"
            story.reason = f"{owner} owns {mapped.event} (owners in shop.yaml), and this names no order there"
        else:
            story.outcome = "joining"
            story.reason = f"it adds to the {mapped.event} of order {mapped.joins}, which {owner} owns"
        return True

    def _is_repeat(self, story: Story, arrival: Arrival) -> bool:
        """The key was there before: with the same event a repeat, with another a conflict."""
        known = self._keys.get(arrival.key)
        if known is None and self._connection is not None:
            stored = events.digests(self._connection, [(arrival.source, arrival.key)])
            known = stored[arrival.source, arrival.key][1] if stored else None
        self._keys.setdefault(arrival.key, arrival.digest)
        if known is None:
            return False
        if known == arrival.digest:
            story.outcome, story.reason = "repeat", "it is recorded already under this key, so nothing happens again"
        else:
            story.outcome = "parked"
            story.reason = f"conflict: another {arrival.mapped.event} was recorded under the same key"
        return True

    def _person(self, story: Story, arrival: Arrival) -> Person | None:
        """Who it is, by the rules of `afterglow.matching`."""
        names = named(self._matching, arrival)
        if self._connection is not None:
            for one, holder in identity.known(self._connection, names.identities).items():
                self._register.owners.setdefault(one, holder)
        found_by = next((one for one in names.identities if one in self._register.owners), None)
        known = len(self._made)
        customer = self._register.meet(names, lambda: self._make(arrival))
        if customer is None:
            story.outcome, story.reason = "awaiting", "it names an order that has not come yet, and nobody else"
            return None
        if len(self._made) > known:
            story.who = "a new customer"
            return self._made[customer]
        story.found_by = None if found_by is None else self._named(found_by)
        if customer in self._made:
            story.who = "the new customer of an element before"
            return self._made[customer]
        assert self._connection is not None
        story.customer_id, story.who = customer, f"customer {customer}"
        return people.load(self._connection, [customer], segments=True)[customer]

    def _make(self, arrival: Arrival) -> int:
        person = people.new(-1 - len(self._made), arrival.mapped.occurred_at)
        self._made[person.id] = person
        return person.id

    def _named(self, one: Identity) -> str:
        source, _ = one
        if source == "email":
            return "the address"
        return "the order" if source.endswith(":order") else f"the id at {source}"

    def _flows(self, mapped: Mapped, person: Person, names: Mapping[str, Any]) -> list[FlowTold]:
        flows = [
            flow
            for flow in self._catalog.flows.values()
            if could_start(flow, mapped.event, () if mapped.stage is None else (mapped.stage,), mapped.payload)
        ]
        ran = self._ran(person, [(flow, self._key(flow, names)) for flow in flows], mapped.occurred_at)
        return [self._flow(flow, names, ran) for flow in flows]

    def _key(self, flow: Flow, names: Mapping[str, Any]) -> str | None:
        return None if flow.once_per is None else key_of(flow, names, 0)

    def _ran(
        self, person: Person, wanted: Sequence[tuple[Flow, str | None]], occurred_at: datetime
    ) -> set[tuple[str, str]]:
        """The (flow, key) that ran before for this customer, and may not run again now."""
        if self._connection is None or person.id <= 0 or not wanted:
            return set()
        last = events.last_runs(self._connection, [flow.name for flow, _ in wanted], [person.id])
        zone = person.zone(self._catalog.shop)
        return {
            (flow.name, key)
            for flow, key in wanted
            if key is not None and next_n(flow, last.get((flow.name, person.id, key)), occurred_at, zone) is None
        }

    def _flow(self, flow: Flow, names: Mapping[str, Any], ran: set[tuple[str, str]]) -> FlowTold:
        starts, key = False, self._key(flow, names)
        if flow.status != "live":
            why = f"its status is {flow.status}"
        elif flow.when is not None and not flow.when.is_true(names):
            why = f"its `when` does not hold: {flow.when.text}"
        elif flow.once_per is not None and key is None:
            why = f"what it runs once per is not there: {flow.once_per.text}"
        elif flow.once_per is not None and (flow.name, key) in ran:
            again = f", and may again {flow.reenter.text}" if flow.reenter else ""
            why = f"it ran already for this {flow.once_per.text} ({key}){again}"
        else:
            starts, why = True, "" if flow.once_per is None else f"once per {flow.once_per.text} ({key})"
        return FlowTold(flow=flow.name, starts=starts, why=why)

    def _woken(self, connection: Connection, mapped: Mapped, customer_id: int) -> list[Woken]:
        e = enrollments.c
        rows = [run for run in events.open_runs(connection, [customer_id]) if mapped.occurred_at >= run.entered_at]
        if not rows:
            return []
        flows = self._versions.flows(connection, [row.flow_id for row in rows])
        standing = connection.execute(sa.select(e.id, e.step).where(e.id.in_([row.id for row in rows])))
        steps = {row.id: row.step for row in standing}
        return [
            Woken(run=row.id, flow=flows[row.flow_id].name, step=steps.get(row.id))
            for row in rows
            if hears(flows[row.flow_id], mapped.event, mapped.stage)
        ]
