"""What steps do besides sending: what each comes to, and what is told of files that ask for what is not there."""

import json
from dataclasses import replace
from typing import Any

import pytest

from afterglow import acting
from afterglow.decide import HELD_OUT, Outcome, decide
from afterglow.language.check import check_files
from tests.afterglow.test_decide import NOON, event, facts_of, flow_of, run_at
from tests.checked_shop import FILES

KINDS = {"vip": "yes-no", "points": "number", "since": "date"}


def outcome_of(*steps: Any, known: dict[str, Any] | None = None, held_out: bool = False, **customer: Any) -> Outcome:
    flow = flow_of(steps, **(known or {}))
    return decide(flow, replace(run_at(flow), held_out=held_out), replace(facts_of(**customer), kinds=KINDS), NOON)


def test_what_is_set_and_where_somebody_is_moved_the_next_step_knows_at_once():
    outcome = outcome_of(
        {
            "set": {
                "vip": True,
                "points": "customer.orders + 1",
                "since": "order.day",
                "tags": {"add": ["b"], "remove": ["a"]},
            }
        },
        {"move": "loyalty"},
        {
            "id": "sees",
            "if": 'customer.vip and customer.points == 2 and "b" in customer.tags and "a" not in customer.tags'
            ' and customer.stage == "loyalty" and customer.since == order.day',
            "then": [{"send": "email/news"}],
        },
        tags=["a"],
    )

    assert outcome.queued is not None
    written, moved = outcome.actions
    assert written.payload == {
        "attributes": {"vip": True, "points": 2, "since": "2026-03-20"},
        "tags": {"add": ["b"], "remove": ["a"]},
    }
    assert written.detail == {"set": ["vip", "points", "since"], "tags": ["+b", "-a"]}, "names, and never values"
    assert (moved.event, moved.stage) == (acting.MOVED, "loyalty")


@pytest.mark.parametrize(
    ("given", "points"),
    [(50, 50), ("customer.orders * 2.75", 2), ("customer.nothing", None), ('"many"', None), (0, None), ("-3", None),
     (True, None), (10**12, 10**9)],
)  # fmt: skip
def test_points_are_whole_and_more_than_none_or_nothing_is_awarded(given, points):
    outcome = outcome_of({"award": given, "programme": "beans"})

    assert [one.payload["points"] for one in outcome.actions] == ([] if points is None else [points])
    assert [one.verb for one in outcome.decisions] == ["acted" if points else "did nothing", "finished"]


def test_a_value_that_is_missing_of_another_kind_or_not_declared_is_left_out_and_told():
    outcome = outcome_of({"set": {"vip": "customer.nothing", "points": '"7"', "other": 3, "since": '"2026-03-02"'}})

    (action,) = outcome.actions
    assert action.facts == {"since": "2026-03-02"}
    assert action.detail == {"set": ["since"], "left_out": ["vip", "points", "other"]}
    assert outcome_of({"set": {"vip": "customer.nothing"}}).actions == ()


def test_who_is_held_out_gets_what_they_earned_and_the_run_is_held_by_none_of_it():
    outcome = outcome_of(
        {"award": 5, "programme": "beans"},
        {"redeem": "tasting", "programme": "beans"},
        {"start": "other", "given": {"order": "order.id", "nothing": "order.none"}},
        {"stop_flow": "third"},
        {"webhook": "crm", "given": {"day": "order.day"}},
        held_out=True,
    )

    assert (outcome.state, outcome.reason) == ("finished", HELD_OUT)
    assert [(one.event, dict(one.payload)) for one in outcome.actions] == [
        ("points.awarded", {"programme": "beans", "points": 5}),
        ("reward.asked", {"programme": "beans", "reward": "tasting"}),
        ("flow.asked", {"flow": "other", "given": {"order": "o1"}}),
        ("flow.stopped", {"flow": "third"}),
        ("webhook.asked", {"webhook": "crm", "given": {"day": "2026-03-20"}}),
    ]


@pytest.mark.parametrize(
    ("first", "by", "is_heard"),
    [
        ({"survey": "email/ask"}, {"by": {"flow": "tried", "run": 5}}, True),
        ({"survey": "email/ask"}, {"by": {"flow": "tried", "run": 6}}, False),
        ({"survey": "email/ask"}, {}, True),
        ({"send": "email/ask"}, {"by": {"flow": "tried", "run": 6}}, True),
    ],
)
def test_a_flow_that_asks_hears_the_answers_to_its_own_run(first, by, is_heard):
    flow = flow_of([first, {"id": "answer", "wait_for": "survey.answered", "for_up_to": "3 days"}])
    answered = facts_of(event("survey.answered", score=4, **by))

    outcome = decide(flow, replace(run_at(flow, "answer"), id=5), answered, NOON)

    assert (outcome.state == "finished") is is_heard


