"""Referral programmes: what stands in `flows/programmes/NAME.yaml` under `kind: referral`.

Whoever shares a code is the referrer, whoever comes by it the referee. The file says how a referee is known
(`attribution`), what a referral must achieve (`qualifies`), what both get (`rewards`), how often (`caps`), and from
which suspicion on a person looks (`fraud`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from afterglow import dividing, strict_yaml
from afterglow.durations import Duration
from afterglow.expressions import Expression, Text, parse_text
from afterglow.language.compiling import Compiler, Path, whole
from afterglow.language.coupon import Coupon, CouponModel, CouponName, compile_coupons
from afterglow.problems import Problem

Method = Literal["code", "discount", "landing", "click"]
Period = Literal["day", "week", "month", "year", "ever"]

#: How a referee can be known, the surest first: a code that was typed, a discount code of the order, the address at
#: which the visit began, a click that was recorded.
METHODS: Final[tuple[Method, ...]] = ("code", "discount", "landing", "click")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _described(text: str, **options: Any) -> Any:
    return Field(description=text, **options)


class AttributionModel(_Model):
    """How a referee's referrer is known."""

    by: list[Method] = _described(
        "What shows whose friend somebody is; earlier ones count before later ones.",
        default_factory=lambda: list(METHODS),
        min_length=1,
    )
    window: str = _described("How long a touch counts; a qualifying event exactly then is too late.", default="30 days")
    touch: Literal["first", "last"] = _described("Which of several touches of one kind counts.", default="first")


class QualifiesModel(_Model):
    """What a referee must do for the referral to count."""

    on: str = _described("The event, such as `order.paid`.")
    when: str | None = _described("Only where this condition is true, such as `order.total >= 20`.", default=None)
    first_purchase: bool = _described("Only with the referee's first order.", default=True)
    hold: str | None = _described("How long to wait before the reward; the time for returns.", default=None)
    undone_by: str | list[str] = _described(
        "Events that undo it, such as `order.refunded`: before the reward, it ends; after, a person looks.",
        default_factory=list,
    )
    after_reward: Literal["review", "take back"] = _described(
        "What such an event does once the reward was given.", default="review"
    )


class GivesModel(_Model):
    """A reward: points or store credit of a loyalty programme, a coupon, or something that the shop gives itself."""

    programme: str | None = _described("The loyalty programme that the points or the credit belong to.", default=None)
    points: int | None = _described("How many points.", default=None, ge=1, le=10_000_000)
    credit: Decimal | None = _described("Store credit in the shop's currency, such as `10.00`.", default=None, gt=0)
    coupon: str | None = _described(
        "The name of a coupon: a code of its own for each as `coupons` says, or the name alone.", default=None
    )
    webhook: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)] | None = _described(
        "The name of something that the shop gives by itself when it is told to.", default=None
    )
    worth: Decimal | None = _described(
        "What it costs the shop, in its currency, such as `10.00`: boards count it.", default=None, gt=0
    )


class MilestoneModel(_Model):
    """A further reward for the referrer's so-manieth rewarded referral."""

    at: int = _described("At how many rewarded referrals.", ge=1, le=100_000)
    referrer: GivesModel = _described("What the referrer gets.")


class VariantModel(_Model):
    """One of several rewards that are tried against each other."""

    variant: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)] = _described(
        "Its name, for mails and reports."
    )
    weight: int = _described("Share of referrers, relative to the other variants.", default=1, ge=1, le=1000)
    referrer: GivesModel | None = _described("What the referrer gets.", default=None)
    referee: GivesModel | None = _described("What the referee gets.", default=None)


class RewardsModel(_Model):
    """What the two get."""

    referrer: GivesModel | None = _described("What the referrer gets.", default=None)
    referee: GivesModel | None = _described("What the referee gets.", default=None)
    variants: list[VariantModel] = _described(
        "Several rewards instead of one, divided by weight among referrers: each offers the same one for ever.",
        default_factory=list,
    )
    milestones: list[MilestoneModel] = _described("Further rewards for many referrals.", default_factory=list)


class CapsModel(_Model):
    """How often one referrer is rewarded. What goes beyond is recorded and not given."""

    referrer: int = _described("How many referrals of one referrer are rewarded.", ge=1, le=1_000_000)
    per: Period = _described("In which time, in the shop's zone: day, week, month, year, or ever.", default="ever")


