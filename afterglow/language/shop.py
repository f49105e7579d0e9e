"""`flows/shop.yaml` and `flows/stages.yaml`: what belongs to the brand, said once. Flows may only tighten it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from afterglow import strict_yaml
from afterglow.durations import Duration, parse_duration
from afterglow.language.compiling import Compiler, Path, whole
from afterglow.language.fetch import outside
from afterglow.language.rails import Blackout, BlackoutModel, Late, Loser, Rate, parse_rate
from afterglow.leaderboards import ALL, Calendar, Declared
from afterglow.leaderboards import Kind as SeasonKind
from afterglow.local_time import Quiet, known_zone
from afterglow.problems import Problem, Problems, did_you_mean

Kind = Literal["text", "number", "yes-no", "date"]
#: Of a field of an event; `check` says what is none, with what was meant.
FieldKind = Annotated[str, WithJsonSchema({"enum": ["text", "number", "yes-no", "date", "list"]})]

#: Currencies whose minor unit is not a hundredth (ISO 4217, list one).
_ZERO_DECIMALS = frozenset(
    [
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "ISK",
        "JPY",
        "KMF",
        "KRW",
        "PYG",
        "RWF",
        "UGX",
        "UYI",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    ]
)
_THREE_DECIMALS = frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"])


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class QuietModel(_Model):
    """Hours of the customer's day in which no marketing is sent."""

    from_: str = Field(alias="from", description='Start of the quiet hours, such as "21:00".')
    to: str = Field(description='End of the quiet hours, such as "08:00".')

    def compiled(self) -> Quiet:
        """The hours; ValueError where one is not a time of day."""
        return Quiet(start=_time(self.from_), end=_time(self.to))


class CapModel(_Model):
    """At most so many marketing messages to one customer in a sliding window."""

    at_most: int = Field(ge=1, description="How many messages.")
    within: str = Field(description="Length of the sliding window, such as `24 hours`.")

    def compiled(self) -> "Cap":
        """The cap; ValueError where the window is not a duration."""
        return Cap(at_most=self.at_most, window=exact(self.within), within=self.within)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cap:
    """At most `at_most` marketing messages in any `window`; a day is 24 hours and a month 30 days here."""

    at_most: int
    window: timedelta
    within: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Holdout:
    """A share of customers, between 0 and 1, who get no marketing, so that what it does can be seen; `text` says it."""

    share: float
    text: str


def parse_holdout(text: str | None) -> Holdout | None:
    """A holdout such as `5%` or `2.5%`, at most half of the customers; None where none is written.

    Raises ValueError with a sentence for the author of the file.
    """
    if text is None:
        return None
    found = _PERCENT.fullmatch(text.strip())
    share = Decimal(found[1]) / 100 if found else Decimal(0)
    if not 0 < share <= Decimal("0.5"):
        raise ValueError(f"'{text}' is not a share to hold out; write it as 5%, more than 0% and at most 50%.")
    return Holdout(share=float(share), text=text.strip())


_PERCENT: Final = re.compile(r"(\d{1,2}(?:\.\d{1,2})?)\s?%", re.ASCII)


class SenderModel(_Model):
    """Whom mails come from."""

    name: str = Field(description="The name that customers read.")
    address: str = Field(description="The address, such as hello@shop.example.")


class TopicModel(_Model):
    """A kind of marketing that a customer can allow or refuse."""

    label: str = Field(description="What customers read.")
    about: str | None = Field(default=None, description="One sentence for the unsubscribe page.")


class ExistingCustomersModel(_Model):
    """What who has bought may be written about without having agreed, as the law of some countries allows."""

    may_mail_about: list[str] = Field(default_factory=list, description="Topics; each a decision of the shop's own.")


class TeamModel(_Model):
    """People of the shop who can be notified."""

    address: str = Field(description="Where notes to them are sent.")


class AlarmsModel(_Model):
    """Whom alarms about sources are written to."""

    notify: str = Field(description="A team: told once when a source falls silent, or no longer brings a field.")


