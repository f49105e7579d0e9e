"""People of one company, lived side by side: what is relived and simulated is what the workers do for each of them."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from afterglow.backtest import Comparison, History, Period, relive
from afterglow.language.catalog import read_documents
from afterglow.local_time import from_wall
from afterglow.past import OURS
from afterglow.simulate import Plan, lived, made_up, simulate
from afterglow.testing import ShopUnderTest
from afterglow.testing.life import Life
from db import lives, privacy
from tests import small_shop
from tests.driver import START, Driver, driving
from tests.small_shop import flow
from tests.workers.test_flow_tests import LONG, Worlds, decided
from workers.backtest import Work, backtest

ROLES = ("decision-maker", "barista", "billing")
FLOWS = (
    flow(
        "offer",
        [
            {"send": "email/receipt"},
            {"send": "email/news", "id": "prices", "to": {"role": "decision-maker"}},
            {"notify": "desk", "about": "Call {{ account.name }}"},
            {"id": "answer", "wait_for": "ping.two", "by": "account", "for_up_to": "4 days"},
            {"id": "a-day", "wait": "1 day", "at": "10:00"},
            {"send": "email/note"},
        ],
        starts={"event": "ping.one", "when": "account.seats >= 20 and n > 1"},
        run_per="account",
        once_per="n",
        to={"role": ["decision-maker", "barista"]},
        stops={"event": "order.refunded", "by": "account"},
    ),
    flow(
        "thanks",
        [{"id": "two-days", "wait": "2 days"}, {"send": "email/note"}, {"send": "email/receipt", "id": "bill"}],
        starts={"stage": "purchase"},
        run_per="account",
        once_per="order.id",
        stops={"event": "order.refunded", "same": "order.id", "by": "account"},
    ),
    flow("regular", [{"send": "email/receipt"}, {"notify": "desk"}], starts={"segment": "keen"}, run_per="account"),
    flow(
        "own",
        [{"id": "theirs", "wait_for": "ping.two", "by": "account", "for_up_to": "3 days"}, {"send": "email/note"}],
        starts={"event": "customer.updated"},
        stops={"segment": "keen"},
    ),
)
SEGMENTS = json.dumps(
    {
        "segments": [
            {
                "segment": "keen",
                "about": "Who pinged twice in a week, of a company that is not small",
                "when": 'count("ping.two", within="7 days") >= 2 and account.seats >= 10',
            }
        ]
    }
)
SHOP: dict[str, Any] = {
    "accounts": {"roles": list(ROLES), "attributes": {"seats": "number"}},
    "quiet_hours": {"from": "21:00", "to": "08:00"},
    "caps": [{"at_most": 2, "within": "20 hours"}],
}
EVENTS = (
    ("ping.one", None, {"n": 1}),
    ("ping.one", None, {"n": 2}),
    ("ping.one", None, {"n": 3}),
    ("ping.two", None, {"n": 1}),
    ("order.paid", "purchase", {"order": {"id": "o1", "total": 40}}),
    ("order.paid", "purchase", {"order": {"id": "o2", "total": 40}}),
    ("order.refunded", None, {"order": {"id": "o1"}, "refund": {"amount": 40}}),
    ("customer.updated", None, {}),
)
#: How long after the last, which of the three, and what.
Happening = tuple[timedelta, int, tuple[str, str | None, dict[str, Any]]]
happenings: st.SearchStrategy[Happening] = st.tuples(
    st.sampled_from([timedelta(minutes=n) for n in (0, 20, 60 * 5, 60 * 11, 60 * 24, 60 * 37, 60 * 24 * 3)]),
    st.integers(0, len(ROLES) - 1),
    st.sampled_from(EVENTS),
)


@cache
def under_test() -> ShopUnderTest:
    documents = small_shop.documents(*FLOWS, segments=SEGMENTS, **SHOP)
    return ShopUnderTest(catalog=read_documents({(one.kind, one.name): one.body for one in documents}))


@pytest.fixture
def worlds(database_url: str) -> Iterator[Worlds]:
    with driving(database_url) as driver:
        small_shop.put_into_force(driver, *FLOWS, segments=SEGMENTS, **SHOP)
        yield Worlds(driver)


def post(driver: Driver, company: int, who: int, seats: int, consent: str | None, *said: Any) -> None:
    event, stage, payload = said
    name = f"c{company}-{who}"
    driver.post(
        event,
        payload,
        stage=stage,
        customer={"id": name, "email": f"{name}@example.com", "attributes": {"role": ROLES[who]}},
        account={"id": f"a{company}", "name": "Café", "attributes": {"seats": seats}},
        consent=consent,
    )


def stored(driver: Driver, first: int) -> Sequence[History]:
    """The histories of the company whose first person has this number."""
    period = Period(since=datetime(2020, 1, 1, tzinfo=UTC), until=driver.clock.now())
    (together,) = lives.histories(
        driver.app.database, driver.secret, under_test().catalog, first - 1, 10 * first, period
    )
    return together


@pytest.mark.timeout(1800 if LONG else 120)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@settings(
    max_examples=300 if LONG else 15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    lines=st.lists(happenings, min_size=1, max_size=8),
    hour=st.integers(0, 23),
    seats=st.sampled_from([30, 30, 15, 5]),
    people=st.integers(1, len(ROLES)),
)
def test_what_is_relived_of_a_company_is_what_the_workers_did_for_each_of_its_people(
    worlds: Worlds, lines: list[Happening], hour: int, seats: int, people: int
) -> None:
    driver = worlds.driver
    worlds.customers += 1
    company, wall = worlds.customers, worlds.start.replace(hour=hour)
    known: set[int] = set()
    for gap, who, said in lines:
        wall += gap
        driver.at(from_wall(wall, ZoneInfo("Europe/Paris")))
        who %= people
        post(driver, company, who, seats, None if who in known else "granted", *said)
        known.add(who)
    driver.at(driver.clock.now() + timedelta(days=20))
    worlds.start = (driver.clock.now() + timedelta(days=2)).replace(tzinfo=None)
    numbers = sorted(driver.customer(f"c{company}-{who}") for who in known)

    together = stored(driver, numbers[0])
    relived = relive(under_test(), together, Period(since=datetime(2020, 1, 1, tzinfo=UTC), until=driver.clock.now()))

    assert [life.person.id for life in relived] == numbers
    for life in relived:
        mine = [(one.at, one.flow, one.verb, one.step, numbered(life, one.detail)) for one in life.lived.notes]
        note("\n".join(map(str, mine)))
        assert mine == decided(driver, life.person.id)


@pytest.mark.timeout(1800 if LONG else 120)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@settings(
    max_examples=200 if LONG else 10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    flow=st.sampled_from(["offer", "thanks", "own"]),
    seed=st.integers(1, 10**6),
    answers=st.sampled_from([0.0, 0.5, 1.0]),
    stops=st.sampled_from([0.0, 0.5]),
)
def test_what_is_simulated_of_a_company_is_what_the_workers_do_with_the_same_events(
    worlds: Worlds, flow: str, seed: int, answers: float, stops: float
) -> None:
    driver = worlds.driver
    worlds.customers += 1
    company, start = worlds.customers, from_wall(worlds.start, ZoneInfo("Europe/Paris"))
    plan = Plan(shop=under_test(), flow=flow, starts=start, days=20, seed=seed, answers=answers, stops=stops)
    first = (company - 1) * len(ROLES) + 1
    (together,) = made_up(plan, range(first, first + len(ROLES)))

    lives = lived(plan, together)

    driver.at(start)
    for who, history in enumerate(together):
        assert history.account is not None
        post(driver, company, who, 42, "granted", "customer.created", None, {})
    happened = [(event, who, life) for who, life in enumerate(lives) for event in life.events]
    for event, who, life in sorted(happened, key=lambda one: (one[0].occurred_at, one[0].id)):
        if life.told_by[event.id] != OURS:
            driver.at(event.occurred_at)
            payload = json.loads(orjson.dumps(event.payload, default=float))
            post(driver, company, who, 42, None, event.name, life.stages[event.id], payload)
    driver.at(driver.clock.now() + timedelta(days=60))
    worlds.start = (driver.clock.now() + timedelta(days=2)).replace(tzinfo=None)
    for who, life in enumerate(lives):
        assert driver.customer(f"c{company}-{who}") == life.person.id
        mine = [(one.at, one.flow, one.verb, one.step, numbered(life, one.detail, 2)) for one in life.lived.notes]
        note("\n".join(map(str, mine)))
        assert mine == [one for one in decided(driver, life.person.id) if one[0] <= life.now]  # it ends with the flow


def test_a_wait_of_all_is_answered_by_one_of_a_company_as_often_as_is_said() -> None:
    plan = Plan(shop=under_test(), flow="offer", starts=START, days=20, seed=3, answers=0.5)
    found = simulate(plan, made_up(plan, range(1, 301)))

    assert found.runs == 200  # a hundred companies, of whom those who pay have no run
    ways = found.ways["answer"]
    assert 80 <= ways["ping.two"] <= 120
    assert ways["ping.two"] % 2 == 0, "what one answers counts for all"
    assert ways.total() == 200


def numbered(life: Life, detail: Any, first: int = 1) -> dict[str, Any]:
    """A decision with events counted from one, or from a higher number on, as `decided` has them."""
    place = {event.id: n for n, event in enumerate(life.events, start=first)}
    return {
        name: place[value] if name == "event" and isinstance(value, int) else value for name, value in detail.items()
    }


@pytest.fixture
def offered(database_url: str) -> Iterator[Driver]:
    """An offer was made to a café of three, whose barista answered on the fourth day, and one to a lone owner."""
    with driving(database_url) as driver:
        small_shop.put_into_force(driver, *FLOWS, segments=SEGMENTS, **SHOP)
        for who in range(len(ROLES)):
            post(driver, 1, who, 30, "granted", "ping.one", None, {"n": 1})
        post(driver, 2, 0, 30, "granted", "ping.one", None, {"n": 1})
        post(driver, 1, 2, 30, None, "ping.one", None, {"n": 3})
        post(driver, 2, 0, 30, None, "ping.one", None, {"n": 3})
        driver.at(days=3)
        post(driver, 1, 1, 30, None, "ping.two", None, {"n": 1})
        driver.at(days=20)
        yield driver


def compared(driver: Driver, *flows: str) -> Comparison:
    work = Work(
        database_url=str(driver.app.settings.database_url),
        documents=small_shop.documents(*flows, segments=SEGMENTS, **SHOP),
        secret=driver.secret,
        since=START,
        until=driver.clock.now(),
    )
    return backtest(work, processes=1)


def figures(found: Comparison, flow: str = "offer") -> dict[str, tuple[int, int, int]]:
    """How many of each mail went, would go, and are the same."""
    return {
        template: (one.went, one.would, one.same) for (name, template), one in found.figures.items() if name == flow
    }


def test_the_files_in_force_come_to_what_happened_to_a_company_wherever_its_people_are_read(
    offered: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compared(offered, *FLOWS)
    monkeypatch.setattr("workers.backtest.RANGE", 1)
    monkeypatch.setattr("db.lives.PAGE", 1)

    assert figures(whole) == {
        "email/receipt": (3, 3, 3),
        "email/news": (2, 2, 2),
        "email/note": (3, 3, 3),
        "email/_notify": (2, 2, 2),
    }
    assert whole.customers == 4
    assert compared(offered, *FLOWS) == whole


def test_a_flow_that_no_longer_listens_to_the_account_and_is_for_others_is_told_as_what_changed(
    offered: Driver,
) -> None:
    changed = json.loads(FLOWS[0])
    changed["to"] = {"role": ["decision-maker", "barista", "billing"]}
    changed["steps"][3].pop("by")

    found = compared(offered, json.dumps(changed), *FLOWS[1:])

    assert figures(found)["email/receipt"] == (3, 4, 3)  # who pays would have one, too
    note = found.figures["offer", "email/note"]
    assert (note.went, note.would, note.same, note.later) == (3, 4, 2, 1)  # hers comes when her own wait ends


def test_who_was_forgotten_is_missing_from_what_is_relived_of_their_colleagues(offered: Driver) -> None:
    with offered.app.writing() as connection:
        privacy.forget(connection, offered.customer("c1-1"), offered.clock.now(), offered.secret)

    found = compared(offered, *FLOWS)

    assert found.customers == 3
    assert found.figures["offer", "email/note"].later == 1  # nobody answered for her
