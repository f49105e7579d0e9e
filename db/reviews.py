"""Reviews by product: how many, how good, and those that may be quoted, with who allowed it and when."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.reviews import ANSWERED, FEWEST_STARS, LONGEST_QUOTE, PERMITTED, POSTED, SHOP, quote, signed, told
from db import bulk
from db.tables import contexts, events, profiles, quotings, reviews


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """An event about a review, as it was recorded."""

    event_id: int
    customer_id: int
    name: str
    source: str
    at: datetime
    payload: Mapping[str, Any]


def hear(connection: Connection, said: Sequence[Said]) -> None:
    """Keep reviews, and what their writers allow. Nothing is asked where no event is about a review."""
    said = [one for one in said if one.name in (POSTED, PERMITTED, ANSWERED)]
    if not said:
        return
    rows = []
    for one in said:
        review = told(one.name, one.payload)
        if one.name == PERMITTED or review.stars is None:
            continue
        may = review.may_be_quoted is True and review.text is not None
        permission = (review.text, review.may_be_named, one.at, one.source, review.wording) if may else _NONE
        rows.append((one.event_id, one.customer_id, review.number, review.product, review.stars, *permission))
    columns = ("event_id", "customer_id", "number", "product", "stars", *_PERMISSION)
    bulk.insert(connection, reviews, columns, rows, on_conflict="DO NOTHING")
    _permit(connection, [one for one in said if one.name == PERMITTED])


_PERMISSION = ("text", "named", "permitted_at", "permitted_by", "wording")
_NONE = (None, False, None, None, None)


def _permit(connection: Connection, said: Sequence[Said]) -> None:
    """Let reviews be quoted, or no longer, as their own writers say."""
    in_order = sorted(said, key=lambda one: one.at)
    latest = {(one.customer_id, told(one.name, one.payload).number): one for one in in_order}
    if not latest:
        return
    r = reviews.c
    rows = connection.execute(
        sa.select(r.event_id, r.customer_id, r.number, events.c.name, events.c.payload)
        .join(events, events.c.id == r.event_id)
        .where(bulk.among(r.customer_id, sorted({customer for customer, _ in latest})))
    ).all()
    changes: list[bulk.Row] = []
    for row in rows:
        one = latest.get((row.customer_id, row.number))
        if one is None:
            continue
        word, text = told(one.name, one.payload), told(row.name, row.payload).text
        may = word.may_be_quoted is not False and text is not None
        permission = (text, word.may_be_named, one.at, one.source, None) if may else _NONE
        changes.append((row.event_id, *permission))
    bulk.update(connection, reviews, ("event_id", *_PERMISSION), changes)
    unquote(connection, [change[0] for change in changes if change[1] is None])


def of_products(connection: Connection, products: Collection[str]) -> dict[str, dict[str, Any]]:
    """How many reviews, their average with one decimal, and the best that may be quoted, by product.

    The best has most stars, then is the newest. A product of which there is none is left out. Two statements.
    """
    if not products:
        return {}
    r = reviews.c
    wanted = bulk.among(r.product, sorted(products))
    counted = connection.execute(
        sa.select(r.product, sa.func.count().label("how_many"), sa.func.sum(r.stars).label("stars"))
        .where(wanted)
        .group_by(r.product)
    )
    found: dict[str, dict[str, Any]] = {
        row.product: {
            "count": row.how_many,
            "average": str((Decimal(row.stars) / row.how_many).quantize(Decimal("0.1"), ROUND_HALF_UP)),
        }
        for row in counted
    }
    place = sa.func.row_number().over(partition_by=r.product, order_by=(r.stars.desc(), r.event_id.desc()))
    ranked = (
        sa.select(r.event_id, r.product, r.text, r.named, r.customer_id, place.label("place"))
        .where(wanted, r.text.is_not(None), r.stars >= FEWEST_STARS, sa.func.length(r.text) <= LONGEST_QUOTE)
        .subquery()
    )
    best = connection.execute(
        sa.select(ranked, profiles.c.first_name, profiles.c.last_name)
        .select_from(ranked.outerjoin(profiles, profiles.c.customer_id == ranked.c.customer_id))
        .where(ranked.c.place == 1)
    )
    for row in best:
        # By an answer to a survey only the first name was permitted.
        name = signed(row.first_name, None if row.product == SHOP else row.last_name) if row.named else None
        found[row.product] |= {"quote": quote(row.text, name), "review": row.event_id}
    return found


def note_quotings(connection: Connection, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    """Note which messages quote which reviews, given as the touchpoint and what it is rendered with."""
    quoted = {
        (one["review"], touchpoint)
        for touchpoint, facts in rows
        for one in facts.get("reviews", {}).values()
        if "review" in one
    }
    bulk.insert(connection, quotings, ("event_id", "touchpoint_id"), sorted(quoted), on_conflict="DO NOTHING")


def unquote(connection: Connection, event_ids: Sequence[int]) -> None:
    """Take reviews out of what messages are rendered with, so that none says them when it is made again."""
    if not event_ids:
        return
    q = quotings.c
    rows = connection.execute(
        sa.select(contexts.c.touchpoint_id, contexts.c.facts)
        .join(quotings, q.touchpoint_id == contexts.c.touchpoint_id)
        .where(bulk.among(q.event_id, event_ids))
    ).all()
    gone = set(event_ids)
    changed = {row.touchpoint_id: {**row.facts, "reviews": _without(row.facts["reviews"], gone)} for row in rows}
    bulk.update(connection, contexts, ("touchpoint_id", "facts"), sorted(changed.items(), key=lambda pair: pair[0]))
    connection.execute(quotings.delete().where(bulk.among(q.event_id, event_ids)))


def _without(known: Mapping[str, Mapping[str, Any]], gone: Collection[int]) -> dict[str, dict[str, Any]]:
    return {
        product: {name: value for name, value in one.items() if one.get("review") not in gone or name not in _QUOTED}
        for product, one in known.items()
    }


_QUOTED = ("quote", "review")


def may_be_quoted(connection: Connection, customer_id: int, number: str) -> bool:
    """Whether a customer allows this review of theirs to be quoted."""
    r = reviews.c
    mine = sa.select(r.event_id).where(r.customer_id == customer_id, r.number == number, r.text.is_not(None))
    return connection.execute(mine.limit(1)).first() is not None


def forget(connection: Connection, customer_id: int) -> None:
    """Quote a customer no longer, in no message that went either; their stars still count."""
    r = reviews.c
    mine = list(connection.execute(sa.select(r.event_id).where(r.customer_id == customer_id)).scalars())
    unquote(connection, mine)
    nothing = {"number": None, **dict(zip(_PERMISSION, _NONE, strict=True))}
    connection.execute(reviews.update().where(bulk.among(r.event_id, mine)).values(nothing))
