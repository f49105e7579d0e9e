"""Steps that several flows use."""

import json

import pytest

from afterglow.language.catalog import compile_files, read_documents
from afterglow.language.check import check_files
from afterglow.language.flow.compiler import read_flow
from afterglow.language.pieces import joined, pieces_in
from afterglow.outline import outline
from afterglow.pictures import flow_picture
from tests.driver import shop_files
from tests.small_shop import SHOP

PIECE = "flows/pieces/ask-how-it-was.yaml"
ASKING = """\
piece: ask-how-it-was
about: Ask for a score, and let a person hear of a low one
steps:
  - send: email/brew-check-in
  - id: answer
    wait_for: survey.answered
    for_up_to: 7 days
    arrived:
      - id: unhappy
        if: answer.score <= 2
        then:
          - notify: desk
            about: "{{ customer.first_name | default('They') }} gave {{ answer.score }}."
"""
FLOW = """\
flow: {name}
about: A flow that uses a piece
status: live
starts: {{event: {event}}}
topic: care
steps:
  - id: later
    wait: 2 days
  - use: ask-how-it-was
  - send: email/tip-water
tests:
  - name: a low score is heard of
    timeline:
      - {{at: "2026-03-02 09:00", event: {event}}}
      - {{after: 3 days, event: survey.answered, score: 1}}
    expect:
      - {{at: "2026-03-04 09:00", send: email/brew-check-in}}
      - {{at: "2026-03-05 09:00", notify: desk}}
      - {{at: "2026-03-05 09:00", send: email/tip-water}}
"""


def files(piece: str = ASKING, flow: str = FLOW, **further: str) -> dict[str, str]:
    """A small shop of two flows that use a piece."""
    return {
        "flows/shop.yaml": json.dumps(SHOP),
        "flows/stages.yaml": shop_files()["flows/stages.yaml"],
        PIECE: piece,
        "flows/first.yaml": flow.format(name="first", event="order.refunded"),
        "flows/second.yaml": flow.format(name="second", event="order.paid"),
        **{f"flows/pieces/{name}.yaml": text for name, text in further.items()},
    }


def documents(given: dict[str, str]) -> dict[tuple[str, str], str]:
    return {(one.kind, one.name): one.body for one in compile_files(given)}


def test_a_piece_stands_in_each_flow_as_if_it_were_written_there() -> None:
    written_out = FLOW.replace("  - use: ask-how-it-was\n", ASKING.partition("steps:\n")[2])
    used, plain = (read_documents(documents(files(flow=one))).flows["first"] for one in (FLOW, written_out))

    assert list(used.steps) == list(plain.steps)
    assert outline(used) == outline(plain)
    assert flow_picture(used, None, width=800) == flow_picture(plain, None, width=800)


def test_a_flow_is_put_into_force_whole_so_that_another_piece_is_another_version_of_it() -> None:
    before, after = documents(files()), documents(files(ASKING.replace("7 days", "9 days")))

    changed = {key for key in before if before[key] != after[key]}
    assert changed == {("flow", "first"), ("flow", "second")}
    assert not any(kind == "piece" for kind, _ in before)
    assert "tests:" not in before["flow", "first"]  # another test is no other version


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"piece": ASKING.replace("answer.score <=", "answer.scor <=")},
            [
                f"{PIECE}:10:13: survey.answered does not supply 'answer.scor'. Did you mean 'answer.score'? "
                f"Flow '{name}' uses this piece."
                for name in ("first", "second")
            ],
        ),
        (
            {"flow": FLOW.replace("  - use: ask-how-it-was\n", "  - use: ask-how-it-is\n")},
            [
                f"flows/{name}.yaml:9:10: There is no piece flows/pieces/ask-how-it-is.yaml."
                for name in ("first", "second")
            ],
        ),
        (
            {"piece": ASKING + "  - use: ask-how-it-was\n"},
            [f"{PIECE}:14:10: The piece 'ask-how-it-was' would use itself, without an end."],
        ),
        (
            {"piece": ASKING.replace("piece: ask-how-it-was", "piece: other")},
            [f"{PIECE}:1:8: The file is called ask-how-it-was.yaml and the piece in it 'other'; make them equal."],
        ),
        (
            {"flow": FLOW.replace("- id: later", "- id: answer")},
            [
                f"{PIECE}:5:5: Two steps of flow '{name}' are called 'answer', here and in flows/{name}.yaml; "
                "give one of them another id."
                for name in ("first", "second")
            ],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_piece_is_told_in_its_own_file(change: dict[str, str], told: list[str]) -> None:
    found = [str(problem) for problem in check_files(files(**change))]

    assert [one for one in found if "template" not in one] == told


def test_pieces_use_pieces() -> None:
    outer = "piece: outer\nabout: Both\nsteps:\n  - id: pause\n    wait: 1 day\n  - use: ask-how-it-was\n"
    given = files(flow=FLOW.replace("use: ask-how-it-was", "use: outer"), outer=outer)
    flow = read_flow(joined(given["flows/first.yaml"], pieces_in(given)), "flows/first.yaml")

    assert {"pause", "answer", "unhappy"} <= flow.steps.keys()
    assert flow.problem(flow.steps["answer"].path, "Here.").file == PIECE
