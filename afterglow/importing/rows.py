"""What a record says, typed and normalised, or why it cannot be taken in."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from afterglow.expressions.filters import iso, money_of, number
from afterglow.importing.records import BadRow, Record
from afterglow.language.catalog import Catalog
from afterglow.ledger.entries import AMOUNT_MAX
from afterglow.local_time import from_wall, known_zone
from afterglow.mapping import Unmappable, conforming
from afterglow.mapping.addresses import normalised_email, normalised_phone
from afterglow.mapping.values import EARLIEST, FUTURE, LONGEST_TEXT
from afterglow.problems import did_you_mean

BASES: Final = ("consent", "existing-customer", "service")
REASONS: Final = ("bounced", "complained", "by-hand")
#: Key of a balance that has none of its own.
OPENING: Final = "opening"
LONGEST_KEY: Final = 100

_SAID: Final[Mapping[str, Literal["granted", "withdrawn"] | None]] = {
    **dict.fromkeys(("granted", "yes", "true", "1", "subscribed", "opted in", "opted-in", "opt-in"), "granted"),
    **dict.fromkeys(
        ("withdrawn", "no", "false", "0", "unsubscribed", "opted out", "opted-out", "opt-out", "cleaned"), "withdrawn"
    ),
    # no answer of the customer's: neither given nor withdrawn
    **dict.fromkeys(("pending", "never", "not_subscribed", "not subscribed", "unknown", "none", "invalid"), None),
}


class Unreadable(ValueError):
    """Why one record cannot be taken in; becomes a `BadRow`."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What rows are held against.

    Args:
      as_of: the instant that the file describes: of words and customers without a moment of their own.
      now: nothing can have happened much later.
      zone: of moments that are written without one.
      stage: of the source's own event for such a row; None where a row's own column alone says it.
    """

    catalog: Catalog
    as_of: datetime
    now: datetime
    zone: ZoneInfo
    stage: str | None = None


class Word(NamedTuple):
    """What a customer said about marketing, by a file."""

    state: Literal["granted", "withdrawn"]
    topic: str
    basis: str
    words: str | None
    at: datetime
    #: False: nobody wrote down when, and `at` is what the file as a whole describes.
    is_dated: bool


@dataclass(slots=True)
class _PersonRow:
    """What every row says of a person."""

    line: int
    id: str | None
    email: str | None
    phone: str | None
    first_name: str | None
    last_name: str | None
    locale: str | None
    timezone: str | None


@dataclass(slots=True)
class CustomerRow(_PersonRow):
    """A customer."""

    #: Since when they are known.
    since: datetime
    #: How new the row is; None where it does not say and so only fills gaps.
    updated_at: datetime | None
    stage: str | None
    stage_at: datetime
    #: False: the row does not say when, so that it moves nobody who is in a stage already.
    is_stage_dated: bool
    attributes: dict[str, Any]
    word: Word | None


@dataclass(slots=True)
class OrderRow(_PersonRow):
    """An order that was paid."""

    order_id: str
    #: In major units, as the webhook would carry it.
    total: Decimal
    paid_at: datetime
    stage: str | None
    payload: dict[str, Any] = field(repr=False)


@dataclass(slots=True)
class ConsentRow:
    """A word on consent of a customer who is known."""

    line: int
    id: str | None
    email: str | None
    word: Word


@dataclass(slots=True)
class SuppressionRow:
    """An address that gets no more mail."""

    line: int
    email: str
    reason: str
    covers: Literal["marketing", "everything"]
    at: datetime


@dataclass(slots=True)
class CodeRow:
    """A referral code that customers have given to their friends already."""

    line: int
    id: str | None
    email: str | None
    programme: str
    code: str
    made_at: datetime


@dataclass(slots=True)
class BalanceRow:
    """What a customer brings along: points of a programme, or credit in minor units of the shop's currency."""

    line: int
    id: str | None
    email: str | None
    programme: str
    asset: str
    amount: int
    expires_at: datetime | None
    at: datetime
    key: str


Row = CustomerRow | OrderRow | ConsentRow | SuppressionRow | CodeRow | BalanceRow


def rows(kind: str, found: Iterable[Record | BadRow], desk: Desk) -> Iterator[Row | BadRow]:
    """The rows of a kind of file in the order of its lines."""
    read = _READERS[kind]
    for record in found:
        if type(record) is BadRow:
            yield record
            continue
        try:
            yield read(record.line, record.values, desk)  # type: ignore[union-attr]
        except Unreadable as error:
            yield BadRow(record.line, str(error))


def _customer(line: int, values: Mapping[str, Any], desk: Desk) -> CustomerRow:
    id_, email = _who(values, "id")
    created_at, updated_at = _moment(values, "created_at", desk), _moment(values, "updated_at", desk)
    since = created_at or desk.as_of
    stage = _known(values, "stage", desk.catalog.stage_names, "stage of this shop") or desk.stage
    stage_at = _moment(values, "stage_at", desk)
    return CustomerRow(
        line,
        id_,
        email,
        *_profile(values),
        since,
        updated_at,
        stage,
        stage_at or since,
        (stage_at or created_at) is not None,
        _attributes(values, desk),
        _word(values, desk),
    )


