"""The expression language: what it says about data, what it refuses, and that nothing escapes from it."""

from copy import deepcopy
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from pickle import dumps, loads
from types import MappingProxyType, SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.expressions import MISSING, ExpressionError, parse
from afterglow.expressions.values import LARGEST_INT, MAX_TEXT
from tests.escapes import ESCAPES
from tests.examples import LONG, examples
from tests.sample_facts import DATA, PLAIN, Tempting

FACTS = {
    "order": {
        "id": "o1",
        "total": Decimal("40.00"),
        "paid": True,
        "note": None,
        "items": [
            {"title": "Beans", "price": Decimal("12.50"), "quantity": 2, "variant": {"size": "1kg"}},
            {"title": "Filter", "price": Decimal("3.25"), "quantity": 1},
        ],
        "tags": ["gift", "first"],
        "placed": datetime(2026, 3, 2, 9, 0, tzinfo=UTC),
    },
    "customer": {"first_name": "Sam", "last_name": "", "orders": 1, "birthday": date(1990, 5, 4)},
    "body": {"a b": {"items": 3}, "_links": {"self": "x"}},
    "weight": 0.1,
}


def value(text: str, facts=FACTS) -> object:
    return parse(text).value(facts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("order.total >= 40 and customer.orders == 1", True),
        ("order.total == 40", True),
        ("order.total == 40.0", True),
        ("1 < customer.orders + 1 <= 2", True),
        ("3 > 2 > 2", False),
        ("order.paid", True),
        ("order.paid == true", True),
        ("order.paid == 1", False),
        ("'gift' in order.tags", True),
        ("'sale' not in order.tags", True),
        ("'ea' in order.items[0].title", True),
        ("order.items[-1].title == 'Filter'", True),
        ("order.items[7].title == 'Filter'", False),
        ("order.items.0.title == 'Beans'", True),
        ("order.id in ['o1', 'o2']", True),
        ("body['a b'].items == 3", True),
        ("body._links.self == 'x'", True),
        ("'9' > 10", False),
        ("'9' < 10", False),
        ("'9' == 9", False),
        ("'9' != 9", True),
        ("'a' < 'b'", True),
        ("'B' < 'a'", True),
        ("'sam' == customer.first_name", False),
        ("order.tags == ['gift', 'first']", True),
        ("order.tags < ['z']", False),
        ("true > false", False),
        ("order.placed < ('2026-03-02T10:30:00+01:00' | iso)", True),
        ("order.placed == ('2026-03-02 10:00+0100' | iso)", True),
        ("order.placed > '2020-01-01'", False),
        ("customer.birthday < order.placed", False),
        ("not (1 == 2) or nope", True),
    ],
)
def test_conditions(text, expected):
    assert parse(text).is_true(FACTS) is expected


