"""Promises to a person: nothing of them stays once they are forgotten, and everything is told when they ask."""

import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import doctor, ledger, overview, people, privacy, proof, requests, why
from db.ledger import Credit, Spend
from db.privacy import Forgotten, UnknownCustomerError
from db.tables import (
    customers,
    enrollments,
    events,
    identities,
    inbox,
    ledger_transactions,
    metadata,
    privacy_requests,
    profiles,
    runs,
    suppressions,
    touchpoints,
)
from tests.driver import START, Driver, driving

#: Texts that stand nowhere else, wherever personal data may come in.
CANARIES = {
    "email": "canary-address@example.com",
    "phone": "+33612345678",
    "first_name": "Canaria",
    "last_name": "Serinus",
    "id": "canary-at-source-1",
    "attribute": "canary-coloured",
    "product": "Canary Island Roast",
    "company": "Serinus & Daughters",
    "parked": "a parked canary",
    "ignored": "an ignored canary",
    "unread": "an unread canary",
}
CANARY = {
    "id": CANARIES["id"],
    "email": CANARIES["email"],
    "phone": CANARIES["phone"],
    "first_name": CANARIES["first_name"],
    "last_name": CANARIES["last_name"],
    "timezone": "Europe/Paris",
    "attributes": {"bird": CANARIES["attribute"]},
}
WITH_BIRDS = {
    "flows/shop.yaml": lambda text: text.replace("  open_ticket: yes-no", "  bird: text\n  open_ticket: yes-no")
}


@pytest.fixture
def driver(database_url: str) -> Iterator[Driver]:
    with driving(database_url, files=WITH_BIRDS) as driver:
        yield driver


def _lived(driver: Driver) -> int:
    """A customer with something in every table that knows customers."""
    driver.post("customer.created", customer=CANARY, stage="awareness", consent="granted")
    order = {"id": "o1", "total": 40.5, "currency": "EUR", "items": [{"title": CANARIES["product"], "quantity": 1}]}
    driver.post("order.paid", {"order": order}, customer=CANARY, stage="purchase", key=f"of {CANARIES['email']}")
    driver.post("order.paid", {"order": {**order, "id": "o2"}}, customer=CANARY, stage="purchase")
    driver.post("survey.answered", {"score": 5, "survey": "answer"}, customer=CANARY)
    driver.at(days=12)  # the referral invitation went out, with its code
    driver.post("order.paid", {"order": {**order, "id": "o3"}}, customer=CANARY, stage="purchase")
    unmapped = {"who": CANARIES["email"].upper(), "note": CANARIES["parked"]}
    driver.receive("api", "parked-1", json.dumps(unmapped).encode())
    driver.receive("nowhere", "parked-2", json.dumps({"id": CANARIES["id"], "note": CANARIES["ignored"]}).encode())
    escaped = json.dumps({"who": CANARIES["email"], "note": CANARIES["unread"]}).replace("@", "\\u0040")
    driver.receive("api", f"unread {CANARIES['email']}", escaped.encode(), headers={"x": "y"}, drained=False)
    customer = driver.customer(CANARIES["id"])
    with driver.app.writing() as connection:
        account = connection.execute(
            sa.text("INSERT INTO accounts (source, external_id, name) VALUES ('api', 'a1', :name) RETURNING id"),
            {"name": CANARIES["company"]},
        ).scalar_one()
        connection.execute(customers.update().values(account_id=account))
    return customer


def _forget(driver: Driver, customer: int) -> Forgotten:
    with driver.app.writing() as connection:
        return privacy.forget(connection, customer, driver.clock.now(), driver.secret)


def _dump(driver: Driver) -> str:
    """Every column of every row of every table, as text; rows in an order of their own, not of the disk's."""
    cells = []
    for table in metadata.sorted_tables:
        for row in sorted(driver.rows(sa.select(table)), key=str):
            cells += [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for cell in row]
    return "\n".join(cells).lower()


