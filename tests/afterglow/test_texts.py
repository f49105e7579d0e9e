"""Texts with expressions: what is written, what stops the writing, and what may not be said at all."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.expressions import ExpressionError, RenderError, parse_text

FACTS = {
    "customer": {"first_name": "Sam", "last_name": None},
    "order": {"id": "o1", "total": Decimal("40.00"), "items": [{"title": "Beans"}, {"title": "Filter"}], "tags": []},
    "text": "not a list",
}


def written(text: str, facts=FACTS, functions=None, *, escape: bool = False) -> str:
    return parse_text(text).render(facts, functions or {}, escape=escape)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("Hi {{ customer.first_name }}!", "Hi Sam!"),
        ("{{ customer.last_name | default('friend') }}", "friend"),
        ("{{ order.total }}", "40.00"),
        ("{% if order.total > 30 %}big{% else %}small{% endif %}", "big"),
        ("{% if order.total > 90 %}big{% elif order.id == 'o1' %}mine{% else %}small{% endif %}", "mine"),
        ("{% if nope %}x{% endif %}", ""),
        (
            "{% for item in order.items %}{{ item.title }} of {{ order.id }}; {% endfor %}",
            "Beans of o1; Filter of o1; ",
        ),
        ("{% for item in order.tags %}x{% endfor %}", ""),
        ("{% for item in nope.items %}x{% endfor %}", ""),
        ("a{# never {{ nope }} shown #}b", "ab"),
        ("a  {%- if true -%}  b  {%- endif %}", "ab"),
        ("line\n", "line\n"),
        ("a\r\nb", "a\nb"),
        ("{{ '{{' }}", "{{"),
        ("@media x { .a { b: c } }", "@media x { .a { b: c } }"),
    ],
)
def test_a_text_is_written_for_a_customer(text, expected):
    assert written(text) == expected


def test_what_is_written_into_html_cannot_become_markup():
    facts = {"name": "<script>alert('x' & \"y\")</script>"}

    page = written('<a title="{{ name }}">{{ name }}</a>', facts, escape=True)

    assert page.count("<") == 2
    assert page.count('"') == 2
    assert "'" not in page
    assert "&lt;script&gt;" in page


def test_what_a_function_gives_is_escaped_too():
    page = written("{{ referral_link('x') }}", FACTS, {"referral_link": lambda _: "https://a/?b=1&c=<"}, escape=True)

    assert page == "https://a/?b=1&amp;c=&lt;"


@pytest.mark.parametrize(
    ("text", "line", "col", "sentence"),
    [
        ("Hi\n  {{ customer.nick }}", 2, 6, "'customer.nick' is missing"),
        ("{{ customer.last_name }}", 1, 4, "'customer.last_name' is missing"),
        ("{{ order.total | price(shop.currency) }}", 1, 4, "'shop.currency' is missing"),
        ("{{ order.id | number }}", 1, 4, "'order.id | number' is missing: it has no value here"),
        ("{{ order.items }}", 1, 4, "'order.items' is a list"),
        ("{{ rate('x') }}", 1, 4, "'rate('x')' is missing"),
        ("{% for item in order.items %}\n{{ item.price }}{% endfor %}", 2, 4, "'item.price' is missing"),
        ("{% for item in text %}{% endfor %}", 1, 4, "does not go over a list"),
    ],
)
def test_a_value_that_is_not_there_stops_the_mail_and_is_named(text, line, col, sentence):
    with pytest.raises(RenderError) as stopped:
        written(text)

    assert sentence in str(stopped.value)
    assert (stopped.value.line, stopped.value.col) == (line, col)


def test_loops_go_round_a_thousand_times_at_most_all_together():
    facts = {"items": list(range(1_000)), "few": list(range(40))}

    assert len(written("{% for x in items %}.{% endfor %}", facts)) == 1_000
    for text in (
        "{% for x in items %}.{% endfor %}{% for x in few %}.{% endfor %}",
        "{% for x in few %}{% for y in few %}.{% endfor %}{% endfor %}",
    ):
        with pytest.raises(RenderError, match="1,000 times"):
            written(text, facts)


def test_a_text_grows_to_a_million_characters_at_most():
    facts = {"items": list(range(500)), "long": "x" * 3_000}

    with pytest.raises(RenderError, match="longer than 1,000,000"):
        written("{% for x in items %}{{ long }}{% endfor %}", facts)


def test_names_and_calls_leave_out_what_a_loop_brings():
    text = parse_text(
        "{{ customer.first_name }}{% for item in order.items %}{{ item.title }}{{ shop.url }}{% endfor %}"
        "{{ item.title }}{% if rate('arrival', 4) %}{{ referral_link('friends') }}{% endif %}"
    )

    assert text.names == {"customer.first_name", "order.items", "shop.url", "item.title"}
    assert text.calls == {("rate", ("arrival", 4)), ("referral_link", ("friends",))}


def test_a_loop_variable_is_known_only_inside_its_loop():
    text = "{% for order in order.items %}{{ order.title }}{% endfor %}{{ order.id }}"

    assert written(text) == "BeansFiltero1"
    assert parse_text(text).names == {"order.items", "order.id"}


@pytest.mark.parametrize(
    ("text", "line", "col", "sentence"),
    [
        ("{{ a", 1, 4, "Something is missing at the end"),
        ("a\n{{ b | lowr }}", 2, 8, "Did you mean 'lower'?"),
        ("{{}}", 1, 3, "Something is missing"),
        ("{% if a %}", 1, 9, "add '{% endif %}'"),
        ("{% endif %}", 1, 4, "closes nothing here"),
        ("{% foo %}", 1, 4, "only 'if' and 'for' are"),
        ("{# a", 1, 3, "not closed"),
        ("{{ a, b }}", 1, 5, "Write a list"),
        ("{% set x = 1 %}", 1, 4, "'set' is not part"),
        ("{% set x %}{% endset %}", 1, 4, "'set' is not part"),
        ("{% include 'x' %}", 1, 4, "'include' is not part"),
        ("{% import 'x' as y %}", 1, 4, "'import' is not part"),
        ("{% from 'x' import y %}", 1, 4, "'import' is not part"),
        ("{% extends 'x' %}", 1, 4, "'extends' is not part"),
        ("{% block a %}{% endblock %}", 1, 4, "'block' is not part"),
        ("{% macro a() %}{% endmacro %}", 1, 4, "'macro' is not part"),
        ("{% call a() %}{% endcall %}", 1, 4, "'call' is not part"),
        ("{% filter upper %}x{% endfilter %}", 1, 4, "'filter' blocks are not part"),
        ("{% with a = 1 %}{% endwith %}", 1, 4, "'with' is not part"),
        ("{% autoescape false %}{% endautoescape %}", 1, 4, "'autoescape' is not part"),
        ("{% raw %}{{ a }}{% endraw %}", 1, 1, "'raw' is not part"),
        ("{% for a, b in c %}{% endfor %}", 1, 4, "one variable"),
        ("{% for a in b if c %}{% endfor %}", 1, 4, "'where'"),
        ("{% for a in b recursive %}{% endfor %}", 1, 4, "'where'"),
        ("{% for a in b %}{% else %}x{% endfor %}", 1, 4, "'where'"),
        ("{% for __a in b %}{% endfor %}", 1, 4, "two underscores"),
        ("{% for a in b %}" * 3 + "{% endfor %}" * 3, 1, 36, "nested more than 2 deep"),
        ("{% if a %}" * 12 + "{% endif %}" * 12, 1, 114, "nested more than 10 deep"),
        ("{% if a.__class__ %}{% endif %}", 1, 8, "two underscores"),
        ("x\n{%- if a %}\n  {{- b.__class__ }}\n{% endif %}", 3, 8, "two underscores"),
        ("x" * 500_001, 1, 1, "at most 500,000"),
    ],
)
def test_what_is_not_part_of_the_language_is_refused_when_it_is_written(text, line, col, sentence):
    with pytest.raises(ExpressionError) as refused:
        parse_text(text)

    assert sentence in str(refused.value)
    assert (refused.value.line, refused.value.col) == (line, col)


@given(
    st.lists(
        st.sampled_from(
            [
                "{{", "}}", "{%", "%}", "{%-", "-%}", "{{-", "-}}", "{#", "#}", " ", "\n", "a", "b.c", "if", "elif",
                "else", "endif", "for", "x in a", "endfor", "|", "upper", "'", "(", ")", "[0]", "set", "raw",
                "endraw", "<", "\r",
            ]
        ),
        max_size=30,
    ).map("".join)
)  # fmt: skip
def test_any_text_renders_or_is_refused(text):
    try:
        rendered = parse_text(text).render({"a": ["1", {"c": 2}], "b": {"c": "<"}}, escape=True)
    except (ExpressionError, RenderError) as error:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        place = error.line, error.col
    else:
        assert "<" not in rendered or "<" in text
        return
    assert 1 <= place[0] <= len(lines)
    assert 1 <= place[1] <= len(lines[place[0] - 1]) + 1


@given(st.text(alphabet=st.characters(exclude_characters="{\r", exclude_categories=["Cs"])))
def test_a_text_without_brackets_is_written_as_it_stands(text):
    assert written(text, {}, escape=True) == text


@given(st.text())
def test_a_value_is_written_as_it_is_where_nothing_needs_escaping(value):
    assert written("{{ a }}", {"a": value}) == value


@pytest.mark.parametrize("escape", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "Dear {{ name }}, {{ shop.name }} says hello: {{ shop.name }}",
        "{% if name == 'Sam' %}{{ shop.name }}{% else %}{{ shop.url }}{% endif %}",
        "{{ shop.price | price(shop.currency) }}",
        "{% for shop in list %}{{ shop.name }},{% endfor %}{{ shop.name }}",
        "{% for item in list %}{{ item.name }} at {{ shop.name }};{% endfor %}",
    ],
)
def test_writing_constants_beforehand_changes_nothing_that_a_customer_reads(text: str, escape: bool) -> None:
    constants = {"shop": {"name": "Ember & Oak", "url": "https://shop.example", "currency": "EUR", "price": 12}}
    facts = {**constants, "name": "Sam", "list": [{"name": "<one>"}, {"name": "two"}]}
    whole = parse_text(text)

    settled = whole.with_constants(constants, escape=escape)

    assert settled.render(facts, escape=escape) == whole.render(facts, escape=escape)
    assert settled.names == whole.names


def test_a_constant_with_nothing_to_write_is_still_told_when_rendered() -> None:
    settled = parse_text("Call {{ shop.phone }}").with_constants({"shop": {"name": "Ember"}}, escape=False)

    with pytest.raises(RenderError, match=r"shop\.phone"):
        settled.render({"shop": {"name": "Ember"}}, escape=False)
