"""From lines to rows: what is read, what is refused and why, and that a reason never repeats what a row holds."""

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.importing import (
    COLUMNS,
    BadRow,
    ColumnsError,
    CustomerRow,
    Desk,
    OrderRow,
    columns_of,
    format_of,
    records,
    rows,
)
from afterglow.language.catalog import Catalog, read_documents
from tests.small_shop import documents

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)


@cache
def catalog() -> Catalog:
    return read_documents({(made.kind, made.name): made.body for made in documents()})


def desk() -> Desk:
    return Desk(catalog=catalog(), as_of=NOW, now=NOW, zone=ZoneInfo("Europe/Paris"))


def read(kind: str, text: str, form: str = "csv") -> list[Any]:
    lines = text.splitlines(keepends=True)
    further = ("vip", "points", "order.gift")
    return list(rows(kind, records(form, lines, lambda header: columns_of(kind, header, further=further)), desk()))


def customer(**values: str) -> Any:
    (row,) = read("customers", f"{','.join(values)}\n{','.join(values.values())}\n")
    return row


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_the_one_that_divides_the_first_line(delimiter: str):
    (row,) = read("customers", f"id{delimiter}email\n7{delimiter}a@example.com\n")

    assert (row.id, row.email) == ("7", "a@example.com")


def test_a_quoted_value_over_two_lines_keeps_later_lines_right():
    found = read("customers", 'id,email,last_name\n1,a@example.com,"A\nB"\n2,nobody,\n')

    assert found[0].last_name == "A\nB"
    assert found[1] == BadRow(4, "email is not an e-mail address")


def test_json_lines_are_read_with_numbers_and_nulls():
    first, second, third = read(
        "customers",
        '{"id": 7, "email": null, "vip": true, "points": 2.5}\n\n["a"]\n{"id": 8, "emial": "x"}\n',
        "jsonl",
    )

    assert (first.id, first.email, first.attributes["vip"], str(first.attributes["points"])) == ("7", None, True, "2.5")
    assert second == BadRow(3, "it is JSON, but not an object")
    assert "'emial' did you mean 'email'" in third.reason


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2025-01-02", datetime(2025, 1, 1, 23, tzinfo=UTC)),  # midnight in Paris
        ("2025-07-02 09:30", datetime(2025, 7, 2, 7, 30, tzinfo=UTC)),
        ("2025-07-02T09:30:00Z", datetime(2025, 7, 2, 9, 30, tzinfo=UTC)),
        ("2025-07-02 09:30:00 +0100", datetime(2025, 7, 2, 8, 30, tzinfo=UTC)),
        ("1735689600", datetime(2025, 1, 1, tzinfo=UTC)),
        ("1735689600000", datetime(2025, 1, 1, tzinfo=UTC)),
    ],
)
def test_moments_are_read_as_shops_write_them(written: str, meant: datetime):
    assert customer(id="1", created_at=written).since == meant


@pytest.mark.parametrize("written", ["02/03/2025", "yesterday", "1925-01-01", "2027-01-01", "0000000000"])
def test_a_moment_that_may_mean_two_things_or_none_is_refused(written: str):
    row = customer(id="1", created_at=written)

    assert isinstance(row, BadRow)
    assert row.reason.startswith("created_at ")


@pytest.mark.parametrize(
    ("written", "state"),
    [("yes", "granted"), ("Subscribed", "granted"), ("no", "withdrawn"), ("pending", None), ("", None)],
)
def test_consent_is_only_what_was_said(written: str, state: str | None):
    word = customer(id="1", consent=written).word

    assert (word.state if word else None) == state


def test_an_unclear_word_on_consent_is_refused():
    assert customer(id="1", consent="maybe").reason.startswith("consent is neither granted nor withdrawn")


def test_an_order_carries_what_its_webhook_would():
    text = (
        "order_id,total,currency,paid_at,email,order_number,order.gift\no1,40.5,eur,2025-01-02,a@example.com,#1,mug\n"
    )
    (row,) = read("orders", text)

    assert isinstance(row, OrderRow)
    assert row.payload == {"order": {"id": "o1", "total": row.total, "currency": "EUR", "number": "#1", "gift": "mug"}}
    assert str(row.total) == "40.50"


@pytest.mark.parametrize("total", ["", "much", "1.2.3"])
def test_an_order_without_an_amount_is_refused(total: str):
    (row,) = read("orders", f"order_id,total,paid_at,email\no1,{total},2025-01-02,a@example.com\n")

    assert row == BadRow(2, "total is not an amount such as 40.50")


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (["email", "Fist Name"], "'Fist Name' did you mean 'first_name'"),
        (["first_name"], "needs a column id or email"),
        (["email", "E-Mail"], "email is there twice"),
    ],
)
def test_a_wrong_header_is_told_in_one_sentence(header: list[str], told: str):
    with pytest.raises(ColumnsError, match=told):
        columns_of("customers", header)


def test_names_tell_formats():
    assert [format_of(name) for name in ("a.csv", "A.TSV.gz", "a.jsonl", "a.ndjson.gz", "a.xlsx", "-")] == [
        "csv",
        "csv",
        "jsonl",
        "jsonl",
        None,
        None,
    ]


@given(st.text(max_size=300))
def test_whatever_stands_in_a_file_every_record_is_a_row_or_a_reason(text: str):
    for row in read("customers", f"id,email,created_at,consent\n{text}"):
        assert isinstance(row, CustomerRow | BadRow)


VALUES = st.one_of(st.none(), st.text(max_size=20), st.integers(), st.floats(), st.booleans(), st.just([]), st.just({}))


@given(st.sampled_from(sorted(COLUMNS)), st.data())
def test_whatever_values_stand_in_a_json_file_every_record_is_a_row_or_a_reason(kind: str, data: st.DataObject):
    values = data.draw(st.dictionaries(st.sampled_from(sorted(COLUMNS[kind])), VALUES))

    found = list(rows(kind, records("jsonl", [json.dumps(values)], list), desk()))

    assert len(found) == 1
