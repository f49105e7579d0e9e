"""Referrals in the database: touches, who brought whom, what was decided, what it brought.

Who calls has locked the customers: the referee to change a referral, the referrer too where rewards are counted.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.language.referral import Method
from afterglow.native import NativeCustomer, NativeEvent
from afterglow.past import OURS
from afterglow.referring.attribution import Touch
from db import bulk, coupons
from db.intake import Received, receive
from db.tables import (
    EPOCH,
    ReferralState,
    clicks,
    events,
    referral_codes,
    referral_decisions,
    referral_marks,
    referral_rewards,
    referrals,
    suppressions,
    touches,
    vanity_codes,
)

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Reward:
    """What a referral brought to one of the two. Amounts: points, minor units of credit, or 1 coupon or webhook."""

    id: int
    referral_id: int
    side: str
    milestone: int
    generation: int
    customer_id: int
    programme: str
    state: str
    asset: str
    wallet: str | None
    coupon: str | None
    webhook: str | None
    desired: int
    granted: int
    #: What it costs the shop, in minor units of its currency.
    worth: int
    counts_at: datetime
    given_at: datetime

    @property
    def key(self) -> str:
        """What makes its ledger transaction happen once, and what that hangs on."""
        return f"referral-reward/{self.id}"


_REWARD = tuple(Reward.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A referral code: whose, and since when."""

    code: str
    programme: str
    customer_id: int
    made_at: datetime


def codes(connection: Connection, wanted: Iterable[str]) -> dict[str, Code]:
    """The known ones among these codes, those that were made and those that somebody chose."""
    spelled = sorted(set(wanted))
    made, chosen = (
        sa.select(*(table.c[name] for name in Code.__dataclass_fields__)).where(bulk.among(table.c.code, spelled))
        for table in (referral_codes, vanity_codes)
    )
    return {row.code: Code(**row._mapping) for row in connection.execute(sa.union_all(chosen, made))}


def click(connection: Connection, code: Code, now: datetime) -> int:
    """Record that a referral link was followed; the number of the click."""
    values = {"programme": code.programme, "customer_id": code.customer_id, "code": code.code, "at": now}
    return int(connection.execute(clicks.insert().values(**values).returning(clicks.c.id)).scalar_one())


def clicked(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[str, datetime]]:
    """Code and instant of clicks."""
    rows = connection.execute(
        sa.select(clicks.c.id, clicks.c.code, clicks.c.at).where(bulk.among(clicks.c.id, sorted(set(ids))))
    )
    return {row.id: (row.code, row.at) for row in rows}


