"""`halt` and `resume`: marketing stops at once, and goes on without repeating or skipping anything."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from workers.commands.opening import Desk

Flow = Annotated[str | None, typer.Argument(help="The flow; every flow if left out.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts: with every customer.")]

#: What has not left yet; what has, or may have.
QUEUED = ("queued", "held")
GONE = ("sent", "sending", "in_doubt")
#: The most customers listed in JSON.
LISTED_MAX = 100_000


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(halt)
    main.command()(resume)


def halt(flow: Flow = None, as_json: AsJson = False) -> None:
    """Stop marketing at once.

    It beats everything queued, and lists who got what and who is still queued. Service mail goes on.
    """
    from db import control
    from workers.commands.console import say, say_next
    from workers.commands.opening import me, opened

    with opened() as desk:
        with desk.database.writing() as connection:
            name = control.ALL if flow is None else desk.flow(connection, flow)
            control.halt(connection, name, by=me(), now=desk.now(connection))
        with desk.database.reading() as connection:
            told = _told(desk, connection, name)
    if as_json:
        _say_json(told)
        return
    say(f"Marketing of {_of(name)} is halted. Nothing more of it is sent; service mail goes on.", style="bold")
    _say_told(told)
    say_next((f"afterglow resume{' ' + flow if flow else ''}", "let it go on; nothing is repeated, nothing skipped"))


def resume(flow: Flow = None, as_json: AsJson = False) -> None:
    """Take a halt back.

    What was held goes on; nothing is repeated, and nothing is skipped as too old.
    """
    from db import control
    from workers.commands.console import count, say, say_next
    from workers.commands.opening import opened

    name = flow or control.ALL
    with opened() as desk:
        with desk.database.writing() as connection:
            halts = {halt.flow for halt in control.halts_now(connection)}
            if flow is not None and flow not in halts:
                desk.flow(connection, flow)
            freed = control.resume(connection, name, now=desk.now(connection))
        with desk.database.reading() as connection:
            still = [halt.flow for halt in control.halts_now(connection)]
            told = _told(desk, connection, name)
    if as_json:
        _say_json({"freed": freed, "halted": still, **told})
        return
    if name not in halts and not (flow is None and halts):
        say(f"Marketing of {_of(name)} was not halted.")
    elif control.ALL in still:
        say(f"The halt of {name} is taken back, but all marketing is halted still.")
    else:
        say(f"Marketing of {_of(name)} goes on; {count(freed, 'held message')} back in the queue.", style="bold")
    _say_told(told)
    if control.ALL in still:
        say_next(("afterglow resume", "let all marketing go on"))
    else:
        say_next(("afterglow flows", "who is inside, and what was sent"))


def _told(desk: "Desk", connection: "Connection", flow: str) -> dict[str, Any]:
    """Who got what, and who is still queued."""
    from db import control, people

    listed = {
        "queued": control.recipients(connection, flow, QUEUED, LISTED_MAX),
        "gone": control.recipients(connection, flow, GONE, LISTED_MAX),
    }
    persons = people.load(connection, [row.customer_id for rows in listed.values() for row in rows])
    return {
        "halts": [{**row._mapping} for row in control.halts_now(connection)],
        "fates": [{**row._mapping} for row in control.fates(connection, flow)],
        **{
            name: [{**row._mapping, "email": persons[row.customer_id].email} for row in rows]
            for name, rows in listed.items()
        },
    }


def _say_json(told: dict[str, Any]) -> None:
    from workers.commands.console import say_json

    say_json(told)


def _say_told(told: dict[str, Any]) -> None:
    from workers.commands.console import ROWS_MAX, say, say_table

    if told["fates"]:
        say()
        say_table(
            ("flow", "mail", "fate", "messages"),
            [(row["flow"], row["step"], row["state"].replace("_", " "), row["count"]) for row in told["fates"]],
            numbers=("messages",),
        )
    for name, title in (("queued", "Still queued"), ("gone", "Got it")):
        rows = told[name]
        if not rows:
            continue
        say()
        say_table(
            ("customer", "address", "flow", "mail", "at (UTC)"),
            [(str(row["customer_id"]), row["email"], row["flow"], row["step"], row["at"]) for row in rows[:ROWS_MAX]],
            title=title,
        )
        if len(rows) > ROWS_MAX:
            say(f"... and {len(rows) - ROWS_MAX:,} more; --json lists them all.")


def _of(flow: str) -> str:
    return "every flow" if flow == "*" else flow
