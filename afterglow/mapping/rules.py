"""The work behind the intake: the first rule that holds makes an element an event of the shop."""

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from afterglow.expressions import MISSING
from afterglow.language.source import (
    BASES,
    RESERVED,
    ConsentRule,
    CustomerRule,
    From,
    ListOfItems,
    Rule,
    Source,
    TakenOver,
)
from afterglow.language.value import Value
from afterglow.local_time import known_zone
from afterglow.mapping.addresses import normalised_email, normalised_phone
from afterglow.mapping.conforming import conforming
from afterglow.mapping.facts import Account, Consent, CustomerFacts, Ignored, Mapped, PrivacyRequest, Unmappable
from afterglow.mapping.fetching import Lacking, with_documents
from afterglow.mapping.intake import read_element
from afterglow.mapping.values import Facts, moment, stored, text, value_of
from afterglow.problems import did_you_mean
from afterglow.whereabouts import REGION_MAX, country_code

_EVENT_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*")
_FIELD_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_LOCALE: Final = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}")


def map_element(
    source: Source,
    headers: Mapping[str, str],
    body: bytes,
    *,
    received_at: datetime,
    known_events: Mapping[str, Mapping[str, str]] | None = None,
    known_stages: Collection[str] | None = None,
    fetched: Mapping[str, object] | None = None,
) -> Mapped | Ignored | Lacking | PrivacyRequest:
    """What one element means to the shop; or which document of its source must be fetched first.

    Args:
      headers: by lower-cased name; `source.header_names` is enough of them.
      body: of one Element.
      received_at: aware; stands in for a moment that the payload does not give.
      known_events: kind by path for each event of the shop. Where the payload names the event, it must be one
        of these and carry these kinds; None allows any.
      known_stages: where the payload names the stage, it must be one of these; None allows any.
      fetched: the documents that were fetched by name; None for one that its source does not have.

    Raises:
      Unmappable: with the reason for which it is parked.
    """
    whole = read_element(source, headers, body)
    if type(whole) is not dict:
        raise Unmappable("What came is not a JSON object, so that no rule can read it.")
    facts: Facts = {"headers": dict(headers), "body": whole, "item": whole}
    if source.fetch is None:
        return _by_rules(source, facts, received_at, known_events, known_stages)
    return with_documents(
        source,
        source.fetch,
        facts,
        fetched or {},
        lambda: _by_rules(source, facts, received_at, known_events, known_stages),
    )


def _by_rules(
    source: Source,
    facts: Facts,
    received_at: datetime,
    known_events: Mapping[str, Mapping[str, str]] | None,
    known_stages: Collection[str] | None,
) -> Mapped | Ignored | PrivacyRequest:
    number = holding_rule(source, facts)
    if number is None:
        return Ignored(reason=f"No rule of the source '{source.name}' speaks of this.")
    rule = source.events[number]
    if rule.ignore is not None:
        return Ignored(reason=rule.ignore)
    if rule.privacy is not None:
        who = None if rule.privacy == "forget-everybody" else _customer(rule.customer, facts)
        return PrivacyRequest(kind=rule.privacy, customer=who)
    return _mapped(rule, facts, received_at, known_events, known_stages)


def holding_rule(source: Source, facts: Facts) -> int | None:
    """The place among the source's rules (from 0) of the first that holds; None where none does."""
    held = (n for n, rule in enumerate(source.events) if rule.when is None or rule.when.expression.is_true(facts))
    return next(held, None)


def _mapped(
    rule: Rule,
    facts: Facts,
    received_at: datetime,
    known_events: Mapping[str, Mapping[str, str]] | None,
    known_stages: Collection[str] | None,
) -> Mapped:
    event = _event(rule, facts, known_events)
    stated_at = moment(rule.occurred_at, facts, "occurred_at", received_at)
    payload = _payload(rule, facts)
    if known_events is not None and isinstance(rule.payload, TakenOver):
        payload = conforming(payload, known_events.get(event, {}))
    return Mapped(
        event=event,
        occurred_at=received_at if stated_at is None else min(stated_at, received_at),
        stated_at=stated_at,
        stage=_named(rule.stage, facts, "stage", known_stages),
        customer=_customer(rule.customer, facts),
        payload=payload,
        consent=_consent(rule.consent, facts, received_at),
        account=_account(rule, facts),
        joins=text(rule.joins, facts, "joins"),
    )


def _event(rule: Rule, facts: Facts, known: Collection[str] | None) -> str:
    if isinstance(rule.event, str):
        return rule.event
    name = _named(rule.event, facts, "event", known)
    if name is None or not _EVENT_NAME.fullmatch(name):
        raise Unmappable("The name of the event is missing, or is not one such as order.paid.")
    return name


def _named(named: Any, facts: Facts, what: str, known: Collection[str] | None) -> str | None:
    """A name that the file states, or that the payload gives and the shop knows."""
    if not isinstance(named, From):
        return named  # type: ignore[no-any-return]
    name = text(named.from_, facts, what)
    if name is not None and known is not None and name not in known:
        raise Unmappable(f"The shop knows no {what} '{_shown(name)}'; declare it.{did_you_mean(name[:60], known)}")
    return name


def _shown(name: str) -> str:
    """A name from a payload, fit for a sentence."""
    return re.sub(r"[^\w.-]", "?", name)[:60]


