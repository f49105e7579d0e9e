"""`backfill`: what was missed, fetched from the provider's API into the inbox."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

if TYPE_CHECKING:
    from workers.backfill import Fetched, Fetcher


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(backfill)


def backfill(
    source: Annotated[str, typer.Argument(help="Such as shopify; its file says what is fetched.")],
    since: Annotated[str, typer.Option(help="From then on, such as 2026-11-01, in the shop's zone.")],
    until: Annotated[str | None, typer.Option(help="Until then; now unless given.")] = None,
    start_nothing: Annotated[
        bool, typer.Option("--start-nothing", help="Start no flow, however fresh an event is.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Fetch, and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False,
) -> None:
    """Fetch what was missed, and nothing twice.

    What happened less than 24 hours ago is late and does all that its webhook would have done; what is older is
    history: it is recorded and starts no flow. May be repeated, also after it was interrupted.
    """
    from dataclasses import asdict

    from afterglow import past
    from afterglow.backfill import BackfillError
    from afterglow.problems import did_you_mean
    from db.settings import source_secrets
    from workers.backfill import Fetcher
    from workers.commands.console import count, say, say_json, say_next
    from workers.commands.opening import UnknownError, opened

    with opened() as desk:
        with desk.database.reading() as connection:
            release, now = desk.release(connection), desk.now(connection)
        catalog = release.catalog
        found = catalog.sources.get(source)
        if found is None:
            raise UnknownError(
                f"No source in force is called '{source}'; they are {', '.join(sorted(catalog.sources))}."
                f"{did_you_mean(source, catalog.sources)}"
            )
        variables = found.backfill.environment if found.backfill else {}
        names = {name: b" ".join(source_secrets((variable,))).decode() for name, variable in variables.items()}
        if missing := [variables[name] for name, value in names.items() if not value]:
            raise BackfillError(
                f"{' and '.join(missing)} must be in the environment or in .env; flows/sources/{source}.yaml says what "
                "they are."
            )
        zone = catalog.shop.zone
        fetcher = Fetcher(
            database=desk.database,
            catalog=catalog,
            source=found,
            names=names,
            since=_moment(since, zone, "--since"),
            until=_moment(until, zone, "--until") if until else now,
            now=now,
            late_seconds=0 if start_nothing else int(past.LATE.total_seconds()),
            is_dry=dry_run,
        )
        fetched = _watched(fetcher, quiet=as_json)
    if as_json:
        say_json(asdict(fetched))
        return
    what = "would go into the inbox" if dry_run else "went into the inbox"
    say(f"{count(fetched.received, 'element')} of {source} {what}.", style="bold")
    say(
        f"{count(fetched.pages, 'page')} read; {fetched.known:,} elements were in already, and {fetched.let_go:,} say "
        "nothing or happened outside the time asked for. What came by webhook before counts once."
    )
    if not dry_run:
        say_next((f"afterglow inbox list --source {source}", "what could not be understood"))


def _moment(written: str, zone: ZoneInfo, option: str) -> datetime:
    from afterglow.local_time import from_wall

    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        raise typer.BadParameter(f"{option} {written}: write it as 2026-11-01 or 2026-11-01T09:00:00+01:00.") from None
    return moment if moment.tzinfo else from_wall(moment, zone)


def _watched(fetcher: "Fetcher", *, quiet: bool) -> "Fetched":
    """Do it, saying on standard error how far it is."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.fields[pages]:>6,} pages  {task.fields[received]:>8,} new  {task.fields[known]:>8,} known"),
        TimeElapsedColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
        disable=quiet,
    )
    with bar:
        task = bar.add_task("", total=None, pages=0, received=0, known=0)

        def say(reached: "Fetched") -> None:
            bar.update(task, pages=reached.pages, received=reached.received, known=reached.known)

        return fetcher.run(say)
