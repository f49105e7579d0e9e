"""Two customers turn out to be one: what is wanted, and how it is done.

The older customer (the lower number) is kept. All that refers to the other is moved, found in the tables' own metadata,
so that a table added later is not forgotten; the other's row stays as a stone that leads to the kept one. Where both
have something of which there can be only one:

- consent: per channel and topic the stricter word stands, withdrawn before granted, until a word comes that is newer
  than both;
- the profile: newer news wins, gaps are filled; orders and money are added up, the later stage stands;
- a run's key never runs twice: of two runs of one key the older goes on, an open later one ends as `merged`, and what
  it had queued is skipped; a mail that a provider has in hand is settled as ever;
- referral codes: the kept customer's own stays theirs, and the other's leads to them by the stone;
- referrals move; who turns out to have brought themselves, or to have been brought twice, is in `db.referring`;
- points and credit move by a transaction of the ledger, lots with their times, debt paid; what was posted before stays
  with the number it was posted for;
- tiers are looked at anew, with what both have earned;
- scores on leaderboards are added up;
- dates that start flows come as the kept customer has them then;
- links to their own pages stay with the number that they name, and lead on by the stone;
- suppressions are of addresses, not of customers, and stay.

A journal says what moved and what was overwritten, so that a wrong merge can be undone (`db.unmerging`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.language.actions import TAGS
from afterglow.matching import One, are_two
from db import (
    bulk,
    enrollments,
    events,
    identity,
    leaderboards,
    ledger,
    loyalty,
    occasions,
    people,
    recounting,
    referring,
    requests,
    segments,
    touchpoints,
)
from db.catalog import Release
from db.people import Person
from db.tables import (
    Moment,
    TouchpointState,
    consents,
    customers,
    inbox,
    merges,
    metadata,
    profiles,
    referral_codes,
    runs,
)
from db.tables import enrollments as enrollments_table
from db.tables import events as events_table
from db.tables import touchpoints as touchpoints_table
from db.touchpoints import Settled

#: Why a run ended, or a message was skipped, that an older run of the same key makes superfluous.
MERGED = "merged"
#: The source and the names of the events that say so.
SOURCE = "afterglow"
MERGED_EVENT, PARTED_EVENT = "customer.merged", "customer.parted"

#: Tables in which a customer has at most one row of a kind, so that rows cannot simply move.
RULED = frozenset(
    {
        "customers",
        "merges",
        "profiles",
        "consents",
        "runs",
        "referral_codes",
        "ledger_accounts",
        "ledger_transactions",
        "touches",
        "referrals",
        "memberships",
        "scores",
        "me_links",
        "coming_dates",
        "segment_members",
        "segment_looks",
    }
)

Row = dict[str, Any]


class MergeError(AfterglowError):
    """These customers cannot be merged, or this merge cannot be undone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What the files in force say that a merge must know."""

    #: Sources that give one person several ids.
    many_ids: Collection[str]
    #: Flows that run once per customer: their keys are the customer's number.
    by_number: Collection[str]
    #: Flows whose keys may run again: of them only two runs that are both open are one too many.
    again: Collection[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """What a merge did."""

    id: int
    kept: int
    merged: int
    reason: str
    runs_stopped: int
    messages_skipped: int


def many_ids(release: Release) -> frozenset[str]:
    """Sources that give one person several ids."""
    return frozenset(name for name, source in release.catalog.sources.items() if source.many_ids)


def rules(release: Release) -> Rules:
    """What the files in force say that a merge must know."""
    flows = list(release.catalog.flows.values())
    return Rules(
        many_ids=many_ids(release),
        by_number=frozenset(flow.name for flow in flows if flow.once_per and flow.once_per.text == "customer.id"),
        again=frozenset(flow.name for flow in flows if flow.reenter is not None),
    )


def references() -> list[sa.Column[Any]]:
    """Every column that names a customer, in tables of which any number of rows may be one customer's.

    Runs before messages before all else, because that is the order in which others lock them.
    """
    found = [
        column
        for table in metadata.sorted_tables
        if table.name not in RULED
        for column in table.columns
        if column.name == "customer_id" or any(key.column is customers.c.id for key in column.foreign_keys)
    ]
    first = ("enrollments", "touchpoints")
    return sorted(found, key=lambda column: (column.table.name not in first, column.table.name))


def want(connection: Connection, ones: Sequence[One], now: datetime) -> int:
    """Note that customers are one; it is done soon after. How many of these were not known, wanted or undone before."""
    pairs = {(one.kept, one.merged): one.reason for one in reversed(ones)}
    rows = [(kept, merged, "wanted", reason, False, now) for (kept, merged), reason in sorted(pairs.items())]
    columns = ("kept", "merged", "state", "reason", "by_hand", "wanted_at")
    return len(bulk.insert(connection, merges, columns, rows, on_conflict="DO NOTHING", returning="id"))


def want_by_hand(connection: Connection, one: int, other: int, reason: str, now: datetime) -> int:
    """Note that a person says that two customers are one, also where that was undone before. The id of the merge.

    Raises:
      MergeError: there are no two such customers, or one was forgotten.
    """
    numbers = people.kept(connection, [one, other])
    for given in (one, other):
        if given not in numbers:
            raise MergeError(f"There is no customer {given}; `afterglow why` finds one by address or id.")
    first, second = sorted((numbers[one], numbers[other]))
    if first == second:
        raise MergeError(f"{one} and {other} are one customer already: {first}.")
    forgotten = [p.id for p in people.load(connection, [first, second]).values() if p.forgotten_at is not None]
    if forgotten:
        raise MergeError(f"Customer {forgotten[0]} was forgotten, so that nothing is left to merge.")
    values = {"state": "wanted", "reason": reason, "by_hand": True, "wanted_at": now, "done_at": None}
    pair = (merges.c.kept == first) & (merges.c.merged == second)
    connection.execute(merges.update().where(pair).values(**values, undone_at=None, journal=None))
    want(connection, [One(kept=first, merged=second, reason=reason)], now)
    connection.execute(merges.update().where(pair).values(by_hand=True))
    return int(connection.execute(sa.select(merges.c.id).where(pair)).scalar_one())


def wanted(connection: Connection, limit: int) -> list[int]:
    """Merges that are wanted and not done, oldest first."""
    query = sa.select(merges.c.id).where(merges.c.state == "wanted").order_by(merges.c.id).limit(limit)
    return list(connection.execute(query).scalars())


def park(connection: Connection, merge_id: int) -> None:
    """Set a merge aside that failed, for a person to look at."""
    mine = (merges.c.id == merge_id) & (merges.c.state == "wanted")
    connection.execute(merges.update().where(mine).values(state="parked"))


def merge(connection: Connection, merge_id: int, rules: Rules, now: datetime) -> Merged | None:
    """Do a merge that is wanted; None where there is nothing to do (any more, or just now).

    Must run in a transaction of its own. Any number of processes may try: one does it.
    """
    row = connection.execute(
        sa.select(merges).where(merges.c.id == merge_id, merges.c.state == "wanted").with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    numbers = people.kept(connection, [row.kept, row.merged])
    first, second = sorted(numbers.values())
    if (first, second) != (row.kept, row.merged):  # one of them was merged before
        connection.execute(merges.delete().where(merges.c.id == merge_id))
        if first != second:
            want(connection, [One(kept=first, merged=second, reason=row.reason)], now)
        return None
    # Webhooks before customers, as `ingest` and `forget` lock them.
    connection.execute(
        sa.select(inbox.c.id).where(inbox.c.customer_id == second).order_by(inbox.c.id).with_for_update()
    )
    both = people.locked(connection, [first, second])
    kept, merged = both[first], both[second]
    accounts = identity.accounts(connection, [first, second])
    gone = kept.forgotten_at is not None or merged.forgotten_at is not None
    if gone or (not row.by_hand and are_two(accounts[first], accounts[second], rules.many_ids)):
        connection.execute(merges.delete().where(merges.c.id == merge_id))
        return None
    return _merge(connection, row, kept, merged, rules, now)


def _merge(connection: Connection, row: Any, kept: Person, merged: Person, rules: Rules, now: datetime) -> Merged:
    lock_sent(connection, [kept.id, merged.id])
    journal: dict[str, Any] = {"kept": standing(connection, kept.id), "merged": standing(connection, merged.id)}
    journal["moved"] = {column.table.name: _move(connection, column, merged.id, kept.id) for column in references()}
    later, journal["runs"] = _move_runs(connection, kept.id, merged.id, rules)
    journal["stopped"], journal["skipped"] = _stop(connection, kept.id, later, now)
    journal["consents"] = _merge_consents(connection, kept.id, merged.id)
    journal["codes"] = _move_codes(connection, kept.id, merged.id)
    journal["referrals"] = referring.merge(connection, kept.id, merged.id, now)
    journal["brought"] = recounting.brought(connection, recounting.moved(journal["referrals"], merged.id))
    journal["ledger"] = ledger.transfer(connection, kept.id, merged.id, now)
    loyalty.take_over(connection, kept.id, merged.id, now)
    occasions.take_over(connection, kept.id, merged.id, now)
    journal["scores"] = leaderboards.move(connection, merged.id, kept.id, now)
    segments.take_over(connection, kept.id, merged.id, now)
    requests.follow(connection, merged.id, kept.id)
    take_in(kept, merged)
    people.save(connection, {kept.id: kept}, ())
    connection.execute(profiles.delete().where(profiles.c.customer_id == merged.id))
    blank = {"account_id": None, "stage": None, "stage_at": None, "orders": 0, "spent": 0, "last_order_at": None}
    connection.execute(customers.update().where(customers.c.id == merged.id).values(**blank, merged_into=kept.id))
    journal["made"] = standing(connection, kept.id)
    values = {"state": "done", "done_at": now, "journal": journal}
    connection.execute(merges.update().where(merges.c.id == row.id).values(**values))
    _keep_apart(connection, kept.id, merged.id, now)
    said = {"merge": {"id": row.id, "customer": merged.id, "reason": row.reason}}
    record(connection, MERGED_EVENT, f"merge {row.id} at {now.isoformat()}", kept.id, said, now)
    return Merged(
        id=row.id,
        kept=kept.id,
        merged=merged.id,
        reason=row.reason,
        runs_stopped=len(journal["stopped"]),
        messages_skipped=len(journal["skipped"]),
    )


def lock_sent(connection: Connection, customer_ids: Sequence[int]) -> None:
    """Lock what a provider has in hand, before any run, as settling does: so what is settled now is moved whole."""
    t = touchpoints_table.c
    connection.execute(
        sa.select(t.id)
        .where(bulk.among(t.customer_id, customer_ids), t.state == "sending")
        .order_by(t.id)
        .with_for_update()
    )


def _move(connection: Connection, column: sa.Column[Any], origin: int, to: int) -> list[Any]:
    """Make a customer's rows another's. Their primary keys, each a list where it has several parts."""
    keys = list(column.table.primary_key.columns)
    mine = sa.update(column.table).where(column == origin).values({column.name: to}).returning(*keys)
    moved = [list(row) for row in connection.execute(mine)]
    return [row[0] for row in moved] if len(keys) == 1 else moved


def _move_runs(connection: Connection, kept: int, merged: int, rules: Rules) -> tuple[list[int], list[Row]]:
    """Move the promises that a key runs once. The runs whose key has an older run, and the promises as they were."""
    r = runs.c
    promises = sa.select(r.flow, r.key, r.n, r.enrollment_id)
    theirs = connection.execute(promises.where(r.customer_id == merged)).all()
    mine: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row in connection.execute(promises.where(r.customer_id == kept)):
        mine.setdefault((row.flow, row.key), []).append((row.n, row.enrollment_id))
    e = enrollments_table.c
    is_open = (e.customer_id == kept) & e.state.not_in(["finished", "stopped"])
    still_open = set(connection.execute(sa.select(e.id).where(is_open)).scalars()) if rules.again else set()
    moved: list[bulk.Row] = []
    later: list[int] = []
    for row in theirs:
        by_number = row.flow in rules.by_number and row.key == str(merged)
        key = str(kept) if by_number else row.key
        same = mine.get((row.flow, key), [])
        moved.append((row.flow, kept, key, row.n + max((n for n, _ in same), default=0), row.enrollment_id))
        if same:
            both = {row.enrollment_id, *(run for _, run in same)}
            later += sorted(both & still_open if row.flow in rules.again else both)[1:]
    connection.execute(runs.delete().where(r.customer_id == merged))
    bulk.insert(connection, runs, ("flow", "customer_id", "key", "n", "enrollment_id"), moved)
    return sorted(set(later)), [dict(row._mapping) for row in theirs]


def _stop(connection: Connection, customer_id: int, later: Sequence[int], now: datetime) -> tuple[list[Row], list[Row]]:
    """End open runs whose key has an older run, and what they have queued. The rows as they were."""
    e, t = enrollments_table.c, touchpoints_table.c
    if not later:
        return [], []
    open_runs = connection.execute(
        sa.select(enrollments_table).where(bulk.among(e.id, later), e.state.not_in(["finished", "stopped"]))
    ).all()
    queued = connection.execute(
        sa.select(touchpoints_table).where(
            bulk.among(t.enrollment_id, [run.id for run in open_runs]), t.state.in_(["queued", "held"])
        )
    ).all()
    enrollments.move(
        connection, [(run.id, "stopped", run.step, None, None, run.lane, MERGED, now) for run in open_runs]
    )
    touchpoints.close(
        connection,
        [
            Settled(
                id=one.id,
                state=TouchpointState.SKIPPED,
                at=now,
                reason=MERGED,
                provider_id=one.provider_id,
                template_id=one.template_id,
                prepared_at=one.prepared_at,
            )
            for one in queued
        ],
    )
    enrollments.note(connection, [(customer_id, run.id, now, MERGED, None, None) for run in open_runs])
    return [frozen(run._mapping) for run in open_runs], [frozen(one._mapping) for one in queued]


def _merge_consents(connection: Connection, kept: int, merged: int) -> dict[str, list[Row]]:
    """The stricter word per channel and topic. The words of both as they were, and as they are."""
    before = {customer: words(connection, customer) for customer in (kept, merged)}
    made = dict(before[kept])
    for about, theirs in before[merged].items():
        mine = made.get(about)
        made[about] = {**(stricter(mine, theirs) if mine else theirs), "customer_id": kept}
    put_words(connection, (kept, merged), made.values())
    return {
        "kept": [frozen(row) for row in before[kept].values()],
        "merged": [frozen(row) for row in before[merged].values()],
        "made": [frozen(row) for row in made.values()],
    }


def words(connection: Connection, customer_id: int) -> dict[tuple[str, str], Row]:
    """A customer's words on consent by channel and topic."""
    rows = connection.execute(sa.select(consents).where(consents.c.customer_id == customer_id))
    return {(row.channel, row.topic): dict(row._mapping) for row in rows}


