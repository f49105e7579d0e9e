"""What a branch changes in a shop's files, put together for whoever reviews it: one page that reads like a comment.

The files of the other side are read out of git's own store, so nothing is checked out. The same two sides give the
same page, but for the people, who are counted in the database where one is at hand.
"""

import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import unified_diff
from pathlib import Path
from typing import Final

from afterglow.errors import AfterglowError
from afterglow.language.catalog import Catalog, Document, compile_files, read_documents
from afterglow.language.check import check_files
from afterglow.language.flow.graph import Flow
from afterglow.mail_templates import Mail
from afterglow.outline import outline
from afterglow.pictures import flow_picture
from afterglow.planning import FlowChange, flow_change
from afterglow.problems import Problem, Problems
from db.settings import Settings
from workers.files import read_shop_folder
from workers.previewing import CannotBeWrittenError, mails_of, previews_of
from workers.testing import Tried, run_all

#: What a reviewer is shown of one difference; the files in `--out` hold all of it.
LINES_MAX: Final = 80


class NoGitError(AfterglowError):
    """Comparing with another commit needs git; install it, or see `afterglow plan`, which needs none."""


class UnknownCommitError(AfterglowError):
    """There is no such commit here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Something that reads otherwise now: lines of a difference, and the files in which both sides stand."""

    name: str
    lines: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Side:
    """A shop's files at one commit. `catalog` is None where they have problems."""

    files: Mapping[str, str]
    documents: tuple[Document, ...] = ()
    catalog: Catalog | None = None

    @classmethod
    def of(cls, files: Mapping[str, str]) -> "Side":
        """The files, compiled where they can be."""
        try:
            documents = compile_files(files)
        except Problems:
            return cls(files=files)
        catalog = read_documents({(one.kind, one.name): one.body for one in documents})
        return cls(files=files, documents=documents, catalog=catalog)

    def digests(self, kind: str) -> dict[str, str]:
        """The digest of each document of a kind, by name."""
        return {one.name: one.digest for one in self.documents if one.kind == kind}


