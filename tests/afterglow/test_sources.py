"""Source files: the shipped ones are whole, and what is wrong in one is said at its place, all at once."""

from pathlib import Path

import pytest

from afterglow.expressions.parse import Reader
from afterglow.language.source import Source, read_source, supplies
from afterglow.language.value import kind_of
from afterglow.problems import Problems
from afterglow.signatures import SCHEMES

FOLDER = Path(__file__).parents[2] / "flows" / "sources"
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.yaml"))

SIGNED = "{scheme: stripe, secrets: [SMALL_SECRET, SMALL_SECRET_OLD]}"
SMALL = """\
source: small
auth: {scheme: stripe, secrets: [SMALL_SECRET, SMALL_SECRET_OLD]}
key: body.id
events:
  - when: body.type == "paid"
    event: order.paid
    customer: {id: body.customer, birthday: body.born | iso}
    payload:
      order: {id: body.order | text, total: body.total | money(body.currency)}
"""


def shipped(name):
    return read_source((FOLDER / f"{name}.yaml").read_text(), f"flows/sources/{name}.yaml")


def problems_of(text):
    with pytest.raises(Problems) as caught:
        read_source(text, "small.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_source_compiles_and_is_signed(name):
    source = shipped(name)

    assert source.name == name
    assert source.auth != "none"
    assert source.auth.scheme in SCHEMES


def test_the_three_sources_of_the_first_release_are_shipped():
    assert set(SHIPPED) >= {"shopify", "stripe", "generic"}


def test_the_shipped_sources_bring_the_events_flows_are_written_for():
    brought = shipped("shopify").event_names | shipped("stripe").event_names

    assert brought >= {
        "order.placed",
        "order.paid",
        "order.delivered",
        "order.fulfilled",
        "order.refunded",
        "order.cancelled",
        "checkout.started",
        "customer.created",
        "customer.updated",
        "payment.failed",
        "payment.succeeded",
        "subscription.started",
        "subscription.renewed",
        "subscription.cancelled",
    }
    assert shipped("shopify").stage_names == {"awareness", "decision", "purchase"}
    assert shipped("generic").event_names == frozenset()


def test_a_paid_order_supplies_what_mails_say_about_it():
    assert supplies(shipped("shopify"))["order.paid"] == {
        "order.id": "text",
        "order.number": "text",
        "order.total": "number",
        "order.currency": "text",
        "order.url": "text",
        "order.codes": "list",
        "order.landing": "text",
        "order.items": "list",
        "order.items[].title": "text",
        "order.items[].variant": "text",
        "order.items[].sku": "text",
        "order.items[].quantity": "number",
        "order.items[].price": "number",
    }


def test_a_failed_payment_supplies_the_invoice():
    supplied = supplies(shipped("stripe"))["payment.failed"]

    assert supplied["invoice.amount"] == "number"
    assert supplied["invoice.url"] == "text"
    assert supplied["invoice.next_attempt_at"] == "date"


def test_events_named_by_the_payload_stand_under_a_star():
    assert supplies(shipped("generic")) == {"*": {}}


def test_only_the_headers_that_are_read_need_be_kept():
    assert shipped("shopify").header_names == {
        "x-shopify-topic",
        "x-shopify-event-id",
        "x-shopify-webhook-id",
        "x-shopify-triggered-at",
        "x-shopify-test",
    }
    assert shipped("stripe").header_names == frozenset()


def test_attributes_are_the_names_a_customer_has_beside_the_usual_ones():
    assert read_source(SMALL, "small.yaml").attribute_names == {"birthday"}


def test_two_rules_of_one_event_that_disagree_about_a_kind_leave_it_unknown():
    source = read_source(
        SMALL
        + "  - event: order.paid\n    customer: {id: body.c}\n"
        + "    payload: {order: {id: body.n | int, note: body.n | text}}\n",
        "small.yaml",
    )
    assert supplies(source) == {"order.paid": {"order.id": "unknown", "order.total": "number", "order.note": "text"}}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("body.a", "unknown"),
        ("body.a | text", "text"),
        ("body.a | money('EUR')", "number"),
        ("body.a | minor('EUR') | default(0)", "number"),
        ("body.a | default(body.b) | iso", "date"),
        ("body.a | where('b', 1) | map('c')", "list"),
        ("body.a | where('b', 1) | sum('c')", "number"),
        ("body.a == 1", "yes-no"),
        ("not body.a", "yes-no"),
        ("true", "yes-no"),
        ("'x' ~ body.a", "text"),
        ("body.a * 2", "number"),
        ("body.a + 2", "number"),
        ("body.a + body.b", "unknown"),
        ("'a' if body.a else 'b'", "text"),
        ("'a' if body.a else 1", "unknown"),
        ("['a']", "list"),
        ("body.a and body.b", "unknown"),
    ],
)
def test_the_kind_of_an_expression_is_told_by_its_outermost_part(text, kind):
    assert kind_of(Reader(text, ()).expression()) == kind


