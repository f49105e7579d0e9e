"""A plan says for whom a flow begins by itself, and what it says is what then happens."""

import json
from datetime import timedelta
from typing import Any

import pytest

from afterglow.language.catalog import Document
from tests import small_shop
from tests.driver import Driver
from tests.small_shop import documents, flow, small
from workers import planning
from workers.commands.planning import lines, mails, plain
from workers.planning import Plan, TooManyMailsError, make_plan

SEGMENTS = json.dumps(
    {
        "segments": [
            {"segment": "buyers", "about": "Have bought", "when": "customer.orders > 0"},
            {
                "segment": "quiet",
                "about": "Nothing for ten days",
                "when": 'customer.last_order_at < ago("240 hours")',
            },
        ]
    }
)
SHOP: dict[str, Any] = {"attributes": {"vip": "yes-no", "points": "number", "renewal": "date"}}
NOTE = [{"send": "email/note"}, {"id": "later", "wait": "2 days"}, {"send": "email/news"}]
ONCE = {"once": "2026-03-10 09:00", "segment": "buyers"}


def new(*flows: str, segments: str = SEGMENTS) -> tuple[Document, ...]:
    return documents(*flows, segments=segments, **SHOP)


def planned(driver: Driver, *flows: str, segments: str = SEGMENTS) -> Plan:
    return make_plan(driver.app.database, driver.app.clock, new(*flows, segments=segments))


def told(plan: Plan) -> list[str]:
    return [line.strip() for line in lines(plan) if "would begin" in line]


def customers(driver: Driver) -> None:
    """Two who bought, one of them in Tokyo; one who did not."""
    for n, zone in enumerate(("Europe/Paris", "Asia/Tokyo", "Europe/Paris")):
        who = {"id": f"c{n}", "timezone": zone, "attributes": {"renewal": f"2026-0{3 + n}-20"}}
        driver.post("customer.created", customer=who, consent="granted")
        if n < 2:
            driver.post("order.paid", {"order": {"id": f"o{n}", "total": 40}}, customer={"id": f"c{n}"})
    driver.drain()


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        (ONCE, "2 people within 30 days, first at 2026-03-10 00:00: once over segment buyers, with 2 mails at once"),
        (
            {**ONCE, "when": "customer.renewal < '2026-04-01'"},
            "1 person within 30 days, first at 2026-03-10 08:00: once over segment buyers, with 1 mail at once",
        ),
        (
            {"schedule": "0 10 * * MON", "segment": "buyers", "zone": "shop"},
            "2 people within 30 days, first at 2026-03-02 09:00: 0 10 * * MON over segment buyers, "
            "with 2 mails at once",
        ),
        (
            {"date": "customer.renewal", "at": "10:00"},
            "1 person within 30 days, first at 2026-03-20 09:00: on customer.renewal, with 1 mail at once",
        ),
        (
            {"segment": "quiet"},
            "2 people within 30 days, first at 2026-03-12 08:00: entering segment quiet by time alone, "
            "with 2 mails at once",
        ),
        ({"leaves": "buyers"}, "nobody within 30 days: leaving segment buyers by time alone"),
        ({"once": "2026-05-10 09:00", "segment": "buyers"}, "nobody within 30 days: once over segment buyers"),
        ({"once": "2026-02-10 09:00", "segment": "buyers"}, "nobody within 30 days: once over segment buyers"),
    ],
)
def test_what_a_plan_says_of_a_new_start_is_for_whom_it_then_begins(database_url, starts, expected):
    with small(database_url, flow("other", NOTE), segments=SEGMENTS, shop=SHOP) as driver:
        customers(driver)
        sale = flow("sale", NOTE, starts=starts)
        plan = planned(driver, flow("other", NOTE), sale)

        assert told(plan) == [f"would begin for {expected}"]
        begins = plan.flows[0].begins
        assert begins is not None
        small_shop.put_into_force(driver, flow("other", NOTE), sale, segments=SEGMENTS, **SHOP)
        driver.actors.tend()
        driver.at(driver.clock.now() + timedelta(days=30))
        notes = [one for one in driver.touchpoints() if one[:2] == ("sale", "note")]
        each = 5 if "schedule" in starts else 1  # of Mondays
        assert len(notes) == begins.people * each


def test_the_mails_of_a_new_start_need_a_word_and_the_sentence_says_how_many(sqlite_url, monkeypatch):
    monkeypatch.setattr(planning, "MAILS_MAX", 1)
    with small(sqlite_url, flow("other", NOTE), segments=SEGMENTS, shop=SHOP) as driver:
        customers(driver)
        plan = planned(driver, flow("other", NOTE), flow("sale", NOTE, starts=ONCE))

        assert (plan.mails, plan.mails_begun, plan.needs_word) == (0, 2, True)
        assert "2 mails would be queued as flows begin within 30 days." in mails(plan)
        assert plain(plan)["flows"][0]["begins"]["people"] == 2
        with pytest.raises(TooManyMailsError, match=r"and 2 as flows begin within 30 days, .* --yes-send 2\."):
            plan.refuse_mails(1)
        plan.refuse_mails(2)


def test_a_start_that_is_in_force_already_begins_for_nobody_anew(sqlite_url):
    sale = flow("sale", NOTE, starts=ONCE)
    with small(sqlite_url, sale, segments=SEGMENTS, shop=SHOP) as driver:
        customers(driver)

        assert told(planned(driver, flow("sale", NOTE[:1], starts=ONCE))) == []
        later = {**ONCE, "once": "2026-03-11 09:00"}
        assert len(told(planned(driver, flow("sale", NOTE, starts=later)))) == 1
        assert len(told(planned(driver, flow("sale", NOTE, starts={**ONCE, "when": "customer.vip"})))) == 1
        assert told(planned(driver, flow("sale", NOTE, starts=ONCE, status="paused"))) == []


def test_whose_key_ran_before_is_not_counted(sqlite_url):
    sale = flow("sale", NOTE, starts={"event": "order.paid"}, once_per="customer.id")
    with small(sqlite_url, sale, segments=SEGMENTS, shop=SHOP) as driver:
        customers(driver)
        driver.post("customer.created", customer={"id": "c9"})
        everybody = json.dumps({"segments": [{"segment": "buyers", "about": "All", "when": "customer.orders >= 0"}]})

        (line,) = told(planned(driver, flow("sale", NOTE, starts=ONCE, once_per="customer.id"), segments=everybody))

        assert line.startswith("would begin for 2 people")  # of four, two were in it


def test_nobody_is_left_out_between_two_pages(sqlite_url, monkeypatch):
    with small(sqlite_url, flow("other", NOTE), segments=SEGMENTS, shop=SHOP) as driver:
        customers(driver)
        files = (flow("other", NOTE), flow("sale", NOTE, starts=ONCE))
        whole = told(planned(driver, *files))
        monkeypatch.setattr("workers.beginnings.PAGE", 1)
        assert told(planned(driver, *files)) == whole
