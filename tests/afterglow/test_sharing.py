"""What a customer passes on with their link."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from afterglow.language.check import check_files
from afterglow.language.referral import read_referral
from afterglow.referring.sharing import shared
from tests.driver import shop_files

FILE = "flows/programmes/friends.yaml"
FRIENDS = """\
programme: friends
kind: referral
about: Give 10, get 10
qualifies: {on: order.paid}
rewards: {referee: {coupon: welcome-10}}
"""
SHARE = """\
share:
  subject: Coffee, %s
  mail: |
    Hello!
    {{ customer.first_name | default("A friend") }} & "{{ shop.name }}": {{ link }}
  message: "{{ programme.about }}: {{ code }}"
"""
SHOP = {"name": "Ember & Oak"}


def share(text: str, **customer):
    programme = read_referral(FRIENDS + text, FILE)
    return shared(programme, customer, SHOP, code="MAYA-10", link="https://a.example/r/MAYA-10")


def test_the_texts_are_the_programmes_own_filled_in():
    made = share(SHARE, first_name="Maya")

    assert made.mail == 'Hello!\nMaya & "Ember & Oak": https://a.example/r/MAYA-10'
    assert made.message == "Give 10, get 10: MAYA-10"
    assert share(SHARE).mail.startswith("Hello!\nA friend &")


def test_without_texts_there_are_ours_and_they_have_the_link():
    made = share("")
    assert made.link in made.mail
    assert made.link in made.message
    assert "Ember & Oak" in made.subject


def test_a_text_that_cannot_be_filled_in_for_somebody_is_ours():
    text = 'share: {message: "{{ customer.first_name }} says {{ link }}"}\n'
    assert share(text, first_name="Maya").message == "Maya says https://a.example/r/MAYA-10"
    assert share(text).message == share("").message


def test_the_links_of_the_buttons_carry_the_texts_whole():
    made = share(SHARE.replace("%s", "a & b? 1# +\u00e9"), first_name="Maya\r\nBcc: x@example.com")

    mail = parse_qs(urlsplit(made.mailto).query)
    assert mail["subject"] == ["Coffee, a & b? 1# +\u00e9"]
    assert set(mail) == {"subject", "body"}, "a name cannot add a header"
    assert "+" not in made.mailto.partition("?")[2], "mail programs read + as itself"
    assert unquote(made.whatsapp) == "https://wa.me/?text=Give 10, get 10: MAYA-10"


@pytest.mark.parametrize(
    ("share", "problem"),
    [
        ('share: {message: "{{ lnk }} {{ code }}"}', "does not supply 'lnk'. Did you mean 'link'?"),
        ('share: {message: "{{ customer.email }} {{ link }}"}', "what is shared leaves the house."),
        ('share: {message: "{{ customer.first_name }} {{ link }}"}', "add `| default(...)`"),
        ('share: {mail: "Try this"}', "Whoever gets this mail finds no link"),
        ("share: {message: \"{{ referral_link('friends') }} {{ link }}\"}", "stands in mails only"),
        ('share: {message: "{{ link"}', "friends.yaml:6:"),
    ],
)
def test_a_text_that_can_never_work_is_a_problem_of_the_file(share, problem):
    told = [str(one) for one in check_files({**shop_files(), FILE: f"{FRIENDS}{share}\n"})]
    assert len(told) == 1
    assert problem in told[0]
    assert told[0].startswith(f"{FILE}:6:")
