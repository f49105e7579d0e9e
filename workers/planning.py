"""What a shop's folder would change if it came into force now: files, steps, and what becomes of the people inside.

Read in short pages, each a transaction of its own, so that a plan over many people holds nobody up. Nothing is written.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.decide import HELD_OUT, Run
from afterglow.errors import AfterglowError
from afterglow.language.catalog import Catalog, Document, compile_files, read_documents
from afterglow.language.check import check_files
from afterglow.language.flow.graph import Flow
from afterglow.moving import Passage
from afterglow.planning import FlowChange, Inside, Prospect, flow_change, prospect
from afterglow.planning.people import Fate
from afterglow.problems import Problems
from db import catalog, enrollments, events, people, touchpoints
from db.catalog import CatalogCache, NothingAppliedError, Release
from db.clock import Clock
from db.engine import Database
from db.tables import documents as documents_table
from workers.beginnings import Beginnings, beginnings
from workers.facts import load_facts
from workers.files import read_shop_folder
from workers.replaying import differences

#: (kind, name), such as ("flow", "welcome")
Name = tuple[str, str]

#: Runs that are looked at together.
PAGE: Final = 1000
#: How far ahead mails are counted.
AHEAD: Final = timedelta(hours=24)
#: People who are named of each group.
EXAMPLES: Final = 3
#: Files that would mail more than so many customers' mails need `--yes-send`.
MAILS_MAX: Final = 100


class TooManyMailsError(AfterglowError):
    """The files would mail many people at once, and nobody said that they should."""


@dataclass(kw_only=True, slots=True)
class Group:
    """People on one step who share what would become of them. `to` is the step on which they stand then."""

    step: str | None
    fate: Fate
    to: str | None
    people: int = 0
    earlier: int = 0
    later: int = 0
    mails: int = 0
    #: (customer, when they go on now, when then): of those whose moment changes.
    examples: list[tuple[int, datetime | None, datetime | None]] = field(default_factory=list)

    def add(self, customer: int, found: Prospect) -> None:
        """Count one more."""
        self.people += 1
        self.earlier += found.moves == "earlier"
        self.later += found.moves == "later"
        self.mails += len(found.mails)
        if found.moves != "same" and len(self.examples) < EXAMPLES:
            self.examples.append((customer, found.before, found.after))


@dataclass(kw_only=True, slots=True)
class FlowPlan:
    """A flow that changes, and the people inside by the step on which they stand."""

    change: FlowChange
    groups: list[Group] = field(default_factory=list)
    #: For whom it would begin by itself; None where it never does, or does so now already.
    begins: Beginnings | None = None

    @property
    def people(self) -> int:
        """How many are inside."""
        return sum(group.people for group in self.groups)

    @property
    def moments(self) -> Mapping[str, int]:
        """How many go on earlier, and later."""
        return {how: sum(getattr(group, how) for group in self.groups) for how in ("earlier", "later")}


@dataclass(kw_only=True)
class Plan:
    """What would change against what is in force."""

    #: The release it is held against; None before the first.
    release: int | None
    added: tuple[Name, ...] = ()
    changed: tuple[Name, ...] = ()
    removed: tuple[Name, ...] = ()
    flows: list[FlowPlan] = field(default_factory=list)
    #: Mails that would be queued at once, and within `AHEAD`, because of the files alone.
    mails_at_once: int = 0
    mails: int = 0
    mailed: int = 0
    #: Mails that would be queued as flows begin by themselves, which do not so now.
    mails_begun: int = 0
    #: What loyalty and referral programmes would come to, in words.
    programmes: tuple[str, ...] = ()

    @property
    def is_news(self) -> bool:
        """Whether anything would change."""
        return bool(self.added or self.changed or self.removed)

    @property
    def mails_said(self) -> int:
        """How many mails somebody says may go."""
        return self.mails + self.mails_begun

    @property
    def needs_word(self) -> bool:
        """Whether somebody must say how many mails may go."""
        return self.mails_said > MAILS_MAX

    def refuse_mails(self, said: int | None) -> None:
        """Refuse files that mail many where nobody said how many.

        Raises:
          TooManyMailsError: says how many, and what to do.
        """
        if self.needs_word and self.mails_said > (said or 0):
            begun = f", and {self.mails_begun:,} as flows begin within 30 days" if self.mails_begun else ""
            raise TooManyMailsError(
                f"These files would queue {self.mails:,} mails for {self.mailed:,} customers within 24 hours{begun}, "
                "that would not go otherwise; look at them with `afterglow plan`, then apply with "
                f"--yes-send {self.mails_said}."
            )


def checked_documents(folder: Path) -> tuple[Document, ...]:
    """A folder's files as they would come into force.

    Raises:
      Problems: everything that is wrong with them.
    """
    files = read_shop_folder(folder)
    if problems := check_files(files):
        raise Problems(problems)
    return compile_files(files)


def make_plan(database: Database, clock: Clock, new: Sequence[Document], *, counts_programmes: bool = True) -> Plan:
    """Hold documents against what is in force, with the people inside.

    Args:
      counts_programmes: whether stored history is counted under changed programmes; that may take minutes.
    """
    with database.reading() as connection:
        now = clock.now(connection)
        before = catalog.in_force(connection)
        try:
            release = CatalogCache().current(connection)
        except NothingAppliedError:
            release = None
    plan = _compared(release, before, {(one.kind, one.name): one.digest for one in new})
    if release is None or not plan.is_news:
        return plan
    then = read_documents({(one.kind, one.name): one.body for one in new})
    named = sorted({name for kind, name in (*plan.added, *plan.changed, *plan.removed) if kind == "flow"})
    mailed: set[int] = set()
    for name in named:
        old, new_flow = release.catalog.flows.get(name), then.flows.get(name)
        found = FlowPlan(change=flow_change(name, old, new_flow))
        plan.flows.append(found)
        found.begins = beginnings(database, release.catalog, then, name, now)
        plan.mails_begun += found.begins.mails if found.begins else 0
        groups: dict[tuple[str | None, Fate, str | None], Group] = {}
        for customer, step, one in _prospects(database, release, then, name, now):
            key = step, one.fate, one.step
            groups.setdefault(key, Group(step=step, fate=one.fate, to=one.step)).add(customer, one)
            plan.mails += len(one.mails)
            plan.mails_at_once += sum(mail.at <= now for mail in one.mails)
            if one.mails:
                mailed.add(customer)
        held = _held(database, release, new_flow, name)
        plan.mails += len(held)
        plan.mails_at_once += len(held)
        mailed.update(held)
        order = {step: n for n, step in enumerate((old or new_flow or _none(name)).in_order())}
        found.groups = sorted(groups.values(), key=lambda group: (order.get(group.step or "", len(order)), str(group)))
    plan.mailed = len(mailed)
    if counts_programmes:
        plan.programmes = tuple(differences(database, release.catalog, then, now))
    return plan


def _held(database: Database, release: Release, new: Flow | None, name: str) -> list[int]:
    """The customers of mails that are held because a flow is paused which would run again, one for each mail."""
    current = release.catalog.flows.get(name)
    if current is None or current.status != "paused" or (new is not None and new.status == "paused"):
        return []
    with database.reading() as connection:
        return touchpoints.held_by_pause(connection, name)


def _none(name: str) -> Flow:
    raise AssertionError(f"{name} is neither in force nor in the folder")


def _compared(release: Release | None, before: Mapping[Name, str], new: Mapping[Name, str]) -> Plan:
    return Plan(
        release=release.id if release else None,
        added=tuple(sorted(new.keys() - before.keys())),
        changed=tuple(sorted(name for name in new.keys() & before.keys() if new[name] != before[name])),
        removed=tuple(sorted(before.keys() - new.keys())),
    )


def _prospects(
    database: Database, release: Release, then: Catalog, name: str, now: datetime
) -> Iterator[tuple[int, str | None, Prospect]]:
    """Customer, the step on which they stand, and what would become of them: of everybody inside a flow."""
    with database.reading() as connection:
        d = documents_table.c
        ids = [row.id for row in connection.execute(sa.select(d.id).where(d.kind == "flow", d.name == name))]
        versions = CatalogCache().flows(connection, ids)
    current, new = release.catalog.flows.get(name), then.flows.get(name)
    paused = (
        current is not None and current.status == "paused",
        new is not None and new.status == "paused",
    )
    after = 0
    while True:
        with database.reading() as connection:
            rows = enrollments.inside(connection, ids, after, PAGE)
            if rows:
                yield from _page(connection, rows, versions, release, then, new, now, paused)
        if len(rows) < PAGE:
            return
        after = rows[-1].id


def _page(
    connection: Connection,
    rows: Sequence[Any],
    versions: Mapping[int, Flow],
    release: Release,
    then: Catalog,
    new: Flow | None,
    now: datetime,
    paused: tuple[bool, bool],
) -> Iterator[tuple[int, str | None, Prospect]]:
    if new is None or (not new.moves and paused[0] == paused[1]):
        for row in rows:  # nothing changes for them, so nothing is read
            at = row.until or row.due_at
            step = versions[row.flow_id].first if row.step == events.FIRST else row.step
            yield row.customer_id, step, Prospect(fate="stays", step=step, before=at, after=at)
        return
    persons = people.load(connection, (row.customer_id for row in rows))
    keys = [(row.id, row.customer_id, row.event_id, row.entered_at) for row in rows]
    own = load_facts(
        connection,
        [(*key, versions[row.flow_id]) for key, row in zip(keys, rows, strict=True)],
        persons,
        release.catalog.shop,
    )
    others = load_facts(connection, [(*key, new) for key in keys], persons, then.shop)
    queued = enrollments.queued(connection, {row.id for row in rows})
    reached = enrollments.reached(connection, [row for row in rows if row.until is not None])
    passages = {id_: Passage(old=versions[id_], new=new) for id_ in {row.flow_id for row in rows}}
    for row in rows:
        begins = row.step == events.FIRST
        run = Run(
            customer_id=row.customer_id,
            event_id=row.event_id,
            entered_at=row.entered_at,
            step=versions[row.flow_id].first if begins else row.step,
            until=row.until,
            begins=begins,
            held_out=row.reason == HELD_OUT,
        )
        inside = Inside(
            run=run,
            facts=own[row.id],
            facts_then=others[row.id],
            due_at=row.due_at,
            since=reached.get(row.id),
            queued=queued.get(row.id, ()),
        )
        found = prospect(passages[row.flow_id], inside, now, now + AHEAD, paused=paused)
        yield row.customer_id, run.step, found
