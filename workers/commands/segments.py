"""`segments`: who is in which, and why."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from db.rosters import Explained


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(segments)


def segments(
    name: Annotated[str | None, typer.Argument(help="Who is in this one.")] = None,
    customer: Annotated[
        str | None, typer.Option("--customer", help="Why this one is in it, or not: an address, our number, an id.")
    ] = None,
    after: Annotated[int, typer.Option("--after", min=0, help="Members from the one after this number on.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="So many members.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False,
) -> None:
    """Show the segments, who is in one, or why somebody is."""
    from dataclasses import asdict

    from afterglow.problems import did_you_mean
    from db import rosters
    from workers.commands.console import count, moment, say, say_json, say_next, say_table
    from workers.commands.opening import UnknownError, opened

    with opened() as desk, desk.database.reading() as connection:
        catalog = desk.release(connection).catalog
        in_force = catalog.segments
        if name is None:
            found = rosters.counted(connection, in_force)
        elif name not in in_force:
            meant = did_you_mean(name, in_force)
            raise UnknownError(f"No segment in force is called '{name}'.{meant} `afterglow segments` lists them.")
        elif customer is not None:
            now, number = desk.now(connection), desk.customer(connection, customer)
            told = rosters.explain(connection, in_force[name], catalog.shop, number, now)
        else:
            members = rosters.roster(connection, name, after=after, limit=limit)
    if name is None:
        rows = [
            (one.segment.name, one.people if one.is_filled else f"{one.people} and counting", one.segment.about)
            for one in found
        ]
        if as_json:
            say_json([{"segment": segment, "people": people, "about": about} for segment, people, about in rows])
            return
        if not rows:
            say("There are no segments; write some into flows/segments.yaml and apply.")
            return
        say_table(("segment", "people", "about"), rows, numbers=("people",))
        say_next(("afterglow segments NAME", "who is in one"))
    elif customer is not None:
        if as_json:
            say_json({"segment": name, "customer": number, "when": in_force[name].when.text, **asdict(told)})
            return
        say_explained(name, number, in_force[name].when.text, told)
    elif as_json:
        say_json([{"customer": row.customer_id, "since": row.since} for row in members])
    else:
        say_table(
            ("customer", "since, UTC"), [(row.customer_id, moment(row.since)) for row in members], numbers=("customer",)
        )
        say(f"{count(len(members), 'customer')} of {name}.")
        if len(members) == limit:
            say_next((f"afterglow segments {name} --after {members[-1].customer_id}", "the next"))
        say_next((f"afterglow segments {name} --customer ID", "why somebody is in it, or not"))


def say_explained(name: str, customer: int, when: str, told: "Explained") -> None:
    """Why a customer is in a segment, or is not."""
    from workers.commands.console import moment, say, say_lines

    if told.since is not None:
        say(f"Customer {customer} is in {name}, since {moment(told.since)} UTC.", style="bold")
    else:
        say(f"Customer {customer} is not in {name}.", style="bold")
    say(f"{' '.join(when.split())}", style="dim")
    say_lines(f"  {part} is {value}" for part, value in told.parts.items())
    if told.holds != (told.since is not None):
        say("By what is known now that will change in a moment: the segments of this customer are to be judged again.")
    if told.look_at is not None:
        say(f"Where nothing happens, it is looked at again on {moment(told.look_at)} UTC.")
