"""Mails go once, to those who may get them, at a moment when they may; what a provider says decides what comes next."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from afterglow import letters
from db import bulk, claims, control, identity
from db.tables import contexts, customers, enrollments, halts, profiles, referral_codes, suppressions, touchpoints
from tests.driver import Driver
from tests.small_shop import flow, put_into_force, small
from workers import deliver, settle
from workers.channels import Fate, InDoubt, NotBegun, Outgoing, Rejected, Sent

NIGHT = datetime(2026, 3, 2, 22, 0, tzinfo=UTC)  # eleven in the evening in Paris
MORNING = datetime(2026, 3, 3, 7, 0, tzinfo=UTC)  # eight o'clock
QUIET = {"quiet_hours": {"from": "21:00", "to": "08:00"}}
NOTE = flow("note", [{"send": "email/note"}, {"send": "email/receipt"}], stops={"event": "order.refunded"})
RECEIPT = flow("receipt", [{"send": "email/receipt"}])


@dataclass
class Relay:
    """A provider that keeps what it is given and answers as scripted; where nothing is, it takes everything."""

    fates: list[Fate] = field(default_factory=list)
    batch: int = 50
    during: Callable[[], None] = lambda: None
    name: str = "scripted"
    leaves_the_machine: bool = True
    calls: list[list[Outgoing]] = field(default_factory=list)

    def send(self, messages: Sequence[Outgoing], deadline_s: float) -> list[Fate]:
        self.calls.append(list(messages))
        number = len(self.calls)
        self.during()
        return [self.fates.pop(0) if self.fates else Sent(f"provider-{number}") for _ in messages]

    def close(self) -> None:
        pass

    @property
    def taken(self) -> list[Outgoing]:
        return [message for call in self.calls for message in call]


def sending(database_url: str, relay: Relay, *flows: str, live: str = "yes", **options: Any) -> Any:
    return small(database_url, *flows, email=relay, live=live, **options)


def order(driver: Driver, *, who: str = "c1", consent: str | None = "granted", **options: Any) -> None:
    customer = {"id": who, "email": f"{who}@example.com", "first_name": who.upper(), "timezone": "Europe/Paris"}
    driver.post("order.paid", {"order": {"id": f"order of {who}"}}, customer=customer, consent=consent, **options)


def told(driver: Driver) -> list[tuple[str, str, str | None]]:
    """Step, state and reason of every touchpoint, in the order of queueing."""
    t = touchpoints.c
    return [tuple(row) for row in driver.rows(sa.select(t.step, t.state, t.reason).order_by(t.id))]


def suppress(driver: Driver, covers: str) -> None:
    digest = identity.address_digest(driver.secret, "c1@example.com").hex()
    with driver.app.writing() as connection:
        row = ("email", digest, "by-hand", covers, driver.clock.now())
        bulk.insert(connection, suppressions, ("channel", "digest", "reason", "covers", "at"), [row])


def changed(driver: Driver, table: sa.Table, **values: Any) -> None:
    with driver.app.writing() as connection:
        connection.execute(table.update().values(**values))


def say(driver: Driver, event: str = "ping.one", **options: Any) -> None:
    attributes = options.pop("attributes", {})
    driver.post(event, customer={"id": "c1", "attributes": attributes}, **options)


# Every rail, at every send


BETWEEN: dict[str, tuple[Callable[[Driver], None], str, str]] = {
    "nothing": (lambda d: None, "sent", "None"),
    "an unsubscription": (lambda d: say(d, consent="withdrawn"), "skipped", "unsubscribed from marketing"),
    "one from the topic": (lambda d: say(d, consent="withdrawn", topic="care"), "skipped", "unsubscribed from care"),
    "one from another topic": (lambda d: say(d, consent="withdrawn", topic="news"), "sent", "None"),
    "a bounce": (lambda d: suppress(d, "everything"), "skipped", "suppressed"),
    "a complaint": (lambda d: suppress(d, "marketing"), "skipped", "suppressed for marketing"),
    "an address taken away": (lambda d: changed(d, profiles, email=None), "skipped", "no address"),
    "forgetting": (lambda d: changed(d, customers, forgotten_at=NIGHT), "skipped", "forgotten"),
    "only_if": (lambda d: say(d, attributes={"vip": True}), "skipped", "only_if is not true: not customer.vip"),
    "a refund": (lambda d: say(d, "order.refunded"), "skipped", "the run stopped: order.refunded"),
}


@pytest.mark.parametrize("what", BETWEEN)
def test_every_rail_is_asked_again_when_a_queued_mail_may_go(database_url, what):
    change, state, reason = BETWEEN[what]
    cautious = flow("note", [{"send": "email/note"}], stops={"event": "order.refunded"}, only_if="not customer.vip")
    with small(database_url, cautious, shop=QUIET) as driver:
        driver.clock.jump(NIGHT)
        order(driver)
        assert told(driver) == [("note", "queued", "quiet hours")]

        change(driver)
        driver.at(MORNING)

        [(_, found, because)] = told(driver)
        assert (found, reason in str(because)) == (state, True), because
        assert driver.rows(sa.select(touchpoints.c.settled_at <= MORNING)) == [(True,)]


def test_service_mail_goes_at_night_without_consent_and_through_a_halt(database_url):
    with small(database_url, RECEIPT, shop=QUIET) as driver:
        driver.clock.jump(NIGHT)
        with driver.app.writing() as connection:
            control.halt(connection, control.ALL, by="a test", now=NIGHT)
        order(driver, consent="withdrawn")

        assert told(driver) == [("receipt", "sent", None)]


def test_a_skipped_mail_does_not_hold_the_run(database_url):
    with small(database_url, NOTE) as driver:
        order(driver, consent=None)

        assert told(driver) == [
            ("note", "skipped", "the customer has not agreed to care"),
            ("receipt", "sent", None),
        ]
        assert driver.rows(sa.select(enrollments.c.state)) == [("finished",)]


def test_marketing_that_cannot_go_in_time_is_skipped_as_old_news(database_url):
    weekly = {"caps": [{"at_most": 1, "within": "7 days"}], "keep_for": "3 days"}
    with small(database_url, NOTE, shop=weekly) as driver:
        order(driver)
        order(driver)
        driver.at(days=8)

        notes = [(state, reason) for step, state, reason in told(driver) if step == "note"]
        assert notes == [("sent", None), ("skipped", "it could not go in time")]


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({"live": "no"}, "skipped"),
        ({"live": "no", "allow": "c1@example.com"}, "sent"),
        ({"live": "no", "allow": "@example.com"}, "sent"),
        ({"live": "no", "allow": "other@example.com @example.co"}, "skipped"),
        ({"live": "yes"}, "sent"),
    ],
)
def test_the_staging_guard_lets_only_allowed_addresses_get_mail(sqlite_url, settings, state):
    relay = Relay()
    with sending(sqlite_url, relay, RECEIPT, **settings) as driver:
        order(driver)
        driver.at(days=30)

        assert [found for _, found, _ in told(driver)] == [state], (
            "closed, never left to go out on the day of going live"
        )
        assert [message.to_address for message in relay.taken] == ["c1@example.com"] * (state == "sent")
        assert driver.rows(sa.select(enrollments.c.state)) == [("finished",)]


def test_the_guard_covers_the_letters_to_teams(sqlite_url):
    relay = Relay()
    asks = flow("asks", [{"notify": "desk", "about": "Look at {{ order.id }}"}])
    with sending(sqlite_url, relay, asks, live="no", allow="desk@small.example") as driver:
        order(driver)
    with sending(sqlite_url, relay, asks, live="no", allow="c1@example.com") as driver:
        order(driver, key="another")
        assert [state for _, state, _ in told(driver)] == ["sent", "skipped"]

    [message] = relay.taken
    assert (message.to_address, message.to_name) == ("desk@small.example", None)
    assert "Look at order of c1" in message.text
    assert "List-Unsubscribe" not in message.headers


# What goes wrong for one


def test_a_template_that_fails_for_one_customer_fails_that_mail_only(database_url):
    gifts = flow("gifts", [{"send": "email/gift"}, {"send": "email/receipt"}])
    with small(database_url, gifts) as driver:
        for n in range(3):
            gift = {} if n == 1 else {"gift": "a mug"}
            driver.post("order.paid", {"order": {"id": f"o{n}", **gift}}, customer={"id": f"c{n}", "email": f"c{n}@example.com"})  # fmt: skip  # noqa: E501

        found = Counter((step, state) for step, state, _ in told(driver))
        assert found == {("gift", "sent"): 2, ("gift", "failed"): 1, ("receipt", "sent"): 3}
        [reason] = [reason for _, state, reason in told(driver) if state == "failed"]
        assert reason is not None
        assert "order.gift" in reason


def break_rendering(monkeypatch: pytest.MonkeyPatch, who: str, error: BaseException) -> None:
    honest = letters.render

    def rendering(mail: Any, stored: Any, *rest: Any, **options: Any) -> Any:
        if who in repr(stored):
            raise error
        return honest(mail, stored, *rest, **options)

    monkeypatch.setattr(letters, "render", rendering)


def test_one_mail_that_cannot_be_made_fails_alone_and_every_other_goes_exactly_once(database_url, monkeypatch):
    break_rendering(monkeypatch, "C13", ZeroDivisionError("the bug"))
    relay = Relay()
    with sending(database_url, relay, RECEIPT) as driver:
        for n in range(20):
            order(driver, who=f"c{n}", drained=False)
        driver.drain()
        driver.at(hours=1)

        assert Counter(state for _, state, _ in told(driver)) == {"sent": 19, "failed": 1}
        assert [reason for _, state, reason in told(driver) if state == "failed"] == ["ZeroDivisionError: the bug"]
        assert sorted(m.to_address for m in relay.taken) == sorted(f"c{n}@example.com" for n in range(20) if n != 13)


class Death(BaseException):
    """Stands for a kill: nothing catches it, so nothing is tidied up."""


def test_one_mail_that_kills_its_process_is_given_up_at_the_third_death_and_the_others_go_exactly_once(
    database_url, monkeypatch
):
    break_rendering(monkeypatch, "C13", Death())
    relay = Relay()
    with sending(database_url, relay, RECEIPT) as driver:
        for n in range(20):
            order(driver, who=f"c{n}", drained=False)
        deaths = 0
        for _ in range(30):
            try:
                driver.actors.tend()
                driver.drain()
                break
            except Death:
                deaths += 1
                driver.clock.jump(driver.clock.now() + timedelta(seconds=5))
        driver.at(hours=1)

        assert deaths == claims.TRIES_MAX
        assert Counter(state for _, state, _ in told(driver)) == {"sent": 19, "failed": 1}
        assert len({m.to_address for m in relay.taken}) == len(relay.taken) == 19
        assert driver.rows(sa.select(enrollments.c.state).distinct()) == [("finished",)], "no run is held for ever"


# By hand


def test_halt_beats_what_is_queued_and_resume_repeats_and_skips_nothing(database_url):
    notes = flow("notes", [{"send": "email/note", "id": "first"}, {"id": "w", "wait": "1 day"}, {"send": "email/note"}])
    other = flow("other", [{"send": "email/news"}])
    with small(database_url, notes, other, shop=QUIET) as driver:
        driver.clock.jump(NIGHT)
        for n in range(5):
            order(driver, who=f"c{n}")
        for day in range(8):  # longer than a mail may wait by itself
            with driver.app.writing() as connection:
                control.halt(connection, "notes", by="a test", now=driver.clock.now())
            driver.at(MORNING + timedelta(days=day, hours=day))
            assert {state for step, state, _ in told(driver) if step == "first"} == {"held"}
            if day == 3:
                with driver.app.writing() as connection:
                    assert control.resume(connection, "other", now=driver.clock.now()) == 0
        assert {state for step, state, _ in told(driver) if step == "news"} == {"sent"}, "another flow goes on"

        for _ in range(3):
            with driver.app.writing() as connection:
                control.resume(connection, "notes", now=driver.clock.now())
            driver.drain()
        driver.at(MORNING + timedelta(days=20))

        assert Counter((step, state) for step, state, _ in told(driver)) == {
            ("first", "sent"): 5,
            ("note", "sent"): 5,
            ("news", "sent"): 5,
        }


def test_what_a_batch_holds_by_a_halt_that_was_taken_back_meanwhile_goes_on_all_the_same(database_url):
    with small(database_url, flow("note", [{"send": "email/note"}])) as driver:
        now = driver.clock.now()
        with driver.app.writing() as connection:
            control.halt(connection, "note", by="a test", now=now)
        order(driver)
        assert told(driver) == [("note", "held", "marketing is halted")]
        with driver.app.writing() as connection:  # as `resume` leaves it that came before the batch's end
            connection.execute(halts.delete())

        for _ in range(2):
            driver.actors.tend()
            driver.drain()

        assert told(driver) == [("note", "sent", None)]


def test_resuming_one_flow_does_not_lift_the_halt_of_all(database_url):
    with small(database_url, flow("note", [{"send": "email/note"}])) as driver:
        now = driver.clock.now()
        with driver.app.writing() as connection:
            control.halt(connection, control.ALL, by="a test", now=now)
            control.halt(connection, "note", by="a test", now=now)
        order(driver)
        with driver.app.writing() as connection:
            assert control.resume(connection, "note", now=now) == 0
        driver.drain()
        assert told(driver) == [("note", "held", "marketing is halted")]

        with driver.app.writing() as connection:
            assert control.resume(connection, control.ALL, now=now) == 1
        driver.drain()
        assert told(driver) == [("note", "sent", None)]


def test_a_flow_that_is_paused_and_runs_again_repeats_and_skips_nothing(database_url):
    steps = [{"send": "email/note"}, {"id": "w", "wait": "1 day"}, {"send": "email/receipt"}]
    live, paused = flow("care", steps), flow("care", steps, status="paused")
    with small(database_url, live, shop=QUIET) as driver:
        order(driver, who="waiting")  # waits for a day
        driver.clock.jump(NIGHT)
        order(driver, who="queued")  # waits for the morning
        put_into_force(driver, paused, **QUIET)
        order(driver, who="late")  # starts nothing
        driver.at(NIGHT + timedelta(days=9))
        assert Counter((step, state) for step, state, _ in told(driver)) == {("note", "sent"): 1, ("note", "held"): 1}

        put_into_force(driver, live, **QUIET)
        driver.actors.tend()
        driver.at(NIGHT + timedelta(days=12))

        assert Counter((step, state) for step, state, _ in told(driver)) == {
            ("note", "sent"): 2,
            ("receipt", "sent"): 2,
        }
        assert driver.rows(sa.select(enrollments.c.state)) == [("finished",)] * 2


@pytest.mark.parametrize("swept", [True, False])
def test_what_happens_while_a_flow_is_paused_is_not_missed(database_url, swept):
    steps = [{"id": "arrival", "wait_for": "ping.two", "for_up_to": "30 days"}, {"send": "email/receipt"}]
    live, paused = flow("care", steps), flow("care", steps, status="paused")
    with small(database_url, live) as driver:
        order(driver)
        put_into_force(driver, paused)
        if swept:
            driver.actors.tend()
        say(driver, "ping.two")
        assert told(driver) == []

        put_into_force(driver, live)
        driver.at(days=1)

        assert told(driver) == [("receipt", "sent", None)]


# Caps


def test_of_two_flows_at_once_a_cap_takes_the_one_with_priority(database_url):
    flows = [flow(name, [{"send": "email/note"}]) for name in ("alpha", "beta", "gamma")]
    rails = {"caps": [{"at_most": 1, "within": "20 hours"}], "priority": ["gamma", "beta"]}
    with small(database_url, *flows, shop=rails) as driver:
        order(driver)
        assert sorted(driver.touchpoints()) == [
            ("alpha", "note", "queued"),
            ("beta", "note", "queued"),
            ("gamma", "note", "sent"),
        ]
        driver.at(hours=20)
        driver.at(hours=40)

        t = touchpoints.c
        went = driver.rows(sa.select(t.flow, t.prepared_at).where(t.state == "sent").order_by(t.prepared_at))
        first = went[0][1]
        assert went == [
            ("gamma", first),
            ("beta", first + timedelta(hours=20)),
            ("alpha", first + timedelta(hours=40)),
        ]


def test_ten_flows_at_once_never_exceed_a_cap_with_two_workers(postgres_url):
    flows = [flow(f"f{n}", [{"send": "email/note"}]) for n in range(10)]
    rails = {"caps": [{"at_most": 2, "within": "24 hours"}], "keep_for": "30 days"}
    relay, relay2 = Relay(batch=7), Relay(batch=7)
    with (
        sending(postgres_url, relay, *flows, shop=rails) as driver,
        sending(postgres_url, relay2, *flows, shop=rails) as other,
    ):
        for n in range(8):
            order(driver, who=f"c{n}", drained=False)
        driver.actors.ingest()
        driver.actors.advance()

        def work(one: Driver) -> None:
            for _ in range(20):
                one.actors.deliver()

        threads = [threading.Thread(target=work, args=(each,)) for each in (driver, other) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        went = Counter(message.to_address for message in [*relay.taken, *relay2.taken])
        assert went == {f"c{n}@example.com": 2 for n in range(8)}
        driver.at(days=6)
        moments: dict[int, list[datetime]] = {}
        t = touchpoints.c
        for customer, at in driver.rows(sa.select(t.customer_id, t.prepared_at).where(t.state == "sent")):
            moments.setdefault(customer, []).append(at)
        assert len(moments) == 8
        for sent in moments.values():
            assert len(sent) == 10
            for start in sent:
                assert sum(start <= at < start + timedelta(hours=24) for at in sent) <= 2


# What the provider says


def lived(database_url: str, kind: str, fates: list[Fate], days: float = 4) -> tuple[list[Any], Relay]:
    """State, reason, attempts and the provider's id of one mail whose provider answers so; and the provider."""
    relay = Relay(fates=fates)
    template = {"marketing": "email/note", "service": "email/receipt"}[kind]
    with sending(database_url, relay, flow("one", [{"id": "it", "send": template}])) as driver:
        order(driver)
        driver.at(days=days)
        t = touchpoints.c
        rows = driver.rows(sa.select(t.state, t.attempts, t.provider_id, t.reason))
        finished = rows[0][0] not in ("queued", "sending")
        assert driver.rows(sa.select(enrollments.c.state)) == [("finished" if finished else "sending",)]
        return list(rows[0]), relay


