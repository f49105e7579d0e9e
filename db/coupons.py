"""Codes in the database: what is wanted of the shop, who works on it, what became of it.

A code is decided and committed before anybody is asked to create it. Work is claimed by committing when it will be
tried next; then the provider is asked with no transaction open. Who takes something back only says so here
(`disable`), and the worker does it.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.asking import wait_after
from afterglow.coupons.terms import LETTERS, code_of, mark_of, terms_of
from afterglow.errors import AfterglowError
from afterglow.language.coupon import Coupon
from afterglow.language.shop import Shop
from db import bulk
from db.fetching import LEASE
from db.tables import CouponState, Moment, coupons, referral_rewards

c = coupons.c

#: Letters of a code for a list: 60 bits.
_LENGTH = 12
_now = sa.bindparam("now", type_=Moment)
_is_due = c.due_at <= _now
#: Whether a code is to be created, drawn, or taken out of use: for the scheduler.
DUE = sa.exists().where(_is_due)
#: Codes of lists have no provider; they are drawn, and nobody is asked.
_provider = sa.func.coalesce(c.provider, sa.literal_column("''"))
_OLDEST = sa.select(_provider).where(_is_due).order_by(c.due_at).limit(1)
_CLAIM = (
    sa.select(c.id)
    .where(_is_due, _provider == sa.bindparam("provider", type_=sa.Text))
    .order_by(c.due_at)
    .limit(sa.bindparam("limit", type_=sa.Integer))
    .with_for_update(skip_locked=True)
)
#: What is written of a row that is worked on.
_WORK = ("state", "code", "external_id", "due_at", "tries", "reason")


class CouponError(AfterglowError):
    """This cannot be done with a code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A code that somebody is to get: by a redemption, a reward of a referral, or (neither) a referral link."""

    coupon: Coupon
    key: str
    redemption_id: int | None = None
    reward_id: int | None = None
    #: The code, where it is given already and many may use it: the referrer's own.
    code: str | None = None


def want(connection: Connection, shop: Shop, wanted: Sequence[Wanted], now: datetime) -> None:
    """Let these have codes; hint `coupons` after the commit. What was wanted before under its key stays as it is.

    What a code is worth is pinned now; the code itself is decided when it is claimed, before anybody is asked.
    """
    rows = []
    for one in wanted:
        made = one.coupon.provider is not None
        terms = terms_of(one.coupon, shop, now=now, shared=one.code is not None)
        rows.append(
            (
                one.coupon.name,
                one.code,
                CouponState.WANTED.value,
                one.key,
                one.redemption_id,
                one.reward_id,
                one.coupon.provider,
                terms.plain() if made else None,
                now,
                0,
            )
        )
    columns = ("name", "code", "state", "key", "redemption_id", "reward_id", "provider", "terms", "due_at", "tries")
    bulk.insert(connection, coupons, columns, rows, on_conflict="(key) DO NOTHING")


def carry(connection: Connection, shop: Shop, carried: Mapping[str, Coupon], now: datetime) -> None:
    """Let referral codes be codes at the shop too, each of the coupon that its links carry; once is enough."""
    wanted = [Wanted(coupon=coupon, key=f"referral-code/{code}", code=code) for code, coupon in sorted(carried.items())]
    want(connection, shop, wanted, now)


def claim(connection: Connection, secret: bytes, now: datetime, limit: int) -> Sequence[Any]:
    """Claim due codes of the provider that has waited longest: whole rows, `tries` with this one counted.

    A try is counted and the next one set before anything is asked, so that whoever kills its worker is not tried
    without end. A code that is to be created is decided here, and is the same for ever.

    Args:
      secret: what codes are made with: `Settings.secrets[0]`.
    """
    provider = connection.execute(_OLDEST, {"now": now}).scalar()
    if provider is None:
        return []
    ids = [row.id for row in connection.execute(_CLAIM, {"now": now, "provider": provider, "limit": limit})]
    rows = connection.execute(sa.select(coupons).where(bulk.among(c.id, ids), _is_due), {"now": now}).all()
    claimed = [
        (
            row.id,
            *_decided(secret, row),
            now + max(LEASE, wait_after(row.tries + 1)),
            row.tries + 1,
        )
        for row in rows
    ]
    bulk.update(connection, coupons, ("id", "code", "terms", "due_at", "tries"), claimed)
    mine = bulk.among(c.id, [row.id for row in rows])
    return connection.execute(sa.select(coupons).where(mine).order_by(c.id)).all()


def _decided(secret: bytes, row: Any) -> tuple[str | None, Mapping[str, Any] | None]:
    """The code of a row and its terms, with our mark."""
    if row.provider is None or row.terms["mark"]:
        return row.code, row.terms
    return row.code or code_of(secret, row.key), {**row.terms, "mark": mark_of(secret, row.key)}


def locked(connection: Connection, claimed: Iterable[Any]) -> dict[int, Any]:
    """Those claimed rows, locked, of which nobody else decided meanwhile."""
    before = {row.id: row for row in claimed}
    rows = connection.execute(
        sa.select(coupons).where(bulk.among(c.id, sorted(before))).order_by(c.id).with_for_update()
    ).all()
    return {row.id: row for row in rows if (row.state, row.tries) == (before[row.id].state, before[row.id].tries)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Worked:
    """What became of a code that was worked on."""

    id: int
    state: CouponState
    code: str | None
    external_id: str | None
    due_at: datetime | None = None
    tries: int = 0
    reason: str | None = None


def write(connection: Connection, done: Sequence[Worked]) -> None:
    """Write what became of locked codes."""
    rows = [(one.id, one.state.value, *(getattr(one, name) for name in _WORK[1:])) for one in done]
    bulk.update(connection, coupons, ("id", *_WORK), rows)


def draw(connection: Connection, wanted: Mapping[int, str]) -> dict[int, str]:
    """Take codes from the lists for these rows, given with their coupon's name; who finds none is left out."""
    names: dict[str, list[int]] = {}
    for id_, name in sorted(wanted.items()):
        names.setdefault(name, []).append(id_)
    drawn: dict[int, str] = {}
    taken: list[int] = []
    for name, ids in sorted(names.items()):
        for id_, row in zip(ids, _free(connection, name, len(ids)), strict=False):
            drawn[id_] = row.code
            taken.append(row.id)
    connection.execute(coupons.delete().where(bulk.among(c.id, taken)))
    return drawn