def _order(line: int, values: Mapping[str, Any], desk: Desk) -> OrderRow:
    id_, email = _who(values, "customer_id")
    order_id, paid_at = _text(values, "order_id"), _moment(values, "paid_at", desk)
    if order_id is None or paid_at is None:
        raise Unreadable(f"{'order_id' if order_id is None else 'paid_at'} is empty")
    shop = desk.catalog.shop.model
    currency = (_text(values, "currency") or shop.currency).upper()
    written = values.get("total")
    total = money_of(repr(written) if isinstance(written, float) else written, currency)
    total = Decimal(total) if type(total) is int else total
    if not isinstance(total, Decimal):
        raise Unreadable("total is not an amount such as 40.50")
    order: dict[str, Any] = {"id": order_id, "total": total, "currency": currency}
    for name, column in (("number", "order_number"), ("url", "url")):
        if (said := _text(values, column)) is not None:
            order[name] = said
    if (items := values.get("items")) is not None:
        if not isinstance(items, list):
            raise Unreadable("items is not a list; leave it out of a CSV file")
        order["items"] = items
    for name, value in values.items():
        if name.startswith("order.") and value not in (None, ""):
            order[name.removeprefix("order.")] = value
    try:
        payload = conforming({"order": order}, desk.catalog.events.get(shop.order_event, {}))
    except Unmappable as error:
        raise Unreadable(error.reason.rstrip(".")) from None
    stage = _known(values, "stage", desk.catalog.stage_names, "stage of this shop") or desk.stage
    return OrderRow(line, id_, email, *_profile(values), order_id, total, paid_at, stage, payload)


def _consent(line: int, values: Mapping[str, Any], desk: Desk) -> ConsentRow:
    id_, email = _who(values, "id")
    word = _word(values, desk)
    if word is None:
        raise Unreadable("consent says nothing, neither granted nor withdrawn")
    return ConsentRow(line, id_, email, word)


def _suppression(line: int, values: Mapping[str, Any], desk: Desk) -> SuppressionRow:
    email = _email(values)
    if email is None:
        raise Unreadable("email is empty")
    reason = _known(values, "reason", REASONS, "reason of a suppression") or "by-hand"
    covers = _known(values, "covers", ("marketing", "everything"), "reach of a suppression")
    covers = covers or ("marketing" if reason == "by-hand" else "everything")
    return SuppressionRow(line, email, reason, covers, _moment(values, "at", desk) or desk.as_of)  # type: ignore[arg-type]


def _code(line: int, values: Mapping[str, Any], desk: Desk) -> CodeRow:
    id_, email = _who(values, "id")
    programme, code = _text(values, "programme"), _text(values, "code")
    if programme is None or code is None:
        raise Unreadable(f"{'programme' if programme is None else 'code'} is empty")
    if not code.replace("-", "").replace("_", "").isalnum() or not code.isascii() or not 3 <= len(code) <= 64:
        raise Unreadable("code is not 3 to 64 letters, digits, - and _, as a link can carry them")
    return CodeRow(line, id_, email, programme, code, _moment(values, "made_at", desk) or desk.as_of)


def _balance(line: int, values: Mapping[str, Any], desk: Desk) -> BalanceRow:
    id_, email = _who(values, "id")
    name = _text(values, "programme")
    programme = desk.catalog.loyalty.get(name or "")
    if name is None or programme is None:
        raise Unreadable(
            f"programme is no loyalty programme in force; they are {', '.join(sorted(desk.catalog.loyalty)) or 'none'}"
        )
    given = [column for column in ("points", "credit") if values.get(column) not in (None, "")]
    if len(given) != 1:
        raise Unreadable("it says neither points nor credit" if not given else "points and credit stand on two rows")
    asset, amount = (programme.asset, _points(values)) if given == ["points"] else ("credit", _minor(values, desk))
    key = _text(values, "key") or OPENING
    if len(key) > LONGEST_KEY:
        raise Unreadable(f"key is longer than {LONGEST_KEY} characters")
    expires_at = _moment(values, "expires_at", desk, to_come=True)
    return BalanceRow(line, id_, email, name, asset, amount, expires_at, _moment(values, "at", desk) or desk.as_of, key)


def _points(values: Mapping[str, Any]) -> int:
    said = values["points"]
    amount = number(repr(said) if isinstance(said, float) else said)
    if not isinstance(amount, int | Decimal) or isinstance(amount, bool) or amount != int(amount) or amount < 0:
        raise Unreadable("points is no whole number of 0 or more")
    return _not_too_much("points", int(amount))


def _minor(values: Mapping[str, Any], desk: Desk) -> int:
    shop, said = desk.catalog.shop, values["credit"]
    amount = money_of(repr(said) if isinstance(said, float) else said, shop.model.currency)
    if not isinstance(amount, int | Decimal) or amount < 0:
        raise Unreadable("credit is no amount of 0 or more, such as 12.50")
    return _not_too_much("credit", shop.to_minor(Decimal(amount)))


