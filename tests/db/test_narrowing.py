"""What SQL narrows a segment to holds everybody of whom Python says that they are in it, or will be by time alone."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from afterglow import person
from afterglow.decide import Event
from afterglow.language.segment import Segment, read_segments
from afterglow.language.shop import Shop, read_shop
from afterglow.segments import Known, judge
from db import bulk, people, segments
from db.engine import Database
from db.narrowing import narrowed
from db.tables import accounts, customers, events, profiles, quintiles
from tests.examples import LONG
from tests.small_shop import SHOP

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
ATTRIBUTES = {"plan": "text", "vip": "yes-no", "points": "number", "renewal_date": "date"}
ACCOUNTS = {"attributes": {"seats": "number", "city": "text", "chain": "yes-no", "renewal": "date"}}
#: What is known of companies: much, little that is of another kind than declared, and nothing.
COMPANIES: list[tuple[str, dict[str, Any] | None]] = [
    ("Café", {"seats": 40, "city": "Paris", "chain": True, "renewal": "2026-02-01"}),
    ("Bar", {"seats": 2.5, "city": 5, "chain": False, "undeclared": "Paris"}),
    ("Kiosk", {"seats": "many", "city": None, "renewal": "soon"}),
    ("Stall", None),
    ("Hall", {"seats": 2**53 + 1, "city": ""}),
]
COUNTRIES = ("FR", "BE", "DE")


@pytest.fixture(scope="module")
def shop() -> Shop:
    return read_shop(json.dumps({**SHOP, "attributes": ATTRIBUTES, "accounts": ACCOUNTS}), "flows/shop.yaml")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Customers of every kind: who lack what others have, whose moments stand at the edges of windows."""
    database = Database(database_url, durable=False)
    with database.writing() as connection:
        companies = [(n, "crm", f"a{n}", *one) for n, one in enumerate(COMPANIES, start=1)]
        bulk.insert(connection, accounts, ("id", "source", "external_id", "name", "attributes"), companies)
        ids = range(1, 61)
        columns = ("id", "account_id", "stage", "orders", "spent", "last_order_at", "since")
        bulk.insert(connection, customers, columns, [_customer(n) for n in ids])
        some = [n for n in ids if n % 7]
        rows = [(n, [None, *COUNTRIES][n % 4], _attributes(n), NOW) for n in some]
        bulk.insert(connection, profiles, ("customer_id", "country", "attributes", "updated_at"), rows)
        happened = [event for n in ids for event in _events(n)]
        names = ("id", "customer_id", "source", "key", "name", "digest", "occurred_at", "recorded_at", "payload")
        bulk.insert(connection, events, names, [(k, *event) for k, event in enumerate(happened, start=1)])
        for measure, cuts in segments.divide(connection).items():
            connection.execute(quintiles.insert().values(measure=measure, cuts=list(cuts), made_at=NOW))
    yield database
    database.close()


def _customer(n: int) -> tuple[Any, ...]:
    orders = n % 5
    last = NOW - timedelta(days=n * 3 % 100) if orders else None
    company = 1 + n // 3 % len(COMPANIES) if n % 3 == 0 else None
    return (n, company, [None, "purchase", "loyalty"][n % 3], orders, n * 37 % 400 * 100, last, NOW)


def _attributes(n: int) -> dict[str, Any]:
    held = {
        "plan": ["gold", "silver", "5", 5, None][n % 5],
        "vip": n % 2 == 0,
        "points": n,
        "tags": [["wholesale"], ["wholesale", "late"], "wholesale", []][n % 4],
        "renewal_date": "2026-04-01",
    }
    return {name: value for k, (name, value) in enumerate(held.items()) if n % (k + 3)}


def _events(n: int) -> Iterator[tuple[Any, ...]]:
    for k in range(n % 5):
        at = NOW - timedelta(days=(n * 11 + k * 30) % 120)
        name = "order.paid" if k % 2 == 0 else "ping.one"
        payload = {"order": {"total": n % 90}} if n % 8 else {}
        yield n, "api", f"{n}/{k}", name, b"", at, at, payload


