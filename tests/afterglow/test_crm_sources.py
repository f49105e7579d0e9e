"""HubSpot, Salesforce and Segment: documented payloads become the right events, and no payload breaks anything."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.language.source import Source, read_source, supplies
from afterglow.mapping import (
    FORMATS,
    Account,
    Consent,
    CustomerFacts,
    Ignored,
    Mapped,
    Unmappable,
    elements,
    map_element,
)
from tests.afterglow.test_mapping import ODD, PYTHON_KINDS, leaves, places, with_at

ROOT = Path(__file__).parents[2]
PAYLOADS = ROOT / "tests" / "payloads"
RECEIVED = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)
SOURCES = {
    name: read_source((ROOT / f"flows/sources/{name}.yaml").read_text(), f"flows/sources/{name}.yaml")
    for name in ("hubspot", "salesforce", "segment")
}
FILES = sorted(
    path.relative_to(PAYLOADS).with_suffix("").as_posix() for name in SOURCES for path in PAYLOADS.glob(f"{name}/*")
)
JSON_FILES = [file for file in FILES if not file.startswith("salesforce/")]


def body_of(file):
    [path] = [path for path in (PAYLOADS / file).parent.iterdir() if path.name.rpartition(".")[0] == Path(file).name]
    return path.read_bytes()


def parts_of(file):
    return elements(SOURCES[file.split("/")[0]], {}, body_of(file))


def all_mapped(file):
    return [map_element(SOURCES[file.split("/")[0]], {}, part.body, received_at=RECEIVED) for part in parts_of(file)]


def mapped(file):
    [one] = all_mapped(file)
    return one


def at(text):
    return datetime.fromisoformat(text)


def event(name, customer, payload=None, *, when, stage=None, consent=None, account=None, joins=None):
    return Mapped(
        event=name,
        occurred_at=at(when) if when else RECEIVED,
        stated_at=at(when) if when else None,
        stage=stage,
        joins=joins,
        customer=CustomerFacts(**customer),
        payload=payload or {},
        consent=consent,
        account=account,
    )


# HubSpot


def hubspot(name, payload=None, *, customer=None, **more):
    return event(name, customer or {"external_id": "501"}, payload, when="2026-03-02T09:00:00.733Z", **more)


def changed(property=None, source="CRM_UI", **more):
    named = {"property": property} if property else {}
    return {"change": {**named, "source": source, **more}}


def deal_event(name, **more):
    stage = "purchase" if name == "deal.won" else None
    payload = {"deal": {"id": "9001", "source": "CRM_UI", **more}}
    return hubspot(name, payload, customer={"order_id": "9001"}, stage=stage)


def withdrawn(evidence):
    return Consent(state="withdrawn", topic="*", at=None, evidence=evidence)


def of_501(**more):
    return {"external_id": "501", **more}


GONE = "A contact was deleted in HubSpot, or brought back"
OTHER = "Something in HubSpot that is neither"
LINKED = {"order": {"id": "9001"}}
MERGED = {"merge": {"primary": "501", "merged": "502 503"}}
LAST_OF_MARCH = "2026-03-31T00:00:00Z"

EXPECTED = {
    "hubspot/contact.creation": hubspot("customer.created", changed(), stage="awareness"),
    "hubspot/contact.creation.imported": hubspot("customer.updated", changed(source="IMPORT")),
    "hubspot/contact.creation.ids-as-text": hubspot("customer.created", stage="awareness"),
    "hubspot/contact.creation.no-id": Unmappable("There is no customer in it"),
    "hubspot/contact.creation.seconds": Unmappable("occurred_at lies before 1990"),
    "hubspot/contact.propertyChange.email": hubspot(
        "customer.updated", changed("email"), customer=of_501(email="ada.example@example.com")
    ),
    "hubspot/contact.propertyChange.email-no-address": hubspot("customer.updated", changed("email")),
    "hubspot/contact.propertyChange.email-emptied": hubspot("customer.updated", changed("email")),
    "hubspot/contact.propertyChange.null": hubspot("customer.updated", changed("firstname")),
    "hubspot/contact.propertyChange.phone": hubspot(
        "customer.updated", changed("mobilephone"), customer=of_501(phone="+33612345678")
    ),
    "hubspot/contact.propertyChange.opted-out": hubspot(
        "customer.updated", changed("hs_email_optout", "EMAIL"), consent=withdrawn("hs_email_optout")
    ),
    "hubspot/contact.propertyChange.opted-in-again": hubspot("customer.updated", changed("hs_email_optout")),
    "hubspot/contact.propertyChange.lifecycle": hubspot(
        "customer.updated", changed("lifecyclestage", lifecycle="opportunity"), stage="decision"
    ),
    "hubspot/contact.propertyChange.lifecycle-of-their-own": hubspot(
        "customer.updated", changed("lifecyclestage", lifecycle="143900001")
    ),
    "hubspot/contact.merge": hubspot("customer.merged", MERGED, customer={"external_id": "504"}),
    "hubspot/contact.merge.before-new-ids": hubspot("customer.merged", {"merge": {"primary": "501", "merged": "502"}}),
    "hubspot/contact.deletion": Ignored(reason=GONE),
    "hubspot/contact.restore": Ignored(reason=GONE),
    "hubspot/contact.privacyDeletion": hubspot(
        "customer.updated", changed("contact.privacyDeletion"), consent=withdrawn("contact.privacyDeletion")
    ),
    "hubspot/deal.associationChange": hubspot("deal.contact_added", LINKED),
    "hubspot/contact.associationChange": hubspot("deal.contact_added", LINKED),
    "hubspot/deal.associationChange.removed": Ignored(reason="Two records that belong together no more"),
    "hubspot/contact.associationChange.company": Ignored(reason=OTHER),
    "hubspot/deal.creation": hubspot(
        "deal.created", {"deal": {"id": "9001", "source": "INTEGRATION"}}, customer={"order_id": "9001"}
    ),
    "hubspot/deal.propertyChange.won": deal_event("deal.won", stage="closedwon"),
    "hubspot/deal.propertyChange.lost": deal_event("deal.lost", stage="closedlost"),
    "hubspot/deal.propertyChange.other-stage": deal_event("deal.updated", stage="1389200001"),
    "hubspot/deal.propertyChange.amount": deal_event("deal.updated", amount=Decimal("1249.50")),
    "hubspot/deal.propertyChange.amount-emptied": deal_event("deal.updated"),
    "hubspot/deal.propertyChange.amount-in-words": Unmappable("deal.amount cannot be read"),
    "hubspot/deal.propertyChange.closedate-ms": deal_event("deal.updated", closes_at=LAST_OF_MARCH),
    "hubspot/deal.propertyChange.closedate-iso": deal_event("deal.updated", closes_at=LAST_OF_MARCH),
    "hubspot/deal.propertyChange.closedate-day": deal_event("deal.updated", closes_at=LAST_OF_MARCH),
    "hubspot/deal.propertyChange.priority": Ignored(reason="A property of a deal that no rule speaks of"),
    "hubspot/deal.deletion": Ignored(reason=OTHER),
    "hubspot/company.creation": Ignored(reason=OTHER),
    "hubspot/conversation.newMessage": Ignored(reason=OTHER),
    "hubspot/object.creation.contact": hubspot("customer.created", changed(source="FORM"), stage="awareness"),
    "hubspot/object.creation.contact-imported": hubspot("customer.updated", changed(source="IMPORT")),
    "hubspot/object.creation.deal": deal_event("deal.created"),
    "hubspot/object.creation.ticket": Ignored(reason=OTHER),
    "hubspot/object.propertyChange.contact-name": hubspot(
        "customer.updated", changed("lastname"), customer=of_501(last_name="Example")
    ),
    "hubspot/object.propertyChange.contact-opted-out": hubspot(
        "customer.updated", changed("hs_email_optout"), consent=withdrawn("hs_email_optout")
    ),
    "hubspot/object.propertyChange.deal-won": deal_event("deal.won", stage="closedwon"),
    "hubspot/object.propertyChange.company": Ignored(reason=OTHER),
    "hubspot/object.merge.contact": hubspot("customer.merged", MERGED, customer={"external_id": "504"}),
    "hubspot/object.deletion.contact": Ignored(reason=GONE),
    "hubspot/object.associationChange.deal-contact": hubspot("deal.contact_added", LINKED),
    "hubspot/object.associationChange.contact-deal": hubspot("deal.contact_added", LINKED),
}

# Salesforce

NINE = "2026-03-02T09:00:00Z"
THEIR_CONTACT = {
    "external_id": "003000000000501AAA",
    "email": "ada.example@example.com",
    "phone": "+33612345678",
    "first_name": "Ada",
    "last_name": "Example & Söhne",
}
CONTACT = {"contact": {"id": "003000000000501AAA", "kind": "Contact"}}
COMPANY = Account(id="001000000000701AAA", name=None)
DEAL = {
    "id": "006000000000901AAA",
    "name": "House Roast, a pallet",
    "stage": "Negotiation/Review",
    "amount": Decimal("1249.5"),
    "closes_at": LAST_OF_MARCH,
}


def their_deal(name, *, when=NINE, customer=None, **changes):
    deal = {key: value for key, value in {**DEAL, **changes}.items() if value is not None}
    stage = "purchase" if name == "deal.won" else None
    customer = customer or {"external_id": "003000000000501AAA"}
    return event(name, customer, {"deal": deal}, when=when, stage=stage, account=COMPANY)


EXPECTED |= {
    "salesforce/contact.created": event(
        "customer.created", THEIR_CONTACT, CONTACT, when=NINE, stage="awareness", account=COMPANY
    ),
    "salesforce/contact.with-session": event(
        "customer.created", THEIR_CONTACT, CONTACT, when=NINE, stage="awareness", account=COMPANY
    ),
    "salesforce/contact.updated": event(
        "customer.updated",
        THEIR_CONTACT,
        CONTACT,
        when="2026-03-03T09:30:00Z",
        account=COMPANY,
        consent=withdrawn("HasOptedOutOfEmail"),
    ),
    "salesforce/contact.nulls": event(
        "customer.updated",
        {"external_id": "003000000000501AAA", "last_name": "Example"},
        CONTACT,
        when="2026-03-02T09:00:05Z",
    ),
    "salesforce/contact.deleted": Ignored(reason="A record that was deleted in Salesforce"),
    "salesforce/contact.other-organization": Ignored(reason="Of another Salesforce organization"),
    "salesforce/contact.no-organization": Ignored(reason="Of another Salesforce organization"),
    "salesforce/lead.created": event(
        "customer.created",
        {
            "external_id": "00Q000000000301AAA",
            "email": "lead@example.com",
            "first_name": "Noor",
            "last_name": "Sample",
        },
        {"contact": {"id": "00Q000000000301AAA", "kind": "Lead", "source": "Web"}},
        when=NINE,
        stage="awareness",
    ),
    "salesforce/lead.bare": event(
        "customer.updated",
        {"external_id": "00Q000000000301AAA"},
        {"contact": {"id": "00Q000000000301AAA", "kind": "Lead"}},
        when=None,
    ),
    "salesforce/opportunity.created": their_deal("deal.created", when="2026-03-01T08:00:00Z"),
    "salesforce/opportunity.updated": their_deal("deal.updated"),
    "salesforce/opportunity.won": their_deal("deal.won", stage="Closed Won", currency="EUR"),
    "salesforce/opportunity.lost": their_deal("deal.lost", stage="Closed Lost", amount=None),
    "salesforce/opportunity.large-amount": their_deal("deal.updated", amount=Decimal("12500000")),
    "salesforce/opportunity.amount-in-words": Unmappable("deal.amount cannot be read"),
    "salesforce/opportunity.by-address": their_deal("deal.won", customer={"email": "ada.example@example.com"}),
    "salesforce/opportunity.nobody": Ignored(reason="An opportunity without a person"),
    "salesforce/account": Ignored(reason="No rule of the source 'salesforce' speaks of this"),
    "salesforce/two-contacts": [
        event("customer.created", THEIR_CONTACT, CONTACT, when=NINE, stage="awareness", account=COMPANY),
        event(
            "customer.created",
            THEIR_CONTACT | {"external_id": "003000000000502AAA", "email": "noor@example.com", "first_name": "Noor"},
            {"contact": {"id": "003000000000502AAA", "kind": "Contact"}},
            when=NINE,
            stage="awareness",
            account=COMPANY,
        ),
    ],
}

# Segment

SENT = "2026-03-02T09:00:00.420Z"
HERE = {"external_id": "u-501", "locale": "fr-FR", "timezone": "Europe/Paris"}
ADA = HERE | {"email": "ada.example@example.com"}
NAMED_ADA = ADA | {"first_name": "Ada", "last_name": "Example", "phone": "+33612345678"}
ITEMS = [
    {"title": "House Roast", "variant": "250 g", "sku": "HOUSE-250", "quantity": 2, "price": Decimal("12.50")},
    {"title": "Paper Filters", "sku": "p-2", "quantity": 1, "price": Decimal("5.00")},
]
NOBODY = Ignored(reason="Somebody who has not said who they are")
SEEN = Ignored(reason="A page or screen that was looked at")


def paid(id, total, currency, **more):
    order = {"id": id, "total": Decimal(total), "currency": currency, **more}
    return event("order.paid", HERE, {"order": order}, when=SENT, stage="purchase", joins=id)


EXPECTED |= {
    "segment/identify": event("customer.updated", NAMED_ADA, when=SENT),
    "segment/identify.snake-case": event("customer.updated", ADA | {"first_name": "Ada"}, when=NINE),
    "segment/identify.by-address-only": event(
        "customer.updated",
        {"email": "guest@example.com", "locale": "fr-FR", "timezone": "Europe/Paris"},
        when=SENT,
    ),
    "segment/identify.anonymous": NOBODY,
    "segment/identify.no-timestamp": event("customer.updated", ADA, when=None),
    "segment/group": event(
        "customer.updated",
        {"external_id": "u-501"},
        when=SENT,
        account=Account(id="acct-1", name="Example & Co"),
    ),
    "segment/page": SEEN,
    "segment/alias": SEEN,
    "segment/track.signed-up": event("customer.created", ADA | {"first_name": "Ada"}, when=SENT, stage="awareness"),
    "segment/track.order-completed": paid("5001", "30.00", "EUR", items=ITEMS),
    "segment/track.order-completed.as-text": paid("5002", "30.00", "EUR", items=[]),
    "segment/track.order-completed.no-currency": paid("5003", "19.99", "USD"),
    "segment/track.order-completed.zero-decimal": paid("5004", "1200", "JPY"),
    "segment/track.order-completed.three-decimal": paid("5005", "4.125", "KWD"),
    "segment/track.order-completed.amount-in-words": Unmappable("order.total cannot be read"),
    "segment/track.order-completed.anonymous": NOBODY,
    "segment/track.checkout-started": event(
        "checkout.started",
        {"external_id": "u-501", "email": "ada.example@example.com", "locale": "fr-FR"},
        {
            "checkout": {
                "id": "c-1",
                "total": Decimal("30.00"),
                "currency": "EUR",
                "url": "https://ember-oak.example/cart",
                "items": ITEMS[:1],
            }
        },
        when=SENT,
        stage="decision",
    ),
    "segment/track.order-refunded": event(
        "order.refunded",
        {"external_id": "u-501"},
        {"order": {"id": "5001"}, "refund": {"id": "node-next-1772442000-example1", "amount": Decimal("12.50")}},
        joins="5001",
        when=SENT,
    ),
    "segment/track.order-cancelled": event(
        "order.cancelled", {"external_id": "u-501"}, {"order": {"id": "5001"}}, when=SENT, joins="5001"
    ),
    "segment/track.other": Ignored(reason="A track call that no rule speaks of"),
    "segment/batch": [
        event("customer.updated", ADA, when=SENT),
        Ignored(reason="A track call that no rule speaks of"),
        Unmappable("What came is not a JSON object"),
    ],
}


def test_every_captured_payload_has_an_expected_result():
    assert sorted(EXPECTED) == FILES


@pytest.mark.parametrize("file", FILES)
def test_a_payload_becomes_what_is_expected(file):
    expected = EXPECTED[file]
    several = expected if isinstance(expected, list) else [expected]
    parts = parts_of(file)
    assert len(parts) == len(several)
    for part, one in zip(parts, several, strict=True):
        if isinstance(one, Unmappable):
            with pytest.raises(Unmappable, match=str(one)):
                map_element(SOURCES[file.split("/")[0]], {}, part.body, received_at=RECEIVED)
            continue
        result = map_element(SOURCES[file.split("/")[0]], {}, part.body, received_at=RECEIVED)
        if isinstance(one, Ignored):
            assert isinstance(result, Ignored)
            assert result.reason.startswith(one.reason)
            assert result.reason.endswith(".")
        else:
            assert result == one


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_what_a_source_is_said_to_supply_is_what_it_brings(name):
    supplied = supplies(SOURCES[name])
    for file in FILES:
        if file.startswith(f"{name}/") and isinstance(EXPECTED[file], Mapped):
            for path, value in leaves(mapped(file).payload):
                assert isinstance(value, PYTHON_KINDS[supplied[EXPECTED[file].event][path]]), (file, path)


def test_the_classic_and_the_generic_form_of_hubspot_tell_the_same():
    for classic, generic in (
        ("contact.creation.imported", "object.creation.contact-imported"),
        ("deal.propertyChange.won", "object.propertyChange.deal-won"),
        ("deal.associationChange", "object.associationChange.deal-contact"),
        ("contact.merge", "object.merge.contact"),
    ):
        assert mapped(f"hubspot/{classic}") == mapped(f"hubspot/{generic}")


# Keys


def test_a_change_in_hubspot_has_the_same_key_in_every_attempt_and_batch():
    [first] = json.loads(body_of("hubspot/deal.propertyChange.won"))
    again = [json.loads(body_of("hubspot/contact.creation"))[0], {**first, "attemptNumber": 3}]
    [once] = parts_of("hubspot/deal.propertyChange.won")
    _, twice = elements(SOURCES["hubspot"], {}, json.dumps(again).encode())

    assert once.key == twice.key == "3000001/2000001/1000000001/9001/1772442000733"
    tell = [map_element(SOURCES["hubspot"], {}, part.body, received_at=RECEIVED) for part in (once, twice)]
    assert tell[0].digest() == tell[1].digest()


def test_an_association_has_a_key_of_its_two_ends():
    [part] = parts_of("hubspot/deal.associationChange")
    assert part.key == "3000001/2000001/1000000001/9001-501/1772442000733"


def test_what_comes_twice_from_salesforce_and_segment_has_one_key():
    assert [part.key for part in parts_of("salesforce/two-contacts")] == ["04l0000000000020AAA", "04l0000000000021AAA"]
    assert [part.key for part in parts_of("segment/track.other")] == ["node-next-1772442000-example1"]


@pytest.mark.parametrize("body", [b"1.5", b"[1.5]", b'"x"', b"[null]", b"[[]]", b"true"])
def test_a_body_of_one_bare_value_is_one_element_that_no_rule_can_read(body):
    [part] = elements(SOURCES["segment"], {}, body)
    with pytest.raises(Unmappable, match="not a JSON object"):
        map_element(SOURCES["segment"], {}, part.body, received_at=RECEIVED)


# SOAP


SALESFORCE = SOURCES["salesforce"]


def test_every_format_that_a_file_may_name_is_there():
    assert set(Source.model_json_schema()["properties"]["format"]["enum"]) == FORMATS.keys()


def test_an_element_of_a_soap_message_is_kept_without_the_key_to_the_senders_house():
    [part] = parts_of("salesforce/contact.with-session")

    assert b"EXAMPLE-SESSION" in body_of("salesforce/contact.with-session")
    assert b"SESSION" not in part.body
    kept = json.loads(part.body)
    assert kept["message"]["OrganizationId"] == "00D000000000001EAA"
    assert kept["sObject"]["type"] == "Contact"
    assert kept["sObject"]["LastName"] == "Example & Söhne"


def test_a_soap_message_is_read_in_other_encodings_and_with_other_prefixes():
    text = body_of("salesforce/contact.created").decode()
    for changed_text in (
        text.replace("UTF-8", "ISO-8859-1").encode("latin-1"),
        text.replace("UTF-8", "UTF-16").encode("utf-16"),
        text.replace("soapenv", "S").encode(),
        text.replace("Söhne", "S&#246;hne").encode(),
        text.replace("Example &amp; Söhne", "<![CDATA[Example & Söhne]]>").encode(),
    ):
        [part] = elements(SALESFORCE, {}, changed_text)
        assert map_element(SALESFORCE, {}, part.body, received_at=RECEIVED) == EXPECTED["salesforce/contact.created"]


def test_a_hundred_notifications_are_a_hundred_elements():
    one = body_of("salesforce/contact.created").decode()
    start, end = one.index("   <Notification>"), one.index("  </notifications>")
    many = one[:start] + "".join(one[start:end].replace("<Id>04l", f"<Id>{n:03}") for n in range(100)) + one[end:]
    parts = elements(SALESFORCE, {}, many.encode())

    assert len({part.key for part in parts}) == 100


def soap(inner, before=""):
    return (
        f'<?xml version="1.0"?>{before}<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/">'
        f"<e:Body>{inner}</e:Body></e:Envelope>"
    ).encode()


LAUGHS = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
READS_A_FILE = '<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
BAD_XML = {
    "nothing": (b"", "not XML"),
    "no XML": (b"{}", "not XML"),
    "no envelope": (b"<a/>", "no SOAP envelope"),
    "an empty envelope": (soap(""), "no SOAP envelope"),
    "a fault of two messages": (soap("<a><b/></a><c><d/></c>"), "no SOAP envelope"),
    "no notification": (soap("<notifications><OrganizationId>1</OrganizationId></notifications>"), "no list at"),
    "a notification of text": (soap("<notifications><Notification>x</Notification></notifications>"), "no list at"),
    "cut off": (soap("<a>")[:-20], "not XML"),
    "two roots": (b"<a/><b/>", "not XML"),
    "an unknown prefix": (soap("<q:a/>"), "not XML"),
    "an unknown entity": (soap("<a>&lol;</a>"), "not XML"),
    "a bomb of entities": (soap("<a>&b;</a>", LAUGHS), "declares a document type"),
    "a file asked for": (soap("<a>&a;</a>", READS_A_FILE), "declares a document type"),
    "a document type": (soap("<a/>", '<!DOCTYPE a SYSTEM "http://a.example/a.dtd">'), "declares a document type"),
    "a bomb of depth": (soap("<a>" * 20_000), "nested more than 32"),
    "a bomb of width": (soap("<a>" + "<b/>" * 30_000 + "</a>"), "more than 20000 elements"),
    "an encoding nobody knows": (b'<?xml version="1.0" encoding="klingon"?><a/>', "cannot be read|not XML"),
    "an encoding of several bytes": (b'<?xml version="1.0" encoding="euc_kr"?><a/>', "cannot be read|not XML"),
    "an encoding that is none": (b'<?xml version="1.0" encoding="base64"?><a/>', "cannot be read|not XML"),
    "half a character": (soap("<a>&#xD800;</a>"), "not XML"),
    "the character no database keeps": (soap("<a>&#0;</a>"), "not XML"),
    "bytes that are no UTF-8": (soap("<a>?</a>").replace(b"?</a>", b"\xff\xfe</a>"), "not XML"),
}


@pytest.mark.parametrize("case", BAD_XML)
def test_xml_that_is_no_message_is_unmappable_with_the_same_reason_at_both_passes(case):
    body, reason = BAD_XML[case]
    with pytest.raises(Unmappable, match=reason) as first:
        elements(SALESFORCE, {}, body)
    with pytest.raises(Unmappable, match=reason) as second:
        map_element(SALESFORCE, {}, body, received_at=RECEIVED)
    assert first.value.reason == second.value.reason
    assert first.value.reason.endswith(".")
    assert len(first.value.reason) < 200


def test_a_request_kept_whole_that_can_be_divided_by_now_is_read_where_it_is_one():
    one, two = body_of("salesforce/contact.created"), body_of("salesforce/two-contacts")

    assert map_element(SALESFORCE, {}, one, received_at=RECEIVED) == EXPECTED["salesforce/contact.created"]
    with pytest.raises(Unmappable, match="holds 2 elements; have it sent again"):
        map_element(SALESFORCE, {}, two, received_at=RECEIVED)


# No payload breaks anything


def swallow(source, body):
    for element in elements(source, {}, body):
        assert "\0" not in element.key
        try:
            result = map_element(source, {}, element.body, received_at=RECEIVED)
        except Unmappable:
            continue
        if isinstance(result, Mapped):
            assert result.digest()
            assert result.occurred_at <= RECEIVED
            assert "\0" not in repr(result)
            customer = result.customer
            assert customer.external_id or customer.email or customer.order_id


@given(data=st.data())
def test_a_mutated_payload_is_mapped_ignored_or_unmappable_and_nothing_else(data):
    file = data.draw(st.sampled_from(JSON_FILES))
    payload = json.loads(body_of(file))
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(list(places(payload))))
        payload = with_at(payload, path, data.draw(ODD))
    with suppress(Unmappable):
        swallow(SOURCES[file.split("/")[0]], json.dumps(payload).encode())


@given(data=st.data())
def test_a_body_with_bytes_changed_is_mapped_ignored_or_unmappable(data):
    file = data.draw(st.sampled_from(FILES))
    body = bytearray(body_of(file))
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Unmappable):
        swallow(SOURCES[file.split("/")[0]], bytes(body))


@given(data=st.data())
def test_xml_with_pieces_moved_is_mapped_ignored_or_unmappable(data):
    body = body_of(data.draw(st.sampled_from([file for file in FILES if file.startswith("salesforce/")])))
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(body))] * 2)))
    at = data.draw(st.integers(0, len(body)))
    piece = body[start:end] * data.draw(st.integers(0, 3))
    with suppress(Unmappable):
        swallow(SALESFORCE, body[:at] + piece + body[at:])
