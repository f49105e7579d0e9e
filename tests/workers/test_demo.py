"""The demo, end to end: real webhooks over HTTP, a clock that jumps, mails in the outbox. And its dice."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from db import identity, leaderboards, proof, referring
from db.doctor import examine
from db.tables import consents, customers, enrollments, inbox, referral_codes, referrals, stage_entries, touchpoints
from db.tables import events as events_table
from db.why import story
from workers.cli import main
from workers.commands.demo_friends import tell_of_friends
from workers.demo.clockwork import Clockwork, Progress
from workers.demo.installation import Installation, installation
from workers.demo.lives import end_of, lives, start_of
from workers.demo.people import CAST, everybody
from workers.demo.posting import Poster
from workers.demo.reactions import Answers, Mail, Rates, Shares, Unsubscribes, reactions
from workers.demo.report import Summary, summary

#: Two demos are lived for all of these, which two processes should not do twice.
pytestmark = pytest.mark.xdist_group("demo")
MARA, THEO, NOOR, IVO, PRIYA, KENJI, LENA, SOFIA, VIKTOR = (person.email for person in CAST)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the demo that is over, its installation still there."""

    shop: Installation
    clockwork: Clockwork
    answers: Counter[tuple[str, int]]
    reached: list[Progress]

    def rows(self, query: Any) -> list[Any]:
        with self.shop.app.reading() as connection:
            return list(connection.execute(query).all())

    def number(self, email: str) -> int:
        """The customer's number here."""
        with self.shop.app.reading() as connection:
            found = identity.find_customer(connection, self.shop.app.settings.secrets[0], email)
        assert found is not None, f"{email} never came"
        return found

    def mails(self, email: str) -> list[tuple[str, str, str]]:
        """(flow, step, state) of somebody's mails, in order of time."""
        t = touchpoints.c
        query = sa.select(t.flow, t.step, t.state).where(t.customer_id == self.number(email))
        return [tuple(row) for row in self.rows(query.order_by(t.queued_at, t.id))]

    def referrals(self, email: str) -> list[str]:
        """The states of those whom somebody brought, in the order in which they came."""
        with self.shop.app.reading() as connection:
            number = self.number(email)
            mine = referring.of_customer(connection, number)
        return [one.state.value for one in reversed(mine) if one.referrer_id == number]

    def told(self, email: str, flow: str | None = None) -> str:
        """What `why` says."""
        with self.shop.app.reading() as connection:
            secret = self.shop.app.settings.secrets[0]
            return "\n".join(map(str, story(connection, self.shop.app.catalog, secret, self.number(email), flow)))

    def summary(self) -> Summary:
        with self.shop.app.reading() as connection:
            return summary(connection)


def run(shop: Installation, *, seed: int = 1, count: int = 10, days: int = 15) -> Run:
    reached: list[Progress] = []
    with Poster(shop.embedded.public_url, shop.secrets) as poster:
        clockwork = Clockwork(shop.app, shop.clock, shop.hints, poster, seed=seed, customers=count, days=days)
        clockwork.run(reached.append)
    return Run(shop=shop, clockwork=clockwork, answers=poster.answers, reached=reached)


@pytest.fixture(scope="module")
def short() -> Iterator[Run]:
    """Ten customers, fifteen days."""
    with installation() as shop:
        yield run(shop)


@pytest.fixture(scope="module")
def told() -> Iterator[Run]:
    """Those with a story of their own, and a few more, for as long as the demo lasts."""
    with installation() as shop:
        yield run(shop, count=12, days=60)


# -- Everything goes the real way ----------------------------------------------------------------------------


def test_every_webhook_is_signed_and_accepted(short: Run):
    assert {status for source, status in short.answers if source != "link"} == {202}
    assert {source for source, _ in short.answers} >= {"shopify", "stripe", "generic", "link"}
    assert sum(short.answers.values()) > 50


def test_every_webhook_becomes_an_event_or_is_ignored_for_a_reason(short: Run):
    rows = short.rows(sa.select(inbox.c.state, inbox.c.reason).where(inbox.c.source != "page"))

    assert {row.state for row in rows} <= {"mapped", "ignored"}
    assert all(row.reason for row in rows if row.state == "ignored")


