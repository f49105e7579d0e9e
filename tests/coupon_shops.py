"""Shopify, WooCommerce and Stripe on one port of this machine, as far as codes go, and as their documentation has it.

with coupon_shops() as shops:
    shops.lead(monkeypatch)                   # the application asks here
    shops.faults += ["500", "429 retry-after=2", "lost"]   # the next requests, one each; `always` means every request
    shops.codes["shopify"]["ABC"].uses = 1

Faults: a status with an optional `retry-after=`, and

    lost        the request is done, and the connection closed without an answer
    hang        nothing is done, and no answer comes for two seconds
    html        a page, with status 200
    throttled   what GraphQL answers with status 200 to one who asks too much (the others: 429)
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from afterglow.coupons.providers import PROVIDERS, Access
from afterglow.language.fetch import FetchRate

ENVIRONMENT: Mapping[str, str] = {
    "SHOPIFY_SHOP": "small",
    "SHOPIFY_ADMIN_TOKEN": "shpat_of_the_tests",
    "WOOCOMMERCE_URL": "https://small.example",
    "WOOCOMMERCE_KEY": "ck_of_the_tests",
    "WOOCOMMERCE_SECRET": "cs_of_the_tests",
    "STRIPE_API_KEY": "rk_of_the_tests",
}
_BASIC = "Basic " + base64.b64encode(b"ck_of_the_tests:cs_of_the_tests").decode()

Answered = tuple[int, Any]


@dataclass
class Code:
    """A code as a shop keeps it."""

    id: str
    code: str
    said: dict[str, Any]
    active: bool = True
    uses: int = 0


def _shops() -> dict[str, dict[str, Code]]:
    return {"shopify": {}, "woocommerce": {}, "stripe": {}}


@dataclass
class CouponShops:
    """What the three shops hold, and what was asked of them."""

    #: By shop, by the code in capitals; of Stripe the active ones.
    codes: dict[str, dict[str, Code]] = field(default_factory=_shops)
    #: Every code that was ever created, by shop.
    created: list[tuple[str, str]] = field(default_factory=list)
    stripe_coupons: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: deque[str] = field(default_factory=deque)
    always: dict[str, str] = field(default_factory=dict)
    #: (shop, method, path) of every request, and its headers.
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    base: str = ""
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def lead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the application ask here instead of the real shops, with credentials that open them."""
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        for provider, talks in PROVIDERS.items():
            monkeypatch.setitem(PROVIDERS, provider, here(provider, talks, self.base))  # type: ignore[arg-type]

    def answer(self, shop: str, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answered:
        """One request, done."""
        with self._lock:
            url = urlsplit(target)
            text = body.decode()
            if shop == "shopify":
                return self._shopify(headers, json.loads(text))
            if shop == "woocommerce":
                return self._woocommerce(method, url.path, parse_qs(url.query), headers, text)
            return self._stripe(method, url.path, parse_qs(url.query), headers, dict(parse_qsl(text)))

    # Shopify

    def _shopify(self, headers: Mapping[str, str], asked: dict[str, Any]) -> Answered:
        if headers.get("x-shopify-access-token") != ENVIRONMENT["SHOPIFY_ADMIN_TOKEN"]:
            return 401, {"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"}
        codes, given, query = self.codes["shopify"], asked["variables"], asked["query"]
        if "discountCodeBasicCreate" in query:
            discount = given["discount"]
            value = discount["customerGets"]["value"]
            assert discount["context"] == {"all": "ALL"}
            assert discount["customerGets"]["items"] == {"all": True}
            assert ("percentage" in value) != ("discountAmount" in value)
            if value.get("percentage", 0) > 1:
                wrong = {"field": ["basicCodeDiscount"], "code": "INVALID", "message": "Value must be between 0 and 1"}
                return 200, _said("discountCodeBasicCreate", None, [wrong])
            if discount["code"].upper() in codes:
                wrong = {
                    "field": ["basicCodeDiscount", "code"],
                    "code": "TAKEN",
                    "message": "Code must be unique. Please try a different code.",
                }
                return 200, _said("discountCodeBasicCreate", None, [wrong])
            made = self._create("shopify", "gid://shopify/DiscountCodeNode/{}", discount["code"], discount)
            return 200, _said("discountCodeBasicCreate", {"id": made.id}, [])
        if "discountCodeDeactivate" in query:
            found = next((one for one in codes.values() if one.id == given["id"]), None)
            if found is None:
                wrong = {"field": ["id"], "code": "INVALID", "message": "Code discount does not exist."}
                return 200, _said("discountCodeDeactivate", None, [wrong])
            found.active = False
            node = {"codeDiscount": {"asyncUsageCount": found.uses}}
            return 200, _said("discountCodeDeactivate", node, [])
        found = codes.get(given["code"].upper())
        node = {"id": found.id, "codeDiscount": {"title": found.said["title"]}} if found else None  # type: ignore[dict-item]
        return 200, {"data": {"codeDiscountNodeByCode": node}}

    # WooCommerce

    def _woocommerce(
        self, method: str, path: str, query: dict[str, list[str]], headers: Mapping[str, str], text: str
    ) -> Answered:
        if headers.get("authorization") != _BASIC:
            return 401, {"code": "woocommerce_rest_cannot_create", "data": {"status": 401}}
        codes = self.codes["woocommerce"]
        if method == "GET":
            found = codes.get(query["code"][0].upper())
            return 200, [_coupon(found)] if found else []
        said = json.loads(text)
        if method == "POST":
            if said["code"].upper() in codes:
                return 400, {"code": "woocommerce_rest_coupon_code_already_exists", "data": {"status": 400}}
            assert said["discount_type"] in ("percent", "fixed_cart")
            return 201, _coupon(self._create("woocommerce", "{}", said["code"].lower(), said))
        id_ = path.rpartition("/")[2]
        there = next((one for one in codes.values() if one.id == id_), None)
        if there is None:
            return 400, {"code": "woocommerce_rest_shop_coupon_invalid_id", "data": {"status": 400}}
        there.active = not said["date_expires_gmt"] < "2026"
        return 200, _coupon(there)

    # Stripe

    def _stripe(
        self, method: str, path: str, query: dict[str, list[str]], headers: Mapping[str, str], said: dict[str, str]
    ) -> Answered:
        if headers.get("authorization") != f"Bearer {ENVIRONMENT['STRIPE_API_KEY']}":
            return 401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided"}}
        codes = self.codes["stripe"]
        match method, path.split("/")[2:]:
            case "GET", ["coupons", id_]:
                found = self.stripe_coupons.get(id_)
                metadata = {"afterglow": found["metadata[afterglow]"]} if found else {}
                return (200, {"id": id_, "metadata": metadata}) if found else _stripe_error(404, "resource_missing")
            case "POST", ["coupons"]:
                if said["id"] in self.stripe_coupons:
                    return _stripe_error(400, "resource_already_exists")
                self.stripe_coupons[said["id"]] = said
                return 200, {"id": said["id"], "metadata": {"afterglow": said["metadata[afterglow]"]}}
            case "GET", ["promotion_codes"]:
                wanted = query["code"][0].upper()
                return 200, {"data": [_promotion(one) for one in codes.values() if one.code.upper() == wanted]}
            case "POST", ["promotion_codes"]:
                if (there := codes.get(said["code"].upper())) and there.active:
                    message = f"An active promotion code with `code: {said['code']}` already exists."
                    return 400, {"error": {"type": "invalid_request_error", "message": message}}
                if said["promotion[coupon]"] not in self.stripe_coupons:
                    return _stripe_error(400, "resource_missing")
                return 200, _promotion(self._create("stripe", "promo_{}", said["code"], said))
            case "POST", ["promotion_codes", id_]:
                promotion = next((one for one in codes.values() if one.id == id_), None)
                if promotion is None:
                    return _stripe_error(404, "resource_missing")
                promotion.active = said["active"] == "true"
                return 200, _promotion(promotion)
        return _stripe_error(404, "no_such_path")

    def _create(self, shop: str, id_: str, code: str, said: dict[str, Any]) -> Code:
        made = Code(id=id_.format(len(self.created) + 100), code=code, said=said)
        self.codes[shop][code.upper()] = made
        self.created.append((shop, code.upper()))
        return made


def here(provider: str, talks: Any, base: str) -> Any:
    """How a provider is talked to, at this address, and as often as one likes."""
    rate = FetchRate(at_most=1000, within="60 seconds")  # twelve seconds late is in time still, on a slow machine
    real = talks.access
    return replace(
        talks, rate=rate, access=lambda given: Access(base=f"{base}/{provider}", headers=real(given).headers)
    )


def _said(name: str, node: Any, errors: list[Any]) -> dict[str, Any]:
    return {"data": {name: {"codeDiscountNode": node, "userErrors": errors}}}


def _coupon(one: Code) -> dict[str, Any]:
    said = {"description": one.said["description"], "usage_count": one.uses}
    return {"id": int(one.id), "code": one.code, **said}


def _promotion(one: Code) -> dict[str, Any]:
    mark = {"afterglow": one.said.get("metadata[afterglow]", "")}
    return {"id": one.id, "code": one.code, "active": one.active, "times_redeemed": one.uses, "metadata": mark}


def _stripe_error(status: int, code: str) -> Answered:
    return status, {"error": {"type": "invalid_request_error", "code": code, "message": "No."}}


@contextmanager
def coupon_shops() -> Iterator[CouponShops]:
    """The three shops on a free port, each below its name."""
    shops = CouponShops()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            _, shop, rest = self.path.split("/", 2)
            headers = {name.lower(): value for name, value in self.headers.items()}
            shops.asked.append((shop, self.command, f"/{rest}"))
            shops.headers.append(headers)
            fault = shops.faults.popleft() if shops.faults else shops.always.get(shop, "")
            word, _, wish = fault.partition(" ")
            if fault == "hang":
                time.sleep(2)
                self.close_connection = True
                return None
            if word.isdigit():
                return self._say(int(word), {"message": "No."}, wish.removeprefix("retry-after="))
            if fault == "html":
                return self._say(200, None)
            if fault == "throttled" and shop == "shopify":
                wrong = {"message": "Throttled", "extensions": {"code": "THROTTLED"}}
                return self._say(200, {"errors": [wrong]})
            if fault == "throttled":
                return self._say(429, {"message": "Slower."})
            status, content = shops.answer(shop, self.command, f"/{rest}", headers, body)
            if fault == "lost":
                self.close_connection = True
                return None
            return self._say(status, content)

        def _say(self, status: int, content: Any, quiet: str = "") -> None:
            text = b"<h1>Maintenance</h1>" if content is None else json.dumps(content).encode()
            with suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                if quiet:
                    self.send_header("Retry-After", quiet)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        do_GET = do_POST = do_PUT = _do

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    shops.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield shops
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
