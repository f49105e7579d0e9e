"""Runs end that are about orders of which nothing is left, as `workers.unwinding` has it."""

from afterglow import past, returning
from afterglow.decide import Event
from afterglow.returning import Undoing, total_of, undone_at
from afterglow.testing.memory import Memory


def unwind(memory: Memory, event: Event) -> None:
    """End the runs about orders of which nothing is left, as `workers.unwinding` does."""
    if past.order_of(event.payload) is None:
        return
    undoing = [one for one in memory.events if one.name in memory.catalog.undoing]
    if not undoing:
        return
    orders: dict[str, list[Event]] = {}
    for one in undoing:
        subject = memory.order_of(one)
        if subject is not None:
            orders.setdefault(subject, []).append(one)
    mine = memory.order_of(event)
    if mine is None or mine not in orders:
        return
    told = [one for one in memory.events if one.name == memory.shop.model.order_event]
    totals = {memory.order_of(one): total_of(one.payload) for one in told}
    given = [Undoing(name=one.name, at=one.occurred_at, payload=one.payload) for one in orders[mine]]
    since = undone_at(totals.get(mine), given)
    names = {one.name for one in orders[mine]}
    if since is None:
        return
    for run in memory.runs:
        is_about = memory.order_of(run.trigger) == mine
        if not (is_about and run.is_open and run.entered_at <= since):
            continue
        if returning.has_its_say(run.flow, run.trigger.name, names):
            continue
        memory.end(run)
        memory.note(run, "unwound", None, {"event": max(one.id for one in orders[mine])})