@pytest.mark.parametrize("operator", ["==", "!=", "<", "<=", ">", ">=", "in", "not in"])
@pytest.mark.parametrize("absent", ["nope", "order.nope", "nope.nope.nope", "order.note", "none", "order.id.nope"])
def test_every_comparison_with_something_missing_is_false_and_its_negation_true(operator, absent):
    assert parse(f"{absent} {operator} 'x'").is_true(FACTS) is False
    assert parse(f"'x' {operator} {absent}").is_true(FACTS) is False
    assert parse(f"not ({absent} {operator} 'x')").is_true(FACTS) is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nope", MISSING),
        ("not nope", True),
        ("nope + 1", MISSING),
        ("1 - nope", MISSING),
        ("-nope", MISSING),
        ("nope ~ 'x'", MISSING),
        ("nope | upper", MISSING),
        ("nope or 'there'", "there"),
        ("nope and 1", MISSING),
        ("nope | default('there')", "there"),
        ("order.note | default('there')", "there"),
        ("customer.last_name | default('there')", "there"),
        ("customer.orders | default(7)", 1),
        ("0 | default(7)", 0),
        ("order.note", None),
        ("order.note is none", True),
        ("nope is none", False),
        ("nope is missing", True),
        ("order.note is missing", True),
        ("order.note is defined", False),
        ("order.id is defined", True),
        ("nope is not defined", True),
        ("order.id is not missing", True),
        ("'a' if nope", MISSING),
        ("'a' if order.id else 'b'", "a"),
        ("['a', nope, none]", ["a", None]),
        ("{'id': order.id, 'gone': nope}", {"id": "o1"}),
    ],
)
def test_what_is_missing_stays_missing_until_something_stands_in(text, expected):
    found = value(text)

    assert found is expected if expected is MISSING else found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 / 2", Decimal("1.5")),
        ("4 / 2", Decimal(2)),
        ("0.1 + 0.2", Decimal("0.3")),
        ("weight * 3", Decimal("0.3")),
        ("order.total - 0.01", Decimal("39.99")),
        ("2 * 3 + 4", 10),
        ("2 + 3 * 4", 14),
        ("-2 + 3", 1),
        ("1 / 0", MISSING),
        ("0 / 0", MISSING),
        ("true + 1", MISSING),
        ("'1' + 1", MISSING),
        ("'a' + 'b'", "ab"),
        ("order.tags + order.tags", MISSING),
        ("'x' * 3", MISSING),
        ("99999999999999999999 * 99999999999999999999", MISSING),
        ("'n' ~ 1 ~ 2.50 ~ true", "n12.5true"),
        ("order.total ~ ''", "40.00"),
        ("order.placed ~ ''", "2026-03-02T09:00:00+00:00"),
        ("order.tags ~ 'x'", MISSING),
    ],
)
def test_arithmetic_is_exact_or_missing(text, expected):
    found = value(text)

    assert found == expected
    assert not isinstance(found, float)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'ÉLAN' | lower", "élan"),
        ("'élan' | upper", "ÉLAN"),
        ("'  a  ' | trim", "a"),
        ('"anne-marie o\'NEIL" | title', "Anne-Marie O'neil"),
        ("order.items | length", 2),
        ("'abc' | length", 3),
        ("order.tags | first", "gift"),
        ("order.tags | last", "first"),
        ("[] | first", MISSING),
        ("order.tags | join(', ')", "gift, first"),
        ("['a', none, 1] | join", "a1"),
        ("order.items | join", MISSING),
        ("'a-b' | replace('-', ' ')", "a b"),
        ("'a' | replace('', 'b')", MISSING),
        ("2.5 | round", 3),
        ("(0 - 2.5) | round", -3),
        ("2.125 | round(2)", Decimal("2.13")),
        ("1 | round(99)", MISSING),
        ("'12.9' | int", 12),
        ("'-12.9' | int", -12),
        ("'abc' | int", MISSING),
        ("' 19.90 ' | number", Decimal("19.90")),
        ("'1e3' | number", Decimal(1000)),
        ("'1e999' | number", MISSING),
        ("'nan' | number", MISSING),
        ("'Infinity' | number", MISSING),
        ("'1_000' | number", MISSING),
        ("'\u0663' | number", MISSING),
        ("12 | text", "12"),
        ("order.items | text", MISSING),
        ("'19.99' | money('EUR')", Decimal("19.99")),
        ("'19.9900' | money('eur')", Decimal("19.99")),
        ("19.995 | money('EUR')", Decimal("20.00")),
        ("'1250' | money('JPY')", Decimal(1250)),
        ("'1.2345' | money('KWD')", Decimal("1.235")),
        ("'19.99' | money('euro')", MISSING),
        ("'19.99' | money(nope)", MISSING),
        ("1999 | minor('usd')", Decimal("19.99")),
        ("'1999' | minor('usd')", Decimal("19.99")),
        ("1250 | minor('JPY')", Decimal(1250)),
        ("1250 | minor('KWD')", Decimal("1.250")),
        ("500 | minor('ISK')", Decimal("5.00")),
        ("500 | minor('MGA')", Decimal(500)),
        ("19.99 | minor('usd')", MISSING),
        ("'2026-03-02' | iso", datetime(2026, 3, 2, tzinfo=UTC)),
        ("'20260302T090000Z' | iso", datetime(2026, 3, 2, 9, tzinfo=UTC)),
        ("'2026-03-02T09:00:00.1234567-05:00' | iso", datetime(2026, 3, 2, 14, 0, 0, 123456, tzinfo=UTC)),
        ("'2026-03-02 09:00:00 UTC' | iso", datetime(2026, 3, 2, 9, tzinfo=UTC)),
        ("'2026-02-30' | iso", MISSING),
        ("'9999-12-31T23:59:59-05:00' | iso", MISSING),
        ("1772442000 | epoch", datetime(2026, 3, 2, 9, tzinfo=UTC)),
        ("'1772442000' | epoch", datetime(2026, 3, 2, 9, tzinfo=UTC)),
        ("1772442000123 | epoch_ms", datetime(2026, 3, 2, 9, 0, 0, 123000, tzinfo=UTC)),
        ("99999999999999999 | epoch", MISSING),
        ("order.placed | date('short')", "2 Mar 2026"),
        ("order.placed | date('long')", "2 March 2026"),
        ("order.placed | date('weekday')", "Monday"),
        ("'2026-03-02T23:30:00Z' | date('weekday', 'Europe/Paris')", "Tuesday"),
        ("customer.birthday | date('long')", "4 May 1990"),
        ("'soon' | date('long')", MISSING),
        ("order.placed | date('long', 'Nowhere')", MISSING),
        ("12.5 | price('EUR')", "12,50\u00a0€"),
        ("1250 | price('EUR')", "1.250,00\u00a0€"),
        ("12.5 | price('EUR', 'en-IE')", "€12.50"),
        ("12.5 | price('usd')", "$12.50"),
        ("(0 - 1250) | price('USD')", "-$1,250.00"),
        ("1250 | price('JPY')", "¥1,250"),
        ("12.5 | price('XYZ')", "12.50\u00a0XYZ"),
        ("12.5 | price('XYZ', 'en')", "XYZ\u00a012.50"),
        ("order.items | map('title') | join(' and ')", "Beans and Filter"),
        ("order.items | map('variant.size')", ["1kg"]),
        ("order.items | where('title', 'Beans') | length", 1),
        ("order.items | where('quantity', 1) | map('title') | first", "Filter"),
        ("order.items | sum('price')", Decimal("15.75")),
        ("order.items | sum('title')", MISSING),
        ("[1, 2.5] | sum", Decimal("3.5")),
        ("[] | sum", 0),
        ("' Sam@Exämple.COM ' | email", "sam@xn--exmple-cua.com"),
        ("'sam@localhost' | email", MISSING),
        ("'sam@shop.test' | email", "sam@shop.test"),
        ("'sam' | email", MISSING),
        ("'a@b.com\\nBcc: c@d.com' | email", MISSING),
        ("'+33 6 12 34 56 78' | phone", "+33612345678"),
        ("'06 12 34 56 78' | phone('FR')", "+33612345678"),
        ("'06 12 34 56 78' | phone", MISSING),
        ("'12' | phone('FR')", MISSING),
    ],
)
def test_filters(text, expected):
    assert value(text) == expected


