"""What was decided about a referral, in words: for the command line and for pages. Says numbers and never names."""

from collections.abc import Mapping
from typing import Any, Final

_RULES: Final[Mapping[str, str]] = {
    "same-customer": "Both are customer {customer}.",
    "same-email": "Customers {referrer} and {referee} have one mailbox.",
    "same-phone": "Customers {referrer} and {referee} have one phone number.",
    "existing-customer": "The referee had bought before: orders before this one: {orders_before}.",
    "known-by-another-spelling": "The referee's mailbox belongs to customer {customer}, who was here before.",
    "was-forgotten": "Somebody with this address was a customer and was forgotten.",
    "already-referred": "The referee's mailbox or phone number was referred before, in referral {referral}.",
    "too-many-in-a-day": "Referrals of this referrer within 24 hours: {in_a_day}; more than {limit} need a look.",
    "similar-names": "The two have similar names ({percent} %).",
    "similar-addresses": "The two have similar e-mail addresses ({percent} %).",
    "disposable-address": "The referee's address is of a domain that gives addresses for some minutes.",
    "same-postal-address": "The postal address is shared with {customers} other(s) around this referrer.",
    "same-payment": "The means of payment is shared with {customers} other(s) around this referrer.",
    "ring": "The referral closes a ring of {people} people who brought each other.",
    "often-undone": "Of this referrer's {referrals} settled referrals {percent} % were undone.",
    "too-fast": "The order came {seconds} seconds after the click.",
}


def findings(evidence: Mapping[str, Any]) -> list[str]:
    """The rules of a judgement in words, each with what it added to the score."""
    rules = evidence.get("rules")
    if not isinstance(rules, Mapping):
        return []
    return [f"{_finding(rule, numbers)} (+{numbers.get('weight', 0)})" for rule, numbers in rules.items()]


def _finding(rule: str, numbers: Mapping[str, Any]) -> str:
    try:
        return _RULES[rule].format_map(numbers)
    except KeyError:  # of an older or newer release
        return f"{rule}."


def summary(because: str, evidence: Mapping[str, Any]) -> str:
    """A decision in one line: the reason, and the numbers that are no rules."""
    shown = {name: value for name, value in evidence.items() if name not in ("rules", "verdict") and value != []}
    told = ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in shown.items())
    return f"{because[:1].upper()}{because[1:]}" + (f" ({told})." if told else ".")


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
