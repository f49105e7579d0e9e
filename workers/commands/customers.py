"""About one customer: `why`, `forget`, `export`."""

from typing import Annotated

import typer

Customer = Annotated[str, typer.Argument(help="An address, our number, or the id that a source uses.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(why)


def why(
    customer: Customer,
    flow: Annotated[str | None, typer.Option(help="Only what belongs to this flow, refusals included.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say every decision about a customer, and why."""
    from dataclasses import asdict
    from itertools import groupby

    from db.catalog import CatalogCache
    from db.why import heading, story
    from workers.commands.console import say, say_json, say_next
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        found = desk.customer(connection, customer)
        lines = story(connection, CatalogCache(), desk.settings.secrets[0], found, flow)
        who = heading(connection, found)
    if as_json:
        say_json({"customer": found, "lines": [asdict(line) for line in lines]})
        return
    say(who, style="bold")
    for is_standing, part in groupby(lines, key=lambda line: line.kind == "standing"):
        if is_standing:
            say()
            say("As it stands")
        for when, those in groupby(part, key=lambda line: line.when):
            say()
            say(when, style="dim")
            for line in those:
                where = " ".join(name for name in (line.flow, line.step) if name)
                say(f"{where}: {line.sentence}" if where else line.sentence, indent=2)
    say_next(
        (f"afterglow why {customer} --flow NAME", "of one flow only"),
        (f"afterglow export {customer}", "all that is kept about this customer"),
    )
