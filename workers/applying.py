"""Putting a shop's folder into force: read, check, compile, and one transaction that switches every process."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy.engine import Connection

from afterglow.language.catalog import compile_files
from afterglow.language.check import check_files
from afterglow.language.programme import Programme
from afterglow.problems import Problems
from db import catalog, tier_changes
from db.catalog import CatalogCache
from db.clock import Clock
from db.engine import Database
from workers.commits import commit_of
from workers.files import read_shop_folder
from workers.planning import Name, Plan, make_plan


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What an `apply` changed, against what was in force before."""

    folder: Path
    documents: int
    added: tuple[Name, ...] = ()
    changed: tuple[Name, ...] = ()
    removed: tuple[Name, ...] = ()
    #: How many customers other tiers raise and lower, in words.
    tiers: tuple[str, ...] = ()
    #: Of which commit the files are; None where they stand in no repository.
    commit: str | None = None
    #: What it meant for people inside.
    plan: Plan | None = None

    @property
    def is_news(self) -> bool:
        """Whether anything changed."""
        return bool(self.added or self.changed or self.removed)


def apply_folder(
    database: Database,
    clock: Clock,
    folder: Path,
    *,
    by: str,
    commit: str = "",
    lowers: bool = False,
    sends: int | None = None,
) -> Applied:
    """Check a folder and put it into force.

    Args:
      commit: of which commit the files are, where their folder stands in no repository.
      lowers: whether tiers may lower customers at once.
      sends: how many mails may be queued because of the files alone; None: as many as need no word.

    Raises:
      Problems: everything that is wrong with the files; then nothing changes.
      LoweringError: tiers would lower customers at once; then nothing changes.
      TooManyMailsError: more mails would be queued than `sends`; then nothing changes.
      AppliedMeanwhileError: somebody else put files into force while these were looked at.
    """
    files = read_shop_folder(folder)
    try:
        documents = compile_files(files)
    except Problems:
        raise Problems(check_files(files)) from None
    new = {(document.kind, document.name): document.digest for document in documents}
    with database.reading() as connection:
        if catalog.in_force(connection) == new:  # checked when they came into force
            return Applied(folder=folder, documents=len(new))
    if problems := check_files(files):
        raise Problems(problems)
    plan = make_plan(database, clock, documents, counts_programmes=False)
    plan.refuse_mails(sends)
    of_commit = commit_of(folder, commit)
    with database.writing() as connection:
        now = clock.now(connection)
        loyalty = _loyalty(connection)
        catalog.apply(connection, documents, now=now, by=by, commit=of_commit, after=plan.release or 0)
        applied = Applied(
            folder=folder,
            documents=len(new),
            added=plan.added,
            changed=plan.changed,
            removed=plan.removed,
            commit=of_commit,
            plan=plan,
        )
        if not loyalty:
            return applied
        release = CatalogCache().current(connection)
        found = tier_changes.moves(connection, loyalty, release.catalog.loyalty, release.catalog.shop, now)
        if not lowers:
            tier_changes.refuse_lowering(found)
        tier_changes.arrange(connection, found, release.catalog.loyalty, now)
    return replace(applied, tiers=tuple(map(str, found)))


def _loyalty(connection: Connection) -> Mapping[str, Programme]:
    """The loyalty programmes in force that have tiers."""
    try:
        programmes = CatalogCache().current(connection).catalog.loyalty
    except catalog.NothingAppliedError:
        return {}
    return {name: one for name, one in programmes.items() if one.tiers is not None}
