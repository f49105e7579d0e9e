"""`import`: a shop's history out of files. It starts no flow, unless told to in so many words."""

from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afterglow.importing import BadRow
    from afterglow.language.shop import Shop
    from db.importing import Outcome
    from workers.commands.opening import Desk
    from workers.importing import Reached, Wanted

#: The most bad rows listed for people.
LISTED_MAX = 20


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command("import")(import_)


def import_(
    kind: Annotated[str, typer.Argument(help="customers, orders, consent, suppressions, referral-codes or balances.")],
    file: Annotated[
        str | None,
        typer.Argument(help="CSV or JSON Lines, also with .gz; - is standard input. Left out: the columns are told."),
    ] = None,
    source: Annotated[
        str, typer.Option(help="The source whose ids the file holds, such as shopify; names of our own: import.")
    ] = "import",
    form: Annotated[
        str | None, typer.Option("--format", help="csv or jsonl, where the file's name does not tell.")
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Of times written without one; the shop's unless given.")] = None,
    stage: Annotated[
        str | None, typer.Option(help="The stage that rows bring; as the source's webhooks would unless given.")
    ] = None,
    rename: Annotated[list[str] | None, typer.Option(metavar="THEIRS=OURS", help="A column by another name.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="THEIRS", help="A column that is not read.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only look; write nothing.")] = False,
    rejects: Annotated[bool, typer.Option("--rejects", help="Write bad rows to FILE.rejected.csv.")] = False,
    start: Annotated[str | None, typer.Option(metavar="FLOW", help="Afterwards start this flow for them.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Start it without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False,
) -> None:
    """Bring in history; it starts no flow.

    What was imported before, or came by a webhook, changes nothing. A row that cannot be read is told by its line, and
    the others go in. Balances of points go into the ledger, once for each customer, programme and key.
    """
    from workers.commands.opening import opened
    from workers.importing import Importer

    if file is None:
        _say_columns(kind)
        return
    wanted = _wanted(kind, file, source, form, zone, stage, rename or [], ignore or [])
    with opened() as desk:
        with desk.database.reading() as connection:
            release, now = desk.release(connection), desk.now(connection)
        _known(wanted, release)
        flow = _flow(desk, release, start)
        importer = Importer(database=desk.database, settings=desk.settings, release=release, wanted=wanted, now=now)
        outcome = _watched(importer.check if check else importer.write, quiet=as_json)
        outcome.bad.sort()
        kept = str(importer.rejects(outcome.bad)) if rejects and outcome.bad else None
        if not as_json:
            _say(wanted, outcome, kept, check=check)
            _say_sums(release.catalog.shop, outcome, check=check)
        started = None if flow is None or check else _start(desk, release, flow, outcome, yes=yes, quiet=as_json)
    if as_json:
        _say_json(outcome, kept, started)
    if outcome.bad:
        raise typer.Exit(1)


def _known_kind(kind: str) -> None:
    from afterglow.importing import COLUMNS
    from afterglow.problems import did_you_mean

    if kind not in COLUMNS:
        raise typer.BadParameter(f"'{kind}' is none of {', '.join(COLUMNS)}.{did_you_mean(kind, COLUMNS)}")


def _say_columns(kind: str) -> None:
    """Which columns a file may have."""
    from afterglow.importing import COLUMNS
    from workers.commands.console import say, say_table

    _known_kind(kind)
    say_table(("column", "what it holds"), list(COLUMNS[kind].items()), title=f"Columns of {kind}")
    say()
    if kind == "customers":
        say("Attributes of shop.yaml may stand beside them.")
    if kind == "orders":
        say("Further fields of the order's event may stand beside them, as order.NAME.")


def _wanted(
    kind: str,
    file: str,
    source: str,
    form: str | None,
    zone: str | None,
    stage: str | None,
    rename: "Sequence[str]",
    ignore: "Sequence[str]",
) -> "Wanted":
    from pathlib import Path

    from afterglow.local_time import known_zone
    from workers.importing import STDIN, Wanted

    _known_kind(kind)
    if file != STDIN and not Path(file).is_file():
        raise typer.BadParameter(f"there is no file {file}.")
    if form not in (None, "csv", "jsonl"):
        raise typer.BadParameter(f"'{form}' is neither csv nor jsonl.")
    found: ZoneInfo | None = known_zone(zone) if zone else None
    if zone and found is None:
        raise typer.BadParameter(f"'{zone}' is not a time zone; write it as Europe/Berlin.")
    if unclear := [one for one in rename if not all(one.partition("="))]:
        raise typer.BadParameter(f"--rename {unclear[0]}: write THEIRS=OURS.")
    renamed = {theirs: ours for theirs, _, ours in (one.rpartition("=") for one in rename)}
    return Wanted(
        kind=kind, file=file, source=source, form=form, zone=found, stage=stage, renamed=renamed, ignored=ignore
    )


def _known(wanted: "Wanted", release: Any) -> None:
    """A source or a stage that no file knows is most likely a slip of the pen."""
    from afterglow.native import NATIVE_SOURCES
    from afterglow.problems import did_you_mean
    from workers.commands.opening import UnknownError
    from workers.importing import OWN

    sources = {*release.catalog.sources, *NATIVE_SOURCES, OWN}
    if wanted.source not in sources:
        raise UnknownError(
            f"No source in force is called '{wanted.source}'; they are {', '.join(sorted(sources))}."
            f"{did_you_mean(wanted.source, sources)}"
        )
    stages = release.catalog.stage_names
    if wanted.stage is not None and wanted.stage not in stages:
        raise UnknownError(
            f"'{wanted.stage}' is not a stage of this shop; they are {', '.join(sorted(stages))}."
            f"{did_you_mean(wanted.stage, stages)}"
        )


def _flow(desk: "Desk", release: Any, name: str | None) -> Any:
    from workers.commands.opening import UnknownError

    if name is None:
        return None
    with desk.database.reading() as connection:
        desk.flow(connection, name)
    flow = release.catalog.flows[name]
    if flow.status != "live":
        raise UnknownError(f"The flow '{name}' is {flow.status}, so that it starts for nobody; make it live and apply.")
    return flow


def _watched(work: "Callable[[Callable[[Reached], None]], Outcome]", *, quiet: bool) -> "Outcome":
    """Do it under a progress bar, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.fields[rows]:>10,} rows"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[bad]:,} bad"),
        TimeElapsedColumn(),
        console=Console(stderr=True, highlight=False),
        expand=True,
        transient=True,
        disable=quiet,
    )
    with bar:
        task = bar.add_task("", total=None, rows=0, bad=0)

        def say(reached: "Reached") -> None:
            done = reached.outcome
            rows = done.new + done.changed + done.known + len(done.bad)
            bar.update(task, total=reached.size, completed=reached.read, rows=rows, bad=len(done.bad))

        return work(say)


def _say(wanted: "Wanted", outcome: "Outcome", kept: str | None, *, check: bool) -> None:
    from workers.commands.console import count, say, say_lines

    if check:
        say(f"{count(outcome.new, 'row')} of {wanted.kind} could go in; nothing was written.", style="bold")
    else:
        say(
            f"{outcome.new:,} new, {outcome.changed:,} changed, {outcome.known:,} known already; no flow was started.",
            style="bold",
        )
    if not outcome.bad:
        return
    say()
    say(f"{count(len(outcome.bad), 'row')} could not be taken in:")
    say_lines(f"  line {row.line}: {row.reason}" for row in outcome.bad[:LISTED_MAX])
    if len(outcome.bad) > LISTED_MAX:
        say(f"  ... and {len(outcome.bad) - LISTED_MAX:,} more")
    if kept is not None:
        say(f"They are in {kept}; correct them there and import that file with --ignore line --ignore reason.")
    else:
        say("The same command with --rejects writes them to a file of their own.")


def _say_sums(shop: "Shop", outcome: "Outcome", *, check: bool) -> None:
    """What balances add up to, to be compared with what the file's makers say."""
    from workers.commands.console import say

    for (programme, asset), amount in sorted(outcome.sums.items()):
        told = (
            f"{shop.to_major(amount):,} {shop.model.currency} of credit" if asset == "credit" else f"{amount:,} {asset}"
        )
        say(f"{programme}: {told} {'could be' if check else 'were'} brought in.")


def _start(desk: "Desk", release: Any, flow: Any, outcome: "Outcome", *, yes: bool, quiet: bool) -> int:
    """Show who would enter and what would be sent, ask, and start. How many were started."""
    from workers.commands.console import count, say, say_next, say_table
    from workers.importing import Starter

    starter = Starter(database=desk.database, release=release, flow=flow)
    entrants = starter.look(outcome.events)
    if not quiet:
        say()
        say(
            f"{count(entrants.customers, 'customer')} would enter {flow.name}, in {count(entrants.runs, 'run')}.",
            style="bold",
        )
    if not entrants.runs:
        return 0
    if not quiet:
        say_table(
            ("what would happen at once", "runs"),
            entrants.first.most_common(),
            numbers=("runs",),
        )
        say("Before a mail goes, consent, suppressions, caps and quiet hours are asked as ever.")
    if not yes and not (not quiet and _agreed(flow.name, entrants.runs)):
        if not quiet:
            say("Nothing was started; what was imported stays. The same command with --yes starts it.")
        return 0
    started = starter.start(outcome.events)
    if not quiet:
        say(f"{count(started, 'run')} of {flow.name} started.", style="bold")
        say_next((f"afterglow halt {flow.name}", "stop its marketing at once"), ("afterglow flows", "who is inside"))
    return started


def _agreed(flow: str, runs: int) -> bool:
    """Whether a person says yes; nobody there to ask is a no."""
    import sys

    if not sys.stdin.isatty():
        return False
    return typer.confirm(f"Start {runs:,} runs of {flow}?", default=False)


def _say_json(outcome: "Outcome", kept: str | None, started: int | None) -> None:
    from workers.commands.console import say_json

    bad: list[BadRow] = outcome.bad
    say_json(
        {
            "new": outcome.new,
            "changed": outcome.changed,
            "known": outcome.known,
            "bad": [{"line": row.line, "reason": row.reason} for row in bad],
            "rejects": kept,
            "sums": [
                {"programme": programme, "asset": asset, "amount": amount}
                for (programme, asset), amount in sorted(outcome.sums.items())
            ],
            "started": started,
        }
    )
