"""The `tests` of a flow file: what stands in the YAML, and what it is compiled to.

A test is a customer, what happens to them, and what must come of it. `afterglow.testing` lives it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from afterglow import strict_yaml
from afterglow.durations import Duration
from afterglow.language.compiling import Compiler, Path
from afterglow.local_time import from_wall, known_zone
from afterglow.problems import Problems

Word = Literal["granted", "withdrawn"]

_UTC: Final = ZoneInfo("UTC")
#: What an expectation can be of, as it is written.
KINDS: Final = (
    *("send", "notify", "skipped", "stopped", "finished"),
    *("award", "redeem", "set", "move", "start", "stop_flow", "webhook"),
)


#: Where a kind is called otherwise in Python.
_FIELDS: Final = {"set": "set_"}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CustomerModel(BaseModel):
    """Who the customer of a test is when it begins; attributes of shop.yaml stand here too."""

    model_config = ConfigDict(extra="allow", frozen=True, title="customer of a test")

    first_name: str | None = Field(default=None, description="Nobody knows it unless given.")
    last_name: str | None = Field(default=None, description="Nobody knows it unless given.")
    email: str | None = Field(default="customer@shop.example", description="`null`: no address is known.")
    phone: str | None = Field(default=None, description="Such as +33123456789.")
    locale: str | None = Field(default=None, description="Such as fr-CA.")
    timezone: str | None = Field(default=None, description="IANA name, such as Europe/Paris; unless given, the shop's.")
    country: str | None = Field(default=None, description="ISO 3166 code or English name.")
    region: str | None = Field(default=None, description="State or province of that country.")
    stage: str | None = Field(default=None, description="The stage they were in before.")
    orders: int = Field(default=0, ge=0, description="How many orders they had before.")
    tags: list[str] = Field(default_factory=list, description="Tags they had before.")
    spent: int = Field(default=0, ge=0, description="What those came to, in whole units of the shop's currency.")
    consent: Literal["granted", "withdrawn", "none"] | dict[str, Word] = Field(
        default="granted", description="To all marketing, unless given; or by topic, such as `{news: withdrawn}`."
    )


class HappensModel(BaseModel):
    """Something that happens to the customer of a test; keys that are not listed are what the event carries."""

    model_config = ConfigDict(extra="allow", frozen=True, title="line of a timeline")

    at: str | None = Field(default=None, description='On the customer\'s clock, such as "2026-03-02 09:00".')
    after: str | None = Field(default=None, description="So long after the line before, such as `4 days`.")
    event: str | None = Field(default=None, description="The event, such as order.paid.")
    by: str | None = Field(
        default=None, description="That it was somebody else of the account who did it: the role that they have there."
    )
    stage: str | None = Field(
        default=None, description="The stage entered; unless given, the one that sources say the event brings."
    )
    customer: dict[str, Any] = Field(default_factory=dict, description="What becomes known about the customer by it.")
    consent: Word | dict[str, Word] | None = Field(
        default=None, description="What the customer says about all marketing, or by topic."
    )


class ExpectedModel(_Model):
    """Something that must happen, or must never."""

    model_config = ConfigDict(title="expectation")

    at: str | None = Field(default=None, description='On the customer\'s clock, such as "2026-03-02 09:00".')
    send: str | None = Field(default=None, description="A mail that goes to the customer, such as `email/thank-you`.")
    notify: str | None = Field(default=None, description="A note that goes to this team.")
    task: str | None = Field(default=None, description="Beside `notify`: the task that the note tells of.")
    due: str | None = Field(default=None, description="Beside `task`: the day by which it is due, such as 2026-03-04.")
    skipped: str | None = Field(default=None, description="A mail that was due and does not go.")
    stopped: str | None = Field(default=None, description="The event by which the run is stopped.")
    finished: str | None = Field(default=None, description="The flow whose run comes to its end.")
    award: int | None = Field(default=None, description="So many points are awarded.")
    redeem: str | None = Field(default=None, description="A reward that is asked for.")
    set_: str | None = Field(alias="set", default=None, description="An attribute that is set, or `tags`.")
    move: str | None = Field(default=None, description="The stage that the customer is moved to.")
    start: str | None = Field(default=None, description="The flow that is asked to start.")
    stop_flow: str | None = Field(default=None, description="The flow whose runs are ended.")
    webhook: str | None = Field(default=None, description="The system that is told.")


class FlowTestModel(_Model):
    """A test of a flow: a customer, what happens to them, and what must come of it."""

    model_config = ConfigDict(title="test")

    name: str = Field(min_length=1, description="What it promises, in words.")
    customer: CustomerModel = Field(default_factory=CustomerModel, description="Who it is about.")
    account: dict[str, Any] | None = Field(
        default=None, description="The company that they buy for: its `name`, and what shop.yaml declares of companies."
    )
    splits: dict[str, str] = Field(
        default_factory=dict, description="Which branch of each split this customer falls into, by the step's id."
    )
    beside: list[str] = Field(
        default_factory=list, description="Other flows that run too: for caps, priority, and who stops whom."
    )
    timeline: list[HappensModel] = Field(min_length=1, description="What happens, in order of time.")
    expect: list[ExpectedModel] | None = Field(
        default=None,
        description="All mails and notes that go, in any order. Of everything else all of a kind, as soon as one is "
        "listed.",
    )
    never: list[ExpectedModel] = Field(default_factory=list, description="What must not happen, whenever.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Says:
    """What somebody says about a topic ("*": all marketing)."""

    topic: str
    state: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Happens:
    """Something that happens: `at` a moment of the customer's wall, or so long `after` the line before."""

    path: Path
    at: datetime | None
    after: Duration | None
    event: str
    stage: str | None
    customer: Mapping[str, Any]
    consents: tuple[Says, ...]
    payload: Mapping[str, Any]
    #: The role of whoever else of the account did it; None: the customer.
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """Something of a kind (`KINDS`) that must happen, at the minute `at` of the customer's wall; or must never."""

    path: Path
    at: datetime | None
    kind: str
    what: str
    #: Of a note to a team: the task, and the day by which it is due. None: whatever they are.
    task: str | None = None
    due: date | None = None


