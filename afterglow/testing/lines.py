"""The lines of `why` that are no decisions of runs: what happened, and what did not start."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from afterglow import rails, telling
from afterglow.decide import Event
from afterglow.language.flow.graph import Flow
from afterglow.refusals import refusal
from afterglow.starting import could_start
from afterglow.testing.memory import Memory


def tell_event(memory: Memory, event: Event, stage: str | None, said: Iterable[rails.Consent]) -> None:
    """Tell that an event came, with the stage and the words on consent that it brought."""
    zone, source = memory.lived.zone, memory.told_by[event.id]
    memory.tell("event", telling.event(event.name, source, event.payload, memory.now, memory.now, zone))
    if stage is not None:
        memory.tell("stage", telling.stage(stage, memory.now, False, zone))
    for one in said:
        memory.tell("consent", telling.consent(one.topic, one.granted, "email", one.basis, {}))


def tell_refusals(memory: Memory, event: Event, stage: str | None, names: Mapping[str, Any], begun: set[str]) -> None:
    """Tell why the flows that the event could start did not begin; `begun` did."""
    for flow in memory.catalog.flows.values():
        stages = () if stage is None else (stage,)
        if flow.name not in begun and could_start(flow, event.name, stages, event.payload):
            found = refusal(flow, names, event.id, _ran_by(memory, flow, event), forgotten=False)
            memory.tell("refusal", found.sentence, flow=flow.name)


def _ran_by(memory: Memory, flow: Flow, event: Event) -> Callable[[str], str | None]:
    def earlier(key: str) -> str | None:
        run = memory.ran.get((flow.name, key))
        if run is None or run.trigger.id >= event.id:
            return None
        trigger = run.trigger
        return f"{trigger.name} on {telling.when(trigger.occurred_at, memory.lived.zone)} (event {trigger.id})"

    return earlier
