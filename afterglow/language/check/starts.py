"""Hold what starts a flow besides stages and events against what is known of customers, and the shop's segments."""

from collections.abc import Collection, Iterator

from afterglow.language.check.supply import CUSTOMER
from afterglow.language.flow.graph import Flow
from afterglow.language.shop import Shop
from afterglow.language.starts import OnDate, OverSegment
from afterglow.problems import Problem, did_you_mean


def check_occasion(flow: Flow, shop: Shop | None, segments: Collection[str] | None) -> Iterator[Problem]:
    """What a date, a schedule or a moment names that is not there; None where the file that says it cannot be read."""
    match flow.occasion:
        case OnDate(fact=fact) if shop is not None:
            yield from _date(flow, fact, shop)
        case OverSegment(segment=segment) if segments is not None and segment not in segments:
            meant = did_you_mean(segment, segments)
            yield flow.problem(("starts", "segment"), f"There is no segment '{segment}' in segments.yaml.{meant}")


def _date(flow: Flow, fact: str, shop: Shop) -> Iterator[Problem]:
    kinds = {**shop.model.attributes, **CUSTOMER}
    dates = sorted(name for name, kind in kinds.items() if kind == "date")
    if fact not in kinds:
        why = f"'customer.{fact}' is nothing we know of customers; declare it in shop.yaml: {fact}: date."
    elif fact not in dates:
        why = f"'customer.{fact}' is a {kinds[fact]}, not a date; declare a date in shop.yaml under attributes."
    else:
        return
    yield flow.problem(("starts", "date"), why + did_you_mean(fact, dates))