class DeclaredSeasonModel(_Model):
    """A season with dates of its own, such as a race in spring."""

    season: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="Its name, such as spring-race.")
    from_: str = Field(alias="from", description="Its first day, such as 2026-03-10.")
    until: str = Field(description="The first day that is no part of it any more.")

    def compiled(self) -> Declared:
        """The season; ValueError where a day is none, or it ends before it begins."""
        first, until = _day(self.from_), _day(self.until)
        if self.season == ALL or self.season.startswith(("this-", "last-")):
            raise ValueError(f"'{self.season}' means another period already; give the season another name.")
        if until <= first:
            raise ValueError(f"The season '{self.season}' ends before it begins; `until` is the day after its last.")
        return Declared(name=self.season, first=first, until=until)


class LeaderboardsModel(_Model):
    """Which seasons leaderboards have, and who reads of them."""

    seasons: list[SeasonKind] = Field(
        default=["week", "month"],
        description="A board for each of these, beside that of all time. One that is added begins empty.",
    )
    declared: list[DeclaredSeasonModel] = Field(default_factory=list, description="Seasons with dates of their own.")
    settle: str = Field(default="3 days", description="How long after its end a season is sealed.")
    digest: str | None = Field(default=None, description="A team that gets the week's boards on Monday at 08:00.")


class WebhookModel(_Model):
    """Where another system hears of what happens here."""

    url: str = Field(description="Where it takes requests: https and a host's name.")
    secret: str = Field(
        pattern=r"^[A-Z][A-Z0-9_]*$",
        description="The environment variable that holds the secret: whsec_ and base64, as Standard Webhooks says.",
    )

    @field_validator("url")
    @classmethod
    def _url_is_outside(cls, url: str) -> str:
        return outside("url", url)

    @property
    def is_local(self) -> bool:
        """Whether it leads to this machine, as in tests; only a setting allows that."""
        return self.url.startswith("http://")


class AccountsModel(_Model):
    """Companies whose people are customers."""

    roles: list[str] = Field(default_factory=list, description="What somebody can be there, such as decision-maker.")
    attributes: dict[str, Kind] = Field(default_factory=dict, description="Further facts about companies.")


class ShopModel(_Model):
    """The brand and its rails."""

    name: str = Field(description="The brand's name.")
    url: str = Field(description="The shop's address on the web.")
    sender: SenderModel = Field(description="Whom mails come from.")
    reply_to: str | None = Field(default=None, description="Where answers go; the sender's address unless given.")
    postal_address: str = Field(description="Stands at the foot of every marketing mail.")
    currency: str = Field(description="ISO 4217 code, such as EUR.", pattern=r"^[A-Z]{3}$")
    timezone: str = Field(description="IANA name, such as Europe/Berlin; used where a customer's own is not known.")
    locale: str = Field(default="en", description="Such as en or fr.")
    colour: str = Field(default="#1f2937", pattern=r"^#[0-9a-fA-F]{6}$", description="The brand's colour.")
    logo_text: str | None = Field(default=None, description="The wordmark, where it differs from the name.")
    order_event: str = Field(default="order.paid", description="The event that counts as an order.")
    review_url: str | None = Field(default=None, description="Where reviews are written.")
    links: dict[str, str] = Field(default_factory=dict, description="Addresses that templates may use by name.")
    topics: dict[str, TopicModel] = Field(
        default_factory=dict, description="Kinds of marketing that customers can allow or refuse, by name."
    )
    existing_customers: ExistingCustomersModel = Field(
        default_factory=ExistingCustomersModel,
        description="Marketing to customers who bought and said neither yes nor no; none unless stated.",
    )
    teams: dict[str, TeamModel] = Field(default_factory=dict, description="Who can be notified, by name.")
    alarms: AlarmsModel | None = Field(default=None, description="Who is told when a source needs somebody.")
    leaderboards: LeaderboardsModel = Field(
        default_factory=LeaderboardsModel, description="Which seasons leaderboards have, and who reads of them."
    )
    reward_webhook: WebhookModel | None = Field(
        default=None, description="Where rewards of the kind `webhook` are posted to."
    )
    webhooks: dict[str, WebhookModel] = Field(
        default_factory=dict, description="Other systems that flows can tell of something, by name."
    )
    quiet_hours: QuietModel | None = Field(
        default=None, description="Hours of the customer's day in which no marketing is sent."
    )
    caps: list[CapModel] = Field(default_factory=list, description="Limits on marketing to one customer.")
    holdout: str | None = Field(
        default=None,
        description="Share of customers who get no marketing of any flow, to measure all of it, such as `2%`.",
    )
    blackout: list[BlackoutModel] = Field(
        default_factory=list, description="Days without marketing; it goes once they are over."
    )
    rate: str | None = Field(
        default=None, description="How much marketing goes to all customers together at most, such as `2,000 per hour`."
    )
    keep_for: str = Field(default="3 days", description="How long a marketing mail may wait for its turn.")
    late: Late = Field(
        default="send",
        description="What becomes of marketing that an outage delayed by more than an hour: it goes all the same, "
        "waits for the next time that its flow names, or is skipped.",
    )
    priority: list[str] = Field(default_factory=list, description="Flows, first wins; the others come after.")
    loser: Loser = Field(
        default="defer", description="What becomes of marketing that finds a cap full: it waits, or is skipped."
    )
    match_by_phone: bool = Field(
        default=False, description="Whether one phone number is one customer, as an address is; families share numbers."
    )
    attributes: dict[str, Kind] = Field(default_factory=dict, description="Further facts about customers.")
    accounts: AccountsModel | None = Field(
        default=None, description="Where customers buy for companies: their roles there, and facts about companies."
    )
    owners: dict[str, str] = Field(
        default_factory=dict,
        description="Which source an event is taken from, where several tell of it: an event or a family, such as "
        "`order`, and the source.",
    )
    events: dict[str, dict[str, FieldKind]] = Field(
        default_factory=dict, description="Events that come by the API: name, then each field and its kind."
    )


