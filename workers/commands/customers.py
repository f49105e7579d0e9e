"""About one customer: `why`, `forget`, `export`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from afterglow.telling import Line

Customer = Annotated[str, typer.Argument(help="An address, our number, or the id that a source uses.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(why)
    main.command()(forget)
    main.command()(export)


def why(
    customer: Customer,
    flow: Annotated[str | None, typer.Option(help="Only what belongs to this flow, refusals included.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say every decision about a customer, and why."""
    from dataclasses import asdict

    from db.catalog import CatalogCache
    from db.why import about, heading, story
    from workers.commands.console import say_json, say_next
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        found = desk.customer(connection, customer)
        catalog = CatalogCache()
        lines = story(connection, catalog, desk.settings.secrets[0], found, flow)
        who, known = heading(connection, found), about(connection, catalog, found)
    if as_json:
        say_json({"customer": found, "about": known, "lines": [asdict(line) for line in lines]})
        return
    say_story(who, lines, known)
    say_next(
        (f"afterglow why {customer} --flow NAME", "of one flow only"),
        (f"afterglow export {customer}", "all that is kept about this customer"),
    )


def say_story(who: str, lines: Sequence["Line"], about: Sequence[str] = ()) -> None:
    """A customer's story, as `db.why.story` tells it, under the moments at which things happened."""
    from itertools import groupby

    from workers.commands.console import say

    say(who, style="bold")
    for sentence in about:
        say(sentence, style="dim")
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


def forget(
    customer: Customer,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forget a customer for good.

    Deletes what names the person and empties what might. What is left is numbers, and a keyed hash of the address, so
    that an old list imported again brings no marketing back.
    """
    from dataclasses import asdict

    from db import privacy
    from db.why import heading
    from workers.commands.console import say, say_json, say_next
    from workers.commands.opening import opened

    with opened() as desk:
        with desk.database.reading() as connection:
            found = desk.customer(connection, customer)
            who = heading(connection, found)
        if not yes:
            typer.confirm(f"Forget {who} for good? This cannot be taken back", abort=True, err=True)
        with desk.database.writing() as connection:
            forgotten = privacy.forget(connection, found, desk.now(connection), desk.settings.secrets[0])
    if as_json:
        say_json(asdict(forgotten))
        return
    say(str(forgotten))
    say_next((f"afterglow export {found}", "what is left: numbers"))


def export(
    customer: Customer,
    to: Annotated[Path | None, typer.Option(help="Write it to this file instead.", dir_okay=False)] = None,
    answered: Annotated[
        bool, typer.Option("--answered", help="Print nothing: note that the customer has what they asked for.")
    ] = False,
) -> None:
    """Print all that is kept about a customer, as JSON.

    What a customer asked for through a provider stays under "Needs you" until you say that they have it: --answered.
    """
    import json
    import os

    from db import privacy
    from db.catalog import CatalogCache
    from workers.commands.opening import opened

    if answered:
        _answered(customer)
        return
    with opened() as desk, desk.database.reading() as connection:
        found = desk.customer(connection, customer)
        kept = privacy.export(connection, CatalogCache(), desk.settings, found)
    text = json.dumps(kept, indent=2, ensure_ascii=False)
    if to is None:
        typer.echo(text)
        return
    # Readable to its owner alone from the first moment: it holds all about a person.
    with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    typer.echo(f"Written to {to}; it holds personal data.", err=True)


def _answered(customer: str) -> None:
    """Close the requests of a customer who has what they asked for."""
    from db import requests
    from workers.commands.console import count, say
    from workers.commands.opening import opened

    with opened() as desk, desk.database.writing() as connection:
        found = desk.customer(connection, customer)
        done = requests.settle_for(connection, found, desk.now(connection), "the customer has it")
    say(f"{count(done, 'request')} of customer {found} answered." if done else f"Customer {found} asked for nothing.")
