"""How fast marketing goes: turns that all mails of a shop, or of a flow, share. Pure; memory keeps the instants.

A rate gives each mail a turn of its own, so that what became free at one moment (quiet hours that end, a blackout, a
halt, an outage) goes out evenly and not as a burst. Who finds no free turn queues in the line of its flow, and asks
again when its place comes up. Several lines together may come up faster than turns do: then the flow that stands first
in the shop's order of priority takes the turn, and the other goes to the end of its line.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from afterglow import rails
from afterglow.language.flow.graph import Flow
from afterglow.language.rails import Rate
from afterglow.language.shop import Shop

#: The turns of the whole shop's marketing; those of a flow have its name.
SHOP: Final = "*"
#: Since when turns are free that nobody ever took.
LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


def rates(shop: Shop, flow: Flow) -> tuple[tuple[str, Rate], ...]:
    """The rates that a mail of this flow must keep, with whose turns they count; none where nothing is declared."""
    both = ((SHOP, shop.rate), (flow.name, flow.rate))
    return tuple((name, rate) for name, rate in both if rate is not None)


@dataclass(kw_only=True, slots=True)
class Pace:
    """When the next turn is free, and where each line of waiting mails ends. Mutable: each question takes a turn.

    Args:
      free_at: by whose turns they are; what is missing was never taken.
      line_at: by flow; what is missing has nobody waiting.
    """

    free_at: dict[str, datetime] = field(default_factory=dict)
    line_at: dict[str, datetime] = field(default_factory=dict)

    def take(self, given: Sequence[tuple[str, Rate]], now: datetime) -> bool:
        """Take a turn of each of these rates now; none where one of them has no turn free."""
        turns = {name: max(self.free_at.get(name, LONG_AGO), now - rate.grace) for name, rate in given}
        if any(turn > now for turn in turns.values()):
            return False
        self.free_at |= {name: turns[name] + rate.spacing for name, rate in given}
        return True

    def place(self, given: Sequence[tuple[str, Rate]], flow: str, now: datetime) -> datetime:
        """When the next place in a flow's line comes up; it stays free until `queue`."""
        ends = [self.line_at.get(flow, now), *(self.free_at.get(name, now) for name, _ in given)]
        return max(now, *ends)

    def queue(self, given: Sequence[tuple[str, Rate]], flow: str, place: datetime) -> None:
        """Take this place in a flow's line."""
        self.line_at[flow] = place + max(rate.spacing for _, rate in given)


def paced(
    verdict: rails.Verdict,
    question: rails.Question,
    given: Sequence[tuple[str, Rate]],
    now: datetime,
    pace_of: Callable[[], Pace],
) -> rails.Verdict:
    """The verdict of the rails; where it lets marketing go that has no turn of these rates, what becomes of it.

    It waits for its place in the line, unless it may not go by then either (quiet hours, a blackout, too old): then
    that is the verdict, and the place stays free.

    Args:
      pace_of: asked only where a turn is needed.
    """
    if not given or question.kind != "marketing" or not isinstance(verdict, rails.Go):
        return verdict
    pace = pace_of()
    if pace.take(given, now):
        return verdict
    place = pace.place(given, question.flow, now)
    then = rails.judge(replace(question, due_at=place), place)
    if not isinstance(then, rails.Go):
        return then
    pace.queue(given, question.flow, place)
    return rails.Defer(until=place, reason=", ".join(rate.text for _, rate in given))
