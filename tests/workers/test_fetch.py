"""What webhooks leave out is fetched, whatever the provider's API does."""

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from afterglow import ROOT
from afterglow.asking import TRIES_MAX
from afterglow.language.catalog import Document
from db import catalog, control, doctor, fetching, overview, privacy, set_aside
from db.gauges import gauges
from db.tables import claims, customers, events, fetch_cache, inbox, profiles
from tests.crm_api import SOURCE, TOKEN, CrmApi, crm_api
from tests.driver import START, Driver
from tests.small_shop import documents, flow, small
from workers.actors import Seats
from workers.asker import Asker, Failed, Question
from workers.fetch import BATCH, Fetching

RECEIPT = flow("receipt", [{"send": "email/receipt"}])


@pytest.fixture
def crm() -> Iterator[CrmApi]:
    """A CRM with one deal of one contact."""
    with crm_api() as api:
        api.deals["9"] = {"amount": "40.50"}
        api.contacts["17"] = {"email": "sam@example.com", "firstname": "Sam"}
        api.of_deal["9"] = ["17"]
        yield api


@contextmanager
def connected(
    database_url: str, crm: CrmApi, monkeypatch: pytest.MonkeyPatch, *changes: tuple[str, str], **settings: object
) -> Iterator[Driver]:
    """The small shop with the CRM as its source, `changes` made to its file."""
    monkeypatch.setenv("CRM_TOKEN", TOKEN)
    with small(database_url, RECEIPT, fetch_local="yes", **settings) as driver:
        connect(driver, crm, *changes)
        try:
            yield driver
        finally:
            driver.actors.close()


def connect(driver: Driver, crm: CrmApi, *changes: tuple[str, str]) -> None:
    text = SOURCE.replace("BASE", crm.base)
    for right, wrong in changes:
        assert right in text
        text = text.replace(right, wrong)
    with driver.app.writing() as connection:
        made = [*documents(RECEIPT), Document(kind="source", name="crm", body=text)]
        catalog.apply(connection, made, now=driver.clock.now(), by="the tests")


def changed(
    driver: Driver, number: int, deal: object = 9, *, kind: str = "deal.propertyChange", drained: bool = True
) -> None:
    """The CRM says that an object was changed."""
    body = {"eventId": number, "subscriptionType": kind, "objectId": deal}
    driver.receive("crm", str(number), json.dumps(body).encode(), drained=drained)


def inbox_rows(driver: Driver) -> list[tuple[str, str | None, int]]:
    c = inbox.c
    return driver.rows(sa.select(c.state, c.reason, c.fetch_tries).order_by(c.id))  # type: ignore[return-value]


def addresses(driver: Driver) -> list[str]:
    return sorted(row[0] for row in driver.rows(sa.select(profiles.c.email)))


def findings(driver: Driver) -> list[str]:
    with driver.app.reading() as connection:
        found = doctor.examine(connection, driver.clock.now(), driver.app.settings, catalog=driver.app.catalog)
    return [finding.check for finding in found]


def test_a_change_without_an_address_becomes_an_event_of_the_customer_whose_it_is(database_url, crm, monkeypatch):
    with connected(database_url, crm, monkeypatch) as driver:
        changed(driver, 1)

        assert inbox_rows(driver) == [("mapped", None, 0)]
        assert addresses(driver) == ["sam@example.com"]
        assert driver.rows(sa.select(events.c.name, events.c.payload)) == [
            ("order.paid", {"order": {"id": "9", "total": 40.5}})
        ]
        assert driver.touchpoints() == [("receipt", "receipt", "sent")]
        assert crm.paths() == ["deals/9", "contacts/17"]
        assert findings(driver) == []


def test_nothing_is_asked_where_no_rule_reads_what_would_be_fetched(database_url, crm, monkeypatch):
    with connected(database_url, crm, monkeypatch) as driver:
        changed(driver, 1, 17, kind="contact.deletion")

        assert inbox_rows(driver) == [("ignored", "A contact was deleted.", 0)]
        assert crm.asked == []


