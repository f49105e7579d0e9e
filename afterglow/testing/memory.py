"""What production keeps in tables while a customer lives, in memory: the person, events, runs, and what is queued."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any, Final
from zoneinfo import ZoneInfo

from afterglow import pacing, past, rails, telling
from afterglow.acting import Action
from afterglow.decide import Event, Facts, Run, answer_of
from afterglow.errors import AfterglowError
from afterglow.language.catalog import Catalog
from afterglow.language.flow.graph import Flow
from afterglow.letters import Letterhead
from afterglow.mail_templates import Rendered
from afterglow.mapping import Mapped
from afterglow.person import Person
from afterglow.telling import Line, Message

#: Who tells of what happens in a test.
SOURCE: Final = "test"


class CannotLiveError(AfterglowError):
    """A test cannot be lived as it is written; the sentence says why."""


@dataclass(frozen=True, kw_only=True)
class ShopUnderTest:
    """A shop whose flows are tested: what is worked out once for all of its tests."""

    catalog: Catalog
    secret: bytes = b"links in tests lead nowhere"

    @cached_property
    def head(self) -> Letterhead:
        """What all letters share."""
        shop = self.catalog.shop
        return Letterhead(shop=shop, public_url=shop.model.url, private_url=shop.model.url, secret=self.secret)

    @cached_property
    def stages(self) -> Mapping[str, str]:
        """The stage that each event brings, as sources say; where several do, the one whose word counts."""
        found: dict[str, set[str]] = {}
        for source in self.catalog.sources.values():
            for rule in source.events:
                named = isinstance(rule.event, str) and isinstance(rule.stage, str)
                if named and self.catalog.shop.owner(str(rule.event)) in (None, source.name):
                    found.setdefault(str(rule.event), set()).add(str(rule.stage))
        return {event: next(iter(stages)) for event, stages in found.items() if len(stages) == 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One thing that a run did, and when: a decision as it is stored, with what the message was."""

    at: datetime
    flow: str
    run: int
    verb: str
    step: str | None
    detail: Mapping[str, Any]
    message: Message | None = None


@dataclass(kw_only=True)
class Lived:
    """What came of a test: what runs did, the lines of `why`, and the letters that went."""

    zone: ZoneInfo
    notes: list[Note] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    letters: list[Rendered] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class OpenRun:
    """A run between two steps; what `enrollments` and `answers` keep."""

    id: int
    flow: Flow
    trigger: Event
    entered_at: datetime
    state: str = "waiting"
    step: str | None
    due_at: datetime | None
    until: datetime | None = None
    answers: dict[str, int] = field(default_factory=dict)
    #: Which run of its key it is.
    n: int = 1
    begins: bool = True
    held_out: bool = False
    converted: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.state in ("waiting", "sending")


@dataclass(kw_only=True, slots=True)
class Touchpoint:
    """A touchpoint that is queued."""

    number: int
    run: OpenRun
    step: str
    template: str
    kind: str
    topic: str | None
    queued_at: datetime
    due_at: datetime
    #: By when the task is due that it tells a team of.
    due_on: date | None

    @property
    def message(self) -> Message:
        """What `why` says of it."""
        return Message(template=self.template, kind=self.kind)


