"""Shopify's privacy webhooks over HTTP, signed, against real processes: what is left of a customer is searched for
in the whole database, in Redis and in everything that the processes said."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import redis
import sqlalchemy as sa

from afterglow import ROOT
from afterglow.signatures import sign
from db.tables import customers, inbox, metadata, privacy_requests, profiles
from tests.ports import free_port
from tests.workers.test_cli_run import ENVIRONMENT, command, order, rows, running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder, from which the sample shop is run."""
    return tmp_path


#: Half a dozen processes start here, one after the other; a busy machine gets time.
PATIENCE_S = 120.0
CANARIES = ("canary-buyer@example.com", "+33699887766", "Canaria", "Serinus-Example", "canary lane")


def until(true: Callable[[], object]) -> None:
    """Wait for something that comes soon."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def done(folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Run a command to its end: its status, and what it said."""
    process = command(folder, *words, **environment)
    try:
        told, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, told


def canary_order() -> dict[str, object]:
    """A paid order of the canary's, with their address wherever Shopify writes one."""
    body = order()
    place = {"address1": CANARIES[4], "first_name": CANARIES[2], "last_name": CANARIES[3], "country_code": "FR"}
    body |= {"email": CANARIES[0], "contact_email": CANARIES[0], "phone": CANARIES[1]}
    body["customer"] |= {"email": CANARIES[0], "phone": CANARIES[1], "first_name": CANARIES[2]}
    body["billing_address"] = body["shipping_address"] = place
    return body


def asking(body: dict[str, object]) -> dict[str, object]:
    """What Shopify posts about the customer of an order."""
    customer = {"id": body["customer"]["id"], "email": CANARIES[0], "phone": CANARIES[1]}  # type: ignore[index]
    return {"shop_id": 954889, "shop_domain": "ember-oak.example", "customer": customer, "orders_to_redact": []}


def everything(url: str) -> str:
    """Every column of every row of every table."""
    cells = [cell for table in metadata.sorted_tables for row in rows(url, sa.select(table)) for cell in row]
    return "\n".join(cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for cell in cells)


def left_in(text: str) -> list[str]:
    return [one for one in CANARIES if one.lower() in text.lower()]


@contextmanager
def shared_by_processes(folder: Path, url: str, broker_url: str) -> Iterator[str]:
    """A web process, a worker and a scheduler, which meet in PostgreSQL and Redis. The address of their public face."""
    bind = f"127.0.0.1:{free_port()}"
    environment = {
        "AFTERGLOW_DATABASE_URL": url,
        "AFTERGLOW_BROKER_URL": broker_url,
        "AFTERGLOW_PUBLIC_BIND": bind,
        "PYTHONPATH": str(ROOT),
    }
    assert done(folder, "apply", **environment)[0] == 0
    log = (folder / "said.log").open("wb")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "workers.cli", *words],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=os.environ | ENVIRONMENT | environment,
        )
        for words in (["web"], ["worker", "--processes", "1"], ["scheduler"])
    ]
    try:
        yield f"http://{bind}"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(PATIENCE_S)
        log.close()


def post(public: str, body: dict[str, object], topic: str, id_: str) -> None:
    """Post a signed webhook, as Shopify does, as soon as somebody listens."""
    raw = json.dumps(body).encode()
    client = httpx.Client(verify=False, timeout=PATIENCE_S)  # plain HTTP: reading certificates would take longer

    def accepted() -> bool:
        headers = sign("shopify", ENVIRONMENT["SHOPIFY_WEBHOOK_SECRET"], raw, datetime.now(UTC), id_)
        headers |= {"X-Shopify-Topic": topic, "X-Shopify-Event-Id": id_, "X-Shopify-Webhook-Id": id_}
        try:
            return client.post(f"{public}/hooks/shopify", content=raw, headers=headers).status_code == 202
        except httpx.ConnectError:
            return False

    with client:
        until(accepted)


def live_and_be_forgotten(folder: Path, url: str, public: str) -> None:
    """A canary buys, asks for their data, gets it, and asks to be forgotten; and then once more, as a stranger."""
    open_requests = sa.select(privacy_requests.c.id).where(privacy_requests.c.state != "done")
    post(public, canary_order(), "orders/paid", "paid")
    until(lambda: rows(url, sa.select(profiles.c.customer_id)))
    post(public, {"email": CANARIES[0], "created_at": "yesterday"}, "orders/create", "broken")
    until(lambda: rows(url, sa.select(inbox.c.id).where(inbox.c.state == "parked")))
    assert left_in(everything(url)) == list(CANARIES)

    post(public, asking(canary_order()), "customers/data_request", "ask-1")
    until(lambda: rows(url, sa.select(privacy_requests.c.id).where(privacy_requests.c.state == "found")))
    [(number,)] = rows(url, sa.select(customers.c.id))
    status, told = done(folder, "export", str(number), AFTERGLOW_DATABASE_URL=url)
    assert status == 0
    assert CANARIES[0] in told
    status, told = done(folder, "export", str(number), "--answered", AFTERGLOW_DATABASE_URL=url)
    assert (status, told.strip()) == (0, f"1 request of customer {number} answered.")

    for n in (2, 3):
        post(public, asking(canary_order()), "customers/redact", f"ask-{n}")
        until(lambda n=n: len(rows(url, sa.select(privacy_requests.c.id))) == n)  # type: ignore[misc]
        until(lambda: not rows(url, open_requests))


def judged(url: str, said: str) -> None:
    """Nothing is left in the database or in what the processes said."""
    assert left_in(everything(url)) == []
    assert said
    assert left_in(said) == []
    redacts = sa.select(inbox.c.reason).where(inbox.c.key.like("%redact%")).order_by(inbox.c.id)
    first, second = (row.reason for row in rows(url, redacts))
    assert first == "asked to forget a customer: done"
    assert "nobody here is known" in second


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_signed_redact_webhook_leaves_nothing_in_the_database_or_the_log_of_one_process(
    folder: Path, sqlite_url: str
) -> None:
    with running(folder, AFTERGLOW_DATABASE_URL=sqlite_url) as run:
        live_and_be_forgotten(folder, sqlite_url, run.public)
        run.end(signal.SIGTERM)
        said, complained = run.process.communicate()
    judged(sqlite_url, run.told + said + complained)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_signed_redact_webhook_leaves_nothing_in_postgresql_redis_or_the_logs_of_several_processes(
    folder: Path, postgres_url: str, redis_url: str
) -> None:
    with shared_by_processes(folder, postgres_url, redis_url) as public:
        live_and_be_forgotten(folder, postgres_url, public)
        with redis.Redis.from_url(redis_url) as broker:
            # Perhaps nothing: a hint is gone as soon as somebody took it.
            kept = {key: broker.dump(key) for key in broker.keys("*")}
    assert left_in(repr(kept)) == []
    judged(postgres_url, (folder / "said.log").read_text())


def test_a_redact_webhook_with_a_bad_signature_forgets_nobody(folder: Path) -> None:
    url = f"sqlite:///{folder}/afterglow.db"
    with running(folder) as run:
        assert run.post(canary_order()) == 202
        until(lambda: rows(url, sa.select(profiles.c.customer_id)))
        refused = httpx.post(
            f"{run.public}/hooks/shopify",
            content=json.dumps(asking(canary_order())).encode(),
            headers={"X-Shopify-Topic": "customers/redact", "X-Shopify-Hmac-Sha256": "AAAA"},
        )
        assert refused.status_code == 401
        assert rows(url, sa.select(privacy_requests.c.id)) == []
        run.end(signal.SIGTERM)