numbers = st.sampled_from(
    ["-1", "0", "1", "2", "3", "2.5", "100", "37.00", "150.01", "9007199254740993", "99999999999999999999", '"a"']
)
lengths = st.sampled_from(["1 day", "30 days", "60 days", "36 hours", "3 months"])
orders = st.sampled_from(["<", "<=", ">", ">="])
comparisons = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
texts = st.sampled_from(["FR", "BE", "purchase", "loyalty", "gold", "5", "", "wholesale", "Café", "\\0", "'", "Paris"])
happenings = st.sampled_from(["order.paid", "ping.one", "order.refunded"])


@st.composite
def past(draw: st.DrawFn, *functions: str) -> str:
    function = draw(st.sampled_from(functions))
    amount = ", order.total" if function == "sum" else ""
    where = draw(st.sampled_from(["", "", ", where=order.total > 40", ", where=not order.total"]))
    within = draw(st.sampled_from(["", f', within="{draw(lengths)}"']))
    return f'{function}("{draw(happenings)}"{amount}{where}{within})'


@st.composite
def moments(draw: st.DrawFn) -> str:
    return draw(
        st.one_of(
            st.sampled_from(
                ["customer.last_order_at", "customer.since", "customer.renewal_date | iso", "account.renewal | iso"]
            ),
            past("last", "first"),
        )
    )


@st.composite
def values(draw: st.DrawFn) -> str:
    named = ["orders", "spent", "points", "stage", "country", "plan", "vip", "id", "phone", "tags", "segments"]
    companies = [f"account.{name}" for name in ("name", "id", "seats", "city", "chain", "renewal", "undeclared")]
    others = [*companies, "account", "rfm.recency", "rfm.monetary"]
    return draw(
        st.one_of(
            st.sampled_from([*(f"customer.{name}" for name in named), *others]),
            st.sampled_from(companies),
            past("count", "sum"),
        )
    )


@st.composite
def leaves(draw: st.DrawFn) -> str:
    kind = draw(st.integers(0, 6))
    quoted = f'"{draw(texts)}"'
    match kind:
        case 0:
            moving = f'{draw(st.sampled_from(["ago", "ahead"]))}("{draw(lengths)}")'
            sides = [draw(moments()), moving]
            return f" {draw(orders)} ".join(sides if draw(st.booleans()) else sides[::-1])
        case 1:
            sides = [draw(values()), draw(st.one_of(numbers, st.just(quoted), values()))]
            return f" {draw(comparisons)} ".join(sides if draw(st.booleans()) else sides[::-1])
        case 2:
            return f'{draw(values())} {draw(st.sampled_from(["in", "not in"]))} ["FR", {quoted}, {draw(numbers)}]'
        case 3:
            return f"{quoted} {draw(st.sampled_from(['in', 'not in']))} {draw(values())}"
        case 4:
            whose = draw(st.one_of(values(), moments()))
            return f"{whose} is {draw(st.sampled_from(['defined', 'missing', 'none', 'not missing']))}"
        case 5:
            return draw(st.one_of(values(), numbers, st.sampled_from(["true", "false", "1 / 0"])))
        case _:
            return f"{draw(numbers)} {draw(orders)} {draw(values())} {draw(comparisons)} {draw(numbers)}"


conditions = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.builds("not ({})".format, inner),
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("({}) or ({})".format, inner, inner),
        st.builds("(({}) if ({}) else ({})) == true".format, inner, inner, inner),
    ),
    max_leaves=6,
)


