"""When a path of a source's events, filled until now, is no longer filled: the provider changed what it sends.

Of each path the latest 50 events are remembered one by one, and of those before them how often it was filled, the old
ones counting less and less. It has drifted when it was filled in at least 90 % of at least 50 earlier events, and is
filled in less than 10 % of the latest 50. That is over when it is filled in half of the latest 50 again. While
it is filled in fewer than half, nothing is learned, so that a drift never becomes usual by lasting.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from afterglow.language.source import ANY_EVENT, Source, supplies
from afterglow.silence import spoken

#: Events that are remembered one by one, and the least that there must have been before them.
LATEST: Final = 50
#: At so many, earlier events begin to count half.
SEEN_MAX: Final = 400
#: Shares by which a path has drifted, and by which that is over.
USUAL_MIN: Final = 0.9
NOW_MAX: Final = 0.1
OVER_MIN: Final = 0.5
#: Facts about the customer that can be seen to be known or not.
CUSTOMER: Final = ("email", "phone", "first_name", "last_name")


@dataclass(frozen=True, kw_only=True, slots=True)
class Filling:
    """How often a path is filled."""

    #: Events before the latest, and of these those in which it was filled.
    seen: int = 0
    present: int = 0
    #: A bit for each of the latest events, the newest lowest; how many of the bits are in use.
    latest: int = 0
    latest_seen: int = 0

    @property
    def usual(self) -> float:
        """The share of the earlier events in which it was filled."""
        return self.present / self.seen if self.seen else 0.0

    @property
    def now(self) -> float:
        """The share of the latest events in which it was filled."""
        return self.latest.bit_count() / self.latest_seen if self.latest_seen else 0.0

    @property
    def _is_usual(self) -> bool:
        return self.seen >= LATEST and self.usual >= USUAL_MIN and self.latest_seen == LATEST

    @property
    def has_drifted(self) -> bool:
        """Whether it was filled and is not any more."""
        return self._is_usual and self.now < NOW_MAX

    @property
    def is_well(self) -> bool:
        """Whether a drift is over."""
        return not self._is_usual or self.now >= OVER_MIN

    def after(self, filled: bool) -> "Filling":
        """The same after one event more."""
        latest = (self.latest << 1 | filled) & ((1 << LATEST) - 1)
        if self.latest_seen < LATEST:
            return replace(self, latest=latest, latest_seen=self.latest_seen + 1)
        if not self.is_well:
            return replace(self, latest=latest)
        seen, present = self.seen + 1, self.present + (self.latest >> (LATEST - 1) & 1)
        if seen >= SEEN_MAX:
            seen, present = seen // 2, present // 2
        return replace(self, latest=latest, seen=seen, present=present)


def watched(source: Source) -> dict[str, frozenset[str]]:
    """The paths of a source's events that should be filled, by the event's name; `*` where the payload names it.

    What a payload takes over as it came has no paths of its own. Beside those of the payload, what the rules read of
    the customer: "customer.email".
    """
    paths = {event: set(kinds) for event, kinds in supplies(source).items()}
    for rule in source.events:
        if rule.event is not None and rule.customer is not None:
            event = rule.event if isinstance(rule.event, str) else ANY_EVENT
            paths[event] |= {f"customer.{name}" for name in CUSTOMER if getattr(rule.customer, name) is not None}
    return {event: frozenset(of_event) for event, of_event in paths.items()}


def is_filled(payload: Mapping[str, Any], path: str) -> bool | None:
    """Whether a payload holds something at a path (`order.total`, `order.items[].title`).

    A field of a list's entries is filled where one of them has it; None where the list is empty, which says nothing.
    """
    found: list[Any] = [payload]
    for name in path.split("."):
        key = name.removesuffix("[]")
        found = [inner[key] for inner in found if isinstance(inner, Mapping) and inner.get(key) is not None]
        if name.endswith("[]"):
            found = [entry for entries in found if isinstance(entries, list) for entry in entries]
            if not found:
                return None
    return any(value not in ("", []) for value in found)


def told(source: str, event: str, path: str, usual: float, now: float) -> str:
    """The alarm in plain words, and what to do.

    Args:
      usual: the share of earlier events in which the path was filled.
      now: the same of the latest ones.
    """
    return (
        f"{spoken(source)}'s {event} no longer brings {path}: it was filled in {_percent(usual)} of the events, "
        f"and is in {_percent(now)} of the latest {LATEST}. Compare a webhook of today with "
        f"flows/sources/{source}.yaml: the provider may have renamed the field, or the app may have lost the right to "
        "read it."
    )


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"
