"""Mails in several languages: `welcome.fr.mjml` beside `welcome.mjml`, and the words we put into mails ourselves.

Which of them a customer gets depends on their locale alone: `fr-CA` finds `welcome.fr-CA`, then `welcome.fr`, then
`welcome`, which is in the shop's own language.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from afterglow.expressions.languages import language

_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def parted(name: str) -> tuple[str, str | None]:
    """The plain name of a mail and its locale: `email/welcome` and `fr` of `email/welcome.fr`; None without one."""
    plain, _, locale = name.rpartition(".")
    return (plain, locale) if plain and _LOCALE.fullmatch(locale) else (name, None)


def nearest(locale: str) -> Iterator[str]:
    """A locale in lower case, then what is left of it part by part: `fr-ca`, `fr`."""
    left = locale.replace("_", "-").lower()
    while left:
        yield left
        left = left.rpartition("-")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """What we say in a mail ourselves. `agreed` and `did` hold the shop's {name}."""

    agreed: str
    did: str
    unsubscribe: str
    preferences: str


WORDS: Final[Mapping[str, Words]] = {
    "en": Words(
        agreed="You get this because you agreed to hear from {name}{topic}.",
        did="You get this because it belongs to something you did at {name}.",
        unsubscribe="Unsubscribe",
        preferences="Choose what we send you",
    ),
    "de": Words(
        agreed="Sie erhalten diese E-Mail, weil Sie Nachrichten von {name} zugestimmt haben{topic}.",
        did="Sie erhalten diese E-Mail, weil sie zu etwas gehört, das Sie bei {name} getan haben.",
        unsubscribe="Abmelden",
        preferences="Auswählen, was wir Ihnen senden",
    ),
    "fr": Words(
        agreed="Vous recevez cet e-mail parce que vous avez accepté de recevoir des nouvelles de {name}{topic}.",
        did="Vous recevez cet e-mail parce qu'il concerne une démarche que vous avez faite chez {name}.",
        unsubscribe="Se désabonner",
        preferences="Choisir ce que nous vous envoyons",
    ),
    "es": Words(
        agreed="Recibe este correo porque aceptó recibir noticias de {name}{topic}.",
        did="Recibe este correo porque se refiere a algo que hizo en {name}.",
        unsubscribe="Darse de baja",
        preferences="Elegir lo que le enviamos",
    ),
    "it": Words(
        agreed="Ricevi questa e-mail perché hai accettato di ricevere notizie da {name}{topic}.",
        did="Ricevi questa e-mail perché riguarda qualcosa che hai fatto presso {name}.",
        unsubscribe="Annulla l'iscrizione",
        preferences="Scegli che cosa ricevere",
    ),
    "nl": Words(
        agreed="U ontvangt deze e-mail omdat u ermee hebt ingestemd berichten van {name} te ontvangen{topic}.",
        did="U ontvangt deze e-mail omdat die hoort bij iets wat u bij {name} hebt gedaan.",
        unsubscribe="Afmelden",
        preferences="Kiezen wat wij u sturen",
    ),
}


def words(locale: str | None) -> Words:
    """Our own words in the language of a locale; in English where we do not know it."""
    return WORDS.get(language(locale), WORDS["en"]) if locale else WORDS["en"]