KINDS = pytest.mark.parametrize("kind", ["marketing", "service"])


@KINDS
def test_what_a_provider_takes_is_sent_under_its_id(database_url, kind):
    row, relay = lived(database_url, kind, [Sent("abc")])

    assert row == ["sent", 1, "abc", None]
    [message] = relay.taken
    assert ("List-Unsubscribe" in message.headers) is (kind == "marketing")
    assert message.headers.get("List-Unsubscribe-Post") == (
        "List-Unsubscribe=One-Click" if kind == "marketing" else None
    )


@KINDS
def test_refused_for_now_is_tried_again_later_as_the_same_mail(sqlite_url, kind):
    row, relay = lived(sqlite_url, kind, [Rejected("busy", permanent=False), NotBegun("no connection")])

    assert row[:3] == ["sent", 3, "provider-3"]
    first, *others = relay.taken
    assert all(
        (one.message_id, one.idempotency_key, one.text, one.html)
        == (first.message_id, first.idempotency_key, first.text, first.html)
        for one in others
    )


def test_refused_for_now_again_and_again_is_given_up(sqlite_url):
    row, relay = lived(sqlite_url, "service", [Rejected("busy", permanent=False)] * 99, days=9)

    assert row == ["rejected", settle.ATTEMPTS_MAX, None, "busy"]
    assert len(relay.taken) == settle.ATTEMPTS_MAX


