"""`flows`: what is in force, who is inside, what was sent."""

from typing import Annotated

import typer


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(flows)


def flows(as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False) -> None:
    """List the flows, the people inside and their mails."""
    from db import control, counts, occupancy
    from workers.commands.console import say_json, say_next, say_table
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        in_force = desk.release(connection).catalog.flows
        people = counts.people_by_flow(connection)
        fates = counts.touchpoints_by_flow(connection)
        measures = occupancy.measures(connection)
        halted = {row.flow for row in control.halts_now(connection)}
    rows = []
    for name in sorted({*in_force, *people, *fates}):
        runs, mails = people.get(name, {}), fates.get(name, {})
        status = in_force[name].status if name in in_force else "removed"
        rows.append(
            {
                "flow": name,
                "status": status,
                "halted": bool(halted & {name, control.ALL}),
                "inside": sum(runs.get(state, 0) for state in ("waiting", "sending", "paused")),
                "parked": runs.get("parked", 0),
                "finished": runs.get("finished", 0),
                "stopped": runs.get("stopped", 0),
                "converted": measures.of(name, "converted"),
                "held_out": measures.of(name, "held out"),
                "held_out_converted": measures.of(name, "converted though held out"),
                "queued": mails.get("queued", 0) + mails.get("held", 0),
                "sent": mails.get("sent", 0),
                "skipped": mails.get("skipped", 0),
                "failed": mails.get("failed", 0) + mails.get("rejected", 0),
                "in_doubt": mails.get("in_doubt", 0) + mails.get("sending", 0),
            }
        )
    if as_json:
        say_json(rows)
        return
    numbers = ("inside", "queued", "sent", "skipped", "failed", "parked", "converted")
    say_table(
        ("flow", "status", *numbers),
        [
            (row["flow"], f"{row['status']}, halted" if row["halted"] else row["status"], *(row[n] for n in numbers))
            for row in rows
        ],
        numbers=numbers,
    )
    say_next(("afterglow why CUSTOMER", "every decision about one of them"), ("afterglow halt", "stop marketing"))
