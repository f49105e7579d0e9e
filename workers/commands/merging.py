"""`merge` and `unmerge`: two customers are one, or are not after all."""

from typing import Annotated

import typer

Customer = Annotated[str, typer.Argument(help="An address, our number, or the id that a source uses.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(merge)
    main.command()(unmerge)


def merge(
    customer: Customer,
    other: Customer,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say that two customers are one person.

    The older one is kept, with the history of both and the stricter word on consent. `unmerge` takes it back.
    """
    from dataclasses import asdict

    from db import merging
    from db.catalog import CatalogCache
    from db.why import heading
    from workers.commands.console import count, say, say_json, say_next
    from workers.commands.opening import me, opened
    from workers.merging import merge as do_merge

    with opened() as desk:
        with desk.database.reading() as connection:
            both = [desk.customer(connection, given) for given in (customer, other)]
            who = [heading(connection, one) for one in both]
        if not yes:
            typer.confirm(f"Are {who[0]} and {who[1]} one person?", abort=True, err=True)
        with desk.database.writing() as connection:
            now = desk.now(connection)
            wanted = merging.want_by_hand(connection, both[0], both[1], f"{me()} said so", now)
            merged = do_merge(connection, CatalogCache(), wanted, now)
            if merged is None:
                raise merging.MergeError("Somebody else changed these customers just now; try again.")
    if as_json:
        say_json(asdict(merged))
        return
    say(f"Customer {merged.merged} is now part of customer {merged.kept}.", style="bold")
    if merged.runs_stopped:
        say(
            f"{count(merged.runs_stopped, 'run')} ended, because an older run of the same key stays; "
            f"{count(merged.messages_skipped, 'queued message')} of theirs will not go."
        )
    say_next(
        (f"afterglow why {merged.kept}", "the whole story of both"),
        (f"afterglow unmerge {merged.id}", "take it back"),
    )


def unmerge(
    merge: Annotated[int, typer.Argument(help="The number of the merge; `afterglow why CUSTOMER` names it.")],
    as_json: AsJson = False,
) -> None:
    """Take a wrong merge back.

    What moved goes back; what came since stays with the customer who was kept. No webhook merges the two again.
    """
    from dataclasses import asdict

    from db.unmerging import unmerge as undo
    from workers.commands.console import say, say_json, say_next
    from workers.commands.opening import opened

    with opened() as desk, desk.database.writing() as connection:
        parted = undo(connection, merge, desk.now(connection))
    if as_json:
        say_json(asdict(parted))
        return
    say(f"Customers {parted.kept} and {parted.merged} are two again, and stay two.", style="bold")
    say_next(
        (f"afterglow why {parted.kept}", "what stays with the one"),
        (f"afterglow why {parted.merged}", "what the other has again"),
    )
