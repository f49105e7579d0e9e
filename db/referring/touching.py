"""Codes that lead to a referrer, the clicks on their links, and the touches that come of both."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.language.referral import Method
from afterglow.referring.attribution import Touch
from db import bulk
from db.referring.keeping import Whose
from db.tables import clicks, referral_codes, touches, vanity_codes


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A referral code: whose, and since when."""

    code: str
    programme: str
    customer_id: int
    made_at: datetime


def codes(connection: Connection, wanted: Iterable[str]) -> dict[str, Code]:
    """The known ones among these codes, those that were made and those that somebody chose."""
    spelled = sorted(set(wanted))
    made, chosen = (
        sa.select(*(table.c[name] for name in Code.__dataclass_fields__)).where(bulk.among(table.c.code, spelled))
        for table in (referral_codes, vanity_codes)
    )
    return {row.code: Code(**row._mapping) for row in connection.execute(sa.union_all(chosen, made))}


def click(connection: Connection, code: Code, now: datetime) -> int:
    """Record that a referral link was followed; the number of the click."""
    values = {"programme": code.programme, "customer_id": code.customer_id, "code": code.code, "at": now}
    return int(connection.execute(clicks.insert().values(**values).returning(clicks.c.id)).scalar_one())


def clicked(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[str, datetime]]:
    """Code and instant of clicks."""
    rows = connection.execute(
        sa.select(clicks.c.id, clicks.c.code, clicks.c.at).where(bulk.among(clicks.c.id, sorted(set(ids))))
    )
    return {row.id: (row.code, row.at) for row in rows}


def touch(connection: Connection, rows: Sequence[bulk.Row]) -> None:
    """Record touches given as (programme, customer, referrer, method, at, code, code_made_at, event, click)."""
    columns = (
        "programme",
        "customer_id",
        "referrer_id",
        "method",
        "at",
        "code",
        "code_made_at",
        "event_id",
        "click_id",
    )
    bulk.insert(connection, touches, columns, rows, on_conflict="DO NOTHING")


_touches = sa.select(
    *(touches.c[name] for name in ("id", "programme", "customer_id", "referrer_id", "method", "at", "code_made_at"))
)


def touched(connection: Connection, customer_ids: Iterable[int]) -> dict[Whose, list[Touch]]:
    """The touches of these customers by programme."""
    mine = bulk.among(touches.c.customer_id, sorted(set(customer_ids)))
    found: dict[Whose, list[Touch]] = {}
    for row in connection.execute(_touches.where(mine).order_by(touches.c.id)):
        found.setdefault((row.programme, row.customer_id), []).append(_touch(row))
    return found


def touches_by_id(connection: Connection, ids: Iterable[int]) -> dict[int, Touch]:
    """Touches by number."""
    rows = connection.execute(_touches.where(bulk.among(touches.c.id, sorted(set(ids)))))
    return {row.id: _touch(row) for row in rows}


def _touch(row: Any) -> Touch:
    method: Method = row.method
    return Touch(
        id=row.id,
        programme=row.programme,
        referrer=row.referrer_id,
        method=method,
        at=row.at,
        code_made_at=row.code_made_at,
    )
