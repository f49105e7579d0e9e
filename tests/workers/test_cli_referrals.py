"""`afterglow referrals`: who brought whom, what waits for a look, and why."""

import json
from collections.abc import Iterator

import pytest

from tests.driver import Driver
from tests.workers.test_cli import Afterglow, afterglow
from tests.workers.test_referring import ANN, FRIENDS, code, order, put, shop, states

__all__ = ["afterglow"]


@pytest.fixture
def driver(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """Bob ordered with Ann's code, and paid with her card."""
    monkeypatch.setenv("AFTERGLOW_DATABASE_URL", database_url)
    with shop(database_url, FRIENDS.replace("hold:", "first_purchase: false, hold:")) as installation:
        order(installation, ANN, id_="o0", paid_with="card 1")
        order(installation, codes=[code(installation)], paid_with="CARD-1")
        yield installation


def test_what_waits_for_a_look_is_listed_with_what_speaks_against_it(driver: Driver, afterglow: Afterglow):
    status, told, _ = afterglow("referrals", "review")

    assert status == 0
    assert "Referral 1 (friends): customer 1 brought 2; a person is to look, until 2026-03-16" in " ".join(told.split())
    assert "The means of payment is shared with 1 other(s)" in told
    assert "afterglow referrals approve 1 --reason WHY" in told
    [one] = json.loads(afterglow("referrals", "review", "--json")[1])
    assert one["because"]["evidence"]["rules"] == {"same-payment": {"weight": 50, "customers": 1}}


def test_approving_and_rejecting_say_what_follows_and_who_decided(driver: Driver, afterglow: Afterglow):
    assert "Referral 1 is rewarded on 20" in afterglow("referrals", "approve", 1, "--reason", "a couple")[1]
    assert states(driver) == ["qualified"]
    assert "Referral 1 is rejected." in afterglow("referrals", "reject", 1, "--reason", "no", "--author", "mia")[1]

    told = " ".join(afterglow("referrals", "explain", 1)[1].split())
    assert "Referral 1 of friends: customer 1 brought 2; rejected." in told
    assert "review: A person is to look (score 50)." in told
    assert "rejected: A person decided (before qualified). mia: no" in told
    again = afterglow("referrals", "reject", 1, "--reason", "no")
    assert (again[0], again[2]) == (1, "Referral 1 is rejected already.\n")


def test_lists_take_programme_state_and_customer(driver: Driver, afterglow: Afterglow):
    def numbers(*words: object) -> list[int]:
        return [one["id"] for one in json.loads(afterglow("referrals", "list", *words, "--json")[1])]

    assert numbers() == numbers("friends") == numbers("--state", "review") == numbers("--customer", "ann") == [1]
    assert (
        numbers("other") == numbers("--state", "rewarded") == numbers("--customer", "bob", "--state", "rejected") == []
    )
    assert "friends" in afterglow("referrals", "list")[1]
    status, _, error = afterglow("referrals", "list", "--state", "reward")
    assert (status, "Did you mean" in error) == (1, True)


def test_an_unknown_referral_and_an_empty_queue_are_said(driver: Driver, afterglow: Afterglow):
    assert afterglow("referrals", "explain", 9)[0] == 1
    assert "There is no referral 9" in afterglow("referrals", "approve", 9, "--reason", "x")[2]
    afterglow("referrals", "approve", 1, "--reason", "x")
    assert afterglow("referrals", "review")[1] == "Nothing waits for a look.\n"
    put(driver)
