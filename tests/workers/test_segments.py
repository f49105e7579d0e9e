"""Segments at work: who enters and leaves them by events, by time and by an edited file, and what that starts."""

import json
from datetime import timedelta

import sqlalchemy as sa

from db.tables import events, segment_looks, segment_members
from tests.driver import START, Driver
from tests.small_shop import flow, small


def segments(**conditions: str) -> str:
    """The text of segments.yaml."""
    return json.dumps(
        {"segments": [{"segment": name, "about": name, "when": when} for name, when in conditions.items()]}
    )


REGULARS = segments(
    regulars='count("order.paid", within="90 days") >= 2',
    lapsed='last("order.paid") < ago("180 days")',
)
GREETING = flow("greeting", [{"send": "email/receipt"}], starts={"segment": "regulars"}, once_per="customer.id")


def order(driver: Driver, n: int, **further: object) -> None:
    driver.post("order.paid", {"order": {"id": f"o{n}", "total": 10}}, consent="granted", **further)  # type: ignore[arg-type]


def members(driver: Driver) -> list[tuple[object, ...]]:
    s = segment_members.c
    return driver.rows(sa.select(s.segment, s.since).order_by(s.segment))


def told(driver: Driver) -> list[tuple[object, ...]]:
    e = events.c
    query = sa.select(e.name, e.payload, e.occurred_at).where(e.name.like("segment.%")).order_by(e.id)
    return [(name, payload["segment"]["name"], at - START) for name, payload, at in driver.rows(query)]


def test_a_customer_enters_by_an_event_and_leaves_by_time_alone_and_both_are_told(database_url: str) -> None:
    with small(database_url, GREETING, segments=REGULARS) as driver:
        order(driver, 1)
        driver.at(days=10)
        order(driver, 2)
        assert [name for name, _ in members(driver)] == ["regulars"]
        assert driver.touchpoints() == [("greeting", "receipt", "sent")]
        driver.at(days=300)
        assert told(driver) == [
            ("segment.entered", "regulars", timedelta(days=10)),
            ("segment.left", "regulars", timedelta(days=90)),
            ("segment.entered", "lapsed", timedelta(days=190, microseconds=1)),
        ]
        assert members(driver) == [("lapsed", START + timedelta(days=190, microseconds=1))]
        assert driver.rows(sa.select(segment_looks.c.customer_id)) == [], "nothing but an event can change it now"
