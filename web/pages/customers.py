"""Customers: the search, and one customer's story."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final
from zoneinfo import ZoneInfo

from starlette.responses import Response

from afterglow.rails import Consent, consent_refusal
from afterglow.telling import Line
from db import directory, identity, people, touchpoints, why
from db.people import Person
from web.pages.look import Look, as_id

#: Lines of a story on one page; the newest are shown first.
LINES: Final = 200


def customers(look: Look) -> Response:
    """The list, newest first, or whoever is searched for."""
    sought, stage = look.word("q"), look.word("stage")
    before = look.number("before")
    exact = directory.exactly(look.connection, look.app.settings.secrets[0], sought) if sought else None
    named = exact is not None and before is None
    is_address = sought is not None and "@" in sought
    found = (
        directory.Found(rows=())
        if is_address or (named and sought is not None and sought.isdigit())
        else directory.newest(look.connection, name=sought, stage=stage, before=before)
    )
    rows = list(found.rows)
    if named and exact is not None:
        rows = [*directory.one(look.connection, exact), *(row for row in rows if row.id != exact)]
    return look.page(
        "customers",
        tab="customers",
        rows=rows,
        found=found,
        sought=sought,
        stage=stage,
        stages=[one.stage for one in look.release.catalog.stages],
        shop=look.release.catalog.shop,
    )


def customer(look: Look) -> Response:
    """One customer: who it is, what is allowed, where things stand, and everything that happened."""
    id_ = as_id(look.request.path_params["id"])
    person = people.load(look.connection, [id_]).get(id_) if id_ is not None else None
    if id_ is None or person is None:
        return look.not_found("There is no customer of this number.", tab="customers")
    shop, secret = look.release.catalog.shop, look.app.settings.secrets[0]
    zone = person.zone(shop)
    flow = look.word("flow")
    try:
        lines = why.story(look.connection, look.app.catalog, secret, id_, flow)
    except why.UnknownFlowError as error:
        return look.not_found(str(error), tab="customers")
    mails = directory.touchpoints_of(look.connection, id_)
    happened = [line for line in lines if line.kind != "standing"]
    until = look.number("until")
    end = min(until, len(happened)) if until is not None else len(happened)
    start = max(0, end - LINES)
    digest = identity.address_digest(secret, person.email).hex() if person.email else ""
    return look.page(
        "customer",
        tab="customers",
        person=person,
        called=name_of_person(person),
        zone=zone,
        shop=shop,
        days=list(days(happened[start:end], mails, zone)),
        earlier=start or None,
        later=None if end == len(happened) else min(len(happened), end + LINES),
        standing=[entry_of(line, mails, zone) for line in lines if line.kind == "standing"],
        flow=flow,
        flows=directory.flows_of(look.connection, id_),
        allowed=allowed(look, person),
        suppressed=touchpoints.suppressed(look.connection, "email", [digest]).get(digest) if digest else None,
        identities=directory.identities_of(look.connection, id_),
    )


def name_of_person(person: Person) -> str:
    """What to call somebody at the head of a page."""
    name = " ".join(part for part in (person.first_name, person.last_name) if part)
    return name or person.email or f"Customer {person.id}"


@dataclass(frozen=True, kw_only=True)
class Word:
    """Whether marketing on a topic is allowed, and why not."""

    label: str
    refusal: str | None


def allowed(look: Look, person: Person) -> list[Word]:
    """What the customer allows, topic by topic, as the rails would judge it now."""
    rows = directory.consents_of(look.connection, person.id)
    words = [Consent(topic=row.topic, granted=row.state == "granted") for row in rows if row.channel == "email"]
    topics = look.release.catalog.shop.model.topics
    return [Word(label=topic.label, refusal=consent_refusal(words, name)) for name, topic in topics.items()]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the story on the page; refusals of one moment are one entry."""

    line: Line
    clock: str
    tone: str
    touchpoint: int | None = None
    refusals: tuple[Line, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Day:
    """A day on the customer's calendar."""

    title: str
    entries: tuple[Entry, ...]


def days(lines: Iterable[Line], mails: dict[tuple[int, str], int], zone: ZoneInfo) -> Iterator[Day]:
    """The story by day, as the customer's calendar has them."""
    for date, those in groupby(lines, key=lambda line: line.at.astimezone(zone).date()):
        yield Day(title=f"{date:%a} {date.day} {date:%b %Y}", entries=tuple(_entries(those, mails, zone)))


def _entries(lines: Iterable[Line], mails: dict[tuple[int, str], int], zone: ZoneInfo) -> Iterator[Entry]:
    for kind, those in groupby(lines, key=lambda line: (line.kind == "refusal", line.at)):
        if not kind[0]:
            yield from (entry_of(line, mails, zone) for line in those)
            continue
        refused = tuple(those)
        yield Entry(line=refused[0], clock=_clock(refused[0], zone), tone="refusal", refusals=refused)


def entry_of(line: Line, mails: dict[tuple[int, str], int], zone: ZoneInfo) -> Entry:
    """A line with the mail that it speaks of."""
    run: Any = line.detail.get("run")
    mail = line.detail.get("touchpoint") or (mails.get((run, line.step)) if run and line.step else None)
    speaks = line.kind in ("touchpoint", "standing") or line.detail.get("verb") in _OF_MAILS
    return Entry(line=line, clock=_clock(line, zone), tone=_tone(line), touchpoint=mail if speaks else None)


_OF_MAILS = frozenset(
    {"queued", "sent", "skipped", "held", "deferred", "failed", "rejected", "in doubt", "tried again"}
)
_RED = frozenset({"failed", "rejected", "in doubt", "in_doubt", "parked"})


def _tone(line: Line) -> str:
    """How loud a line is: `event`, `mail`, `red`, `stop`, `plain` or `quiet`."""
    said = line.detail.get("verb") or line.detail.get("state")
    match line.kind:
        case "event":
            return "event"
        case _ if said in _RED:
            return "red"
        case "inbox":
            return "red"
        case "decision" | "touchpoint" if said == "sent":
            return "mail"
        case "decision" if said in ("stopped", "skipped", "held"):
            return "stop"
        case "decision" if said in ("queued", "waits", "waits for", "finished", "chose", "split"):
            return "quiet"
        case _:
            return "plain"


def _clock(line: Line, zone: ZoneInfo) -> str:
    return f"{line.at.astimezone(zone):%H:%M}"
