"""Tasks of teams: asked for with the note, told in it, open until somebody says that they are done, and heard then."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow import letters
from afterglow.backtest import Period, relive
from afterglow.language.catalog import read_documents
from afterglow.testing import ShopUnderTest
from db import lives, privacy, tasks, why
from db.outbox import letter
from db.tables import contexts, enrollments, events, touchpoints
from db.tables import tasks as table
from db.tasks import TaskError
from tests import small_shop
from tests.driver import Driver
from tests.small_shop import flow, small
from tests.workers.test_cli import Afterglow, afterglow

__all__ = ["afterglow"]  # fixture

CALL = {"notify": "desk", "task": "call", "due": "2 days", "about": "Ask about order {{ order.id }}"}
FLOWS = (
    flow(
        "calling",
        [CALL, {"id": "called", "wait_for": "task.done", "for_up_to": "9 days", "arrived": [{"send": "email/note"}]}],
        once_per="order.id",
    ),
    flow("noting", [{"notify": "desk"}]),
)
#: One in the morning of Tuesday in Tokyo, where the customers live; Monday in Paris, where the shop is.
LATE = datetime(2026, 3, 2, 16, 0, tzinfo=UTC)


@pytest.fixture
def driver(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    with small(database_url, *FLOWS) as installation:
        yield installation


def ordered(driver: Driver, *customers: str) -> None:
    for name in customers:
        who = {"id": name, "email": f"{name}@example.com", "first_name": name.title(), "timezone": "Asia/Tokyo"}
        driver.post("order.paid", {"order": {"id": f"o-{name}"}}, customer=who, consent="granted")


def waiting(driver: Driver, team: str | None = None) -> list[tasks.Task]:
    with driver.app.reading() as connection:
        return tasks.waiting(connection, team=team)


def do(driver: Driver, task: int, by: str = "kim") -> None:
    with driver.app.writing() as connection:
        tasks.do(connection, task, by, driver.clock.now())
    driver.drain()


def test_a_task_is_due_by_the_calendar_of_the_shop_and_its_note_says_so(driver):
    driver.at(LATE)
    ordered(driver, "sam")

    (task,) = waiting(driver)
    assert (task.team, task.name, task.due_on, task.first_name) == ("desk", "call", date(2026, 3, 4), "Sam")
    assert (task.flow, task.about, task.asked_at) == ("calling", "Ask about order o-sam", LATE)
    with driver.app.reading() as connection:
        number = connection.execute(sa.select(touchpoints.c.id).where(touchpoints.c.flow == "calling")).scalar_one()
        facts = connection.execute(sa.select(contexts.c.facts).where(contexts.c.touchpoint_id == number)).scalar_one()
        lines = why.story(connection, driver.app.catalog, driver.secret, driver.customer("sam"))
        told = [line.sentence for line in lines]
        note = letter(connection, driver.app.catalog, driver.app.settings, number)
    assert facts["extra"] == {"team": "desk", "task": "call", "due": "2026-03-04", "about": "Ask about order o-sam"}
    assert note is not None
    assert note.rendered is not None
    assert note.rendered.subject == "Sam: call, by 4 March 2026"
    assert "It is due on Wednesday, 4 March 2026.\nSay when it is done: http://" in note.rendered.text
    assert "A task for the team desk: call, due Wed 4 Mar 2026. The note that tells them was queued." in told


def test_a_fact_that_is_called_as_a_note_calls_its_own_reaches_other_mails():
    mail: Any = SimpleNamespace(names=frozenset({"task", "about"}), calls=())
    facts = {"task": "call", "about": "A seat"}

    assert letters.context(mail, facts, {}, {})["names"] == facts
    assert letters.context(mail, facts, {}, {"task": "write", "about": "No seat"})["names"] == {}


def test_a_note_without_a_task_asks_for_none(driver):
    ordered(driver, "sam")

    assert [one.flow for one in waiting(driver)] == ["calling"]
    assert waiting(driver, team="kitchen") == []


def test_the_run_that_asked_hears_that_its_task_is_done_and_no_other_does(driver):
    ordered(driver, "sam")
    driver.post("order.paid", {"order": {"id": "o-again"}}, customer={"id": "sam"})
    first, second = waiting(driver)

    do(driver, second.id)

    e, t = enrollments.c, touchpoints.c
    runs = driver.rows(sa.select(e.state).where(bulk_of(driver)).order_by(e.id))
    assert [state for (state,) in runs] == ["waiting", "finished"]
    assert len(driver.rows(sa.select(t.id).where(t.step == "note"))) == 1
    ((said,),) = driver.rows(sa.select(events.c.payload).where(events.c.name == "task.done"))
    assert (said["task"], said["team"]) == ("call", "desk")
    assert said["by"]["step"] == "notify-desk"
    assert [one.id for one in waiting(driver)] == [first.id]
    with driver.app.reading() as connection:
        (finished,) = tasks.finished(connection)
    assert (finished.id, finished.done_by, finished.done_at) == (second.id, "kim", driver.clock.now())


def bulk_of(driver: Driver) -> sa.ColumnElement[bool]:
    """The runs of the flow that asks."""
    t = touchpoints.c
    return enrollments.c.id.in_(sa.select(t.enrollment_id).where(t.flow == "calling"))


def test_a_task_is_done_once_whoever_says_so_at_the_same_time(driver):
    ordered(driver, "sam")
    (task,) = waiting(driver)

    def say(by: str) -> str:
        try:
            with driver.app.writing() as connection:
                tasks.do(connection, task.id, by, driver.clock.now())
        except TaskError as error:
            return str(error)
        return "done"

    with ThreadPoolExecutor(4) as pool:
        said = sorted(pool.map(say, ("kim", "lee", "max", "noa")))

    assert said.count("done") == 1
    assert all("already; nothing is left to do." in one for one in said if one != "done")
    driver.drain()
    assert len(driver.rows(sa.select(events.c.id).where(events.c.name == "task.done"))) == 1


def test_what_is_no_task_cannot_be_done_and_the_sentence_says_what_to_do(driver):
    with pytest.raises(TaskError, match=r"no task 12; `afterglow tasks` lists"), driver.app.writing() as connection:
        tasks.do(connection, 12, "kim", driver.clock.now())


def test_a_task_is_taken_back_with_its_run_where_the_note_had_not_gone(driver):
    ordered(driver, "sam")
    (task,) = waiting(driver)
    with driver.app.writing() as connection:
        mine = touchpoints.c.enrollment_id == table.c.enrollment_id
        run = sa.select(table.c.enrollment_id).where(table.c.id == task.id).scalar_subquery()
        connection.execute(touchpoints.update().where(mine, table.c.id == task.id).values(state="skipped"))
        connection.execute(
            enrollments.update().where(enrollments.c.id == run).values(state="stopped", due_at=None, until=None)
        )

    assert waiting(driver) == []
    with pytest.raises(TaskError, match="taken back"), driver.app.writing() as connection:
        tasks.do(connection, task.id, "kim", driver.clock.now())


def test_nothing_is_left_to_do_about_whoever_is_forgotten(driver):
    ordered(driver, "sam", "ana")
    with driver.app.writing() as connection:
        privacy.forget(connection, driver.customer("sam"), driver.clock.now(), driver.secret)

    assert [one.first_name for one in waiting(driver)] == ["Ana"]


@pytest.mark.parametrize("values", [{"done_by": "kim"}, {"done_at": datetime(2026, 3, 2, tzinfo=UTC)}, {"due_on": "x"}])
def test_the_database_holds_no_half_done_task_and_no_day_that_is_none(driver, values):
    ordered(driver, "sam")

    with pytest.raises(sa.exc.IntegrityError), driver.app.writing() as connection:
        connection.execute(table.update().values(**values))


def test_the_command_line_lists_tasks_and_says_that_one_is_done(driver, afterglow: Afterglow):
    ordered(driver, "sam")
    (task,) = waiting(driver)

    status, told, _ = afterglow("tasks")
    assert (status, "call" in told, f"afterglow tasks done {task.id}" in told) == (0, True, True)
    assert afterglow("tasks", "done", task.id) == (0, f"Task {task.id} is done.\n", "")
    status, _, complained = afterglow("tasks", "done", task.id)
    assert (status, complained.count("already; nothing is left to do")) == (1, 1)
    assert afterglow("tasks")[1] == "No task is open.\n"
    assert "call" in afterglow("tasks", "--done")[1]


def test_a_stored_answer_is_heard_when_its_life_is_lived_again(driver):
    """Stored runs have other numbers than those of a life."""
    ordered(driver, "ana", "sam")
    for task in waiting(driver):
        do(driver, task.id)
    period = Period(since=datetime(2020, 1, 1, tzinfo=UTC), until=driver.clock.now().replace(hour=23))
    number = driver.customer("sam")
    compiled = small_shop.documents(*FLOWS)
    catalog = read_documents({(one.kind, one.name): one.body for one in compiled})
    (alone,) = lives.histories(driver.app.database, driver.secret, catalog, number - 1, number, period)

    [life] = relive(ShopUnderTest(catalog=catalog), alone, period)

    assert ("called", "arrived") in [(one.step, one.verb) for one in life.lived.notes]
    assert ("note", "sent") in [(one.step, one.verb) for one in life.lived.notes]
