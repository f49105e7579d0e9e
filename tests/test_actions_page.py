"""What docs/actions.md shows is what runs."""

import json
import re
from typing import Any

import pytest

from afterglow import ROOT
from afterglow.language.actions import VERBS, SurveyModel, TagsModel
from afterglow.language.catalog import OWN_EVENTS, compile_files, read_documents
from afterglow.language.check import check_files
from afterglow.language.flow.compiler import read_flow
from afterglow.language.flow.models import NotifyModel
from afterglow.language.shop import WebhookModel
from afterglow.surveys import SCALES
from afterglow.testing import ShopUnderTest, judge, live
from tests.driver import driving, shop_files
from tests.workers.test_cli import Afterglow, afterglow

__all__ = ["afterglow"]  # fixture

PAGE = (ROOT / "docs" / "actions.md").read_text()
FLOW, SHOP, ONLY_IF, OTHERS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
(MAIL,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
NAME = "flows/third-order.yaml"
FIVE_OFF = "---\nkind: service\nsubject: Your code\npreheader: Here it is\n---\n"


def files(flow: str = FLOW) -> dict[str, str]:
    """The shipped shop with what the page shows."""
    shop, (attributes, webhooks) = shop_files()["flows/shop.yaml"], SHOP.split("webhooks:\n")
    return {
        **shop_files(),
        "flows/shop.yaml": shop.replace("attributes:\n", attributes) + "\nwebhooks:\n" + webhooks,
        NAME: flow,
        "templates/email/recommend.mjml": MAIL,
        "templates/email/recommend.txt": 'Would you recommend us? {{ rate("answer", "nps") }}\n',
        "templates/email/five-off.mjml": FIVE_OFF
        + "<mj-section><mj-column><mj-text>{{ gift.about }}: {{ gift.code }}</mj-text></mj-column></mj-section>\n",
        "templates/email/five-off.txt": "{{ gift.about }}: {{ gift.code }}\n",
    }


def test_the_flow_of_the_page_has_no_problem_and_its_tests_hold():
    catalog = read_documents({(one.kind, one.name): one.body for one in compile_files(files())})
    flow = read_flow(FLOW, NAME)

    assert check_files(files()) == []
    for test in flow.tests:
        verdict = judge(test, live(ShopUnderTest(catalog=catalog), flow, test))
        assert verdict.is_kept, [row for row in verdict.rows if row.is_wrong]


def test_the_other_parts_of_the_page_fit_into_it():
    started = FLOW.replace("  - stop_flow: win-back\n", re.sub("^", "  ", OTHERS, flags=re.MULTILINE).rstrip() + "\n")
    asked = FLOW.replace("flow: third-order", "flow: winter-tasting").replace("steps:", ONLY_IF + "steps:")

    assert check_files({**files(started), "flows/winter-tasting.yaml": asked.partition("tests:")[0]}) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_list_of_tasks_is_what_the_command_prints(
    database_url: str, monkeypatch: pytest.MonkeyPatch, afterglow: Afterglow
):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    changed = {name: text for name, text in files().items() if shop_files().get(name) != text}
    with driving(database_url, files=changed) as driver:
        monkeypatch.setattr("workers.commands.opening.DatabaseClock.now", lambda *_: driver.clock.now())
        for n in range(3):
            driver.post("order.paid", {"order": {"id": f"o{n}", "total": 40}}, consent="granted")
        driver.at(days=15, hours=1)
        driver.post("survey.answered", {"score": 3, "survey": "answer"})
        (shown,) = re.findall(r"\$ afterglow (tasks .*)\n((?:.+\n|\n(?=  ))*)", PAGE)

        printed = afterglow(*shown[0].split())[1]

    assert [line.rstrip() for line in printed.splitlines()] == shown[1].replace("```\n", "").splitlines()


@pytest.mark.parametrize("model", [*VERBS.values(), NotifyModel, SurveyModel, TagsModel, WebhookModel])
def test_every_key_of_the_steps_is_told(model: Any):
    for name, field in model.model_fields.items():
        assert re.search(rf"`{field.alias or name}[`:]|{field.alias or name}:", PAGE, re.MULTILINE), name


def test_every_scale_and_every_event_that_is_named_is_there():
    assert set(re.findall(r"^\| `(\w+)`(?: \(unless given\))? \| \d", PAGE, re.MULTILINE)) == SCALES.keys()
    for event in re.findall(r"`((?:points|reward|customer|stage|flow|webhook|survey|task)\.[a-z]+)`", PAGE):
        assert event in OWN_EVENTS or event == "customer.tags", event
    json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
