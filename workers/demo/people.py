"""Who the roastery's customers are: a few with a story of their own, and any number of others. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

#: What makes a life: each is told in `lives`.
Kind = Literal[
    "unhappy", "refunded", "reviewer", "refund first", "hesitant", "card expired", "had enough",
    "brings friends", "brings himself",
    "visitor", "buyer", "subscriber", "guest", "friend", "friend who returns it", "himself again",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """One customer. Addresses end in example.com, which never belongs to anybody (RFC 2606)."""

    number: int
    first_name: str
    last_name: str
    email: str
    zone: str
    country: str
    city: str
    locale: str
    kind: Kind
    #: Whether they tick "send me mails" when they create their account.
    consents: bool = True
    #: The code of the friend who sent them.
    code: str | None = None

    @property
    def name(self) -> str:
        """First and last name."""
        return f"{self.first_name} {self.last_name}"


#: (zone, country code, city, locale, how many of a hundred live there)
_PLACES: Final = (
    ("Europe/Paris", "FR", "Lyon", "fr", 42),
    ("Europe/Berlin", "DE", "Leipzig", "de", 18),
    ("Europe/London", "GB", "Bristol", "en", 12),
    ("Europe/Lisbon", "PT", "Porto", "pt", 8),
    ("America/New_York", "US", "Portland", "en", 8),
    ("America/Los_Angeles", "US", "Oakland", "en", 4),
    ("Asia/Tokyo", "JP", "Kyoto", "ja", 4),
    ("Australia/Adelaide", "AU", "Adelaide", "en", 4),
)
_KINDS: Final = (("visitor", 22), ("buyer", 58), ("subscriber", 12), ("guest", 8))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FIRST_NAMES: Final = _names(
    "Ada Aiko Alba Amir Anouk Arun Bea Bruno Carla Cem Chidi Clara Dario Dina Edith Elif Emil Enzo Esra Eva Farid "
    "Fleur Gil Greta Hana Hugo Ida Ines Iris Ivan Jana Jules Kai Karim Lea Leon Lina Luca Maja Malik Marta Mei Milo "
    "Nadia Nils Nina Noah Olga Omar Oscar Paul Petra Rafael Rita Rosa Sana Silas Sofia Tariq Tess Tom Uma Vera "
    "Viktor Wanda Yara Yusuf Zoe"
)
_LAST_NAMES: Final = _names(
    "Abel Alves Arendt Banerjee Bauer Berg Blanc Brandt Castro Cohen Costa Dahl Diallo Duarte Ebert Engel Faure "
    "Fischer Garnier Girard Haas Hansen Ito Jansen Keller Khan Kowalski Lambert Lang Lopes Martin Mendes Meyer Moreau "
    "Nakamura Neri Novak Okafor Olsen Petit Pinto Quinn Renard Rossi Santos Sato Schmidt Silva Singh Tanaka Thomas "
    "Urban Vidal Weber Winter Yilmaz Zhang"
)


def _known(number: int, first: str, last: str, kind: Kind, place: tuple[str, str, str, str]) -> Person:
    zone, country, city, locale = place
    return Person(
        number=number,
        first_name=first,
        last_name=last,
        email=f"{first}.{last}@example.com".lower(),
        zone=zone,
        country=country,
        city=city,
        locale=locale,
        kind=kind,
    )


_PARIS = ("Europe/Paris", "FR", "Lyon", "fr")

#: Those with a story of their own, whatever the seed. The first is the one whose story is told at the end.
CAST: Final = (
    _known(1, "Mara", "Lindqvist", "unhappy", ("Europe/Stockholm", "SE", "Uppsala", "en")),
    _known(2, "Theo", "Fournier", "refunded", _PARIS),
    _known(3, "Noor", "Haddad", "reviewer", ("Europe/Berlin", "DE", "Leipzig", "de")),
    _known(4, "Ivo", "Brandl", "refund first", ("Europe/Vienna", "AT", "Graz", "de")),
    _known(5, "Priya", "Raman", "hesitant", ("America/New_York", "US", "Portland", "en")),
    _known(6, "Kenji", "Mori", "card expired", ("Asia/Tokyo", "JP", "Kyoto", "ja")),
    _known(7, "Lena", "Voss", "had enough", ("Europe/Berlin", "DE", "Leipzig", "de")),
    _known(8, "Sofia", "Almeida", "brings friends", ("Europe/Lisbon", "PT", "Porto", "pt")),
    _known(9, "Viktor", "Neri", "brings himself", ("Europe/Rome", "IT", "Turin", "it")),
)
#: How many friends those with a story of their own bring; all others leave it to the dice.
BRING: Final = {1: 1, 3: 3, 8: 3, 9: 2}

#: Friends with names of their own, by the number of who brings them: (first, last, kind), in order of coming.
_FRIENDS_OF: Final[dict[int, tuple[tuple[str, str, Kind], ...]]] = {
    1: (("Jonas", "Ek", "friend"),),
    3: (("Samira", "Haddad", "friend"), ("Till", "Krug", "friend"), ("Bea", "Winter", "friend")),
    8: (("Tomas", "Leal", "friend"), ("Rita", "Sousa", "friend"), ("Rosa", "Pinto", "friend who returns it")),
}
#: What Viktor writes in front of the @ when he comes as his own friend: a tag first, then another mailbox.
_VIKTORS_ADDRESSES: Final = ("viktor.neri+coffee", "viktor.neri2")


def everybody(seed: int, count: int) -> Iterator[Person]:
    """The first `count` customers of a seed; more of them leave the others as they are."""
    yield from CAST[:count]
    for number in range(len(CAST) + 1, count + 1):
        yield _somebody(Random(f"{seed}/person/{number}"), number)


def _somebody(rng: Random, number: int) -> Person:
    zone, country, city, locale, _ = rng.choices(_PLACES, [place[4] for place in _PLACES])[0]
    kind, _ = rng.choices(_KINDS, [share for _, share in _KINDS])[0]
    first, last = rng.choice(_FIRST_NAMES), rng.choice(_LAST_NAMES)
    return Person(
        number=number,
        first_name=first,
        last_name=last,
        email=f"{first}.{last}{number}@example.com".lower(),  # the number: two may have the same name
        zone=zone,
        country=country,
        city=city,
        locale=locale,
        kind=kind,  # type: ignore[arg-type]  # a word of _KINDS
        consents=kind != "guest" and rng.random() < 0.84,
    )


def a_friend(rng: Random, number: int, of: Person, code: str, n: int) -> Person:
    """The so-manieth who was sent by a friend, from the same town. Viktor's friend is Viktor.

    Args:
      n: 1 for the first whom `of` brings.
    """
    known = _FRIENDS_OF.get(of.number, ())
    kind: Kind = "friend"
    if of.kind == "brings himself":
        first, last, kind = of.first_name, of.last_name, "himself again"
        local = _VIKTORS_ADDRESSES[(n - 1) % len(_VIKTORS_ADDRESSES)]
    elif n <= len(known):
        first, last, kind = known[n - 1]
        local = f"{first}.{last}"
    else:
        first, last = rng.choice(_FIRST_NAMES), rng.choice(_LAST_NAMES)
        local = f"{first}.{last}{number}"
    return Person(
        number=number,
        first_name=first,
        last_name=last,
        email=f"{local}@example.com".lower(),
        zone=of.zone,
        country=of.country,
        city=of.city,
        locale=of.locale,
        kind=kind,
        code=code,
    )
