"""What a referral brings to whom: the two sides, milestones, and caps with what they cut off.

A referrer's rewarded referrals are counted one after the other, with the referrer locked. What a cap cuts off is a
grant of nothing, so that it is recorded. A milestone stands as long as the count reaches it: it is taken back when
referrals are undone, and can be earned again, each time as a further generation (UNIQUE on the milestone alone would
keep it away for ever).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from afterglow.durations import Duration
from afterglow.language.referral import Gives, Period, ReferralProgramme
from afterglow.local_time import from_wall


class Side(StrEnum):
    """For what somebody is rewarded."""

    REFERRER = "referrer"
    REFEREE = "referee"
    MILESTONE = "milestone"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """How a referrer stands before a referral is rewarded.

    Attributes:
      rewarded: all referrals of theirs that are rewarded, whether or not a cap cut the reward off.
      in_period: of those, the ones whose reward was given in the cap's present period.
      standing: the milestones that they have now.
      generations: how often each milestone was given to them so far.
    """

    rewarded: int
    in_period: int = 0
    standing: frozenset[int] = frozenset()
    generations: Mapping[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """A reward of one side; not `given` where a cap cut it off."""

    side: Side
    customer: int
    gives: Gives
    given: bool = True
    milestone: int = 0
    #: Which time this milestone, or this side of this referral, is rewarded.
    generation: int = 1


def grants(
    programme: ReferralProgramme,
    *,
    referrer: int,
    referee: int,
    tally: Tally,
    generation: int = 1,
    variant: str | None = None,
) -> list[Grant]:
    """What one more rewarded referral brings.

    Args:
      generation: which time this referral is rewarded; above 1 where an undone one was approved after all.
      variant: of the programme's rewards, that the referrer offered.
    """
    made: list[Grant] = []
    of_referrer, of_referee = programme.sides(variant)
    if of_referrer is not None:
        under = programme.cap is None or tally.in_period < programme.cap.most
        made.append(
            Grant(
                side=Side.REFERRER,
                customer=referrer,
                gives=of_referrer,
                given=under,
                generation=generation,
            )
        )
    if of_referee is not None:
        made.append(Grant(side=Side.REFEREE, customer=referee, gives=of_referee, generation=generation))
    for milestone in programme.milestones:
        if milestone.at <= tally.rewarded + 1 and milestone.at not in tally.standing:
            made.append(
                Grant(
                    side=Side.MILESTONE,
                    customer=referrer,
                    gives=milestone.gives,
                    milestone=milestone.at,
                    generation=tally.generations.get(milestone.at, 0) + 1,
                )
            )
    return made


def lost(standing: Collection[int], rewarded: int) -> list[int]:
    """The milestones that no longer stand where so many rewarded referrals are left."""
    return sorted(at for at in standing if at > rewarded)


def period(at: datetime, per: Period, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
    """The cap's period around an instant, half-open, on the calendar of the shop's zone; None for `ever`.

    Weeks begin on Monday.
    """
    if per == "ever":
        return None
    day = at.astimezone(zone).date()
    first, length = {
        "day": (day, Duration(days=1)),
        "week": (day - timedelta(days=day.weekday()), Duration(days=7)),
        "month": (day.replace(day=1), Duration(months=1)),
        "year": (day.replace(month=1, day=1), Duration(months=12)),
    }[per]
    begins, ends = (from_wall(datetime.combine(one, time()), zone) for one in (first, length.on_calendar(first)))
    return begins, ends