@dataclass(kw_only=True)
class Review:
    """What there is to say."""

    base: str
    problems: Sequence[Problem] = ()
    #: Why nothing is held against the base.
    cannot_compare: str | None = None
    changed: list[str] = field(default_factory=list)
    flows: list[FlowChange] = field(default_factory=list)
    pictures: list[Difference] = field(default_factory=list)
    mails: list[Difference] = field(default_factory=list)
    tests: list[Tried] = field(default_factory=list)
    #: What other files would mean for people, in lines; None where no database is at hand.
    people: list[str] | None = None

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong and every test is kept."""
        return not self.problems and all(one.is_kept for one in self.tests)


def make_review(folder: Path, base: str, settings: Settings, out: Path | None = None) -> Review:
    """Hold a folder against a commit.

    Args:
      out: where pictures and mails of both sides are written; nowhere unless given.

    Raises:
      NoGitError, UnknownCommitError: the other side cannot be read.
      Problems: a file cannot be read.
    """
    at, before = read_commit(folder, base)
    after = Side.of(read_shop_folder(folder))
    made = Review(base=base, problems=sorted(check_files(after.files)))
    if after.catalog is None:
        return made
    names = {*before.files, *after.files}
    made.changed = sorted(name for name in names if before.files.get(name) != after.files.get(name))
    made.tests = _tests(folder, made.changed)
    if before.catalog is None:
        made.cannot_compare = "The files of the base have problems themselves, so nothing is held against them."
        return made
    keep = _Keep(out)
    old, new = before.digests("flow"), after.digests("flow")
    for name in sorted(name for name in {*old, *new} if old.get(name) != new.get(name)):
        flows = before.catalog.flows.get(name), after.catalog.flows.get(name)
        made.flows.append(flow_change(name, *flows))
        made.pictures.append(_picture(name, flows, keep))
    old, new = before.digests("template"), after.digests("template")
    shop_differs = before.catalog.shop.facts != after.catalog.shop.facts
    for name in sorted(name for name in {*old, *new} if shop_differs or old.get(name) != new.get(name)):
        if (mail := _mail(name, before, after, settings, at, keep)) is not None:
            made.mails.append(mail)
    return made


def read_commit(folder: Path, ref: str) -> tuple[datetime, Side]:
    """When a commit was made, and the shop's files in it.

    Raises:
      NoGitError: git is not installed.
      UnknownCommitError: git knows no such commit, or the folder stands in no repository.
    """
    if shutil.which("git") is None:
        raise NoGitError
    commit = _git(folder, "rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}", ref=ref).decode().strip()
    said = _git(folder, "show", "-s", "--format=%ct", commit, ref=ref)
    archive = _git(folder, "archive", "--format=tar", commit, ref=ref)
    with (
        tempfile.TemporaryDirectory(prefix="afterglow-review-") as place,
        tarfile.open(fileobj=io.BytesIO(archive)) as tar,
    ):
        members = [one for one in tar if one.isfile() and one.name.partition("/")[0] in ("flows", "templates")]
        tar.extractall(place, members, filter="data")
        (Path(place) / "flows").mkdir(exist_ok=True)
        files = read_shop_folder(place)
    return datetime.fromtimestamp(int(said), UTC), Side.of(files)


def _git(folder: Path, *words: str, ref: str) -> bytes:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").split()).removeprefix("fatal: ")[:200]
        raise UnknownCommitError(
            f"git cannot read '{ref}' here ({reason}); fetch it, or name another commit with --base."
        )
    return done.stdout


def _tests(folder: Path, changed: Sequence[str]) -> list[Tried]:
    """The tests of changed flows; those of all flows where what all of them share has changed."""
    flows = [name for name in changed if name.startswith("flows/") and name.count("/") == 1]
    shared = [name for name in changed if name.startswith("flows/") and name not in flows]
    if shared or {"flows/shop.yaml", "flows/stages.yaml"} & {*flows}:
        return [*run_all([folder], "")]
    paths = [folder / name for name in flows if (folder / name).is_file()]
    return [*run_all(paths, "")] if paths else []


class _Keep:
    """Writes what both sides have into a folder, where one was named."""

    def __init__(self, out: Path | None) -> None:
        self.out = out

    def both(self, name: str, ending: str, texts: tuple[str | None, str | None]) -> tuple[str, ...]:
        """Write a text before and after; the names of the files."""
        if self.out is None:
            return ()
        self.out.mkdir(parents=True, exist_ok=True)
        written = []
        for side, text in zip(("before", "after"), texts, strict=True):
            if text is not None:
                written.append(f"{name.replace('/', '-')}.{side}.{ending}")
                (self.out / written[-1]).write_text(text, encoding="utf-8")
        return tuple(written)


def _picture(name: str, flows: tuple[Flow | None, Flow | None], keep: _Keep) -> Difference:
    before, after = ("" if one is None else "\n".join(_told(one)) for one in flows)
    pictures = (flow_picture(flows[0]) if flows[0] else None, flow_picture(flows[1]) if flows[1] else None)
    return Difference(name=name, lines=_differences(before, after), files=keep.both(name, "svg", pictures))


def _told(flow: Flow) -> Iterator[str]:
    """A flow in lines, as its page tells it."""
    for line in outline(flow):
        if line.branch is not None:
            yield f"{'  ' * line.depth}[{line.branch}]"
        yield f"{'  ' * line.depth}{line.id}: {line.sentence}"


def _mail(name: str, before: Side, after: Side, settings: Settings, at: datetime, keep: _Keep) -> Difference | None:
    """A mail whose words or look differ, filled in with an example's facts; None where it reads the same."""
    sides = [_written(name, side, settings, at) for side in (before, after)]
    texts = ["" if one is None else one[0] for one in sides]
    pages = tuple(None if one is None else one[1] for one in sides)
    if texts[0] == texts[1] and pages[0] == pages[1]:
        return None
    lines = _differences(*texts) or ("only its look differs",)
    return Difference(name=name, lines=lines, files=keep.both(name, "html", (pages[0], pages[1])))


def _written(name: str, side: Side, settings: Settings, at: datetime) -> tuple[str, str] | None:
    """A mail as text and as HTML; None where there is none."""
    if side.catalog is None or name not in side.digests("template"):
        return None
    mails: dict[str | None, Mail] = {None: mails_of(side.catalog, side.files, name)[None]}
    try:
        (found,) = previews_of(side.catalog, mails, name, {}, settings, at)
    except CannotBeWrittenError as error:
        return str(error), ""
    rendered = found.rendered
    return f"Subject: {rendered.subject}\nPreheader: {rendered.preheader}\n\n{rendered.text}", rendered.html


def _differences(before: str, after: str) -> tuple[str, ...]:
    """What differs, line by line, with the lines around it."""
    lines = unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2)
    told = [line for line in lines if not line.startswith(("---", "+++"))]
    if len(told) > LINES_MAX:
        told = [*told[:LINES_MAX], f"... and {len(told) - LINES_MAX} more lines"]
    return tuple(told)
