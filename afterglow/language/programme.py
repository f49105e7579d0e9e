"""Programme files of the kind `loyalty`: what earns points, how long they live, what they are worth.

A programme says what an event earns, and the ledger keeps it. Everything earned is for ever explained by the file it
was earned under, so a programme can be changed at any time without changing what was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from afterglow import strict_yaml
from afterglow.durations import Duration
from afterglow.expressions import Expression
from afterglow.language.compiling import Compiler, Path, whole
from afterglow.language.coupon import Coupon, CouponModel, CouponName, compile_coupons
from afterglow.local_time import from_wall
from afterglow.problems import Problem

Period = Literal["day", "week", "month", "year", "ever"]
Rounding = Literal["down", "nearest", "up"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
EventName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*$", max_length=100)]
#: More than any shop gives for anything; a larger number is a slip, and sums stay far inside 64 bits.
POINTS_MAX = 1_000_000_000

#: How long before points expire it is told, where the file does not say.
WARN = Duration(days=30)

Points = Annotated[int, Field(ge=1, le=POINTS_MAX)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _described(text: str, **options: Any) -> Any:
    return Field(description=text, **options)


class AtMostModel(_Model):
    """A limit on points in a period."""

    points: Points = _described("How many points at most.")
    per: Period = _described("In each day, week (from Monday), month or year of the shop's calendar, or ever.")


class TimesModel(_Model):
    """A multiplier, and when it applies: everything that is said must hold."""

    by: Decimal = _described("What the points are multiplied by, such as 1.5.", gt=1, le=100)
    tier: str | None = _described("Only for customers in this tier.", default=None)
    from_: date | None = Field(default=None, alias="from", description="From this day of the shop's calendar on.")
    until: date | None = _described("Until this day begins; the day itself no longer counts.", default=None)
    when: str | None = _described("Only where this condition is true.", default=None)


class EarnModel(_Model):
    """A rule: what an event earns."""

    id: Name = _described("Name of the rule; what was earned is explained by it.")
    on: EventName = _described("The event that earns.")
    when: str | None = _described("Only where this condition is true, such as `order.total >= 5`.", default=None)
    points: Points = _described("Points for each `per` of the amount; points for the event where there is no amount.")
    per: Decimal | None = _described("So much money, in major units, earns the points; 1 unless given.", default=None)
    amount: str | None = _described("The amount in major units of the shop's currency: `order.total`.", default=None)
    items: str | None = _described(
        'Only for items of the order for which this is true, such as `item.category == "beans"`.', default=None
    )
    round: Rounding = _described("What becomes of a part of a point: down, nearest (half up) or up.", default="down")
    times: list[TimesModel] = _described("Multipliers; the largest that applies counts.", default_factory=list)
    first_time: bool = _described("Only the first such event of each customer earns.", default=False)
    at_most: AtMostModel | None = _described("What one customer can earn by this rule at most.", default=None)


class HoldModel(_Model):
    """Until an event, but not for ever."""

    until: EventName = _described("The event that makes the points spendable, such as `order.delivered`.")
    at_most: str = _described("After which time they are spendable without it, such as `30 days`.")


class ExpiresModel(_Model):
    """When points expire: a time after they were earned, or a time in which the customer did nothing."""

    after: str | None = _described("How long after they were earned, such as `12 months`.", default=None)
    end_of: Literal["month", "quarter", "year"] | None = _described(
        "Only at the end of the month, quarter or year in which that is.", default=None
    )
    inactive: str | None = _described(
        "How long after the customer last earned or spent points, such as `12 months`.", default=None
    )
    warn: str = _described("How long before they expire the event `points.expiring` says so.", default="30 days")


class RefundsModel(_Model):
    """What gives points back to the shop."""

    on: EventName = _described("The event that tells of money returned, each time it is, such as `order.refunded`.")
    amount: str = _described("How much was returned this time, such as `refund.amount`.")
    of: str = _described("The whole amount that can be returned, in the event that earned.", default="order.total")
    policy: Literal["only_pending", "within_balance", "unlimited"] = _described(
        "How far it goes: points not yet spendable; all the customer has; or beyond, as a debt.",
        default="within_balance",
    )


class LevelModel(_Model):
    """One tier, and where it begins."""

    tier: Name = _described("Name of the tier.")
    from_: Decimal = Field(alias="from", ge=0, description="Points, or money in major units, from which on it is held.")


class NextLevelsModel(_Model):
    """Where the tiers begin from a day to come on."""

    from_: date = Field(alias="from", description="From this day of the shop's calendar on.")
    levels: list[LevelModel] = _described("The same tiers, where they begin then.", min_length=1)


class TiersModel(_Model):
    """Levels that customers reach by what they earn or spend."""

    by: Literal["points", "spend"] = _described("What counts: points earned, or money spent.", default="points")
    over: Literal["calendar year", "rolling 12 months", "lifetime"] = _described("The time in which it counts.")
    downgrade: Literal["one step", "to earned"] = _described(
        "How far a customer falls who no longer holds a tier.", default="one step"
    )
    grace: str = _described("How long a tier is kept after it is no longer held.", default="0 days")
    levels: list[LevelModel] = _described("The tiers, lowest first; the first begins at 0.", min_length=1)
    next: NextLevelsModel | None = _described("Where the tiers begin from a day to come on.", default=None)


class GivesModel(_Model):
    """What a reward is: one of these."""

    coupon: Name | None = _described(
        "A code of this coupon: as `coupons` says, or from the list of this name.", default=None
    )
    credit: Decimal | None = _described("Store credit, in major units of the shop's currency.", gt=0, default=None)
    perk: Name | None = _described("Something the shop gives by itself, by name.", default=None)


class RewardModel(_Model):
    """Something that points buy."""

    id: Name = _described("Name of the reward.")
    about: str = _described("What it is, as customers read it.")
    costs: Points = _described("How many points it costs.")
    gives: GivesModel = _described("A coupon, credit or a perk.")


class LoyaltyModel(_Model):
    """A loyalty programme: points for what customers do."""

    programme: Name = _described("Name of the programme; the same as the file's.")
    kind: Literal["loyalty"] = _described("`loyalty`; a programme of the kind `referral` says other things.")
    about: str = _described("What it is for, in one line.")
    asset: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)] = _described(
        "What is earned, such as `points`.", default="points"
    )
    earn: list[EarnModel] = _described("What earns points.", min_length=1)
    hold: str | HoldModel | None = _described(
        "How long points wait before they can be spent, such as `14 days`.", default=None
    )
    expires: Literal["never"] | ExpiresModel = _described("When points expire.", default="never")
    refunds: RefundsModel | None = _described("What takes points back.", default=None)
    budget: AtMostModel | None = _described("What all customers together can earn at most.", default=None)
    tiers: TiersModel | None = _described("Levels of customers.", default=None)
    rewards: list[RewardModel] = _described("What points buy.", default_factory=list)
    coupons: dict[CouponName, CouponModel] = _described(
        "By name, where the codes of coupons come from; from a list unless given.", default_factory=dict
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """At most so many points in each period of the shop's calendar."""

    points: int
    per: Period


