"""Events that are the goal of a flow: the conversion of a run is noted once, and the run goes on.

Asked by `ingest`, which has the customers locked, so that nobody notes the same conversion meanwhile. The goal is that
of the flow in force: it measures, and changes nothing that a run does.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy.engine import Connection

from afterglow.decide import HELD_OUT, Event, converts
from db import bulk, enrollments
from db.catalog import Release
from db.enrollments import Begun
from db.events import NewRun
from db.people import Person
from workers.arrivals import Arrival

CONVERTED = "converted"


def conversions(
    connection: Connection,
    release: Release,
    arrivals: Sequence[Arrival],
    persons: Mapping[int, Person],
    starting: Sequence[NewRun],
) -> list[bulk.Row]:
    """The decisions to be recorded: one for each run whose goal is among these events, and was not reached before.

    Args:
      starting: the runs that these events begin, which are not written yet.
    """
    catalog = release.catalog
    flows = {flow.name: flow for flow in catalog.flows.values() if flow.goal is not None}
    wanted = {flow.goal.event for flow in flows.values() if flow.goal is not None}
    reaching = [arrival for arrival in arrivals if arrival.mapped.event in wanted]
    if not reaching:
        return []
    by_customer: dict[int, list[Arrival]] = {}
    for arrival in reaching:
        by_customer.setdefault(arrival.customer_id, []).append(arrival)
    payloads = {arrival.event_id: arrival.mapped.payload for arrival in arrivals}
    runs = [
        *enrollments.begun(connection, by_customer, flows),
        *(
            Begun(run.id, run.customer_id, run.flow, run.event_id, run.entered_at, payloads[run.event_id])
            for run in starting
            if run.flow in flows and run.customer_id in by_customer
        ),
    ]
    known = enrollments.noted(connection, CONVERTED, runs)
    held_out = enrollments.noted(connection, HELD_OUT, runs)
    rows: list[bulk.Row] = []
    for run in runs:
        if run.id in known:
            continue
        zone = persons[run.customer_id].zone(catalog.shop)
        for arrival in by_customer[run.customer_id]:
            event = Event(
                id=arrival.event_id,
                name=arrival.mapped.event,
                occurred_at=arrival.mapped.occurred_at,
                payload=arrival.mapped.payload,
            )
            if converts(flows[run.flow], run.payload, run.entered_at, run.event_id, event, zone):
                detail = {"event": event.id, "name": event.name} | ({"held_out": True} if run.id in held_out else {})
                rows.append((run.customer_id, run.id, arrival.at, CONVERTED, None, detail))
                break
    return rows
