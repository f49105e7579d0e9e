"""What the doctor says about the way in: sources without a secret, without addresses, and clocks that disagree.

Apart from `examine`, because nothing here is lost or stuck: it is what a shop that is being connected still lacks.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.language.source import Source
from afterglow.signatures import SCHEMES, TOLERANCE, BadSignature, secret_problem
from db.catalog import CatalogCache, NothingAppliedError
from db.checks import Severity
from db.doctor import EXAMPLES, Finding
from db.reception import newest_headers
from db.settings import Settings, source_secrets
from db.tables import events, profiles

#: The newest events and webhooks that are looked at, of all sources together.
NEWEST: Final = 5_000
#: Fewer customers of a source may all be without an address by chance.
CUSTOMERS_MIN: Final = 10
#: Fewer signed moments say nothing about a clock.
MOMENTS_MIN: Final = 5
#: Clocks that differ by more will be noticed soon: signatures are refused at five minutes.
SKEW: Final = timedelta(seconds=30)

#: What to do where a source brings no addresses, by the way it signs; providers hide them for reasons of their own.
_ADDRESSES: Final[Mapping[str, str]] = {
    "shopify": "In Shopify, give the app access to protected customer data, e-mail included; on the Basic plan custom "
    "apps do not get it, so there the plan must change.",
}
_ADDRESSES_ELSE: Final = (
    "Customers without one get no mail: see at the provider whether its plan or the scopes of its app hide addresses, "
    "and with `afterglow source try` whether the file reads them from the right place."
)


def examine_sources(
    connection: Connection,
    now: datetime,
    settings: Settings,
    *,
    here: datetime,
    catalog: CatalogCache | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[Finding]:
    """What the way in still lacks; an empty list where nothing is missing.

    Args:
      now: by the database's clock.
      here: the same instant by this machine's clock, which judges the age of signatures.
      environ: where secrets stand; the process's own environment and `.env` unless given.
    """
    found = [*_clocks(now, here), *_public_address(settings)]
    try:
        sources = (catalog or CatalogCache()).current(connection).catalog.sources
    except NothingAppliedError:
        return found
    found += _secrets(sources, environ)
    found += _addresses(connection, sources)
    found += _skews(connection, sources)
    return found


def _secrets(sources: Mapping[str, Source], environ: Mapping[str, str] | None) -> Iterator[Finding]:
    without, unusable = [], []
    for name, source in sorted(sources.items()):
        if source.auth == "none":
            continue
        secrets = source_secrets(tuple(source.auth.secrets), environ)
        if not secrets:
            without.append(f"{name}: {' or '.join(source.auth.secrets)}")
        elif any(secret_problem(source.auth.scheme, secret) for secret in secrets):
            unusable.append(name)
    if without:
        yield _finding(
            "source without a secret",
            "sources have no secret set here, so that every webhook of theirs is refused",
            without,
            "`afterglow connect SOURCE` says how to connect one; delete the files of those that you do not use.",
        )
    if unusable:
        yield _finding(
            "secret that is none",
            "sources have a secret that cannot be one of their kind",
            unusable,
            "Copy it again from the provider; `afterglow connect SOURCE` says what is wrong with it.",
            "error",
        )


def _addresses(connection: Connection, sources: Mapping[str, Source]) -> Iterator[Finding]:
    """Of the customers of a source's newest events none has an address."""
    v, p = events.c, profiles.c
    newest = sa.select(v.source, v.customer_id).order_by(v.id.desc()).limit(NEWEST).subquery("newest")
    people = sa.select(newest.c.source, newest.c.customer_id).distinct().subquery("people")
    query = (
        sa.select(people.c.source, sa.func.count(), sa.func.count(p.email))
        .join(profiles, p.customer_id == people.c.customer_id)
        .group_by(people.c.source)
        .order_by(people.c.source)
    )
    for name, customers, with_address in connection.execute(query):
        source = sources.get(name)
        if source is None or with_address or customers < CUSTOMERS_MIN or not _reads_addresses(source):
            continue
        scheme = "" if source.auth == "none" else source.auth.scheme
        yield Finding(
            check="no addresses",
            severity="warning",
            what=f"customers came last from {name}, and not one of them has an e-mail address",
            count=customers,
            examples=(),
            what_to_do=_ADDRESSES.get(scheme, _ADDRESSES_ELSE),
        )


def _reads_addresses(source: Source) -> bool:
    return any(rule.customer is not None and rule.customer.email is not None for rule in source.events)


def _skews(connection: Connection, sources: Mapping[str, Source]) -> Iterator[Finding]:
    """Signed moments of what was accepted, against when it came; what is off by more was refused and is not here."""
    signing = {name: source.auth.scheme for name, source in sources.items() if source.auth != "none"}
    late: dict[str, list[float]] = {}
    for name, received_at, headers in newest_headers(connection, signing.keys(), NEWEST):
        try:
            signed_at = SCHEMES[signing[name]].claim(headers).signed_at
        except BadSignature:  # its signature is not among the headers that are kept
            continue
        if signed_at is not None:
            late.setdefault(name, []).append(received_at.timestamp() - signed_at)
    for name, seconds in sorted(late.items()):
        typical = median(seconds)
        if len(seconds) < MOMENTS_MIN or abs(typical) <= SKEW.total_seconds():
            continue
        order = "before they are signed" if typical < 0 else "after they were signed"
        yield Finding(
            check="clock skew",
            severity="warning",
            what=f"webhooks of {name} come {abs(round(typical))} seconds {order}, by this machine's clock",
            count=len(seconds),
            examples=(),
            what_to_do=f"Set the clock by NTP: at {TOLERANCE.seconds} seconds every one of them is refused.",
        )


def _clocks(now: datetime, here: datetime) -> Iterator[Finding]:
    off = (here - now).total_seconds()
    if abs(off) > SKEW.total_seconds():
        yield Finding(
            check="clock skew",
            severity="warning",
            what=f"clock is {abs(round(off))} seconds {'ahead of' if off > 0 else 'behind'} the database's",
            count=1,
            examples=(),
            what_to_do="Set both by NTP: this machine's judges signatures, the database's says when mails are due.",
        )


def _public_address(settings: Settings) -> Iterator[Finding]:
    if settings.live == "yes" and not settings.is_public:
        yield Finding(
            check="public address",
            severity="warning",
            what=f"address leads nowhere for customers: mails go out, and their links begin with {settings.public_url}",
            count=1,
            examples=(),
            what_to_do="Set AFTERGLOW_PUBLIC_URL to the address by which the proxy is reached, and start again.",
        )


def _finding(check: str, what: str, names: Sequence[str], what_to_do: str, severity: Severity = "warning") -> Finding:
    return Finding(
        check=check,
        severity=severity,
        what=what,
        count=len(names),
        examples=tuple(names[:EXAMPLES]),
        what_to_do=what_to_do,
    )
