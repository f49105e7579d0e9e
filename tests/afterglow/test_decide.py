"""What a run does next: by example, and for any flow, any events and any wakings."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.decide import HELD_OUT, Event, Facts, Outcome, Queued, Run, decide, run_key
from afterglow.dividing import share
from afterglow.expressions import parse
from afterglow.language.flow.compiler import read_flow
from afterglow.language.flow.graph import Flow
from afterglow.language.schema import json_schemas
from afterglow.outline import outline
from tests.examples import examples

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)  # a Monday, twelve o'clock in Paris
TRIGGER = 1
SCHEMA = json_schemas()["flow"]


def flow_of(steps: Sequence[Any], **further: Any) -> Flow:
    """A flow of these steps. JSON is YAML."""
    model = {
        "flow": "tried",
        "about": "A flow of the tests",
        "status": "live",
        "starts": {"event": "order.paid"},
        "steps": list(steps),
        **further,
    }
    return read_flow(json.dumps(model), "flows/tried.yaml")


def run_at(flow: Flow, step: str | None = None, until: datetime | None = None, customer: int = 7) -> Run:
    return Run(customer_id=customer, event_id=TRIGGER, entered_at=NOON, step=step or flow.first, until=until)


def facts_of(*events: Event, answers: dict[str, Any] | None = None, answered_by: Sequence[int] = (), **customer: Any):
    return Facts(
        customer={"orders": 1, **customer},
        shop={"name": "Ember & Oak", "timezone": "Europe/Paris"},
        zone=PARIS,
        trigger={"order": {"id": "o1", "day": "2026-03-20"}},
        answers=answers or {},
        answered_by=frozenset(answered_by),
        events=sorted(events, key=lambda event: (event.occurred_at, event.id)),
    )


def event(name: str, at: datetime = NOON, id: int = 2, **payload: Any) -> Event:
    return Event(id=id, name=name, occurred_at=at, payload=payload)


def verbs(outcome: Outcome) -> list[tuple[str, str | None]]:
    return [(decision.verb, decision.step) for decision in outcome.decisions]


# By example


def test_a_task_is_due_on_a_day_of_the_shop_whatever_the_customers_clock_says():
    flow = flow_of([{"notify": "care", "task": "call", "due": "1 month"}, {"send": "email/tips"}])
    late = datetime(2026, 1, 31, 22, 30, tzinfo=UTC)  # 23:30 in Paris, the first of February in Tokyo
    facts = replace(facts_of(), zone=ZoneInfo("Asia/Tokyo"))

    outcome = decide(flow, run_at(flow), facts, late)

    note = Queued(step="notify-care", template="email/_notify", team="care", task="call", due_on=date(2026, 2, 28))
    assert outcome.queued == note
    assert outcome.decisions[-1].detail == {"team": "care", "task": "call", "due": "2026-02-28"}


def test_a_send_holds_the_run_and_points_at_what_comes_after():
    flow = flow_of([{"send": "email/thank-you"}, {"send": "email/tips"}])

    outcome = decide(flow, run_at(flow), facts_of(), NOON)

    assert outcome.state == "sending"
    assert outcome.queued == Queued(step="thank-you", template="email/thank-you")
    assert (outcome.step, outcome.due_at, outcome.until) == ("tips", None, None)


def test_past_the_last_step_the_run_is_finished():
    flow = flow_of([{"send": "email/thank-you"}])

    outcome = decide(flow, replace(run_at(flow), step=None), facts_of(), NOON)

    assert outcome.state == "finished"
    assert verbs(outcome) == [("finished", None)]


def test_hours_are_exact_and_days_are_the_customers_calendar():
    night_before_the_clocks_change = datetime(2026, 3, 28, 19, 0, tzinfo=UTC)  # 20:00 in Paris, winter time
    hours = flow_of([{"id": "pause", "wait": "24 hours"}])
    day = flow_of([{"id": "pause", "wait": "1 day"}])
    at_ten = flow_of([{"id": "pause", "wait": "1 day", "at": "10:00"}])

    def ends(flow: Flow) -> datetime | None:
        return decide(flow, run_at(flow), facts_of(), night_before_the_clocks_change).due_at

    assert ends(hours) == datetime(2026, 3, 29, 19, 0, tzinfo=UTC)  # 21:00 in Paris, summer time
    assert ends(day) == datetime(2026, 3, 29, 18, 0, tzinfo=UTC)  # 20:00 again
    assert ends(at_ten) == datetime(2026, 3, 29, 8, 0, tzinfo=UTC)


def test_a_wait_for_a_time_that_has_passed_today_does_not_hold():
    flow = flow_of([{"id": "pause", "wait": "0 days", "at": "09:00"}, {"send": "email/tips"}])

    assert decide(flow, run_at(flow), facts_of(), NOON).state == "sending"


def test_a_wait_until_a_time_of_the_week_ends_where_the_customer_lives_and_at_once_inside_it():
    def ends(**until: Any) -> datetime | None:
        return decide(
            flow_of([{"id": "pause", "until": until}]), run_at(flow_of([{"stop": True}]), "pause"), facts_of(), NOON
        ).due_at

    assert ends(weekday="tuesday", at="10:00") == datetime(2026, 3, 3, 9, tzinfo=UTC)
    assert ends(at="10:00") == datetime(2026, 3, 3, 9, tzinfo=UTC)
    assert ends(weekday=["sunday", "friday"]) == datetime(2026, 3, 5, 23, tzinfo=UTC)
    assert ends(between="22:00-06:00") == datetime(2026, 3, 2, 21, tzinfo=UTC)
    assert ends(at="12:00") is ends(weekday="monday") is ends(between="10:00-18:00") is None, "it is that time now"


FACT = {"id": "pause", "until": "customer.renewal_date", "if_past": "go on"}


@pytest.mark.parametrize(
    ("date", "further", "ends"),
    [
        ("2026-04-10", {}, datetime(2026, 4, 9, 22, tzinfo=UTC)),
        ("2026-04-10", {"at": "10:00"}, datetime(2026, 4, 10, 8, tzinfo=UTC)),
        ("2026-04-10", {"offset": "-30 days", "at": "10:00"}, datetime(2026, 3, 11, 9, tzinfo=UTC)),
        ("2026-04-30", {"offset": "-1 month"}, datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("2026-04-10T12:00:00+02:00", {"offset": "36 hours"}, datetime(2026, 4, 11, 22, tzinfo=UTC)),
        (datetime(2026, 4, 10, 10, tzinfo=UTC), {}, datetime(2026, 4, 10, 10, tzinfo=UTC)),
        ("2026-04-01", {"offset": "-30 days"}, None),
        ("2026-03-02", {}, None),
        ("9999-12-31", {}, None),
        ("0001-01-01", {"offset": "-3 years"}, None),
        ("soon", {}, None),
        (None, {}, None),
    ],
)
def test_a_wait_until_a_date_ends_at_it_and_passes_over_what_is_missing_or_past(date, further, ends):
    flow = flow_of([{**FACT, **further}, {"send": "email/a"}])

    outcome = decide(flow, run_at(flow), facts_of(renewal_date=date), NOON)

    assert outcome.due_at == ends
    if ends is None:
        assert verbs(outcome) == [("passed over", "pause"), ("queued", "a")]


def test_where_a_date_is_past_the_flow_may_say_that_it_ends():
    flow = flow_of([{**FACT, "if_past": "stop"}, {"send": "email/a"}])

    outcome = decide(flow, run_at(flow), facts_of(renewal_date="2026-03-01"), NOON)

    assert (outcome.state, outcome.reason, outcome.queued) == ("finished", "customer.renewal_date is past", None)


def test_a_date_that_moves_to_a_later_day_while_the_run_waits_is_waited_for():
    flow = flow_of([FACT, {"send": "email/a"}])
    until = datetime(2026, 4, 9, 22, tzinfo=UTC)
    run = run_at(flow, "pause", until)

    moved = decide(flow, run, facts_of(renewal_date="2026-05-10"), until)
    same = decide(flow, run, facts_of(renewal_date="2026-04-10"), until + timedelta(hours=1))
    gone = decide(flow, run, facts_of(), until)

    assert (moved.state, moved.due_at) == ("waiting", datetime(2026, 5, 9, 22, tzinfo=UTC))
    assert same.state == gone.state == "sending"


def test_a_run_woken_early_keeps_its_deadline():
    flow = flow_of([{"id": "pause", "wait": "3 days"}, {"id": "answer", "wait_for": "a.b", "for_up_to": "2 days"}])
    until = NOON + timedelta(days=3)

    for step in ("pause", "answer"):
        outcome = decide(flow, run_at(flow, step, until), facts_of(), NOON + timedelta(days=1))

        assert (outcome.state, outcome.step, outcome.due_at, outcome.until) == ("waiting", step, until, until)
        assert outcome.decisions == (), "what was said when the wait began is not said again"


def test_an_event_since_the_trigger_answers_a_wait_that_is_reached_only_later():
    flow = flow_of([{"id": "arrival", "wait_for": "order.delivered", "for_up_to": "2 days"}, {"stop": "done"}])
    early = event("order.delivered", NOON + timedelta(hours=1))

    outcome = decide(flow, run_at(flow), facts_of(early), NOON + timedelta(days=5))

    assert outcome.answers == (("arrival", early.id),)


@pytest.mark.parametrize(("late_by", "way"), [(timedelta(0), "arrived"), (timedelta(microseconds=1), "timed out")])
def test_an_event_after_the_deadline_does_not_answer_even_if_the_run_is_looked_at_later(late_by, way):
    flow = flow_of([{"id": "arrival", "wait_for": "order.delivered", "for_up_to": "2 days"}])
    until = NOON + timedelta(days=2)

    outcome = decide(
        flow, run_at(flow, until=until), facts_of(event("order.delivered", until + late_by)), until + timedelta(days=1)
    )

    assert (way, "arrival") in verbs(outcome)


def test_the_answer_is_known_under_the_steps_id_at_once_and_after_a_rest():
    steps = [
        {"id": "answer", "wait_for": "survey.answered", "for_up_to": "7 days"},
        {"id": "unhappy", "if": "answer.score <= 2", "then": [{"notify": "care"}]},
    ]
    flow = flow_of(steps)

    at_once = decide(flow, run_at(flow), facts_of(event("survey.answered", score=1)), NOON)
    later = decide(flow, run_at(flow, "unhappy"), facts_of(answers={"answer": {"score": 1}}, answered_by=[2]), NOON)
    happy = decide(flow, run_at(flow), facts_of(event("survey.answered", score=5)), NOON)

    assert at_once.queued == later.queued == Queued(step="notify-care", template="email/_notify", team="care")
    assert happy.state == "finished"


SEVERAL = {
    "id": "arrival",
    "wait_for": [
        {"event": "order.delivered", "same": "order.id", "arrived": [{"send": "email/a"}]},
        {"event": "order.cancelled", "arrived": [{"send": "email/b"}]},
    ],
    "for_up_to": "2 days",
    "timed_out": [{"send": "email/c"}],
}


def test_of_several_events_the_oldest_that_fits_says_the_way_and_which_it_was_is_known():
    told = {"id": "told", "if": "arrival.event == 'order.cancelled'", "then": [{"send": "email/d"}]}
    flow = flow_of([SEVERAL, told])
    delivered = event("order.delivered", NOON + timedelta(hours=2), id=3, order={"id": "o1"})
    cancelled = event("order.cancelled", NOON + timedelta(hours=1), id=4)
    other = event("order.delivered", NOON, order={"id": "o2"})

    def way(*events: Event, after: timedelta = timedelta(days=5)) -> str:
        queued = decide(flow, run_at(flow), facts_of(*events), NOON + after).queued
        assert queued is not None
        return queued.step

    assert way(delivered, other) == "a"
    assert way(delivered, cancelled) == "b"
    until = NOON + timedelta(days=2)
    assert verbs(decide(flow, run_at(flow, until=until), facts_of(other), until))[0] == ("timed out", "arrival")
    later = decide(flow, run_at(flow, "told"), facts_of(answers={"arrival": {"event": "order.cancelled"}}), NOON)
    assert later.queued == Queued(step="d", template="email/d")
    assert (
        decide(flow, run_at(flow), facts_of(), NOON).decisions[0].detail["event"]
        == "order.delivered or order.cancelled"
    )


def test_the_trigger_itself_answers_nothing_and_stops_nothing():
    flow = flow_of([{"id": "again", "wait_for": "order.paid", "for_up_to": "2 days"}], stops={"event": "order.paid"})
    itself = event("order.paid", id=TRIGGER, order={"id": "o1"})

    assert decide(flow, run_at(flow), facts_of(itself), NOON).state == "waiting"


def test_one_event_answers_one_wait():
    steps = [{"id": name, "wait_for": "survey.answered", "for_up_to": "7 days"} for name in ("first", "second")]
    flow = flow_of(steps)

    outcome = decide(flow, run_at(flow), facts_of(event("survey.answered")), NOON)
    both = decide(flow, run_at(flow), facts_of(event("survey.answered"), event("survey.answered", id=3)), NOON)
    used = decide(flow, run_at(flow, "second"), facts_of(event("survey.answered"), answered_by=[2]), NOON)

    assert (outcome.state, outcome.step, outcome.answers) == ("waiting", "second", (("first", 2),))
    assert both.answers == (("first", 2), ("second", 3))
    assert used.state == "waiting"


@pytest.mark.parametrize(
    ("payload", "stops"),
    [({"order": {"id": "o1"}}, True), ({"order": {"id": "o2"}}, False), ({"order": {}}, False), ({}, False)],
)
def test_same_means_equal_and_present_on_both_sides(payload, stops):
    flow = flow_of([{"id": "pause", "wait": "3 days"}], stops={"event": "order.refunded", "same": "order.id"})

    outcome = decide(flow, run_at(flow), facts_of(event("order.refunded", **payload)), NOON)

    assert (outcome.state == "stopped") is stops


def test_same_is_not_met_where_neither_side_says_it():
    flow = flow_of([{"id": "pause", "wait": "3 days"}], stops={"event": "order.refunded", "same": "invoice.id"})

    assert decide(flow, run_at(flow), facts_of(event("order.refunded")), NOON).state == "waiting"


def test_a_stop_step_ends_the_run_with_its_reason():
    flow = flow_of([{"stop": "they have enough mail"}, {"send": "email/never"}])

    outcome = decide(flow, run_at(flow), facts_of(), NOON)

    assert (outcome.state, outcome.reason, outcome.queued) == ("finished", "they have enough mail", None)


def test_both_ways_of_a_branch_meet_again():
    flow = flow_of(
        [
            {
                "id": "regular",
                "if": "customer.orders >= 4",
                "then": [{"send": "email/a"}],
                "else": [{"send": "email/b"}],
            },
            {"send": "email/c"},
        ]
    )

    for orders, first in ((5, "a"), (1, "b")):
        outcome = decide(flow, run_at(flow), facts_of(orders=orders), NOON)
        assert outcome.queued is not None
        assert (outcome.queued.step, outcome.step) == (first, "c")


def test_the_first_condition_that_is_true_says_the_way_and_the_others_are_not_asked():
    steps = [
        {
            "id": "tier",
            "if": "customer.orders >= 10",
            "then": [{"send": "email/a"}],
            "elif": [
                {"if": "customer.orders >= 4", "then": [{"send": "email/b"}]},
                {"if": "customer.orders >= 2", "then": [{"send": "email/c"}]},
            ],
            "else": [{"send": "email/d"}],
        }
    ]
    flow = flow_of(steps)
    found = {}
    for orders in (12, 5, 2, 1):
        outcome = decide(flow, run_at(flow), facts_of(orders=orders), NOON)
        assert outcome.queued is not None
        found[orders] = (outcome.queued.step, dict(outcome.decisions[0].detail))

    assert found == {
        12: ("a", {"if": "customer.orders >= 10", "was": True}),
        5: ("b", {"if": "customer.orders >= 4", "was": True, "elif": 1}),
        2: ("c", {"if": "customer.orders >= 2", "was": True, "elif": 2}),
        1: (
            "d",
            {"if": "customer.orders >= 10", "was": False, "nor": ["customer.orders >= 4", "customer.orders >= 2"]},
        ),
    }
    assert [line.branch for line in outline(flow)][1:] == [
        "true",
        "else, if customer.orders >= 4",
        "else, if customer.orders >= 2",
        "none of them true",
    ]


def test_a_split_is_sticky_and_near_its_weights():
    flow = flow_of(
        [
            {
                "id": "tip",
                "split": [
                    {"weight": 1, "name": "a", "steps": [{"send": "email/a"}]},
                    {"weight": 3, "name": "b", "steps": [{"send": "email/b"}]},
                    {"weight": 6, "name": "c", "steps": [{"send": "email/c"}]},
                ],
            }
        ]
    )

    def way(customer: int) -> str:
        queued = decide(flow, run_at(flow, customer=customer), facts_of(), NOON).queued
        assert queued is not None
        return queued.step

    ways = [way(customer) for customer in range(4_000)]

    assert ways[:100] == [way(customer) for customer in range(100)]
    found = Counter(ways)
    for name, weight in (("a", 0.1), ("b", 0.3), ("c", 0.6)):
        assert abs(found[name] / 4_000 - weight) < 0.03


def test_two_splits_of_one_flow_are_independent():
    same = sum((share("f", "one", n) < 0.5) == (share("f", "two", n) < 0.5) for n in range(4_000))

    assert abs(same / 4_000 - 0.5) < 0.03


def test_a_run_key_is_the_value_of_once_per_or_the_event():
    names = {"order": {"id": "o1", "empty": None}}

    assert run_key(parse("order.id"), names, 9) == "o1"
    assert run_key(None, names, 9) == "event 9"
    assert run_key(parse("order.empty"), names, 9) is None
    assert run_key(parse("checkout.id"), names, 9) is None, "without its key there is no promise to keep: no run"


def test_a_run_that_is_held_out_remembers_it_and_draws_it_once():
    flow = flow_of([{"send": "email/a"}, {"stop": "enough"}], holdout="50%")
    out, kept = (
        next(n for n in range(99) if (share("holdout", "flow tried", n) < 0.5) is held) for held in (True, False)
    )

    def begun(customer: int) -> Outcome:
        return decide(flow, replace(run_at(flow, customer=customer), begins=True), facts_of(), NOON)

    assert verbs(begun(out)) == [("held out", None), ("queued", "a")]
    assert verbs(begun(kept)) == [("taken in", None), ("queued", "a")]
    assert (begun(out).reason, begun(kept).reason) == ("held out", None)
    on = decide(flow, replace(run_at(flow, "stop", customer=out), held_out=True), facts_of(), NOON)
    assert (verbs(on), on.reason) == ([("ended", "stop")], "enough")


# For any flow


EVENTS = ("a.one", "b.two")
lengths = st.sampled_from(["0 days", "5 minutes", "1 hour", "36 hours", "1 day", "3 days", "2 weeks", "1 month"])
hours_of_day = st.sampled_from(["00:00", "02:30", "10:00", "23:59"])


@st.composite
def any_steps(draw: st.DrawFn, depth: int = 2) -> list[dict[str, Any]]:
    return [draw(any_step(depth)) for _ in range(draw(st.integers(min_value=1, max_value=4)))]


@st.composite
def any_step(draw: st.DrawFn, depth: int) -> dict[str, Any]:
    kinds = ["send", "wait", "at", "until", "date", "notify"] + (["wait_for", "if", "split", "stop"] if depth else [])
    inner = any_steps(depth - 1) if depth else st.just([])
    match draw(st.sampled_from(kinds)):
        case "send":
            return {"send": "email/a"}
        case "wait":
            return {"wait": draw(lengths)}
        case "at":
            return {"wait": f"{draw(st.integers(0, 9))} days", "at": draw(hours_of_day)}
        case "until":
            whens = [{"at": draw(hours_of_day)}, {"weekday": draw(st.sampled_from(["monday", "sunday"]))}]
            return {"until": draw(st.sampled_from([*whens, whens[0] | whens[1], {"between": "22:00-06:00"}]))}
        case "date":
            offset = {"offset": draw(st.sampled_from(["-3 days", "36 hours"]))} if draw(st.booleans()) else {}
            return {"until": "order.day", "if_past": draw(st.sampled_from(["go on", "stop"])), **offset}
        case "notify":
            return {"notify": "care"}
        case "wait_for":
            same = {"same": "order.id"} if draw(st.booleans()) else {}
            ways = {"arrived": draw(inner), "timed_out": draw(inner)}
            if draw(st.booleans()):
                several = [{"event": name, "arrived": draw(inner), **same} for name in draw(st.permutations(EVENTS))]
                return {"wait_for": several, "for_up_to": draw(lengths), "timed_out": draw(inner)}
            return {"wait_for": draw(st.sampled_from(EVENTS)), "for_up_to": draw(lengths), **same, **ways}
        case "if":
            tests = [{"if": f"customer.orders >= {draw(st.integers(0, 3))}", "then": draw(inner)} for _ in range(3)]
            return {**tests[0], "elif": tests[1 : draw(st.integers(1, 3))], "else": draw(inner)}
        case "split":
            names = [{"weight": draw(st.integers(1, 5)), "name": name, "steps": draw(inner)} for name in "ab"]
            return {"split": names}
        case _:
            return {"stop": True}


def numbered(steps: list[dict[str, Any]], numbers: Any) -> list[dict[str, Any]]:
    """Give every step an id of its own."""
    for step in steps:
        step["id"] = f"s{next(numbers)}"
        for key in ("arrived", "timed_out", "then", "else"):
            numbered(step.get(key, []), numbers)
        for way in step.get("elif", []):
            numbered(way["then"], numbers)
        for awaited in step["wait_for"] if isinstance(step.get("wait_for"), list) else ():
            numbered(awaited["arrived"], numbers)
        for branch in step.get("split", []):
            numbered(branch["steps"], numbers)
    return steps


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    stops = draw(st.sampled_from([[], [{"event": "c.stop"}], [{"event": "c.stop", "same": "order.id"}]]))
    further = draw(st.sampled_from([{}, {"holdout": "50%"}, {"goal": {"event": "c.stop", "within": "9 days"}}]))
    return flow_of(numbered(draw(any_steps()), count(1)), stops=stops, **further)


@st.composite
def heard(draw: st.DrawFn) -> list[tuple[datetime, Event]]:
    """Events with the instants at which we hear of them, late or at once."""
    found = []
    for n in range(draw(st.integers(0, 5))):
        at = NOON + timedelta(minutes=draw(st.integers(0, 60 * 24 * 30)))
        late = timedelta(minutes=draw(st.sampled_from([0, 0, 10, 60 * 24 * 5])))
        name = draw(st.sampled_from([*EVENTS, *EVENTS, "c.stop"]))
        payload = {"order": {"id": draw(st.sampled_from(["o1", "o2"]))}}
        found.append((at + late, Event(id=2 + n, name=name, occurred_at=at, payload=payload)))
    return found


moments = st.integers(0, 60 * 24 * 60).map(lambda minutes: NOON + timedelta(minutes=minutes))


def lived(
    flow: Flow, news: Sequence[tuple[datetime, Event]], wakings: Sequence[datetime] = ()
) -> list[tuple[datetime, Outcome]]:
    """The whole life of a run: looked at when it is due, when an event comes and at `wakings`; mails go at once."""
    run, now = replace(run_at(flow), begins=True), NOON
    answers: dict[str, Any] = {}
    used: set[int] = set()
    payloads = {one.id: one.payload for _, one in news}
    life = []
    for _ in range(1_000):
        known = [one for at, one in news if at <= now and one.name in flow.listens_to]
        facts = facts_of(*known, answers=answers, answered_by=tuple(used))
        outcome = decide(flow, run, facts, now)
        assert outcome == decide(flow, run, facts, now), "the same question has the same answer"
        life.append((now, outcome))
        answers |= {step: payloads[id_] for step, id_ in outcome.answers}
        assert not used & {id_ for _, id_ in outcome.answers}
        used |= {id_ for _, id_ in outcome.answers}
        if outcome.state in ("finished", "stopped"):
            return life
        run = replace(run, step=outcome.step, until=outcome.until, begins=False, held_out=outcome.reason == HELD_OUT)
        if outcome.state == "waiting":
            assert outcome.due_at is not None
            assert outcome.due_at > now
            later = [at for at in (*(at for at, _ in news), *wakings, outcome.due_at) if at > now]
            now = min(later)
    raise AssertionError("the run never ends")


def told(life: Sequence[tuple[datetime, Outcome]]) -> list[tuple[datetime, str, str | None]]:
    return [(at, one.verb, one.step) for at, outcome in life for one in outcome.decisions]


@given(flows())
@settings(max_examples=examples(100))
def test_every_flow_is_outlined_a_line_a_step_each_branch_told_where_it_begins(flow):
    lines = outline(flow)

    assert jsonschema_rs.is_valid(SCHEMA, flow.document.data), "editors accept what compiles"
    assert sorted(line.id for line in lines) == sorted(flow.steps)
    assert lines[0].depth == 0
    for before, line in pairwise(lines):
        assert line.depth <= before.depth + 1
        assert line.branch is not None or line.depth <= before.depth
        assert line.sentence[0].isupper()


@given(flows(), heard())
@settings(max_examples=examples(150))
def test_every_run_ends_and_takes_each_step_at_most_once(flow, news):
    life = lived(flow, news)

    assert life[-1][1].state in ("finished", "stopped")
    begun = [step for _, verb, step in told(life) if verb in ("queued", "chose", "split", "waits", "waits for")]
    assert len(begun) == len(set(begun))
    answered = [id_ for _, outcome in life for _, id_ in outcome.answers]
    assert len(answered) == len(set(answered)), "one event answers one wait"


@given(flows(), heard(), st.lists(moments, max_size=6))
@settings(max_examples=examples(150))
def test_waking_a_run_at_any_instants_changes_nothing(flow, news, wakings):
    assert told(lived(flow, news, wakings)) == told(lived(flow, news))


@given(flows(), heard())
@settings(max_examples=examples(150))
def test_stops_beat_everything_from_the_moment_we_hear_of_them(flow, news):
    rules = [(rule.event, rule.same is not None) for rule in flow.stops]
    stopping = [
        at
        for at, one in news
        if any(one.name == name and (not same or one.payload["order"]["id"] == "o1") for name, same in rules)
    ]

    life = lived(flow, news)

    if stopping and life[-1][0] >= min(stopping):
        assert life[-1][1].state == "stopped"
        assert life[-1][0] <= max(min(stopping), NOON)
        assert life[-1][1].queued is None
    else:
        assert life[-1][1].state == "finished"


@given(flows(), heard())
@settings(max_examples=examples(150))
def test_an_answer_never_happened_after_its_deadline_and_a_timeout_never_comes_early(flow, news):
    occurred = {one.id: one.occurred_at for _, one in news}
    until: dict[str | None, datetime] = {}

    for now, outcome in lived(flow, news):
        for step, id_ in outcome.answers:
            assert occurred[id_] <= until.get(step, now + timedelta(days=31))
        for decision in outcome.decisions:
            if decision.verb == "waits for":
                until[decision.step] = datetime.fromisoformat(decision.detail["until"])
            if decision.verb == "timed out":
                assert now >= until.get(decision.step, now)
        if outcome.state == "waiting":
            assert outcome.until == outcome.due_at, "a run looks again when its wait ends"
