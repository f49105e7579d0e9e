"""History out of files: the same customers and orders as the webhooks', once, and nobody gets a mail for it."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from db import identity
from db.tables import (
    consents,
    customers,
    enrollments,
    events,
    identities,
    profiles,
    referral_codes,
    runs,
    stage_entries,
    suppressions,
    touchpoints,
)
from tests.driver import Driver
from tests.small_shop import flow, small
from tests.workers.test_cli import Afterglow, afterglow

__all__ = ["afterglow"]

WELCOME = flow("hello", [{"send": "email/note"}], starts={"event": "customer.created"}, once_per="customer.id")
THANKS = flow("thanks", [{"send": "email/receipt"}], once_per="order.id")
BACK = flow(
    "back",
    [{"id": "silence", "wait": "45 days"}, {"send": "email/note"}],
    starts={"stage": "purchase"},
    once_per="order.id",
)


@pytest.fixture
def driver(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """The small shop with the shipped source shopify, on the database that commands use."""
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    with small(database_url, WELCOME, THANKS, BACK, sources=("shopify",)) as installation:
        yield installation


def file(name: str, *lines: str) -> str:
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name


def count(driver: Driver, table: sa.Table) -> int:
    return int(driver.rows(sa.select(sa.func.count()).select_from(table))[0][0])


def everything(driver: Driver) -> dict[str, list[tuple[Any, ...]]]:
    tables = (customers, profiles, identities, consents, suppressions, events, stage_entries, runs, referral_codes)
    return {table.name: sorted(map(repr, driver.rows(sa.select(table)))) for table in tables}


def told(result: tuple[int, str, str]) -> dict[str, Any]:
    return dict(json.loads(result[1]))


def shopify(driver: Driver, name: str, topic: str, **changes: Any) -> None:
    body = json.loads((ROOT / f"tests/payloads/shopify/{name}.json").read_text()) | changes
    headers = {"x-shopify-topic": topic, "x-shopify-event-id": f"{name}-1"}
    driver.receive("shopify", f"{topic}/{name}-1", json.dumps(body).encode(), headers=headers)


# Customers


CUSTOMERS = (
    "id;E-Mail;First name;phone;created_at;vip;consent;consent_at;consent_words",
    "11;Ann@Example.com;Ann;+33 1 23 45 67 89;2025-01-02;yes;granted;2025-01-03T10:00:00Z;ticked at the checkout",
    "12;bob@example.com;Bob;;2025-02-03 09:30;no;no;2025-02-04;",
    "13;cid@example.com;Zoë;;2025-03-04;;;;",
)


def test_imported_customers_are_known_by_what_a_webhook_would_know_them_by(driver: Driver, afterglow: Afterglow):
    found = told(afterglow("import", "customers", file("c.csv", *CUSTOMERS), "--source", "shopify", "--json"))

    assert (found["new"], found["bad"]) == (3, [])
    ann = driver.rows(sa.select(identities.c.customer_id).where(identities.c.external_id == "11"))[0][0]
    email = identity.email_identity(driver.secret, "ann@example.com")
    mine = sa.select(identities.c.source, identities.c.external_id).where(identities.c.customer_id == ann)
    assert set(driver.rows(mine)) == {("shopify", "11"), email}
    p = profiles.c
    query = sa.select(p.email, p.first_name, p.phone, p.attributes).where(p.customer_id == ann)
    assert driver.rows(query) == [("ann@example.com", "Ann", "+33123456789", {"vip": True})]


def test_consent_is_what_the_file_says_with_its_evidence_and_nobody_else_gains_any(
    driver: Driver, afterglow: Afterglow
):
    afterglow("import", "customers", file("c.csv", *CUSTOMERS), "--source", "shopify")

    c = consents.c
    assert driver.rows(sa.select(c.topic, c.state, c.basis, c.evidence, c.occurred_at).order_by(c.occurred_at)) == [
        (
            "*",
            "granted",
            "consent",
            {"source": "shopify", "import": "c.csv", "line": 2, "words": "ticked at the checkout"},
            datetime(2025, 1, 3, 10, tzinfo=UTC),
        ),
        ("*", "withdrawn", "consent", {"source": "shopify", "import": "c.csv", "line": 3}, _paris(2025, 2, 4)),
    ]


def _paris(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day - 1, 23, tzinfo=UTC)  # midnight in Paris, in winter


def test_importing_again_changes_nothing(driver: Driver, afterglow: Afterglow):
    afterglow("import", "customers", file("c.csv", *CUSTOMERS), "--source", "shopify")
    before = everything(driver)

    found = told(afterglow("import", "customers", "c.csv", "--source", "shopify", "--json"))

    assert (found["new"], found["changed"], found["known"]) == (0, 0, 3)
    assert everything(driver) == before


def test_a_webhook_after_the_import_is_about_the_same_customer_and_starts_no_welcome(
    driver: Driver, afterglow: Afterglow
):
    body = json.loads((ROOT / "tests/payloads/shopify/customers-create.json").read_text())
    afterglow("import", "customers", file("c.csv", "id,email", f"{body['id']},{body['email']}"), "--source", "shopify")

    shopify(driver, "customers-create", "customers/create")

    assert count(driver, customers) == 1
    assert count(driver, enrollments) == 0


def test_an_import_after_the_webhook_records_no_second_event(driver: Driver, afterglow: Afterglow):
    body = json.loads((ROOT / "tests/payloads/shopify/customers-create.json").read_text())
    shopify(driver, "customers-create", "customers/create")
    begun = count(driver, enrollments)

    found = told(
        afterglow("import", "customers", file("c.csv", "id,email", f"{body['id']},"), "--source", "shopify", "--json")
    )

    assert (found["new"], found["known"]) == (0, 1)
    assert (count(driver, events), count(driver, customers), count(driver, enrollments)) == (1, 1, begun)


def test_what_is_known_is_only_overwritten_by_a_row_that_says_it_is_newer(driver: Driver, afterglow: Afterglow):
    driver.post("ping.one", {"n": 1})

    afterglow("import", "customers", file("a.csv", "email,first_name,last_name", "sam@example.com,Samuel,Low"))
    p = profiles.c
    assert driver.rows(sa.select(p.first_name, p.last_name)) == [("Sam", "Low")]

    row = '{"email": "sam@example.com", "first_name": "Samuel", "updated_at": "2026-03-02T09:00:00Z"}'
    afterglow("import", "customers", file("b.jsonl", row))
    assert driver.rows(sa.select(p.first_name, p.last_name)) == [("Samuel", "Low")]


def test_an_undated_grant_never_takes_a_withdrawal_back(driver: Driver, afterglow: Afterglow):
    driver.post("ping.one", {"n": 1}, consent="withdrawn")

    afterglow("import", "customers", file("a.csv", "email,consent", "sam@example.com,yes"))

    assert driver.rows(sa.select(consents.c.state)) == [("withdrawn",)]


def test_bad_rows_are_listed_by_line_and_written_beside_the_file_and_the_others_go_in(
    driver: Driver, afterglow: Afterglow
):
    rows = ("email,first_name,created_at", "not an address,A,", 'eve@example.com,"E\nve",2025-01-01', ",,", "x", "")
    rows += ("fay@example.com,F,yesterday", "gus@example.com,G,2025-01-01")

    status, out, _ = afterglow("import", "customers", file("c.csv", *rows), "--rejects")

    assert status == 1
    assert count(driver, customers) == 2
    for line, reason in (
        (2, "email is not an e-mail address"),
        (5, "it names nobody"),
        (6, "it has 1 columns where the first line names 3"),
        (8, "created_at is not a moment"),
    ):
        assert f"line {line}: {reason}" in out
    kept = Path("c.csv.rejected.csv").read_text().splitlines()
    assert kept[0] == "line,reason,email,first_name,created_at"
    assert kept[1] == "2,email is not an e-mail address,not an address,A,"
    assert len(kept) == 5


def test_an_unknown_column_is_refused_with_what_was_meant(driver: Driver, afterglow: Afterglow):
    status, _, error = afterglow("import", "customers", file("c.csv", "email,fist_name", "a@example.com,A"))

    assert status == 1
    assert "'fist_name' did you mean 'first_name'" in error
    assert count(driver, customers) == 0


def test_columns_are_renamed_and_ignored_as_told(driver: Driver, afterglow: Afterglow):
    lines = ("Mail,Given,Note", "a@example.com,Ann,likes tea")

    status, _, _ = afterglow(
        "import", "customers", file("c.csv", *lines), "--rename", "Mail=email", "--rename", "Given=first_name",
        "--ignore", "note",
    )  # fmt: skip

    assert status == 0
    assert driver.rows(sa.select(profiles.c.first_name)) == [("Ann",)]


def test_check_only_looks(driver: Driver, afterglow: Afterglow):
    status, out, _ = afterglow("import", "customers", file("c.csv", *CUSTOMERS), "--check")

    assert (status, count(driver, customers)) == (0, 0)
    assert "3 rows of customers could go in; nothing was written." in out


@pytest.mark.parametrize("write", ["bom", "gzip", "tabs", "utf-16"])
def test_files_are_read_as_programs_write_them(driver: Driver, afterglow: Afterglow, write: str):
    text = "id,email,first_name\r\n1,ann@example.com,Zoë\r\n"
    name = {"gzip": "c.csv.gz", "tabs": "c.tsv"}.get(write, "c.csv")
    data = {
        "bom": text.encode("utf-8-sig"),
        "gzip": gzip.compress(text.encode()),
        "tabs": text.replace(",", "\t").encode(),
        "utf-16": text.encode("utf-16"),
    }[write]
    Path(name).write_bytes(data)

    assert afterglow("import", "customers", name)[0] == 0
    assert driver.rows(sa.select(profiles.c.first_name)) == [("Zoë",)]


def test_bytes_that_are_not_utf_8_are_a_bad_row(driver: Driver, afterglow: Afterglow):
    Path("c.csv").write_bytes(b"email,first_name\na@example.com,Zo\xeb\nb@example.com,Bob\n")

    found = told(afterglow("import", "customers", "c.csv", "--json"))

    assert (found["new"], [row["line"] for row in found["bad"]]) == (1, [2])


def test_a_forgotten_customer_stays_forgotten_and_gets_no_marketing_by_an_old_list(
    driver: Driver, afterglow: Afterglow
):
    afterglow("import", "customers", file("c.csv", *CUSTOMERS), "--source", "shopify")
    afterglow("forget", "ann@example.com", "--yes")

    found = told(afterglow("import", "customers", "c.csv", "--source", "shopify", "--json"))

    assert found["bad"] == []
    digest = identity.address_digest(driver.secret, "ann@example.com").hex()
    assert driver.rows(sa.select(suppressions.c.digest, suppressions.c.covers)) == [(digest, "marketing")]


def test_forgetting_leaves_no_key_by_which_an_imported_person_could_be_found(driver: Driver, afterglow: Afterglow):
    afterglow("import", "customers", file("c.csv", "email", "ann@example.com"))
    afterglow("import", "orders", file("o.csv", "order_id,total,paid_at,email", "o77,40,2025-05-01,ann@example.com"))

    status, _, _ = afterglow("forget", "ann@example.com", "--yes")

    assert status == 0
    assert [key.split()[0] for (key,) in driver.rows(sa.select(events.c.key))] == ["forgotten", "forgotten"]
    assert driver.rows(sa.select(identities)) == []


# Orders


def test_imported_orders_count_and_enter_stages_and_start_and_wake_nothing(driver: Driver, afterglow: Afterglow):
    lines = ("order_id,total,paid_at,customer_id,email", "o1,40.50,2025-05-01,11,ann@example.com")
    lines += ("o2,9.50,2025-06-01T10:00:00Z,11,ann@example.com", "o3,7,2025-04-01,12,bob@example.com")

    found = told(afterglow("import", "orders", file("o.csv", *lines), "--source", "shopify", "--json"))
    driver.at(days=100)

    assert (found["new"], found["bad"]) == (3, [])
    c = customers.c
    assert driver.rows(sa.select(c.orders, c.spent, c.last_order_at, c.stage).order_by(c.id)) == [
        (2, 5000, datetime(2025, 6, 1, 10, tzinfo=UTC), "purchase"),
        (1, 700, datetime(2025, 3, 31, 22, tzinfo=UTC), "purchase"),
    ]
    assert [count(driver, table) for table in (events, stage_entries, enrollments, touchpoints)] == [3, 3, 0, 0]
    before = everything(driver)
    assert told(afterglow("import", "orders", "o.csv", "--source", "shopify", "--json"))["known"] == 3
    assert everything(driver) == before


@pytest.mark.parametrize("first", ["webhook", "import"])
def test_an_order_that_comes_by_webhook_and_by_file_is_one_order(driver: Driver, afterglow: Afterglow, first: str):
    body = json.loads((ROOT / "tests/payloads/shopify/orders-paid.json").read_text())
    line = f"{body['id']},{body['total_price']},2026-01-05T10:00:00Z,{body['customer']['id']}"
    name = file("o.csv", "order_id,total,paid_at,customer_id", line)
    steps: list[Callable[[], Any]] = [
        lambda: shopify(driver, "orders-paid", "orders/paid"),
        lambda: afterglow("import", "orders", name, "--source", "shopify"),
    ]

    for step in steps if first == "webhook" else reversed(steps):
        step()

    assert driver.rows(sa.select(customers.c.orders)) == [(1,)]
    assert count(driver, events) == 1
    assert count(driver, runs) == (2 if first == "webhook" else 0)


def test_an_order_of_another_webhook_still_starts_its_flows_after_an_import(driver: Driver, afterglow: Afterglow):
    body = json.loads((ROOT / "tests/payloads/shopify/orders-paid.json").read_text())
    line = f"other,1,2026-01-05T10:00:00Z,{body['customer']['id']}"
    afterglow("import", "orders", file("o.csv", "order_id,total,paid_at,customer_id", line), "--source", "shopify")

    shopify(driver, "orders-paid", "orders/paid")

    assert driver.rows(sa.select(customers.c.orders)) == [(2,)]
    assert {row[0] for row in driver.rows(sa.select(runs.c.flow))} == {"thanks", "back"}


def test_an_order_twice_in_a_file_is_told_by_line(driver: Driver, afterglow: Afterglow):
    lines = ("order_id,total,paid_at,email", *["o1,40,2025-05-01,ann@example.com"] * 2)

    found = told(afterglow("import", "orders", file("o.csv", *lines), "--json"))

    assert (found["new"], found["bad"]) == (1, [{"line": 3, "reason": "its order stands on line 2 already"}])


def test_why_says_that_history_starts_nothing(driver: Driver, afterglow: Afterglow):
    lines = ("order_id,total,paid_at,email", "o1,40,2025-05-01,ann@example.com")
    afterglow("import", "orders", file("o.csv", *lines))

    _, out, _ = afterglow("why", "ann@example.com", "--flow", "thanks")

    assert "history, which starts no flow by itself" in " ".join(out.split())


def test_a_flow_is_started_only_when_told_to_and_nobody_enters_twice(driver: Driver, afterglow: Afterglow):
    lines = ("order_id,total,paid_at,email", "o1,40,2025-05-01,ann@example.com", "o2,40,2025-05-01,bob@example.com")
    name = file("o.csv", *lines)

    status, out, _ = afterglow("import", "orders", name, "--start", "thanks")
    assert status == 0
    assert "2 customers would enter thanks, in 2 runs." in out
    assert "send email/receipt" in out
    assert "Nothing was started; what was imported stays." in out
    assert count(driver, enrollments) == 0

    assert told(afterglow("import", "orders", name, "--start", "thanks", "--yes", "--json"))["started"] == 2
    assert told(afterglow("import", "orders", name, "--start", "thanks", "--yes", "--json"))["started"] == 0
    driver.clock.jump(datetime.now(UTC))  # commands live in the present
    driver.at(datetime.now(UTC) + timedelta(hours=1))
    assert [state for *_, state in driver.touchpoints()] == ["sent", "sent"]


# Consent, suppressions, referral codes


def test_a_list_of_consent_is_about_customers_who_are_known(driver: Driver, afterglow: Afterglow):
    driver.post("ping.one", {"n": 1})
    lines = ("email,state,at,topic,basis", "sam@example.com,granted,2025-01-01,news,existing-customer")
    lines += ("who@example.com,granted,2025-01-01,,", "sam@example.com,granted,2025-01-01,cars,")

    found = told(afterglow("import", "consent", file("c.csv", *lines), "--json"))

    assert found["new"] == 1
    assert [(row["line"], row["reason"].split(";")[0]) for row in found["bad"]] == [
        (3, "it names a customer whom we do not know"),
        (4, "consent_topic is no topic of shop.yaml. Did you mean 'care'?"),
    ]
    c = consents.c
    assert driver.rows(sa.select(c.topic, c.state, c.basis)) == [("news", "granted", "existing-customer")]


def test_suppressed_addresses_are_kept_as_keyed_hashes_and_only_ever_get_stricter(driver: Driver, afterglow: Afterglow):
    afterglow("import", "suppressions", file("s.csv", "email,reason", "ANN@example.com,bounced", "bob@example.com,"))
    afterglow("import", "suppressions", file("t.csv", "email,reason", "ann@example.com,", "bob@example.com,complained"))
    afterglow("import", "customers", file("c.csv", "email,consent", "ann@example.com,yes"))

    digests = {name: identity.address_digest(driver.secret, f"{name}@example.com").hex() for name in ("ann", "bob")}
    s = suppressions.c
    assert sorted(driver.rows(sa.select(s.digest, s.reason, s.covers))) == sorted(
        [(digests["ann"], "bounced", "everything"), (digests["bob"], "complained", "everything")]
    )
    driver.post("order.paid", {"order": {"id": "o9", "total": 1}}, customer={"email": "ann@example.com"})
    assert driver.touchpoints() == [("thanks", "receipt", "skipped")]


def test_a_referral_code_belongs_to_one_customer(driver: Driver, afterglow: Afterglow):
    afterglow("import", "customers", file("c.csv", "email", "ann@example.com", "bob@example.com"))
    lines = ("email,programme,code", "ann@example.com,friends,ANN-2024", "bob@example.com,friends,ANN-2024")
    lines += ("ann@example.com,friends,OTHER-1", "bob@example.com,friends,bad code")

    found = told(afterglow("import", "referral-codes", file("r.csv", *lines), "--json"))

    assert (found["new"], [row["line"] for row in found["bad"]]) == (1, [3, 4, 5])
    assert driver.rows(sa.select(referral_codes.c.code)) == [("ANN-2024",)]
    assert told(afterglow("import", "referral-codes", "r.csv", "--json"))["known"] == 1


# Many


def test_forty_thousand_imported_customers_send_no_mail(driver: Driver, afterglow: Afterglow, database_url: str):
    number = 40_000 if database_url.startswith("postgresql") else 4_000
    people = ["id,email,first_name,consent,consent_at"]
    orders = ["order_id,total,paid_at,customer_id"]
    for n in range(number):
        people.append(f"{n},customer{n}@example.com,Sam {n},yes,2025-01-01")
        orders.append(f"o{n},40,2026-02-{1 + n % 28:02},{n}")

    assert (
        told(afterglow("import", "customers", file("c.csv", *people), "--source", "shopify", "--json"))["new"] == number
    )
    assert told(afterglow("import", "orders", file("o.csv", *orders), "--source", "shopify", "--json"))["new"] == number
    driver.at(days=120)

    assert (count(driver, customers), count(driver, events)) == (number, 2 * number)
    assert [count(driver, table) for table in (enrollments, touchpoints)] == [0, 0]


def test_orders_that_come_by_file_and_by_webhook_at_the_same_moment_count_once(
    driver: Driver, afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("workers.importing.BATCH", 25)
    monkeypatch.setattr("workers.importing.BATCH_SQLITE", 25)
    number, each = 400, 40
    lines = ["order_id,total,paid_at,customer_id"]
    lines += [f"o{n},10,2026-01-05T10:00:00Z,c{n % each}" for n in range(number)]
    name = file("o.csv", *lines)
    for n in reversed(range(number)):
        payload = {"order": {"id": f"o{n}", "total": 10}}
        driver.post("order.paid", payload, customer={"id": f"c{n % each}"}, drained=False)

    webhooks = threading.Thread(target=driver.drain)
    webhooks.start()
    found = told(afterglow("import", "orders", name, "--source", "api", "--json"))
    webhooks.join()

    assert found["bad"] == []
    assert found["new"] + found["known"] == number
    assert driver.rows(sa.select(customers.c.orders, customers.c.spent)) == [(number // each, 10_000)] * each
    assert count(driver, events) == number
    assert driver.rows(sa.select(sa.func.count()).where(runs.c.flow == "thanks"))[0][0] == number - found["new"]


def test_a_waiting_run_is_not_woken_by_what_is_imported(driver: Driver, afterglow: Afterglow):
    driver.post("order.paid", {"order": {"id": "o1", "total": 40}}, stage="purchase")
    before = driver.rows(sa.select(enrollments).order_by(enrollments.c.id))

    afterglow(
        "import", "orders", file("o.csv", "order_id,total,paid_at,email", "o2,1,2026-03-02T09:00Z,sam@example.com")
    )
    driver.drain()

    assert driver.rows(sa.select(customers.c.orders)) == [(2,)]
    assert driver.rows(sa.select(enrollments).order_by(enrollments.c.id)) == before


def test_a_flow_that_is_not_live_is_not_started(driver: Driver, afterglow: Afterglow):
    status, _, error = afterglow("import", "customers", file("c.csv", "email", "a@example.com"), "--start", "helo")

    assert status == 1
    assert "Did you mean 'hello'?" in error
    assert count(driver, customers) == 0


def test_columns_are_told(driver: Driver, afterglow: Afterglow):
    status, out, _ = afterglow("import", "orders")

    assert status == 0
    assert "paid_at" in out


def test_backfill_names_the_variables_that_are_missing(driver: Driver, afterglow: Afterglow):
    status, _, error = afterglow("backfill", "shopify", "--since", "2026-11-01")

    assert status == 1
    assert error.startswith("SHOPIFY_SHOP and SHOPIFY_ADMIN_TOKEN must be in the environment or in .env;")
