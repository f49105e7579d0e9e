"""Referrals from the webhook to the reward: attributed, judged, held, rewarded once, undone by a refund."""

import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow.language.catalog import Document
from afterglow.referring.attribution import CLICK
from afterglow.tokens import make_token
from db import catalog, leaderboards, ledger, merging, privacy, referrals, referring, reviewing, unmerging
from db.referring import ReferralDecisionError
from db.tables import events, ledger_transactions, referral_decisions, referral_marks, referral_rewards, touches
from db.tables import referrals as referrals_table
from tests.driver import START, Driver
from tests.examples import LONG
from tests.small_shop import documents, small
from workers import rewarding

FRIENDS = """\
programme: friends
kind: referral
about: Give 10, get 10
qualifies: {on: order.paid, when: order.total >= 20, hold: 14 days, undone_by: order.refunded}
rewards: {referrer: {coupon: thanks-10}, referee: {coupon: welcome-10}}
"""
#: Who race to reward the same referrals, and how many there are.
RACERS = 8
REFERRALS = 5_000 if LONG else 300
ANN = {"id": "ann", "email": "ann@example.com", "first_name": "Ann", "last_name": "Lee"}
BOB = {"id": "bob", "email": "bob@other.example", "first_name": "Bob", "last_name": "Ray"}


def put(driver: Driver, *programmes: str) -> None:
    """Put programmes into force beside the small shop."""
    more = [Document(kind="programme", name=text.split()[1], body=text) for text in programmes]
    with driver.app.writing() as connection:
        catalog.apply(connection, [*documents(), *more], now=driver.clock.now(), by="the tests")


def code(driver: Driver, who: str = "ann", programme: str = "friends") -> str:
    """A customer's referral code, made now if need be."""
    customer = driver.customer(who)
    with driver.app.writing() as connection:
        made = referrals.codes(connection, driver.secret, {customer: frozenset({programme})}, driver.clock.now())
    return made[customer][programme]


@contextmanager
def shop(database_url: str, programme: str = FRIENDS) -> Iterator[Driver]:
    """The small shop, with a referral programme and Ann in it."""
    with small(database_url) as driver:
        put(driver, programme)
        driver.post("ping.one", customer=ANN)
        yield driver


def order(
    driver: Driver, customer: Mapping[str, Any] = BOB, *, id_: str = "o1", total: float = 40, **further: Any
) -> None:
    driver.post("order.paid", {"order": {"id": id_, "total": total, **further}}, customer=customer)


def refund(driver: Driver, amount: float, customer: Mapping[str, Any] = BOB, *, id_: str = "o1") -> None:
    driver.post("order.refunded", {"order": {"id": id_}, "refund": {"amount": amount}}, customer=customer)


def states(driver: Driver) -> list[str]:
    return [row[0] for row in driver.rows(sa.select(referrals_table.c.state).order_by(referrals_table.c.id))]


def rewards(driver: Driver) -> list[tuple[Any, ...]]:
    w = referral_rewards.c
    query = sa.select(w.side, w.milestone, w.generation, w.state, w.granted).order_by(w.id)
    return driver.rows(query)


def path(driver: Driver, referral: int = 1) -> list[str]:
    d = referral_decisions.c
    query = sa.select(d.state).where(d.referral_id == referral).order_by(d.id)
    return [row[0] for row in driver.rows(query)]


def evidence(driver: Driver, state: str) -> dict[str, Any]:
    d = referral_decisions.c
    query = sa.select(d.evidence).where(d.state == state).order_by(d.id.desc())
    return dict(driver.rows(query)[0][0])


def told(driver: Driver) -> list[tuple[Any, ...]]:
    """The events of our own: name, customer, payload's side and coupon."""
    e = events.c
    rows = driver.rows(sa.select(e.name, e.customer_id, e.payload).where(e.source == "programme").order_by(e.id))
    return [(name, customer, payload["side"], payload.get("coupon")) for name, customer, payload in rows]