@dataclass(frozen=True, kw_only=True)
class FlowTest:
    """A compiled test. `expect` is None where only what is in `never` matters."""

    name: str
    path: Path
    customer: Mapping[str, Any]
    orders: int
    spent: int
    stage: str | None
    tags: tuple[str, ...]
    consents: tuple[Says, ...]
    splits: Mapping[str, str]
    beside: tuple[str, ...]
    timeline: tuple[Happens, ...]
    expect: tuple[Expected, ...] | None
    never: tuple[Expected, ...] = field(default=())
    #: The company that the customer buys for; None: for none.
    account: Mapping[str, Any] | None = None


def compile_tests(compiler: Compiler, models: Sequence[FlowTestModel]) -> tuple[FlowTest, ...]:
    """Compile the tests of one flow; what is wrong is noted with the compiler."""
    tests = []
    seen: set[str] = set()
    for n, model in enumerate(models):
        path: Path = ("tests", n)
        if model.name in seen:
            compiler.say((*path, "name"), f"Two tests of this flow are called '{model.name}'; give this another name.")
        seen.add(model.name)
        tests.append(_Reader(compiler).test(model, path))
    return tuple(tests)


def without_tests(document: strict_yaml.Document) -> str:
    """The text of a flow file without its tests, every other line in its place.

    This is what is put into force: another test is no other version of the flow, for which people would have to move.
    """
    data, text = document.data, document.text
    if not isinstance(data, dict) or "tests" not in data:
        return text
    lines = text.splitlines(keepends=True)
    begins, _ = document.key_place(("tests",))
    after = [line for key in data if (line := document.key_place((key,))[0]) > begins]
    kept = [*lines[: begins - 1], *(["\n"] * (min(after) - begins) + lines[min(after) - 1 :] if after else [])]
    rest = "".join(kept)
    try:
        is_same = _data(rest, document.file) == {k: v for k, v in data.items() if k != "tests"}
    except Problems:
        is_same = False
    return rest if is_same else text  # of a file in braces the tests cannot be cut out by lines


@lru_cache(maxsize=512)  # a file is compiled again and again: checked, planned and applied
def _data(text: str, file: str) -> object:
    return strict_yaml.load(text, file).data


