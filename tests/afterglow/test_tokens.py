"""Link tokens can be read back by their maker and by nobody else made up."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.tokens import LARGEST_ID, make_token, read_token

SECRET = b"a secret of some length"
ids = st.integers(0, LARGEST_ID)
URL_SAFE = set(string.ascii_letters + string.digits + "-_")


@given(st.lists(ids, max_size=4))
def test_a_token_gives_back_the_ids_it_was_made_of(numbers: list[int]) -> None:
    assert read_token([SECRET], "unsubscribe", make_token(SECRET, "unsubscribe", *numbers)) == tuple(numbers)


@given(ids, ids)
def test_a_token_of_two_ids_is_url_safe_and_at_most_40_characters(one: int, other: int) -> None:
    token = make_token(SECRET, "unsubscribe", one, other)

    assert len(token) <= 40
    assert set(token) <= URL_SAFE


@given(ids, ids, st.data())
def test_a_token_changed_in_any_character_is_worth_nothing(one: int, other: int, data: st.DataObject) -> None:
    token = make_token(SECRET, "rate", one, other)
    place = data.draw(st.integers(0, len(token) - 1))
    swapped = data.draw(st.sampled_from(sorted(URL_SAFE - {token[place]})))

    assert read_token([SECRET], "rate", token[:place] + swapped + token[place + 1 :]) is None


@given(st.text(max_size=60))
def test_any_text_at_all_is_answered_with_none_and_never_an_error(text: str) -> None:
    assert read_token([SECRET], "unsubscribe", text) is None


def test_a_token_serves_only_the_purpose_it_was_made_for() -> None:
    token = make_token(SECRET, "rate", 7, 9)

    assert read_token([SECRET], "unsubscribe", token) is None


def test_an_old_secret_still_reads_links_in_old_mails() -> None:
    token = make_token(b"last year's", "unsubscribe", 7)

    assert read_token([SECRET, b"last year's"], "unsubscribe", token) == (7,)
    assert read_token([SECRET], "unsubscribe", token) is None
    assert read_token([], "unsubscribe", token) is None


def test_an_empty_secret_signs_nothing_and_reads_nothing() -> None:
    with pytest.raises(ValueError, match="needs a secret"):
        make_token(b"", "unsubscribe", 7)
    assert read_token([b""], "unsubscribe", make_token(SECRET, "unsubscribe", 7)) is None


@pytest.mark.parametrize("padded", ["=", "==", "\n", " ", "!"])
def test_a_second_spelling_of_a_token_is_refused(padded: str) -> None:
    token = make_token(SECRET, "unsubscribe", 7)

    assert read_token([SECRET], "unsubscribe", token + padded) is None
    assert read_token([SECRET], "unsubscribe", padded + token) is None


@pytest.mark.parametrize("number", [-1, LARGEST_ID + 1])
def test_an_id_the_database_could_not_hold_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="carries ids"):
        make_token(SECRET, "unsubscribe", number)
