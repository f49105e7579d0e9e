"""Why did this customer get this, or not? Everything that happened and everything that did not, in order."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from db import bulk, control, identity, privacy, why
from db.tables import enrollments, suppressions, touchpoints
from tests.driver import START, Driver, driving
from workers.channels import Fate, InDoubt, Outgoing


@pytest.fixture
def driver(database_url: str) -> Iterator[Driver]:
    with driving(database_url) as driver:
        yield driver


def _told(driver: Driver, flow: str | None = None) -> list[str]:
    """The story as `flow step: sentence`."""
    with driver.app.reading() as connection:
        lines = why.story(connection, driver.app.catalog, driver.secret, driver.customer(), flow)
    return [str(line).removeprefix(f"{line.when}  ") for line in lines]


def _order(driver: Driver, number: int, **more: object) -> None:
    order = {"id": f"o{number}", "total": 20, "currency": "EUR"}
    driver.post("order.paid", {"order": order}, stage="purchase", **more)  # type: ignore[arg-type]


def test_a_story_is_told_in_order_from_the_event_to_the_mail(driver: Driver) -> None:
    _order(driver, 1, consent="granted")
    driver.at(hours=1)

    assert _told(driver) == [
        "order.paid came from api: order o1.",
        "Entered stage purchase.",
        "first-order: Started by stage purchase (event 1, once per order.id: o1).",
        "referral-invitation: Started by stage purchase (event 1, once per customer.id: 1).",
        "refill: Started by stage purchase (event 1, once per order.id: o1).",
        "win-back: Started by stage purchase (event 1, once per order.id: o1).",
        "repeat-order: Did not start: `customer.orders > 1` was not true (customer.orders was 1).",
        "Agreed to marketing by email on all topics (consent, from api).",
        "first-order thank-you: Mail email/thank-you was queued.",
        "referral-invitation rating: Waits for survey.answered, "
        "until Sun 22 Mar 2026 09:00 Europe/Paris (08:00 UTC) at the latest.",
        'refill how-much: `(order.items | sum("quantity")) >= 2` was not true: it takes `else`.',
        "refill drink-it: Waits until Mon 23 Mar 2026 09:30 Europe/Paris (08:30 UTC).",
        "win-back silence: Waits until Thu 16 Apr 2026 10:00 Europe/Paris (08:00 UTC).",
        "first-order thank-you: Mail email/thank-you was sent.",
        "first-order arrival: Waits for order.delivered, "
        "until Thu 12 Mar 2026 09:00 Europe/Paris (08:00 UTC) at the latest.",
        "first-order arrival: Still waits for order.delivered, "
        "until Thu 12 Mar 2026 09:00 Europe/Paris (08:00 UTC) at the latest.",
        "referral-invitation rating: Still waits for survey.answered, "
        "until Sun 22 Mar 2026 09:00 Europe/Paris (08:00 UTC) at the latest.",
        "refill drink-it: Goes on at Mon 23 Mar 2026 09:30 Europe/Paris (08:30 UTC).",
        "win-back silence: Goes on at Thu 16 Apr 2026 10:00 Europe/Paris (08:00 UTC).",
    ]


def test_a_condition_is_judged_by_what_was_known_then_not_by_what_is_known_now(driver: Driver) -> None:
    _order(driver, 1)
    driver.at(days=1)
    _order(driver, 2)
    driver.at(days=2)
    _order(driver, 3)

    first_order = _told(driver, "first-order")

    assert "first-order: Did not start: `customer.orders == 1` was not true (customer.orders was 2)." in first_order
    assert "first-order: Did not start: `customer.orders == 1` was not true (customer.orders was 3)." in first_order
    assert sum("Did not start" in line for line in first_order) == 2


def test_a_key_that_ran_before_names_the_event_that_ran_it(driver: Driver) -> None:
    driver.post("order.delivered", {"order": {"id": "o1"}})
    driver.at(days=3)
    driver.post("order.delivered", {"order": {"id": "o2"}})

    assert (
        "review-request: Did not start again: it runs once per customer.id, and ran for 1 already, started by "
        "order.delivered on Mon 2 Mar 2026 09:00 Europe/Paris (08:00 UTC) (event 1)."
    ) in _told(driver)


def test_a_key_that_the_trigger_does_not_supply_is_named(driver: Driver) -> None:
    driver.post("payment.failed", {})

    assert (
        "payment-failed: Did not start: it runs once per invoice.id, and this event does not supply that."
    ) in _told(driver)


@pytest.mark.parametrize(("status", "told"), [("paused", "the flow was paused"), ("draft", "the flow was a draft")])
def test_a_flow_that_was_not_live_then_says_so_even_if_it_is_live_now(driver: Driver, status: str, told: str) -> None:
    driver.apply({"flows/refill.yaml": lambda text: text.replace("status: live", f"status: {status}")})
    driver.clock.jump(START + timedelta(days=1))
    _order(driver, 1)
    driver.clock.jump(START + timedelta(days=2))
    driver.apply()
    driver.clock.jump(START + timedelta(days=3))
    _order(driver, 2)

    lines = _told(driver, "refill")

    assert any(line.startswith(f"refill: Did not start: {told}") for line in lines)
    assert "refill: Started by stage purchase (event 2, once per order.id: o2)." in lines


def test_a_fact_that_is_only_known_as_of_now_says_so(driver: Driver) -> None:
    driver.apply(
        {
            "flows/refill.yaml": lambda text: text.replace(
                "{stage: purchase}", "{stage: purchase, when: customer.open_ticket}"
            )
        }
    )
    driver.clock.jump(START + timedelta(days=1))
    _order(driver, 1)

    assert (
        "refill: Did not start: `customer.open_ticket` was not true (customer.open_ticket was missing). "
        "customer.open_ticket is told as of now."
    ) in _told(driver)


def test_a_fact_that_changed_since_is_admitted(driver: Driver) -> None:
    driver.apply(
        {
            "flows/refill.yaml": lambda text: text.replace(
                "{stage: purchase}", "{stage: purchase, when: customer.open_ticket}"
            )
        }
    )
    driver.clock.jump(START + timedelta(days=1))
    _order(driver, 1)
    customer = {"id": "c1", "attributes": {"open_ticket": True}}
    driver.post("customer.updated", customer=customer)

    assert (
        "refill: Did not start, though by what is known now it would; a fact about the customer has changed since."
    ) in _told(driver)


def test_marketing_without_consent_says_that_nobody_agreed(driver: Driver) -> None:
    driver.post("checkout.started", {"checkout": {"id": "k1"}})
    driver.at(hours=5)

    assert (
        "abandoned-checkout checkout-reminder: Mail email/checkout-reminder was not sent: "
        "the customer has not agreed to reminders."
    ) in _told(driver)


def test_a_suppressed_address_is_told_with_its_reason(driver: Driver) -> None:
    _order(driver, 1, drained=False)
    digest = identity.address_digest(driver.secret, "sam@example.com").hex()
    with driver.app.writing() as connection:
        columns = ("channel", "digest", "reason", "covers", "at")
        bulk.insert(connection, suppressions, columns, [("email", digest, "bounced", "everything", START)])
    driver.drain()

    lines = _told(driver)

    assert "The address was put on the list that gets no mail (bounced): every mail is skipped." in lines
    assert "first-order thank-you: Mail email/thank-you was not sent: the address is suppressed." in lines


def test_quiet_hours_and_caps_say_until_when_on_the_customers_clock(driver: Driver) -> None:
    driver.at(hours=9)  # 18:00 in Paris, so that four hours later is night
    driver.post(
        "checkout.started", {"checkout": {"id": "k1", "url": "https://s.example", "items": []}}, consent="granted"
    )
    driver.at(days=1)
    driver.post("checkout.started", {"checkout": {"id": "k2", "url": "https://s.example", "items": []}})
    driver.at(days=1, hours=5)

    lines = _told(driver, "abandoned-checkout")

    assert (
        "abandoned-checkout checkout-reminder: Mail email/checkout-reminder has to wait: quiet hours; "
        "it is looked at again at Tue 3 Mar 2026 08:00 Europe/Paris (07:00 UTC)."
    ) in lines
    assert (
        "abandoned-checkout checkout-reminder: Mail email/checkout-reminder has to wait: "
        "cap of 1 within 20 hours; it is looked at again at Wed 4 Mar 2026 04:00 Europe/Paris (03:00 UTC)."
    ) in lines
    assert any("is queued and goes, or does not, at Wed 4 Mar 2026 04:00" in line for line in lines)


def test_a_halt_is_told_while_it_holds(driver: Driver) -> None:
    with driver.app.writing() as connection:
        control.halt(connection, "*", by="somebody", now=START)
    driver.post("checkout.started", {"checkout": {"id": "k1"}}, consent="granted")
    driver.at(hours=5)

    held = "Mail email/checkout-reminder is held: marketing is halted; it goes on when that is taken back."
    assert [line for line in _told(driver) if held in line] == [f"abandoned-checkout checkout-reminder: {held}"] * 2


def test_a_refund_is_named_as_what_stopped_a_run(driver: Driver) -> None:
    _order(driver, 1)
    driver.at(days=1)
    driver.post("order.refunded", {"order": {"id": "o1"}, "refund": {"amount": 20}})

    lines = _told(driver, "refill")

    assert "refill drink-it: Stopped because of order.refunded with the same order.id (event 2)." in lines
    assert "order.refunded came from api: order o1." in lines


def test_a_mail_that_was_queued_when_its_run_stopped_is_accounted_for(driver: Driver) -> None:
    _order(driver, 1, drained=False)
    driver.actors.ingest()
    driver.actors.advance()
    driver.post("order.refunded", {"order": {"id": "o1"}})

    assert (
        "first-order thank-you: Mail email/thank-you was not sent: "
        "the run stopped: order.refunded with the same order.id."
    ) in _told(driver)


class _Silent:
    """A provider that takes everything and says nothing."""

    name, leaves_the_machine, batch = "silent", True, 50

    def send(self, messages: list[Outgoing], deadline_s: float) -> list[Fate]:
        return [InDoubt("no answer") for _ in messages]

    def close(self) -> None:
        pass


def test_a_mail_in_doubt_is_told_as_such(database_url: str) -> None:
    with driving(database_url, email=_Silent(), live="yes") as driver:  # type: ignore[arg-type]
        driver.post(
            "checkout.started", {"checkout": {"id": "k1", "url": "https://s.example", "items": []}}, consent="granted"
        )
        driver.at(hours=4)

        assert any(
            "is in doubt: it may have been sent: no answer; it is not sent again." in one for one in _told(driver)
        )


def test_a_conflict_and_a_remark_of_the_inbox_are_part_of_the_story(driver: Driver) -> None:
    _order(driver, 1, key="k")
    _order(driver, 2, key="k")
    driver.post("customer.updated", customer={"id": "c1", "attributes": {"open_ticket": "perhaps"}})

    inbox = [line for line in _told(driver) if line.startswith("A webhook")]

    assert inbox == [
        "A webhook of api is parked: conflict: another order.paid was recorded under the same key; "
        "compare the two (inbox 2).",
        "A webhook of api is mapped: attribute open_ticket is not a yes-no and was left out (inbox 3).",
    ]


def test_a_stage_that_came_late_does_not_count_as_the_newest(driver: Driver) -> None:
    driver.at(days=2)
    _order(driver, 1)
    driver.post("checkout.started", {"checkout": {"id": "k"}}, stage="decision", occurred_at=START)

    assert (
        "Entered stage decision on Mon 2 Mar 2026 09:00 Europe/Paris (08:00 UTC); "
        "a later stage was known already and stays."
    ) in _told(driver)


def test_a_parked_run_and_a_message_with_the_provider_are_told(driver: Driver) -> None:
    _order(driver, 1, drained=False)
    driver.actors.ingest()
    driver.actors.advance()
    with driver.app.writing() as connection:
        connection.execute(touchpoints.update().values(state="sending", prepared_at=START, leased_until=START))
        waiting = enrollments.update().where(enrollments.c.state == "waiting")
        connection.execute(waiting.values(state="parked", due_at=None, reason="it failed"))

    lines = _told(driver)

    assert any("is in the hands of the provider" in line for line in lines)
    assert (
        "refill drink-it: Set aside for a person to look at: it failed; `afterglow retry` lets it go on at drink-it."
        in lines
    )


def test_a_forgotten_customer_keeps_a_story_of_numbers(driver: Driver) -> None:
    _order(driver, 1, consent="granted")
    customer = driver.customer()
    with driver.app.writing() as connection:
        privacy.forget(connection, customer, driver.clock.now(), driver.secret)
    with driver.app.reading() as connection:
        lines = [str(line) for line in why.story(connection, driver.app.catalog, driver.secret, customer)]

    assert any("Was forgotten" in line for line in lines)
    assert any("why cannot be told any more" in line for line in lines)
    assert any("The run ended because the customer was forgotten." in line for line in lines)
    assert not any("o1" in line for line in lines)


def test_a_flow_that_nothing_could_have_started_says_so(driver: Driver) -> None:
    driver.post("customer.created")

    assert _told(driver, "payment-failed")[-1] == (
        "payment-failed: Nothing that this customer did could have started this flow since it is in force."
    )


def test_an_unknown_flow_or_customer_is_answered_in_a_sentence(driver: Driver) -> None:
    driver.post("customer.created")

    with pytest.raises(why.UnknownFlowError, match=r"no flow 'refil'\. Did you mean 'refill'"):
        _told(driver, "refil")
    with driver.app.reading() as connection, pytest.raises(why.UnknownCustomerError):
        why.story(connection, driver.app.catalog, driver.secret, 99)


def test_a_story_reads_as_many_statements_for_a_long_life_as_for_a_short_one(driver: Driver) -> None:
    def statements() -> int:
        counted = []

        def count(*_: object) -> None:
            counted.append(1)

        engine = driver.app.database.reader
        sa.event.listen(engine, "before_cursor_execute", count)
        try:
            _told(driver)
        finally:
            sa.event.remove(engine, "before_cursor_execute", count)
        return len(counted)

    _order(driver, 1)
    _told(driver)
    short = statements()
    for day in range(1, 8):
        driver.clock.jump(START + timedelta(days=day))
        driver.apply({"flows/refill.yaml": lambda text, day=day: text.replace("3 weeks", f"{day + 1} weeks")})
        _order(driver, day + 1)
    _told(driver)  # compiles the versions that were not seen before

    assert statements() == short <= 20


def test_the_heading_names_the_customer_for_the_operator(driver: Driver) -> None:
    driver.post("customer.created")

    with driver.app.reading() as connection:
        assert why.heading(connection, driver.customer()) == "Customer 1 Sam <sam@example.com>"


def test_no_line_of_a_story_holds_personal_data(driver: Driver) -> None:
    _order(driver, 1, consent="granted")
    driver.at(days=60)

    with driver.app.reading() as connection:
        lines = why.story(connection, driver.app.catalog, driver.secret, driver.customer())

    text = json.dumps([[str(line), dict(line.detail)] for line in lines])
    assert "sam@example.com" not in text
    assert "Sam" not in text
