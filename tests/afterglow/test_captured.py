"""Trying a request, and payloads kept beside a source file: read as they came, told in YAML, compared line by line."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow import ROOT, strict_yaml
from afterglow.captured import CapturedError, as_yaml, differences, is_expectation, read_captured, told
from afterglow.language.source import read_source
from afterglow.mapping import Ignored, Mapped, Unmappable, map_element
from afterglow.mapping.trial import tried

NOW = datetime(2026, 3, 20, 12, 0, tzinfo=UTC)
SMALL = """\
source: small
auth: none
each: body.events
key: body.id
events:
  - when: body.type == "test"
    ignore: Only a test.
  - when: body.type == "paid"
    event: order.paid
    occurred_at: body.at | iso
    customer: {id: body.who}
    payload:
      order: {id: body.order | text, total: body.total | money("EUR")}
"""


def small():
    return read_source(SMALL, "flows/sources/small.yaml")


def trials_of(*elements):
    return tried(small(), {}, json.dumps({"events": elements}).encode(), received_at=NOW)


PAID = {"type": "paid", "id": "e1", "who": "c1", "order": "o1", "total": "44.90", "at": "2026-03-02T09:00:00+01:00"}


# -- Trying --------------------------------------------------------------------------------------------------


def test_each_element_is_told_with_the_rule_that_held():
    paid, test, unknown, broken = trials_of(PAID, {"type": "test", "id": "e2"}, {"id": "e3"}, {"type": "paid"})

    assert (paid.element.key, paid.rule) == ("e1", 1)
    assert isinstance(paid.result, Mapped)
    assert (test.rule, test.result) == (0, Ignored(reason="Only a test."))
    assert unknown.rule is None
    assert isinstance(unknown.result, Ignored)
    assert broken.rule == 1
    assert isinstance(broken.result, Unmappable)


def test_a_body_that_cannot_be_divided_is_one_element_that_is_parked():
    for body in (b"{", b"{}", b"[]"):
        (only,) = tried(small(), {}, body, received_at=NOW)
        assert isinstance(only.result, Unmappable)
        assert only.element.key.startswith("sha256:")


def test_a_trial_says_what_mapping_does():
    (trial,) = trials_of(PAID)

    assert trial.result == map_element(small(), {}, trial.element.body, received_at=NOW)


# -- Payload files -------------------------------------------------------------------------------------------


def test_a_bare_body_is_taken_byte_by_byte():
    for body in (b'{"a":  1.50}', b"[1]", b"<xml/>", b'{"headers": {}}', b"\xff"):
        captured = read_captured(body, "f")
        assert (captured.headers, captured.body) == ({}, body)


def test_headers_and_body_are_told_apart_and_numbers_keep_their_digits():
    text = b'{"headers": {"X-Topic": "paid"}, "body": {"total": 12.50, "id": 123456789012345678901}, "id": 7}'

    captured = read_captured(text, "f")

    assert captured.headers == {"x-topic": "paid"}
    assert captured.body == b'{"total":12.50,"id":123456789012345678901}'


def test_a_body_that_is_kept_as_text_is_that_text():
    assert read_captured(b'{"headers": {}, "body": "<xml>\\u00e9</xml>"}', "f").body == "<xml>é</xml>".encode()


def test_headers_that_are_no_texts_are_refused_with_an_example():
    with pytest.raises(CapturedError, match=r"f: .* such as"):
        read_captured(b'{"headers": {"a": 1}, "body": {}}', "f")


def test_only_what_stands_beside_a_source_is_an_expectation():
    assert is_expectation("flows/sources/shopify/order-paid.expected.yaml")
    assert not is_expectation("flows/sources/shopify.expected.yaml")
    assert not is_expectation("flows/sources/shopify/order-paid.yaml")
    assert not is_expectation("flows/sources/a/b/c.expected.yaml")


# -- Expectations --------------------------------------------------------------------------------------------


def test_an_expectation_reads_as_a_person_would_write_it():
    assert as_yaml(told(trials_of(PAID, {"type": "test", "id": "e2"}))) == (
        "- key: e1\n"
        "  event: order.paid\n"
        "  occurred_at: 2026-03-02T08:00:00Z\n"
        "  customer:\n"
        "    id: c1\n"
        "  payload:\n"
        "    order:\n"
        "      id: o1\n"
        "      total: 44.9\n"
        "- key: e2\n"
        "  ignored: Only a test.\n"
    )


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.text()
    | st.decimals(min_value=-(10**12), max_value=10**12, places=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_what_is_written_reads_back_as_the_same(value):
    again = strict_yaml.load(as_yaml([value]), "f").data

    assert as_yaml(again) == as_yaml([value])
    assert _texts(again) == _texts([value])


def _texts(value):
    """As the strict reader can give it: numbers of more digits than it knows are text."""
    match value:
        case dict():
            return {name: _texts(inner) for name, inner in value.items()}
        case list():
            return [_texts(inner) for inner in value]
        case bool() | None:
            return value
        case int() | Decimal():
            return format(Decimal(value).normalize(), "f")
        case _:
            return value


def test_what_agrees_has_no_differences_whatever_the_order_quotes_and_comments():
    found = told(trials_of(PAID))
    written = (
        "# a comment\n- event: 'order.paid'\n  payload: {order: {total: 44.90, id: o1}}\n  key: e1\n"
        '  customer: {id: "c1"}\n  occurred_at: "2026-03-02T08:00:00Z"\n'
    )
    assert differences(written, "f", found) == []


def test_a_difference_is_told_by_the_lines_that_differ():
    expected = as_yaml(told(trials_of(PAID)))

    found = differences(expected, "f", told(trials_of(PAID | {"total": "45"})))

    assert [line for line in found if line[0] in "+-" and line[:3] not in ("+++", "---")] == [
        "-      total: 44.9",
        "+      total: 45",
    ]


def test_an_element_more_or_less_is_a_difference():
    one, two = told(trials_of(PAID)), told(trials_of(PAID, PAID))

    assert differences(as_yaml(one), "f", two)
    assert differences(as_yaml(two), "f", one)
    assert differences("[]", "f", one)
    assert differences("", "f", one)


def test_the_shipped_payloads_become_what_is_expected_of_them():
    folder = ROOT / "flows" / "sources"
    payloads = sorted(folder.glob("*/*.json"))
    assert payloads
    for payload in payloads:
        name = payload.parent.name
        source = read_source((folder / f"{name}.yaml").read_text(), f"flows/sources/{name}.yaml")
        captured = read_captured(payload.read_bytes(), payload.name)
        found = told(tried(source, captured.headers, captured.body, received_at=NOW))
        expected = payload.with_name(f"{payload.stem}.expected.yaml").read_text()
        assert differences(expected, payload.name, found) == [], payload
