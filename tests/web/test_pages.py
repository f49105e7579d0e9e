"""The pages for the team, over HTTP: what they show, what they refuse, and that no name is ever more than text."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

import db.directory
import db.outbox
from db import requests
from db.privacy import forget
from db.tables import enrollments, halts, inbox, touchpoints
from tests.driver import START, Driver, driving
from tests.web.conftest import client
from tests.web.shop_of_pages import HOSTILE, lived_in, order, troubled
from web.app import Faces

PAGES = (
    "/", "/outbox", "/outbox?kind=marketing&state=sent", "/outbox?subject=coffee", "/outbox/1", "/customers",
    "/customers?q=sam", "/customers/1", "/customers/1?flow=first-order", "/journey", "/flows", "/flows/first-order",
    "/runs", "/runs?state=parked", "/events", "/webhooks", "/webhooks?state=mapped", "/webhooks/1", "/sources",
    "/halt", "/halt?flow=win-back", "/referrals", "/referrals?show=decided", "/referrals?show=rejected",
    "/tasks", "/tasks?show=done", "/tasks?team=customer-care", "/resume?flow=win-back",
)  # fmt: skip
ACTIONS = ("/halt", "/resume", "/webhooks/retry", "/webhooks/replay", "/runs/retry", "/referrals/decide", "/tasks/done")
OURS = {"origin": "http://localhost:8001"}


class Site:
    """A driver's installation and its private face."""

    def __init__(self, driver: Driver, faces: Faces) -> None:
        self.driver = driver
        self._face = faces.private

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            async with client(self._face) as http:
                return await http.request(method, path, **options)

        return asyncio.run(once())

    def get(self, path: str, status: int = 200) -> str:
        answer = self.ask("GET", path, headers={"accept": "text/html"})
        assert answer.status_code == status, (path, answer.text)
        return answer.text

    def press(self, path: str, **fields: object) -> str:
        """Press a button; the page it leads to."""
        answer = self.ask("POST", path, data={name: str(value) for name, value in fields.items()}, headers=OURS)
        assert answer.status_code == 303, answer.text
        return self.get(answer.headers["location"])


@pytest.fixture
def site(database_url: str) -> Iterator[Site]:
    with driving(database_url) as driver:
        faces = Faces(driver.app)
        try:
            yield Site(driver, faces)
        finally:
            faces.close()


