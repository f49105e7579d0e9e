"""Which columns a file may have, by its kind, and under which further names shops export them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from afterglow.errors import AfterglowError
from afterglow.problems import did_you_mean


class ColumnsError(AfterglowError):
    """A file's columns are not those that its kind can have."""


_WHO: Final[Mapping[str, str]] = {
    "id": "the customer's id at the source",
    "email": "the address; it is normalised, and must be one",
}
_PROFILE: Final[Mapping[str, str]] = {
    "phone": "kept where it is a number with its country, such as +33 1 23 45 67 89",
    "first_name": "",
    "last_name": "",
    "locale": "such as fr or fr-CA",
    "timezone": "such as Europe/Paris",
}
_CONSENT: Final[Mapping[str, str]] = {
    "consent": "granted (yes, subscribed) or withdrawn (no, unsubscribed); empty, pending and never say nothing",
    "consent_at": "when the customer said so",
    "consent_topic": "a topic of shop.yaml; all marketing unless given",
    "consent_basis": "consent, existing-customer or service; consent unless given",
    "consent_words": "how it was given, kept as evidence",
}

#: Column and meaning by kind of file. Attributes of shop.yaml may stand beside those of customers, further fields of
#: the order's event, as `order.NAME`, beside those of orders.
COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "customers": {
        **_WHO,
        **_PROFILE,
        "created_at": "since when the shop knows them",
        "updated_at": "how new the row is; without it a row only fills what is not known",
        "stage": "a stage of stages.yaml; as a webhook of the source would say unless given",
        "stage_at": "when they entered it; created_at unless given",
        **_CONSENT,
    },
    "orders": {
        "order_id": "the order's id at the source, the same as in its webhooks",
        "order_number": "what the customer knows it by",
        "total": "in whole units of the currency, such as 40.50, less what was paid back",
        "currency": "the shop's unless given",
        "paid_at": "when it was paid",
        "customer_id": "the customer's id at the source",
        "email": _WHO["email"],
        **_PROFILE,
        "stage": "the stage that the order brought; as a webhook of the source would say unless given",
        "url": "the order's page",
        "items": "in JSON Lines only: a list of {title, variant, sku, quantity, price}",
    },
    "consent": {**_WHO, **_CONSENT},
    "suppressions": {
        "email": "the address that gets no more; only its keyed hash is kept",
        "reason": "bounced, complained or by-hand; by-hand unless given",
        "covers": "marketing or everything; everything for bounced and complained, else marketing, unless given",
        "at": "since when",
    },
    "referral-codes": {
        **_WHO,
        "programme": "the referral programme's name",
        "code": "the customer's own code",
        "made_at": "since when it is theirs",
    },
    "balances": {
        **_WHO,
        "programme": "the loyalty programme's name",
        "points": "how many points there are, a whole number; or:",
        "credit": "store credit in whole units of the shop's currency, such as 12.50",
        "expires_at": "the first moment at which they cannot be spent; as the programme says unless given",
        "at": "when it was so; as old as the file unless given",
        "key": "tells balances of one customer apart, such as those that expire at different times",
    },
}

#: At least one of each group must be there.
NEEDED: Final[Mapping[str, Sequence[tuple[str, ...]]]] = {
    "customers": [("id", "email")],
    "orders": [("order_id",), ("total",), ("paid_at",), ("customer_id", "email")],
    "consent": [("id", "email"), ("consent",)],
    "suppressions": [("email",)],
    "referral-codes": [("id", "email"), ("programme",), ("code",)],
    "balances": [("id", "email"), ("programme",), ("points", "credit")],
}

#: Names that shops export the same columns under, once lower-cased with one underscore for all that is no letter.
_ALSO_CALLED: Final[Mapping[str, Mapping[str, str]]] = {
    "customers": {
        "customer_id": "id",
        "e_mail": "email",
        "email_address": "email",
        "firstname": "first_name",
        "lastname": "last_name",
        "surname": "last_name",
        "accepts_email_marketing": "consent",
        "accepts_marketing": "consent",
        "time_zone": "timezone",
        "language": "locale",
    },
    "orders": {
        "id": "order_id",
        "order": "order_id",
        "name": "order_number",
        "number": "order_number",
        "e_mail": "email",
        "customer_email": "email",
        "time_zone": "timezone",
    },
    "consent": {
        "customer_id": "id",
        "e_mail": "email",
        "email_address": "email",
        "state": "consent",
        "at": "consent_at",
        "topic": "consent_topic",
        "basis": "consent_basis",
        "words": "consent_words",
        "evidence": "consent_words",
    },
    "suppressions": {"e_mail": "email", "email_address": "email", "address": "email"},
    "referral-codes": {"customer_id": "id", "e_mail": "email", "program": "programme", "referral_code": "code"},
    "balances": {
        "customer_id": "id",
        "e_mail": "email",
        "email_address": "email",
        "program": "programme",
        "balance": "points",
        "points_balance": "points",
        "store_credit": "credit",
        "expiry": "expires_at",
        "expires": "expires_at",
        "as_of": "at",
    },
}


def columns_of(
    kind: str,
    header: Sequence[str],
    *,
    further: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
    ignored: Collection[str] = (),
) -> list[str | None]:
    """Our name of each column of a file; None where it is not read.

    Args:
      further: what the shop's files allow besides: attributes, or fields of the order's event as `order.NAME`.
      renamed: our name by the file's, as the person who imports says.
      ignored: the file's names of columns that are not read.

    Raises:
      ColumnsError: an unknown column, one that is there twice, or one that is missing, in one sentence.
    """
    known = {*COLUMNS[kind], *further}
    renamed = {_plain(old): new for old, new in (renamed or {}).items()}
    left_out = {_plain(name) for name in ignored}
    found: list[str | None] = []
    unknown = []
    for written in header:
        name = _plain(written)
        ours = renamed.get(name) or (name if name in known else _ALSO_CALLED[kind].get(name, name))
        if ours in known:
            found.append(None if name in left_out else ours)
        elif name in left_out or not name:
            found.append(None)
        else:
            unknown.append(f"'{written.strip()}'{did_you_mean(name, known).rstrip('?').lower()}")
    if unknown:
        raise ColumnsError(
            f"A file of {kind} has no column {', nor '.join(unknown)}; its columns are {', '.join(sorted(known))}: say "
            "--rename THEIRS=OURS or --ignore THEIRS."
        )
    there = [name for name in found if name is not None]
    if twice := sorted({name for name in there if there.count(name) > 1}):
        raise ColumnsError(f"The column {twice[0]} is there twice; say --ignore for one of them.")
    for group in NEEDED[kind]:
        if not set(group) & set(there):
            raise ColumnsError(
                f"A file of {kind} needs a column {' or '.join(group)}, and this one has none; its columns are "
                f"{', '.join(sorted(there)) or 'none that are known'}."
            )
    return found


def _plain(name: str) -> str:
    """A column's name as we write them: `E-Mail Address` is `email_address`; dots stay."""
    words = "".join(letter if letter.isalnum() or letter == "." else " " for letter in name.strip().lower())
    return "_".join(words.split())
