"""What an order that was returned takes with it: points, tier, rewards, milestones, boards, runs and their messages."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from db import doctor, ledger, merging, proof, recounting, reviewing, unmerging
from db.tables import (
    customers,
    enrollments,
    events,
    inbox,
    late_scores,
    ledger_transactions,
    memberships,
    referral_rewards,
    scores,
    touchpoints,
)
from db.tables import referrals as referrals_table
from tests.driver import START, Driver
from tests.examples import LONG
from tests.small_shop import flow, small
from tests.workers.test_cli import Afterglow, afterglow
from tests.workers.test_referring import ANN, BOB, code, friend, order, refund, states
from workers import unwinding

__all__ = ["afterglow"]

BEANS: dict[str, Any] = {
    "programme": "beans",
    "kind": "loyalty",
    "about": "Points",
    "earn": [{"id": "per-euro", "on": "order.paid", "points": 1, "amount": "order.total"}],
    "refunds": {"on": "order.refunded", "amount": "refund.amount"},
    "tiers": {"over": "lifetime", "levels": [{"tier": "bronze", "from": 0}, {"tier": "silver", "from": 40}]},
}
FRIENDS: dict[str, Any] = {
    "programme": "friends",
    "kind": "referral",
    "about": "Give 10, get 10",
    "qualifies": {"on": "order.paid", "when": "order.total >= 20", "undone_by": "order.refunded"},
    "rewards": {
        "referrer": {"programme": "beans", "points": 500, "worth": "5.00"},
        "referee": {"programme": "beans", "credit": "10.00"},
        "milestones": [{"at": 2, "referrer": {"coupon": "two", "worth": "20.00"}}],
    },
    "fraud": {"per_day": 1000},
}
TAKE_BACK = {**FRIENDS, "qualifies": {**FRIENDS["qualifies"], "after_reward": "take back"}}
CARE = flow("care", [{"id": "w", "wait": "3 days"}, {"send": "email/note"}], once_per="order.id")


@contextmanager
def shop(url: str, *flows: str, friends: dict[str, Any] = TAKE_BACK, beans: dict[str, Any] = BEANS) -> Iterator[Driver]:
    """The small shop with both kinds of programme, and Ann in it; in the end every board is what was recorded."""
    with small(url, *flows, programmes=(json.dumps(beans), json.dumps(friends))) as driver:
        driver.post("ping.one", customer=ANN)
        yield driver
        proven(driver)


def proven(driver: Driver) -> None:
    with driver.app.reading() as connection:
        assert not proof.verify(connection).differences
    with driver.app.reading() as connection:
        calendar = driver.app.catalog.current(connection).catalog.shop.calendar
        for programme in ("beans", "friends"):
            assert [str(one) for one in recounting.differences(connection, calendar, programme)] == []
            assert recounting.miscounted(connection, programme) == []
        assert doctor.examine(connection, driver.clock.now(), driver.app.settings) == []


def board(driver: Driver, programme: str, metric: str, season: str = "all") -> dict[int, int]:
    s = scores.c
    mine = (s.programme == programme) & (s.metric == metric) & (s.season == season) & (s.value != 0)
    return dict(driver.rows(sa.select(s.customer_id, s.value).where(mine)))  # type: ignore[arg-type]


def friends_boards(driver: Driver, who: str = "ann") -> tuple[int, int, int]:
    """Referrals, revenue and rewards of a customer."""
    one = driver.customer(who)
    found = [board(driver, "friends", metric).get(one, 0) for metric in ("referrals", "revenue", "rewards")]
    return (found[0], found[1], found[2])


def balance(driver: Driver, who: str, asset: str = "points") -> int:
    customer = driver.customer(who)
    with driver.app.reading() as connection:
        found = ledger.balances(connection, [customer], driver.clock.now()).get((customer, "beans", asset))
    return found.balance if found else 0


def runs(driver: Driver) -> list[tuple[str, str | None]]:
    return [(row[0], row[1]) for row in driver.rows(sa.select(enrollments.c.state, enrollments.c.reason))]


def told(driver: Driver, name: str) -> list[tuple[str, Any, Any]]:
    rows = driver.rows(sa.select(events.c.payload).where(events.c.name == name).order_by(events.c.id))
    return [(row[0]["side"], row[0].get("coupon"), row[0].get("points")) for row in rows]


def tier(driver: Driver, who: str = "bob") -> str:
    m = memberships.c
    found = driver.rows(sa.select(m.tier).where(m.customer_id == driver.customer(who)))
    return str(found[0][0]) if found else "bronze"


def test_an_order_that_is_refunded_takes_everything_with_it_in_the_transaction_of_the_refund(database_url):
    with shop(database_url, CARE) as driver:
        order(driver, codes=[code(driver)])
        assert (balance(driver, "bob"), tier(driver), states(driver)) == (40, "silver", ["rewarded"])
        assert (balance(driver, "ann"), balance(driver, "bob", "credit")) == (500, 1000)
        assert friends_boards(driver) == (1, 4000, 1500)
        assert board(driver, "beans", "points") == {driver.customer("bob"): 40}
        assert board(driver, "beans", "points", "2026-03") == {driver.customer("bob"): 40}

        payload = {"order": {"id": "o1"}, "refund": {"amount": 40}}
        driver.post("order.refunded", payload, customer=BOB, drained=False)
        driver.actors.ingest()  # and nothing else

        assert (balance(driver, "bob"), tier(driver), states(driver)) == (0, "bronze", ["reversed"])
        assert (balance(driver, "ann"), balance(driver, "bob", "credit")) == (0, 0)
        assert friends_boards(driver) == (0, 0, 0)
        assert board(driver, "beans", "points") == {}
        assert ("stopped", "unwound") in runs(driver)
        driver.drain()
        assert told(driver, "referral.reversed") == [("referrer", None, 500), ("referee", None, None)]


def test_after_the_reward_a_person_looks_and_only_the_revenue_comes_off_the_board(database_url):
    with shop(database_url, friends=FRIENDS) as driver:
        order(driver, codes=[code(driver)])
        refund(driver, 30)
        assert (states(driver), friends_boards(driver)) == (["review"], (1, 1000, 1500))
        refund(driver, 5)
        assert friends_boards(driver) == (1, 500, 1500)
        assert told(driver, "referral.review") == [("referrer", None, None), ("referee", None, None)]

        with driver.app.writing() as connection:
            reviewing.reject(connection, 1, author="mia", reason="returned", now=driver.clock.now())
        driver.drain()
        assert (states(driver), friends_boards(driver)) == (["reversed"], (0, 0, 0))
        refund(driver, 5)  # nothing of it is left to take

        with driver.app.writing() as connection:
            reviewing.approve(connection, driver.app.catalog, 1, author="mia", reason="no", now=driver.clock.now())
        driver.drain()
        assert (states(driver), friends_boards(driver)) == (["rewarded"], (1, 0, 1500))


def test_a_referral_whose_rewards_a_cap_cut_off_leaves_the_board_too(database_url):
    capped = {**FRIENDS, "rewards": {"referrer": {"coupon": "x"}}, "caps": {"referrer": 1}}
    with shop(database_url, friends=capped) as driver:
        for n in (1, 2):
            order(driver, friend(n), id_=f"o{n}", codes=[code(driver)])
        assert friends_boards(driver) == (2, 8000, 0)
        with driver.app.writing() as connection:
            reviewing.reject(connection, 2, author="mia", reason="no", now=driver.clock.now())
        driver.drain()
        assert friends_boards(driver) == (1, 4000, 0)


def test_a_milestone_leaves_the_board_with_what_it_stood_on_and_can_be_earned_again(database_url):
    with shop(database_url) as driver:
        for n in (1, 2):
            order(driver, friend(n), id_=f"o{n}", codes=[code(driver)])
        assert friends_boards(driver) == (2, 8000, 2 * 1500 + 2000)
        refund(driver, 40, friend(1), id_="o1")
        assert friends_boards(driver) == (1, 4000, 1500)
        assert ("referrer", "two", None) in told(driver, "referral.reversed")
        order(driver, friend(3), id_="o3", codes=[code(driver)])
        assert friends_boards(driver) == (2, 8000, 2 * 1500 + 2000)


def test_what_waits_for_a_person_keeps_its_milestone(database_url):
    with shop(database_url, friends=FRIENDS) as driver:
        for n in (1, 2, 3):
            order(driver, friend(n), id_=f"o{n}", codes=[code(driver)])
        refund(driver, 40, friend(1), id_="o1")
        with driver.app.writing() as connection:
            reviewing.reject(connection, 2, author="mia", reason="no", now=driver.clock.now())
        driver.drain()
        assert states(driver) == ["review", "reversed", "rewarded"]
        w = referral_rewards.c
        assert driver.rows(sa.select(w.state).where(w.side == "milestone")) == [("given",)]


def test_a_refund_of_a_season_that_is_over_is_noted_as_late(database_url):
    with shop(database_url) as driver:
        order(driver, codes=[code(driver)])
        driver.at(days=40)
        refund(driver, 40)
        late = late_scores.c
        noted = driver.rows(sa.select(late.metric, sa.func.sum(late.delta)).where(late.season == "2026-03")
                            .group_by(late.metric).order_by(late.metric))  # fmt: skip
        assert noted == [("points", -40), ("referrals", -1), ("revenue", -4000), ("rewards", -1500)]


# Runs


def test_a_part_leaves_runs_alone_and_the_whole_ends_those_about_the_order(database_url):
    other = flow("other", [{"id": "w", "wait": "3 days"}], once_per="customer.id")
    with shop(database_url, CARE, other, flow("each", [{"id": "w", "wait": "3 days"}])) as driver:
        order(driver)
        order(driver, id_="o2")
        refund(driver, 15)
        assert [state for state, _ in runs(driver)] == ["waiting"] * 5
        refund(driver, 25)
        assert sorted(runs(driver), key=str) == sorted([("stopped", "unwound")] * 2 + [("waiting", None)] * 3, key=str)
        driver.at(days=4)
        assert driver.touchpoints() == [("care", "note", "skipped")], "of the other order, and without consent"


def test_a_cancellation_is_of_the_whole(database_url):
    declared = {"order.cancelled": {"order.id": "text"}, "order.paid": {"order.id": "text", "order.total": "number"}}
    with small(database_url, CARE, shop={"events": declared}) as driver:
        order(driver)
        driver.post("order.cancelled", {"order": {"id": "o1"}}, customer=BOB)
        assert runs(driver) == [("stopped", "unwound")]


def test_a_flow_that_listens_to_the_refund_or_was_started_by_it_says_itself_what_it_means(database_url):
    returns = flow(
        "returns",
        [
            {"id": "back", "wait_for": "order.refunded", "for_up_to": "30 days"},
            {"send": "email/receipt"},
            {"id": "w", "wait": "9 days"},
        ],
        once_per="order.id",
    )
    sorry = flow(
        "sorry", [{"id": "w", "wait": "2 days"}, {"send": "email/receipt"}], starts={"event": "order.refunded"}
    )
    stops = flow("stops", [{"id": "w", "wait": "9 days"}], once_per="order.id", stops={"event": "order.refunded"})
    with shop(database_url, returns, sorry, stops) as driver:
        order(driver)
        refund(driver, 40)
        driver.at(days=3)
        assert sorted(state for state, _ in runs(driver)) == ["finished", "stopped", "waiting"]
        assert driver.touchpoints() == [("returns", "receipt", "sent"), ("sorry", "receipt", "sent")]


def test_queued_marketing_is_not_sent_and_a_receipt_is(database_url):
    receipt = flow("paid", [{"send": "email/receipt"}, {"send": "email/note"}], once_per="order.id")
    with shop(database_url, receipt, flow("thanks", [{"send": "email/note"}], once_per="order.id")) as driver:
        driver.post("ping.one", customer=BOB, consent="granted")
        payload = {"order": {"id": "o1", "total": 40}}
        driver.post("order.paid", payload, customer=BOB, drained=False)
        driver.actors.ingest()
        driver.actors.advance()
        refunded = {"order": {"id": "o1"}, "refund": {"amount": 40}}
        driver.post("order.refunded", refunded, customer=BOB, drained=False)
        driver.actors.ingest()
        proven(driver)
        driver.drain()

        assert driver.touchpoints() == [("paid", "receipt", "sent"), ("thanks", "note", "skipped")]
        assert driver.rows(sa.select(touchpoints.c.reason).where(touchpoints.c.state == "skipped")) == [
            ("the run stopped: unwound",)
        ]
        assert {state for state, _ in runs(driver)} == {"stopped"}


def test_an_order_that_comes_after_its_refund_starts_nothing_that_stays(database_url):
    with shop(database_url, CARE) as driver:
        driver.post("ping.one", {"referral": {"code": code(driver)}}, customer=BOB)
        late = START + timedelta(hours=1)
        refunded = {"order": {"id": "o1"}, "refund": {"amount": 40}}
        driver.post("order.refunded", refunded, customer=BOB, occurred_at=late)
        driver.post("order.paid", {"order": {"id": "o1", "total": 40}}, customer=BOB, occurred_at=START)
        assert (runs(driver), states(driver)) == ([("stopped", "unwound")], ["reversed"])
        assert (balance(driver, "bob"), friends_boards(driver)) == (0, (0, 0, 0))
        assert told(driver, "referral.reversed") == [("referrer", None, None), ("referee", None, None)]


def test_who_is_not_locked_with_the_batch_loses_the_reward_soon_after(database_url, monkeypatch):
    monkeypatch.setattr(unwinding, "others", lambda *_: set())  # as if the reward came while we waited for the locks
    with shop(database_url) as driver:
        order(driver, codes=[code(driver)])
        payload = {"order": {"id": "o1"}, "refund": {"amount": 40}}
        driver.post("order.refunded", payload, customer=BOB, drained=False)
        driver.actors.ingest()
        assert (states(driver), balance(driver, "ann"), friends_boards(driver)) == (["reversed"], 500, (1, 0, 1500))
        proven(driver)
        driver.actors.tend()
        assert (states(driver), balance(driver, "ann"), friends_boards(driver)) == (["reversed"], 0, (0, 0, 0))


def test_a_person_who_says_no_is_heard_by_flows(database_url):
    with shop(database_url, friends=FRIENDS) as driver:
        home = {"ship_to": "1 Long Lane", "paid_with": "card 1"}
        order(driver, ANN, id_="o0", **home)
        order(driver, codes=[code(driver)], **home)
        assert states(driver) == ["rejected"]
        both = [("referrer", None, None), ("referee", None, None)]
        assert told(driver, "referral.rejected") == both
        with driver.app.writing() as connection:
            reviewing.approve(connection, driver.app.catalog, 1, author="mia", reason="family", now=driver.clock.now())
        driver.at(minutes=5)
        with driver.app.writing() as connection:
            reviewing.reject(connection, 1, author="mia", reason="no family", now=driver.clock.now())
        driver.drain()
        assert (told(driver, "referral.rejected"), states(driver)) == (both, ["reversed"])


# In any order, any number of times


@pytest.mark.long
@pytest.mark.parametrize("after_reward", ["review", "take back"])
def test_partial_refunds_in_any_order_and_any_number_of_times_end_alike(sqlite_url, after_reward):
    numbers = count(1)

    @given(
        cents=st.integers(1900, 9000),
        parts=st.lists(st.integers(1, 4000), min_size=1, max_size=4),
        data=st.data(),
    )
    @settings(max_examples=100 if LONG else 8, database=None)
    def ends_alike(cents: int, parts: list[int], data: st.DataObject) -> None:
        asked = list(enumerate(parts))
        shuffled = data.draw(st.permutations([*asked, *data.draw(st.lists(st.sampled_from(asked), max_size=3))]))
        breaks = data.draw(st.sets(st.integers(0, len(shuffled))))
        ends = [_end(driver, next(numbers), cents, refunds, breaks) for refunds in (asked, shuffled)]
        assert ends[0] == ends[1]

    friends = {**FRIENDS, "qualifies": {**FRIENDS["qualifies"], "after_reward": after_reward}}
    with shop(sqlite_url, CARE, friends=friends) as driver:
        ends_alike()


def _end(driver: Driver, n: int, cents: int, refunds: list[tuple[int, int]], breaks: set[int]) -> tuple[Any, ...]:
    """How a new pair ends of whom this was told: points, tiers, the referral, boards, runs."""
    ann, bob = {"id": f"ann{n}", "email": f"ann{n}@example.com"}, friend(n)
    driver.post("ping.one", customer=ann)
    order(driver, bob, id_=f"o{n}", total=cents / 100, codes=[code(driver, ann["id"])])
    for at, (number, amount) in enumerate(refunds):
        payload = {"order": {"id": f"o{n}"}, "refund": {"amount": amount / 100}}
        key, once = f"refund-{n}-{number}", START + timedelta(hours=number)
        driver.post("order.refunded", payload, customer=bob, key=key, occurred_at=once, drained=at in breaks)
    driver.drain()
    r, s, e, t = referrals_table.c, scores.c, enrollments.c, ledger_transactions.c
    both = [driver.customer(ann["id"]), driver.customer(bob["id"])]
    return (
        [balance(driver, who["id"], asset) for who in (ann, bob) for asset in ("points", "credit")],
        tier(driver, bob["id"]),
        driver.rows(sa.select(sa.func.sum(t.progress)).where(t.customer_id.in_(both))),
        driver.rows(sa.select(r.state, r.amount, r.refunded).where(r.referee_id == both[1])),
        [
            driver.rows(
                sa.select(s.programme, s.metric, s.season, s.value)
                .where(s.customer_id == one, s.value != 0)
                .order_by(s.programme, s.metric, s.season)
            )
            for one in both
        ],
        driver.rows(sa.select(e.state, e.reason).where(e.customer_id == both[1])),
    )


def test_a_batch_of_refunds_asks_as_often_as_a_single_one(postgres_url):
    asked: dict[int, int] = {}
    with shop(postgres_url, CARE) as driver:
        for size in (2, 30):
            for n in range(size):
                order(driver, friend(100 * size + n), id_=f"o{size}-{n}", codes=[code(driver)])
            for n in range(size):
                payload = {"order": {"id": f"o{size}-{n}"}, "refund": {"amount": 40}}
                driver.post("order.refunded", payload, customer=friend(100 * size + n), drained=False)
            statements: list[Any] = []

            def counted(*said: Any, heard: list[Any] = statements) -> None:
                heard.append(said[2])

            sa.event.listen(driver.app.database.engine, "before_cursor_execute", counted)
            driver.actors.ingest()
            sa.event.remove(driver.app.database.engine, "before_cursor_execute", counted)
            driver.drain()
            asked[size] = len(statements)
        assert set(states(driver)) == {"reversed"}
    assert asked[30] <= asked[2] + 1  # now and then a look for suspects falls into one of them


# By hand


def test_a_person_may_unwind_an_order_and_sees_before_what_that_means(database_url, monkeypatch, afterglow: Afterglow):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    without = {name: value for name, value in BEANS.items() if name != "refunds"}
    with shop(database_url, CARE, friends=FRIENDS, beans=without) as driver:
        order(driver, codes=[code(driver)])
        before = (balance(driver, "bob"), friends_boards(driver), runs(driver), states(driver))
        status, said, _ = afterglow("unwind", "o1", "--reason", "never paid", "--by", "mia")
        assert status == 0
        for words in ("would be unwound", "40 points of customer 2", "referral 1 of friends: reversed", "1 run end"):
            assert words in said
        assert (balance(driver, "bob"), friends_boards(driver), runs(driver), states(driver)) == before
        assert driver.rows(sa.select(inbox.c.id).where(inbox.c.key.like("unwind/%"))) == []

        assert "is unwound" in afterglow("unwind", "api/o1", "--reason", "never paid", "--by", "mia", "--yes")[1]
        assert (balance(driver, "bob"), tier(driver), friends_boards(driver)) == (0, "bronze", (0, 0, 0))
        assert (runs(driver), states(driver)) == ([("stopped", "unwound")], ["reversed"])
        assert (balance(driver, "ann"), balance(driver, "bob", "credit")) == (0, 0)
        stated = driver.rows(sa.select(events.c.source, events.c.payload).where(events.c.name == "order.unwound"))
        said_then = {"order": {"id": "o1", "source": "api"}, "reason": "never paid", "by": "mia"}
        assert stated == [("programme", said_then)]

        assert "was unwound before" in afterglow("unwind", "o1", "--reason", "again", "--yes")[1]
        driver.drain()
        refund(driver, 40)  # comes after all
        assert (balance(driver, "bob"), states(driver)) == (0, ["reversed"])
        status, _, error = afterglow("unwind", "o9", "--reason", "x")
        assert (status, "No order 'o9' came in" in error) == (1, True)


# Boards that are what was recorded


def test_a_board_that_is_wrong_is_told_and_put_right(database_url, monkeypatch, afterglow: Afterglow):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    with shop(database_url) as driver:
        order(driver, codes=[code(driver)])
        assert "are what was recorded" in afterglow("leaderboard", "friends", "--verify")[1]
        with driver.app.writing() as connection:
            connection.execute(scores.update().where(scores.c.metric == "revenue").values(value=7))
            connection.execute(scores.delete().where(scores.c.metric == "points", scores.c.season == "all"))
        status, said, error = afterglow("leaderboard", "friends", "--verify")
        assert status == 1
        assert "friends, revenue, all: customer 1 has 7, and what was recorded makes 4000." in error
        assert "--rebuild" in said
        for programme in ("friends", "beans"):
            assert "put right" in afterglow("leaderboard", programme, "--rebuild")[1]
            assert afterglow("leaderboard", programme, "--verify")[0] == 0
        assert friends_boards(driver) == (1, 4000, 1500)
        status, _, error = afterglow("leaderboard", "frends", "--verify")
        assert (status, "Did you mean" in error) == (1, True)


def test_a_rebuild_gives_way_to_whoever_changes_the_same_scores(postgres_url, monkeypatch, afterglow: Afterglow):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", postgres_url)
    counted = recounting.differences
    with shop(postgres_url) as driver:
        order(driver, codes=[code(driver)])
        with driver.app.writing() as connection:
            connection.execute(scores.update().where(scores.c.metric == "revenue").values(value=7))

        def meanwhile(*about: Any) -> Any:
            found = counted(*about)
            monkeypatch.undo()
            refund(driver, 10)
            return found

        with monkeypatch.context() as once:
            once.setenv("AFTERGLOW_DATABASE_URL", postgres_url)
            once.setattr(recounting, "differences", meanwhile)
            status, _, error = afterglow("leaderboard", "friends", "--rebuild")
        assert (status, "so nothing was done; run it again" in error) == (1, True)
        monkeypatch.setenv("AFTERGLOW_DATABASE_URL", postgres_url)
        assert afterglow("leaderboard", "friends", "--rebuild")[0] == 0
        assert friends_boards(driver) == (1, 3000, 1500)


def test_scores_are_right_after_a_merge_and_after_it_is_undone_whatever_happened_between(database_url):
    with shop(database_url, friends=FRIENDS) as driver:
        cleo = {"id": "cleo", "email": "cleo@sunny.example"}
        driver.post("ping.one", customer=cleo)
        for n, whose in ((1, "ann"), (2, "cleo"), (3, "cleo")):
            order(driver, friend(n), id_=f"o{n}", codes=[code(driver, whose)])
        order(driver, cleo, id_="own", total=30)
        with driver.app.writing() as connection:
            now = driver.clock.now()
            wanted = merging.want_by_hand(connection, driver.customer("ann"), driver.customer("cleo"), "said so", now)
            merging.merge(connection, wanted, merging.rules(driver.app.catalog.current(connection)), now)
        proven(driver)
        assert friends_boards(driver) == (3, 12000, 3 * 1500 + 2000)
        refund(driver, 10, friend(2), id_="o2")
        refund(driver, 40, friend(3), id_="o3")
        refund(driver, 10, cleo, id_="own")
        with driver.app.writing() as connection:
            reviewing.reject(connection, 3, author="mia", reason="no", now=driver.clock.now())
        driver.drain()
        proven(driver)

        with driver.app.writing() as connection:
            unmerging.unmerge(connection, wanted, driver.clock.now())
        proven(driver)
        c = referrals_table.c
        back = driver.rows(sa.select(c.referrer_id).where(c.id == 2))[0][0]
        assert driver.rows(sa.select(customers.c.merged_into).where(customers.c.id == back)) == [(None,)]
        assert [board(driver, "friends", metric).get(back) for metric in ("referrals", "revenue")] == [1, 3000]
        assert friends_boards(driver)[:2] == (1, 4000)
