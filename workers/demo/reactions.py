"""What people do with a mail: answer, write a review, tell a friend, say that it is enough. Pure.

Everything starts from what really stands in the mail: the links in its text, and its List-Unsubscribe header. What
somebody does depends on the seed, the person and the mail alone.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from random import Random
from typing import Final
from zoneinfo import ZoneInfo

from workers.demo.people import BRING, CAST, Person

#: Nobody reacts sooner. It is longer than a slice of time, so that every reaction finds the clock before it.
SOONEST: Final = timedelta(minutes=70)

_RATE = re.compile(r"https?://\S+/rate/[^\s/]+/[^\s?]+\?score=([1-5])")
_REFER = re.compile(r"https?://\S+/r/[A-Za-z0-9-]+")
_HEADER = re.compile(r"<(https?://[^>]+)>")
#: Of a hundred who get a mail with such a thing in it, so many do it.
_ANSWERS, _REVIEWS, _SHARES, _HAS_ENOUGH = 0.55, 0.35, 0.45, 0.03
_SCORES: Final = ((1, 5), (2, 8), (3, 12), (4, 35), (5, 40))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mail:
    """A mail as it lies in somebody's letterbox."""

    touchpoint: int
    at: datetime
    kind: str
    flow: str
    step: str
    template: str
    #: Whom it is about; the reader, save where it went to a team.
    customer: int
    subject: str
    text: str
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """The person follows the link of a score and presses the button."""

    at: datetime
    person: Person
    url: str
    score: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsubscribes:
    """Their mail program posts to the address of List-Unsubscribe."""

    at: datetime
    person: Person
    url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """A friend follows their link."""

    at: datetime
    person: Person
    url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reviews:
    """They write a review on the shop's site."""

    at: datetime
    person: Person
    stars: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Somebody of the team answers them: a ticket is opened, and closed some days later."""

    at: datetime
    closed_at: datetime
    person: Person


Reaction = Rates | Unsubscribes | Shares | Reviews | Answers


def reactions(seed: int, person: Person, mail: Mail, review_url: str | None) -> Iterator[Reaction]:
    """What comes of one mail.

    Args:
      person: the customer that the mail is for, or about.
      review_url: where the shop has its reviews.
    """
    rng = Random(f"{seed}/mail/{person.email}/{mail.flow}/{mail.step}/{mail.at:%j}")
    if mail.kind == "team":
        at = _awake(rng, mail.at, hours=1)
        yield Answers(at=at, closed_at=_fixed(person, at, days=4) or _awake(rng, at, hours=24 * 4), person=person)
        return
    links = {int(found[1]): found[0] for found in _RATE.finditer(mail.text)}
    if links and (score := _score(rng, person)) is not None:
        at = _awake(rng, mail.at, hours=3 if person.kind == "unhappy" else rng.choice((1, 4, 9, 30)), person=person)
        yield Rates(at=at, person=person, url=links[score], score=score)
    if link := _REFER.search(mail.text):
        for n in range(_friends(rng, person)):
            hours = 20 if person.number in BRING else rng.choice((15, 26, 50))
            yield Shares(at=_awake(rng, mail.at, hours=hours * (n + 1), person=person), person=person, url=link[0])
    if review_url and review_url in mail.text and _does(rng, _REVIEWS, person, "reviewer"):
        at = _awake(rng, mail.at, hours=rng.choice((2, 9, 30)), person=person)
        yield Reviews(at=at, person=person, stars=5 if person.kind == "reviewer" else rng.choice((2, 4, 4, 5, 5, 5)))
    enough = _HEADER.search(mail.headers.get("List-Unsubscribe", ""))
    if enough and (_tired(person, mail) or (person.number > len(CAST) and rng.random() < _HAS_ENOUGH)):
        at = _awake(rng, mail.at, hours=rng.choice((1, 8)), person=person)
        yield Unsubscribes(at=at, person=person, url=enough[1])


def _does(rng: Random, chance: float, person: Person, always: str) -> bool:
    """By chance; those whose story it is do it always, and others with a story of their own leave it to them."""
    return person.kind == always or (person.number > len(CAST) and rng.random() < chance)


def _friends(rng: Random, person: Person) -> int:
    """How many friends somebody passes the link on to."""
    if person.number <= len(CAST):
        return BRING.get(person.number, 0)
    return rng.choice((1, 1, 2)) if rng.random() < _SHARES else 0


def _score(rng: Random, person: Person) -> int | None:
    if person.kind == "unhappy":
        return 1
    if person.kind in ("reviewer", "brings friends", "brings himself"):
        return 5
    return rng.choices(*zip(*_SCORES, strict=True))[0] if rng.random() < _ANSWERS else None


def _tired(person: Person, mail: Mail) -> bool:
    """Lena is, by the second kind of mail she gets."""
    return person.kind == "had enough" and mail.flow != "first-order"


def _fixed(person: Person, at: datetime, days: int) -> datetime | None:
    return at + timedelta(days=days) if person.kind == "unhappy" else None


def _awake(rng: Random, at: datetime, *, hours: float, person: Person | None = None) -> datetime:
    """So many hours later, give or take, moved to the next morning where people sleep."""
    moved = at + max(SOONEST, timedelta(hours=hours * rng.uniform(0.8, 1.2)))
    if person is None:
        return moved
    local = moved.astimezone(ZoneInfo(person.zone))
    if local.hour >= 7:
        return moved
    morning = datetime.combine(local.date(), time(7, rng.randrange(60)), tzinfo=local.tzinfo)
    return morning.astimezone(at.tzinfo)
