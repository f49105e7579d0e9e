"""Strict YAML: what is written is what is read, and every mistake is told at its place, all at once."""

from decimal import Decimal
from typing import Annotated, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from afterglow import ROOT
from afterglow.expressions import parse
from afterglow.problems import Problem, Problems
from afterglow.strict_yaml import document as reading
from afterglow.strict_yaml import load, validated
from afterglow.strict_yaml.document import MAX_BYTES
from tests.examples import LONG, examples


def told(text: str, model: type[BaseModel] | None = None) -> list[str]:
    """The problems of a text as `line:col: message`, without the file."""
    with pytest.raises(Problems) as refused:
        _read(text, model)
    assert all(problem.file == "flows/x.yaml" for problem in refused.value.problems)
    return [str(problem).removeprefix("flows/x.yaml:") for problem in refused.value.problems]


def _read(text: str, model: type[BaseModel] | None) -> None:
    document = load(text, "flows/x.yaml")
    if model is not None:
        validated(document, model)


# What is read


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("10:30", "10:30"),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("NO", "NO"),
        ("n", "n"),
        ("True", "True"),
        ("TRUE", "TRUE"),
        ("Null", "Null"),
        ("+15551234567", "+15551234567"),
        ("0123", "0123"),
        ("0o17", "0o17"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("1e3", "1e3"),
        (".5", ".5"),
        ("5.", "5."),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("-0", "-0"),
        ("1.2.3", "1.2.3"),
        ("2026-03-02", "2026-03-02"),
        ("190:20:30", "190:20:30"),
        ("=", "="),
        ("1234567890123456789012", "1234567890123456789012"),
        ("0.00000001", "0.00000001"),
        ("\u0663", "\u0663"),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("12", 12),
        ("-3", -3),
        ("1.50", Decimal("1.50")),
        ("-0.5", Decimal("-0.5")),
        ("'12'", "12"),
        ('"true"', "true"),
        ("''", ""),
        ("|\n  a\n  b\n", "a\nb\n"),
        (">-\n  a\n  b\n", "a b"),
        ("customer.orders == 1", "customer.orders == 1"),
        ("https://roastery.test/a#b", "https://roastery.test/a#b"),
    ],
)
def test_a_plain_value_stays_what_the_marketer_wrote(written, value):
    found = load(f"key: {written}", "x").data

    assert found == {"key": value}
    assert type(found["key"]) is type(value)


def test_keys_are_always_text():
    assert load("1: a\non: b\ntrue: c\n'q': d\n~: e", "x").data == {
        "1": "a",
        "on": "b",
        "true": "c",
        "q": "d",
        "~": "e",
    }


def test_an_empty_file_holds_nothing():
    assert load("", "x").data is None
    assert load("# only a comment\n", "x").data is None


def test_one_document_may_be_marked():
    assert load("---\na: 1\n...\n", "x").data == {"a": 1}


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert load("\ufeffflow: a", "x").data == {"flow": "a"}


# Where it stands

PLACES = """\
flow: first
steps:
  - send: email/a
  - id: b
    if: |
      a ==
      1 +
    quoted: "a =="
    folded: >
      a ==
"""


@pytest.mark.parametrize(
    ("path", "place", "key_place"),
    [
        ((), (1, 1), (1, 1)),
        (("flow",), (1, 7), (1, 1)),
        (("steps",), (3, 3), (2, 1)),
        (("steps", 0), (3, 5), (3, 5)),
        (("steps", 0, "send"), (3, 11), (3, 5)),
        (("steps", 1, "id"), (4, 9), (4, 5)),
        (("steps", 1, "nope", "deeper"), (4, 5), (4, 5)),
        (("nope",), (1, 1), (1, 1)),
    ],
)
def test_every_value_and_key_has_a_place(path, place, key_place):
    document = load(PLACES, "flows/x.yaml")

    assert document.place(path) == place
    assert document.key_place(path) == key_place
    assert document.problem(path, "Oh.") == Problem("flows/x.yaml", *place, "Oh.")


