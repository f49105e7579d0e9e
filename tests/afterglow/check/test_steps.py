"""What `check` says of steps that wait and choose."""

import pytest

from tests.checked_shop import FLOW, FLOW_FILE, said

ONE_EVENT = FLOW[FLOW.index("  - id: arrival") : FLOW.index("  - send: email/check-in")]
SEVERAL = """\
  - id: arrival
    wait_for:
      - event: order.delivered
        same: order.id
        arrived:
          - id: heavy
            if: arrival.parcel.weight >= 2
      - event: survey.answered
        arrived:
          - id: sad
            if: arrival.score <= 2
    for_up_to: 10 days
  - id: which
    if: arrival.event == "survey.answered"
    then:
      - id: sad_again
        if: arrival.score <= 2
"""


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("", "", None),
        ("parcel.weight >= 2", "score >= 2", "order.delivered does not supply 'arrival.score'"),
        ("arrival.score <= 2", "arrival.parcel.weight <= 2", "survey.answered does not supply 'arrival.parcel.weight'"),
        ("event: order.delivered", "event: order.deliverd", "No source brings an event 'order.deliverd'"),
        ("event: survey.answered", "event: order.delivered", "waits for order.delivered twice"),
        ("    for_up_to", "    same: order.id\n    for_up_to", "Each of several events has its own 'same'"),
        ("same: order.id", "same: order.nr", "order.nr"),
    ],
)
def test_of_several_events_each_way_knows_what_its_own_carries(old, new, sentence):
    found = said((FLOW_FILE, ONE_EVENT, SEVERAL.replace(old, new, 1)))

    if sentence is None:
        assert found == []
    else:
        assert any(sentence in one for one in found), found


UNTIL = """\
  - id: then
    until: {weekday: tuesday, at: "10:00"}
  - id: before
    until: order.paid_at
    offset: 30 days
    if_past: go on
"""


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("", "", None),
        ("tuesday", "tusday", "'tusday' is no day of the week; write it as monday. Did you mean 'tuesday'?"),
        ('at: "10:00"', 'at: "25:00"', "'25:00' is not a time of day"),
        ('at: "10:00"', 'between: "22:00"', "'22:00' is not a part of the day"),
        ('at: "10:00"', 'between: "22:00-22:00"', "Two equal times could mean always or never"),
        ('at: "10:00"', 'at: "10:00", between: "22:00-06:00"', "give one of the two"),
        ('{weekday: tuesday, at: "10:00"}', "{}", "Say until when"),
        ('at: "10:00"}', 'at: "10:00"}\n    if_past: stop', "'if_past' goes with a date"),
        ("30 days", "-30 dys", "'dys' is not a unit of time"),
        ("offset: 30 days", 'offset: 36 hours\n    at: "10:00"', "'at' goes with an offset in days"),
        ("    if_past: go on\n", "", "Say with `if_past` what 'before' does"),
        ("order.paid_at", "order.total", "'order.total' is a number, not a date"),
        ("order.paid_at", "order.paid_on", "does not supply 'order.paid_on'"),
    ],
)
def test_what_a_wait_ends_at_is_checked(old, new, sentence):
    found = said((FLOW_FILE, ONE_EVENT, ONE_EVENT + UNTIL.replace(old, new, 1)))

    if sentence is None:
        assert found == []
    else:
        assert any(sentence in one for one in found), found


def test_the_conditions_of_elif_are_checked_each_at_its_place():
    ways = """\
  - id: big
    if: order.total >= 100
    elif:
      - if: order.totl >= 50
        then: [{stop: true}]
"""
    [only] = said((FLOW_FILE, ONE_EVENT, ONE_EVENT + ways))

    line = FLOW[: FLOW.index("  - send: email/check-in")].count("\n") + 4
    assert only.startswith(f"{FLOW_FILE}:{line}:13: ")
