"""What an event sets going: the flows that it starts, the runs that must look at it."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from afterglow.decide import key_of
from afterglow.language.catalog import Catalog
from afterglow.language.company import is_of_colleague, started_by_colleague
from afterglow.language.flow import Flow


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
    for flow in _candidates(catalog, event, stage):
        if flow.per_account or (flow.when is not None and not flow.when.is_true(names)):
            continue
        key = key_of(flow, names, event_id)
        if key is not None:
            yield flow, key


def started_for_account(catalog: Catalog, event: str, stage: str | None, names: Mapping[str, Any]) -> Iterator[Flow]:
    """The live flows that an event starts for the whole account of whoever did it. `when` is asked of that one."""
    for flow in _candidates(catalog, event, stage):
        if flow.per_account and (flow.when is None or flow.when.is_true(names)):
            yield flow


def _candidates(catalog: Catalog, event: str, stage: str | None) -> Iterator[Flow]:
    yield from catalog.started_by_event.get(event, ())
    yield from catalog.started_by_stage.get(stage, ()) if stage else ()


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
