"""What docs/seeing.md shows is what runs."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from afterglow import ROOT
from tests.driver import SECRET, driving
from tests.smtp_sink import sink
from workers.cli import main

PAGE = (ROOT / "docs" / "seeing.md").read_text()
SESSIONS = re.findall(r"```console\n\$ (.*?)\n(.*?)```", PAGE, re.DOTALL)


def test_every_session_says_what_is_shown(sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    monkeypatch.setenv("AFTERGLOW_LIVE", "yes")
    (tmp_path / "ada.yaml").write_text(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])
    with driving(sqlite_url), sink() as relay:
        monkeypatch.setenv("AFTERGLOW_SMTP_URL", f"smtp://127.0.0.1:{relay.port}?tls=no")
        for command, answer in SESSIONS:
            result = CliRunner().invoke(main, shlex.split(command)[1:])

            assert result.exit_code == 0, (command, result.output)
            assert result.output.startswith(answer), command
    assert len(SESSIONS) == 5
    assert {path.name for path in tmp_path.glob("*.svg")} == {"first-order.svg", "journey.svg"}


def test_the_json_that_is_shown_has_the_keys_that_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/first-order.yaml").write_text("flow: [\n")
    monkeypatch.chdir(tmp_path)

    told = json.loads(CliRunner().invoke(main, ["check", "--format", "json"]).stdout)

    assert told.keys() == json.loads(shown).keys()
    assert told["problems"][0].keys() == json.loads(shown)["problems"][0].keys()
    assert told["folder"] == "."
