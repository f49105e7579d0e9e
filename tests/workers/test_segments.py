"""Segments at work: who enters and leaves them by events, by time and by an edited file, and what that starts."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from db import merging, privacy, why
from db.tables import decisions, events, segment_fillings, segment_looks, segment_members
from tests.driver import START, Driver
from tests.small_shop import flow, put_into_force, small
from workers.merging import merge_wanted


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


def test_a_new_or_edited_segment_is_filled_by_what_sql_finds_and_nobody_is_told(database_url: str) -> None:
    with small(database_url, GREETING) as driver:
        for n in range(3):
            for k in range(n):
                driver.post("order.paid", {"order": {"id": f"{n}-{k}"}}, customer={"id": f"c{n}"}, consent="granted")
        driver.post("customer.updated", customer={"id": "c9"})
        put_into_force(driver, GREETING, segments=REGULARS)
        driver.drain()
        s = segment_members.c
        assert driver.rows(sa.select(s.customer_id)) == [(driver.customer("c2"),)]
        # Whoever may come to be in one by time alone is looked at then: the other who ordered, and nobody else.
        looks = driver.rows(sa.select(segment_looks.c.customer_id).order_by(segment_looks.c.customer_id))
        assert looks == [(driver.customer("c1"),), (driver.customer("c2"),)]
        put_into_force(driver, GREETING, segments=segments(regulars='count("order.paid") == 1'))
        driver.drain()
        assert driver.rows(sa.select(s.customer_id)) == [(driver.customer("c1"),)]
        assert told(driver) == []
        assert driver.touchpoints() == []
        put_into_force(driver, GREETING)
        driver.drain()
        for table in (segment_members, segment_fillings):
            assert driver.rows(sa.select(table.c.segment)) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_filling_goes_on_where_it_broke_off_and_who_is_not_reached_yet_enters_quietly(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.segments.BATCH", 2)
    monkeypatch.setattr("workers.segments.BATCHES_MAX", 1)
    with small(database_url, GREETING) as driver:
        for n in range(5):
            driver.post("order.paid", {"order": {"id": str(n)}}, customer={"id": f"c{n}"}, consent="granted")
        put_into_force(driver, GREETING, segments=segments(regulars='count("order.paid") >= 1'))
        driver.actors.segments()
        assert len(members(driver)) == 2
        driver.post("order.paid", {"order": {"id": "late"}}, customer={"id": "c4"}, drained=False)
        driver.actors.ingest()
        assert len(members(driver)) == 3
        driver.drain()
        assert len(members(driver)) == 5
        assert told(driver) == []
        driver.post("order.paid", {"order": {"id": "new"}}, customer={"id": "c5"})
        assert [name for name, *_ in told(driver)] == ["segment.entered"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_leaving_a_segment_stops_a_run_and_starts_another(database_url: str) -> None:
    kept = flow(
        "kept",
        [{"id": "a-year", "wait": "360 days"}, {"send": "email/receipt"}],
        starts={"segment": "regulars"},
        stops={"leaves": "regulars"},
    )
    missed = flow("missed", [{"send": "email/receipt"}], starts={"leaves": "regulars"})
    other = flow("other", [{"send": "email/receipt"}], starts={"leaves": "lapsed"})
    with small(database_url, kept, missed, other, segments=REGULARS) as driver:
        order(driver, 1)
        order(driver, 2)
        driver.at(days=100)
        d = decisions.c
        assert driver.rows(sa.select(d.verb, d.at).where(d.verb == "stopped")) == [
            ("stopped", START + timedelta(days=90))
        ]
        assert driver.touchpoints() == [("missed", "receipt", "sent")]
        with driver.app.reading() as connection:
            lines = why.story(connection, driver.app.catalog, driver.secret, driver.customer())
        story = [line.sentence for line in lines]
        assert "Entered segment regulars." in story
        assert "Left segment regulars." in story
        assert any(line.startswith("Started by leaving segment regulars") for line in story)
        assert not any(line.flow == "other" for line in lines), "nothing is said of flows of other segments"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_fifths_are_divided_daily_and_who_moves_by_it_is_told_of(database_url: str) -> None:
    with small(database_url, segments=segments(best="rfm.monetary == 5")) as driver:
        for n in range(1, 6):
            driver.post("order.paid", {"order": {"id": str(n), "total": n * 10}}, customer={"id": f"c{n}"})
        driver.actors.tend()
        driver.drain()
        s = segment_members.c
        assert driver.rows(sa.select(s.customer_id)) == [(driver.customer("c5"),)]
        assert told(driver) == [], "a new segment that waited for its first fifths"
        driver.post("order.paid", {"order": {"id": "more", "total": 500}}, customer={"id": "c1"})
        assert len(driver.rows(sa.select(s.customer_id))) == 2, "beyond where the best fifth begins, until tomorrow"
        driver.at(days=2)
        assert driver.rows(sa.select(s.customer_id)) == [(driver.customer("c1"),)]
        assert told(driver)[-1][:2] == ("segment.left", "best")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_two_who_turn_out_to_be_one_keep_their_segments_untold_and_who_is_forgotten_has_none(database_url: str) -> None:
    with small(database_url, segments=REGULARS) as driver:
        driver.post("order.paid", {"order": {"id": "a"}}, customer={"id": "c1"})
        for n in range(2):
            driver.post("order.paid", {"order": {"id": str(n)}}, customer={"id": "c2", "email": "two@example.com"})
        driver.post("customer.updated", customer={"id": "c1", "email": "two@example.com"})
        first, second = driver.customer("c1"), driver.customer("c2")
        with driver.app.writing() as connection:
            merging.want_by_hand(connection, first, second, "said so", driver.clock.now())
        merge_wanted(driver.app)
        driver.drain()
        s = segment_members.c
        assert driver.rows(sa.select(s.customer_id, s.segment)) == [(first, "regulars")]
        assert [name for name, *_ in told(driver)] == ["segment.entered"]
        with driver.app.writing() as connection:
            privacy.forget(connection, first, driver.clock.now(), driver.secret)
        driver.drain()
        assert driver.rows(sa.select(s.customer_id)) == []
        assert driver.rows(sa.select(segment_looks.c.customer_id)) == []