def test_the_doctor_finds_nothing(short: Run):
    with short.shop.app.reading() as connection:
        assert examine(connection, short.shop.clock.now(), short.shop.app.settings) == []


def test_the_clock_stands_at_the_end_and_nothing_is_due_before(short: Run):
    assert short.shop.clock.now() == end_of(15)
    for table, state in ((enrollments, "waiting"), (touchpoints, "queued")):
        assert short.rows(sa.select(table.c.id).where(table.c.state == state, table.c.due_at <= end_of(15))) == []


def test_progress_only_ever_grows(short: Run):
    for before, after in zip(short.reached, short.reached[1:], strict=False):
        assert (before.now, before.webhooks, before.mails) <= (after.now, after.webhooks, after.mails)
    assert short.reached[-1].mails == short.summary().sent


def test_each_webhook_is_received_at_its_own_instant(short: Run):
    received = {row.received_at for row in short.rows(sa.select(inbox.c.received_at).where(inbox.c.source != "page"))}
    planned = {one.at for one in lives(1, 10, 15)}

    assert len(planned - received) == 0 or {at for at in planned - received if at not in received} == _repeats()


def _repeats() -> set[datetime]:
    """The instants of deliveries whose bytes came before: they leave no row."""
    seen: set[tuple[str, str, bytes]] = set()
    again: set[datetime] = set()
    for one in lives(1, 10, 15):
        if (one.source, one.id, one.body) in seen:
            again.add(one.at)
        seen.add((one.source, one.id, one.body))
    return again


def test_each_mail_goes_at_its_own_moment_not_at_the_end_of_a_slice(told: Run):
    at = told.rows(
        sa.select(touchpoints.c.settled_at).where(touchpoints.c.step == "review-request", touchpoints.c.state == "sent")
    )
    assert at
    assert {row.settled_at.minute for row in at} == {30}  # 10:30 in whatever zone


# -- Nobody gets what they should not ------------------------------------------------------------------------


def test_no_marketing_goes_to_those_who_never_agreed(told: Run):
    agreed = {row.customer_id for row in told.rows(sa.select(consents.c.customer_id))}
    sent = told.rows(
        sa.select(touchpoints.c.customer_id).where(touchpoints.c.kind == "marketing", touchpoints.c.state == "sent")
    )
    assert sent
    assert {row.customer_id for row in sent} <= agreed


def test_no_marketing_goes_out_after_a_withdrawal(told: Run):
    words = told.rows(
        sa.select(consents.c.customer_id, consents.c.occurred_at).where(
            consents.c.state == "withdrawn", consents.c.topic == "*"
        )
    )
    assert words
    for row in words:
        t = touchpoints.c
        later = sa.select(t.id).where(
            t.customer_id == row.customer_id, t.kind == "marketing", t.state == "sent", t.settled_at > row.occurred_at
        )
        assert told.rows(later) == []


def test_nobody_gets_the_same_mail_of_the_same_run_twice(told: Run):
    t = touchpoints.c
    doubles = sa.select(t.enrollment_id, t.step).where(t.state == "sent").group_by(t.enrollment_id, t.step)

    assert told.rows(doubles.having(sa.func.count() > 1)) == []


# -- The stories ---------------------------------------------------------------------------------------------


def test_mara_is_answered_by_a_human_instead_of_a_newsletter(told: Run):
    mails = told.mails(MARA)

    assert ("first-order", "thank-you", "sent") in mails
    assert ("first-order", "brew-check-in", "sent") in mails
    assert ("first-order", "notify-customer-care", "sent") in mails
    assert ("first-order", "brew-tips", "sent") not in mails
    assert "`answer.score <= 2` was true" in told.told(MARA, "first-order")


def test_mara_comes_back_and_her_link_brings_a_friend_who_orders_with_her_code(told: Run):
    assert ("repeat-order", "thank-you-again", "sent") in told.mails(MARA)
    code = told.rows(sa.select(referral_codes.c.code).where(referral_codes.c.customer_id == told.number(MARA)))[0].code
    friend = told.number("jonas.ek@example.com")
    paid = told.rows(
        sa.select(events_table.c.payload).where(
            events_table.c.customer_id == friend, events_table.c.name == "order.paid"
        )
    )
    assert paid[0].payload["order"]["codes"] == [code]


