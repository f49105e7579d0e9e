"""The files in force. Processes read them from the database; only `apply` puts files there.

A release is a list of documents by kind and name. The newest release is in force for every process at once, so that
workers of different checkouts never disagree; documents are kept for ever, so that a run can finish in the version
it began in.
"""

import getpass
import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.errors import AfterglowError
from afterglow.language.catalog import SEGMENTS, Catalog, Document, read_documents
from afterglow.language.flow.compiler import read_flow
from afterglow.language.flow.graph import Flow
from afterglow.language.referral import ReferralProgramme, read_referral
from afterglow.language.segment import Segment, read_segments
from afterglow.mail_templates import Mail, load_mail
from db import bulk, segments
from db.engine import load_json
from db.tables import documents, releases


class NothingAppliedError(AfterglowError):
    """No files are in force yet; run `afterglow apply` in the shop's folder."""


class AppliedMeanwhileError(AfterglowError):
    """Other files came into force meanwhile; look at `afterglow plan` again, then apply."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """The files in force: the catalog and the ids of its documents."""

    id: int
    catalog: Catalog
    ids: Mapping[str, Mapping[str, int]]

    def flow_id(self, name: str) -> int:
        """The document id of a flow in this release."""
        return self.ids["flow"][name]

    def mail_id(self, name: str) -> int | None:
        """The document id of a template in this release; None where there is none of that name."""
        return self.ids.get("template", {}).get(name)


def apply(
    connection: Connection,
    new: Sequence[Document],
    *,
    now: datetime,
    by: str | None = None,
    commit: str | None = None,
    after: int | None = None,
) -> bool:
    """Put documents into force in one transaction. False where exactly these are in force already.

    Args:
      by: who does it; the user of this process unless given.
      commit: of the repository in which the files stand.
      after: the release on which they were planned, 0 where there was none; unless given, whatever is in force.

    Raises:
      AppliedMeanwhileError: another release than `after` is in force.
    """
    digest = hashlib.sha256("\n".join(f"{d.kind} {d.name} {d.digest}" for d in new).encode()).hexdigest()
    in_force = sa.select(releases.c.digest).order_by(releases.c.id.desc()).limit(1)
    if connection.execute(in_force).scalar() == digest:
        return False
    if connection.dialect.name == "postgresql":  # two that apply at once follow each other
        connection.exec_driver_sql("LOCK TABLE releases IN SHARE ROW EXCLUSIVE MODE")
        if connection.execute(in_force).scalar() == digest:
            return False
    if after is not None and (connection.execute(_NEWEST).scalar() or 0) != after:
        raise AppliedMeanwhileError
    ids = bulk.next_ids(connection, documents, len(new))
    bulk.insert(
        connection,
        documents,
        ("id", "kind", "name", "digest", "body"),
        [(id_, d.kind, d.name, d.digest, d.body) for id_, d in zip(ids, new, strict=True)],
        on_conflict="DO NOTHING",
    )
    stored = connection.execute(
        sa.select(documents.c.id, documents.c.kind, documents.c.name, documents.c.digest).where(
            bulk.among(documents.c.digest, [d.digest for d in new])
        )
    )
    by_key = {(row.kind, row.name, row.digest): row.id for row in stored}
    manifest: dict[str, dict[str, int]] = {}
    for document in new:
        manifest.setdefault(document.kind, {})[document.name] = by_key[document.kind, document.name, document.digest]
    connection.execute(
        releases.insert().values(
            applied_at=now,
            applied_by=by or getpass.getuser(),
            digest=digest,
            manifest=manifest,
            commit=commit,
            moved_upto=0 if _moves(connection, new, manifest.get("flow", {})) else None,
        )
    )
    segments.arrange(connection, _segments(new), now)
    return True


def _moves(connection: Connection, new: Sequence[Document], ids: Mapping[str, int]) -> bool:
    """Whether people inside go over: a flow that says so is another one now, or some have not gone over before."""
    last = sa.select(releases.c.manifest, releases.c.moved_upto).order_by(releases.c.id.desc()).limit(1)
    before = connection.execute(last).first()
    if before is None:
        return False
    known = before.manifest.get("flow", {})
    changed = [d for d in new if d.kind == "flow" and known.get(d.name) != ids[d.name]]
    return before.moved_upto is not None or any(read_flow(d.body, f"flows/{d.name}.yaml").moves for d in changed)


def history(connection: Connection, limit: int) -> Sequence[Any]:
    """The newest releases, newest first: id, when, by whom, of which commit, digest, and manifest."""
    r = releases.c
    query = sa.select(r.id, r.applied_at, r.applied_by, r.commit, r.digest, r.manifest)
    return connection.execute(query.order_by(r.id.desc()).limit(limit)).all()


def _segments(new: Sequence[Document]) -> Mapping[str, Segment]:
    return next((read_segments(one.body, SEGMENTS) for one in new if one.kind == "segments"), {})


def in_force(connection: Connection) -> dict[tuple[str, str], str]:
    """The digest of each document in force, by (kind, name); empty before the first `apply`."""
    manifest = connection.execute(sa.select(releases.c.manifest).order_by(releases.c.id.desc()).limit(1)).scalar()
    ids = [id_ for names in (manifest or {}).values() for id_ in names.values()]
    query = sa.select(documents.c.kind, documents.c.name, documents.c.digest)
    return {
        (row.kind, row.name): row.digest for row in connection.execute(query.where(bulk.among(documents.c.id, ids)))
    }


class CatalogCache:
    """The compiled files, kept per process and looked up again when the release changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._release: Release | None = None
        self._flows: dict[int, Flow] = {}
        self._mails: dict[int, Mail] = {}

    def current(self, connection: Connection) -> Release:
        """The release in force.

        Raises:
          NothingAppliedError: when no files were ever applied.
        """
        newest = connection.execute(_NEWEST).scalar()
        if newest is None:
            raise NothingAppliedError
        release = self._release
        if release is not None and release.id == newest:
            return release
        with self._lock:
            if self._release is None or self._release.id != newest:
                self._release = _load(connection, newest)
            return self._release

    def flow(self, connection: Connection, document_id: int) -> Flow:
        """The version of a flow that a run began in."""
        return self.flows(connection, [document_id])[document_id]

    def flows(self, connection: Connection, document_ids: Sequence[int]) -> Mapping[int, Flow]:
        """The versions of flows with these ids; only versions not seen before are read."""
        new = [id_ for id_ in set(document_ids) if id_ not in self._flows]
        for row in self._bodies(connection, new):
            self._flows[row.id] = read_flow(row.body, f"flows/{row.name}.yaml")
        return self._flows

    def mails(self, connection: Connection, document_ids: Sequence[int]) -> Mapping[int, Mail]:
        """The versions of templates with these ids."""
        new = [id_ for id_ in set(document_ids) if id_ not in self._mails]
        for row in self._bodies(connection, new):
            self._mails[row.id] = load_mail(load_json(row.body))
        return self._mails

    def referral_programmes(self, connection: Connection, document_ids: Iterable[int]) -> dict[int, ReferralProgramme]:
        """The versions of referral programmes with these ids: a referral keeps the one under which it qualified."""
        rows = self._bodies(connection, sorted(set(document_ids)))
        return {row.id: read_referral(row.body, f"flows/programmes/{row.name}.yaml") for row in rows}

    def _bodies(self, connection: Connection, ids: Sequence[int]) -> Sequence[Any]:
        if not ids:
            return []
        query = sa.select(documents.c.id, documents.c.name, documents.c.body)
        return connection.execute(query.where(bulk.among(documents.c.id, ids))).all()


_NEWEST = sa.select(sa.func.max(releases.c.id))


def _load(connection: Connection, release_id: int) -> Release:
    manifest = connection.execute(sa.select(releases.c.manifest).where(releases.c.id == release_id)).scalar_one()
    ids = [id_ for names in manifest.values() for id_ in names.values()]
    rows = connection.execute(
        sa.select(documents.c.kind, documents.c.name, documents.c.body).where(bulk.among(documents.c.id, ids))
    )
    catalog = read_documents({(row.kind, row.name): row.body for row in rows})
    return Release(id=release_id, catalog=catalog, ids=manifest)