def test_many_changes_of_one_object_ask_for_it_once_and_again_when_the_answer_is_old(database_url, crm, monkeypatch):
    with connected(database_url, crm, monkeypatch) as driver:
        for number in range(30):
            changed(driver, number, 17, kind="contact.propertyChange", drained=False)
        driver.drain()
        changed(driver, 30, 17, kind="contact.propertyChange")
        assert crm.paths() == ["contacts/17"]
        assert {row[0] for row in inbox_rows(driver)} == {"mapped"}

        driver.at(minutes=6)
        assert driver.rows(sa.select(fetch_cache)) == [], "what is too old to be used is not kept"
        changed(driver, 31, 17, kind="contact.propertyChange")
        assert crm.paths() == ["contacts/17"] * 2


def test_two_customers_of_one_batch_are_asked_for_at_once_over_kept_connections(database_url, crm, monkeypatch):
    for number in range(100, 140):
        crm.contacts[str(number)] = {"email": f"c{number}@example.com"}
    crm.always = "slow=0.1"
    with connected(database_url, crm, monkeypatch, ("deadline: 2 seconds", "deadline: 20 seconds")) as driver:
        for number in range(100, 140):
            changed(driver, number, number, kind="contact.propertyChange", drained=False)
        driver.drain()

        assert len(addresses(driver)) == 40
        assert 1 < crm.open_max <= 10
        assert crm.connections <= 12


@pytest.mark.parametrize("status", [404, 410])
def test_a_deleted_object_is_no_error_and_the_file_says_what_it_means(database_url, crm, monkeypatch, status):
    with connected(database_url, crm, monkeypatch) as driver:
        crm.faults += [str(status)]
        changed(driver, 1)
        assert inbox_rows(driver) == [("ignored", "The deal was deleted meanwhile.", 0)]

        crm.faults += [str(status)]
        changed(driver, 2, 18, kind="contact.propertyChange")
        state, reason, _ = inbox_rows(driver)[1]
        assert state == "parked"
        assert reason is not None
        assert reason.endswith("The source 'crm' has no contact 18 any more.")


def test_a_merged_contact_is_the_customer_that_it_was_merged_into(database_url, crm, monkeypatch):
    crm.contacts["4711"] = crm.contacts.pop("17")
    crm.merged["17"] = "4711"
    with connected(database_url, crm, monkeypatch) as driver:
        changed(driver, 1)
        changed(driver, 2, 4711, kind="contact.propertyChange")

        assert addresses(driver) == ["sam@example.com"]
        assert driver.rows(sa.select(sa.func.count()).select_from(customers)) == [(1,)]


PASSING = {
    "500": "answered 500",
    "503": "answered 503",
    "hang": "gave no whole answer in time",
    "hang-mid-body": "gave no whole answer in time",
    "drip": "gave no whole answer in time",
    "html": "something else than JSON",
    "zipped": "an encoding that nobody asked for",
    "deep": "JSON that cannot be read",
    "garbage": "gave no whole answer (RemoteProtocolError)",
    "close": "gave no whole answer (RemoteProtocolError)",
}


@pytest.mark.parametrize("fault", PASSING)
def test_trouble_that_may_pass_is_asked_about_again_and_then_all_is_well(sqlite_url, crm, monkeypatch, fault):
    with connected(sqlite_url, crm, monkeypatch) as driver:
        crm.faults += [fault]
        began = time.monotonic()
        changed(driver, 1)
        assert time.monotonic() - began < 60, "one deadline covers everything"
        [(state, reason, tries)] = inbox_rows(driver)
        assert (state, tries) == ("fetching", 1)
        assert reason is not None
        assert PASSING[fault] in reason
        assert findings(driver) == []

        driver.at(seconds=59)
        assert len(crm.asked) == 1
        driver.at(seconds=61)
        assert inbox_rows(driver) == [("mapped", None, 0)]
        assert addresses(driver) == ["sam@example.com"]


FOR_GOOD = {
    "401": "The token in CRM_TOKEN is refused",
    "403": "The token in CRM_TOKEN is refused",
    "400": "answered 400",
    "redirect": "answered 302, a redirect",
    "huge": "more than 256 KB",
    "endless": "more than 256 KB",
}