@pytest.mark.parametrize(
    ("key", "inside", "place"),
    [
        ("id", (1, 1), (4, 9)),
        ("if", (1, 3), (6, 9)),
        ("if", (2, 1), (7, 7)),
        ("quoted", (1, 3), (8, 16)),
        ("folded", (1, 3), (9, 13)),
    ],
)
def test_a_place_inside_a_text_is_a_place_in_the_file(key, inside, place):
    assert load(PLACES, "x").place_inside(("steps", 1, key), *inside) == place


# What is refused


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "3:1: 'a' is already given on line 1; keep one of the two."),
        ("{a: 1, a: 2}", "1:8: 'a' is already given on line 1"),
        ("a: &x 1", "1:4: '&x' names a place to copy from"),
        ("&x a: 1", "1:1: '&x' names a place to copy from"),
        ("a: *x", "1:4: '*' refers to another place"),
        ("*x : a", "1:1: '*' refers to another place"),
        ("a: !!str 1", "1:4: 'tag:yaml.org,2002:str' is a tag"),
        ("a: !python/object:os.system x", "1:4: '!python/object:os.system' is a tag"),
        ("a: ! x", "1:4: '!' is a tag"),
        ("a: !!binary aGk=", "1:4: 'tag:yaml.org,2002:binary' is a tag"),
        ("a: !!omap [b: 1]", "1:4: 'tag:yaml.org,2002:omap' is a tag"),
        ("!x {a: 1}", "1:1: '!x' is a tag"),
        ("<<: {a: 1}", "1:1: '<<' merges another group of keys"),
        ("a: 1\n---\nb: 2", "2:1: A second document begins here"),
        ("%YAML 1.1\n---\na: on", "1:1: Lines that begin with '%'"),
        ("# x\n\n%TAG ! tag:x,2000:\n---\na: 1", "3:1: Lines that begin with '%'"),
        ("%FOO\n---\n1", "1:1: Lines that begin with '%'"),
        ("? [a]\n: b", "1:3: A key is plain text"),
        ("{{a: 1}: 2}", "1:2: A key is plain text"),
        ("a:\n\t- b", "2:1: A tab stands here; indent with spaces."),
        ("a:\n  \tb: 1", "2:3: A tab stands here; indent with spaces."),
        ("a: b: c", "1:5: A ': ' does not belong here"),
        ("a b\nc: d", "2:2: A ': ' does not belong here"),
        ("a: 'x", "1:4: A quote is opened and never closed."),
        ("a: [1, 2", "1:4: A ',' or a closing bracket is missing here."),
        ("- a\nb: c", "2:1: This line is not indented like the lines it belongs to."),
        ("a: 1\nb\nc: 2", "2:1: A ':' is missing after this key."),
        ("a:\n- b\n - c: d\n", "3:5: A ': ' does not belong here"),
        ("a: [?b]", "1:6: A '?' stands before this; put the text in quotes."),
        ("{?a: b}", "1:3: A '?' stands before this; put the text in quotes."),
        ("a: [:b]", "1:5: A value is missing here, or belongs in quotes."),
        ('a: "\u2028"', "1:5: An invisible control character stands here."),
        ("a: @x", "1:4: This character cannot begin a value"),
        ("a: `x`", "1:4: This character cannot begin a value"),
        ('a: "\\q"', "1:5: In double quotes '\\' begins an escape; use single quotes here."),
        ('a: "\\xZZ"', "1:7: This is not YAML: "),
        ('a: "\\UFFFFFFFF"', "1:7: This is not YAML: "),
        ("a: \x00", "1:4: An invisible control character stands here."),
        ("a: b\n  \x07", "2:3: An invisible control character stands here."),
        ("a: \ud800", "1:4: An invisible control character stands here."),
        ("[" * 3_000, "1:21: This is nested more than 20 levels deep."),
        ("- " * 3_000 + "a", "1:41: This is nested more than 20 levels deep."),
        ("a: " + "{a: " * 3_000, "1:80: This is nested more than 20 levels deep."),
        ("[" + "1," * 30_000 + "]", "1:40000: The file has more than 20,000 values."),
        ("a: " + "x" * MAX_BYTES, "1:1: The file is larger than 256 KB."),
        ("a: " + "é" * (MAX_BYTES // 2), "1:1: The file is larger than 256 KB."),
    ],
)
def test_what_is_not_strict_yaml_is_refused_at_its_place(text, problem):
    [found] = told(text)

    assert found.startswith(problem)


