"""What a marketer does with files: `init`, `check`, `schema`, `apply`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workers.applying import Applied

Folder = Annotated[
    Path | None,
    typer.Argument(help="The shop's folder, which holds flows/ and templates/.", file_okay=False, exists=True),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]


class Form(StrEnum):
    """How `check` says what it found."""

    TEXT = "text"
    GITHUB = "github"
    JSON = "json"


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(init)
    main.command()(check)
    main.command()(schema)
    main.command()(apply)


def init(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.", file_okay=False)],
    example: Annotated[
        str | None, typer.Option("--example", help="Another shop than the roastery: cafes, which sells to companies.")
    ] = None,
) -> None:
    """Begin a shop's own repository.

    It gets flows, templates, sources, and a CI file that checks them.
    """
    from workers.commands.console import count, say, say_next
    from workers.scaffold import make_shop

    written = make_shop(folder, example)
    say(f"{count(len(written), 'file')} written to {folder}; they are yours, and no upgrade touches them.")
    say_next(
        (f"cd {folder}", "everything below is done there"),
        ("afterglow check", "say what is wrong in the files, if anything"),
        ("afterglow run", "everything in one process; mails stay in the outbox"),
    )


def check(
    folder: Folder = None,
    form: Annotated[
        Form, typer.Option("--format", help="text; github: shown in a pull request; json: for editors.")
    ] = Form.TEXT,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Say everything that is wrong in a shop's files.

    Each problem stands as file:line:col: sentence. Exit status 1 if there is anything.
    """
    import gc
    from dataclasses import asdict

    from afterglow.language.check import check_files
    from afterglow.problems import Problem, Problems, github_annotation
    from db.settings import load_settings
    from workers.commands.console import complain, count, say, say_json, say_lines, say_next
    from workers.files import find_shop_folder, read_shop_folder

    folder = folder or find_shop_folder(load_settings().shop_dir)
    files: dict[str, str] = {}
    problems: list[Problem]
    gc.disable()  # what is read is kept until the end, so that looking for garbage finds none and takes long
    try:
        files = read_shop_folder(folder)
        problems = sorted(check_files(files))
    except Problems as error:  # a file that cannot be read; the others wait until it can
        problems = sorted(error.problems)
    if as_json or form is Form.JSON:
        say_json({"folder": str(folder), "problems": [asdict(problem) for problem in problems]})
    elif problems:
        below = "" if folder == Path() else folder.as_posix()
        title = "afterglow check"
        say_lines(github_annotation(one, title, below) if form is Form.GITHUB else one for one in problems)
        places = len({problem.file for problem in problems})
        complain(f"{count(len(problems), 'problem')} in {count(places, 'file')} of {_named(folder)}.")
    else:
        say(f"{count(len(files), 'file')} in {_named(folder)}: nothing wrong.")
        say_next(("afterglow apply", "put them into force"))
    if problems:
        raise typer.Exit(1)


def schema(
    kind: Annotated[
        str | None, typer.Argument(help="shop, stages, flow, piece, source or programme; all of them if left out.")
    ] = None,
) -> None:
    """Print the JSON Schema of a kind of file, for editors."""
    from afterglow.language.schema import json_schemas
    from afterglow.problems import did_you_mean
    from workers.commands.console import say_json

    schemas = json_schemas()
    if kind is not None and kind not in schemas:
        raise typer.BadParameter(f"'{kind}' is none of {', '.join(schemas)}.{did_you_mean(kind, schemas)}")
    say_json(schemas if kind is None else schemas[kind])


def apply(
    folder: Folder = None,
    yes: Annotated[bool, typer.Option("--yes", help="Also where other tiers lower customers at once.")] = False,
    yes_send: Annotated[
        int | None,
        typer.Option("--yes-send", metavar="N", help="Also where up to N mails go that would not otherwise."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a shop's files and put them into force.

    One transaction switches every process at once. Other tiers that would lower somebody at once are refused, and so
    are files that would mail many, inside flows or as these begin by themselves; `afterglow plan` says whom.
    """
    from db.clock import DatabaseClock
    from workers.applying import apply_folder
    from workers.commands.console import say_json, say_next
    from workers.commands.opening import me, opened
    from workers.files import find_shop_folder

    with opened() as desk:
        folder = folder or find_shop_folder(desk.settings.shop_dir)
        applied = apply_folder(
            desk.database,
            DatabaseClock(),
            folder,
            by=me(),
            commit=desk.settings.commit,
            lowers=yes,
            sends=yes_send,
        )
    if as_json:
        kinds = ("added", "changed", "removed")
        told = {kind: [{"kind": k, "name": n} for k, n in getattr(applied, kind)] for kind in kinds}
        mails = applied.plan.mails_said if applied.plan else 0
        about = {"folder": str(applied.folder), "by": me(), "commit": applied.commit}
        say_json({**about, **told, "tiers": list(applied.tiers), "mails": mails})
        return
    say_applied(applied)
    say_next(("afterglow flows", "what is in force, and who is inside"))


def say_applied(applied: "Applied") -> None:
    """What came into force, and by whom."""
    from workers.commands.console import count, say, say_lines
    from workers.commands.opening import me
    from workers.commands.planning import in_short

    if not applied.is_news:
        say(f"The files of {_named(applied.folder)} are in force already; nothing changed.")
        return
    say(f"In force since now, by {me()}: {count(applied.documents, 'file')} of {_named(applied.folder)}.")
    if len(applied.added) == applied.documents:
        return
    say_lines(f"  {line}" for line in applied.tiers)
    inside = {} if applied.plan is None else {one.change.flow: in_short(one) for one in applied.plan.flows}
    for sign, names in (("+", applied.added), ("~", applied.changed), ("-", applied.removed)):
        for kind, name in names:
            say_lines([f"  {sign} {kind} {name}{inside.get(name, '') if kind == 'flow' else ''}"])


def _named(folder: Path) -> str:
    return "this folder" if folder == Path() else str(folder)