@pytest.mark.parametrize("fault", FOR_GOOD)
def test_trouble_that_stays_parks_with_its_reason_until_a_person_retries(sqlite_url, crm, monkeypatch, fault):
    with connected(sqlite_url, crm, monkeypatch) as driver:
        crm.faults += [fault]
        changed(driver, 1)
        [(state, reason, _)] = inbox_rows(driver)
        assert state == "parked"
        assert reason is not None
        assert FOR_GOOD[fault] in reason
        assert "@" not in reason
        assert len(crm.asked) == 1, "no redirect is followed"

        with driver.app.writing() as connection:
            assert control.retry_inbox(connection, [1]) == 1
        driver.drain()
        assert inbox_rows(driver) == [("mapped", None, 0)]


def test_a_token_that_is_not_set_is_named(sqlite_url, crm, monkeypatch):
    with connected(sqlite_url, crm, monkeypatch) as driver:
        for value, said in (("", "CRM_TOKEN is not set"), ("häßlich", "cannot stand in a header")):
            monkeypatch.setenv("CRM_TOKEN", value)
            changed(driver, len(value))
            assert said in str(inbox_rows(driver)[-1][1])
        assert crm.asked == []


def test_this_machine_is_asked_only_where_a_setting_allows_it(sqlite_url, crm, monkeypatch):
    with connected(sqlite_url, crm, monkeypatch) as driver:
        closed = type(driver)(app=driver.app, clock=driver.clock, actors=driver.actors)
        object.__setattr__(closed.app.settings, "fetch_local", "no")
        changed(closed, 1)
        assert "may not fetch from this machine" in str(inbox_rows(driver)[0][1])
        assert crm.asked == []


def test_a_name_that_leads_into_a_private_network_is_not_asked():
    asker = Asker()
    now = time.monotonic()
    [answer] = asker.ask([Question(url="https://localhost/x", at=now, late=now + 9)], {}, 5)
    asker.close()

    assert isinstance(answer, Failed)
    assert answer.for_good
    assert "private network" in answer.what


def test_what_keeps_failing_is_parked_within_a_day_and_retried_by_hand(sqlite_url, crm, monkeypatch):
    crm.always = "500"
    with connected(sqlite_url, crm, monkeypatch) as driver:
        changed(driver, 1)
        driver.at(hours=25)
        [(state, reason, tries)] = inbox_rows(driver)
        assert (state, tries) == ("parked", TRIES_MAX)
        assert reason == (
            f"The source 'crm' answered 500 when it was asked for its deal, {TRIES_MAX} times; "
            "retry when it answers again."
        )
        assert len(crm.asked) == TRIES_MAX

        crm.always = ""
        with driver.app.writing() as connection:
            control.retry_inbox(connection, [1])
        driver.drain()
        assert inbox_rows(driver) == [("mapped", None, 0)]


def test_what_is_fetched_already_is_not_asked_for_again_after_a_failure(sqlite_url, crm, monkeypatch):
    with connected(sqlite_url, crm, monkeypatch, ("  deadline", "  cache: 0 seconds\n  deadline")) as driver:
        crm.faults += ["slow=0", "500"]
        changed(driver, 1)
        driver.at(minutes=2)

        assert crm.paths() == ["deals/9", "contacts/17", "contacts/17"]
        assert inbox_rows(driver) == [("mapped", None, 0)]


def test_too_many_requests_leave_the_source_alone_for_as_long_as_it_says(sqlite_url, crm, monkeypatch):
    for number in range(100, 130):
        crm.contacts[str(number)] = {"email": f"c{number}@example.com"}
    with connected(sqlite_url, crm, monkeypatch) as driver:
        crm.faults += ["429 retry-after=2"]
        for number in range(100, 130):
            changed(driver, number, number, kind="contact.propertyChange", drained=False)
        began = time.monotonic()
        driver.drain()
        before = len(crm.asked)
        assert before <= 10, "what has not left yet stays"
        driver.at(seconds=1)
        if time.monotonic() - began < 2:  # else the machine stood still, and the source may be asked again
            assert len(crm.asked) == before
        while len(addresses(driver)) < 30 and time.monotonic() - began < 60:
            driver.clock.jump(driver.clock.now() + timedelta(seconds=20))
            driver.drain()
            time.sleep(0.05)

        quiet = [asked.at for asked in crm.asked[before:]]
        assert len(addresses(driver)) == 30
        assert quiet[0] - crm.asked[0].at > 1.5, "the clock of the shop may jump; the provider's does not"


