"""`check` says everything that is wrong in a shop's files at once, whatever they hold, each problem with its place."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow import ROOT
from afterglow.language.check import check_files
from tests.checked_shop import FILES, FLOW_FILE, said
from tests.examples import examples


def test_the_shipped_shop_has_no_problem():
    folders = (ROOT / "flows", ROOT / "templates" / "email")
    paths = [path for folder in folders for path in Path(folder).rglob("*") if path.is_file()]

    assert check_files({path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}) == []


def test_a_small_shop_has_no_problem():
    assert check_files(FILES) == []


def test_a_file_with_thirteen_mistakes_gets_all_of_them():
    text = """\
flow: first-order
about: Thirteen mistakes
status: alive
starts: {stage: purchse, when: customer.ordrs == 1}
once_per: order.nr
onwer: me
topic: cofee-care
steps:
  - send: email/thank
  - id: pause
    wait: 3 dayz
  - id: arrival
    wait_for: order.deliverd
    for_up_to: 10 days
  - id: answer
    wait_for: survey.answered
  - id: arrival
    wait: 1 hour
  - id: unhappy
    if: answer.score <=
  - notify: customer-car
"""
    told = [str(p).removeprefix(FLOW_FILE) for p in check_files(FILES | {FLOW_FILE: text}) if p.file == FLOW_FILE]

    assert [line.split(": ", 1)[0] for line in told] == [
        ":3:9", ":4:17", ":4:32", ":5:11", ":6:1", ":7:8", ":9:11", ":11:11", ":13:15", ":15:5", ":17:5", ":20:22",
        ":21:13",
    ]  # fmt: skip


#: Spellings that other YAML readers turn into something else, and what becomes of them.
TRAPS = [
    ("about: Thank and listen", "about: NO", []),
    ("about: Thank and listen", "about: 2026-03-02", []),
    ("about: Thank and listen", "about: +15551234567", []),
    ("about: Thank and listen", "about: 0123", []),
    ("about: Thank and listen", "about: 1e3", []),
    ("  - id: arrival", "  - {id: morning, wait: 3 days, at: 10:30}\n  - id: arrival", []),
    ("status: live", "status: on", [":3:9: 'status' must be one of draft, live, paused, not 'on'."]),
    ("when: customer.orders == 1", "on: x", [":4:27: 'on' is not a key of a starts. Did you mean 'zone'?"]),
    ("about: Thank and listen", "about: &a Thank\nowner: *a", None),
    (
        "about: Thank and listen",
        "about: one\nabout: two",
        [":3:1: 'about' is already given on line 2; keep one of the two."],
    ),
    (
        "about: Thank and listen",
        "about: !!str x",
        [":2:8: 'tag:yaml.org,2002:str' is a tag; leave it out, or put the text in quotes."],
    ),
    ("about: Thank and listen", "about: a: b", [":2:9: A ': ' does not belong here; put the text in quotes."]),
    ("once_per", "\tonce_per", None),
]


@pytest.mark.parametrize(("old", "new", "expected"), TRAPS, ids=[row[1] for row in TRAPS])
def test_yaml_traps_are_read_as_written_or_told_at_their_place(old, new, expected):
    told = [line.removeprefix(FLOW_FILE) for line in said((FLOW_FILE, old, new)) if line.startswith(FLOW_FILE)]

    if expected is None:
        assert told
    else:
        assert told == expected


def test_nobody_is_blamed_for_naming_what_a_broken_file_may_hold():
    told = said(
        ("flows/sources/till.yaml", "key: body.id", "key: bdoy.id"),
        ("flows/shop.yaml", "currency: EUR", "curency: EUR"),
        ("flows/stages.yaml", "stages:", "stage:"),
        (FLOW_FILE, "email/thanks", "email/thank"),
    )

    assert {line.split(":")[0] for line in told} == {
        "flows/sources/till.yaml", "flows/shop.yaml", "flows/stages.yaml", FLOW_FILE,
    }  # fmt: skip
    assert [line for line in told if line.startswith(FLOW_FILE)] == [
        f"{FLOW_FILE}:8:11: There is no template templates/email/thank.mjml. Did you mean 'email/thanks'?"
    ]


def test_files_that_nothing_reads_are_told():
    told = check_files(FILES | {"flows/summer/sale.yaml": "x", "templates/email/sale.txt": "x"})

    assert [str(problem) for problem in told] == [
        "flows/summer/sale.yaml:1:1: Flows stand in flows/ itself; sources, programmes and pieces in flows/sources/, "
        "programmes/, pieces/; move this file.",
        "templates/email/sale.txt:1:1: This is the text part of a mail that is not there: templates/email/sale.mjml.",
    ]


def test_an_empty_folder_says_which_files_are_missing():
    assert [problem.file for problem in check_files({})] == ["flows/shop.yaml", "flows/stages.yaml"]


@settings(max_examples=examples(40), deadline=None)
@given(st.data())
def test_whatever_line_is_lost_every_problem_has_a_place_in_a_file(data):
    file = data.draw(st.sampled_from(sorted(FILES)))
    lines = FILES[file].split("\n")
    lost = data.draw(st.integers(0, len(lines) - 1))
    files = FILES | {file: "\n".join([*lines[:lost], *lines[lost + 1 :]])}

    for problem in check_files(files):
        assert problem.file in files
        assert 1 <= problem.line <= files[problem.file].count("\n") + 1
        assert problem.col >= 1