def put_words(connection: Connection, customer_ids: Collection[int], rows: Collection[Row]) -> None:
    """Let these be all the words of these customers."""
    connection.execute(consents.delete().where(bulk.among(consents.c.customer_id, list(customer_ids))))
    columns = tuple(consents.c.keys())
    bulk.insert(connection, consents, columns, [tuple(row[name] for name in columns) for row in rows])


def stricter(mine: Row, theirs: Row) -> Row:
    """Of two words on one topic the one that allows less; of equal ones the later.

    It counts as said when the later of both was, so that only a word newer than both can lift it.
    """
    first, second = sorted((mine, theirs), key=lambda word: (word["state"] == "withdrawn", word["occurred_at"]))
    return {**second, "occurred_at": max(first["occurred_at"], second["occurred_at"])}


def _move_codes(connection: Connection, kept: int, merged: int) -> list[str]:
    """Move referral codes of programmes in which the kept customer has none; the programmes."""
    c = referral_codes.c
    own = sa.select(c.programme).where(c.customer_id == kept)
    movable = (c.customer_id == merged) & c.programme.not_in(own.scalar_subquery())
    programmes = list(connection.execute(sa.select(c.programme).where(movable)).scalars())
    theirs = (c.customer_id == merged) & bulk.among(c.programme, programmes)
    connection.execute(referral_codes.update().where(theirs).values(customer_id=kept))
    return programmes


