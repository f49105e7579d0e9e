"""What another file means for the tiers that customers are in: counted before it comes into force, and then arranged.

Nobody is moved here. Who is raised is looked at soon; who is lowered keeps the tier for the grace that the file before
promised, which is written down, since the new file may promise less.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.language.programme import Programme, Tiers
from afterglow.language.shop import Shop
from afterglow.local_time import local_day
from afterglow.loyalty.tiers import level_of, progress_at
from db import bulk, loyalty, people
from db.tables import ledger_transactions, memberships

#: Customers who are looked at together.
PAGE = 1000


class LoweringError(AfterglowError):
    """The files would lower customers at once, and nobody said that they should."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """Whom other tiers of a programme raise and lower, as things stand."""

    programme: str
    #: None: as soon as the file is in force.
    starts_at: datetime | None
    raised: Sequence[int]
    lowered: Sequence[int]
    #: Until when who is lowered keeps the tier: grace as the file before promised.
    kept_until: datetime | None
    #: The day of `starts_at` on the shop's calendar.
    day: date | None = None

    def __str__(self) -> str:
        when = f" from {self.day} on" if self.day else ""
        return f"tiers of {self.programme}{when}: {len(self.raised):,} up, {len(self.lowered):,} down"


def moves(
    connection: Connection, before: Mapping[str, Programme], after: Mapping[str, Programme], shop: Shop, now: datetime
) -> list[Move]:
    """What changes between the programmes in force and others: at once, and on the day that a file names."""
    found = []
    for name, programme in sorted(after.items()):
        old, new = before[name].tiers if name in before else None, programme.tiers
        if old is None or new is None or old == new:
            continue
        present = _move(connection, name, old.at(now, shop.zone), new.at(now, shop.zone), shop, now)
        if present.raised or present.lowered:
            found.append(replace(present, kept_until=old.grace.after(now, shop.zone)))
        starts_at = new.next_from(shop.zone)
        if starts_at is not None and starts_at > now:
            later = _move(connection, name, new.at(now, shop.zone), new.at(starts_at, shop.zone), shop, now)
            found.append(replace(later, starts_at=starts_at, day=local_day(starts_at, shop.zone)))
    return found


def _move(connection: Connection, name: str, old: Tiers, new: Tiers, shop: Shop, now: datetime) -> Move:
    raised: list[int] = []
    lowered: list[int] = []
    for page in _earners(connection, name) if old.levels != new.levels or old.over != new.over else ():
        for (customer, _), entries in loyalty.earned(connection, page, {name}).items():
            progress = [(entry.at, entry.progress) for entry in entries if entry.progress]
            held, holds = (
                level_of(one, progress_at(one, progress, now, shop.zone), shop.digits if one.by == "spend" else 0)
                for one in (old, new)
            )
            tier = old.levels[held].tier
            place = new.names.index(tier) if tier in new.names else held
            if holds != place:
                (raised if holds > place else lowered).append(customer)
    return Move(programme=name, starts_at=None, raised=sorted(raised), lowered=sorted(lowered), kept_until=None)


def _earners(connection: Connection, programme: str) -> Iterator[list[int]]:
    """The customers who ever made progress, some at a time; who was merged, under the number that was kept."""
    t = ledger_transactions.c
    query = sa.select(t.customer_id).where(t.programme == programme, t.progress != 0).distinct()
    numbers = list(connection.execute(query).scalars())
    everybody = sorted(set(people.kept(connection, numbers).values()))
    for start in range(0, len(everybody), PAGE):
        yield everybody[start : start + PAGE]


def refuse_lowering(found: Iterable[Move]) -> None:
    """Refuse files that lower anybody at once.

    Raises:
      LoweringError: says how many, and what to do.
    """
    for move in found:
        if move.starts_at is None and move.lowered:
            raise LoweringError(
                f"The tiers of '{move.programme}' would lower {_customers(move.lowered)} at once and raise "
                f"{_customers(move.raised)}; say under `tiers.next` from which day on they hold, or apply with --yes."
            )


def _customers(some: Sequence[int]) -> str:
    return f"{len(some):,} customer{'s' * (len(some) != 1)}"


def arrange(connection: Connection, found: Sequence[Move], after: Mapping[str, Programme], now: datetime) -> None:
    """See that everybody who moves is looked at when it is time; within the transaction that applies the files."""
    people.lock(connection, sorted({one for move in found for one in (*move.raised, *move.lowered)}))
    for move in found:
        tiers = after[move.programme].tiers
        assert tiers is not None
        at = move.starts_at or now
        _review(connection, tiers, move.programme, move.raised, at, None, now)
        if move.starts_at is None:
            _review(connection, tiers, move.programme, move.lowered, move.kept_until or now, move.kept_until, now)
        else:
            _review(connection, tiers, move.programme, move.lowered, at, None, now)


def _review(
    connection: Connection,
    tiers: Tiers,
    programme: str,
    customers: Sequence[int],
    at: datetime,
    falls_at: datetime | None,
    now: datetime,
) -> None:
    """Look at customers at an instant, or before where that was so already; who had no row is in the lowest tier."""
    if falls_at is None:
        sooner = "review_at = CASE WHEN memberships.review_at < excluded.review_at THEN memberships.review_at "
        changes = sooner + "ELSE excluded.review_at END"
    else:
        changes = "falls_at = coalesce(memberships.falls_at, excluded.falls_at), review_at = "
        changes += "coalesce(memberships.falls_at, excluded.falls_at)"
    bulk.insert(
        connection,
        memberships,
        ("programme", "customer_id", "tier", "since", "falls_at", "review_at"),
        [(programme, customer, tiers.names[0], now, falls_at, at) for customer in customers],
        on_conflict=f"(programme, customer_id) DO UPDATE SET {changes}",
    )
