"""Programme files: what is read, what is refused, and what does not fit the rest of the shop."""

import json
from typing import Any

import jsonschema_rs
import pytest

from afterglow import strict_yaml
from afterglow.durations import Duration
from afterglow.language.catalog import compile_files, read_documents, read_programme
from afterglow.language.check import check_files
from afterglow.language.programme import Expiry, Hold, Limit, Programme, read_loyalty
from afterglow.language.schema import json_schemas
from afterglow.problems import Problems
from tests.small_shop import SHOP

FILE = "flows/programmes/beans.yaml"

WHOLE = """\
programme: beans
kind: loyalty
about: Points for coffee, spent on coffee
asset: points
earn:
  - id: per-euro
    on: order.paid
    when: order.total >= 5
    points: 1
    per: 1
    amount: order.total
    times:
      - {tier: gold, by: 1.5}
      - {from: 2026-11-20, until: 2026-11-30, by: 2}
      - {when: customer.vip, by: 1.2}
    at_most: {points: 500, per: month}
  - id: ping
    on: ping.one
    points: 50
    first_time: true
hold: {until: ping.two, at_most: 30 days}
expires: {after: 12 months, end_of: month}
refunds: {on: order.refunded, amount: refund.amount, policy: within_balance}
budget: {points: 100000, per: month}
tiers:
  by: points
  over: rolling 12 months
  grace: 30 days
  levels:
    - {tier: bronze, from: 0}
    - {tier: gold, from: 1000}
rewards:
  - {id: five-off, about: 5 euros off, costs: 500, gives: {coupon: five-off}}
  - {id: credit, about: Store credit, costs: 100, gives: {credit: 1.00}}
"""


def files(programme: str = WHOLE, **more: Any) -> dict[str, str]:
    """The small shop's files with one programme."""
    stages = json.dumps({"stages": [{"stage": "purchase"}]})
    return {"flows/shop.yaml": json.dumps({**SHOP, **more}), "flows/stages.yaml": stages, FILE: programme}


def problems_of(programme: str) -> list[str]:
    return [problem.message for problem in check_files(files(programme))]


def test_a_whole_programme_is_read():
    programme = read_loyalty(WHOLE, FILE)

    per_euro, ping = programme.earn
    assert (per_euro.points, per_euro.per, per_euro.at_most) == (1, 1, Limit(points=500, per="month"))
    assert [str(times.by) for times in per_euro.multipliers] == ["1.5", "2", "1.2"]
    assert ping.per is None
    assert ping.first_time
    assert programme.hold == Hold(at_most=Duration(days=30), until="ping.two")
    assert programme.expiry == Expiry(after=Duration(months=12), end_of="month", inactive=None)
    assert programme.tiers is not None
    assert programme.tiers.names == ("bronze", "gold")
    assert programme.tiers.one_step
    assert str(programme.rewards["credit"].credit) == "1.00"
    assert programme.events == {"order.paid", "ping.one", "ping.two", "order.refunded"}


def test_a_programme_comes_into_force_with_the_release():
    documents = {(one.kind, one.name): one.body for one in compile_files(files())}

    catalog = read_documents(documents)

    assert documents["programme", "beans"] == WHOLE
    assert list(catalog.loyalty) == ["beans"]
    assert not catalog.referrals
    assert not check_files(files())


def test_the_kind_of_a_programme_is_said_in_its_file():
    text = "programme: friends\nkind: referral\nabout: Give 10, get 10\n"
    assert not isinstance(_read_or_none(text), Programme)
    with pytest.raises(Problems, match="Did you mean 'loyalty'"):
        read_programme(WHOLE.replace("kind: loyalty", "kind: loyalti"), FILE)


