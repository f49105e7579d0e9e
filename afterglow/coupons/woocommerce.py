"""Coupons at WooCommerce, by its REST API: `POST /wp-json/wc/v3/coupons`.

https://developer.woocommerce.com/docs/apis/rest-api/v3/coupons/; the key needs to read and write. Codes are kept in
small letters; a second one is refused as `woocommerce_rest_coupon_code_already_exists`. Our mark is the description,
which only the shop's staff sees. What is taken out of use expires rather than being deleted, so that orders which used
it still show it.
"""

import json
from collections.abc import Generator
from datetime import datetime
from typing import Any

from afterglow.coupons.talking import (
    Call,
    Created,
    Creating,
    Disabled,
    Disabling,
    Reply,
    TroubleError,
    field_of,
    found_again,
    settled,
)
from afterglow.coupons.terms import Terms

PATH = "/wp-json/wc/v3/coupons"
#: An expiry in the past, by any clock.
_LONG_AGO = "2000-01-01T00:00:00"


def create(code: str, terms: Terms, attempt: int) -> Creating:
    """Have the code, or find that we have it."""
    reply = yield _written("POST", PATH, _coupon(code, terms))
    if reply.status == 400 and field_of(reply.content, "code") == "woocommerce_rest_coupon_code_already_exists":
        there = yield from _found(code)
        return found_again(there, _is_ours(there, terms))
    id_ = field_of(settled(reply, 200, 201), "id")
    if not isinstance(id_, int):
        raise TroubleError("created no coupon and does not say why")
    return Created(external_id=str(id_))


def disable(code: str, terms: Terms, external_id: str | None) -> Disabling:
    """Let the code expire, then see whether it was used: the other way round an order could come in between."""
    if external_id is None:
        there = yield from _found(code)
        if there is None or not _is_ours(there, terms):
            return Disabled(was_used=False)
        external_id = str(there["id"])
    reply = yield _written("PUT", f"{PATH}/{external_id}", {"date_expires_gmt": _LONG_AGO})
    if reply.status in (404, 410) or field_of(reply.content, "code") == "woocommerce_rest_shop_coupon_invalid_id":
        return Disabled(was_used=False)  # somebody deleted it
    return Disabled(was_used=bool(field_of(settled(reply, 200), "usage_count")))


def _coupon(code: str, terms: Terms) -> dict[str, Any]:
    percent = terms.percent is not None
    coupon: dict[str, Any] = {
        "code": code,
        "discount_type": "percent" if percent else "fixed_cart",
        "amount": str(terms.percent) if percent else terms.major(terms.amount or 0),
        "description": terms.named,
    }
    if terms.uses is not None:
        coupon["usage_limit"] = terms.uses
    if terms.once_per_customer:
        coupon["usage_limit_per_user"] = 1
    if terms.minimum is not None:
        coupon["minimum_amount"] = terms.major(terms.minimum)
    if terms.ends_at is not None:
        coupon["date_expires_gmt"] = _gmt(terms.ends_at)
    return coupon


def _gmt(moment: datetime) -> str:
    """As WordPress writes UTC: without a zone."""
    return moment.replace(tzinfo=None, microsecond=0).isoformat()


def _is_ours(coupon: Any, terms: Terms) -> bool:
    return bool(field_of(coupon, "description") == terms.named)


def _found(code: str) -> Generator[Call, Reply, Any]:
    listed = settled((yield Call(method="GET", path=f"{PATH}?code={code}")), 200)
    every = listed if isinstance(listed, list) else []
    return next((one for one in every if str(field_of(one, "code")).casefold() == code.casefold()), None)


def _written(method: Any, path: str, what: dict[str, Any]) -> Call:
    return Call(method=method, path=path, body=json.dumps(what).encode())
