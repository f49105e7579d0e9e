"""Whose friend a customer is.

A touch is one sign of a referrer: a typed code, a discount code of an order, the address at which a visit began, a
recorded click. The rules, in the order in which they are asked:

1. A touch counts if its way is one of the programme's, if it is not older than the window (half-open: a qualifying
   event exactly at the end is too late), if the code existed by then, and if the code is not the customer's own.
2. The way that the programme names first beats the later ones.
3. Of touches of one way the first counts, or the last, as the programme says; of two at one instant the lower number.

The answer depends on the set of touches alone, so it does not matter in which order they arrive.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from afterglow.language.referral import Method, ReferralProgramme

#: What a referral link adds to the address of the shop's page: the code, and a token of the click.
REF: Final = "ref"
CLICK: Final = "ref_click"
_LONGEST: Final = 4_000
_CODE_MAX: Final = 40
#: An order has a code or two; more is an attack or a mistake.
_CODES_MAX: Final = 10


class Sign(NamedTuple):
    """What an event says: by which way, and the code or (for a click) its token."""

    method: Method
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Touch:
    """A sign whose code is known. `at` is when the code was used: for a click, when it was clicked."""

    id: int
    programme: str
    referrer: int
    method: Method
    at: datetime
    code_made_at: datetime


def spelled(code: str) -> str:
    """A code as codes are compared: capitals, without spaces around."""
    return code.strip().upper()


def signs(payload: Mapping[str, Any]) -> list[Sign]:
    """The signs of a referrer in an event's payload, each once.

    `referral.code` is a code that was typed, `referral.click` the token of a click that the shop's page handed on,
    `order.codes` the discount codes and `order.landing` the address at which the visit began.
    """
    referral, order = (_group(payload, name) for name in ("referral", "order"))
    found: list[Sign] = []
    if (code := _code(referral.get("code"))) is not None:
        found.append(Sign("code", code))
    codes = order.get("codes")
    if isinstance(codes, list):
        found += [Sign("discount", code) for one in codes[:_CODES_MAX] if (code := _code(one)) is not None]
    if isinstance(landing := order.get("landing"), str):
        found += _of_address(landing)
    if isinstance(click := referral.get("click"), str) and 0 < len(click) <= _CODE_MAX:
        found.append(Sign("click", click))
    return list(dict.fromkeys(found))


def _of_address(address: str) -> list[Sign]:
    try:
        query = dict(parse_qsl(urlsplit(address[:_LONGEST]).query, max_num_fields=100))
    except ValueError:
        return []
    found: list[Sign] = []
    if (code := _code(query.get(REF))) is not None:
        found.append(Sign("landing", code))
    if 0 < len(click := query.get(CLICK, "")) <= _CODE_MAX:
        found.append(Sign("click", click))
    return found


def _group(payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = payload.get(name)
    return value if isinstance(value, Mapping) else {}


def _code(given: object) -> str | None:
    if not isinstance(given, str):
        return None
    code = spelled(given)
    return code if 0 < len(code) <= _CODE_MAX else None


def attributed(
    programme: ReferralProgramme, touches: Iterable[Touch], *, customer: int, at: datetime, zone: ZoneInfo
) -> Touch | None:
    """The touch that says who the referrer of a customer is at an instant; None where none counts.

    Args:
      at: the instant at which it must count: of the qualifying event.
      zone: of the shop, where the window counts days.
    """
    valid = [touch for touch in touches if _counts(programme, touch, customer, at, zone)]
    if not valid:
        return None
    ranks = {method: n for n, method in enumerate(programme.methods)}
    best = min(ranks[touch.method] for touch in valid)
    mine = [touch for touch in valid if ranks[touch.method] == best]
    if programme.touch == "first":
        return min(mine, key=lambda touch: (touch.at, touch.id))
    latest = max(touch.at for touch in mine)
    return min((touch for touch in mine if touch.at == latest), key=lambda touch: touch.id)


def _counts(programme: ReferralProgramme, touch: Touch, customer: int, at: datetime, zone: ZoneInfo) -> bool:
    return (
        touch.programme == programme.name
        and touch.method in programme.methods
        and touch.referrer != customer
        and touch.code_made_at <= touch.at <= at < programme.window.after(touch.at, zone)
    )
