"""What customers buy with points: given once for a key, and cancelled to the very lots that paid for it."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.language.coupon import Coupon
from afterglow.language.programme import Reward
from afterglow.ledger.entries import Kind
from afterglow.person import Person
from afterglow.problems import did_you_mean
from db import bulk, coupons, intake, ledger, loyalty, people
from db.catalog import Release
from db.ledger import Clawback, Credit, Refused, Reserve, Return, Settle, Spend, Void
from db.own_events import own_event
from db.tables import CouponState, redemptions
from db.tables import coupons as codes

#: The asset of store credit, in minor units of the shop's currency.
CREDIT = "credit"
#: How long points are held for a code that the shop is to make: longer than it is asked for.
HELD_FOR = timedelta(days=30)
#: How the keys begin of what a run redeems: the flow, the run and the step follow.
BY_FLOW = "flow/"


class RedemptionError(AfterglowError):
    """This cannot be redeemed, or not be cancelled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Redemption:
    """What a customer got for points.

    State: `making` while the shop is asked for its code, and the points are held; `given`; `failed`, where the shop
    would not make the code and the points went back; `cancelling` while the shop takes the code out of use;
    `cancelled`.
    """

    id: int
    customer_id: int
    programme: str
    reward: str
    state: str
    at: datetime
    key: str
    code: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """A reward that a customer wants for their points; under one key it is given once."""

    customer_id: int
    programme: str
    reward: str
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Purchase:
    """A wish that nothing speaks against so far, with the coupon whose code it brings."""

    wish: Wish
    reward: Reward
    coupon: Coupon | None
    #: A code of a list, set aside for it.
    code_id: int | None = None

    @property
    def is_made(self) -> bool:
        """Whether the shop is to make the code, so that the points are held meanwhile."""
        return self.coupon is not None and self.coupon.provider is not None

    @property
    def list(self) -> str | None:
        """The list that its code is taken from."""
        return self.reward.coupon if self.reward.coupon is not None and not self.is_made else None


def redeem(
    connection: Connection, release: Release, customer_id: int, programme: str, reward: str, key: str, now: datetime
) -> Redemption:
    """Buy a reward. The same key again gives what it gave, and costs nothing.

    Tells `reward.redeemed`, where a flow listens to it, once the code stands; hint `ingest` and `coupons` after the
    commit.

    Raises:
      RedemptionError: there is no such programme or reward, too few points, or no code is left.
    """
    kept = people.lock_kept(connection, customer_id)
    wish = Wish(customer_id=kept, programme=programme, reward=reward, key=key)
    outcome = redeem_all(connection, release, [wish], now)[wish]
    if isinstance(outcome, RedemptionError):
        raise outcome
    return outcome


def redeem_all(
    connection: Connection, release: Release, wishes: Sequence[Wish], now: datetime
) -> dict[Wish, Redemption | RedemptionError]:
    """Buy rewards in their order, for customers who are locked; what became of each.

    As `redeem`, in as few statements for many as for one. A refusal leaves nothing behind.
    """
    outcomes: dict[Wish, Redemption | RedemptionError] = {}
    persons = people.load(connection, (one.customer_id for one in wishes))
    before = {one.key: one for one in _of(connection, bulk.among(redemptions.c.key, [one.key for one in wishes]))}
    wanted: dict[str, _Purchase] = {}
    for wish in dict.fromkeys(wishes):
        try:
            reward = _reward(release, wish.programme, wish.reward)
            _must_be_same(wish, wanted[wish.key].wish if wish.key in wanted else before.get(wish.key))
            if wish.key in before:
                outcomes[wish] = before[wish.key]
                continue
            _must_be_there(wish, persons)
        except RedemptionError as error:
            outcomes[wish] = error
            continue
        coupon = release.catalog.loyalty[wish.programme].coupons.get(reward.coupon or "")
        wanted[wish.key] = _Purchase(wish=wish, reward=reward, coupon=coupon)
    bought: list[tuple[_Purchase, int]] = []
    waiting = list(wanted.values())
    lists = Counter(one.list for one in waiting if one.list is not None)
    free = {name: coupons.free(connection, name, count) for name, count in sorted(lists.items())}
    while waiting:
        buying, waiting = _with_codes(waiting, free, outcomes)
        for purchase, outcome in zip(buying, _pay(connection, release, buying, now), strict=True):
            if not isinstance(outcome, Refused):
                bought.append((purchase, outcome.id))
                continue
            outcomes[purchase.wish] = _too_few(purchase, outcome)
            if purchase.list is not None and purchase.code_id is not None:  # who cannot pay leaves it to the next
                free[purchase.list].insert(0, purchase.code_id)
    return outcomes | {wanted[one.key].wish: one for one in _give(connection, release, bought, now)}