def test_an_address_in_a_url_is_in_no_log_no_reason_and_no_cache(sqlite_url, crm, monkeypatch, capfd, caplog):
    caplog.set_level(logging.DEBUG, logger="afterglow")
    with connected(sqlite_url, crm, monkeypatch) as driver:
        crm.faults += ["500"]
        changed(driver, 1, "sam@example.com", kind="contact.propertyChange")
        driver.at(minutes=2)

        assert crm.paths() == ["contacts/sam%40example.com"] * 2
        told = f"{capfd.readouterr()}{inbox_rows(driver)}{driver.rows(sa.select(fetch_cache.c.digest))}"
        assert not re.search("sam(@|%40)", told)


def test_a_worker_that_dies_between_claim_and_answer_leaves_nothing_stuck(database_url, crm, monkeypatch):
    with connected(database_url, crm, monkeypatch) as driver:
        changed(driver, 1, drained=False)
        driver.actors.ingest()
        with driver.app.writing() as connection:  # what a worker commits before it asks; then it is killed
            now = driver.clock.now()
            assert len(fetching.claim(connection, now, BATCH)) == 1
            url = f"{crm.base}/crm/v3/objects/deals/9?properties=amount&associations=contacts"
            fetching.share(connection, [fetching.digest_of(driver.secret, "crm", url)], now)
        driver.drain()
        assert crm.asked == []
        assert [row[0] for row in inbox_rows(driver)] == ["fetching"]

        driver.at(minutes=5)
        assert inbox_rows(driver) == [("mapped", None, 0)]
        assert findings(driver) == []
        assert driver.rows(sa.select(claims)) == []


def test_a_worker_that_stood_still_writes_nothing_over_what_another_decided(database_url, crm, monkeypatch):
    with connected(database_url, crm, monkeypatch) as driver:
        changed(driver, 1, drained=False)
        driver.actors.ingest()
        honest = fetching.settle

        def late(connection, ends, claimed):
            monkeypatch.setattr(fetching, "settle", honest)
            connection.execute(inbox.update().values(fetch_tries=7, fetch_at=START + timedelta(hours=1)))
            return honest(connection, ends, claimed)

        monkeypatch.setattr(fetching, "settle", late)
        driver.actors.fetch()
        assert inbox_rows(driver) == [("fetching", None, 7)]
        driver.at(hours=2)
        assert inbox_rows(driver) == [("mapped", None, 0)]