def test_a_rewarded_referral_counts_on_the_leaderboard_until_it_is_taken_back(database_url):
    def board(driver: Driver) -> list[tuple[int, int]]:
        with driver.app.reading() as connection:
            board = leaderboards.Board(programme="friends", metric="referrals")
            return [(place.customer_id, place.value) for place in leaderboards.top(connection, board)]

    with shop(database_url, FRIENDS) as driver:
        order(driver, codes=[code(driver)])
        driver.at(days=13)
        assert board(driver) == [], "the hold is not over"

        driver.at(days=15)
        assert board(driver) == [(driver.customer("ann"), 1)]

        refund(driver, 40)
        with driver.app.writing() as connection:
            reviewing.reject(connection, 1, author="kim", reason="returned", now=driver.clock.now())
        driver.drain()
        driver.at(days=16)
        assert states(driver) == ["reversed"]
        assert board(driver) == []


def test_a_friend_who_orders_with_a_code_is_attributed_held_and_rewarded(database_url):
    with shop(database_url) as driver:
        order(driver, codes=["SUMMER", code(driver).lower()])
        ann, bob = driver.customer("ann"), driver.customer("bob")
        assert states(driver) == ["qualified"]

        driver.at(days=13)
        assert rewards(driver) == []
        driver.at(days=15)

        assert states(driver) == ["rewarded"]
        assert path(driver) == ["attributed", "qualified", "qualified", "rewarded"]
        assert rewards(driver) == [("referrer", 0, 1, "given", 1), ("referee", 0, 1, "given", 1)]
        assert told(driver) == [
            ("referral.attributed", ann, "referrer", None),
            ("referral.attributed", bob, "referee", None),
            ("referral.qualified", ann, "referrer", None),
            ("referral.qualified", bob, "referee", None),
            ("referral.rewarded", ann, "referrer", "thanks-10"),
            ("referral.rewarded", bob, "referee", "welcome-10"),
        ]
        r = referrals_table.c
        assert driver.rows(sa.select(r.referrer_id, r.referee_id, r.subject, r.amount)) == [
            (ann, bob, "order/api/o1", 4000)
        ]
        # The hold is of the shop's calendar, from the order.
        assert driver.rows(sa.select(r.rewarded_at)) == [(START + timedelta(days=14),)]


def test_a_click_a_landing_and_a_typed_code_are_signs_and_the_file_says_which_counts(database_url):
    with shop(database_url) as driver:
        driver.post("ping.one", customer={"id": "cleo", "email": "cleo@example.com"})
        anns, cleos = code(driver), code(driver, "cleo")
        with driver.app.writing() as connection:
            known = referring.codes(connection, [cleos])[cleos]
            click = referring.click(connection, known, driver.clock.now())
        token = make_token(driver.secret, CLICK, click)
        order(driver, landing=f"/?ref={anns}&ref_click={token}")

        t = touches.c
        found = driver.rows(sa.select(t.method, t.code, t.click_id).order_by(t.id))
        assert found == [("landing", anns, None), ("click", cleos, click)]
        assert driver.rows(sa.select(referrals_table.c.referrer_id)) == [(driver.customer("ann"),)]


def test_a_made_up_click_and_an_unknown_code_are_no_signs(database_url):
    with shop(database_url) as driver:
        order(driver, landing="/?ref=NOBODY&ref_click=1234", codes=["SUMMER"])
        driver.post("ping.one", {"referral": {"code": "NOPE", "click": make_token(driver.secret, CLICK, 99)}})

        assert driver.rows(sa.select(touches.c.id)) == []
        assert states(driver) == []


def test_ones_own_code_is_no_referral(database_url):
    with shop(database_url) as driver:
        order(driver, ANN, codes=[code(driver)])
        assert states(driver) == []


def test_a_code_at_sign_up_counts_when_the_first_order_comes_and_only_within_the_window(database_url):
    with shop(database_url) as driver:
        driver.post("ping.one", {"referral": {"code": code(driver)}}, customer=BOB)
        assert states(driver) == ["attributed"]
        driver.at(days=29)
        order(driver, total=19)
        assert states(driver) == ["attributed"]
        driver.at(days=31)
        order(driver, id_="o2", total=50)
        assert states(driver) == ["attributed"], "the window is over"