def take_in(kept: Person, merged: Person) -> None:
    """Let a customer know all that was known of another: newer news wins, gaps are filled, counts are added up."""
    their_news = merged.updated_at is not None and (kept.updated_at is None or merged.updated_at > kept.updated_at)
    for name in ("email", "phone", "first_name", "last_name"):
        said = getattr(merged, name)
        if said is not None and (their_news or getattr(kept, name) is None):
            setattr(kept, name, said)
    for name in ("locale", "timezone"):
        if _stands(merged, name, their_news) > _stands(kept, name, not their_news):
            setattr(kept, name, getattr(merged, name))
            setattr(kept, f"{name}_from", getattr(merged, f"{name}_from"))
    if merged.country is not None and (their_news or kept.country is None):
        kept.country, kept.region = merged.country, merged.region  # of one address, so never one of them alone
    older, newer = (kept, merged) if their_news else (merged, kept)
    tags = {tag for one in (older, newer) for tag in one.attributes.get(TAGS, ())}
    kept.attributes = {**older.attributes, **newer.attributes, **({TAGS: sorted(tags)} if tags else {})}
    kept.updated_at = newer.updated_at or older.updated_at
    if merged.stage_at is not None and (kept.stage_at is None or merged.stage_at > kept.stage_at):
        kept.stage, kept.stage_at = merged.stage, merged.stage_at
    kept.orders += merged.orders
    kept.spent += merged.spent
    kept.last_order_at = max(filter(None, (kept.last_order_at, merged.last_order_at)), default=None)
    kept.since = min(kept.since, merged.since)
    kept.account_id = kept.account_id if kept.account_id is not None else merged.account_id