def test_not_one_canary_is_left_anywhere_once_the_customer_is_forgotten(driver: Driver) -> None:
    customer = _lived(driver)
    before = _dump(driver)
    assert [name for name, text in CANARIES.items() if text.lower() not in before] == []

    report = _forget(driver, customer)

    after = _dump(driver)
    assert [name for name, text in CANARIES.items() if text.lower() in after] == []
    assert report.profiles == 1
    assert report.companies == 1
    assert report.letters > 0
    assert report.referral_codes == 1
    assert report.webhooks_emptied == 10  # two of them tell of segments
    assert report.kept_from_marketing


def test_the_ledger_outlives_whoever_is_forgotten_and_an_export_tells_it(driver: Driver) -> None:
    customer = _lived(driver)
    given = {"programme": "stars", "asset": "points", "customer_id": customer, "event_at": START}
    order = {"key": "basket-1001", "subject": "order/shopify/1001"}
    earned = Credit(**given, **order, kind="earn", amount=40, activates_at=START, rule="per-euro")
    nothing = Credit(**given, **order | {"key": "basket-1002"}, kind="earn", amount=0, desired=9, activates_at=START)
    said = {"kind": "adjust", "author": "kim", "reason": "the order 1001 was late"}
    adjusted = Credit(**given, **said, key="ticket-1001", amount=5, activates_at=START)
    with driver.app.writing() as connection:
        ledger.credit(connection, [earned, nothing, adjusted], driver.clock.now())
        ledger.spend(connection, [Spend(**given, key="basket-1003", amount=5)], driver.clock.now())
        exported = privacy.export(connection, driver.app.catalog, driver.app.settings, customer)
    of_stars = [line for line in exported["ledger"] if line["programme"] == "stars"]
    assert [(line["kind"], line["amount"], line["rule"]) for line in of_stars] == [
        ("earn", 40, "per-euro"),
        ("earn", 0, None),
        ("adjust", 5, None),
        ("redeem", -5, None),
    ]

    assert _forget(driver, customer).ledger_unlinked >= 4
    assert _forget(driver, customer).ledger_unlinked == 0

    with driver.app.reading() as connection:
        verdict = proof.verify(connection)
        assert (verdict.differences, verdict.forgotten) == ([], 1)
        stored = "\n".join(map(repr, connection.execute(sa.select(ledger_transactions))))
        assert "100" not in stored
        assert "late" not in stored
        [owed] = [one for one in proof.liability(connection, driver.clock.now()) if one.programme == "stars"]
    assert owed.outstanding == 40


def test_forgetting_leaves_no_canary_in_the_file_of_an_embedded_database(sqlite_url: str) -> None:
    with driving(sqlite_url, files=WITH_BIRDS) as driver:
        customer = _lived(driver)
        _forget(driver, customer)

    file = Path(sqlite_url.removeprefix("sqlite:///"))
    raw = b"".join(part.read_bytes() for part in file.parent.glob(file.name + "*"))
    assert [name for name, text in CANARIES.items() if text.encode() in raw] == []


def test_forgetting_stops_every_run_and_skips_every_queued_message(driver: Driver) -> None:
    driver.post("order.paid", {"order": {"id": "o1", "total": 9}}, stage="purchase", consent="granted", drained=False)
    driver.actors.ingest()
    driver.actors.advance()
    customer = driver.customer()

    report = _forget(driver, customer)

    driver.at(days=90)
    assert report.runs_stopped == 4
    assert report.messages_skipped == 1
    assert driver.touchpoints() == [("first-order", "thank-you", "skipped")]
    assert {row[0] for row in driver.rows(sa.select(enrollments.c.state))} == {"stopped"}
    assert {row[0] for row in driver.rows(sa.select(touchpoints.c.reason))} == {"the customer was forgotten"}


