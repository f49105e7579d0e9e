"""Customers: the search, and one customer's story."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape
from starlette.responses import Response

from afterglow.rails import Consent, Existing, basis_of, consent_refusal
from afterglow.telling import Line, proof
from db import directory, identity, people, segments, touchpoints, why
from db.people import Person
from web.pages.look import Look, as_id
from web.pages.segments import initials

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
    if id_ is not None:
        id_ = people.kept(look.connection, [id_]).get(id_)  # who was merged is found under the kept one's number
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
    telling = Telling(lines, directory.touchpoints_of(look.connection, id_), zone)
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
        whereabouts=person.whereabouts(shop),
        shop=shop,
        days=list(telling.days(happened[start:end])),
        earlier=start or None,
        later=None if end == len(happened) else min(len(happened), end + LINES),
        standing=[telling.entry(line) for line in lines if line.kind == "standing"],
        said=telling.said,
        flow=flow,
        flows=directory.flows_of(look.connection, id_),
        allowed=allowed(look, person),
        suppressed=touchpoints.suppressed(look.connection, "email", [digest]).get(digest) if digest else None,
        identities=directory.identities_of(look.connection, id_),
        segments=[
            (look.release.catalog.segments[name], since)
            for name, since in segments.members(look.connection, [id_])[id_].items()
            if name in look.release.catalog.segments
        ],
        initials=initials,
    )


def name_of_person(person: Person) -> str:
    """What to call somebody at the head of a page."""
    name = " ".join(part for part in (person.first_name, person.last_name) if part)
    return name or person.email or f"Customer {person.id}"


@dataclass(frozen=True, kw_only=True)
class Word:
    """Whether marketing on a topic is allowed; if not, why, in a word or two."""

    label: str
    refusal: str | None
    #: On what a permission rests, or by what word it was refused, with what was kept of how that came.
    because: str | None


def allowed(look: Look, person: Person) -> list[Word]:
    """What the customer allows, topic by topic, as the rails would judge it now."""
    rows = directory.consents_of(look.connection, person.id)
    said = [row for row in rows if row.channel == "email"]
    words = [Consent(topic=row.topic, granted=row.state == "granted", basis=row.basis) for row in said]
    shop = look.release.catalog.shop
    existing = Existing(topics=shop.topics_of_existing_customers, has_bought=person.orders > 0)
    refused = {word.topic for word in words if not word.granted}
    found = []
    for name, topic in shop.model.topics.items():
        why_not = "unsubscribed" if refused & {name, "*"} else "has not agreed"
        refusal = why_not if consent_refusal(words, name, existing) else None
        basis = None if refusal else basis_of(words, name, existing)
        told = next((row for row in said if row.topic in (name, "*") and _decides(row, basis)), None)
        because = "".join((basis or "", proof(told.evidence) if told else "")).removeprefix(", ")
        found.append(Word(label=topic.label, refusal=refusal, because=because or None))
    return found


def _decides(row: Any, basis: str | None) -> bool:
    """Whether a word on consent is the one that a permission (on a basis) or a refusal (on none) rests on."""
    return bool(row.state == "withdrawn" if basis is None else row.state == "granted" and row.basis == basis)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the story on the page; refusals of one moment are one entry."""

    line: Line
    sentence: Markup
    clock: str  # empty where the entry before it was at the same minute
    tone: str
    is_later: bool = False
    touchpoint: int | None = None
    refusals: tuple[Line, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Day:
    """A day on the customer's calendar."""

    title: str
    entries: tuple[Entry, ...]


class Telling:
    """Turns lines of a story into what the page shows.

    Args:
      mails: the customer's touchpoints by run and step.
    """

    def __init__(self, lines: Sequence[Line], mails: Mapping[tuple[int, str], int], zone: ZoneInfo) -> None:
        self._zone = zone
        self._mails = mails
        # A mail is linked where it is spoken of last: its fate, not its beginning.
        self._linked = {mail: line for line in lines if (mail := self._mail_of(line)) is not None}

    def days(self, lines: Iterable[Line]) -> Iterator[Day]:
        """The story by day, as the customer's calendar has them."""
        for date, those in groupby(lines, key=lambda line: line.at.astimezone(self._zone).date()):
            yield Day(title=f"{date:%a} {date.day} {date:%b %Y}", entries=tuple(self._entries(those)))

    def _entries(self, lines: Iterable[Line]) -> Iterator[Entry]:
        before: str | None = None
        for (is_refusal, _), those in groupby(lines, key=lambda line: (line.kind == "refusal", line.at)):
            told = tuple(those)
            for line in told[:1] if is_refusal else told:
                entry = self.entry(line)
                if is_refusal:
                    entry = replace(entry, tone="refusal", refusals=told)
                clock = entry.clock
                yield replace(
                    entry, clock="" if clock == before else clock, is_later=before is not None and clock != before
                )
                before = clock

    def entry(self, line: Line) -> Entry:
        """One line, with the mail whose fate it tells."""
        mail = self._mail_of(line)
        return Entry(
            line=line,
            sentence=self.said(line.sentence),
            clock=f"{line.at.astimezone(self._zone):%H:%M}",
            tone=_tone(line),
            touchpoint=mail if mail is not None and self._linked.get(mail) is line else None,
        )

    def said(self, sentence: str) -> Markup:
        """A sentence as HTML: code in backticks; without the zone, which the page says once."""
        plain = re.sub(rf" {re.escape(self._zone.key)} \((?:\w{{3}} )?\d\d:\d\d UTC\)", "", sentence)
        parts = plain.split("`")
        if len(parts) % 2 == 0:  # a backtick without its partner
            return escape(plain)
        return Markup("").join(
            Markup("<code>{}</code>").format(part) if n % 2 else escape(part) for n, part in enumerate(parts)
        )

    def _mail_of(self, line: Line) -> int | None:
        named: int | None = line.detail.get("touchpoint")
        if named is not None:
            return named
        run: Any = line.detail.get("run")
        speaks = line.detail.get("verb") in _OF_MAILS
        return self._mails.get((run, line.step)) if speaks and run and line.step else None


_OF_MAILS = frozenset(
    {"queued", "sent", "skipped", "held", "deferred", "failed", "rejected", "in doubt", "tried again"}
)
_RED = frozenset({"failed", "rejected", "in doubt", "in_doubt", "parked"})


def _tone(line: Line) -> str:
    """How loud a line is: `event`, `mail`, `red`, `stop`, `quiet`, or nothing special."""
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
            return "usual"