@dataclass(frozen=True, kw_only=True)
class Shop:
    """The brand and its rails, compiled."""

    model: ShopModel
    zone: ZoneInfo
    quiet_hours: Quiet | None
    caps: tuple[Cap, ...]
    blackouts: tuple[Blackout, ...]
    rate: Rate | None
    keep_for: Duration
    holdout: Holdout | None
    #: The seasons of its leaderboards.
    calendar: Calendar = field(repr=False)
    #: What expressions and templates know as `shop`.
    facts: Mapping[str, object] = field(repr=False)
    document: strict_yaml.Document = field(repr=False, compare=False)

    @property
    def topics_of_existing_customers(self) -> frozenset[str]:
        """The topics on which who has bought may be written to without having agreed."""
        return frozenset(self.model.existing_customers.may_mail_about)

    def rank(self, flow: str) -> int:
        """The flow's place in the order of priority; flows that are not listed come last."""
        order = self.model.priority
        return order.index(flow) if flow in order else len(order)

    def owner(self, event: str) -> str | None:
        """The source whose word counts for an event; None where any source's does."""
        owners = self.model.owners
        return owners.get(event) or owners.get(event.partition(".")[0])

    @property
    def attributes(self) -> Mapping[str, Kind]:
        """Further facts about customers, and their role where they buy for companies."""
        role: dict[str, Kind] = {"role": "text"} if self.model.accounts is not None else {}
        return {**self.model.attributes, **role}

    @property
    def digits(self) -> int:
        """How many decimals the shop's currency has."""
        return minor_digits(self.model.currency)

    def to_minor(self, amount: Decimal) -> int:
        """Major units of the shop's currency as whole minor units."""
        return int((amount * 10**self.digits).to_integral_value())

    def to_major(self, minor: int) -> Decimal:
        """Whole minor units as exact major units."""
        return Decimal(minor).scaleb(-self.digits)


def minor_digits(currency: str) -> int:
    """How many decimals the currency has (ISO 4217)."""
    return 0 if currency in _ZERO_DECIMALS else 3 if currency in _THREE_DECIMALS else 2


@lru_cache(maxsize=8)
def read_shop(text: str, file: str) -> Shop:
    """Compile shop.yaml.

    Raises:
      Problems: everything that is wrong with it, each with its place.
    """
    document = strict_yaml.load(text, file)
    return whole(sketch_shop(document, strict_yaml.validated(document, ShopModel)))