@KINDS
def test_refused_for_good_is_not_tried_again(sqlite_url, kind):
    row, relay = lived(sqlite_url, kind, [Rejected("no such user here", permanent=True)])

    assert row == ["rejected", 1, None, "no such user here"]
    assert len(relay.taken) == 1


@KINDS
def test_marketing_in_doubt_is_never_repeated_and_service_mail_is_until_it_is_sure(database_url, kind):
    row, relay = lived(database_url, kind, [InDoubt("it fell silent"), Sent("second")])

    if kind == "marketing":
        assert row == ["in_doubt", 1, None, "it may have been sent: it fell silent"]
        assert len(relay.taken) == 1
    else:
        assert row[:3] == ["sent", 2, "second"]


def test_service_mail_that_stays_in_doubt_is_given_up(sqlite_url):
    row, relay = lived(sqlite_url, "service", [InDoubt("it fell silent")] * 99)

    assert row[:2] == ["in_doubt", settle.IN_DOUBT_MAX]
    assert len(relay.taken) == settle.IN_DOUBT_MAX


def test_a_bounced_customer_gets_no_further_mail(database_url):
    relay = Relay(fates=[Rejected("no such user here", permanent=True, suppress=True)])
    with sending(
        database_url, relay, RECEIPT, flow("note", [{"id": "w", "wait": "1 day"}, {"send": "email/note"}])
    ) as driver:
        order(driver)
        driver.at(days=2)
        order(driver)
        order(driver, who="c2")
        driver.at(days=5)

        assert [message.to_address for message in relay.taken].count("c1@example.com") == 1
        assert [message.to_address for message in relay.taken].count("c2@example.com") == 2
        assert driver.rows(sa.select(suppressions.c.reason, suppressions.c.covers)) == [("bounced", "everything")]