def test_names_are_those_it_reads_as_far_as_they_are_certain():
    expression = parse("order.total > 4 and body['a'].b and order.items[0].title or customer | default(shop.name)")

    assert expression.names == {"order.total", "body.a.b", "order.items", "customer", "shop.name"}


def test_calls_are_known_without_running_anything():
    expression = parse("referral_link('friends') ~ rate('step', 4)")
    functions = {"referral_link": lambda name: f"/r/{name}/", "rate": lambda step, score: score}

    assert expression.calls == {("referral_link", ("friends",)), ("rate", ("step", 4))}
    assert expression.value({}, functions) == "/r/friends/4"
    assert expression.value({}, {}) is MISSING


def test_a_mapping_may_call_nothing():
    with pytest.raises(ExpressionError, match="'rate' cannot be called here"):
        parse("rate('x')", functions=())


def test_what_a_function_raises_is_not_swallowed():
    def gone(_: object) -> object:
        raise ConnectionError("the database is gone")

    with pytest.raises(ConnectionError):
        parse("rate('x')").value({}, {"rate": gone})


@pytest.mark.parametrize(("written", "text"), [(True, "true"), (False, "false"), (1, "1"), (Decimal("1.50"), "1.50")])
def test_a_plain_yaml_value_is_the_expression_of_that_spelling(written, text):
    assert parse(written).text == text


class Rank(StrEnum):
    GOLD = "gold"


def test_facts_of_related_kinds_are_read_as_the_plain_kind():
    facts = {
        "rank": Rank.GOLD,
        "pair": ("a", "b"),
        "view": MappingProxyType({"x": 1}),
        "late": datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
        "early": datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=ZoneInfo("Europe/Paris")),
        "naive": datetime(2026, 1, 1),
        "nan": float("nan"),
        "huge": LARGEST_INT,
        "object": SimpleNamespace(secret="x"),
    }

    assert parse("rank == 'gold'").is_true(facts)
    assert type(parse("rank").value(facts)) is str
    assert parse("pair | last").value(facts) == "b"
    assert parse("view.x").value(facts) == 1
    assert parse("early < late").is_true(facts)  # the same wall, an hour apart
    for name in ("naive", "nan", "huge", "object", "object.secret"):
        assert parse(name).value(facts) is MISSING