def test_the_order_in_which_webhooks_arrive_does_not_matter(database_url):
    with shop(database_url) as driver:
        said: dict[str, tuple[str, dict[str, Any]]] = {
            "sign-up": ("ping.one", {"referral": {"code": code(driver)}}),
            "paid": ("order.paid", {"order": {"id": "o1", "total": 60}}),
            "refunded": ("order.refunded", {"order": {"id": "o1"}, "refund": {"amount": 50}}),
            "second": ("order.paid", {"order": {"id": "o2", "total": 60}}),
        }
        driver.at(days=1)
        arrivals = list(permutations(enumerate(said)))
        for n in range(len(arrivals)):
            driver.post("ping.two", customer=friend(n), drained=False)  # so that the refund has a customer
        driver.drain()
        for step in range(len(said)):
            for n, one in enumerate(arrivals):
                hours, name = one[step]
                event, payload = said[name]
                at = START + timedelta(hours=hours)
                driver.post(event, payload, customer=friend(n), occurred_at=at, drained=False)
            driver.actors.ingest()
        driver.at(days=20)

        r = referrals_table.c
        assert set(driver.rows(sa.select(r.state, r.refunded, r.subject))) == {("reversed", 5000, "order/api/o1")}
        assert len(states(driver)) == len(arrivals)
        assert rewards(driver) == []


@pytest.mark.parametrize(
    ("refunds", "state", "given"), [([10], "rewarded", 2), ([10, 15], "reversed", 0), ([40], "reversed", 0)]
)
def test_a_refund_before_the_reward_cancels_both_sides_unless_enough_is_left(database_url, refunds, state, given):
    with shop(database_url) as driver:
        order(driver, codes=[code(driver)])
        for amount in refunds:
            refund(driver, amount)
        driver.at(days=15)

        assert states(driver) == [state]
        assert len(rewards(driver)) == given


def test_a_refund_of_another_order_means_nothing(database_url):
    with shop(database_url) as driver:
        order(driver, codes=[code(driver)])
        order(driver, id_="o2")
        refund(driver, 40, id_="o2")
        driver.at(days=15)
        assert states(driver) == ["rewarded"]


def test_a_refund_after_the_reward_goes_to_review_and_takes_nothing_back_by_itself(database_url):
    with shop(database_url) as driver:
        order(driver, codes=[code(driver)])
        driver.at(days=15)
        refund(driver, 40)
        assert states(driver) == ["review"]
        driver.at(days=60)

        assert states(driver) == ["review"], "on_deadline: hold"
        assert [row[3] for row in rewards(driver)] == ["given", "given"]
        with driver.app.writing() as connection:
            reviewing.reject(connection, 1, author="mia", reason="sent back", now=driver.clock.now())
        driver.drain()
        assert states(driver) == ["reversed"]
        assert [row[3] for row in rewards(driver)] == ["taken_back", "taken_back"]

        with driver.app.writing() as connection:  # and a decision can be taken back, too
            reviewing.approve(connection, driver.app.catalog, 1, author="mia", reason="no", now=driver.clock.now())
        driver.drain()
        assert states(driver) == ["rewarded"]
        assert rewards(driver)[2:] == [("referrer", 0, 2, "given", 1), ("referee", 0, 2, "given", 1)]
        authors = driver.rows(sa.select(referral_decisions.c.author).where(referral_decisions.c.author.is_not(None)))
        assert authors == [("mia",), ("mia",)]


def test_a_programme_may_say_that_a_refund_takes_back_by_itself(database_url):
    text = FRIENDS.replace("undone_by: order.refunded", "undone_by: order.refunded, after_reward: take back")
    with shop(database_url, text) as driver:
        order(driver, codes=[code(driver)])
        driver.at(days=15)
        refund(driver, 40)

        assert states(driver) == ["reversed"]
        assert [row[3] for row in rewards(driver)] == ["taken_back", "taken_back"]


# Fraud


def test_the_same_mailbox_is_rejected_with_numbers_and_no_personal_data(database_url):
    with shop(database_url) as driver:
        order(driver, {"id": "b", "email": "ann+x@example.com"}, codes=[code(driver)])

        assert states(driver) == ["rejected"]
        assert evidence(driver, "rejected")["rules"]["same-email"] == {
            "weight": 100,
            "referrer": driver.customer("ann"),
            "referee": driver.customer("b"),
        }
        everything = str(driver.rows(sa.select(referral_decisions))) + str(driver.rows(sa.select(referral_marks)))
        assert "example" not in everything