def test_what_is_in_doubt_counts_against_a_cap(sqlite_url):
    relay = Relay(fates=[InDoubt("it fell silent")])
    rails = {"caps": [{"at_most": 1, "within": "9 days"}]}
    with sending(sqlite_url, relay, flow("note", [{"send": "email/note"}]), shop=rails) as driver:
        order(driver)
        driver.at(days=1)
        order(driver)
        driver.at(days=2)

        assert len(relay.taken) == 1


# Batches, leases, workers that come back from the dead


def test_the_threads_of_a_process_never_have_more_than_one_batch_in_their_hands(database_url):
    relay = Relay(batch=12)
    many = [flow(f"f{n}", [{"send": "email/receipt"}]) for n in range(4)]
    with sending(database_url, relay, *many, threads=8) as driver:  # of which four may send
        in_hand: list[int] = []
        query = sa.select(sa.func.count()).select_from(touchpoints).where(touchpoints.c.state == "sending")
        relay.during = lambda: in_hand.append(driver.rows(query)[0][0])
        for n in range(5):
            order(driver, who=f"c{n}", drained=False)
        driver.drain()

        assert {state for _, state, _ in told(driver)} == {"sent"}
        assert max(len(call) for call in relay.calls) == max(in_hand) == 3
        assert len(relay.taken) == 20


