"""Undoing a merge that was wrong: what moved by then goes back.

What came after the merge stays with the kept customer: its events and orders, the runs that they started, and
identities that were new then; only what a run of the other did since goes back with that run. From now on identities
decide again, and those that moved are the other's again. In particular:

- a field of the kept customer that was changed since keeps that news, all others are as before the merge;
- a consent that was withdrawn since is withdrawn for both, because nobody can tell who said so;
- a run that had ended as `merged` goes on where it stood, and what it had queued is queued again;
- points that came with the other go back to their lots as far as they are still there; what was spent of them stays
  spent, what they paid of a debt stays paid, and what was held for a redemption stays given back.

The pair is remembered as not the same: no webhook merges them again, only a person does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import bulk, leaderboards, ledger, loyalty, occasions, people, recounting, referring, segments
from db.merging import (
    MERGED,
    MERGED_EVENT,
    PARTED_EVENT,
    SOURCE,
    MergeError,
    Row,
    lock_sent,
    put_words,
    record,
    references,
    standing,
    thawed,
    words,
)
from db.tables import consents, contexts, customers, events, inbox, merges, profiles, referral_codes, runs
from db.tables import enrollments as enrollments_table
from db.tables import touchpoints as touchpoints_table


@dataclass(frozen=True, kw_only=True, slots=True)
class Parted:
    """What undoing a merge did."""

    id: int
    kept: int
    merged: int
    rows_back: int
    runs_resumed: int


def unmerge(connection: Connection, merge_id: int, now: datetime) -> Parted:
    """Undo a merge.

    Must run in a transaction of its own.

    Raises:
      MergeError: there is no such merge, another has to be undone before, or what it moved was forgotten.
    """
    row = connection.execute(sa.select(merges).where(merges.c.id == merge_id).with_for_update()).one_or_none()
    if row is None:
        raise MergeError(f"There is no merge {merge_id}; `afterglow why CUSTOMER` names a customer's merges.")
    if row.state != "done":
        raise MergeError(f"Merge {merge_id} is {row.state}, so that there is nothing to undo.")
    if row.journal is None:
        raise MergeError(f"Merge {merge_id} cannot be undone: what was known of its customers is forgotten.")
    connection.execute(
        sa.select(inbox.c.id)
        .where(bulk.among(inbox.c.id, row.journal["moved"].get("inbox", [])))
        .order_by(inbox.c.id)
        .with_for_update()
    )
    people.lock(connection, [row.kept, row.merged])
    _last(connection, row)
    lock_sent(connection, [row.kept])
    journal = row.journal
    back = _move_back(connection, journal["moved"], row.kept, row.merged)
    _take_along(connection, journal["moved"]["enrollments"], row.kept, row.merged)
    _runs_back(connection, journal["runs"], row.kept, row.merged)
    _words_back(connection, journal["consents"], row.kept, row.merged)
    c = referral_codes.c
    theirs = (c.customer_id == row.kept) & bulk.among(c.programme, journal["codes"])
    connection.execute(referral_codes.update().where(theirs).values(customer_id=row.merged))
    referring.part(connection, journal.get("referrals", {}), row.kept, row.merged, now)
    ledger.transfer_back(connection, journal.get("ledger", []), now)
    loyalty.look_again(connection, [row.kept, row.merged], now)
    # Quietly: whoever is in a segment again was told of when they entered it.
    segments.look_again(connection, [row.kept, row.merged], now, tells=False)
    if scores := journal.get("scores"):  # a merge of before there were leaderboards has none
        leaderboards.move_back(connection, scores, row.kept, row.merged, now)
        _scores_along(connection, journal, row.kept, row.merged, now)
    _stand_back(connection, journal, row.kept, row.merged)
    occasions.look_again(connection, [row.kept, row.merged], now)
    _resume(connection, journal["stopped"], journal["skipped"], now)
    undone = {"state": "undone", "undone_at": now, "journal": None}
    connection.execute(merges.update().where(merges.c.id == merge_id).values(**undone))
    # The reason names the other's ids, and stays with nobody whom it is not about.
    told = {"merge": {"id": merge_id, "customer": row.merged}}
    e = events.c
    ours = (e.source == SOURCE) & (e.name == MERGED_EVENT) & e.key.like(f"merge {merge_id} %")
    connection.execute(events.update().where(e.customer_id == row.kept, ours).values(payload=told))
    for customer, other in ((row.kept, row.merged), (row.merged, row.kept)):
        said = {"merge": {"id": merge_id, "customer": other}}
        record(connection, PARTED_EVENT, f"merge {merge_id} at {now.isoformat()}: {customer}", customer, said, now)
    return Parted(id=merge_id, kept=row.kept, merged=row.merged, rows_back=back, runs_resumed=len(journal["stopped"]))


def _last(connection: Connection, row: Any) -> None:
    """Raise unless this is the last merge of its customer: later ones build on it."""
    m = merges.c
    either = (m.kept == row.kept) | (m.merged == row.kept)
    later = (m.done_at > row.done_at) | ((m.done_at == row.done_at) & (m.id > row.id))
    found = connection.execute(
        sa.select(m.id).where(either, m.state == "done", later).order_by(m.done_at.desc(), m.id.desc()).limit(1)
    ).scalar()
    if found is not None:
        raise MergeError(
            f"Merge {found} came after merge {row.id} and builds on it: `afterglow unmerge {found}` first."
        )


def _move_back(connection: Connection, moved: Mapping[str, Sequence[Any]], kept: int, merged: int) -> int:
    """Give the other back the rows that moved and are the kept customer's still. How many."""
    back = 0
    for column in references():
        keys = moved.get(column.table.name, [])
        names = list(column.table.primary_key.columns)
        change = sa.update(column.table).where(column == kept).values({column.name: merged})
        if len(names) == 1:
            back += connection.execute(change.where(bulk.among(names[0], keys))).rowcount
            continue
        one = change.where(*(name == sa.bindparam(f"key_{name.name}") for name in names))
        for key in keys:
            given = {f"key_{name.name}": part for name, part in zip(names, key, strict=True)}
            back += connection.execute(one, given).rowcount
    return back


