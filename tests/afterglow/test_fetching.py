"""`fetch` in a source file, and which documents an element lacks."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from afterglow.language.schema import json_schemas
from afterglow.language.source import read_source
from afterglow.mapping import Ignored, Lacking, Mapped, Unmappable, map_element
from afterglow.problems import Problems

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
CRM = """\
source: crm
auth: none
key: body.eventId
fetch:
  base: https://api.crm.example
  token: CRM_TOKEN
  rate: {at_most: 10, within: 1 second}
  documents:
    - name: deal
      when: body.kind == "deal"
      path: /crm/v3/objects/deals/{{ body.objectId }}?properties=amount&associations=contacts
    - name: contact
      path: /crm/v3/objects/contacts/{{ fetched.deal.associations.contacts.results[0].id | default(body.objectId) }}
events:
  - when: body.kind == "noise"
    ignore: Nobody wants to know.
  - when: body.kind == "deal" and fetched.deal.properties.amount is defined and fetched.contact is none
    ignore: The contact is gone.
  - when: body.kind == "deal"
    event: order.paid
    customer: {id: fetched.contact.id, email: fetched.contact.properties.email}
    payload:
      order: {id: body.objectId | text, total: fetched.deal.properties.amount | number}
  - when: body.kind == "known"
    event: customer.updated
    customer: {id: body.objectId, email: body.email | default(fetched.contact.properties.email)}
  - event: customer.updated
    customer: {email: fetched.contact.properties.email}