def sketch_shop(document: strict_yaml.Document, model: ShopModel) -> tuple[Shop, tuple[Problem, ...]]:
    """The shop as far as it compiles, and why the rest does not: whole where there are no problems."""
    compiler = Compiler(document)
    attempt: Callable[[Path, Callable[[], Any]], Any] = compiler.collected
    zone = known_zone(model.timezone)
    if zone is None:
        meant = did_you_mean(model.timezone, available_timezones())
        message = f"'{model.timezone}' is not a time zone; write it as Europe/Berlin.{meant}"
        compiler.say(("timezone",), message)

    if model.alarms is not None and (team := model.alarms.notify) not in model.teams:
        message = f"There is no team '{team}'.{did_you_mean(team, model.teams)}"
        compiler.say(("alarms", "notify"), message)

    if (reader := model.leaderboards.digest) is not None and reader not in model.teams:
        message = f"There is no team '{reader}'.{did_you_mean(reader, model.teams)}"
        compiler.say(("leaderboards", "digest"), message)

    quiet = attempt(("quiet_hours",), model.quiet_hours.compiled) if model.quiet_hours else None
    caps = tuple(attempt(("caps", n), cap.compiled) for n, cap in enumerate(model.caps))
    blackouts = tuple(attempt(("blackout", n, "days"), one.compiled) for n, one in enumerate(model.blackout))
    given = model.rate
    rate = attempt(("rate",), lambda: parse_rate(given)) if given is not None else None
    keep_for = attempt(("keep_for",), lambda: parse_duration(model.keep_for))
    holdout = attempt(("holdout",), lambda: parse_holdout(model.holdout))
    boards = model.leaderboards
    declared = tuple(attempt(("leaderboards", "declared", n), one.compiled) for n, one in enumerate(boards.declared))
    settle = attempt(("leaderboards", "settle"), lambda: exact(boards.settle))
    facts = model.model_dump(
        include={"name", "url", "postal_address", "currency", "timezone", "locale", "colour", "review_url"}
    )
    facts |= {
        "logo_text": model.logo_text or model.name,
        "links": dict(model.links),
        "reply_to": model.reply_to,
    }
    zone = zone or ZoneInfo("UTC")
    shop = Shop(
        model=model,
        zone=zone,
        quiet_hours=quiet,
        caps=caps,
        blackouts=blackouts,
        rate=rate,
        keep_for=keep_for,
        holdout=holdout,
        calendar=Calendar(zone=zone, kinds=tuple(boards.seasons), declared=declared, settle=settle),
        facts=facts,
        document=document,
    )
    return shop, tuple(compiler.problems)


class StageModel(_Model):
    """One stage of the customer's journey."""

    stage: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Its name, such as purchase.")
    about: str | None = Field(default=None, description="What it means, in one line.")


class StagesModel(_Model):
    """The stages, as a loop: after the last comes the first."""

    stages: list[StageModel] = Field(min_length=1, description="The stages in order; after the last comes the first.")


@lru_cache(maxsize=8)
def read_stages(text: str, file: str) -> tuple[StageModel, ...]:
    """The stages in order.

    Raises:
      Problems: everything that is wrong with the file.
    """
    document = strict_yaml.load(text, file)
    model = strict_yaml.validated(document, StagesModel)
    names = [stage.stage for stage in model.stages]
    twice = tuple(
        document.problem(("stages", n, "stage"), f"The stage '{name}' stands here twice.")
        for n, name in enumerate(names)
        if name in names[:n]
    )
    if twice:
        raise Problems(twice)
    return tuple(model.stages)


def _time(text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a time of day; write it as \"21:00\".") from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a day; write it as 2026-03-10.") from None


@lru_cache(maxsize=1024)
def exact(text: str) -> timedelta:
    """A duration as a length of time; a day is 24 hours and a month 30 days here."""
    duration = parse_duration(text)
    return timedelta(days=duration.days + 30 * duration.months, seconds=duration.seconds)
