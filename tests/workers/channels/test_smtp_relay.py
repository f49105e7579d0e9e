"""A relay's URL means one thing, and plain text over a network is not something it can mean."""

from __future__ import annotations

import pytest

from workers.channels import make_channel
from workers.channels.smtp.relay import BadRelay, Relay, Security, parse_relay


@pytest.mark.parametrize(
    ("url", "relay"),
    [
        (
            "smtp+starttls://me:secret@mx.example:2525",
            Relay(host="mx.example", port=2525, security=Security.STARTTLS, username="me", password="secret"),
        ),
        ("smtp://mx.example", Relay(host="mx.example", port=587, security=Security.STARTTLS)),
        ("smtps://mx.example/", Relay(host="mx.example", port=465, security=Security.FROM_START)),
        ("smtp://localhost:25?tls=no", Relay(host="localhost", port=25, security=Security.NONE)),
        ("smtp://[::1]:25?tls=no", Relay(host="::1", port=25, security=Security.NONE)),
        (
            "smtps://a%40b.example:p%2Fq%3A%25@mx.example?ca=/etc/ca.pem",
            Relay(
                host="mx.example",
                port=465,
                security=Security.FROM_START,
                username="a@b.example",
                password="p/q:%",
                ca="/etc/ca.pem",
            ),
        ),
    ],
)
def test_a_url_names_a_relay(url: str, relay: Relay) -> None:
    assert parse_relay(url) == relay


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "like smtp"),
        ("mx.example:25", "like smtp"),
        ("https://mx.example", "like smtp"),
        ("smtp://", "like smtp"),
        ("smtp://mx.example:notaport", "like smtp"),
        ("smtp://mx.example:99999", "like smtp"),
        ("smtp://mx..example", "like smtp"),
        ("smtp://mx.example/path", "like smtp"),
        ("smtp://mx.example?tls=no", "no TLS towards mx.example"),
        ("smtps://localhost?tls=no", "no TLS towards localhost"),
        ("smtp://localhost?tls=maybe", "other than no"),
        ("smtp://mx.example?verify=no", "unknown option 'verify'"),
        ("smtp://me@mx.example", "only one of user and password"),
        ("smtp://me:p%C3%A4ss@mx.example", "beyond ASCII"),
    ],
)
def test_a_url_that_is_no_relay_is_refused_with_what_to_write(url: str, words: str) -> None:
    with pytest.raises(BadRelay, match=words):
        parse_relay(url)


@pytest.mark.parametrize("tail", ["?tls=no", "?x=1", ":port", "/path", "?tls=maybe"])
def test_no_error_and_no_repr_shows_the_password(tail: str) -> None:
    with pytest.raises(BadRelay) as refused:
        parse_relay("smtp://me:hunter2@mx.example" + tail)

    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(parse_relay("smtp://me:hunter2@mx.example"))


def test_a_certificate_authority_that_cannot_be_read_is_refused_at_start() -> None:
    with pytest.raises(BadRelay, match="cannot be read"):
        make_channel("smtp", "smtps://mx.example?ca=/nowhere/ca.pem")