class FraudModel(_Model):
    """From which suspicion (0 to 100) on a person looks, and what happens when nobody does."""

    review_from: int = _described("From this score on a person looks.", default=40, ge=1, le=100)
    reject_from: int = _described("From this score on it is rejected; a person can still approve it.", default=90, ge=1)
    on_deadline: Literal["hold", "reward", "reject"] = _described(
        "What happens to a referral that nobody looked at until the deadline.", default="hold"
    )
    deadline: str = _described("How long a review may take.", default="14 days")
    per_day: int = _described("More referrals of one referrer in 24 hours are suspicious.", default=10, ge=1)


class ShareModel(_Model):
    """What a customer passes on with the link, in their own name. They can change it before it is sent."""

    subject: str = _described("Subject of the mail.", default="Something from {{ shop.name }}")
    mail: str = _described(
        "Text of the mail, with `{{ link }}` in it.",
        default="Hi,\n\nI like what {{ shop.name }} makes, and thought of you. This link is from me:\n\n{{ link }}\n",
    )
    message: str = _described(
        "What is sent by WhatsApp and other messengers, with `{{ link }}` in it.",
        default="I like what {{ shop.name }} makes. This link is from me: {{ link }}",
    )


class ReferralModel(_Model):
    """A referral programme: friends bring friends."""

    programme: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)] = _described(
        "Name of the programme; the same as the file's."
    )
    kind: Literal["referral"] = _described("`referral`; a programme of the kind `loyalty` says other things.")
    about: str = _described("What it is for, in one line.")
    page: str | None = _described(
        "Where a referral link leads, on the shop's own site; the shop's `url` unless given.", default=None
    )
    attribution: AttributionModel = _described("How a referrer is known.", default_factory=AttributionModel)
    qualifies: QualifiesModel = _described("What a referee must do.")
    rewards: RewardsModel = _described("What the two get.")
    share: ShareModel = _described("What a customer passes on with the link.", default_factory=ShareModel)
    coupons: dict[CouponName, CouponModel] = _described(
        "By name, where the codes of coupons come from; what is not named here is a name in an event and no code.",
        default_factory=dict,
    )
    carries: CouponName | None = _described(
        "The coupon that a referral link puts into the friend's cart at Shopify; the referrer's code is its code.",
        default=None,
    )
    caps: CapsModel | None = _described("How often a referrer is rewarded; without it always.", default=None)
    fraud: FraudModel = _described("From which suspicion on a person looks.", default_factory=FraudModel)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gives:
    """A reward: `amount` of an asset in a loyalty programme, or a coupon or webhook of this name.

    Points are whole; credit is in the shop's major units, as the file says it. `worth` is what it costs the shop, in
    major units: of credit the credit itself, of points and coupons what the file says, nothing where it does not.
    """

    asset: Literal["points", "credit", "coupon", "webhook"]
    amount: Decimal = Decimal(1)
    programme: str | None = None
    coupon: str | None = None
    webhook: str | None = None
    worth: Decimal = Decimal(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What one part of the referrers, as large as the weight, offers their friends."""

    name: str
    weight: int
    referrer: Gives | None
    referee: Gives | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Milestone:
    """A further reward for the referrer's so-manieth rewarded referral."""

    at: int
    gives: Gives


@dataclass(frozen=True, kw_only=True, slots=True)
class Cap:
    """At most so many rewarded referrals of one referrer in a period."""

    most: int
    per: Period


@dataclass(frozen=True, kw_only=True, slots=True)
class Fraud:
    """Limits of the score, and what happens to a referral that nobody looked at."""

    review_from: int
    reject_from: int
    on_deadline: Literal["hold", "reward", "reject"]
    deadline: Duration
    per_day: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What a customer passes on with the link; see `afterglow.referring.sharing` for the names that it reads."""

    subject: Text
    mail: Text
    message: Text

    def parts(self) -> tuple[tuple[str, Text], ...]:
        """Each text by its key in the file."""
        return (("subject", self.subject), ("mail", self.mail), ("message", self.message))


#: What is passed on where the file says nothing.
SHARED: Final = Share(**{name: parse_text(text, functions=()) for name, text in ShareModel().model_dump().items()})


@dataclass(frozen=True, kw_only=True)
class ReferralProgramme:
    """A compiled referral programme."""

    name: str
    about: str
    page: str | None
    methods: tuple[Method, ...]
    window: Duration
    touch: Literal["first", "last"]
    on: str
    when: Expression | None
    first_purchase: bool
    hold: Duration
    undone_by: frozenset[str]
    after_reward: Literal["review", "take back"]
    referrer: Gives | None
    referee: Gives | None
    variants: tuple[Variant, ...]
    milestones: tuple[Milestone, ...]
    #: The coupons that have codes of their own.
    coupons: Mapping[str, Coupon]
    carries: Coupon | None
    cap: Cap | None
    fraud: Fraud
    share: Share
    document: strict_yaml.Document = field(repr=False, compare=False)

    def problem(self, path: Path, message: str) -> Problem:
        """A problem at a place of this programme's file."""
        return self.document.problem(path, message)

    def variant_of(self, referrer: int) -> str | None:
        """The variant that a referrer offers; None where there are none."""
        if not self.variants:
            return None
        share = dividing.share(self.name, "variants", referrer)
        return self.variants[dividing.way(share, [one.weight for one in self.variants])].name

    def sides(self, variant: str | None) -> tuple[Gives | None, Gives | None]:
        """What referrer and referee get under a variant that this file knows, or None."""
        for one in self.variants:
            if one.name == variant:
                return one.referrer, one.referee
        return self.referrer, self.referee

    @property
    def gives(self) -> Mapping[Path, Gives]:
        """Every reward of the file by its place."""
        found: dict[Path, Gives | None] = {
            ("rewards", "referrer"): self.referrer,
            ("rewards", "referee"): self.referee,
        }
        for n, one in enumerate(self.variants):
            found[("rewards", "variants", n, "referrer")] = one.referrer
            found[("rewards", "variants", n, "referee")] = one.referee
        for n, milestone in enumerate(self.milestones):
            found[("rewards", "milestones", n, "referrer")] = milestone.gives
        return {path: gives for path, gives in found.items() if gives is not None}


@lru_cache(maxsize=256)
def read_referral(text: str, file: str) -> ReferralProgramme:
    """Compile a referral programme's file.

    Raises:
      Problems: everything that is wrong with the file by itself, each with its place.
    """
    document = strict_yaml.load(text, file)
    return whole(sketch_referral(document, strict_yaml.validated(document, ReferralModel)))


def sketch_referral(
    document: strict_yaml.Document, model: ReferralModel
) -> tuple[ReferralProgramme, tuple[Problem, ...]]:
    """The programme as far as it compiles, and why the rest does not: whole where there are no problems."""
    compiler = _Compiler(document)
    return compiler.programme(model), tuple(compiler.problems)


class _Compiler(Compiler):
    def programme(self, model: ReferralModel) -> ReferralProgramme:
        qualifies, rewards, fraud = model.qualifies, model.rewards, model.fraud
        sides: list[RewardsModel | VariantModel] = [rewards, *rewards.variants]
        if not rewards.milestones and all(one.referrer is None and one.referee is None for one in sides):
            self.say(("rewards",), "Nobody gets anything: give the referrer, the referee or both a reward.")
        if fraud.reject_from <= fraud.review_from:
            self.say(("fraud", "reject_from"), "'reject_from' must be above 'review_from', or nobody ever looks.")
        if len(set(model.attribution.by)) < len(model.attribution.by):
            self.say(("attribution", "by"), "A way is named twice in 'by'; name each once.")
        if rewards.variants and (rewards.referrer is not None or rewards.referee is not None):
            self.say(("rewards", "variants"), "Variants stand instead of 'referrer' and 'referee'; take those away.")
        if len(rewards.variants) == 1:
            self.say(("rewards", "variants"), "One variant is nothing to choose from; name two or more, or none.")
        if len({one.variant for one in rewards.variants}) < len(rewards.variants):
            self.say(("rewards", "variants"), "Two variants have the same name.")
        ats = [one.at for one in rewards.milestones]
        if ats != sorted(set(ats)):
            self.say(("rewards", "milestones"), "Milestones stand in rising order of 'at', each number once.")
        undone_by = [qualifies.undone_by] if isinstance(qualifies.undone_by, str) else qualifies.undone_by
        if qualifies.on in undone_by:
            self.say(("qualifies", "undone_by"), f"'{qualifies.on}' cannot both qualify and undo; name another event.")
        coupons = self.coupons(model)
        return ReferralProgramme(
            name=model.programme,
            about=model.about,
            page=model.page,
            methods=tuple(model.attribution.by),
            window=self.length(model.attribution.window, ("attribution", "window")),
            touch=model.attribution.touch,
            on=qualifies.on,
            when=self.expression(qualifies.when, ("qualifies", "when")),
            first_purchase=qualifies.first_purchase,
            hold=self.length(qualifies.hold, ("qualifies", "hold")),
            undone_by=frozenset(undone_by),
            after_reward=qualifies.after_reward,
            referrer=self.gives(rewards.referrer, ("rewards", "referrer")),
            referee=self.gives(rewards.referee, ("rewards", "referee")),
            variants=tuple(
                Variant(
                    name=one.variant,
                    weight=one.weight,
                    referrer=self.gives(one.referrer, ("rewards", "variants", n, "referrer")),
                    referee=self.gives(one.referee, ("rewards", "variants", n, "referee")),
                )
                for n, one in enumerate(rewards.variants)
            ),
            milestones=tuple(
                Milestone(at=one.at, gives=gives)
                for n, one in enumerate(rewards.milestones)
                if (gives := self.gives(one.referrer, ("rewards", "milestones", n, "referrer"))) is not None
            ),
            coupons=coupons,
            carries=coupons.get(model.carries or ""),
            cap=Cap(most=model.caps.referrer, per=model.caps.per) if model.caps else None,
            fraud=Fraud(
                review_from=fraud.review_from,
                reject_from=fraud.reject_from,
                on_deadline=fraud.on_deadline,
                deadline=self.length(fraud.deadline, ("fraud", "deadline")),
                per_day=fraud.per_day,
            ),
            share=self.share(model.share),
            document=self.document,
        )

    def share(self, model: ShareModel) -> Share:
        made = {name: self.text(text, ("share", name)) for name, text in model.model_dump().items()}
        return Share(**{name: text or getattr(SHARED, name) for name, text in made.items()})

    def coupons(self, model: ReferralModel) -> Mapping[str, Coupon]:
        sides = [model.rewards.referrer, model.rewards.referee, *(one.referrer for one in model.rewards.milestones)]
        sides += [side for one in model.rewards.variants for side in (one.referrer, one.referee)]
        given = {one.coupon for one in sides if one is not None and one.coupon is not None}
        coupons = compile_coupons(self, model.coupons, given | ({model.carries} if model.carries else set()))
        if model.carries is not None:
            carried = coupons.get(model.carries)
            if carried is None or carried.provider != "shopify":
                message = (
                    f"A link carries a code of Shopify alone; say of '{model.carries}' under 'coupons' what it is, "
                )
                self.say(("carries",), message + "with `codes: shopify`.")
        return coupons

    def gives(self, model: GivesModel | None, path: Path) -> Gives | None:
        if model is None:
            return None
        given = [name for name in ("points", "credit", "coupon", "webhook") if getattr(model, name) is not None]
        if len(given) != 1:
            self.say(path, "A reward is one thing: 'points', 'credit', 'coupon' or 'webhook'.")
            return None
        worth = model.worth or Decimal(0)
        if given == ["credit"] and model.worth is not None:
            self.say((*path, "worth"), "Credit is worth itself; take 'worth' away.")
        if given in (["coupon"], ["webhook"]):
            if model.programme is not None:
                self.say((*path, "programme"), f"A {given[0]} belongs to no programme; take 'programme' away.")
            if model.webhook is not None:
                return Gives(asset="webhook", webhook=model.webhook, worth=worth)
            return Gives(asset="coupon", coupon=model.coupon, worth=worth)
        if model.programme is None:
            self.say(path, f"'{given[0]}' belongs to a loyalty programme; name it with 'programme'.")
            return None
        if model.points is not None:
            return Gives(asset="points", amount=Decimal(model.points), programme=model.programme, worth=worth)
        assert model.credit is not None
        return Gives(asset="credit", amount=model.credit, programme=model.programme, worth=model.credit)

    def length(self, text: str | None, path: Path) -> Duration:
        """A length of time; none at all where the file says nothing."""
        return (self.duration(text, path) if text is not None else None) or Duration()