class _Reader:
    """Compiles one test."""

    def __init__(self, compiler: Compiler) -> None:
        self.compiler = compiler

    def test(self, model: FlowTestModel, path: Path) -> FlowTest:
        who = model.customer
        if who.timezone is not None and known_zone(who.timezone) is None:
            message = f"'{who.timezone}' is not a time zone; write it as Europe/Berlin."
            self.compiler.say((*path, "customer", "timezone"), message)
        if model.expect is None and not model.never:
            self.compiler.say(path, "This test expects nothing: say what must come of it with `expect` or `never`.")
        return FlowTest(
            name=model.name,
            path=path,
            customer=who.model_dump(exclude={"orders", "spent", "stage", "consent", "tags"}),
            orders=who.orders,
            spent=who.spent,
            stage=who.stage,
            tags=tuple(who.tags),
            consents=() if who.consent == "none" else _says(who.consent),
            account=model.account,
            splits=model.splits,
            beside=tuple(model.beside),
            timeline=self.timeline(model.timeline, (*path, "timeline")),
            expect=None
            if model.expect is None
            else tuple(self.expected(one, (*path, "expect", n), timed=True) for n, one in enumerate(model.expect)),
            never=tuple(self.expected(one, (*path, "never", n), timed=False) for n, one in enumerate(model.never)),
        )

    def timeline(self, models: Sequence[HappensModel], path: Path) -> tuple[Happens, ...]:
        lines = []
        before: datetime | None = None
        for n, model in enumerate(models):
            line = self.happens(model, (*path, n), is_first=n == 0)
            moment = from_wall(line.at, _UTC) if line.at else None
            if moment is None and line.after is not None and before is not None:
                moment = line.after.after(before, _UTC)
            if moment is not None and before is not None and moment < before:
                self.compiler.say((*path, n, "at"), "This happens before the line above it; put the lines in order.")
            before = moment or before
            lines.append(line)
        return tuple(lines)

    def happens(self, model: HappensModel, path: Path, *, is_first: bool) -> Happens:
        if (model.at is None) == (model.after is None):
            self.compiler.say(path, 'Say when: `at: "2026-03-02 09:00"`, or `after: 4 days` since the line before.')
        elif is_first and model.after is not None:
            self.compiler.say((*path, "after"), 'The first line says when it is: `at: "2026-03-02 09:00"`.')
        if model.event is None and model.stage is None and not model.customer and model.consent is None:
            self.compiler.say(path, "Say what happens: an `event`, a `stage`, a `consent`, or news of the `customer`.")
        said = _says(model.consent) if model.consent is not None else ()
        return Happens(
            path=path,
            at=self.wall(model.at, (*path, "at")),
            after=self.compiler.duration(model.after, (*path, "after")) if model.after is not None else None,
            event=model.event or _event_of(model),
            stage=model.stage,
            customer=model.customer,
            consents=said,
            payload=dict(model.model_extra or {}),
            by=model.by,
        )

    def expected(self, model: ExpectedModel, path: Path, *, timed: bool) -> Expected:
        given = {kind: what for kind in KINDS if (what := getattr(model, _FIELDS.get(kind, kind))) is not None}
        if len(given) != 1:
            self.compiler.say(path, f"One expectation is of one thing: {', '.join(KINDS)}.")
        if timed and model.at is None:
            self.compiler.say(path, 'Say when this is expected: `at: "2026-03-02 09:00"`, on the customer\'s clock.')
        if not timed and model.at is not None:
            self.compiler.say((*path, "at"), "What must never happen must not happen at any time; leave out `at`.")
        kind, what = next(iter(given.items()), ("send", ""))
        if model.task is not None and kind != "notify":
            self.compiler.say((*path, "task"), "A task stands beside `notify`, with the team that has to do it.")
        return Expected(
            path=path,
            at=self.wall(model.at, (*path, "at")),
            kind=kind,
            what=str(what),
            task=model.task,
            due=self.due(model, (*path, "due")),
        )

    def due(self, model: ExpectedModel, path: Path) -> date | None:
        if model.due is None:
            return None
        if model.task is None:
            self.compiler.say(path, "Only a task is due: write it beside `task`.")
        try:
            return date.fromisoformat(model.due)
        except ValueError:
            self.compiler.say(path, f"There is no day '{model.due}'; write it as 2026-03-04.")
            return None

    def wall(self, text: str | None, path: Path) -> datetime | None:
        if text is None:
            return None
        try:
            return datetime.strptime(text, "%Y-%m-%d %H:%M")
        except ValueError:
            self.compiler.say(path, f"'{text}' is not a moment; write it as \"2026-03-02 09:00\".")
            return None


def _says(consent: str | Mapping[str, str]) -> tuple[Says, ...]:
    if isinstance(consent, str):
        return (Says(topic="*", state=consent),)
    return tuple(Says(topic=topic, state=state) for topic, state in consent.items())


#: What lines are called that name no event.
UNNAMED: Final = frozenset({"stage.entered", "consent.withdrawn", "consent.granted", "customer.updated"})


def _event_of(model: HappensModel) -> str:
    """What a line is called in which the stage, the word on consent or the news is all that matters."""
    if model.stage is not None:
        return "stage.entered"
    if model.consent is not None:
        return "consent.withdrawn" if model.consent == "withdrawn" else "consent.granted"
    return "customer.updated"
