"""Orders a second that `ingest` takes in with points, tiers and referrals, every award on one programme.

Two worker processes empty an inbox of Shopify orders of customers who buy eight times and rise a tier, one in ten
brought by a friend's code. Beside it, in the same run: the same orders in the same shop without a programme, and with
one budget on which every award counts.
"""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from benchmarks import advance, intake, rig
from benchmarks.spine import lean_shop
from db import bulk
from db.tables import customers, inbox, ledger_transactions, memberships, referral_codes, referrals

ORDERS, FRIENDS = 20_000, 100
CUSTOMERS = ORDERS // 8

#: What the roastery's programme asks of an order, and of a friend.
FRIENDSHIP = """
programme: friends
kind: referral
about: Give 10, get 10
page: https://ember-oak.example/friends
attribution: {by: [code, discount, landing, click], window: 30 days, touch: first}
qualifies: {on: order.paid, when: order.total >= 20, first_purchase: true, hold: 14 days, undone_by: order.refunded}
rewards:
  referrer: {programme: beans, points: 500}
  referee: {programme: beans, points: 500}
caps: {referrer: 10, per: month}
fraud: {review_from: 40, reject_from: 90, on_deadline: hold, deadline: 14 days}
"""
#: A row that every award of the programme counts on.
BUDGET = "\nbudget: {points: 100000000, per: year}\n"


def run() -> dict[str, Any]:
    """Orders a second, with programmes and without."""
    shop = lean_shop()
    beans = {"flows/programmes/beans.yaml": rig.shop_files()["flows/programmes/beans.yaml"]}
    with rig.postgresql() as url:
        without = _orders_per_s(url, shop)
    with rig.postgresql() as url:
        points = _orders_per_s(url, shop | beans)
    with rig.postgresql() as url:
        budgeted = _orders_per_s(url, shop | {path: text + BUDGET for path, text in beans.items()})
    with rig.postgresql() as url:
        everything = _orders_per_s(url, shop | beans | {"flows/programmes/friends.yaml": FRIENDSHIP})
        counts = _counts(url)
    return {
        "orders": ORDERS,
        "without_a_programme_per_s": round(without),
        "with_points_and_tiers_per_s": round(points),
        "with_one_budget_for_all_per_s": round(budgeted),
        "with_points_tiers_and_referrals_per_s": round(everything),
        **counts,
        "ratio": round(everything / without, 2),
    }


def _orders_per_s(url: str, files: dict[str, str]) -> float:
    rig.prepare(url, files)
    app = rig.open_(url)
    now = datetime.now(UTC)
    with app.writing() as connection:
        ids = bulk.next_ids(connection, customers, FRIENDS)
        bulk.insert(connection, customers, ("id", "orders", "spent", "since"), [(id_, 1, 4000, now) for id_ in ids])
        bulk.insert(
            connection,
            referral_codes,
            ("programme", "customer_id", "code", "made_at"),
            [("friends", id_, _code(n), now - timedelta(days=90)) for n, id_ in enumerate(ids)],
        )
        bulk.insert(
            connection,
            inbox,
            ("source", "key", "digest", "state", "received_at", "headers", "body"),
            [_webhook(n, now) for n in range(ORDERS)],
        )
    rig.analyze(app)
    app.close()
    outcomes = rig.together([(advance.take_in, (url,)), (advance.take_in, (url,))])
    return ORDERS / max(took for _, took in outcomes)


def _code(number: int) -> str:
    return f"FRIEND-{number:04}"


def _webhook(number: int, now: datetime) -> bulk.Row:
    customer = number % CUSTOMERS
    order = json.loads(intake.body(customer)) | {"id": 5_000_000_000 + number, "name": f"#{number}"}
    if number < CUSTOMERS and number % 10 == 0:
        order["discount_codes"] = [{"code": _code(number % FRIENDS), "amount": "10.00", "type": "fixed_amount"}]
    key = f"orders/paid/{number}"
    headers = {"x-shopify-topic": "orders/paid"}
    return "shopify", key, sha256(key.encode()).digest(), "received", now, headers, json.dumps(order).encode()


def _counts(url: str) -> dict[str, int]:
    app = rig.open_(url)
    with app.reading() as connection:
        tables = {"entries_of_the_ledger": ledger_transactions, "referrals": referrals, "memberships": memberships}
        counts = {
            name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for name, table in tables.items()
        }
    app.close()
    return counts


if __name__ == "__main__":
    rig.show(run())
