"""Flows that start by a date, a schedule or a moment: whoever it has come for is told of by an event of ours.

1. What is kept of each flow follows the files in force. A paused flow stands still, one taken away is forgotten.
2. A date: `coming_dates` says when it starts a flow next for a customer. It is filled in batches when the flow comes
   into force, which tells nobody of what is past, and looked at again when something changes that it hangs on.
3. A schedule or a moment: everybody in the segment is walked through in batches, each with the place reached noted in
   its own transaction, so that a process may die anywhere. By customers' own clocks that is a round for each instant
   at which it is that time anywhere.

Few of these events wait in the inbox at once, and their runs go in the slow lane: webhooks do not wait behind them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any
from zoneinfo import available_timezones

import structlog
from sqlalchemy.engine import Connection

from afterglow import occasions as reckoning
from afterglow.durations import Duration
from afterglow.language.shop import Shop
from afterglow.language.starts import OnDate, OverSegment
from afterglow.local_time import known_zone
from afterglow.occasions import Coming, Round, date_on, just_before, next_date, next_round
from afterglow.person import Person
from db import occasions, people
from db.app import App
from db.catalog import Release
from db.intake import Received
from db.own_events import own_event
from db.people import MergedMeanwhileError

log = structlog.get_logger()

#: Customers looked at in one transaction.
BATCH = 1_000
#: So many events of ours wait in the inbox at most before more are written.
WAITING_MAX = 1_000
#: Transactions in one round of tending, so that others have their turn.
TURNS = 10

zones = cache(available_timezones)


@dataclass(slots=True)
class _Turn:
    """One transaction."""

    connection: Connection
    release: Release
    now: datetime
    told: int = 0

    @property
    def shop(self) -> Shop:
        return self.release.catalog.shop


def reach(app: App) -> None:
    """Tell of what has come."""
    told = 0
    for n in range(TURNS):
        try:
            with app.writing() as connection:
                turn = _Turn(connection, app.catalog.current(connection), app.clock.now(connection))
                if n == 0 and not _follow_files(turn):
                    return
                is_more = occasions.has_room(connection, WAITING_MAX) and (_rounds(turn) | _dates(turn))
        except MergedMeanwhileError:
            break  # another round finds whom they were merged into
        told += turn.told
        if not is_more:
            break
    if told:
        log.info("dates and schedules have come", customers=told)
        app.hint("ingest")


def _follow_files(turn: _Turn) -> bool:
    """Keep the place of every flow that the files in force start so. Whether there is any."""
    catalog = turn.release.catalog
    wanted: dict[str, OnDate | OverSegment] = {**catalog.on_dates, **catalog.over_segments}
    known = occasions.kept(turn.connection)
    for flow, occasion in wanted.items():
        meaning, is_live = reckoning.meaning(occasion, turn.shop.zone), catalog.flows[flow].status == "live"
        row = known.get(flow)
        if row is None or row.meaning != meaning:
            since = occasions.applied_at(turn.connection, turn.release.id)
            first = since if isinstance(occasion, OnDate) else _at(_next(turn, occasion, just_before(since)))
            occasions.begin(turn.connection, flow, meaning, is_live, first)
        elif row.is_live != is_live:
            occasions.set_live(turn.connection, flow, is_live)
    for flow in known.keys() - wanted.keys():
        occasions.end(turn.connection, flow, BATCH)
    return bool(wanted)


# Schedules and moments


def _rounds(turn: _Turn) -> bool:
    """A batch of the round or filling that is due longest. Whether there may be more."""
    row = occasions.due(turn.connection, turn.now)
    if row is None:
        return False
    catalog = turn.release.catalog
    if (on := catalog.on_dates.get(row.flow)) is not None:
        _fill(turn, row, on)
    elif (over := catalog.over_segments.get(row.flow)) is not None:
        _walk(turn, row, over)
    return True


def _walk(turn: _Turn, row: Any, over: OverSegment) -> None:
    """Tell of a moment for the next members of the segment; those who entered it later are not meant."""
    before = just_before(row.due_at)
    coming = _next(turn, over, before) if not row.upto else _after(turn, over, before)
    if coming is None or coming.at != row.due_at:  # it is too old, or nobody lives there
        occasions.move(turn.connection, row.flow, _at(coming), 0)
        return
    members = occasions.members(turn.connection, over.segment, row.upto, BATCH)
    _tell(
        turn,
        [
            own_event(over.event, key, member.customer_id, coming.at, payload)
            for member in members
            if member.since <= coming.at and (wall := coming.wall(_zone(turn.shop, member.timezone))) is not None
            for key, payload in [reckoning.round_event(row.flow, over, wall, member.customer_id)]
        ],
    )
    if len(members) < BATCH:
        occasions.move(turn.connection, row.flow, _at(_after(turn, over, coming.at)), 0)
    else:
        occasions.move(turn.connection, row.flow, coming.at, members[-1].customer_id)


def _next(turn: _Turn, over: OverSegment, after: datetime) -> Round | None:
    """The next round that is worth a walk: what came while nobody looked is told late, once, unless it is old news."""
    after = max(after, _ago(turn.shop.keep_for, turn))
    while (coming := _after(turn, over, after)) is not None and coming.at <= turn.now:
        again = next_round(over, turn.shop.zone, coming.at, coming.clocks)
        is_newest = again is None or again.at > turn.now
        if is_newest and (coming.clock is not None or _lives_anybody(turn, coming)):
            break
        after = coming.at
    return coming


def _after(turn: _Turn, over: OverSegment, after: datetime) -> Round | None:
    return next_round(over, turn.shop.zone, after, zones())


def _lives_anybody(turn: _Turn, coming: Round) -> bool:
    return turn.shop.zone.key in coming.clocks or occasions.lives_anybody(turn.connection, coming.clocks)


def _ago(duration: Duration, turn: _Turn) -> datetime:
    back = Duration(months=-duration.months, days=-duration.days, seconds=-duration.seconds)
    return back.after(turn.now, turn.shop.zone)


def _zone(shop: Shop, name: str | None) -> Any:
    return (known_zone(name) if name else None) or shop.zone


def _at(coming: Round | None) -> datetime | None:
    return coming.at if coming is not None else None


# Dates


def _fill(turn: _Turn, row: Any, on: OnDate) -> None:
    """Work out for the next customers when their date comes, counted from when the flow came into force."""
    ids = occasions.everybody(turn.connection, row.upto, BATCH)
    persons = people.locked(turn.connection, ids)
    waiting = occasions.pending(turn.connection, row.flow, ids, turn.now)
    planned = {
        (row.flow, id_): _planned(turn, on, person, just_before(row.due_at))
        for id_, person in persons.items()
        if id_ not in waiting
    }
    occasions.plan(turn.connection, planned)
    is_done = len(ids) < BATCH
    occasions.move(turn.connection, row.flow, None if is_done else row.due_at, 0 if is_done else ids[-1])


def _dates(turn: _Turn) -> bool:
    """Tell of dates that have come, and plan what comes next. Whether there may be more."""
    rows = occasions.due_dates(turn.connection, turn.now, BATCH)
    persons = people.load(turn.connection, [row.customer_id for row in rows])
    planned: dict[occasions.Key, tuple[str, datetime] | None] = {}
    told = []
    for row in rows:
        on, person = turn.release.catalog.on_dates.get(row.flow), persons[row.customer_id]
        if on is None:
            continue
        coming = _coming(turn, on, person, row.day)
        if coming is not None and coming.at > turn.now:
            planned[row.flow, person.id] = (coming.date.isoformat(), coming.at)
            continue
        if coming is not None and max(coming.at, row.due_at) >= _ago(turn.shop.keep_for, turn):
            key, payload = reckoning.date_event(row.flow, on, coming, person.id)
            told.append(own_event(on.event, key, person.id, coming.at, payload))
        planned[row.flow, person.id] = _planned(turn, on, person, coming.at if coming else row.due_at)
    occasions.plan(turn.connection, planned)
    _tell(turn, told)
    return bool(rows)


def _coming(turn: _Turn, on: OnDate, person: Person, day: str | None) -> Coming | None:
    """What was planned for a customer, as it is now; None where that is not the day any more."""
    if day is None:
        return None
    value, zone = person.facts(turn.shop).get(on.fact), person.zone(turn.shop)
    return date_on(on, value, zone, date.fromisoformat(day))


def _planned(turn: _Turn, on: OnDate, person: Person, after: datetime) -> tuple[str, datetime] | None:
    if person.forgotten_at is not None:
        return None
    coming = next_date(on, person.facts(turn.shop).get(on.fact), person.zone(turn.shop), after)
    return (coming.date.isoformat(), coming.at) if coming else None


def _tell(turn: _Turn, told: Sequence[Received]) -> None:
    turn.told += occasions.tell(turn.connection, told, turn.now)


# In the transaction of ingest


def hung_on(
    release: Release, persons: Mapping[int, Person], but: Collection[int] = ()
) -> Mapping[occasions.Key, tuple[object, str]]:
    """What the dates that start flows hang on, by flow and customer: the date and the zone."""
    shop = release.catalog.shop
    return {
        (flow, id_): (person.facts(shop).get(on.fact), person.zone(shop).key)
        for flow, on in release.catalog.on_dates.items()
        for id_, person in persons.items()
        if id_ not in but
    }


def look_again(
    connection: Connection,
    before: Mapping[occasions.Key, tuple[object, str]],
    after: Mapping[occasions.Key, tuple[object, str]],
    now: datetime,
) -> None:
    """Let dates be looked at again that hang on something that has changed."""
    nothing = (None, "")
    changed = {key for key, (value, zone) in after.items() if (value, zone) != before.get(key, nothing)}
    wanted = [key for key in changed if after[key][0] is not None or before.get(key, nothing)[0] is not None]
    occasions.look(connection, [(flow, customer, now) for flow, customer in wanted])
