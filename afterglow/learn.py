"""What an event says about its customer: news overwrites, older news only fills gaps."""

from decimal import Decimal
from typing import Any

from afterglow.language.company import is_of_colleague
from afterglow.language.shop import Kind, Shop
from afterglow.mapping import Account, CustomerFacts, Mapped
from afterglow.person import Person
from afterglow.whereabouts import language_of, zone_of


def learn(person: Person, mapped: Mapped, shop: Shop) -> str | None:
    """Change a person by what an event says; a remark where something of it could not be used.

    A stage is older when it was entered earlier, never because of its place in the list: the journey is a loop.
    """
    about_person, about_account = learn_about(person, mapped, shop), _left_out(mapped.account, shop)
    remarks = "; ".join(filter(None, [about_person, about_account])) or None
    if is_of_colleague(mapped.event):
        return remarks  # what somebody else did, ordered or gave back
    if mapped.stage is not None and (person.stage_at is None or mapped.occurred_at >= person.stage_at):
        person.stage, person.stage_at = mapped.stage, mapped.occurred_at
    if mapped.event == shop.model.order_event:
        person.orders += 1
        person.spent += shop.to_minor(_amount(mapped, "order", "total"))
        person.last_order_at = max(person.last_order_at or mapped.occurred_at, mapped.occurred_at)
    person.spent -= shop.to_minor(_amount(mapped, "refund", "amount"))
    return remarks


def learn_about(person: Person, mapped: Mapped, shop: Shop, *, only_gaps: bool = False) -> str | None:
    """Learn who somebody is, and nothing of what happened. News that is older than what we know only fills gaps."""
    newer = not only_gaps and (person.updated_at is None or mapped.occurred_at >= person.updated_at)
    who = mapped.customer
    for name in ("email", "phone", "first_name", "last_name"):
        said = getattr(who, name)
        if said is not None and (newer or getattr(person, name) is None):
            setattr(person, name, said)
    if who.country is not None and (newer or person.country is None):
        person.country, person.region = who.country, who.region  # of one address, so never one of them alone
    _learn_whereabouts(person, who, newer)
    remarks = []
    for name, said in who.attributes.items():
        kind = shop.attributes.get(name)
        if said is None or kind is None:
            continue
        if name == "role" and shop.model.accounts is not None and said not in shop.model.accounts.roles:
            remarks.append(f"the role '{str(said)[:60]}' is none of shop.yaml and was left out")
        elif not is_kind(said, kind):
            remarks.append(f"attribute {name} is not a {kind} and was left out")
        elif newer or name not in person.attributes:
            person.attributes[name] = said
    if newer:
        person.updated_at = mapped.occurred_at
    return "; ".join(remarks) or None


def known_of(account: Account, shop: Shop) -> dict[str, Any]:
    """What is to be known of a company: attributes that shop.yaml declares, of the kind that it says."""
    return {name: said for name, said, kind in _declared(account, shop) if is_kind(said, kind)}


def _left_out(account: Account | None, shop: Shop) -> str | None:
    """A remark where an attribute of a company is of another kind than shop.yaml says."""
    wrong = [] if account is None else [one for one in _declared(account, shop) if not is_kind(one[1], one[2])]
    return "; ".join(f"attribute account.{name} is not a {kind} and was left out" for name, _, kind in wrong) or None


def _declared(account: Account, shop: Shop) -> list[tuple[str, object, Kind]]:
    declared = shop.model.accounts.attributes if shop.model.accounts is not None else {}
    return [(name, said, declared[name]) for name, said in account.attributes.items() if name in declared]


def _learn_whereabouts(person: Person, who: CustomerFacts, newer: bool) -> None:
    """The person's locale and zone: what a source told beats what is derived, and a derived one follows the facts."""
    if who.locale is not None and (newer or not _is_told(person.locale, person.locale_from)):
        person.locale, person.locale_from = who.locale, "told"
    if who.timezone is not None and (newer or not _is_told(person.timezone, person.timezone_from)):
        person.timezone, person.timezone_from = who.timezone, "told"
    if who.country is None and who.phone is None and who.locale is None:
        return  # nothing came from which anything could be derived
    if not _is_told(person.locale, person.locale_from):
        language = language_of(person.country)
        person.locale, person.locale_from = (language.value, language.origin) if language else (None, None)
    if not _is_told(person.timezone, person.timezone_from):
        zone = zone_of(
            country=person.country,
            region=person.region,
            phone=person.phone,
            locale=person.locale if _is_told(person.locale, person.locale_from) else None,
        )
        person.timezone, person.timezone_from = (zone.value, zone.origin) if zone else (None, None)


def _is_told(value: str | None, taken_from: str | None) -> bool:
    """Whether a source gave it; NULL beside a value is of before it was noted, when nothing was derived."""
    return value is not None and taken_from in (None, "told")


def is_kind(value: object, kind: Kind) -> bool:
    """Whether a value is of the kind that shop.yaml declares."""
    match kind:
        case "text" | "date":
            return isinstance(value, str)
        case "number":
            return isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        case "yes-no":
            return isinstance(value, bool)


def _amount(mapped: Mapped, name: str, part: str) -> Decimal:
    holder = mapped.payload.get(name)
    value = holder.get(part) if isinstance(holder, dict) else None
    # A float comes from an event of our own that the shop does not declare; its shortest text is what was written.
    return Decimal(str(value)) if isinstance(value, Decimal | int | float) else Decimal(0)
