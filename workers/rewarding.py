"""Referrals that are due: judged when they qualified, rewarded when the hold ended, decided at a deadline, taken back.

Both customers are locked, sorted with all others of the batch, before anything is counted: so caps and milestones are
exact however many processes do this at once. Everything of a batch is one transaction with a constant number of
statements. A referral that cannot be done alone goes to review with the reason, and holds nobody up.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Connection

from afterglow.language.programme import Programme
from afterglow.language.referral import Gives, ReferralProgramme
from afterglow.language.shop import Shop
from afterglow.ledger.book import Policy
from afterglow.loyalty.expiring import expires_at
from afterglow.referring import fraud, likeness
from afterglow.referring.qualification import rewarded_from
from afterglow.referring.rewarding import Grant, Side, Tally, grants, lost, period
from db import coupons, identity, leaderboards, ledger, notices, people, referring
from db import events as events_table
from db.app import App
from db.catalog import Release
from db.people import MergedMeanwhileError, Person
from db.referring import Decision, Referral, Reward, Whose
from db.tables import ReferralState
from workers.batches import is_passing, told

log = structlog.get_logger()

BATCH = 200
#: Batches of one round, so that other work is not kept waiting.
ROUNDS_MAX = 20
_DAY = timedelta(days=1)
_BOTH = (Side.REFERRER.value, Side.REFEREE.value)


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
    round_ = _Round(
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
    round_.judge(fresh)
    round_.reward(held)
    round_.decide(waiting)
    referring.save(connection, due)
    round_.take_back(undone)
    referring.note(connection, round_.notes)
    leaderboards.record(connection, round_.scored, round_.shop.calendar, now)
    referring.tell(connection, round_.told, now)


@dataclass(kw_only=True, slots=True)
class _Round:
    """One batch of due referrals."""

    connection: Connection
    app: App
    release: Release
    persons: Mapping[int, Person]
    #: By document: a referral is judged and rewarded by the file under which it qualified.
    programmes: Mapping[int, ReferralProgramme]
    now: datetime
    notes: list[Decision] = field(default_factory=list)
    told: list[tuple[str, Referral, str, Mapping[str, object]]] = field(default_factory=list)
    scored: list[leaderboards.Change] = field(default_factory=list)

    @property
    def shop(self) -> Shop:
        return self.release.catalog.shop

    def at(self, referral: Referral) -> datetime:
        """When this is decided: now, or, where a clock jumps, the moment it fell due."""
        assert referral.due_at is not None
        return self.app.clock.moment(referral.due_at, self.now)

    def move(
        self,
        referral: Referral,
        state: ReferralState,
        because: str,
        evidence: Mapping[str, object],
        due_at: datetime | None = None,
    ) -> None:
        at = self.at(referral)
        if state is not referral.state and state in (ReferralState.REVIEW, ReferralState.REJECTED):
            self.told += [(f"referral.{state}", referral, side, {}) for side in _BOTH]
        referral.state, referral.due_at = state, due_at
        self.notes.append(Decision(referral_id=referral.id, at=at, state=state, because=because, evidence=evidence))

    def judge(self, due: Sequence[Referral]) -> None:
        """Say of referrals that qualified whether they pass, a person looks, or they are rejected."""
        if not due:
            return
        facts = _Evidence(self, due)
        for referral in due:
            programme = self.programmes[referral.document_id]
            judgement = fraud.judge(facts.of(referral), programme.fraud)
            at = referral.judged_at = self.at(referral)
            evidence = judgement.evidence()
            match judgement.verdict:
                case fraud.Verdict.REJECT:
                    self.move(referral, ReferralState.REJECTED, "rules speak against it", evidence)
                case fraud.Verdict.REVIEW:
                    deadline = programme.fraud.deadline.after(at, self.shop.zone)
                    self.move(referral, ReferralState.REVIEW, "a person is to look", evidence, deadline)
                case fraud.Verdict.PASS:
                    self._pass(referral, programme, "nothing speaks against it", evidence)

    def _pass(
        self, referral: Referral, programme: ReferralProgramme, because: str, evidence: Mapping[str, object]
    ) -> None:
        assert referral.qualified_at is not None
        ends = max(self.at(referral), rewarded_from(programme, referral.qualified_at, self.shop.zone))
        self.move(referral, ReferralState.QUALIFIED, because, {**evidence, "hold_ends": ends.isoformat()}, ends)
        self.told += [("referral.qualified", referral, side, {}) for side in _BOTH]

    def reward(self, due: Sequence[Referral]) -> None:
        """Reward referrals whose hold ended: both sides, milestones, and what a cap cut off as nothing."""
        if not due:
            return
        desk = _Desk(self, due)
        given: list[tuple[Referral, Reward]] = []
        for referral in due:
            made = desk.grant(referral)
            given += [(referral, one) for one in made]
            capped = [one for one in made if one.state == "capped"]
            evidence: dict[str, object] = {"rewards": [one.id for one in made], "capped": len(capped)}
            if capped:
                evidence |= desk.cap(referral)
            referral.rewarded_at = self.at(referral)
            self._score(referral, 1)
            for one in made:
                self._score_reward(referral, one, 1)
            self.move(referral, ReferralState.REWARDED, "the hold ended", evidence)
        rewards = [one for _, one in given]
        referring.give(self.connection, rewards)
        notices.note(self.connection, "given", rewards, self.now)
        ledger.credit(self.connection, [self._credit(r, one) for r, one in given if _is_booked(one)], self.now)
        wanted = []
        for referral, one in given:
            coupon = self.programmes[referral.document_id].coupons.get(one.coupon or "")
            if one.state != "given":
                continue
            if coupon is None:
                self.told.append(referring.about_reward("referral.rewarded", referral, one))
            else:  # told once the shop knows the code, so that no mail names one which it does not
                wanted.append(coupons.Wanted(coupon=coupon, key=one.key, reward_id=one.id))
        coupons.want(self.connection, self.shop, wanted, self.now)

    def _credit(self, referral: Referral, reward: Reward) -> ledger.Credit:
        wallet = self._wallet(reward.wallet)
        return ledger.Credit(
            programme=reward.wallet or "",
            asset=self._asset(reward, wallet),
            customer_id=reward.customer_id,
            kind="reward",
            key=reward.key,
            amount=reward.granted,
            event_at=reward.given_at,
            activates_at=reward.given_at,
            expires_at=expires_at(wallet.expiry, reward.given_at, self.shop.zone) if wallet else None,
            event_id=referral.event_id,
            document_id=referral.document_id,
            rule=f"{reward.side} {reward.milestone}" if reward.milestone else reward.side,
            inputs={"referral": referral.id, "generation": reward.generation},
            subject=reward.key,
        )

    def _wallet(self, name: str | None) -> Programme | None:
        return self.release.catalog.loyalty.get(name or "")

    @staticmethod
    def _asset(reward: Reward, wallet: Programme | None) -> str:
        return wallet.asset if wallet is not None and reward.asset == "points" else reward.asset

    def decide(self, due: Sequence[Referral]) -> None:
        """What nobody looked at until its deadline."""
        for referral in due:
            programme = self.programmes[referral.document_id]
            word = programme.fraud.on_deadline
            because, evidence = "nobody looked until the deadline", {"on_deadline": word}
            match word:
                case "hold":
                    self.move(referral, ReferralState.REVIEW, because, evidence)
                case "reward" if referral.counts:
                    self.move(referral, ReferralState.REWARDED, because, evidence)
                case "reward":
                    self._pass(referral, programme, because, evidence)
                case "reject" if referral.counts:
                    self.move(referral, ReferralState.REVERSED, because, evidence, self.at(referral))
                case "reject":
                    self.move(referral, ReferralState.REJECTED, because, evidence)

    def _standing_rewards(self, referrals: Iterable[Referral]) -> dict[int, list[Reward]]:
        ids = [one.id for one in referrals]
        rewards = referring.rewards_of(self.connection, ids) if ids else {}
        return {id_: [one for one in rewards.get(id_, ()) if one.state == "given"] for id_ in ids}

    def take_back(self, due: Sequence[Referral]) -> None:
        """Take back what undone referrals brought, and the milestones that no longer stand."""
        if not due:
            return
        by_id = {one.id: one for one in due}
        gone = [
            (by_id[one.referral_id], one)
            for rewards in self._standing_rewards(due).values()
            for one in rewards
            if not one.milestone
        ]
        gone += self._lost_milestones(due)
        rewards = [one for _, one in gone]
        referring.take_back(self.connection, rewards, self.now)
        notices.note(self.connection, "taken_back", rewards, self.now)
        held = coupons.of_rewards(self.connection, [one.id for one in rewards])
        coupons.disable(self.connection, [one.id for one in held.values()], self.now)
        ledger.claw_back(self.connection, [self._clawback(one) for one in rewards if _is_booked(one)], self.now)
        for referral, one in gone:
            self._score_reward(referral, one, -1)
        self.told += [referring.about_reward("referral.reversed", *pair) for pair in gone]
        for referral in due:
            self._score(referral, -1)
            ids = [one.id for of, one in gone if of is referral]
            # Each side hears of it once: by the reward that it has no more, or that there was none.
            self.told += [
                ("referral.reversed", referral, side, {})
                for side in _BOTH
                if not any(of is referral and one.side == side for of, one in gone)
            ]
            self.move(referral, ReferralState.REVERSED, "its rewards are taken back", {"rewards": ids})
        referring.save(self.connection, due)

    def _lost_milestones(self, due: Sequence[Referral]) -> list[tuple[Referral, Reward]]:
        """The milestones that no longer stand, each with the referral that it was lost by."""
        by_whose: dict[Whose, list[Referral]] = {}
        for one in due:
            by_whose.setdefault((one.programme, one.referrer_id), []).append(one)
        referrers = {referrer for _, referrer in by_whose}
        counting = referring.counting(self.connection, referrers)
        found = []
        for whose, rewards in referring.milestones_of(self.connection, referrers).items():
            if whose not in by_whose:
                continue
            standing = {one.milestone: one for one in rewards if one.state == "given"}
            left = counting.get(whose, 0) - sum(one.counts for one in by_whose[whose])
            found += [(by_whose[whose][-1], standing[at]) for at in lost(standing, left)]
        return found

    def _score(self, referral: Referral, sign: int) -> None:
        """Count a referral and its revenue on the boards, or no longer; only one that was rewarded ever counted."""
        if referral.rewarded_at is not None:
            self.scored += [
                self._change(referral, metric, sign * value, referral.rewarded_at, referral.reference)
                for metric, value in (("referrals", 1), ("revenue", referral.net))
            ]

    def _score_reward(self, referral: Referral, reward: Reward, sign: int) -> None:
        """Count what a reward costs the shop, for whoever brought the friend, or no longer."""
        self.scored.append(self._change(referral, "rewards", sign * reward.worth, reward.given_at, reward.key))

    def _change(self, referral: Referral, metric: str, delta: int, at: datetime, subject: str) -> leaderboards.Change:
        return leaderboards.Change(
            programme=referral.programme,
            metric=metric,
            customer_id=self.persons[referral.referrer_id].id,
            delta=delta,
            at=at,
            subject=subject,
        )

    def _clawback(self, reward: Reward) -> ledger.Clawback:
        wallet = self._wallet(reward.wallet)
        policy = wallet.refunds.policy if wallet is not None and wallet.refunds is not None else "within_balance"
        return ledger.Clawback(
            programme=reward.wallet or "",
            asset=self._asset(reward, wallet),
            customer_id=reward.customer_id,
            key=reward.key,
            amount=reward.granted,
            event_at=self.now,
            policy=Policy(policy),
            inputs={"referral": reward.referral_id},
            subject=reward.key,
        )


def _is_booked(reward: Reward) -> bool:
    """Whether the ledger keeps it: points and credit that were given; a coupon is none of its business."""
    return reward.granted > 0 and reward.wallet is not None


class _Desk:
    """Counts what referrers have, and goes on counting while a batch is rewarded."""

    def __init__(self, round_: _Round, due: Sequence[Referral]) -> None:
        self.round, connection = round_, round_.connection
        referrers = [one.referrer_id for one in due]
        self.rewarded = referring.counting(connection, referrers)
        periods = [span for one in due if (span := self._period(one)) is not None]
        forever = any(self._counts_forever(one) for one in due)
        since = referring.BEGINNING if forever or not periods else min(begins for begins, _ in periods)
        self.instants = referring.rewarded_instants(connection, referrers, since)
        self.milestones = referring.milestones_of(connection, referrers)
        self.before = referring.rewards_of(connection, [one.id for one in due])
        per_referral = max(2 + len(one.milestones) for one in round_.programmes.values())
        self.ids = iter(referring.reward_ids(connection, per_referral * len(due)))

    def _programme(self, referral: Referral) -> ReferralProgramme:
        return self.round.programmes[referral.document_id]

    def _period(self, referral: Referral) -> tuple[datetime, datetime] | None:
        cap = self._programme(referral).cap
        assert referral.due_at is not None
        return period(referral.due_at, cap.per, self.round.shop.zone) if cap else None

    def _counts_forever(self, referral: Referral) -> bool:
        cap = self._programme(referral).cap
        return cap is not None and cap.per == "ever"

    def grant(self, referral: Referral) -> list[Reward]:
        """The rewards of one more referral, counted in."""
        whose = (referral.programme, referral.referrer_id)
        given = self.milestones.setdefault(whose, [])
        tally = Tally(
            rewarded=self.rewarded.get(whose, 0),
            in_period=self._in_period(referral),
            standing=frozenset(one.milestone for one in given if one.state == "given"),
            generations={at: sum(one.milestone == at for one in given) for at in {one.milestone for one in given}},
        )
        before = self.before.get(referral.id, [])
        taken = {(one.side, one.milestone) for one in before if one.state != "taken_back"}
        generation = 1 + max((one.generation for one in before if not one.milestone), default=0)
        made = [
            self._reward(referral, grant)
            for grant in grants(
                self._programme(referral),
                referrer=referral.referrer_id,
                referee=referral.referee_id,
                tally=tally,
                generation=generation,
                variant=referral.variant,
            )
            if (grant.side.value, grant.milestone) not in taken
            and self.round.persons[grant.customer].forgotten_at is None
        ]
        self.rewarded[whose] = tally.rewarded + 1
        given += [one for one in made if one.milestone]
        self.instants.setdefault(whose, []).extend(
            one.counts_at for one in made if one.side == "referrer" and one.state == "given"
        )
        return made

    def _in_period(self, referral: Referral) -> int:
        instants = self.instants.get((referral.programme, referral.referrer_id), ())
        span = self._period(referral)
        return len(instants) if span is None else sum(span[0] <= at < span[1] for at in instants)

    def cap(self, referral: Referral) -> dict[str, object]:
        """The numbers of the cap that cut a reward off."""
        cap = self._programme(referral).cap
        return {"cap": cap.most, "per": cap.per, "in_period": self._in_period(referral)} if cap else {}

    def _reward(self, referral: Referral, grant: Grant) -> Reward:
        assert referral.due_at is not None
        amount = self._amount(grant.gives)
        worth = self.round.shop.to_minor(grant.gives.worth)
        return Reward(
            id=next(self.ids),
            referral_id=referral.id,
            side=grant.side.value,
            milestone=grant.milestone,
            generation=grant.generation,
            customer_id=grant.customer,
            programme=referral.programme,
            state="given" if grant.given else "capped",
            asset=grant.gives.asset,
            wallet=grant.gives.programme,
            coupon=grant.gives.coupon,
            webhook=grant.gives.webhook,
            desired=amount,
            granted=amount if grant.given else 0,
            worth=worth if grant.given else 0,
            counts_at=referral.due_at,
            given_at=self.round.at(referral),
        )

    def _amount(self, gives: Gives) -> int:
        return self.round.shop.to_minor(gives.amount) if gives.asset == "credit" else int(gives.amount)


class _Evidence:
    """What is known of referrals that are to be judged, read for all of them at once."""

    def __init__(self, round_: _Round, due: Sequence[Referral]) -> None:
        self.round, connection = round_, round_.connection
        self.secret = round_.app.settings.secrets[0]
        referrers = {one.referrer_id for one in due}
        order_event = round_.shop.model.order_event
        newest = referring.newest_events(connection, referrers, order_event)
        events = {one.event_id for one in due if one.event_id is not None} | set(newest.values())
        payloads = events_table.payloads(connection, events)
        self.orders = referring.orders_before(connection, [one.id for one in due], order_event)
        self.marks = {one.id: self._marks(one, payloads.get(one.event_id or 0, {})) for one in due}
        self.own = {
            referrer: _of_order(self.secret, payloads.get(newest.get(referrer, 0), {})) for referrer in referrers
        }
        referring.mark(
            connection, [(id_, kind, digest) for id_, marks in self.marks.items() for kind, digest in marks.items()]
        )
        self.marked = referring.marked(connection, [d for marks in self.marks.values() for d in marks.values()])
        spellings = {one.id: self._spellings(one) for one in due}
        self.spellings = spellings
        self.holders = identity.known(connection, [one for ones in spellings.values() for one in ones])
        self.forgotten = referring.forgotten(connection, [digest for ones in spellings.values() for _, digest in ones])
        since = min(one.qualified_at for one in due if one.qualified_at is not None) - _DAY
        self.qualified = referring.qualified_since(connection, referrers, since)
        self.counted = referring.counted(connection, referrers)
        self.parents = self._parents(due)
        self.touches = referring.touches_by_id(connection, {one.touch_id for one in due})

    def _email(self, referral: Referral) -> str | None:
        return self.round.persons[referral.referee_id].email

    def _spellings(self, referral: Referral) -> list[tuple[str, str]]:
        """The identities by which an address of this mailbox would be known: as it is, untagged, canonical."""
        email = self._email(referral)
        if not email:
            return []
        ways = {email, likeness.untagged(email), likeness.canonical(email)}
        return [identity.email_identity(self.secret, way) for way in sorted(ways)]

    def _marks(self, referral: Referral, payload: Mapping[str, Any]) -> dict[str, str]:
        person = self.round.persons[referral.referee_id]
        found = _of_order(self.secret, payload)
        if person.email:
            found["email"] = _mark(self.secret, "email", likeness.canonical(person.email))
        if person.phone:
            found["phone"] = _mark(self.secret, "phone", person.phone)
        return found

    def _parents(self, due: Sequence[Referral]) -> dict[Whose, int]:
        """By whom the referrers were brought, and those, as far as a ring is looked for."""
        found: dict[Whose, int] = {}
        ask = {one.referrer_id for one in due}
        for _ in range(fraud.RING_MAX - 1):
            level = referring.parents(self.round.connection, ask) if ask else {}
            found |= level
            ask = set(level.values()) - {customer for _, customer in found}
        return found

    def of(self, referral: Referral) -> fraud.Facts:
        """What is known of one."""
        programme = self.round.programmes[referral.document_id]
        whose = (referral.programme, referral.referrer_id)
        assert referral.qualified_at is not None
        states = self.counted.get(whose, {})
        undone = states.get(ReferralState.REVERSED, 0)
        touch = self.touches.get(referral.touch_id)
        parents = {customer: up for (name, customer), up in self.parents.items() if name == referral.programme}
        clicked = touch.at if touch is not None and touch.method == "click" else None
        return fraud.Facts(
            referrer=_party(self.round.persons[referral.referrer_id]),
            referee=_party(self.round.persons[referral.referee_id]),
            orders_before=self.orders.get(referral.id, 0) if programme.first_purchase else -1,
            known_as=self._known_as(referral),
            was_forgotten=any(digest in self.forgotten for _, digest in self.spellings[referral.id]),
            referred_before=self._referred_before(referral),
            in_a_day=sum(
                referral.qualified_at - _DAY < at <= referral.qualified_at for at in self.qualified.get(whose, ())
            ),
            share_address=self._sharing(referral, "address"),
            share_payment=self._sharing(referral, "payment"),
            undone=undone,
            settled=undone + states.get(ReferralState.REWARDED, 0),
            ring=fraud.ring(parents, referral.referrer_id, referral.referee_id),
            click_to_order=referral.qualified_at - clicked if clicked else None,
        )

    def _known_as(self, referral: Referral) -> int | None:
        holders = {self.holders[one] for one in self.spellings[referral.id] if one in self.holders}
        return min((one for one in holders if one < referral.referee_id), default=None)

    def _referred_before(self, referral: Referral) -> int | None:
        mine = self.marks[referral.id]
        return min(
            (
                one.referral_id
                for one in self.marked
                if one.kind in ("email", "phone")
                and one.programme == referral.programme
                and one.referral_id < referral.id
                and mine.get(one.kind) == one.digest
            ),
            default=None,
        )

    def _sharing(self, referral: Referral, kind: str) -> int:
        """How many share this mark: the referrer, and the referrer's other referees."""
        mine = self.marks[referral.id].get(kind)
        if mine is None:
            return 0
        others = {
            one.referee_id
            for one in self.marked
            if (one.kind, one.digest, one.referrer_id) == (kind, mine, referral.referrer_id)
            and one.referral_id != referral.id
        }
        return len(others) + (self.own[referral.referrer_id].get(kind) == mine)


def _of_order(secret: bytes, payload: Mapping[str, Any]) -> dict[str, str]:
    """The marks of an order, where its source maps them: where it went, and with what it was paid."""
    order = payload.get("order")
    given = order if isinstance(order, Mapping) else {}
    said = {"address": given.get("ship_to"), "payment": given.get("paid_with")}
    return {
        kind: _mark(secret, kind, plain)
        for kind, text in said.items()
        if isinstance(text, str) and (plain := "".join(letter for letter in text.casefold() if letter.isalnum()))
    }


def _mark(secret: bytes, kind: str, text: str) -> str:
    return identity.address_digest(secret, f"referral {kind}\0{text}").hex()


def _party(person: Person) -> fraud.Party:
    name = " ".join(part for part in (person.first_name, person.last_name) if part)
    return fraud.Party(customer=person.id, email=person.email, phone=person.phone, name=name or None)