@dataclass(frozen=True, kw_only=True, slots=True)
class Multiplier:
    """What points are multiplied by where all that is given holds. Days are of the shop's calendar, half-open."""

    by: Decimal
    tier: str | None
    first_day: date | None
    end_day: date | None
    when: Expression | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EarnRule:
    """What an event earns. `per` is None where the event earns the points whatever it was worth."""

    id: str
    event: str
    when: Expression | None
    points: int
    per: Decimal | None
    amount: Expression | None
    items: Expression | None
    rounding: Rounding
    multipliers: tuple[Multiplier, ...]
    first_time: bool
    at_most: Limit | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """How long points are pending: at most so long, and until an event where one is named."""

    at_most: Duration
    until: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Expiry:
    """When points expire: `after` they were earned, rounded up to the `end_of` something, or after inactivity."""

    after: Duration | None
    end_of: Literal["month", "quarter", "year"] | None
    inactive: Duration | None
    #: How long before that it is told.
    warn: Duration = WARN


@dataclass(frozen=True, kw_only=True, slots=True)
class Refunds:
    """Which event takes points back, by which share of what, and how far."""

    event: str
    amount: Expression
    of: Expression
    policy: Literal["only_pending", "within_balance", "unlimited"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """A tier; `starts_at` is in points, or in major units of money."""

    tier: str
    starts_at: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiers:
    """The tiers of a programme, lowest first."""

    by: Literal["points", "spend"]
    over: Literal["calendar year", "rolling 12 months", "lifetime"]
    one_step: bool
    grace: Duration
    levels: tuple[Level, ...]
    #: The first day of other levels with the same names, and those.
    next: tuple[date, tuple[Level, ...]] | None = None

    def at(self, moment: datetime, zone: ZoneInfo) -> "Tiers":
        """These tiers with the levels that hold at a moment."""
        starts_at = self.next_from(zone)
        if self.next is None or starts_at is None or moment < starts_at:
            return self
        return replace(self, levels=self.next[1], next=None)

    def next_from(self, zone: ZoneInfo) -> datetime | None:
        """The instant from which on other levels hold."""
        return None if self.next is None else from_wall(datetime.combine(self.next[0], time()), zone)

    @property
    def names(self) -> tuple[str, ...]:
        """The tiers' names, lowest first."""
        return tuple(level.tier for level in self.levels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reward:
    """What points buy; exactly one of `coupon`, `credit` (major units) and `perk` is given."""

    id: str
    about: str
    costs: int
    coupon: str | None
    credit: Decimal | None
    perk: str | None


@dataclass(frozen=True, kw_only=True)
class Programme:
    """A compiled loyalty programme."""

    name: str
    about: str
    asset: str
    earn: tuple[EarnRule, ...]
    hold: Hold | None
    expiry: Expiry | None
    refunds: Refunds | None
    budget: Limit | None
    tiers: Tiers | None
    rewards: Mapping[str, Reward]
    #: The coupons of which the file says more than the name.
    coupons: Mapping[str, Coupon]
    document: strict_yaml.Document = field(repr=False, compare=False)

    def problem(self, path: Path, message: str) -> Problem:
        """A problem at a place of this programme's file."""
        return self.document.problem(path, message)

    @property
    def events(self) -> frozenset[str]:
        """The events that mean something to it."""
        also = {self.hold.until if self.hold else None, self.refunds.event if self.refunds else None}
        return frozenset(rule.event for rule in self.earn) | {event for event in also if event is not None}


@lru_cache(maxsize=64)
def read_loyalty(text: str, file: str) -> Programme:
    """Compile a programme file of the kind `loyalty`.

    Raises:
      Problems: everything that is wrong with the file by itself, each with its place.
    """
    document = strict_yaml.load(text, file)
    return whole(sketch_loyalty(document, strict_yaml.validated(document, LoyaltyModel)))


def sketch_loyalty(document: strict_yaml.Document, model: LoyaltyModel) -> tuple[Programme, tuple[Problem, ...]]:
    """The programme as far as it compiles, and why the rest does not: whole where there are no problems."""
    compiler = _Compiler(document)
    return compiler.programme(model), tuple(compiler.problems)


class _Compiler(Compiler):
    """Compiles one programme."""

    def programme(self, model: LoyaltyModel) -> Programme:
        self.no_two(("earn",), "rules", [rule.id for rule in model.earn])
        self.no_two(("rewards",), "rewards", [reward.id for reward in model.rewards])
        programme = Programme(
            name=model.programme,
            about=model.about,
            asset=model.asset,
            earn=tuple(self.rule(rule, ("earn", n)) for n, rule in enumerate(model.earn)),
            hold=self.hold(model.hold),
            expiry=self.expiry(model.expires),
            refunds=self.refunds(model.refunds),
            budget=self.limit(model.budget),
            tiers=self.tiers(model.tiers),
            rewards={reward.id: self.reward(reward, ("rewards", n)) for n, reward in enumerate(model.rewards)},
            coupons=compile_coupons(
                self, model.coupons, [one.gives.coupon for one in model.rewards if one.gives.coupon is not None]
            ),
            document=self.document,
        )
        self.points_live_longer_than_they_wait(programme)
        return programme

    def no_two(self, path: Path, what: str, names: list[str], key: str = "id") -> None:
        for n, name in enumerate(names):
            if name in names[:n]:
                self.say((*path, n, key), f"Two {what} are called '{name}'; give this one another name.")

    def rule(self, model: EarnModel, path: Path) -> EarnRule:
        counts_money = model.amount is not None or model.items is not None
        if model.per is not None and not counts_money:
            self.say((*path, "per"), "`per` counts money: say of which amount, such as `amount: order.total`.")
        if model.per is not None and model.per <= 0:
            self.say((*path, "per"), "`per` is an amount of money and must be more than 0.")
        return EarnRule(
            id=model.id,
            event=model.on,
            when=self.expression(model.when, (*path, "when")),
            points=model.points,
            per=(model.per or Decimal(1)) if counts_money else None,
            amount=self.expression(model.amount, (*path, "amount")),
            items=self.expression(model.items, (*path, "items")),
            rounding=model.round,
            multipliers=tuple(self.multiplier(times, (*path, "times", n)) for n, times in enumerate(model.times)),
            first_time=model.first_time,
            at_most=self.limit(model.at_most),
        )

    def multiplier(self, model: TimesModel, path: Path) -> Multiplier:
        if model.from_ is not None and model.until is not None and model.until <= model.from_:
            self.say((*path, "until"), "This multiplier ends before it begins; `until` is the first day without it.")
        return Multiplier(
            by=model.by,
            tier=model.tier,
            first_day=model.from_,
            end_day=model.until,
            when=self.expression(model.when, (*path, "when")),
        )

    def hold(self, model: str | HoldModel | None) -> Hold | None:
        match model:
            case None:
                return None
            case HoldModel():
                at_most, path, until = model.at_most, ("hold", "at_most"), model.until
            case _:
                at_most, path, until = model, ("hold",), None  # type: ignore[assignment]
        duration = self.duration(at_most, path)
        return Hold(at_most=duration, until=until) if duration else None

    def expiry(self, model: str | ExpiresModel) -> Expiry | None:
        if not isinstance(model, ExpiresModel):
            return None
        if (model.after is None) == (model.inactive is None):
            self.say(("expires",), "Points expire `after` a time or after being `inactive`: give one of the two.")
        if model.end_of is not None and model.after is None:
            self.say(("expires", "end_of"), "`end_of` goes with `after`.")
        return Expiry(
            after=self.duration(model.after, ("expires", "after")) if model.after else None,
            end_of=model.end_of,
            inactive=self.duration(model.inactive, ("expires", "inactive")) if model.inactive else None,
            warn=self.duration(model.warn, ("expires", "warn")) or WARN,
        )

    def refunds(self, model: RefundsModel | None) -> Refunds | None:
        if model is None:
            return None
        amount = self.expression(model.amount, ("refunds", "amount"))
        of = self.expression(model.of, ("refunds", "of"))
        if amount is None or of is None:
            return None
        return Refunds(event=model.on, amount=amount, of=of, policy=model.policy)

    def limit(self, model: AtMostModel | None) -> Limit | None:
        return Limit(points=model.points, per=model.per) if model else None

    def tiers(self, model: TiersModel | None) -> Tiers | None:
        if model is None:
            return None
        levels = self.levels(model.levels, ("tiers", "levels"), model.by)
        following = None
        if model.next is not None:
            later = self.levels(model.next.levels, ("tiers", "next", "levels"), model.by)
            if [level.tier for level in later] != [level.tier for level in levels]:
                message = "The same tiers stand here in the same order; add or take away one by changing `levels`."
                self.say(("tiers", "next", "levels"), message)
            following = (model.next.from_, later)
        grace = self.duration(model.grace, ("tiers", "grace"))
        return Tiers(
            by=model.by,
            over=model.over,
            one_step=model.downgrade == "one step",
            grace=grace or Duration(),
            levels=levels,
            next=following,
        )

    def levels(self, model: list[LevelModel], path: Path, by: str) -> tuple[Level, ...]:
        self.no_two(path, "tiers", [level.tier for level in model], "tier")
        starts = [level.from_ for level in model]
        if starts[0] != 0:
            self.say((*path, 0, "from"), "The first tier begins at 0: everybody is in it.")
        for n, (before, start) in enumerate(pairwise(starts), 1):
            if start <= before:
                self.say((*path, n, "from"), "Tiers stand lowest first, each beginning higher than the one before.")
        for n, start in enumerate(starts):
            if by == "points" and start != start.to_integral_value():
                self.say((*path, n, "from"), "Points are whole numbers.")
        return tuple(Level(tier=level.tier, starts_at=level.from_) for level in model)

    def reward(self, model: RewardModel, path: Path) -> Reward:
        gives = model.gives
        if sum(given is not None for given in (gives.coupon, gives.credit, gives.perk)) != 1:
            self.say((*path, "gives"), "A reward gives a coupon, credit or a perk: one of the three.")
        return Reward(
            id=model.id,
            about=model.about,
            costs=model.costs,
            coupon=gives.coupon,
            credit=gives.credit,
            perk=gives.perk,
        )

    def points_live_longer_than_they_wait(self, programme: Programme) -> None:
        """Expiry counts from earning, as the hold does: points that expire before they can be spent are a slip."""
        hold, expiry = programme.hold, programme.expiry
        life = (expiry.after or expiry.inactive) if expiry else None
        if hold is not None and life is not None and _days(life) <= _days(hold.at_most):
            self.say(("expires",), "Points would expire before they can be spent; let them live longer than `hold`.")


def _days(duration: Duration) -> float:
    """About how long it is, for comparing two."""
    return duration.months * 30 + duration.days + duration.seconds / 86_400
