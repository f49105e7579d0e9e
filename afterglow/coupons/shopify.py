"""Discount codes at Shopify, by its Admin GraphQL API: `discountCodeBasicCreate` and `discountCodeDeactivate`.

https://shopify.dev/docs/api/admin-graphql/latest/mutations/discountCodeBasicCreate; the token needs `write_discounts`
and `read_discounts`. A code is unique in a shop, whatever the case; a second one is the user error TAKEN. Our mark
stands in the title, which only the shop's staff sees.
"""

import json
from collections.abc import Generator
from typing import Any

from afterglow.asking import QUIET
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

PATH = "/admin/api/2026-07/graphql.json"
_CREATE = """
mutation($discount: DiscountCodeBasicInput!) {
  discountCodeBasicCreate(basicCodeDiscount: $discount) {
    codeDiscountNode { id }
    userErrors { field code message }
  }
}"""
_FIND = """
query($code: String!) {
  codeDiscountNodeByCode(code: $code) { id codeDiscount { ... on DiscountCodeBasic { title } } }
}"""
_DEACTIVATE = """
mutation($id: ID!) {
  discountCodeDeactivate(id: $id) {
    codeDiscountNode { codeDiscount { ... on DiscountCodeBasic { asyncUsageCount } } }
    userErrors { field code message }
  }
}"""


def create(code: str, terms: Terms, attempt: int) -> Creating:
    """Have the code, or find that we have it."""
    made = yield from _asked(_CREATE, {"discount": _discount(code, terms)}, "discountCodeBasicCreate")
    wrong = {field_of(one, "code") for one in made.get("userErrors") or ()}
    if "TAKEN" in wrong:
        node = yield from _found(code)
        return found_again(node, _is_ours(node, terms))
    if wrong:
        raise TroubleError(f"refuses the discount ({', '.join(sorted(map(str, wrong)))})", for_good=True)
    id_ = field_of(made, "codeDiscountNode", "id")
    if not isinstance(id_, str):
        raise TroubleError("created no discount and does not say why")
    return Created(external_id=id_)


def disable(code: str, terms: Terms, external_id: str | None) -> Disabling:
    """Deactivate the code, then see whether it was used: the other way round an order could come in between."""
    if external_id is None:
        node = yield from _found(code)
        if node is None or not _is_ours(node, terms):
            return Disabled(was_used=False)
        external_id = str(node["id"])
    done = yield from _asked(_DEACTIVATE, {"id": external_id}, "discountCodeDeactivate")
    if field_of(done, "codeDiscountNode") is None:
        node = yield from _found(code)
        if node is not None and _is_ours(node, terms):
            raise TroubleError("does not deactivate the discount", for_good=True)
        return Disabled(was_used=False)  # somebody deleted it
    return Disabled(was_used=bool(field_of(done, "codeDiscountNode", "codeDiscount", "asyncUsageCount")))


def _discount(code: str, terms: Terms) -> dict[str, Any]:
    if terms.percent is not None:
        value: dict[str, Any] = {"percentage": float(terms.percent / 100)}
    else:
        value = {"discountAmount": {"amount": terms.major(terms.amount or 0), "appliesOnEachItem": False}}
    discount: dict[str, Any] = {
        "title": terms.named,
        "code": code,
        "startsAt": terms.starts_at.isoformat(),
        "context": {"all": "ALL"},
        "customerGets": {"value": value, "items": {"all": True}},
        "appliesOncePerCustomer": terms.once_per_customer,
    }
    if terms.uses is not None:
        discount["usageLimit"] = terms.uses
    if terms.minimum is not None:
        discount["minimumRequirement"] = {"subtotal": {"greaterThanOrEqualToSubtotal": terms.major(terms.minimum)}}
    if terms.ends_at is not None:
        discount["endsAt"] = terms.ends_at.isoformat()
    return discount


def _is_ours(node: Any, terms: Terms) -> bool:
    return bool(field_of(node, "codeDiscount", "title") == terms.named)


def _found(code: str) -> Generator[Call, Reply, Any]:
    return (yield from _asked(_FIND, {"code": code}, "codeDiscountNodeByCode"))


def _asked(query: str, variables: dict[str, Any], name: str) -> Generator[Call, Reply, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    content = settled((yield Call(method="POST", path=PATH, body=body)), 200)
    if errors := field_of(content, "errors"):  # GraphQL says with 200 what others say with a status
        code = field_of(errors, 0, "extensions", "code")
        if code == "THROTTLED":
            raise TroubleError("asks for fewer requests", quiet=QUIET)
        if code == "ACCESS_DENIED":
            raise TroubleError("denies access: the token needs the scopes read_discounts and write_discounts")
        if code == "INTERNAL_SERVER_ERROR":
            raise TroubleError("had an error of its own")
        raise TroubleError("does not understand what we ask", for_good=True)
    if "data" not in content:
        raise TroubleError("answered with something that is no GraphQL")
    answer = field_of(content, "data", name)
    return answer if name == "codeDiscountNodeByCode" else answer or {}
