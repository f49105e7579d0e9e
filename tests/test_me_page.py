"""What docs/me.md shows is what runs."""

import json
import re
import shlex
from collections.abc import Iterator

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.language.check import check_files
from tests.driver import SECRET, START, Driver, driving, shop_files
from tests.web.conftest import faces_of
from tests.web.shop_of_me import FRIENDS
from tests.web.test_links import ask
from workers.cli import main

PAGE = (ROOT / "docs" / "me.md").read_text()
SHARE = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
SAM = {"id": "c1", "email": "sam@example.com", "first_name": "Sam"}


def programme() -> str:
    """The programme of the tests with the texts that the page shows."""
    kept = [part for part in re.split(r"^(?=\w)", FRIENDS, flags=re.MULTILINE) if not part.startswith("share:")]
    return "".join(kept) + SHARE


@pytest.fixture
def driver(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    monkeypatch.setenv("AFTERGLOW_PUBLIC_URL", "https://crm.example")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("workers.logs.set_up_logs", lambda: None)
    with driving(sqlite_url, files={"flows/programmes/friends.yaml": programme()}) as driver:
        order = {"order": {"id": "o1", "total": 120, "currency": "EUR"}}
        driver.post("order.paid", order, customer=SAM)
        yield driver


def test_the_texts_that_are_shown_have_no_problem():
    assert check_files({**shop_files(), "flows/programmes/friends.yaml": programme()}) == []
    assert set(YAML(typ="safe").load(SHARE)) == {"share"}


def test_every_command_answers_as_shown(driver):
    for session in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for step in session.removeprefix("$ ").split("\n$ "):
            command, _, answer = step.partition("\n")
            said = CliRunner().invoke(main, shlex.split(command)[1:])
            for line in answer.splitlines():
                assert line.split() in [each.split() for each in said.output.splitlines()], said.output


def test_the_json_is_as_shown(driver):
    assert driver.clock.now() == START
    assert CliRunner().invoke(main, ["referrals", "code", "sam@example.com", "sam-10"]).exit_code == 0
    link = CliRunner().invoke(main, ["me", "link", "sam@example.com"]).output.strip()
    with faces_of(driver.app) as faces:
        told = ask(faces, "GET", link.removeprefix("https://crm.example") + ".json").json()
        page = ask(faces, "GET", link.removeprefix("https://crm.example"))
    [block] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert_holds(told, json.loads(block))
    assert "SAM-10" in page.text


def assert_holds(told: object, shown: object) -> None:
    """What is shown is a part of what is told; `...` stands for anything."""
    if isinstance(shown, dict):
        assert isinstance(told, dict)
        for name, value in shown.items():
            assert_holds(told[name], value)
    elif isinstance(shown, list):
        assert isinstance(told, list)
        for one, other in zip(told, shown, strict=False):
            assert_holds(one, other)
        assert len(told) >= len(shown)
    else:
        assert shown in ("...", told)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["me", "link", "nobody@example.com"], "No customer is known as"),
        (["me", "revoke", "nobody@example.com"], "No customer is known as"),
        (["referrals", "code", "sam@example.com", "x"], "'x' can be no code"),
        (["referrals", "code", "sam@example.com", "welcome-5"], "WELCOME-5 means something else already"),
        (["referrals", "code", "sam@example.com", "ember-oak-coffee"], "means something else already"),
        (["referrals", "code", "sam@example.com", "sam-10", "--programme", "freinds"], "Did you mean 'friends'?"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(driver, words, sentence):
    told = CliRunner().invoke(main, words)
    assert told.exit_code == 1
    assert sentence in " ".join(told.output.split())


def test_json_for_scripts(driver):
    revoked = json.loads(CliRunner().invoke(main, ["me", "revoke", "c1", "--json"]).stdout)
    assert revoked == {"customer": 1, "generation": 1}
    linked = json.loads(CliRunner().invoke(main, ["me", "link", "c1", "--json"]).stdout)
    assert linked["link"].startswith("https://crm.example/me/")
    code = json.loads(CliRunner().invoke(main, ["referrals", "code", "c1", "SAM-10", "--json"]).stdout)
    assert (code["code"], code["programme"]) == ("SAM-10", "friends")
