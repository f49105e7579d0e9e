"""What `check` says of a mail, as the flows that send it fill it in."""

import pytest

from tests.checked_shop import CHECK_IN_FILE, FLOW_FILE, THANKS_FILE, said

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


def test_a_broken_mail_is_there_all_the_same():
    told = said((THANKS_FILE, "{{ order.id }}", "{{ order.id"))

    assert told
    assert {line.split(":")[0] for line in told} == {THANKS_FILE}


def test_what_shop_yaml_leaves_out_is_missing_from_every_mail_that_needs_it():
    told = said(
        (CHECK_IN_FILE, 'rate("answer", 5)', "shop.review_url"),
        ("flows/shop.yaml", "review_url: https://ember.example/reviews\n", ""),
    )

    assert told == [
        f"{CHECK_IN_FILE}:7:24: 'shop.review_url' is missing from shop.yaml, and a mail without it fails: "
        "add `| default(...)`, or put it behind {% if shop.review_url %}. Flow 'first-order' sends this mail."
    ]