def _must_be_same(wish: Wish, before: Wish | Redemption | None) -> None:
    same = (wish.customer_id, wish.programme, wish.reward)
    if before is not None and (before.customer_id, before.programme, before.reward) != same:
        raise RedemptionError(f"Something else was redeemed under the key '{wish.key}'; use a new key.")


def _must_be_there(wish: Wish, persons: Mapping[int, Person]) -> None:
    person = persons.get(wish.customer_id)
    if person is None or person.forgotten_at is not None:
        raise RedemptionError(f"There is no customer {wish.customer_id} any more; nothing was redeemed.")


def _too_few(purchase: _Purchase, outcome: Refused) -> RedemptionError:
    wish = purchase.wish
    return RedemptionError(
        f"'{wish.reward}' costs {purchase.reward.costs} and customer {wish.customer_id} can spend "
        f"{outcome.spendable or 0}."
    )


def _with_codes(
    waiting: Sequence[_Purchase],
    free: Mapping[str, list[int]],
    outcomes: dict[Wish, Redemption | RedemptionError],
) -> tuple[list[_Purchase], list[_Purchase]]:
    """Those who can buy now, with a code each where it is of a list; and those for whom one may be left afterwards."""
    buying, later = [], []
    tried = {name for name, codes in free.items() if codes}
    for one in waiting:
        if one.list is None:
            buying.append(one)
        elif free[one.list]:
            buying.append(replace(one, code_id=free[one.list].pop(0)))
        elif one.list in tried:
            later.append(one)
        else:
            outcomes[one.wish] = RedemptionError(
                f"No code of '{one.list}' is left; add some with `afterglow loyalty codes {one.list}`."
            )
    return buying, later


def _pay(connection: Connection, release: Release, buying: Sequence[_Purchase], now: datetime) -> list[ledger.Outcome]:
    """Take the points, or hold them for a code that the shop is to make."""
    changes: list[ledger.Change] = []
    for one in buying:
        wish = one.wish
        buy: dict[str, Any] = {
            "programme": wish.programme,
            "asset": release.catalog.loyalty[wish.programme].asset,
            "customer_id": wish.customer_id,
            "key": wish.key,
            "amount": one.reward.costs,
            "event_at": now,
            "document_id": release.ids["programme"][wish.programme],
            "rule": wish.reward,
            "inputs": {"costs": one.reward.costs},
        }
        changes.append(Reserve(**buy, expires_at=now + HELD_FOR) if one.is_made else Spend(**buy))
    return ledger.post(connection, changes, now)


def _give(
    connection: Connection, release: Release, bought: Sequence[tuple[_Purchase, int]], now: datetime
) -> list[Redemption]:
    """Give what was paid for: `bought` are purchases, each with the transaction that paid."""
    if not bought:
        return []
    shop = release.catalog.shop
    ids = bulk.next_ids(connection, redemptions, len(bought))
    given = [(id_, one) for id_, (one, _) in zip(ids, bought, strict=True)]
    rows: list[bulk.Row] = [
        (id_, wish.customer_id, wish.programme, wish.reward, wish.key, paid, "making" if one.is_made else "given", now)
        for id_, (one, paid) in zip(ids, bought, strict=True)
        for wish in [one.wish]
    ]
    columns = ("id", "customer_id", "programme", "reward", "key", "transaction_id", "state", "at")
    bulk.insert(connection, redemptions, columns, rows)
    for name in sorted({one.wish.programme for _, one in given}):
        active = {one.wish.customer_id: (now, _subject(id_)) for id_, one in given if one.wish.programme == name}
        terms, document_id = release.catalog.loyalty[name], release.ids["programme"][name]
        loyalty.prolong(connection, terms, active, document_id, shop.zone, now)
    made = [
        coupons.Wanted(coupon=one.coupon, key=_subject(id_), redemption_id=id_)
        for id_, one in given
        if one.coupon is not None and one.is_made
    ]
    coupons.want(connection, shop, made, now)
    coupons.hand_out(connection, [(one.code_id, id_) for id_, one in given if one.code_id is not None])
    credits = [
        Credit(
            programme=one.wish.programme,
            asset=CREDIT,
            customer_id=one.wish.customer_id,
            kind=Kind.REWARD,
            key=_subject(id_),
            amount=shop.to_minor(one.reward.credit),
            event_at=now,
            activates_at=now,
            document_id=release.ids["programme"][one.wish.programme],
            rule=one.wish.reward,
            subject=_subject(id_),
        )
        for id_, one in given
        if one.reward.credit is not None
    ]
    ledger.credit(connection, credits, now)
    found = _of(connection, bulk.among(redemptions.c.id, ids))[::-1]
    _tell(connection, release, [one for one in found if one.state == "given"], now)
    return found