def test_one_worker_asks_and_the_others_have_its_answer(database_url, crm, monkeypatch):
    crm.always = "slow=0.3"
    with connected(database_url, crm, monkeypatch, threads=8) as driver:
        for number in range(2 * BATCH):
            changed(driver, number, 17, kind="contact.propertyChange", drained=False)
        driver.actors.ingest()
        asker = Asker(allow_local=True)
        threads = [threading.Thread(target=Fetching(driver.app, asker).run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asker.close()
        driver.at(minutes=1)

        assert crm.paths() == ["contacts/17"]
        assert {row[0] for row in inbox_rows(driver)} == {"mapped"}


def test_documents_die_with_the_body_and_with_the_person(database_url, crm, monkeypatch):
    with connected(database_url, crm, monkeypatch) as driver:
        changed(driver, 1)
        [(kept,)] = driver.rows(sa.select(inbox.c.fetched))
        assert kept["contact"]["properties"]["email"] == "sam@example.com"
        [(customer,)] = driver.rows(sa.select(customers.c.id))
        with driver.app.reading() as connection:
            told = privacy.export(connection, driver.app.catalog, driver.app.settings, customer)
        assert told["raw_webhooks_kept"][0]["fetched"]["contact"]["properties"]["firstname"] == "Sam"

        with driver.app.writing() as connection:
            privacy.forget(connection, customer, driver.clock.now(), driver.secret)
        assert driver.rows(sa.select(inbox.c.fetched)) == [(None,)]
        assert driver.rows(sa.select(fetch_cache)) == []

        changed(driver, 2, 17, kind="contact.propertyChange")
        driver.at(days=31)
        assert driver.rows(sa.select(inbox.c.fetched).distinct()) == [(None,)]


def test_a_person_is_forgotten_while_their_document_is_on_its_way(database_url, crm, monkeypatch):
    with connected(database_url, crm, monkeypatch) as driver:
        driver.post("order.paid", {"order": {"id": "o1"}}, customer={"id": "c1", "email": "sam@example.com"})
        changed(driver, 1, "sam@example.com", kind="contact.propertyChange", drained=False)
        crm.contacts["sam@example.com"] = {"email": "sam@example.com"}
        driver.actors.ingest()
        honest = fetching.keep

        def forgotten_first(connection, answers, ours, until):
            with suppress_again():
                privacy.forget(connection, driver.customer(), driver.clock.now(), driver.secret)
            return honest(connection, answers, ours, until)

        @contextmanager
        def suppress_again():
            monkeypatch.setattr(fetching, "keep", honest)
            yield

        monkeypatch.setattr(fetching, "keep", forgotten_first)
        driver.actors.fetch()
        driver.drain()

        assert inbox_rows(driver)[-1][:2] == ("ignored", "the customer was forgotten")
        assert driver.rows(sa.select(inbox.c.fetched).distinct()) == [(None,)]
        assert driver.rows(sa.select(fetch_cache)) == []
        assert addresses(driver) == []


def test_another_file_in_force_decides_anew(sqlite_url, crm, monkeypatch):
    crm.always = "500"
    with connected(sqlite_url, crm, monkeypatch) as driver:
        changed(driver, 1)
        driver.clock.jump(START + timedelta(seconds=1))
        connect(
            driver,
            crm,
            ("event: ping.one", "ignore: unused\n  - event: ping.one"),
            (
                '- when: body.subscriptionType == "contact.deletion"\n    ignore: A contact was deleted.',
                "- ignore: Nothing of this is wanted any more.",
            ),
        )
        driver.at(minutes=2)

        assert inbox_rows(driver) == [("ignored", "Nothing of this is wanted any more.", 0)]


def test_the_doctor_knows_elements_that_nobody_fetches(sqlite_url, crm, monkeypatch):
    crm.always = "500"
    with connected(sqlite_url, crm, monkeypatch) as driver:
        changed(driver, 1)
        driver.clock.jump(START + timedelta(hours=1))
        assert findings(driver) == ["fetches overdue"]
        driver.at(hours=3)
        assert findings(driver) == ["documents that do not come"]


@contextmanager
def counted(driver: Driver) -> Iterator[list[str]]:
    """The statements that are executed meanwhile."""
    statements: list[str] = []

    def listen(*given: object) -> None:
        statements.append(str(given[2]))

    sa.event.listen(driver.app.database.engine, "before_cursor_execute", listen)
    try:
        yield statements
    finally:
        sa.event.remove(driver.app.database.engine, "before_cursor_execute", listen)


def test_a_batch_costs_the_same_number_of_statements_whatever_its_size(postgres_url, crm, monkeypatch):
    for number in range(1, 60):
        crm.contacts[str(number)] = {"email": f"c{number}@example.com"}
    counts = []
    with connected(postgres_url, crm, monkeypatch) as driver:
        for first, last in ((1, 4), (4, 14)):
            for number in range(first, last):
                changed(driver, number, number, kind="contact.propertyChange", drained=False)
            driver.actors.ingest()
            with counted(driver) as statements:
                driver.actors.fetch()
            counts.append(len(statements))
            driver.drain()

    assert counts[0] == counts[1] <= 25, statements


def test_fetching_takes_a_seat_of_sending_so_that_both_never_have_more_than_half_of_the_threads():
    sending = Seats(4)
    for _ in range(4):
        assert sending.take()
    assert sending.lend()
    assert not sending.take()
    assert sending.leave(), "somebody asked, but the seat is lent: stand up"
    assert not sending.take()
    sending.take_back()
    assert sending.take()

    only = Seats(1)
    assert only.take()
    assert not only.lend(), "the only seat is taken: fetching waits for the next hint"
    only.leave()
    assert only.lend()
    assert not only.take()


def test_what_lacks_a_document_is_listed_shown_and_counted(sqlite_url, crm, monkeypatch, capsys):
    crm.always = "500"
    with connected(sqlite_url, crm, monkeypatch) as driver:
        changed(driver, 1)
        with driver.app.reading() as connection:
            now = driver.clock.now()
            assert str(overview.needs(connection, now, ZoneInfo("UTC")).fetching) == "1"
            assert overview.needs(connection, now, ZoneInfo("UTC")).nothing, "it needs nobody yet"
            [row] = overview.webhooks(connection, "fetching")
            assert "answered 500" in row.reason
            assert gauges(connection, now).counts["inbox", "fetching"] == 1
            assert overview.needs(connection, now + timedelta(hours=1), ZoneInfo("UTC")).overdue["documents"]
            assert set_aside.count_elements(connection, None) == {"fetching": 1}


def test_sources_without_fetch_cost_ingest_no_further_statement(sqlite_url, crm, monkeypatch):
    with connected(sqlite_url, crm, monkeypatch) as driver:
        driver.post("order.paid", {"order": {"id": "o1"}}, drained=False)
        with counted(driver) as statements:
            driver.actors.ingest()

    assert not [statement for statement in statements if "fetch_at" in statement or "fetch_cache" in statement]


#: A worker process of nothing but fetching: several threads, until nothing is due any more.
WORKER = """
import sys, threading, time
from db.app import open_app
from db.settings import load_settings
from workers.actors import make_actors

actors = make_actors(open_app(load_settings()))
print("ready", flush=True)
sys.stdin.readline()
def work():
    while True:
        actors.fetch()
        time.sleep(0.01)
for _ in range(int(sys.argv[1])):
    threading.Thread(target=work, daemon=True).start()
time.sleep(120)
"""


@contextmanager
def worker_processes(url: str, count: int, threads: int = 2) -> Iterator[list[subprocess.Popen[str]]]:
    """So many worker processes on a database, started at one instant; killed at the end."""
    environment = {
        **os.environ,
        "AFTERGLOW_DATABASE_URL": url,
        "AFTERGLOW_SECRET": "a-secret-of-the-tests,-32-letters",
        "AFTERGLOW_FETCH_LOCAL": "yes",
        "CRM_TOKEN": TOKEN,
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(threads)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def until(done: object, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_many_workers_together_ask_no_more_often_than_the_provider_allows(postgres_url, crm, monkeypatch):
    for number in range(100, 160):
        crm.contacts[str(number)] = {"email": f"c{number}@example.com"}
    slowly = (
        ("at_most: 1000, within: 20 seconds", "at_most: 20, within: 2 seconds"),
        ("deadline: 2 seconds", "deadline: 4 seconds"),
    )
    with connected(postgres_url, crm, monkeypatch, *slowly) as driver:
        for number in range(100, 160):
            changed(driver, number, number, kind="contact.propertyChange", drained=False)
        driver.actors.ingest()
        with worker_processes(postgres_url, 3):
            until(lambda: len(crm.asked) >= 60)
        driver.clock.jump(datetime.now(UTC))
        driver.at(moment=datetime.now(UTC) + timedelta(minutes=10))
        assert {row[0] for row in inbox_rows(driver)} == {"mapped"}

    times = [asked.at for asked in crm.asked[:60]]
    fullest = max(sum(first <= at < first + 2.0 for at in times) for first in times)
    assert fullest <= 22, "twenty in two seconds, and what lies between a turn and the server's clock"
    assert times[-1] - times[0] > 5.0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_workers_that_are_killed_lose_nothing_and_leave_nothing_stuck(postgres_url, crm, monkeypatch):
    for number in range(100, 240):
        crm.contacts[str(number)] = {"email": f"c{number}@example.com"}
    crm.always = "slow=0.3"
    with connected(postgres_url, crm, monkeypatch) as driver:
        for number in range(100, 240):
            changed(driver, number, number, kind="contact.propertyChange", drained=False)
        driver.actors.ingest()
        for asked in (3, 23):  # each claims fifty, and dies with ten of them under way
            with worker_processes(postgres_url, 1, threads=1):
                until(lambda asked=asked: len(crm.asked) >= asked)
        crm.always = ""
        driver.clock.jump(datetime.now(UTC))
        driver.at(moment=datetime.now(UTC) + timedelta(minutes=10))

        assert {row[0] for row in inbox_rows(driver)} == {"mapped"}
        assert addresses(driver) == [f"c{number}@example.com" for number in range(100, 240)]
        assert findings(driver) == []