def test_a_customer_who_bought_before_is_no_new_friend(database_url):
    with shop(database_url) as driver:
        order(driver, id_="o0", total=5)
        driver.at(days=1)
        order(driver, id_="o1", codes=[code(driver)])

        assert states(driver) == ["rejected"]
        assert evidence(driver, "rejected")["rules"] == {"existing-customer": {"weight": 100, "orders_before": 1}}


def test_a_programme_may_take_customers_who_bought_before(database_url):
    with shop(database_url, FRIENDS.replace("hold:", "first_purchase: false, hold:")) as driver:
        order(driver, id_="o0", total=5)
        order(driver, id_="o1", codes=[code(driver)])
        assert states(driver) == ["qualified"]


def test_one_mailbox_is_referred_once_whatever_its_spelling(database_url):
    with shop(database_url) as driver:
        order(driver, {"id": "b1", "email": "bo.b@gmail.com"}, codes=[code(driver)])
        order(driver, {"id": "b2", "email": "b.ob@gmail.com"}, id_="o2", codes=[code(driver)])

        assert states(driver) == ["qualified", "rejected"]
        assert evidence(driver, "rejected")["rules"] == {"already-referred": {"weight": 100, "referral": 1}}


def test_somebody_who_was_forgotten_is_not_new(database_url):
    with shop(database_url) as driver:
        driver.post("ping.one", customer=BOB)
        with driver.app.writing() as connection:
            privacy.forget(connection, driver.customer("bob"), driver.clock.now(), driver.secret)
        order(driver, codes=[code(driver)])

        assert states(driver) == ["rejected"]
        assert list(evidence(driver, "rejected")["rules"]) == ["was-forgotten"]


def test_two_who_refer_each_other_from_one_address_wait_for_a_person(database_url):
    with shop(database_url, FRIENDS.replace("hold:", "first_purchase: false, hold:")) as driver:
        home = {"ship_to": "1 Long Lane, 75001 Paris"}
        order(driver, codes=[code(driver)], **home)
        order(driver, ANN, id_="o2", codes=[code(driver, "bob")], ship_to="1, long lane 75001 PARIS")

        assert states(driver) == ["qualified", "rejected"]
        assert set(evidence(driver, "rejected")["rules"]) == {"ring", "same-postal-address"}


def test_a_ring_alone_waits_for_a_person_and_the_file_says_what_the_deadline_does(database_url):
    text = FRIENDS.replace("hold: 14 days", "first_purchase: false")
    with shop(database_url, text + "fraud: {on_deadline: reward, deadline: 3 days}\n") as driver:
        order(driver, codes=[code(driver)])
        order(driver, ANN, id_="o2", codes=[code(driver, "bob")])
        assert states(driver) == ["rewarded", "review"]
        driver.at(days=4)
        assert states(driver) == ["rewarded", "rewarded"]


# Caps and milestones

MANY = """\
programme: friends
kind: referral
about: x
qualifies: {on: order.paid, undone_by: order.refunded, after_reward: take back}
rewards:
  referrer: {coupon: thanks-10}
  referee: {coupon: welcome-10}
  milestones: [{at: 2, referrer: {coupon: two}}]
caps: {referrer: 3, per: month}
fraud: {per_day: 10000}
"""


def friend(n: int) -> dict[str, Any]:
    name = "".join(chr(97 + int(digit)) for digit in f"{n * 7919 % 1000003:07d}") * 2
    return {"id": f"f{n}", "email": f"{name}@example.com"}


def test_a_cap_counts_a_month_and_what_it_cuts_off_is_recorded(database_url):
    with shop(database_url, MANY) as driver:
        for n in range(5):
            order(driver, friend(n), id_=f"o{n}", codes=[code(driver)])
        driver.at(days=40)
        order(driver, friend(9), id_="o9", codes=[code(driver)])

        assert states(driver) == ["rewarded"] * 6
        assert [row[3] for row in rewards(driver) if row[0] == "referrer"] == ["given"] * 3 + ["capped"] * 2 + ["given"]
        assert [row[3] for row in rewards(driver) if row[0] == "referee"] == ["given"] * 6