def _tell(connection: Connection, release: Release, given: Sequence[Redemption], now: datetime) -> None:
    told = []
    for one in given:
        if "reward.redeemed" not in release.catalog.listened and not one.key.startswith(BY_FLOW):
            continue
        programme = release.catalog.loyalty.get(one.programme)
        reward = programme.rewards.get(one.reward) if programme is not None else None
        says: dict[str, Any] = {"programme": one.programme, "reward": one.reward, "code": one.code}
        if reward is not None:
            says |= {"about": reward.about, "points": reward.costs}
        says |= _asked_by(one.key)
        told.append(own_event("reward.redeemed", _subject(one.id), one.customer_id, now, says))
    intake.receive(connection, told, now)


def _asked_by(key: str) -> dict[str, Any]:
    """The step that asked for a reward, as events tell it; nothing where a person did."""
    if not key.startswith(BY_FLOW):
        return {}
    flow, run, step = key.removeprefix(BY_FLOW).split("/", 2)
    return {"by": {"flow": flow, "step": step, "run": int(run)}}


def tell_refused(connection: Connection, refused: Iterable[tuple[Wish, str]], now: datetime) -> None:
    """Tell that what runs wanted was not given, each with the reason."""
    told = [
        own_event(
            "reward.refused",
            f"reward.refused/{wish.key}",
            wish.customer_id,
            now,
            {"programme": wish.programme, "reward": wish.reward, "because": because, **_asked_by(wish.key)},
        )
        for wish, because in refused
    ]
    intake.receive(connection, told, now)


# The shop was asked for a code, or to take one out of use: what comes of it. The customers are locked.


def lock(connection: Connection, redemption_ids: Iterable[int]) -> dict[int, Any]:
    """The rows of redemptions, locked with their customers.

    Raises:
      MergedMeanwhileError: one of the customers was merged while we waited; begin again.
    """
    mine = sa.select(redemptions).where(bulk.among(redemptions.c.id, sorted(set(redemption_ids))))
    whose = {row.customer_id for row in connection.execute(mine)}
    people.locked(connection, whose)
    rows = connection.execute(mine.order_by(redemptions.c.id).with_for_update()).all()
    if any(row.customer_id not in whose for row in rows):
        raise people.MergedMeanwhileError
    return {row.id: row for row in rows}


def pay(connection: Connection, rows: Sequence[Any], now: datetime) -> set[int]:
    """Spend what these locked redemptions held, whose codes the shop has now. Those whose points are held no more.

    That is where a customer was merged meanwhile, or the time of the hold was over: the points are theirs again.
    """
    held = [Settle(key=_subject(row.id), hold_id=row.transaction_id, event_at=now) for row in rows]
    outcomes = ledger.settle(connection, held, now)
    lost = {row.id for row, one in zip(rows, outcomes, strict=True) if isinstance(one, Refused)}
    _become(connection, {row.id: "failed" if row.id in lost else "given" for row in rows})
    _tell_failed(connection, [row for row in rows if row.id in lost], "the points were held no more", now)
    return lost


def tell(connection: Connection, release: Release, redemption_ids: Collection[int], now: datetime) -> None:
    """Tell that these were redeemed, with the codes that stand by now."""
    found = _of(connection, bulk.among(redemptions.c.id, sorted(redemption_ids)))
    _tell(connection, release, found[::-1], now)


def give_up(connection: Connection, rows: Sequence[Any], now: datetime) -> None:
    """Let what these locked redemptions held go back to the lots it came from: the shop would not make their codes."""
    held = [Void(key=_subject(row.id), hold_id=row.transaction_id, event_at=now) for row in rows]
    ledger.void(connection, held, now)  # refused where it went back already
    _become(connection, {row.id: "failed" for row in rows})
    _tell_failed(connection, rows, "the shop made no code", now)


def _tell_failed(connection: Connection, rows: Sequence[Any], because: str, now: datetime) -> None:
    wishes = [
        Wish(customer_id=row.customer_id, programme=row.programme, reward=row.reward, key=row.key) for row in rows
    ]
    tell_refused(connection, [(one, because) for one in wishes if one.key.startswith(BY_FLOW)], now)


