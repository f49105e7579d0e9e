"""Elements that lack a document of their source, and what is shared by all who fetch: turns, answers.

An element is claimed by committing when it will be tried next, and then its document is asked for with no transaction
open: a worker that dies leaves it due again, one that stood still finds it claimed by another and writes nothing. A URL
is claimed the same way, so that one worker asks and all have the answer.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.asking import Turns, turns, wait_after
from afterglow.language.fetch import FetchRate
from db import bulk
from db.tables import InboxState, Moment, fetch_cache, fetch_rates, inbox

#: How long a claim lasts, on an element and on a URL: much longer than any deadline.
LEASE = timedelta(minutes=2)
#: How soon to look again for what another worker is asking just now.
SOON = timedelta(seconds=1)

_now = sa.bindparam("now", type_=Moment)
_is_due = (inbox.c.state == "fetching") & (inbox.c.fetch_at <= _now)
_OLDEST = sa.select(inbox.c.source).where(_is_due).order_by(inbox.c.fetch_at).limit(1)
_CLAIM = (
    sa.select(inbox.c.id)
    .where(_is_due, inbox.c.source == sa.bindparam("source"))
    .order_by(inbox.c.fetch_at)
    .limit(sa.bindparam("limit", type_=sa.Integer))
    .with_for_update(skip_locked=True)
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """What became of an element that lacked a document.

    Args:
      tries: failures that count; more than were claimed never.
      fetched: the documents by name that it has by now.
    """

    id: int
    state: InboxState
    fetch_at: datetime | None
    tries: int
    reason: str | None
    fetched: Mapping[str, object] | None


def lack(connection: Connection, ids: Sequence[int], due_at: datetime) -> None:
    """Let the documents of these locked elements be fetched."""
    bulk.update(
        connection,
        inbox,
        ("id", "state", "fetch_at"),
        [(id_, InboxState.FETCHING.value, due_at) for id_ in ids],
        also="tries = 0, reason = NULL",
    )


def claim(connection: Connection, now: datetime, limit: int) -> Sequence[Any]:
    """Claim due elements of the source that has waited longest: id, source, headers, body, received_at, fetched, tries.

    A try is counted and the next one set before anything is asked, so that whoever kills its worker is not tried
    without end.
    """
    source = connection.execute(_OLDEST, {"now": now}).scalar()
    if source is None:
        return []
    ids = [row.id for row in connection.execute(_CLAIM, {"now": now, "source": source, "limit": limit})]
    if not ids:
        return []
    c = inbox.c
    rows = connection.execute(
        sa.select(
            c.id, c.source, c.headers, c.body, c.received_at, c.fetched, (c.fetch_tries + 1).label("tries")
        ).where(bulk.among(c.id, ids), c.state == "fetching")
    ).all()
    bulk.update(
        connection,
        inbox,
        ("id", "fetch_at", "fetch_tries"),
        [(row.id, now + max(LEASE, wait_after(row.tries)), row.tries) for row in rows],
    )
    return rows


def still_claimed(
    connection: Connection,
    id_: sa.Column[int],
    tries: sa.Column[int],
    is_open: sa.ColumnElement[bool],
    claimed: Mapping[int, int],
) -> set[int]:
    """Lock claimed rows; those that nobody else claimed or settled meanwhile.

    Args:
      claimed: by row, the tries with which it was claimed, which tells our claim from a later one.
    """
    rows = connection.execute(
        sa.select(id_, tries).where(bulk.among(id_, sorted(claimed)), is_open).order_by(id_).with_for_update()
    )
    return {row[0] for row in rows if row[1] == claimed[row[0]]}


def settle(connection: Connection, ends: Sequence[Fetched], claimed: Mapping[int, int]) -> list[Fetched]:
    """Write what became of claimed elements; those of which nobody else decided meanwhile.

    Args:
      claimed: as in `still_claimed`.
    """
    c = inbox.c
    mine = {end.id: claimed[end.id] for end in ends}
    still = still_claimed(connection, c.id, c.fetch_tries, c.state == "fetching", mine)
    written = [end for end in ends if end.id in still]
    bulk.update(
        connection,
        inbox,
        ("id", "state", "fetch_at", "fetch_tries", "reason", "fetched"),
        [(end.id, end.state.value, end.fetch_at, end.tries, end.reason, end.fetched) for end in written],
    )
    return written


def digest_of(secret: bytes, source: str, url: str) -> str:
    """Under what the answer to a URL is kept: a keyed hash, since a URL may hold an address."""
    return hmac.new(secret, f"fetch\0{source}\0{url}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """Answers that are known (None: gone), and the URLs that are now ours to ask for; others ask for the rest."""

    known: Mapping[str, object]
    ours: Collection[str]


def share(connection: Connection, digests: Collection[str], now: datetime) -> Shared:
    """Look for kept answers, and claim the asking for those that nobody has or asks for."""
    columns = ("digest", "state", "at", "until", "document")
    ours = {
        row[0]
        for row in bulk.insert(
            connection,
            fetch_cache,
            columns,
            [(digest, "asking", now, now + LEASE, None) for digest in sorted(digests)],
            on_conflict="(digest) DO UPDATE SET state = excluded.state, at = excluded.at, until = excluded.until, "
            "document = NULL WHERE fetch_cache.until <= excluded.at",
            returning="digest",
        )
    }
    c = fetch_cache.c
    rows = connection.execute(
        sa.select(c.digest, c.document).where(
            bulk.among(c.digest, sorted(set(digests) - ours)), c.state.in_(["kept", "gone"])
        )
    )
    return Shared(known={row.digest: row.document for row in rows}, ours=ours)


def keep(connection: Connection, answers: Mapping[str, object], ours: Collection[str], until: datetime) -> None:
    """Keep the answers to URLs that we claimed (None: gone), and let go of those that had none.

    What was deleted meanwhile, because somebody was forgotten, stays deleted.
    """
    bulk.update(
        connection,
        fetch_cache,
        ("digest", "state", "until", "document"),
        [
            (digest, "gone" if document is None else "kept", until, document)
            for digest, document in sorted(answers.items())
        ],
        where="t.state = 'asking'",
    )
    c = fetch_cache.c
    connection.execute(
        fetch_cache.delete().where(bulk.among(c.digest, sorted(set(ours) - answers.keys())), c.state == "asking")
    )


def clear(connection: Connection) -> int:
    """Delete every kept answer: it may speak of somebody who is to be forgotten. How many there were."""
    return connection.execute(fetch_cache.delete()).rowcount


def clear_gone(connection: Connection) -> None:
    """Ask again for what was gone: a person says that it is there."""
    connection.execute(fetch_cache.delete().where(fetch_cache.c.state == "gone"))


def clear_old(connection: Connection, now: datetime, limit: int) -> int:
    """Delete answers that are too old to be used. How many."""
    c = fetch_cache.c
    old = sa.select(c.digest).where(c.until < now).limit(limit).with_for_update(skip_locked=True)
    return connection.execute(fetch_cache.delete().where(c.digest.in_(old))).rowcount


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """Our turns at a source; who got none asks again at `free_at`."""

    turns: Turns
    free_at: datetime


def take_turns(
    connection: Connection, source: str, rate: FetchRate, now: datetime, wanted: int, before: datetime
) -> Taken:
    """Take the next turns of a source, one lock for all of them.

    Args:
      now: real time of the database, as everybody who asks this source has it.
      before: a turn at this instant or later is of no use.
    """
    bulk.insert(connection, fetch_rates, ("source", "free_at"), [(source, now)], on_conflict="DO NOTHING")
    c = fetch_rates.c
    row = connection.execute(sa.select(c.free_at, c.paused_until).where(c.source == source).with_for_update()).one()
    free_at = max(row.free_at, row.paused_until) if row.paused_until is not None else row.free_at
    given = turns(free_at, now, wanted, spacing=rate.spacing, before=before)
    if given.at:
        connection.execute(fetch_rates.update().where(c.source == source).values(free_at=given.free_at))
    return Taken(turns=given, free_at=max(given.free_at, now))


def pause(connection: Connection, source: str, until: datetime) -> None:
    """Leave a source alone until this instant, as it asked; a later one that was asked before stands."""
    c = fetch_rates.c
    connection.execute(
        fetch_rates.update()
        .where(c.source == source, sa.or_(c.paused_until.is_(None), c.paused_until < until))
        .values(paused_until=until)
    )
