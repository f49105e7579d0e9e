"""Mapping of WooCommerce, Pipedrive and Judge.me: what their documented payloads become, element by element."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from afterglow.language.source import read_source, supplies
from afterglow.mapping import Account, CustomerFacts, Ignored, Mapped, Unmappable, elements, map_element

ROOT = Path(__file__).parents[2]
PAYLOADS = ROOT / "tests" / "payloads"
RECEIVED = datetime(2026, 3, 20, 12, 0, tzinfo=UTC)
NAMES = ("judgeme", "pipedrive", "woocommerce")
SOURCES = {
    name: read_source((ROOT / f"flows/sources/{name}.yaml").read_text(), f"flows/sources/{name}.yaml") for name in NAMES
}
FILES = sorted(
    path.relative_to(PAYLOADS).with_suffix("").as_posix() for name in NAMES for path in PAYLOADS.glob(f"{name}/*.json")
)


def headers_of(file, delivery="delivery-1"):
    """WooCommerce says in headers what it sends; the fixtures say it in their name."""
    name, topic = file.split("/")
    if name != "woocommerce":
        return {}
    return {"x-wc-webhook-topic": ".".join(topic.split(".")[:2]), "x-wc-webhook-delivery-id": delivery}


def said(file, body=None, delivery="delivery-1", received_at=RECEIVED):
    """What each element of a request becomes, by its key; Unmappable as its reason."""
    source, headers = SOURCES[file.split("/")[0]], headers_of(file, delivery)
    found = {}
    for element in elements(source, headers, body or (PAYLOADS / f"{file}.json").read_bytes()):
        try:
            result = map_element(source, headers, element.body, received_at=received_at)
        except Unmappable as error:
            result = error.reason
        found.setdefault(element.key, []).append(result)
    assert all(len(results) == 1 for results in found.values())
    return {key: results[0] for key, results in found.items()}


def event(name, when, customer, payload=None, *, stage=None, account=None):
    moment = datetime.fromisoformat(when) if when else None
    return Mapped(
        event=name,
        occurred_at=moment or RECEIVED,
        stated_at=moment,
        stage=stage,
        customer=CustomerFacts(**customer),
        payload=payload or {},
        consent=None,
        account=account,
    )


# WooCommerce

ADA = {"external_id": "26", "email": "ada.example@example.com"}
NAMED = ADA | {"phone": "+33612345678", "first_name": "Ada", "last_name": "Example"}
NOOR = {"email": "guest@example.com", "phone": "+33612345678", "first_name": "Noor", "last_name": "Sample"}
BAG = {"title": "House Roast - 250 g", "sku": "HOUSE-250", "quantity": 1, "price": Decimal("12.50")}
ORDER = {
    "id": "727",
    "number": "727",
    "total": Decimal("44.90"),
    "currency": "EUR",
    "codes": ["friend-7qk2"],
    "items": [
        BAG | {"quantity": 2},
        {"title": "Paper Filters", "sku": "FILTER-100", "quantity": 3, "price": Decimal("5.00")},
    ],
}
BRIEF = {"order": {"id": "727", "number": "727"}}
EIGHT = "2026-03-02T08:00:00Z"
PLACED = event("order.placed", EIGHT, NAMED, {"order": ORDER})
PAID = event("order.paid", "2026-03-02T08:00:30Z", NAMED, {"order": ORDER}, stage="purchase")
STALE = event(
    "order.refunded",
    None,
    ADA,
    BRIEF | {"refund": {"id": "741", "amount": Decimal("12.50"), "note": "Beans arrived stale"}},
)
PLACED_727, PAID_727 = "order/727/placed/44.90", "order/727/paid"


def placed_and_paid(id, customer, order, *, when=EIGHT, paid="2026-03-02T08:00:30Z"):
    whole = {"order": {"id": id, "number": id, "currency": "EUR", "codes": []} | order}
    return {
        f"order/{id}/placed/{order.get('total', '')}": event("order.placed", when, customer, whole),
        f"order/{id}/paid": event("order.paid", paid, customer, whole, stage="purchase"),
    }


NOT_ORDERED = Ignored(reason="A basket at the checkout, not ordered yet.")
IN_THE_BIN = Ignored(reason="An order in the bin, or out of it again; nothing was said about money.")
WOOCOMMERCE = {
    "order.created.pending": {PLACED_727: PLACED},
    "order.created.on-hold": {PLACED_727: PLACED},
    "order.created.cash-on-delivery": {PLACED_727: PLACED},
    "order.created.checkout-draft": {"order.created/727/delivery-1": NOT_ORDERED},
    "order.created.nobody": {
        "order/732/placed/0.00": Ignored(reason="An order of somebody who has not said who they are.")
    },
    "order.updated.processing": {PLACED_727: PLACED, PAID_727: PAID},
    "order.updated.completed": {
        PLACED_727: PLACED,
        PAID_727: PAID,
        "order/727/completed": event("order.fulfilled", "2026-03-04T16:20:00Z", ADA, BRIEF),
    },
    "order.updated.cancelled": {
        PLACED_727: PLACED,
        "order/727/cancelled": event("order.cancelled", None, ADA, BRIEF),
    },
    "order.updated.failed": {PLACED_727: PLACED},
    "order.updated.part-refunded": {PLACED_727: PLACED, PAID_727: PAID, "order/727/refund/741": STALE},
    "order.updated.refunded": {
        PLACED_727: PLACED,
        PAID_727: PAID,
        "order/727/refund/742": event(
            "order.refunded", None, ADA, BRIEF | {"refund": {"id": "742", "amount": Decimal("32.40"), "note": ""}}
        ),
        "order/727/refund/741": STALE,
    },
    "order.updated.guest": placed_and_paid("728", NOOR, {"total": Decimal("17.40"), "items": [BAG]}),
    "order.updated.zero-decimal": placed_and_paid(
        "729",
        NAMED,
        {"currency": "JPY", "total": Decimal(4200), "items": [BAG | {"quantity": 2, "price": Decimal(2100)}]},
    ),
    "order.updated.three-decimal": placed_and_paid(
        "730", NAMED, {"currency": "KWD", "total": Decimal("7.250"), "items": [BAG | {"price": Decimal("7.250")}]}
    ),
    "order.updated.without-tax": placed_and_paid(
        "733", NAMED, {"total": Decimal("14.02"), "items": [BAG | {"price": Decimal("11.49")}]}
    ),
    "order.updated.nulls": {
        "order/731/placed/": event(
            "order.placed",
            None,
            {"external_id": "26"},
            {"order": {"id": "731", "currency": "EUR", "codes": [], "items": [{"quantity": 1}]}},
        )
    },
    # An older version of the API gives the shop's local time and no other: then it happened when it came.
    "order.updated.api-version-1": placed_and_paid(
        "734", NAMED, {"total": Decimal("17.40"), "items": [BAG]}, when=None, paid=None
    ),
    "order.updated.not-permitted": {
        "order.updated//delivery-1": "There is no customer in it: neither an id nor an e-mail address."
    },
    "order.updated.trash": {"order.updated/727/delivery-1": IN_THE_BIN},
    "order.deleted": {"order.deleted/727/delivery-1": IN_THE_BIN},
    "customer.created": {
        "customer.created/26/delivery-1": event(
            "customer.created",
            "2026-02-20T10:05:00Z",
            ADA | {"first_name": "Ada", "last_name": "Example"},
            stage="awareness",
        )
    },
    "customer.updated": {
        "customer.updated/26/delivery-1": event("customer.updated", "2026-03-01T18:00:00Z", NAMED)
    },
    "customer.created.staff": {
        "customer.created/3/delivery-1": Ignored(reason="An account of the shop's own people.")
    },
    "customer.deleted": {
        "customer.deleted/26/delivery-1": Ignored(
            reason="An account was deleted in the shop; `afterglow forget` erases a person here."
        )
    },
    "product.updated": {
        "product.updated/93/delivery-1": Ignored(reason="No rule of the source 'woocommerce' speaks of this.")
    },
}  # fmt: skip

# Pipedrive

PERSON = {"external_id": "301"}
KNOWN = PERSON | {"email": "ada.example@example.com", "first_name": "Ada", "last_name": "Example"}
WITH_PHONE = KNOWN | {"phone": "+33612345678"}
DEAL = {
    "id": "41",
    "title": "Office coffee, 20 people",
    "amount": Decimal("1200.50"),
    "currency": "EUR",
    "pipeline": "1",
    "stage": "3",
    "bulk": False,
}
COMPANY = Account(id="7", name=None)
NINE, ADDED = "2026-03-02T09:00:05Z", "2026-02-20T10:05:00Z"
WON = {f"deal/41/won/{NINE}": event("deal.won", NINE, PERSON, {"deal": DEAL}, stage="purchase", account=COMPANY)}
NEITHER = Ignored(reason="A change of a deal that neither won nor lost it.")
GONE = Ignored(reason="Deleted or merged in Pipedrive; `afterglow forget` erases a person here.")


def key(what, n=1, when="2026-03-02T09:00:05.123Z"):
    return f"{what}/5eed0000-0000-4000-8000-00000000000{n}/{when}"


def created(**deal):
    return {key("deal/41/create"): event("deal.created", ADDED, PERSON, {"deal": DEAL | deal}, account=COMPANY)}


PIPEDRIVE = {
    "change.deal.won": WON,
    "change.deal.won-second-attempt": WON,
    "change.deal.renamed-after-won": {key("deal/41/change", 2, "2026-03-03T09:00:05.123Z"): NEITHER},
    "change.deal.lost": {
        f"deal/41/lost/{NINE}": event(
            "deal.lost", NINE, PERSON, {"deal": DEAL | {"reason": "Budget"}}, account=COMPANY
        )
    },
    "change.deal.reopened": {key("deal/41/change"): NEITHER},
    "change.deal.stage": {key("deal/41/change"): NEITHER},
    "create.deal": {
        key("deal/41/create", when="1771581901"): event(
            "deal.created", ADDED, PERSON, {"deal": DEAL}, account=COMPANY
        )
    },
    "create.deal.won-at-once": {
        f"deal/41/won/{NINE}": event(
            "deal.won", NINE, PERSON, {"deal": DEAL | {"bulk": True}}, stage="purchase", account=COMPANY
        )
    },
    "create.deal.no-person": {
        key("deal/41/create"): Ignored(reason="A deal without a person; there is nobody to write to.")
    },
    "create.deal.nulls": {
        key("deal/41/create"): event("deal.created", None, PERSON, {"deal": {"id": "41", "bulk": False}})
    },
    "create.deal.zero-decimal": created(currency="JPY", amount=Decimal(4200)),
    "create.deal.three-decimal": created(currency="KWD", amount=Decimal("7.250")),
    "delete.deal": {key("deal/41/delete"): GONE},
    "create.person": {key("person/301/create"): event("customer.created", ADDED, WITH_PHONE, account=COMPANY)},
    "change.person": {
        key("person/301/change"): event("customer.updated", "2026-03-01T18:00:00Z", WITH_PHONE, account=COMPANY)
    },
    "create.person.no-address": {
        key("person/301/create"): event("customer.created", ADDED, PERSON | {"first_name": "Ada"})
    },
    "create.person.none-primary": {
        key("person/301/create"): event("customer.created", ADDED, KNOWN, account=COMPANY)
    },
    "delete.person.merged": {key("person/301/delete"): GONE},
    "change.activity": {key("activity/5/change"): Ignored(reason="No rule of the source 'pipedrive' speaks of this.")},
    "v1.updated.deal.won": {
        "deal/41/won/2026-03-02 09:00:05": event(
            "deal.won", NINE, PERSON, {"deal": DEAL}, stage="purchase", account=Account(id="7", name="Example Ltd")
        )
    },
    "v1.updated.deal.renamed-after-won": {"deal/41/updated/41/1772528405123456": NEITHER},
    "v1.added.person": {"person/301/added/301/1772442005123456": event("customer.created", ADDED, KNOWN)},
}  # fmt: skip

# Judge.me

REVIEWER = {"external_id": "2130001", "email": "ada.example@example.com", "phone": "+33612345678"}
ROAST = {"product": {"id": "8300000000001", "title": "House Roast", "handle": "house-roast"}}
HALF_PAST = "2026-03-20T11:35:01Z"
FRESH = {"title": "Fresh and round", "text": "The best house roast so far ☕", "verified": "buyer"}


def posted(n, stars, review, product=ROAST, *, when=HALF_PAST, reviewer=REVIEWER):
    payload = {"review": {"id": f"46500000{n}", "stars": stars} | review} | product
    return {f"review/created/46500000{n}": event("review.posted", when, reviewer, payload)}


JUDGEME = {
    "review.created": posted(1, 5, FRESH),
    "review.created.one-star": posted(
        2, 1, {"title": "Stale", "text": "Roasted months ago.", "verified": "not-yet"}
    ),
    "review.created.of-the-shop": posted(3, 5, {k: v for k, v in FRESH.items() if k != "title"}, {}),
    "review.created.rating-as-text": posted(4, 4, FRESH, reviewer=REVIEWER | {"phone": None}),
    "review.created.nulls": posted(7, 3, {}, {}, when=None, reviewer={"email": "ada.example@example.com"}),
    "review.created.spam": {"review/created/465000005": Ignored(reason="A review that Judge.me takes for spam.")},
    "review.created.imported": {
        "review/created/465000006": Ignored(reason="A review by somebody without an address, as imported ones are.")
    },
    "review.updated": {
        "review/updated/465000001/2026-03-21T11:35:01+00:00": Ignored(
            reason="A review that changed; its posting counted."
        )
    },
    "question.created": {
        "sha256:754c71dc244a8ec85636d8a79302871c6ae024d7cacd4eb25e2ef6aa3975fa3b": Ignored(
            reason="No rule of the source 'judgeme' speaks of this."
        )
    },
}  # fmt: skip

EXPECTED = {
    f"{name}/{file}": result
    for name, files in (("woocommerce", WOOCOMMERCE), ("pipedrive", PIPEDRIVE), ("judgeme", JUDGEME))
    for file, result in files.items()
}


def test_every_captured_payload_has_an_expected_result():
    assert sorted(EXPECTED) == FILES


@pytest.mark.parametrize("file", FILES)
def test_a_payload_becomes_what_is_expected(file):
    assert said(file) == EXPECTED[file]


@pytest.mark.parametrize("name", NAMES)
def test_a_payload_holds_nothing_that_the_source_does_not_say_it_supplies(name):
    supplied = supplies(SOURCES[name])
    for file in FILES:
        for result in said(file).values() if file.startswith(name) else ():
            if isinstance(result, Mapped):
                assert set(paths(result.payload)) <= supplied[result.event].keys()


def paths(group, before=""):
    for name, value in group.items():
        if isinstance(value, dict):
            yield from paths(value, f"{before}{name}.")
        else:
            yield before + name


# One order that comes again and again


def order(file="order.updated.completed", **changes):
    return json.dumps(json.loads((PAYLOADS / f"woocommerce/{file}.json").read_text()) | changes).encode()


def test_an_order_that_comes_again_changed_in_nothing_that_counts_tells_the_same_stories():
    """Each story has one key and one digest, so it is recorded once, whichever of the deliveries came first."""
    later = datetime(2026, 3, 25, tzinfo=UTC)
    again = order("order.updated.refunded", date_modified_gmt="2026-03-24T00:00:00", customer_note="ring twice")
    first = said("woocommerce/order.updated.processing")
    first |= said("woocommerce/order.updated.part-refunded")

    second = said("woocommerce/order.updated.refunded", again, "delivery-9", later)

    assert second.keys() - first.keys() == {"order/727/refund/742"}
    assert all(second[key].digest() == first[key].digest() for key in first)


def test_one_order_makes_up_for_every_request_that_was_lost_before_it():
    """WooCommerce sends each state once and never again."""
    stories = said("woocommerce/order.updated.refunded", order("order.updated.completed"))

    assert [story.event for story in stories.values()] == ["order.placed", "order.paid", "order.fulfilled"]


def test_two_orders_of_one_second_share_a_delivery_id_and_nothing_else():
    one, other = (said("woocommerce/order.updated.processing", order("order.updated.processing", id=n)) for n in (1, 2))

    assert not one.keys() & other.keys()


def test_guests_are_told_apart_though_all_have_the_id_0():
    for nobody in (0, "0", None, "", -1, False):
        guest = said("woocommerce/order.updated.guest", order("order.updated.guest", customer_id=nobody))
        assert {story.customer.external_id for story in guest.values()} == {None}


def test_a_changed_total_is_another_placing_and_no_conflict_with_the_first():
    """Orders that wait for their payment may be edited; paid ones may not."""
    edited = said("woocommerce/order.created.pending", order("order.created.pending", total="52.90"))

    assert edited.keys() == {"order/727/placed/52.90"}


# One deal that is won


def deal(file, **meta):
    whole = json.loads((PAYLOADS / f"pipedrive/{file}.json").read_text())
    return json.dumps(whole | {"meta": whole["meta"] | meta}).encode()


def test_a_deal_is_won_once_whichever_webhooks_say_so():
    first = said("pipedrive/change.deal.won")
    other_hook = said("pipedrive/change.deal.won", deal("change.deal.won", webhook_id="99005", id="another", attempt=4))

    assert first.keys() == other_hook.keys()
    assert {story.digest() for story in first.values()} == {story.digest() for story in other_hook.values()}


def test_a_deal_reopened_and_won_again_is_won_twice():
    again = json.loads(deal("change.deal.won"))
    again["data"]["won_time"] = "2026-03-09T09:00:05Z"

    assert said("pipedrive/change.deal.won", json.dumps(again).encode()).keys() == {"deal/41/won/2026-03-09T09:00:05Z"}