def test_events_stay_without_content_so_that_a_repeat_makes_nobody_anew(driver: Driver) -> None:
    driver.post("order.paid", {"order": {"id": "o1", "total": 9}}, stage="purchase", key="paid-1")
    _forget(driver, driver.customer())

    driver.clock.jump(START + timedelta(days=1))
    body = {"event": "order.paid", "key": "paid-1", "customer": {"email": "sam@example.com"}, "payload": {}}
    driver.receive("api", "paid-1", json.dumps(body).encode())

    assert driver.rows(sa.select(events.c.name, events.c.payload)) == [("order.paid", {})]
    assert driver.rows(sa.select(sa.func.count()).select_from(customers)) == [(1,)]
    assert driver.rows(sa.select(runs.c.key).distinct().where(runs.c.key.not_like("forgotten %"))) == []


def test_a_forgotten_address_that_is_imported_again_gets_no_marketing_but_its_service_mail(driver: Driver) -> None:
    driver.post("customer.created", consent="granted")
    old = driver.customer()
    _forget(driver, old)

    driver.post("customer.created", stage="awareness", consent="granted")
    driver.post("checkout.started", {"checkout": {"id": "k1", "url": "https://shop.example/k1", "items": []}})
    driver.at(days=1)
    driver.post("order.paid", {"order": {"id": "o9", "total": 9}}, stage="purchase")

    assert driver.customer() != old
    assert driver.touchpoints() == [
        ("welcome", "welcome", "skipped"),
        ("abandoned-checkout", "checkout-reminder", "skipped"),
        ("first-order", "thank-you", "sent"),
    ]
    assert driver.rows(sa.select(suppressions.c.reason, suppressions.c.covers)) == [("forgotten", "marketing")]


def test_forgetting_twice_is_forgetting_once(driver: Driver) -> None:
    customer = _lived(driver)
    _forget(driver, customer)
    moment = driver.rows(sa.select(customers.c.forgotten_at))
    before = _dump(driver)

    driver.clock.jump(START + timedelta(days=50))
    again = _forget(driver, customer)

    assert driver.rows(sa.select(customers.c.forgotten_at)) == moment
    assert _dump(driver) == before
    assert (again.profiles, again.events_emptied, again.webhooks_emptied, again.runs_stopped) == (0, 0, 0, 0)


def test_what_is_with_the_provider_is_left_to_settle_and_nothing_follows_it(driver: Driver) -> None:
    driver.post("order.paid", {"order": {"id": "o1", "total": 9}}, stage="purchase", drained=False)
    driver.actors.ingest()
    driver.actors.advance()
    with driver.app.writing() as connection:
        lease = driver.clock.now() + timedelta(minutes=2)
        connection.execute(
            touchpoints.update().values(state="sending", attempts=1, epoch=1, prepared_at=START, leased_until=lease)
        )

    report = _forget(driver, driver.customer())

    assert report.messages_under_way == 1
    assert driver.touchpoints() == [("first-order", "thank-you", "sending")]
    driver.at(minutes=3)  # its worker never comes back: in doubt, queued again as service mail, and then skipped
    driver.at(hours=1)
    assert driver.touchpoints() == [("first-order", "thank-you", "skipped")]
    with driver.app.reading() as connection:
        assert doctor.examine(connection, driver.clock.now(), driver.app.settings) == []


