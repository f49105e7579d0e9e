"""What a webhook says once it is mapped: an event, whose it is, what it carries; or why it says nothing."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

import orjson

from afterglow.errors import AfterglowError
from afterglow.language.source import Basis, Privacy


class Unmappable(AfterglowError):
    """This webhook cannot become an event; the reason says what is wrong with it."""

    @property
    def reason(self) -> str:
        """The sentence for whoever looks after the inbox."""
        return str(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class CustomerFacts:
    """What an event says about its customer; None where it says nothing."""

    external_id: str | None = None
    #: Our own number of the customer, where an event was written by ourselves.
    customer_id: int | None = None
    #: Normalised: trimmed, lower case.
    email: str | None = None
    #: E.164.
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    locale: str | None = None
    timezone: str | None = None
    #: ISO 3166 code, from an address of theirs.
    country: str | None = None
    #: The state or province of that country, as it was written; None where the country is.
    region: str | None = None
    #: An order of the same source whose customer this is, where neither id nor address is known.
    order_id: str | None = None
    #: Text, int, Decimal, bool; moments as ISO 8601 text.
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Consent:
    """What the customer allowed or withdrew; `topic` is `*` for all marketing."""

    state: Literal["granted", "withdrawn"]
    topic: str
    #: None: when the event happened.
    at: datetime | None
    #: How it was given, in the provider's words.
    evidence: str | None
    #: On what it rests.
    basis: Basis = "consent"


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """The company a customer buys for."""

    id: str
    name: str | None
    attributes: Mapping[str, object] = field(default_factory=dict)

    def said(self) -> dict[str, object]:
        """What of it makes one event another: as it was before companies had attributes, where none is given."""
        return {"id": self.id, "name": self.name} | ({"attributes": self.attributes} if self.attributes else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Mapped:
    """An event of the shop."""

    event: str
    #: Never later than the moment it came.
    occurred_at: datetime
    #: What the provider said about when; None where it said nothing and `occurred_at` is when it came.
    stated_at: datetime | None
    stage: str | None
    customer: CustomerFacts
    #: JSON-able, save that numbers may be Decimal; absent fields are left out, moments are ISO 8601 text.
    payload: Mapping[str, object]
    consent: Consent | None
    account: Account | None
    #: The order of the source that owns this event, where another source tells of it.
    joins: str | None = None

    def digest(self) -> str:
        """SHA-256, in hex, of what the provider said happened.

        Equal for an honest retry, whose body may differ in a counter that no rule reads and which arrives at
        another time; different when one key tells two stories.
        """
        said = (
            self.event,
            self.stated_at,
            self.stage,
            self.customer,
            self.payload,
            self.consent,
            self.account and self.account.said(),
        )
        options = orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z
        return hashlib.sha256(orjson.dumps(said, default=_canonical, option=options)).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacyRequest:
    """No event: somebody asks to be forgotten, or for their data. `customer` is None where it is about everybody."""

    kind: Privacy
    customer: CustomerFacts | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignored:
    """No event: no rule speaks of this request, or one says why it is let go."""

    reason: str


def _canonical(value: object) -> object:
    if isinstance(value, Decimal):  # 10.0 and 10.00 are one amount
        return format(value.normalize(), "f")
    raise TypeError(type(value).__name__)  # cleaned values are nothing else
