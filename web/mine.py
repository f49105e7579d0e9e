"""How a customer's own page says what is theirs: in a customer's words, with dates of where they live. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from afterglow.language.catalog import Catalog
from db.me import Friend, Mine
from db.redemptions import Redemption
from db.referring import Reward
from db.standing import InProgramme
from db.tables import ReferralState
from web import wording

#: What a friend's referral looks like from outside: nobody is told what was suspected.
PROGRESS: Final = {
    ReferralState.ATTRIBUTED: "came",
    ReferralState.QUALIFIED: "waiting",
    ReferralState.REVIEW: "waiting",
    ReferralState.REWARDED: "rewarded",
    ReferralState.REJECTED: "ended",
    ReferralState.REVERSED: "ended",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A reward as the page offers it."""

    id: str
    about: str
    costs: str
    #: Why it cannot be had now; empty where it can.
    but: str
    #: How far the points go, of what it costs.
    has: int
    needs: int


class Telling:
    """Says what is a customer's."""

    def __init__(self, catalog: Catalog, mine: Mine, now: datetime) -> None:
        self.catalog, self.mine, self.now = catalog, mine, now
        self.zone: ZoneInfo = mine.person.zone(catalog.shop)

    @property
    def name(self) -> str | None:
        return self.mine.person.first_name

    def day(self, moment: datetime) -> str:
        """A date, with its year where that is not this one."""
        return wording.day(moment, self.now, self.zone)

    def number(self, value: int) -> str:
        return f"{value:,}"

    def unit(self, programme: InProgramme, value: int = 2) -> str:
        """What is collected, such as `beans`; of one, without its `s`."""
        asset = programme.asset.replace("_", " ")
        return asset.removesuffix("s") if value == 1 else asset

    def some(self, programme: InProgramme, value: int) -> str:
        """`1 bean`, `2 beans`."""
        return f"{value:,} {self.unit(programme, value)}"

    def waiting(self, programme: InProgramme) -> str | None:
        """What can be spent later, and from when on."""
        if not programme.pending:
            return None
        first = self.mine.active_from.get(programme.programme)
        return f"{programme.pending:,} more on the way" + (f", from {self.day(first)} on" if first else "")

    def expiring(self, programme: InProgramme) -> list[tuple[str, str]]:
        """How much is to be spent by when: the last day on which it can be, and how much."""
        return [
            (self.some(programme, one.amount), self.day(one.at))
            for one in self.mine.expiring
            if one.programme == programme.programme
        ]

    def tier(self, name: str) -> str:
        """A tier's name as people read it: `Friend of the house`."""
        return name[:1].upper() + name[1:].replace("-", " ")

    def missing(self, programme: InProgramme) -> str | None:
        """What is missing to the next tier."""
        tier = programme.tier
        if tier is None or tier.next_tier is None or tier.missing is None:
            return None
        loyalty = self.catalog.loyalty[programme.programme]
        by_points = loyalty.tiers is not None and loyalty.tiers.by == "points"
        what = self.some(programme, tier.missing) if by_points else self.money(tier.missing)
        return f"{what} to {self.tier(tier.next_tier)}"

    def money(self, minor: int) -> str:
        """An amount with the shop's currency."""
        return f"{wording.amount(minor, self.catalog.shop)} {self.catalog.shop.model.currency}"

    def offers(self, programme: InProgramme) -> list[Offer]:
        """The rewards, those that can be had first, then the cheaper ones first."""
        loyalty = self.catalog.loyalty[programme.programme]
        offers = [
            Offer(
                id=id_,
                about=about,
                costs=self.some(programme, costs),
                but=(
                    "None is left just now"
                    if loyalty.rewards[id_].coupon in self.mine.sold_out
                    else ""
                    if affordable
                    else f"{self.some(programme, costs - programme.spendable)} to go"
                ),
                has=costs if loyalty.rewards[id_].coupon in self.mine.sold_out else min(programme.spendable, costs),
                needs=costs,
            )
            for id_, (about, costs, affordable) in programme.rewards.items()
        ]
        return sorted(offers, key=lambda offer: (bool(offer.but), offer.needs))

    def progress(self, friend: Friend) -> str:
        """The word for a friend's state: came, waiting, rewarded, ended."""
        return PROGRESS[friend.referral.state]

    def friend(self, friend: Friend) -> str:
        """What became of a friend who came, without saying who it is."""
        referral = friend.referral
        match referral.state:
            case ReferralState.ATTRIBUTED:
                return "Came by your link. It counts with their order."
            case ReferralState.QUALIFIED if referral.judged_at is not None and referral.due_at is not None:
                return f"Ordered. Waits for the return window, until {self.day(referral.due_at)}."
            case ReferralState.QUALIFIED:
                return "Ordered. Waits for the return window."
            case ReferralState.REVIEW:
                return "Ordered. We are having a look at this one."
            case ReferralState.REWARDED:
                return self._brought(friend.rewards)
            case ReferralState.REVERSED:
                return "The order was returned, so it does not count."
            case _:
                return "Does not count under the rules of the offer."

    def _brought(self, rewards: Sequence[Reward]) -> str:
        given = [one for one in rewards if one.state == "given"]
        if given:
            return f"Done. It brought you {' and '.join(self._reward(one) for one in given)}."
        if any(one.state == "capped" for one in rewards):
            return "Done. You had reached the limit of rewards, so this one brought none."
        return "Done."

    def _reward(self, reward: Reward) -> str:
        if reward.asset == "credit":
            return f"{self.money(reward.granted)} of credit"
        if reward.asset == "coupon":
            return "a coupon"
        loyalty = self.catalog.loyalty.get(reward.wallet or "")
        return f"{reward.granted:,} {loyalty.asset.replace('_', ' ') if loyalty else 'points'}"

    def brought(self, side: str) -> str:
        """Why they have a code that a referral brought."""
        return "From the friend who sent you" if side == "referee" else "For a friend you brought"

    def redeemed(self, one: Redemption) -> str:
        """What was redeemed, as the programme's file calls it now."""
        loyalty = self.catalog.loyalty.get(one.programme)
        reward = loyalty.rewards.get(one.reward) if loyalty else None
        return reward.about if reward else one.reward


def plain(mine: Mine) -> dict[str, Any]:
    """What is theirs as JSON knows it, for the shop's theme. No friend's name or address, and not the customer's."""
    return {
        "programmes": [
            {**told.plain(), "pending_until": _iso(mine.active_from.get(told.programme))} for told in mine.programmes
        ],
        "credit": dict(mine.credit),
        "expiring": [{"programme": e.programme, "at": _iso(e.at), "amount": e.amount} for e in mine.expiring],
        "friends": [
            {
                "programme": friend.referral.programme,
                "since": _iso(friend.referral.attributed_at),
                "progress": PROGRESS[friend.referral.state],
                "rewarded_at": _iso(friend.referral.rewarded_at),
            }
            for friend in mine.friends
        ],
        "codes": [
            {"side": side, "code": held.code, "at": _iso(at)}
            for side, at, held in mine.brought
            if held.code is not None
        ],
        "redeemed": [
            {"id": one.id, "programme": one.programme, "reward": one.reward, "code": one.code}
            | {"state": one.state, "at": _iso(one.at)}
            for one in mine.redeemed
        ],
        "sold_out": sorted(mine.sold_out),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
