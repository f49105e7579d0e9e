"""What flows do besides sending: told by the run, done by whoever hears it.

`advance` tells each action as an event of ours, in the transaction of the step and under a key made of the run and the
step: it can happen once. What a step sets, and the stage that it moves to, is written there too, with the customer
locked, so that the run's own next mail knows it. `ingest` records these events as all others, enters the stage, starts
the flow that is asked for, and lets the programmes give the points; here it ends runs, buys rewards and notes
whom to tell. So rows of programmes are locked by nobody but who has locked the customers before, in their order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import groupby
from typing import Any

from sqlalchemy.engine import Connection

from afterglow import past
from afterglow.acting import POSTED, REDEEM, STOP, Action
from db import bulk, enrollments, intake, notices, redemptions
from db.app import App
from db.catalog import Release
from db.own_events import own_event
from db.redemptions import RedemptionError, Wish
from workers import ending
from workers.arrivals import Arrival

#: The events whose actions are done here.
_DONE = frozenset({STOP, REDEEM, POSTED})


@dataclass(frozen=True, kw_only=True, slots=True)
class Acted:
    """An action, the run that does it, and when."""

    run: int
    customer_id: int
    flow: str
    action: Action
    at: datetime


def tell(connection: Connection, acted: Sequence[Acted]) -> None:
    """Put what runs do into the inbox."""
    for at, ones in groupby(sorted(acted, key=lambda one: one.at), key=lambda one: one.at):
        rows = [
            own_event(
                one.action.event,
                key_of(one.flow, one.run, one.action.step),
                one.customer_id,
                at,
                {**one.action.payload, "by": {"flow": one.flow, "step": one.action.step, "run": one.run}},
                stage=one.action.stage,
            )
            for one in ones
        ]
        # The key alone says whether it is new: another version of a flow may lead to a step once more.
        rows = [row._replace(digest=sha256(row.key.encode()).digest()) for row in rows]
        intake.receive(connection, rows, at)


def key_of(flow: str, run: int, step: str) -> str:
    """What makes an action happen once."""
    return f"{redemptions.BY_FLOW}{flow}/{run}/{step}"


def do(connection: Connection, app: App, release: Release, arrivals: Sequence[Arrival], now: datetime) -> bool:
    """Do what runs asked for, of customers who are locked. Whether something new is in the inbox."""
    asked = [one for one in arrivals if one.source == past.OURS and one.mapped.event in _DONE]
    if not asked:
        return False
    _end_runs(connection, app, [one for one in asked if one.mapped.event == STOP], now)
    told = [one.event_id for one in asked if one.mapped.event == POSTED]
    notices.tell(connection, told, now)
    return _redeem(connection, release, [one for one in asked if one.mapped.event == REDEEM], now)


def _end_runs(connection: Connection, app: App, asked: Sequence[Arrival], now: datetime) -> None:
    """End the runs of the flows that are named, which began before they were."""
    if not asked:
        return
    open_runs = enrollments.open_of(connection, [one.customer_id for one in asked])
    flows = app.catalog.flows(connection, [run.flow_id for run in open_runs])
    ended: dict[int, tuple[Any, Arrival]] = {}
    for one in asked:
        for run in open_runs:
            is_meant = run.customer_id == one.customer_id and flows[run.flow_id].name == one.mapped.payload["flow"]
            if is_meant and run.entered_at <= one.mapped.occurred_at:
                ended.setdefault(run.id, (run, one))
    notes: list[bulk.Row] = [
        (run.customer_id, run.id, now, "stopped", run.step, {"event": one.event_id, "name": STOP})
        for run, one in ended.values()
    ]
    ends = [(run, _named(one)) for run, one in ended.values()]
    ending.end(connection, ends, notes, now)


def _named(asked: Arrival) -> str:
    by = asked.mapped.payload.get("by")
    return f"flow {by['flow']}" if isinstance(by, Mapping) else "a flow"


def _redeem(connection: Connection, release: Release, asked: Sequence[Arrival], now: datetime) -> bool:
    """Buy rewards, in the order in which they were asked for: each may be refused."""
    if not asked:
        return False
    wishes = [
        Wish(
            customer_id=one.customer_id,
            programme=str(one.mapped.payload["programme"]),
            reward=str(one.mapped.payload["reward"]),
            key=one.key,
        )
        for one in asked
    ]
    outcomes = redemptions.redeem_all(connection, release, wishes, now)
    refused = [(one, str(error)) for one in wishes if isinstance(error := outcomes[one], RedemptionError)]
    redemptions.tell_refused(connection, refused, now)
    return True
