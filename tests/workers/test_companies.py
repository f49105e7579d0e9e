"""Flows for companies: three people of one café, of whom one answers for all."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow.language.flow.compiler import read_flow
from afterglow.past import FETCHED
from afterglow.testing import ShopUnderTest, live
from db import merging, people, privacy, why
from db.accounts import learn
from db.tables import (
    account_looks,
    account_runs,
    accounts,
    decisions,
    enrollments,
    events,
    inbox,
    runs,
    segment_looks,
    segment_members,
    touchpoints,
)
from tests.driver import START, Driver
from tests.small_shop import SHOP, flow, small
from workers.ingest import Ingest
from workers.segments import judge_due

ROLES = ["decision-maker", "barista", "billing"]
OFFER = flow(
    "offer",
    [
        {"send": "email/note", "id": "for-all"},
        {"send": "email/news", "id": "prices", "to": {"role": "decision-maker"}},
        {"notify": "desk", "about": "Call {{ account.name }}"},
        {"id": "answer", "wait_for": "ping.two", "by": "account", "for_up_to": "10 days"},
        {"send": "email/note", "id": "after"},
    ],
    starts={"event": "ping.one", "when": "account.seats >= 20"},
    run_per="account",
    to={"role": ["decision-maker", "barista"]},
    stops={"event": "order.paid", "by": "account"},
)
OWN = flow(
    "own", [{"id": "pause", "wait": "20 days"}], starts={"event": "order.paid"}, stops={"event": "order.refunded"}
)
CAFE = {"id": "a1", "name": "Café Miro", "attributes": {"seats": 30, "unheard": "of"}}
WHO = {"ada": "decision-maker", "ben": "barista", "eve": "billing"}


@pytest.fixture
def cafe(database_url: str) -> Any:
    shop = {"accounts": {"roles": ROLES, "attributes": {"seats": "number"}}}
    with small(database_url, OFFER, OWN, shop=shop) as driver:
        for name, role in WHO.items():
            arrive(driver, name, "customer.created", role=role)
        yield driver


def arrive(driver: Driver, name: str, event: str, payload: Any = None, role: str | None = None, **further: Any) -> None:
    who = {"id": name, "email": f"{name}@cafe.example", "attributes": {"role": role} if role else {}}
    driver.post(event, payload or {}, customer=who, account=CAFE, consent="granted", **further)


def states(driver: Driver) -> dict[str, tuple[str, str | None]]:
    e = enrollments.c
    rows = driver.rows(sa.select(e.customer_id, e.state, e.reason).where(e.flow_id.is_not(None)).order_by(e.id))
    names = {driver.customer(name): name for name in WHO}
    return {names[int(customer)]: (state, reason) for customer, state, reason in rows}


def sent(driver: Driver) -> list[tuple[str, str, str]]:
    t = touchpoints.c
    names = {driver.customer(name): name for name in WHO}
    rows = driver.rows(sa.select(t.customer_id, t.step, t.kind).where(t.state == "sent").order_by(t.id))
    return sorted((names[int(customer)], step, kind) for customer, step, kind in rows)


def test_whom_of_a_cafe_it_is_for_get_each_mail_once_and_the_team_hears_once(cafe: Driver) -> None:
    arrive(cafe, "eve", "ping.one")  # billing started it, and has no run of their own
    arrive(cafe, "ada", "ping.one")
    arrive(cafe, "ben", "ping.one")

    assert sent(cafe) == [
        ("ada", "for-all", "marketing"),
        ("ada", "notify-desk", "team"),
        ("ada", "prices", "marketing"),
        ("ben", "for-all", "marketing"),
    ]
    assert states(cafe).keys() == {"ada", "ben"}
    (known,) = cafe.rows(sa.select(accounts.c.name, accounts.c.attributes))
    assert known == ("Café Miro", {"seats": 30})


def test_what_is_of_another_kind_than_declared_is_left_out_with_a_remark(cafe: Driver) -> None:
    arrive(cafe, "ada", "ping.one")
    cafe.post("ping.two", customer={"id": "ada"}, account={"id": "a1", "attributes": {"seats": "many"}})

    assert cafe.rows(sa.select(accounts.c.attributes)) == [({"seats": 30},)]
    reasons = cafe.rows(sa.select(inbox.c.reason).where(inbox.c.source == "api").order_by(inbox.c.id.desc()).limit(1))
    assert reasons == [("attribute account.seats is not a number and was left out",)]


def test_an_event_that_carries_fractions_starts_the_flow_for_all(cafe: Driver) -> None:
    arrive(cafe, "ada", "ping.one", {"n": 40.25})

    assert states(cafe).keys() == {"ada", "ben"}
    told = sa.select(events.c.payload).where(events.c.name == "colleague.ping.one")
    assert [row[0]["n"] for row in cafe.rows(told)] == [40.25]


def test_when_one_answers_the_wait_of_all_ends_and_their_own_is_not_taken_for_it(cafe: Driver) -> None:
    arrive(cafe, "ada", "ping.one")
    cafe.at(days=1)
    arrive(cafe, "eve", "ping.two", {"n": 4})

    assert ("ada", "after", "marketing") in sent(cafe)
    assert ("ben", "after", "marketing") in sent(cafe)
    noted = cafe.rows(sa.select(decisions.c.detail).where(decisions.c.verb == "arrived"))
    assert [row[0]["name"] for row in noted] == ["ping.two"] * 2
    assert {row[0]["colleague"] for row in noted} == {str(cafe.customer("eve"))}


def test_when_one_orders_the_run_stops_for_all_and_flows_of_people_hear_nothing_of_colleagues(cafe: Driver) -> None:
    arrive(cafe, "ada", "ping.one")
    cafe.at(days=1)
    arrive(cafe, "eve", "order.paid", {"order": {"id": "o1", "total": 90}})
    arrive(cafe, "ada", "order.refunded", {"order": {"id": "o1"}, "refund": {"amount": 90}})

    by_flow = cafe.rows(sa.select(runs.c.flow, runs.c.customer_id).order_by(runs.c.flow, runs.c.customer_id))
    ada, ben, eve = (cafe.customer(name) for name in WHO)
    assert by_flow == [("offer", ada), ("offer", ben), ("own", eve)]
    assert states(cafe) == {
        "ada": ("stopped", "order.paid"),
        "ben": ("stopped", "order.paid"),
        "eve": ("waiting", None),  # the refund was a colleague's
    }
    with cafe.app.reading() as connection:
        found = people.load(connection, [ben, eve])
    assert (found[ben].orders, found[ben].spent, found[eve].orders) == (0, 0, 1)


def test_a_cafe_for_which_the_condition_is_not_true_starts_nothing(cafe: Driver) -> None:
    kiosk = {"id": "a2", "name": "Kiosk", "attributes": {"seats": 2}}
    cafe.post("ping.one", customer={"id": "zoe", "email": "zoe@kiosk.example"}, account=kiosk)
    cafe.post("ping.one", customer={"id": "solo", "email": "solo@example.com"})

    assert states(cafe) == {}


def test_why_says_to_each_what_their_role_and_their_colleagues_have_to_do_with_it(cafe: Driver) -> None:
    arrive(cafe, "eve", "ping.one")
    cafe.at(days=1)
    arrive(cafe, "eve", "order.paid", {"order": {"id": "o1"}})

    ada, ben, eve = (sentences(cafe, name) for name in WHO)
    assert "Started by colleague.ping.one (event 5, once per account: account 1)." in ada
    assert any(
        line.startswith("Stopped because of order.paid") and line.endswith("of the same account.") for line in ben
    )
    assert "Sends nothing to this customer, whose role is barista: this is for decision-maker." in ben
    assert "Leaves the note to the team desk to the run that leads for the account." in ben
    assert "Has no run here: it is for barista or decision-maker of the account, and this customer is billing." in eve


def sentences(driver: Driver, name: str) -> list[str]:
    with driver.app.reading() as connection:
        lines = why.story(connection, driver.app.catalog, driver.secret, driver.customer(name), "offer")
    return [line.sentence for line in lines]


def test_forgetting_one_takes_what_their_colleagues_were_told(cafe: Driver) -> None:
    arrive(cafe, "ada", "ping.one", {"n": 7})
    told = sa.select(events.c.payload).where(events.c.name == "colleague.ping.one")
    assert [row[0]["n"] for row in cafe.rows(told)] == [7]

    with cafe.app.writing() as connection:
        privacy.forget(connection, cafe.customer("ada"), START, cafe.secret)

    assert cafe.rows(told) == [({},)]
    came = sa.select(inbox.c.body).where(inbox.c.key.startswith("colleague/"))
    assert cafe.rows(came) == [(b"",)]


def test_forgetting_one_takes_what_was_told_of_them_under_the_number_that_they_had_before(cafe: Driver) -> None:
    arrive(cafe, "eve", "ping.one", {"n": 7})
    merge(cafe, "ben", "eve")
    with cafe.app.writing() as connection:
        privacy.forget(connection, cafe.customer("ben"), START, cafe.secret)

    assert cafe.rows(sa.select(events.c.payload).where(events.c.name == "colleague.ping.one")) == [({},), ({},)]


@pytest.mark.parametrize("role", ["decision-maker", "barista", "billing"])
def test_a_test_of_the_flow_comes_to_what_the_workers_make_of_it(cafe: Driver, role: str) -> None:
    name = next(one for one, held in WHO.items() if held == role)
    starter = "ada" if role == "barista" else "eve"  # who starts it and has no run leaves the lead to the first who has
    arrive(cafe, starter, "ping.one")
    cafe.at(days=1)
    arrive(cafe, "ben", "ping.two", {"n": 1})
    cafe.at(days=30)
    d = decisions.c
    rows = cafe.rows(sa.select(d.verb, d.step).where(d.customer_id == cafe.customer(name)).order_by(d.id))

    test = {
        "name": "as lived",
        "customer": {"role": role},
        "account": {"name": "Café Miro", "seats": 30},
        "timeline": [
            {"at": "2026-03-02 09:00", "event": "ping.one"} | ({} if role == WHO[starter] else {"by": WHO[starter]}),
            {"after": "1 day", "event": "ping.two", "n": 1} | ({} if role == "barista" else {"by": "barista"}),
        ],
        "never": [{"skipped": "email/news"}],
    }
    offer = read_flow(json.dumps(json.loads(OFFER) | {"tests": [test]}), "flows/offer.yaml")
    with cafe.app.reading() as connection:
        catalog = cafe.app.catalog.current(connection).catalog
    lived = live(ShopUnderTest(catalog=catalog), offer, offer.tests[0])

    assert [(note.verb, note.step) for note in lived.notes] == [tuple(row) for row in rows]


def test_a_shop_without_companies_asks_nothing_of_them(sqlite_url: str) -> None:
    with small(sqlite_url, OWN) as driver:
        asked: list[str] = []
        sa.event.listen(
            driver.app.database.engine, "before_cursor_execute", lambda *given: asked.append(str(given[2]).lower())
        )
        driver.post("order.paid", {"order": {"id": "o1"}})
        driver.at(days=30)

        assert not [one for one in asked if "account" in one and "account_id" not in one]
        assert "accounts" not in SHOP


# -- Segments of companies -------------------------------------------------------------------------------------

SEGMENTS = json.dumps(
    {
        "segments": [
            {"segment": "large", "about": "Of large cafés", "when": "account.seats >= 30"},
            {"segment": "deciders", "about": "Who decides", "when": 'customer.role == "decision-maker"'},
        ]
    }
)
GREETING = flow("greeting", [{"send": "email/receipt"}], starts={"segment": "large"}, once_per="customer.id")


@pytest.fixture
def judged(database_url: str) -> Any:
    """A café of thirty seats with three people, who are in the segment of large ones, and a guest who buys for none."""
    shop = {"accounts": {"roles": ROLES, "attributes": {"seats": "number"}}}
    with small(database_url, GREETING, segments=SEGMENTS, shop=shop) as driver:
        for name in WHO:
            arrive(driver, name, "customer.created")
        driver.post("customer.created", customer={"id": "guest", "email": "guest@example.com"})
        yield driver


def inside(driver: Driver, segment: str = "large") -> set[str]:
    s = segment_members.c
    numbers = {row[0] for row in driver.rows(sa.select(s.customer_id).where(s.segment == segment))}
    return {name for name in WHO if driver.customer(name) in numbers}


def told(driver: Driver) -> list[tuple[str, str]]:
    """Which of their entries and exits people were told of, by name and day."""
    e = events.c
    names = {driver.customer(name): name for name in WHO}
    rows = driver.rows(sa.select(e.name, e.customer_id, e.occurred_at).where(e.name.startswith("segment.")))
    return sorted((f"{event} on day {(at - START).days}", names[number]) for event, number, at in rows)


def seats(driver: Driver, number: int | str, **further: Any) -> None:
    """Eve's news of the café."""
    news = {"id": "a1", "attributes": {"seats": number}}
    driver.post("customer.updated", customer={"id": "eve"}, account=news, **further)


