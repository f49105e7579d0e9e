"""Two customers turn out to be one: everything moves, nothing runs twice, and a wrong merge can be taken back."""

import json
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow.ledger.book import Standing
from afterglow.ledger.changes import Change, Credit, Spend
from db import doctor, identity, ledger, links, merging, people, privacy, proof, why
from db.merging import MergeError, take_in
from db.tables import (
    consents,
    contexts,
    customers,
    decisions,
    enrollments,
    events,
    identities,
    inbox,
    merges,
    metadata,
    profiles,
    referral_codes,
    runs,
    stage_entries,
    touchpoints,
)
from db.unmerging import Parted, unmerge
from tests.driver import START, Driver
from tests.small_shop import flow, small
from workers.channels import NotBegun, Sent
from workers.settle import Handed, settle

CARE = flow("care", [{"id": "w", "wait": "9 days"}, {"send": "email/note"}], once_per="order.id")
THANKS = flow("thanks", [{"send": "email/receipt"}], once_per="order.id")
INVITE = flow("invite", [{"send": "email/invite"}], starts={"event": "ping.one"})
FIRST = flow("first", [{"id": "w", "wait": "5 days"}], starts={"event": "ping.two"}, once_per="customer.id")
ORDER = {"order": {"id": "o1", "total": 40}}

ACCOUNT = {"id": "c1", "first_name": "Sam", "phone": "+33612345678", "attributes": {"points": 3, "vip": True}}
GUEST = {"email": "sam@example.com", "first_name": "Samuel", "last_name": "Vimes", "attributes": {"points": 5}}
BOTH = {"id": "c1", "email": "sam@example.com"}


def numbers(driver: Driver) -> list[int]:
    """All customers, stones included, oldest first."""
    return [row[0] for row in driver.rows(sa.select(customers.c.id).order_by(customers.c.id))]


def count(driver: Driver, table: sa.FromClause, *where: Any) -> int:
    return int(driver.rows(sa.select(sa.func.count()).select_from(table).where(*where))[0][0])


def page(driver: Driver, event: str, payload: dict[str, Any], customer: dict[str, Any]) -> None:
    """The same from another source, which knows nothing of the first one's ids and orders."""
    key = f"page {next(driver.keys)}"
    said = {"event": event, "key": key, "customer": customer, "payload": payload}
    driver.receive("page", key, json.dumps(said).encode(), drained=False)


def healthy(driver: Driver) -> bool:
    with driver.app.reading() as connection:
        return doctor.examine(connection, driver.clock.now(), driver.app.settings) == []


def told(driver: Driver, customer: int) -> str:
    with driver.app.reading() as connection:
        return "\n".join(map(str, why.story(connection, driver.app.catalog, driver.secret, customer)))


def undo(driver: Driver, merge_id: int = 1) -> Parted:
    with driver.app.writing() as connection:
        return unmerge(connection, merge_id, driver.clock.now())


def by_hand(driver: Driver, one: int, other: int) -> merging.Merged | None:
    with driver.app.writing() as connection:
        now = driver.clock.now()
        wanted = merging.want_by_hand(connection, one, other, "somebody said so", now)
        return merging.merge(connection, wanted, merging.rules(driver.app.catalog.current(connection)), now)


def lives(driver: Driver) -> tuple[int, int]:
    """An account and a guest, each with something in every table; not known to be one yet."""
    driver.post("ping.two", customer=ACCOUNT, stage="purchase", consent="granted")
    driver.post("order.paid", ORDER, customer=ACCOUNT)
    driver.clock.jump(START + timedelta(hours=1))
    driver.post("ping.one", customer=GUEST, stage="advocacy", consent="granted")
    driver.post("ping.two", customer=GUEST, consent="withdrawn", topic="news")
    driver.post("order.paid", {"order": {"id": "o2", "total": 9.5}}, customer=GUEST)
    first, second = numbers(driver)
    return first, second


