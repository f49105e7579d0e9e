"""A flow whose file changes while people are inside: who stays in the old version, who goes over, and when."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from db.tables import decisions, enrollments, releases, touchpoints
from db.why import story
from tests.driver import START, Driver
from tests.small_shop import flow, put_into_force, small


def send(id: str, was: str | None = None) -> dict[str, Any]:
    return {"id": id, "send": "email/receipt", **({"was": was} if was else {})}


def wait(id: str, how_long: str, was: str | None = None) -> dict[str, Any]:
    return {"id": id, "wait": how_long, **({"was": was} if was else {})}


def moving(*steps: dict[str, Any], **further: Any) -> str:
    return flow("care", steps, on_edit="move", **further)


def pay(driver: Driver, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        who = {"id": f"c{n}", "email": f"c{n}@example.com", "timezone": "Europe/Paris"}
        driver.post("order.paid", {"order": {"id": f"o{n}"}}, customer=who, drained=False)
    driver.drain()


def sent(driver: Driver) -> list[tuple[str, float]]:
    """(step, hours after the start) of every message, in order."""
    t = touchpoints.c
    rows = driver.rows(sa.select(t.step, t.settled_at).order_by(t.settled_at, t.id))
    return [(step, (at - START) / timedelta(hours=1)) for step, at in rows]


def edit(driver: Driver, *flows: str) -> None:
    put_into_force(driver, *flows)
    driver.actors.tend()
    driver.drain()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([send("a"), wait("w", "2 days"), send("b")], 48),
        ([send("a"), wait("w", "10 hours"), send("b")], 24),
        ([send("a"), wait("pause", "5 days", was="w"), send("b")], 120),
        ([send("a"), send("b")], 24),
    ],
    ids=["earlier", "past already", "renamed and later", "deleted"],
)
def test_who_waits_goes_over_at_once_and_the_wait_ends_when_the_new_one_does(sqlite_url, steps, expected):
    with small(sqlite_url, flow("care", [send("a"), wait("w", "3 days"), send("b")])) as driver:
        pay(driver, 1)
        driver.at(days=1)
        edit(driver, moving(*steps))
        driver.at(days=9)

        assert sent(driver) == [("a", 0.0), ("b", expected)]
        with driver.app.reading() as connection:
            told = [
                line.sentence for line in story(connection, driver.app.catalog, driver.secret, driver.customer("c0"))
            ]
        assert any(line.startswith("Went over from version ") for line in told)
        assert driver.rows(sa.select(releases.c.moved_upto).where(releases.c.moved_upto.is_not(None))) == []


def test_unless_the_new_file_says_so_everybody_finishes_the_version_they_began_in(sqlite_url):
    with small(sqlite_url, moving(send("a"), wait("w", "3 days"), send("b"))) as driver:
        pay(driver, 1)
        driver.at(days=1)
        edit(driver, flow("care", [send("a"), wait("w", "1 day"), send("c")]))
        driver.at(days=9)

        assert sent(driver) == [("a", 0.0), ("b", 72.0)]


def test_an_event_that_only_the_new_version_waits_for_has_been_heard(sqlite_url):
    with small(sqlite_url, flow("care", [send("a"), wait("w", "3 days"), send("b")])) as driver:
        pay(driver, 1)
        driver.at(days=1)
        driver.post("ping.one", customer={"id": "c0", "email": "c0@example.com"})
        edit(driver, moving(send("a"), {"id": "w", "wait_for": "ping.one", "for_up_to": "9 days"}, send("b")))

        assert sent(driver) == [("a", 0.0), ("b", 24.0)]


VERSIONS = [
    [send("a"), wait("w", "2 days"), send("b"), wait("x", "2 days"), send("c", "c2"), wait("y", "1 day"), send("d")],
    [send("a"), wait("w", "1 day"), send("b"), wait("x", "3 days"), send("c"), wait("y", "1 day"), send("d")],
    [send("a"), wait("v", "1 day", "w"), send("b"), wait("x", "20 hours"), send("c"), wait("y", "1 day"), send("d")],
    [send("a"), wait("v", "3 days"), send("b"), send("c"), wait("y", "2 days"), send("d")],
    [send("a"), send("b"), wait("z", "1 day"), send("c"), wait("y", "1 day"), send("d")],
    [wait("z", "1 day"), send("a"), send("b"), wait("y", "1 hour"), send("c"), send("d")],
    [send("a"), wait("w", "2 days"), send("b"), wait("x", "2 days"), send("c"), wait("y", "1 day"), send("d")],
    [send("a"), wait("w", "1 day"), send("b"), wait("x", "1 day"), send("c2", "c"), send("d"), wait("e", "1 day")],
]


def test_many_versions_come_into_force_while_people_are_inside_and_no_step_is_repeated_or_left_out(postgres_url):
    with small(postgres_url, moving(*VERSIONS[0])) as driver:
        for n, version in enumerate([*VERSIONS[1:], *VERSIONS]):
            pay(driver, 7, first=7 * n)
            edit(driver, moving(*version, about=f"Version {n}"))
            driver.at(hours=10 * (n + 1))
        driver.at(days=30)

        states = driver.rows(sa.select(enrollments.c.state, enrollments.c.reason).distinct())
        assert states == [("finished", None)]
        t = touchpoints.c
        done = Counter(driver.rows(sa.select(t.enrollment_id, t.step)))
        renamed = Counter((run, "c" if step == "c2" else step) for run, step in done)
        assert set(renamed.values()) == {1}
        assert Counter(step for _, step in renamed) == dict.fromkeys("abcd", 7 * 15)
        went = driver.rows(sa.select(sa.func.count()).where(decisions.c.verb == "went over"))[0][0]
        assert went > 100
