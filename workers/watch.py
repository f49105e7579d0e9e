"""Watching sources: who fell silent, and what of their webhooks is no longer filled.

One of all processes does each round. It reads and writes counts alone, apart from the way of the webhooks.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy.engine import Connection

from afterglow import drift, silence
from afterglow.language.source import ANY_EVENT
from afterglow.mime import Outgoing
from afterglow.tokens import make_token
from db import alarms, catalog, fillings, pulses, rounds
from db.alarms import Alarm
from db.app import App
from db.catalog import NothingAppliedError, Release
from workers import team
from workers.channels import Channel, InDoubt, NotBegun, Rejected, Sent

log = structlog.get_logger()

#: How often what came in is counted, and silence looked for.
PULSES_EVERY = timedelta(minutes=1)
#: How often new events are looked through for paths that are no longer filled, and how many, the newest, at most.
FILLINGS_EVERY = timedelta(minutes=10)
EVENTS_MAX = 2_000
#: How long the provider may take with a mail to the team, in seconds.
TELL_S_MAX = 20.0
#: Stretches that one round counts where much was not counted yet; the next round goes on.
SLICES_MAX = 8


def watch(app: App, email: Channel) -> None:
    """The rounds that are due, and a mail to the team about what they found."""
    with app.reading() as connection:
        now = app.clock.now(connection)
        try:
            release = app.catalog.current(connection)
        except NothingAppliedError:
            return
    a_minute_is_over = rounds.take(app.database, "pulses", now, PULSES_EVERY)
    if a_minute_is_over and _counted(app, now):
        with app.writing() as connection:
            _tell(look_for_silence(connection, release, now), now, release)
    if rounds.take(app.database, "fillings", now, FILLINGS_EVERY):
        with app.writing() as connection:
            _tell(look_for_drift(connection, release, now), now, release)
    if a_minute_is_over:
        tell_team(app, email, release, now)


def tell_team(app: App, email: Channel, release: Release, now: datetime) -> None:
    """Write one mail about all alarms that are on and were not told, to the team that shop.yaml names.

    Told at most once: an alarm counts as told before the provider is called, and again as untold only where the
    provider says that nothing was begun. It is no touchpoint, because it belongs to no customer, so no run, no page of
    the outbox and no cap knows it. A channel that keeps mails at home has no place for it: there the page, the metric
    and the log must do.
    """
    model = release.catalog.shop.model
    if model.alarms is None or not email.leaves_the_machine:
        return
    address = model.teams[model.alarms.notify].address
    if not app.settings.may_mail(address):
        return
    with app.reading() as connection:
        if all(alarm.told_at is not None for alarm in alarms.raised(connection)):
            return
    with app.writing() as connection:
        claimed = alarms.claim_untold(connection, now)
    if not claimed:
        return
    (fate,) = email.send([_letter(app, release, claimed, address, now)], TELL_S_MAX)
    match fate:
        case Sent():
            log.info("the team was told", alarms=len(claimed))
        case NotBegun(reason=reason):
            log.warning("the team could not be told yet", alarms=len(claimed), reason=reason)
            with app.writing() as connection:
                alarms.give_back(connection, now)
        case Rejected(reason=reason) | InDoubt(reason=reason):
            log.error("the team could not be told, or may not have been", alarms=len(claimed), reason=reason)


def _letter(app: App, release: Release, told: Sequence[Alarm], address: str, now: datetime) -> Outgoing:
    shop = release.catalog.shop
    sources = sorted({silence.spoken(alarm.source) for alarm in told})
    sentences = [alarm.sentence(now, shop.zone) for alarm in told]
    text = "\n\n".join([*sentences, "`afterglow doctor` and the first page of the team's pages say what is on now."])
    return team.letter(
        shop,
        address,
        subject=f"{' and '.join(sources)} need{'s' * (len(sources) == 1)} you",
        text=text + "\n",
        key=make_token(app.settings.secrets[0], f"alarm {now.isoformat()}", len(told)),
        now=now,
    )


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


def look_for_drift(connection: Connection, release: Release, now: datetime) -> Sequence[Alarm]:
    """Raise an alarm for each path of an event that was filled and is not any more; end those that are over.

    Events that came since the last round are looked through, the newest if they are many. Another file of a source
    learns anew.

    Returns: the alarms that are new.
    """
    sources = release.catalog.sources
    files = catalog.in_force(connection)
    digests = {source: files["source", source] for source in sources}
    paths = {source: drift.watched(sources[source]) for source in sources}
    known = fillings.load(connection, digests)
    fresh = fillings.newest(connection, rounds.upto(connection, "fillings"), EVENTS_MAX)
    touched: dict[fillings.Key, drift.Filling] = {}
    for row in fresh:
        of_event = paths.get(row.source, {})
        for path in of_event.get(row.name, of_event.get(ANY_EVENT, ())):
            fact = path.removeprefix("customer.")
            filled = bool(getattr(row, fact)) if path != fact else drift.is_filled(row.payload, path)
            if filled is not None:
                key = (row.source, row.name, path)
                touched[key] = (touched.get(key) or known.get(key) or drift.Filling()).after(filled)
    known |= touched
    on = {alarm.key: alarm for alarm in alarms.raised(connection) if alarm.kind == "drift"}
    found = []
    for (source, event, path), filling in known.items():
        if filling.has_drifted:
            alarm = Alarm(
                source=source, kind="drift", subject=f"{event} {path}", since=now,
                detail={"usual": round(filling.usual, 3), "now": round(filling.now, 3)},
            )  # fmt: skip
            if alarm.key not in on:
                found.append(alarm)
    lasting = {(source, f"{event} {path}") for (source, event, path), of in known.items() if not of.is_well}
    over = [key for key in on if (key[0], key[2]) not in lasting]
    alarms.settle(connection, "drift", found, over, now)
    fillings.save(connection, touched, digests, now)
    fillings.forget(connection, digests.values())
    if fresh:
        rounds.came_to(connection, "fillings", fresh[-1].id)
    return found


def _tell(new: Sequence[Alarm], now: datetime, release: Release) -> None:
    for alarm in new:
        told = alarm.sentence(now, release.catalog.shop.zone)
        log.error("alarm", kind=alarm.kind, source=alarm.source, since=alarm.since.isoformat(), told=told)
