"""Nothing in a file gets out of its data, whatever is written where; and whatever loads is evaluated within bounds."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from afterglow import ROOT
from afterglow.expressions import MISSING, Expression, ExpressionError, RenderError, Text, parse, parse_text
from afterglow.expressions.evaluate import MAX_LOOKS, Work
from afterglow.expressions.text import MAX_OUTPUT
from afterglow.language.catalog import read_programme
from afterglow.language.flow.compiler import read_flow
from afterglow.language.shop import read_shop
from afterglow.language.source import read_source
from afterglow.mail_templates import compile_mail
from afterglow.problems import Problems
from tests.escapes import BLOCKS, ESCAPES, HARMLESS
from tests.examples import LONG
from tests.sample_facts import DATA, PLAIN, Tempting

#: Where an expression can stand in a flow, each on a line of its own.
FLOW = """\
flow: escape
about: Tries to get out
status: live
starts:
  event: order.paid
  when: {expression}
once_per: {expression}
only_if: {expression}
stops:
  event: order.refunded
  same: {expression}
goal:
  event: order.paid
  within: 7 days
  same: {expression}
steps:
  - id: choice
    if: {expression}
    elif:
      - if: {expression}
  - id: day
    if_past: stop
    until: {expression}
  - id: answer
    for_up_to: 7 days
    wait_for: survey.answered
    same: {expression}
  - notify: desk
    about: {text}
"""
SOURCE = """\
source: till
auth: none
key: {expression}
each: {expression}
events:
  - event: order.paid
    when: {expression}
    customer:
      id: {expression}
    payload:
      order:
        id: {expression}
"""
LOYALTY = """\
programme: beans
kind: loyalty
about: Points
asset: beans
earn:
  - id: per-euro
    on: order.paid
    points: 1
    per: 1
    round: down
    when: {expression}
    amount: {expression}
refunds:
  on: order.refunded
  policy: within_balance
  amount: {expression}
