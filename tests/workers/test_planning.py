"""A plan says what other files would mean for the people inside, and `apply` does not mail many unasked."""

import subprocess
from datetime import timedelta

import pytest

from afterglow.language.catalog import Document
from db import catalog
from tests.driver import Driver
from tests.small_shop import documents, flow, small
from tests.workers.test_moving import edit, moving, pay, send, wait
from workers import planning
from workers.commands.planning import lines
from workers.commits import commit_of
from workers.planning import Plan, TooManyMailsError, make_plan

STEPS = [send("a"), wait("w", "3 days"), send("b"), wait("x", "1 day"), {"id": "n", "send": "email/note"}]


def planned(driver: Driver, *flows: str) -> Plan:
    return make_plan(driver.app.database, driver.app.clock, documents(*flows))


def told(driver: Driver, *flows: str) -> list[str]:
    return list(lines(planned(driver, *flows)))


def test_a_plan_tells_each_changed_step_with_its_people_and_which_mails_would_go_because_of_it(database_url):
    with small(database_url, flow("care", STEPS), flow("other", [wait("w", "3 days")])) as driver:
        pay(driver, 3)
        driver.at(days=1)
        new = [send("a"), wait("w", "1 day"), send("b2", was="b"), send("c")]
        plan = planned(driver, moving(*new), flow("third", [send("a")]))

        assert list(lines(plan)) == [
            "~ flow care: 3 people inside, who go over to the new version: 3 earlier",
            "    on_edit: move (new)",
            "  ~ w: wait: 3 days -> 1 day",
            "      3 people: stay here; 3 earlier; 6 mails within 24 hours",
            "        customer 1: 2026-03-05 08:00 -> 2026-03-03 08:00",
            "        customer 2: 2026-03-05 08:00 -> 2026-03-03 08:00",
            "        customer 3: 2026-03-05 08:00 -> 2026-03-03 08:00",
            "  ~ b2, was b",
            "  + c",
            "  - x",
            "  - n",
            "- flow other: 3 people inside, who finish the version they began in",
            "    w",
            "      3 people: finish as they began",
            "+ flow third",
        ]
        assert (plan.mails, plan.mails_at_once, plan.mailed) == (6, 6, 3)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([send("a"), wait("w", "9 days"), send("b")], "3 people: stay here; 3 later"),
        ([send("a"), wait("v", "3 days", was="w"), send("b")], "3 people: stay here, under the new id"),
        ([send("a"), wait("x", "1 day")], "3 people: go on at x; 3 earlier"),
        ([send("a")], "3 people: nothing is left ahead of them, so their run ends; 3 earlier"),
    ],
)
def test_what_a_plan_says_of_people_is_what_becomes_of_them(sqlite_url, steps, expected):
    with small(sqlite_url, flow("care", STEPS)) as driver:
        pay(driver, 3)
        driver.at(days=1)
        assert f"      {expected}" in told(driver, moving(*steps))
        assert not any("24 hours" in line for line in told(driver, moving(*steps)))


def test_people_of_a_flow_that_lets_them_finish_or_is_removed_stay_in_the_version_they_began_in(sqlite_url):
    with small(sqlite_url, flow("care", STEPS)) as driver:
        pay(driver, 2)

        assert told(driver, flow("care", STEPS[:3]))[0] == (
            "~ flow care: 2 people inside, who finish the version they began in"
        )
        assert told(driver, flow("other", [send("a")]))[:2] == [
            "- flow care: 2 people inside, who finish the version they began in",
            "    w",
        ]


def test_a_flow_that_runs_again_mails_whom_it_kept_waiting(sqlite_url):
    with small(sqlite_url, flow("care", STEPS)) as driver:
        pay(driver, 2)
        edit(driver, flow("care", STEPS, status="paused"))
        driver.at(days=5)

        plan = planned(driver, flow("care", STEPS))
        assert (plan.mails, plan.mails_at_once, plan.mailed) == (4, 2, 2)
        assert planned(driver, flow("care", STEPS, status="paused", about="Words")).mails == 0


def test_files_that_mail_many_need_to_be_told_how_many(sqlite_url, monkeypatch):
    monkeypatch.setattr(planning, "MAILS_MAX", 2)
    with small(sqlite_url, flow("care", STEPS)) as driver:
        pay(driver, 3)
        driver.at(days=1)
        plan = planned(driver, moving(send("a"), send("b")))

        with pytest.raises(TooManyMailsError, match=r"3 mails for 3 customers .* --yes-send 3"):
            plan.refuse_mails(None)
        with pytest.raises(TooManyMailsError):
            plan.refuse_mails(2)
        plan.refuse_mails(3)


def put(driver: Driver, files: tuple[Document, ...], **about: object) -> None:
    with driver.app.writing() as connection:
        catalog.apply(connection, files, now=driver.clock.now(), by="the tests", **about)  # type: ignore[arg-type]


def test_files_are_applied_only_to_those_they_were_planned_on_and_the_commit_is_kept(sqlite_url):
    with small(sqlite_url, flow("care", STEPS)) as driver:
        plan = planned(driver, flow("care", STEPS[:1]))
        driver.at(hours=1)
        put(driver, documents(flow("care", STEPS[:1])), commit="c" * 40, after=plan.release)
        with pytest.raises(catalog.AppliedMeanwhileError):
            put(driver, documents(flow("care", STEPS[:2])), after=plan.release)

        with driver.app.reading() as connection:
            newest, *older = catalog.history(connection, 10)
        assert (newest.commit, newest.applied_by, len(older)) == ("c" * 40, "the tests", 2)
        assert newest.applied_at - older[0].applied_at == timedelta(hours=1)


def test_the_commit_is_read_where_it_stands_packed_or_in_a_worktree(tmp_path):
    def git(*words: str) -> str:
        who = ["-c", "user.name=T", "-c", "user.email=t@example.com"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert commit_of(tmp_path, "") is None
    assert commit_of(tmp_path, "A" * 40) == "a" * 40
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    (tmp_path / "flows").mkdir()
    head = git("rev-parse", "HEAD").strip()
    assert commit_of(tmp_path / "flows", "") == head
    git("pack-refs", "--all")
    assert commit_of(tmp_path, "") == head
    git("worktree", "add", "-q", "other")
    assert commit_of(tmp_path / "other", "") == head
    git("checkout", "-q", "--detach")
    assert commit_of(tmp_path, "") == head
