"""What flows do besides sending, from the step to what comes of it: once, in order, and with the customer locked."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow import signatures
from db import ledger, privacy, proof, redemptions
from db.tables import decisions, enrollments, events, inbox, ledger_transactions, profiles, stage_entries
from db.tables import notices as notices_table
from tests.coupon_shops import CouponShops
from tests.driver import Driver
from tests.small_shop import flow, small
from tests.workers.test_coupons import beans, shops
from tests.workers.test_notices import SECRET, Shop, shop, wait
from workers import batches
from workers.advance import Advance
from workers.ingest import Ingest

__all__ = ["shop", "shops"]  # fixtures

BEANS = json.dumps(
    {
        "programme": "beans",
        "kind": "loyalty",
        "about": "Points",
        "earn": [{"id": "review", "on": "ping.two", "points": 1}],
        "budget": {"points": 1000, "per": "ever"},
        "rewards": [
            {"id": "tasting", "about": "A seat", "costs": 60, "gives": {"perk": "tasting"}},
            {"id": "roastery", "about": "The whole roastery", "costs": 100000, "gives": {"perk": "roastery"}},
        ],
    }
)
GIFT = [
    {"award": "order.total * 2", "programme": "beans", "because": "birthday"},
    {"set": {"vip": "order.total > 30", "points": 7, "tags": {"add": ["regular", "loud"], "remove": ["new"]}}},
    {"id": "tagged", "if": '"loud" in customer.tags and customer.vip', "then": [{"notify": "desk", "id": "at-once"}]},
    {"move": "loyalty"},
    {"redeem": "tasting", "programme": "beans"},
    {
        "id": "seat",
        "wait_for": [
            {"event": "reward.redeemed", "arrived": [{"notify": "desk", "id": "seated", "about": "{{ seat.about }}"}]},
            {"event": "reward.refused"},
        ],
        "for_up_to": "3 days",
    },
    {"redeem": "roastery", "programme": "beans"},
    {
        "id": "all",
        "wait_for": [
            {"event": "reward.redeemed"},
            {"event": "reward.refused", "arrived": [{"notify": "desk", "id": "no", "about": "{{ all.because }}"}]},
        ],
        "for_up_to": "3 days",
    },
    {"start": "winter", "given": {"order": "order.id"}},
    {"stop_flow": "waiting"},
    {"webhook": "crm", "given": {"order": "order.id", "stage": "customer.stage", "nothing": "order.gift"}},
]
FLOWS = (
    flow("gift", GIFT, once_per="order.id"),
    flow("waiting", [{"id": "long", "wait": "30 days"}, {"send": "email/note"}]),
    flow("moved", [{"notify": "desk"}], starts={"stage": "loyalty"}),
)
HOOK = {"webhooks": {"crm": {"url": "https://crm.example/hooks", "secret": "CRM_SECRET"}}}


@pytest.fixture
def driver(database_url: str) -> Iterator[Driver]:
    with small(database_url, *FLOWS, programmes=(BEANS,), shop=HOOK) as installation:
        yield installation
        with installation.app.reading() as connection:
            assert not proof.verify(connection).differences


def told(driver: Driver, name: str) -> list[dict[str, Any]]:
    rows = driver.rows(sa.select(events.c.payload).where(events.c.name == name).order_by(events.c.id))
    return [row[0] for row in rows]


def notes(driver: Driver, verb: str) -> list[tuple[Any, ...]]:
    d = decisions.c
    return driver.rows(sa.select(d.step, d.detail).where(d.verb == verb).order_by(d.id))


def test_every_action_is_done_once_in_the_order_of_the_steps(driver: Driver):
    driver.post("order.paid", {"order": {"id": "o1", "total": 40}})
    driver.post("order.paid", {"order": {"id": "o1", "total": 40}})  # told again under another key

    with driver.app.reading() as connection:
        balance = ledger.balances(connection, [driver.customer()], driver.clock.now())[
            driver.customer(), "beans", "points"
        ]
        (bought,) = redemptions.of_customer(connection, driver.customer())
    assert balance.spendable == 80 - 60
    ((kind, rule, inputs),) = driver.rows(
        sa.select(*(ledger_transactions.c[name] for name in ("kind", "rule", "inputs"))).where(
            ledger_transactions.c.kind == "bonus"
        )
    )
    assert (kind, rule, inputs["because"]) == ("bonus", "flow gift", "birthday")
    assert (bought.reward, bought.state) == ("tasting", "given")
    ((attributes,),) = driver.rows(sa.select(profiles.c.attributes))
    assert attributes == {"vip": True, "points": 7, "tags": ["loud", "regular"]}
    assert [row[0] for row in driver.rows(sa.select(stage_entries.c.stage))] == ["loyalty"]
    assert sorted(driver.touchpoints()) == [
        ("gift", "at-once", "sent"),
        ("gift", "no", "sent"),
        ("gift", "seated", "sent"),
        ("moved", "notify-desk", "sent"),
    ]
    (asked,) = told(driver, "flow.asked")
    assert asked == {
        "flow": "winter",
        "given": {"order": "o1"},
        "by": {"flow": "gift", "step": "start-winter", "run": 1},
    }
    assert [step for step, _ in notes(driver, "acted")] == [
        *("award-beans", "set-vip", "move-loyalty", "redeem-tasting", "redeem-roastery"),
        *("start-winter", "stop-waiting", "webhook-crm"),
    ]
    e = enrollments.c
    assert ("stopped", "flow gift") in driver.rows(sa.select(e.state, e.reason))
    assert driver.rows(sa.select(notices_table.c.kind, notices_table.c.state)) == [("asked", "waiting")]
    (posted,) = told(driver, "webhook.asked")
    assert posted["given"] == {"order": "o1", "stage": "loyalty"}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_another_system_hears_once_of_what_the_step_names_signed_and_after_it_failed(
    database_url: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CRM_SECRET", SECRET)
    asking = flow("asking", [{"webhook": "crm", "given": {"order": "order.id", "mail": "customer.email"}}])
    hook = {"webhooks": {"crm": {"url": shop.url, "secret": "CRM_SECRET"}}}
    shop.answers = [500]
    with small(database_url, asking, shop=hook, fetch_local="yes") as driver:
        driver.post("order.paid", {"order": {"id": "o1", "total": 40}})
        wait(driver, hours=1)

        failed, (headers, body) = shop.heard
        assert failed[1] == body, "the same bytes again"
        signatures.verify("standard_webhooks", [SECRET], headers, body, datetime.now(UTC))
        said = json.loads(body)
        event = said["data"]["event"]
        assert (headers["webhook-id"], said["type"]) == (f"event-{event}", "flow.crm")
        assert said["data"] == {
            "flow": "asking",
            "step": "webhook-crm",
            "event": event,
            "customer": {"id": driver.customer(), "ids": {"api": ["c1"]}},
            "given": {"order": "o1", "mail": "sam@example.com"},
        }
        shop.answers = [500]
        driver.post("order.paid", {"order": {"id": "o2", "total": 40}})
        with driver.app.writing() as connection:
            privacy.forget(connection, driver.customer(), driver.clock.now(), driver.secret)
        wait(driver, days=1)
        assert driver.rows(sa.select(notices_table.c.state)) == [("told",), ("dropped",)]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_while_ingest_and_advance_race_every_action_happens_once_and_nobody_deadlocks(database_url: str):
    gift = flow(
        "gift",
        [
            {"award": 1, "programme": "beans"},
            {"set": {"points": "customer.orders", "tags": {"add": ["seen"]}}},
            {"move": "loyalty"},
            {"stop_flow": "waiting"},
        ],
    )
    people, rounds, hands = 12, 4, 4
    with small(database_url, gift, FLOWS[1], programmes=(BEANS,), shop=HOOK) as driver:
        for n in range(rounds):
            for one in range(people):
                who = {"id": f"c{one}", "email": f"c{one}@example.com"}
                driver.post("order.paid", {"order": {"id": f"o{one}-{n}", "total": 40}}, customer=who, drained=False)

        def work(hand: int) -> None:
            kinds = (Ingest, Advance) if hand % 2 else (Advance, Ingest)
            for _ in range(20):
                for kind in kinds:  # past the turns that the batches of a process take
                    batches._run(driver.app, kind(driver.app), 3 + hand, alone=False)

        with ThreadPoolExecutor(hands) as pool:
            for done in [pool.submit(work, hand) for hand in range(hands)]:
                done.result()
        driver.drain()

        total = people * rounds
        assert driver.rows(sa.select(inbox.c.state).where(inbox.c.state != "mapped")) == []
        for name in ("points.awarded", "customer.set", "stage.moved", "flow.stopped"):
            assert driver.rows(sa.select(sa.func.count()).where(events.c.name == name)) == [(total,)], name
        t = ledger_transactions.c
        assert driver.rows(sa.select(sa.func.sum(t.granted)).where(t.kind == "bonus")) == [(total,)]
        with driver.app.reading() as connection:
            assert not proof.verify(connection).differences


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("answer", "note"), [(None, "given"), ("422", "refused")])
def test_a_run_waits_for_the_code_that_a_shop_makes_and_hears_where_it_makes_none(
    database_url: str, shops: CouponShops, answer: str | None, note: str
):
    if answer is not None:
        shops.always["shopify"] = answer
    outcome = [
        {"event": "reward.redeemed", "arrived": [{"notify": "desk", "id": "given", "about": "{{ gift.code }}"}]},
        {"event": "reward.refused", "arrived": [{"notify": "desk", "id": "refused", "about": "{{ gift.because }}"}]},
    ]
    steps = [
        {"award": 60, "programme": "beans"},
        {"redeem": "five-off", "programme": "beans"},
        {"id": "gift", "wait_for": outcome, "for_up_to": "3 days"},
    ]
    with small(
        database_url, flow("gift", steps, starts={"event": "ping.one"}), programmes=(beans(),), fetch_local="yes"
    ) as driver:
        driver.post("ping.one")
        driver.drain()
        driver.actors.close()

        assert driver.touchpoints() == [("gift", note, "sent")]
        with driver.app.reading() as connection:
            balance = ledger.balances(connection, [driver.customer()], driver.clock.now())
            assert not proof.verify(connection).differences
        assert balance[driver.customer(), "beans", "points"].spendable == (60 if answer else 10)
