"""What `check` says of a flow: names, kinds, ways and waits."""

import pytest

from afterglow.language.check import check_files
from tests.checked_shop import FILES, FLOW, FLOW_FILE, SHOP, SOURCE, said

#: What is changed in the flow, and what is then said about the flow.
IN_THE_FLOW = [
    (
        "notify: customer-care",
        "notify: customer-care\n            due: 2 days",
        ":22:18: Only a task can be due: say what there is to do, such as `task: call`.",
    ),
    (
        "notify: customer-care",
        "notify: customer-care\n            task: call\n            due: 48 hours",
        ":23:18: A task is due on a day: write `due: 2 days`; hours are not counted.",
    ),
    (
        "notify: customer-care",
        "notify: customer-care\n            taks: call",
        ":22:13: 'taks' is not a key of 'notify'. Did you mean 'task'?",
    ),
    ("purchase,", "purchse,", ":4:17: There is no stage 'purchse' in stages.yaml. Did you mean 'purchase'?"),
    (
        "wait_for: order.delivered",
        "wait_for: order.deliverd",
        ":10:15: No source brings an event 'order.deliverd'. Did you mean 'order.delivered'?",
    ),
    (
        "wait_for: survey.answered",
        "wait_for: loyalty.joined",
        ":15:15: No source brings an event 'loyalty.joined'. "
        "Events that come by the API alone are declared in shop.yaml under events.",
    ),
    (
        "topic: coffee-care",
        "stops: {event: order.refundd}\ntopic: coffee-care",
        ":6:16: No source brings an event 'order.refundd'. Did you mean 'order.refunded'?",
    ),
    (
        "topic: coffee-care",
        "topic: coffee-car",
        ":6:8: There is no topic 'coffee-car' in shop.yaml. Did you mean 'coffee-care'?",
    ),
    (
        "email/thanks",
        "email/thank",
        ":8:11: There is no template templates/email/thank.mjml. Did you mean 'email/thanks'?",
    ),
    (
        "email/thanks",
        "thanks",
        ":8:11: There is no template templates/thanks.mjml. Did you mean 'email/thanks'?",
    ),
    (
        "email/thanks",
        "email/_notify",
        ":8:11: 'email/_notify' is no mail to customers; teams are written to with `notify`.",
    ),
    (
        "notify: customer-care",
        "notify: customer-car",
        ":21:21: There is no team 'customer-car' in shop.yaml. Did you mean 'customer-care'?",
    ),
    # Names
    (
        "customer.orders == 1",
        "customer.order == 1",
        ":4:33: 'customer.order' is nothing we know of customers; declare it in shop.yaml under attributes. "
        "Did you mean 'customer.orders'?",
    ),
    (
        "customer.orders == 1",
        "order.totl > 1",
        ":4:33: Entering stage purchase (by order.paid) does not supply 'order.totl'. Did you mean 'order.total'?",
    ),
    (
        "once_per: order.id",
        "once_per: oder.id",
        ":5:11: Entering stage purchase (by order.paid) does not supply 'oder.id'. Did you mean 'order.id'?",
    ),
    (
        "customer.orders == 1",
        'customer.email == "x"',
        ":4:33: 'customer.email' cannot be read here: decisions are kept, so conditions read no addresses; "
        "use customer.id.",
    ),
    (
        "same: order.id",
        "same: order.total",
        ":11:11: order.delivered does not supply 'order.total'. There is order.id.",
    ),
    (
        "same: order.id",
        "same: customer.id",
        ":11:11: 'customer.id' cannot be read here: `same` compares what both events carry.",
    ),
    (
        "topic: coffee-care",
        "stops: [{event: order.refunded, same: order.id}]\ntopic: coffee-care",
        ":6:39: 'order.id' is text in the trigger and number in order.refunded: never the same.",
    ),
    (
        "if: answer.score <= 2",
        "if: answer.scor <= 2",
        ":19:13: survey.answered does not supply 'answer.scor'. Did you mean 'answer.score'?",
    ),
    (
        FLOW[FLOW.index("arrived:") :],
        "timed_out: [{id: unhappy, if: answer.score <= 2}]\n",
        ":17:35: 'answer.score' cannot be read here: step 'answer' has received no event on any way that leads here.",
    ),
    (
        "{{ answer.score }}",
        "{{ order.nr }}",
        ":22:30: Entering stage purchase (by order.paid) does not supply 'order.nr'. Did you mean 'order.id'?",
    ),
    (
        "topic: coffee-care",
        "only_if: not customer.open_tickt\ntopic: coffee-care",
        ":6:14: 'customer.open_tickt' is nothing we know of customers; declare it in shop.yaml under attributes. "
        "Did you mean 'customer.open_ticket'?",
    ),
    (
        "if: answer.score <= 2",
        "if: >-\n          answer.scor\n          <= 2",
        ":19:13: survey.answered does not supply 'answer.scor'. Did you mean 'answer.score'?",
    ),
    (
        "if: answer.score <= 2",
        "if: |\n          answer.score > 0 and\n          answer.scor <= 2",
        ":21:11: survey.answered does not supply 'answer.scor'. Did you mean 'answer.score'?",
    ),
    (
        "- id: arrival",
        "- id: order",
        ":9:9: 'order' already names something the flow knows; give this step another id.",
    ),
    (
        "customer.orders == 1",
        'rate("answer") == 1',
        ":4:33: 'rate' makes a link, and links stand in mails only.",
    ),
    # Kinds
    (
        "customer.orders == 1",
        'customer.orders == "1"',
        ":4:33: This is never true: 'customer.orders' is a number and \"1\" is text.",
    ),
    (
        "customer.orders == 1",
        "order.id > 100",
        ":4:33: This is never true: 'order.id' is text and 100 is a number.",
    ),
    (
        "customer.orders == 1",
        'customer.open_ticket == "no"',
        ":4:33: This is never true: 'customer.open_ticket' is yes or no and \"no\" is text.",
    ),
    (
        "customer.orders == 1",
        '"customer.stage not in [1, 2]"',
        ":4:34: This is always true: 'customer.stage' is text and this is a list of numbers.",
    ),
    (
        "customer.orders == 1",
        "order.paid_at > customer.since",
        ":4:33: This is never true: 'order.paid_at' is text and 'customer.since' is a moment; "
        "make it a moment with `| iso`.",
    ),
    (
        "customer.orders == 1",
        "customer.orders + order.id > 3",
        ":4:51: '+' works on numbers, and 'order.id' is text; texts are joined with '~'.",
    ),
    # Ways through the flow
    (
        "  - id: arrival\n",
        "  - stop: true\n  - id: arrival\n",
        ":10:5: Nobody reaches step 'arrival': every way before it ends with a stop.",
    ),
    (
        "    for_up_to: 7 days\n",
        "",
        ":14:5: 'answer' would wait for ever; say how long with `for_up_to`, such as `10 days`.",
    ),
    ("- id: answer", "- id: arrival", ":14:5: Two steps are called 'arrival'; give this one another id."),
    (
        "flow: first-order",
        "flow: first-oder",
        ":1:1: The file is called first-order and the flow in it 'first-oder'; make them equal.",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), IN_THE_FLOW, ids=[row[2][:60] for row in IN_THE_FLOW])