"""
DEALS, CONTACTS = "https://api.crm.example/crm/v3/objects/deals/", "https://api.crm.example/crm/v3/objects/contacts/"
DEAL = {"id": "9", "properties": {"amount": "40.5"}, "associations": {"contacts": {"results": [{"id": "17"}]}}}
CONTACT = {"id": "17", "properties": {"email": "sam@example.com"}}


def mapped(body, fetched=None, source=CRM):
    found = read_source(source, "crm.yaml")
    return map_element(found, {}, json.dumps(body).encode(), received_at=NOW, fetched=fetched)


def problems_of(text):
    with pytest.raises(Problems) as caught:
        read_source(text, "crm.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_a_document_may_lead_to_the_next():
    body = {"kind": "deal", "objectId": 9}

    first = mapped(body)
    assert first == Lacking(name="deal", url=f"{DEALS}9?properties=amount&associations=contacts")
    assert mapped(body, {"deal": DEAL}) == Lacking(name="contact", url=f"{CONTACTS}17")

    event = mapped(body, {"deal": DEAL, "contact": CONTACT})
    assert isinstance(event, Mapped)
    assert (event.customer.external_id, event.customer.email) == ("17", "sam@example.com")
    assert event.payload["order"]["id"] == "9"


def test_nothing_is_fetched_for_a_rule_that_reads_nothing_fetched():
    assert isinstance(mapped({"kind": "noise", "objectId": 9}), Ignored)


def test_nothing_is_fetched_instead_of_what_the_webhook_says_already():
    body = {"kind": "known", "objectId": 17}

    assert isinstance(mapped({**body, "email": "sam@example.com"}), Mapped)
    assert mapped(body) == Lacking(name="contact", url=f"{CONTACTS}17")


def test_a_document_that_nothing_asks_for_is_missing_and_does_not_hold_the_element():
    lonely = {**DEAL, "associations": {}}
    without = CRM.replace(" | default(body.objectId) }}", " }}")

    with pytest.raises(Unmappable, match="There is no customer in it") as caught:
        mapped({"kind": "deal", "objectId": 9}, {"deal": lonely}, without)
    assert "any more" not in str(caught.value)


def test_a_rule_can_say_what_a_deleted_object_means():
    assert mapped({"kind": "deal", "objectId": 9}, {"deal": DEAL, "contact": None}) == Ignored(
        reason="The contact is gone."
    )


def test_where_no_rule_says_it_the_reason_names_what_is_gone():
    with pytest.raises(Unmappable, match=r"The source 'crm' has no contact 17 any more\."):
        mapped({"kind": "contact", "objectId": 17}, {"contact": None})


def test_an_address_that_stands_in_a_url_stands_in_no_reason():
    by_address = CRM.replace(
        "{{ fetched.deal.associations.contacts.results[0].id | default(body.objectId) }}", "{{ body.who }}"
    )

    lacking = mapped({"kind": "x", "who": "sam@example.com"}, source=by_address)
    assert isinstance(lacking, Lacking)
    assert lacking.url == f"{CONTACTS}sam%40example.com"
    assert "sam" not in repr(lacking)
    with pytest.raises(Unmappable, match=r"has no contact any more") as caught:
        mapped({"kind": "x", "who": "sam@example.com"}, {"contact": None}, by_address)
    assert "sam" not in str(caught.value)


def test_a_merged_object_is_known_by_the_id_that_it_has_now():
    event = mapped({"kind": "deal", "objectId": 9}, {"deal": DEAL, "contact": {**CONTACT, "id": "4711"}})

    assert isinstance(event, Mapped)
    assert event.customer.external_id == "4711"


@pytest.mark.parametrize(
    "value",
    ["../../oauth/tokens", "..", ".", "a/../b", "", " ", "x\ny", "\u202e7", "9" * 201, None, True, 1.5, ["9"], {}],
)
def test_what_names_nothing_is_asked_for_nowhere(value):
    with pytest.raises(Unmappable):
        mapped({"kind": "contact", "objectId": value})


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (17, "17"),
        ("a/b", "a%2Fb"),
        ("17?properties=secret", "17%3Fproperties%3Dsecret"),
        ("17#x", "17%23x"),
        ("@evil.example", "%40evil.example"),
        ("//evil.example", "%2F%2Fevil.example"),
        ("é 1", "%C3%A9%201"),
        ("%2e%2e", "%252e%252e"),
    ],
)
def test_a_value_of_a_webhook_stays_between_two_slashes_of_the_path(value, written):
    assert mapped({"kind": "contact", "objectId": value}).url == CONTACTS + written


@pytest.mark.parametrize(
    ("right", "wrong", "place", "sentence"),
    [
        ("fetched.contact.id", "fetched.contcat.id", "21:20", "Did you mean 'contact'?"),
        ("key: body.eventId", "key: fetched.deal.id", "3:6", "while the provider waits"),
        ("fetched.deal.associations", "fetched.contact.associations", "13:13", "stand before it"),
        ('body.kind == "deal"\n      path', "fetched.deal.x\n      path", "10:13", "stand before it"),
        ("name: contact", "name: deal", "12:13", "two documents called 'deal'"),
        (
            "email: fetched.contact.properties.email}\n    payload",
            "email: fetched}\n    payload",
            "21:",
            "fetched.NAME",
        ),
        ("deals/{{ body.objectId }}", "deals/{{ bdoy.objectId }}", "11:", "Did you mean 'body.objectId'?"),
        ("path: /crm/v3/objects/deals", "path: crm", "11:13", "begins with a slash"),
        ("path: /crm/v3/objects/deals", "path: /crm/../x", "11:13", "stays below its base"),
        ("path: /crm/v3/objects/deals", "path: //evil.example", "11:13", "stays below its base"),
        ("path: /crm/v3/objects/deals", "path: /crm deals", "11:13", "letters, digits and the signs of a URL"),
        ("https://api.crm.example", "http://api.crm.example", "5:9", "https"),
        ("https://api.crm.example", "https://10.0.0.1", "5:9", "a host's name"),
        ("https://api.crm.example", "https://[::1]", "5:9", "a host's name"),
        ("https://api.crm.example", "https://localhost", "5:9", "a host's name"),
        ("https://api.crm.example", "https://metadata.google.internal", "5:9", "private network"),
        ("https://api.crm.example", "https://me:pass@api.crm.example", "5:9", "a host's name"),
        ("https://api.crm.example", "https://api.crm.example/x?y=1", "5:9", "a host's name"),
        ("CRM_TOKEN", "pat-na1-secret", "6:10", "capital letters"),
        ("within: 1 second", "within: 1 fortnight", "7:31", "10 seconds"),
        ("within: 1 second", "within: 2 hours", "7:31", "from 1 to 3600 seconds"),
        ("at_most: 10", "at_most: 0", "7:19", "at least 1"),
        ("  token: CRM_TOKEN", "  token: CRM_TOKEN\n  header: Authorization Bearer", "7:11", "{token}"),
        ("  token: CRM_TOKEN", "  token: CRM_TOKEN\n  deadline: 1 hour", "7:13", "from 1 to 30 seconds"),
        ("  token: CRM_TOKEN", "  tokens: CRM_TOKEN", "6:3", "Did you mean 'token'?"),
    ],
)
def test_a_slip_in_fetch_is_said_at_its_place(right, wrong, place, sentence):
    assert right in CRM
    found = problems_of(CRM.replace(right, wrong, 1))
    assert any(problem.startswith(f"crm.yaml:{place}") and sentence in problem for problem in found), found


def test_rules_may_read_documents_only_where_a_fetch_names_them():
    head, _, rest = CRM.partition("fetch:\n")
    without = head + "events:\n" + rest.partition("events:\n")[2]

    assert any("No document 'contact' is fetched" in problem for problem in problems_of(without))


def test_what_is_not_said_has_a_value_that_does_no_harm():
    short = CRM.replace("  rate: {at_most: 10, within: 1 second}\n", "")
    fetch = read_source(short, "crm.yaml").fetch

    assert fetch is not None
    assert (fetch.rate.at_most, fetch.rate.within, fetch.rate.spacing) == (
        10,
        timedelta(seconds=1),
        timedelta(milliseconds=120),
    )
    assert (fetch.deadline, fetch.cache) == (timedelta(seconds=10), timedelta(minutes=5))
    assert fetch.headers("secret") == {"Authorization": "Bearer secret"}


def test_the_header_of_the_token_may_be_another():
    text = CRM.replace("  token: CRM_TOKEN", "  token: CRM_TOKEN\n  header: 'x-api-token: {token}'")

    assert read_source(text, "crm.yaml").fetch.headers("secret") == {"x-api-token": "secret"}


def test_an_editor_knows_the_keys_of_fetch():
    schema = json_schemas()["source"]["$defs"]

    assert {"base", "token", "header", "rate", "deadline", "cache", "documents"} == schema["Fetch"]["properties"].keys()
    assert {"name", "when", "path"} == schema["FetchedDocument"]["properties"].keys()
    assert "string" in schema["FetchedDocument"]["properties"]["path"]["type"]
