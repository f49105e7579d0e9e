"""`check` says everything that is wrong in a shop's files, each problem with its place."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow import ROOT
from afterglow.language.check import check_files

SHOP = """\
name: Ember
url: https://ember.example
sender: {name: Ember, address: hello@ember.example}
postal_address: 1 Yard
currency: EUR
timezone: Europe/Paris
review_url: https://ember.example/reviews
links: {guide: https://ember.example/guide}
topics: {coffee-care: {label: Care}, news: {label: News}}
teams: {customer-care: {address: care@ember.example}}
priority: [first-order]
attributes: {open_ticket: yes-no, points: number, birthday: date}
events: {tasting.booked: {tasting.at: date, tasting.seats: number}}
"""
STAGES = "stages: [{stage: awareness}, {stage: purchase}, {stage: advocacy}]\n"
SOURCE = """\
source: till
auth: none
key: body.id
events:
  - when: body.type == "paid"
    event: order.paid
    stage: purchase
    customer: {id: body.customer}
    payload:
      order:
        id: body.order | text
        total: body.total | number
        paid_at: body.at | iso
        items: {each: body.items, fields: {title: item.title | text, quantity: item.quantity | int}}
  - when: body.type == "delivered"
    event: order.delivered
    customer: {id: body.customer}
    payload: {order: {id: body.order | text}, parcel: {weight: body.weight | number}}
  - event: order.refunded
    customer: {id: body.customer}
    payload: {order: {id: body.order | number}}
"""
FLOW = """\
flow: first-order
about: Thank and listen
status: live
starts: {stage: purchase, when: customer.orders == 1}
once_per: order.id
topic: coffee-care
steps:
  - send: email/thanks
  - id: arrival
    wait_for: order.delivered
    same: order.id
    for_up_to: 10 days
  - send: email/check-in
  - id: answer
    wait_for: survey.answered
    for_up_to: 7 days
    arrived:
      - id: unhappy
        if: answer.score <= 2
        then:
          - notify: customer-care
            about: "Rated {{ answer.score }}"
"""
THANKS = """\
---
kind: service
subject: Thank you
preheader: It is in
---
<mj-section><mj-column>
  <mj-text>Hi {{ customer.first_name | default("there") }}, order {{ order.id }}</mj-text>
</mj-column></mj-section>
"""
CHECK_IN = """\
---
kind: marketing
subject: How is it?
preheader: One tap
---
<mj-section><mj-column>
  <mj-text><a href="{{ rate("answer", 5) }}">Lovely</a></mj-text>
</mj-column></mj-section>
"""
LAYOUT = "<mjml><mj-body>{{ body }}<mj-section><mj-column>{{ footer }}</mj-column></mj-section></mj-body></mjml>"
FOOTER = "{{ shop.postal_address }} {{ unsubscribe_url }}"
FILES = {
    "flows/shop.yaml": SHOP,
    "flows/stages.yaml": STAGES,
    "flows/sources/till.yaml": SOURCE,
    "flows/first-order.yaml": FLOW,
    "templates/email/thanks.mjml": THANKS,
    "templates/email/thanks.txt": "Thank you for order {{ order.id }}\n",
    "templates/email/check-in.mjml": CHECK_IN,
    "templates/email/_layout.mjml": LAYOUT,
    "templates/email/_layout.txt": "{{ body }}\n--\n{{ footer }}\n",
    "templates/email/_footer-marketing.mjml": f"<mj-text>{FOOTER}</mj-text>",
    "templates/email/_footer-marketing.txt": FOOTER,
    "templates/email/_footer-service.mjml": "<mj-text>{{ shop.postal_address }}</mj-text>",
    "templates/email/_footer-service.txt": "{{ shop.postal_address }}",
    "templates/email/_footer-team.mjml": "<mj-text>{{ team }}</mj-text>",
    "templates/email/_footer-team.txt": "{{ team }}",
    "templates/email/_notify.mjml": "---\nkind: team\nsubject: Look\npreheader: Please\n---\n"
    "<mj-section><mj-column><mj-text>{{ about }} {{ customer_url }}</mj-text></mj-column></mj-section>\n",
}
FLOW_FILE = "flows/first-order.yaml"
THANKS_FILE = "templates/email/thanks.mjml"
CHECK_IN_FILE = "templates/email/check-in.mjml"


def test_the_shipped_shop_has_no_problem():
    folders = (ROOT / "flows", ROOT / "templates" / "email")
    paths = [path for folder in folders for path in Path(folder).rglob("*") if path.is_file()]

    assert check_files({path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}) == []


def test_a_small_shop_has_no_problem():
    assert check_files(FILES) == []


def said(*changes: tuple[str, str, str]) -> list[str]:
    """What check says after changes, each (file, old text, new text)."""
    files = dict(FILES)
    for file, old, new in changes:
        assert old in files.get(file, ""), f"{old!r} is not in {file}"
        files[file] = files[file].replace(old, new, 1)
    return [str(problem) for problem in check_files(files)]


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


#: What is changed in a mail, and everything that is then said.
IN_A_MAIL = [
    (
        THANKS_FILE,
        "order.id",
        "order.nr",
        [
            f"{THANKS_FILE}:7:70: Entering stage purchase (by order.paid) does not supply 'order.nr'. "
            "Did you mean 'order.id'? Flow 'first-order' sends this mail."
        ],
    ),
    (
        THANKS_FILE,
        "subject: Thank you",
        'subject: "Thank you, {{ custmer.first_name }}"',
        [
            f"{THANKS_FILE}:3:25: Entering stage purchase (by order.paid) does not supply 'custmer.first_name'. "
            "Did you mean 'customer.first_name'? Flow 'first-order' sends this mail."
        ],
    ),
    (
        "templates/email/thanks.txt",
        "Thank you for",
        "Thank you\nfor {{ order.idd }}",
        [
            "templates/email/thanks.txt:2:8: Entering stage purchase (by order.paid) does not supply 'order.idd'. "
            "Did you mean 'order.id'? Flow 'first-order' sends this mail."
        ],
    ),
    (
        "templates/email/_footer-service.txt",
        "{{ shop.postal_address }}",
        "{{ shop.postal_adress }}",
        [
            "templates/email/_footer-service.txt:1:4: 'shop.postal_adress' is not in shop.yaml. "
            "Did you mean 'shop.postal_address'? Flow 'first-order' sends this mail."
        ],
    ),
    (
        THANKS_FILE,
        "order.id",
        "order.id }} {% for item in order.items %}{{ item.titel }}{% endfor %}{{ order.id",
        [
            f"{THANKS_FILE}:7:114: The entries of this list have no 'item.titel'. Did you mean 'item.title'? "
            "Flow 'first-order' sends this mail."
        ],
    ),
    (
        THANKS_FILE,
        "order.id",
        'order.items | map("titel") | join(", ")',
        [
            f"{THANKS_FILE}:7:89: The entries of this list have no 'titel'. Did you mean 'title'? "
            "Flow 'first-order' sends this mail."
        ],
    ),
    (
        THANKS_FILE,
        "{{ order.id }}",
        "{{ order.items }}",
        [
            f"{THANKS_FILE}:7:70: 'order.items' is a list and has no text; write one value of it, or loop over it. "
            "Flow 'first-order' sends this mail."
        ],
    ),
    (
        THANKS_FILE,
        '| default("there") ',
        "",
        [
            f"{THANKS_FILE}:7:18: 'customer.first_name' is missing where it is not known of a customer, and a mail "
            "without it fails: add `| default(...)`, or put it behind {% if customer.first_name %}. "
            "Flow 'first-order' sends this mail."
        ],
    ),
    (
        THANKS_FILE,
        '{{ customer.first_name | default("there") }}',
        "{% if customer.first_name %}{{ customer.first_name }}{% endif %}",
        [],
    ),
    (
        CHECK_IN_FILE,
        "Lovely",
        "{{ arrival.parcel.weight }}",
        [
            f"{CHECK_IN_FILE}:7:49: 'arrival.parcel.weight' is missing where 'arrival' timed out, and a mail without "
            "it fails: add `| default(...)`, or put it behind {% if arrival.parcel.weight %}. "
            "Flow 'first-order' sends this mail."
        ],
    ),
    (CHECK_IN_FILE, "Lovely", "{{ arrival.parcel.weight | default(0) }}", []),
    (
        THANKS_FILE,
        "order {{ order.id }}",
        "{{ unsubscribe_url }}",
        [
            f"{THANKS_FILE}:7:64: 'unsubscribe_url' cannot be read here: mails of kind service have none. "
            "Flow 'first-order' sends this mail."
        ],
    ),
    (
        THANKS_FILE,
        "order {{ order.id }}",
        '{{ referral_link("friends") }}',
        [f"{THANKS_FILE}:7:64: A service mail carries no invitation; make it marketing, or remove the referral_link."],
    ),
    (
        CHECK_IN_FILE,
        "kind: marketing\n",
        "kind: marketing\ntopic: coffe-care\n",
        [f"{CHECK_IN_FILE}:3:8: There is no topic 'coffe-care' in shop.yaml. Did you mean 'coffee-care'?"],
    ),
    (
        FLOW_FILE,
        "topic: coffee-care\n",
        "",
        [
            f"{CHECK_IN_FILE}:2:7: A marketing mail needs a topic that a customer can refuse: "
            "give it one here or in the flow."
        ],
    ),
    (
        "templates/email/_footer-marketing.txt",
        "{{ unsubscribe_url }}",
        "",
        [
            f"{CHECK_IN_FILE}:2:7: A marketing mail needs {{{{ unsubscribe_url }}}} in its text part; "
            "put it in the footer."
        ],
    ),
    (
        "templates/email/_footer-marketing.mjml",
        "{{ shop.postal_address }}",
        "",
        [
            f"{CHECK_IN_FILE}:2:7: A marketing mail needs {{{{ shop.postal_address }}}} in its HTML part; "
            "put it in the footer."
        ],
    ),
    (
        CHECK_IN_FILE,
        'rate("answer", 5)',
        'rate("anser", 5)',
        [
            f"{CHECK_IN_FILE}:7:24: Flow 'first-order', which sends this mail, has no step 'anser' that waits for "
            "survey.answered. Did you mean 'answer'?"
        ],
    ),
    (
        FLOW_FILE,
        '            about: "Rated {{ answer.score }}"\n',
        "  - {send: email/check-in, id: again}\n",
        [
            f"{CHECK_IN_FILE}:7:24: In flow 'first-order' step 'answer' does not come after this mail: "
            "nobody would hear the answer."
        ],
    ),
    (
        CHECK_IN_FILE,
        'rate("answer", 5)',
        'rate("answer", "five")',
        [
            f"{CHECK_IN_FILE}:7:24: 'rate' takes a step that waits for the answer, perhaps a score from 1 to 5, "
            'and perhaps a scale: rate("answer", 4), or rate("answer", 9, "nps"). Scales are stars, csat, nps.'
        ],
    ),
    (
        CHECK_IN_FILE,
        'rate("answer", 5)',
        "referral_link()",
        [f"{CHECK_IN_FILE}:7:24: 'referral_link' takes the name of a programme: referral_link(\"friends\")."],
    ),
]


@pytest.mark.parametrize(("file", "old", "new", "expected"), IN_A_MAIL)
def test_a_slip_in_a_mail_is_told_at_its_place(file, old, new, expected):
    assert said((file, old, new)) == expected


#: What is changed in shop.yaml, stages.yaml or a source, and everything that is then said.
IN_THE_SHOP = [
    (
        "flows/shop.yaml",
        "priority: [first-order]",
        "priority: [first-order, welcom, first-order]",
        [
            "flows/shop.yaml:11:25: There is no flow 'welcom'.",
            "flows/shop.yaml:11:33: 'first-order' stands here twice.",
        ],
    ),
    (
        "flows/shop.yaml",
        "priority: [first-order]",
        "priority: [first-order]\nrate: many\nblackout: [{days: 13-01, because: x}]",
        [
            "flows/shop.yaml:12:7: 'many' is not a rate; write it as 2,000 per hour (or minute, or day).",
            "flows/shop.yaml:13:19: '13-01' is no day and no range of days; write 12-24..12-26 for every year, or "
            "2026-11-27.",
        ],
    ),
    (
        "flows/shop.yaml",
        "priority: [first-order]",
        "priority: [first-order]\nlate: next-window\nloser: drop",
        [
            "flows/shop.yaml:12:7: 'late' must be one of send, next window, skip, not 'next-window'. "
            "Did you mean 'next window'?",
            "flows/shop.yaml:13:8: 'loser' must be one of defer, skip, not 'drop'.",
        ],
    ),
    (
        "flows/shop.yaml",
        "currency: EUR",
        "currency: EUR\norder_event: order.payed",
        ["flows/shop.yaml:6:14: No source brings an event 'order.payed'. Did you mean 'order.paid'?"],
    ),
    (
        "flows/shop.yaml",
        "tasting.seats: number",
        "customer.seats: nummber",
        [
            "flows/shop.yaml:13:45: An event may not carry 'customer': flows know something else by that name.",
            "flows/shop.yaml:13:61: 'nummber' is not a kind: use text, number, yes-no, date, list. "
            "Did you mean 'number'?",
        ],
    ),
    (
        "flows/sources/till.yaml",
        "stage: purchase",
        "stage: purchace",
        ["flows/sources/till.yaml:7:12: There is no stage 'purchace' in stages.yaml. Did you mean 'purchase'?"],
    ),
    (
        "flows/sources/till.yaml",
        "customer: {id: body.customer}",
        "consent: {state: body.consent, topic: new}\n    customer: {id: body.customer, open_tickt: body.ticket}",
        [
            "flows/sources/till.yaml:8:43: There is no topic 'new' in shop.yaml. Did you mean 'news'?",
            "flows/sources/till.yaml:9:35: 'open_tickt' is not declared in shop.yaml under attributes. "
            "Did you mean 'open_ticket'?",
        ],
    ),
]


@pytest.mark.parametrize(("file", "old", "new", "expected"), IN_THE_SHOP)
def test_a_slip_in_the_shop_or_a_source_is_told_at_its_place(file, old, new, expected):
    assert said((file, old, new)) == expected


REVIEW = ("templates/email/check-in.mjml", 'rate("answer", 5)', "shop.review_url")
AFTER_ANSWER = '          - notify: customer-care\n            about: "Rated {{ answer.score }}"\n'
GATING = "review gating, which review sites and the law forbid. Ask everybody, or nobody."


@pytest.mark.parametrize(
    ("condition", "rest", "place"),
    [
        ("answer.score >= 4", "          - {send: email/review}\n", "21:20"),
        ("not (answer.score < 4)", "          - {send: email/review}\n", "21:20"),
        (
            "answer.score <= 2",
            "          - notify: customer-care\n        else:\n          - {send: email/review}\n",
            "23:20",
        ),
        ("answer.score <= 2", "          - stop: unhappy\n  - {send: email/review}\n", "22:12"),
    ],
)
def test_a_review_asked_only_of_the_happy_is_refused(condition, rest, place):
    files = _with_review(FLOW.replace("answer.score <= 2", condition).replace(AFTER_ANSWER, rest))

    [problem] = check_files(files)

    assert f"{problem.line}:{problem.col}" == place
    assert problem.message.endswith(GATING)


@pytest.mark.parametrize(
    ("condition", "rest"),
    [
        ("answer.score <= 2", "          - notify: customer-care\n  - {send: email/review}\n"),
        ("customer.orders > 3", "          - {send: email/review}\n"),
        ("answer.score >= 4", "          - {send: email/offer}\n"),
        (
            "answer.score >= 4",
            "          - {send: email/review}\n        else:\n          - {send: email/review, id: all-the-same}\n",
        ),
    ],
)
def test_asking_everybody_and_marketing_by_score_are_fine(condition, rest):
    files = _with_review(FLOW.replace("answer.score <= 2", condition).replace(AFTER_ANSWER, rest))

    assert check_files(files) == []


def test_a_whole_flow_for_the_happy_is_review_gating_too():
    files = _with_review(
        FLOW.replace(
            "starts: {stage: purchase, when: customer.orders == 1}", "starts: {event: survey.answered, when: score > 3}"
        )
        .replace("once_per: order.id\n", "")
        .replace("email/thanks", "email/review")
        .replace("    same: order.id\n", "")
    )

    assert [f"{p.file}:{p.line}:{p.col}" for p in check_files(files)] == [f"{FLOW_FILE}:4:40"]


def _with_review(flow: str) -> dict[str, str]:
    mail = CHECK_IN.replace("subject:", "topic: news\nsubject:")
    review = mail.replace('{{ rate("answer", 5) }}', "{{ shop.review_url }}")
    offer = mail.replace('{{ rate("answer", 5) }}', "{{ shop.links.guide }}")
    return FILES | {FLOW_FILE: flow, "templates/email/review.mjml": review, "templates/email/offer.mjml": offer}


@pytest.mark.parametrize(
    "body",
    [
        "{% if customer.points > 3 and answer.score > 3 %}{{ shop.review_url }}{% endif %}",
        "{% if answer.score < 3 %}Sorry{% else %}{{ shop.review_url }}{% endif %}",
        '{{ shop.review_url if answer.score > 3 else "" }}',
    ],
)
def test_a_review_link_shown_by_score_is_refused(body):
    flow = FLOW.replace(
        AFTER_ANSWER, "          - {send: email/review}\n        else:\n          - {send: email/review, id: b}\n"
    )
    files = _with_review(flow) | {
        "templates/email/review.mjml": CHECK_IN.replace('{{ rate("answer", 5) }}', "x").replace("Lovely", body)
    }

    [problem] = check_files(files)

    assert problem.file == "templates/email/review.mjml"
    assert problem.line == 7
    assert problem.message.endswith(GATING)


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


def test_a_broken_mail_is_there_all_the_same():
    told = said((THANKS_FILE, "{{ order.id }}", "{{ order.id"))

    assert told
    assert {line.split(":")[0] for line in told} == {THANKS_FILE}


def test_files_that_nothing_reads_are_told():
    told = check_files(FILES | {"flows/summer/sale.yaml": "x", "templates/email/sale.txt": "x"})

    assert [str(problem) for problem in told] == [
        "flows/summer/sale.yaml:1:1: Flows stand in flows/ itself; sources, programmes and pieces in flows/sources/, "
        "programmes/, pieces/; move this file.",
        "templates/email/sale.txt:1:1: This is the text part of a mail that is not there: templates/email/sale.mjml.",
    ]


def test_an_empty_folder_says_which_files_are_missing():
    assert [problem.file for problem in check_files({})] == ["flows/shop.yaml", "flows/stages.yaml"]


def test_what_shop_yaml_leaves_out_is_missing_from_every_mail_that_needs_it():
    told = said(
        (CHECK_IN_FILE, 'rate("answer", 5)', "shop.review_url"),
        ("flows/shop.yaml", "review_url: https://ember.example/reviews\n", ""),
    )

    assert told == [
        f"{CHECK_IN_FILE}:7:24: 'shop.review_url' is missing from shop.yaml, and a mail without it fails: "
        "add `| default(...)`, or put it behind {% if shop.review_url %}. Flow 'first-order' sends this mail."
    ]


def test_any_event_may_bring_customers_into_a_stage_that_no_source_names():
    flow = FLOW.replace("stage: purchase", "stage: advocacy").replace("order.id\n", "tasting.seats\n", 1)

    assert check_files(FILES | {FLOW_FILE: flow}) == []


def test_an_event_that_is_taken_over_as_it_came_may_carry_anything():
    source = SOURCE.replace("payload: {order: {id: body.order | number}}", "payload: {from: body}")
    flow = FLOW.replace("{stage: purchase,", "{event: order.refunded,").replace("order.id\n", "order.whatever\n", 1)

    assert check_files(FILES | {"flows/sources/till.yaml": source, FLOW_FILE: flow}) == []


@settings(max_examples=40, deadline=None)
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
ONE_EVENT = FLOW[FLOW.index("  - id: arrival") : FLOW.index("  - send: email/check-in")]


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
