"""A file with many mistakes is told all of them at once, each at its place, and what was probably meant."""

import pytest

from afterglow.language.check import check_files
from tests.checked_shop import FILES

FLOW = """\
flow: first-order
about: Ten mistakes
status: live
starts: {event: order.payed}
once_per: customer.id
reenter: after 30 dayz
goal: {event: order.paid, within: 60 day z}
holdout: 80%
quiet_hours: {from: "25:00", to: "09:00"}
caps: [{at_most: 0, within: 7 days}]
only_if: not customer.open_tickt
steps:
  - id: weekend
    until: {weekday: saturdy, at: "10:00"}
  - id: day
    until: customer.birthday
    offset: -30 days
  - id: tip
    split:
      - {weight: 2, name: a, steps: [{send: email/thanks}]}
      - {wieght: 1, name: b}
  - wiat: 3 days
    id: pause
  - id: again
    wait: 3 days
    at: "10:60"
  - stop: true
  - send: email/check-in
"""
SHOP = """\
name: Ember
url: ember.example
sender: {name: Ember, adress: hello@ember.example}
postal_address: 1 Yard
currency: EURO
timezone: Europe/Pariss
review_url: https://ember.example/reviews
links: {guide: https://ember.example/guide}
topics: {coffee-care: {lable: Care}, news: {label: News}}
teams: {customer-care: {address: care-at-ember}}
priority: [first-ordre]
quiet_hours: {from: "21:00", to: "09:00"}
caps: [{at_most: two, within: 7 days}]
holdout: 5
attributes: {open_ticket: yes-no, points: numbr, birthday: date}
events: {tasting.booked: {tasting.at: dat, tasting.seats: number}}
owners: {order: tll}
"""
SOURCE = """\
source: till
auth: {scheme: standard_webhoks, secrets: [TILL_SECRET]}
key: body.id |
evnts: []
events:
  - when: body.type = "paid"
    event: Order Paid
    stage: purchse
    customer: {id: body.customer | lowr}
    payload:
      order:
        id: body['order
        total: body.total | number(2)
        paid_at: body.at | ios
  - when: body.type == "delivered"
    evnt: order.delivered
    customer: {idd: body.customer}
    payload: {order: {id: [1, 2]}}
"""
PROGRAMME = """\
programme: bean
kind: loyalty
about: Points
asset: 7 beans
earn:
  - id: per-euro
    on: order.payed
    amount: order.totl
    points: -1
    per: 1
    round: dwn
    times:
      - {tier: regualr, by: 1.2}
  - id: per-euro
    on: review.posted
    points: 20
    at_most: {points: 60, per: yaer}
hold: 14 dys
expires: {after: 12 months, end_of: week}
refunds: {on: order.refunded, amount: refund.amount, policy: within-balance}
tiers:
  by: points
  over: rolling 12 mnths
  downgrade: one step
  grace: 30 days
  levels:
    - {tier: guest, from: 0}
    - {tier: regular, from: 250}
rewards:
  - {id: five-off, about: 5 euros off your next order, costs: 0, gives: {coupon: five-of}}
colour: red
"""

SEGMENTS = """\
segments:
  - segment: Regulars
    about: Three orders
    when: count("order.payed", within="90 days") >= 3
  - segment: late
    abuot: Nothing for two months
    when: customer.last_order_at < ago("60 dayz")
  - segment: complaining
    about: Somebody should talk to them
    when: customer.open_tickt
  - segment: complaining
    about: Twice
    when: customer.email == "sam@example.com"
    persona: {nmae: Rita}
  - segment: big-baskets
    about: Orders above 50
    when: sum("order.paid", order.totl, within="90 days") > 300
    persona: {name: Rita, picture: rita.gif}
  - segment: Best Ones
    about: The fifth that spent most
    when: rfm.monetry == 5
  - segment: frequent
    about: More than one order
    when: cuont("order.paid") > 1
  - segment: orderly
    about: Three orders
    when: customer.orders > "3"
  - segment: large
    about: Of large companies
    when: account.seats >= 30
  - segment: again
    about: In another segment
    when: '"late" in customer.segments'
colour: red
"""

#: What stands wrong, by line, and what is said to be meant where something is near.
MISTAKES = {
    "flows/first-order.yaml": (
        FLOW,
        {
            4: "order.paid", 6: "days", 7: None, 8: None, 9: None, 10: None, 11: "customer.open_ticket", 14: "saturday",
            15: None, 21: "weight", 22: "wait", 26: None,
        },
    ),
    "flows/shop.yaml": (
        SHOP,
        {
            3: "address", 5: None, 6: "Europe/Paris", 9: "label", 11: "first-order", 13: None, 14: None,
            15: "number", 16: "date", 17: "till",
        },
    ),
    "flows/sources/till.yaml": (
        SOURCE,
        {
            2: "standard_webhooks", 3: None, 4: "events", 6: None, 7: None, 9: "lower", 12: None, 13: None, 14: "iso",
            16: "event", 17: None, 18: None,
        },
    ),
    "flows/programmes/beans.yaml": (
        PROGRAMME,
        {
            4: None, 7: "order.paid", 9: None, 11: "down", 14: None, 15: None, 17: "year", 18: "days", 19: None,
            20: "within_balance", 23: "rolling 12 months", 30: None, 31: None,
        },
    ),
    "flows/segments.yaml": (
        SEGMENTS,
        {
            2: None, 4: "order.paid", 6: "about", 7: "days", 10: "customer.open_ticket", 11: None, 13: None, 14: "name",
            17: "order.total", 18: None, 19: None, 21: "rfm.monetary", 24: "count", 27: None, 30: None, 33: None,
            34: None,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("file", MISTAKES)
def test_every_mistake_of_a_file_is_told_at_once_with_what_was_meant(file):
    text, mistakes = MISTAKES[file]

    found = [problem for problem in check_files(FILES | {file: text}) if problem.file == file]

    assert len(mistakes) >= 10
    assert sorted({problem.line for problem in found}) == sorted(mistakes)
    lines = text.split("\n")
    for problem in found:
        assert 1 <= problem.col <= len(lines[problem.line - 1])
    for line, meant in mistakes.items():
        if meant is not None:
            assert any(f"Did you mean '{meant}'?" in problem.message for problem in found if problem.line == line)
