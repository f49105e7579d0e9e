"""The filters of the expression language: `value | name(arguments)`.

Every filter is pure and total: a value it can do nothing with makes MISSING, never an exception. Values
arrive plain (see values.py) and never absent; only `default` sees what is missing, in evaluate.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Final
from zoneinfo import ZoneInfo

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from afterglow.expressions import money
from afterglow.expressions.languages import spoken
from afterglow.expressions.values import (
    EXACT,
    MAX_TEXT,
    MISSING,
    Missing,
    arithmetic,
    as_text,
    is_absent,
    is_number,
    plain,
    same,
)
from afterglow.local_time import known_zone

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Longer texts are no addresses, numbers or moments; looking at them would only cost time.
LONGEST_TOKEN: Final = 320
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_SPACE_BEFORE_OFFSET = re.compile(r"\s+(?=(?:[+-]\d{2}:?\d{2}|Z)$)")
#: The words `date` understands.
DATE_FORMATS: Final = frozenset({"short", "long", "weekday"})


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter and how many arguments it takes."""

    apply: Callable[..., object]
    fewest: int = 0
    most: int = 0


def lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else MISSING


def upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else MISSING


def trim(value: object) -> object:
    return value.strip() if isinstance(value, str) else MISSING


def title(value: object) -> object:
    """Every word with a capital: `anne-marie o'neil` becomes `Anne-Marie O'neil`."""
    if not isinstance(value, str):
        return MISSING
    return _WORD.sub(lambda word: word.group()[:1].upper() + word.group()[1:].lower(), value)


def length(value: object) -> object:
    """Characters of a text, entries of a list or dictionary."""
    return len(value) if isinstance(value, str | list | dict) else MISSING


def first(value: object) -> object:
    return plain(value[0]) if isinstance(value, str | list) and value else MISSING


def last(value: object) -> object:
    return plain(value[-1]) if isinstance(value, str | list) and value else MISSING


def join(value: object, separator: object = "") -> object:
    """The entries of a list as one text; absent entries are left out, nested lists make it MISSING."""
    if not isinstance(value, list) or not isinstance(separator, str):
        return MISSING
    texts: list[str] = []
    total = 0
    for entry in map(plain, value):
        if is_absent(entry):
            continue
        text = as_text(entry)
        if text is MISSING:
            return MISSING
        total += len(text) + len(separator)
        if total > MAX_TEXT + len(separator):
            return MISSING
        texts.append(text)
    return separator.join(texts)


def replace(value: object, old: object, new: object) -> object:
    """Every occurrence of `old` made `new`; MISSING when that would grow the text beyond 10,000
    characters.
    """
    if not (isinstance(value, str) and isinstance(old, str) and isinstance(new, str)) or not old:
        return MISSING
    grown = len(value) + value.count(old) * (len(new) - len(old))
    return value.replace(old, new) if grown <= max(MAX_TEXT, len(value)) else MISSING


def rounded(value: object, places: object = 0) -> object:
    """Half up, as shops do: `2.5` becomes 3, `2.125 | round(2)` becomes 2.13. Zero places give a whole
    number.
    """
    if not is_number(value) or type(places) is not int or not 0 <= places <= 10:
        return MISSING
    result = plain(Decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, EXACT))
    return int(result) if places == 0 and isinstance(result, Decimal) else result


def number(value: object) -> object:
    """The exact number a text spells in ordinary digits; a number stays itself."""
    if is_number(value):
        return value
    if not isinstance(value, str) or len(value) > LONGEST_TOKEN:
        return MISSING
    digits = value.strip()
    return plain(Decimal(digits)) if _NUMBER.fullmatch(digits) else MISSING


def integer(value: object) -> object:
    """The whole number in a number or text; what stands after the point is cut off."""
    exact = number(value)
    if not is_number(exact):
        return MISSING
    return int(Decimal(exact).to_integral_value(ROUND_DOWN))


