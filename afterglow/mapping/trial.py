"""Trying a request: what it would become, element by element, with the rule that held. Nothing is kept.

The same functions as the real way (`elements`, then `map_element`), so that a trial cannot tell another story.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from afterglow.language.source import Source
from afterglow.mapping.facts import Ignored, Mapped, PrivacyRequest, Unmappable
from afterglow.mapping.fetching import Lacking
from afterglow.mapping.intake import Element, elements, read_element
from afterglow.mapping.rules import holding_rule, map_element


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What one element of a request would become."""

    element: Element = field(repr=False)
    #: The place of the rule that held among the source's (from 0); None where none did, or the body is unreadable.
    rule: int | None
    result: Mapped | Ignored | Lacking | PrivacyRequest | Unmappable


def tried(
    source: Source,
    headers: Mapping[str, str],
    body: bytes,
    *,
    received_at: datetime,
    known_events: Mapping[str, Mapping[str, str]] | None = None,
    known_stages: Collection[str] | None = None,
) -> list[Trial]:
    """What each element of a request would become, in the order of the request.

    A body that cannot be divided is one element that would be parked, as at the real intake.

    Args:
      headers: by lower-cased name.
      received_at: aware; see `map_element`, as for the rest.
    """
    try:
        parts = elements(source, headers, body)
    except Unmappable as error:
        digest = hashlib.sha256(body).hexdigest()
        return [Trial(element=Element(key=f"sha256:{digest}", digest=digest, body=body), rule=None, result=error)]
    trials = []
    for part in parts:
        result: Mapped | Ignored | Lacking | PrivacyRequest | Unmappable
        rule = None
        try:
            whole = read_element(source, headers, part.body)
            rule = holding_rule(source, {"headers": dict(headers), "body": whole, "item": whole})
            result = map_element(
                source,
                headers,
                part.body,
                received_at=received_at,
                known_events=known_events,
                known_stages=known_stages,
            )
        except Unmappable as error:
            result = error
        trials.append(Trial(element=part, rule=rule, result=result))
    return trials
