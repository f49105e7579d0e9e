"""Mail templates: what is shipped, what is refused, and what a customer finally reads."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from afterglow.mail_templates import LARGEST_HTML, Mail, compile_mail, lint_mail, load_mail, render_mail
from afterglow.problems import Problem, Problems
from tests.examples import examples

TEMPLATES = Path(__file__).parents[2] / "templates"
SHIPPED = {
    path.relative_to(TEMPLATES).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((TEMPLATES / "email").iterdir())
}
NAMES = sorted(
    path.removesuffix(".mjml")
    for path in SHIPPED
    if path.endswith(".mjml") and not path.startswith(("email/_layout", "email/_footer"))
)

ITEMS = [
    {"title": "House roast, 500 g", "sku": "H500", "quantity": 1},
    {"title": "Kenya, 250 g, ground for filter", "sku": "K250", "quantity": 2},
]
SHOP = {
    "timezone": "Europe/Paris",
    "name": "Ember & Oak Coffee",
    "logo_text": "Ember & Oak Coffee",
    "url": "https://ember-oak.example",
    "colour": "#8f4a25",
    "postal_address": "12 Roasters' Yard, Example Town EX1 2AB",
    "currency": "EUR",
    "review_url": "https://ember-oak.example/reviews",
    "links": {
        name: f"https://ember-oak.example/{name}" for name in ("house_roast", "this_week", "order_again", "brew_guide")
    },
}
LINES = [
    {"board": "Qualified referrals", "value": "8 from 3 customers"},
    {"rank": 1, "name": "Ben", "moved": "up 1", "value": "4"},
    {"rank": 2, "name": "Cleo", "moved": "new", "value": "2"},
    {"board": "Referred revenue", "value": "120.50 EUR from 1 customer"},
    {"rank": 1, "name": "Ben", "moved": "", "value": "120.50 EUR"},
]
DIGEST = {
    "season": "2 Mar to 8 Mar 2026",
    "text": "friends, 2 Mar to 8 Mar 2026",
    "programmes": [
        {
            "name": "friends",
            "lines": LINES,
            "thank": "Cleo",
            "waiting": "2 referrals wait for you.",
            "url": "https://ember-oak.example/leaderboards/friends",
        }
    ],
}
FACTS: dict[str, object] = {
    "digest": DIGEST,
    "points": 120,
    "expires_at": "2027-03-31T22:00:00Z",
    "tier": "regular",
    "shop": SHOP,
    "customer": {"id": 7, "first_name": "Sam", "orders": 5},
    "order": {"id": "o1", "number": "1042", "total": Decimal("41.50"), "currency": "EUR", "items": ITEMS},
    "checkout": {"id": "c1", "url": "https://ember-oak.example/checkouts/c1", "items": ITEMS},
    "invoice": {"id": "in_1", "amount": Decimal("24.00"), "url": "https://pay.example/in_1"},
    "why_line": "You get this because you asked to hear about brewing.",
    "team": "customer-care",
    "about": "Rated the first cups 1 out of 5.",
    "customer_url": "https://ember-oak.example/customers/7",
    "tasks_url": "https://ember-oak.example/tasks",
    "me_url": "https://ember-oak.example/me/t",
}
LINKS = {
    "unsubscribe_text": "Unsubscribe",
    "preferences_text": "Choose what we send you",
    "unsubscribe_url": "https://ember-oak.example/u/t",
    "preferences_url": "https://ember-oak.example/u/t",
}
FUNCTIONS: dict[str, Callable[..., object]] = {
    "rate": lambda step, score=None: f"https://ember-oak.example/r/{step}/{score}",
    "referral_link": lambda programme: f"https://ember-oak.example/f/{programme}",
}


def shipped(name: str) -> Mail:
    return load_mail(compile_mail(name, SHIPPED))


def facts_for(mail: Mail) -> dict[str, object]:
    return FACTS | (LINKS if mail.kind == "marketing" else {})


LAYOUT = """<mjml>
  <mj-head><mj-title>{{ subject }}</mj-title><mj-preview>{{ preheader }}</mj-preview></mj-head>
  <mj-body>
    {{ body }}
    <mj-section><mj-column>{{ footer }}</mj-column></mj-section>
  </mj-body>
