"""What was missed, out of a provider's list: which page to ask for, and what its items would have been as webhooks."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import orjson

from afterglow import past
from afterglow.errors import AfterglowError
from afterglow.language.catalog import Catalog
from afterglow.language.source import BackfillList, Source
from afterglow.mapping import Ignored, Mapped, PrivacyRequest, Unmappable, map_element
from afterglow.mapping.intake import elements, parsed

#: Hosts to which a token may go without TLS: this machine.
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class BackfillError(AfterglowError):
    """A provider's list cannot be read on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Missed:
    """One element as the inbox takes it."""

    key: str
    digest: bytes
    headers: Mapping[str, str]
    body: bytes
    occurred_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What one answer holds."""

    missed: tuple[Missed, ...]
    #: Items that no rule speaks of, and events outside the span that was asked for.
    let_go: int
    #: The address of the next page; None after the last.
    next: str | None


def first_page(wanted: BackfillList, names: Mapping[str, str], since: datetime, until: datetime) -> str:
    """The address of a list's first page.

    Args:
      names: what the environment holds, by the source file's names.

    Raises:
      BackfillError: a name that is not there, or an address to which no token may go.
    """
    moments = {
        "since": _written(since),
        "until": _written(until),
        "since_epoch": str(int(since.timestamp())),
        "until_epoch": str(int(until.timestamp())),
    }
    return _allowed(
        filled(wanted.get, {name: quote(value, safe="") for name, value in (dict(names) | moments).items()})
    )


def filled(template: str, names: Mapping[str, str]) -> str:
    """A text with each {name} filled in.

    Raises:
      BackfillError: for a name that is not there.
    """
    try:
        return template.format_map(names)
    except (KeyError, IndexError, ValueError) as error:
        raise BackfillError(
            f"'{template.partition('?')[0]}' of the source file names {error}, which is not there: "
            f"known are {', '.join(sorted(names))}."
        ) from None


def read_page(
    catalog: Catalog,
    source: Source,
    wanted: BackfillList,
    address: str,
    answered: Mapping[str, str],
    body: bytes,
    *,
    since: datetime,
    until: datetime,
    now: datetime,
    late_seconds: int,
) -> Page:
    """What a page says.

    Args:
      address: of this page.
      answered: the answer's headers, by lower-cased name.
      late_seconds: how long after it happened an event still starts flows.

    Raises:
      BackfillError: the page is not what the source file takes it for.
    """
    try:
        whole = parsed(body)
    except Unmappable as error:
        raise BackfillError(f"{_where(address)} gave no JSON: {error}") from None
    facts: dict[str, object] = {"body": whole, "headers": dict(answered), "item": whole}
    items = wanted.each.expression.value(facts)
    if not isinstance(items, list):
        raise BackfillError(f"There is no list at `{wanted.each.expression.text}` in what {_where(address)} gave.")
    missed: list[Missed] = []
    let_go = 0
    for item in items:
        for headers in _as_webhooks(wanted, item):
            one = _missed(catalog, source, wanted, headers, orjson.dumps(item), now, late_seconds)
            if one is None or (one.occurred_at is not None and not since <= one.occurred_at < until):
                let_go += 1
            else:
                missed.append(one)
    return Page(missed=tuple(missed), let_go=let_go, next=_next(wanted, address, answered, facts, items))


def _as_webhooks(wanted: BackfillList, item: Any) -> Iterator[dict[str, str]]:
    """The headers of each webhook that an item would have been."""
    for element in wanted.elements:
        facts: dict[str, object] = {"body": item, "item": item, "headers": {}}
        if element.when is not None and not element.when.expression.is_true(facts):
            continue
        said = {name.lower(): value.expression.value(facts) for name, value in element.headers.items()}
        yield {name: value for name, value in said.items() if isinstance(value, str)}


def _missed(
    catalog: Catalog,
    source: Source,
    wanted: BackfillList,
    headers: dict[str, str],
    body: bytes,
    now: datetime,
    late_seconds: int,
) -> Missed | None:
    """An item as an element of the inbox; None where no rule speaks of it."""
    kept = {**headers, past.FETCHED: str(late_seconds)}
    known_events, known_stages = catalog.events, catalog.stage_names
    key = elements(source, headers, body)[0].key
    occurred_at = None
    try:
        mapped = map_element(
            source, headers, body, received_at=now, known_events=known_events, known_stages=known_stages
        )
    except Unmappable:  # it goes in all the same, and is parked there with its reason, as a webhook would be
        if wanted.same_by == "event":
            key = f"{past.MARK}sha256:{hashlib.sha256(body + repr(sorted(headers.items())).encode()).hexdigest()}"
    else:
        if isinstance(mapped, Ignored):
            return None
        if isinstance(mapped, PrivacyRequest):
            return None  # a list tells of what happened, never of what somebody asks for
        if isinstance(mapped, Mapped):
            occurred_at = mapped.occurred_at
        elif wanted.same_by == "event":
            raise BackfillError(
                f"What {source.name} lists lacks the document '{mapped.name}' and cannot be known by the event; "
                f"say `same_by: key` in flows/sources/{source.name}.yaml, or leave the element out."
            )
        if isinstance(mapped, Mapped) and wanted.same_by == "event":
            order_event = catalog.shop.model.order_event
            subject = past.subject(mapped.event, mapped.payload, mapped.customer.external_id, order_event)
            if subject is None:
                raise BackfillError(
                    f"{mapped.event} may happen to an order more than once, so that it cannot be known by the event; "
                    f"say `same_by: key` in flows/sources/{source.name}.yaml, or leave the element out."
                )
            key = past.past_key(mapped.event, subject)
    return Missed(key=key, digest=hashlib.sha256(body).digest(), headers=kept, body=body, occurred_at=occurred_at)


def _next(
    wanted: BackfillList, address: str, answered: Mapping[str, str], facts: dict[str, object], items: list[Any]
) -> str | None:
    if wanted.next == "link":
        following = _linked(answered.get("link", ""))
        if following is None:
            return None
        if urlsplit(following)[:2] != urlsplit(address)[:2]:
            raise BackfillError(f"{_where(address)} names a next page on another host; the token does not go there.")
        return _allowed(following)
    if not items or not wanted.next.more.expression.is_true(facts):
        return None
    value = wanted.next.value.expression.value({**facts, "item": items[-1]})
    if not isinstance(value, str | int):
        raise BackfillError(f"The last item of {_where(address)} has no `{wanted.next.value.expression.text}`.")
    parts = urlsplit(address)
    query = [(name, said) for name, said in parse_qsl(parts.query) if name != wanted.next.parameter]
    return urlunsplit(parts._replace(query=urlencode([*query, (wanted.next.parameter, str(value))])))


def _linked(header: str) -> str | None:
    """The address with rel="next" of a Link header."""
    for part in header.split(","):
        address, _, parameters = part.strip().partition(">")
        if address.startswith("<") and 'rel="next"' in parameters.replace("rel=next", 'rel="next"'):
            return address[1:]
    return None


def _allowed(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise BackfillError(f"{_where(address)} is not https; a token does not go there.")
    return address


def _where(address: str) -> str:
    """An address without what stands in its query, fit for a sentence."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
