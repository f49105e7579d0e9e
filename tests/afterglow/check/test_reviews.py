"""`check` refuses to ask only the happy for a review."""

import pytest

from afterglow.language.check import check_files
from tests.checked_shop import CHECK_IN, FILES, FLOW, FLOW_FILE

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
