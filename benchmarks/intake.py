"""Intake: signed webhooks of 1.7 KB accepted by one web process, beside an insert and a commit for each request.

The load comes from a process of its own, over kept connections with one request under way on each, signed before the
clock starts. Every 202 means a committed row; the rows are counted afterwards.
"""

import asyncio
import base64
import hmac
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import quantiles
from typing import Any, Final

import sqlalchemy as sa

from afterglow import ROOT
from afterglow.errors import AfterglowError
from benchmarks import rig
from db.app import App
from db.engine import Database
from db.intake import Received, receive
from db.tables import inbox
from web.intake import Intake
from web.serve import WebServer

SECRET: Final = "benchmark-secret"
REQUESTS: Final = 15_000
WARM_UP: Final = 1_000
ROUNDS: Final = 3
CONNECTIONS: Final = 100
#: A server that does not answer fails the benchmark rather than holding it.
LOAD_S_MAX: Final = 120
#: Connections to the database that the alternative may use at once.
ALTERNATIVE_THREADS: Final = 12


class CommitEach(Intake):
    """What most would write: each request inserts and commits by itself, in a pool of threads."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._pool = ThreadPoolExecutor(ALTERNATIVE_THREADS)

    async def accept(self, rows: Sequence[Received]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, self._insert_each, rows)

    def _insert_each(self, rows: Sequence[Received]) -> None:
        with self._app.writing() as connection:
            receive(connection, rows, self._app.clock.now(connection))
        self._app.hint("ingest")


def body(number: int) -> bytes:
    """An order of two lines with the fields that Shopify documents, cut to 1.7 KB."""
    line = {
        "admin_graphql_api_id": f"gid://shopify/LineItem/{number}",
        "fulfillable_quantity": 2,
        "fulfillment_service": "manual",
        "grams": 250,
        "price": "12.50",
        "product_exists": True,
        "product_id": 9_001,
        "quantity": 2,
        "requires_shipping": True,
        "sku": "HR-250",
        "taxable": True,
        "title": "House roast, whole beans",
        "total_discount": "0.00",
        "variant_id": 90_011,
        "vendor": "Ember & Oak",
    }
    order = {
        "id": 5_000_000_000 + number,
        "name": f"#{number}",
        "email": f"customer-{number}@example.com",
        "created_at": "2026-03-02T09:00:00+01:00",
        "currency": "EUR",
        "financial_status": "paid",
        "total_price": "40.00",
        "customer": {"id": 7_000_000_000 + number, "first_name": "Sam", "last_name": "Example"},
        "shipping_address": {"city": "Paris", "country_code": "FR", "zip": "75000", "address1": "1 Example Street"},
        "line_items": [{**line, "id": 1}, {**line, "id": 2}],
    }
    text = json.dumps(order)
    return (text[:-1] + ', "note": "' + "x" * max(0, 1_700 - len(text) - 12) + '"}').encode()


def request(number: int) -> bytes:
    """One signed request, as it goes over the wire."""
    content = body(number)
    signature = base64.b64encode(hmac.digest(SECRET.encode(), content, "sha256")).decode()
    head = (
        f"POST /hooks/shopify HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nX-Shopify-Hmac-Sha256: {signature}\r\nX-Shopify-Topic: orders/paid\r\n"
        f"X-Shopify-Event-Id: {number:032x}\r\nX-Shopify-Webhook-Id: {number:036x}\r\n"
        f"X-Shopify-Shop-Domain: ember-oak.example\r\nUser-Agent: Shopify-Captain-Hook\r\n\r\n"
    )
    return head.encode() + content


class _Client(asyncio.Protocol):
    """Sends one request after the other; an answer is complete when its fixed body has come."""

    def __init__(self, requests: list[bytes], tally: dict[str, Any], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._tally = tally
        self._done = done
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport  # uvloop has transports of its own kind
        self._next()

    def _next(self) -> None:
        if not self._requests:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._began = time.perf_counter()
        self._transport.write(self._requests.pop())

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.endswith(b"}"):
            return
        self._tally["seconds"].append(time.perf_counter() - self._began)
        self._tally["accepted"] += self._received.startswith(b"HTTP/1.1 202")
        self._received = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))


async def load(port: int, count: int, connections: int, first: int) -> dict[str, Any]:
    """Post `count` webhooks, as fast as they are answered."""
    requests = [request(first + number) for number in range(count)]
    tally: dict[str, Any] = {"accepted": 0, "seconds": []}
    loop = asyncio.get_running_loop()
    ends = [loop.create_future() for _ in range(connections)]
    began = time.perf_counter()
    for end in ends:
        await loop.create_connection(lambda end=end: _Client(requests, tally, end), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.wait_for(asyncio.gather(*ends), LOAD_S_MAX)
    took = time.perf_counter() - began
    cuts = quantiles(tally["seconds"], n=100)
    return {
        "accepted": tally["accepted"],
        "per_second": tally["accepted"] / took,
        "p50_ms": cuts[49] * 1000,
        "p99_ms": cuts[98] * 1000,
    }


def _serve(url: str, grouped: bool) -> None:
    """One web process; prints its port and serves until its input ends."""
    app = rig.open_(url, public_bind="127.0.0.1:0", private_bind="127.0.0.1:0")
    server = WebServer(app)
    if not grouped:
        server._faces.hooks._intake = CommitEach(app)
    print(server.public_url.rpartition(":")[2], flush=True)
    server.run()


def _measure(url: str, *, grouped: bool, count: int, connections: int, first: int) -> dict[str, Any]:
    me = [sys.executable, "-m", "benchmarks.intake"]
    environment = {**os.environ, "SHOPIFY_WEBHOOK_SECRET": SECRET, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*me, "serve", url, "grouped" if grouped else "each"], stdout=subprocess.PIPE, env=environment, text=True
    ) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            options = [str(connections), str(first)]
            # A warm-up, as every process and connection here lives for days.
            subprocess.run(
                [*me, "load", port, str(WARM_UP), *options], check=True, capture_output=True, env=environment
            )
            options = [str(connections), str(first + WARM_UP)]
            found = subprocess.run(
                [*me, "load", port, str(count), *options], check=True, capture_output=True, env=environment
            )
        finally:
            server.terminate()
    result: dict[str, Any] = json.loads(found.stdout)
    return result


def run(count: int = REQUESTS, connections: int = CONNECTIONS) -> dict[str, Any]:
    """Measure both, and check that every accepted webhook is a row."""
    with rig.postgresql() as url:
        rounds = [
            (
                _measure(url, grouped=False, count=count // 3, connections=connections, first=n * 10**6),
                _measure(url, grouped=True, count=count, connections=connections, first=n * 10**6 + 10**5),
            )
            for n in range(ROUNDS)
        ]
        database = Database(url)
        with database.reading() as connection:
            stored = connection.execute(sa.select(sa.func.count()).select_from(inbox)).scalar_one()
        database.close()
    answered = sum(one["accepted"] + WARM_UP for pair in rounds for one in pair)
    if stored != answered:
        raise AfterglowError(f"{answered} webhooks were accepted and {stored} are stored")
    # By turns, and the middle of the rounds: a busy moment of the machine falls on neither alone.
    each, ours = (_middle([pair[side] for pair in rounds]) for side in (0, 1))
    return {
        "webhooks_per_second": round(ours["per_second"]),
        "p50_ms": round(ours["p50_ms"], 1),
        "p99_ms": round(ours["p99_ms"], 1),
        "commit_per_request_per_second": round(each["per_second"]),
        "ratio": round(ours["per_second"] / each["per_second"], 2),
        "body_bytes": len(body(0)),
        "connections": connections,
    }


def _middle(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return sorted(results, key=lambda result: float(result["per_second"]))[len(results) // 2]


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", url, kind]:
            _serve(url, kind == "grouped")
        case ["load", port, count, connections, first]:
            import uvloop

            print(json.dumps(uvloop.run(load(int(port), int(count), int(connections), int(first)))))
        case _:
            print(json.dumps(run(), indent=2))
