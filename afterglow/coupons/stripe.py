"""Promotion codes at Stripe: a coupon for each worth, and a promotion code of it for each reward.

https://docs.stripe.com/api/promotion_codes/create. The coupon has an id of our own, made of what it is worth, so that
all codes of one worth share it. A promotion code is unique among the active ones, whatever the case. Our mark stands
in its metadata.
"""

import hashlib
from collections.abc import Generator
from typing import Any
from urllib.parse import urlencode

from afterglow.coupons.talking import (
    NOT_FOUND,
    NOT_OURS,
    Call,
    Created,
    Creating,
    Disabled,
    Disabling,
    Reply,
    TroubleError,
    field_of,
    settled,
)
from afterglow.coupons.terms import Terms

#: Since this one a promotion code names its coupon under `promotion`.
VERSION = "2025-09-30.clover"
_COUPONS, _CODES = "/v1/coupons", "/v1/promotion_codes"
_EXISTS = "resource_already_exists"


def create(code: str, terms: Terms, attempt: int) -> Creating:
    """Have the code, or find that we have it."""
    coupon = yield from _coupon(terms, attempt)
    fields = {
        "promotion[type]": "coupon",
        "promotion[coupon]": coupon,
        "code": code,
        "metadata[afterglow]": terms.mark,
    }
    if terms.uses is not None:
        fields["max_redemptions"] = str(terms.uses)
    if terms.minimum is not None:
        fields["restrictions[minimum_amount]"] = str(terms.minimum)
        fields["restrictions[minimum_amount_currency]"] = terms.currency.lower()
    if terms.ends_at is not None:
        fields["expires_at"] = str(int(terms.ends_at.timestamp()))
    reply = yield _posted(_CODES, fields, f"{terms.mark}-code-{attempt}")
    if _says_exists(reply):
        there, ours = yield from _found(code, terms)
        if ours is not None:
            return Created(external_id=ours)
        raise TroubleError(NOT_OURS, for_good=True) if there else TroubleError(NOT_FOUND)
    id_ = field_of(settled(reply, 200), "id")
    if not isinstance(id_, str):
        raise TroubleError("created no promotion code and does not say why")
    return Created(external_id=id_)


def disable(code: str, terms: Terms, external_id: str | None) -> Disabling:
    """Switch the code off, then see whether it was used: the other way round an order could come in between."""
    if external_id is None:
        _, external_id = yield from _found(code, terms)
        if external_id is None:
            return Disabled(was_used=False)
    reply = yield _posted(f"{_CODES}/{external_id}", {"active": "false"}, None)
    if reply.status == 404:
        return Disabled(was_used=False)
    return Disabled(was_used=bool(field_of(settled(reply, 200), "times_redeemed")))


def _coupon(terms: Terms, attempt: int) -> Generator[Call, Reply, str]:
    """The id of the coupon of this worth, made if need be."""
    worth = f"{terms.percent} percent" if terms.percent is not None else f"{terms.amount} {terms.currency}"
    id_ = "afterglow-" + hashlib.sha256(f"{terms.name}\0{worth}".encode()).hexdigest()[:20]
    reply = yield Call(method="GET", path=f"{_COUPONS}/{id_}", headers={"Stripe-Version": VERSION})
    if reply.status == 404:
        fields = {"id": id_, "name": terms.name[:40], "duration": "once", "metadata[afterglow]": "coupon"}
        if terms.percent is not None:
            fields["percent_off"] = str(terms.percent)
        else:
            fields |= {"amount_off": str(terms.amount), "currency": terms.currency.lower()}
        made = yield _posted(_COUPONS, fields, f"{terms.mark}-coupon-{attempt}")
        if not _says_exists(made):  # otherwise somebody else of us made it meanwhile
            settled(made, 200)
        return id_
    if field_of(settled(reply, 200), "metadata", "afterglow") != "coupon":
        raise TroubleError(f"has a coupon {id_} that is not ours", for_good=True)
    return id_


def _found(code: str, terms: Terms) -> Generator[Call, Reply, tuple[bool, str | None]]:
    """Whether there are promotion codes of this text, and the id of ours."""
    path = f"{_CODES}?{urlencode({'code': code, 'limit': 100})}"
    listed = settled((yield Call(method="GET", path=path, headers={"Stripe-Version": VERSION})), 200)
    every = field_of(listed, "data") or []
    ours = [str(one["id"]) for one in every if field_of(one, "metadata", "afterglow") == terms.mark]
    return bool(every), ours[0] if ours else None


def _says_exists(reply: Reply) -> bool:
    """Whether it exists already; for promotion codes not every version gives the error a code."""
    error: Any = field_of(reply.content, "error")
    said = f"{field_of(error, 'message')}"
    return reply.status == 400 and (field_of(error, "code") == _EXISTS or said.endswith("already exists."))


def _posted(path: str, fields: dict[str, str], key: str | None) -> Call:
    """A call that may be repeated.

    Each try has a key of its own: to a key that it knows Stripe gives its first answer again for a day, failures too.
    That a code is created once is due to its being unique.
    """
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Stripe-Version": VERSION}
    if key is not None:
        headers["Idempotency-Key"] = key
    return Call(method="POST", path=path, body=urlencode(fields).encode(), headers=headers)
