"""Who is in a segment, and when that may change by time alone. Pure: the same facts and instant, the same answer."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from afterglow import telling
from afterglow.decide import Event
from afterglow.expressions import MISSING
from afterglow.expressions.evaluate import Evaluate, Work, compiled
from afterglow.expressions.filters import number
from afterglow.expressions.values import arithmetic, is_number
from afterglow.language.segment import Segment, moments
from afterglow.language.shop import Shop, exact
from afterglow.person import Person

#: What divides customers with orders into fifths, and what of a customer it looks at.
MEASURES: Final[Mapping[str, Callable[[Person], int | None]]] = {
    "recency": lambda person: None if person.last_order_at is None else microseconds(person.last_order_at),
    "frequency": lambda person: person.orders,
    "monetary": lambda person: person.spent,
}
_MICROSECOND: Final = timedelta(microseconds=1)

#: Where the fifths begin, by measure: four numbers each, ascending.
Cuts = Mapping[str, Sequence[int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is known of one customer: `events` are those of the names that segments read, oldest first."""

    person: Person
    events: Sequence[Event] = ()
    account: Mapping[str, Any] | None = None
    cuts: Cuts = field(default_factory=dict)

    def names(self, shop: Shop) -> dict[str, Any]:
        """The names that the conditions of segments see."""
        return {
            "customer": self.person.facts(shop),
            "account": self.account,
            "shop": shop.facts,
            "rfm": fifths(self.person, self.cuts),
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a customer is in a segment, and when that may change though nothing happens (None: never)."""

    is_in: bool
    look_at: datetime | None


class _History:
    """A customer's events, as the functions of an expression see them at one instant."""

    def __init__(self, events: Sequence[Event], now: datetime) -> None:
        self.now = now
        self._by_name: dict[str, list[Event]] = {}
        for event in events:
            self._by_name.setdefault(event.name, []).append(event)
        self.functions: Mapping[str, Callable[..., object]] = {
            "count": lambda *asked: len(self.counted(*asked)),
            "sum": self._sum,
            "first": lambda *asked: found[0].occurred_at if (found := self.counted(*asked)) else MISSING,
            "last": lambda *asked: found[-1].occurred_at if (found := self.counted(*asked)) else MISSING,
            **moments(now),
        }

    def counted(self, name: str, _: object, where: Evaluate | None, within: str | timedelta | None) -> list[Event]:
        """The events that a function speaks of, oldest first."""
        found = self._by_name.get(name, [])
        if within is not None:
            since = self.now - (exact(within) if isinstance(within, str) else within)
            found = [event for event in found if event.occurred_at > since]
        return found if where is None else [event for event in found if where(event.payload, Work())]

    def _sum(self, name: str, amount: Evaluate, where: Evaluate | None, within: str | None) -> object:
        """What is no number adds nothing: an order without a total is none the less an order."""
        total: object = 0
        for event in self.counted(name, amount, where, within):
            one = number(amount(event.payload, Work()))
            total = arithmetic("+", total, one) if is_number(one) else total
        return total


def judge(segment: Segment, known: Known, names: Mapping[str, Any], now: datetime) -> Judgement:
    """Judge one customer.

    Args:
      names: `known.names(shop)`, worked out once for all segments.
    """
    return judge_all([segment], known, names, now)[segment.name]


def judge_all(
    segments: Iterable[Segment], known: Known, names: Mapping[str, Any], now: datetime
) -> dict[str, Judgement]:
    """Judge one customer for several segments, by their names; arguments as of `judge`."""
    history = _History(known.events, now)
    return {
        segment.name: Judgement(segment.when.is_true(names, history.functions), _look_at(segment, history, names))
        for segment in segments
    }


def _look_at(segment: Segment, history: _History, names: Mapping[str, Any]) -> datetime | None:
    """The next instant at which an event leaves its window, or a moment passes one that moves with the clock."""
    changes: list[datetime] = []
    for crossing in segment.crossings:
        moment = crossing.moment(names, Work(history.functions))
        if isinstance(moment, datetime):
            changes.append(moment + crossing.offset + _MICROSECOND)
    for window in segment.windows:
        found = history.counted(window.event, None, window.where, window.within)
        changes += [event.occurred_at + window.within for event in found]
    return min((moment for moment in changes if moment > history.now), default=None)


def fifths(person: Person, cuts: Cuts) -> dict[str, int]:
    """In which fifth of all customers with orders this one is, by measure: 5 is the best. Empty for who has none."""
    if not person.orders:
        return {}
    return {
        measure: 1 + bisect_left(cuts[measure], value)
        for measure, of in MEASURES.items()
        if measure in cuts and (value := of(person)) is not None
    }


def microseconds(moment: datetime) -> int:
    """An instant as a whole number, as cuts hold it."""
    return (moment - _EPOCH) // _MICROSECOND


_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def parts(segment: Segment, known: Known, names: Mapping[str, Any], now: datetime) -> dict[str, str]:
    """What each part of a condition comes to, as `why` tells it: without personal data."""
    functions = _History(known.events, now).functions
    found = telling.values(segment.when.names, names)
    for node in segment.past:
        found[node.text] = telling.shown(node.text, compiled(node)(names, Work(functions)))
    return found
