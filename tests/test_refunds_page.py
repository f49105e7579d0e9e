"""What docs/refunds.md shows is what runs."""

import re
import shlex

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from afterglow import ROOT
from afterglow.language.check import check_files
from db.tables import enrollments, events
from tests.driver import SECRET, driving, shop_files
from workers.cli import main

PAGE = (ROOT / "docs" / "refunds.md").read_text()
(FLOW,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
(COMMANDS,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
FILES = {"flows/returned.yaml": FLOW}


def test_the_flow_that_is_shown_has_no_problem():
    assert check_files({**shop_files(), **FILES}) == []


def test_the_commands_that_are_shown_unwind_an_order(sqlite_url, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AFTERGLOW_SECRET", SECRET.replace(" ", "-"))
    with driving(sqlite_url, files={**shop_files(), **FILES}) as driver:
        driver.post("customer.created", consent="granted")
        driver.post("order.paid", {"order": {"id": "1001", "number": "1001", "total": 40, "currency": "EUR"}})
        ended = sa.select(sa.func.count()).where(enrollments.c.reason == "unwound")
        found = []
        for line in COMMANDS.splitlines():
            told = CliRunner().invoke(main, shlex.split(line)[1:])
            assert told.exit_code == 0, told.output
            found.append(driver.rows(ended)[0][0])

        assert found[0] == 0 < found[1]
        assert driver.rows(sa.select(events.c.name).where(events.c.name == "order.unwound")) == [("order.unwound",)]
