"""Hold what a flow says about its marketing against the shop's word: a flow only tightens."""

from collections.abc import Iterator
from datetime import time, timedelta

from afterglow.language.flow.graph import Flow
from afterglow.language.rails import LATES, LOSERS, Rate, length
from afterglow.language.shop import Shop
from afterglow.local_time import Quiet
from afterglow.problems import Problem

_ONLY = "flows only tighten it"


def check_rails(flow: Flow, shop: Shop) -> Iterator[Problem]:
    """What a flow allows itself that shop.yaml does not, which would change nothing."""
    hours = shop.model.quiet_hours
    if flow.quiet_hours and shop.quiet_hours and hours and _within(flow.quiet_hours, shop.quiet_hours):
        message = f"These hours are quiet already: shop.yaml says {hours.from_} to {hours.to}, and {_ONLY}."
        yield flow.problem(("quiet_hours",), message)
    for n, cap in enumerate(flow.caps):
        for other in shop.caps:
            if other.at_most <= cap.at_most and other.window >= cap.window:
                message = f"shop.yaml allows {other.at_most} within {other.within} to each customer, and {_ONLY}."
                yield flow.problem(("caps", n), message)
                break
    if flow.rate and shop.rate and _per_day(flow.rate) > _per_day(shop.rate):
        yield flow.problem(("rate",), f"shop.yaml allows {shop.rate.text.removeprefix('at most ')}, and {_ONLY}.")
    if flow.keep_for is not None and length(flow.keep_for) > length(shop.keep_for):
        yield flow.problem(("keep_for",), f"shop.yaml keeps marketing for {shop.model.keep_for}, and {_ONLY}.")
    if flow.late is not None and LATES.index(flow.late) < LATES.index(shop.model.late):
        yield flow.problem(("late",), f"shop.yaml says `{shop.model.late}`, and {_ONLY}: {_steps(LATES)}.")
    if flow.loser is not None and LOSERS.index(flow.loser) < LOSERS.index(shop.model.loser):
        yield flow.problem(("loser",), f"shop.yaml says `{shop.model.loser}`, and {_ONLY}: {_steps(LOSERS)}.")


def _within(inner: Quiet, outer: Quiet) -> bool:
    """Whether the hours of one are all hours of the other, by the wall."""
    lasts = _minutes(outer.start, outer.end)
    return _minutes(outer.start, inner.start) + _minutes(inner.start, inner.end) <= lasts


def _minutes(start: time, end: time) -> float:
    """From a time of day to the next such time, in minutes; none where they are the same."""
    return ((end.hour - start.hour) * 60 + end.minute - start.minute + (end.second - start.second) / 60) % (24 * 60)


def _per_day(rate: Rate) -> float:
    return rate.at_most * (timedelta(days=1) / rate.within)


def _steps(words: tuple[str, ...]) -> str:
    return ", then ".join(f"`{word}`" for word in words)