def test_a_milestone_that_was_lost_can_be_earned_again(database_url):
    with shop(database_url, MANY) as driver:
        order(driver, friend(1), id_="o1", codes=[code(driver)])
        order(driver, friend(2), id_="o2", codes=[code(driver)])
        refund(driver, 40, friend(1), id_="o1")
        order(driver, friend(3), id_="o3", codes=[code(driver)])

        milestones = [row[1:4] for row in rewards(driver) if row[0] == "milestone"]
        assert milestones == [(2, 1, "taken_back"), (2, 2, "given")]
        assert states(driver) == ["reversed", "rewarded", "rewarded"]


@pytest.mark.long
def test_eight_racers_reward_each_referee_once_and_never_beyond_the_cap(postgres_url):
    count = REFERRALS
    text = MANY.replace("referrer: 3, per: month", "referrer: 7, per: ever").replace("on: o", "hold: 1 hour, on: o")
    with shop(postgres_url, text) as driver:
        driver.post("ping.one", customer={"id": "cleo", "email": "cleo@sunny.example"})
        both = [code(driver), code(driver, "cleo")]
        for n in range(count):
            payload = {"order": {"id": f"o{n}", "total": 40, "codes": [both[n % 2]]}}
            driver.post("order.paid", payload, customer=friend(n), drained=False)

        driver.drain()
        assert states(driver) == ["qualified"] * count
        driver.clock.jump(START + timedelta(hours=2))
        numbers = [row[0] for row in driver.rows(sa.select(referrals_table.c.id))]
        failed: list[BaseException] = []
        ready = threading.Barrier(RACERS)

        def race(seed: int) -> None:
            chunks = [numbers[n : n + 5] for n in range(0, count, 5)]
            random.Random(seed).shuffle(chunks)
            ready.wait()
            try:
                for chunk in chunks:
                    with driver.app.writing() as connection:
                        rewarding.settle(connection, driver.app, chunk, driver.clock.now())
            except BaseException as error:
                failed.append(error)

        racers = [threading.Thread(target=race, args=[seed]) for seed in range(RACERS)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()

        assert failed == []
        assert states(driver) == ["rewarded"] * count
        w = referral_rewards.c
        per_side = sa.select(w.side, w.state, sa.func.count()).group_by(w.side, w.state).order_by(w.side, w.state)
        assert driver.rows(per_side) == [
            ("milestone", "given", 2),
            ("referee", "given", count),
            ("referrer", "capped", count - 14),
            ("referrer", "given", 14),
        ]


def test_without_a_programme_nothing_is_asked_or_stored(database_url):
    with small(database_url) as driver:
        driver.post("ping.one", customer=ANN)
        order(driver, codes=["AB"], landing="/?ref=AB")
        assert driver.rows(sa.select(touches.c.id)) == []


# Points, merged customers, forgotten customers

BEANS = """\
programme: beans
kind: loyalty
about: Points
earn: [{id: hello, on: ping.two, points: 1}]
expires: {after: 12 months}
"""
POINTS = """\
programme: friends
kind: referral
about: x
qualifies: {on: order.paid, undone_by: order.refunded, after_reward: take back}
rewards:
  referrer: {programme: beans, points: 500}
  referee: {programme: beans, credit: 10.50}
"""


def balance(driver: Driver, who: str, asset: str) -> int:
    with driver.app.reading() as connection:
        customer = driver.customer(who)
        found = ledger.balances(connection, [customer], driver.clock.now()).get((customer, "beans", asset))
    return found.balance if found else 0


def test_points_and_credit_go_through_the_ledger_once_and_back_with_the_refund(database_url):
    with shop(database_url) as driver:
        put(driver, POINTS, BEANS)
        order(driver, codes=[code(driver)])
        assert (balance(driver, "ann", "points"), balance(driver, "bob", "credit")) == (500, 1050)
        assert [row[2:] for row in told(driver) if row[0] == "referral.rewarded"] == [
            ("referrer", None),
            ("referee", None),
        ]
        t = ledger_transactions.c
        [(rule, inputs, subject)] = driver.rows(sa.select(t.rule, t.inputs, t.subject).where(t.asset == "points"))
        assert (rule, inputs, subject) == ("referrer", {"referral": 1, "generation": 1}, "referral-reward/1")

        refund(driver, 40)
        assert states(driver) == ["reversed"]
        assert (balance(driver, "ann", "points"), balance(driver, "bob", "credit")) == (0, 0)


def merged(driver: Driver, one: str, other: str) -> int:
    with driver.app.writing() as connection:
        now = driver.clock.now()
        wanted = merging.want_by_hand(connection, driver.customer(one), driver.customer(other), "somebody said so", now)
        merging.merge(connection, wanted, merging.rules(driver.app.catalog.current(connection)), now)
    return wanted


@pytest.mark.parametrize(("days", "state"), [(1, "rejected"), (15, "review")])
def test_who_turns_out_to_have_brought_themselves_is_no_friend_until_they_are_two_again(database_url, days, state):
    with shop(database_url) as driver:
        order(driver, codes=[code(driver)])
        driver.at(days=days)
        before = states(driver)
        merge = merged(driver, "ann", "bob")
        driver.drain()
        assert states(driver) == [state]
        assert path(driver)[-1] == state

        with driver.app.writing() as connection:
            unmerging.unmerge(connection, merge, driver.clock.now())
        assert states(driver) == before
        r = referrals_table.c
        assert driver.rows(sa.select(r.referrer_id, r.referee_id)) == [(1, 2)]


def test_who_turns_out_to_have_been_brought_twice_was_brought_once(database_url):
    with shop(database_url) as driver:
        order(driver, codes=[code(driver)])
        order(driver, friend(1), id_="o2", codes=[code(driver)])
        merged(driver, "bob", "f1")
        driver.at(days=15)

        assert states(driver) == ["rewarded", "rejected"]
        with driver.app.writing() as connection, pytest.raises(ReferralDecisionError, match="turned out to be"):
            reviewing.approve(connection, driver.app.catalog, 2, author="mia", reason=None, now=driver.clock.now())


def test_an_export_tells_ones_referrals_and_not_who_the_other_is(database_url):
    with shop(database_url, FRIENDS.replace("hold: 14 days, ", "")) as driver:
        order(driver, codes=[code(driver)])
        with driver.app.reading() as connection:
            bob = driver.customer("bob")
            exported = privacy.export(connection, driver.app.catalog, driver.app.settings, bob)

        assert [(one["side"], one["state"], one["rewards"]) for one in exported["referrals"]] == [
            (
                "referee",
                "rewarded",
                [{"for": "referee", "asset": "coupon", "amount": 1, "coupon": "welcome-10", "webhook": None}],
            )
        ]
        with driver.app.writing() as connection:
            privacy.forget(connection, bob, driver.clock.now(), driver.secret)
        assert driver.rows(sa.select(referral_marks.c.kind)) == [("email",)]
        assert states(driver) == ["rewarded"]


def test_the_number_of_statements_does_not_grow_with_the_batch(postgres_url):
    def statements(count: int, first: int) -> tuple[int, int]:
        anns = code(driver)
        for n in range(first, first + count):
            payload = {"order": {"id": f"o{n}", "total": 40, "codes": [anns]}}
            driver.post("order.paid", payload, customer=friend(n), drained=False)
        asked: list[str] = []
        engine = driver.app.database.engine

        def listen(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
            asked.append(statement)

        sa.event.listen(engine, "before_cursor_execute", listen)
        try:
            driver.actors.ingest()
            ingested = len(asked)
            rewarding.settle_referrals(driver.app)
        finally:
            sa.event.remove(engine, "before_cursor_execute", listen)
        driver.drain()
        return ingested, len(asked) - ingested

    with shop(postgres_url) as driver:
        put(driver, POINTS + "fraud: {per_day: 1000}\n", BEANS)
        statements(3, 0)  # the first of all makes accounts
        few, many = statements(5, 10), statements(60, 100)
        assert abs(few[0] - many[0]) <= 1  # now and then a look for suspects falls into one of them
        assert few[1] == many[1]
