"""The facts that a batch of runs can need, in a handful of queries whatever its size."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from afterglow.decide import Facts, answer_of
from afterglow.language.flow.graph import Flow
from afterglow.language.shop import Shop
from db import accounts, enrollments, events
from db.people import Person


def load_facts(
    connection: Connection,
    runs: Sequence[tuple[int, int, int, datetime, Flow]],
    persons: Mapping[int, Person],
    shop: Shop,
) -> dict[int, Facts]:
    """Facts of runs given as (id, customer, trigger, entered_at, flow), in a few queries whatever their number."""
    answered = enrollments.answered(connection, [run for run, *_ in runs])
    known = events.named(
        connection,
        [event for _, _, event, _, _ in runs] + [event for steps in answered.values() for event in steps.values()],
    )
    starts: dict[int, datetime] = {}
    for _, customer, _, entered_at, flow in runs:
        if flow.listens_to:
            starts[customer] = min(entered_at, starts.get(customer, entered_at))
    companies = accounts.facts(connection, shop, (person.account_id for person in persons.values()))
    heard = events.since(connection, starts, {name for *_, flow in runs for name in flow.listens_to})
    facts = {}
    for run, customer, event, entered_at, flow in runs:
        person = persons[customer]
        mine = answered.get(run, {})
        facts[run] = Facts(
            customer=person.facts(shop),
            shop=shop.facts,
            zone=person.zone(shop),
            trigger=known[event][1],
            answers={flow.renames.get(step, step): answer_of(*known[id_]) for step, id_ in mine.items()},
            answered_by=frozenset(mine.values()),
            holdout=shop.holdout,
            account=companies.get(person.account_id) if person.account_id is not None else None,
            kinds=shop.model.attributes,
            events=[
                heard_event
                for heard_event in heard.get(customer, ())
                if heard_event.occurred_at >= entered_at and heard_event.name in flow.listens_to
            ],
        )
    return facts
