"""Events in our own words: what `POST /api/events`, `afterglow event` and our own pages write.

A source's file translates a provider's words; these need no translation, only a check at the edge.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from afterglow.expressions import MISSING, parse
from afterglow.language.company import plain
from afterglow.language.source import Basis
from afterglow.language.starts import Asked
from afterglow.mapping import Account, Consent, CustomerFacts, Mapped, Unmappable, conforming
from afterglow.whereabouts import country_code

#: The sources whose bodies are events in our own words.
NATIVE_SOURCES = ("api", "command-line", "programme", "page")

_as_email = parse("given | email")


class NativeCustomer(BaseModel):
    """Who it happened to: at least one of `id` (theirs, at the caller), `email` and `customer` (ours)."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(default=None, max_length=200, description="The customer's id at the caller.")
    email: str | None = Field(default=None, max_length=254)
    customer: int | None = Field(default=None, description="The customer's number here.")
    phone: str | None = Field(default=None, max_length=40)
    first_name: str | None = Field(default=None, max_length=200)
    last_name: str | None = Field(default=None, max_length=200)
    locale: str | None = Field(default=None, max_length=20)
    timezone: str | None = Field(default=None, max_length=60)
    country: str | None = Field(default=None, max_length=60, description="ISO 3166 code or English name.")
    region: str | None = Field(default=None, max_length=60, description="State or province of that country.")
    attributes: dict[str, str | int | float | bool | None] = Field(default_factory=dict)

    @field_validator("email")
    @classmethod
    def _normalised(cls, given: str | None) -> str | None:
        if given is None:
            return None
        address = _as_email.value({"given": given})
        if address is MISSING:
            raise ValueError("is not an e-mail address")
        return str(address)

    @model_validator(mode="after")
    def _names_somebody(self) -> "NativeCustomer":
        if self.id is None and self.email is None and self.customer is None:
            raise ValueError("give at least one of id, email, customer")
        return self


class NativeAccount(BaseModel):
    """The company the customer buys for."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=200, description="The company's id at the caller.")
    name: str | None = Field(default=None, max_length=200)
    attributes: dict[str, str | int | float | bool] = Field(default_factory=dict)


class NativeConsent(BaseModel):
    """A word about marketing."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["granted", "withdrawn"]
    topic: str = Field(default="*", max_length=100)
    basis: Basis = Field(default="consent", description="On what it rests.")
    evidence: str | None = Field(default=None, max_length=500, description="How it was given, in your words.")


class NativeEvent(BaseModel):
    """Something that happened to a customer."""

    model_config = ConfigDict(extra="forbid")

    event: str = Field(pattern=r"^[a-z0-9_-]+(\.[a-z0-9_-]+)+$", max_length=100, description="Such as order.paid.")
    key: str = Field(
        min_length=1,
        max_length=200,
        description="The same for repeats of the same event, so that it counts once.",
    )
    occurred_at: datetime | None = Field(default=None, description="With its offset; now, unless given.")
    stage: str | None = Field(default=None, max_length=100, description="The stage the customer enters by it.")
    customer: NativeCustomer
    consent: NativeConsent | None = None
    account: NativeAccount | None = None
    payload: dict[str, Any] = Field(default_factory=dict, description="What flows know, such as {order: {id, total}}.")

    @field_validator("occurred_at")
    @classmethod
    def _aware(cls, given: datetime | None) -> datetime | None:
        if given is not None and given.tzinfo is None:
            raise ValueError("needs an offset, such as 2026-03-02T09:00:00+01:00 or a Z at the end")
        return given


class NativeAsking(BaseModel):
    """That a flow is asked to start for a customer."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(
        min_length=1, max_length=100, description="The same for repeats of the same asking, so that it counts once."
    )
    customer: NativeCustomer
    given: dict[str, Any] = Field(
        default_factory=dict, description="What the flow is to know, as `given`, such as {size: 42}."
    )

    def event(self, flow: str, by: str) -> NativeEvent:
        """The event that tells of it.

        Args:
          by: who asks, such as `api`.
        """
        return NativeEvent(
            event=Asked.event,
            key=f"asked/{flow}/{self.key}",
            customer=self.customer,
            payload={"flow": flow, "by": by, "given": self.given},
        )


def _told(error: ValueError) -> str:
    """The first thing that is wrong, by the name of its field; never what stood there, which may be personal."""
    if not isinstance(error, ValidationError):
        return "it is not JSON"
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the body'}: {first['msg']}"


def map_native(body: bytes, *, received_at: datetime, known_events: Mapping[str, Mapping[str, str]]) -> Mapped:
    """The event in a body that the edge has checked.

    Args:
      known_events: kind by path for each event of the shop, to which the payload is brought.

    Raises:
      Unmappable: where somebody wrote another body into the inbox.
    """
    try:
        event = NativeEvent.model_validate_json(body)
    except ValueError as error:
        raise Unmappable(f"This is not an event in our words: {_told(error)}.") from None
    who = event.customer
    country = country_code(who.country)
    return Mapped(
        event=event.event,
        occurred_at=min(event.occurred_at or received_at, received_at),
        stated_at=event.occurred_at,
        stage=event.stage,
        customer=CustomerFacts(
            external_id=who.id,
            customer_id=who.customer,
            email=who.email,
            phone=who.phone,
            first_name=who.first_name,
            last_name=who.last_name,
            locale=who.locale,
            timezone=who.timezone,
            country=country,
            region=who.region if country else None,
            attributes=dict(who.attributes),
        ),
        payload=conforming(event.payload, known_events.get(plain(event.event), {})),
        consent=Consent(
            state=event.consent.state,
            topic=event.consent.topic,
            at=event.occurred_at,
            evidence=event.consent.evidence,
            basis=event.consent.basis,
        )
        if event.consent
        else None,
        account=Account(id=event.account.id, name=event.account.name, attributes=event.account.attributes)
        if event.account
        else None,
    )