def test_everything_wrong_is_told_at_once_in_the_order_of_the_file():
    assert [line.split(": ")[0] for line in told("a: 1\na: 2\nb: &x 1\nc: *x\nd: !t 1\n<<: {e: 1}\nb: 1\nf: : c")] == [
        "2:1", "3:4", "4:4", "5:4", "6:1", "7:1", "8:4",
    ]  # fmt: skip


def test_a_bomb_of_aliases_is_not_unfolded():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]

    problems = told("\n".join(lines))

    assert len(problems) == 10 + 9 * 9


@settings(max_examples=examples(400))
@given(
    st.lists(
        st.sampled_from(
            [
                "a", "b", ": ", ":", "- ", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ",", "'", '"', "|", ">", "&x",
                "*x", "!t", "!!str", "<<", "---", "...", "%YAML", "#", "\t", "? ", "~", "1", "true", "\\", "\x00",
                "\u2028", "\x85", "\ud800", "\ufeff", "@", "`", "é", "\r", "\r\n",
            ]
        ),
        max_size=40,
    ).map("".join)
    | st.text(max_size=80)
)  # fmt: skip
def test_any_text_is_read_or_refused(text):
    try:
        document = load(text, "x")
    except Problems as refused:
        places = [(problem.line, problem.col) for problem in refused.problems]
    else:
        places = [document.place(()), document.place(("a", 0))]
    assert places
    assert all(line >= 1 and col >= 1 for line, col in places)


