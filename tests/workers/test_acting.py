"""What flows do besides sending, from the step to what comes of it: once, in order, and with the customer locked."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from db import ledger, proof, redemptions
from db.tables import decisions, enrollments, events, ledger_transactions, profiles, stage_entries
from db.tables import notices as notices_table
from tests.driver import Driver
from tests.small_shop import flow, small

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