def test_theos_refund_stops_all_that_hung_on_the_order(told: Run):
    e = enrollments.c
    runs = told.rows(sa.select(e.state, e.reason).where(e.customer_id == told.number(THEO), e.state == "stopped"))

    assert Counter(row.reason for row in runs)["order.refunded with the same order.id"] == 4
    assert Counter(row.reason for row in runs)["order.refunded"] == 1  # he is not asked for friends either
    assert told.mails(THEO) == [("first-order", "thank-you", "sent")]


def test_noor_writes_a_review_when_she_is_asked(told: Run):
    assert ("review-request", "review-request", "sent") in told.mails(NOOR)
    entries = sa.select(stage_entries.c.stage).where(stage_entries.c.customer_id == told.number(NOOR))
    assert "advocacy" in {row.stage for row in told.rows(entries)}


def test_a_refund_that_comes_before_its_order_still_stops_it(told: Run):
    names = told.rows(
        sa.select(events_table.c.name)
        .where(events_table.c.customer_id == told.number(IVO), events_table.c.name.like("order.%"))
        .order_by(events_table.c.id)
    )
    assert [row.name for row in names][:3] == ["order.placed", "order.paid", "order.refunded"]
    assert {flow for flow, _, _ in told.mails(IVO)} == {"welcome"}


def test_priya_is_reminded_once_of_her_basket(told: Run):
    assert [step for flow, step, _ in told.mails(PRIYA) if flow == "abandoned-checkout"] == ["checkout-reminder"]


def test_kenji_pays_after_the_first_reminder(told: Run):
    assert [step for flow, step, _ in told.mails(KENJI) if flow == "payment-failed"] == ["payment-failed"]
    assert "payment.succeeded" in told.told(KENJI, "payment-failed")


def test_lena_has_enough_and_gets_nothing_but_service_mail_from_then_on(told: Run):
    kinds = told.rows(
        sa.select(touchpoints.c.kind, touchpoints.c.state, touchpoints.c.reason)
        .where(touchpoints.c.customer_id == told.number(LENA))
        .order_by(touchpoints.c.queued_at)
    )
    assert ("marketing", "skipped", "the customer unsubscribed from marketing") in [tuple(row) for row in kinds]
    assert kinds[-1].kind == "service" or kinds[-1].state == "skipped"


# -- Points and friends --------------------------------------------------------------------------------------


def test_noors_three_friends_stay_and_she_is_thanked_within_the_limits_and_invited_to_the_table(told: Run):
    mails = told.mails(NOOR)

    assert mails.count(("referral-thanks", "referral-thanks", "sent")) == 2
    assert mails.count(("referral-thanks", "referral-thanks", "skipped")) == 1  # three mails in seven days are enough
    assert mails.count(("referral-vip", "referral-vip", "sent")) == 1
    assert told.referrals(NOOR) == ["rewarded"] * 3


def test_a_friend_is_told_that_their_beans_are_there(told: Run):
    assert ("referral-gift", "referral-gift", "sent") in told.mails("samira.haddad@example.com")


def test_one_refund_takes_back_points_of_both_the_rank_and_the_queued_mail(told: Run):
    witness = told.clockwork.witness
    assert witness is not None
    before, after = witness.before, witness.after

    assert (before.referral.state, after.referral.state) == ("rewarded", "reversed")
    assert (before.referee_has, after.referee_has) == (44 + 200, 0)  # three bags of 14.90, and the gift
    assert before.referrer_has - after.referrer_has == 200 + 400  # the reward, and the milestone
    assert (before.friends, after.friends) == (3, 2)
    assert (before.rank, after.rank) == (1, 2)
    assert (before.queued, after.queued) == (("review-request",), ())
    assert ("review-request", "review-request", "skipped") in told.mails("rosa.pinto@example.com")


