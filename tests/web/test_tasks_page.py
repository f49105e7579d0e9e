"""The page of tasks: what is open, for whom, by when; and the button that says it is done."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from db.tables import events
from tests.small_shop import flow, small
from tests.web.conftest import faces_of
from tests.web.shop_of_pages import HOSTILE
from tests.web.test_pages import Site, assert_harmless, text_of

CALLING = flow(
    "calling",
    [{"notify": "desk", "task": HOSTILE[0], "due": "2 days", "about": "Ask {{ customer.first_name }}"}],
    once_per="order.id",
)


@pytest.fixture
def site(sqlite_url: str) -> Iterator[Site]:
    with small(sqlite_url, CALLING) as driver:
        driver.post("order.paid", {"order": {"id": "o1"}}, customer={"id": "c1", "first_name": HOSTILE[1]})
        driver.post("order.paid", {"order": {"id": "o2"}}, customer={"id": "c2", "first_name": "Ana"})
        with faces_of(driver.app) as faces:
            yield Site(driver, faces)


def test_open_tasks_are_shown_and_nothing_written_becomes_markup(site: Site) -> None:
    shown = site.get("/tasks")

    assert_harmless(shown, "/tasks")
    assert text_of(shown).count("asked of desk by calling due Wed 4 Mar 2026") == 2
    assert "Ask Ana" in text_of(shown)
    assert "No task is open." in text_of(site.get("/tasks?team=kitchen"))
    site.get("/tasks?show=some", status=404)


def test_a_task_is_done_at_the_press_of_a_button_and_once(site: Site) -> None:
    assert "Task 1 is done. Flows that wait for it go on." in text_of(site.press("/tasks/done", id=1))
    assert "Task 1 was done or taken back meanwhile" in text_of(site.press("/tasks/done", id=1))
    site.press("/tasks/done", id="none")

    assert text_of(site.get("/tasks")).count("asked of desk by calling") == 1
    assert "by the web page" in text_of(site.get("/tasks?show=done"))
    site.driver.drain()
    assert len(site.driver.rows(sa.select(events.c.id).where(events.c.name == "task.done"))) == 1


def test_a_task_needs_somebody_once_its_day_has_passed(site: Site) -> None:
    site.driver.at(days=2, hours=14)  # 23:00 of its day where the shop is
    assert "Nothing needs you." in text_of(site.get("/"))

    site.driver.at(days=2, hours=16)

    assert "Late tasks 2" in text_of(site.get("/"))
    assert "late: due Wed 4 Mar 2026" in text_of(site.get("/tasks"))