def _read_or_none(text: str) -> object:
    try:
        return read_programme(text, FILE)
    except Problems:
        return None


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("id: ping", "id: per-euro", "Two rules are called 'per-euro'"),
        ("    amount: order.total\n", "", "`per` counts money"),
        ("until: 2026-11-30", "until: 2026-11-20", "ends before it begins"),
        ("{after: 12 months, end_of: month}", "{after: 1 year, inactive: 1 year}", "give one of the two"),
        ("{after: 12 months, end_of: month}", "{inactive: 1 year, end_of: month}", "`end_of` goes with `after`"),
        ("after: 12 months", "after: 30 days", "expire before they can be spent"),
        ("{tier: bronze, from: 0}", "{tier: bronze, from: 1}", "begins at 0"),
        ("from: 1000", "from: 0", "lowest first"),
        ("from: 1000", "from: 10.5", "whole numbers"),
        ("tier: gold, from: 1000", "tier: bronze, from: 1000", "Two tiers are called 'bronze'"),
        ("{credit: 1.00}", "{credit: 1.00, perk: tasting}", "one of the three"),
        ("grace: 30 days", "grace: a while", "is not a duration"),
        ("order.total >= 5", "order.total >=", ""),
        ("by: 1.5", "by: 1", "more than 1"),
        ("points: 50\n", "points: 0\n", "at least 1"),
    ],
)
def test_a_slip_in_a_programme_is_refused_in_one_sentence(old: str, new: str, sentence: str):
    assert old in WHOLE
    with pytest.raises(Problems) as refused:
        read_loyalty(WHOLE.replace(old, new, 1), FILE)
    assert len(refused.value.problems) == 1
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("on: ping.one", "on: pong.one", "No source brings an event 'pong.one'. Did you mean 'ping.one'?"),
        ("until: ping.two", "until: ping.too", "No source brings an event 'ping.too'. Did you mean 'ping.two'?"),
        ("on: order.refunded", "on: order.refund", "Did you mean 'order.refunded'?"),
        ("on: ping.one", "on: points.earned", "Points that earn points"),
        ("amount: refund.amount", "amount: customer.points", "an amount is what the event itself says"),
        ("amount: refund.amount", "amount: order.id", "'order.id' is text, and an amount is a number."),
        ("when: order.total >= 5", "when: order.totl >= 5", "order.paid does not supply 'order.totl'."),
        ("when: customer.vip", "when: customer.email", "conditions read no addresses"),
        ("tier: gold, by", "tier: golden, by", "There is no tier 'golden' in this programme. Did you mean 'gold'?"),
        ("    amount: order.total\n", "    items: item.sku\n", "supplies no list 'order.items'"),
    ],
)
def test_what_does_not_fit_the_rest_of_the_shop_is_told(old: str, new: str, sentence: str):
    assert old in WHOLE
    (problem,) = problems_of(WHOLE.replace(old, new, 1))
    assert sentence in problem


def test_a_rule_for_items_reads_the_entries_of_the_order():
    events = {**SHOP["events"], "order.paid": {"order.id": "text", "order.total": "number"}}
    events["order.paid"] |= {"order.items[].sku": "text", "order.items[].price": "number"}
    rule = WHOLE.replace("    amount: order.total\n", '    items: item.skew == "B"\n    amount: item.price\n')

    (problem,) = check_files(files(rule, events={**events, "order.refunded": SHOP["events"]["order.refunded"]}))

    assert "'item.skew'" in problem.message


def test_the_file_has_the_name_of_its_programme():
    named = {**files(), "flows/programmes/beens.yaml": WHOLE}
    assert any("make them equal" in problem.message for problem in check_files(named))


def test_our_own_events_are_known_to_flows():
    flow = """\
flow: points-expire
about: Say that points expire
status: live
starts: {event: points.expiring, when: points >= 100}
steps:
  - stop: true
"""
    assert not check_files({**files(), "flows/points-expire.yaml": flow})


def test_the_schema_takes_programmes_of_either_kind_and_refuses_slips():
    schema = json_schemas()["programme"]
    whole = strict_yaml.load(WHOLE, FILE).data
    assert jsonschema_rs.is_valid(schema, _plain(whole))
    assert not jsonschema_rs.is_valid(schema, {**_plain(whole), "erns": []})


def _plain(data: Any) -> Any:
    return json.loads(json.dumps(data, default=str))