def test_viktor_is_not_his_own_friend(told: Run):
    assert told.referrals(VIKTOR) == ["rejected", "review"]
    with told.shop.app.reading() as connection:
        mine = referring.of_customer(connection, told.number(VIKTOR))
        why = referring.decisions(connection, [one.id for one in mine])
    rules = [set(one.evidence["rules"]) for each in why.values() for one in each if one.evidence.get("rules")]

    assert "same-email" in rules[0]
    assert rules[1] == {"similar-names", "similar-addresses"}
    assert not any(flow == "referral-thanks" for flow, _, _ in told.mails(VIKTOR))


def test_the_story_of_friends_is_told_within_eighty_columns_and_ends_with_the_proof(told: Run, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    tell_of_friends(told.shop, told.clockwork.witness)
    lines = capsys.readouterr().out.splitlines()

    assert [line for line in lines if len(line.rstrip()) > 80] == []
    shown = [line.split() for line in lines]
    assert ["Rosa's", "beans", "244", "0"] in shown
    assert ["Sofia's", "rank", "1", "2"] in shown
    assert ["Mails", "on", "the", "way", "to", "Rosa", "review-request", "none"] in shown
    text = "\n".join(lines)
    for words in (
        "have one mailbox. (+100)",
        "held for a person until",
        "afterglow leaderboard friends",
        "outstanding",
    ):
        assert words in text
    assert lines[-1].endswith("everything adds up.")
    assert len(lines) < 60


def test_a_demo_too_short_for_the_story_tells_what_there_is(short: Run, capsys):
    tell_of_friends(short.shop, short.clockwork.witness)
    told = capsys.readouterr().out

    assert "before and after" not in told
    assert told.splitlines()[-1].endswith("everything adds up.")


def test_the_ledger_adds_up_and_the_board_counts_what_was_rewarded(told: Run):
    with told.shop.app.reading() as connection:
        assert proof.verify(connection).differences == []
    with told.shop.app.reading() as connection:
        board = leaderboards.Board(programme="friends", metric="referrals")
        placed = {place.customer_id: place.value for place in leaderboards.top(connection, board)}
    r = referrals.c
    query = sa.select(r.referrer_id, sa.func.count()).where(r.state == "rewarded").group_by(r.referrer_id)
    assert placed == {row[0]: row[1] for row in told.rows(query)}
    assert placed[told.number(NOOR)] == 3
    assert placed[told.number(SOFIA)] == 2


# -- The same seed, the same mails ---------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_mails(short: Run):
    with installation() as shop:
        again = run(shop)
        assert again.summary() == short.summary()
        assert _outbox(again) == _outbox(short)


def _outbox(of: Run) -> list[tuple[Any, ...]]:
    t = touchpoints.c
    query = sa.select(t.customer_id, t.flow, t.step, t.template, t.state, t.reason, t.queued_at, t.settled_at)
    return [tuple(row) for row in of.rows(query.order_by(t.customer_id, t.queued_at, t.id))]


def test_the_same_seed_gives_the_same_lives_and_another_seed_others():
    assert lives(5, 30, 20) == lives(5, 30, 20)
    assert lives(5, 30, 20) != lives(6, 30, 20)


def test_one_customer_more_changes_nobody_elses_life():
    fewer = list(lives(5, 30, 20))
    last = list(everybody(5, 31))[-1].email

    assert [one for one in lives(5, 31, 20) if one.who != last] == fewer


def test_webhooks_come_in_order_of_time_within_the_days():
    told = lives(3, 80, 30)

    assert [one.at for one in told] == sorted(one.at for one in told)
    assert start_of() <= told[0].at
    assert told[-1].at < end_of(30)


def test_some_webhooks_come_twice_and_some_late():
    told = lives(3, 80, 60)
    keys = Counter((one.source, one.id) for one in told)

    assert 0.01 < sum(1 for n in keys.values() if n > 1) / len(keys) < 0.08
    assert any(one.at - one.triggered_at > timedelta(minutes=9) for one in told)


def test_a_repeat_of_stripes_differs_in_nothing_but_the_counter_of_deliveries():
    repeats: dict[str, list[dict[str, Any]]] = {}
    for one in lives(3, 200, 60):
        if one.source == "stripe":
            repeats.setdefault(one.id, []).append(json.loads(one.body))
    pairs = [bodies for bodies in repeats.values() if len(bodies) > 1]

    assert pairs
    for first, second in pairs:
        assert {name for name in first if first[name] != second[name]} == {"pending_webhooks"}


# -- What people do with a mail ------------------------------------------------------------------------------


def _mail(text: str = "", kind: str = "marketing", **headers: str) -> Mail:
    return Mail(
        touchpoint=1, at=start_of() + timedelta(days=9, hours=9), kind=kind, flow="f", step="s", template="email/s",
        customer=1, subject="Hello", text=text, headers=headers,
    )  # fmt: skip


def test_nobody_follows_a_link_that_is_not_in_the_mail():
    for person in everybody(1, 60):
        assert list(reactions(1, person, _mail("Nothing to click on."), None)) == []


def test_a_score_is_given_by_the_very_link_of_the_mail():
    links = "\n".join(f"{n}  http://127.0.0.1:1/rate/answer/tok?score={n}" for n in range(1, 6))
    found = [each for person in everybody(1, 80) for each in reactions(1, person, _mail(links), None)]

    assert found
    assert all(isinstance(each, Rates) and each.url.endswith(f"/tok?score={each.score}") for each in found)


def test_unsubscribing_takes_the_address_of_the_header():
    lena = CAST[6]
    (one,) = reactions(1, lena, _mail(**{"List-Unsubscribe": "<http://127.0.0.1:1/u/tok>"}), None)

    assert isinstance(one, Unsubscribes)
    assert one.url == "http://127.0.0.1:1/u/tok"


def test_a_link_to_share_is_followed_by_a_friend():
    (one,) = reactions(1, CAST[0], _mail("Yours: http://127.0.0.1:1/r/ABCD-EFGH-IJKLM"), None)

    assert isinstance(one, Shares)
    assert one.url == "http://127.0.0.1:1/r/ABCD-EFGH-IJKLM"


def test_a_note_to_a_team_is_answered_and_the_ticket_closed_again():
    (one,) = reactions(1, CAST[0], _mail(kind="team"), None)

    assert isinstance(one, Answers)
    assert one.at < one.closed_at


# -- The command ---------------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("workers.logs.set_up_logs", lambda **_: None)  # it would outlive the test

    def demo(*words: object) -> Any:
        result = CliRunner().invoke(main, ["demo", "--no-serve", *(str(word) for word in words)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return demo


def test_the_command_says_what_came_of_it_within_eighty_columns(command: Any, tmp_path: Path):
    kept = tmp_path / "kept.db"
    result = command("--days", 9, "--customers", 3, "--keep", kept)

    assert result.exit_code == 0
    for words in ("Mails", "thank-you", "Runs", "afterglow why mara.lindqvist@example.com", "1 order.refunded"):
        assert words in result.stdout
    ours = [line for line in result.stdout.splitlines() if "AFTERGLOW_SECRET" not in line and str(kept) not in line]
    assert [line for line in ours if len(line) > 80] == []
    assert kept.exists()


def test_a_file_that_is_there_is_never_written_over(command: Any, tmp_path: Path):
    kept = tmp_path / "precious.db"
    kept.write_bytes(b"precious")
    result = command("--keep", kept)

    assert result.exit_code == 1
    assert "is there already" in result.stderr
    assert kept.read_bytes() == b"precious"


def test_the_demo_reaches_nothing_of_the_environment(command: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", "postgresql://nobody@203.0.113.1/real")
    monkeypatch.setenv("AFTERGLOW_BROKER_URL", "redis://203.0.113.1")
    monkeypatch.setenv("AFTERGLOW_SMTP_URL", "smtp://203.0.113.1")
    monkeypatch.setenv("AFTERGLOW_LIVE", "yes")
    monkeypatch.setenv("SHOPIFY_WEBHOOK_SECRET", "the shop's own")

    assert command("--days", 1, "--customers", 1).exit_code == 0
    import os

    assert os.environ["SHOPIFY_WEBHOOK_SECRET"] == "the shop's own"


def test_every_customer_that_came_is_one_customer(told: Run):
    addresses = {one.who for one in lives(1, 12, 60)}
    came = told.rows(sa.select(sa.func.count()).select_from(customers))[0][0]
    friends = len(told.clockwork.people) - 12

    assert came == len(addresses) + friends
