"""How the world tells of it: webhook bodies in the shapes that Shopify, Stripe and a site of the shop's own post.

Pure. The shapes are those of the providers' documentation, without the fields that nobody reads:
https://shopify.dev/docs/api/webhooks, https://docs.stripe.com/api/events. A site of one's own signs by Standard
Webhooks (https://www.standardwebhooks.com).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from workers.demo.people import Person

Body = dict[str, Any]

SHOP: Final = "https://ember-oak.example"
API_VERSION: Final = "2026-01"
STRIPE_VERSION: Final = "2025-09-30.clover"
CURRENCY: Final = "EUR"


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Something on the shelf."""

    title: str
    variant: str
    sku: str
    price: Decimal


SHELF: Final = (
    Item(title="House Roast", variant="250 g / whole beans", sku="HOUSE-250", price=Decimal("12.50")),
    Item(title="Guji Natural", variant="250 g / whole beans", sku="GUJI-250", price=Decimal("14.90")),
    Item(title="Ember Espresso", variant="1 kg / whole beans", sku="EMBER-1000", price=Decimal("39.00")),
    Item(title="Sugarcane Decaf", variant="250 g / filter grind", sku="DECAF-250", price=Decimal("13.50")),
    Item(title="Paper Filters", variant="100", sku="FILTER-100", price=Decimal("5.00")),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A basket, before and after it is paid."""

    id: int
    number: int
    at: datetime
    items: tuple[tuple[Item, int], ...]
    code: str | None = None

    @property
    def total(self) -> Decimal:
        """What is paid, in major units."""
        return sum((item.price * quantity for item, quantity in self.items), Decimal("0.00"))


def customer(person: Person, at: datetime) -> Body:
    """A customer as Shopify shows it, in `customers/create` and inside orders."""
    when = at.astimezone(ZoneInfo(person.zone)).isoformat(timespec="seconds")
    address = _address(person)
    return {
        "id": shopify_id(person),
        "email": person.email,
        "created_at": when,
        "updated_at": when,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "state": "disabled",
        "note": None,
        "verified_email": True,
        "phone": None,
        "email_marketing_consent": consent(person.consents, at),
        "sms_marketing_consent": None,
        "tags": "",
        "currency": CURRENCY,
        "admin_graphql_api_id": f"gid://shopify/Customer/{shopify_id(person)}",
        "locale": person.locale,
        "default_address": address,
        "addresses": [address],
    }


def consent(granted: bool | None, at: datetime) -> Body:
    """A word on marketing; False is no word at all, None a word against it."""
    state = {True: "subscribed", False: "not_subscribed", None: "unsubscribed"}[granted]
    return {
        "state": state,
        "opt_in_level": "single_opt_in" if granted else None,
        "consent_updated_at": None if granted is False else _iso(at),
    }


def consent_change(person: Person, granted: bool, at: datetime) -> Body:
    """`customers_email_marketing_consent/update`."""
    return {
        "customer_id": shopify_id(person),
        "email_address": person.email,
        "email_marketing_consent": consent(granted or None, at),
    }


def checkout(person: Person, basket: Order, at: datetime, *, completed_at: datetime | None = None) -> Body:
    """`checkouts/create` and `checkouts/update`."""
    token = f"demo{basket.id}"
    return {
        "id": basket.id + 10**12,
        "token": token,
        "email": person.email,
        "buyer_accepts_marketing": person.consents,
        "created_at": _iso(basket.at),
        "updated_at": _iso(at),
        "completed_at": _iso(completed_at) if completed_at else None,
        "currency": CURRENCY,
        "customer_locale": person.locale,
        "line_items": [_line(basket, place) for place in range(len(basket.items))],
        "abandoned_checkout_url": f"{SHOP}/checkouts/ac/{token}/recover",
        "discount_codes": [],
        "subtotal_price": str(basket.total),
        "total_price": str(basket.total),
        "shipping_address": _address(person),
        "customer": customer(person, basket.at) if person.kind != "guest" else None,
    }


def order(person: Person, bought: Order, at: datetime, *, paid: bool, sent: bool = False) -> Body:
    """`orders/create`, `orders/paid`, `orders/fulfilled`."""
    total = str(bought.total)
    return {
        "id": bought.id,
        "admin_graphql_api_id": f"gid://shopify/Order/{bought.id}",
        "buyer_accepts_marketing": person.consents,
        "cancel_reason": None,
        "cancelled_at": None,
        "checkout_id": bought.id + 10**12,
        "confirmed": True,
        "contact_email": person.email,
        "created_at": _iso(bought.at),
        "currency": CURRENCY,
        "customer_locale": person.locale,
        "discount_codes": [{"code": bought.code, "amount": "0.00", "type": "fixed_amount"}] if bought.code else [],
        "email": person.email,
        "financial_status": "paid" if paid else "pending",
        "fulfillment_status": "fulfilled" if sent else None,
        "name": f"#{bought.number}",
        "note": None,
        "order_number": bought.number,
        "order_status_url": f"{SHOP}/orders/demo{bought.id}",
        "processed_at": _iso(bought.at),
        "source_name": "web",
        "subtotal_price": total,
        "taxes_included": True,
        "test": False,
        "total_discounts": "0.00",
        "total_price": total,
        "total_tax": "0.00",
        "updated_at": _iso(at),
        "billing_address": _address(person),
        "shipping_address": _address(person),
        "customer": customer(person, bought.at) if person.kind != "guest" else None,
        "fulfillments": [],
        "line_items": [_line(bought, place) for place in range(len(bought.items))],
    }


def parcel(bought: Order, status: str, at: datetime) -> Body:
    """`fulfillment_events/create`."""
    return {
        "id": bought.id + 2 * 10**12,
        "fulfillment_id": bought.id + 3 * 10**12,
        "status": status,
        "message": {"delivered": "Delivered", "in_transit": "In transit"}[status],
        "happened_at": _iso(at),
        "created_at": _iso(at),
        "updated_at": _iso(at),
        "estimated_delivery_at": None,
        "order_id": bought.id,
    }


def refund(bought: Order, amount: Decimal, note: str, at: datetime) -> Body:
    """`refunds/create`."""
    return {
        "id": bought.id + 4 * 10**12,
        "created_at": _iso(at),
        "note": note,
        "order_id": bought.id,
        "processed_at": _iso(at),
        "restock": False,
        "order_adjustments": [],
        "transactions": [
            {
                "id": bought.id + 5 * 10**12,
                "amount": str(amount),
                "currency": CURRENCY,
                "created_at": _iso(at),
                "gateway": "shopify_payments",
                "kind": "refund",
                "order_id": bought.id,
                "status": "success",
                "test": False,
            }
        ],
        "refund_line_items": [],
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A subscription's plan."""

    name: str
    weeks: int
    amount: int  # minor units


PLAN: Final = Plan(name="House Roast, every two weeks", weeks=2, amount=2400)


def stripe_customer(person: Person, at: datetime) -> Body:
    """The object of `customer.created`."""
    return {
        "id": stripe_id(person),
        "object": "customer",
        "created": _epoch(at),
        "email": person.email,
        "name": person.name,
        "phone": None,
        "preferred_locales": [person.locale],
        "livemode": True,
        "metadata": {},
    }


def subscription(person: Person, plan: Plan, at: datetime, *, ended_at: datetime | None = None) -> Body:
    """The object of `customer.subscription.created` and `.deleted`."""
    sub = f"sub_demo{person.number}"
    price = {
        "id": "price_demo1",
        "object": "price",
        "currency": CURRENCY.lower(),
        "nickname": plan.name,
        "recurring": {"interval": "week", "interval_count": plan.weeks},
        "unit_amount": plan.amount,
    }
    item = {"id": f"si_demo{person.number}", "object": "subscription_item", "price": price, "quantity": 1}
    return {
        "id": sub,
        "object": "subscription",
        "cancel_at": None,
        "cancellation_details": {"reason": "payment_failed" if ended_at else None},
        "created": _epoch(at),
        "currency": CURRENCY.lower(),
        "customer": stripe_id(person),
        "ended_at": _epoch(ended_at) if ended_at else None,
        "items": {"object": "list", "data": [item], "has_more": False},
        "livemode": True,
        "metadata": {},
        "start_date": _epoch(at),
        "status": "canceled" if ended_at else "active",
    }


def invoice(person: Person, plan: Plan, n: int, at: datetime, *, paid: bool, attempt: int = 1) -> Body:
    """The object of `invoice.paid`, `.payment_succeeded` and `.payment_failed`; the first invoice is number 0."""
    id_ = f"in_demo{person.number}x{n}"
    line = {
        "id": f"il_demo{person.number}x{n}",
        "object": "line_item",
        "amount": plan.amount,
        "currency": CURRENCY.lower(),
        "description": plan.name,
        "quantity": 1,
    }
    return {
        "id": id_,
        "object": "invoice",
        "amount_due": plan.amount,
        "amount_paid": plan.amount if paid else 0,
        "amount_remaining": 0 if paid else plan.amount,
        "attempt_count": attempt,
        "billing_reason": "subscription_create" if n == 0 else "subscription_cycle",
        "created": _epoch(at),
        "currency": CURRENCY.lower(),
        "customer": stripe_id(person),
        "customer_email": person.email,
        "customer_name": person.name,
        "customer_phone": None,
        "hosted_invoice_url": f"https://invoice.stripe.example/i/{id_}",
        "lines": {"object": "list", "data": [line], "has_more": False},
        "livemode": True,
        "metadata": {},
        "next_payment_attempt": None if paid else _epoch(at + timedelta(days=3)),
        "number": f"DEMO-{person.number:04}-{n:02}",
        "parent": {
            "subscription_details": {"metadata": {}, "subscription": f"sub_demo{person.number}"},
            "type": "subscription_details",
        },
        "status": "paid" if paid else "open",
    }


def stripe_event(id: str, kind: str, thing: Mapping[str, Any], at: datetime, *, pending: int = 1) -> Body:
    """An event of Stripe's around its object. `pending` counts the deliveries to come: a retry differs in it."""
    return {
        "id": id,
        "object": "event",
        "api_version": STRIPE_VERSION,
        "created": _epoch(at),
        "data": {"object": thing},
        "livemode": True,
        "pending_webhooks": pending,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }


def own_event(kind: str, who: Mapping[str, Any], at: datetime, data: Mapping[str, Any] | None = None) -> Body:
    """What a system of the shop's own posts, in the words of `flows/sources/generic.yaml`."""
    return {"type": kind, "timestamp": _iso(at), "data": {"customer": dict(who), **(data or {})}}


def shopify_id(person: Person) -> int:
    """The person's number at Shopify."""
    return 7_100_000_000_000 + person.number


def stripe_id(person: Person) -> str:
    """The person's id at Stripe."""
    return f"cus_demo{person.number}"


def _address(person: Person) -> Body:
    return {
        "first_name": person.first_name,
        "last_name": person.last_name,
        "name": person.name,
        "address1": f"{person.number % 90 + 1} Example Street",
        "address2": None,
        "city": person.city,
        "zip": None,
        "country_code": person.country,
        "phone": None,
    }


def _line(bought: Order, place: int) -> Body:
    item, quantity = bought.items[place]
    return {
        "id": bought.id * 10 + place,
        "title": item.title,
        "variant_title": item.variant,
        "name": f"{item.title} - {item.variant}",
        "sku": item.sku,
        "price": str(item.price),
        "quantity": quantity,
        "requires_shipping": True,
        "vendor": "Ember & Oak Coffee",
        "properties": [],
    }


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _epoch(at: datetime) -> int:
    return int(at.timestamp())


def basket(choices: Sequence[tuple[int, int]]) -> tuple[tuple[Item, int], ...]:
    """Items off the shelf, given as (place on it, quantity)."""
    return tuple((SHELF[place], quantity) for place, quantity in choices)
