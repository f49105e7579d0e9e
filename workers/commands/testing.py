"""`test`: the tests of flow files, on a clock that jumps."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workers.testing import Tried


class Format(Enum):
    """How results are told."""

    TEXT = "text"
    GITHUB = "github"
    JSON = "json"


def add_to(main: typer.Typer) -> None:
    """Declare the command."""
    main.command("test")(run)


def run(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Flow files, or the shop's folder; this folder if left out.")
    ] = None,
    containing: Annotated[str, typer.Option("-k", metavar="TEXT", help="Only tests with this in their name.")] = "",
    form: Annotated[Format, typer.Option("--format", help="github: annotations; json: for scripts.")] = Format.TEXT,
) -> None:
    """Run the tests of flow files: months in milliseconds.

    Without a database, and nobody gets a mail.

    Exit status 1 if one fails.
    """
    from db.settings import load_settings
    from workers.commands.console import complain, count, say, say_json
    from workers.testing import run_all

    tried = []
    for one in run_all(paths or [], containing, load_settings().shop_dir):
        tried.append(one)
        if form is not Format.JSON:
            _tell(one, form)
    failed = sum(not one.is_kept for one in tried)
    if form is Format.JSON:
        say_json([_plain(one) for one in tried])
    elif failed:
        complain(f"{failed} of {count(len(tried), 'test')} failed; - is missing, + was not expected.")
    elif not tried:
        say(
            "No flow has a test of this name." if containing else "No flow has `tests` yet; docs/testing.md begins one."
        )
    else:
        say(f"{count(len(tried), 'test')}: everything came as expected.")
    if failed or (containing and not tried):
        raise typer.Exit(1)


def _tell(one: "Tried", form: Format) -> None:
    from workers.commands.console import say_lines

    say_lines([f"{'ok  ' if one.is_kept else 'FAIL'}  {one.took_ms:5.1f} ms  {one.flow.name}: {one.test.name}"])
    if one.is_kept:
        return
    say_lines(["", *(f"      {line}".rstrip() for line in failure(one)), ""])
    if form is Format.GITHUB:
        say_lines(_annotations(one))


def failure(one: "Tried") -> list[str]:
    """A failed test for people: where it stands, expected and got, and what happened."""
    from afterglow.testing.report import reasons

    why = [] if one.lived is None or one.verdict is None else ["", "Why:", *reasons(one.lived.lines)]
    return [*in_short(one), *why]


def in_short(one: "Tried") -> list[str]:
    """A failed test, without what happened."""
    from afterglow.testing.report import comparison

    place = f"{one.file}:{one.line}"
    if one.lived is None or one.verdict is None:
        return [place, one.problem or ""]
    return [place, "", *comparison(one.verdict, one.lived.zone)]


def _annotations(one: "Tried") -> list[str]:
    """GitHub's annotations, one for each difference, at its line of the file."""
    from afterglow.problems import Problem, github_annotation
    from afterglow.testing.report import sentence

    if one.lived is None or one.verdict is None:
        found = [Problem(one.file, one.line, 1, one.problem or "")]
    else:
        found = [Problem(one.file, one.line, 1, failed) for failed in one.verdict.failed]
        for row in one.verdict.rows:
            if row.is_wrong:
                line, col = one.flow.document.place(row.path) if row.path else (one.line, 1)
                found.append(Problem(one.file, line, col, sentence(row, one.lived.zone)))
    return [github_annotation(problem, f"{one.flow.name}: {one.test.name}") for problem in found]


def _plain(one: "Tried") -> dict[str, object]:
    rows = one.verdict.rows if one.verdict else ()
    return {
        "flow": one.flow.name,
        "test": one.test.name,
        "file": one.file,
        "line": one.line,
        "ok": one.is_kept,
        "ms": round(one.took_ms, 1),
        "problem": one.problem,
        "failed": list(one.verdict.failed) if one.verdict else [],
        "differences": [{"at": row.at, "expected": row.expected, "got": row.got} for row in rows if row.is_wrong],
        "why": [str(line) for line in one.lived.lines] if one.lived and not one.is_kept else [],
    }