def test_missing_is_one_falsy_thing():
    assert not MISSING
    assert deepcopy(MISSING) is loads(dumps(MISSING)) is MISSING
    assert repr(MISSING) == "MISSING"


@pytest.mark.parametrize(
    ("text", "line", "col", "sentence"),
    [
        ("order.total >=", 1, 13, "Something is missing at the end"),
        ("(a and\n  (b", 2, 4, "Something is missing at the end"),
        ("a b", 1, 3, "'b' does not belong here"),
        ("a\n& b", 2, 1, "'&' does not belong here"),
        ("a | lowr", 1, 5, "Did you mean 'lower'?"),
        ("a | price", 1, 5, "'price' takes 1 to 2 arguments, not 0"),
        ("a | lower('x')", 1, 5, "'lower' takes no arguments, not 1"),
        ("a | map(attribute='x')", 1, 5, "without names"),
        ("a | date('log')", 1, 5, "'long', 'short', 'weekday'"),
        ("a is odd", 1, 3, "'is odd' is not a test"),
        ("a is undefined", 1, 3, "Did you mean 'missing'?"),
        ("range(3)", 1, 6, "'range' cannot be called here"),
        ("rate(step)", 1, 6, "written-out values"),
        ("a.b()", 1, 4, "Only a plain name can be called"),
        ("x[1:2]", 1, 2, "'| first' or '| last'"),
        ("x[y]", 1, 2, "Square brackets take a text or a whole number"),
        ("x[true]", 1, 2, "Square brackets take a text or a whole number"),
        ("a % 2", 1, 1, "'%' is not part of the language"),
        ("2 ** 9", 1, 1, "'**' is not part of the language"),
        ("a in ('b', 'c')", 1, 10, "Write a list in square brackets"),
        ("{1: 2}", 1, 2, "The keys of a dictionary are texts"),
        ("1e999", 1, 1, "too large"),
        ("{{ a }}", 1, 1, "without curly brackets"),
        ("", 1, 1, "An expression is expected here"),
        ("   ", 1, 1, "An expression is expected here"),
        ("a" * 2_001, 1, 1, "at most 2,000 characters"),
        ("a" + ".b" * 40, 1, 80, "nested more than 30 deep"),
        ("+".join("a" * 40), 1, 18, "nested more than 30 deep"),
        (" or ".join(["a"] * 301), 1, 1496, "more than 300 parts"),
        ("(" * 1_000, 1, 1, "nested too deeply"),
        ("not " * 100 + "a", 1, 121, "nested more than 30 deep"),
        ("'\\ud800'", 1, 1, "half a character"),
    ],
)
def test_what_is_refused_is_refused_at_its_place_in_one_sentence(text, line, col, sentence):
    with pytest.raises(ExpressionError) as refused:
        parse(text)

    assert sentence in str(refused.value)
    assert (refused.value.line, refused.value.col) == (line, col)


def test_something_that_is_no_text_is_refused():
    with pytest.raises(ExpressionError, match="as text"):
        parse(["a"])


@pytest.mark.parametrize("text", ESCAPES)
def test_every_known_way_out_is_refused_when_it_is_written(text):
    with pytest.raises(ExpressionError):
        parse(text)


@pytest.mark.parametrize("name", ["range", "dict", "lipsum", "cycler", "joiner", "namespace", "self", "loop", "config"])
def test_the_globals_of_a_template_engine_are_just_names_that_are_missing(name):
    assert parse(name).value({}) is MISSING
    assert parse(f"{name}.a").value({}) is MISSING


@pytest.mark.parametrize(
    "text",
    [
        "thing",
        "thing.secret",
        "thing['secret']",
        "thing[0]",
        "thing == 'x'",
        "thing in [thing]",
        "not thing",
        "thing ~ 'x'",
        "[{'a': thing}] | map('a.secret')",
        "things | map('secret')",
        "things | first",
        "things | where('secret', 'taken')",
        "things | join",
        "things == things",
        "thing | default('x')",
    ],
)
def test_no_python_object_is_ever_looked_into(text):
    touched: list[str] = []

    parse(text).value({"thing": Tempting(touched), "things": [Tempting(touched)]})

    assert touched == []


