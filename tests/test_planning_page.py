"""What docs/planning.md shows is what runs."""

import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.language.check import check_files
from afterglow.language.flow.compiler import read_flow
from afterglow.planning import FlowChange, by_itself
from tests.driver import SECRET, driving, shop_files
from workers.beginnings import Beginnings
from workers.cli import main
from workers.commands.planning import lines
from workers.commands.review import MARK
from workers.planning import FlowPlan, Plan

PAGE = (ROOT / "docs" / "planning.md").read_text()
SESSIONS = re.findall(r"```console\n\$ (.*?)\n(.*?)```", PAGE, re.DOTALL)
FIRST = "flows/first-order.yaml"


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=T", "-c", "user.email=t@example.com"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def shop(sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The shipped shop, edited in a folder of its own repository, whose branch main is as it is shipped."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    monkeypatch.setattr("getpass.getuser", lambda: "kim")
    for folder in ("flows", "templates/email"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "as it is shipped")
    text = (
        (tmp_path / FIRST).read_text().replace("wait: 3 days", "wait: 1 day").replace("steps:", "on_edit: move\nsteps:")
    )
    (tmp_path / FIRST).write_text(re.sub(r"\ntests:.*", "\n", text, flags=re.DOTALL))
    return tmp_path


def shown(text: str) -> str:
    """What is shown, but for how many files the shop has, and what they come to."""
    return re.sub(r"\b\d+ files|\b[0-9a-f]{12}\b|\d+$", "N", text, flags=re.MULTILINE)


def run(command: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, shlex.split(command)[1:])
    return result.exit_code, result.output


def test_every_session_says_what_is_shown(shop: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch):
    with driving(sqlite_url) as driver:
        driver.post("order.paid", {"order": {"id": "o1", "total": 40}}, stage="purchase")
        driver.at(days=2)
        driver.post("order.delivered", {"order": {"id": "o1"}})
        driver.at(days=4)
        monkeypatch.setattr("db.clock.DatabaseClock.now", lambda self, connection: driver.clock.now())
        with monkeypatch.context() as patched:
            patched.setattr("workers.planning.MAILS_MAX", 0)
            status, refused = run("afterglow apply")
            assert status == 1
            assert "1 mails for 1 customers" in refused
            assert "--yes-send 1." in refused
        for command, answer in SESSIONS[:3]:
            assert shown(run(command)[1]) == shown(answer), command
        assert run("afterglow plan") == (0, "These files are in force already; nothing would change.\n")
        driver.actors.tend()
        driver.drain()
        assert driver.touchpoints()[-1][:2] == ("first-order", "brew-check-in")


def test_a_review_is_one_comment_with_what_changed_and_fails_where_a_file_is_wrong(shop: Path, monkeypatch):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", "sqlite:///nowhere.db")
    command, answer = SESSIONS[3]
    assert run(command) == (0, answer)

    thanks = shop / "templates/email/thank-you.txt"
    thanks.write_text(thanks.read_text().replace("Thank you", "Many thanks"))
    status, comment = run("afterglow review --base main --format markdown --out kept")
    assert (status, comment) == run("afterglow review --base main --format markdown --out kept")
    assert comment.startswith(MARK)
    assert "-first-cups: Wait 3 days" in comment
    assert "+Many thanks" in comment
    assert {path.name for path in (shop / "kept").iterdir()} == {
        *(f"first-order.{side}.svg" for side in ("before", "after")),
        *(f"email-thank-you.{side}.html" for side in ("before", "after")),
    }

    (shop / FIRST).write_text("flow: first-order\n")
    status, told_wrong = run("afterglow review --base main --format markdown")
    assert status == 1
    assert f"{FIRST}:1:1:" in told_wrong
    assert run("afterglow review --base nowhere")[0] == 1
    assert run("afterglow review --base=--output=x")[0] == 1


def test_for_how_many_a_flow_would_begin_is_told_as_shown():
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    black_friday = (
        "flow: black-friday\nabout: Once\nstatus: live\nstarts: {once: 2026-11-27 09:00, segment: regulars}\n"
        "topic: coffee-care\nsteps:\n  - send: email/brew-tips\n"
    )
    first = datetime(2026, 11, 27, 8, tzinfo=UTC)
    by = by_itself(read_flow(black_friday, "flows/black-friday.yaml"))
    change = FlowChange(flow="black-friday", kind="added")
    begins = Beginnings(by=str(by), people=412, first=first, mails=412)

    assert list(lines(Plan(release=1, flows=[FlowPlan(change=change, begins=begins)]))) == shown.splitlines()


def test_the_examples_of_files_are_right():
    steps = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]

    flow = (
        "flow: tried\nabout: Tried\nstatus: live\nstarts: {event: order.paid}\ntopic: coffee-care\non_edit: move\n"
        + steps
    )
    assert check_files({**shop_files(), "flows/tried.yaml": flow}) == []