@pytest.mark.timeout(900 if LONG else 120)
@settings(
    max_examples=4000 if LONG else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(condition=conditions, later=st.sampled_from([0, 0, 1, 20, 31, 61, 200, 4000]))
def test_sql_finds_at_least_whoever_python_does_now_and_after_any_time(
    database: Database, shop: Shop, condition: str, later: int
) -> None:
    segment = _read(condition)
    with database.reading() as connection:
        query = sa.select(customers.c.id).select_from(customers.outerjoin(profiles))
        found = set(connection.execute(query.where(narrowed(segment, shop, NOW, connection.dialect.name))).scalars())
        persons = people.load(connection, range(1, 61))
        known = segments.known(connection, persons, [segment], shop, NOW)
    at = NOW + timedelta(days=later)
    inside = {id_ for id_, one in known.items() if judge(segment, one, one.names(shop), at).is_in}
    note(f"{condition}: {len(found)} found, {len(inside)} in it")
    assert inside <= found


@settings(
    max_examples=2000 if LONG else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(condition=conditions, days=st.floats(0, 200))
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_nobody_moves_before_the_next_look(database: Database, shop: Shop, condition: str, days: float) -> None:
    segment = _read(condition)
    with database.reading() as connection:
        persons = people.load(connection, range(1, 61))
        known = segments.known(connection, persons, [segment], shop, NOW)
    at = NOW + timedelta(days=days)
    for one in known.values():
        now = judge(segment, one, one.names(shop), NOW)
        if now.look_at is None or at < now.look_at:
            assert judge(segment, one, one.names(shop), at).is_in == now.is_in


def _read(condition: str) -> Segment:
    written = {"segments": [{"segment": "one", "about": "One", "when": condition}]}
    return read_segments(json.dumps(written), "flows/segments.yaml")["one"]


@pytest.mark.parametrize(
    ("condition", "share"),
    [
        ("customer.orders >= 4", 0.25),
        ('customer.country == "FR" and customer.spent > 300', 0.15),
        ('count("order.paid", within="30 days") >= 2', 0.3),
        ('customer.last_order_at > ago("10 days")', 0.2),
        ('"late" in customer.tags', 0.3),
        ('account.name == "Bar"', 0.1),
        ('account.city == "Paris"', 0.1),
        ("account.seats >= 30", 0.15),
        ("account.seats > 2 and account.seats < 3", 0.1),
        ("account.chain", 0.15),
        ('account.renewal > "2026"', 0.15),
    ],
)
def test_sql_really_narrows(database: Database, shop: Shop, condition: str, share: float) -> None:
    with database.reading() as connection:
        query = sa.select(sa.func.count()).select_from(customers.outerjoin(profiles))
        where = narrowed(_read(condition), shop, NOW, connection.dialect.name)
        assert connection.execute(query.where(where)).scalar_one() <= 60 * share


@pytest.mark.parametrize("condition", ["customer.orders >= 5000000000", 'count("order.paid") <= 5000000000'])
def test_a_number_that_no_column_can_hold_is_asked_for_none_the_less(
    database: Database, shop: Shop, condition: str
) -> None:
    with database.reading() as connection:
        query = sa.select(sa.func.count()).select_from(customers.outerjoin(profiles))
        where = narrowed(_read(condition), shop, NOW, connection.dialect.name)
        assert connection.execute(query.where(where)).scalar_one() in (0, 60)


def test_fifths_are_of_customers_with_orders_and_those_who_are_equal_share_one(database: Database) -> None:
    with database.reading() as connection:
        divided = segments.divide(connection)
    # 48 of the 60 have orders, 12 each of 1, 2, 3 and 4: the 10th, 20th, 29th and 39th of them.
    assert divided["frequency"] == [1, 2, 3, 4]
    assert divided["monetary"] == sorted(divided["monetary"])
    assert Decimal(len(divided["recency"])) == 4


def test_how_much_one_event_carries_takes_nothing_from_the_others(shop: Shop) -> None:
    segment = _read('count("order.paid", where="gift" in order.tags) == 20')
    payload = {"order": {"tags": ["gift", *map(str, range(9_000))]}}
    happened = [Event(id=n, name="order.paid", occurred_at=NOW, payload=payload) for n in range(20)]
    known = Known(person=person.new(1, NOW), events=happened)

    assert judge(segment, known, known.names(shop), NOW).is_in