class Elements(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(html: str) -> str:
    """What a person reads, in one line."""
    return " ".join(Elements(html).text.split())


def links_of(html: str) -> list[str]:
    return [
        attributes["href"] or "" for tag, attributes in Elements(html).elements if tag == "a" and "href" in attributes
    ]


def assert_harmless(html: str, where: str) -> None:
    """Nothing on the page acts but our own script, and nothing is inline."""
    for tag, attributes in Elements(html).elements:
        assert not any(name.startswith("on") or name in ("style", "srcdoc") for name in attributes), (where, tag)
        if tag == "img":  # the only pictures there are come out of the release in force
            assert re.fullmatch("/segments/[a-z0-9-]+/picture", attributes.get("src") or ""), (where, attributes)
            continue
        assert tag not in ("object", "embed", "base", "textarea", "style"), (where, tag)
        assert tag != "script" or attributes.get("src") == "/static/times.js", (where, attributes)
        for name in ("href", "src", "action", "formaction"):
            assert (attributes.get(name) or "/").startswith(("/", "#", "?")), (where, attributes)


def test_every_page_forbids_what_is_inline_and_is_never_kept_or_framed(site: Site) -> None:
    lived_in(site.driver)
    troubled(site.driver)
    for path in (*PAGES, "/customers/999", "/nothing-here"):
        answer = site.ask("GET", path, headers={"accept": "text/html"})
        assert answer.status_code in (200, 404), (path, answer.text)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy, path
        assert "frame-ancestors 'none'" in policy, path
        assert answer.headers["cache-control"] == "no-store", path
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert_harmless(answer.text, path)


def test_a_hostile_name_is_text_on_every_page(site: Site) -> None:
    for n, name in enumerate(HOSTILE):
        order(site.driver, n + 1, first_name=name, last_name=HOSTILE[-n], attributes={})
    site.driver.receive("api", HOSTILE[1], b"<script>alert(9)</script>")
    site.driver.at(days=1)
    paths = [*PAGES[:-1], *(f"/customers/{n + 1}" for n in range(len(HOSTILE)))]
    paths += [f"/outbox/{n + 1}" for n in range(len(HOSTILE))]
    for word in HOSTILE:
        paths += [f"{path}?{httpx.QueryParams({name: word})}" for path, name in (
            ("/outbox", "customer"), ("/outbox", "subject"), ("/outbox", "flow"), ("/outbox", "step"),
            ("/customers", "q"), ("/events", "name"), ("/runs", "flow"), ("/webhooks", "source"),
        )]  # fmt: skip
    for path in paths:
        answer = site.ask("GET", path, headers={"accept": "text/html"})
        assert answer.status_code in (200, 404), (path, answer.text)
        assert_harmless(answer.text, path)
    listed = text_of(site.get("/customers"))
    assert all(" ".join(name.split()) in listed for name in HOSTILE)


def test_a_mail_is_shown_without_scripts_forms_or_our_origin(site: Site) -> None:
    order(site.driver, 1, first_name=HOSTILE[0])
    answer = site.ask("GET", "/outbox/1/html")
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert policy.startswith("sandbox;")
    assert "allow-" not in policy
    assert "default-src 'none'" in policy
    assert "form-action 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "<script>alert" not in answer.text
    frame = next(attributes for tag, attributes in Elements(site.get("/outbox/1")).elements if tag == "iframe")
    assert frame["sandbox"] in (None, "")
    assert frame["src"] == "/outbox/1/html"
    missing = site.ask("GET", "/outbox/999/html")
    assert missing.status_code == 404
    assert missing.headers["content-security-policy"] == policy


def test_a_mail_is_shown_as_it_was_written_with_its_headers(site: Site) -> None:
    lived_in(site.driver)
    html = site.get("/outbox?flow=first-order&step=brew-check-in&state=sent")
    mail = next(link for link in links_of(html) if re.fullmatch(r"/outbox/\d+", link))
    shown = text_of(site.get(mail))
    assert "How were the first cups?" in shown
    assert "List-Unsubscribe" in shown
    assert "One-Click" in shown
    assert "Sam1 <person1@example.com>" in shown
    assert "Hi Sam1" in shown  # the text part


def test_a_mail_keeps_the_words_of_the_template_it_was_written_with(site: Site) -> None:
    order(site.driver, 1)
    site.driver.apply({"templates/email/thank-you.mjml": lambda text: text.replace("Thank you", "Merci")})
    assert "Thank you: order #1" in text_of(site.get("/outbox/1"))
    assert "Thank you: order #1" in text_of(site.get("/outbox"))


def test_a_mail_of_a_forgotten_customer_says_that_it_is_gone(site: Site) -> None:
    order(site.driver, 1)
    with site.driver.app.writing() as connection:
        forget(connection, 1, site.driver.clock.now(), site.driver.secret)
    assert "The customer was forgotten" in text_of(site.get("/outbox/1"))
    assert "was forgotten" in text_of(site.get("/customers/1"))
    for page in ("/outbox", "/outbox/1", "/customers", "/customers/1", "/events"):
        assert "person1" not in site.get(page)
        assert "Sam1" not in site.get(page)
    assert site.ask("GET", "/outbox/1/html").status_code == 404


def test_a_queued_mail_says_when_it_is_looked_at(site: Site) -> None:
    order(site.driver, 1)
    t = touchpoints.c
    with site.driver.app.writing() as connection:
        connection.execute(touchpoints.update().where(t.id == 1).values(state="held", template_id=None))
    assert "not written yet" in text_of(site.get("/outbox/1"))
    assert "not written yet" in text_of(site.get("/outbox?state=held"))


def outbox_ids(html: str) -> list[int]:
    return [int(found[1]) for link in links_of(html) if (found := re.fullmatch(r"/outbox/(\d+)", link))]


FILTERS: tuple[tuple[str, sa.ColumnElement[bool]], ...] = (
    ("flow=first-order", touchpoints.c.flow == "first-order"),
    ("flow=first-order&step=brew-check-in", touchpoints.c.step == "brew-check-in"),
    ("kind=service", touchpoints.c.kind == "service"),
    ("kind=team", touchpoints.c.kind == "team"),
    ("state=skipped", touchpoints.c.state == "skipped"),
    ("customer=person2@example.com", touchpoints.c.customer_id == 2),
    ("customer=PERSON2@Example.com", touchpoints.c.customer_id == 2),
    ("customer=2&kind=marketing", (touchpoints.c.customer_id == 2) & (touchpoints.c.kind == "marketing")),
    ("customer=c2", touchpoints.c.customer_id == 2),
    ("subject=ORDER+%233", (touchpoints.c.customer_id == 3) & (touchpoints.c.kind == "service")),
    ("flow=nothing", sa.false()),
    ("customer=nobody@example.com", sa.false()),
    ("customer=%C2%B2", sa.false()),
    ("customer=99999999999999999999", sa.false()),
)


def test_the_outbox_is_filtered_by_its_address(site: Site) -> None:
    lived_in(site.driver)
    for query, where in FILTERS:
        wanted = site.driver.rows(sa.select(touchpoints.c.id).where(where).order_by(touchpoints.c.id.desc()))
        assert outbox_ids(site.get(f"/outbox?{query}")) == [row[0] for row in wanted], query


def test_the_outbox_is_paged_without_repeating_or_leaving_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db.outbox, "PAGE", 3)
    lived_in(site.driver)
    seen, path = [], "/outbox"
    while path:
        html = site.get(path)
        seen += outbox_ids(html)
        path = next((a["href"] or "" for tag, a in Elements(html).elements if a.get("rel") == "next"), "")
    total = site.driver.rows(sa.select(sa.func.count()).select_from(touchpoints))[0][0]
    assert seen == list(range(total, 0, -1))


