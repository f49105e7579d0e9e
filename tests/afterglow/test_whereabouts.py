"""Where a customer lives: a zone for every country of the world, and always a reason for it."""

import re
from importlib import resources

import pytest

from afterglow import telling
from afterglow.local_time import known_zone
from afterglow.whereabouts import _REGIONS, Derived, country_code, language_of, zone_of, zones_of


def table(file):
    text = (resources.files("tzdata.zoneinfo") / file).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]


COUNTRIES: dict[str, str] = {row[0]: row[1] for row in table("iso3166.tab")}
ZONES = {code: {row[2] for row in table("zone.tab") if row[0] == code} for code in COUNTRIES}
#: Nobody lives there, so the database has no clock for them.
EMPTY = {"BV", "HM"}
SEVERAL = sorted(code for code, zones in ZONES.items() if len(zones) > 1)


def zone(country=None, region=None, phone=None, locale=None):
    return zone_of(country=country, region=region, phone=phone, locale=locale)


@pytest.mark.parametrize("country", COUNTRIES)
def test_every_country_has_a_zone_of_its_own_and_is_known_by_code_and_by_name(country):
    assert country_code(country.lower()) == country
    assert country_code(COUNTRIES[country].upper()) == country
    if country in EMPTY:
        assert zone(country) is None
        return
    found = zone(country)
    assert found.origin == "address"
    assert found.value in ZONES[country]
    assert known_zone(found.value) is not None
    assert zone(country, "a region that nobody knows") == found
    assert zone(locale=f"xx-{country}") == Derived(found.value, "locale")


#: Countries of several zones, and the one that most of their people keep.
MOST = {
    "AQ": "Antarctica/McMurdo",
    "AR": "America/Argentina/Buenos_Aires",
    "AU": "Australia/Sydney",
    "BR": "America/Sao_Paulo",
    "CA": "America/Toronto",
    "CD": "Africa/Kinshasa",
    "CL": "America/Santiago",
    "CN": "Asia/Shanghai",
    "CY": "Asia/Nicosia",
    "DE": "Europe/Berlin",
    "EC": "America/Guayaquil",
    "ES": "Europe/Madrid",
    "FM": "Pacific/Chuuk",
    "GL": "America/Nuuk",
    "ID": "Asia/Jakarta",
    "KI": "Pacific/Tarawa",
    "KZ": "Asia/Almaty",
    "MH": "Pacific/Majuro",
    "MN": "Asia/Ulaanbaatar",
    "MX": "America/Mexico_City",
    "MY": "Asia/Kuala_Lumpur",
    "NZ": "Pacific/Auckland",
    "PF": "Pacific/Tahiti",
    "PG": "Pacific/Port_Moresby",
    "PS": "Asia/Gaza",
    "PT": "Europe/Lisbon",
    "RU": "Europe/Moscow",
    "UA": "Europe/Kyiv",
    "UM": "Pacific/Midway",
    "US": "America/New_York",
    "UZ": "Asia/Tashkent",
}


def test_a_country_of_several_zones_has_the_one_of_most_of_its_people():
    assert {country: zones_of(country)[0] for country in SEVERAL} == MOST


@pytest.mark.parametrize("country", _REGIONS)
def test_every_region_that_is_listed_has_a_zone_that_exists_under_its_code_and_its_name(country):
    of_their_own = {"America/Puerto_Rico", "America/St_Thomas", "Pacific/Guam", "Pacific/Saipan", "Pacific/Pago_Pago"}
    for wanted, regions in _REGIONS[country].items():
        assert wanted in ZONES[country] | of_their_own
        for region in regions.split(", "):
            code, _, name = region.partition(" ")
            assert zone(country, code) == Derived(wanted, "address")
            assert zone(country, f"{country}-{code}") == Derived(wanted, "address")
            if name:
                assert zone(country, name.upper()) == Derived(wanted, "address")