"""
REFERRAL = (ROOT / "flows/programmes/friends.yaml").read_text().replace("order.total >= 20", "{expression}")


#: In braces this is two expressions, each of them harmless.
ENDS_AND_BEGINS = "x}}{{y"


def filled(template: str, written: str) -> tuple[str, set[int]]:
    """A file with this in every place, and the lines of the places."""
    noted = "{{ " + (written if written != ENDS_AND_BEGINS else f"({written}") + " }}"
    text = template.replace("{expression}", json.dumps(written)).replace("{text}", json.dumps(noted))
    return text, {n for n, line in enumerate(template.split("\n"), 1) if "{expression}" in line or "{text}" in line}


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_way_out_is_loaded_and_each_is_told_at_its_place(escape):
    readers = ((FLOW, read_flow), (SOURCE, read_source), (LOYALTY, read_programme), (REFERRAL, read_programme))
    for template, read in readers:
        text, lines = filled(template, escape)

        with pytest.raises(Problems) as refused:
            read(text, "flows/escape.yaml")

        assert {problem.line for problem in refused.value.problems} == lines
        for problem in refused.value.problems:
            line = text.split("\n")[problem.line - 1]
            assert line.index('"') < problem.col <= len(line) + 1


@pytest.mark.parametrize("escape", [*BLOCKS, *("{{ " + one + " }}" for one in ESCAPES[::4] if one != ENDS_AND_BEGINS)])
def test_no_way_out_is_loaded_in_any_part_of_a_mail_or_in_a_note(escape):
    files = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.glob("templates/email/_*")}
    body, head = (
        "<mj-section><mj-column><mj-text>{}</mj-text></mj-column></mj-section>\n",
        "---\nkind: service\n{}---\n",
    )
    quoted = json.dumps(escape)
    for front, mjml, txt in (
        (f"subject: {quoted}\npreheader: {quoted}\n", "Hello", "Hello"),
        ("subject: A\npreheader: B\n", escape, escape),
    ):
        mail = {"templates/email/x.mjml": head.format(front) + body.format(mjml), "templates/email/x.txt": txt + "\n"}
        with pytest.raises(Problems) as refused:
            compile_mail("email/x", {**files, **mail})
        assert len({(problem.file, problem.line) for problem in refused.value.problems}) >= 2
        assert all(problem.line >= 1 and problem.col >= 1 for problem in refused.value.problems)


FACTS: Mapping[str, Any] = {
    "order": {
        "id": "o1",
        "total": Decimal("40.00"),
        "items": [{"title": "Beans"}],
        "placed": datetime(2026, 3, 2, tzinfo=UTC),
        "day": date(2026, 3, 2),
    },
    "customer": {"id": 1, "first_name": "Sam"},
    "shop": {"name": "Ember", "timezone": "Europe/Paris"},
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_looks_like_a_way_out_is_a_name_of_data_that_is_not_there(name, monkeypatch):
    monkeypatch.setenv("AFTERGLOW_SECRET", "a secret")
    touched: list[str] = []
    tempting = Tempting(touched)

    assert parse(name).value(FACTS) is MISSING
    parse(name).value({"order": tempting, "config": tempting, "self": tempting, "shop": {"secret": tempting}})
    assert touched == []
    with pytest.raises(RenderError):
        parse_text("{{ " + name + " }}").render(FACTS, escape=True)


def test_the_facts_of_a_shop_hold_no_settings():
    shop = read_shop((ROOT / "flows/shop.yaml").read_text(), "flows/shop.yaml")

    assert not {name for name in shop.facts if "secret" in name or "password" in name or "url" in name} - {
        "url",
        "review_url",
        "logo_url",
    }


# Bounds

MANY = [{"x": n} for n in range(23_000)]
DEEP = [[] for _ in range(42_000)]
HUGE = "it's " * 50_000


@pytest.mark.parametrize(
    "text",
    [
        " and ".join(["a == b"] * 90),
        " or ".join(["b in [a]"] * 70),
        "+".join(["(o | where('x', 1) | length)"] * 25),
        "o | where('x', a) | length",
        " ~ ".join(["(o | map('x') | length)"] * 70),
        " ~ ".join(["(o | sum('x'))"] * 70),
        " ~ ".join(["(t | title | length)"] * 60),
        " ~ ".join(["(t | upper | replace('I', 'xyz') | length)"] * 40),
        f"[{', '.join(['o'] * 250)}]",
        f"{{{', '.join(repr(f'k{n}') + ': t' for n in range(100))}}}",
        "[[[[[[a, a], [a, a]], [[a, a], [a, a]]], o], o], o]",
    ],
)
def test_no_expression_looks_at_more_than_there_is_time_for_nor_makes_anything_huge_of_it(text):
    expression, facts = parse(text), {"a": DEEP, "b": [[] for _ in DEEP], "o": MANY, "t": HUGE}

    began = time.process_time()
    found = expression.value(facts)

    assert time.process_time() - began < 10, "it would have taken up to a minute"
    assert weight(found) < MAX_LOOKS
    assert not isinstance(found, str) or len(found) <= len(HUGE) * 3


def weight(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(weight, inner))


def test_a_loop_over_much_that_asks_much_is_a_mail_that_cannot_be_written_and_soon():
    text = parse_text("{% for i in few %}" + "{{ o | map('x') | length }}" * 50 + "{% endfor %}")

    with pytest.raises(RenderError, match="more than 100,000 values"):
        text.render({"o": MANY, "few": MANY[:900]}, escape=True)

    text = parse_text("{% for i in few %}" + "{% if no %}{% endif %}" * 1_000 + "{% endfor %}")
    with pytest.raises(RenderError, match="more than 100,000 values"):
        text.render({"few": MANY[:900]}, escape=True)


# Fuzzing


def expressions_in(made: object, seen: set[int] | None = None) -> Iterator[Expression | Text]:
    """Everything in a compiled file that is ever evaluated."""
    seen = set() if seen is None else seen
    if id(made) in seen:
        return
    seen.add(id(made))
    match made:
        case Expression() | Text():
            yield made
        case Mapping():
            parts: list[object] = list(made.values())
        case list() | tuple() | frozenset():
            parts = list(made)
        case BaseModel():
            parts = [getattr(made, name) for name in type(made).model_fields]
        case _ if dataclasses.is_dataclass(made):
            parts = [getattr(made, part.name) for part in dataclasses.fields(made)]
        case _:
            parts = []
    if not isinstance(made, Expression | Text):
        for part in parts:
            yield from expressions_in(part, seen)


READERS = [
    *((path, read_flow) for path in sorted(ROOT.glob("flows/*.yaml")) if path.stem not in ("shop", "stages")),
    *((path, read_source) for path in sorted(ROOT.glob("flows/sources/*.yaml"))),
    *((path, read_programme) for path in sorted(ROOT.glob("flows/programmes/*.yaml"))),
]
FILES = [(path.read_bytes(), path.relative_to(ROOT).as_posix(), reader) for path, reader in READERS]
BITS = st.binary(max_size=3) | st.sampled_from(
    [escape.encode(errors="replace") for escape in (*ESCAPES[:60], *HARMLESS)]
    + [
        b" | ",
        b"~",
        b"not ",
        b"[",
        b"]",
        b"{{",
        b"}}",
        b"{% if x %}",
        b"'",
        b'"',
        b":",
        b"\n",
        b"  ",
        b"order.",
        b"- ",
        b"|\n",
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, str, Any]:
    """A shipped file with some bytes of it changed, moved, or taken out."""
    content, name, reader = draw(st.sampled_from(FILES))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        taken = draw(st.sampled_from([0, 0, 1, 2, 7, 40]))
        content = content[:at] + draw(BITS) + content[at + taken :]
    return content.decode(errors=draw(st.sampled_from(["replace", "surrogateescape"]))), name, reader


@pytest.mark.long
@pytest.mark.timeout(1800 if LONG else 120)
@settings(max_examples=5_000 if LONG else 150)
@given(mutated(), st.dictionaries(st.sampled_from(["order", "customer", "body", "item", "shop"]), DATA, max_size=4))
def test_any_file_is_refused_with_its_problems_or_evaluates_to_plain_values_within_bounds(file, facts):
    text, name, reader = file
    made = problems_or(lambda: reader(text, name))
    if isinstance(made, Problems):
        lines = text.count("\n") + text.count("\r") + 1
        assert made.problems
        assert all(1 <= problem.line <= lines + 1 and problem.col >= 1 for problem in made.problems)
        return
    for one in expressions_in(made):
        if isinstance(one, Text):
            with suppress(RenderError):
                assert len(one.render(facts, escape=True)) <= MAX_OUTPUT
            continue
        work = Work({})
        found = one._evaluate(facts, work)
        assert isinstance(found, PLAIN)
        assert work.looks_left > 0


def problems_or(make: Callable[[], object]) -> object:
    """What is made, or why it is not."""
    try:
        return make()
    except (Problems, ExpressionError) as refused:
        return refused


WRITTEN = st.sampled_from(
    [block for block in BLOCKS if len(block) < 60]
    + ["{{ a }}", "{% if a %}", "{% else %}", "{% endif %}", "{% for i in b %}", "{{ i.x }}", "{% endfor %}", "text"]
    + ["{#", "#}", "{%-", "-%}", "\n", "{{ b | map('x') | join }}", "{{ b | length }}"]
)


@pytest.mark.long
@settings(max_examples=5_000 if LONG else 150)
@given(st.lists(WRITTEN, max_size=12).map("".join), st.dictionaries(st.sampled_from(["a", "b"]), DATA, max_size=2))
def test_any_text_is_refused_at_a_place_inside_it_or_written_within_bounds(text, facts):
    template = problems_or(lambda: parse_text(text))
    if isinstance(template, ExpressionError):
        assert 1 <= template.line <= text.count("\n") + 1
        assert template.col >= 1
        return
    with suppress(RenderError):
        assert len(template.render(facts, escape=True)) <= MAX_OUTPUT
