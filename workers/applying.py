"""Putting a shop's folder into force: read, check, compile, and one transaction that switches every process."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from afterglow.language.catalog import compile_files
from afterglow.language.check import check_files
from afterglow.problems import Problems
from db import catalog
from db.clock import Clock
from db.engine import Database
from workers.files import read_shop_folder

#: (kind, name), such as ("flow", "welcome")
Name = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What an `apply` changed, against what was in force before."""

    folder: Path
    documents: int
    added: tuple[Name, ...] = ()
    changed: tuple[Name, ...] = ()
    removed: tuple[Name, ...] = ()

    @property
    def is_news(self) -> bool:
        """Whether anything changed."""
        return bool(self.added or self.changed or self.removed)


def apply_folder(database: Database, clock: Clock, folder: Path, *, by: str) -> Applied:
    """Check a folder and put it into force.

    Raises:
      Problems: everything that is wrong with the files; then nothing changes.
    """
    files = read_shop_folder(folder)
    try:
        documents = compile_files(files)
    except Problems:
        raise Problems(check_files(files)) from None
    new = {(document.kind, document.name): document.digest for document in documents}
    with database.reading() as connection:
        if catalog.in_force(connection) == new:  # checked when they came into force
            return _compared(folder, new, new)
    if problems := check_files(files):
        raise Problems(problems)
    with database.writing() as connection:
        before = catalog.in_force(connection)
        catalog.apply(connection, documents, now=clock.now(connection), by=by)
    return _compared(folder, before, new)


def _compared(folder: Path, before: Mapping[Name, str], new: Mapping[Name, str]) -> Applied:
    return Applied(
        folder=folder,
        documents=len(new),
        added=tuple(sorted(new.keys() - before.keys())),
        changed=tuple(sorted(name for name in new.keys() & before.keys() if new[name] != before[name])),
        removed=tuple(sorted(before.keys() - new.keys())),
    )
