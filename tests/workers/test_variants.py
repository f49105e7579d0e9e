"""Variants of rewards from the mail that names one to the report of what each brought."""

import csv
import io
import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from ruamel.yaml import YAML

from afterglow import letters
from afterglow.letters import Addressed, Letterhead
from db.tables import contexts, referral_rewards, referrals
from tests.driver import Driver
from tests.small_shop import flow, small
from tests.workers.test_cli import Afterglow, afterglow
from tests.workers.test_referring import ANN, code, order, put, refund

__all__ = ["afterglow"]

TWO = """\
programme: friends
kind: referral
about: Give 10, get 10, or give 15, get 5
qualifies: {on: order.paid, hold: 14 days, undone_by: order.refunded}
rewards:
  variants:
    - {variant: ten-ten, referrer: {coupon: ten}, referee: {coupon: ten}}
    - {variant: fifteen-five, referrer: {coupon: fifteen}, referee: {coupon: five}}
"""


@pytest.fixture
def driver(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """Ann and Cid have codes and offer different variants; Bob came by Ann's, and sent half of his order back."""
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    with small(database_url) as installation:
        put(installation, TWO)
        for number in range(6):
            installation.post("ping.one", customer=ANN | {"id": f"c{number}", "email": f"c{number}@example.com"})
        yield installation


def who(driver: Driver, variant: str) -> str:
    """The first customer who offers a variant."""
    with driver.app.reading() as connection:
        programme = driver.app.catalog.current(connection).catalog.referrals["friends"]
    return next(f"c{n}" for n in range(6) if programme.variant_of(driver.customer(f"c{n}")) == variant)


def test_a_referral_brings_what_its_referrers_variant_says_and_says_which(driver: Driver, afterglow: Afterglow):
    order(driver, codes=[code(driver, who(driver, "fifteen-five"))])
    driver.at(days=15)

    w = referral_rewards.c
    assert driver.rows(sa.select(w.side, w.coupon).order_by(w.id)) == [("referrer", "fifteen"), ("referee", "five")]
    assert "rewarded; variant fifteen-five." in " ".join(afterglow("referrals", "explain", 1)[1].split())


def test_what_was_offered_holds_although_the_file_changes_and_a_variant_that_is_gone_gives_way(driver: Driver):
    order(driver, codes=[code(driver, who(driver, "fifteen-five"))])
    put(driver, TWO.replace("ten-ten,", "ten-ten, weight: 1000,"))
    driver.at(days=15)
    assert driver.rows(sa.select(referrals.c.variant)) == [("fifteen-five",)]

    driver.post("ping.one", {"referral": {"code": code(driver, who(driver, "ten-ten"))}}, customer=ANN)
    put(driver, TWO.replace("ten-ten", "twelve-twelve"))
    order(driver, ANN, id_="o2")
    variants = driver.rows(sa.select(referrals.c.variant).order_by(referrals.c.id))
    assert variants[1] == ("twelve-twelve",)


def test_the_report_counts_by_variant_and_says_where_there_is_too_little(driver: Driver, afterglow: Afterglow):
    order(driver, codes=[code(driver, who(driver, "ten-ten"))], total=40)
    code(driver, who(driver, "fifteen-five"))
    driver.at(days=15)
    refund(driver, 15)

    said = json.loads(afterglow("referrals", "variants", "friends", "--format", "json")[1])
    first, second = said["variants"]
    counted = ("variant", "referrers", "successful", "referred", "rewarded")
    assert [first[name] for name in counted] == ["ten-ten", 1, 1, 1, 1]
    assert (first["revenue"], first["revenue_each"], first["cost"], first["says"]) == (2500, 2500, {"coupon": 2}, None)
    assert (second["referrers"], second["referred"], second["says"]) == (1, 0, "too few to tell")
    [row, _] = csv.DictReader(io.StringIO(afterglow("referrals", "variants", "friends", "--format", "csv")[1]))
    assert (row["variant"], row["revenue"], row["coupons"]) == ("ten-ten", "25.00", "2")
    assert "fifteen-five beside ten-ten: too few to tell." in afterglow("referrals", "variants", "friends")[1]


def test_an_unknown_programme_is_said(driver: Driver, afterglow: Afterglow):
    status, _, error = afterglow("referrals", "variants", "freinds")

    assert (status, "Did you mean 'friends'?" in " ".join(error.split())) == (1, True)


def test_a_mail_names_the_customers_own_variant(database_url: str):
    invite = flow("invite", [{"send": "email/offer"}], starts={"event": "ping.one"}, once_per="customer.id")
    with small(database_url, invite, programmes=(json.dumps(YAML(typ="safe").load(TWO)),)) as driver:
        for number in range(6):
            customer = ANN | {"id": f"c{number}", "email": f"c{number}@example.com"}
            driver.post("ping.one", customer=customer, consent="granted")

        with driver.app.reading() as connection:
            release = driver.app.catalog.current(connection)
        programme = release.catalog.referrals["friends"]
        stored = driver.rows(sa.select(contexts.c.customer_id, contexts.c.facts))
        assert len(stored) == 6
        for customer_id, facts in stored:
            assert facts["variants"] == {"friends": programme.variant_of(customer_id)}
        head = Letterhead(
            shop=release.catalog.shop, public_url="https://p", private_url="http://q", secret=driver.secret
        )
        mail = release.catalog.mails["email/offer"]
        to = Addressed(touchpoint_id=1, customer_id=stored[0][0], kind="marketing", topic="care")
        assert f"Offer: {programme.variant_of(stored[0][0])}" in letters.render(mail, stored[0][1], head, to).text
