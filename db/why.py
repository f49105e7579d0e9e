"""Why did this customer get this, or not get it? Everything that is known, in order, in plain words.

Read with a constant number of queries, whatever happened: what was recorded (events, stages, decisions, touchpoints),
and what did not happen, recomputed from the release that was in force when each event was recorded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, get_args

from sqlalchemy.engine import Connection

from afterglow import past, telling
from afterglow.errors import AfterglowError
from afterglow.language.flow.graph import Flow, WaitFor
from afterglow.language.shop import Shop
from afterglow.problems import did_you_mean
from afterglow.refusals import Standing, refusal
from afterglow.starting import could_start, starter
from afterglow.telling import Kind, Line, Message
from db import history, people, segments
from db.catalog import CatalogCache
from db.history import History, UnknownCustomerError
from db.merging import MERGED_EVENT, PARTED_EVENT
from db.merging import SOURCE as MERGING
from db.tables import OPEN_TOUCHPOINTS

__all__ = ["UnknownCustomerError", "UnknownFlowError", "about", "heading", "story"]

#: At one instant causes come before effects: `Kind` names them in this order.
_ORDER: Mapping[str, int] = {kind: place for place, kind in enumerate(get_args(Kind))}


class UnknownFlowError(AfterglowError):
    """There is no such flow."""


def story(
    connection: Connection, catalog: CatalogCache, secret: bytes, customer_id: int, flow: str | None = None
) -> list[Line]:
    """Everything about one customer, oldest first; what is still to come stands last.

    Counts of orders, money spent and the stage are as of each event; other attributes of the customer are only known
    as they are now, and a line says so where it matters.

    Args:
      flow: only what belongs to this flow, refusals included.

    Raises:
      UnknownCustomerError: there is no customer of this number.
      UnknownFlowError: no release ever had a flow of this name.
    """
    known = history.read(
        connection, catalog, secret, people.kept(connection, [customer_id]).get(customer_id, customer_id)
    )
    if flow is not None and flow not in known.known_flows:
        hint = did_you_mean(flow, known.known_flows)
        raise UnknownFlowError(f"There is no flow '{flow}'.{hint}")
    teller = _Teller(known)
    lines = list(teller.lines())
    if flow is not None:
        concerned = teller.events_of(flow)
        lines = [line for line in lines if line.flow == flow or (line.flow is None and _concerns(line, concerned))]
    lines.sort(key=_place)
    if flow is not None and all(line.flow != flow for line in lines):
        lines.append(
            Line(
                at=known.person.since,
                when=telling.when(known.person.since, known.zone),
                kind="note",
                flow=flow,
                sentence="Nothing that this customer did could have started this flow since it is in force.",
            )
        )
    return lines


def _place(line: Line) -> tuple[Any, ...]:
    """Where a line stands: what is to come last; at one instant, what each event said before what runs made of it."""
    said = line.kind in ("event", "stage", "start", "refusal")
    event = line.detail.get("event", 0) if said else 0
    return line.kind == "standing", line.at, 0 if said else 1, event, _ORDER[line.kind]


def heading(connection: Connection, customer_id: int) -> str:
    """Who this is, in one line for the command line: personal data, never to be stored."""
    customer_id = people.kept(connection, [customer_id]).get(customer_id, customer_id)
    person = people.load(connection, [customer_id]).get(customer_id)
    if person is None:
        raise UnknownCustomerError
    if person.forgotten_at is not None:
        return f"Customer {customer_id} (forgotten on {person.forgotten_at:%Y-%m-%d})"
    name = " ".join(part for part in (person.first_name, person.last_name) if part)
    address = f"<{person.email}>" if person.email else ""
    return " ".join(part for part in (f"Customer {customer_id}", name, address) if part)


def about(connection: Connection, catalog: CatalogCache, customer_id: int) -> list[str]:
    """What holds for everything that is told about a customer: whose clock and language, how known, which segments."""
    person = people.load(connection, [customer_id]).get(customer_id)
    if person is None:
        raise UnknownCustomerError
    if person.forgotten_at is not None:
        return []
    shop = catalog.current(connection).catalog.shop
    theirs = segments.members(connection, [customer_id])[customer_id]
    return [
        *person.whereabouts(shop),
        *(f"In segment {name} since {telling.when(since, person.zone(shop))}." for name, since in theirs.items()),
    ]


class _Teller:
    """Turns what was recorded into lines."""

    def __init__(self, known: History) -> None:
        self.h = known
        self.messages = {
            (row.enrollment_id, row.step): Message(template=row.template, kind=row.kind) for row in known.touchpoints
        }
        self.flow_of = {run.id: known.versions[run.flow_id].name for run in known.runs}
        self.run_of = {run.id: run for run in known.runs}
        self.events = {row.id: row for row in known.events}

    def lines(self) -> Iterator[Line]:
        yield from self._events()
        yield from self._words()
        yield from self._inbox()
        yield from self._decisions()
        yield from self._touchpoints()
        yield from self._standings()
        if self.h.person.forgotten_at is not None:
            yield self._line(
                self.h.person.forgotten_at, "note", "Was forgotten: what was known about this person is deleted."
            )

    def events_of(self, flow: str) -> frozenset[int]:
        """The events that could start a flow, and those that its runs listened to."""
        named: set[int] = set()
        for row in self.h.events:
            wanted = self.h.release_at(row.recorded_at).flows.get(flow)
            stages = {entry.stage for entry in self.h.stages.get(row.id, ())}
            if wanted and (could_start(wanted, row.name, stages, row.payload) or row.name in wanted.listens_to):
                named.add(row.id)
        mine = {run for run, name in self.flow_of.items() if name == flow}
        named |= {self.run_of[run].event_id for run in mine}
        named |= {row.event_id for row in self.h.answered if row.enrollment_id in mine}
        return frozenset(named)

    def _line(self, at: datetime, kind: Kind, sentence: str, **rest: Any) -> Line:
        return Line(at=at, when=telling.when(at, self.h.zone), kind=kind, sentence=sentence, **rest)

    def _events(self) -> Iterator[Line]:
        """Each event with the stages that it brought, the flows that it started, and those that it did not."""
        by_trigger: dict[int, list[Any]] = {}
        for run in self.h.runs:
            by_trigger.setdefault(run.event_id, []).append(run)
        standing = Standing()
        for row in self.h.events:
            release = self.h.release_at(row.recorded_at)
            entered = self.h.stages.get(row.id, ())
            stages = [entry.stage for entry in entered]
            yield self._line(
                row.recorded_at,
                "event",
                telling.merging(row.name, row.payload)
                if row.name in (MERGED_EVENT, PARTED_EVENT) and row.source == MERGING
                else telling.event(row.name, row.source, row.payload, row.occurred_at, row.recorded_at, self.h.zone),
                detail={"event": row.id, "name": row.name, "source": row.source, "key": row.key},
            )
            for entry in entered:
                older = standing.stage_at is not None and entry.entered_at < standing.stage_at
                yield self._line(
                    row.recorded_at,
                    "stage",
                    telling.stage(entry.stage, entry.entered_at, older, self.h.zone),
                    detail={"event": row.id, "stage": entry.stage},
                )
            stage = stages[0] if stages else None
            standing = standing.after(row.name, row.occurred_at, row.payload, stage, release.shop)
            mine = by_trigger.get(row.id, [])
            for run in mine:
                yield self._started(run, row, stages)
            begun = {self.flow_of[run.id] for run in mine}
            for flow in release.flows.values():
                if flow.name not in begun and could_start(flow, row.name, stages, row.payload):
                    yield self._refused(flow, row, standing, release.shop)

    def _started(self, run: Any, event: Any, stages: Sequence[str]) -> Line:
        flow = self.h.versions[run.flow_id]
        by = starter(flow, event.name, stages)
        per = "account" if flow.per_account else flow.once_per.text if flow.once_per else None
        once = f", once per {per}: {self.h.keys.get(run.id)}" if per else ""
        return self._line(
            event.recorded_at,
            "start",
            f"Started by {by} (event {event.id}{once}).",
            flow=flow.name,
            detail={"run": run.id, "event": event.id, "version": run.flow_id},
        )

    def _refused(self, flow: Flow, event: Any, standing: Standing, shop: Shop) -> Line:
        then = replace(
            self.h.person,
            orders=standing.orders,
            spent=standing.spent,
            last_order_at=standing.last_order_at,
            stage=standing.stage,
            stage_at=standing.stage_at,
        )
        company = {} if self.h.account is None else {"account": self.h.account}
        names = {**event.payload, **company, "customer": then.facts(shop), "shop": shop.facts}
        forgotten = self.h.person.forgotten_at is not None and not event.payload
        found = refusal(
            flow,
            names,
            event.id,
            lambda key: self._ran_by(flow.name, key, event),
            forgotten=forgotten,
            is_past=past.is_past(event.key),
        )
        return self._line(
            event.recorded_at,
            "refusal",
            found.sentence,
            flow=flow.name,
            detail={"event": event.id, **found.detail},
        )

    def _ran_by(self, flow: str, key: str, event: Any) -> str | None:
        """The event that started the run of this key, in words."""
        for run in self.h.runs:
            if self.flow_of[run.id] == flow and self.h.keys.get(run.id) == key and run.event_id < event.id:
                trigger = self.events[run.event_id]
                return f"{trigger.name} on {telling.when(trigger.recorded_at, self.h.zone)} (event {trigger.id})"
        return None

    def _words(self) -> Iterator[Line]:
        for row in self.h.consents:
            yield self._line(
                row.occurred_at,
                "consent",
                telling.consent(row.topic, row.state == "granted", row.channel, row.basis, row.evidence),
                detail={"topic": row.topic, "state": row.state},
            )
        for row in self.h.suppressions:
            what = "marketing" if row.covers == "marketing" else "every mail"
            yield self._line(
                row.at,
                "consent",
                f"The address was put on the list that gets no mail ({row.reason}): {what} is skipped.",
            )

    def _inbox(self) -> Iterator[Line]:
        for row in self.h.inbox:
            yield self._line(
                row.received_at,
                "inbox",
                f"A webhook of {row.source} is {row.state}: {row.reason.rstrip('.')} (inbox {row.id}).",
                detail={"inbox": row.id, "state": row.state, "key": row.key},
            )

    def _decisions(self) -> Iterator[Line]:
        for row in self.h.decisions:
            run = self.run_of.get(row.enrollment_id)
            detail = row.detail or {}
            yield self._line(
                row.at,
                "decision",
                telling.decision(
                    row.verb,
                    row.step,
                    detail,
                    self.h.zone,
                    message=self.messages.get((row.enrollment_id, row.step)),
                    reason=run.reason if run is not None else None,
                ),
                flow=self.flow_of.get(row.enrollment_id),
                step=row.step,
                detail={"run": row.enrollment_id, "verb": row.verb, **detail},
            )

    def _touchpoints(self) -> Iterator[Line]:
        """Where touchpoints stand, unless a decision has said so already."""
        said = {(row.enrollment_id, row.step, row.verb) for row in self.h.decisions}
        for row in self.h.touchpoints:
            is_open = row.state in OPEN_TOUCHPOINTS
            if not is_open and (row.enrollment_id, row.step, row.state.replace("_", " ")) in said:
                continue
            yield self._line(
                row.settled_at or row.prepared_at or row.due_at or row.queued_at,
                "standing" if is_open else "touchpoint",
                telling.fate(
                    row.state,
                    self.messages[row.enrollment_id, row.step],
                    self.h.zone,
                    reason=row.reason,
                    due_at=row.due_at,
                    leased_until=row.leased_until,
                ),
                flow=row.flow,
                step=row.step,
                detail={"touchpoint": row.id, "run": row.enrollment_id, "state": row.state},
            )

    def _standings(self) -> Iterator[Line]:
        for run in self.h.runs:
            flow = self.h.versions[run.flow_id]
            step = flow.steps.get(run.step) if run.step else None
            awaits = step.named if isinstance(step, WaitFor) and run.until is not None else None
            sentence = telling.standing(
                run.state, run.step, self.h.zone, due_at=run.until or run.due_at, awaits=awaits, reason=run.reason
            )
            if sentence is not None:
                yield self._line(
                    run.until or run.due_at or run.entered_at,
                    "standing",
                    sentence,
                    flow=flow.name,
                    step=run.step if step else None,
                    detail={"run": run.id, "state": run.state},
                )


def _concerns(line: Line, events_of_flow: frozenset[int]) -> bool:
    """Whether a line of no flow matters to one: what could start it, woke it or stopped it; consent."""
    return line.kind in ("consent", "note") or line.detail.get("event") in events_of_flow