@pytest.mark.parametrize("query", ["flow=first-order&kind=service", "subject=thank"])
def test_a_rare_mail_is_found_by_looking_further_back(site: Site, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    monkeypatch.setattr(db.outbox, "LOOK_BACK", 2)
    monkeypatch.setattr(db.outbox, "SUBJECTS_MAX", 2)
    lived_in(site.driver)
    wanted = {row[0] for row in site.driver.rows(sa.select(touchpoints.c.id).where(touchpoints.c.kind == "service"))}
    seen: list[int] = []
    path = f"/outbox?{query}"
    looks = 0
    while path:
        html = site.get(path)
        seen += outbox_ids(html)
        looks += 1
        path = next((a["href"] or "" for tag, a in Elements(html).elements if a.get("rel") == "next"), "")
    assert sorted(seen) == sorted(wanted)
    assert looks > 1


def test_pages_ask_the_database_equally_often_whatever_they_show(site: Site) -> None:
    def statements(path: str) -> int:
        count = 0

        def note(*_: object) -> None:
            nonlocal count
            count += 1

        engine = site.driver.app.database.reader
        sa.event.listen(engine, "before_cursor_execute", note)
        try:
            site.get(path)
        finally:
            sa.event.remove(engine, "before_cursor_execute", note)
        return count

    paths = ("/", "/outbox", "/outbox/1", "/customers", "/customers/1", "/flows", "/flows/first-order", "/runs")
    paths += ("/sources", "/webhooks?state=mapped")
    order(site.driver, 1)
    for path in paths:
        site.get(path)  # files in force are read once
    few = {path: statements(path) for path in paths}
    for n in range(2, 9):
        order(site.driver, n)
    assert {path: statements(path) for path in paths} == few
    assert max(few.values()) <= 30


def test_customers_are_found_by_name_address_number_and_id(site: Site) -> None:
    lived_in(site.driver)
    for sought, found in (
        ("sam1", [1]), ("Sam", [2, 1]), ("person2@example.com", [2]), ("2", [2]), ("c1", [1]), ("%", []),
        ("nobody@example.com", []), ("script", [3]), ("²", []), ("9" * 30, []),
    ):  # fmt: skip
        html = site.get(f"/customers?{httpx.QueryParams({'q': sought})}")
        ids = [int(match[1]) for link in links_of(html) if (match := re.fullmatch(r"/customers/(\d+)", link))]
        assert ids == found, sought


def test_a_customer_is_found_further_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db.directory, "LOOK_BACK", 2)
    for n in range(1, 8):
        order(site.driver, n)
    html = site.get("/customers?q=Sam1")
    while "Look further back" in html:
        html = site.get(next(a["href"] or "" for tag, a in Elements(html).elements if a.get("rel") == "next"))
        if "/customers/1" in links_of(html):
            return
    raise AssertionError("Sam1 was never found")


