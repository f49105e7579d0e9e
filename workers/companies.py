"""What an event of one means to the others of their account: flows that run for all of them, and what stops them.

Each is told by an event of ours in the inbox, which is theirs: nobody's row but the customers of the batch is locked,
and what comes of it is told, tested and forgotten like everything else of a person.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from afterglow.decide import account_key
from afterglow.language.catalog import Catalog
from afterglow.language.company import is_of_colleague, of_colleague, plain, told
from afterglow.language.flow.graph import Flow
from afterglow.learn import known_of
from afterglow.starting import started_for_account
from db import account_looks, accounts, intake
from db.accounts import Colleague
from db.own_events import own_event
from db.people import Person
from workers.arrivals import Arrival


def find(connection: Connection, catalog: Catalog, arrivals: Sequence[Arrival], persons: Mapping[int, Person]) -> bool:
    """Find or make the accounts that are named, and say whose customers buy for them.

    Returns:
      whether their colleagues' segments are to be judged, because something of a company changed.
    """
    buying = [(arrival, account) for arrival in arrivals if (account := arrival.mapped.account) is not None]
    if not buying:
        return False
    named: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for arrival, account in buying:
        name, known = named.get((arrival.source, account.id), ("", {}))
        named[arrival.source, account.id] = (account.name or name, known | known_of(account, catalog.shop))
    learned = accounts.learn(connection, named)
    looks: dict[int, tuple[int, datetime, bool]] = {}
    for arrival, account in buying:
        number = persons[arrival.customer_id].account_id = learned.numbers[arrival.source, account.id]
        if number in learned.news:
            _, at, tells = looks.get(number, (number, arrival.at, False))
            looks[number] = (number, min(at, arrival.at), tells or not arrival.is_history)
    if not looks or not any(segment.reads_account for segment in catalog.segments.values()):
        return False
    return account_looks.put(connection, list(looks.values()), {arrival.customer_id for arrival, _ in buying})


def spread(
    connection: Connection,
    catalog: Catalog,
    heard: Sequence[tuple[Arrival, Mapping[str, Any]]],
    persons: Mapping[int, Person],
    now: datetime,
) -> tuple[list[tuple[Flow, Arrival, str]], bool]:
    """Start flows for whole accounts, and tell colleagues what they wait for or are stopped by.

    Args:
      heard: the arrivals, each with the names that conditions saw.

    Returns:
      the runs of those whose events these are, and whether colleagues have news in the inbox.
    """
    if not catalog.uses_accounts:
        return [], False
    of_accounts = [
        (arrival, names)
        for arrival, names in heard
        if "account" in names and not arrival.is_history and not is_of_colleague(arrival.mapped.event)
    ]
    asked = [
        (flow, arrival, (flow.name, int(names["account"]["id"]), account_key(flow, names)))
        for arrival, names in of_accounts
        for flow in started_for_account(catalog, arrival.mapped.event, arrival.mapped.stage, names)
    ]
    listening = [arrival for arrival, _ in of_accounts if arrival.mapped.event in catalog.heard_by_accounts]
    if not asked and not listening:
        return [], False
    claims = [
        ((flow, account, key), arrival.event_id, arrival.at)
        for _, arrival, (flow, account, key) in asked
        if key is not None
    ]
    fresh = accounts.claim(connection, claims)
    begun = [(flow, arrival) for flow, arrival, key in asked if key in fresh]
    keys = {(flow.name, arrival.event_id): key[2] for flow, arrival, key in asked if key[2] is not None}
    owners = {persons[arrival.customer_id].account_id for arrival in (*listening, *(one for _, one in begun))}
    people = accounts.colleagues(connection, [id_ for id_ in owners if id_ is not None])
    news = _News(persons=persons, people=people)
    mine = []
    for flow, arrival in begun:
        if news.start(flow, arrival):
            mine.append((flow, arrival, str(keys[flow.name, arrival.event_id])))
    for arrival in listening:
        news.tell(arrival)
    events = news.events()
    intake.receive(connection, events, now)
    return mine, bool(events)


class _News:
    """What each colleague is to be told, gathered so that each hears of an event once."""

    def __init__(self, *, persons: Mapping[int, Person], people: Sequence[Colleague]) -> None:
        self.persons, self.people = persons, people
        self.arrivals: dict[int, Arrival] = {}
        self.starts: dict[tuple[int, int], set[str]] = {}
        self.leads: dict[tuple[int, int], set[str]] = {}

    def others(self, arrival: Arrival) -> list[Colleague]:
        account = self.persons[arrival.customer_id].account_id
        return [one for one in self.people if one.account_id == account and one.customer_id != arrival.customer_id]

    def start(self, flow: Flow, arrival: Arrival) -> bool:
        """Start a flow for those whom it is for; whether it is for whoever did it."""
        mine = not flow.to or self.persons[arrival.customer_id].attributes.get("role") in flow.to
        meant = [one for one in self.others(arrival) if not flow.to or one.role in flow.to]
        for n, one in enumerate(meant):
            self.note(arrival, one).add(flow.name)
            if n == 0 and not mine:
                self.leads.setdefault((arrival.event_id, one.customer_id), set()).add(flow.name)
        return mine

    def tell(self, arrival: Arrival) -> None:
        """Let those hear of it who have a run that is open."""
        for one in self.others(arrival):
            if one.is_inside:
                self.note(arrival, one)

    def note(self, arrival: Arrival, one: Colleague) -> set[str]:
        self.arrivals[arrival.event_id] = arrival
        return self.starts.setdefault((arrival.event_id, one.customer_id), set())

    def events(self) -> list[intake.Received]:
        found = []
        for (event, customer), starts in sorted(self.starts.items()):
            said, by = self.arrivals[event].mapped, self.arrivals[event].customer_id
            payload = told(said.payload, by, starts, self.leads.get((event, customer), ()))
            key = f"colleague/{event}/{customer}"
            found.append(own_event(of_colleague(plain(said.event)), key, customer, said.occurred_at, payload))
        return found