def test_secrets_come_from_the_environment_several_in_one_variable_too():
    auth = read_source(SMALL, "small.yaml").auth
    environment = {"SMALL_SECRET": "new  newer", "SMALL_SECRET_OLD": "old"}

    assert auth.found_in(environment) == ("new", "newer", "old")
    assert auth.found_in({"SMALL_SECRET_OLD": "old"}) == ("old",)
    assert auth.found_in({"SMALL_SECRET": "  "}) == ()


def test_auth_none_is_said_in_so_many_words():
    assert read_source(SMALL.replace(SIGNED, "none"), "x").auth == "none"
    for other in ("null", "off", "shopify"):
        [problem] = problems_of(SMALL.replace(SIGNED, other))
        assert problem.startswith("small.yaml:2:7: ")
    [problem] = problems_of(SMALL.replace("auth: {scheme: stripe, secrets: [SMALL_SECRET, SMALL_SECRET_OLD]}\n", ""))
    assert "'auth'" in problem


@pytest.mark.parametrize(
    ("right", "wrong", "place", "sentence"),
    [
        ("key: body.id", "key: bdoy.id", "3:6", "Did you mean 'body.id'?"),
        ("key: body.id", "key: id", "3:6", "a name begins with body, headers or item"),
        ("key: body.id", "key: headers['X-Id']", "3:", "write headers['x-id']"),
        ("key: body.id", "key: body.id | lwoer", "3:", "Did you mean 'lower'?"),
        ("key: body.id", "key: rate('x')", "3:", "cannot be called here"),
        ("scheme: stripe", "scheme: strip", "2:", "Did you mean 'stripe'?"),
        ("SMALL_SECRET_OLD", "hunter2!", "2:", "capital letters"),
        ("birthday: body.born", "birthday: boddy.born", "7:", "Did you mean 'body.born'?"),
        ("id: body.order", "id: bod.order", "9:", "Did you mean 'body.order'?"),
        ("total: body.total", "Total: body.total", "9:", "Total"),
        ("event: order.paid", "event: Order Paid", "6:12", "such as order.paid"),
        ("    event: order.paid\n", "", "5:5", "one of the two"),
        ("    event: order.paid\n", "    event: order.paid\n    ignore: no\n", "5:5", "one of the two"),
        ("    event: order.paid\n", "    ignore: no\n", "5:5", "nothing else"),
        ("    customer: {id: body.customer, birthday: body.born | iso}\n", "", "5:5", "Say whose event it is"),
        ("id: body.customer, ", "", "7:", "at least one"),
        ("      order: {", "      shop: {", "5:5", "flows know something else by that name"),
        ("events:\n", "evnets:\n", "4:1", "Did you mean 'events'?"),
    ],
)
def test_a_slip_is_said_at_its_place_with_a_way_out(right, wrong, place, sentence):
    assert right in SMALL
    found = problems_of(SMALL.replace(right, wrong, 1))
    assert any(problem.startswith(f"small.yaml:{place}") and sentence in problem for problem in found), found


def test_all_slips_are_said_at_once():
    broken = (
        SMALL.replace("key: body.id", "key: bdoy.id")
        .replace("body.type", "bod.type")
        .replace("birthday: body.born", "birthday: bdoy.born")
        .replace("total: body.total", "total: boddy.total")
    )
    assert [problem.split(":")[1] for problem in problems_of(broken)] == ["3", "5", "7", "9"]


def test_an_editor_gets_a_json_schema():
    schema = Source.model_json_schema()
    assert {"source", "auth", "key", "events"} <= schema["properties"].keys()


def asking(privacy, more):
    return SMALL + f"  - when: body.type == 'gone'\n    privacy: {privacy}\n{more}"


def test_a_rule_may_ask_to_forget_or_to_export_in_place_of_an_event():
    text = asking("forget", "    customer: {id: body.customer}\n")

    assert read_source(text, "small.yaml").events[-1].privacy == "forget"


@pytest.mark.parametrize(
    ("privacy", "more", "problem"),
    [
        ("export", "", "Say who asks: `export` needs a `customer` with id or email."),
        ("forget", "    customer: {order: body.order}\n", "Say who asks: `forget` needs a `customer`"),
        ("forget-everybody", "    customer: {id: body.id}\n", "leave `customer` out"),
        ("forget", "    customer: {id: body.id}\n    event: customer.gone\n", "and nothing else"),
    ],
)
def test_a_rule_that_asks_for_privacy_says_whose_and_nothing_else(privacy, more, problem):
    assert problem in " ".join(problems_of(asking(privacy, more)))


def test_a_source_that_anybody_may_post_to_can_have_nobody_forgotten():
    text = asking("forget", "    customer: {id: body.customer}\n").replace(SIGNED, "none")

    assert "anybody could have customers forgotten" in " ".join(problems_of(text))


def test_the_basis_of_a_consent_is_one_of_three_or_comes_from_the_payload():
    rule = "    consent: {{state: '\"granted\"', basis: {}}}\n"

    assert (
        read_source(SMALL + rule.format("existing-customer"), "a.yaml").events[0].consent.basis == "existing-customer"
    )
    assert read_source(SMALL + rule.format("{from: body.basis}"), "a.yaml").events[0].consent.basis.from_ is not None
    assert "basis" in problems_of(SMALL + rule.format("because"))[0]
