"""Codes at the shop: created before anybody is told of them, and taken out of use when what they were for is undone.

1. Claim due codes of one provider, in a transaction that also sets when they will be tried next.
2. Talk with the provider (`afterglow.coupons`), in turns that all workers share and with no transaction open, under one
   deadline. A talk that breaks off is begun again from its start: the code was decided before the first call, and a
   provider has it once.
3. Write, in a transaction: a code that stands is told of by the event of its own (`referral.rewarded`,
   `reward.redeemed`), and the points held for it are spent; one that will never stand gives them back.

A code of a list is drawn instead of being asked for, and all else is the same.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Connection

from afterglow.asking import TRIES_MAX, wait_after
from afterglow.coupons.providers import PROVIDERS, Access, NoAccessError, Talks, access
from afterglow.coupons.talking import Call, Created, Creating, Disabled, Disabling, Reply, TroubleError
from afterglow.coupons.terms import Terms
from db import coupons, fetching, redemptions, referring
from db.app import App
from db.catalog import Release
from db.clock import DatabaseClock
from db.coupons import CouponError, Worked
from db.people import MergedMeanwhileError
from db.settings import source_secrets
from db.tables import CouponState
from workers.asker import AT_ONCE, Asker, Failed, NotAsked, Outcome, Request

log = structlog.get_logger()

#: How many codes are claimed at once.
BATCH = 20
#: How long all calls of a batch may take, in seconds: much shorter than a claim lasts.
DEADLINE_S = 10.0
#: How long a provider is left alone that answers nobody.
DOWN = timedelta(seconds=30)
#: Rates and quiet are kept in real time, which every process reads from the database.
_real = DatabaseClock()


@dataclass(frozen=True, slots=True)
class _Later:
    """Nothing was asked, or not all of it: it comes again, and no try is counted."""

    wait: timedelta


_End = Created | Disabled | TroubleError | _Later


@dataclass(kw_only=True, slots=True)
class _Talk:
    """One claimed code, how far the talk about it is, and what became of it."""

    row: Any
    steps: Creating | Disabling
    call: Call | None = None
    end: _End | None = None

    def go_on(self, reply: Reply | None) -> None:
        """Take the reply (None: none yet, begin) and say what to ask next, or what came of it."""
        self.call = None
        try:
            self.call = next(self.steps) if reply is None else self.steps.send(reply)
        except StopIteration as stop:
            self.end = stop.value
        except TroubleError as trouble:
            self.end = trouble


class Coupons:
    """One batch."""

    def __init__(self, app: App, asker: Asker) -> None:
        self.app = app
        self.asker = asker
        #: Codes that were told of.
        self.told = 0

    def run(self) -> int:
        """Do it. How many codes were claimed."""
        with self.app.writing() as connection:
            rows = coupons.claim(connection, self.app.settings.secrets[0], self.app.clock.now(connection), BATCH)
        if not rows:
            return 0
        ends: dict[int, _End] = {}
        try:
            if rows[0].provider is not None:
                self._ask([row for row in rows if row.tries <= TRIES_MAX], rows[0].provider, ends)
        finally:
            self._settle(rows, ends)
        return len(rows)

    def _ask(self, rows: Sequence[Any], provider: str, ends: dict[int, _End]) -> None:
        talks = PROVIDERS[provider]
        try:
            where = access(provider, _environment(talks))
        except NoAccessError as error:
            ends |= {row.id: TroubleError(f"cannot be asked: {error}") for row in rows}
            return
        self.asker.open()
        until = time.monotonic() + DEADLINE_S
        wait: timedelta | None = None
        for start in range(0, len(rows), AT_ONCE):
            group = [_Talk(row=row, steps=_steps(talks, row)) for row in rows[start : start + AT_ONCE]]
            if wait is None:
                wait = self._talk(group, provider, talks, where, until)
            ends |= {talk.row.id: talk.end or _Later(wait or timedelta(0)) for talk in group}

    def _talk(
        self, group: Sequence[_Talk], provider: str, talks: Talks, where: Access, until: float
    ) -> timedelta | None:
        """Talk about these until everything is said; and for how long the provider takes no more, where it does not."""
        for talk in group:
            talk.go_on(None)
        while open_ := [talk for talk in group if talk.end is None]:
            outcomes, wait = self._in_turn([talk.call for talk in open_ if talk.call], provider, talks, where, until)
            for talk, outcome in zip(open_, outcomes, strict=False):
                match outcome:
                    case Reply():
                        talk.go_on(outcome)
                    case Failed():
                        talk.end = TroubleError(outcome.what, for_good=outcome.for_good)
            quiet = [end.quiet for talk in open_ if isinstance(end := talk.end, TroubleError) and end.quiet is not None]
            if quiet or (outcomes and all(isinstance(one, Failed) for one in outcomes)):
                wait = max(quiet, default=DOWN)
                with self.app.writing() as connection:
                    fetching.pause(connection, _rate_of(provider), _real.now(connection) + wait)
                log.warning("a shop is left alone", provider=provider, seconds=int(wait.total_seconds()))
            if wait is not None:
                return wait
        return None

    def _in_turn(
        self, calls: Sequence[Call], provider: str, talks: Talks, where: Access, until: float
    ) -> tuple[list[Outcome], timedelta | None]:
        """What was replied to as many calls as have a turn; and how long the others must wait."""
        left = until - time.monotonic()
        if left <= 0:
            return [], timedelta(0)
        with self.app.writing() as connection:
            now = _real.now(connection)
            began = time.monotonic()
            before = now + timedelta(seconds=left)
            taken = fetching.take_turns(connection, _rate_of(provider), talks.rate, now, len(calls), before)
        late = talks.rate.lateness.total_seconds()
        requests = [
            Request(call=call, base=where.base, at=(at := began + (turn - now).total_seconds()), late=at + late)
            for call, turn in zip(calls, taken.turns.at, strict=False)
        ]
        outcomes = self.asker.call(requests, where.headers, until - time.monotonic())
        if any(isinstance(one, NotAsked) for one in outcomes):
            return outcomes, fetching.SOON
        return outcomes, taken.free_at - now if len(requests) < len(calls) else None

    def _settle(self, rows: Sequence[Any], ends: Mapping[int, _End]) -> None:
        while True:
            try:
                with self.app.writing() as connection:
                    release = self.app.catalog.current(connection)
                    now = self.app.clock.now(connection)
                    self.told = settle(connection, release, rows, ends, now)
            except MergedMeanwhileError:
                continue
            return


def _rate_of(provider: str) -> str:
    return f"coupons {provider}"


def _environment(talks: Talks) -> dict[str, str]:
    return {name: b" ".join(source_secrets((name,))).decode(errors="replace") for name in talks.variables}


def _steps(talks: Talks, row: Any) -> Creating | Disabling:
    terms = Terms.read(row.terms)
    if row.state == "wanted":
        return talks.create(row.code, terms, row.tries)
    return talks.disable(row.code, terms, row.external_id)


def settle(
    connection: Connection, release: Release, claimed: Sequence[Any], ends: Mapping[int, _End], now: datetime
) -> int:
    """Write what became of claimed codes, and what hangs on them, in one transaction. How many were told of.

    Raises:
      MergedMeanwhileError: a customer was merged while we waited for the locks; begin again.
    """
    paid_for = redemptions.lock(connection, {row.redemption_id for row in claimed} - {None})
    mine = coupons.locked(connection, claimed)
    drawn = coupons.draw(connection, {id_: row.name for id_, row in mine.items() if row.provider is None})
    done = [_worked(row, ends.get(row.id), drawn.get(row.id), now) for row in mine.values()]
    by_state: dict[CouponState, list[Any]] = {}
    for one in done:
        by_state.setdefault(one.state, []).append(mine[one.id])
    standing = by_state.get(CouponState.STANDING, [])
    lost = redemptions.pay(connection, _whose(standing, paid_for), now)
    failed = _whose(by_state.get(CouponState.FAILED, []), paid_for)
    redemptions.give_up(connection, [row for row in failed if row.state == "making"], now)
    used = {row.redemption_id for row in by_state.get(CouponState.USED, [])}
    ended = _whose([*by_state.get(CouponState.USED, []), *by_state.get(CouponState.DISABLED, [])], paid_for)
    redemptions.taken_out(connection, [row for row in ended if row.state == "cancelling"], used, now)
    unpaid = {row.id for row in standing if row.redemption_id in lost}
    coupons.write(connection, [_unpaid(one, now) if one.id in unpaid else one for one in done])
    stands = [row for row in standing if row.id not in unpaid]
    redemptions.tell(connection, release, {row.redemption_id for row in stands} - {None}, now)
    _tell_rewards(connection, {row.reward_id: drawn.get(row.id) or row.code for row in stands if row.reward_id}, now)
    if set_aside := [one.id for one in done if one.state in (CouponState.FAILED, CouponState.STUCK)]:
        log.warning("codes need a look", coupons=set_aside)
    return len(stands)


def _whose(rows: Iterable[Any], paid_for: Mapping[int, Any]) -> list[Any]:
    return [paid_for[row.redemption_id] for row in rows if row.redemption_id is not None]


def _worked(row: Any, end: _End | None, drawn: str | None, now: datetime) -> Worked:
    same = {"id": row.id, "code": row.code, "external_id": row.external_id, "tries": row.tries}
    wanted = row.state == "wanted"
    state = CouponState(row.state)
    if row.provider is None and drawn is None:
        said = f"No code of '{row.name}' is left; add some with `afterglow loyalty codes {row.name}`."
        end = TroubleError("")
    else:
        said = ""
    match end:
        case Created(external_id=external_id):
            return Worked(**{**same, "external_id": external_id}, state=CouponState.STANDING)
        case None if drawn is not None:
            return Worked(**{**same, "code": drawn}, state=CouponState.STANDING)
        case Disabled(was_used=was_used):
            return Worked(**same, state=CouponState.USED if was_used else CouponState.DISABLED)
        case _Later(wait):
            return Worked(**{**same, "tries": row.tries - 1}, state=state, due_at=now + wait, reason=row.reason)
        case TroubleError():
            trouble = end
        case _:  # our own code failed, or its workers died
            trouble = TroubleError("could not be asked to the end")
    doing = "create a code" if wanted else "take a code out of use"
    reason = said or f"{row.provider} was asked to {doing} and {trouble.what}."
    if trouble.for_good or row.tries >= TRIES_MAX:
        return Worked(**same, state=CouponState.FAILED if wanted else CouponState.STUCK, reason=reason)
    due_at = now + max(wait_after(row.tries), trouble.quiet or timedelta(0))
    return Worked(**same, state=state, due_at=due_at, reason=reason)


def _unpaid(one: Worked, now: datetime) -> Worked:
    """A code that stands although its points are held no more."""
    reason = "Its points are not held any more."
    return Worked(
        id=one.id,
        state=CouponState.UNWANTED,
        code=one.code,
        external_id=one.external_id,
        due_at=now,
        reason=reason,
    )


def _tell_rewards(connection: Connection, codes: Mapping[int, str], now: datetime) -> None:
    rewards = referring.rewards_by_id(connection, codes)
    by_id = referring.by_id(connection, {one.referral_id for one in rewards.values()})
    told = [
        referring.about_reward("referral.rewarded", by_id[one.referral_id], one, codes[id_])
        for id_, one in sorted(rewards.items())
    ]
    referring.tell(connection, told, now)


def dismiss(connection: Connection, ids: Collection[int], now: datetime) -> int:
    """Let codes that were set aside be: a person saw to them. How many; hint `coupons` and `ingest` after the commit.

    One that could not be created is looked for once more, since it may have come to be, and taken out of use. One that
    could not be taken out of use counts as if it had been, and the points of its redemption go back.

    Raises:
      CouponError: one of them was not set aside.
    """
    aside = {row.id: row for row in coupons.listed(connection, [CouponState.FAILED, CouponState.STUCK], 100_000)}
    if strange := sorted(set(ids) - aside.keys())[:1]:
        raise CouponError(f"Code {strange[0]} waits for nobody; `afterglow coupons list` shows those that do.")
    stuck = [aside[id_] for id_ in sorted(ids) if aside[id_].state == "stuck"]
    coupons.disable(connection, [id_ for id_ in ids if aside[id_].state == "failed"], now)
    _put_down(connection, stuck, now)
    return len(set(ids))


def _put_down(connection: Connection, stuck: Sequence[Any], now: datetime) -> None:
    paid_for = redemptions.lock(connection, {row.redemption_id for row in stuck} - {None})
    mine = coupons.locked(connection, stuck).values()
    redemptions.taken_out(connection, [row for row in _whose(mine, paid_for) if row.state == "cancelling"], (), now)
    gone = [
        Worked(id=row.id, state=CouponState.DISABLED, code=row.code, external_id=row.external_id, reason=row.reason)
        for row in mine
    ]
    coupons.write(connection, gone)
