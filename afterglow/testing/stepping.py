"""Runs take their steps, as `workers.advance` has them."""

from afterglow import acting, touchpoint
from afterglow.decide import HELD_OUT, Outcome, decide
from afterglow.testing.memory import Memory, OpenRun, Touchpoint


def advance(memory: Memory) -> None:
    """Take the steps of the runs that are due."""
    due = [run for run in memory.open if run.state == "waiting" and run.due_at is not None and run.due_at <= memory.now]
    for run in sorted(due, key=lambda run: (run.due_at, run.id)):
        outcome = decide(run.flow, memory.run_of(run, run.step, run.until), memory.facts(run), memory.now)
        _move(memory, run, outcome)


def _move(memory: Memory, run: OpenRun, outcome: Outcome) -> None:
    run.state, run.step, run.due_at, run.until = outcome.state, outcome.step, outcome.due_at, outcome.until
    run.answers.update(outcome.answers)
    for action in outcome.actions:
        acting.take_to_heart(memory.person, action, memory.now)
        memory.told.append((run, action))
    run.begins = False
    run.held_out |= any(one.verb == HELD_OUT for one in outcome.decisions)
    queued = outcome.queued
    message = None
    if queued is not None:
        kind, topic = touchpoint.kind_and_topic(queued, run.flow, memory.catalog.mails)
        memory.queued += 1
        letter = Touchpoint(
            number=memory.queued,
            run=run,
            step=queued.step,
            template=queued.template,
            kind=kind,
            topic=topic,
            queued_at=memory.now,
            due_at=memory.now,
            due_on=queued.due_on,
        )
        memory.queue.append(letter)
        message = letter.message
    for one in outcome.decisions:
        memory.note(run, one.verb, one.step, one.detail, message, outcome.reason)
