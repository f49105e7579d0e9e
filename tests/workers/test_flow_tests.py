"""`afterglow test` is no second engine: a timeline lived in memory comes to what the workers make of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from afterglow.durations import Duration
from afterglow.language.catalog import read_documents
from afterglow.language.testing import FlowTest, Happens, Says
from afterglow.local_time import from_wall
from afterglow.testing import ShopUnderTest, live
from db.tables import decisions, events, runs, touchpoints
from tests import small_shop
from tests.driver import Driver, driving
from tests.examples import LONG

FLOWS = (
    small_shop.flow(
        "check-in",
        [
            {"send": "email/receipt"},
            {
                "id": "answer",
                "wait_for": "ping.one",
                "for_up_to": "3 days",
                "arrived": [
                    {
                        "id": "good",
                        "if": "answer.n > 2",
                        "then": [{"send": "email/note", "id": "praise"}],
                        "else": [
                            {"notify": "desk", "about": "Answered {{ answer.n }}", "task": "call", "due": "2 days"}
                        ],
                    }
                ],
                "timed_out": [{"send": "email/news"}],
            },
            {"id": "a-day", "wait": "1 day", "at": "10:00"},
            {"send": "email/note", "id": "second"},
        ],
        once_per="order.id",
        stops={"event": "order.refunded", "same": "order.id"},
    ),
    small_shop.flow(
        "divided",
        [
            {"id": "two-days", "wait": "2 days"},
            {
                "id": "way",
                "split": [
                    {"weight": 1, "name": "a", "steps": [{"send": "email/note"}]},
                    {"weight": 2, "name": "b", "steps": [{"send": "email/news"}, {"stop": "enough"}]},
                ],
            },
            {"send": "email/rate"},
        ],
        starts={"stage": "purchase"},
        only_if="not customer.vip",
    ),
    small_shop.flow(
        "pinged",
        [{"id": "pause", "wait": "36 hours"}, {"send": "email/news"}, {"send": "email/note"}],
        starts={"event": "ping.two", "when": "n > 1 and customer.orders < 3"},
        once_per="customer.id",
        stops={"event": "ping.one"},
        topic="news",
        quiet_hours={"from": "12:00", "to": "15:00"},
        caps=[{"at_most": 1, "within": "3 days"}],
        reenter="after 3 days",
        goal={"event": "order.paid", "within": "10 days"},
        holdout="30%",
    ),
    small_shop.flow(
        "either",
        [
            {
                "id": "first",
                "wait_for": [
                    {
                        "event": "ping.one",
                        "arrived": [{"id": "tuesday", "until": {"weekday": "tuesday", "at": "10:00"}}],
                    },
                    {"event": "ping.two"},
                ],
                "for_up_to": "6 days",
                "timed_out": [{"stop": "nobody pinged"}],
            },
            {
                "id": "which",
                "if": 'first.event == "ping.two"',
                "then": [{"notify": "desk"}],
                "elif": [{"if": "first.n > 2", "then": [{"send": "email/note"}]}],
                "else": [{"send": "email/receipt"}],
            },
        ],
        starts={"event": "customer.updated"},
    ),
    small_shop.flow(
        "acting",
        [
            {"set": {"vip": "customer.orders > 1", "tags": {"add": ["seen"], "remove": ["new"]}}},
            {"award": "customer.orders * 2", "programme": "beans", "because": "a ping"},
            {
                "id": "seen",
                "if": '"seen" in customer.tags and customer.vip',
                "then": [{"send": "email/receipt", "id": "for-vips"}],
            },
            {"move": "loyalty"},
            {"stop_flow": "either"},
            {"id": "later", "wait": "2 days"},
            {"set": {"points": "customer.orders", "vip": '"no truth"'}},
            {"id": "still", "if": "customer.vip and customer.points > 1", "then": [{"send": "email/news"}]},
        ],
        starts={"event": "ping.two", "when": "n < 3"},
    ),
    small_shop.flow("moved", [{"notify": "desk"}], starts={"stage": "loyalty"}),
    small_shop.flow("returned", [{"send": "email/gift"}], starts={"event": "order.refunded"}, once_per="order.id"),
    small_shop.flow(
        "kept",
        [{"send": "email/receipt"}, {"id": "a-while", "wait": "4 days"}, {"send": "email/note"}],
        starts={"segment": "frequent", "when": '"quiet" not in customer.segments'},
        stops=[{"leaves": "frequent"}, {"segment": "quiet"}],
    ),
    small_shop.flow("missed", [{"send": "email/receipt"}], starts={"leaves": "frequent"}),
    # Two that want the same customer at the same moment; the caps of the shop let one go.
    small_shop.flow(
        "first",
        [{"send": "email/note"}, {"id": "monday", "until": {"weekday": "monday"}}, {"send": "email/news"}],
        starts={"event": "ping.one"},
        blackout=[{"days": "03-05..03-06", "because": "a feast"}, {"days": "07-20..08-09", "because": "summer"}],
        rate="1 per day",
        keep_for="30 hours",
        late="next window",
    ),
    small_shop.flow(
        "second",
        [{"send": "email/note"}, {"send": "email/news"}],
        starts={"event": "ping.one"},
        loser="skip",
    ),
    small_shop.flow(
        "staged",
        [{"id": "pause", "wait": "30 hours"}, {"send": "email/receipt"}],
        starts={"stage": "purchase"},
        stops=[{"stage": "left"}],
    ),
)
SEGMENTS = json.dumps(
    {
        "segments": [
            {
                "segment": "frequent",
                "about": "Two orders in a week, none of them a present",
                "when": 'count("order.paid", where=order.gift is missing, within="7 days") >= 2',
            },
            {
                "segment": "quiet",
                "about": "Nothing for three days",
                "when": 'last("ping.one") < ago("72 hours") and customer.orders > 0',
            },
        ]
    }
)
SHOP = {
    "quiet_hours": {"from": "21:00", "to": "08:00"},
    "caps": [{"at_most": 1, "within": "20 hours"}, {"at_most": 3, "within": "7 days"}],
    "keep_for": "2 days",
    "priority": ["divided", "check-in", "second", "first"],
    "blackout": [{"days": "12-24..01-02", "because": "the feasts"}],
    "rate": "2 per hour",
}
BEANS = json.dumps(
    {
        "programme": "beans",
        "kind": "loyalty",
        "about": "Points",
        "earn": [{"id": "order", "on": "order.paid", "points": 1}],
    }
)
ZONES = ("Europe/Paris", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")


@cache
def under_test() -> ShopUnderTest:
    documents = small_shop.documents(*FLOWS, segments=SEGMENTS, programmes=(BEANS,), **SHOP)
    return ShopUnderTest(catalog=read_documents({(one.kind, one.name): one.body for one in documents}))


@st.composite
def happenings(draw: st.DrawFn) -> tuple[timedelta, Happens]:
    """How long after the last, and what."""
    gap = draw(st.sampled_from([0, 0, 20, 90, 60 * 5, 60 * 11, 60 * 24, 60 * 37, 60 * 24 * 3, 60 * 24 * 6]))
    order = {"id": draw(st.sampled_from(["o1", "o2"])), "total": 40}
    event, stage_name, payload = draw(
        st.sampled_from(
            [
                ("order.paid", "purchase", {"order": order}),
                ("order.paid", None, {"order": order | {"gift": "a cup"}}),
                ("order.refunded", None, {"order": order}),
                ("order.refunded", None, {"order": order, "refund": {"amount": 15}}),
                ("order.refunded", None, {"order": order | {"gift": "a cup"}, "refund": {"amount": 25}}),
                ("ping.one", None, {"n": draw(st.integers(1, 4))}),
                ("ping.one", None, {"n": 3}),
                ("ping.two", None, {"n": draw(st.integers(1, 4))}),
                ("customer.updated", None, {}),
                ("customer.updated", "loyalty", {}),
            ]
        )
    )
    words = [("*", "granted"), ("*", "withdrawn"), ("care", "withdrawn")]
    said = draw(st.sampled_from([*[None] * 9, *words]))  # mostly silent, so that quiet hours and caps have their say
    vip = draw(st.sampled_from([None, None, True, False]))
    line = Happens(
        path=(),
        at=None,
        after=Duration(),
        event=event,
        stage=stage_name,
        customer={} if vip is None else {"vip": vip},
        consents=() if said is None else (Says(topic=said[0], state=said[1]),),
        payload=payload,
    )
    return timedelta(minutes=gap), line


@dataclass
class Worlds:
    """One installation for all examples: each is a customer of their own, later than the one before."""

    driver: Driver
    customers: int = 0
    start: datetime = field(default=datetime(2026, 3, 4, 9, 0))


@pytest.fixture
def worlds(database_url: str) -> Iterator[Worlds]:
    with driving(database_url) as driver:
        small_shop.put_into_force(driver, *FLOWS, segments=SEGMENTS, programmes=(BEANS,), **SHOP)
        yield Worlds(driver)


@pytest.mark.timeout(1800 if LONG else 120)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@settings(
    max_examples=400 if LONG else 15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    lines=st.lists(happenings(), min_size=1, max_size=7),
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    begins=st.sampled_from(["granted", "granted", "granted", "granted", "withdrawn", None]),
)
def test_what_is_lived_in_memory_is_what_the_workers_do(worlds, lines, zone, hour, begins):
    driver = worlds.driver
    worlds.customers += 1
    who = {"id": f"c{worlds.customers}", "email": f"c{worlds.customers}@example.com", "first_name": "Sam"}
    wall, told = worlds.start.replace(hour=hour), []
    for n, (gap, line) in enumerate(lines):
        wall += gap if n else timedelta()
        consents = (Says(topic="*", state=begins),) if begins and not n else line.consents
        told.append(Happens(path=(), at=wall, after=None, event=line.event, stage=line.stage,
                            customer=line.customer, consents=consents, payload=line.payload))  # fmt: skip
    test = FlowTest(
        name="a life",
        path=(),
        customer={"email": who["email"], "first_name": "Sam", "timezone": zone},
        orders=0,
        spent=0,
        stage=None,
        tags=(),
        consents=(),
        splits={},
        beside=(
            "acting",
            "divided",
            "either",
            "first",
            "kept",
            "missed",
            "moved",
            "pinged",
            "returned",
            "second",
            "staged",
        ),
        timeline=tuple(told),
        expect=None,
    )

    for line in told:
        driver.at(from_wall(line.at, ZoneInfo(zone)))
        said = line.consents[0] if line.consents else None
        driver.post(
            line.event,
            line.payload,
            stage=line.stage,
            customer={**who, "timezone": zone, "attributes": dict(line.customer)},
            consent=said.state if said else None,
            topic=said.topic if said else "*",
        )
    driver.at(driver.clock.now() + timedelta(days=40))
    number = driver.customer(who["id"])
    worlds.start = (driver.clock.now() + timedelta(days=2)).replace(tzinfo=None)

    lived = live(under_test(), under_test().catalog.flows["check-in"], test, number)

    note("\n".join(map(str, lived.lines)))
    assert [(n.at, n.flow, n.verb, n.step, dict(n.detail)) for n in lived.notes] == decided(driver, number)
    sent = [(n.at, n.message.template) for n in lived.notes if n.verb == "sent" and n.message]
    assert sent == went(driver, number)


def decided(driver: Driver, customer: int) -> list[tuple[object, ...]]:
    """What the runs of a customer did, with events counted from one."""
    d = decisions.c
    ids = driver.rows(sa.select(events.c.id).where(events.c.customer_id == customer).order_by(events.c.id))
    place = {id_: n for n, (id_,) in enumerate(ids, start=1)}
    query = sa.select(d.at, d.enrollment_id, d.verb, d.step, d.detail).where(d.customer_id == customer).order_by(d.id)
    rows = driver.rows(query)
    flows = dict(driver.rows(sa.select(runs.c.enrollment_id, runs.c.flow)))
    found = []
    for at, run, verb, step, detail in rows:
        detail = dict(detail or {})
        if "event" in detail and isinstance(detail["event"], int):
            detail["event"] = place[detail["event"]]
        found.append((at, flows[run], verb, step, detail))
    return found


def went(driver: Driver, customer: int) -> list[tuple[object, ...]]:
    """When which mails went."""
    t = touchpoints.c
    query = sa.select(t.prepared_at, t.template).where(t.customer_id == customer, t.state == "sent")
    return driver.rows(query.order_by(t.prepared_at, t.id))
