"""What the steps of one batch share: what is known of it, and what was decided, told and scored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.engine import Connection

from afterglow.language.referral import ReferralProgramme
from afterglow.language.shop import Shop
from afterglow.referring.rewarding import Side
from db import leaderboards
from db.app import App
from db.catalog import Release
from db.people import Person
from db.referring import Decision, Referral, Reward
from db.tables import ReferralState

#: Whom a referral concerns, as the events that tell of it name the sides.
BOTH = (Side.REFERRER.value, Side.REFEREE.value)


@dataclass(kw_only=True, slots=True)
class Round:
    """One batch of due referrals, and what comes of them until it is written."""

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
        """Give a referral its state, noting why; when it goes to a person or is rejected, both sides hear of it."""
        at = self.at(referral)
        if state is not referral.state and state in (ReferralState.REVIEW, ReferralState.REJECTED):
            self.told += [(f"referral.{state}", referral, side, {}) for side in BOTH]
        referral.state, referral.due_at = state, due_at
        self.notes.append(Decision(referral_id=referral.id, at=at, state=state, because=because, evidence=evidence))

    def score(self, referral: Referral, sign: int) -> None:
        """Count a referral and its revenue on the boards, or no longer; only one that was rewarded ever counted."""
        if referral.rewarded_at is not None:
            self.scored += [
                self._change(referral, metric, sign * value, referral.rewarded_at, referral.reference)
                for metric, value in (("referrals", 1), ("revenue", referral.net))
            ]

    def score_reward(self, referral: Referral, reward: Reward, sign: int) -> None:
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
