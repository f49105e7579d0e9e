"""Rewards that the shop gives itself: it is told by a signed webhook, until it says yes or a person is told."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow import signatures
from afterglow.language.check import check_files
from afterglow.language.shop import WebhookModel
from db import doctor, notices, privacy, reviewing
from db.tables import notices as notices_table
from tests.driver import Driver, shop_files
from tests.small_shop import small
from tests.workers.test_cli import Afterglow, afterglow
from tests.workers.test_referring import ANN, code, order, refund
from workers import notices as telling

__all__ = ["afterglow"]

SECRET = "whsec_" + base64.b64encode(b"a secret of the tests").decode()
MUGS = json.dumps(
    {
        "programme": "friends",
        "kind": "referral",
        "about": "A mug for a friend",
        "qualifies": {"on": "order.paid", "hold": "14 days", "undone_by": "order.refunded"},
        "rewards": {"referrer": {"webhook": "free-mug"}, "referee": {"coupon": "welcome-10"}},
    }
)


@dataclass
class Shop:
    """What was posted, and what the next posts are answered; 200 where nothing is said."""

    url: str = ""
    answers: list[int | str] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.heard]


@contextmanager
def listening() -> Iterator[Shop]:
    shop = Shop()

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            shop.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
            answer = shop.answers.pop(0) if shop.answers else 200
            if answer == "hang":
                time.sleep(1)
                return
            self.send_response(int(answer))
            if answer == 302:
                self.send_header("location", shop.url)
            if answer == 429:
                self.send_header("retry-after", "3600")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    shop.url = f"http://127.0.0.1:{server.server_port}/rewards"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield shop
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def shop() -> Iterator[Shop]:
    with listening() as one:
        yield one


@pytest.fixture
def driver(database_url: str, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """Bob ordered with Ann's code, and the hold is over after 14 days."""
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    monkeypatch.setenv("SHOP_SECRET", SECRET)
    webhook = {"reward_webhook": {"url": shop.url, "secret": "SHOP_SECRET"}}
    with small(database_url, programmes=(MUGS,), shop=webhook, fetch_local="yes") as installation:
        installation.post("ping.one", customer=ANN)
        order(installation, codes=[code(installation)])
        yield installation


def states(driver: Driver) -> list[tuple[Any, ...]]:
    n = notices_table.c
    return driver.rows(sa.select(n.kind, n.state, n.tries, n.reason).order_by(n.id))


def wait(driver: Driver, **length: float) -> None:
    driver.clock.jump(driver.clock.now() + timedelta(**length))
    driver.drain()


def test_the_shop_hears_once_of_a_reward_that_it_gives_and_can_tell_that_it_is_us(driver: Driver, shop: Shop):
    driver.at(days=14)

    [(headers, body)] = shop.heard
    signatures.verify("standard_webhooks", [SECRET], headers, body, datetime.now(UTC))
    assert headers["webhook-id"] == "reward-1-given"
    told = json.loads(body)
    assert told["type"] == "reward.given"
    assert told["data"] == {
        "reward": 1,
        "webhook": "free-mug",
        "programme": "friends",
        "referral": 1,
        "side": "referrer",
        "generation": 1,
        "customer": {"id": driver.customer("ann"), "ids": {"api": ["ann"]}},
    }
    assert states(driver) == [("given", "told", 1, None)]


def test_what_is_not_taken_comes_again_under_the_same_id_and_later_each_time(driver: Driver, shop: Shop):
    shop.answers = [500, 302, 429]
    driver.at(days=14)
    assert states(driver) == [("given", "waiting", 1, "answered 500")]
    wait(driver, seconds=59)
    assert len(shop.heard) == 1

    wait(driver, seconds=1)
    assert states(driver) == [("given", "waiting", 2, "answered 302")], "no redirect is followed"
    wait(driver, minutes=2)
    wait(driver, minutes=59)
    assert states(driver) == [("given", "waiting", 3, "answered 429")], "it asked for an hour of quiet"
    wait(driver, minutes=1)

    assert states(driver) == [("given", "told", 4, None)]
    assert len({headers["webhook-id"] for headers, _ in shop.heard}) == 1
    assert len({body for _, body in shop.heard}) == 1