def _not_too_much(column: str, amount: int) -> int:
    if amount > AMOUNT_MAX:
        raise Unreadable(f"{column} is more than the ledger takes")
    return amount


_READERS: Final[Mapping[str, Callable[[int, Mapping[str, Any], Desk], Row]]] = {
    "customers": _customer,
    "orders": _order,
    "consent": _consent,
    "suppressions": _suppression,
    "referral-codes": _code,
    "balances": _balance,
}


def _who(values: Mapping[str, Any], id_column: str) -> tuple[str | None, str | None]:
    id_, email = _text(values, id_column), _email(values)
    if id_ is None and email is None:
        raise Unreadable(f"it names nobody: neither {id_column} nor email is given")
    return id_, email


def _email(values: Mapping[str, Any]) -> str | None:
    written = _text(values, "email")
    if written is None:
        return None
    email = normalised_email(written)
    if email is None:
        raise Unreadable("email is not an e-mail address")
    return email


def _profile(values: Mapping[str, Any]) -> tuple[str | None, str | None, str | None, str | None, str | None]:
    """Phone, names, locale and zone. What cannot be used of them is let go, as with webhooks."""
    locale, zone = _text(values, "locale"), _text(values, "timezone")
    return (
        normalised_phone(_text(values, "phone")),
        _text(values, "first_name"),
        _text(values, "last_name"),
        locale.replace("_", "-") if locale and len(locale) <= 35 else None,
        zone if zone and known_zone(zone) else None,
    )


def _attributes(values: Mapping[str, Any], desk: Desk) -> dict[str, Any]:
    declared = desk.catalog.shop.attributes
    found: dict[str, Any] = {}
    for name, kind in declared.items():
        value = values.get(name)
        if value is None or value == "":
            continue
        match kind:
            case "yes-no":
                value = _YES_NO.get(str(value).strip().lower())
            case "number":
                said = number(value if not isinstance(value, float) else repr(value))
                value = said if isinstance(said, int | Decimal) and not isinstance(value, bool) else None
            case _:
                value = value.strip() if isinstance(value, str) and len(value) <= LONGEST_TEXT else None
        if value is None:
            raise Unreadable(f"{name} is not of the kind {kind}")
        found[name] = value
    return found


_YES_NO: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def _word(values: Mapping[str, Any], desk: Desk) -> Word | None:
    said = values.get("consent")
    if said is None or said == "":
        return None
    key = str(said).strip().lower()
    if key not in _SAID:
        raise Unreadable("consent is neither granted nor withdrawn; see `afterglow import --help`")
    state = _SAID[key]
    if state is None:
        return None
    at = _moment(values, "consent_at", desk)
    topic = _text(values, "consent_topic") or "*"
    if topic != "*" and topic not in desk.catalog.shop.model.topics:
        known = did_you_mean(topic, desk.catalog.shop.model.topics)
        raise Unreadable(f"consent_topic is no topic of shop.yaml{'.' + known if known else ''}")
    return Word(
        state,
        topic,
        _known(values, "consent_basis", BASES, "basis of consent") or "consent",
        _text(values, "consent_words"),
        at or desk.as_of,
        at is not None,
    )


def _known(values: Mapping[str, Any], column: str, known: Collection[str], what: str) -> str | None:
    said = _text(values, column)
    if said is not None and said not in known:
        raise Unreadable(f"{column} is no {what}; they are {', '.join(sorted(known))}")
    return said


def _text(values: Mapping[str, Any], column: str) -> str | None:
    said = values.get(column)
    if said is None or said == "":
        return None
    if type(said) is int:
        return str(said)
    if type(said) is not str:
        raise Unreadable(f"{column} should be text")
    if len(said) > LONGEST_TEXT:
        raise Unreadable(f"{column} is longer than {LONGEST_TEXT} characters")
    return said.strip() or None


def _moment(values: Mapping[str, Any], column: str, desk: Desk, *, to_come: bool = False) -> datetime | None:
    """A moment that a column holds; one that lies in the future only where it may be `to_come`."""
    said = values.get(column)
    if said is None or said == "":
        return None
    found: object
    if type(said) is int or (type(said) is str and said.isdigit() and 9 <= len(said) <= 13):
        seconds = int(said)
        found = datetime.fromtimestamp(seconds / 1000 if seconds > 10**11 else seconds, UTC) if seconds > 0 else None
    else:
        found = _written(said, desk.zone) if type(said) is str else None
    if not isinstance(found, datetime):
        raise Unreadable(f"{column} is not a moment; write it as 2026-03-02 or 2026-03-02T09:00:00+01:00")
    if found < EARLIEST or (found > desk.now + FUTURE and not to_come):
        raise Unreadable(f"{column} lies {'before 1990' if found < EARLIEST else 'in the future'}")
    return found


def _written(said: str, zone: ZoneInfo) -> datetime | None:
    """A written moment, which is the zone's where it names none."""
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        found = iso(said)  # "2026-03-02 09:00:00 +0100" and the like, always with an offset
        return found if isinstance(found, datetime) else None
    return from_wall(moment, zone) if moment.tzinfo is None else moment.astimezone(UTC)