def test_no_region_is_listed_twice_and_all_of_the_large_countries_are_there():
    for country, number in {"US": 56, "CA": 14, "AU": 8}.items():
        codes = [region.partition(" ")[0] for regions in _REGIONS[country].values() for region in regions.split(", ")]
        assert len(codes) == len(set(codes)) == number


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"country": "US", "region": "CO"}, Derived("America/Denver", "address")),
        ({"country": "CA", "region": "Québec"}, Derived("America/Toronto", "address")),
        ({"country": "BR", "region": "São Paulo"}, Derived("America/Sao_Paulo", "address")),
        ({"country": "MX", "region": "Q ROO"}, Derived("America/Cancun", "address")),
        ({"country": "DE", "region": "BY"}, Derived("Europe/Berlin", "address")),
        # The area code decides where the address does not say enough, if the number is of that country.
        ({"country": "US", "phone": "+13035550100"}, Derived("America/Denver", "address")),
        ({"country": "US", "region": "WA", "phone": "+13035550100"}, Derived("America/Los_Angeles", "address")),
        ({"country": "US", "phone": "+442071838750"}, Derived("America/New_York", "address")),
        ({"country": "US", "phone": "+18005550100"}, Derived("America/New_York", "address")),
        # Without an address: the number's country, then the locale's region.
        ({"phone": "+33612345678"}, Derived("Europe/Paris", "phone")),
        ({"phone": "+12125550100"}, Derived("America/New_York", "phone")),
        ({"phone": "+16045550100"}, Derived("America/Vancouver", "phone")),
        ({"phone": "+61412345678"}, Derived("Australia/Sydney", "phone")),
        ({"phone": "+33612345678", "locale": "fr-CA"}, Derived("Europe/Paris", "phone")),
        ({"phone": "+80012345678", "locale": "fr-CA"}, Derived("America/Toronto", "locale")),
        ({"phone": "+1"}, None),
        ({"locale": "zh-Hant-TW"}, Derived("Asia/Taipei", "locale")),
        ({"locale": "fr"}, None),
        ({"locale": "es-419"}, None),
        ({"country": "BV", "phone": "+4721234567"}, Derived("Europe/Oslo", "phone")),
        ({}, None),
    ],
)
def test_the_strongest_thing_that_is_known_gives_the_zone(said, found):
    assert zone(**said) == found


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("USA", "US"),
        ("United States of America", "US"),
        ("u.k.", None),
        ("UK", "GB"),
        ("Deutschland", "DE"),
        ("Österreich", "AT"),
        ("CÔTE D'IVOIRE", "CI"),
        ("Atlantis", None),
        ("XX", None),
        ("", None),
        (None, None),
    ],
)
def test_a_country_is_known_as_people_write_it(written, code):
    assert country_code(written) == code


@pytest.mark.parametrize(
    ("country", "language"),
    [("DE", "de"), ("AT", "de"), ("FR", "fr"), ("US", "en"), ("BR", "pt"), ("MX", "es"), ("NO", "nb"), ("JP", "ja")],
)
def test_a_country_of_one_language_gives_it(country, language):
    assert language_of(country) == Derived(language, "address")


@pytest.mark.parametrize("country", ["BE", "CA", "CH", "LU", "IN", "ZA", "FI", "SG", "MA", "XX", None])
def test_a_country_of_several_languages_gives_none(country):
    assert language_of(country) is None


def test_every_language_is_a_code_and_stands_for_countries_that_there_are():
    for country in COUNTRIES:
        found = language_of(country)
        assert found is None or re.fullmatch("[a-z]{2}", found.value)


@pytest.mark.parametrize(
    ("taken_from", "sentence"),
    [
        ("told", "Time zone America/Denver, as a source told."),
        ("address", "Time zone America/Denver, from the address (US, CO)."),
        ("phone", "Time zone America/Denver, from the country of the phone number."),
        ("locale", "Time zone America/Denver, from the region of the customer's locale."),
        (None, "Time zone America/Denver, the shop's."),
    ],
)
def test_a_zone_is_told_with_what_it_was_taken_from(taken_from, sentence):
    assert telling.zone("America/Denver", taken_from, country="US", region="CO") == sentence


def test_a_language_is_told_with_the_country_alone():
    assert telling.language("fr", "address", country="FR") == "Language fr, from the address (FR)."
    assert telling.language("en", None, country="CH") == "Language en, the shop's."