def test_a_slip_in_a_flow_is_told_at_its_place(old, new, expected):
    told = [line for line in said((FLOW_FILE, old, new)) if line.startswith(FLOW_FILE)]

    assert told == [f"{FLOW_FILE}{expected}"]


def test_any_event_may_bring_customers_into_a_stage_that_no_source_names():
    flow = FLOW.replace("stage: purchase", "stage: advocacy").replace("order.id\n", "tasting.seats\n", 1)

    assert check_files(FILES | {FLOW_FILE: flow}) == []


def test_an_event_that_is_taken_over_as_it_came_may_carry_anything():
    source = SOURCE.replace("payload: {order: {id: body.order | number}}", "payload: {from: body}")
    flow = FLOW.replace("{stage: purchase,", "{event: order.refunded,").replace("order.id\n", "order.whatever\n", 1)

    assert check_files(FILES | {"flows/sources/till.yaml": source, FLOW_FILE: flow}) == []


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("reenter: after 30 days", None),
        ("reenter: always", None),
        ("reenter: sometimes", "'sometimes' is not a time to run again: write never, always, or `after 30 days`."),
        ("reenter: after 30 dys", "'dys' is not a unit of time"),
        ("goal: {event: order.delivered, within: 60 days, same: order.id}", None),
        ("goal: {event: order.deliverd, within: 60 days}", "No source brings an event 'order.deliverd'"),
        ("goal: {event: order.delivered, within: soon}", "'soon' is not a duration"),
        ("goal: {event: order.delivered, within: 60 days, same: order.total}", "does not supply 'order.total'"),
        (
            "goal: {event: order.delivered, within: 60 days, same: customer.id}",
            "`same` compares what both events carry.",
        ),
        ("holdout: 5%", None),
        ("holdout: 2.5%", None),
        ("holdout: 60%", "'60%' is not a share to hold out; write it as 5%, more than 0% and at most 50%."),
        ("holdout: 0%", "'0%' is not a share to hold out"),
        ("holdout: 5", "'5' is not a share to hold out"),
    ],
)
def test_what_runs_again_counts_and_holds_out_is_checked(written, sentence):
    found = said((FLOW_FILE, "topic: coffee-care\n", f"topic: coffee-care\n{written}\n"))

    assert found == [] if sentence is None else any(sentence in one for one in found), found


def test_running_again_needs_a_key_and_a_shop_may_hold_out_too():
    keyless = said((FLOW_FILE, "once_per: order.id\n", "reenter: always\n"))
    assert any("'reenter' says when the same `once_per` may run again" in one for one in keyless)

    wrong = said(("flows/shop.yaml", SHOP, f"{SHOP}holdout: all\n"))
    assert any(one.startswith("flows/shop.yaml:") and "'all' is not a share to hold out" in one for one in wrong)
    assert said(("flows/shop.yaml", SHOP, f"{SHOP}holdout: 2%\n")) == []
