"""People inside a flow go on in its new version: where each stands then, and when its wait ends."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from afterglow.decide import Run, decide
from afterglow.language.flow.graph import Flow
from afterglow.moving import Passage
from afterglow.problems import Problems
from tests.afterglow.test_decide import NOON, PARIS, facts_of, flow_of, run_at

DAY = timedelta(days=1)
A, B, C = ({"send": f"email/{name}"} for name in "abc")


def wait(id: str, how_long: str, **further: Any) -> dict[str, Any]:
    return {"id": id, "wait": how_long, **further}


def over(
    old: Sequence[Any],
    new: Sequence[Any],
    *,
    at: str | None,
    until: datetime | None = None,
    since: datetime | None = NOON,
    last: str | None = None,
    now: datetime = NOON,
) -> Run:
    before, after = flow_of(old), flow_of(new, on_edit="move")
    run = Run(customer_id=7, event_id=1, entered_at=NOON, step=at, until=until)
    return Passage(old=before, new=after).over(run, since, last, PARIS, now)


@pytest.mark.parametrize(
    ("step", "ends"),
    [
        (wait("w", "3 days"), NOON + 3 * DAY),
        (wait("w", "1 day"), NOON + DAY),
        (wait("w", "1 day", at="10:00"), datetime(2026, 3, 3, 9, 0, tzinfo=NOON.tzinfo)),
        ({"id": "w", "wait_for": "ping.one", "for_up_to": "5 days"}, NOON + 5 * DAY),
        ({"id": "w", "until": {"weekday": "friday", "at": "10:00"}}, datetime(2026, 3, 6, 9, 0, tzinfo=NOON.tzinfo)),
        ({"id": "w", "until": "order.day", "if_past": "go on"}, None),
        ({"id": "w", "send": "email/c"}, None),
    ],
)
def test_a_wait_ends_when_the_new_one_would_counted_from_when_the_step_was_reached(step, ends):
    moved = over([wait("w", "3 days"), A], [step, A], at="w", until=NOON + 3 * DAY, now=NOON + 2 * DAY)

    assert (moved.step, moved.until) == ("w", ends)


@pytest.mark.parametrize(
    ("new", "lands"),
    [
        ([wait("pause", "1 day", was="w"), A], "pause"),
        ([wait("pause", "1 day", was=["x", "w"]), A], "pause"),
        ([B, A, C], "a"),
        ([{"id": "new", "if": "customer.orders == 1", "then": [A]}, C], "a"),
        ([B, C], "c"),
        ([B], None),
    ],
)
def test_who_stands_on_a_step_that_is_gone_goes_on_at_the_next_that_is_left(new, lands):
    moved = over([wait("w", "1 day"), A, C], new, at="w", until=NOON + DAY)

    assert moved.step == lands
    assert moved.until == (NOON + DAY if lands == "pause" else None)


def test_of_a_choice_that_is_gone_no_branch_is_taken_for_granted():
    choice = {"id": "q", "if": "customer.orders == 1", "then": [A], "else": [{"stop": True}]}
    old = [wait("w", "1 day"), choice, C]

    assert over(old, [A, C], at="w", until=NOON + DAY).step == "a", "the other branch ends"
    choice["else"] = [B]
    assert over(old, [A, B, C], at="w", until=NOON + DAY).step == "c"


@pytest.mark.parametrize(
    ("new", "following", "lands"),
    [
        ([A, B, C], "b", "b"),
        ([A, {"send": "email/new"}, B, C], "b", "new"),
        ([A], "b", None),
        ([A, {"send": "email/new"}], None, "new"),
        ([B, A, C], "b", "b"),
        ([B, C], "b", "b"),
        ([C], "b", "c"),
    ],
)
def test_who_is_between_two_steps_goes_on_behind_the_one_that_was_done(new, following, lands):
    old = [A, B, C] if following else [A]

    assert over(old, new, at=following, last="a").step == lands


def test_a_step_that_was_done_before_is_not_done_again_whatever_the_order_now():
    flow = flow_of([wait("w", "1 day"), A, {"id": "f", "wait_for": "ping.one", "for_up_to": "1 day"}, B])
    answers = {"f": {"event": "ping.one"}}
    run = Run(customer_id=7, event_id=1, entered_at=NOON, step="a", until=None, done=frozenset({"a"}))

    outcome = decide(flow, run, facts_of(answers=answers), NOON)

    assert [(one.verb, one.step) for one in outcome.decisions] == [
        ("done before", "a"),
        ("done before", "f"),
        ("queued", "b"),
    ]


def test_what_was_renamed_is_told_apart_from_what_is_there():
    with pytest.raises(Problems, match="'a' is the id of another step"):
        flow_of([A, {"send": "email/b", "was": "a"}])
    with pytest.raises(Problems, match="Two steps say that they were 'x'"):
        flow_of([{"send": "email/a", "was": "x"}, {"send": "email/b", "was": "x"}])


def test_successors_stand_before_a_step_in_every_compiled_flow():
    flow: Flow = flow_of([{"id": "q", "if": "customer.orders == 1", "then": [A], "else": [wait("w", "1 day"), B]}, C])
    assert [*flow.steps] == ["c", "a", "b", "w", "q"]
    assert run_at(flow).step == "q"
