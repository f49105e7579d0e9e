"""The search for a person in raw texts finds them in every spelling, and nobody else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.erasing import Needles, addresses_in

SAM = Needles.of(addresses=["sam@example.com", "+33612345678", None], ids=["7421887551234", "c1"])


@pytest.mark.parametrize(
    "text",
    [
        '{"email": "sam@example.com"}',
        '{"email": "Sam@Example.COM"}',
        '{"email": "sam\\u0040example.com"}',
        '{"to": "Sam <sam@example.com>"}',
        "mailto:sam@example.com.",
        '{"phone": "+33612345678"}',
        '{"customer": {"id": 7421887551234}}',
        "gid://shop/Customer/7421887551234",
        '{"path": "https:\\/\\/x.example\\/7421887551234"}',
    ],
)
def test_a_person_is_found_in_every_spelling(text: str) -> None:
    assert SAM.are_in(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"email": "another-sam@example.com"}',
        '{"email": "not.sam@example.com"}',
        '{"email": "sam@example.com.au"}',
        '{"email": "sam@example.community"}',
        '{"phone": "+336123456789"}',
        '{"id": 74218875512345}',
        '{"id": "c1"}',
    ],
)
def test_somebody_else_is_not_taken_for_them(text: str) -> None:
    assert not SAM.are_in(text.encode())


def test_in_a_text_that_is_their_own_they_are_found_inside_other_words_too() -> None:
    assert SAM.are_in(b"signup_sam@example.com", anywhere=True)


def test_without_anything_to_look_for_nothing_is_found() -> None:
    nobody = Needles.of(addresses=[None], ids=["c1"])

    assert not nobody
    assert not nobody.are_in(b"anything")


@given(st.from_regex(r"[a-z0-9]{1,12}(\.[a-z0-9]{1,8})?@[a-z0-9]{1,12}\.[a-z]{2,6}", fullmatch=True), st.booleans())
def test_any_address_is_found_in_any_json_that_holds_it(address: str, is_upper: bool) -> None:
    body = json.dumps({"a": [{"b": address.upper() if is_upper else address}]})

    assert Needles.of(addresses=[address], ids=[]).are_in(body.encode())


@given(st.binary(max_size=300))
def test_no_bytes_whatever_upset_the_search(text: bytes) -> None:
    SAM.are_in(text)
    SAM.are_in(text, anywhere=True)


def test_addresses_are_found_in_a_raw_text_whatever_their_spelling():
    text = b'{"a": "Sam@Example.com", "b": "kim\\u0040example.co.uk,x@y", "c": "<lee+1@a-b.example>"}'

    assert addresses_in(text) == {"sam@example.com", "kim@example.co.uk", "lee+1@a-b.example"}