def test_what_changes_of_a_company_moves_all_its_people_who_are_found_in_batches(
    judged: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.segments.BATCH", 1)
    assert inside(judged) == set(WHO)

    judged.at(days=1)
    seats(judged, 12)
    assert inside(judged) == set()
    judged.at(days=2)
    seats(judged, 31)

    assert inside(judged) == set(WHO)
    moves = ("segment.entered on day 0", "segment.entered on day 2", "segment.left on day 1")
    assert told(judged) == [(move, name) for move in moves for name in WHO]
    assert judged.rows(sa.select(account_looks)) == judged.rows(sa.select(segment_looks)) == []


@pytest.mark.parametrize(
    ("name", "attributes", "is_news"),
    [
        ("Café Miro", {"seats": 30}, False),
        ("", {}, False),  # as where an event says no more than the id
        ("Café Joan", {"seats": 30}, True),
        ("", {"seats": 31}, True),
        ("", {"city": "Leeds"}, True),
    ],
)
def test_only_what_was_not_known_of_a_company_is_news(
    judged: Driver, name: str, attributes: dict[str, Any], is_news: bool
) -> None:
    with judged.app.writing() as connection:
        learned = learn(connection, {("api", "a1"): (name, attributes)})
    assert learned.news == ({1} if is_news else set())


def test_what_the_past_says_of_a_company_is_told_to_nobody(judged: Driver) -> None:
    key, body = "late", {"event": "customer.updated", "key": "late", "customer": {"id": "eve"}, "payload": {}}
    body |= {"account": {"id": "a1", "attributes": {"seats": 3}}, "occurred_at": START.isoformat()}
    judged.at(days=3)
    judged.receive("api", key, json.dumps(body).encode(), headers={FETCHED: "3600"})

    assert inside(judged) == set()
    assert told(judged) == [("segment.entered on day 0", name) for name in WHO]


def test_who_gets_another_role_or_company_is_judged_anew(judged: Driver) -> None:
    kiosk = {"id": "a2", "name": "Kiosk", "attributes": {"seats": 2}}
    judged.post("customer.updated", customer={"id": "ada", "attributes": {"role": "decision-maker"}})
    judged.post("customer.updated", customer={"id": "ben"}, account=kiosk)

    assert (inside(judged), inside(judged, "deciders")) == ({"ada", "eve"}, {"ada"})


def test_a_company_that_nobody_buys_for_any_more_leaves_no_look_behind(judged: Driver) -> None:
    seats(judged, 3, drained=False)
    judged.actors.ingest()
    with judged.app.writing() as connection:
        connection.execute(account_looks.insert().values(account_id=1, due_at=START, tells=True, upto=0))
        for name in WHO:
            privacy.forget(connection, judged.customer(name), START, judged.secret)
    assert judged.rows(sa.select(account_looks)) == judged.rows(sa.select(accounts)) == []


# -- Many hands, and two who are one ---------------------------------------------------------------------------


def test_of_many_workers_who_start_a_flow_for_one_company_at_once_one_does_so_for_each_key(database_url: str) -> None:
    shop = {"accounts": {"roles": ROLES, "attributes": {"seats": "number"}}}
    asked = flow("asked", [{"send": "email/note"}], starts={"event": "ping.one"}, run_per="account", once_per="n")
    people, keys, hands = [f"p{n}" for n in range(6)], (1, 2, 3), 4
    with ExitStack() as opened:
        driver = opened.enter_context(small(database_url, asked, shop=shop))
        others = [] if driver.app.database.is_sqlite else range(hands - 1)  # SQLite has one process, of many threads
        apps = [driver.app, *(opened.enter_context(small(database_url, asked, shop=shop)).app for _ in others)]
        for name in people:
            arrive(driver, name, "customer.created")
        for key in keys:
            for name in people:
                arrive(driver, name, "ping.one", {"n": key}, drained=False)
        rows = [row for (row,) in driver.rows(sa.select(inbox.c.id).where(inbox.c.state == "received"))]
        together = Barrier(hands)

        def ingest(hand: int) -> None:
            app = apps[hand % len(apps)]
            together.wait()
            for row in rows[hand::hands]:
                with app.writing() as connection:
                    Ingest(app).do(connection, [row], driver.clock.now())

        with ThreadPoolExecutor(hands) as pool:
            list(pool.map(ingest, range(hands)))
        driver.drain()

        a, r = account_runs.c, runs.c
        assert sorted(driver.rows(sa.select(a.key))) == [(f"account 1: {key}",) for key in keys]
        begun = driver.rows(sa.select(r.customer_id, r.key))
        assert sorted(begun) == [(driver.customer(name), f"account 1: {key}") for name in people for key in keys]
        assert len(driver.touchpoints()) == len(people) * len(keys)
        by_one = sa.select(sa.func.count()).where(events.c.name == "colleague.ping.one")
        assert driver.rows(by_one) == [((len(people) - 1) * len(keys),)], "one alone tells the others"


def merge(driver: Driver, one: str, other: str) -> None:
    with driver.app.writing() as connection:
        now = driver.clock.now()
        wanted = merging.want_by_hand(connection, driver.customer(one), driver.customer(other), "a test", now)
    with driver.app.writing() as connection:
        assert merging.merge(connection, wanted, merging.rules(driver.app.catalog.current(connection)), now)
    driver.drain()


def test_two_of_a_company_who_turn_out_to_be_one_go_on_in_one_run_with_the_newer_role(cafe: Driver) -> None:
    arrive(cafe, "eve", "ping.one")
    cafe.at(days=1)
    arrive(cafe, "ben", "customer.updated", role="billing")
    ada, ben = cafe.customer("ada"), cafe.customer("ben")

    merge(cafe, "ada", "ben")
    arrive(cafe, "eve", "ping.two", {"n": 4})

    e, r = enrollments.c, runs.c
    ended = cafe.rows(sa.select(r.customer_id, r.n, e.state, e.reason).join(enrollments, e.id == r.enrollment_id))
    assert sorted(ended) == [(ada, 1, "finished", None), (ada, 2, "stopped", "merged")]
    t = touchpoints.c
    after = cafe.rows(sa.select(t.customer_id).where(t.step == "after", t.state == "sent"))
    assert after == [(ada,)], "of the two, who are one, one is mailed"
    with cafe.app.reading() as connection:
        found = people.load(connection, [ada, ben])
    assert (found[ada].account_id, found[ada].attributes["role"]) == (1, "billing")
    assert found[ben].account_id is None


def test_who_belongs_to_no_company_is_of_the_one_of_whom_they_turn_out_to_be(judged: Driver) -> None:
    judged.post("customer.created", customer={"id": "early", "email": "early@example.com"})
    arrive(judged, "late", "customer.created")
    with judged.app.reading() as connection:
        early = judged.customer("early")
        assert people.load(connection, [early])[early].account_id is None

    merge(judged, "early", "late")

    with judged.app.reading() as connection:
        assert people.load(connection, [early])[early].account_id == 1
    s = segment_members.c
    assert (early,) in judged.rows(sa.select(s.customer_id).where(s.segment == "large"))


def test_a_webhook_of_a_flow_for_companies_is_asked_for_once_and_the_others_leave_it_to_that_run(
    database_url: str,
) -> None:
    shop = {
        "accounts": {"roles": ROLES},
        "webhooks": {"crm": {"url": "https://crm.example/hooks", "secret": "CRM_SECRET"}},
    }
    telling = flow("telling", [{"webhook": "crm"}], starts={"event": "ping.one"}, run_per="account")
    with small(database_url, telling, shop=shop) as driver:
        for name, role in WHO.items():
            arrive(driver, name, "customer.created", role=role)
        arrive(driver, "ben", "ping.one")

        asked = driver.rows(sa.select(events.c.customer_id).where(events.c.name == "webhook.asked"))
        assert asked == [(driver.customer("ben"),)]
        d = decisions.c
        left = driver.rows(
            sa.select(d.customer_id, d.detail).where(d.verb == "left to another").order_by(d.customer_id)
        )
        assert left == [(driver.customer(name), {"webhook": "crm"}) for name in ("ada", "eve")]
        with driver.app.reading() as connection:
            lines = why.story(connection, driver.app.catalog, driver.secret, driver.customer("ada"), "telling")
        assert any("to the run that leads for the account" in line.sentence for line in lines)


def test_many_workers_at_once_judge_all_people_of_a_company_and_tell_of_each_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.segments.BATCH", 3)
    shop = {"accounts": {"roles": ROLES, "attributes": {"seats": "number"}}}
    people, hands = [f"p{n}" for n in range(14)], 4
    with ExitStack() as opened:
        driver = opened.enter_context(small(database_url, segments=SEGMENTS, shop=shop))
        others = [] if driver.app.database.is_sqlite else range(hands - 1)  # SQLite has one process, of many threads
        apps = [
            driver.app,
            *(opened.enter_context(small(database_url, segments=SEGMENTS, shop=shop)).app for _ in others),
        ]
        for name in people:
            arrive(driver, name, "customer.created")
        smaller = {"id": "a1", "attributes": {"seats": 3}}
        driver.post("customer.updated", customer={"id": "p0"}, account=smaller, drained=False)
        with driver.app.writing() as connection:
            Ingest(driver.app).do(connection, [max(id_ for (id_,) in driver.rows(sa.select(inbox.c.id)))], START)
        together = Barrier(hands)

        def judge(hand: int) -> None:
            together.wait()
            judge_due(apps[hand % len(apps)])

        with ThreadPoolExecutor(hands) as pool:
            list(pool.map(judge, range(hands)))
        driver.drain()

        left = driver.rows(sa.select(events.c.customer_id).where(events.c.name == "segment.left"))
        assert sorted(number for (number,) in left) == sorted(driver.customer(name) for name in people)
        assert driver.rows(sa.select(account_looks)) == driver.rows(sa.select(segment_looks)) == []
