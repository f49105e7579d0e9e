"""To see before anybody gets it: pictures, previews, tests to the team, problems for editors and GitHub."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import sqlalchemy as sa

from afterglow.problems import Problem, github_annotation
from db import pictures
from db.privacy import forget
from db.tables import contexts, decisions, touchpoints
from tests.driver import Driver, shop_files
from tests.smtp_sink import sink
from tests.workers.test_cli import ORDER, Afterglow, afterglow, driver, with_a_held_mail
from workers.channels import Channel, Outgoing, Sent

__all__ = ["afterglow", "driver"]

FACTS = """\
customer: {first_name: Ada, country: GB}
order:
  id: o7
  number: "1007"
  total: 19.5
  currency: GBP
  items:
    - {title: Night Roast, quantity: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the shipped shop's files, to change."""
    shop = tmp_path / "shop"
    for name, text in shop_files().items():
        (shop / name).parent.mkdir(parents=True, exist_ok=True)
        (shop / name).write_text(text)
    return shop


# -- graph ---------------------------------------------------------------------------------------------------


def test_a_flow_is_drawn_without_a_database_and_none_is_made(afterglow: Afterglow, tmp_path: Path):
    status, svg, _ = afterglow("graph", "first-order")

    assert status == 0
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "brew-check-in" in svg
    assert "people here" not in svg
    assert list(tmp_path.iterdir()) == []


def test_a_flow_that_is_not_there_is_told_with_the_one_that_was_meant(afterglow: Afterglow):
    status, _, error = afterglow("graph", "frst-order")

    assert status == 1
    assert "Did you mean 'first-order'?" in error


def test_people_stand_at_their_steps_in_the_picture(afterglow: Afterglow, driver: Driver):
    driver.post("customer.created", consent="granted")
    driver.post("order.paid", ORDER, stage="purchase")

    flow, journey = afterglow("graph", "first-order")[1], afterglow("graph")[1]

    assert flow.count("1 person here") == 1
    assert "1 person here" in journey


def test_a_picture_goes_into_a_file(afterglow: Afterglow, tmp_path: Path):
    status, told, _ = afterglow("graph", "--out", tmp_path / "journey.svg", "--width", "358")

    assert status == 0
    assert "no database is at hand" in told.replace("\n", " ")
    assert ElementTree.parse(tmp_path / "journey.svg").getroot().attrib["width"] == "358"


def test_a_database_that_does_not_answer_costs_the_numbers_alone(afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", "postgresql://127.0.0.1:1/none")

    status, svg, error = afterglow("graph", "first-order")

    assert status == 0
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert error.startswith("Nobody is counted. The database ")


def test_stages_count_people_and_nobody_who_is_gone(driver: Driver):
    for n in range(3):
        driver.post("order.paid", ORDER, stage="purchase", customer={"id": f"c{n}", "email": f"c{n}@example.com"})
    with driver.app.writing() as connection:
        forget(connection, driver.customer("c2"), driver.clock.now(), driver.secret)
    with driver.app.reading() as connection:
        found = pictures.stages(connection)

    assert (found.people, found.of) == ({"purchase": 2}, None)


# -- preview -------------------------------------------------------------------------------------------------


def test_without_anybody_the_facts_are_an_examples_and_say_so(afterglow: Afterglow):
    status, told, _ = afterglow("preview", "thank-you")

    assert status == 0
    assert "All facts are an example's." in told
    assert "Subject:   Thank you: order example number" in told


@pytest.mark.parametrize("name", sorted(name for name in shop_files() if name.endswith(".mjml") and "/_" not in name))
def test_every_mail_of_the_shop_can_be_written_from_an_example(afterglow: Afterglow, name: str):
    status, told, error = afterglow("preview", name.removeprefix("templates/").removesuffix(".mjml"))

    assert (status, error) == (0, "")
    assert "Subject:" in told


def test_facts_of_a_file_are_used_and_the_rest_is_named(afterglow: Afterglow, tmp_path: Path):
    (tmp_path / "ada.yaml").write_text(FACTS)
    (tmp_path / "ada.json").write_text('{"customer": {"first_name": "Ada"}}')

    whole = afterglow("preview", "email/thank-you", "--customer", "ada.yaml")[1]
    part = afterglow("preview", "email/thank-you", "--customer", "ada.json")[1]

    assert "Thank you: order 1007" in whole
    assert "Hi Ada," in whole
    assert "2 x Night Roast" in whole
    assert "Facts of ada.yaml." in whole
    assert "Facts of ada.json; an example's: order." in part


def test_a_customers_own_facts_are_those_of_the_newest_event_that_starts_the_flow(afterglow: Afterglow, driver: Driver):
    driver.post("customer.created", consent="granted")
    driver.post("order.paid", ORDER, stage="purchase")
    before = driver.rows(sa.select(sa.func.count()).select_from(touchpoints))

    status, told, _ = afterglow("preview", "email/thank-you", "--customer", "sam@example.com")

    assert status == 0
    assert "Thank you: order 1001" in told
    assert "Hi Sam," in told
    assert "an example's" not in told
    assert driver.rows(sa.select(sa.func.count()).select_from(touchpoints)) == before


def test_every_language_of_a_template_is_shown_and_written(afterglow: Afterglow, folder: Path, tmp_path: Path):
    for ending in ("mjml", "txt"):
        text = (folder / f"templates/email/thank-you.{ending}").read_text()
        (folder / f"templates/email/thank-you.fr.{ending}").write_text(text.replace("Thank you", "Merci"))

    status, told, _ = afterglow("preview", "thank-you", "--folder", folder, "--out", tmp_path / "seen")

    assert status == 0
    assert "Subject:   Thank you: order" in told
    assert "Subject:   Merci: order" in told
    names = {f"thank-you{locale}.{ending}" for locale in ("", ".fr") for ending in ("html", "txt")}
    assert {path.name for path in (tmp_path / "seen").iterdir()} == names
    assert "<html" in (tmp_path / "seen" / "thank-you.fr.html").read_text()


def test_names_in_a_preview_are_text(afterglow: Afterglow, tmp_path: Path):
    (tmp_path / "x.json").write_text(json.dumps({"customer": {"first_name": "<script>alert(1)</script>"}}))

    afterglow("preview", "thank-you", "--customer", "x.json", "--out", "seen")

    assert "<script>alert" not in (tmp_path / "seen" / "thank-you.html").read_text()


def test_a_template_or_a_fact_that_is_not_there_is_told_in_a_sentence(afterglow: Afterglow, tmp_path: Path):
    (tmp_path / "x.yaml").write_text("order: {total: 7}\n")

    assert "Did you mean 'email/thank-you'?" in afterglow("preview", "thankyou")[2]
    status, _, error = afterglow("preview", "thank-you", "--customer", "x.yaml")
    assert status == 1
    assert "is missing" in error


# -- send-test -----------------------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Outgoing]:
    """What is handed to the provider, which takes everything."""
    taken: list[Outgoing] = []

    class Provider:
        name, leaves_the_machine, batch = "smtp", True, 50

        def send(self, messages, deadline_s):
            taken.extend(messages)
            return [Sent() for _ in messages]

        def close(self) -> None:
            pass

    def make(name: str, url: str) -> Channel:
        return Provider()

    monkeypatch.setattr("workers.previewing.make_channel", make)
    monkeypatch.setenv("AFTERGLOW_SMTP_URL", "smtp://relay.example?tls=no")
    monkeypatch.setenv("AFTERGLOW_LIVE", "yes")
    return taken


def test_a_test_goes_to_a_team_marked_and_is_recorded_nowhere(
    afterglow: Afterglow, driver: Driver, sent: list[Outgoing]
):
    with_a_held_mail(driver)
    counts = [sa.select(sa.func.count()).select_from(table) for table in (touchpoints, contexts, decisions)]
    before = [driver.rows(count) for count in counts]

    status, told, _ = afterglow(
        "send-test", "email/brew-check-in", "--to", "Care@ember-oak.example", "--customer", "sam@example.com"
    )

    assert status == 0, told
    assert [(mail.to_address, mail.subject[:7]) for mail in sent] == [("care@ember-oak.example", "[Test] ")]
    assert "List-Unsubscribe" not in sent[0].headers
    assert [driver.rows(count) for count in counts] == before


def test_a_test_goes_to_nobody_but_teams(afterglow: Afterglow, sent: list[Outgoing]):
    status, _, error = afterglow("send-test", "thank-you", "--to", "sam@example.com")

    assert status == 1
    assert "care@ember-oak.example" in error
    assert sent == []


def test_the_staging_guard_holds_for_tests(afterglow: Afterglow, sent: list[Outgoing], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AFTERGLOW_LIVE", "no")
    words = ("send-test", "thank-you", "--to", "care@ember-oak.example")

    assert "AFTERGLOW_ALLOW" in afterglow(*words)[2]
    assert sent == []
    monkeypatch.setenv("AFTERGLOW_ALLOW", "@ember-oak.example")
    assert afterglow(*words)[0] == 0
    assert len(sent) == 1


def test_without_a_provider_a_test_says_so(afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AFTERGLOW_LIVE", "yes")

    status, _, error = afterglow("send-test", "thank-you", "--to", "care@ember-oak.example")

    assert status == 1
    assert "AFTERGLOW_SMTP_URL" in error


@pytest.mark.parametrize(("faults", "status"), [([], 0), (["rcpt=550 5.1.1 unknown"], 1)])
def test_a_test_travels_through_the_configured_channel(
    afterglow: Afterglow, monkeypatch: pytest.MonkeyPatch, faults: list[str], status: int
):
    monkeypatch.setenv("AFTERGLOW_LIVE", "yes")
    with sink(faults=faults) as relay:
        monkeypatch.setenv("AFTERGLOW_SMTP_URL", f"smtp://127.0.0.1:{relay.port}?tls=no")

        assert afterglow("send-test", "thank-you", "--to", "care@ember-oak.example")[0] == status


def test_links_of_a_preview_open_nothing(afterglow: Afterglow, driver: Driver):
    from afterglow.letters import UNSUBSCRIBE
    from afterglow.tokens import read_token

    told = afterglow("preview", "tip-water", "--customer", "example")[2]
    assert "No customer is known" in told
    told = afterglow("preview", "tip-water")[1]
    token = told.partition("/u/")[2].split()[0]

    assert token
    assert read_token((driver.secret,), UNSUBSCRIBE, token) is None


# -- check ---------------------------------------------------------------------------------------------------


def test_problems_are_shown_where_they_stand_in_a_pull_request(afterglow: Afterglow, folder: Path):
    file = folder / "flows/first-order.yaml"
    file.write_text(file.read_text().replace("answer.score <= 2", "anser.score <= 2"))

    plain = afterglow("check", folder)
    github = afterglow("check", folder, "--format", "github")
    as_json = afterglow("check", folder, "--format", "json")

    assert plain[0] == github[0] == as_json[0] == 1
    (problem,) = json.loads(as_json[1])["problems"]
    place = f"file={folder}/flows/first-order.yaml,line={problem['line']},col={problem['col']}"
    assert github[1].startswith(f"::error {place},title=afterglow check::")
    assert plain[1].startswith(f"flows/first-order.yaml:{problem['line']}:{problem['col']}: ")
    assert afterglow("check", folder, "--json")[1] == as_json[1]


@pytest.mark.parametrize("form", ["text", "github", "json"])
def test_where_nothing_is_wrong_every_form_says_so_by_its_status(afterglow: Afterglow, folder: Path, form: str):
    assert afterglow("check", folder, "--format", form)[0] == 0


def test_a_file_that_is_not_text_is_a_problem_in_every_form(afterglow: Afterglow, folder: Path):
    (folder / "flows/odd.yaml").write_bytes(b"flow: \xff")

    for form in ("text", "github", "json"):
        status, told, _ = afterglow("check", folder, "--format", form)
        assert status == 1
        assert "This is not UTF-8" in told


def test_what_ends_an_annotation_is_escaped():
    told = github_annotation(Problem("flows/a,b:c.yaml", 1, 2, "50 % of\n::set-env::x"), "a: title", "my shop")

    assert told == ("::error file=my shop/flows/a%2Cb%3Ac.yaml,line=1,col=2,title=a%3A title::50 %25 of%0A::set-env::x")
