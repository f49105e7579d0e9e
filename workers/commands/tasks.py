"""`tasks`: what teams are asked to do, and that it is done."""

from typing import Annotated

import typer

family = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="What flows ask teams to do; alone: what is open.",
)


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.add_typer(family, name="tasks")


@family.callback()
def tasks(
    ctx: typer.Context,
    team: Annotated[str | None, typer.Option("--team", help="Only those of this team.")] = None,
    are_done: Annotated[bool, typer.Option("--done", help="Those that were done, the newest first.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="So many tasks.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False,
) -> None:
    """Show what teams are asked to do: what is due first comes first."""
    if ctx.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from db import tasks as stored
    from workers.commands.console import count, moment, say, say_json, say_next, say_table
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        found = (stored.finished if are_done else stored.waiting)(connection, team=team, limit=limit)
        today = desk.now(connection).astimezone(desk.release(connection).catalog.shop.zone).date()
    if as_json:
        say_json([asdict(one) for one in found])
        return
    if not found:
        say("No task was done yet." if are_done else "No task is open.")
        return
    columns, numbers = ("task", "team", "what", "customer"), ("task", "customer")
    if are_done:
        finished = [(one.id, one.team, one.name, one.customer_id, moment(one.done_at), one.done_by) for one in found]
        say_table((*columns, "done, UTC", "by"), finished, numbers=numbers)
        return
    due = [f"{one.due_on}, late" if one.is_late(today) else one.due_on for one in found]
    rows = [(one.id, one.team, one.name, one.customer_id, day) for one, day in zip(found, due, strict=True)]
    say_table((*columns, "due"), rows, numbers=numbers)
    say(f"{count(len(found), 'task')}{' at least' if len(found) == limit else ''}.")
    say_next((f"afterglow tasks done {found[0].id}", "say that one is done"))


@family.command()
def done(task: Annotated[int, typer.Argument(help="The number of the task.")]) -> None:
    """Say that a task is done: flows hear it as `task.done`."""
    from db import tasks as stored
    from workers.commands.console import say
    from workers.commands.opening import me, opened

    with opened() as desk, desk.database.writing() as connection:
        stored.do(connection, task, me(), desk.now(connection))
    say(f"Task {task} is done.")