def iso(value: object) -> object:
    """A text in any ISO 8601 style as a moment; without an offset it is UTC, a day alone is its midnight."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, str) or len(value) > LONGEST_TOKEN:
        return MISSING
    text = _SPACE_BEFORE_OFFSET.sub("", value.strip().removesuffix(" UTC"))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return MISSING
    return plain(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def epoch(value: object) -> object:
    """Seconds since 1970-01-01 UTC (number or digits, fractions to the microsecond) as a moment."""
    return _since_epoch(value, 1_000_000)


def epoch_ms(value: object) -> object:
    """Milliseconds since 1970-01-01 UTC as a moment."""
    return _since_epoch(value, 1_000)


def _since_epoch(value: object, microseconds_per_unit: int) -> object:
    microseconds = integer(arithmetic("*", number(value), microseconds_per_unit))
    if not isinstance(microseconds, int):
        return MISSING
    try:
        return EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return MISSING


def day(value: object, words: object, zone: object = "UTC", locale: object = None) -> object:
    """A moment for a mail: `short` is "2 Mar 2026", `long` "2 March 2026", `weekday` "Monday".

    With a `locale` ("fr", "de-AT") in that language, where we know it; mails have their own.

    A text in ISO 8601 is read first, since a stored payload holds its moments as text. The day is that of the
    zone given by its IANA name (`date("long", customer.timezone)`), otherwise of UTC; a day alone has no
    zone.
    """
    if not isinstance(zone, str) or words not in DATE_FORMATS:
        return MISSING
    if isinstance(value, date) and not isinstance(value, datetime):
        local: date = value
    else:
        moment, place = iso(value), known_zone(zone)
        if not isinstance(moment, datetime) or place is None:
            return MISSING
        there = _in_zone(moment, place)
        if there is MISSING:
            return MISSING
        local = there
    tongue = spoken(locale)
    if words == "weekday":
        return tongue.weekdays[local.weekday()]
    months, written = (tongue.months, tongue.long) if words == "long" else (tongue.short_months, tongue.short)
    return written.format(day=local.day, month=months[local.month - 1], year=local.year)


def _in_zone(moment: datetime, zone: ZoneInfo) -> date | Missing:
    try:
        return moment.astimezone(zone).date()
    except OverflowError:
        return MISSING


def money_of(value: object, currency: object) -> object:
    """An amount as providers write it (`"19.99"` or 19.99) in major units, rounded to the currency's
    digits.
    """
    digits, amount = money.digits(currency), number(value)
    if digits is None or not is_number(amount):
        return MISSING
    return plain(Decimal(amount).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, EXACT))


def minor(value: object, currency: object) -> object:
    """A whole number of minor units as the payment provider counts them (1999 cents) in major units
    (19.99).
    """
    digits, amount = money.minor_digits(currency), number(value)
    if digits is None or not is_number(amount) or amount != integer(amount):
        return MISSING
    return plain(Decimal(amount).to_integral_value().scaleb(-digits, EXACT))


def price(value: object, currency: object, locale: object = None) -> object:
    """An amount in major units for a reader: `12,50 €`, `$12.50`; `locale` ("en", "de-AT") overrides the
    habit.
    """
    amount = money_of(value, currency)
    if not isinstance(amount, Decimal) or not isinstance(currency, str):
        return MISSING
    return money.written(amount, currency, locale if isinstance(locale, str) else None)


def inside(entry: object, attribute: str) -> object:
    """What stands in a dictionary under a name, or under a dotted name; MISSING otherwise."""
    for key in attribute.split("."):
        entry = plain(entry)
        if not isinstance(entry, dict):
            return MISSING
        entry = entry.get(key, MISSING)
    return plain(entry)


def mapped(value: object, attribute: object) -> object:
    """From a list of dictionaries the list of what each has under a name; absent ones are left out."""
    if not isinstance(value, list) or not isinstance(attribute, str):
        return MISSING
    return [found for found in (inside(entry, attribute) for entry in value) if not is_absent(found)]


def where(value: object, attribute: object, wanted: object) -> object:
    """From a list of dictionaries those whose named entry equals the value."""
    if not isinstance(value, list) or not isinstance(attribute, str) or is_absent(wanted):
        return MISSING
    return [entry for entry in value if same(inside(entry, attribute), wanted)]


def total(value: object, attribute: object = None) -> object:
    """The sum of a list of numbers, or of a named number in each dictionary; MISSING if one is no number.

    A number spelled as text counts, since that is how shops write amounts (`"19.99"`).
    """
    if not isinstance(value, list) or not (attribute is None or isinstance(attribute, str)):
        return MISSING
    result: object = 0
    for amount in map(number, _amounts(value, attribute)):
        result = arithmetic("+", result, amount) if is_number(amount) else MISSING
        if result is MISSING:
            return MISSING
    return result


def _amounts(value: list[object], attribute: str | None) -> Iterator[object]:
    return (plain(entry) if attribute is None else inside(entry, attribute) for entry in value)


def email(value: object) -> object:
    """The normalised address (trimmed, lower case, the domain in its ASCII form), or MISSING if it is none.

    Lower case although RFC 5321 lets the part before the @ depend on case: no large provider does, and the
    same customer arrives in both spellings.
    """
    if not isinstance(value, str) or len(value) > LONGEST_TOKEN:
        return MISSING
    try:
        address = validate_email(value.strip(), allow_smtputf8=False, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return MISSING
    if "." not in address.ascii_domain:
        return MISSING
    return f"{address.local_part}@{address.ascii_domain}".lower()


def phone(value: object, region: object = None) -> object:
    """The number in E.164 (`+33612345678`), or MISSING if it is none; `region` ("FR") reads national
    numbers.
    """
    if not isinstance(value, str) or len(value) > LONGEST_TOKEN:
        return MISSING
    try:
        parsed = phonenumbers.parse(value, region.upper() if isinstance(region, str) else None)
    except phonenumbers.NumberParseException:
        return MISSING
    if not phonenumbers.is_valid_number(parsed):
        return MISSING
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


#: Every filter by its name in the language. `default` is here for its arity only: it must see missing values.
FILTERS: Final[dict[str, Filter]] = {
    "date": Filter(day, 1, 3),
    "default": Filter(lambda value, _: value, 1, 1),
    "email": Filter(email),
    "epoch": Filter(epoch),
    "epoch_ms": Filter(epoch_ms),
    "first": Filter(first),
    "int": Filter(integer),
    "iso": Filter(iso),
    "join": Filter(join, 0, 1),
    "last": Filter(last),
    "length": Filter(length),
    "lower": Filter(lower),
    "map": Filter(mapped, 1, 1),
    "minor": Filter(minor, 1, 1),
    "money": Filter(money_of, 1, 1),
    "number": Filter(number),
    "phone": Filter(phone, 0, 1),
    "price": Filter(price, 1, 2),
    "replace": Filter(replace, 2, 2),
    "round": Filter(rounded, 0, 1),
    "sum": Filter(total, 0, 1),
    "text": Filter(as_text),
    "title": Filter(title),
    "trim": Filter(trim),
    "upper": Filter(upper),
    "where": Filter(where, 2, 2),
}
