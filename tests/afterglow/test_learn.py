"""What becomes known of a customer: what was told beats what is derived, and newer news beats older."""

from datetime import timedelta

import pytest

from afterglow.learn import learn
from afterglow.mapping import CustomerFacts, Mapped
from db import people
from tests import small_shop
from tests.driver import START


@pytest.fixture(scope="module")
def shop():
    import json

    from afterglow.language.shop import read_shop

    return read_shop(json.dumps(dict(small_shop.SHOP)), "flows/shop.yaml")


@pytest.fixture
def hears(shop):
    """A customer of whom nothing is known, and what each event makes of their clock and language."""
    person = people.new(1, START)

    def hear(days=0, **said):
        mapped = Mapped(
            event="customer.updated",
            occurred_at=START + timedelta(days=days),
            stated_at=None,
            stage=None,
            customer=CustomerFacts(external_id="c1", **said),
            payload={},
            consent=None,
            account=None,
        )
        learn(person, mapped, shop)
        return person.timezone, person.timezone_from, person.locale, person.locale_from

    hear.person = person
    return hear


def test_a_zone_and_a_language_are_derived_from_an_address(hears):
    assert hears(country="US", region="CO") == ("America/Denver", "address", "en", "address")
    assert (hears.person.country, hears.person.region) == ("US", "CO")


def test_a_newer_address_moves_a_derived_zone_and_an_older_one_does_not(hears):
    hears(days=1, country="US", region="CO")
    assert hears(days=2, country="FR") == ("Europe/Paris", "address", "fr", "address")
    assert hears.person.region is None
    assert hears(days=0, country="JP") == ("Europe/Paris", "address", "fr", "address")


def test_a_told_zone_and_locale_beat_derived_ones_even_when_they_come_late(hears):
    hears(days=2, country="US", region="CO")
    assert hears(days=1, timezone="Europe/Rome", locale="it") == ("Europe/Rome", "told", "it", "told")
    assert hears(days=3, country="FR") == ("Europe/Rome", "told", "it", "told")
    assert hears(days=4, timezone="Asia/Tokyo") == ("Asia/Tokyo", "told", "it", "told")
    assert hears(days=3, timezone="Europe/Rome") == ("Asia/Tokyo", "told", "it", "told")


def test_a_phone_and_a_locale_say_where_somebody_lives_until_an_address_does(hears):
    assert hears(locale="fr-CA") == ("America/Toronto", "locale", "fr-CA", "told")
    assert hears(phone="+33612345678") == ("Europe/Paris", "phone", "fr-CA", "told")
    assert hears(country="CH") == ("Europe/Zurich", "address", "fr-CA", "told")


def test_an_event_that_says_nothing_of_it_leaves_the_zone_alone(hears):
    hears(country="US", region="CO")
    assert hears(days=1, first_name="Sam")[0] == "America/Denver"


def test_a_country_of_several_languages_takes_a_derived_language_back(hears):
    hears(country="FR")
    assert hears(days=1, country="CH") == ("Europe/Zurich", "address", None, None)


def test_a_zone_of_before_origins_were_noted_counts_as_told(hears):
    hears.person.timezone = "Europe/Rome"
    assert hears(country="US") == ("Europe/Rome", None, "en", "address")