def _stands(person: Person, name: str, is_news: bool) -> tuple[bool, bool, bool]:
    """How much a locale or zone counts: any more than none, told more than derived, news more than what is older."""
    return getattr(person, name) is not None, getattr(person, f"{name}_from") in (None, "told"), is_news


def _keep_apart(connection: Connection, kept: int, merged: int, now: datetime) -> None:
    """Whom the merged customer was told apart from, the kept one is apart from too."""
    m = merges.c
    either = (m.kept == merged) | (m.merged == merged)
    rows = connection.execute(sa.select(m.kept, m.merged, m.reason).where(either, m.state == "undone")).all()
    others = {(row.kept if row.merged == merged else row.merged): row.reason for row in rows}
    others.pop(kept, None)
    bulk.insert(
        connection,
        merges,
        ("kept", "merged", "state", "reason", "by_hand", "wanted_at", "undone_at"),
        [(min(kept, one), max(kept, one), "undone", why, False, now, now) for one, why in sorted(others.items())],
        on_conflict="DO NOTHING",
    )


def stones(connection: Connection, customer_id: int) -> list[int]:
    """All who were merged into a customer, at whatever remove."""
    found: list[int] = []
    ask = [customer_id]
    while ask:
        query = sa.select(customers.c.id).where(bulk.among(customers.c.merged_into, ask)).order_by(customers.c.id)
        ask = list(connection.execute(query).scalars())
        found += ask
    return found