def test_when_all_tries_are_used_up_a_person_is_told_and_can_let_it_be_tried_again(
    driver: Driver, shop: Shop, afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(telling, "TRIES_MAX", 2)
    shop.answers = [500, 500]
    driver.at(days=14)
    wait(driver, minutes=1)
    wait(driver, days=30)
    assert states(driver) == [("given", "failed", 2, "answered 500")]

    with driver.app.reading() as connection:
        found = doctor.examine(connection, driver.clock.now(), driver.app.settings)
    assert "webhooks of ours that nobody takes" in [finding.check for finding in found]
    assert "answered 500" in afterglow("webhooks", "unheard")[1]
    assert "reward 1, given: failed: the shop answered 500" in afterglow("referrals", "explain", 1)[1]
    assert "1 webhook will be tried again soon." in afterglow("webhooks", "retry")[1]
    driver.clock.jump(datetime.now(UTC) + timedelta(minutes=1))
    driver.drain()
    assert states(driver) == [("given", "told", 1, None)]
    assert "Everything was heard" in afterglow("webhooks", "unheard")[1]


def test_a_shop_that_is_gone_or_hangs_is_no_yes(driver: Driver, shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(telling, "DEADLINE_S", 0.6)
    shop.answers = ["hang", 410]
    driver.at(days=14)
    assert states(driver) == [("given", "waiting", 1, "gave no answer in time")]
    wait(driver, minutes=1)
    assert states(driver) == [("given", "failed", 2, "answered 410")], "it wants no more"


def test_that_it_is_taken_back_is_told_after_that_it_was_given(driver: Driver, shop: Shop):
    shop.answers = [500]
    driver.at(days=14)
    refund(driver, 40)
    with driver.app.writing() as connection:
        reviewing.reject(connection, 1, author="kim", reason="returned", now=driver.clock.now())
    driver.drain()
    assert shop.types() == ["reward.given"]

    wait(driver, minutes=1)
    assert shop.types() == ["reward.given", "reward.given", "reward.taken_back"]
    assert [headers["webhook-id"] for headers, _ in shop.heard][1:] == ["reward-1-given", "reward-1-taken-back"]


def test_a_worker_that_dies_leaves_it_due_and_who_comes_late_writes_nothing(driver: Driver, shop: Shop):
    shop.answers = [500]
    driver.at(days=14)
    wait(driver, seconds=59)
    with driver.app.writing() as connection:
        now = driver.clock.now() + timedelta(seconds=1)
        [dead] = notices.claim(connection, now, 10)
        assert notices.claim(connection, now, 10) == []
    wait(driver, minutes=3)
    assert states(driver) == [("given", "told", 3, None)]

    with driver.app.writing() as connection:
        late = notices.End(id=dead.id, state=notices.NoticeState.FAILED, reason="late")
        notices.settle(connection, [late], {dead.id: dead.tries}, driver.clock.now())
    assert states(driver) == [("given", "told", 3, None)]


def test_without_a_secret_or_leave_to_ask_this_machine_nothing_is_posted(
    driver: Driver, shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SHOP_SECRET")
    driver.at(days=14)
    assert states(driver)[0][3] == "SHOP_SECRET is not set"

    monkeypatch.setenv("SHOP_SECRET", SECRET)
    object.__setattr__(driver.app.settings, "fetch_local", "no")
    wait(driver, minutes=1)
    assert states(driver)[0][3] == "the reward_webhook may not lead to this machine"
    assert shop.heard == []


def test_an_address_that_leads_into_a_private_network_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHOP_SECRET", SECRET)
    to = WebhookModel(url="https://shop.example/rewards", secret="SHOP_SECRET")
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("10.0.0.7", 443))])

    [refused] = asyncio.run(telling._all([telling._Post(to=to, body=b"{}", headers={})]))

    assert refused is not None
    assert "private network" in refused.what


def test_of_somebody_who_was_forgotten_the_shop_hears_no_more(driver: Driver, shop: Shop):
    shop.answers = [500]
    driver.at(days=14)
    with driver.app.writing() as connection:
        privacy.forget(connection, driver.customer("ann"), driver.clock.now(), driver.secret)
    wait(driver, days=1)

    assert states(driver) == [("given", "dropped", 1, privacy.FORGOTTEN)]
    assert len(shop.heard) == 1


def test_a_shop_that_does_not_say_where_it_listens_is_told_so():
    text = MUGS.replace('"points"', '"x"')
    found = [str(problem) for problem in check_files({**shop_files(), "flows/programmes/friends.yaml": text})]

    assert any("shop.yaml does not say where: add `reward_webhook`" in line for line in found)
