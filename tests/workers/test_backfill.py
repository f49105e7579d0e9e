"""What was missed comes in through the provider's API, once, whatever the provider does meanwhile.

The API is a local server that speaks Shopify's and Stripe's documented lists: pages, Link headers and cursors, 429 with
Retry-After, failures, refused tokens.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from afterglow.backfill import BackfillError
from afterglow.language.catalog import compile_files
from db import catalog
from db.tables import customers, enrollments, events, inbox, runs
from tests.driver import START, Driver, shop_files
from tests.small_shop import MAILS, SHOP, flow, small
from workers.backfill import Fetched, Fetcher

THANKS = flow("thanks", [{"send": "email/receipt"}], once_per="order.id")
PAID = flow("paid", [{"send": "email/receipt"}], starts={"event": "payment.succeeded"}, once_per="payment.id")
TOKEN = "a-token"
#: What the clock of the tests says; webhooks of the last 24 hours are late, older ones history.
NOW = START


@dataclass
class Api:
    """A provider's API: answers pages, after what `trouble` says first."""

    url: str
    items: list[dict[str, Any]] = field(default_factory=list)
    #: (status, headers) of the next answers.
    trouble: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    per_page: int = 2
    #: Replaces the host in the Link header.
    linked_host: str = ""

    def answer(self, path: str, headers: Any) -> tuple[int, dict[str, str], Any]:
        self.asked.append(path)
        if self.trouble:
            status, further = self.trouble.pop(0)
            return status, further, {"errors": "no"}
        query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        if path.startswith("/admin"):
            if headers.get("X-Shopify-Access-Token") != TOKEN:
                return 401, {}, {"errors": "[API] Invalid API key or access token"}
            return self._shopify(query)
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {}, {"error": {"type": "invalid_request_error"}}
        return self._stripe(query)

    def _shopify(self, query: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        # With page_info no other filter may stand beside it, as Shopify has it.
        assert ("page_info" in query) != ("updated_at_min" in query)
        at = int(query.get("page_info", 0))
        page = self.items[at : at + self.per_page]
        links = [f'<{self.url}/admin/api/orders.json?limit=2&page_info=0>; rel="previous"']
        if at + self.per_page < len(self.items):
            host = self.linked_host or self.url
            links.append(f'<{host}/admin/api/orders.json?limit=2&page_info={at + self.per_page}>; rel="next"')
        return 200, {"Link": ", ".join(links)}, {"orders": page}

    def _stripe(self, query: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        after = query.get("starting_after")
        at = 1 + next(n for n, item in enumerate(self.items) if item["id"] == after) if after else 0
        page = self.items[at : at + self.per_page]
        more = at + self.per_page < len(self.items)
        return 200, {}, {"object": "list", "url": "/v1/events", "has_more": more, "data": page}


@contextmanager
def serving() -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = api.answer(self.path, self.headers)
            said = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(said))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api = Api(url=f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as served:
        yield served


@contextmanager
def shop(database_url: str, api: Api, name: str) -> Iterator[tuple[Driver, Callable[..., Fetched]]]:
    """The small shop with a shipped source whose API is the local one; and what fetches from it."""
    hosts = {"shopify": "https://{shop}.myshopify.com", "stripe": "https://api.stripe.com"}
    shipped = shop_files()
    with small(database_url, THANKS) as driver:
        path = f"flows/sources/{name}.yaml"
        files = {path: text for path, text in shipped.items() if "/_" in path}
        files |= {path: shipped[path].replace(hosts[name], api.url), "flows/shop.yaml": json.dumps(SHOP)}
        files |= {"flows/stages.yaml": shipped["flows/stages.yaml"]}
        files |= {"flows/thanks.yaml": THANKS} if name == "shopify" else {"flows/paid.yaml": PAID}
        for mail, (head, body) in MAILS.items():
            column = f"<mj-section><mj-column><mj-text>{body}</mj-text></mj-column></mj-section>"
            front = f"---\n{head}\nsubject: A {mail}\npreheader: Look\n---\n"
            files |= {f"templates/email/{mail}.mjml": f"{front}{column}\n", f"templates/email/{mail}.txt": f"{body}\n"}
        with driver.app.writing() as connection:
            catalog.apply(connection, compile_files(files), now=NOW, by="the tests")

        def fetch(**changes: Any) -> Fetched:
            with driver.app.reading() as connection:
                release = driver.app.catalog.current(connection)
            given: dict[str, Any] = {
                "names": {"token": TOKEN, "shop": "ember-oak"},
                "since": NOW - timedelta(days=30),
                "until": NOW,
                "late_seconds": 86_400,
                "sleep": lambda seconds: None,
            }
            fetcher = Fetcher(
                database=driver.app.database,
                catalog=release.catalog,
                source=release.catalog.sources[name],
                now=NOW,
                **(given | changes),
            )
            try:
                return fetcher.run(lambda fetched: None)
            finally:
                driver.drain()

        yield driver, fetch


def orders(*hours_ago: float) -> list[dict[str, Any]]:
    body = json.loads((ROOT / "tests/payloads/shopify/orders-paid.json").read_text())
    made = []
    for number, hours in enumerate(hours_ago):
        at = (NOW - timedelta(hours=hours)).isoformat()
        moments = {"created_at": at, "processed_at": at, "updated_at": at}
        made.append(body | moments | {"id": 9000 + number, "financial_status": "paid", "cancelled_at": None})
    return made


def payments(*hours_ago: float) -> list[dict[str, Any]]:
    body = json.loads((ROOT / "tests/payloads/stripe/payment_intent.succeeded.json").read_text())
    made = []
    for number, hours in enumerate(hours_ago):
        payment = body["data"]["object"] | {"id": f"pi_{number}"}
        at = int((NOW - timedelta(hours=hours)).timestamp())
        made.append(body | {"id": f"evt_{number}", "created": at, "data": {"object": payment}})
    return made


def count(driver: Driver, table: sa.Table) -> int:
    return int(driver.rows(sa.select(sa.func.count()).select_from(table))[0][0])


def names(driver: Driver) -> list[str]:
    return sorted(row[0] for row in driver.rows(sa.select(events.c.name)))


def webhook(driver: Driver, order: dict[str, Any], topic: str = "orders/paid") -> None:
    headers = {"x-shopify-topic": topic, "x-shopify-event-id": str(order["id"])}
    driver.receive("shopify", f"{topic}/{order['id']}", json.dumps(order).encode(), headers=headers)


# Shopify


def test_missed_orders_of_every_page_become_what_their_webhooks_would_have_been(database_url: str, api: Api):
    with shop(database_url, api, "shopify") as (driver, fetch):
        api.items = orders(1, 2, 3, 4, 5)
        api.items[4] |= {"financial_status": "pending"}
        api.items[3] |= {"cancelled_at": (NOW - timedelta(hours=1)).isoformat()}

        fetched = fetch()

        assert (fetched.pages, fetched.received, len(api.asked)) == (3, 10, 3)
        assert names(driver) == ["order.cancelled"] + ["order.paid"] * 4 + ["order.placed"] * 5
        assert driver.rows(sa.select(customers.c.orders)) == [(4,)]
        assert {row[0] for row in driver.rows(sa.select(inbox.c.state))} == {"mapped"}


def test_fetching_again_brings_nothing_twice(database_url: str, api: Api):
    with shop(database_url, api, "shopify") as (driver, fetch):
        api.items = orders(1, 2, 3)
        fetch()

        again = fetch()

        assert (again.received, again.known) == (0, 6)
        assert (count(driver, events), count(driver, inbox), count(driver, runs)) == (6, 6, 3)


@pytest.mark.parametrize("first", ["webhook", "backfill"])
def test_what_came_by_webhook_and_is_fetched_counts_once(database_url: str, api: Api, first: str):
    with shop(database_url, api, "shopify") as (driver, fetch):
        api.items = orders(1)
        steps: list[Callable[[], Any]] = [lambda: webhook(driver, api.items[0]), fetch]

        for step in steps if first == "webhook" else reversed(steps):
            step()

        assert names(driver) == ["order.paid", "order.placed"]
        assert driver.rows(sa.select(customers.c.orders)) == [(1,)]
        assert count(driver, enrollments) == 1
        assert {row[0] for row in driver.rows(sa.select(inbox.c.state))} == {"mapped"}


def test_a_webhook_and_what_is_fetched_in_one_batch_count_once(database_url: str, api: Api):
    with shop(database_url, api, "shopify") as (driver, fetch):
        api.items = orders(1)
        order = api.items[0]
        headers = {"x-shopify-topic": "orders/paid", "x-shopify-event-id": "e1"}
        driver.receive("shopify", "orders/paid/e1", json.dumps(order).encode(), headers=headers, drained=False)

        fetch()

        assert names(driver) == ["order.paid", "order.placed"]
        assert count(driver, enrollments) == 1


def test_what_is_a_day_old_is_history_and_starts_nothing_and_what_is_younger_is_late(database_url: str, api: Api):
    with shop(database_url, api, "shopify") as (driver, fetch):
        api.items = orders(23, 25)

        fetch()

        assert [key for (key,) in driver.rows(sa.select(runs.c.key))] == ["9000"]
        assert driver.rows(sa.select(customers.c.orders)) == [(2,)]
        late = driver.rows(sa.select(sa.func.count()).where(inbox.c.reason.like("it was fetched late%")))
        assert late == [(2,)]


def test_start_nothing_starts_nothing(database_url: str, api: Api):
    with shop(database_url, api, "shopify") as (driver, fetch):
        api.items = orders(1, 25)

        fetch(late_seconds=0)

        assert (count(driver, enrollments), driver.rows(sa.select(customers.c.orders))) == (0, [(2,)])


def test_what_happened_outside_the_time_asked_for_is_let_go(database_url: str, api: Api):
    with shop(database_url, api, "shopify") as (_, fetch):
        api.items = orders(1, 50)

        fetched = fetch(since=NOW - timedelta(hours=10))

        assert (fetched.received, fetched.let_go) == (2, 2)


def test_a_dry_run_writes_nothing(database_url: str, api: Api):
    with shop(database_url, api, "shopify") as (driver, fetch):
        api.items = orders(1, 2, 3)

        assert fetch(is_dry=True).received == 6
        assert count(driver, inbox) == 0


def test_the_token_never_goes_to_another_host(database_url: str, api: Api):
    with shop(database_url, api, "shopify") as (_, fetch), serving() as stranger:
        api.items, api.linked_host = orders(1, 2, 3), stranger.url

        with pytest.raises(BackfillError, match="on another host"):
            fetch()

        assert stranger.asked == []


# What a provider does meanwhile


def test_too_many_requests_and_failures_are_waited_out_as_asked(sqlite_url: str, api: Api):
    with shop(sqlite_url, api, "shopify") as (driver, fetch):
        api.items = orders(1)
        at = format_http(NOW + timedelta(seconds=30))
        api.trouble = [(429, {"Retry-After": "2.0"}), (503, {}), (429, {"Retry-After": at}), (500, {})]
        waited: list[float] = []

        fetch(sleep=waited.append)

        assert waited == [2.0, 2.0, 30.0, 8.0]
        assert count(driver, events) == 2


def format_http(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


def test_what_failed_in_the_middle_goes_on_where_it_was(sqlite_url: str, api: Api):
    with shop(sqlite_url, api, "shopify") as (driver, fetch):
        api.items = orders(1, 2, 3, 4)
        page = api.answer

        def breaking(path: str, headers: Any) -> Any:
            return (502, {}, {}) if "page_info" in path else page(path, headers)

        api.answer = breaking  # type: ignore[method-assign]
        with pytest.raises(BackfillError, match=r"does not give page 2 .status 502.; what came before it is in"):
            fetch()
        assert count(driver, events) == 4

        api.answer = page  # type: ignore[method-assign]
        fetched = fetch()

        assert (fetched.received, fetched.known, count(driver, events)) == (4, 4, 8)


def test_a_refused_token_is_one_sentence_without_the_token(sqlite_url: str, api: Api):
    with shop(sqlite_url, api, "shopify") as (_, fetch):
        with pytest.raises(BackfillError) as caught:
            fetch(names={"token": "wrong-token", "shop": "s"})

        assert "SHOPIFY_ADMIN_TOKEN" in str(caught.value)
        assert "wrong-token" not in str(caught.value)


# Stripe


def test_stripe_s_events_are_the_very_events_of_its_webhooks(database_url: str, api: Api):
    with shop(database_url, api, "stripe") as (driver, fetch):
        api.items = payments(1, 2, 3, 30, 40)
        came = api.items[1] | {"pending_webhooks": 7}
        driver.receive("stripe", "evt_1", json.dumps(came).encode())

        fetched = fetch()

        assert (fetched.pages, fetched.received, fetched.known) == (3, 4, 1)
        assert sorted(driver.rows(sa.select(events.c.key))) == [(f"evt_{n}",) for n in range(5)]
        assert sorted(key for (key,) in driver.rows(sa.select(runs.c.key))) == ["pi_0", "pi_1", "pi_2"]

        driver.receive("stripe", "evt_0", json.dumps(api.items[0], indent=1).encode())
        assert (count(driver, events), count(driver, runs)) == (5, 3)