def touch(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """Record touches given as (programme, customer, referrer, method, at, code, code_made_at, event, click)."""
    columns = (
        "programme",
        "customer_id",
        "referrer_id",
        "method",
        "at",
        "code",
        "code_made_at",
        "event_id",
        "click_id",
    )
    bulk.insert(connection, touches, columns, rows, on_conflict="DO NOTHING")


_touches = sa.select(
    *(touches.c[name] for name in ("id", "programme", "customer_id", "referrer_id", "method", "at", "code_made_at"))
)


def touched(connection: Connection, customer_ids: Iterable[int]) -> dict[Whose, list[Touch]]:
    """The touches of these customers by programme."""
    mine = bulk.among(touches.c.customer_id, sorted(set(customer_ids)))
    found: dict[Whose, list[Touch]] = {}
    for row in connection.execute(_touches.where(mine).order_by(touches.c.id)):
        found.setdefault((row.programme, row.customer_id), []).append(_touch(row))
    return found


def _touch(row: Any) -> Touch:
    method: Method = row.method
    return Touch(
        id=row.id,
        programme=row.programme,
        referrer=row.referrer_id,
        method=method,
        at=row.at,
        code_made_at=row.code_made_at,
    )


def touches_by_id(connection: Connection, ids: Iterable[int]) -> dict[int, Touch]:
    """Touches by number."""
    rows = connection.execute(_touches.where(bulk.among(touches.c.id, sorted(set(ids)))))
    return {row.id: _touch(row) for row in rows}


def of_referees(connection: Connection, customer_ids: Iterable[int]) -> dict[Whose, Referral]:
    """The referrals that brought these customers, by programme and referee."""
    rows = connection.execute(_query.where(bulk.among(referrals.c.referee_id, sorted(set(customer_ids)))))
    return {(row.programme, row.referee_id): _referral(row) for row in rows}


def referrers_of(connection: Connection, customer_ids: Iterable[int]) -> set[int]:
    """Who brought these customers and was rewarded for it."""
    r = referrals.c
    rows = connection.execute(
        sa.select(r.referrer_id).where(
            bulk.among(r.referee_id, sorted(set(customer_ids))), r.rewarded_at.is_not(None), r.state != "rejected"
        )
    )
    return set(rows.scalars())


def by_id(connection: Connection, ids: Iterable[int]) -> dict[int, Referral]:
    """Referrals by number."""
    rows = connection.execute(_query.where(bulk.among(referrals.c.id, sorted(set(ids)))))
    return {row.id: _referral(row) for row in rows}


def _referral(row: Any) -> Referral:
    return Referral(**{**row._mapping, "state": ReferralState(row.state)})


_NOW = sa.bindparam("now", type_=referrals.c.due_at.type)
DUE = sa.exists().where(referrals.c.due_at <= _NOW)


def due(connection: Connection, now: datetime, limit: int) -> list[tuple[int, int, int]]:
    """Referrals that are to be looked at, oldest first: their numbers, referrers and referees."""
    r = referrals.c
    query = sa.select(r.id, r.referrer_id, r.referee_id).where(r.due_at <= now).order_by(r.due_at, r.id).limit(limit)
    return [(row.id, row.referrer_id, row.referee_id) for row in connection.execute(query)]


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """An event of a referee."""

    id: int
    source: str
    name: str
    occurred_at: datetime
    payload: Mapping[str, Any]


def heard(connection: Connection, starts: Mapping[int, datetime], names: Iterable[str]) -> dict[int, list[Heard]]:
    """Each customer's events with these names at or after an instant, oldest first."""
    rows = connection.execute(
        sa.select(events.c.id, events.c.customer_id, *(events.c[name] for name in _HEARD))
        .where(
            bulk.among(events.c.customer_id, sorted(starts)),
            events.c.occurred_at >= min(starts.values()),
            bulk.among(events.c.name, sorted(set(names))),
        )
        .order_by(events.c.occurred_at, events.c.id)
    )
    found: dict[int, list[Heard]] = {}
    for row in rows:
        if row.occurred_at >= starts[row.customer_id]:
            one = Heard(id=row.id, **{name: getattr(row, name) for name in _HEARD})
            found.setdefault(row.customer_id, []).append(one)
    return found


_HEARD = ("source", "name", "occurred_at", "payload")

#: What can happen to a referral more than once.
_OFTEN = frozenset({"referral.review", "referral.rejected", "referral.reversed"})


def tell(
    connection: Connection, told: Sequence[tuple[str, Referral, str, Mapping[str, object]]], now: datetime
) -> None:
    """Put events of our own into the inbox, so that flows start by them: name, referral, side, what else they carry.

    Each happens once per referral, side and generation, whoever tells it again; what can happen again, at an instant.
    """
    receive(connection, [_received(*one, now) for one in told], now)


def about_reward(
    event: str, referral: Referral, reward: Reward, code: str | None = None
) -> tuple[str, Referral, str, dict[str, object]]:
    """What to `tell` of a reward that was given or taken back; a code that is told stands at the shop by now."""
    more: dict[str, object] = {"generation": reward.generation}
    if reward.milestone:
        more["milestone"] = reward.milestone
    if reward.coupon:
        more["coupon"] = reward.coupon
    elif reward.webhook:
        more["webhook"] = reward.webhook
    elif reward.asset == "points":
        more["points"] = reward.granted
    if code is not None:
        more["code"] = code
    return event, referral, "referee" if reward.side == "referee" else "referrer", more


def _received(name: str, referral: Referral, side: str, more: Mapping[str, object], now: datetime) -> Received:
    customer = referral.referee_id if side == "referee" else referral.referrer_id
    variant = {"variant": referral.variant} if referral.variant is not None else {}
    once = "/".join(str(more[part]) for part in ("milestone", "generation") if part in more)
    again = now.isoformat() if name in _OFTEN else ""
    event = NativeEvent(
        event=name,
        key="/".join(filter(None, (name, str(referral.id), side, once, again))),
        occurred_at=now,
        customer=NativeCustomer(customer=customer),
        payload={"programme": referral.programme, "referral": referral.id, "side": side, **variant, **more},
    )
    body = event.model_dump_json(exclude_unset=True).encode()
    return Received(OURS, event.key, sha256(event.key.encode()).digest(), {}, body)


# What is known when a referral is judged


def orders_before(connection: Connection, referral_ids: Iterable[int], order_event: str) -> dict[int, int]:
    """How many orders the referees had before the events by which these referrals qualified."""
    earlier, qualified, r = events.alias("earlier"), events.alias("qualified"), referrals
    before = sa.or_(
        earlier.c.occurred_at < qualified.c.occurred_at,
        sa.and_(earlier.c.occurred_at == qualified.c.occurred_at, earlier.c.id < qualified.c.id),
    )
    rows = connection.execute(
        sa.select(r.c.id, sa.func.count())
        .join(qualified, qualified.c.id == r.c.event_id)
        .join(earlier, (earlier.c.customer_id == r.c.referee_id) & (earlier.c.name == order_event) & before)
        .where(bulk.among(r.c.id, sorted(set(referral_ids))))
        .group_by(r.c.id)
    )
    return {row[0]: row[1] for row in rows}


def newest_events(connection: Connection, customer_ids: Iterable[int], name: str) -> dict[int, int]:
    """The number of each customer's newest event of a name."""
    rows = connection.execute(
        sa.select(events.c.customer_id, sa.func.max(events.c.id))
        .where(bulk.among(events.c.customer_id, sorted(set(customer_ids))), events.c.name == name)
        .group_by(events.c.customer_id)
    )
    return {row[0]: row[1] for row in rows}


def forgotten(connection: Connection, digests: Iterable[str]) -> set[str]:
    """Those of these addresses (keyed hashes) whose person was forgotten."""
    s = suppressions.c
    rows = connection.execute(
        sa.select(s.digest).where(
            s.channel == "email", s.reason == "forgotten", bulk.among(s.digest, sorted(set(digests)))
        )
    )
    return set(rows.scalars())


@dataclass(frozen=True, kw_only=True, slots=True)
class Marked:
    """A referral whose referee has a mark."""

    kind: str
    digest: str
    referral_id: int
    programme: str
    referrer_id: int
    referee_id: int


def mark(connection: Connection, rows: Iterable[tuple[int, str, str]]) -> None:
    """Record marks given as (referral, kind, digest)."""
    bulk.insert(
        connection,
        referral_marks,
        ("referral_id", "kind", "digest"),
        sorted(set(rows)),
        on_conflict="(referral_id, kind) DO UPDATE SET digest = excluded.digest",
    )


def marked(connection: Connection, digests: Iterable[str]) -> list[Marked]:
    """The referrals whose referees have these marks."""
    m, r = referral_marks.c, referrals.c
    rows = connection.execute(
        sa.select(m.kind, m.digest, m.referral_id, r.programme, r.referrer_id, r.referee_id)
        .join(referrals, r.id == m.referral_id)
        .where(bulk.among(m.digest, sorted(set(digests))))
        .order_by(m.referral_id)
    )
    return [Marked(**row._mapping) for row in rows]


def qualified_since(
    connection: Connection, referrer_ids: Iterable[int], since: datetime
) -> dict[Whose, list[datetime]]:
    """When the referrals of these referrers qualified, by programme and referrer, from an instant on."""
    r = referrals.c
    rows = connection.execute(
        sa.select(r.programme, r.referrer_id, r.qualified_at).where(
            bulk.among(r.referrer_id, sorted(set(referrer_ids))), r.qualified_at >= since
        )
    )
    found: dict[Whose, list[datetime]] = {}
    for row in rows:
        found.setdefault((row.programme, row.referrer_id), []).append(row.qualified_at)
    return found


def counted(connection: Connection, referrer_ids: Iterable[int]) -> dict[Whose, dict[ReferralState, int]]:
    """How many referrals of each state these referrers have, by programme and referrer."""
    r = referrals.c
    rows = connection.execute(
        sa.select(r.programme, r.referrer_id, r.state, sa.func.count())
        .where(bulk.among(r.referrer_id, sorted(set(referrer_ids))))
        .group_by(r.programme, r.referrer_id, r.state)
    )
    found: dict[Whose, dict[ReferralState, int]] = {}
    for programme, referrer, state, count in rows:
        found.setdefault((programme, referrer), {})[ReferralState(state)] = count
    return found


def counting(connection: Connection, referrer_ids: Iterable[int]) -> dict[Whose, int]:
    """How many referrals of these referrers count, by programme and referrer."""
    r = referrals.c
    rows = connection.execute(
        sa.select(r.programme, r.referrer_id, sa.func.count())
        .where(bulk.among(r.referrer_id, sorted(set(referrer_ids))), COUNTS)
        .group_by(r.programme, r.referrer_id)
    )
    return {(programme, referrer): count for programme, referrer, count in rows}


def parents(connection: Connection, customer_ids: Iterable[int]) -> dict[Whose, int]:
    """By whom these customers were brought, by programme and customer; what was rejected brought nobody."""
    r = referrals.c
    rows = connection.execute(
        sa.select(r.programme, r.referee_id, r.referrer_id).where(
            bulk.among(r.referee_id, sorted(set(customer_ids))), r.state != "rejected"
        )
    )
    return {(row.programme, row.referee_id): row.referrer_id for row in rows}


# What was given


def rewards_of(connection: Connection, referral_ids: Iterable[int]) -> dict[int, list[Reward]]:
    """What these referrals brought, in the order in which it was given; what was taken back too."""
    query = sa.select(*(referral_rewards.c[name] for name in _REWARD))
    rows = connection.execute(
        query.where(bulk.among(referral_rewards.c.referral_id, sorted(set(referral_ids)))).order_by(
            referral_rewards.c.id
        )
    )
    found: dict[int, list[Reward]] = {}
    for row in rows:
        found.setdefault(row.referral_id, []).append(Reward(**row._mapping))
    return found


def rewards_by_id(connection: Connection, reward_ids: Iterable[int]) -> dict[int, Reward]:
    """Rewards by number."""
    query = sa.select(*(referral_rewards.c[name] for name in _REWARD))
    rows = connection.execute(query.where(bulk.among(referral_rewards.c.id, sorted(set(reward_ids)))))
    return {row.id: Reward(**row._mapping) for row in rows}


def rewarded_instants(
    connection: Connection, referrer_ids: Iterable[int], since: datetime
) -> dict[Whose, list[datetime]]:
    """For a cap: the instants of the rewards that these referrers have for their own side, from one on."""
    w = referral_rewards.c
    rows = connection.execute(
        sa.select(w.programme, w.customer_id, w.counts_at).where(
            bulk.among(w.customer_id, sorted(set(referrer_ids))),
            w.side == "referrer",
            w.state == "given",
            w.counts_at >= since,
        )
    )
    found: dict[Whose, list[datetime]] = {}
    for row in rows:
        found.setdefault((row.programme, row.customer_id), []).append(row.counts_at)
    return found


def milestones_of(connection: Connection, referrer_ids: Iterable[int]) -> dict[Whose, list[Reward]]:
    """The milestones that these referrers have or had, by programme and referrer."""
    w = referral_rewards.c
    query = sa.select(*(referral_rewards.c[name] for name in _REWARD))
    rows = connection.execute(
        query.where(bulk.among(w.customer_id, sorted(set(referrer_ids))), w.side == "milestone").order_by(w.id)
    )
    found: dict[Whose, list[Reward]] = {}
    for row in rows:
        found.setdefault((row.programme, row.customer_id), []).append(Reward(**row._mapping))
    return found


def reward_ids(connection: Connection, count: int) -> list[int]:
    """Fresh numbers of rewards."""
    return bulk.next_ids(connection, referral_rewards, count)


def give(connection: Connection, rewards: Sequence[Reward]) -> None:
    """Record rewards. The database refuses a second standing one of a referral and side."""
    bulk.insert(
        connection, referral_rewards, _REWARD, [tuple(getattr(one, name) for name in _REWARD) for one in rewards]
    )


def take_back(connection: Connection, rewards: Collection[Reward], now: datetime) -> None:
    """Record that rewards are taken back."""
    rows = [(one.id, "taken_back", now) for one in rewards]
    bulk.update(connection, referral_rewards, ("id", "state", "taken_back_at"), rows, where="t.state = 'given'")


# What people see


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


def of_customer(connection: Connection, customer_id: int, limit: int = 200) -> list[Referral]:
    """The referrals of a customer, as referrer and as referee, newest first."""
    r = referrals.c
    mine = sa.or_(r.referrer_id == customer_id, r.referee_id == customer_id)
    return [_referral(row) for row in connection.execute(_query.where(mine).order_by(r.id.desc()).limit(limit))]


# Two customers turn out to be one


def merge(connection: Connection, kept: int, merged: int, now: datetime) -> dict[str, Any]:
    """Give a customer the touches and referrals of another. What moved and what was so before, for `part`.

    Whoever turns out to have brought themselves is no friend, and who was brought twice was brought once, the other
    referral staying with the stone: what was not rewarded is rejected, and at what was, a person looks.
    """
    t, r = touches.c, referrals.c
    moved: dict[str, Any] = {}
    for column in (t.customer_id, t.referrer_id):
        mine = touches.update().where(column == merged).values({column.name: kept}).returning(t.id)
        moved[column.name] = sorted(connection.execute(mine).scalars())
    both = [kept, merged]
    rows = connection.execute(
        _query.where(sa.or_(bulk.among(r.referrer_id, both), bulk.among(r.referee_id, both))).order_by(r.id)
    )
    theirs = [_referral(row) for row in rows]
    brought = {one.programme for one in theirs if one.referee_id == kept}
    moved["referrals"] = []
    notes: list[Decision] = []
    for one in theirs:
        if merged not in (one.referrer_id, one.referee_id):
            continue
        due_at = one.due_at.isoformat() if one.due_at else None
        before = [one.id, one.referrer_id, one.referee_id, one.state.value, due_at]
        because = None
        if one.referee_id == merged and one.programme in brought:
            because = "the referee turned out to be one who was referred before"
        elif one.referee_id == merged:
            one.referee_id = kept
        if one.referrer_id == merged:
            one.referrer_id = kept
        if {one.referrer_id, one.referee_id} <= set(both):
            because = "both turned out to be one customer"
        if because is not None and one.state not in (ReferralState.REJECTED, ReferralState.REVERSED):
            one.state = ReferralState.REJECTED if one.rewarded_at is None else ReferralState.REVIEW
            one.due_at = None
            evidence = {"kept": kept, "merged": merged}
            note_ = Decision(referral_id=one.id, at=now, state=one.state, because=because, evidence=evidence)
            notes.append(note_)
        moved["referrals"].append([*before, one.state.value])
        connection.execute(referrals.update().where(r.id == one.id).values(**_changed(one)))
    note(connection, notes)
    return moved


def _changed(one: Referral) -> dict[str, Any]:
    return {
        "referrer_id": one.referrer_id,
        "referee_id": one.referee_id,
        "state": one.state.value,
        "due_at": one.due_at,
    }


def part(connection: Connection, moved: Mapping[str, Any], kept: int, merged: int, now: datetime) -> None:
    """Give the other back what `merge` moved; a referral has its old state again if nobody decided since."""
    t = touches.c
    for column in (t.customer_id, t.referrer_id):
        theirs = bulk.among(t.id, moved.get(column.name, [])) & (column == kept)
        connection.execute(touches.update().where(theirs).values({column.name: merged}))
    before = {row[0]: row for row in moved.get("referrals", [])}
    notes: list[Decision] = []
    for one in by_id(connection, before).values():
        _, referrer, referee, state, due_at, made = before[one.id]
        one.referrer_id, one.referee_id = referrer, referee
        if state != made and one.state.value == made:
            one.state = ReferralState(state)
            one.due_at = datetime.fromisoformat(due_at) if due_at else None
            because = "the two are not one customer after all"
            notes.append(Decision(referral_id=one.id, at=now, state=one.state, because=because, evidence={}))
        connection.execute(referrals.update().where(referrals.c.id == one.id).values(**_changed(one)))
    note(connection, notes)


# A person's data


def told_to(connection: Connection, customer_id: int) -> list[dict[str, Any]]:
    """A customer's referrals for `export`: on which side they were and what became of it; not who the other is."""
    referred = of_customer(connection, customer_id, limit=10_000)
    rewards = rewards_of(connection, [one.id for one in referred])
    held = coupons.of_rewards(connection, [one.id for given in rewards.values() for one in given])
    return [
        {
            "referral": one.id,
            "programme": one.programme,
            "side": "referee" if one.referee_id == customer_id else "referrer",
            "state": one.state.value,
            "attributed_at": one.attributed_at,
            "qualified_at": one.qualified_at,
            "rewarded_at": one.rewarded_at,
            "rewards": [
                {
                    "for": each.side,
                    "asset": each.asset,
                    "amount": each.granted,
                    "coupon": each.coupon,
                    **({"code": held[each.id].code} if each.id in held else {}),
                    "webhook": each.webhook,
                }
                for each in rewards.get(one.id, ())
                if each.customer_id == customer_id
            ],
        }
        for one in referred
    ]


def forget(connection: Connection, customer_ids: Collection[int]) -> None:
    """Forget by what people are known again, and the clicks on their links.

    The keyed hash of a referee's mailbox stays, so that a deleted person is not new; a referral is numbers alone.
    """
    theirs = sa.select(referrals.c.id).where(bulk.among(referrals.c.referee_id, sorted(customer_ids)))
    m = referral_marks.c
    connection.execute(referral_marks.delete().where(m.referral_id.in_(theirs), m.kind != "email"))
    connection.execute(clicks.delete().where(bulk.among(clicks.c.customer_id, sorted(customer_ids))))