def test_a_customer_page_tells_the_story_with_refusals_and_links_to_mails(site: Site) -> None:
    lived_in(site.driver)
    html = site.get("/customers/2")
    shown = text_of(html)
    assert "order.paid came from api: order o2." in shown
    assert "1 flow did not start" in shown
    assert "was not sent: the customer has not agreed to coffee-care" in shown
    assert "Help with brewing, has not agreed" in shown
    assert "Goes on at" in shown
    assert outbox_ids(html)
    first_order = text_of(site.get("/customers/2?flow=first-order"))
    assert "refill" not in first_order.partition("Show")[2].partition("Where things stand")[0]
    site.get("/customers/2?flow=no-such-flow", status=404)


def test_a_long_story_is_paged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.pages.customers.LINES", 5)
    lived_in(site.driver)
    html, days = site.get("/customers/1"), []
    while True:
        days.append(text_of(html))
        earlier = [link for link in links_of(html) if "until=" in link and "earlier line" in html]
        if not earlier:
            break
        html = site.get(earlier[0])
    assert "customer.created came from api" in days[-1]
    assert len(days) > 2


def test_every_figure_of_a_flow_leads_to_as_many_people_or_mails(site: Site) -> None:
    lived_in(site.driver)
    for flow in ("first-order", "refill", "win-back"):
        html = site.get(f"/flows/{flow}")
        figures = re.findall(r'<a(?: class="alarm")? href="(/(?:runs|outbox)\?[^"]+)">(\d+)(?: [a-z ]+)?</a>', html)
        assert figures, flow
        for link, figure in figures:
            behind = site.get(link.replace("&amp;", "&"))
            rows = sum(1 for tag, a in Elements(behind).elements if tag == "td" and "main" in (a.get("class") or ""))
            assert rows == int(figure), link


def test_a_flow_shows_its_branches_and_its_file(site: Site) -> None:
    shown = text_of(site.get("/flows/first-order"))
    assert "Wait for order.delivered of the same order.id, for up to 10 days" in shown
    assert "it did not come Send email/brew-tips" in shown
    assert "Look whether answer.score <= 2" in shown
    assert "once_per: order.id" in shown


def test_a_flow_shows_its_goal_and_who_is_held_out(site: Site) -> None:
    goal = "goal: {event: survey.answered, within: 9 days}\nholdout: 5%\nreenter: always\ntopic:"
    site.driver.apply({"flows/first-order.yaml": lambda text: text.replace("topic:", goal, 1)})
    order(site.driver, 1)
    shown = text_of(site.get("/flows/first-order"))

    assert "Goalsurvey.answered within 9 days: 0 converted" in shown
    assert "Held out5%: 0 held out, 1 not" in shown
    assert "once per order.id, and again at any time, once it is over" in shown


def test_nothing_needs_anybody_while_all_is_well(site: Site) -> None:
    assert "No event has come yet" in text_of(site.get("/"))
    order(site.driver, 1)
    shown = text_of(site.get("/"))
    assert "Nothing needs you." in shown
    assert "2 events 1 mail sent" in shown


def test_what_needs_a_person_is_told_with_its_reason_and_a_way_on(site: Site) -> None:
    lived_in(site.driver)
    troubled(site.driver)
    html = site.get("/")
    shown = text_of(html)
    assert "Nothing needs you" not in shown
    for told in ("Marketing of win-back is halted", "by ana", "Work is late", "1 run should have gone on",
                 "Parked webhooks 1", "In doubt 1", "silence", "Failed mails 1", "'order.total' is missing",
                 "Parked runs 1", "it failed"):  # fmt: skip
        assert told in shown, told
    for link in set(links_of(html)):
        site.get(link)


