"""How dates and prices are written in the languages we know; whatever we do not know is written in English."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Language:
    """The words of a calendar, and how an amount stands beside its currency.

    `long` and `short` are formats of a date; `sign_leads` says whether the currency stands before the amount.
    """

    months: tuple[str, ...]
    short_months: tuple[str, ...]
    weekdays: tuple[str, ...]
    long: str = "{day} {month} {year}"
    short: str = "{day} {month} {year}"
    sign_leads: bool = False
    point: str = ","
    thousands: str = "."


_ENGLISH_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

ENGLISH: Final = Language(
    months=_ENGLISH_MONTHS,
    short_months=tuple(month[:3] for month in _ENGLISH_MONTHS),
    weekdays=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    sign_leads=True,
    point=".",
    thousands=",",
)

LANGUAGES: Final[dict[str, Language]] = {
    "en": ENGLISH,
    "de": Language(
        months=(
            "Januar", "Februar", "März", "April", "Mai", "Juni",
            "Juli", "August", "September", "Oktober", "November", "Dezember",
        ),
        short_months=(
            "Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.", "Dez.",
        ),
        weekdays=("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
        long="{day}. {month} {year}",
        short="{day}. {month} {year}",
    ),
    "fr": Language(
        months=(
            "janvier", "février", "mars", "avril", "mai", "juin",
            "juillet", "août", "septembre", "octobre", "novembre", "décembre",
        ),
        short_months=(
            "janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc.",
        ),
        weekdays=("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"),
        thousands="\u00a0",
    ),
    "es": Language(
        months=(
            "enero", "febrero", "marzo", "abril", "mayo", "junio",
            "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre",
        ),
        short_months=("ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sept", "oct", "nov", "dic"),
        weekdays=("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
        long="{day} de {month} de {year}",
    ),
    "it": Language(
        months=(
            "gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno",
            "luglio", "agosto", "settembre", "ottobre", "novembre", "dicembre",
        ),
        short_months=("gen", "feb", "mar", "apr", "mag", "giu", "lug", "ago", "set", "ott", "nov", "dic"),
        weekdays=("lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica"),
    ),
    "nl": Language(
        months=(
            "januari", "februari", "maart", "april", "mei", "juni",
            "juli", "augustus", "september", "oktober", "november", "december",
        ),
        short_months=("jan", "feb", "mrt", "apr", "mei", "jun", "jul", "aug", "sep", "okt", "nov", "dec"),
        weekdays=("maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag", "zondag"),
        sign_leads=True,
    ),
}  # fmt: skip


def language(locale: str) -> str:
    """The language of a locale: `fr` of `fr-CA`."""
    return locale.replace("_", "-").partition("-")[0].lower()


def spoken(locale: object) -> Language:
    """The language that dates are written in; English where we do not know it, or none is given."""
    return LANGUAGES.get(language(locale), ENGLISH) if isinstance(locale, str) else ENGLISH
