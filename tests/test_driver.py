"""The driver itself: a customer's first sixty days through the real actors, on each database."""

from tests.driver import driving


def test_sixty_days_of_a_first_order_bring_its_mails_in_order(database_url: str) -> None:
    with driving(database_url) as driver:
        driver.post("customer.created", stage="awareness", consent="granted")
        driver.post("order.paid", {"order": {"id": "o1", "total": 40.5, "currency": "EUR"}}, stage="purchase")
        driver.at(days=2)
        driver.post("order.delivered", {"order": {"id": "o1"}})
        driver.at(days=60)

        assert driver.touchpoints() == [
            ("first-order", "thank-you", "sent"),
            ("first-order", "brew-check-in", "sent"),
            ("first-order", "brew-tips", "sent"),
            ("review-request", "review-request", "sent"),
            ("refill", "refill", "sent"),
            ("win-back", "win-back", "sent"),
        ]