def taken_out(connection: Connection, rows: Sequence[Any], used: Collection[int], now: datetime) -> None:
    """End the cancelling of these locked redemptions: the points return, save of those whose codes were used."""
    unused = [row for row in rows if row.id not in used]
    back = [Return(key=f"cancel/{row.id}", transaction_id=row.transaction_id, event_at=now) for row in unused]
    ledger.give_back(connection, back, now)
    _become(connection, {row.id: "given" if row.id in used else "cancelled" for row in rows})


def _become(connection: Connection, states: Mapping[int, str]) -> None:
    bulk.update(connection, redemptions, ("id", "state"), sorted(states.items()))


def cancel(connection: Connection, redemption_id: int, now: datetime) -> Redemption:
    """Take a reward back: the points return to the lots that they came from, with the times that those have.

    A code that was created at the shop is taken out of use first, and where an order has used it, the reward stays
    given; hint `coupons` after the commit. One of a list is handed out to nobody else, and a person takes it out of
    use.

    Raises:
      RedemptionError: there is no such redemption, it is cancelled already, or its credit is spent.
    """
    found = _of(connection, redemptions.c.id == redemption_id)
    if not found:
        raise RedemptionError(f"There is no redemption {redemption_id}; `afterglow loyalty show CUSTOMER` lists them.")
    people.lock_kept(connection, found[0].customer_id)
    row = connection.execute(sa.select(redemptions).where(redemptions.c.id == redemption_id).with_for_update()).one()
    held = coupons.of_redemption(connection, redemption_id)
    match row.state:
        case "cancelled" | "cancelling":
            raise RedemptionError(f"Redemption {redemption_id} is cancelled already.")
        case "failed":
            raise RedemptionError(f"Redemption {redemption_id} brought nothing, and its points went back.")
        case "making":
            assert held is not None
            coupons.disable(connection, [held.id], now)
            give_up(connection, [row], now)
            _become(connection, {row.id: "cancelled"})
        case _ if held is not None and held.provider is not None:
            if held.state is CouponState.USED:
                raise RedemptionError(f"The code of redemption {redemption_id} was used; it cannot be cancelled.")
            coupons.disable(connection, [held.id], now)
            _become(connection, {row.id: "cancelling"})
        case _:
            _take_credit_back(connection, row, now)
            back = Return(key=f"cancel/{redemption_id}", transaction_id=row.transaction_id, event_at=now)
            (outcome,) = ledger.give_back(connection, [back], now)
            if isinstance(outcome, Refused):
                raise RedemptionError(outcome.reason)
            _become(connection, {row.id: "cancelled"})
    return _of(connection, redemptions.c.id == redemption_id)[0]


def _take_credit_back(connection: Connection, row: Any, now: datetime) -> None:
    subject = _subject(row.id)
    given = ledger.of_subject(connection, [subject])[subject]
    taken = [
        Clawback(
            programme=one.programme,
            asset=one.asset,
            customer_id=row.customer_id,
            key=f"cancel/{row.id}",
            amount=one.granted,
            undoes=one.id,
            event_at=now,
            subject=subject,
        )
        for one in given
        if one.kind == Kind.REWARD
    ]
    for one, posted in zip(taken, ledger.claw_back(connection, taken, now), strict=True):
        if posted.granted < one.amount:
            raise RedemptionError(f"The credit of redemption {row.id} is spent already; it cannot be cancelled.")


def of_customer(connection: Connection, customer_id: int) -> list[Redemption]:
    """What a customer redeemed, newest first."""
    return _of(connection, redemptions.c.customer_id == customer_id)


def _of(connection: Connection, where: sa.ColumnElement[bool]) -> list[Redemption]:
    r = redemptions.c
    # A code that the shop does not know yet is shown to nobody.
    is_known = sa.case((codes.c.state.not_in(["wanted", "failed"]), codes.c.code))
    rows = connection.execute(
        sa.select(r.id, r.customer_id, r.programme, r.reward, r.state, r.at, r.key, is_known.label("code"))
        .outerjoin(codes, codes.c.redemption_id == r.id)
        .where(where)
        .order_by(r.id.desc())
    )
    return [Redemption(**row._mapping) for row in rows]


def _reward(release: Release, programme: str, reward: str) -> Reward:
    programmes = release.catalog.loyalty
    if programme not in programmes:
        raise RedemptionError(
            f"No loyalty programme in force is called '{programme}'.{did_you_mean(programme, programmes)}"
        )
    rewards = programmes[programme].rewards
    if reward not in rewards:
        raise RedemptionError(f"'{programme}' has no reward '{reward}'.{did_you_mean(reward, rewards)}")
    return rewards[reward]


def _subject(redemption_id: int) -> str:
    return f"redemption/{redemption_id}"