def _take_along(connection: Connection, moved_runs: Sequence[int], kept: int, merged: int) -> None:
    """What the other's runs did since the merge goes with them."""
    for column in references():
        if "enrollment_id" in column.table.c:
            mine = bulk.among(column.table.c.enrollment_id, moved_runs) & (column == kept)
            connection.execute(sa.update(column.table).where(mine).values({column.name: merged}))
    theirs = sa.select(touchpoints_table.c.id).where(bulk.among(touchpoints_table.c.enrollment_id, moved_runs))
    connection.execute(contexts.update().where(contexts.c.touchpoint_id.in_(theirs)).values(customer_id=merged))


def _scores_along(connection: Connection, journal: Mapping[str, Any], kept: int, merged: int, now: datetime) -> None:
    """What happened since the merge to the other's referrals goes with them: a refund, a reward."""
    ids = recounting.moved(journal.get("referrals", {}), merged)
    changed = recounting.since_then(connection, ids, journal.get("brought", [])) if "brought" in journal else []
    both = ((merged, 1), (kept, -1))
    corrections = [
        replace(one, customer_id=customer, delta=sign * one.delta) for one in changed for customer, sign in both
    ]
    leaderboards.correct(connection, corrections, "a merge undone", now)


def _runs_back(connection: Connection, before: Sequence[Row], kept: int, merged: int) -> None:
    r = runs.c
    moved = bulk.among(r.enrollment_id, [row["enrollment_id"] for row in before])
    connection.execute(runs.delete().where(r.customer_id == kept, moved))
    columns = ("flow", "customer_id", "key", "n", "enrollment_id")
    bulk.insert(
        connection, runs, columns, [tuple(({**row, "customer_id": merged})[c] for c in columns) for row in before]
    )


def _words_back(connection: Connection, told: Mapping[str, Sequence[Row]], kept: int, merged: int) -> None:
    """Both have their own words on consent again, and a withdrawal that came since."""
    before, theirs, made = (
        {(row["channel"], row["topic"]): thawed(consents, row) for row in told[which]}
        for which in ("kept", "merged", "made")
    )
    mine: dict[tuple[str, str], Row] = dict(before)
    for about, word in words(connection, kept).items():
        if word == made.get(about):
            continue
        mine[about] = word
        if word["state"] == "withdrawn":
            theirs[about] = {**word, "customer_id": merged}
    put_words(connection, (kept, merged), [*mine.values(), *theirs.values()])


def _stand_back(connection: Connection, journal: Mapping[str, Any], kept: int, merged: int) -> None:
    """Write each one's own two rows: as they were, the kept one's save for what came since."""
    before, made = journal["kept"], journal["made"]
    now: Any = standing(connection, kept)
    theirs = journal["merged"]
    customer = thawed(customers, _unchanged(before["customer"], made["customer"], now["customer"]))
    for name in ("orders", "spent"):
        customer[name] = now["customer"][name] - theirs["customer"][name]
    connection.execute(customers.update().where(customers.c.id == kept).values(**customer))
    if before["profile"] and made["profile"] and now["profile"]:
        profile = _unchanged(before["profile"], made["profile"], now["profile"])
        parts = (one["profile"]["attributes"] for one in (before, made, now))
        profile["attributes"] = _unchanged(*parts)
        connection.execute(profiles.update().where(profiles.c.customer_id == kept).values(**thawed(profiles, profile)))
    connection.execute(
        customers.update().where(customers.c.id == merged).values(**thawed(customers, theirs["customer"]))
    )
    if theirs["profile"]:
        connection.execute(profiles.insert().values(**thawed(profiles, theirs["profile"])))


def _unchanged(before: Row, made: Row, now: Row) -> Row:
    """What is now, with every part that is as the merge made it put back to what it was before."""
    kept = {name: value for name, value in now.items() if name not in made or made[name] != value}
    put_back = {name: value for name, value in before.items() if name in now and made.get(name) == now[name]}
    return {**put_back, **kept}


def _resume(connection: Connection, stopped: Sequence[Row], skipped: Sequence[Row], now: datetime) -> None:
    """Let runs go on that had ended as merged."""
    e, t = enrollments_table.c, touchpoints_table.c
    for row in skipped:
        was = thawed(touchpoints_table, row)
        back = {name: was[name] for name in ("state", "reason", "settled_at", "tries")}
        mine = (t.id == was["id"]) & (t.state == "skipped") & (t.reason == MERGED)
        connection.execute(touchpoints_table.update().where(mine).values(**back))
    for row in stopped:
        was = thawed(enrollments_table, row)
        back = {name: was[name] for name in ("state", "due_at", "until", "ended_at", "reason", "lane", "tries")}
        held = sa.exists().where(t.enrollment_id == was["id"], t.state.in_(["queued", "held", "sending"]))
        if was["state"] == "sending" and not connection.execute(sa.select(held)).scalar():
            back |= {"state": "waiting", "due_at": now}  # what held it was settled meanwhile
        mine = (e.id == was["id"]) & (e.state == "stopped") & (e.reason == MERGED)
        connection.execute(enrollments_table.update().where(mine).values(**back))
