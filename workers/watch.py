"""Watching sources: who fell silent, and what of their webhooks is no longer filled.

One of all processes does each round. It reads and writes counts alone, apart from the way of the webhooks.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy.engine import Connection

from afterglow import silence
from db import alarms, pulses, rounds
from db.alarms import Alarm
from db.app import App
from db.catalog import NothingAppliedError, Release

log = structlog.get_logger()

#: How often what came in is counted, and silence looked for.
PULSES_EVERY = timedelta(minutes=1)
#: Stretches that one round counts where much was not counted yet; the next round goes on.
SLICES_MAX = 8


def watch(app: App) -> None:
    """The rounds that are due."""
    with app.reading() as connection:
        now = app.clock.now(connection)
        try:
            release = app.catalog.current(connection)
        except NothingAppliedError:
            return
    if rounds.take(app.database, "pulses", now, PULSES_EVERY) and _counted(app, now):
        with app.writing() as connection:
            _tell(look_for_silence(connection, release, now), now, release)


def _counted(app: App, now: datetime) -> bool:
    """Whether all that came in is counted now."""
    for _ in range(SLICES_MAX):
        with app.writing() as connection:
            if pulses.roll_up(connection, now):
                return True
    return False


def look_for_silence(connection: Connection, release: Release, now: datetime) -> Sequence[Alarm]:
    """Raise an alarm for each source that is silent beyond its usual gap; end those of sources that speak again.

    Returns: the alarms that are new.
    """
    zone = release.catalog.shop.zone
    on = {alarm.source: alarm for alarm in alarms.raised(connection) if alarm.kind == "silence"}
    heard = pulses.last_heard(connection, now)
    quiet = {
        source for source in release.catalog.sources if source in heard and now - heard[source] >= silence.SHORTEST
    }
    found = []
    for source, past in (pulses.past(connection, quiet, now) if quiet else {}).items():
        rhythm = silence.learn(past.counts, now, zone)
        if rhythm is not None and (judged := silence.judge(rhythm, past.last_at, now, zone)):
            figures = {"usual_per_hour": judged.usual_per_hour}
            found.append(Alarm(source=source, kind="silence", subject="", since=judged.since, detail=figures))
    # One that is on stays so until a webhook comes: in a silence of weeks, what was usual is forgotten.
    over = [
        alarm.key
        for alarm in on.values()
        if alarm.source not in release.catalog.sources or heard.get(alarm.source, alarm.since) > alarm.since
    ]
    over = [key for key in over if key[0] not in {alarm.source for alarm in found}]
    alarms.settle(connection, "silence", found, over, now)
    for source, _, _ in over:
        log.info("a source is heard again", source=source)
    return [alarm for alarm in found if alarm.source not in on]


def _tell(new: Sequence[Alarm], now: datetime, release: Release) -> None:
    for alarm in new:
        told = alarm.sentence(now, release.catalog.shop.zone)
        log.error("alarm", kind=alarm.kind, source=alarm.source, since=alarm.since.isoformat(), told=told)
