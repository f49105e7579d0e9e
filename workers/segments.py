"""Who enters and leaves segments: customers of whom something changed, those whom time moves, and new segments.

Nobody is rescanned: `ingest` and whoever else changes a customer makes their look due, what changes of a company makes
those of its people due (`db.account_looks`), and a look that only time can change stands at the moment at which it may.
A new or edited segment is filled in batches, by what SQL finds; filling tells nothing, because nobody gets a mail for a
file that was edited.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from sqlalchemy.engine import Connection

from afterglow.language.segment import ENTERED, LEFT, Segment
from afterglow.segments import judge_all
from db import account_looks, intake, people, rounds, segments
from db.app import App
from db.catalog import NothingAppliedError, Release
from db.own_events import own_event
from db.segments import Filling

#: Customers judged in one transaction, and members that one statement lets go.
BATCH = 500
#: Batches that one call does before it lets others have its seat.
BATCHES_MAX = 20


def judge_due(app: App) -> bool:
    """Judge everybody who is due, in batches. Whether somebody entered or left, so that the inbox has news."""
    told = False
    for _ in range(BATCHES_MAX):
        with app.writing() as connection:
            now = app.clock.now(connection)
            more = account_looks.pass_on(connection, now, BATCH)
            looks = segments.claim(connection, now, BATCH)
            if looks:
                told |= _judge(connection, app, looks, now)
        if len(looks) < BATCH and not more:
            return told
    app.hint("segments")
    return told


def fill_new(app: App) -> bool:
    """Fill segments that are new, or edited, or whose fifths moved; let the members of those that are no more go.

    Whether somebody entered or left of whom it is told.
    """
    told = False
    for _ in range(BATCHES_MAX):
        with app.writing() as connection:
            filling = segments.claim_filling(connection)
            if filling is None:
                return told
            told |= _fill(connection, app, filling)
    app.hint("segments")
    return told


def divide(app: App) -> None:
    """Once a day, divide customers into fifths anew, where a segment reads them."""
    with app.reading() as connection:
        now = app.clock.now(connection)
        reading = _reading_fifths(app, connection)
    if not reading or not rounds.take(app.database, "fifths", now, segments.EVERY):
        return
    with app.reading() as connection:
        found = segments.divide(connection)
    with app.writing() as connection:
        segments.keep_cuts(connection, found, reading, now)


def _reading_fifths(app: App, connection: Connection) -> dict[str, Segment]:
    try:
        found = app.catalog.current(connection).catalog.segments
    except NothingAppliedError:
        return {}
    return {name: one for name, one in found.items() if one.reads_fifths}


def _judge(connection: Connection, app: App, looks: Sequence[segments.Look], now: datetime) -> bool:
    """Judge those who are due, by every segment."""
    release = app.catalog.current(connection)
    ids = [look.customer_id for look in looks]
    moments = {look.customer_id: app.clock.moment(look.due_at, now) for look in looks}
    found = _move(connection, release, moments, list(release.catalog.segments.values()))
    segments.looked(connection, ids, found.again)
    if not found.moved:
        return False
    quiet = {look.customer_id for look in looks if not look.tells}
    fillings = {one.segment: one for one in segments.fillings(connection)}
    return _tell(
        connection,
        [
            one
            for one in found.moved
            if one.customer_id not in quiet
            and one.segment in fillings
            and not fillings[one.segment].is_quiet_about(one.customer_id)
        ],
    )


def _fill(connection: Connection, app: App, filling: Filling) -> bool:
    """One batch of a filling."""
    if filling.is_gone:
        segments.empty(connection, filling.segment, BATCH * 10)
        return False
    release = app.catalog.current(connection)
    segment = release.catalog.segments[filling.segment]
    now = app.clock.now(connection)
    ids = segments.candidates(connection, segment, filling, release.catalog.shop, now, BATCH)
    people.lock(connection, ids)
    found = _move(connection, release, dict.fromkeys(ids, now), [segment])
    segments.put_looks(connection, [(id_, due_at, True) for id_, due_at in sorted(found.again.items())])
    segments.filled(connection, segment.name, ids[-1] if len(ids) == BATCH else filling.last)
    return _tell(connection, found.moved) if filling.tells else False


@dataclass(frozen=True, slots=True)
class _Moved:
    """Somebody who entered or left a segment."""

    event: str
    segment: str
    customer_id: int
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What came of judging customers: who moved, and when time alone may move each of them."""

    moved: Sequence[_Moved] = ()
    again: Mapping[int, datetime] = field(default_factory=dict)


def _move(
    connection: Connection, release: Release, moments: Mapping[int, datetime], judged: Sequence[Segment]
) -> _Found:
    """Judge customers, who are locked, each at their own moment, and let them enter and leave."""
    persons = {
        id_: person
        for id_, person in people.load(connection, moments).items()
        if person.forgotten_at is None and person.merged_into is None
    }
    if not persons or not judged:
        return _Found()
    shop = release.catalog.shop
    were = segments.members(connection, list(persons))
    again: dict[int, datetime] = {}
    moved: list[_Moved] = []
    for id_, known in segments.known(connection, persons, judged, shop, min(moments.values())).items():
        names, at = known.names(shop), moments[id_]
        found = judge_all(judged, known, names, at)
        moved += [_Moved(ENTERED, name, id_, at) for name, one in found.items() if one.is_in and name not in were[id_]]
        moved += [_Moved(LEFT, name, id_, at) for name, one in found.items() if not one.is_in and name in were[id_]]
        looks = [one.look_at for one in found.values() if one.look_at is not None]
        if looks:
            again[id_] = min(looks)
    segments.enter(connection, [(one.segment, one.customer_id, one.at) for one in moved if one.event == ENTERED])
    segments.leave(connection, [(one.segment, one.customer_id) for one in moved if one.event == LEFT])
    return _Found(moved=moved, again=again)


def _tell(connection: Connection, moved: Sequence[_Moved]) -> bool:
    """Put what happened into the inbox, by moment: in real time there is one. Whether there was something."""
    for at, ones in groupby(sorted(moved, key=lambda one: one.at), key=lambda one: one.at):
        news = [
            own_event(
                one.event,
                f"{one.event}/{one.segment}/{one.customer_id}/{at.isoformat()}",
                one.customer_id,
                at,
                {"segment": {"name": one.segment}},
            )
            for one in ones
        ]
        intake.receive(connection, news, at)
    return bool(moved)
