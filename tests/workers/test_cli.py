"""The command line on a database: what it says, what it changes, and the statuses it exits with."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from afterglow import ROOT, __version__
from db.tables import consents, enrollments, events, inbox, releases
from tests.driver import SECRET, Driver, driving
from workers.cli import main

Afterglow = Callable[..., tuple[int, str, str]]
ORDER = {"order": {"id": "o1", "number": "1001", "total": 40, "currency": "EUR", "items": [{"title": "House"}]}}


@pytest.fixture
def afterglow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Afterglow:
    """Gives a command in an empty folder: its exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("workers.logs.set_up_logs", lambda: None)  # it would outlive the test

    def run(*words: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(main, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.fixture
def driver(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """An installation with the shipped shop in force, on the database that commands use."""
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    with driving(database_url) as installation:
        yield installation


def with_a_held_mail(driver: Driver) -> None:
    """Marketing of a first order is queued (the check-in, two days after delivery)."""
    driver.post("customer.created", consent="granted")
    driver.post("order.paid", ORDER, stage="purchase")
    driver.at(days=1)
    driver.post("order.delivered", {"order": {"id": "o1"}})


# -- Without a database --------------------------------------------------------------------------------------


def test_help_names_every_command(afterglow: Afterglow):
    status, told, _ = afterglow("--help")

    assert status == 0
    commands = "init check schema apply migrate run web worker scheduler event inbox retry halt resume flows why doctor"
    commands += " forget export merge unmerge"
    for command in commands.split():
        assert f"\n  {command} " in told


def test_every_line_of_help_fits_eighty_columns(afterglow: Afterglow):
    assert [line for line in afterglow("--help")[1].splitlines()[1:] if len(line) > 80 or line.endswith("...")] == []


def test_the_version_is_told(afterglow: Afterglow):
    assert afterglow("--version") == (0, f"afterglow {__version__}\n", "")


def test_a_command_that_does_not_exist_is_a_wrong_call(afterglow: Afterglow):
    assert afterglow("sned")[0] == 2


@pytest.mark.parametrize("command", ["apply", "flows", "halt", "doctor", "inbox", "retry"])
def test_without_a_database_a_command_says_how_to_make_one_and_makes_none(
    afterglow: Afterglow, command: str, tmp_path: Path
):
    status, told, error = afterglow(command)

    assert (status, told) == (1, "")
    assert error == ("There is no database at afterglow.db yet; `afterglow run` makes one, or `afterglow migrate`.\n")
    assert not (tmp_path / "afterglow.db").exists()


def test_an_unreachable_database_is_one_sentence_without_the_password(
    afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", "postgresql://me:hidden@127.0.0.1:1/none")

    status, told, error = afterglow("flows")

    assert (status, told) == (1, "")
    assert error.count("\n") == 1
    assert "cannot be reached" in error
    assert "hidden" not in error


def test_a_setting_that_cannot_be_understood_is_named(afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AFTERGLOW_THREADS", "many")

    status, _, error = afterglow("doctor")

    assert status == 1
    assert "AFTERGLOW_THREADS" in error


def test_pending_migrations_refuse_with_the_command_to_run(
    afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    sa.create_engine(f"sqlite:///{tmp_path}/old.db").connect().exec_driver_sql("CREATE TABLE a (b)").close()
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", f"sqlite:///{tmp_path}/old.db")

    for command in ("flows", "run"):
        status, _, error = afterglow(command)

        assert status == 1
        assert "run `afterglow migrate`" in error


def test_migrate_makes_a_database_that_commands_use(afterglow: Afterglow):
    assert afterglow("migrate")[0] == 0
    assert afterglow("apply", ROOT)[0] == 0
    assert "first-order" in afterglow("flows")[1]
    assert afterglow("migrate")[0] == 0  # again does no harm


# -- Files ---------------------------------------------------------------------------------------------------


def test_a_new_shop_has_nothing_wrong(afterglow: Afterglow, tmp_path: Path):
    assert afterglow("init", "shop")[0] == 0

    status, told, _ = afterglow("check", "shop")

    assert status == 0
    assert "nothing wrong" in told


def test_init_leaves_a_folder_alone_that_is_not_empty(afterglow: Afterglow, tmp_path: Path):
    (tmp_path / "mine").write_text("text")

    status, _, error = afterglow("init", ".")

    assert status == 1
    assert "not empty" in error
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_check_tells_every_problem_with_its_place_and_exits_with_1(afterglow: Afterglow, tmp_path: Path):
    afterglow("init", "shop")
    flow = tmp_path / "shop/flows/welcome.yaml"
    flow.write_text(flow.read_text().replace("flow: welcome", "flow: welcome\nflow: twice").replace("steps:", "stpes:"))

    status, told, error = afterglow("check", "shop")

    assert status == 1
    assert "flows/welcome.yaml:" in told
    assert all(line.split(":")[1].isdigit() for line in told.splitlines() if line.startswith("flows/"))
    assert "in 1 file" in error

    status, told, _ = afterglow("check", "shop", "--json")

    assert status == 1
    assert {problem["file"] for problem in json.loads(told)["problems"]} == {"flows/welcome.yaml"}


def test_schema_prints_one_kind_or_all(afterglow: Afterglow):
    assert set(json.loads(afterglow("schema")[1])) >= {"flow", "shop", "stages", "source"}
    assert "properties" in json.loads(afterglow("schema", "flow")[1])
    assert afterglow("schema", "flwo")[0] == 2


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_apply_tells_what_changed_and_changes_nothing_when_something_is_wrong(
    afterglow: Afterglow, driver: Driver, tmp_path: Path
):
    afterglow("init", "shop")
    flow = tmp_path / "shop/flows/welcome.yaml"
    afterglow("apply", "shop")

    flow.write_text("# a change\n" + flow.read_text())
    (tmp_path / "shop/flows/win-back.yaml").rename(tmp_path / "shop/flows/gone-quiet.yaml")
    before = driver.rows(sa.select(sa.func.max(releases.c.id)))
    status, _, error = afterglow("apply", "shop")

    assert status == 1
    assert "flows/gone-quiet.yaml:" in error
    assert driver.rows(sa.select(sa.func.max(releases.c.id))) == before

    (tmp_path / "shop/flows/gone-quiet.yaml").rename(tmp_path / "shop/flows/win-back.yaml")
    told = json.loads(afterglow("apply", "shop", "--json")[1])

    assert told["changed"] == [{"kind": "flow", "name": "welcome"}]
    assert told["added"] == told["removed"] == []
    assert "nothing changed" in afterglow("apply", "shop")[1]


# -- Events and the inbox ------------------------------------------------------------------------------------


def test_an_event_makes_a_customer_and_counts_once_per_key(afterglow: Afterglow, driver: Driver):
    words = ("event", "customer.created", "--customer", "ann@example.com", "--key", "k1", "--consent", "granted")

    assert afterglow(*words)[0] == 0
    assert "already" in afterglow(*words)[1]
    driver.drain()

    assert driver.rows(sa.select(events.c.name, events.c.source, events.c.key)) == [
        ("customer.created", "command-line", "k1")
    ]
    assert driver.rows(sa.select(consents.c.state, consents.c.topic)) == [("granted", "*")]
    assert "customer.created" in afterglow("why", "ann@example.com")[1]
    assert afterglow("event", "order.paid", "--customer", "1", "--json", "--payload", json.dumps(ORDER))[0] == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("words", "status", "hint"),
    [
        (["event", "order.piad", "--customer", "a@example.com"], 1, "Did you mean 'order.paid'?"),
        (["event", "order.paid", "--customer", "a@example.com", "--stage", "purchas"], 1, "Did you mean 'purchase'?"),
        (["event", "order.paid", "--customer", "nobody"], 1, "No customer is known as 'nobody'"),
        (["event", "Order", "--customer", "a@example.com"], 2, "event"),
        (["event", "order.paid", "--customer", "a@b"], 2, "is not an e-mail address"),
        (["event", "order.paid", "--customer", "a@example.com", "--payload", "{"], 2, "is not JSON"),
        (["event", "order.paid", "--customer", "a@example.com", "--payload", "[]"], 2, "payload"),
        (["event", "order.paid", "--customer", "a@example.com", "--at", "2026-03-02T09:00:00"], 2, "needs an offset"),
        (["event", "order.paid", "--customer", "a@example.com", "--consent", "maybe"], 2, "consent"),
    ],
)
def test_an_event_that_cannot_be_is_refused_with_a_hint(
    afterglow: Afterglow, driver: Driver, words: list[str], status: int, hint: str
):
    found, _, error = afterglow(*words)

    assert (found, hint in error) == (status, True)
    assert driver.rows(sa.select(inbox.c.id)) == []


def test_what_is_parked_is_listed_shown_without_its_body_and_retried(afterglow: Afterglow, driver: Driver):
    assert "Nothing is parked" in afterglow("inbox")[1]
    driver.receive("generic", "k1", b'{"secret": "sam@example.com"}')
    (row,) = json.loads(afterglow("inbox", "list", "--json")[1])

    assert (row["source"], row["state"]) == ("generic", "parked")
    assert row["reason"]
    assert "sam@example.com" not in afterglow("inbox", "show", row["id"])[1]
    assert "sam@example.com" in afterglow("inbox", "show", row["id"], "--body")[1]
    assert afterglow("inbox", "show", 999)[0] == 1
    assert afterglow("inbox", "list", "--state", "praked")[0] == 2
    assert afterglow("inbox", "retry")[0] == 2

    assert json.loads(afterglow("inbox", "retry", row["id"], "--json")[1]) == {"retried": 1}
    assert driver.rows(sa.select(inbox.c.state)) == [("received",)]
    driver.drain()
    assert json.loads(afterglow("inbox", "retry", "--all-parked", "--json")[1]) == {"retried": 1}
    assert afterglow("inbox", "retry", 999)[0] == 1


def test_a_parked_run_goes_on_where_it_stood(afterglow: Afterglow, driver: Driver):
    with_a_held_mail(driver)
    with driver.app.writing() as connection:
        connection.execute(
            enrollments.update().where(enrollments.c.state == "waiting").values(state="parked", due_at=None, reason="x")
        )
    parked = json.loads(afterglow("retry", "--json")[1])

    assert parked
    assert "first-order" in afterglow("retry")[1]
    assert json.loads(afterglow("retry", parked[0]["id"], "--json")[1]) == {"retried": 1}
    assert json.loads(afterglow("retry", "--all-parked", "--json")[1]) == {"retried": len(parked) - 1}
    assert driver.rows(sa.select(enrollments.c.id).where(enrollments.c.state == "parked")) == []


# -- Halt, resume, why, doctor -------------------------------------------------------------------------------


def test_a_halt_holds_marketing_and_resume_lets_it_go_on_once(afterglow: Afterglow, driver: Driver):
    with_a_held_mail(driver)
    status, told, _ = afterglow("halt", "first-order")
    assert (status, "afterglow resume first-order" in told) == (0, True)
    driver.at(days=5)

    halted = json.loads(afterglow("halt", "first-order", "--json")[1])
    assert [row["email"] for row in halted["queued"]] == ["sam@example.com"]
    assert "sam@example.com" in afterglow("halt", "first-order")[1]
    resumed = json.loads(afterglow("resume", "first-order", "--json")[1])
    assert (resumed["freed"], resumed["halted"]) == (1, [])
    driver.clock.jump(datetime.now(UTC))  # commands live in the present; what lies between is no matter
    driver.at(datetime.now(UTC) + timedelta(days=2))  # past any quiet hours

    mails = [(state, step) for flow, step, state in driver.touchpoints() if flow == "first-order"]
    assert len(mails) == len(set(mails))
    assert {state for state, _ in mails} == {"sent"}
    assert "was not halted" in afterglow("resume", "first-order")[1]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_resuming_one_flow_leaves_the_halt_of_all(afterglow: Afterglow, driver: Driver):
    afterglow("halt")
    afterglow("halt", "welcome")

    told = afterglow("resume", "welcome")[1]

    assert "all marketing is halted still" in told
    assert json.loads(afterglow("resume", "--json")[1])["halted"] == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_unknown_flow_is_not_halted(afterglow: Afterglow, driver: Driver):
    status, _, error = afterglow("halt", "welcom")

    assert status == 1
    assert "Did you mean 'welcome'?" in error


def test_flows_count_people_and_mails(afterglow: Afterglow, driver: Driver):
    with_a_held_mail(driver)

    rows = {row["flow"]: row for row in json.loads(afterglow("flows", "--json")[1])}

    assert rows["first-order"]["inside"] == 1
    assert rows["first-order"]["sent"] == 1
    assert rows["payment-failed"]["inside"] == 0
    assert max(map(len, afterglow("flows")[1].splitlines())) <= 80


def test_why_tells_a_customer_or_one_flow_in_words_or_json(afterglow: Afterglow, driver: Driver):
    with_a_held_mail(driver)

    assert "email/thank-you was sent" in afterglow("why", "sam@example.com")[1]
    lines = json.loads(afterglow("why", driver.customer(), "--flow", "first-order", "--json")[1])["lines"]
    assert {line["flow"] for line in lines} <= {"first-order", None}
    assert max(map(len, afterglow("why", "c1")[1].splitlines())) <= 80
    assert afterglow("why", "nobody@example.com")[0] == 1
    assert "Did you mean" in afterglow("why", "c1", "--flow", "first-ordr")[2]


def test_doctor_exits_with_1_and_the_offenders(afterglow: Afterglow, driver: Driver):
    assert afterglow("doctor")[0] == 0

    with_a_held_mail(driver)
    with driver.app.writing() as connection:
        connection.execute(enrollments.update().where(enrollments.c.state == "waiting").values(step="nowhere"))
    status, told, _ = afterglow("doctor", "--json")

    assert status == 1
    assert json.loads(told)["healthy"] is False
    assert "Something is wrong" in afterglow("doctor")[1]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_colour_is_off_where_nobody_sees_it_or_nobody_wants_it(afterglow: Afterglow, driver: Driver):
    assert "\x1b" not in "".join(map(str, afterglow("flows")))


# -- A person's rights ----------------------------------------------------------------------------------------


def test_a_customer_gets_all_that_is_kept_and_is_forgotten_only_when_that_is_meant(
    afterglow: Afterglow, driver: Driver, tmp_path: Path
):
    with_a_held_mail(driver)
    kept = json.loads(afterglow("export", "sam@example.com")[1])
    assert kept["profile"]["email"] == "sam@example.com"
    assert afterglow("export", "c1", "--to", "sam.json")[0] == 0
    assert (tmp_path / "sam.json").stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / "sam.json").read_text())["customer"] == kept["customer"]

    assert afterglow("forget", "sam@example.com")[0] == 1  # nobody answered
    assert afterglow("why", "sam@example.com")[0] == 0

    assert afterglow("forget", "sam@example.com", "--yes")[0] == 0
    assert afterglow("why", "sam@example.com")[0] == 1
    left = afterglow("export", kept["customer"])[1]
    assert "sam@example.com" not in left
    assert json.loads(afterglow("forget", kept["customer"], "--yes", "--json")[1])["profiles"] == 0


# -- Processes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["web", "worker", "scheduler"])
def test_one_process_of_many_is_refused_without_postgresql_and_redis(afterglow: Afterglow, command: str):
    status, _, error = afterglow(command)

    assert status == 1
    assert "use `afterglow run`" in error


def test_run_is_refused_where_the_work_is_shared(afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AFTERGLOW_BROKER_URL", "redis://127.0.0.1:1")

    status, _, error = afterglow("run")

    assert status == 1
    assert "`afterglow worker`" in error


def test_run_says_what_to_do_without_a_secret(afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AFTERGLOW_SECRET")

    status, _, error = afterglow("run")

    assert status == 1
    assert "AFTERGLOW_SECRET is not set" in error


@pytest.mark.parametrize("command", ["web", "worker", "scheduler"])
def test_an_unreachable_redis_at_the_start_is_one_sentence(
    afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch, postgres_url: str, command: str
):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", postgres_url)
    monkeypatch.setenv("AFTERGLOW_BROKER_URL", "redis://127.0.0.1:1")

    status, told, error = afterglow(command)

    assert (status, told) == (1, "")
    assert error.startswith("Redis cannot be reached")
    assert error.count("\n") == 1


# -- Two customers who are one -------------------------------------------------------------------------------


def test_two_customers_are_merged_and_told_apart_again(afterglow: Afterglow, driver: Driver):
    driver.post("customer.created", customer={"id": "c1", "first_name": "Sam"})
    driver.post("order.paid", ORDER, customer={"email": "sam@example.com"})
    assert afterglow("merge", "c1", "sam@example.com")[0] == 1  # nobody answered

    status, told, _ = afterglow("merge", "c1", "sam@example.com", "--yes")
    assert status == 0
    assert "Customer 2 is now part of customer 1." in told
    assert "afterglow unmerge 1" in told
    assert json.loads(afterglow("export", "2")[1])["customer"] == 1
    assert "said so. All of theirs is kept here" in " ".join(afterglow("why", "2")[1].split())
    assert afterglow("merge", "1", "2", "--yes")[0] == 1

    assert "are two again, and stay two" in afterglow("unmerge", "1")[1]
    assert json.loads(afterglow("export", "2")[1])["orders"] == 1
    assert afterglow("unmerge", "1")[0] == 1
    assert json.loads(afterglow("merge", "1", "2", "--yes", "--json")[1])["kept"] == 1