def test_a_batch_of_one_serves_both_lanes(sqlite_url):
    relay = Relay(batch=1)
    with sending(
        sqlite_url, relay, RECEIPT, flow("note", [{"id": "w", "wait": "1 hour"}, {"send": "email/note"}])
    ) as driver:
        order(driver)
        driver.at(days=1)

        assert {state for _, state, _ in told(driver)} == {"sent"}


def test_what_a_dead_worker_had_handed_over_is_in_doubt_when_its_lease_is_over(database_url):
    relay = Relay()
    with sending(database_url, relay, NOTE, RECEIPT) as driver:

        def dies() -> None:
            raise Death

        relay.during = dies
        with pytest.raises(Death):
            order(driver)
        relay.during = lambda: None
        driver.drain()
        driver.clock.jump(driver.clock.now() + deliver.LEASE - timedelta(seconds=1))
        driver.actors.tend()
        driver.drain()
        assert {(step, state) for step, state, _ in told(driver)} == {("note", "sending"), ("receipt", "sending")}

        driver.clock.jump(driver.clock.now() + timedelta(seconds=2))
        driver.actors.tend()
        driver.at(days=1)

        found = Counter((step, state) for step, state, _ in told(driver))
        assert found == {("note", "in_doubt"): 1, ("receipt", "sent"): 2}, "the run of the note went on to its receipt"
        assert Counter(message.subject for message in relay.taken) == {"A note": 1, "A receipt": 3}


