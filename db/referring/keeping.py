"""Who brought whom: a referral, the state it is in, and what was decided."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from db import bulk
from db.tables import EPOCH, ReferralState, referral_decisions, referrals

#: (programme, customer)
Whose = tuple[str, int]


#: Before everything that was ever recorded.
BEGINNING = EPOCH


class UnknownReferralError(AfterglowError):
    """There is no referral of this number; `afterglow referrals list` shows those there are."""


class ReferralDecisionError(AfterglowError):
    """This cannot be decided about this referral."""


@dataclass(kw_only=True, slots=True)
class Referral:
    """One referral. Mutable: changed in memory and written back once per batch."""

    id: int
    programme: str
    referrer_id: int
    referee_id: int
    state: ReferralState
    touch_id: int
    document_id: int
    attributed_at: datetime
    event_id: int | None = None
    subject: str | None = None
    qualified_at: datetime | None = None
    judged_at: datetime | None = None
    rewarded_at: datetime | None = None
    due_at: datetime | None = None
    amount: int = 0
    refunded: int = 0
    #: Of the rewards, that the referrer offers under this file.
    variant: str | None = None

    @property
    def reference(self) -> str:
        """What ledger transactions of this referral hang on."""
        return f"referral/{self.id}"

    @property
    def counts(self) -> bool:
        """Whether it is on the boards: from the reward until that is taken back, whatever is thought of it meanwhile.

        `COUNTS` says the same in SQL.
        """
        if self.rewarded_at is None:
            return False
        return self.state in (ReferralState.REWARDED, ReferralState.REVIEW) or (
            self.state is ReferralState.REVERSED and self.due_at is not None
        )

    @property
    def net(self) -> int:
        """What is left of the order by which it qualified, in minor units."""
        return max(self.amount - self.refunded, 0)


_COLUMNS = (
    "id",
    "programme",
    "referrer_id",
    "referee_id",
    "state",
    "touch_id",
    "document_id",
    "attributed_at",
    "event_id",
    "subject",
    "qualified_at",
    "judged_at",
    "rewarded_at",
    "due_at",
    "amount",
    "refunded",
    "variant",
)


_query = sa.select(*(referrals.c[name] for name in _COLUMNS))


#: Whether a referral is on the boards, as `Referral.counts`.
COUNTS: sa.ColumnElement[bool] = referrals.c.rewarded_at.is_not(None) & sa.or_(
    referrals.c.state.in_(["rewarded", "review"]),
    (referrals.c.state == "reversed") & referrals.c.due_at.is_not(None),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What became of a referral. `because` is a few words of ours; the evidence holds ids, rules and numbers."""

    referral_id: int
    at: datetime
    state: ReferralState
    because: str
    evidence: Mapping[str, object]
    author: str | None = None
    reason: str | None = None


def by_id(connection: Connection, ids: Iterable[int]) -> dict[int, Referral]:
    """Referrals by number."""
    rows = connection.execute(_query.where(bulk.among(referrals.c.id, sorted(set(ids)))))
    return {row.id: _referral(row) for row in rows}


def of_referees(connection: Connection, customer_ids: Iterable[int]) -> dict[Whose, Referral]:
    """The referrals that brought these customers, by programme and referee."""
    rows = connection.execute(_query.where(bulk.among(referrals.c.referee_id, sorted(set(customer_ids)))))
    return {(row.programme, row.referee_id): _referral(row) for row in rows}


def of_customer(connection: Connection, customer_id: int, limit: int = 200) -> list[Referral]:
    """The referrals of a customer, as referrer and as referee, newest first."""
    r = referrals.c
    mine = sa.or_(r.referrer_id == customer_id, r.referee_id == customer_id)
    return [_referral(row) for row in connection.execute(_query.where(mine).order_by(r.id.desc()).limit(limit))]


def of_either_side(connection: Connection, customer_ids: Iterable[int]) -> list[Referral]:
    """The referrals in which one of these customers is the referrer or the referee, oldest first."""
    ids, r = sorted(set(customer_ids)), referrals.c
    theirs = sa.or_(bulk.among(r.referrer_id, ids), bulk.among(r.referee_id, ids))
    return [_referral(row) for row in connection.execute(_query.where(theirs).order_by(r.id))]


def listed(
    connection: Connection, *, programme: str | None = None, state: str | None = None, limit: int = 50
) -> list[Referral]:
    """Referrals, newest first."""
    query = _query.order_by(referrals.c.id.desc()).limit(limit)
    if programme is not None:
        query = query.where(referrals.c.programme == programme)
    if state is not None:
        query = query.where(referrals.c.state == ReferralState(state).value)
    return [_referral(row) for row in connection.execute(query)]


def to_review(connection: Connection, programme: str) -> int:
    """How many referrals of a programme wait for a person."""
    r = referrals.c
    waiting = sa.select(sa.func.count()).where(r.state == "review", r.programme == programme)
    return int(connection.execute(waiting).scalar_one())


_NOW = sa.bindparam("now", type_=referrals.c.due_at.type)


DUE = sa.exists().where(referrals.c.due_at <= _NOW)


def due(connection: Connection, now: datetime, limit: int) -> list[tuple[int, int, int]]:
    """Referrals that are to be looked at, oldest first: their numbers, referrers and referees."""
    r = referrals.c
    query = sa.select(r.id, r.referrer_id, r.referee_id).where(r.due_at <= now).order_by(r.due_at, r.id).limit(limit)
    return [(row.id, row.referrer_id, row.referee_id) for row in connection.execute(query)]


def _referral(row: Any) -> Referral:
    return Referral(**{**row._mapping, "state": ReferralState(row.state)})


def new_ids(connection: Connection, count: int) -> list[int]:
    """Fresh numbers of referrals."""
    return bulk.next_ids(connection, referrals, count)


def insert(connection: Connection, new: Sequence[Referral]) -> None:
    """Record referrals that were not known."""
    bulk.insert(connection, referrals, _COLUMNS, [_row(one) for one in new])


def save(connection: Connection, changed: Iterable[Referral]) -> None:
    """Write referrals back."""
    names = ("id", *(name for name in _COLUMNS if name not in ("id", "programme", "referee_id")))
    bulk.update(connection, referrals, names, [tuple(_plain(getattr(one, name)) for name in names) for one in changed])


def _row(one: Referral) -> bulk.Row:
    return tuple(_plain(getattr(one, name)) for name in _COLUMNS)


def _plain(value: object) -> object:
    return value.value if isinstance(value, ReferralState) else value


def note(connection: Connection, decisions: Sequence[Decision]) -> None:
    """Record what was decided."""
    bulk.insert(
        connection,
        referral_decisions,
        ("referral_id", "at", "state", "because", "author", "reason", "evidence"),
        [
            (one.referral_id, one.at, one.state.value, one.because, one.author, one.reason, dict(one.evidence))
            for one in decisions
        ],
    )


def decisions(connection: Connection, referral_ids: Iterable[int]) -> dict[int, list[Decision]]:
    """What was decided about referrals, oldest first."""
    d = referral_decisions.c
    rows = connection.execute(
        sa.select(d.referral_id, d.at, d.state, d.because, d.author, d.reason, d.evidence)
        .where(bulk.among(d.referral_id, sorted(set(referral_ids))))
        .order_by(d.id)
    )
    found: dict[int, list[Decision]] = {}
    for row in rows:
        found.setdefault(row.referral_id, []).append(Decision(**{**row._mapping, "state": ReferralState(row.state)}))
    return found