def _customer(rule: CustomerRule | None, facts: Facts) -> CustomerFacts:
    if rule is None:
        raise Unmappable("The rule names no customer.")
    address = text(rule.email, facts, "customer.email")
    external_id = text(rule.id, facts, "customer.id")
    order_id = text(rule.order, facts, "customer.order")
    normalised = normalised_email(address)
    if external_id is None and normalised is None and order_id is None:
        raise Unmappable(
            "There is no customer in it: neither an id nor an e-mail address."
            if address is None
            else "There is no customer in it: no id, and what stands for an e-mail address is none."
        )
    locale, zone = (
        text(rule.locale, facts, "customer.locale"),
        text(rule.timezone, facts, "customer.timezone"),
    )
    country = country_code(text(rule.country, facts, "customer.country"))
    region = text(rule.region, facts, "customer.region")
    return CustomerFacts(
        external_id=external_id,
        email=normalised,
        phone=normalised_phone(text(rule.phone, facts, "customer.phone")),
        first_name=text(rule.first_name, facts, "customer.first_name"),
        last_name=text(rule.last_name, facts, "customer.last_name"),
        locale=locale.replace("_", "-") if locale and _LOCALE.fullmatch(locale) else None,
        timezone=zone if zone and known_zone(zone) else None,
        country=country,
        region=region[:REGION_MAX] if country and region else None,
        order_id=order_id,
        attributes=dict(_attributes(rule, facts)),
    )


def _attributes(rule: CustomerRule, facts: Facts) -> Iterator[tuple[str, object]]:
    further = {} if rule.attributes is None else value_of(rule.attributes, facts, "customer.attributes")
    if further is not MISSING and further is not None:
        if not isinstance(further, dict):
            raise Unmappable("customer.attributes should be an object, and something else stands there.")
        for name, value in further.items():
            yield from _attribute(name, value)
    for name, wanted in rule.named_attributes.items():
        yield from _attribute(name, value_of(wanted, facts, f"customer.{name}"))


def _attribute(name: str, value: object) -> Iterator[tuple[str, object]]:
    if value is MISSING or value is None:
        return
    if isinstance(value, dict | list) or not _FIELD_NAME.fullmatch(name):
        raise Unmappable(f"customer.{_shown(name)} is not one plain value under a plain name.")
    yield name, stored(value)


def _consent(rule: ConsentRule | None, facts: Facts, received_at: datetime) -> Consent | None:
    if rule is None:
        return None
    state = text(rule.state, facts, "consent.state")
    if state is None:
        return None
    if state not in ("granted", "withdrawn"):
        raise Unmappable("consent.state should come to granted or withdrawn.")
    basis = _named(rule.basis, facts, "basis", None)
    if basis not in BASES:
        raise Unmappable(f"consent.basis should come to {', '.join(BASES[:-1])} or {BASES[-1]}.")
    return Consent(
        state="granted" if state == "granted" else "withdrawn",
        topic=_named(rule.topic, facts, "topic", None) or "*",
        at=moment(rule.at, facts, "consent.at", received_at),
        evidence=text(rule.evidence, facts, "consent.evidence"),
        basis=basis,
    )


def _account(rule: Rule, facts: Facts) -> Account | None:
    if rule.account is None:
        return None
    account_id = text(rule.account.id, facts, "account.id")
    if account_id is None:
        return None
    further = {} if rule.account.attributes is None else value_of(rule.account.attributes, facts, "account.attributes")
    known = dict(further) if isinstance(further, dict) else {}
    for name, wanted in rule.account.named_attributes.items():
        known[name] = value_of(wanted, facts, f"account.{name}")
    said = {name: stored(value) for name, value in known.items() if isinstance(value, str | int | float | Decimal)}
    return Account(id=account_id, name=text(rule.account.name, facts, "account.name"), attributes=said)


def _payload(rule: Rule, facts: Facts) -> dict[str, object]:
    if not isinstance(rule.payload, TakenOver):
        return _group(rule.payload, facts, "")
    whole = value_of(rule.payload.from_, facts, "payload")
    if not isinstance(whole, dict):
        raise Unmappable(f"There is no object at `{rule.payload.from_.expression.text}` to take over.")
    left_out = RESERVED.union(rule.payload.without)
    return {name: stored(value) for name, value in whole.items() if value is not None and name not in left_out}


def _group(group: Mapping[str, Any], facts: Facts, before: str) -> dict[str, object]:
    """The fields that are there; a group of which none is there is left out as a whole."""
    result: dict[str, object] = {}
    for name, node in group.items():
        found: object
        if type(node) is Value:
            found = value_of(node, facts, before + name)
            if found is MISSING or found is None:
                continue
            found = stored(found)
        elif type(node) is ListOfItems:
            found = _list(node, facts, before + name)
            if found is None:
                continue
        else:
            found = _group(node, facts, f"{before}{name}.")
            if not found:
                continue
        result[name] = found
    return result


def _list(node: ListOfItems, facts: Facts, place: str) -> list[dict[str, object]] | None:
    entries = value_of(node.each, facts, place)
    if entries is MISSING or entries is None:
        return None
    if not isinstance(entries, list):
        raise Unmappable(f"{place} should be a list, and something else stands there.")
    inner = dict(facts)
    found = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise Unmappable(f"An entry of {place} should be an object, and something else stands there.")
        inner["item"] = entry
        found.append(_group(node.fields, inner, f"{place}[]."))
    return found