def test_a_webhook_that_is_read_while_its_customer_is_forgotten_brings_nothing_back(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with driving(postgres_url) as driver:
        driver.post("customer.created")
        customer, lock = driver.customer(), people.lock

        def lock_too_late(connection: Connection, ids: Iterable[int]) -> None:
            monkeypatch.setattr(people, "lock", lock)
            _forget(driver, customer)
            lock(connection, ids)

        monkeypatch.setattr(people, "lock", lock_too_late)
        # Only a short id, which the search through raw webhooks does not take for a person.
        driver.post("order.paid", {"order": {"id": "o1", "note": CANARIES["product"]}}, customer={"id": "c1"})

        assert CANARIES["product"].lower() not in _dump(driver)
        assert driver.rows(sa.select(events.c.name)) == [("customer.created",)]
        assert driver.rows(sa.select(inbox.c.state, inbox.c.reason).order_by(inbox.c.id))[1] == (
            "ignored",
            "the customer was forgotten",
        )


def test_what_names_a_forgotten_customer_by_our_number_does_not_bring_them_back(driver: Driver) -> None:
    driver.post("customer.created", customer=CANARY)
    customer = driver.customer(CANARIES["id"])
    _forget(driver, customer)

    by_number = {"customer": customer, "email": CANARIES["email"], "first_name": CANARIES["first_name"]}
    driver.post("survey.answered", {"score": 5}, customer=by_number)

    assert [name for name, text in CANARIES.items() if text.lower() in _dump(driver)] == []
    with driver.app.reading() as connection:
        assert doctor.examine(connection, driver.clock.now(), driver.app.settings) == []
    driver.post("customer.created", customer=CANARY)  # in their own name they may come back, as somebody new
    assert driver.customer(CANARIES["id"]) != customer


def test_other_people_keep_everything(driver: Driver) -> None:
    driver.post("order.paid", {"order": {"id": "o1", "total": 9}}, stage="purchase", consent="granted")
    driver.receive("api", "theirs", b'{"who": "another-sam@example.com", "broken": true}')
    other = {"id": "c2", "email": "kim@example.com", "first_name": "Kim"}
    driver.post("order.paid", {"order": {"id": "o2", "total": 9}}, stage="purchase", customer=other, consent="granted")
    kim = driver.customer("c2")

    _forget(driver, driver.customer())

    assert driver.rows(sa.select(profiles.c.customer_id, profiles.c.email)) == [(kim, "kim@example.com")]
    assert len(driver.rows(sa.select(identities.c.source).where(identities.c.customer_id == kim))) == 3
    assert driver.rows(sa.select(inbox.c.state).where(inbox.c.key == "theirs")) == [("parked",)]
    assert driver.rows(sa.select(inbox.c.body).where(inbox.c.key == "theirs"))[0][0] != b""
    assert len(driver.rows(sa.select(enrollments.c.id).where(enrollments.c.state == "waiting"))) == 3 + 1


def test_nobody_is_forgotten_who_is_not_known(driver: Driver) -> None:
    with pytest.raises(UnknownCustomerError, match="There is no such customer"):
        _forget(driver, 17)


def test_an_export_tells_everything_as_plain_json(driver: Driver) -> None:
    customer = _lived(driver)

    with driver.app.reading() as connection:
        told = privacy.export(connection, driver.app.catalog, driver.app.settings, customer)

    text = json.dumps(told, ensure_ascii=False)
    assert [
        name for name in ("email", "first_name", "attribute", "product", "company") if CANARIES[name] not in text
    ] == []
    assert told["orders"] == 3
    assert told["spent"] == "121.50 EUR"
    assert told["consents"][0]["state"] == "granted"
    assert told["consents"][0]["evidence"] == {"source": "api", "event": 1}
    assert {"source": "api", "external_id": CANARIES["id"]} in told["identities"]
    assert "email" not in {one["source"] for one in told["identities"]}
    thanks = next(message for message in told["messages"] if message["step"] == "thank-you")
    assert thanks["state"] == "sent"
    assert CANARIES["first_name"] in thanks["text"]
    assert thanks["subject"]
    invitation = next(message for message in told["messages"] if message["flow"] == "referral-invitation")
    assert told["referral_codes"][0]["code"] in invitation["text"]
    assert any("Mail email/thank-you was sent." in line for line in told["story"])


def test_an_export_after_forgetting_holds_only_what_nobody_can_be_known_by(driver: Driver) -> None:
    customer = _lived(driver)
    _forget(driver, customer)

    with driver.app.reading() as connection:
        told = privacy.export(connection, driver.app.catalog, driver.app.settings, customer)
        line = why.heading(connection, customer)

    text = json.dumps(told, ensure_ascii=False).lower()
    assert [name for name, canary in CANARIES.items() if canary.lower() in text] == []
    assert told["forgotten_at"] == driver.clock.now().isoformat()
    assert line == f"Customer {customer} (forgotten on 2026-03-14)"


# What customers ask for through a provider


#: As Shopify documents them; they name a customer by their id at Shopify, and by address and number.
AT_SHOPIFY = {"id": 191167201, "email": CANARIES["email"].upper(), "phone": CANARIES["phone"]}


def _asks(driver: Driver, topic: str, customer: object = None) -> str:
    """A privacy webhook of Shopify's comes; what stands beside it in the inbox afterwards."""
    body = {"shop_id": 954889, "shop_domain": "ember-oak.example", "customer": customer, "orders_to_redact": [299938]}
    key = f"{topic}/{next(driver.keys)}"
    driver.receive("shopify", key, json.dumps(body).encode(), headers={"x-shopify-topic": topic})
    [(state, reason, raw)] = driver.rows(
        sa.select(inbox.c.state, inbox.c.reason, inbox.c.body).where(inbox.c.source == "shopify", inbox.c.key == key)
    )
    assert state == "mapped"
    assert raw == b""
    return str(reason)


def test_a_redact_webhook_leaves_not_one_canary_anywhere_its_own_body_included(driver: Driver) -> None:
    customer = _lived(driver)
    kim = {"id": "c2", "email": "kim@example.com"}
    other = driver.post("order.paid", {"order": {"id": "o8"}}, customer=kim)

    reason = _asks(driver, "customers/redact", AT_SHOPIFY)

    assert reason == "asked to forget a customer: done"
    after = _dump(driver)
    assert [name for name, text in CANARIES.items() if text.lower() in after] == []
    assert driver.rows(sa.select(customers.c.id).where(customers.c.forgotten_at.is_not(None))) == [(customer,)]
    assert driver.rows(sa.select(events.c.payload).where(events.c.key == other)) == [({"order": {"id": "o8"}},)]
    assert driver.rows(sa.select(privacy_requests.c.state, privacy_requests.c.who)) == [("done", None)]


def test_a_redact_webhook_leaves_no_canary_in_the_file_of_an_embedded_database(sqlite_url: str) -> None:
    with driving(sqlite_url, files=WITH_BIRDS) as driver:
        _lived(driver)
        _asks(driver, "customers/redact", AT_SHOPIFY)

    file = Path(sqlite_url.removeprefix("sqlite:///"))
    raw = b"".join(part.read_bytes() for part in file.parent.glob(file.name + "*")).lower()
    assert [name for name, text in CANARIES.items() if text.lower().encode() in raw] == []


def test_a_redact_webhook_about_nobody_we_know_empties_what_speaks_of_them_and_says_so(driver: Driver) -> None:
    unmapped = json.dumps({"who": CANARIES["email"], "note": CANARIES["parked"]}).encode()
    driver.receive("api", "parked-1", unmapped)
    assert CANARIES["parked"] in _dump(driver)

    reason = _asks(driver, "customers/redact", AT_SHOPIFY)

    assert "nobody here is known" in reason
    assert [name for name, text in CANARIES.items() if text.lower() in _dump(driver)] == []
    assert driver.rows(sa.select(sa.func.count()).select_from(customers)) == [(0,)]


def test_a_redact_webhook_forgets_both_customers_whom_id_and_address_name(driver: Driver) -> None:
    driver.post("customer.created", customer={"id": "c1", "email": CANARIES["email"]})
    by_id = {"id": AT_SHOPIFY["id"], "first_name": CANARIES["first_name"], "updated_at": "2026-03-01T08:00:00Z"}
    headers = {"x-shopify-topic": "customers/update"}
    driver.receive("shopify", "update-1", json.dumps(by_id).encode(), headers=headers)
    assert len(driver.rows(sa.select(profiles.c.customer_id))) == 2

    _asks(driver, "customers/redact", AT_SHOPIFY)

    assert driver.rows(sa.select(profiles.c.customer_id)) == []
    assert [name for name, text in CANARIES.items() if text.lower() in _dump(driver)] == []


def test_a_request_to_forget_is_finished_by_tending_where_its_worker_died(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lived(driver)
    monkeypatch.setattr("workers.requests.obey", lambda app: 0)
    _asks(driver, "customers/redact", AT_SHOPIFY)
    assert driver.rows(sa.select(privacy_requests.c.state)) == [("asked",)]

    driver.actors.tend()

    assert [name for name, text in CANARIES.items() if text.lower() in _dump(driver)] == []


def test_a_request_for_data_waits_for_a_person_with_its_deadline_and_keeps_no_address(driver: Driver) -> None:
    driver.post("customer.created", customer={"id": "c1", "email": CANARIES["email"]})
    customer = driver.customer()

    reason = _asks(driver, "customers/data_request", AT_SHOPIFY)

    task = f"hand over what `afterglow export {customer}` prints by 2026-04-01"
    assert reason == f"a customer asks for their data: {task}"
    with driver.app.reading() as connection:
        [waiting] = overview.needs(connection, driver.clock.now(), ZoneInfo("UTC")).asked
        told = privacy.export(connection, driver.app.catalog, driver.app.settings, customer)
    assert (waiting.customer_ids, waiting.due_at) == ([customer], START + timedelta(days=30))
    assert told["requests"][0]["source"] == "shopify"
    assert driver.rows(sa.select(privacy_requests.c.who)) == [(None,)]

    with driver.app.writing() as connection:
        assert requests.settle_for(connection, customer, driver.clock.now(), "the customer has it") == 1
    with driver.app.reading() as connection:
        assert overview.needs(connection, driver.clock.now(), ZoneInfo("UTC")).asked == []


def test_a_request_for_data_ends_when_its_customer_is_forgotten_and_one_of_strangers_at_once(driver: Driver) -> None:
    assert "nothing to hand over" in _asks(driver, "customers/data_request", AT_SHOPIFY)
    driver.post("customer.created", customer={"id": "c1", "email": CANARIES["email"]})
    _asks(driver, "customers/data_request", AT_SHOPIFY)

    _forget(driver, driver.customer())

    assert driver.rows(sa.select(privacy_requests.c.state)) == [("done",), ("done",)]


def test_a_shop_that_leaves_takes_along_whom_only_it_knew(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.requests.FORGOTTEN_MAX", 2)  # more than one round of it
    for n in range(5):
        body = {"id": 100 + n, "email": f"only-{n}@example.com", "updated_at": "2026-03-01T08:00:00Z"}
        headers = {"x-shopify-topic": "customers/update"}
        driver.receive("shopify", f"update-{n}", json.dumps(body).encode(), headers=headers)
    driver.post("customer.created", customer={"id": "c1", "email": "only-0@example.com"})  # known otherwise too
    driver.post("customer.created", customer={"id": "c2", "email": "kim@example.com"})
    driver.receive("shopify", "broken", b'{"who": "only-9@example.com"}', headers={"x-shopify-topic": "orders/paid"})

    _asks(driver, "shop/redact")
    driver.at(minutes=1)
    driver.at(minutes=2)

    left = {row[0] for row in driver.rows(sa.select(profiles.c.email))}
    assert left == {"only-0@example.com", "kim@example.com"}
    dump = _dump(driver)
    assert [n for n in range(1, 10) if f"only-{n}@" in dump] == []
    assert driver.rows(sa.select(privacy_requests.c.state)) == [("done",)]
    assert driver.rows(sa.select(inbox.c.state).where(inbox.c.key == "broken")) == [("ignored",)]
