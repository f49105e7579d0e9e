"""Currencies: how many decimals each has, how a payment provider counts it, and how a price is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from afterglow.expressions.languages import ENGLISH, LANGUAGES, Language, language

_CODE = re.compile(r"[A-Za-z]{3}", re.ASCII)
_USUAL_DIGITS: Final = 2
_ZERO: Final = (
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG",
    "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF",
)  # fmt: skip
_THREE: Final = ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND")
#: ISO 4217, the currencies whose minor unit is not a hundredth.
_DIGITS: Final[dict[str, int]] = dict.fromkeys(_ZERO, 0) | dict.fromkeys(_THREE, 3) | dict.fromkeys(("CLF", "UYW"), 4)
#: Where Stripe, whose amounts are minor units, departs from ISO 4217 (docs.stripe.com/currencies): ISK and
#: UGX are still sent in hundredths, MGA in whole units. Wrong here means a price a hundred times too high.
_MINOR_DIGITS: Final[dict[str, int]] = _DIGITS | {"ISK": 2, "UGX": 2, "MGA": 0}

_NO_BREAK_SPACE: Final = "\u00a0"


def digits(currency: object) -> int | None:
    """Decimals of a currency given by its three-letter code in any case; None when that is no code."""
    code = _code(currency)
    return None if code is None else _DIGITS.get(code, _USUAL_DIGITS)


def minor_digits(currency: object) -> int | None:
    """Decimals by which a provider's minor units are to be shifted; None when that is no code."""
    code = _code(currency)
    return None if code is None else _MINOR_DIGITS.get(code, _USUAL_DIGITS)


def _code(currency: object) -> str | None:
    return currency.upper() if isinstance(currency, str) and _CODE.fullmatch(currency) else None


@dataclass(frozen=True, slots=True)
class Habit:
    """How a currency is written where it is at home."""

    sign: str
    leads: bool
    point: str
    thousands: str


_ENGLISH = (".", ",")
_CONTINENTAL = (",", ".")
_SPACED = (",", _NO_BREAK_SPACE)
_HABITS: Final[dict[str, Habit]] = {
    "EUR": Habit("€", False, *_CONTINENTAL),
    "USD": Habit("$", True, *_ENGLISH),
    "CAD": Habit("$", True, *_ENGLISH),
    "AUD": Habit("$", True, *_ENGLISH),
    "NZD": Habit("$", True, *_ENGLISH),
    "GBP": Habit("£", True, *_ENGLISH),
    "JPY": Habit("¥", True, *_ENGLISH),
    "INR": Habit("₹", True, *_ENGLISH),
    "CHF": Habit("CHF" + _NO_BREAK_SPACE, True, ".", "\u2019"),
    "SEK": Habit("kr", False, *_SPACED),
    "NOK": Habit("kr", False, *_SPACED),
    "DKK": Habit("kr.", False, *_CONTINENTAL),
    "PLN": Habit("zł", False, *_SPACED),
    "CZK": Habit("Kč", False, *_SPACED),
    "BRL": Habit("R$" + _NO_BREAK_SPACE, True, *_CONTINENTAL),
}


def written(amount: Decimal, currency: str, locale: str | None = None) -> str:
    """`12,50 €`, `$1,250.00`, `CHF 12.50`; an unknown currency as `12.50 XYZ`. Spaces do not break.

    A locale writes every amount the way of its language (`en`: `€12.50`, `fr`: `12,50 $`), where we know that.
    `amount` is in major units with the currency's number of decimals.
    """
    code = currency.upper()
    habit = _HABITS.get(code, Habit(code, False, *_ENGLISH))
    if locale is not None and (tongue := LANGUAGES.get(language(locale))) is not None:
        habit = _habit_of(tongue, habit.sign.strip(_NO_BREAK_SPACE) if code in _HABITS else code)
    whole, _, decimals = f"{abs(amount):,f}".partition(".")
    figure = whole.replace(",", habit.thousands) + (habit.point + decimals if decimals else "")
    minus = "-" if amount < 0 else ""
    if habit.leads:
        return f"{minus}{habit.sign}{figure}"
    return f"{minus}{figure}{_NO_BREAK_SPACE}{habit.sign}"


def _habit_of(tongue: Language, sign: str) -> Habit:
    """How a language writes an amount: before it, letters and what is not English stand apart (`€ 12,50`)."""
    apart = tongue.sign_leads and (tongue is not ENGLISH or (sign.isascii() and sign[-1].isalpha()))
    return Habit(sign + (_NO_BREAK_SPACE if apart else ""), tongue.sign_leads, tongue.point, tongue.thousands)
