"""Getting connected by the command line: what is told about a source, what a payload would become, what is kept."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from db.tables import customers, enrollments, events, inbox
from tests.driver import Driver, driving
from tests.workers.test_cli import Afterglow, afterglow, driver
from web.serve import WebServer

__all__ = ["afterglow", "driver"]  # fixtures

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PAYLOADS = ROOT / "tests" / "payloads"
VARIABLES = ("SHOPIFY_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET", "GENERIC_WEBHOOK_SECRET")
ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def counted(driver: Driver) -> list[int]:
    """Rows of the tables that a real webhook would change."""
    tables = (inbox, events, customers, enrollments)
    return [driver.rows(sa.select(sa.func.count()).select_from(table))[0][0] for table in tables]


# -- connect -------------------------------------------------------------------------------------------------


def test_connect_tells_where_to_post_what_to_subscribe_and_how_to_prove_it(
    afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("AFTERGLOW_PUBLIC_URL", "https://hooks.example")
    monkeypatch.setenv("SHOPIFY_WEBHOOK_SECRET", "do-not-tell")

    status, told, _ = afterglow("connect", "shopify")

    assert status == 0
    assert "https://hooks.example/hooks/shopify" in told
    assert "SHOPIFY_WEBHOOK_SECRET (set)" in told
    assert "orders/paid" in told
    assert "openssl dgst" in told
    assert "do-not-tell" not in told
    assert not (tmp_path / "afterglow.db").exists()


def test_connect_says_what_is_missing(afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch):
    told = afterglow("connect", "stripe")[1]
    assert "STRIPE_WEBHOOK_SECRET (not set)" in told
    assert "AFTERGLOW_PUBLIC_URL" in told

    monkeypatch.setenv("GENERIC_WEBHOOK_SECRET", "whsec_not!base64")
    told = afterglow("connect", "generic")[1]
    assert "followed by base64" in told
    assert "not!base64" not in told


def test_connect_for_scripts_holds_the_same(afterglow: Afterglow):
    told = json.loads(afterglow("connect", "shopify", "--json")[1])

    assert told["variables"] == [{"name": "SHOPIFY_WEBHOOK_SECRET", "is_set": False, "problem": None}]
    assert told["secret"] == "not set"
    assert "orders/paid" in told["topics"]
    assert told["curl"].startswith("body=")
    assert told["last_received"] is None


def test_connect_lists_every_source_with_when_it_was_heard(afterglow: Afterglow, driver: Driver):
    driver.receive("stripe", "k1", b"{}")
    rows = {row["source"]: row for row in json.loads(afterglow("connect", "--json")[1])}

    assert rows.keys() >= {"generic", "shopify", "stripe"}
    assert rows["stripe"]["last_received"].startswith("2026-03-02T08:00")
    assert rows["shopify"]["last_received"] is None
    assert max(map(len, afterglow("connect")[1].splitlines())) <= 80


@pytest.mark.parametrize("words", [["connect"], ["source", "ping"], ["source", "test"]])
def test_a_source_that_is_not_there_is_told_with_the_nearest(afterglow: Afterglow, words: list[str]):
    status, _, error = afterglow(*words, "shopfy")

    assert status == 1
    assert "Did you mean 'shopify'?" in error


# -- ping ----------------------------------------------------------------------------------------------------


@pytest.fixture
def served(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Driver, str]]:
    """An installation that is served, whose clock stands at this moment, and its public address."""
    monkeypatch.setenv("GENERIC_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("SHOPIFY_WEBHOOK_SECRET", "s")
    binds = {"private_bind": "127.0.0.1:0", "public_bind": "127.0.0.1:0"}
    with driving(sqlite_url, start=datetime.now(UTC), **binds) as installation:
        server = WebServer(installation.app)
        ready = threading.Event()
        thread = threading.Thread(target=server.run, args=(ready,), daemon=True)
        thread.start()
        assert ready.wait(20)
        yield installation, server.public_url
        server.stop()
        thread.join(20)


def test_a_ping_goes_all_the_way_and_changes_nothing(
    afterglow: Afterglow, served: tuple[Driver, str], monkeypatch: pytest.MonkeyPatch
):
    driver, url = served
    monkeypatch.setenv("AFTERGLOW_PUBLIC_URL", url)
    for name in ("shopify", "generic"):
        status, told, error = afterglow("source", "ping", name)
        assert (status, "202" in told) == (0, True), error

    driver.drain()

    assert driver.rows(sa.select(inbox.c.source, inbox.c.state).order_by(inbox.c.source)) == [
        ("generic", "ignored"),
        ("shopify", "ignored"),
    ]
    assert counted(driver)[1:] == [0, 0, 0]


def test_a_ping_that_is_refused_says_why(
    afterglow: Afterglow, served: tuple[Driver, str], monkeypatch: pytest.MonkeyPatch
):
    driver, url = served
    monkeypatch.setenv("AFTERGLOW_PUBLIC_URL", url)
    assert "STRIPE_WEBHOOK_SECRET is not set here" in afterglow("source", "ping", "stripe")[2]
    driver.clock.jump(datetime.now(UTC) + timedelta(minutes=10))
    status, _, error = afterglow("source", "ping", "generic")
    assert (status, error[:4]) == (1, "401 ")
    assert afterglow("source", "ping", "shopify", "--url", f"{url}/hooks/nowhere")[2].startswith("404 ")
    told = json.loads(afterglow("source", "ping", "shopify", "--url", "http://127.0.0.1:1/", "--json")[1])
    assert told["status"] is None
    assert "Nobody answers" in told["problem"]


# -- try -----------------------------------------------------------------------------------------------------


def test_try_tells_every_step_without_a_database(afterglow: Afterglow, tmp_path: Path):
    status, told, _ = afterglow(
        "source", "try", "shopify", PAYLOADS / "shopify/orders-paid.json", "--topic", "orders/paid"
    )

    assert status == 0
    assert "flows/sources/shopify.yaml:" in told
    assert "order.paid" in told
    assert "total: 44.9" in told
    assert "a new customer" in told
    assert "first-order starts" in told
    assert "repeat-order does not start" in told
    assert "customer.orders > 1" in told
    assert "There is no database yet" in told
    assert not (tmp_path / "afterglow.db").exists()


def test_try_writes_nothing_and_knows_who_is_known_and_what_ran(afterglow: Afterglow, driver: Driver):
    paid = (PAYLOADS / "shopify/orders-paid.json").read_bytes()
    headers = {"x-shopify-topic": "orders/paid", "x-shopify-event-id": "e1"}
    driver.receive("shopify", "orders/paid/e1", paid, headers=headers)
    before = counted(driver)

    def tried(*words: object) -> dict[str, object]:
        told = json.loads(afterglow("source", "try", "shopify", *words, "--json")[1])
        (element,) = told["elements"]
        return dict(element)

    path = PAYLOADS / "shopify/orders-paid.json"
    again = tried(path, "--topic", "orders/paid", "--header", "x-shopify-event-id: e1")
    other = tried(path, "--topic", "orders/paid", "--header", "x-shopify-event-id: e2")
    refund = tried(PAYLOADS / "shopify/refunds-create.json", "--topic", "refunds/create")

    assert again["outcome"] == "repeat"
    assert (other["outcome"], other["who"], other["found_by"]) == ("event", "customer 1", "the id at shopify")
    assert {flow["flow"]: flow["starts"] for flow in other["flows"]}["first-order"] is False  # type: ignore[attr-defined]
    whys = {flow["flow"]: flow["why"] for flow in other["flows"]}  # type: ignore[attr-defined]
    assert "ran already for this order.id (5000000000001)" in whys["win-back"]
    assert (refund["who"], refund["found_by"]) == ("customer 1", "the order")
    assert {run["flow"] for run in refund["wakes"]} >= {"first-order"}  # type: ignore[attr-defined]
    assert counted(driver) == before


@ONE
def test_try_says_why_nothing_comes_of_a_payload(afterglow: Afterglow, driver: Driver, tmp_path: Path):
    for name, words, told in (
        ("shopify/orders-paid.test-order.json", ["--topic", "orders/paid"], "A test order"),
        ("shopify/products-update.json", ["--topic", "products/update"], "No rule of the source"),
        ("shopify/orders-paid.json", [], "read headers that are not given: "),
        ("shopify/refunds-create.json", ["--topic", "refunds/create"], "names an order that has not come yet"),
    ):
        status, found, _ = afterglow("source", "try", "shopify", PAYLOADS / name, *words)
        assert (status, told in found) == (0, True), (name, found)
    (tmp_path / "broken.json").write_bytes(b"{")
    assert "The body is not JSON" in afterglow("source", "try", "stripe", "broken.json")[1]
    assert counted(driver) == [0, 0, 0, 0]


def test_try_refuses_what_is_called_wrongly(afterglow: Afterglow):
    file = PAYLOADS / "stripe/product.created.json"
    assert afterglow("source", "try", "stripe", file, "--header", "nothing")[0] == 2
    assert afterglow("source", "try", "stripe", file, "--topic", "x")[0] == 2
    assert afterglow("source", "try", "stripe", "nowhere.json")[0] == 2


# -- test ----------------------------------------------------------------------------------------------------


def test_a_new_shop_keeps_payloads_that_become_what_is_expected(
    afterglow: Afterglow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert afterglow("init", "shop")[0] == 0
    monkeypatch.chdir(tmp_path / "shop")

    status, told, error = afterglow("source", "test")

    assert (status, error) == (0, "")
    assert "each becomes what is expected" in told
    assert afterglow("check")[0] == 0
    assert len(json.loads(afterglow("source", "test", "shopify", "--json")[1])) >= 3
    assert "No payloads are kept yet" in afterglow("source", "test", "stripe")[1]


def test_a_change_of_the_file_shows_as_a_difference_until_it_is_accepted(
    afterglow: Afterglow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    afterglow("init", "shop")
    monkeypatch.chdir(tmp_path / "shop")
    source = Path("flows/sources/shopify.yaml")
    source.write_text(source.read_text().replace("id: body.id | text", "id: body.name | text"))

    status, told, error = afterglow("source", "test")

    assert status == 1
    assert '-      id: "5000000000001"' in told
    assert '+      id: "#1001"' in told
    assert "not as expected" in error

    assert afterglow("source", "test", "--accept")[0] == 0
    assert afterglow("source", "test")[0] == 0
    assert '"#1001"' in Path("flows/sources/shopify/order-paid.expected.yaml").read_text()


def test_a_payload_without_an_expectation_is_told_and_accepted(
    afterglow: Afterglow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    afterglow("init", "shop")
    monkeypatch.chdir(tmp_path / "shop")
    folder = Path("flows/sources/stripe")
    folder.mkdir()
    (folder / "failed.json").write_bytes((PAYLOADS / "stripe/invoice.payment_failed.json").read_bytes())

    status, told, _ = afterglow("source", "test", "stripe")
    assert (status, "nothing is expected of it yet" in told) == (1, True)

    assert afterglow("source", "test", "stripe", "--accept")[0] == 0
    assert "event: payment.failed" in (folder / "failed.expected.yaml").read_text()
    assert afterglow("source", "test", "stripe")[0] == 0
    assert afterglow("check")[0] == 0


def test_an_expectation_that_is_no_yaml_is_told_with_its_place(
    afterglow: Afterglow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    afterglow("init", "shop")
    monkeypatch.chdir(tmp_path / "shop")
    Path("flows/sources/shopify/order-paid.expected.yaml").write_text("- event: [\n")

    status, _, error = afterglow("source", "test")

    assert (status, "flows/sources/shopify/order-paid.expected.yaml:" in error) == (1, True)
