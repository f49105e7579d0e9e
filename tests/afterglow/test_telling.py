"""Sentences of `why`: every verb a run can note, in plain words, on the customer's own clock."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from afterglow import telling
from afterglow.telling import Line, Message

PARIS = ZoneInfo("Europe/Paris")
AT = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
UNTIL = {"until": "2026-03-05T09:00:00+00:00"}
MAIL = Message(template="email/thank-you", kind="service")
TEAM = Message(template="email/_notify", kind="team")


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("Europe/Paris", "Mon 2 Mar 2026 09:00 Europe/Paris (08:00 UTC)"),
        ("America/Los_Angeles", "Mon 2 Mar 2026 00:00 America/Los_Angeles (08:00 UTC)"),
        ("Pacific/Auckland", "Mon 2 Mar 2026 21:00 Pacific/Auckland (08:00 UTC)"),
        ("UTC", "Mon 2 Mar 2026 08:00 UTC"),
    ],
)
def test_an_instant_is_told_on_the_customers_clock_and_in_utc(zone: str, told: str) -> None:
    assert telling.when(AT, ZoneInfo(zone)) == told


def test_where_the_customers_day_is_another_one_the_day_in_utc_is_named() -> None:
    late = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)

    assert telling.when(late, PARIS) == "Tue 3 Mar 2026 00:30 Europe/Paris (Mon 23:30 UTC)"


@pytest.mark.parametrize(
    ("verb", "detail", "sentence"),
    [
        ("waits", UNTIL, "Waits until Thu 5 Mar 2026 10:00 Europe/Paris (09:00 UTC)."),
        (
            "waits for",
            {"event": "order.delivered", **UNTIL},
            "Waits for order.delivered, until Thu 5 Mar 2026 10:00 Europe/Paris (09:00 UTC) at the latest.",
        ),
        (
            "arrived",
            {"event": 7, "name": "order.delivered"},
            "order.delivered came (event 7), which this step was waiting for.",
        ),
        (
            "timed out",
            {"waited_for": "order.delivered"},
            "order.delivered did not come in time, so the flow goes on without it.",
        ),
        ("chose", {"if": "answer.score <= 2", "was": True}, "`answer.score <= 2` was true: it takes `then`."),
        ("chose", {"if": "answer.score <= 2", "was": False}, "`answer.score <= 2` was not true: it takes `else`."),
        (
            "chose",
            {"if": "customer.orders >= 4", "was": True, "elif": 1},
            "`customer.orders >= 4` was the first that was true: it takes that branch of `elif`.",
        ),
        (
            "chose",
            {"if": "order.total >= 9", "was": False, "nor": ["customer.orders >= 4"]},
            "None was true of `order.total >= 9`, `customer.orders >= 4`: it takes `else`.",
        ),
        (
            "passed over",
            {"date": "customer.renewal_date", "was": "missing", "stops": False},
            "customer.renewal_date is missing, so there is nothing to wait until: it goes on at once.",
        ),
        (
            "passed over",
            {"date": "customer.renewal_date", "was": "past", "stops": True},
            "customer.renewal_date is past, so there is nothing to wait until: the flow ends here.",
        ),
        ("converted", {"event": 7, "name": "order.paid"}, "Reached its goal: order.paid came (event 7)."),
        (
            "held out",
            {"by": "shop", "share": "2%"},
            "Is held out, as always for this customer: 2% of customers get no marketing of any flow, so that what it "
            "does can be seen. Service mail goes.",
        ),
        (
            "taken in",
            {"shop": "2%", "flow": "5%"},
            "Is not among the customers who are held out (2% by the shop and 5% by the flow).",
        ),
        ("split", {"branch": "scale"}, "Falls into branch scale, as always for this customer."),
        ("queued", {"template": "email/thank-you"}, "Mail email/thank-you was queued."),
        ("queued", {"team": "customer-care"}, "A note to the team customer-care was queued."),
        ("ended", {"because": "they are happy"}, "The flow ends here: they are happy."),
        ("finished", {}, "The flow is done."),
        (
            "stopped",
            {"event": 9, "name": "order.refunded"},
            "Stopped because of order.refunded with the same order.id (event 9).",
        ),
        ("sent", {}, "Mail email/thank-you was sent."),
        (
            "skipped",
            {"because": "the customer has not agreed to news"},
            "Mail email/thank-you was not sent: the customer has not agreed to news.",
        ),
        (
            "held",
            {"because": "marketing is halted"},
            "Mail email/thank-you is held: marketing is halted; it goes on when that is taken back.",
        ),
        (
            "deferred",
            {"because": "quiet hours", **UNTIL},
            "Mail email/thank-you has to wait: quiet hours; "
            "it is looked at again at Thu 5 Mar 2026 10:00 Europe/Paris (09:00 UTC).",
        ),
        ("failed", {"because": "'a' is missing."}, "Mail email/thank-you could not be made: 'a' is missing."),
        ("rejected", {"because": "no such box"}, "Mail email/thank-you was refused by the provider: no such box."),
        ("in doubt", {"because": "silence"}, "Mail email/thank-you is in doubt: silence; it is not sent again."),
        ("tried again", {"because": "busy"}, "Mail email/thank-you is tried again: busy."),
        ("forgotten", {}, "The run ended because the customer was forgotten."),
        ("moved", {"to": "v2"}, "Moved: to v2."),
        (
            "went over",
            {"from": 3, "to": 8, **UNTIL},
            "Went over from version 3 of the flow to 8, at the same step; its wait ends at Thu 5 Mar 2026 10:00 "
            "Europe/Paris (09:00 UTC).",
        ),
        ("went over", {"from": 3, "to": 8, "was": "old"}, "Went over from version 3 of the flow to 8, from step old."),
        ("done before", {}, "This step was done in an older version of the flow, and is not done again."),
    ],
)
def test_every_verb_has_its_sentence(verb: str, detail: dict[str, object], sentence: str) -> None:
    reason = "order.refunded with the same order.id" if verb == "stopped" else None

    assert telling.decision(verb, "thank-you", detail, PARIS, message=MAIL, reason=reason) == sentence


def test_a_note_to_a_team_is_not_called_a_mail() -> None:
    assert telling.decision("sent", "notify-customer-care", {}, PARIS, message=TEAM) == "The note to the team was sent."


@pytest.mark.parametrize(
    ("state", "reason", "sentence"),
    [
        ("queued", None, "Mail email/thank-you is queued and goes, or does not, at Mon 2 Mar 2026 08:00 UTC."),
        (
            "held",
            "the flow is paused",
            "Mail email/thank-you is held: the flow is paused; it goes on when that is taken back.",
        ),
        (
            "sending",
            None,
            "Mail email/thank-you is in the hands of the provider; "
            "if no answer is recorded by Mon 2 Mar 2026 08:02 UTC it is in doubt.",
        ),
        ("in_doubt", None, "Mail email/thank-you is in doubt; it is not sent again."),
        (
            "skipped",
            "the run stopped: order.paid",
            "Mail email/thank-you was not sent: the run stopped: order.paid.",
        ),
    ],
)
def test_every_open_or_silent_touchpoint_has_its_sentence(state: str, reason: str | None, sentence: str) -> None:
    lease = AT + timedelta(minutes=2)

    assert telling.fate(state, MAIL, ZoneInfo("UTC"), reason=reason, due_at=AT, leased_until=lease) == sentence


def test_a_run_that_is_over_needs_no_further_line() -> None:
    for state in ("sending", "finished", "stopped"):
        assert telling.standing(state, "x", PARIS, due_at=None, awaits=None, reason=None) is None


def test_a_parked_run_says_why_and_what_to_do() -> None:
    told = telling.standing("parked", "first-cups", PARIS, due_at=None, awaits=None, reason="its worker died")

    assert told == (
        "Set aside for a person to look at: its worker died; `afterglow retry` lets it go on at first-cups."
    )


def test_of_an_event_only_ids_are_told() -> None:
    payload = {"order": {"id": "o1", "note": "for Grandma"}, "comment": "private"}

    told = telling.event("order.paid", "shopify", payload, AT, AT, PARIS)

    assert told == "order.paid came from shopify: order o1."


def test_an_event_that_came_late_says_when_it_happened() -> None:
    told = telling.event("order.paid", "shopify", {}, AT, AT + timedelta(days=2), PARIS)

    assert told == ("order.paid came from shopify; it happened on Mon 2 Mar 2026 09:00 Europe/Paris (08:00 UTC).")


def test_what_a_condition_saw_is_told_without_personal_data() -> None:
    facts = {
        "order": {"total": Decimal("40.50"), "items": [1, 2], "gift": False, "note": None},
        "customer": {"first_name": "Sam", "orders": 2, "email": None},
    }
    names = frozenset(
        [
            "order.total",
            "order.items",
            "order.gift",
            "order.note",
            "customer.first_name",
            "customer.orders",
            "customer.email",
            "a.b",
        ]
    )

    assert telling.values(names, facts) == {
        "a.b": "missing",
        "customer.email": "missing",
        "customer.first_name": "known",
        "customer.orders": "2",
        "order.gift": "false",
        "order.items": "a list of 2",
        "order.note": "missing",
        "order.total": "40.50",
    }


def test_a_line_is_one_line() -> None:
    line = Line(at=AT, when="now", kind="decision", flow="refill", step="drink-it", sentence="Waits.")

    assert str(line) == "now  refill drink-it: Waits."
