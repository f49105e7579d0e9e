"""A customer who has something of everything on their own page, and friends in every state: for tests of that page."""

from datetime import timedelta
from itertools import count
from typing import Any

from afterglow.letters import me_token
from db import coupons, me, redemptions, referrals
from tests.driver import START, Driver

FRIENDS = """\
programme: friends
kind: referral
about: Five euros for a friend, fifty beans for you
page: https://ember-oak.example/friends
qualifies: {on: order.paid, when: order.total >= 20, hold: 14 days, undone_by: order.refunded}
rewards: {referrer: {programme: beans, points: 50}, referee: {coupon: welcome-5}}
fraud: {deadline: 30 days}
share:
  subject: Coffee I think you would like
  message: "{{ customer.first_name | default('A friend') }} sends you to {{ shop.name }}: {{ link }}"
"""
FILES = {"flows/programmes/friends.yaml": FRIENDS}
MARA = {
    "id": "mara",
    "email": "mara@example.com",
    "first_name": "Mara",
    "last_name": "Lind",
    "timezone": "Europe/Paris",
}


def lived(driver: Driver) -> int:
    """Mara on day 20: points, a tier, a code, five friends of whom one waits for a person. Her number."""
    order(driver, MARA, 340)
    mara = driver.customer("mara")
    with driver.app.writing() as connection:
        now = driver.clock.now()
        coupons.add(connection, "five-off", ["OAK-7Q2M", "OAK-9RTX"], now)
        code = referrals.codes(connection, driver.secret, {mara: frozenset({"friends"})}, now)[mara]["friends"]
    for day, name, total in ((1, "Jo", 45), (2, "Kim", 30), (3, "Lou", 8)):
        driver.at(days=day)
        order(driver, who(name), total, codes=[code])
    order(driver, {**who("Mara"), "id": "lindt", "last_name": "Lindt", "email": "mara1@example.com"}, 60, codes=[code])
    driver.at(days=4)
    driver.post("order.refunded", {"order": {"id": "of-kim"}, "refund": {"amount": 30}}, customer=who("Kim"))
    driver.at(days=16)
    redeem(driver, mara, "five-off", "first")
    order(driver, MARA, 62)
    driver.at(days=20)
    order(driver, who("Pat"), 25, codes=[code])
    driver.at(days=20, hours=1)
    return mara


def go_on(driver: Driver) -> None:
    """Go on an hour after `lived`, in an installation that was opened again: with keys of its own."""
    driver.keys = count(1_000)
    driver.clock.jump(START + timedelta(days=20, hours=2))


def who(name: str) -> dict[str, Any]:
    """A customer of whom nothing but a name and an address is known."""
    return {"id": name.lower(), "email": f"{name.lower()}@{name.lower()}.example", "first_name": name}


def order(driver: Driver, customer: dict[str, Any], total: int, codes: list[str] | None = None) -> None:
    """An order of the shop, perhaps with codes typed in."""
    paid = {"id": f"of-{customer['id']}", "number": "1", "total": total, "currency": "EUR", "items": []}
    if codes:
        paid["codes"] = codes
    elif customer is MARA:
        paid["id"] = f"of-mara-{next(driver.keys)}"
    driver.post("order.paid", {"order": paid}, customer=customer, stage="purchase")


def redeem(driver: Driver, customer_id: int, reward: str, key: str) -> redemptions.Redemption:
    """Buy a reward of the roastery's beans, as the command line does."""
    with driver.app.writing() as connection:
        release, now = driver.app.catalog.current(connection), driver.clock.now()
        return redemptions.redeem(connection, release, customer_id, "beans", reward, key, now)


def path(driver: Driver, customer_id: int) -> str:
    """The address of a customer's own page, below the public one."""
    with driver.app.reading() as connection:
        generation = me.generations(connection, [customer_id]).get(customer_id, 0)
    return f"/me/{me_token(driver.secret, customer_id, generation)}"