def profiles_before(connection: Connection, customer_id: int) -> list[Row]:
    """What was known of a customer, and of those merged into them, before each merge that can still be undone."""
    m = merges.c
    family = [customer_id, *stones(connection, customer_id)]
    journals = connection.execute(
        sa.select(m.journal).where(bulk.among(m.kept, family), m.journal.is_not(None))
    ).scalars()
    profiles = (journal[which]["profile"] for journal in journals for which in ("kept", "merged"))
    return [profile for profile in profiles if profile]


def told(connection: Connection, customer_id: int) -> list[Row]:
    """The merges of a customer for `export`: with what was known of both before, as long as it is kept."""
    m = merges.c
    family = [customer_id, *stones(connection, customer_id)]
    rows = connection.execute(
        sa.select(m.id, m.kept, m.merged, m.state, m.reason, m.done_at, m.undone_at, m.journal)
        .where(bulk.among(m.kept, family) | bulk.among(m.merged, family))
        .order_by(m.id)
    ).all()
    return [
        {
            **{name: value for name, value in row._mapping.items() if name != "journal"},
            "before": {which: row.journal[which]["profile"] for which in ("kept", "merged")} if row.journal else None,
        }
        for row in rows
    ]


def forget(connection: Connection, family: Sequence[int], reason: str, now: datetime) -> int:
    """Empty what merges know of forgotten customers, and mark those who were merged into them as forgotten too.

    That two are apart stays known, by number. How many merges held something.
    """
    m = merges.c
    theirs = bulk.among(m.kept, family) | bulk.among(m.merged, family)
    connection.execute(merges.delete().where(theirs, m.state.in_(["wanted", "parked"])))
    held = connection.execute(
        merges.update().where(theirs, m.journal.is_not(None)).values(journal=None, reason=reason)
    ).rowcount
    connection.execute(merges.update().where(theirs).values(reason=reason))
    gone = bulk.among(customers.c.id, family[1:]) & customers.c.forgotten_at.is_(None)
    connection.execute(customers.update().where(gone).values(forgotten_at=now))
    return held


def record(
    connection: Connection, name: str, key: str, customer_id: int, payload: Mapping[str, Any], now: datetime
) -> None:
    """Record an event of ours about a customer. It starts no flow and wakes no run."""
    id_ = bulk.next_ids(connection, events_table, 1)[0]
    digest = sha256(f"{name} {key}".encode()).digest()
    events.record(connection, [(id_, customer_id, SOURCE, key, name, digest, now, now, dict(payload))])


def standing(connection: Connection, customer_id: int) -> dict[str, Row | None]:
    """A customer's own two rows as JSON keeps them: `customer` and `profile`."""
    customer = connection.execute(sa.select(customers).where(customers.c.id == customer_id)).one()
    profile = connection.execute(sa.select(profiles).where(profiles.c.customer_id == customer_id)).one_or_none()
    return {"customer": frozen(customer._mapping), "profile": frozen(profile._mapping) if profile else None}


def frozen(row: Mapping[Any, Any]) -> Row:
    """A row as JSON keeps it: instants as ISO 8601 text."""
    return {str(name): value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def thawed(table: sa.Table, row: Row) -> Row:
    """A row as it was before `frozen`."""
    return {
        name: datetime.fromisoformat(value) if value is not None and isinstance(table.c[name].type, Moment) else value
        for name, value in row.items()
    }