class Memory:
    """What the tables keep of one customer: what is known about them, their runs, what is queued.

    Args:
      catalog: the flows that run, whatever the shop has besides.
      is_told: whether `lived` gets the lines of `why` too.
    """

    def __init__(
        self, shop: ShopUnderTest, catalog: Catalog, person: Person, now: datetime, *, is_told: bool = True
    ) -> None:
        self.under_test, self.catalog, self.person, self.now = shop, catalog, person, now
        self.shop = catalog.shop
        self.is_told = is_told
        self.lived = Lived(zone=person.zone(self.shop))
        self.words: dict[str, rails.Consent] = {}
        #: What the suppression list says of their address: "marketing", "everything" or nothing.
        self.suppressed: str | None = None
        #: The company that they buy for, where there is one.
        self.account: Mapping[str, Any] | None = None
        self.events: list[Event] = []
        #: From this number on, what is told in this life is numbered.
        self.first_id = 1
        #: Who told of each event, and the stage that it brought, by its id.
        self.told_by: dict[int, str] = {}
        self.stages: dict[int, str | None] = {}
        self.runs: list[OpenRun] = []
        self.open: list[OpenRun] = []
        #: The newest run of each flow and key.
        self.ran: dict[tuple[str, str], OpenRun] = {}
        self.queue: list[Touchpoint] = []
        self.queued = 0
        self.sent: list[rails.Went] = []
        self.pace = pacing.Pace()
        #: What runs told, and is not heard yet: the run and what it did.
        self.told: list[tuple[OpenRun, Action]] = []

    def happening(self, mapped: Mapped) -> Event:
        """What is mapped as the next event of this customer, happening now."""
        id_ = self.first_id + len(self.events)
        return Event(id=id_, name=mapped.event, occurred_at=self.now, payload=mapped.payload)

    def names(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """What the conditions of starts read when an event with this payload comes."""
        company = {} if self.account is None else {"account": self.account}
        return {**payload, **company, "customer": self.person.facts(self.shop), "shop": self.shop.facts}

    def run_of(self, run: OpenRun, step: str | None, until: datetime | None) -> Run:
        """A run as `decide` reads it, at a step."""
        return Run(
            customer_id=self.person.id,
            event_id=run.trigger.id,
            entered_at=run.entered_at,
            step=step,
            until=until,
            begins=run.begins,
            held_out=run.held_out,
            id=run.id,
        )

    def facts(self, run: OpenRun) -> Facts:
        """What `workers.facts` reads."""
        known = {event.id: event for event in self.events} if run.answers else {}
        return Facts(
            customer=self.person.facts(self.shop),
            shop=self.shop.facts,
            zone=self.person.zone(self.shop),
            trigger=run.trigger.payload,
            answers={step: answer_of(known[id_].name, known[id_].payload) for step, id_ in run.answers.items()},
            answered_by=frozenset(run.answers.values()),
            holdout=self.shop.holdout,
            account=self.account,
            kinds=self.shop.model.attributes,
            events=[
                event
                for event in self.events
                if event.occurred_at >= run.entered_at and event.name in run.flow.listens_to
            ],
        )

    def is_meant(self, flow: Flow) -> bool:
        """Whether a flow for whole accounts runs for somebody with the customer's role."""
        return not flow.to or self.person.attributes.get("role") in flow.to

    @property
    def is_inside(self) -> bool:
        """Whether a run of theirs is open."""
        return any(run.is_open for run in self.open)

    def order_of(self, event: Event) -> str | None:
        """The order that an event speaks of."""
        return past.order_subject(self.told_by.get(event.id, SOURCE), event.payload)

    def hear(self, said: Iterable[rails.Consent]) -> None:
        """Keep words on consent, newer over older, as `db.events.hear_consents` does.

        What the customer said themselves, and any withdrawal, stands before a permission on another basis.
        """
        for one in said:
            before = self.words.get(one.topic)
            if before is None or _is_own(one) or not _is_own(before):
                self.words[one.topic] = one

    def end(self, run: OpenRun) -> None:
        """End a run from outside, and all that it has queued but service mail."""
        run.state, run.due_at = "stopped", None
        self.queue = [one for one in self.queue if one.run is not run or one.kind == "service"]

    def note_of(self, letter: Touchpoint, verb: str, detail: Mapping[str, Any]) -> None:
        """Note what became of a touchpoint."""
        self.note(letter.run, verb, letter.step, detail, letter.message)

    def note(
        self,
        run: OpenRun,
        verb: str,
        step: str | None,
        detail: Mapping[str, Any],
        message: Message | None = None,
        reason: str | None = None,
    ) -> None:
        """Note what a run did now."""
        name = run.flow.name
        self.lived.notes.append(
            Note(at=self.now, flow=name, run=run.id, verb=verb, step=step, detail=dict(detail), message=message)
        )
        if not self.is_told:
            return
        sentence = telling.decision(verb, step, detail, self.lived.zone, message=message, reason=reason)
        self.tell("decision", sentence, flow=name, step=step)

    def tell(self, kind: telling.Kind, sentence: str, **where: Any) -> None:
        """Add a line of `why`."""
        when = telling.when(self.now, self.lived.zone)
        self.lived.lines.append(Line(at=self.now, when=when, kind=kind, sentence=sentence, **where))


def _is_own(word: rails.Consent) -> bool:
    return word.basis == "consent" or not word.granted