def test_results_of_joining_are_bounded():
    half = "x" * (MAX_TEXT // 2 + 1)

    assert parse("half ~ half").value({"half": half}) is MISSING
    assert parse("half + half").value({"half": half}) is MISSING
    assert parse("[half, half] | join").value({"half": half}) is MISSING
    assert parse("half | replace('x', 'xxx')").value({"half": half}) is MISSING
    assert parse("half ~ 'x'").value({"half": half}) == half + "x"


# Whatever is written, and whatever the data are: an ExpressionError when reading, or a plain value.

NAMES = st.sampled_from(["a", "b", "a.b", "a['c']", "b[0]", "b[-1].x", "nope", "a.b.c"])
ATOMS = NAMES | st.sampled_from(
    [
        "1",
        "0",
        "2.5",
        "1e20",
        "99999999999999999999",
        "'x'",
        "''",
        "'2026-01-01'",
        "'12'",
        "true",
        "none",
        "[]",
        "{}",
    ]
)
FILTERED = st.sampled_from(
    [
        "lower", "upper", "trim", "title", "length", "default(1)", "first", "last", "join('-')", "join",
        "replace('x', 'yy')", "round", "round(2)", "int", "number", "text", "money('EUR')", "minor('JPY')",
        "iso", "epoch", "epoch_ms", "date('short')", "price('USD')", "map('x')", "where('x', 1)", "sum('x')",
        "sum", "email", "phone('FR')", "money(b)", "round(b)", "date('long', b)", "where('x', b)",
    ]
)  # fmt: skip
OPERATORS = st.sampled_from(["+", "-", "*", "/", "~", "==", "!=", "<", ">=", "in", "not in", "and", "or"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: (
        st.tuples(inner, OPERATORS, inner).map(lambda parts: f"({' '.join(parts)})")
        | st.tuples(inner, FILTERED).map(lambda parts: f"({parts[0]} | {parts[1]})")
        | inner.map(lambda part: f"(not {part})")
        | inner.map(lambda part: f"(-{part})")
        | st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} if {parts[1]} else {parts[2]})")
        | st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]")
        | inner.map(lambda part: f"{{'x': {part}}}")
        | st.tuples(inner, st.sampled_from(["defined", "missing", "none", "not none"]))
        .map(" is ".join)
        .map("({})".format)
    ),
    max_leaves=12,
)


@pytest.mark.long
@settings(max_examples=5_000 if LONG else 300)
@given(EXPRESSIONS, st.dictionaries(st.sampled_from(["a", "b"]), DATA, max_size=2))
def test_any_expression_on_any_data_gives_a_plain_value_and_never_raises(text, facts):
    try:
        expression = parse(text)
    except ExpressionError:
        return

    found = expression.value(facts)

    assert isinstance(found, PLAIN)
    assert not isinstance(found, datetime) or found.tzinfo is UTC
    assert not isinstance(found, Decimal) or found.is_finite()


@settings(max_examples=examples(400))
@given(
    st.lists(
        st.sampled_from(
            [
                "a", ".", "b", " ", "(", ")", "[", "]", "{", "}", "'", '"', "|", "~", "==", "<", "not", "in",
                "is", "if", "else", "1", "0x", "1e9", "_", "__", "\\", "\n", "%}", "{{", "}}", "{#", "#}", "*", "**",
                ",", ":", "é", "\u2028", "\x00", "lower", "rate", "\ud800",
            ]
        ),
        max_size=25,
    ).map("".join)
    | st.text(max_size=60)
)  # fmt: skip
def test_any_text_is_an_expression_or_refused_at_a_place_inside_it(text):
    place = refusal(text)

    if place is not None:
        line, col = place
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert 1 <= line <= len(lines)
        assert 1 <= col <= len(lines[line - 1]) + 1


def refusal(text: str) -> tuple[int, int] | None:
    try:
        parse(text).value({})
    except ExpressionError as error:
        return error.line, error.col
    return None


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15))
def test_whole_numbers_behave_like_whole_numbers(one, other):
    facts = {"one": one, "other": other}

    assert parse("one + other").value(facts) == one + other
    assert parse("one * other").value(facts) == one * other
    assert parse("one < other").value(facts) is (one < other)
    assert parse("one == other").value(facts) is (one == other)


@given(DATA, DATA)
def test_at_most_one_of_less_equal_and_greater_holds(one, other):
    facts = {"one": one, "other": other}

    holding = [operator for operator in ("<", "==", ">") if parse(f"one {operator} other").is_true(facts)]

    assert len(holding) <= 1
    assert parse("one == other").is_true(facts) is parse("other == one").is_true(facts)
    assert parse("one < other").is_true(facts) is parse("other > one").is_true(facts)
