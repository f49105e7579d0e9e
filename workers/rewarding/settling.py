"""Do what is due of referrals, in batches; one after the other where a batch fails as a whole."""

from collections.abc import Sequence
from datetime import datetime

import structlog
from sqlalchemy.engine import Connection

from db import leaderboards, people, referring
from db.app import App
from db.people import MergedMeanwhileError
from db.referring import Decision
from db.tables import ReferralState
from workers.batches import is_passing, told
from workers.rewarding.giving import reward, take_back
from workers.rewarding.judging import decide, judge
from workers.rewarding.round import Round

log = structlog.get_logger()


BATCH = 200


#: Batches of one round, so that other work is not kept waiting.
ROUNDS_MAX = 20


def settle_referrals(app: App) -> int:
    """Do what is due, in batches. How many referrals were looked at."""
    done = 0
    for _ in range(ROUNDS_MAX):
        with app.reading() as connection:
            due = referring.due(connection, app.clock.now(connection), BATCH)
        if not due:
            break
        ids = [id_ for id_, _, _ in due]
        if not _settle(app, ids):
            break
        done += len(ids)
    if done:
        # What is told to ourselves, which codes are to be made, and what the shop is told.
        app.hint("ingest", "coupons", "fetch")
    return done


def _settle(app: App, ids: Sequence[int]) -> bool:
    """Do a batch; one after the other where it fails as a whole. False where it is to be tried again later."""
    try:
        with app.writing() as connection:
            settle(connection, app, ids, app.clock.now(connection))
    except MergedMeanwhileError:
        return False
    except Exception as error:
        if is_passing(error):
            raise
        if len(ids) == 1:
            log.error("referral needs a look", referral=ids[0], exc_info=error)
            with app.writing() as connection:
                _park(connection, ids[0], told(error), app.clock.now(connection))
            return True
        alone = [_settle(app, [one]) for one in ids]
        return all(alone)
    return True


def _park(connection: Connection, referral_id: int, error: str, now: datetime) -> None:
    referral = referring.by_id(connection, [referral_id]).get(referral_id)
    if referral is None:
        return
    people.lock(connection, [referral.referrer_id, referral.referee_id])
    referral.state, referral.due_at = ReferralState.REVIEW, None
    referring.save(connection, [referral])
    evidence = {"error": error.partition(":")[0]}
    note = Decision(referral_id=referral_id, at=now, state=referral.state, because="it failed", evidence=evidence)
    referring.note(connection, [note])


def settle(connection: Connection, app: App, ids: Sequence[int], now: datetime) -> None:
    """Do what is due among these referrals, in one transaction.

    Raises:
      MergedMeanwhileError: one of their customers was merged while we waited for the locks; begin again.
    """
    before = referring.by_id(connection, ids)
    kept = people.kept(connection, {one for r in before.values() for one in (r.referrer_id, r.referee_id)})
    locked = people.locked(connection, kept.values())
    persons = {number: locked[one] for number, one in kept.items()}
    due = [
        referral
        for referral in referring.by_id(connection, ids).values()
        if referral.due_at is not None
        and referral.due_at <= now
        and {referral.referrer_id, referral.referee_id} <= persons.keys()
    ]
    due.sort(key=lambda one: (one.due_at, one.id))
    if not due:
        return
    round_ = Round(
        connection=connection,
        app=app,
        release=app.catalog.current(connection),
        persons=persons,
        programmes=app.catalog.referral_programmes(connection, {one.document_id for one in due}),
        now=now,
    )
    fresh = [one for one in due if one.state is ReferralState.QUALIFIED and one.judged_at is None]
    held = [one for one in due if one.state is ReferralState.QUALIFIED and one.judged_at is not None]
    waiting = [one for one in due if one.state is ReferralState.REVIEW]
    undone = [one for one in due if one.state is ReferralState.REVERSED]
    judge(round_, fresh)
    reward(round_, held)
    decide(round_, waiting)
    referring.save(connection, due)
    take_back(round_, undone)
    referring.note(connection, round_.notes)
    leaderboards.record(connection, round_.scored, round_.shop.calendar, now)
    referring.tell(connection, round_.told, now)