@pytest.mark.parametrize(
    "says", [Sent("zombie"), Rejected("zombie", permanent=True, suppress=False), NotBegun("zombie")]
)
def test_a_worker_that_stood_still_past_its_lease_settles_nothing(database_url, says):
    relay = Relay(fates=[says, says])
    with sending(database_url, relay, flow("note", [{"send": "email/note"}]), RECEIPT) as driver:

        def stands_still() -> None:
            relay.during = lambda: None
            kept, relay.fates = relay.fates, []
            driver.clock.jump(driver.clock.now() + deliver.LEASE + timedelta(seconds=1))
            driver.actors.tend()
            driver.at(driver.clock.now() + timedelta(hours=1))  # others go on
            relay.fates = kept

        relay.during = stands_still
        order(driver)
        driver.at(days=1)

        t = touchpoints.c
        rows = driver.rows(sa.select(t.step, t.state, t.provider_id, t.reason).order_by(t.step))
        assert [row[:3] for row in rows] == [("note", "in_doubt", None), ("receipt", "sent", "provider-2")]
        assert "zombie" not in repr(rows)
        assert driver.rows(sa.select(enrollments.c.state)) == [("finished",)] * 2


def test_a_worker_that_stood_still_while_it_settled_tries_once_more(sqlite_url, monkeypatch):
    relay = Relay()
    with sending(sqlite_url, relay, RECEIPT) as driver:
        honest, clock, failed = deliver.settle, [0.0], []

        def dead_at_first(*given: Any) -> None:
            if not failed:
                failed.append(True)
                clock[0] += deliver.LEASE.total_seconds() + 1  # and its connection died meanwhile
                raise sa.exc.OperationalError("", {}, Exception("gone"))
            honest(*given)

        monkeypatch.setattr(deliver, "settle", dead_at_first)
        monkeypatch.setattr(deliver, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda _: None))
        order(driver)

        assert failed
        assert [state for _, state, _ in told(driver)] == ["sent"]