def free(connection: Connection, name: str, limit: int) -> list[int]:
    """Codes of a list that nobody has, by number and locked; at most so many."""
    return [row.id for row in _free(connection, name, limit)]


def hand_out(connection: Connection, codes: Sequence[tuple[int, int]]) -> None:
    """Give free codes of lists to redemptions, as pairs of their numbers."""
    rows = [(code, redemption, CouponState.STANDING.value) for code, redemption in codes]
    bulk.update(connection, coupons, ("id", "redemption_id", "state"), rows)


def _free(connection: Connection, name: str, limit: int) -> Sequence[Any]:
    return connection.execute(
        sa.select(c.id, c.code)
        .where(c.name == name, c.state == "free")
        .order_by(c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def with_codes_left(connection: Connection, names: Collection[str]) -> set[str]:
    """Those of these lists that have a code which nobody has."""
    left = [sa.exists().where(c.name == name, c.state == "free") for name in sorted(names)]
    if not left:
        return set()
    answer = connection.execute(sa.select(*(one.label(f"c{n}") for n, one in enumerate(left)))).one()
    return {name for name, has in zip(sorted(names), answer, strict=True) if has}


def add(connection: Connection, name: str, codes: Sequence[str], now: datetime) -> int:
    """Add codes that the shop knows to a list; how many were not in it yet. Who waits for one gets it now."""
    rows = [(name, code, CouponState.FREE.value) for code in dict.fromkeys(codes)]
    added = bulk.insert_new(connection, coupons, ("name", "code", "state"), rows)
    waiting = (c.name == name) & c.code.is_(None) & c.state.in_(["wanted", "failed"])
    woken = {"state": CouponState.WANTED.value, "due_at": now, "tries": 0, "reason": None}
    connection.execute(coupons.update().where(waiting).values(woken))
    return added


def make(connection: Connection, name: str, count: int, now: datetime) -> list[str]:
    """Make new codes and add them to a coupon's list; they are worth something once the shop knows them."""
    codes = ["".join(secrets.choice(LETTERS) for _ in range(_LENGTH)) for _ in range(count)]
    add(connection, name, codes, now)
    return codes


def left(connection: Connection) -> dict[str, int]:
    """How many codes of each list are still to be had."""
    counted = sa.select(c.name, sa.func.count()).where(c.state == "free").group_by(c.name).order_by(c.name)
    return {row[0]: row[1] for row in connection.execute(counted)}


# Taking back


def disable(connection: Connection, ids: Collection[int], now: datetime) -> None:
    """Let these codes be taken out of use; hint `coupons` after the commit. Twice is as good as once.

    What nobody was asked for yet ends here. What may be on its way is looked for once its call has surely ended. A code
    of a list is the shop's own: a person takes it out of use there.
    """
    rows = connection.execute(
        sa.select(coupons).where(bulk.among(c.id, sorted(ids))).order_by(c.id).with_for_update()
    ).all()
    write(connection, [end for row in rows if (end := _taken_back(row, now)) is not None])


def _taken_back(row: Any, now: datetime) -> Worked | None:
    same = {"id": row.id, "code": row.code, "external_id": row.external_id}
    unasked = row.state == "wanted" and row.tries == 0
    match row.state:
        case "wanted" | "failed" if unasked or row.provider is None:
            return Worked(**same, state=CouponState.DISABLED)
        case "standing" if row.provider is None:
            reason = "It is of a list: take it out of use in the shop."
            return Worked(**same, state=CouponState.STUCK, reason=reason)
        case "wanted" | "failed" | "standing":
            return Worked(**same, state=CouponState.UNWANTED, due_at=max(row.due_at or now, now))
        case _:
            return None


# What people see and decide


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A code that a reward or a redemption has, or waits for: shown only where the shop knows it."""

    id: int
    state: CouponState
    code: str | None
    reason: str | None
    provider: str | None


def _held(row: Any) -> Held:
    state = CouponState(row.state)
    is_known = state not in (CouponState.WANTED, CouponState.FAILED)
    code = row.code if is_known else None
    return Held(id=row.id, state=state, code=code, reason=row.reason, provider=row.provider)


def of_rewards(connection: Connection, reward_ids: Iterable[int]) -> dict[int, Held]:
    """The codes of rewards of referrals, by reward."""
    rows = connection.execute(sa.select(coupons).where(bulk.among(c.reward_id, sorted(set(reward_ids)))))
    return {row.reward_id: _held(row) for row in rows}


def of_customer(connection: Connection, customer_id: int) -> list[tuple[str, datetime, Held]]:
    """The codes that referrals brought a customer, newest first: the side that was rewarded, and when."""
    w = referral_rewards.c
    rows = connection.execute(
        sa.select(coupons, w.side, w.given_at)
        .join(referral_rewards, w.id == c.reward_id)
        .where(w.customer_id == customer_id, w.state == "given")
        .order_by(w.id.desc())
    )
    return [(row.side, row.given_at, _held(row)) for row in rows]


def of_redemption(connection: Connection, redemption_id: int) -> Held | None:
    """The code of a redemption."""
    row = connection.execute(sa.select(coupons).where(c.redemption_id == redemption_id)).first()
    return _held(row) if row is not None else None


def listed(connection: Connection, states: Collection[CouponState], limit: int = 1_000) -> Sequence[Any]:
    """Codes in these states, newest first: whole rows."""
    wanted = c.state.in_([state.value for state in states])
    return connection.execute(sa.select(coupons).where(wanted).order_by(c.id.desc()).limit(limit)).all()


def retry(connection: Connection, ids: Collection[int], now: datetime) -> int:
    """Let codes that were set aside be tried again; how many. Hint `coupons` after the commit.

    Of a redemption that failed the points went back, so that there is nothing to try.
    """
    mine = bulk.among(c.id, sorted(ids))
    again = {"due_at": now, "tries": 0, "reason": None}
    failed = coupons.update().where(mine, c.state == "failed", c.redemption_id.is_(None))
    stuck = coupons.update().where(mine, c.state == "stuck", c.provider.is_not(None))
    done = connection.execute(failed.values(state=CouponState.WANTED.value, **again)).rowcount
    return done + connection.execute(stuck.values(state=CouponState.UNWANTED.value, **again)).rowcount
