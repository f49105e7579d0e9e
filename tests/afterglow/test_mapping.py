"""Mapping: documented payloads become the right events, and no payload at all breaks anything."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.expressions.filters import email
from afterglow.language.source import read_source, supplies
from afterglow.mapping import (
    Account,
    Consent,
    CustomerFacts,
    Ignored,
    Mapped,
    PrivacyRequest,
    Unmappable,
    conforming,
    elements,
    map_element,
)
from afterglow.mapping.addresses import normalised_email, normalised_phone

ROOT = Path(__file__).parents[2]
PAYLOADS = ROOT / "tests" / "payloads"
RECEIVED = datetime(2026, 3, 20, 12, 0, tzinfo=UTC)
TRIGGERED = "2026-03-02T08:00:04.123456Z"


def source(name):
    return read_source((ROOT / f"flows/sources/{name}.yaml").read_text(), f"flows/sources/{name}.yaml")


SOURCES = {name: source(name) for name in ("shopify", "stripe", "generic")}
#: The other sources' payloads have tests of their own beside this one.
FILES = sorted(f"{name}/{path.stem}" for name in SOURCES for path in PAYLOADS.glob(f"{name}/*.json"))


def headers_of(file):
    """Shopify says in a header what it sends; the fixtures say it in their name."""
    kind, name = file.split("/", 1)
    if kind == "shopify":
        topic = name.split(".")[0].replace("-", "/")
        return {
            "x-shopify-topic": topic,
            "x-shopify-event-id": "98880550-7158-44d4-b7cd-2c97c8a091b5",
            "x-shopify-webhook-id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
            "x-shopify-triggered-at": TRIGGERED,
        }
    return {"webhook-id": "msg_1"} if kind == "generic" else {}


def body_of(file):
    return (PAYLOADS / f"{file}.json").read_bytes()


def mapped(file, *, body=None, **options):
    options.setdefault("received_at", RECEIVED)
    return map_element(SOURCES[file.split("/")[0]], headers_of(file), body or body_of(file), **options)


def at(text):
    return datetime.fromisoformat(text)


def event(name, when, customer, payload=None, *, stage=None, consent=None, account=None):
    return Mapped(
        event=name,
        occurred_at=at(when) if when else RECEIVED,
        stated_at=at(when) if when else None,
        stage=stage,
        customer=CustomerFacts(**customer),
        payload=payload or {},
        consent=consent,
        account=account,
    )


ADA = {
    "external_id": "7000000000001",
    "email": "ada.example@example.com",
    "phone": "+33612345678",
    "first_name": "Ada",
    "last_name": "Example",
}
ORDER = {
    "id": "5000000000001",
    "number": "#1001",
    "total": Decimal("44.90"),
    "currency": "EUR",
    "url": "https://ember-oak.example/1/orders/exampletoken0001/authenticate?key=example",
    "codes": ["FRIEND-7QK2"],
    "items": [
        {
            "title": "House Roast",
            "variant": "250 g / whole beans",
            "sku": "HOUSE-250",
            "quantity": 2,
            "price": Decimal("12.50"),
        },
        {"title": "Paper Filters", "sku": "FILTER-100", "quantity": 3, "price": Decimal("5.00")},
    ],
}
AT_HOME = ADA | {"country": "FR"}
FRENCH = AT_HOME | {"locale": "fr-FR"}
OF_THE_ORDER = {"order_id": "5000000000001"}
BUYER = {"external_id": "cus_example1", "email": "ada.example@example.com"}
SUBSCRIBER = {"external_id": "cus_example1"}
SUBSCRIPTION = {
    "id": "sub_example1",
    "status": "active",
    "plan": "House Roast, monthly",
    "amount": Decimal("38.00"),
    "currency": "EUR",
    "every": "month",
}
INVOICE = {
    "id": "in_example1",
    "number": "EXAMPLE-0002",
    "amount": Decimal("19.00"),
    "currency": "EUR",
    "url": "https://invoice.stripe.example/i/acct_example/live_example1",
}
RENEWED = {
    "subscription": {
        "id": "sub_example1",
        "plan": "1 × House Roast subscription (at €19.00 / month)",  # noqa: RUF001 - as Stripe writes it
        "amount": Decimal("19.00"),
        "currency": "EUR",
    },
    "invoice": INVOICE,
}


def one_item(id, number, currency, total, **item):
    url = {"url": ORDER["url"]} if number != "#1005" else {}
    given = {"title": "House Roast", "sku": "HOUSE-250", "quantity": 1} | item
    line = {name: value for name, value in given.items() if value is not None}
    amounts = {"total": Decimal(total)} if total else {}
    return {"order": {"id": id, "number": number, "currency": currency, "codes": [], "items": [line]} | url | amounts}


def checkout(id):
    url = "https://ember-oak.example/1/checkouts/ac/exampletoken0009/recover?key=example&locale=fr"
    item = ORDER["items"][0] | {"quantity": 1}
    return {"checkout": {"id": id, "total": Decimal("12.50"), "currency": "EUR", "url": url, "items": [item]}}


def consent(state, when, evidence="single_opt_in"):
    return Consent(state=state, topic="*", at=at(when), evidence=evidence)


def payment(id, amount, currency="EUR"):
    return {"payment": {"id": id, "amount": Decimal(amount), "currency": currency}}


def refund(id, amount, full):
    return {
        "payment": {"id": "pi_example1"},
        "refund": {"id": id, "amount": Decimal(amount), "currency": "EUR", "full": full},
    }


ELEVEN_FIVE = "2026-02-20T11:05:00+01:00"
NINE = "2026-03-02T09:00:00Z"
EXPECTED = {
    "shopify/orders-create": event("order.placed", "2026-03-02T09:00:00+01:00", FRENCH, {"order": ORDER}),
    "shopify/orders-paid": event("order.paid", TRIGGERED, FRENCH, {"order": ORDER}, stage="purchase"),
    "shopify/orders-fulfilled": event("order.fulfilled", TRIGGERED, FRENCH, {"order": ORDER}),
    "shopify/orders-cancelled": event(
        "order.cancelled", "2026-03-02T13:30:00+01:00", FRENCH, {"order": ORDER | {"reason": "customer"}}
    ),
    "shopify/orders-paid.guest": event(
        "order.paid",
        TRIGGERED,
        {
            "email": "guest@example.com",
            "country": "FR",
            "phone": "+33612345678",
            "first_name": "Noor",
            "last_name": "Sample",
            "locale": "en",
        },
        one_item(
            "5000000000002",
            "#1002",
            "EUR",
            "12.50",
            variant="250 g / ground",
            sku="HOUSE-250-G",
            price=Decimal("12.50"),
        ),
        stage="purchase",
    ),
    "shopify/orders-paid.zero-decimal": event(
        "order.paid",
        TRIGGERED,
        FRENCH,
        one_item("5000000000003", "#1003", "JPY", "4200", variant="250 g", quantity=2, price=Decimal(2100)),
        stage="purchase",
    ),
    "shopify/orders-paid.three-decimal": event(
        "order.paid",
        TRIGGERED,
        FRENCH,
        one_item("5000000000004", "#1004", "KWD", "7.250", variant="250 g", price=Decimal("7.250")),
        stage="purchase",
    ),
    "shopify/orders-paid.nulls": event(
        "order.paid",
        TRIGGERED,
        {"external_id": "7000000000001", "email": "ada.example@example.com"},
        one_item("5000000000005", "#1005", "EUR", None, sku=None),
        stage="purchase",
    ),
    "shopify/orders-paid.test-order": Ignored(reason="A test order, paid through a test gateway."),
    "shopify/orders-paid.counter-sale": Ignored(reason="A sale at the counter, to nobody we know."),
    "shopify/orders-paid.no-customer": "neither an id nor an e-mail address",
    "shopify/fulfillment_events-create.delivered": event(
        "order.delivered", "2026-03-05T10:12:00+01:00", OF_THE_ORDER, {"order": {"id": "5000000000001"}}
    ),
    "shopify/fulfillment_events-create.in-transit": Ignored(reason="A parcel on its way, not delivered yet."),
    "shopify/fulfillments-update.delivered": event(
        "order.delivered",
        "2026-03-05T10:15:33+01:00",
        OF_THE_ORDER | {"email": "ada.example@example.com"},
        {"order": {"id": "5000000000001"}},
    ),
    "shopify/fulfillments-update.label-printed": Ignored(reason="A parcel on its way, not delivered yet."),
    "shopify/refunds-create": event(
        "order.refunded",
        "2026-03-06T15:00:00+01:00",
        OF_THE_ORDER,
        {
            "order": {"id": "5000000000001"},
            "refund": {"id": "2000000000001", "amount": Decimal("12.50"), "note": "Beans arrived stale"},
        },
    ),
    "shopify/refunds-create.nothing-paid-back": event(
        "order.refunded",
        "2026-03-06T15:00:00+01:00",
        OF_THE_ORDER,
        {"order": {"id": "5000000000001"}, "refund": {"id": "2000000000002", "amount": 0}},
    ),
    "shopify/checkouts-create": event(
        "checkout.started",
        "2026-03-01T20:04:30+01:00",
        AT_HOME | {"phone": None, "locale": "fr"},
        checkout("3000000000010"),
        stage="decision",
    ),
    "shopify/checkouts-update": event(
        "checkout.started",
        "2026-03-01T20:04:30+01:00",
        AT_HOME | {"external_id": None, "phone": None, "locale": "fr"},
        checkout("3000000000009"),
        stage="decision",
    ),
    "shopify/checkouts-create.anonymous": Ignored(reason="A checkout of somebody who has not said who they are."),
    "shopify/checkouts-update.completed": Ignored(reason="A checkout that became an order."),
    "shopify/customers-create": event(
        "customer.created", ELEVEN_FIVE, AT_HOME, stage="awareness", consent=consent("granted", ELEVEN_FIVE)
    ),
    "shopify/customers-create.by-phone-only": event(
        "customer.created",
        ELEVEN_FIVE,
        ADA | {"external_id": "7000000000002", "email": None},
        stage="awareness",
    ),
    "shopify/customers-update.unsubscribed": event(
        "customer.updated",
        "2026-03-10T08:00:00+01:00",
        AT_HOME,
        consent=consent("withdrawn", "2026-03-10T08:00:00+01:00"),
    ),
    "shopify/customers-update.pending": event("customer.updated", "2026-03-10T08:00:00+01:00", AT_HOME),
    "shopify/customers_email_marketing_consent-update": event(
        "customer.updated",
        "2026-03-11T09:30:00Z",
        {"external_id": "7000000000001", "email": "ada.example@example.com"},
        consent=consent("granted", "2026-03-11T09:30:00Z", "confirmed_opt_in"),
    ),
    "shopify/customers-redact": PrivacyRequest(
        kind="forget",
        customer=CustomerFacts(external_id="7000000000001", email="ada.example@example.com", phone="+33612345678"),
    ),
    "shopify/customers-redact.nobody": "neither an id nor an e-mail address",
    "shopify/customers-data_request": PrivacyRequest(
        kind="export", customer=CustomerFacts(external_id="7000000000001", email="ada.example@example.com")
    ),
    "shopify/shop-redact": PrivacyRequest(kind="forget-everybody", customer=None),
    "shopify/products-update": Ignored(reason="No rule of the source 'shopify' speaks of this."),
    "stripe/payment_intent.succeeded": event("payment.succeeded", NINE, BUYER, payment("pi_example1", "19.99")),
    "stripe/payment_intent.succeeded.zero-decimal": event(
        "payment.succeeded", NINE, BUYER, payment("pi_example2", "500", "JPY")
    ),
    "stripe/payment_intent.succeeded.three-decimal": event(
        "payment.succeeded", NINE, BUYER, payment("pi_example3", "7.250", "KWD")
    ),
    "stripe/payment_intent.succeeded.nobody": Ignored(reason="A payment by nobody we know."),
    "stripe/payment_intent.succeeded.of-an-invoice": Ignored(
        reason="The payment of an invoice; invoice.payment_succeeded says so too, with the invoice."
    ),
    "stripe/charge.succeeded": Ignored(reason="The charge behind a payment; the payment itself says so too."),
    "stripe/charge.succeeded.without-intent": event(
        "payment.succeeded",
        NINE,
        {"email": "ada.example@example.com", "country": "FR"},
        payment("ch_example2", "19.99"),
    ),
    "stripe/charge.refunded": event(
        "payment.refunded", "2026-03-03T09:00:00Z", BUYER | {"country": "FR"}, refund("evt_example8", "19.99", True)
    ),
    "stripe/charge.refunded.second-part": event(
        "payment.refunded", "2026-03-03T09:00:00Z", BUYER | {"country": "FR"}, refund("evt_example9", "5.00", False)
    ),
    "stripe/invoice.paid.renewal": event("subscription.renewed", NINE, BUYER, RENEWED, stage="retention"),
    "stripe/invoice.paid.renewal-before-2025": event("subscription.renewed", NINE, BUYER, RENEWED, stage="retention"),
    "stripe/invoice.paid.first": Ignored(
        reason="The first invoice of a subscription; customer.subscription.created says so too."
    ),
    "stripe/invoice.paid.by-hand": Ignored(reason="An invoice that renews no subscription."),
    "stripe/invoice.payment_succeeded": event(
        "payment.succeeded",
        NINE,
        BUYER,
        payment("in_example1", "19.00") | {"invoice": {name: INVOICE[name] for name in ("id", "number", "url")}},
    ),
    "stripe/invoice.payment_failed": event(
        "payment.failed",
        NINE,
        BUYER,
        {
            "invoice": INVOICE | {"attempt": 2, "next_attempt_at": "2026-03-05T09:00:00Z"},
            "subscription": {"id": "sub_example1"},
        },
    ),
    "stripe/invoice.payment_failed.last-attempt": event(
        "payment.failed",
        NINE,
        SUBSCRIBER,
        {"invoice": INVOICE | {"attempt": 4}, "subscription": {"id": "sub_example1"}},
    ),
    "stripe/customer.subscription.created": event(
        "subscription.started", NINE, SUBSCRIBER, {"subscription": SUBSCRIPTION}, stage="retention"
    ),
    "stripe/customer.subscription.created.incomplete": Ignored(
        reason="A subscription whose first payment is not through yet."
    ),
    "stripe/customer.subscription.updated.first-payment-through": event(
        "subscription.started",
        "2026-03-02T09:01:00Z",
        SUBSCRIBER,
        {"subscription": SUBSCRIPTION},
        stage="retention",
    ),
    "stripe/customer.subscription.updated.ends-soon": event(
        "subscription.updated",
        "2026-03-03T09:00:00Z",
        SUBSCRIBER,
        {
            "subscription": {
                "id": "sub_example1",
                "status": "active",
                "plan": "house-monthly",
                "currency": "EUR",
                "every": "month",
                "ends_at": "2026-04-02T09:00:00Z",
            }
        },
    ),
    "stripe/customer.subscription.deleted": event(
        "subscription.cancelled",
        "2026-03-03T09:00:00Z",
        SUBSCRIBER,
        {"subscription": SUBSCRIPTION | {"status": "canceled", "reason": "cancellation_requested"}},
    ),
    "stripe/customer.created": event("customer.updated", NINE, BUYER | {"locale": "fr-FR"}),
    "stripe/customer.updated.address-taken-away": event("customer.updated", NINE, SUBSCRIBER),
    "stripe/product.created": Ignored(reason="No rule of the source 'stripe' speaks of this."),
    "generic/order.paid": event(
        "order.paid",
        "2026-03-02T09:00:00.123Z",
        ADA
        | {"external_id": "c-1", "locale": "fr-FR", "timezone": "Europe/Paris"}
        | {"attributes": {"grinder": True, "favourite": "House Roast"}},
        {
            "order": {
                "id": "o-1",
                "number": "#77",
                "total": "40.00",
                "currency": "EUR",
                "items": [{"title": "House Roast", "quantity": 2, "price": 12.5}],
            }
        },
        stage="purchase",
        consent=Consent(
            state="granted",
            topic="coffee-care",
            at=at("2026-02-20T10:05:00Z"),
            evidence="till, ticket 17",
        ),
        account=Account(id="a-1", name="Example Café"),
    ),
    "generic/order.paid.amount-as-number": event(
        "order.paid",
        "2026-03-02T09:00:00.123Z",
        {"email": "ada.example@example.com"},
        {"order": {"id": 78, "total": 19.99, "note": None}},
    ),
    "generic/survey.answered": event(
        "survey.answered", "2026-03-08T12:00:00+01:00", {"external_id": "c-1"}, {"score": 2}
    ),
    "generic/no-timestamp": event("survey.answered", None, {"external_id": "c-1"}, {"score": 5}),
    "generic/hides-the-shop": event(
        "order.paid",
        "2026-03-02T09:00:00.123Z",
        {"external_id": "c-1", "email": "ada.example@example.com"},
        {"order": {"id": "o-9"}},
    ),
    "generic/nul": event(
        "order.paid",
        "2026-03-02T09:00:00.123Z",
        {"external_id": "c-1", "first_name": "Ada"},
        {"order": {"id": "o-1"}},
    ),
    "generic/amount-in-words": event(
        "order.paid",
        "2026-03-02T09:00:00.123Z",
        {"external_id": "c-1", "email": "ada.example@example.com"},
        {"order": {"id": "o-1", "total": "forty"}},
    ),
    "generic/unknown-event": event(
        "order.piad",
        "2026-03-02T09:00:00.123Z",
        {"external_id": "c-1", "email": "ada.example@example.com"},
    ),
    "generic/unknown-stage": event(
        "order.paid",
        "2026-03-02T09:00:00.123Z",
        {"external_id": "c-1", "email": "ada.example@example.com"},
        stage="purchse",
    ),
    "generic/no-type": "The name of the event is missing",
    "generic/no-customer": "neither an id nor an e-mail address",
    "generic/bad-address-only": "what stands for an e-mail address is none",
    "generic/wrong-types": "customer.first_name should be text",
    "generic/seconds-for-milliseconds": "before 1990",
    "generic/from-the-future": "more than a day after it came",
}


def test_every_captured_payload_has_an_expected_result():
    assert sorted(EXPECTED) == FILES


@pytest.mark.parametrize("file", FILES)
def test_a_payload_becomes_what_is_expected(file):
    expected = EXPECTED[file]
    if isinstance(expected, str):
        with pytest.raises(Unmappable, match=expected):
            mapped(file)
    else:
        assert mapped(file) == expected


@pytest.mark.parametrize("file", FILES)
def test_what_is_mapped_can_be_kept_as_json_and_has_a_digest(file):
    if isinstance(EXPECTED[file], Mapped):
        result = mapped(file)
        assert json.loads(orjson.dumps(dict(result.payload), default=str)) is not None
        assert len(result.digest()) == 64
        assert result.digest() == mapped(file).digest()


# What the shop knows


KNOWN = {
    "order.paid": {"order.id": "text", "order.total": "number", "order.items[].price": "number"},
    "survey.answered": {"score": "number"},
}


def test_an_event_named_by_the_payload_must_be_known_to_the_shop():
    with pytest.raises(Unmappable, match=r"knows no event 'order.piad'.*Did you mean 'order.paid'\?"):
        mapped("generic/unknown-event", known_events=KNOWN)


def test_a_stage_named_by_the_payload_must_be_known_to_the_shop():
    with pytest.raises(Unmappable, match=r"knows no stage 'purchse'.*Did you mean 'purchase'\?"):
        mapped("generic/unknown-stage", known_stages=["awareness", "purchase"])


def test_events_named_by_the_file_need_not_be_asked_about():
    assert isinstance(mapped("shopify/orders-paid", known_events={}, known_stages=[]), Mapped)


def test_amounts_written_as_text_or_number_are_the_same_exact_number():
    as_text = mapped("generic/order.paid", known_events=KNOWN).payload["order"]
    as_number = mapped("generic/order.paid.amount-as-number", known_events=KNOWN).payload["order"]

    assert as_text["total"] == Decimal("40.00")
    assert as_text["items"][0]["price"] == Decimal("12.5")
    assert as_number["total"] == Decimal("19.99")
    assert as_number["id"] == "78"


def test_an_amount_that_is_none_is_refused_by_its_name():
    with pytest.raises(Unmappable, match=r"order\.total should be of the kind number"):
        mapped("generic/amount-in-words", known_events=KNOWN)


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("number", "1.50", Decimal("1.50")),
        ("number", 3, 3),
        ("number", 0.1, Decimal("0.1")),
        ("text", 17, "17"),
        ("yes-no", False, False),
        ("date", "2026-03-02T09:00:00+01:00", "2026-03-02T08:00:00Z"),
        ("date", "2026-03-02", "2026-03-02T00:00:00Z"),
        ("list", [1], [1]),
        ("unknown", {"a": 1}, {"a": 1}),
    ],
)
def test_a_declared_field_is_kept_in_its_kind(kind, value, kept):
    assert conforming({"a": {"b": value}}, {"a.b": kind}) == {"a": {"b": kept}}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("number", True),
        ("number", "x"),
        ("number", [1]),
        ("text", {"a": 1}),
        ("text", True),
        ("yes-no", "yes"),
        ("date", "soon"),
        ("date", 5),
        ("list", "x"),
    ],
)
def test_a_declared_field_of_another_kind_is_refused(kind, value):
    with pytest.raises(Unmappable, match=f"a.b should be of the kind {kind}"):
        conforming({"a": {"b": value}}, {"a.b": kind})


def test_conforming_leaves_the_given_payload_alone_and_passes_over_what_is_absent():
    given = {"a": {"b": "1"}, "items": [{"price": "2"}, {}]}
    result = conforming(given, {"a.b": "number", "a.c": "number", "d.e": "text", "items[].price": "number"})

    assert given == {"a": {"b": "1"}, "items": [{"price": "2"}, {}]}
    assert result == {"a": {"b": 1}, "items": [{"price": 2}, {}]}
    with pytest.raises(Unmappable, match=r"items\[\].price: a list of objects"):
        conforming({"items": [1]}, {"items[].price": "number"})
    with pytest.raises(Unmappable, match=r"a.b: an object"):
        conforming({"a": 1}, {"a.b": "number"})


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_what_a_source_is_said_to_supply_is_what_it_brings(name):
    """Flows and templates are checked against `supplies`: no payload may hold a path that it does not list."""
    supplied = supplies(SOURCES[name])
    for file in FILES:
        if file.startswith(f"{name}/") and isinstance(EXPECTED[file], Mapped) and name != "generic":
            result = mapped(file)
            for path, value in leaves(result.payload):
                kind = supplied[result.event][path]
                assert isinstance(value, PYTHON_KINDS[kind]), (file, path)


PYTHON_KINDS = {
    "text": str,
    "number": int | Decimal,
    "date": str,
    "list": list,
    "yes-no": bool,
    "unknown": object,
}


def leaves(value, before=""):
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from leaves(inner, f"{before}{name}.")
        else:
            yield before + name, inner
            if isinstance(inner, list) and inner and isinstance(inner[0], dict):
                for entry in inner:
                    yield from leaves(entry, f"{before}{name}[].")


# Time


def test_an_event_slightly_ahead_of_our_clock_happened_when_it_came():
    result = mapped("generic/survey.answered", received_at=at("2026-03-08T10:59:30Z"))

    assert result.occurred_at == at("2026-03-08T10:59:30Z")
    assert result.stated_at == at("2026-03-08T11:00:00Z")


def test_a_retry_that_comes_later_tells_the_same_story():
    for file in ("generic/no-timestamp", "generic/survey.answered", "shopify/orders-paid"):
        later = mapped(file, received_at=RECEIVED + timedelta(hours=3))
        assert later.digest() == mapped(file).digest()


def test_a_retry_that_differs_in_a_counter_tells_the_same_story():
    retried = json.loads(body_of("stripe/invoice.payment_failed")) | {"pending_webhooks": 0}
    counted = json.loads(body_of("generic/survey.answered")) | {"attempt": 2}

    first = mapped("stripe/invoice.payment_failed").digest()
    assert mapped("stripe/invoice.payment_failed", body=orjson.dumps(retried)).digest() == first
    first = mapped("generic/survey.answered").digest()
    assert mapped("generic/survey.answered", body=orjson.dumps(counted)).digest() == first


def test_another_amount_under_the_same_key_tells_another_story():
    changed = json.loads(body_of("shopify/orders-paid")) | {"total_price": "45.90"}
    assert mapped("shopify/orders-paid", body=orjson.dumps(changed)).digest() != mapped("shopify/orders-paid").digest()


def test_an_amount_that_cannot_be_read_is_not_taken_for_missing():
    changed = json.loads(body_of("shopify/orders-paid")) | {"total_price": "forty"}
    with pytest.raises(Unmappable, match=r"order\.total cannot be read"):
        mapped("shopify/orders-paid", body=orjson.dumps(changed))


# Dividing a request


def the_key(file, **headers):
    [element] = elements(SOURCES[file.split("/")[0]], headers_of(file) | headers, body_of(file))
    return element.key


def test_the_key_of_a_shopify_request_is_its_topic_and_event():
    key = the_key("shopify/orders-paid")

    assert key == "orders/paid/98880550-7158-44d4-b7cd-2c97c8a091b5"
    assert the_key("shopify/orders-create") != key  # one event of the shop may be posted under two topics


def test_an_older_shopify_request_goes_by_its_webhook_id():
    assert the_key("shopify/orders-paid", **{"x-shopify-event-id": ""}) == (
        "orders/paid/b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"
    )


def test_the_keys_of_stripe_and_of_standard_webhooks_are_their_ids():
    assert the_key("stripe/invoice.payment_failed") == "evt_example15"
    assert the_key("generic/order.paid") == "msg_1"


def test_without_a_key_a_request_goes_by_its_digest():
    [element] = elements(SOURCES["stripe"], {}, b'{"type": "invoice.paid"}')
    assert element.key == f"sha256:{element.digest}"


def test_a_key_of_which_no_column_keeps_anything_is_none():
    [element] = elements(SOURCES["generic"], {"webhook-id": "\0"}, b"{}")
    assert element.key == f"sha256:{element.digest}"


def test_a_boundless_key_is_kept_as_its_digest():
    [element] = elements(SOURCES["stripe"], {}, orjson.dumps({"id": "x" * 100_000}))
    assert element.key.startswith("sha256:")
    assert len(element.key) == 71


BATCH = read_source(
    "source: batch\nauth: none\neach: body.batch\nkey: item.id\nevents:\n"
    "  - event: {from: body.event}\n    customer: {id: body.userId}\n"
    "    payload: {product: {name: item.properties.name, lines: {each: body.lines, fields: {n: item.n}}}}\n",
    "batch.yaml",
)


def test_a_batch_is_divided_and_each_part_maps_by_itself():
    parts = [
        {"id": 7, "event": "product.viewed", "userId": "u1", "properties": {"name": "House"}, "lines": [{"n": 1}]},
        {"event": "product.viewed", "userId": "u2", "properties": {}},
    ]
    first, second = elements(BATCH, {}, orjson.dumps({"batch": parts}))

    assert first.key == "7"
    assert second.key == f"sha256:{second.digest}"
    assert map_element(BATCH, {}, first.body, received_at=RECEIVED).payload == {
        "product": {"name": "House", "lines": [{"n": 1}]}
    }
    assert map_element(BATCH, {}, second.body, received_at=RECEIVED).payload == {}


def test_parts_that_the_file_makes_itself_hold_numbers_as_they_came():
    made = read_source(
        'source: made\nauth: none\neach: \'[{"n": body.n, "whole": body}]\'\nkey: body.n\n'
        "events: [{event: order.paid, customer: {id: body.whole.c}}]\n",
        "made.yaml",
    )
    [element] = elements(made, {}, b'{"n": 1.10, "c": 1e30}')
    assert element.body == b'{"n":1.1,"whole":{"n":1.1,"c":1e+30}}'


def test_a_poor_part_does_not_spoil_its_batch():
    parts = elements(BATCH, {}, b'{"batch": [1, null, {"id": "a", "event": "x.y", "userId": "u"}]}')

    assert [part.key[:7] for part in parts] == ["sha256:", "sha256:", "a"]
    with pytest.raises(Unmappable, match="not a JSON object"):
        map_element(BATCH, {}, parts[0].body, received_at=RECEIVED)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"batch": {}}', b'{"batch": null}'])
def test_a_request_that_is_no_batch_is_unmappable(body):
    with pytest.raises(Unmappable, match=r"no list at `body\.batch`"):
        elements(BATCH, {}, body)


def test_an_empty_batch_is_nothing():
    assert elements(BATCH, {}, b'{"batch": []}') == []


def test_a_batch_of_too_many_is_unmappable():
    with pytest.raises(Unmappable, match="more than the 5000 allowed"):
        elements(BATCH, {}, orjson.dumps({"batch": [1] * 5001}))


# Bodies that are none


BAD_BODIES = {
    "nothing": b"",
    "not JSON": b"<xml/>",
    "cut off": b'{"id": "evt',
    "not UTF-8": b'{"id": "\xff\xfe"}',
    "half a character": b'{"id": "\\ud800"}',
    "not a number": b'{"id": NaN}',
    "infinite": b'{"id": 1e999}',
    "a bomb of lists": b"[" * 100_000,
    "a closed bomb of lists": b"[" * 900 + b"]" * 900,
    "a bomb of objects": b'{"a":' * 900 + b"1" + b"}" * 900,
    "33 deep": b"[" * 33 + b"]" * 33,
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_body_that_is_none_is_unmappable_with_a_reason(body):
    for read in (
        lambda: elements(SOURCES["stripe"], {}, body),
        lambda: map_element(SOURCES["stripe"], {}, body, received_at=RECEIVED),
    ):
        with pytest.raises(Unmappable) as caught:
            read()
        assert caught.value.reason.endswith(".")
        assert len(caught.value.reason) < 200


def test_a_body_32_deep_is_read():
    body = b'{"id": "e", "x": ' + b"[" * 31 + b"]" * 31 + b"}"
    assert elements(SOURCES["stripe"], {}, body)[0].key == "e"


def test_odd_json_that_is_valid_is_read():
    body = b'{"id": "first", "id": "second", "big": 123456789012345678901234567890, "": {"": []}}'
    assert elements(SOURCES["stripe"], {}, body)[0].key == "second"
    assert isinstance(map_element(SOURCES["stripe"], {}, body, received_at=RECEIVED), Ignored)


# No payload breaks anything


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["", "0", "-1", "1e400", "9" * 400, "2026-13-45", "a@b", "\x00", "é@é.example", "EURO"]),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def with_at(value, path, new):
    if not path:
        return new
    head, *rest = path
    if isinstance(value, dict):
        return {key: with_at(inner, rest, new) if key == head else inner for key, inner in value.items()}
    return [with_at(inner, rest, new) if index == head else inner for index, inner in enumerate(value)]


@given(data=st.data())
def test_a_mutated_payload_is_mapped_ignored_or_unmappable_and_nothing_else(data):
    file = data.draw(st.sampled_from(FILES))
    payload = json.loads(body_of(file))
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(list(places(payload))))
        payload = with_at(payload, path, data.draw(ODD))
    headers = headers_of(file)
    if data.draw(st.booleans()):
        headers = {name: data.draw(st.text(max_size=30)) for name in headers}
    one = SOURCES[file.split("/")[0]]
    body = json.dumps(payload).encode()

    for element in elements(one, headers, body):
        assert "\0" not in element.key
        try:
            result = map_element(one, headers, element.body, received_at=RECEIVED, known_events=KNOWN)
        except Unmappable:
            continue
        if isinstance(result, Mapped):
            assert result.digest()
            assert result.occurred_at <= RECEIVED
            assert "\0" not in repr(result)
            customer = result.customer
            assert customer.external_id or customer.email or customer.order_id


@given(st.binary(max_size=300), st.sampled_from(sorted(SOURCES)))
def test_any_bytes_are_mapped_ignored_or_unmappable(body, name):
    with suppress(Unmappable):
        for element in elements(SOURCES[name], {}, body):
            map_element(SOURCES[name], {}, element.body, received_at=RECEIVED)


@given(data=st.data())
def test_a_body_with_bytes_changed_is_mapped_ignored_or_unmappable(data):
    file = data.draw(st.sampled_from(FILES))
    body = bytearray(body_of(file))
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    one = SOURCES[file.split("/")[0]]
    with suppress(Unmappable):
        for element in elements(one, headers_of(file), bytes(body)):
            map_element(one, headers_of(file), element.body, received_at=RECEIVED)


# Addresses


@given(
    st.emails()
    | st.from_regex(r"[ A-Za-z0-9._+-]{1,12}@[A-Za-z0-9.-]{1,20}\.[a-z]{1,9}", fullmatch=True)
    | st.text(max_size=40)
)
def test_a_plainly_written_address_is_normalised_as_the_language_does(written):
    expected = email(written)
    assert normalised_email(written) == (expected if isinstance(expected, str) else None)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+33 6 12 34 56 78", "+33612345678"),
        ("+33-6.12(34)56/78", "+33612345678"),
        ("06 12 34 56 78", None),
        ("call me", None),
        (None, None),
    ],
)
def test_a_phone_number_is_kept_in_one_spelling(written, number):
    assert normalised_phone(written) == number
