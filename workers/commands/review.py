"""`review`: what a branch changes, as one comment for a pull request."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.commands.files import Folder

if TYPE_CHECKING:
    from afterglow.language.catalog import Document
    from workers.comparing import Difference, Review

#: By this the comment is known again that an earlier push left.
MARK = "<!-- afterglow review -->"
#: A comment on GitHub holds 65,536 characters.
LETTERS_MAX = 60_000


class Look(StrEnum):
    """How a review is written."""

    TEXT = "text"
    MARKDOWN = "markdown"


def add_to(main: typer.Typer) -> None:
    """Declare the command."""
    main.command()(review)


def review(
    base: Annotated[str, typer.Option(help="The commit or branch to compare with, such as origin/main.")],
    folder: Folder = None,
    form: Annotated[Look, typer.Option("--format", help="text, or markdown for a pull request.")] = Look.TEXT,
    out: Annotated[
        Path | None, typer.Option(help="Folder for pictures and mails, before and after.", file_okay=False)
    ] = None,
) -> None:
    """Say what a branch changes, as one comment.

    Problems, tests, flows, mails, and the people inside where a database is at hand.

    Exit status 1 if a file has problems or a test fails.
    """
    from db.settings import load_settings
    from workers.comparing import Side, make_review
    from workers.files import find_shop_folder, read_shop_folder

    settings = load_settings()
    folder = folder or find_shop_folder(settings.shop_dir)
    made = make_review(folder, base, settings, out)
    if not made.problems and made.changed:
        made.people = _people(Side.of(read_shop_folder(folder)).documents)
    told = "\n".join(_markdown(made) if form is Look.MARKDOWN else _text(made))
    if form is Look.MARKDOWN and len(told) > LETTERS_MAX:
        told = told[: told.rfind("\n", 0, LETTERS_MAX)] + "\n```\n\nThe rest is too long for a comment."
    typer.echo(told)
    if not made.is_good:
        raise typer.Exit(1)


def _people(documents: "tuple[Document, ...]") -> list[str] | None:
    """What these files would mean for people, against what is in force; None where no database answers."""
    from db.clock import DatabaseClock
    from workers.commands.opening import counted
    from workers.commands.planning import in_words
    from workers.planning import make_plan

    return counted(lambda desk: list(in_words(make_plan(desk.database, DatabaseClock(), documents))))


def _parts(made: "Review") -> Iterator[tuple[str, list[str], str]]:
    """Heading, lines, and of what kind they are: "text", or "diff"."""
    from workers.commands.console import count
    from workers.commands.planning import change_lines
    from workers.commands.testing import in_short

    if made.problems:
        yield f"{count(len(made.problems), 'problem')}", list(map(str, made.problems)), "text"
    failed = [one for one in made.tests if not one.is_kept]
    if failed:
        lines = [line for one in failed for line in (f"{one.flow.name}: {one.test.name}", *in_short(one), "")]
        yield f"{len(failed)} of {count(len(made.tests), 'test')} failed", lines, "text"
    elif made.tests:
        yield f"{count(len(made.tests), 'test')}: everything came as expected", [], "text"
    if made.cannot_compare:
        yield made.cannot_compare, [], "text"
    for change, picture in zip(made.flows, made.pictures, strict=True):
        yield f"Flow {change.flow} ({change.kind}){_kept(picture)}", list(change_lines(change)), "text"
        if picture.lines and change.kind == "changed":
            yield "", list(picture.lines), "diff"
    for mail in made.mails:
        yield f"Mail {mail.name}{_kept(mail)}", list(mail.lines), "diff"
    others = [name for name in made.changed if name.startswith(("flows/sources/", "flows/programmes/"))]
    others += [name for name in ("flows/shop.yaml", "flows/stages.yaml") if name in made.changed]
    if others:
        yield "Also changed", others, "text"
    if made.people is not None:
        yield "People, against what is in force", made.people, "text"
    elif made.changed and not made.problems:
        yield "People are not counted, as no database is at hand", [], "text"


def _kept(of: "Difference") -> str:
    return f": {', '.join(of.files)}" if of.files else ""


def _heading(made: "Review") -> str:
    from workers.commands.console import count

    if not made.changed and not made.problems:
        return f"Nothing that Afterglow reads differs from {made.base}."
    verdict = "nothing is wrong" if made.is_good else "something is to be corrected"
    return f"{count(len(made.changed), 'file')} against {made.base}: {verdict}."


def _text(made: "Review") -> Iterable[str]:
    yield _heading(made)
    for heading, lines, _ in _parts(made):
        if heading:
            yield from ("", heading)
        yield from (f"  {line}".rstrip() for line in lines)


def _markdown(made: "Review") -> Iterable[str]:
    yield from (MARK, "## Afterglow", "", _heading(made))
    for heading, lines, kind in _parts(made):
        if heading:
            yield from ("", f"### {_plain(heading)}")
        if lines:
            # The fence is longer than any within, so that no text of a mail ends it.
            fence = "`" * max(3, 1 + max(_run(line) for line in lines))
            yield from ("", f"{fence}{kind}", *lines, fence)


def _plain(text: str) -> str:
    """A heading whose names are not taken for marks."""
    return "".join(f"\\{letter}" if letter in "\\`*_<>#|" else letter for letter in text)


def _run(line: str) -> int:
    """The longest run of backticks in a line."""
    longest = current = 0
    for letter in line:
        current = current + 1 if letter == "`" else 0
        longest = max(longest, current)
    return longest
