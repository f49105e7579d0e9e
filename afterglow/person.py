"""A customer as flows know them: what is known about somebody, and what expressions and templates see of it."""

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from afterglow import telling
from afterglow.language.actions import TAGS
from afterglow.language.shop import Shop
from afterglow.local_time import known_zone


@dataclass(kw_only=True, slots=True)
class Person:
    """One customer. Mutable: `ingest` changes it in memory and writes it back once per batch."""

    id: int
    account_id: int | None
    stage: str | None
    stage_at: datetime | None
    orders: int
    spent: int  # minor units of the shop's currency
    last_order_at: datetime | None
    since: datetime
    forgotten_at: datetime | None
    email: str | None
    phone: str | None
    first_name: str | None
    last_name: str | None
    locale: str | None
    locale_from: str | None
    timezone: str | None  # told or derived: see afterglow/learn.py
    timezone_from: str | None
    country: str | None
    region: str | None
    attributes: dict[str, Any]
    updated_at: datetime | None
    #: The customer whom this one turned out to be; nothing else is left of it then.
    merged_into: int | None = None
    #: The names of the segments they are in, where somebody asked for them (`people.load`).
    segments: list[str] = field(default_factory=list)

    def facts(self, shop: Shop) -> dict[str, Any]:
        """What expressions and templates know as `customer`."""
        return {
            **self.attributes,
            "id": str(self.id),
            "email": self.email,
            "phone": self.phone,
            "first_name": self.first_name,
            "last_name": self.last_name,
            "locale": self.locale or shop.model.locale,
            "timezone": self.timezone or shop.model.timezone,
            "country": self.country,
            "region": self.region,
            "stage": self.stage,
            "orders": self.orders,
            "spent": shop.to_major(self.spent),
            "since": self.since,
            "last_order_at": self.last_order_at,
            "segments": self.segments,
            TAGS: tags if isinstance(tags := self.attributes.get(TAGS), list) else [],
        }

    def whereabouts(self, shop: Shop) -> tuple[str, str]:
        """Whose clock and whose language it is, and why, as two sentences."""
        place: dict[str, Any] = {"country": self.country}
        zone_from, locale_from = self.timezone_from or "told", self.locale_from or "told"
        return (
            telling.zone(self.zone(shop).key, zone_from if self.timezone else None, region=self.region, **place),
            telling.language(self.locale or shop.model.locale, locale_from if self.locale else None, **place),
        )

    def zone(self, shop: Shop) -> ZoneInfo:
        """Where the customer lives; the shop's zone where that is not known."""
        return (known_zone(self.timezone) if self.timezone else None) or shop.zone


def new(customer_id: int, since: datetime) -> Person:
    """A customer of whom nothing is known yet, as the row was just made."""
    blank = dict.fromkeys(field.name for field in fields(Person))
    blank |= {"id": customer_id, "orders": 0, "spent": 0, "since": since, "attributes": {}, "updated_at": since}
    blank["segments"] = []
    return Person(**blank)  # type: ignore[arg-type]
