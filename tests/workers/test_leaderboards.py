"""Leaderboards as they are kept, told on Mondays and read on the command line."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from afterglow.mime import Outgoing
from db import leaderboards, referring
from db.leaderboards import Change
from db.settings import SettingsError, load_settings
from db.tables import profiles, score_counts, score_moves, season_seals
from tests.driver import SECRET, START, Driver, driving
from tests.small_shop import small
from workers import digest
from workers.channels import Fate, InDoubt, NotBegun, Rejected, Sent
from workers.cli import main

#: START is Monday 2 March 2026, nine o'clock in Paris; weeks are told at eight.
MONDAY = datetime(2026, 3, 9, 7, tzinfo=UTC)
TO_DESK = {"leaderboards": {"digest": "desk"}}
SLACK = "https://hooks.slack.example/services/T0/B0/x"


@dataclass
class Post:
    """A provider that takes every mail, or none."""

    fate: Fate = field(default_factory=lambda: Sent(provider_id="p1"))
    mails: list[Outgoing] = field(default_factory=list)
    batch: int = 10
    leaves_the_machine: bool = True

    def send(self, mails: Sequence[Outgoing], seconds: float) -> list[Fate]:
        self.mails += mails
        return [self.fate for _ in mails]


def scored(driver: Driver, *given: tuple[str, int, datetime], metric: str = "referrals") -> None:
    """Customers by name, with what they scored and when."""
    for name, _, _ in given:
        driver.post("ping.one", customer={"id": name, "first_name": name})
    changes = [
        Change(programme="friends", metric=metric, customer_id=driver.customer(name), delta=delta, at=at)
        for name, delta, at in given
    ]
    with driver.app.writing() as connection:
        calendar = driver.app.catalog.current(connection).catalog.shop.calendar
        leaderboards.record(connection, changes, calendar, driver.clock.now())


def two_weeks(driver: Driver) -> None:
    """A week that is over on MONDAY, and the one before it."""
    scored(driver, ("Ada", 3, START - timedelta(days=3)), ("Ben", 1, START - timedelta(days=4)))
    scored(driver, ("Ben", 4, START), ("Ada", 2, START), ("Cleo", 2, START + timedelta(hours=1)))
    scored(driver, ("Ben", 12_050, START), metric="revenue")


def told(driver: Driver, email: Post, at: datetime) -> list[str]:
    driver.clock.jump(at)
    digest.digest(driver.app, email)  # type: ignore[arg-type]
    return [mail.text for mail in email.mails]


@pytest.fixture
def driver(database_url: str) -> Iterator[Driver]:
    with small(database_url, shop=TO_DESK, live="yes") as driver:
        yield driver


def test_on_monday_at_eight_the_team_reads_who_brought_most_friends_and_how_they_moved(driver, monkeypatch):
    monkeypatch.setattr(referring, "to_review", lambda connection, programme: 2)
    two_weeks(driver)
    email = Post()

    assert told(driver, email, MONDAY - timedelta(seconds=1)) == []
    (text,) = told(driver, email, MONDAY)

    assert email.mails[0].to_address == "desk@small.example"
    assert email.mails[0].subject == "Leaderboards, 2 Mar to 8 Mar 2026"
    assert text.split("\n\n--\n")[0].splitlines() == [
        "friends, 2 Mar to 8 Mar 2026",
        "",
        "Qualified referrals: 8 from 3 customers",
        "  1. Ben, 4 (up 1)",
        "  2. Ada, 2 (down 1)",
        "  2. Cleo, 2 (new)",
        "",
        "Referred revenue: 120.50 EUR from 1 customer",
        "  1. Ben, 120.50 EUR (new)",
        "",
        "New among the first, and worth a thank-you: Cleo.",
        "",
        "2 referrals wait for you.",
    ]


def test_a_week_is_told_once_by_whoever_comes_first_and_the_next_again(driver):
    two_weeks(driver)
    email = Post()
    for minutes in (0, 0, 1, 60):
        told(driver, email, MONDAY + timedelta(minutes=minutes))
    assert len(email.mails) == 1

    scored(driver, ("Ada", 1, MONDAY))
    assert len(told(driver, email, MONDAY + timedelta(days=7))) == 2


def test_a_week_in_which_nothing_happened_is_not_told(driver):
    assert told(driver, Post(), MONDAY) == []


def test_a_digest_that_is_a_day_late_is_not_told_any_more(driver):
    two_weeks(driver)
    assert told(driver, Post(), MONDAY + timedelta(days=1)) == []


def test_a_shop_without_a_template_for_it_gets_plain_text(driver, monkeypatch):
    monkeypatch.setattr(digest, "TEMPLATE", "email/_of_older_shops")
    two_weeks(driver)
    email = Post()
    (text,) = told(driver, email, MONDAY)

    assert text.startswith("friends, 2 Mar to 8 Mar 2026\n")
    assert (email.mails[0].subject, email.mails[0].html) == ("Small Shop: leaderboards, 2 Mar to 8 Mar 2026", "")


@pytest.mark.parametrize("fate", [NotBegun(reason="it is away"), Rejected(reason="busy", permanent=False)])
def test_what_surely_nobody_got_is_tried_again_until_somebody_has_it(driver, fate):
    two_weeks(driver)
    email = Post(fate=fate)
    for seconds in (0, 3, 6, 599):
        told(driver, email, MONDAY + timedelta(seconds=seconds))
    assert len(email.mails) == 1

    told(driver, email, MONDAY + timedelta(minutes=10))
    email.fate = Sent()
    for minutes in (20, 30, 40):
        told(driver, email, MONDAY + timedelta(minutes=minutes))
    assert len(email.mails) == 3
    assert len({mail.message_id for mail in email.mails}) == 1


@pytest.mark.parametrize("fate", [InDoubt(reason="silence"), Rejected(reason="no such box", permanent=True)])
def test_what_somebody_may_have_or_nobody_will_get_is_not_told_twice(driver, fate):
    two_weeks(driver)
    email = Post(fate=fate)
    told(driver, email, MONDAY)
    assert len(told(driver, email, MONDAY + timedelta(hours=1))) == 1


def test_in_the_brands_look_the_digest_says_the_same_and_no_name_is_markup(sqlite_url):
    leaderboards_too = {"flows/shop.yaml": lambda text: text + "leaderboards: {digest: customer-care}\n"}
    with driving(sqlite_url, files=leaderboards_too, live="yes") as driver:
        two_weeks(driver)
        with driver.app.writing() as connection:
            connection.execute(profiles.update().where(profiles.c.first_name == "Cleo").values(first_name="<b>Cleo"))
        email = Post()
        (text,) = told(driver, email, MONDAY)

    (mail,) = email.mails
    assert mail.subject == "Leaderboards, 2 Mar to 8 Mar 2026"
    assert "  1. Ben, 4 (up 1)" in text
    assert "you are on the customer-care team at Ember & Oak Coffee" in text
    page = "/leaderboards/friends?period=2026-W10"
    for words in ("8 from 3 customers", "up 1", "&lt;b&gt;Cleo", "120.50 EUR", "#8f4a25", page):
        assert words in mail.html
    assert "<b>Cleo" not in mail.html


@pytest.mark.parametrize(
    ("options", "leaves"),
    [({"live": "no"}, True), ({"live": "yes"}, False)],
)
def test_nobody_is_written_to_whom_the_guard_or_an_outbox_keeps_it_from(sqlite_url, options, leaves):
    with small(sqlite_url, shop=TO_DESK, **options) as driver:
        two_weeks(driver)
        assert told(driver, Post(leaves_the_machine=leaves), MONDAY) == []


def test_slack_gets_it_without_its_control_characters_and_without_a_team(sqlite_url, monkeypatch):
    posted: list[tuple[str, Any]] = []

    def post(url: str, **options: Any) -> httpx.Response:
        posted.append((url, options))
        return httpx.Response(200)

    monkeypatch.setattr(httpx, "post", post)
    with small(sqlite_url, slack_webhook_url=SLACK) as driver:
        two_weeks(driver)
        with driver.app.writing() as connection:
            connection.execute(
                profiles.update().where(profiles.c.first_name == "Cleo").values(first_name="<!here> & co")
            )
        assert told(driver, Post(), MONDAY) == []

    ((url, options),) = posted
    assert url == SLACK
    assert "&lt;!here&gt; &amp; co" in options["json"]["text"]
    assert options["timeout"] == digest.TELL_S_MAX
    assert options["follow_redirects"] is False


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (httpx.ConnectError("away"), 2),
        (httpx.Response(503), 2),
        (httpx.Response(429), 2),
        (httpx.Response(404), 1),
        (httpx.ReadTimeout("it may have it"), 1),
    ],
)
def test_slack_that_is_away_stops_nothing_and_is_asked_again_where_it_surely_has_nothing(
    sqlite_url, monkeypatch, answer, asked
):
    posted: list[str] = []

    def post(url: str, **options: Any) -> httpx.Response:
        posted.append(url)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(httpx, "post", post)
    with small(sqlite_url, shop=TO_DESK, live="yes", slack_webhook_url=SLACK) as driver:
        two_weeks(driver)
        email = Post()
        told(driver, email, MONDAY)
        assert len(told(driver, email, MONDAY + timedelta(minutes=10))) == 1
    assert len(posted) == asked


def test_an_address_of_slack_in_the_clear_is_refused():
    with pytest.raises(SettingsError, match="must begin with https://"):
        load_settings(slack_webhook_url="http://hooks.slack.example/x")


def test_tending_rolls_counts_up_and_seals_what_is_over(driver):
    two_weeks(driver)
    driver.at(days=30)

    assert driver.rows(sa.select(score_moves)) == []
    assert len(driver.rows(sa.select(score_counts))) > 0
    seals = driver.rows(sa.select(season_seals.c.season, season_seals.c.revision).order_by(season_seals.c.season))
    assert {season for season, _ in seals} == {"2026-02", "2026-W09", "2026-W10"}
    assert {revision for _, revision in seals} == {1}


# The command line


@pytest.fixture
def command(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    with small(sqlite_url) as driver:
        two_weeks(driver)
        scored(driver, ("=1+1", 1, START))
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET)

    def run(*words: str) -> Any:
        return CliRunner().invoke(main, ["leaderboard", *words], env={"COLUMNS": "80", "NO_COLOR": "1"})

    return run


def test_the_command_shows_ranks_names_and_movement(command):
    ran = command("friends", "--period", "2026-W10")

    assert ran.exit_code == 0, ran.output
    lines = [line.split() for line in ran.output.splitlines()]
    assert ["1", "2", "Ben", "4", "+1"] in lines
    assert ["2", "1", "Ada", "2", "-1"] in lines
    assert ["2", "3", "Cleo", "2", "new"] in lines
    assert max(map(len, ran.output.splitlines())) <= 80


def test_the_command_writes_csv_that_runs_no_formula(command):
    ran = command("friends", "--format", "csv")

    rows = list(csv.DictReader(io.StringIO(ran.output)))
    assert [row["rank"] for row in rows] == ["1", "1", "3", "4"]
    assert rows[-1]["name"] == "'=1+1"
    money = list(csv.DictReader(io.StringIO(command("friends", "--metric", "revenue", "--format", "csv").output)))
    assert money[0]["revenue_eur"] == "120.50"


def test_the_command_writes_json(command):
    told = json.loads(command("friends", "--period", "2026-W10", "--format", "json").output)

    assert (told["metric"], told["season"], told["customers"], told["total"]) == ("referrals", "2026-W10", 4, 9)
    assert told["from"] == "2026-03-01T23:00:00+00:00"
    assert [(one["rank"], one["name"], one["movement"]) for one in told["places"]][:2] == [
        (1, "Ben", 1),
        (2, "Ada", -1),
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["freinds"], "Did you mean 'friends'?"),
        (["friends", "--metric", "points"], "it has referrals, revenue."),
        (["friends", "--metric", "clicks"], "Nothing called 'clicks' is counted"),
        (["friends", "--period", "2026-Q1"], "add quarter to"),
    ],
)
def test_the_command_says_what_there_is_instead(command, words, told):
    ran = command(*words)

    assert ran.exit_code == 1
    assert told in " ".join(ran.output.split())
