"""`webhooks`: what other systems were told in vain."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]

family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What other systems are told by us.")


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.add_typer(family, name="webhooks")


@family.command()
def unheard(as_json: AsJson = False) -> None:
    """Show what was told in vain, of rewards and by flows, and what was answered."""
    from db import notices
    from workers.commands.console import say, say_json, say_next, say_table
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        found = notices.unheard(connection)
    if as_json:
        say_json([dict(one._mapping) for one in found])
        return
    if not found:
        say("Everything was heard, or is being told.")
        return
    rows = [
        (
            f"reward {one.reward_id} ({one.webhook})" if one.event_id is None else f"event {one.event_id}",
            one.referral_id,
            one.state,
            one.tries,
            one.reason,
        )
        for one in found
    ]
    say_table(("of", "referral", "state", "tries", "the other side"), rows, numbers=("referral", "tries"))
    say_next(("afterglow webhooks retry", "post once more what failed"))


@family.command()
def retry() -> None:
    """Tell once more what was told in vain."""
    from db import notices
    from workers.commands.console import count, say
    from workers.commands.opening import opened

    with opened() as desk, desk.database.writing() as connection:
        freed = notices.again(connection, desk.now(connection))
    say(f"{count(freed, 'webhook')} will be tried again soon.")
