"""Where a customer lives, as far as their clock and their language go: derived where nobody said so.

A zone is taken from the strongest of these that gives one, and `Derived.origin` says which:

  address   the country; in a country of several zones the region (state, province) too
  phone     the country of the number; in a country of several zones its area code, where that means one of them
  locale    the region of a locale that the customer's own system gave, such as fr-CA

Countries and their zones are those of the time zone database (zone.tab, iso3166.tab). In a country of several zones
whose region is not known, or not listed here, the number's area code decides if the number is of that country, and
otherwise the zone in which most people of the country live: a mail that is two hours off reaches more people by day
than one by the clock of a shop on another continent. A region that spans zones has the one of most of its people.

A language is derived from the country only, and only where nearly everybody there reads that one.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Final, Literal

from phonenumbers import PhoneNumber, parse, region_code_for_number
from phonenumbers.phonenumberutil import NumberParseException

#: What a zone or a language was taken from; "told" is no derivation: a source gave it.
Origin = Literal["told", "address", "phone", "locale"]
ORIGINS: Final[tuple[Origin, ...]] = ("told", "address", "phone", "locale")

#: Longer names of states and provinces are cut.
REGION_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class Derived:
    """A zone (`America/Denver`) or a language (`fr`), and what it was taken from."""

    value: str
    origin: Origin


#: The zone of most people, where it is not the first of its country in zone.tab.
_MOST_PEOPLE: Final = {
    "AU": "Australia/Sydney",
    "BR": "America/Sao_Paulo",
    "CA": "America/Toronto",
    "RU": "Europe/Moscow",
    "UA": "Europe/Kyiv",
    "UZ": "Asia/Tashkent",
}

#: Regions by country and zone: "CODE Name, CODE Name", codes as ISO 3166-2 has them or as shops write them. Regions
#: that keep the time of most people may be left out.
_REGIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "US": {
        "America/New_York": "CT Connecticut, DC District of Columbia, DE Delaware, FL Florida, GA Georgia, "
        "KY Kentucky, MA Massachusetts, MD Maryland, ME Maine, NC North Carolina, NH New Hampshire, NJ New Jersey, "
        "NY New York, OH Ohio, PA Pennsylvania, RI Rhode Island, SC South Carolina, VA Virginia, VT Vermont, "
        "WV West Virginia",
        "America/Detroit": "MI Michigan",
        "America/Indiana/Indianapolis": "IN Indiana",
        "America/Chicago": "AL Alabama, AR Arkansas, IA Iowa, IL Illinois, KS Kansas, LA Louisiana, MN Minnesota, "
        "MO Missouri, MS Mississippi, ND North Dakota, NE Nebraska, OK Oklahoma, SD South Dakota, TN Tennessee, "
        "TX Texas, WI Wisconsin",
        "America/Denver": "CO Colorado, MT Montana, NM New Mexico, UT Utah, WY Wyoming",
        "America/Boise": "ID Idaho",
        "America/Phoenix": "AZ Arizona",
        "America/Los_Angeles": "CA California, NV Nevada, OR Oregon, WA Washington",
        "America/Anchorage": "AK Alaska",
        "Pacific/Honolulu": "HI Hawaii",
        "America/Puerto_Rico": "PR Puerto Rico",
        "America/St_Thomas": "VI Virgin Islands",
        "Pacific/Guam": "GU Guam",
        "Pacific/Saipan": "MP Northern Mariana Islands",
        "Pacific/Pago_Pago": "AS American Samoa",
    },
    "CA": {
        "America/St_Johns": "NL Newfoundland and Labrador, NF Newfoundland",
        "America/Halifax": "NS Nova Scotia, PE Prince Edward Island",
        "America/Moncton": "NB New Brunswick",
        "America/Toronto": "ON Ontario, QC Quebec",
        "America/Winnipeg": "MB Manitoba",
        "America/Regina": "SK Saskatchewan",
        "America/Edmonton": "AB Alberta, NT Northwest Territories",
        "America/Vancouver": "BC British Columbia",
        "America/Whitehorse": "YT Yukon",
        "America/Iqaluit": "NU Nunavut",
    },
    "AU": {
        "Australia/Sydney": "NSW New South Wales, ACT Australian Capital Territory",
        "Australia/Melbourne": "VIC Victoria",
        "Australia/Brisbane": "QLD Queensland",
        "Australia/Hobart": "TAS Tasmania",
        "Australia/Adelaide": "SA South Australia",
        "Australia/Darwin": "NT Northern Territory",
        "Australia/Perth": "WA Western Australia",
    },
    "BR": {
        "America/Belem": "PA Para, AP Amapa",
        "America/Fortaleza": "CE Ceara, MA Maranhao, PB Paraiba, PI Piaui, RN Rio Grande do Norte",
        "America/Recife": "PE Pernambuco",
        "America/Araguaina": "TO Tocantins",
        "America/Maceio": "AL Alagoas, SE Sergipe",
        "America/Bahia": "BA Bahia",
        "America/Campo_Grande": "MS Mato Grosso do Sul",
        "America/Cuiaba": "MT Mato Grosso",
        "America/Porto_Velho": "RO Rondonia",
        "America/Boa_Vista": "RR Roraima",
        "America/Manaus": "AM Amazonas",
        "America/Rio_Branco": "AC Acre",
    },
    "MX": {
        "America/Cancun": "ROO Quintana Roo, ROO Q ROO, QROO",
        "America/Merida": "YUC Yucatan, CAM Campeche, CAMP",
        "America/Monterrey": "NLE Nuevo Leon, NL, COA Coahuila, COAH, TAM Tamaulipas, TAMPS, DUR Durango, DGO",
        "America/Chihuahua": "CHH Chihuahua, CHIH",
        "America/Mazatlan": "SIN Sinaloa, NAY Nayarit, BCS Baja California Sur",
        "America/Hermosillo": "SON Sonora",
        "America/Tijuana": "BCN Baja California, BC",
    },
    "RU": {
        "Europe/Kaliningrad": "KGD Kaliningrad Oblast",
        "Europe/Astrakhan": "AST Astrakhan Oblast",
        "Europe/Saratov": "SAR Saratov Oblast",
        "Europe/Ulyanovsk": "ULY Ulyanovsk Oblast",
        "Europe/Samara": "SAM Samara Oblast, UD Udmurtia",
        "Asia/Yekaterinburg": "SVE Sverdlovsk Oblast, CHE Chelyabinsk Oblast, TYU Tyumen Oblast, KGN Kurgan Oblast, "
        "ORE Orenburg Oblast, PER Perm Krai, BA Bashkortostan, KHM Khanty-Mansi, YAN Yamalo-Nenets",
        "Asia/Omsk": "OMS Omsk Oblast",
        "Asia/Novosibirsk": "NVS Novosibirsk Oblast",
        "Asia/Barnaul": "ALT Altai Krai, AL Altai",
        "Asia/Tomsk": "TOM Tomsk Oblast",
        "Asia/Novokuznetsk": "KEM Kemerovo Oblast",
        "Asia/Krasnoyarsk": "KYA Krasnoyarsk Krai, KK Khakassia, TY Tuva",
        "Asia/Irkutsk": "IRK Irkutsk Oblast, BU Buryatia",
        "Asia/Chita": "ZAB Zabaykalsky Krai",
        "Asia/Yakutsk": "SA Sakha, AMU Amur Oblast",
        "Asia/Vladivostok": "PRI Primorsky Krai, KHA Khabarovsk Krai, YEV Jewish Autonomous Oblast",
        "Asia/Magadan": "MAG Magadan Oblast",
        "Asia/Sakhalin": "SAK Sakhalin Oblast",
        "Asia/Kamchatka": "KAM Kamchatka Krai",
        "Asia/Anadyr": "CHU Chukotka",
    },
    "ID": {
        "Asia/Makassar": "BA Bali, NB Nusa Tenggara Barat, NT Nusa Tenggara Timur, KS Kalimantan Selatan, "
        "KI Kalimantan Timur, KU Kalimantan Utara, SN Sulawesi Selatan, ST Sulawesi Tengah, SA Sulawesi Utara, "
        "SG Sulawesi Tenggara, SR Sulawesi Barat, GO Gorontalo",
        "Asia/Jayapura": "PA Papua, PB Papua Barat, MA Maluku, MU Maluku Utara",
    },
    "ES": {
        "Atlantic/Canary": "GC Las Palmas, TF Santa Cruz de Tenerife, CN Canarias",
        "Africa/Ceuta": "CE Ceuta, ML Melilla",
    },
    "PT": {"Atlantic/Azores": "20 Azores, 20 Acores", "Atlantic/Madeira": "30 Madeira"},
    "CL": {"America/Punta_Arenas": "MA Magallanes", "America/Coyhaique": "AI Aysen"},
    "EC": {"Pacific/Galapagos": "W Galapagos"},
    "NZ": {"Pacific/Chatham": "CIT Chatham Islands"},
    "MN": {"Asia/Hovd": "043 Hovd, 071 Bayan-Olgii, 046 Uvs"},
}

#: Names of countries that are written differently from how iso3166.tab has them.
_ALSO_CALLED: Final = {
    "usa": "US",
    "united states of america": "US",
    "uk": "GB",
    "united kingdom": "GB",
    "great britain": "GB",
    "england": "GB",
    "scotland": "GB",
    "wales": "GB",
    "northern ireland": "GB",
    "south korea": "KR",
    "republic of korea": "KR",
    "czechia": "CZ",
    "the netherlands": "NL",
    "holland": "NL",
    "turkiye": "TR",
    "russian federation": "RU",
    "viet nam": "VN",
    "deutschland": "DE",
    "osterreich": "AT",
    "schweiz": "CH",
    "espana": "ES",
    "italia": "IT",
    "brasil": "BR",
}

#: Countries in which nearly everybody reads one language. Those of several (BE, CA, CH, LU, IN, SG, ZA, ...) are left
#: out on purpose, and so are those in which a shop's customers commonly read another one than the official.
_ONE_LANGUAGE: Final = {
    language: frozenset(countries.split())
    for language, countries in {
        "ar": "BH DZ EG IQ JO KW LY OM QA SA SY TN YE",
        "bg": "BG",
        "cs": "CZ",
        "da": "DK",
        "de": "AT DE LI",
        "el": "GR",
        "en": "AG AU BB BS GB GG GI IE IM JE JM NZ TT US",
        "es": "AR CL CO CR CU DO EC ES GT HN MX NI PA PE SV UY VE",
        "et": "EE",
        "fr": "FR GF GP MC MQ PM RE",
        "hr": "HR",
        "hu": "HU",
        "is": "IS",
        "it": "IT SM VA",
        "ja": "JP",
        "ko": "KR",
        "lt": "LT",
        "lv": "LV",
        "nl": "NL",
        "nb": "NO",
        "pl": "PL",
        "pt": "BR PT",
        "ro": "RO",
        "ru": "RU",
        "sk": "SK",
        "sl": "SI",
        "sv": "SE",
        "th": "TH",
        "tr": "TR",
        "vi": "VN",
    }.items()
}


def country_code(written: str | None) -> str | None:
    """The ISO 3166 code of a country written as a code or as an English name; None if it is none."""
    if written is None:
        return None
    given = written.strip()
    if len(given) == 2 and (code := given.upper()) in _countries():
        return code
    return _names().get(_plain(given))


def zones_of(country: str) -> tuple[str, ...]:
    """The zones of a country by its code, that of most people first; none where there is no such country."""
    return _countries().get(country, ())


def zone_of(*, country: str | None, region: str | None, phone: str | None, locale: str | None) -> Derived | None:
    """The zone somebody lives in, from what is known; None where none of it says.

    Args:
      country: as `country_code` gives it.
      region: a state's or province's code or name, with or without its country's code before it.
      phone: in E.164.
      locale: told by a source, such as fr-CA; its language alone says nothing.
    """
    if country is not None and (zones := zones_of(country)):
        if len(zones) == 1:
            return Derived(zones[0], "address")
        zone = _zone_of_region(country, region) if region else None
        if zone is None and (number := _number(phone)) is not None and region_code_for_number(number) == country:
            zone = _zone_of_area(number, zones)
        return Derived(zone or zones[0], "address")
    number = _number(phone)
    if number is not None and (zones := zones_of(region_code_for_number(number) or "")):
        return Derived((_zone_of_area(number, zones) if len(zones) > 1 else None) or zones[0], "phone")
    if zones := zones_of(_region_of_locale(locale)):
        return Derived(zones[0], "locale")
    return None


def language_of(country: str | None) -> Derived | None:
    """The language of a country in which nearly everybody reads that one; None where there are several."""
    found = next((language for language, countries in _ONE_LANGUAGE.items() if country in countries), None)
    return Derived(found, "address") if found else None


@lru_cache(maxsize=1)
def _countries() -> Mapping[str, tuple[str, ...]]:
    """Zones by country code; countries where nobody lives have none."""
    found: dict[str, tuple[str, ...]] = {code: () for code, _ in _rows("iso3166.tab")}
    for code, _, zone, *_ in _rows("zone.tab"):
        found[code] = (*found[code], zone)
    for code, zone in _MOST_PEOPLE.items():
        found[code] = (zone, *(one for one in found[code] if one != zone))
    return found


@lru_cache(maxsize=1)
def _names() -> Mapping[str, str]:
    return {_plain(name): code for code, name in _rows("iso3166.tab")} | _ALSO_CALLED


def _rows(file: str) -> Iterator[list[str]]:
    """The rows of a table of the time zone database."""
    text = resources.files("tzdata.zoneinfo").joinpath(file).read_text(encoding="utf-8")
    return (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))


@lru_cache(maxsize=1)
def _regions() -> Mapping[tuple[str, str], str]:
    """Zones by country and region, the region as a code or a plain name."""
    found = {}
    for country, zones in _REGIONS.items():
        for zone, regions in zones.items():
            for region in regions.split(", "):
                for name in region.partition(" ")[::2]:
                    if name:
                        found[country, _plain(name)] = zone
    return found


def _zone_of_region(country: str, region: str) -> str | None:
    plain = _plain(region)
    without_country = plain.removeprefix(f"{country.lower()} ")
    return _regions().get((country, plain)) or _regions().get((country, without_country))


def _plain(name: str) -> str:
    """A name for comparing: lower case, letters and digits without accents, one space between words."""
    bare = "".join(one for one in unicodedata.normalize("NFKD", name) if not unicodedata.combining(one))
    return " ".join("".join(one if one.isalnum() else " " for one in bare.casefold()).split())


def _number(phone: str | None) -> PhoneNumber | None:
    if phone is None:
        return None
    try:
        return parse(phone)
    except NumberParseException:
        return None


def _zone_of_area(number: PhoneNumber, zones: tuple[str, ...]) -> str | None:
    """The one of a country's zones that an area code means; None where it means several."""
    from phonenumbers.timezone import time_zones_for_number  # half a megabyte: only for whom it is needed

    found = [zone for zone in time_zones_for_number(number) if zone in zones]
    return found[0] if len(found) == 1 else None


def _region_of_locale(locale: str | None) -> str:
    parts = (locale or "").split("-")[1:]
    return next((part.upper() for part in parts if len(part) == 2 and part.isalpha()), "")