#: Not what ruamel writes without quotes and YAML or libyaml takes for something else, nor invisible ends of lines.
WRITTEN = st.text(st.characters(exclude_categories=["C"], exclude_characters="\x85\u2028\u2029")).filter(
    lambda text: not text.startswith((":", "?"))
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | WRITTEN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdefgh", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(TREES)
def test_what_another_program_writes_as_yaml_1_2_is_read_as_it_was(tree):
    out = StringIO()
    YAML(typ="safe", pure=True).dump({"tree": tree}, out)

    assert load(out.getvalue(), "x").data == {"tree": tree}


SHIPPED = [path.read_text() for path in sorted(ROOT.glob("flows/**/*.yaml"))]
PIECES = st.sampled_from(
    [
        ": ", ":", "- ", "\n", "\n  ", "\n\n", " # ", "'", '"', "|\n", ">-\n", "{", "}", "[", "]", ", ", "? ", "---\n",
        "\t", "a: b\n", "\r\n", "\ufeff", "é", " ", "&x ", "*x", "!t ",
    ]
)  # fmt: skip


@st.composite
def edited_files(draw: st.DrawFn) -> str:
    """A part of a shipped file, with pieces put in and taken out."""
    text = draw(st.sampled_from(SHIPPED))
    start = draw(st.integers(0, len(text)))
    text = text[start : start + 400]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(PIECES) + text[at + draw(st.integers(0, 3)) :]
    return text


def read_by_another(text: str) -> object:
    """What ruamel makes of the structure of a text in YAML 1.2, the kinds of plain values being ours; None: nothing."""
    try:
        return plain(YAML(typ="safe", pure=True).compose(text))
    except (YAMLError, ValueError, IndexError):
        return None


def plain(node: Node | None) -> object:
    if isinstance(node, MappingNode):
        return {key.value: plain(value) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [plain(each) for each in node.value]
    if node is None:
        return None
    return reading._typed(node.value) if node.style is None else node.value


@settings(max_examples=10_000 if LONG else 100)
@example("a: [?b]")
@example("{?a: b}")
@example("a: [? b]")
@example("a: [:b]")
@given(edited_files() | st.lists(PIECES | st.sampled_from(["a", "word two", "b: c", "1"]), max_size=30).map("".join))
def test_what_is_accepted_is_what_yaml_1_2_says_it_is(text):
    try:
        read = load(text, "x").data
    except Problems:
        return
    other = read_by_another(text)
    assert other is None or read == other


@pytest.mark.parametrize("text", SHIPPED)
def test_shipped_files_are_read_as_another_program_reads_them(text):
    assert load(text, "x").data == read_by_another(text)


# Checked against a model


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Send(Strict):
    send: str
    id: str | None = None


class Wait(Strict):
    id: str
    wait: str
    days: int = Field(default=1, ge=1, le=30)


class If(Strict):
    model_config = ConfigDict(title="choice")

    id: str
    if_: Annotated[str, BeforeValidator(lambda text: parse(text).text)] = Field(alias="if")
    then: list["Step"] = []


def verb(value: object) -> str | None:
    return next((name for name in ("send", "wait", "if") if name in value), None) if isinstance(value, dict) else None


Step = Annotated[
    Annotated[Send, Tag("send")] | Annotated[Wait, Tag("wait")] | Annotated[If, Tag("if")], Discriminator(verb)
]
If.model_rebuild()


class Stop(Strict):
    event: str


class Late(Strict):
    """Refers to a model that is defined after it, and is never asked to resolve that by itself."""

    after: list["LateStep"] = []


class LateStep(Strict):
    model_config = ConfigDict(title="late step")

    name: str = ""


class Flow(Strict):
    flow: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    status: Literal["draft", "live", "paused"]
    steps: list[Step] = []
    stops: Stop | list[Stop] = []
    teams: dict[str, Stop] = {}
    late: Late | None = None
    share: int | bool = 1
    price: Decimal = Decimal(1)
    from_: str = Field(default="", alias="from")
    names: list[str] = Field(default=[], max_length=2)

    @field_validator("from_")
    @classmethod
    def _not_soon(cls, value: str) -> str:
        if value == "soon":
            raise ValueError("'soon' is no time: write 10:00")
        return value


HEAD = "flow: a\nstatus: live\n"


def test_a_good_file_becomes_the_model():
    flow = validated(load(HEAD + "steps:\n- send: email/a\n- {id: w, wait: 3 days}\nprice: 1.50\n", "x"), Flow)

    assert flow.steps == [Send(send="email/a"), Wait(id="w", wait="3 days")]
    assert flow.price == Decimal("1.50")


def test_a_number_is_text_where_the_model_wants_text():
    flow = validated(load("flow: 12\nstatus: live\nsteps: [{send: 1.50}, {id: 7, if: 1}]\nnames: [1, b]", "x"), Flow)

    assert flow.flow == "12"
    assert flow.steps[0] == Send(send="1.50")
    assert (flow.steps[1].id, flow.steps[1].if_) == ("7", "1")
    assert flow.names == ["1", "b"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HEAD + "foo: 1", "3:1: 'foo' is not a key of a flow."),
        (HEAD + "stesp: 1", "3:1: 'stesp' is not a key of a flow. Did you mean 'steps'?"),
        (HEAD + "form: 1", "3:1: 'form' is not a key of a flow. Did you mean 'from'?"),
        (HEAD + "from_: x", "3:1: 'from_' is not a key of a flow. Did you mean 'from'?"),
        ("status: live", "1:1: 'flow' is missing: a flow needs it."),
        ("flow: a\nstatus: on", "2:9: 'status' must be one of draft, live, paused, not 'on'."),
        ("flow: a\nstatus: Live", "2:9: 'status' must be one of draft, live, paused, not 'Live'. Did you mean 'live'?"),
        ("flow: A b\nstatus: live", "1:7: 'flow' must be small letters, digits and hyphens, not 'A b'."),
        ("flow: true\nstatus: live", "1:7: 'flow' must be text, not 'true'."),
        ("flow:\nstatus: live", "1:1: 'flow' must be text, not nothing."),
        ("flow: [a]\nstatus: live", "1:7: 'flow' must be text, not a list."),
        ("- a", "1:1: The file must be a group of keys, not a list."),
        ("", "1:1: The file must be a group of keys, not nothing."),
        (HEAD + "price: x", "3:8: 'price' must be a number, not 'x'."),
        (HEAD + "share: x", "3:8: 'share' must be a whole number or true or false, not 'x'."),
        (HEAD + "names: [a, b, c]", "3:8: 'names' may have at most 2 entries."),
        (HEAD + "names: [[a]]", "3:9: Entry 1 of 'names' must be text, not a list."),
        (HEAD + "from: soon", "3:7: 'soon' is no time: write 10:00."),
        (HEAD + "steps:\n- send: a\n  idd: 1", "5:3: 'idd' is not a key of 'send'. Did you mean 'id'?"),
        (HEAD + "steps:\n- send: [a]", "4:9: 'send' must be text, not a list."),
        (HEAD + "steps:\n- sned: a", "4:3: 'sned' is not known here. Did you mean 'send'?"),
        (HEAD + "steps:\n- {}", "4:3: Entry 1 of 'steps' needs one of these keys: send, wait, if."),
        (HEAD + "steps:\n- a", "4:3: Entry 1 of 'steps' must be a group of keys, not 'a'."),
        (HEAD + "steps:\n- {id: w, wait: a, days: 0}", "4:26: 'days' must be at least 1, not '0'."),
        (HEAD + "steps:\n- {id: w, wait: a, days: x}", "4:26: 'days' must be a whole number, not 'x'."),
        (HEAD + "steps:\n- {wait: a}", "4:3: 'id' is missing: 'wait' needs it."),
        (HEAD + "steps:\n- {id: a, if: a, than: []}", "4:18: 'than' is not a key of a choice. Did you mean 'then'?"),
        (HEAD + "steps:\n- id: a\n  if: a\n  then:\n  - send: b\n    x: 1", "8:5: 'x' is not a key of 'send'."),
        (HEAD + "steps:\n- id: a\n  if: a ==", "5:9: Something is missing at the end of the expression"),
        (HEAD + "steps:\n- id: a\n  if: 'a | lowr'", "5:12: 'lowr' is not a filter. Did you mean 'lower'?"),
        (HEAD + "steps:\n- id: a\n  if: |\n    a and\n    b b", "7:7: 'b' does not belong here."),
        (HEAD + "stops: {evnt: a, event: b}", "3:9: 'evnt' is not a key of a stop. Did you mean 'event'?"),
        (HEAD + "stops: [{event: a}, {event: [b]}]", "3:29: 'event' must be text, not a list."),
        (HEAD + "stops: a", "3:8: 'stops' must be a group of keys or a list, not 'a'."),
        (HEAD + "late: {after: [{nam: a}]}", "3:17: 'nam' is not a key of a late step. Did you mean 'name'?"),
        (HEAD + "teams: {care: {event: a, x: 1}}", "3:26: 'x' is not a key of a stop."),
    ],
)
def test_what_does_not_fit_the_model_is_told_in_a_sentence_at_its_place(text, problem):
    [found] = told(text, Flow)

    assert found.startswith(problem)


def test_all_that_does_not_fit_is_told_at_once():
    problems = told("flow: [a]\nstatus: on\nfoo: 1\nsteps:\n- send: a\n  x: 1\n- {wait: 3 days}\n", Flow)

    assert [problem.split(": ")[0] for problem in problems] == ["1:7", "2:9", "3:1", "6:3", "7:3"]


@given(TREES)
def test_no_data_makes_the_check_fail_otherwise(tree):
    out = StringIO()
    YAML(typ="safe", pure=True).dump({"flow": "a", "status": "live", "steps": tree, "stops": tree, "teams": tree}, out)

    try:
        validated(load(out.getvalue(), "x"), Flow)
    except Problems as refused:
        places = [(problem.line, problem.col) for problem in refused.problems]
        lines = out.getvalue().split("\n")
    else:
        return
    assert all(1 <= line <= len(lines) for line, _ in places)
