"""A board as spreadsheets and programs read it, and how an address names a page of it."""

from typing import Any

from afterglow.language.shop import Shop
from db.leaderboards.places import Place, View
from db.tables import EPOCH, MICROSECOND


def as_rows(view: View, shop: Shop) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of a board for a spreadsheet; money in major units."""
    is_money = view.metric.unit == "money"
    currency = shop.model.currency.lower()
    value = f"{view.metric.name}_{currency}" if is_money else view.metric.name
    rows: list[list[object]] = [
        [
            one.place.rank,
            one.place.customer_id,
            one.name,
            shop.to_major(one.place.value) if is_money else one.place.value,
            one.place.reached_at.isoformat(),
            one.before,
            one.movement,
            *(shop.to_major(values[one.place.customer_id]) for values in view.beside.values()),
        ]
        for one in view.places
    ]
    columns = ["rank", "customer", "name", value, "reached_at", "rank_before", "movement"]
    return [*columns, *(f"{metric}_{currency}" for metric in view.beside)], rows


def as_json(view: View, shop: Shop) -> dict[str, Any]:
    """A board as programs read it; money in minor units."""
    newest = view.seals[-1] if view.seals else None
    return {
        "programme": view.board.programme,
        "metric": view.metric.name,
        "unit": shop.model.currency if view.metric.unit == "money" else view.metric.unit,
        "season": view.season.name,
        "from": view.season.start,
        "until": view.season.until,
        "customers": view.placed,
        "total": view.total,
        "sealed": {"revision": newest.revision, "at": newest.sealed_at, "digest": newest.digest} if newest else None,
        "places": [
            {
                "rank": one.place.rank,
                "customer": one.place.customer_id,
                "name": one.name,
                "value": one.place.value,
                "reached_at": one.place.reached_at,
                "rank_before": one.before,
                "movement": one.movement,
                "beside": {metric: values[one.place.customer_id] for metric, values in view.beside.items()},
            }
            for one in view.places
        ],
        "further": cursor(view.further) if view.further else None,
    }


def cursor(place: Place) -> str:
    """A place as a page's address names it."""
    return f"{place.rank}.{place.value}.{(place.reached_at - EPOCH) // MICROSECOND}.{place.customer_id}"


def from_cursor(text: str) -> Place | None:
    """The place that `cursor` wrote; None where it is none."""
    parts = text.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() and len(part) < 18 for part in parts):
        return None
    rank, value, reached, customer_id = map(int, parts)
    try:
        reached_at = EPOCH + reached * MICROSECOND
    except OverflowError:
        return None
    return Place(rank=rank, customer_id=customer_id, value=value, reached_at=reached_at)
