"""A flow lived through by made-up customers: the same fate each time, and figures that add up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from afterglow.language.catalog import read_documents
from afterglow.pictures.bars import bars_picture, columns
from afterglow.simulate import Plan, Simulated, made_up, simulate
from afterglow.testing import ShopUnderTest
from tests import small_shop

START = datetime(2026, 3, 1, 23, 0, tzinfo=UTC)  # midnight in Paris
STEPS = [
    {"send": "email/receipt"},
    {
        "id": "answer",
        "wait_for": "ping.one",
        "for_up_to": "4 days",
        "arrived": [{"id": "a-day", "wait": "1 day"}, {"send": "email/note"}],
        "timed_out": [{"send": "email/news"}, {"send": "email/note", "id": "second"}],
    },
]


@cache
def plan(**changed: Any) -> Plan:
    flow = small_shop.flow("asking", STEPS, once_per="order.id", status="draft", stops={"event": "ping.two"})
    documents = small_shop.documents(flow, caps=[{"at_most": 1, "within": "2 days"}])
    shop = ShopUnderTest(catalog=read_documents({(one.kind, one.name): one.body for one in documents}))
    return replace(Plan(shop=shop, flow="asking", starts=START, days=30), **changed)


def lived(customers: int = 200, **changed: Any) -> Simulated:
    return simulate(plan(**changed), made_up(plan(), range(1, customers + 1)))


def test_every_run_is_counted_once_and_goes_one_way():
    found = lived()

    assert found.customers == found.runs == found.ways["answer"].total() == 200
    assert found.took.total() == 200
    assert sum(found.mails) > 300
    assert (found.stuck, found.stopped) == (0, 0)


def test_the_same_seed_is_the_same_fate_and_slices_add_up_to_the_whole():
    whole, parts = lived(), Simulated(days=30)
    for first in (1, 51, 151):
        parts.add(simulate(plan(), made_up(plan(), range(first, {1: 51, 51: 151, 151: 201}[first]))))

    assert parts == whole == lived()
    assert lived(seed=2) != whole


def test_as_many_answer_as_are_said_to():
    assert dict(lived(answers=0.0).ways["answer"]) == {"nothing came": 200}
    assert dict(lived(answers=1.0).ways["answer"]) == {"ping.one": 200}
    assert 80 <= lived(answers=0.5).ways["answer"]["ping.one"] <= 120


def test_what_stops_the_flow_befalls_as_many_as_are_said_to():
    found = lived(stops=1.0)

    assert 50 <= found.stopped <= 150  # it may also happen when the run is long over
    assert (lived(stops=0.0).stopped, found.stuck) == (0, 0)


def test_how_long_it_takes_is_told_by_shares_of_the_runs():
    found = lived(answers=0.0)

    assert found.took_at_most(0.5) == timedelta(
        days=6
    )  # four of waiting, and two until the cap lets the second mail go
    assert found.deferred["cap of 1 within 2 days"] > 150
    assert Simulated(days=1).took_at_most(0.5) is None


def test_who_came_late_is_still_inside_when_the_days_are_over():
    found = lived(answers=0.0)

    assert 20 <= found.inside <= 60  # six of thirty days


def test_a_plot_is_as_high_as_its_tallest_bar_and_fits_its_width():
    lines = columns([0, 4, 8, 1], 40, ("first", "last"), height=2)

    assert lines == ["8 │      ███", "  │   ██████▂▂▂", "0 └────────────", "   first   last"]
    assert all(len(line) <= 30 for line in columns(list(range(365)), 30, ("a", "b")))
    assert columns([], 40, ("", "")) == []


def test_a_picture_names_each_day_that_has_a_number():
    svg = bars_picture("Mails <a> day", [0, 3, 1], ["Mon", "Tue", "Wed"])

    assert svg.count("<g><title>") == 2
    assert "<title>Tue: 3</title>" in svg
    assert "Mails &lt;a&gt; day" in svg
