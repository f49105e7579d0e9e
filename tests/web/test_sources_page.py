"""The page Sources: the day of each source as a chart, what waits and why, and webhooks read once more."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from db import reception
from db.privacy import forget
from db.tables import events, inbox
from tests.driver import Driver, driving
from tests.web.test_pages import Elements, Site, links_of, text_of
from web.app import Faces
from web.pages.sources import HEIGHT, bars

PAID = b'{"type":"order.paid","data":{"customer":{"id":"c1","email":"sam@example.com"},"order":{"id":"o1"}}}'
PING = b'{"type":"afterglow.ping"}'
REFUND = b'{"id": 1, "order_id": 2, "created_at": "2026-03-02T08:00:00Z", "transactions": [{"kind": "refund", "status": "success", "amount": "1.00", "currency": "EUR"}]}'  # fmt: skip  # noqa: E501


@pytest.fixture
def site(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("GENERIC_WEBHOOK_SECRET", "SHOPIFY_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with driving(database_url) as driver:
        faces = Faces(driver.app)
        try:
            yield Site(driver, faces)
        finally:
            faces.close()


def came_in(driver: Driver) -> None:
    """One of each fate."""
    driver.receive("generic", "k1", PAID, headers={"webhook-id": "k1"})
    driver.receive("generic", "k2", PING, headers={"webhook-id": "k2"})
    driver.receive("generic", "k3", b"{", headers={"webhook-id": "k3"})
    driver.receive("generic", "k4", b"{", headers={"webhook-id": "k4"})
    driver.receive("shopify", "k5", REFUND, headers={"x-shopify-topic": "refunds/create"})


def states(driver: Driver) -> dict[str, str]:
    return dict(driver.rows(sa.select(inbox.c.key, inbox.c.state)))  # type: ignore[arg-type]


def received(driver: Driver) -> reception.Receptions:
    with driver.app.reading() as connection:
        return reception.receptions(connection, driver.clock.now())


def test_a_source_is_shown_with_its_day_and_what_waits(site: Site) -> None:
    came_in(site.driver)

    told = text_of(site.get("/sources"))

    assert "generic" in told
    assert "/hooks/generic" in told
    assert "last received just now" in told
    assert "1 mapped" in told.replace("mapped 1", "1 mapped")
    day = received(site.driver).of("generic")
    assert (day.of_the_day("mapped"), day.of_the_day("ignored"), day.of_the_day("parked")) == (1, 1, 2)
    assert list(day.parked.values()) == [2]
    assert next(iter(day.parked)).rstrip(".") in told
    assert received(site.driver).of("shopify").awaiting == 1
    assert received(site.driver).of("stripe") == reception.Reception()


def test_hours_are_counted_where_they_belong_and_yesterday_is_not(site: Site) -> None:
    driver = site.driver
    start = driver.clock.now()
    for n, hours in enumerate((0, 1, 1, 23)):
        driver.clock.jump(start + timedelta(hours=hours))
        driver.receive("generic", f"k{n}", PING, headers={"webhook-id": f"k{n}"})

    hours = received(driver).of("generic").hours

    assert {n: hour.ignored for n, hour in enumerate(hours) if hour.total} == {0: 1, 1: 2, 23: 1}
    driver.clock.jump(start + timedelta(hours=24))
    assert sum(hour.total for hour in received(driver).of("generic").hours) == 3
    assert received(driver).of("generic").last_at == start + timedelta(hours=23)


def test_what_nobody_connected_stands_apart_with_the_variable_to_set(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = text_of(site.get("/sources"))
    assert "Nothing is connected yet." in told
    assert "STRIPE_WEBHOOK_SECRET" in told

    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", "whsec_1")
    assert "STRIPE_WEBHOOK_SECRET" not in text_of(site.get("/sources"))

    came_in(site.driver)
    assert "No secret is set here" in text_of(site.get("/sources"))


def test_every_figure_leads_to_as_many_webhooks(site: Site) -> None:
    came_in(site.driver)
    page = site.get("/sources")
    for state, number in (("mapped", 1), ("ignored", 1), ("parked", 2), ("awaiting", 0)):
        path = f"/webhooks?state={state}&source=generic"
        assert path in links_of(page)
        listed = [link for link in links_of(site.get(path)) if link.startswith("/webhooks/")]
        assert len(set(listed)) == number, state


def test_parked_webhooks_of_one_source_are_read_again_at_the_press_of_a_button(site: Site) -> None:
    came_in(site.driver)
    site.driver.receive("api", "other", b"{")

    told = text_of(site.press("/webhooks/retry", all="parked", source="generic"))

    assert "read again" in told
    assert (states(site.driver)["k3"], states(site.driver)["other"]) == ("received", "parked")
    site.driver.drain()
    assert "Nothing was waiting" in text_of(site.press("/webhooks/retry", all="parked", source="stripe"))


def test_a_replay_repeats_nothing_and_stays_its_customers(site: Site) -> None:
    came_in(site.driver)
    (before,) = site.driver.rows(sa.select(inbox).where(inbox.c.key == "k1"))
    touchpoints = site.driver.touchpoints()

    told = text_of(site.press("/webhooks/replay", id=before[0]))

    assert "not repeated" in told
    assert states(site.driver)["k1"] == "received"
    site.driver.drain()
    state, reason, customer = site.driver.rows(
        sa.select(inbox.c.state, inbox.c.reason, inbox.c.customer_id).where(inbox.c.key == "k1")
    )[0]
    assert (state, "repeat" in reason) == ("mapped", True)
    assert site.driver.rows(sa.select(sa.func.count()).select_from(events)) == [(1,)]
    assert site.driver.touchpoints() == touchpoints
    with site.driver.app.writing() as connection:
        forget(connection, customer, site.driver.clock.now(), site.driver.secret)
    assert site.driver.rows(sa.select(inbox.c.body).where(inbox.c.key == "k1")) == [(b"",)]
    assert "gone" in text_of(site.press("/webhooks/replay", id=before[0]))


def test_a_replay_by_a_changed_file_is_parked_as_a_conflict(site: Site) -> None:
    came_in(site.driver)
    site.driver.apply(
        {"flows/sources/generic.yaml": lambda text: text.replace("id: body.data.customer.id", "id: body.type")}
    )
    site.press("/webhooks/replay", id=1)
    site.driver.drain()

    assert states(site.driver)["k1"] == "parked"
    assert "conflict" in text_of(site.get("/webhooks/1"))


def test_a_replay_of_nothing_changes_nothing(site: Site) -> None:
    for id_ in ("", "x", "999"):
        answer = site.ask("POST", "/webhooks/replay", data={"id": id_}, headers={"origin": "http://localhost:8001"})
        assert answer.status_code == 303, id_


def test_long_names_reasons_and_sources_without_a_file_are_only_text(site: Site) -> None:
    site.driver.receive("<script>alert(1)</script>", "k", b"{")

    page = site.get("/sources")

    assert "<script>alert" not in page
    assert "alert(1)" in text_of(page)


def hours_of(**counts: Any) -> list[reception.Hour]:
    hours = [reception.Hour() for _ in range(reception.HOURS)]
    hours[5] = reception.Hour(**counts)
    return hours


def test_a_bar_is_as_high_as_its_share_and_nothing_of_it_is_lost() -> None:
    hours = hours_of(mapped=1000, parked=1)
    hours[6] = reception.Hour(ignored=500)

    chart = bars(hours, [f"{n:02}:00" for n in range(24)])

    mapped, parked = chart[5].blocks
    assert parked.height >= 1.5  # one among a thousand is seen
    assert chart[6].blocks[0].height == pytest.approx((HEIGHT - 6) / 1001 * 500, abs=0.01)
    assert all(block.y >= 0 and block.y + block.height <= HEIGHT for bar in chart for block in bar.blocks)
    assert (mapped.kind, parked.kind) == ("mapped", "parked")
    assert chart[5].told == "from 05:00: 1,000 mapped, 1 parked"
    assert chart[0].told == "from 00:00: nothing"
    assert chart[0].blocks == ()


def test_a_day_without_webhooks_is_an_empty_chart() -> None:
    assert all(not bar.blocks for bar in bars(hours_of(), [""] * 24))


def test_the_chart_says_in_words_what_it_shows(site: Site) -> None:
    came_in(site.driver)
    (chart,) = [a for tag, a in Elements(site.get("/sources")).elements if tag == "svg" and "generic" in (a.get("aria-label") or "")]  # fmt: skip  # noqa: E501
    assert chart["role"] == "img"
    assert "4 webhooks of generic" in (chart["aria-label"] or "")