def test_a_parked_webhook_is_read_again_at_the_press_of_a_button(site: Site) -> None:
    site.driver.receive("api", "k", b"{")
    assert "will be tried again" in text_of(site.press("/webhooks/retry", id=1))
    assert site.driver.rows(sa.select(inbox.c.state)) == [("received",)]
    site.driver.drain()
    assert "will be tried again" in text_of(site.press("/webhooks/retry", all="parked"))
    assert "nothing changed" in text_of(site.press("/webhooks/retry", id="9" * 40))


def test_a_webhook_that_lacks_a_document_is_told_as_usual_then_as_late_and_is_read_again_at_a_button(
    site: Site,
) -> None:
    site.driver.receive("api", "k", b"{", drained=False)
    soon = site.driver.clock.now() + timedelta(minutes=1)
    with site.driver.app.writing() as connection:
        connection.execute(inbox.update().values(state="fetching", fetch_at=soon))

    assert "1 webhook waits for a document of its source." in text_of(site.get("/"))
    assert "its document is asked for in its turn" in text_of(site.get("/webhooks?state=fetching"))
    assert "Read it again" in site.get("/webhooks/1")

    site.driver.clock.jump(soon + timedelta(minutes=11))
    assert "1 webhook lacks a document that should have been fetched" in text_of(site.get("/"))
    site.press("/webhooks/retry", id=1)
    assert site.driver.rows(sa.select(inbox.c.state)) == [("received",)]


def test_a_parked_run_goes_on_at_the_press_of_a_button(site: Site) -> None:
    lived_in(site.driver)
    troubled(site.driver)
    parked = site.driver.rows(sa.select(enrollments.c.id).where(enrollments.c.state == "parked"))[0][0]
    site.press("/runs/retry", id=parked)
    assert site.driver.rows(sa.select(enrollments.c.state).where(enrollments.c.id == parked)) == [("waiting",)]
    assert "nothing changed" in text_of(site.press("/runs/retry", id=parked))


def test_halting_asks_first_then_holds_marketing_until_it_is_resumed(site: Site) -> None:
    order(site.driver, 1)
    assert "Halt marketing of all flows?" in text_of(site.get("/halt"))
    assert site.driver.rows(sa.select(halts)) == []
    assert "All marketing is halted" in text_of(site.press("/halt", flow=""))
    site.driver.post("order.delivered", {"order": {"id": "o1"}}, customer={"id": "c1"})
    site.driver.at(days=5)
    assert ("first-order", "brew-check-in", "held") in site.driver.touchpoints()
    assert "1 message held" in text_of(site.get("/"))
    assert "1 held mail will go back" in text_of(site.get("/resume"))
    site.press("/resume", flow="")
    site.driver.drain()
    assert ("first-order", "brew-check-in", "sent") in site.driver.touchpoints()


def test_one_flow_is_halted_by_itself(site: Site) -> None:
    assert "Marketing of win-back is halted" in text_of(site.press("/halt", flow="win-back"))
    assert "marketing halted" in text_of(site.get("/flows"))
    assert "nothing changed" in text_of(site.press("/halt", flow="no-such-flow"))
    site.get("/halt?flow=no-such-flow", status=404)
    site.get("/resume", status=404)
    site.press("/resume", flow="win-back")
    assert site.driver.rows(sa.select(halts)) == []


def test_a_button_pressed_by_another_site_changes_nothing(site: Site) -> None:
    site.driver.receive("api", "k", b"{")
    strangers: tuple[dict[str, str], ...] = (
        {},
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    )
    for path in ACTIONS:
        for headers in strangers:
            answer = site.ask("POST", path, data={"flow": "", "id": "1", "all": "parked"}, headers=headers)
            assert answer.status_code == 403, (path, headers)
    assert site.driver.rows(sa.select(halts)) == []
    assert site.driver.rows(sa.select(inbox.c.state)) == [("parked",)]