def snapshot(driver: Driver) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, save what only tells of merging."""
    kept = {}
    for table in metadata.sorted_tables:
        query = sa.select(table)
        if table is events:
            query = query.where(events.c.source != merging.SOURCE)
        if table is decisions:
            query = query.where(decisions.c.verb != merging.MERGED)
        kept[table.name] = sorted(driver.rows(query), key=repr)
    del kept["merges"]
    return kept


# What moves


def test_points_move_with_a_merge_and_what_is_left_of_them_comes_back(database_url):
    with small(database_url, INVITE) as driver:
        first, second = lives(driver)
        post(driver, earned(second, 50))
        post(driver, earned(first, 5))
        driver.post("ping.one", customer=BOTH)
        assert {who: one.balance for (who, *_), one in points(driver, first, second).items()} == {first: 55, second: 0}
        post(driver, Spend(**BEANS, customer_id=first, key="five-off", amount=15, event_at=driver.clock.now()))

        undo(driver)

        assert {who: one.balance for (who, *_), one in points(driver, first, second).items()} == {first: 0, second: 40}
        with driver.app.reading() as connection:
            assert proof.verify(connection).differences == []


BEANS = {"programme": "beans", "asset": "points"}


def earned(customer: int, amount: int) -> Credit:
    """Points until an instant; those of the second customer last longer."""
    until = START + timedelta(days=30 + customer)
    given = {"key": f"order {amount}", "kind": "earn", "amount": amount, "event_at": START, "activates_at": START}
    return Credit(**BEANS, **given, customer_id=customer, expires_at=until)


def post(driver: Driver, change: Change) -> None:
    with driver.app.writing() as connection:
        ledger.post(connection, [change], driver.clock.now())


def points(driver: Driver, *customers_: int) -> dict[ledger.Place, Standing]:
    with driver.app.reading() as connection:
        return ledger.balances(connection, customers_, driver.clock.now())


def test_every_column_that_names_a_customer_moves_or_has_a_rule_of_its_own():
    naming = {
        column
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name == "customer_id" or any(key.column is customers.c.id for key in column.foreign_keys)
    }

    ruled = {column for column in naming if column.table.name in merging.RULED}
    assert naming - ruled == set(merging.references())
    assert {column.table.name for column in ruled} == merging.RULED, "a rule for a table that there is not"
    for column in merging.references():
        unique = [each for each in column.table.constraints if isinstance(each, sa.UniqueConstraint)]
        kept_unique = {each.name for key in (column.table.primary_key, *unique) for each in key.columns}
        assert column.name not in kept_unique, f"{column} cannot simply move: it needs a rule"


def test_a_webhook_that_names_two_customers_makes_them_one_with_all_that_was_theirs(database_url):
    with small(database_url, CARE, THANKS, INVITE, FIRST) as driver:
        first, second = lives(driver)
        moving = [identities, events, stage_entries, enrollments, touchpoints, contexts, decisions, inbox]
        before = {table: count(driver, table) for table in moving}
        theirs = [count(driver, table, table.c.customer_id == second) for table in (*moving, referral_codes, runs)]
        assert 0 not in theirs

        driver.post("ping.one", customer=BOTH, occurred_at=START, key="shows it")

        assert driver.rows(sa.select(customers.c.id, customers.c.merged_into).order_by(customers.c.id)) == [
            (first, None),
            (second, first),
        ]
        for column in merging.references():
            assert count(driver, column.table, column == second) == 0, column
        for table in moving:
            assert count(driver, table) >= before[table]
        about = sa.select(customers.c.orders, customers.c.spent, customers.c.stage, customers.c.last_order_at)
        assert driver.rows(about.where(customers.c.id == first)) == [(2, 4950, "advocacy", START + timedelta(hours=1))]
        p = profiles.c
        assert driver.rows(sa.select(p.email, p.phone, p.first_name, p.last_name, p.attributes)) == [
            ("sam@example.com", "+33612345678", "Samuel", "Vimes", {"points": 5, "vip": True})
        ]
        assert driver.rows(sa.select(referral_codes.c.customer_id)) == [(first,)]
        assert healthy(driver)
        assert "Turned out to be customer" in told(driver, first)
        assert "the same address came with api's id c1" in told(driver, first)


def test_old_numbers_lead_to_the_kept_customer_everywhere(database_url):
    with small(database_url, CARE, INVITE) as driver:
        first, second = lives(driver)
        mail = driver.rows(sa.select(touchpoints.c.id).where(touchpoints.c.customer_id == second))[0][0]
        driver.post("ping.one", customer=BOTH)
        with driver.app.writing() as connection:
            assert identity.find_customer(connection, driver.secret, str(second)) == first
            assert why.heading(connection, second).startswith(f"Customer {first} ")
            assert told(driver, second) == told(driver, first)
            exported = privacy.export(connection, driver.app.catalog, driver.app.settings, second)
            assert exported["customer"] == first
            assert exported["merges"][0]["before"]["merged"]["email"] == "sam@example.com"
        with driver.app.writing() as connection:
            standing = links.standing(connection, driver.app.catalog.current(connection).catalog.shop, mail, second)
            assert standing is not None
            assert standing.customer_id == first
            now = driver.clock.now()
            links.say(connection, touchpoint_id=mail, customer_id=second, topic="*", granted=False, by="page", now=now)
        driver.post("ping.two", {"n": 1}, customer={"customer": second})

        assert driver.rows(sa.select(consents.c.customer_id, consents.c.state).where(consents.c.topic == "*")) == [
            (first, "withdrawn")
        ]
        assert count(driver, events, events.c.customer_id == second) == 0
        assert {row[0] for row in driver.rows(sa.select(inbox.c.state))} == {"mapped"}


def test_merges_can_follow_each_other(database_url):
    with small(database_url) as driver:
        for email in ("a@example.com", "b@example.com", "c@example.com"):
            driver.post("ping.one", customer={"email": email})
        first, second, third = numbers(driver)
        by_hand(driver, third, second)
        by_hand(driver, third, first)

        with driver.app.reading() as connection:
            assert people.kept(connection, [first, second, third, 99]) == dict.fromkeys([first, second, third], first)
        with pytest.raises(MergeError, match="one customer already"):
            by_hand(driver, second, third)
        with pytest.raises(MergeError, match="afterglow unmerge 2"):
            undo(driver, 1)
        undo(driver, 2)
        undo(driver, 1)
        with driver.app.reading() as connection:
            assert len(set(people.kept(connection, [first, second, third]).values())) == 3


# What there can be only once


def test_a_key_never_runs_twice_and_the_older_run_stays(database_url):
    with small(database_url, CARE, THANKS) as driver:
        driver.post("order.paid", ORDER, customer=ACCOUNT, drained=False)
        page(driver, "order.paid", ORDER, GUEST)
        driver.actors.ingest()
        driver.actors.advance()
        first, _ = numbers(driver)
        assert driver.touchpoints() == [("thanks", "receipt", "queued")] * 2

        driver.post("ping.one", customer=BOTH, drained=False)
        driver.actors.ingest()
        driver.actors.tend()
        driver.post("order.paid", ORDER, customer=BOTH)

        stands = sa.select(enrollments.c.state, enrollments.c.reason).order_by(enrollments.c.id)
        states = [row[0] for row in driver.rows(stands)]
        assert sorted(states) == ["finished", "stopped", "stopped", "waiting"]
        assert {row[1] for row in driver.rows(stands) if row[0] == "stopped"} == {"merged"}
        assert sorted(driver.touchpoints()) == [("thanks", "receipt", "sent"), ("thanks", "receipt", "skipped")]
        older = driver.rows(sa.select(sa.func.min(enrollments.c.id)))
        assert driver.rows(sa.select(enrollments.c.id).where(enrollments.c.state == "waiting")) >= older
        assert driver.rows(sa.select(runs.c.customer_id).distinct()) == [(first,)]
        assert "an older run of the same key stays" in told(driver, first)
        assert healthy(driver)


def test_a_flow_that_runs_once_per_customer_runs_once_for_one_who_was_two(database_url):
    with small(database_url, FIRST) as driver:
        first, _ = lives(driver)
        assert count(driver, enrollments) == 2

        driver.post("ping.two", customer=BOTH)
        driver.post("ping.two", customer=BOTH)

        assert sorted(row[0] for row in driver.rows(sa.select(enrollments.c.state))) == ["stopped", "waiting"]
        assert {row[0] for row in driver.rows(sa.select(runs.c.key))} == {str(first)}


def test_of_a_key_that_may_run_again_only_a_second_open_run_ends(database_url):
    again = flow("again", [{"id": "w", "wait": "5 days"}], once_per="customer.id", reenter="always")
    with small(database_url, again) as driver:
        driver.post("order.paid", ORDER, customer=ACCOUNT)
        driver.post("order.paid", ORDER, customer={"id": "c9", "email": "other@example.com"})
        driver.at(days=6)
        driver.post("order.paid", ORDER, customer=ACCOUNT)
        first, second = numbers(driver)
        by_hand(driver, first, second)
        driver.post("order.paid", ORDER, customer=ACCOUNT)

        stands = sa.select(runs.c.n, enrollments.c.state).join(enrollments, enrollments.c.id == runs.c.enrollment_id)
        assert sorted(driver.rows(stands)) == [(1, "finished"), (2, "waiting"), (3, "finished")]
        driver.at(days=12)
        driver.post("order.paid", ORDER, customer=ACCOUNT)
        assert sorted(driver.rows(stands))[3:] == [(4, "waiting")]


@pytest.mark.parametrize(
    ("account", "guest", "stands"),
    [
        (("granted", 1), ("withdrawn", 2), "withdrawn"),
        (("granted", 2), ("withdrawn", 1), "withdrawn"),
        (("withdrawn", 1), ("granted", 2), "withdrawn"),
        (("granted", 1), ("granted", 2), "granted"),
        (None, ("granted", 1), "granted"),
        (None, ("withdrawn", 1), "withdrawn"),
    ],
)
def test_the_stricter_word_on_consent_stands_until_a_newer_one_than_both(database_url, account, guest, stands):
    with small(database_url) as driver:
        driver.clock.jump(START + timedelta(days=3))
        for who, word in (({"id": "c1"}, account), ({"email": "sam@example.com"}, guest)):
            said, at = (word[0], START + timedelta(days=word[1])) if word else (None, None)
            driver.post("ping.one", customer=who, consent=said, topic="news", occurred_at=at)

        driver.post("ping.one", customer=BOTH)
        first = numbers(driver)[0]
        word = sa.select(consents.c.customer_id, consents.c.state)
        assert driver.rows(word) == [(first, stands)]

        driver.post("ping.one", customer=BOTH, consent="granted", topic="news")
        assert driver.rows(word) == [(first, "granted")]


# Taking it back


def test_undoing_a_merge_gives_back_every_row_as_it_was(database_url):
    with small(database_url, CARE, THANKS, INVITE, FIRST) as driver:
        first, second = lives(driver)
        page(driver, "order.paid", ORDER, GUEST)  # the account's order, told of the guest too
        driver.actors.ingest()
        driver.actors.advance()  # its thank-you is queued
        before = snapshot(driver)
        done = by_hand(driver, first, second)
        assert done is not None
        assert (done.runs_stopped, done.messages_skipped) == (3, 1)
        assert snapshot(driver) != before

        undone = undo(driver)

        assert snapshot(driver) == before
        assert (undone.kept, undone.merged, undone.runs_resumed) == (first, second, 3)
        assert f"Is not customer {second} after all" in told(driver, first)
        assert healthy(driver)


def test_what_was_undone_is_not_merged_again_by_a_webhook_but_by_hand(database_url):
    with small(database_url) as driver:
        page(driver, "ping.one", {}, {"id": "p1"})
        driver.drain()
        driver.post("ping.one", customer={"id": "c1"})
        driver.post("ping.one", customer={"email": "sam@example.com"})
        older, first, second = numbers(driver)
        driver.post("ping.one", customer=BOTH)
        undo(driver)

        driver.post("ping.one", customer=BOTH)
        assert count(driver, customers, customers.c.merged_into.is_not(None)) == 0
        by_hand(driver, older, second)  # nor does a webhook once one of them is part of somebody else
        driver.post("ping.one", customer=BOTH)
        assert driver.rows(sa.select(customers.c.id).where(customers.c.merged_into.is_not(None))) == [(second,)]

        assert by_hand(driver, first, second) is not None
        assert driver.rows(sa.select(customers.c.id).where(customers.c.merged_into.is_(None))) == [(older,)]


def test_what_came_after_a_merge_stays_with_the_kept_customer_when_it_is_undone(database_url):
    with small(database_url, CARE) as driver:
        first, second = lives(driver)
        driver.post("ping.one", customer=BOTH)
        driver.clock.jump(START + timedelta(days=1))
        later = {**BOTH, "last_name": "Later"}
        driver.post("order.paid", {"order": {"id": "o3", "total": 1}}, customer=later, stage="awareness")
        driver.post("ping.two", customer=BOTH, consent="withdrawn")
        driver.at(days=10)  # the guest's run of o2 reached its mail
        undo(driver)

        for table in (touchpoints, decisions, runs):
            astray = enrollments.c.customer_id != table.c.customer_id
            assert count(driver, table.join(enrollments, enrollments.c.id == table.c.enrollment_id), astray) == 0
        mails = sa.select(touchpoints.c.customer_id, sa.func.count()).group_by(touchpoints.c.customer_id)
        assert sorted(driver.rows(mails)) == [(first, 2), (second, 1)]
        c = customers.c
        assert driver.rows(sa.select(c.id, c.orders, c.spent, c.stage).order_by(c.id)) == [
            (first, 2, 4100, "awareness"),
            (second, 1, 950, "advocacy"),
        ]
        names = sa.select(profiles.c.first_name, profiles.c.last_name).order_by(profiles.c.customer_id)
        assert driver.rows(names) == [("Sam", "Later"), ("Samuel", "Vimes")]
        # Nobody can tell which of the two said no.
        no = sa.select(consents.c.customer_id).where(consents.c.topic == "*", consents.c.state == "withdrawn")
        assert sorted(driver.rows(no)) == [(first,), (second,)]
        driver.post("ping.one", customer={"email": "sam@example.com"}, key="now")
        assert driver.rows(sa.select(events.c.customer_id).where(events.c.key == "now")) == [(second,)]
        driver.at(days=30)
        assert healthy(driver)


def test_only_a_merge_that_was_done_can_be_undone(database_url):
    with small(database_url) as driver:
        lives(driver)
        with pytest.raises(MergeError, match="There is no merge 7"):
            undo(driver, 7)
        driver.post("ping.one", customer=BOTH)
        undo(driver)
        with pytest.raises(MergeError, match="Merge 1 is undone"):
            undo(driver)


# Who stays two


def test_two_accounts_that_share_an_address_stay_two_and_events_belong_to_the_account(database_url):
    with small(database_url) as driver:
        for who in ("c1", "c2"):
            for n in range(2):
                driver.post("ping.one", customer={"id": who, "email": "info@example.com"}, key=f"{who} {n}")
        driver.post("ping.one", customer={"email": "info@example.com"}, key="guest")

        first, second = numbers(driver)
        owners = driver.rows(sa.select(events.c.key, events.c.customer_id).order_by(events.c.id))
        assert owners == [("c1 0", first), ("c1 1", first), ("c2 0", second), ("c2 1", second), ("guest", first)]
        assert count(driver, merges) == 0


def test_a_source_that_gives_guests_new_ids_says_so_and_they_stay_one(database_url):
    with small(database_url, sources=("stripe",)) as driver:
        for n in range(3):
            paid = {"id": f"pi_{n}", "customer": f"cus_{n}", "receipt_email": "sam@example.com"}
            paid |= {"amount_received": 1999, "currency": "eur"}
            body = {
                "id": f"evt_{n}",
                "type": "payment_intent.succeeded",
                "created": 1772438400,
                "data": {"object": paid},
            }
            driver.receive("stripe", f"evt_{n}", json.dumps(body).encode())

        assert count(driver, events) == 3
        assert (count(driver, customers), count(driver, identities, identities.c.source == "stripe")) == (1, 3)


@pytest.mark.parametrize("declared", [True, False])
def test_a_phone_number_makes_one_only_where_the_shop_says_so(database_url, declared):
    with small(database_url, shop={"match_by_phone": declared}) as driver:
        driver.post("ping.one", customer={"id": "c1", "phone": "+33612345678"})
        driver.post("ping.one", customer={"email": "sam@example.com", "phone": "+33 6 12 34 56 78"})

        assert count(driver, customers) == (1 if declared else 2)
        assert count(driver, identities, identities.c.source == "phone") == declared


# While a mail is with its provider


@pytest.mark.parametrize("fate", [Sent(provider_id="m1"), NotBegun("it was full")])
def test_a_mail_that_is_with_its_provider_is_settled_as_ever_and_told_of_the_kept_customer(database_url, fate):
    with small(database_url, THANKS) as driver:
        driver.post("order.paid", ORDER, customer=ACCOUNT, drained=False)
        page(driver, "order.paid", ORDER, GUEST)
        driver.actors.ingest()
        driver.actors.advance()
        t = touchpoints.c
        lease = driver.clock.now() + timedelta(minutes=2)
        with driver.app.writing() as connection:
            values = {"state": "sending", "attempts": 1, "epoch": 1, "prepared_at": START, "leased_until": lease}
            connection.execute(touchpoints.update().values(**values))
        rows = driver.rows(sa.select(t.id, t.customer_id, t.enrollment_id).order_by(t.id))
        first, second = numbers(driver)
        merged = by_hand(driver, first, second)
        assert merged is not None
        assert (merged.runs_stopped, merged.messages_skipped) == (1, 0)

        with driver.app.writing() as connection:
            handed = [
                Handed(
                    id=id_,
                    epoch=1,
                    attempts=1,
                    customer_id=customer,
                    enrollment_id=run,
                    step="receipt",
                    kind="service",
                    at=START,
                    digest=None,
                )
                for id_, customer, run in rows
            ]
            settle(connection, [(one, fate) for one in handed], "email", driver.clock.now())
        driver.at(days=1)

        assert count(driver, decisions, decisions.c.customer_id == second) == 0
        ends = [state for _, _, state in driver.touchpoints()]
        assert ends == (["sent", "sent"] if isinstance(fate, Sent) else ["sent", "skipped"])
        assert sorted(row[0] for row in driver.rows(sa.select(enrollments.c.state))) == ["finished", "stopped"]
        assert healthy(driver)
        undo(driver)
        driver.at(days=2)
        assert healthy(driver)


# Forgetting


CANARIES = {
    "c1-canary-account": "id",
    "canary-old@example.com": "email",
    "canary-new@example.com": "email",
    "+33612345678": "phone",
    "+33699999999": "phone",
    "Serinus": "last_name",
    "Canaria": "last_name",
}


def canaries_left(driver: Driver) -> list[str]:
    """Canaries that stand in any column of any row."""
    cells = []
    for table in metadata.sorted_tables:
        for row in driver.rows(sa.select(table)):
            cells += [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for cell in row]
    text = "\n".join(cells).lower()
    return [canary for canary in CANARIES if canary.lower() in text]


def two_canaries(driver: Driver) -> None:
    one = {"id": "c1-canary-account", "email": "canary-old@example.com", "last_name": "Serinus"}
    driver.post("ping.one", customer={**one, "phone": "+33612345678"}, consent="granted")
    driver.clock.jump(START + timedelta(hours=1))
    other = {"email": "canary-new@example.com", "last_name": "Canaria", "phone": "+33699999999"}
    driver.post("ping.one", customer=other, consent="granted")
    driver.receive("api", "unread", b'{"who": "canary-old@example.com"}')
    driver.receive("api", "unread too", b'{"who": "+33612345678"}')
    shows_it = {"id": "c1-canary-account", "email": "canary-new@example.com"}
    driver.post("ping.two", customer=shows_it, occurred_at=START)
    assert count(driver, customers, customers.c.merged_into.is_not(None)) == 1


def test_forgetting_after_a_merge_leaves_no_canary_of_either(database_url):
    with small(database_url, INVITE) as driver:
        two_canaries(driver)
        first, second = numbers(driver)
        assert set(canaries_left(driver)) == set(CANARIES)

        with driver.app.writing() as connection:
            report = privacy.forget(connection, second, driver.clock.now(), driver.secret)

        assert report.customer_id == first
        assert report.merges == 1
        assert canaries_left(driver) == []
        assert count(driver, customers, customers.c.forgotten_at.is_not(None)) == 2
        assert healthy(driver)
        with pytest.raises(MergeError, match="forgotten"):
            undo(driver)
        with pytest.raises(MergeError, match="one customer already"):
            by_hand(driver, first, second)


def test_of_a_wrong_merge_that_was_undone_nothing_stays_with_the_other(database_url):
    with small(database_url, INVITE) as driver:
        two_canaries(driver)
        first, second = numbers(driver)
        undo(driver)

        with driver.app.writing() as connection:
            privacy.forget(connection, first, driver.clock.now(), driver.secret)

        assert sorted(canaries_left(driver)) == ["+33699999999", "Canaria", "canary-new@example.com"]
        assert count(driver, customers, customers.c.forgotten_at.is_not(None)) == 1
        assert count(driver, profiles, profiles.c.customer_id == second) == 1


@pytest.mark.parametrize(
    ("kept", "merged", "their_news", "stands"),
    [
        (("Europe/Paris", "told"), ("America/Denver", "address"), True, ("Europe/Paris", "told")),
        (("Europe/Paris", "address"), ("America/Denver", "told"), False, ("America/Denver", "told")),
        (("Europe/Paris", "told"), ("America/Denver", "told"), True, ("America/Denver", "told")),
        (("Europe/Paris", "told"), ("America/Denver", "told"), False, ("Europe/Paris", "told")),
        ((None, None), ("America/Denver", "phone"), False, ("America/Denver", "phone")),
        (("Europe/Paris", None), (None, None), True, ("Europe/Paris", None)),
    ],
)
def test_told_beats_derived_and_news_the_older_whoever_is_kept(kept, merged, their_news, stands):
    then = START - timedelta(days=2)
    one, other = people.new(1, then), people.new(2, then)
    (one.timezone, one.timezone_from), (other.timezone, other.timezone_from) = kept, merged
    one.updated_at, other.updated_at = (then, START) if their_news else (START, then)

    take_in(one, other)

    assert (one.timezone, one.timezone_from) == stands