</mjml>
"""
FOOTER = "{{ shop.postal_address }} {{ unsubscribe_url }}"
TEXT_BLOCK = "<mj-section><mj-column><mj-text>Hello</mj-text></mj-column></mj-section>"


def written(
    body: str = TEXT_BLOCK,
    *,
    front: str = "kind: marketing\ntopic: news\nsubject: Hello\npreheader: There",
    text: str | None = "Hello",
    layout: str = LAYOUT,
    text_layout: str = "{{ body }}\n\n{{ footer }}\n",
) -> dict[str, str]:
    """The files of one mail called email/hello, with a small layout; the body begins on line 7."""
    files = {
        "templates/email/_layout.mjml": layout,
        "templates/email/_layout.txt": text_layout,
        "templates/email/_footer-marketing.mjml": f"<mj-text>{FOOTER}</mj-text>",
        "templates/email/_footer-marketing.txt": FOOTER,
        "templates/email/_footer-service.mjml": "<mj-text>Bye</mj-text>",
        "templates/email/_footer-service.txt": "Bye",
        "templates/email/hello.mjml": f"---\n{front}\n---\n{body}",
    }
    return files if text is None else files | {"templates/email/hello.txt": text}


def in_column(content: str) -> str:
    return f"<mj-section><mj-column>\n{content}\n</mj-column></mj-section>"


def hello(body: str = TEXT_BLOCK, **options: str | None) -> Mail:
    return load_mail(compile_mail("email/hello", written(body, **options)))  # type: ignore[arg-type]


def problems(files: dict[str, str], name: str = "email/hello") -> list[str]:
    with pytest.raises(Problems) as refused:
        compile_mail(name, files)
    return [str(problem) for problem in refused.value.problems]


# --- what is shipped


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_mail_keeps_the_rules(name: str) -> None:
    assert lint_mail(shipped(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_mail_fetches_nothing_from_strangers(name: str) -> None:
    mail = shipped(name)
    html = render_mail(mail, facts_for(mail), FUNCTIONS).html
    addresses = re.findall(r"(?:https?:)?//([\w.-]+)", html)
    assert {host for host in addresses if not host.endswith(".example")} <= {"www.w3.org"}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_mail_leaves_nothing_unfilled(name: str) -> None:
    mail = shipped(name)
    rendered = render_mail(mail, facts_for(mail), FUNCTIONS)
    for part in (rendered.subject, rendered.preheader, rendered.html, rendered.text):
        assert not re.search(r"\{\{|\{%|\{#|agexpr|<mj-", part)
    assert not re.search(r"</?\w+>|&\w+;", rendered.text)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_mail_is_small_and_its_subject_short(name: str) -> None:
    mail = shipped(name)
    rendered = render_mail(mail, facts_for(mail), FUNCTIONS)
    assert len(rendered.html.encode()) < LARGEST_HTML / 4
    assert len(rendered.subject) < 50
    assert 10 < len(rendered.preheader) < 90


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_text_part_reads_alone_and_fits_a_terminal(name: str) -> None:
    mail = shipped(name)
    text = render_mail(mail, facts_for(mail), FUNCTIONS).text
    letter = text.split("\n--\n")[0]
    assert max(len(line) for line in letter.splitlines() if "://" not in line) <= 78
    assert "\n\n\n" not in text
    if mail.kind == "marketing":
        assert LINKS["unsubscribe_url"] in text
        assert str(SHOP["postal_address"]) in text


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_mail_greets_a_customer_without_a_name(name: str) -> None:
    mail = shipped(name)
    nameless = facts_for(mail) | {"customer": {"id": 7, "orders": 5}}
    rendered = render_mail(mail, nameless, FUNCTIONS)
    assert "Sam" not in rendered.html
    assert "Hi there," in rendered.text or mail.kind == "team"


@pytest.mark.parametrize("name", ["email/thank-you", "email/thank-you-again", "email/refill"])
def test_an_order_of_which_little_is_known_still_makes_a_mail(name: str) -> None:
    mail = shipped(name)
    bare = facts_for(mail) | {"order": {"id": "o1"}}
    rendered = render_mail(mail, bare, FUNCTIONS)
    assert "\n\n\n" not in rendered.text
    assert "Paid" not in rendered.html + rendered.text
    assert "Last time you had" not in rendered.html + rendered.text


def test_only_marketing_reads_the_unsubscribe_link() -> None:
    for name in NAMES:
        mail = shipped(name)
        assert ("unsubscribe_url" in mail.names) == (mail.kind == "marketing")


def test_the_whole_shop_can_change_its_colour_without_compiling_again() -> None:
    mail = shipped("email/welcome")
    blue = facts_for(mail) | {"shop": SHOP | {"colour": "#123456"}}
    html = render_mail(mail, blue, FUNCTIONS).html
    assert "#123456" in html
    assert "#8f4a25" not in html


def test_dark_mode_is_declared_and_styled() -> None:
    html = shipped("email/welcome").html.render(FACTS | LINKS, FUNCTIONS, escape=True)
    assert '<meta name="color-scheme" content="light dark"' in html
    assert "@media (prefers-color-scheme: dark)" in html


# --- what comes out


def test_a_compiled_mail_can_be_stored_as_json() -> None:
    compiled = compile_mail("email/thank-you", SHIPPED)
    mail = load_mail(json.loads(json.dumps(compiled)))
    assert render_mail(mail, FACTS, FUNCTIONS) == render_mail(load_mail(compiled), FACTS, FUNCTIONS)


def test_a_mail_knows_what_it_reads_and_calls() -> None:
    mail = shipped("email/brew-check-in")
    assert {"customer.first_name", "shop.name", "unsubscribe_url"} <= mail.names
    assert ("rate", ("answer", 1)) in mail.calls
    assert (mail.kind, mail.topic) == ("marketing", "coffee-care")


def test_a_later_check_can_say_where_a_name_is_read() -> None:
    mail = hello(in_column("<mj-text>{{ shop.name }}\n {% if order.total > 3 %}x{% endif %}</mj-text>"))
    assert str(mail.problem("order.total", "No.")) == "templates/email/hello.mjml:9:8: No."


def test_expressions_with_quotes_and_angle_brackets_pass_through_mjml() -> None:
    mail = hello(
        "<mj-section><mj-column><mj-button href=\"{{ rate('answer', 1) }}\">"
        '{% if customer.orders < 3 %}new{% else %}{{ customer.first_name | default("}} x") }}{% endif %}'
        "</mj-button></mj-column></mj-section>"
    )
    html = render_mail(mail, FACTS | LINKS | {"customer": {"orders": 3}}, FUNCTIONS).html
    assert "}} x" in html
    assert 'href="https://ember-oak.example/r/answer/1"' in html


def test_a_condition_in_mj_raw_switches_a_whole_section() -> None:
    mail = hello(
        "<mj-raw>{% if customer.orders == 1 %}</mj-raw>\n"
        "<mj-section><mj-column><mj-text>First</mj-text></mj-column></mj-section>\n"
        "<mj-raw>{% endif %}</mj-raw>\n" + TEXT_BLOCK
    )
    assert "First" not in render_mail(mail, FACTS | LINKS, FUNCTIONS).html
    assert "First" in render_mail(mail, FACTS | LINKS | {"customer": {"orders": 1}}, FUNCTIONS).html


@pytest.mark.parametrize(
    "name",
    ['<script>alert("x")</script>', "O'Neil & Søn", '" onload="x', "{{ shop.name }}", "🙂", "agexpr00001z"],
)
def test_a_hostile_first_name_is_only_ever_text(name: str) -> None:
    mail = hello(
        in_column('<mj-text><a title="{{ customer.first_name }}" href="x">{{ customer.first_name }}</a></mj-text>'),
        front="kind: marketing\ntopic: news\nsubject: Hi {{ customer.first_name }}\npreheader: x",
        text="Hi {{ customer.first_name }}",
    )
    rendered = render_mail(mail, FACTS | LINKS | {"customer": {"first_name": name}}, FUNCTIONS)
    assert "<script" not in rendered.html
    assert ' onload="' not in rendered.html
    assert rendered.subject == f"Hi {name}"
    assert f"Hi {name}\n" in rendered.text


def test_a_name_cannot_add_a_header_through_the_subject() -> None:
    mail = hello(front="kind: marketing\ntopic: news\nsubject: Hi {{ customer.first_name }}\npreheader: x")
    hostile = FACTS | LINKS | {"customer": {"first_name": "Sam\r\nBcc: all@shop.example\x00\u2028x"}}
    assert render_mail(mail, hostile, FUNCTIONS).subject == "Hi Sam Bcc: all@shop.example x"


def test_an_ampersand_in_the_subject_is_escaped_in_the_title_alone() -> None:
    mail = hello(front="kind: marketing\ntopic: news\nsubject: Beans & <friends>\npreheader: x")
    rendered = render_mail(mail, FACTS | LINKS, FUNCTIONS)
    assert "<title>Beans &amp; &lt;friends&gt;</title>" in rendered.html
    assert rendered.subject == "Beans & <friends>"


def test_a_missing_text_part_is_read_off_the_html() -> None:
    mail = hello(
        "<mj-section><mj-column><mj-text>Hello {{ customer.first_name }}, caf&eacute;?</mj-text>"
        '<mj-button href="{{ shop.url }}">Come in</mj-button></mj-column></mj-section>',
        text=None,
    )
    text = render_mail(mail, FACTS | LINKS, FUNCTIONS).text
    assert text.startswith("Hello Sam, café?")
    assert "[Come in](https://ember-oak.example)" in text
    assert text.count(LINKS["unsubscribe_url"]) == 1


def test_lines_of_statements_leave_no_empty_lines_in_the_text() -> None:
    mail = hello(text="You had:\n{% for item in order.items %}\n- {{ item.title }}\n{% endfor %}\nBye")
    text = render_mail(mail, FACTS | LINKS, FUNCTIONS).text
    assert text.startswith("You had:\n- House roast, 500 g\n- Kenya, 250 g, ground for filter\nBye\n")


def test_comments_reach_no_customer() -> None:
    mail = hello("{# secret #}" + TEXT_BLOCK + "<!-- backstage {{ shop.name }} -->", text="{# secret #}\nHello")
    rendered = render_mail(mail, FACTS | LINKS, FUNCTIONS)
    assert "secret" not in rendered.html + rendered.text
    assert "backstage" not in rendered.html
    assert rendered.text.startswith("Hello")


# --- what is refused


@pytest.mark.parametrize(
    ("body", "place", "sentence"),
    [
        (in_column("<mj-txt>x</mj-txt>"), "8:1", "MJML has no tag <mj-txt>. Did you mean 'mj-text'?"),
        (in_column("<mj-text>x"), "8:1", "<mj-text> is not closed before </mj-column>"),
        ("<mj-section><mj-column>\n</mj-column>", "7:1", "<mj-section> is not closed; add </mj-section>."),
        (in_column("</b>"), "8:1", "</b> closes nothing that is open here."),
        (in_column("<mj-text><b>x</i></b></mj-text>"), "8:14", "</i> closes nothing"),
        (in_column("<mj-text>1 < 2</mj-text>"), "8:12", "This '<' begins no tag"),
        (in_column("<mj-text color=red>x</mj-text>"), "8:1", "put the values of attributes in quotes"),
        (
            "<mj-text>x</mj-text>",
            "7:1",
            "<mj-text> cannot stand in <mj-body>: MJML expects one of mj-hero, mj-raw",
        ),
        (
            in_column("<mj-text><mj-button>x</mj-button></mj-text>"),
            "8:10",
            "it holds text and HTML, no components",
        ),
        (
            in_column("Hello"),
            "8:1",
            "MJML loses text that stands directly in <mj-column>; wrap it in <mj-text>.",
        ),
        (in_column("<p>Hello</p>"), "8:1", "<p> cannot stand in <mj-column>"),
        (
            "{% if customer.orders %}\n" + TEXT_BLOCK + "{% endif %}",
            "7:1",
            "MJML loses an expression that stands directly in <mj-body>; wrap it in <mj-raw>.",
        ),
        (in_column("{{ shop.name }}"), "8:1", "wrap it in <mj-text>."),
        (
            in_column('<mj-text colour="{{ shop.colour }}">x</mj-text>'),
            "8:18",
            "MJML loses '{{ shop.colour }}' here",
        ),
        (in_column('<mj-include path="x.mjml" />'), "8:1", "<mj-include> is not read here"),
        (in_column("<mj-text>\n  {{ order.total + }}</mj-text>"), "9:", ""),
        (in_column("<mj-text>{{ order.total | sparkle }}</mj-text>"), "8:", "sparkle"),
        (in_column("<mj-text>{% set x = 1 %}</mj-text>"), "8:", ""),
    ],
)
def test_what_mjml_would_swallow_is_refused_with_its_place(body: str, place: str, sentence: str) -> None:
    found = problems(written(body))
    assert any(problem.startswith(f"templates/email/hello.mjml:{place}") and sentence in problem for problem in found)


def test_all_problems_of_a_template_come_at_once() -> None:
    found = problems(written(in_column("<mj-txt>x</mj-txt>\n<mj-foo />\n{{ shop.name }}"), text="{{ 1 + }}"))
    assert [problem.split(":")[1] for problem in found if "hello.mjml" in problem] == ["8", "9", "10"]
    assert any(problem.startswith("templates/email/hello.txt:1:") for problem in found)


@pytest.mark.parametrize(
    ("front", "place", "sentence"),
    [
        ("kind: newsletter\nsubject: x\npreheader: x", "2:7", ""),
        ("kind: service\nsubjekt: x\npreheader: x", "3:1", "subject"),
        ("kind: service\nsubject: x", "", "preheader"),
        ("kind: service\nsubject: Hi {{ x + }}\npreheader: x", "3:", ""),
        ("kind: team\nsubject: x\npreheader: x", "2:7", "only their names begin with '_'"),
    ],
)
def test_wrong_front_matter_is_refused_with_its_place(front: str, place: str, sentence: str) -> None:
    found = problems(written(front=front))
    assert any(problem.startswith(f"templates/email/hello.mjml:{place}") and sentence in problem for problem in found)


def test_a_template_without_front_matter_is_refused() -> None:
    files = written() | {"templates/email/hello.mjml": TEXT_BLOCK}
    assert problems(files) == [
        "templates/email/hello.mjml:1:1: A template begins with front matter between two lines '---': "
        "kind, subject and preheader."
    ]


def test_a_missing_template_is_named_with_the_nearest() -> None:
    assert "Did you mean 'email/hello'?" in problems(written(), "email/helo")[0]


def test_a_missing_layout_is_refused() -> None:
    files = written()
    del files["templates/email/_layout.txt"]
    assert "There is no _layout.txt beside this template" in problems(files)[0]


def test_a_missing_footer_is_refused_where_the_layout_wants_it() -> None:
    files = written()
    del files["templates/email/_footer-marketing.mjml"]
    assert problems(files)[0].startswith("templates/email/_layout.mjml:5:28: There is no _footer-marketing.mjml")


def test_a_layout_without_a_place_for_the_body_is_refused() -> None:
    found = problems(written(text_layout="{{ footer }}"))
    assert found[0].startswith(
        "templates/email/_layout.txt:1:1: A layout holds {{ body }} exactly once; here it stands 0"
    )


# --- the rules for marketing and service


def sentences(found: list[Problem]) -> str:
    return "\n".join(str(problem) for problem in found)


SERVICE = "kind: service\nsubject: Hello\npreheader: x"


def test_marketing_without_a_topic_is_refused_unless_the_flow_has_one() -> None:
    mail = hello(front="kind: marketing\nsubject: Hello\npreheader: x")
    assert "hello.mjml:2:7: A marketing mail needs a topic" in sentences(lint_mail(mail))
    assert lint_mail(mail, topic="news") == []


@pytest.mark.parametrize("name", ["unsubscribe_url", "shop.postal_address"])
def test_marketing_without_its_footer_is_refused_in_both_parts(name: str) -> None:
    files = {path: text.replace(f"{{{{ {name} }}}}", "") for path, text in written().items()}
    found = sentences(lint_mail(load_mail(compile_mail("email/hello", files))))
    assert f"needs {{{{ {name} }}}} in its HTML part" in found
    assert f"needs {{{{ {name} }}}} in its text part" in found


def test_service_mail_carries_no_invitation() -> None:
    mail = hello(in_column('<mj-text>{{ referral_link("friends") }}</mj-text>'), front=SERVICE)
    assert "hello.mjml:7:13: A service mail carries no invitation" in sentences(lint_mail(mail))


def test_service_mail_asks_for_no_review() -> None:
    mail = hello(in_column("<mj-text>{{ shop.review_url }}</mj-text>"), front=SERVICE)
    assert "A service mail asks for no review" in sentences(lint_mail(mail))


def test_service_mail_has_no_topic_to_refuse() -> None:
    mail = hello(front="kind: service\ntopic: news\nsubject: Hello\npreheader: x")
    assert "hello.mjml:3:8: A service mail has no topic" in sentences(lint_mail(mail))


def test_html_that_gmail_would_cut_off_is_refused() -> None:
    mail = hello(in_column(f"<mj-text>{'coffee ' * 15_000}</mj-text>"))
    assert "Gmail cuts a mail off after 102 KB" in sentences(lint_mail(mail))


def test_a_subject_of_over_a_hundred_letters_is_refused_but_expressions_do_not_count() -> None:
    long = hello(front=f"kind: marketing\ntopic: news\nsubject: {'x' * 101}\npreheader: x")
    assert "The subject is 101 characters long" in sentences(lint_mail(long))
    counted = "{{ customer.first_name | default('a very long stand-in for a name, not counted here') }}"
    short = hello(front=f'kind: marketing\ntopic: news\nsubject: "{"x" * 60} {counted}"\npreheader: x')
    assert lint_mail(short) == []


# --- whatever is written

BITS = st.sampled_from(
    [
        "<mj-section>",
        "</mj-section>",
        "<mj-column>",
        "</mj-column>",
        "<mj-text>",
        "</mj-text>",
        "<mj-raw>",
        "</mj-raw>",
        "<p>",
        "</p>",
        "<br>",
        '<a\thref="{{x}}">',
        "</a>",
        '<mj-button\thref="{{x}}"/>',
        "{{x}}",
        "{{x",
        "{%\tif\tx\t%}",
        "{%\tendif\t%}",
        "{#\tc\t#}",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "&",
        "&amp;",
        "&#0;",
        "<",
        ">",
        '"',
        "'",
        "word",
        "\u2028",
        "\x00",
        "<mj-class\tname='a'/>",
        "<mj-include/>",
        "}}",
        "%}",
        "---",
        "é",
    ]
)


@settings(max_examples=examples(100), deadline=None)
@example(["&", "&", "\u2028", ">"], True)
@given(st.lists(BITS, max_size=12), st.booleans())
def test_any_template_either_compiles_or_says_what_is_wrong(bits: list[str], in_text: bool) -> None:
    words = " ".join(bits)
    body = in_column(f"<mj-text>{words}</mj-text>") if in_text else words
    for text in (None, words):
        found: tuple[Problem, ...] = ()
        mail = None
        try:
            mail = load_mail(compile_mail("email/hello", written(body, text=text)))
        except Problems as refused:
            found = refused.problems
        assert (mail is None) == bool(found)
