"""A small shop with something of everything that pages show: for the tests of pages, in HTTP and in a browser."""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from db import leaderboards
from db.leaderboards import Change
from db.tables import customers, enrollments, halts, touchpoints
from tests.driver import Driver

#: Names that try to be more than text.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "'); alert(3); //",
    "</title></style></textarea><svg onload=alert(4)>",
    "{{ 7 * 7 }}<iframe srcdoc='<script>alert(5)</script>'>",
    "javascript:alert(6)",
)


def order(driver: Driver, n: int, *, consent: str | None = "granted", **profile: Any) -> dict[str, Any]:
    """A customer `c<n>` who orders `o<n>` now."""
    who = {"id": f"c{n}", "email": f"person{n}@example.com", "first_name": f"Sam{n}", "timezone": "Europe/Paris"}
    who |= profile
    driver.post("customer.created", customer=who, consent=consent, stage="consideration")
    paid = {"id": f"o{n}", "number": f"#{n}", "total": 40, "currency": "EUR", "items": [{"title": "Roast"}]}
    driver.post("order.paid", {"order": paid}, stage="purchase", customer=who)
    return who


def lived_in(driver: Driver) -> None:
    """Three customers: one with a whole story, one who agreed to nothing, one with a hostile name."""
    order(driver, 1)
    order(driver, 2, consent=None)
    order(driver, 3, first_name=HOSTILE[0], last_name=HOSTILE[1])
    driver.at(days=1)
    for n in (1, 2):
        driver.post("order.delivered", {"order": {"id": f"o{n}"}}, customer={"id": f"c{n}"})
    driver.at(days=6)
    driver.post("survey.answered", {"score": 1, "survey": "answer"}, customer={"id": "c1"})
    driver.at(days=7)


def troubled(driver: Driver) -> None:
    """One of each thing that needs a person."""
    driver.receive("api", "not-json", b"{")
    now = driver.clock.now()
    t, e = touchpoints.c, enrollments.c
    with driver.app.writing() as connection:
        sent = list(connection.execute(sa.select(t.id).where(t.state == "sent").order_by(t.id).limit(2)).scalars())
        for id_, state, reason in zip(
            sent, ("in_doubt", "failed"), ("silence", "'order.total' is missing"), strict=True
        ):
            connection.execute(
                touchpoints.update().where(t.id == id_).values(state=state, reason=reason, settled_at=now)
            )
        waiting = list(
            connection.execute(sa.select(e.id).where(e.state == "waiting").order_by(e.id).limit(2)).scalars()
        )
        connection.execute(
            enrollments.update().where(e.id == waiting[0]).values(state="parked", due_at=None, reason="it failed")
        )
        connection.execute(enrollments.update().where(e.id == waiting[1]).values(due_at=now - timedelta(hours=1)))
        connection.execute(halts.insert().values(flow="win-back", at=now, by="ana"))


def placed(driver: Driver) -> None:
    """Everybody stands somewhere on the leaderboards of a programme, this month and last."""
    now = driver.clock.now()
    with driver.app.writing() as connection:
        people = sorted(connection.execute(sa.select(customers.c.id)).scalars())
        changes = [
            Change(programme="friends", metric=metric, customer_id=who, delta=1 + (who * n) % 7, at=now - timedelta(n))
            for who in people
            for metric in ("referrals", "revenue")
            for n in (1, 35)
        ]
        calendar = driver.app.catalog.current(connection).catalog.shop.calendar
        leaderboards.record(connection, changes, calendar, now)