NOWHERE = (
    "/outbox/0",
    "/outbox/x",
    "/outbox/99999999999999999999",
    "/outbox/²",
    "/customers/0",
    "/customers/-1",
    "/customers/9223372036854775808",
    "/flows/nope",
    "/webhooks/77",
    "/webhooks?state=praked",
    "/runs?state=sending",
    "/nope",
)


def test_an_address_that_names_nothing_says_so_and_leads_on(site: Site) -> None:
    for path in NOWHERE:
        assert "/outbox" in links_of(site.get(path, status=404)), path


def test_empty_fields_of_a_form_leave_the_address_clean(site: Site) -> None:
    answer = site.ask("GET", "/outbox?flow=&kind=service&state=&subject=")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/outbox?kind=service"


def test_filters_that_mean_nothing_break_nothing(site: Site) -> None:
    order(site.driver, 1)
    odd = (
        "/outbox?before=x", "/outbox?before=0", f"/outbox?before={2**63 - 1}", f"/outbox?before={2**63}",
        "/customers?before=-3", "/runs?page=99999999", "/outbox?subject=%00", "/customers?q=%00%01",
        "/customers?q=%25%5C_", "/outbox?flow=%ff", "/events?name=%F0%9F%98%80", "/customers/1?until=0",
    )  # fmt: skip
    for path in odd:
        answer = site.ask("GET", path)
        assert answer.status_code in (200, 303), (path, answer.text)


def test_before_any_files_are_in_force_pages_say_what_to_run(sqlite_url: str) -> None:
    with driving(sqlite_url) as driver:
        with driver.app.writing() as connection:
            connection.exec_driver_sql("DELETE FROM releases")
        faces = Faces(driver.app)
        try:
            assert "afterglow apply" in text_of(Site(driver, faces).get("/outbox", status=503))
        finally:
            faces.close()


def test_a_request_for_data_is_a_task_with_its_deadline_until_it_is_answered(site: Site) -> None:
    site.driver.post("customer.created", customer={"id": "c1", "email": "sam@example.com"})
    body = {"shop_domain": "ember-oak.example", "customer": {"id": 1, "email": "sam@example.com"}}
    headers = {"x-shopify-topic": "customers/data_request"}
    site.driver.receive("shopify", "ask-1", json.dumps(body).encode(), headers=headers)

    told = text_of(site.get("/"))
    assert "Customers ask for their data 1" in told
    assert "Customer 1 through shopify" in told
    assert "To be answered by" in told
    assert "afterglow export NUMBER --answered" in told

    site.driver.clock.jump(START + timedelta(days=31))
    assert "Late: to be answered since" in text_of(site.get("/"))
    with site.driver.app.writing() as connection:
        requests.settle_for(connection, 1, site.driver.clock.now(), "the customer has it")
    assert "ask for their data" not in text_of(site.get("/"))


def test_a_customers_page_says_where_the_clock_the_language_and_the_consent_come_from(site: Site) -> None:
    body = {
        "event": "customer.created",
        "key": "k1",
        "customer": {"id": "c1", "email": "sam@example.com", "country": "US", "region": "CO"},
        "consent": {"state": "granted", "topic": "news", "evidence": "confirmed_opt_in"},
    }
    site.driver.receive("api", "k1", json.dumps(body).encode())

    told = text_of(site.get("/customers/1"))
    assert "Time zone America/Denver, from the address (US, CO)." in told
    assert "Language en, from the address (US)." in told
    assert 'News from the roastery (consent, from api: "confirmed_opt_in")' in told


def test_the_pictures_lead_to_the_people_and_have_their_own_style(site: Site):
    lived_in(site.driver)
    journey, flow = site.get("/journey"), site.get("/flows/first-order")

    assert journey.count("<svg") == flow.count("<svg") == 3, "the house, and each picture in two widths"
    assert 'href="/flows/first-order"' in journey
    assert 'href="/runs?flow=first-order&amp;step=arrival&amp;state=waiting"' in flow
    assert "style>" not in journey + flow, "which the policy of our pages forbids"
    style = site.ask("GET", "/pictures.css")
    assert style.headers["content-type"].startswith("text/css")
    assert ".picture" in style.text