# What `check` says

BEANS = """\
programme: beans
kind: loyalty
about: Points
earn: [{id: order, on: order.paid, points: 1}]
rewards: [{id: tasting, about: A seat, costs: 60, gives: {perk: tasting}}]
"""


def flow_text(name: str, starts: dict[str, Any], *steps: Any, **more: Any) -> str:
    model = {"flow": name, "about": "Tried", "status": "live", "starts": starts, "steps": list(steps), **more}
    return json.dumps(model)


def said(**flows: str) -> list[str]:
    shop = FILES["flows/shop.yaml"] + "webhooks: {helpdesk: {url: 'https://desk.example/h', secret: DESK}}\n"
    files = {**FILES, "flows/shop.yaml": shop, "flows/programmes/beans.yaml": BEANS}
    files |= {f"flows/{name}.yaml": text for name, text in flows.items()}
    return [str(problem) for problem in check_files(files)]


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"award": 5, "programme": "bean"}, "There is no loyalty programme 'bean' in flows/programmes. Did you mean"),
        ({"award": "order.totl", "programme": "beans"}, "order.paid does not supply 'order.totl'"),
        ({"award": "order.id", "programme": "beans"}, "Points are a number, and this is a text."),
        ({"redeem": "tastin", "programme": "beans"}, "'beans' has no reward 'tastin'. Did you mean 'tasting'?"),
        ({"set": {"birthdy": "order.id"}}, "declare it in shop.yaml under attributes. Did you mean 'birthday'?"),
        ({"set": {"open_ticket": "order.total"}}, "'open_ticket' is yes or no, and this is a number."),
        ({"set": {"tags": "order.id"}}, "Say which tags to add and which to remove"),
        ({"set": {"points": {"add": ["x"]}}}, "Only `tags` has words to add and remove"),
        ({"set": {"tags": {"add": ["x"], "remove": ["x"]}}}, "The tag 'x' is to be put on and taken off"),
        ({"move": "advocac"}, "There is no stage 'advocac' in stages.yaml. Did you mean 'advocacy'?"),
        ({"start": "first-ordr"}, "There is no flow 'first-ordr'. Did you mean 'first-order'?"),
        ({"stop_flow": "first-ordr"}, "There is no flow 'first-ordr'. Did you mean 'first-order'?"),
        ({"stop_flow": "mine"}, "A flow ends its own run with `stop: true`."),
        ({"webhook": "helpdsk"}, "add it under webhooks, with its url and secret. Did you mean 'helpdesk'?"),
        ({"webhook": "helpdesk", "given": {"id": "order.nr"}}, "order.paid does not supply 'order.nr'"),
        ({"survey": "email/thanks"}, "email/thanks has no scale to answer on"),
        ({"survey": "email/thnks"}, "There is no template templates/email/thnks.mjml."),
    ],
)  # fmt: skip
def test_what_a_step_names_that_is_not_there_is_told_with_what_was_meant(step, told):
    (problem,) = said(mine=flow_text("mine", {"event": "order.paid"}, step, once_per="order.id"))
    assert problem.startswith("flows/mine.yaml:1:")
    assert told in problem


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize(
    ("starts", "step"),
    [
        ({"stage": "advocacy"}, {"move": "advocacy"}),
        ({"event": "customer.set"}, {"set": {"points": 3}}),
        ({"event": "points.earned"}, {"award": 3, "programme": "beans"}),
        ({"event": "order.paid"}, {"start": "mine"}),
    ],
)
def test_a_flow_that_would_set_itself_going_for_ever_is_refused_unless_something_bounds_it(starts, step, bounded):
    more = {"once_per": "customer.id", "reenter": "after 30 days"} if bounded else {}
    told = [
        line for line in said(mine=flow_text("mine", starts, step, **more)) if "round for ever: mine -> mine" in line
    ]
    assert len(told) == (0 if bounded else 1)


def test_a_circle_of_several_flows_is_told_once_with_its_way():
    one = flow_text("one", {"stage": "advocacy"}, {"move": "awareness"}, {"move": "purchase"})
    two = flow_text("two", {"stage": "awareness"}, {"move": "advocacy"})
    told = [line for line in said(one=one, two=two) if "round for ever" in line]
    assert len(told) == 1
    assert "one -> two -> one" in told[0]
    assert not [line for line in said(one=one, two=two.replace("live", "draft")) if "for ever" in line]
