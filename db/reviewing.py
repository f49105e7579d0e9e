"""What people decide about referrals, and what waits for them: every decision is kept, and can be decided again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.language.referral import ReferralProgramme
from afterglow.referring.qualification import rewarded_from
from afterglow.referring.rewarding import Side
from db import people, referring
from db.catalog import CatalogCache
from db.people import Person
from db.referring import Decision, Referral, ReferralDecisionError, Reward, UnknownReferralError
from db.tables import ReferralState, referral_decisions, referrals

#: Referrals that no index finds by state are looked for among so many of the newest.
LOOK_BACK = 50_000

_BOTH = (Side.REFERRER, Side.REFEREE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A referral with all that somebody needs who decides about it."""

    referral: Referral
    programme: ReferralProgramme
    #: What was decided so far, oldest first.
    decisions: Sequence[Decision]
    rewards: Sequence[Reward]
    referrer: Person
    referee: Person

    @property
    def stands(self) -> bool:
        """Whether rewards were given and stand."""
        return any(one.state == "given" for one in self.rewards)


def waiting(connection: Connection, catalog: CatalogCache, limit: int) -> list[Case]:
    """What waits for a person, the nearest deadline first; what has none after it, the oldest first."""
    r = referrals.c
    query = sa.select(r.id).where(r.state == "review").order_by(r.due_at.is_(None), r.due_at, r.id).limit(limit)
    return _cases(connection, catalog, connection.execute(query).scalars().all())


def decided(connection: Connection, catalog: CatalogCache, limit: int) -> list[Case]:
    """What people decided last, each referral once, the newest decision first."""
    d = referral_decisions.c
    query = sa.select(d.referral_id).where(d.author.is_not(None)).order_by(d.id.desc()).limit(2 * limit)
    newest = list(dict.fromkeys(connection.execute(query).scalars()))[:limit]
    return _cases(connection, catalog, newest)


def rejected(connection: Connection, catalog: CatalogCache, limit: int) -> list[Case]:
    """The newest referrals that do not count, whoever decided it: a person can let them count."""
    r = referrals.c
    newest = sa.select(sa.func.max(r.id)).scalar_subquery()
    query = sa.select(r.id).where(r.state == "rejected", r.id > newest - LOOK_BACK).order_by(r.id.desc()).limit(limit)
    return _cases(connection, catalog, connection.execute(query).scalars().all())


def _cases(connection: Connection, catalog: CatalogCache, ids: Sequence[int]) -> list[Case]:
    found = referring.by_id(connection, ids)
    programmes = catalog.referral_programmes(connection, {one.document_id for one in found.values()})
    said, given = referring.decisions(connection, ids), referring.rewards_of(connection, ids)
    persons = people.load(connection, {side for one in found.values() for side in (one.referrer_id, one.referee_id)})
    return [
        Case(
            referral=one,
            programme=programmes[one.document_id],
            decisions=said.get(one.id, ()),
            rewards=given.get(one.id, ()),
            referrer=persons[one.referrer_id],
            referee=persons[one.referee_id],
        )
        for one in (found[id_] for id_ in ids)
    ]


def approve(
    connection: Connection, catalog: CatalogCache, referral_id: int, *, author: str, reason: str | None, now: datetime
) -> Referral:
    """Let a referral count that is in review, was rejected or undone: it is rewarded when its hold has ended.

    Raises:
      UnknownReferralError, ReferralDecisionError
    """
    referral = _for_decision(connection, referral_id)
    if referral.state not in (ReferralState.REVIEW, ReferralState.REJECTED, ReferralState.REVERSED):
        raise ReferralDecisionError(f"Referral {referral_id} is {referral.state}, so that there is nothing to approve.")
    kept = people.kept(connection, [referral.referee_id])[referral.referee_id]
    if kept != referral.referee_id:
        raise ReferralDecisionError(
            f"The referee of referral {referral_id} turned out to be customer {kept}, who was referred before."
        )
    if referral.referrer_id == referral.referee_id:
        raise ReferralDecisionError(f"Both sides of referral {referral_id} are customer {referral.referee_id}.")
    if referral.counts:
        return _decided(connection, referral, ReferralState.REWARDED, author, reason, now)
    if referral.qualified_at is None:
        return _decided(connection, referral, ReferralState.ATTRIBUTED, author, reason, now)
    programme = catalog.referral_programmes(connection, {referral.document_id})[referral.document_id]
    zone = catalog.current(connection).catalog.shop.zone
    referral.judged_at, referral.rewarded_at = now, None
    ends = max(now, rewarded_from(programme, referral.qualified_at, zone))
    return _decided(connection, referral, ReferralState.QUALIFIED, author, reason, now, ends)


def reject(connection: Connection, referral_id: int, *, author: str, reason: str | None, now: datetime) -> Referral:
    """Let a referral not count; what it brought is taken back soon after. `approve` undoes it.

    Raises:
      UnknownReferralError, ReferralDecisionError
    """
    referral = _for_decision(connection, referral_id)
    if referral.state in (ReferralState.REJECTED, ReferralState.REVERSED):
        raise ReferralDecisionError(f"Referral {referral_id} is {referral.state} already.")
    if referral.counts:
        return _decided(connection, referral, ReferralState.REVERSED, author, reason, now, now)
    return _decided(connection, referral, ReferralState.REJECTED, author, reason, now)


def _for_decision(connection: Connection, referral_id: int) -> Referral:
    referral = referring.by_id(connection, [referral_id]).get(referral_id)
    if referral is None:
        raise UnknownReferralError(
            f"There is no referral {referral_id}; `afterglow referrals list` shows those there are."
        )
    people.lock(connection, [referral.referrer_id, referral.referee_id])
    return referring.by_id(connection, [referral_id])[referral_id]


def _decided(
    connection: Connection,
    referral: Referral,
    state: ReferralState,
    author: str,
    reason: str | None,
    now: datetime,
    due_at: datetime | None = None,
) -> Referral:
    before, referral.state, referral.due_at = referral.state, state, due_at
    referring.save(connection, [referral])
    note = Decision(
        referral_id=referral.id,
        at=now,
        state=state,
        because="a person decided",
        evidence={"before": before.value},
        author=author,
        reason=reason,
    )
    referring.note(connection, [note])
    if state is ReferralState.REJECTED:
        referring.tell(connection, [("referral.rejected", referral, side.value, {}) for side in _BOTH], now)
    return replace(referral)