@pytest.mark.parametrize(
    "says", [Rejected("zombie", permanent=True, suppress=False), NotBegun("zombie"), Sent("zombie")]
)
def test_a_worker_from_before_the_lease_settles_nothing_while_another_sends(database_url, says):
    relay = Relay(fates=[])
    with sending(database_url, relay, RECEIPT) as driver:
        in_hand, wakes = threading.Event(), threading.Event()

        def stands_still() -> None:
            relay.during = lambda: None
            in_hand.set()
            wakes.wait(60)
            relay.fates.append(says)

        def meets_the_zombie() -> None:
            wakes.set()
            zombie.join()

        relay.during = stands_still
        order(driver, drained=False)
        zombie = threading.Thread(target=driver.drain)
        zombie.start()
        in_hand.wait(60)
        driver.clock.jump(driver.clock.now() + deliver.LEASE + timedelta(seconds=1))
        driver.actors.tend()
        relay.during = meets_the_zombie
        driver.at(driver.clock.now() + timedelta(hours=1))

        t = touchpoints.c
        rows = driver.rows(sa.select(t.state, t.attempts, t.provider_id, t.reason))
        assert rows == [("sent", 2, "provider-2", None)]


def test_workers_racing_over_one_queue_send_each_mail_once(postgres_url):
    relays = [Relay(batch=5), Relay(batch=5)]
    with sending(postgres_url, relays[0], RECEIPT) as driver, sending(postgres_url, relays[1], RECEIPT) as other:
        for n in range(60):
            order(driver, who=f"c{n}", drained=False)
        driver.actors.ingest()
        driver.actors.advance()

        threads = [threading.Thread(target=each.drain) for each in (driver, other) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        went = [message.to_address for relay in relays for message in relay.taken]
        assert sorted(went) == sorted(f"c{n}@example.com" for n in range(60))
        assert Counter(state for _, state, _ in told(driver)) == {"sent": 60}


# What is written down


def test_a_referral_code_is_made_once_for_each_customer_and_stands_in_the_mail(database_url):
    relay = Relay()
    invites = [flow(name, [{"send": "email/invite"}]) for name in ("one", "two")]
    with sending(database_url, relay, *invites, public_url="https://hi.example") as driver:
        order(driver)
        order(driver, who="c2")
        order(driver)

        codes = dict(driver.rows(sa.select(referral_codes.c.customer_id, referral_codes.c.code)))
        assert len(codes) == len(set(codes.values())) == 2
        assert len(relay.taken) == 6
        for message in relay.taken:
            code = codes[driver.customer("c1")] if message.to_address.startswith("c1") else codes[_second(driver)]
            assert f"https://hi.example/r/{code}" in message.text
            assert f"https://hi.example/r/{code}" in message.html


def _second(driver: Driver) -> int:
    return driver.customer("c2")


def test_a_context_keeps_only_what_its_template_reads(database_url):
    with small(database_url, NOTE, RECEIPT) as driver:
        order(driver)

        kept = {repr(row[0]) for row in driver.rows(sa.select(contexts.c.facts))}
        assert "example.com" not in "".join(kept)
        assert "Europe/Paris" not in "".join(kept)
        t = touchpoints.c
        of_note = (
            sa.select(contexts.c.facts).join(touchpoints, t.id == contexts.c.touchpoint_id).where(t.step == "note")
        )
        assert driver.rows(of_note) == [({"names": {"customer": {"first_name": "C1"}}},)]


def test_a_decision_tells_ids_and_names_and_no_personal_data(database_url):
    from db.tables import decisions

    with small(database_url, NOTE, RECEIPT) as driver:
        order(driver)

        told_of = repr(driver.rows(sa.select(decisions.c.verb, decisions.c.step, decisions.c.detail)))
        assert "sent" in told_of
        assert "example.com" not in told_of
        assert "C1" not in told_of
