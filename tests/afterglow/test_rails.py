"""Whether a touchpoint may go: a table of words on consent, sliding windows, nights, and the order of the questions."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.durations import Duration
from afterglow.language.rails import BlackoutModel
from afterglow.language.shop import Cap
from afterglow.local_time import Opening, Quiet, quiet_until
from afterglow.rails import (
    Consent,
    Defer,
    Existing,
    Go,
    Hold,
    Question,
    Skip,
    Went,
    capped_until,
    consent_refusal,
    judge,
)
from tests.examples import examples

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)
NIGHT = Quiet(start=time(21), end=time(8))

FINE = Question(
    kind="marketing",
    flow="first-cups",
    topic="coffee-care",
    queued_at=NOON,
    due_at=NOON,
    has_address=True,
    forgotten=False,
    suppressed=None,
    consents=[Consent(topic="*", granted=True)],
    only_if=True,
    only_if_text="not customer.open_ticket",
    halted=False,
    paused=False,
    quiet_hours=[NIGHT],
    caps=[],
    keep_for=Duration(days=3),
    sent=[],
    zone=PARIS,
)
CHRISTMAS = BlackoutModel(days="03-01..03-03", because="a feast").compiled()
SERVICE = replace(FINE, kind="service", topic=None, consents=())


def cap(at_most: int, hours: int) -> Cap:
    return Cap(at_most=at_most, window=timedelta(hours=hours), within=f"{hours} hours")


def test_marketing_goes_where_nothing_speaks_against_it():
    assert judge(FINE, NOON) == Go(basis="consent")


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"forgotten": True}, Skip(reason="the customer was forgotten")),
        ({"has_address": False}, Skip(reason="the customer has no address on this channel")),
        ({"suppressed": "everything"}, Skip(reason="the address is suppressed")),
        ({"suppressed": "marketing"}, Skip(reason="the address is suppressed for marketing")),
        ({"consents": ()}, Skip(reason="the customer has not agreed to coffee-care")),
        ({"only_if": False}, Skip(reason="only_if is not true: not customer.open_ticket")),
        ({"paused": True}, Hold(reason="the flow is paused")),
        ({"halted": True}, Hold(reason="marketing is halted")),
        ({"queued_at": NOON - timedelta(days=3, seconds=1)}, Skip(reason="it could not go in time")),
        (
            {"caps": [cap(1, 9)], "sent": [Went(NOON, "first-cups")]},
            Defer(until=NOON + timedelta(hours=9), reason="cap of 1 within 9 hours"),
        ),
    ],
)
def test_each_rail_stops_marketing_and_says_why(change, verdict):
    assert judge(replace(FINE, **change), NOON) == verdict


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"forgotten": True}, Skip),
        ({"has_address": False}, Skip),
        ({"suppressed": "everything"}, Skip),
        ({"only_if": False}, Skip),
        ({"paused": True}, Hold),
        ({"suppressed": "marketing"}, Go),
        ({"consents": [Consent(topic="*", granted=False)]}, Go),
        ({"halted": True}, Go),
        ({"queued_at": NOON - timedelta(days=30)}, Go),
        ({"caps": [cap(1, 24)], "sent": [Went(NOON, "other")]}, Go),
        ({"blackouts": [CHRISTMAS], "due_at": NOON - timedelta(days=9), "late": "skip"}, Go),
    ],
)
def test_service_mail_keeps_only_the_rails_that_are_not_about_marketing(change, verdict):
    assert isinstance(judge(replace(SERVICE, **change), NOON), verdict)
    assert judge(SERVICE, NOON + timedelta(hours=12)) == Go(basis="service"), "in the night too"


def test_a_letter_to_a_team_always_goes():
    blocked = replace(
        SERVICE, kind="team", forgotten=True, has_address=False, suppressed="everything", only_if=False, paused=True
    )

    assert judge(blocked, NOON) == Go()


def test_what_ends_a_touchpoint_is_said_before_what_only_delays_it():
    everything = replace(
        FINE,
        consents=(),
        halted=True,
        caps=[cap(1, 24)],
        sent=[Went(NOON, "other")],
        queued_at=NOON - timedelta(days=9),
    )

    assert isinstance(judge(everything, NOON), Skip)
    assert isinstance(judge(replace(everything, consents=FINE.consents), NOON), Hold), "a halt keeps even what is old"


# topic *, the topic's own word -> may it go on this topic, on another topic, on none
TABLE = [
    (None, None, False, False),
    (None, True, True, False),
    (None, False, False, False),
    (True, None, True, True),
    (True, True, True, True),
    (True, False, False, True),
    (False, None, False, False),
    (False, True, False, False),
    (False, False, False, False),
]


@pytest.mark.parametrize(("everything", "own", "on_topic", "elsewhere"), TABLE)
def test_a_withdrawal_refuses_and_a_grant_of_either_allows(everything, own, on_topic, elsewhere):
    said = {"*": everything, "news": own}
    words = [Consent(topic=topic, granted=granted) for topic, granted in said.items() if granted is not None]

    assert (consent_refusal(words, "news") is None) is on_topic
    assert (consent_refusal(words, "reminders") is None) is elsewhere
    assert (consent_refusal(words, None) is None) is elsewhere


OPEN_TO_BUYERS = frozenset({"news"})


@pytest.mark.parametrize(
    ("words", "topics", "has_bought", "basis"),
    [
        ([], frozenset(), True, None),  # nothing unless the shop says so
        ([], OPEN_TO_BUYERS, True, "existing-customer"),
        ([], OPEN_TO_BUYERS, False, None),
        ([("*", True, "existing-customer")], OPEN_TO_BUYERS, False, "existing-customer"),
        ([("news", True, "existing-customer")], frozenset(), True, None),
        ([("*", True, "service")], frozenset(), False, None),
        ([("*", True, "service")], OPEN_TO_BUYERS, True, "existing-customer"),
        ([("news", True, "consent")], OPEN_TO_BUYERS, True, "consent"),
        ([("care", True, "consent")], frozenset(), True, None),
        ([("*", False, "consent")], OPEN_TO_BUYERS, True, None),
        ([("news", False, "existing-customer")], OPEN_TO_BUYERS, True, None),
        ([("*", True, "consent"), ("news", False, "consent")], OPEN_TO_BUYERS, True, None),
    ],
)
def test_a_purchase_allows_only_what_the_shop_opened_to_buyers_and_never_against_their_word(
    words, topics, has_bought, basis
):
    said = [Consent(topic=topic, granted=granted, basis=on) for topic, granted, on in words]
    question = replace(
        FINE, consents=said, topic="news", existing=Existing(topics=topics, has_bought=has_bought), caps=()
    )

    assert judge(question, NOON) == Go(basis=basis) if basis else isinstance(judge(question, NOON), Skip)


windows = st.integers(1, 72).map(lambda hours: timedelta(hours=hours))
offers = st.lists(st.integers(0, 60 * 24 * 7), max_size=40).map(sorted)


@given(st.integers(1, 4), windows, offers)
@settings(max_examples=examples(300))
def test_a_cap_holds_in_every_window_and_lets_each_message_go_as_soon_as_it_fits(at_most, window, minutes):
    one = Cap(at_most=at_most, window=window, within="so long")
    sent: list[datetime] = []

    for minute in minutes:
        now = NOON + timedelta(minutes=minute)
        until = capped_until(one, sent, now)
        if until is None:
            sent.append(now)
        else:
            assert until > now
            assert capped_until(one, sent, until) is None, "at the promised instant it fits"
            assert capped_until(one, sent, until - timedelta(microseconds=1)) is not None, "and not earlier"

    for start in sent:
        assert sum(start <= moment < start + window for moment in sent) <= at_most


zones = st.sampled_from(
    ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu", "Africa/Casablanca"]
).map(ZoneInfo)
times = st.times().map(lambda at: at.replace(second=0, microsecond=0))
quiets = st.tuples(times, times).filter(lambda pair: pair[0] != pair[1]).map(lambda p: Quiet(start=p[0], end=p[1]))
caps = st.builds(lambda n, hours: cap(n, hours), st.integers(1, 3), st.integers(1, 100))


@given(
    zones,
    st.lists(quiets, max_size=2),
    st.lists(caps, max_size=2),
    st.lists(st.integers(-60 * 24 * 7, 0), max_size=8),
    st.integers(0, 60 * 24 * 365),
)
@settings(max_examples=examples(300))
def test_no_marketing_ever_goes_in_quiet_hours_or_over_a_cap_and_none_waits_for_ever(
    zone, quiet_hours, given_caps, sent, minute
):
    now = NOON + timedelta(minutes=minute)
    question = replace(
        FINE,
        queued_at=now,
        quiet_hours=quiet_hours,
        caps=given_caps,
        due_at=now,
        sent=[Went(now + timedelta(minutes=ago), "other") for ago in sent],
        zone=zone,
    )

    for _ in range(200):
        verdict = judge(question, now)
        if not isinstance(verdict, Defer):
            break
        assert verdict.until > now
        now = verdict.until
    if isinstance(verdict, Go):
        assert all(quiet_until(now, quiet, zone) is None for quiet in quiet_hours)
        assert all(sum(went.at > now - one.window for went in question.sent) < one.at_most for one in given_caps)
        assert now <= question.keep_for.after(question.queued_at, zone)
    else:
        assert verdict == Skip(reason="it could not go in time")


def test_what_a_cap_holds_back_says_which_flows_went_first():
    sent = [Went(NOON - timedelta(hours=n), flow) for n, flow in enumerate(["b", "a", "first-cups", "old"])]
    question = replace(FINE, caps=[cap(3, 24)], sent=sent)
    reason = "cap of 3 within 24 hours, a and b went first"

    assert judge(question, NOON) == Defer(until=NOON + timedelta(hours=22), reason=reason)
    assert judge(replace(question, loser="skip"), NOON) == Skip(reason=reason)


def local(text: str, zone: ZoneInfo = PARIS) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("days", "at", "until"),
    [
        ("12-24..12-26", "2026-12-23 23:59", None),
        ("12-24..12-26", "2026-12-24 00:00", "2026-12-27 00:00"),
        ("12-24..12-26", "2031-12-26 23:59", "2031-12-27 00:00"),
        ("12-30..01-02", "2027-01-02 12:00", "2027-01-03 00:00"),
        ("2026-11-27", "2026-11-27 12:00", "2026-11-28 00:00"),
        ("2026-11-27", "2027-11-27 12:00", None),
        ("02-29", "2028-02-29 12:00", "2028-03-01 00:00"),
        ("02-29", "2027-03-01 12:00", None),
    ],
)
def test_a_blackout_is_days_of_the_customers_calendar_every_year_or_once(days, at, until):
    blackout = BlackoutModel(days=days, because="a feast").compiled()
    verdict = judge(
        replace(FINE, quiet_hours=(), blackouts=[blackout], due_at=local(at), queued_at=local(at)), local(at)
    )

    expected = Defer(until=local(until), reason="no marketing on these days (a feast)", anew=True) if until else None
    assert verdict == (expected or Go(basis="consent"))


@pytest.mark.parametrize(
    ("days", "message"),
    [
        ("12-24..2026-12-26", "is no day and no range"),
        ("02-30", "is no day and no range"),
        ("20261127", "is no day and no range"),
        ("2026-12-26..2026-12-24", "ends before it begins"),
        ("2026-01-01..2027-12-31", "is longer than a year"),
        ("01-01..12-31", "is every day of the year"),
    ],
)
def test_days_that_cannot_be_read_are_told(days, message):
    with pytest.raises(ValueError, match=message):
        BlackoutModel(days=days, because="a feast").compiled()


TUESDAYS = Opening(weekdays=frozenset({1}), start=time(10), end=None)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"late": "send"}, Go(basis="consent")),
        ({"late": "skip"}, Skip(reason="it is late by 120 minutes")),
        ({"late": "skip", "due_at": NOON - timedelta(hours=1)}, Go(basis="consent")),
        ({"late": "next window"}, Go(basis="consent")),
        (
            {"late": "next window", "window": TUESDAYS},
            Defer(until=local("2026-03-03 10:00"), reason="it is late by 120 minutes", anew=True),
        ),
        (
            {"late": "next window", "window": replace(TUESDAYS, weekdays=frozenset({0}), end=time(17))},
            Go(basis="consent"),
        ),
    ],
)
def test_what_an_outage_delayed_goes_waits_for_its_next_time_or_is_skipped_as_declared(change, verdict):
    two_hours = {"due_at": NOON - timedelta(hours=2), "queued_at": NOON - timedelta(hours=2)}
    assert judge(replace(FINE, **{**two_hours, **change}), NOON) == verdict
