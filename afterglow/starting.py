"""What an event sets going: the flows that it starts, the runs that must look at it."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from afterglow.decide import is_of_segment, key_of
from afterglow.language.catalog import Catalog
from afterglow.language.company import is_of_colleague, plain, started_by_colleague
from afterglow.language.flow.graph import Flow
from afterglow.language.segment import ENTERED
from afterglow.language.starts import Asked
from afterglow.problems import did_you_mean


def started_by(
    catalog: Catalog, event: str, stage: str | None, event_id: int, names: Mapping[str, Any]
) -> Iterator[tuple[Flow, str]]:
    """The live flows that an event starts, by its name or by the stage it brings, each with the key of the run.

    A flow that runs per account starts for a colleague by the event that tells them so, and for whoever did it as
    `started_for_account` says. Whether that key ran before, only memory knows.

    Args:
      names: the payload, `customer` as of this event, `shop`.
    """
    if is_of_colleague(event):
        for name in started_by_colleague(names):
            flow = catalog.flows.get(name)
            if flow is not None and flow.status == "live" and (key := key_of(flow, names, event_id)) is not None:
                yield flow, key
        return
    for flow in _candidates(catalog, event, stage, names):
        if flow.per_account or (flow.when is not None and not flow.when.is_true(names)):
            continue
        key = key_of(flow, names, event_id)
        if key is not None:
            yield flow, key


def started_for_account(catalog: Catalog, event: str, stage: str | None, names: Mapping[str, Any]) -> Iterator[Flow]:
    """The live flows that an event starts for the whole account of whoever did it. `when` is asked of that one."""
    for flow in _candidates(catalog, event, stage, names):
        if flow.per_account and (flow.when is None or flow.when.is_true(names)):
            yield flow


def _candidates(catalog: Catalog, event: str, stage: str | None, payload: Mapping[str, Any]) -> Iterator[Flow]:
    """The live flows that an event is meant for, by its name or by the stage it brings."""
    for flow in (*catalog.started_by_event.get(event, ()), *(catalog.started_by_stage.get(stage, ()) if stage else ())):
        if is_meant(flow, payload):
            yield flow


def could_start(flow: Flow, event: str, stages: Collection[str], payload: Mapping[str, Any]) -> bool:
    """Whether an event, or a stage that it brings, is what starts a flow; whether it does is for `started_by`."""
    return flow.stage in stages or (flow.event == event and is_meant(flow, payload))


def is_meant(flow: Flow, payload: Mapping[str, Any]) -> bool:
    """Whether an event of the right name is about the flow's segment, and told for this flow where it names one."""
    return is_of_segment(flow.segment, payload) and (flow.occasion is None or payload.get("flow") == flow.name)


def not_to_be_asked(catalog: Catalog, name: str) -> str | None:
    """Why a flow cannot be asked to start, in a sentence; None where it can."""
    flow = catalog.flows.get(name)
    if flow is None:
        return f"There is no flow '{name}'.{did_you_mean(name, catalog.flows)}"
    if not isinstance(flow.occasion, Asked):
        return f"Flow '{name}' does not start when asked; write `starts: {{asked: true}}` in flows/{name}.yaml."
    if flow.status != "live":
        return f"Flow '{name}' is {flow.status}, so that it starts for nobody; make it live and apply."
    return None


def starter(flow: Flow, event: str, stages: Collection[str]) -> str:
    """What started a flow, in words."""
    if flow.stage in stages:
        return f"stage {flow.stage}"
    if flow.segment is not None:
        whose = "a colleague's " if is_of_colleague(event) else ""
        return f"{whose}{'entering' if plain(event) == ENTERED else 'leaving'} segment {flow.segment}"
    return event


def is_woken(
    flow: Flow,
    event: str,
    stage: str | None,
    event_id: int,
    occurred_at: datetime,
    *,
    trigger: int,
    entered_at: datetime,
) -> bool:
    """Whether an open run must look at an event. Only `decide` says what it means to it.

    Args:
      stage: the stage that the event brings.
      trigger: the event that the run began by; it wakes no run that it started.
      entered_at: the trigger's own instant.
    """
    return hears(flow, event, stage) and event_id != trigger and occurred_at >= entered_at


def hears(flow: Flow, event: str, stage: str | None) -> bool:
    """Whether runs of a flow listen to events of this name, or that bring this stage."""
    return event in flow.listens_to or (flow.ends_with_stage and stage not in (None, flow.stage))
