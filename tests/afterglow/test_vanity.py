"""Codes that somebody chooses: what can be one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.letters import referral_code
from afterglow.referring.attribution import spelled
from afterglow.referring.vanity import LONGEST, SHORTEST, vanity


@pytest.mark.parametrize(("name", "code"), [("maya-10", "MAYA-10"), (" Maya ", "MAYA"), ("10-per-cup", "10-PER-CUP")])
def test_a_code_is_one_in_any_case(name, code):
    assert vanity(name) == vanity(code) == vanity(name.upper()) == code


@pytest.mark.parametrize(
    "name",
    [
        "abc",
        "a" * 21,
        "1234",
        "MAYA 10",
        "MAYA_10",
        "-MAYA",
        "MAYA-",
        "MA--YA",
        "MÜLLER",
        "\uff2d\uff21\uff39\uff21",
        "MAYA\n10",
        "",
    ],
)
def test_what_cannot_be_typed_or_read_aloud_is_no_code(name):
    with pytest.raises(ValueError, match="can be no code"):
        vanity(name)


@pytest.mark.parametrize("name", ["free", "Free-Shipping", "ADMIN", "welcome-10", "Ember-Oak"])
def test_words_that_mean_something_else_are_refused(name):
    with pytest.raises(ValueError, match="means something else"):
        vanity(name, {"welcome-10", "Ember & Oak"})


@given(st.integers(0, 2**63 - 1), st.binary(min_size=1))
def test_nobody_can_choose_what_looks_like_a_code_that_was_made(customer, secret):
    with pytest.raises(ValueError, match="looks like"):
        vanity(referral_code(secret, "friends", customer))


@given(st.text(max_size=30))
def test_whatever_is_asked_for_is_refused_or_spelled_as_codes_are_compared(name):
    try:
        code = vanity(name)
    except ValueError:
        return
    assert code == spelled(name) == vanity(code)
    assert SHORTEST <= len(code) <= LONGEST
    assert code.isascii()
