"""What referrers have by now, and what one more referral brings them and their friend."""

from collections.abc import Sequence
from datetime import datetime

from afterglow.language.referral import Gives, ReferralProgramme
from afterglow.referring.rewarding import Grant, Tally, grants, period
from db import referring
from db.referring import Referral, Reward
from workers.rewarding.round import Round


class Desk:
    """Counts what referrers have, and goes on counting while a batch is rewarded."""

    def __init__(self, round_: Round, due: Sequence[Referral]) -> None:
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
